//! Numbers as text: as Go's `FormatFloat` writes them with the shortest digits (for label values,
//! bucket bounds and annotations), and as its `ParseFloat` reads them.
//!
//! Rust's formatting also finds a shortest text, but if two are equally short and equally near, it
//! takes the larger and Go the even one (`631951547469358.25` is `…358.2`). HTTP answers have a
//! faster writer with the same texts.

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
///
/// ```
/// use storage::model::number::general;
///
/// assert_eq!([0.1, 1e-7, 2.5e6, f64::INFINITY].map(general), ["0.1", "1e-07", "2.5e+06", "+Inf"]);
/// ```
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

/// Why a text is not a number; with Go's texts.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// The text does not have the form of a number.
    #[error("invalid syntax")]
    Syntax,
    /// The number is larger than the largest float.
    #[error("value out of range")]
    Range,
}

/// Reads a number as Go's `ParseFloat`: decimal or hexadecimal, an infinity, or NaN without a sign.
pub fn parse(text: &str) -> Result<f64, NumberError> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if unsigned.starts_with("0x") || unsigned.starts_with("0X") {
        let value = parse_hex(&unsigned[2..]).ok_or(NumberError::Syntax)?;
        return Ok(if text.starts_with('-') { -value } else { value });
    }
    // A second sign, and a NaN with a sign, which Rust reads and Go does not.
    let signs = unsigned.starts_with(['+', '-']);
    if signs || (unsigned.eq_ignore_ascii_case("nan") && unsigned.len() != text.len()) {
        return Err(NumberError::Syntax);
    }
    if unsigned.contains('_') {
        return if separates_digits(unsigned) {
            parse(&text.replace('_', ""))
        } else {
            Err(NumberError::Syntax)
        };
    }
    // `inf` and `infinity` are infinite because they say so; `1e999` is infinite because it is too
    // large.
    let named = unsigned.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
    match text.parse::<f64>() {
        Ok(v) if v.is_finite() || named => Ok(v),
        Ok(_) => Err(NumberError::Range),
        Err(_) => Err(NumberError::Syntax),
    }
}

/// Whether each underscore is between two digits.
fn separates_digits(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let at_underscores = (0..bytes.len()).filter(|at| bytes[*at] == b'_');
    at_underscores.into_iter().all(|at| at > 0 && digit(at - 1) && digit(at + 1))
}

/// Reads a hexadecimal float after its `0x`: digits with at most one point, and the mandatory
/// exponent `p`.
fn parse_hex(text: &str) -> Option<f64> {
    let (digits, exponent) = text.split_once(['p', 'P'])?;
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || digits.len() > 13 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None; // beyond 52 bits rounding would matter; nobody writes such a number
    }
    let mantissa = u64::from_str_radix(&digits, 16).ok()?;
    let scale = exponent.checked_sub(4 * fraction.len() as i32)?;
    if !(-1022..=1023).contains(&scale) {
        return None; // nor one whose scale is no normal float
    }
    let value = mantissa as f64 * 2f64.powi(scale);
    value.is_finite().then_some(value)
}

/// The text `even`, which formatting with a fixed number of digits rounds to even, if it is the
/// same number; otherwise `shortest`.
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

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        use NumberError::{Range, Syntax};
        for (text, want) in [
            ("0.1", Ok(0.1)),
            ("+Inf", Ok(f64::INFINITY)),
            ("inf", Ok(f64::INFINITY)),
            ("Infinity", Ok(f64::INFINITY)),
            ("-iNf", Ok(f64::NEG_INFINITY)),
            ("2e-1", Ok(0.2)),
            ("5.", Ok(5.0)),
            (".5", Ok(0.5)),
            ("1_000.0_1e1_0", Ok(1_000.01e10)),
            ("-1_0", Ok(-10.0)),
            ("0x1.8p1", Ok(3.0)),
            ("-0X10p-4", Ok(-1.0)),
            ("1e400", Err(Range)),
            ("-1_0e400", Err(Range)),
            ("1e-400", Ok(0.0)),
            ("_1", Err(Syntax)),
            ("1_", Err(Syntax)),
            ("1__0", Err(Syntax)),
            ("1_.5", Err(Syntax)),
            ("0x1p5000", Err(Syntax)),
            ("0x10", Err(Syntax)),
            ("0x+1p0", Err(Syntax)),
            ("", Err(Syntax)),
            ("abc", Err(Syntax)),
            ("1 ", Err(Syntax)),
            ("+-1", Err(Syntax)),
            ("-NaN", Err(Syntax)),
        ] {
            assert_eq!(parse(text), want, "{text:?}");
        }
        assert!(parse("NaN").is_ok_and(f64::is_nan));
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
