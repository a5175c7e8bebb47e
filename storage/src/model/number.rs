//! Numbers as Go's `FormatFloat` writes them with the shortest digits: in label values, bounds of buckets and remarks.
//!
//! Rust's formatting finds as short a text, but where two are equally short and equally near it takes the larger; Go
//! takes the even one (`631951547469358.25` is `…358.2`). Answers over HTTP have a faster writer with the same texts.

/// Without an exponent: `'f'`.
pub fn plain(v: f64) -> String {
    not_finite(v).unwrap_or_else(|| {
        let text = v.to_string();
        let decimals = text.find('.').map_or(0, |at| text.len() - at - 1);
        if decimals == 0 { text } else { nearest(v, text, format!("{v:.decimals$}")) }
    })
}

/// Always with an exponent of at least two digits: `'e'`.
pub fn scientific(v: f64) -> String {
    not_finite(v).unwrap_or_else(|| {
        let text = format!("{v:e}");
        let point = text.find('.');
        let decimals = point.map_or(0, |at| text.find('e').unwrap_or(text.len()) - at - 1);
        go_exponent(&nearest(v, text, format!("{v:.decimals$e}")))
    })
}

/// With an exponent below 1e-4 and from 1e6 on: `'g'`, and `%v`.
pub fn general(v: f64) -> String {
    let size = v.abs();
    if v.is_finite() && size != 0.0 && !(1e-4..1e6).contains(&size) { scientific(v) } else { plain(v) }
}

/// Rust's `1e-7` as Go's `1e-07`.
pub fn go_exponent(text: &str) -> String {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// `NaN`, `+Inf` or `-Inf`.
pub fn not_finite(v: f64) -> Option<String> {
    let text = match v {
        v if v.is_nan() => "NaN",
        f64::INFINITY => "+Inf",
        f64::NEG_INFINITY => "-Inf",
        _ => return None,
    };
    Some(text.to_owned())
}

/// Formatting with a given number of digits rounds to even; its text counts if it is the same number.
fn nearest(v: f64, shortest: String, even: String) -> String {
    if even.parse() == Ok(v) { even } else { shortest }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn as_go_prints_them() {
        let golden = [
            (0.0, "0", "0e+00", "0"),
            (-0.0, "-0", "-0e+00", "-0"),
            (1.5, "1.5", "1.5e+00", "1.5"),
            (93.0, "93", "9.3e+01", "93"),
            (1e6, "1000000", "1e+06", "1e+06"),
            (123_456.5, "123456.5", "1.234565e+05", "123456.5"),
            (0.00001, "0.00001", "1e-05", "1e-05"),
            (1e21, "1000000000000000000000", "1e+21", "1e+21"),
            (5e-324, &format!("0.{}5", "0".repeat(323)), "5e-324", "5e-324"),
            (
                -631_951_547_469_358.0 - 0.25,
                "-631951547469358.2",
                "-6.319515474693582e+14",
                "-6.319515474693582e+14",
            ),
            (f64::NAN, "NaN", "NaN", "NaN"),
            (f64::NEG_INFINITY, "-Inf", "-Inf", "-Inf"),
        ];
        for (v, f, e, g) in golden {
            assert_eq!((plain(v).as_str(), scientific(v).as_str(), general(v).as_str()), (f, e, g));
        }
    }

    proptest! {
        #[test]
        fn texts_are_the_number_and_as_short_as_can_be(v in any::<f64>().prop_filter("finite", |v| v.is_finite())) {
            for (text, library) in [(plain(v), v.to_string()), (scientific(v), go_exponent(&format!("{v:e}")))] {
                prop_assert_eq!(text.parse::<f64>().map(f64::to_bits), Ok(v.to_bits()));
                prop_assert_eq!(text.len(), library.len());
            }
        }
    }
}
