//! Powers and logarithms with base 2 as Go computes them on amd64, so that interpolated quantiles
//! are equal to the last bit.
//!
//! The system's `libm` rounds differently in the last place. Go's `log` and `exp2` are those of
//! FreeBSD: the argument is reduced, then a polynomial is evaluated in a fixed order. Here are only
//! [`log2`], [`exp2`] and what they need. The coefficients have all digits that FreeBSD gives.

#![allow(clippy::excessive_precision, reason = "the digits of the published coefficients")]

/// The high and low part of ln 2.
const LN2_HIGH: f64 = 6.93147180369123816490e-01;
const LN2_LOW: f64 = 1.90821492927058770002e-10;

/// Number of bits of the mantissa.
const MANTISSA_BITS: u32 = 52;
/// The exponent fields of 0.5 and of 1.
const HALF: u64 = 1022;
const ONE: i64 = 1023;

/// `fraction * 2^exponent`, rounded once; 0 or infinity if out of range.
pub(super) fn ldexp(fraction: f64, exponent: i64) -> f64 {
    if fraction == 0.0 || !fraction.is_finite() {
        return fraction;
    }
    let (fraction, own) = frexp(fraction);
    let exponent = exponent.saturating_add(own);
    if exponent < -1080 {
        return 0f64.copysign(fraction);
    }
    if exponent > 1024 {
        return f64::INFINITY.copysign(fraction);
    }
    // `fraction` is in [0.5, 1), so twice its value has the exponent field of 1. Subnormal results
    // are computed as normal ones and then scaled down by an exact power.
    let (exponent, scale) = if exponent < -1021 { (exponent + 53, 2f64.powi(-53)) } else { (exponent, 1.0) };
    let field = (exponent - 1 + ONE) as u64;
    let bits = fraction.to_bits() & !(0x7ff << MANTISSA_BITS) | field << MANTISSA_BITS;
    scale * f64::from_bits(bits)
}

/// A fraction in [0.5, 1) and an exponent of 2 whose product is `v`; `(v, 0)` for 0, infinities and
/// NaN.
fn frexp(v: f64) -> (f64, i64) {
    if v == 0.0 || !v.is_finite() {
        return (v, 0);
    }
    let (v, shift) = if v.abs() < f64::MIN_POSITIVE { (v * 2f64.powi(52), -52) } else { (v, 0) };
    let bits = v.to_bits();
    let field = (bits >> MANTISSA_BITS) & 0x7ff;
    let fraction = f64::from_bits(bits & !(0x7ff << MANTISSA_BITS) | HALF << MANTISSA_BITS);
    (fraction, shift + field as i64 - HALF as i64)
}

/// The natural logarithm of a positive, finite `v`.
fn ln(v: f64) -> f64 {
    const L: [f64; 7] = [
        6.666666666666735130e-01,
        3.999999999940941908e-01,
        2.857142874366239149e-01,
        2.222219843214978396e-01,
        1.818357216161805012e-01,
        1.531383769920937332e-01,
        1.479819860511658591e-01,
    ];
    let (mut fraction, mut exponent) = frexp(v);
    if fraction < std::f64::consts::FRAC_1_SQRT_2 {
        fraction *= 2.0;
        exponent -= 1;
    }
    let f = fraction - 1.0;
    let k = exponent as f64;
    let s = f / (2.0 + f);
    let s2 = s * s;
    let s4 = s2 * s2;
    let odd = s2 * (L[0] + s4 * (L[2] + s4 * (L[4] + s4 * L[6])));
    let even = s4 * (L[1] + s4 * (L[3] + s4 * L[5]));
    let r = odd + even;
    let half_square = 0.5 * f * f;
    k * LN2_HIGH - ((half_square - (s * (half_square + r) + k * LN2_LOW)) - f)
}

