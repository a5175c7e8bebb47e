//! Prometheus' template functions for `gotmpl` values.
//!
//! Each is a plain function from arguments to a value; [`table`] lists them. `query`, `now` and the
//! functions for links need the server and are added by [`super::template`].

use super::budget;
use super::function_error::{ArgumentType, FunctionError};
use super::printing::{self, type_name};
use super::rewriting::SHOW;
use super::times;
use gotmpl::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use storage::model::TimeMs;
use storage::model::number::{not_finite, parse};

type FunctionResult = Result<Value, FunctionError>;
type TemplateFunction = fn(&[Value]) -> FunctionResult;

/// The name of the function to which method calls with arguments are rewritten.
pub(crate) const METHOD: &str = "__method";

/// All functions that need nothing but their arguments.
pub(crate) fn table() -> Vec<(&'static str, TemplateFunction)> {
    vec![
        ("humanize", |a| numeric("humanize", a, humanize)),
        ("humanize1024", |a| numeric("humanize1024", a, humanize1024)),
        ("humanizeDuration", |a| numeric("humanizeDuration", a, humanize_duration)),
        ("humanizePercentage", |a| {
            numeric("humanizePercentage", a, |v| format!("{}%", general(v * 100.0, 4)))
        }),
        ("humanizeTimestamp", |a| numeric("humanizeTimestamp", a, humanize_timestamp)),
        ("toTime", |a| times::time(number(&arguments::<1>("toTime", a)?[0])?)),
        ("toDuration", |a| times::duration(number(&arguments::<1>("toDuration", a)?[0])?)),
        ("title", |a| textual("title", a, title)),
        ("toUpper", |a| textual("toUpper", a, |s| s.chars().map(upper).collect())),
        ("toLower", |a| textual("toLower", a, |s| s.to_lowercase())),
        ("stripPort", |a| textual("stripPort", a, strip_port)),
        ("stripDomain", |a| textual("stripDomain", a, strip_domain)),
        ("graphLink", |a| textual("graphLink", a, |s| graph_link(s, 0))),
        ("tableLink", |a| textual("tableLink", a, |s| graph_link(s, 1))),
        ("urlQueryEscape", |a| textual("urlQueryEscape", a, query_escape)),
        ("safeHtml", |a| textual("safeHtml", a, str::to_owned)),
        ("match", matches),
        ("reReplaceAll", replace_all),
        ("first", first),
        ("label", label),
        ("value", |a| {
            Ok(sample(&arguments::<1>("value", a)?[0])?.field("Value").cloned().unwrap_or(Value::Nil))
        }),
        ("strvalue", |a| Ok(text(labels_of(sample(&arguments::<1>("strvalue", a)?[0])?, "__value__")))),
        ("sortByLabel", sort_by_label),
        ("args", |a| {
            let pairs = a.iter().enumerate().map(|(i, v)| (Arc::from(format!("arg{i}")), v.clone()));
            Ok(Value::Map(Arc::new(pairs.collect())))
        }),
        ("parseDuration", |a| {
            let text = string(&arguments::<1>("parseDuration", a)?[0])?;
            let (sign, length) = text.strip_prefix('-').map_or((1.0, text), |length| (-1.0, length));
            let ms = storage::model::time::parse_duration(length).map_err(|error| fail(error.to_string()))?;
            Ok(Value::Float(sign * ms as f64 / 1000.0))
        }),
        (METHOD, times::method),
        (SHOW, |a| Ok(show(&arguments::<1>(SHOW, a)?[0]))),
    ]
}

/// An error of template execution.
pub(crate) fn fail(message: impl Into<String>) -> FunctionError {
    FunctionError::Failed(message.into())
}

/// A string value.
pub(crate) fn text(s: impl AsRef<str>) -> Value {
    Value::String(Arc::from(s.as_ref()))
}

/// Checks that there are exactly `N` arguments.
pub(crate) fn arguments<'a, const N: usize>(
    name: &str,
    args: &'a [Value],
) -> Result<&'a [Value; N], FunctionError> {
    let got = args.len();
    let wrong =
        |_| FunctionError::ArgumentCount(format!("wrong number of args for {name}: want {N} got {got}"));
    args.try_into().map_err(wrong)
}

/// The text of an argument.
pub(crate) fn string(value: &Value) -> Result<&str, FunctionError> {
    let wrong = |text: String| FunctionError::ArgumentType { expected: ArgumentType::Text, text };
    match value {
        Value::Nil => Ok(""),
        Value::Int(_) | Value::Bool(_) => {
            Err(wrong(format!("expected string; found {}", printing::text(value))))
        }
        other => other
            .as_str()
            .ok_or_else(|| wrong(format!("wrong type for value; expected string; got {}", type_name(other)))),
    }
}

