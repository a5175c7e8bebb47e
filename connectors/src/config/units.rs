//! Quantities in configuration files: durations (`1m30s`) and sizes (`15MB`), parsed as Prometheus
//! does.

use serde::{Deserialize, Deserializer, de::Error};
use std::fmt;
use storage::model::time::{format_duration, parse_duration};

/// A duration of a configuration file, ms.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigDuration(pub i64);

impl ConfigDuration {
    /// Converts to a duration of the standard library; negative durations become zero.
    pub fn std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0.max(0) as u64)
    }

    /// The duration in seconds.
    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1000.0
    }
}

impl<'de> Deserialize<'de> for ConfigDuration {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        parse_duration(&String::deserialize(d)?).map(ConfigDuration).map_err(D::Error::custom)
    }
}

impl fmt::Display for ConfigDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format_duration(self.0))
    }
}

/// A size in bytes. Units are powers of 1024, with or without an `i` (`10GB`, `10GiB`, `1GB512MB`).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigSize(pub u64);

/// Why a text is not a size. The texts are those of Prometheus.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// It is not a number with a unit.
    #[error("units: invalid {0}")]
    Invalid(String),
    /// A number has a unit that does not exist.
    #[error("units: unknown unit {unit} in {text}")]
    UnknownUnit {
        /// The unit.
        unit: String,
        /// The whole text.
        text: String,
    },
    /// The size is larger than a size can be.
    #[error("units: overflow parsing unit")]
    Overflow,
}

/// The prefixes of units, each 1024 times the one before.
const PREFIXES: [&str; 7] = ["", "K", "M", "G", "T", "P", "E"];

/// The largest number that a part of a size may have before or after its point.
const LARGEST_PART: u64 = ((1 << 63) - 10) / 10 * 10 - 1;

impl ConfigSize {
    /// Parses a sum of numbers with units (`15MB`, `1.5GiB`); `0` needs no unit.
    ///
    /// A negative size, which Prometheus always treats as "no limit", becomes zero.
    pub fn parse(text: &str) -> Result<ConfigSize, SizeError> {
        // All units of a text end in the same way: `1GiB512MB` is refused, as in Prometheus.
        ConfigSize::sum(text, "iB").or_else(|_| ConfigSize::sum(text, "B")).map(ConfigSize)
    }

    /// The sum of the parts of `text`, whose units end with `suffix`.
    fn sum(text: &str, suffix: &str) -> Result<u64, SizeError> {
        let invalid = || SizeError::Invalid(text.to_owned());
        let unknown = |unit: &str| SizeError::UnknownUnit { unit: unit.to_owned(), text: text.to_owned() };
        let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
        // The only number that needs no unit.
        if rest == "0" {
            return Ok(0);
        }
        if rest.is_empty() {
            return Err(invalid());
        }
        let mut bytes = 0.0;
        while !rest.is_empty() {
            let (number, after) = number(rest).ok_or_else(invalid)?;
            let unit = &after[..after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len())];
            let power = power(unit, suffix).ok_or_else(|| unknown(unit))?;
            bytes += number * 1024f64.powi(power);
            rest = &after[unit.len()..];
        }
        if bytes > i64::MAX as f64 {
            return Err(SizeError::Overflow);
        }
        Ok(if text.starts_with('-') { 0 } else { bytes as u64 })
    }
}

/// The power of 1024 that a unit stands for.
fn power(unit: &str, suffix: &str) -> Option<i32> {
    let prefix = if unit == "B" { "" } else { unit.strip_suffix(suffix).filter(|p| !p.is_empty())? };
    PREFIXES.iter().position(|p| *p == prefix).map(|at| at as i32)
}

/// Parses the number at the start of `text`; returns it and the rest.
fn number(text: &str) -> Option<(f64, &str)> {
    let (whole, mut rest) = digits(text)?;
    let mut value = whole as f64;
    let mut any = rest.len() < text.len();
    if let Some(after) = rest.strip_prefix('.') {
        let (part, end) = digits(after)?;
        let len = after.len() - end.len();
        value += part as f64 / 10f64.powi(i32::try_from(len).ok()?);
        rest = end;
        any = any || len > 0;
    }
    any.then_some((value, rest))
}

/// Parses the digits at the start of `text` (none: 0); returns the number and the rest.
fn digits(text: &str) -> Option<(u64, &str)> {
    let (digits, rest) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
    let number = if digits.is_empty() { 0 } else { digits.parse().ok().filter(|n| *n <= LARGEST_PART)? };
    Some((number, rest))
}

/// Formats sizes as Prometheus does: `10GiB`, `1GiB512MiB`, `0B`.
impl fmt::Display for ConfigSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0B");
        }
        let parts =
            PREFIXES.iter().enumerate().rev().map(|(at, prefix)| (at, prefix, (self.0 >> (10 * at)) & 1023));
        for (at, prefix, n) in parts.filter(|(_, _, n)| *n > 0) {
            write!(f, "{n}{prefix}{}", if at == 0 { "B" } else { "iB" })?;
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for ConfigSize {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        ConfigSize::parse(&String::deserialize(d)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_printed_as_in_prometheus() {
        for (text, bytes, printed) in [
            ("15MB", 15 << 20, "15MiB"),
            ("1B", 1, "1B"),
            ("0", 0, "0B"),
            ("+1GB", 1 << 30, "1GiB"),
            ("-1GB", 0, "0B"),
            (".5KB", 512, "512B"),
            ("1.5KiB", 1536, "1KiB512B"),
            ("10GB", 10 << 30, "10GiB"),
            ("1GB512MB", 1536 << 20, "1GiB512MiB"),
            ("7EB", 7 << 60, "7EiB"),
        ] {
            assert_eq!(ConfigSize::parse(text), Ok(ConfigSize(bytes)), "{text}");
            assert_eq!(ConfigSize(bytes).to_string(), printed);
        }
        // The errors are those of Prometheus 2.42 (Debian) for --storage.tsdb.retention.size.
        for (text, error) in [
            ("", "units: invalid "),
            ("GB", "units: invalid GB"),
            ("-", "units: invalid -"),
            (".GB", "units: invalid .GB"),
            ("10", "units: unknown unit  in 10"),
            ("10XB", "units: unknown unit XB in 10XB"),
            ("1gb", "units: unknown unit gb in 1gb"),
            ("10K", "units: unknown unit K in 10K"),
            ("1 GB", "units: unknown unit  GB in 1 GB"),
            ("1.5.2GB", "units: unknown unit  in 1.5.2GB"),
            ("1GiB512MB", "units: unknown unit GiB in 1GiB512MB"),
            ("16EB", "units: overflow parsing unit"),
        ] {
            assert_eq!(ConfigSize::parse(text).map_err(|e| e.to_string()), Err(error.to_owned()), "{text}");
        }
    }
}
