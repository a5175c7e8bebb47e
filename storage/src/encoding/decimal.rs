//! Decimal mantissas: `12.34` is the integer 1234 with the exponent 2.
//!
//! Monitoring values are almost always short decimals, and integers compress far better than
//! doubles. A row is stored this way only if every value is restored bit for bit; see
//! `docs/format/block.md`.

use crate::model::value::is_stale;

/// Largest exponent that is tried.
pub(crate) const MAX_EXP: usize = 17;
/// Mantissas are smaller than this, so that they convert to doubles exactly.
const MAX_MANTISSA: f64 = 9e15;
/// Doubles from this value on are integers.
const ROUND: f64 = (1u64 << 52) as f64;
/// Powers of ten. They are exact as doubles.
const POW10: [f64; MAX_EXP + 1] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17];

/// The smallest exponent with which all `values` except stale markers are integers, if there is
/// one.
pub(crate) fn exponent(values: &[f64]) -> Option<usize> {
    let mut exp = 0;
    'next: while exp <= MAX_EXP {
        for v in values {
            if mantissa(*v, exp).is_none() && !is_stale(*v) {
                exp += 1;
                continue 'next;
            }
        }
        return Some(exp);
    }
    None
}

/// `v · 10^exp`, if it is an integer from which `v` is restored bit for bit.
pub(crate) fn mantissa(v: f64, exp: usize) -> Option<i64> {
    let scaled = v * POW10[exp];
    if scaled.abs() >= MAX_MANTISSA {
        return None;
    }
    // Rounds to the nearest integer without a function call. Doubles from `ROUND` on are integers
    // already; below, adding one half is exact enough.
    let near = if scaled.abs() < ROUND { (scaled + 0.5f64.copysign(scaled)) as i64 } else { scaled as i64 };
    (near as f64 / POW10[exp]).to_bits().eq(&v.to_bits()).then_some(near)
}

/// Returns the function from mantissas to values. `None` if `exp` is not a valid exponent.
pub(crate) fn value(exp: i8) -> Option<impl Fn(i64) -> f64> {
    let power = *POW10.get(usize::try_from(exp).ok()?)?;
    Some(move |m| m as f64 / power)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::value::STALE;

    #[test]
    fn finds_the_smallest_exponent() {
        let table: &[(&[f64], Option<usize>)] = &[
            (&[1.0, -2.0, 0.0], Some(0)),
            (&[1.5, 1.0], Some(1)),
            (&[0.1, 0.23, STALE], Some(2)),
            (&[1e-17], Some(17)),
            (&[STALE], Some(0)),
            (&[-0.0], None),
            (&[f64::NAN], None),
            (&[f64::INFINITY], None),
            (&[std::f64::consts::PI * 1e3, 1e15], None),
            (&[1e18], None),
        ];
        for (values, exp) in table {
            assert_eq!(exponent(values), *exp, "{values:?}");
        }
    }
}