fn number(value: &Value) -> Result<f64, FunctionError> {
    match value {
        Value::Float(v) => Ok(*v),
        Value::Int(v) => Ok(*v as f64),
        Value::Uint(v) => Ok(*v as f64),
        Value::String(s) => parse(s).map_err(|e| {
            fail(format!("strconv.ParseFloat: parsing {}: {e}", printing::quoted(s, '"', false)))
        }),
        other => Err(fail(format!("can't convert {} to float", type_name(other)))),
    }
}

fn numeric(name: &str, args: &[Value], f: impl Fn(f64) -> String) -> FunctionResult {
    Ok(text(f(number(&arguments::<1>(name, args)?[0])?)))
}

fn textual(name: &str, args: &[Value], f: impl Fn(&str) -> String) -> FunctionResult {
    Ok(text(f(string(&arguments::<1>(name, args)?[0])?)))
}

/// A missing map entry is the empty string (`missingkey=zero`).
pub(crate) fn zero(value: &Value) -> Value {
    if matches!(value, Value::Nil) { text("") } else { value.clone() }
}

/// The text that an action prints.
fn show(value: &Value) -> Value {
    // Go would print `<no value>`; Prometheus sets `missingkey=zero`.
    if matches!(value, Value::Nil) { text("") } else { text(printing::text(value)) }
}

