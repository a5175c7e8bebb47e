//! The table entries of functions on single values, such as `abs`, `exp` and `clamp`, and Go's
//! minimum and maximum.

use super::{Function, Kernel, NAN};
use crate::types::ValueType::{Scalar, Vector};
use storage::model::TimeMs;
use storage::model::value::ABSENT;

const fn map(name: &'static str, kernel: fn(f64, &[f64], TimeMs) -> f64) -> Function {
    Function::new(name, &[Vector], Vector, Kernel::Map(kernel))
}

/// The entries of these functions in the table of functions.
pub(super) static ENTRIES: &[Function] = &[
    map("abs", |v, _, _| v.abs()).doc("Absolute value.", "abs(delta(cpu_temp_celsius[1h]))"),
    map("ceil", |v, _, _| v.ceil()).doc("Rounded up to the nearest integer.", "ceil(load1)"),
    Function::new("clamp", &[Vector, Scalar, Scalar], Vector, Kernel::Map(clamp)).doc(
        "Limited to a minimum and a maximum; nothing if the minimum is above the maximum.",
        "clamp(load1, 0, 10)",
    ),
    Function::new("clamp_max", &[Vector, Scalar], Vector, Kernel::Map(|v, args, _| go_min(args[0], v)))
        .doc("Limited to a maximum.", "clamp_max(load1, 10)"),
    Function::new("clamp_min", &[Vector, Scalar], Vector, Kernel::Map(|v, args, _| go_max(args[0], v)))
        .doc("Limited to a minimum.", "clamp_min(load1, 0)"),
    map("exp", |v, _, _| v.exp()).doc("e to the power of the value.", "exp(load1)"),
    map("floor", |v, _, _| v.floor()).doc("Rounded down to the nearest integer.", "floor(load1)"),
    map("ln", |v, _, _| v.ln()).doc("Natural logarithm.", "ln(load1)"),
    map("log10", |v, _, _| log10(v)).doc("Decimal logarithm.", "log10(load1)"),
    map("log2", |v, _, _| log2(v)).doc("Binary logarithm.", "log2(load1)"),
    Function::new("max_of", &[Scalar, Scalar], Scalar, Kernel::Scalars(|args| go_max(args[0], args[1])))
        .doc("The larger of two scalars.", "max_of(1, 2)")
        .experimental(),
    Function::new("min_of", &[Scalar, Scalar], Scalar, Kernel::Scalars(|args| go_min(args[0], args[1])))
        .doc("The smaller of two scalars.", "min_of(1, 2)")
        .experimental(),
    Function::new("round", &[Vector, Scalar], Vector, Kernel::Map(round)).optional(1).doc(
        "Rounded to the nearest integer, or to the nearest multiple of the second argument; ties go up.",
        "round(load1, 0.5)",
    ),
    map("sgn", |v, _, _| sgn(v)).doc("Sign: 1, 0 or -1.", "sgn(delta(cpu_temp_celsius[1h]))"),
    map("sqrt", |v, _, _| v.sqrt()).doc("Square root.", "sqrt(stdvar_over_time(load1[1h]))"),
];

/// Go's `math.Max`: NaN is above all but +Inf, and `+0` above `-0`.
pub fn go_max(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        f64::INFINITY
    } else if a.is_nan() || b.is_nan() {
        NAN
    } else if a == 0.0 && b == 0.0 {
        if a.is_sign_negative() { b } else { a }
    } else if a > b {
        a
    } else {
        b
    }
}

/// Go's `math.Min`: NaN is below all but -Inf, and `-0` below `+0`.
pub fn go_min(a: f64, b: f64) -> f64 {
    if a == f64::NEG_INFINITY || b == f64::NEG_INFINITY {
        f64::NEG_INFINITY
    } else if a.is_nan() || b.is_nan() {
        NAN
    } else if a == 0.0 && b == 0.0 {
        if a.is_sign_negative() { a } else { b }
    } else if a < b {
        a
    } else {
        b
    }
}

fn clamp(v: f64, args: &[f64], _: TimeMs) -> f64 {
    let min = args[0];
    let max = args[1];
    if max < min { ABSENT } else { go_max(min, go_min(max, v)) }
}

