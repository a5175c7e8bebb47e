//! Numbers in exposition formats: parsing, NaN normalisation, and the canonical spelling of `le`
//! and `quantile` values.

use storage::model::number::{general, not_finite};
use storage::model::value::{NORMAL_NAN_BITS, is_stale};

/// Replaces every NaN except the stale marker with the ordinary NaN.
///
/// Otherwise a target could expose a bit pattern that the store reserves for its own markers.
#[inline(always)]
pub fn normalize_nan(v: f64) -> f64 {
    if v.is_nan() && !is_stale(v) { f64::from_bits(NORMAL_NAN_BITS) } else { v }
}

/// Whether `text`, parsed as `v`, spells a value that is not finite: NaN without a sign, or an
/// infinity.
///
/// False for a number that is beyond the range of a double: the parser returns an infinity for it.
#[cold]
pub fn is_spelled(v: f64, text: &[u8]) -> bool {
    if v.is_nan() {
        return !matches!(text.first(), Some(b'+' | b'-'));
    }
    // Every spelling of an infinity has an `n`, and no number has one.
    text.iter().any(|b| matches!(b, b'n' | b'N'))
}

/// Parses a number as the exposition formats spell it.
///
/// `None` if `text` is malformed or beyond the range of a double.
pub fn parse(text: &str) -> Option<f64> {
    let v: f64 = fast_float2::parse(text).ok()?;
    (v.is_finite() || is_spelled(v, text.as_bytes())).then_some(v)
}

/// Formats `v` as OpenMetrics spells bounds: always with a point or an exponent (`1` → `1.0`, `1e6`
/// → `1e+06`).
pub fn format_bound(v: f64) -> String {
    if let Some(text) = not_finite(v) {
        return text;
    }
    // Minus zero is the same bound as zero.
    let mut text = general(if v == 0.0 { 0.0 } else { v });
    if !text.contains(['.', 'e']) {
        text.push_str(".0");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::model::value::{ABSENT, STALE, is_absent};

    #[test]
    fn bounds_are_spelled_as_go_does() {
        let table = [
            (0.0, "0.0"),
            (-0.0, "0.0"),
            (1.0, "1.0"),
            (-1.0, "-1.0"),
            (0.5, "0.5"),
            (10.0, "10.0"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (100_000.0, "100000.0"),
            (1e6, "1e+06"),
            (1_234_567.0, "1.234567e+06"),
            (1e21, "1e+21"),
            (f64::INFINITY, "+Inf"),
            (f64::NAN, "NaN"),
        ];
        for (v, text) in table {
            assert_eq!(format_bound(v), text);
        }
    }

    #[test]
    fn what_is_beyond_the_range_is_no_number() {
        let numbers =
            ["1e400", "-1e400", "-NaN", "+nan", "0x1", "1_0", "inf", "-Infinity", "NaN", "5."].map(parse);
        let is_number = numbers.map(|number| number.is_some());
        assert_eq!(is_number, [false, false, false, false, false, false, true, true, true, true]);
    }

    #[test]
    fn only_the_stale_marker_passes() {
        assert!(!is_absent(normalize_nan(ABSENT)));
        assert!(is_stale(normalize_nan(STALE)));
        assert_eq!(normalize_nan(f64::NAN).to_bits(), NORMAL_NAN_BITS);
    }
}
