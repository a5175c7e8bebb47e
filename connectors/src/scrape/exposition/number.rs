//! Numbers in expositions: NaN normalisation, and the canonical spelling of bucket and quantile bounds.

use storage::model::number::{general, not_finite};
use storage::model::value::{NORMAL_NAN_BITS, is_stale};

/// `v`, with every NaN but the stale marker replaced by the ordinary one, so that reserved patterns stay ours.
#[inline(always)]
pub fn normal(v: f64) -> f64 {
    if v.is_nan() && !is_stale(v) { f64::from_bits(NORMAL_NAN_BITS) } else { v }
}

/// `v` as OpenMetrics spells bounds: always with a point or an exponent (`1` → `1.0`, `1e6` → `1e+06`).
pub fn canonical(v: f64) -> String {
    if let Some(text) = not_finite(v) {
        return text;
    }
    let mut text = general(v);
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
            assert_eq!(canonical(v), text);
        }
    }

    #[test]
    fn only_the_stale_marker_passes() {
        assert!(!is_absent(normal(ABSENT)));
        assert!(is_stale(normal(STALE)));
        assert_eq!(normal(f64::NAN).to_bits(), NORMAL_NAN_BITS);
    }
}