fn round(v: f64, args: &[f64], _: TimeMs) -> f64 {
    let inverse = 1.0 / args.first().copied().unwrap_or(1.0);
    (v * inverse + 0.5).floor() / inverse
}

fn sgn(v: f64) -> f64 {
    if v < 0.0 {
        -1.0
    } else if v > 0.0 {
        1.0
    } else {
        v
    }
}

/// The value as `fraction * 2^exponent` with a fraction in [0.5, 1). For positive finite values
/// only.
fn split(v: f64) -> (f64, i32) {
    const FRACTION: u64 = (1 << 52) - 1;
    let (normal, shift) = if v < f64::MIN_POSITIVE { (v * (1u64 << 52) as f64, 52) } else { (v, 0) };
    let bits = normal.to_bits();
    let exponent = (bits >> 52) as i32 - 1022 - shift;
    (f64::from_bits(bits & FRACTION | 1022 << 52), exponent)
}

/// As in Go: exact for powers of two, otherwise the logarithm of the fraction plus the exponent.
fn log2(v: f64) -> f64 {
    if !(v > 0.0 && v.is_finite()) {
        return v.ln();
    }
    let (fraction, exponent) = split(v);
    if fraction == 0.5 {
        return f64::from(exponent - 1);
    }
    fraction.ln() * std::f64::consts::LOG2_E + f64::from(exponent)
}

/// As in Go: a multiple of the natural logarithm.
fn log10(v: f64) -> f64 {
    v.ln() * std::f64::consts::LOG10_E
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::testing::{call, same};

    const INF: f64 = f64::INFINITY;

    #[test]
    fn extremes_are_those_of_go() {
        for (a, b, max, min) in [
            (1.0, 2.0, 2.0, 1.0),
            (NAN, 1.0, NAN, NAN),
            (INF, NAN, INF, NAN),
            (NAN, -INF, NAN, -INF),
            (0.0, -0.0, 0.0, -0.0),
            (-0.0, 0.0, 0.0, -0.0),
            (-0.0, -0.0, -0.0, -0.0),
        ] {
            assert!(same(go_max(a, b), max), "max {a} {b}");
            assert!(same(go_min(a, b), min), "min {a} {b}");
        }
    }

    #[test]
    fn elementwise_traps() {
        for (name, v, args, want) in [
            ("round", -2.5, &[][..], -2.0),
            ("round", 2.5, &[], 3.0),
            ("round", -0.5, &[], 0.0),
            ("round", 0.49999999999999994, &[], 1.0), // adding a half rounds up to 1, as upstream
            ("round", 17.0, &[5.0], 15.0),
            ("round", 1.0, &[0.0], NAN),
            ("sgn", -0.0, &[], -0.0),
            ("sgn", -7.0, &[], -1.0),
            ("sgn", NAN, &[], NAN),
            ("clamp", 5.0, &[0.0, 3.0], 3.0),
            ("clamp", 5.0, &[3.0, 0.0], ABSENT),
            ("clamp", NAN, &[0.0, 3.0], NAN),
            ("clamp", 1.0, &[NAN, 3.0], NAN),
            ("clamp", NAN, &[0.0, -INF], ABSENT),
            ("clamp", NAN, &[-INF, -INF], -INF),
            ("clamp_max", 5.0, &[NAN], NAN),
            ("clamp_max", -INF, &[NAN], -INF),
            ("clamp_min", 5.0, &[6.0], 6.0),
            ("log2", 1024.0, &[], 10.0),
            ("log2", 5e-324, &[], -1074.0),
            ("log2", 0.0, &[], -INF),
            ("log2", -1.0, &[], NAN),
            ("log2", INF, &[], INF),
            ("log10", 100.0, &[], 2.0),
            ("log10", 1000.0, &[], 3.0),
            ("log10", 1.0 + f64::EPSILON, &[], 9.64327466553287e-17),
            ("abs", -0.0, &[], 0.0),
            ("ceil", -0.5, &[], -0.0),
            ("sqrt", -1.0, &[], NAN),
        ] {
            let got = call(name, v, args);
            assert!(same(got, want), "{name}({v}, {args:?}) = {got}, want {want}");
        }
    }
}
