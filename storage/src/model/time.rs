//! Time: milliseconds since the Unix epoch, and Prometheus' durations (`1h30m`).

/// Milliseconds since the Unix epoch.
pub type TimeMs = i64;

/// The units of a duration in milliseconds, in the order in which they must appear.
const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// The longest duration, ms: what Go's nanoseconds can hold, about 292 years.
const LONGEST_MS: i64 = i64::MAX / 1_000_000;

/// Why a text is no duration. The texts are those of Prometheus.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// There is no text.
    #[error("empty duration string")]
    Empty,
    /// It is not a list of numbers with units, from the largest unit to the smallest.
    #[error("not a valid duration string: {0:?}")]
    Invalid(String),
    /// It is longer than 292 years.
    #[error("duration out of range")]
    OutOfRange,
}

/// Parses a Prometheus duration such as `15s`, `1h30m` or `0`. Returns milliseconds.
///
/// ```
/// use storage::model::time::parse_duration;
///
/// assert_eq!(parse_duration("1h30m").unwrap(), 5_400_000);
/// assert!(parse_duration("30m1h").is_err(), "from the largest unit to the smallest");
/// ```
pub fn parse_duration(text: &str) -> Result<i64, DurationError> {
    let bad = || DurationError::Invalid(text.to_owned());
    if text == "0" {
        return Ok(0);
    }
    if text.is_empty() {
        return Err(DurationError::Empty);
    }
    let mut rest = text;
    let mut total = 0i64;
    let mut next_unit = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: i64 = rest[..digits].parse().map_err(|_| bad())?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let at = UNITS.iter().position(|(unit, _)| *unit == &rest[..letters]).ok_or_else(bad)?;
        if at < next_unit {
            return Err(bad());
        }
        next_unit = at + 1;
        rest = &rest[letters..];
        total = number
            .checked_mul(UNITS[at].1)
            .and_then(|ms| total.checked_add(ms))
            .filter(|ms| *ms <= LONGEST_MS)
            .ok_or(DurationError::OutOfRange)?;
    }
    Ok(total)
}

/// Prints milliseconds as Prometheus does: `1h30m`, `0s`; years, weeks and days only if exact.
pub fn format_duration(ms: i64) -> String {
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut left = ms.unsigned_abs() as i64;
    let mut out = String::new();
    if ms < 0 {
        out.push('-');
    }
    for (unit, size) in UNITS {
        let exact_only = matches!(unit, "y" | "w" | "d");
        if exact_only && left % size != 0 {
            continue;
        }
        if left >= size {
            out.push_str(&format!("{}{unit}", left / size));
            left %= size;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_round_trip() {
        for (text, ms) in
            [("15s", 15_000), ("1h30m", 5_400_000), ("2w", 1_209_600_000), ("7ms", 7), ("1d", 86_400_000)]
        {
            assert_eq!(parse_duration(text), Ok(ms), "{text}");
            assert_eq!(format_duration(ms), text);
        }
        assert!(parse_duration("1m1h").is_err());
        assert!(parse_duration("5").is_err());
        assert!(parse_duration("").is_err());
        let too_long = parse_duration("300y").map_err(|error| error.to_string());
        assert_eq!(too_long, Err("duration out of range".to_owned()));
        assert!(parse_duration("292y").is_ok());
    }
}
