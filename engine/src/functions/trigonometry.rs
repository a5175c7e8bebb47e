//! Trigonometry on single values, by the platform's `libm`, which may differ from Go's in the last
//! bits.

use super::{Function, Kernel};
use crate::types::ValueType::Vector;
use std::f64::consts::{LN_2, PI};
use storage::model::TimeMs;

const fn map(name: &'static str, kernel: fn(f64, &[f64], TimeMs) -> f64) -> Function {
    Function::new(name, &[Vector], Vector, Kernel::Map(kernel))
}

/// From this value on, the inverse hyperbolic functions are the logarithm of twice the value; the
/// general formulas square it.
const HUGE: f64 = (1u64 << 28) as f64;

fn acosh(v: f64) -> f64 {
    if v >= HUGE { v.ln() + LN_2 } else { v.acosh() }
}

fn asinh(v: f64) -> f64 {
    if v.abs() >= HUGE { (v.abs().ln() + LN_2).copysign(v) } else { v.asinh() }
}

/// The entries of these functions in the table of functions.
pub(super) static ENTRIES: &[Function] = &[
    map("acos", |v, _, _| v.acos()).doc("Arc cosine, in radians.", "acos(cosine)"),
    map("acosh", |v, _, _| acosh(v)).doc("Inverse hyperbolic cosine.", "acosh(ratio)"),
    map("asin", |v, _, _| v.asin()).doc("Arc sine, in radians.", "asin(sine)"),
    map("asinh", |v, _, _| asinh(v)).doc("Inverse hyperbolic sine.", "asinh(ratio)"),
    map("atan", |v, _, _| v.atan()).doc("Arc tangent, in radians.", "atan(slope)"),
    map("atanh", |v, _, _| v.atanh()).doc("Inverse hyperbolic tangent.", "atanh(ratio)"),
    map("cos", |v, _, _| v.cos()).doc("Cosine of an angle in radians.", "cos(angle_radians)"),
    map("cosh", |v, _, _| v.cosh()).doc("Hyperbolic cosine.", "cosh(ratio)"),
    map("deg", |v, _, _| v * 180.0 / PI).doc("Radians in degrees.", "deg(angle_radians)"),
    map("rad", |v, _, _| v * PI / 180.0).doc("Degrees in radians.", "rad(angle_degrees)"),
    map("sin", |v, _, _| v.sin()).doc("Sine of an angle in radians.", "sin(angle_radians)"),
    map("sinh", |v, _, _| v.sinh()).doc("Hyperbolic sine.", "sinh(ratio)"),
    map("tan", |v, _, _| v.tan()).doc("Tangent of an angle in radians.", "tan(angle_radians)"),
    map("tanh", |v, _, _| v.tanh()).doc("Hyperbolic tangent.", "tanh(ratio)"),
];

#[cfg(test)]
mod tests {
    use crate::functions::testing::call;

    #[test]
    fn angles_convert_in_the_order_of_upstream() {
        assert_eq!(call("rad", 0.7, &[]), 0.7 * std::f64::consts::PI / 180.0);
        assert_eq!(call("deg", 0.7, &[]), 0.7 * 180.0 / std::f64::consts::PI);
        assert_eq!(call("deg", std::f64::consts::PI, &[]), 180.0);
    }

    #[test]
    fn edges() {
        let inf = f64::INFINITY;
        for (name, v) in
            [("acos", 1.1), ("acosh", 0.9), ("asin", -1.1), ("atanh", 1.1), ("sin", inf), ("cos", inf)]
        {
            assert!(call(name, v, &[]).is_nan(), "{name}({v})");
        }
        assert_eq!(call("acosh", 1.0, &[]), 0.0);
        assert_eq!(call("atanh", 1.0, &[]), inf);
        assert_eq!(call("tanh", inf, &[]), 1.0);
        assert_eq!(call("asinh", -inf, &[]), -inf);
        assert_eq!(call("acosh", 1e308, &[]), 709.889355822726);
        assert_eq!(call("asinh", -1e308, &[]), -709.889355822726);
    }
}