/// The binary logarithm: exact for powers of two, -Inf for 0, NaN for negative values.
pub fn log2(v: f64) -> f64 {
    if v.is_nan() || v < 0.0 {
        return f64::NAN;
    }
    if v == 0.0 {
        return f64::NEG_INFINITY;
    }
    if v.is_infinite() {
        return v;
    }
    let (fraction, exponent) = frexp(v);
    if fraction == 0.5 {
        return (exponent - 1) as f64;
    }
    ln(fraction) * std::f64::consts::LOG2_E + exponent as f64
}

/// 2 to the power of `v`.
pub fn exp2(v: f64) -> f64 {
    const P: [f64; 5] = [
        1.66666666666666657415e-01,
        -2.77777777770155933842e-03,
        6.61375632143793436117e-05,
        -1.65339022054652515390e-06,
        4.13813679705723846039e-08,
    ];
    if v.is_nan() || v == f64::INFINITY {
        return v;
    }
    if v > 1.0239999999999999e+03 {
        return f64::INFINITY;
    }
    if v < -1.0740e+03 {
        return 0.0;
    }
    let k = if v > 0.0 { (v + 0.5) as i64 } else { (v - 0.5) as i64 };
    let k = if v == 0.0 { 0 } else { k };
    let t = v - k as f64;
    let high = t * LN2_HIGH;
    let low = -t * LN2_LOW;
    let r = high - low;
    let t = r * r;
    let c = r - t * (P[0] + t * (P[1] + t * (P[2] + t * (P[3] + t * P[4]))));
    let y = 1.0 - ((low - (r * c) / (2.0 - c)) - high);
    ldexp(y, k)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn powers_of_two_are_exact() {
        for power in -1074..1024 {
            let v = ldexp(1.0, power);
            assert_eq!(log2(v), power as f64);
            assert_eq!(exp2(power as f64), v, "2^{power}");
        }
    }

    #[test]
    fn corners() {
        assert_eq!(log2(0.0), f64::NEG_INFINITY);
        assert_eq!(log2(f64::INFINITY), f64::INFINITY);
        assert!(log2(-1.0).is_nan() && log2(f64::NAN).is_nan());
        assert_eq!(exp2(f64::INFINITY), f64::INFINITY);
        assert_eq!(exp2(f64::NEG_INFINITY), 0.0);
        assert_eq!(exp2(1024.0), f64::INFINITY);
        assert_eq!(exp2(-1075.0), 0.0);
        assert_eq!(exp2(0.0), 1.0);
        assert!(exp2(f64::NAN).is_nan());
        assert_eq!(ldexp(0.0, 5), 0.0);
        assert_eq!(ldexp(1.0, i64::MAX), f64::INFINITY);
        assert_eq!(ldexp(-1.0, i64::MIN).to_bits(), (-0f64).to_bits());
        assert_eq!(ldexp(0.75, -1073), f64::from_bits(2), "rounds half to even: 1.5 units are 2");
    }

    /// Go's own last digit, which differs from the correctly rounded 1.4142135623730951.
    #[test]
    #[allow(clippy::approx_constant, reason = "it is not the constant")]
    fn the_last_digit_is_gos() {
        assert_eq!(exp2(0.5), 1.414213562373095);
    }

    proptest! {
        #[test]
        fn within_two_units_of_libm(v in 1e-300f64..1e300) {
            let ours = log2(v);
            let libms = v.log2();
            prop_assert!((ours - libms).abs() <= 2.0 * f64::EPSILON * libms.abs().max(1.0));
        }

        #[test]
        fn exp2_is_near_libm(v in -1000f64..1000.0) {
            prop_assert!((exp2(v) / v.exp2() - 1.0).abs() <= 3.0 * f64::EPSILON);
        }

        #[test]
        fn ldexp_takes_frexp_apart(bits in any::<u64>()) {
            let v = f64::from_bits(bits);
            prop_assume!(v.is_finite());
            let (fraction, exponent) = frexp(v);
            prop_assert!(v == 0.0 || (0.5..1.0).contains(&fraction.abs()));
            prop_assert_eq!(ldexp(fraction, exponent).to_bits(), bits);
        }
    }
}
