//! Parses the literals of numbers and durations (`1e3`, `0x1f`, `1h30m`), with Go's rules and error
//! texts.

use super::errors::LiteralError;

/// The largest duration that Go's `time.Duration` (64-bit nanoseconds) can hold, s.
const MAX_SECONDS: f64 = 9_223_372_036_854_775_808.0 / 1e9;

/// The value of a number token: an integer with Go's prefixes (`0x1F`, `017`, `1_000`), otherwise a
/// float.
pub(crate) fn parse_number(text: &str) -> Result<f64, LiteralError> {
    if let Some(integer) = parse_integer(text) {
        return Ok(integer as f64);
    }
    let invalid = || LiteralError::Number(text.to_owned());
    // Decimal floats of Go have no underscores, and its hexadecimal floats need an exponent, which
    // the lexer does not take.
    if text.contains('_') || text.starts_with("0x") || text.starts_with("0X") {
        return Err(invalid());
    }
    let value: f64 = text.parse().map_err(|_| invalid())?;
    let spelled_infinity = text.bytes().any(|b| matches!(b, b'i' | b'I'));
    if value.is_infinite() && !spelled_infinity {
        return Err(LiteralError::NumberOutOfRange(text.to_owned()));
    }
    Ok(value)
}

/// Go's `ParseInt(text, 0, 64)` for tokens of the lexer: without sign, `0b` and `0o`.
fn parse_integer(text: &str) -> Option<i64> {
    let (digits, base) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&text[2..], 16),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (text, 10),
    };
    // An underscore must be between digits or after the prefix, not at the end and not doubled.
    if digits.ends_with('_') || digits.contains("__") || (base == 10 && digits.starts_with('_')) {
        return None;
    }
    i64::from_str_radix(&digits.replace('_', ""), base).ok()
}

/// The value of a duration token such as `1h30m`, ms.
pub(crate) fn parse_duration(text: &str) -> Result<i64, LiteralError> {
    let invalid = || LiteralError::Duration(text.to_owned());
    let units = [
        ("y", 31_536_000_000i64),
        ("w", 604_800_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ];
    let mut rest = text;
    let mut total = 0i64;
    let mut next = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let count: i64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(|b| !b.is_ascii_digit()).count();
        let unit = &rest[..letters];
        let at = units
            .iter()
            .position(|(name, _)| *name == unit)
            .ok_or_else(|| LiteralError::UnknownUnit { unit: unit.to_owned(), duration: text.to_owned() })?;
        // Units go from large to small, each at most once.
        if at < next {
            return Err(invalid());
        }
        next = at + 1;
        rest = &rest[letters..];
        total = count
            .checked_mul(units[at].1)
            .and_then(|ms| total.checked_add(ms))
            .filter(|ms| *ms <= i64::MAX / 1_000_000)
            .ok_or(LiteralError::DurationOutOfRange)?;
    }
    Ok(total)
}

/// Whether Go's durations cannot represent `seconds`. They cannot represent NaN.
pub(crate) fn out_of_range(seconds: f64) -> bool {
    !(-MAX_SECONDS..=MAX_SECONDS).contains(&seconds)
}

/// Seconds to nanoseconds, rounded.
pub(crate) fn to_nanos(seconds: f64) -> i64 {
    (seconds * 1e9).round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_gos() {
        for (text, value) in [
            ("1_000_000", 1e6),
            ("0x1F", 31.0),
            ("0x_1F", 31.0),
            ("017", 15.0),
            ("089", 89.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("0", 0.0),
            ("9223372036854775808", 9223372036854775808.0),
            ("1e-400", 0.0),
        ] {
            assert_eq!(parse_number(text), Ok(value), "{text}");
        }
        assert!(parse_number("Inf").is_ok_and(f64::is_infinite));
        assert!(parse_number("nan").is_ok_and(f64::is_nan));
        assert_eq!(
            parse_number("1e400").unwrap_err().to_string(),
            "error parsing number: strconv.ParseFloat: parsing \"1e400\": value out of range"
        );
        assert!(parse_number("1e1_000").is_err());
        assert!(parse_number("1_").is_err());
    }

    #[test]
    fn durations_have_ordered_units() {
        assert_eq!(parse_duration("1y2w3d4h5m6s7ms"), Ok(33_019_506_007));
        let refused = |text: &str| parse_duration(text).unwrap_err().to_string();
        assert_eq!(refused("5m1m"), "not a valid duration string: \"5m1m\"");
        assert_eq!(refused("5y1hs"), "unknown unit \"hs\" in duration \"5y1hs\"");
        assert_eq!(refused("300y"), "duration out of range");
        assert!(out_of_range(9.5e10) && out_of_range(f64::NAN) && !out_of_range(9.2e9));
    }
}