/// Go's `%.{precision}g`.
pub(crate) fn general(v: f64, precision: usize) -> String {
    if let Some(special) = not_finite(v) {
        return special;
    }
    if v == 0.0 {
        return if v.is_sign_negative() { "-0".to_owned() } else { "0".to_owned() };
    }
    let digits = format!("{v:.*e}", precision - 1);
    let (mantissa, exponent) = digits.split_once('e').unwrap_or((&digits, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    // The two bounds of `%g`, in C as in Go.
    if exponent < -4 || exponent >= precision as i32 {
        return scientific(trim_zeros(mantissa), exponent);
    }
    let decimals = (precision as i32 - 1 - exponent).max(0) as usize;
    trim_zeros(&format!("{v:.decimals$}")).to_owned()
}

fn scientific(mantissa: &str, exponent: i32) -> String {
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

fn trim_zeros(digits: &str) -> &str {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
}

const SMALL: [&str; 8] = ["m", "u", "n", "p", "f", "a", "z", "y"];

/// Divides while the number is at least `base`. Returns the number and the last prefix.
fn scale_down(mut v: f64, base: f64, prefixes: [&'static str; 8]) -> (f64, &'static str) {
    let mut prefix = "";
    for p in prefixes {
        if v.abs() < base {
            break;
        }
        prefix = p;
        v /= base;
    }
    (v, prefix)
}

fn scale_up(mut v: f64) -> (f64, &'static str) {
    let mut prefix = "";
    for p in SMALL {
        if v.abs() >= 1.0 {
            break;
        }
        prefix = p;
        v *= 1000.0;
    }
    (v, prefix)
}

fn humanize(v: f64) -> String {
    // They would never reach the base, and have no prefix.
    if v == 0.0 || !v.is_finite() {
        return general(v, 4);
    }
    let (v, prefix) = if v.abs() >= 1.0 {
        scale_down(v, 1000.0, ["k", "M", "G", "T", "P", "E", "Z", "Y"])
    } else {
        scale_up(v)
    };
    format!("{}{prefix}", general(v, 4))
}

fn humanize1024(v: f64) -> String {
    // As in Prometheus, small numbers get no prefix here: there are none below `ki`.
    if v.abs() <= 1.0 || !v.is_finite() {
        return general(v, 4);
    }
    let (v, prefix) = scale_down(v, 1024.0, ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"]);
    format!("{}{prefix}", general(v, 4))
}

fn humanize_duration(v: f64) -> String {
    if !v.is_finite() {
        return general(v, 4);
    }
    if v == 0.0 {
        return format!("{}s", general(v, 4));
    }
    // Below a second with a prefix (`5ms`), above it in units of time.
    if v.abs() < 1.0 {
        let (v, prefix) = scale_up(v);
        return format!("{}{prefix}s", general(v, 4));
    }
    let sign = if v < 0.0 { "-" } else { "" };
    let whole = v.abs() as i64;
    let days = whole / 86_400;
    let hours = whole / 3_600 % 24;
    let minutes = whole / 60 % 60;
    let seconds = whole % 60;
    if days != 0 {
        return format!("{sign}{days}d {hours}h {minutes}m {seconds}s");
    }
    if hours != 0 {
        return format!("{sign}{hours}h {minutes}m {seconds}s");
    }
    if minutes != 0 {
        return format!("{sign}{minutes}m {seconds}s");
    }
    format!("{sign}{}s", general(v.abs(), 4))
}

fn humanize_timestamp(v: f64) -> String {
    if !v.is_finite() {
        return general(v, 4);
    }
    let ms = (v * 1000.0).round();
    // Times beyond what a calendar can show are shown as numbers.
    let time = if ms.abs() < 1e17 { chrono::DateTime::from_timestamp_millis(ms as TimeMs) } else { None };
    let Some(time) = time else { return general(v, 4) };
    let fraction = match time.timestamp_subsec_millis() {
        0 => String::new(),
        millis => format!(".{millis:03}"),
    };
    format!("{}{} +0000 UTC", time.format("%Y-%m-%d %H:%M:%S"), fraction.trim_end_matches('0'))
}

/// A letter in upper case, if that is one letter, as in Go.
fn upper(c: char) -> char {
    let mut upper = c.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(one), None) => one,
        _ => c,
    }
}

/// Converts the first letter of each word to upper case; a dot between two letters does not end a
/// word.
fn title(s: &str) -> String {
    let mut out = String::with_capacity(s.len());
    let mut inside = false;
    for c in s.chars() {
        if inside {
            out.push(c);
        } else {
            out.extend(c.to_uppercase());
        }
        // Go's `strings.Title`, whose words these are: an apostrophe does not end one.
        inside = c.is_alphanumeric() || matches!(c, '_' | '\'') || (inside && c == '.');
    }
    out
}

/// Splits `host:port` or `[v6]:port`, like Go's `net.SplitHostPort`.
fn split_host_port(s: &str) -> Option<(&str, &str)> {
    let (host, port) = s.rsplit_once(':')?;
    if let Some(inner) = host.strip_prefix('[') {
        return Some((inner.strip_suffix(']')?, port));
    }
    // Several colons without brackets are an IPv6 address without a port.
    (!host.contains([':', '[', ']']) && !port.contains(['[', ']'])).then_some((host, port))
}

fn strip_port(s: &str) -> String {
    split_host_port(s).map_or(s, |(host, _)| host).to_owned()
}

fn strip_domain(s: &str) -> String {
    let (host, port) = split_host_port(s).unwrap_or((s, ""));
    // An address has no domain, and its dots separate numbers.
    if host.parse::<std::net::IpAddr>().is_ok() {
        return s.to_owned();
    }
    let first = host.split('.').next().unwrap_or(host);
    if port.is_empty() { first.to_owned() } else { format!("{first}:{port}") }
}

/// Go's `url.QueryEscape`.
pub(crate) fn query_escape(s: &str) -> String {
    let mut out = String::with_capacity(s.len() + 16);
    for byte in s.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte as char),
            // As in forms; `%20` would be right in a path.
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// The path of the graph page (`tab` 0) or table page (`tab` 1) of an expression.
pub(crate) fn graph_link(expr: &str, tab: u8) -> String {
    format!("/graph?g0.expr={}&g0.tab={tab}", query_escape(expr))
}

fn pattern(text: &str) -> Result<regex::Regex, FunctionError> {
    let translated = storage::model::regex::translate(text).map_err(|e| fail(e.to_string()))?;
    regex::RegexBuilder::new(&translated)
        .size_limit(storage::limits::REGEX_BYTES)
        .build()
        .map_err(|e| fail(format!("error parsing regexp: {e}")))
}

fn matches(args: &[Value]) -> FunctionResult {
    let [regex, subject] = arguments::<2>("match", args)?;
    let regex = string(regex)?;
    let subject = string(subject)?;
    budget::regex(regex, subject)?;
    Ok(Value::Bool(pattern(regex)?.is_match(subject)))
}

fn replace_all(args: &[Value]) -> FunctionResult {
    let [regex, replacement, subject] = arguments::<3>("reReplaceAll", args)?;
    let regex = string(regex)?;
    let replacement = string(replacement)?;
    let subject = string(subject)?;
    budget::regex(regex, subject)?;
    let regex = pattern(regex).map_err(|error| fail(format!("regexp: Compile(`{regex}`): {error}")))?;
    let references = replacement.matches('$').count();
    let mut out = String::new();
    let mut copied = 0;
    for found in regex.captures_iter(subject) {
        let whole = found.get_match();
        budget::steps(1)?;
        // Counted before it is created: a long replacement for every letter of a long text is their
        // product.
        budget::bytes(replacement.len() + references * whole.len())?;
        let filled = storage::model::regex::expand(replacement, &found);
        out.push_str(&subject[copied..whole.start()]);
        out.push_str(&filled);
        copied = whole.end();
    }
    out.push_str(&subject[copied..]);
    Ok(text(out))
}

fn first(args: &[Value]) -> FunctionResult {
    let wrong = |text: String| FunctionError::ArgumentType { expected: ArgumentType::Rows, text };
    match &arguments::<1>("first", args)?[0] {
        Value::List(rows) if !rows.is_empty() => Ok(rows[0].clone()),
        Value::List(_) => Err(fail("first() called on vector with no elements")),
        Value::Int(n) => Err(wrong(format!("can't handle {n} for arg of type template.queryResult"))),
        other => Err(wrong(format!(
            "wrong type for value; expected template.queryResult; got {}",
            type_name(other)
        ))),
    }
}

/// A row of a query's result.
fn sample(row: &Value) -> Result<&Value, FunctionError> {
    let text = || match row {
        Value::String(text) => {
            format!("can't handle {} for arg of type *template.sample", printing::quoted(text, '"', false))
        }
        Value::Int(n) => format!("can't handle {n} for arg of type *template.sample"),
        other => format!("wrong type for value; expected *template.sample; got {}", type_name(other)),
    };
    if ArgumentType::Row.fits(row) {
        Ok(row)
    } else {
        Err(FunctionError::ArgumentType { expected: ArgumentType::Row, text: text() })
    }
}

fn labels_of(row: &Value, name: &str) -> String {
    let value = row.field("Labels").and_then(|l| l.field(name)).and_then(Value::as_str);
    value.unwrap_or("").to_owned()
}

fn label(args: &[Value]) -> FunctionResult {
    let [name, row] = arguments::<2>("label", args)?;
    Ok(text(labels_of(sample(row)?, string(name)?)))
}

fn sort_by_label(args: &[Value]) -> FunctionResult {
    let [name, rows] = arguments::<2>("sortByLabel", args)?;
    let name = string(name)?;
    let Value::List(rows) = rows else { return Err(fail("sortByLabel: expected the result of a query")) };
    budget::steps(rows.len() / 4)?;
    let mut rows = rows.to_vec();
    rows.sort_by_cached_key(|row| labels_of(row, name));
    Ok(Value::List(rows.into()))
}

/// A label set as a template map.
pub(crate) fn label_map(labels: &storage::model::Labels) -> Value {
    let pairs: BTreeMap<Arc<str>, Value> = labels.iter().map(|(n, v)| (Arc::from(n), text(v))).collect();
    Value::Map(Arc::new(pairs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_print_as_in_go() {
        let general_cases = [
            (1234567.0, "1.235e+06"),
            (100000.0, "1e+05"),
            (1000.0, "1000"),
            (0.12345, "0.1235"),
            (0.000012, "1.2e-05"),
            (1.5, "1.5"),
            (99999.0, "1e+05"),
            (0.0, "0"),
        ];
        for (v, want) in general_cases {
            assert_eq!(general(v, 4), want, "{v}");
        }
    }

    #[test]
    fn humanized_numbers() {
        let cases = [
            (0.0, "0"),
            (1.0, "1"),
            (1234567.0, "1.235M"),
            (0.12, "120m"),
            (-1500.0, "-1.5k"),
            (1e-20, "10z"),
        ];
        for (v, want) in cases {
            assert_eq!(humanize(v), want, "{v}");
        }
        for (v, want) in [(0.0, "0"), (1.0, "1"), (1048576.0, "1Mi"), (0.12, "0.12"), (1500.0, "1.465ki")] {
            assert_eq!(humanize1024(v), want, "{v}");
        }
    }

    #[test]
    fn humanized_times() {
        let cases = [
            (0.0, "0s"),
            (1.0, "1s"),
            (60.0, "1m 0s"),
            (3600.0, "1h 0m 0s"),
            (86400.0, "1d 0h 0m 0s"),
            (86400.0 + 3661.0, "1d 1h 1m 1s"),
            (-3661.0, "-1h 1m 1s"),
            (0.1, "100ms"),
            (0.0001, "100us"),
            (899.99, "14m 59s"),
            (12.345678, "12.35s"),
        ];
        for (v, want) in cases {
            assert_eq!(humanize_duration(v), want, "{v}");
        }
        assert_eq!(humanize_timestamp(1435065584.128), "2015-06-23 13:19:44.128 +0000 UTC");
        assert_eq!(humanize_timestamp(0.0), "1970-01-01 00:00:00 +0000 UTC");
    }

    #[test]
    fn hosts_and_links() {
        assert_eq!(strip_port("host.example:9100"), "host.example");
        assert_eq!(strip_port("[::1]:9100"), "::1");
        assert_eq!(strip_port("::1"), "::1");
        assert_eq!(strip_domain("host.example:9100"), "host:9100");
        assert_eq!(strip_domain("10.0.0.1:9100"), "10.0.0.1:9100");
        assert_eq!(graph_link("up == 0", 1), "/graph?g0.expr=up+%3D%3D+0&g0.tab=1");
        assert_eq!(title("aa bb CC"), "Aa Bb CC");
    }
}
