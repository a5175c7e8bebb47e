//! Quantities in configuration files: durations (`1m30s`) and sizes (`15MB`), parsed as Prometheus does.

use serde::{Deserialize, Deserializer, de::Error};
use std::fmt;
use storage::model::time::{format_duration, parse_duration};

/// A duration of a configuration file.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub i64);

impl Millis {
    /// As the standard library's duration; negative ones become zero.
    pub fn std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0.max(0) as u64)
    }

    /// In seconds.
    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1000.0
    }
}

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        parse_duration(&String::deserialize(d)?).map(Millis).map_err(D::Error::custom)
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format_duration(self.0))
    }
}

/// A size in bytes; units are powers of 1024 with and without an `i` (`10GB`, `10GiB`, `512`).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl Bytes {
    /// Parses `15MB`, `1.5GiB`, `512`.
    pub fn parse(text: &str) -> Result<Bytes, String> {
        let bad =
            || format!("not a valid size: {text:?} (expected a number and one of B, KB, MB, GB, TB, PB, EB)");
        let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
        let number: f64 = text[..split].trim().parse().map_err(|_| bad())?;
        let power = match text[split..].trim() {
            "" | "B" => 0,
            "K" | "KB" | "KiB" => 1,
            "M" | "MB" | "MiB" => 2,
            "G" | "GB" | "GiB" => 3,
            "T" | "TB" | "TiB" => 4,
            "P" | "PB" | "PiB" => 5,
            "E" | "EB" | "EiB" => 6,
            _ => return Err(bad()),
        };
        let bytes = number * 1024f64.powi(power);
        if !(0.0..=u64::MAX as f64).contains(&bytes) {
            return Err(bad());
        }
        Ok(Bytes(bytes as u64))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Bytes::parse(&String::deserialize(d)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("15MB", 15 << 20), ("512", 512), ("0", 0), ("1.5KiB", 1536), ("10GB", 10 << 30)]
        {
            assert_eq!(Bytes::parse(text), Ok(Bytes(bytes)), "{text}");
        }
        for text in ["", "MB", "-1MB", "5 bananas"] {
            assert!(Bytes::parse(text).is_err(), "{text}");
        }
    }
}
