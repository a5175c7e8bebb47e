//! Times and durations in templates: `toTime`, `toDuration`, and Go's layouts for `.Format`.
//!
//! `gotmpl` has no methods: a time is a map with the results of its methods without arguments, and
//! `.Format` is rewritten to a call ([`super::template`]). Everything is in UTC, as in Prometheus.

use super::function_error::FunctionError;
use super::functions::{fail, text};
use chrono::{DateTime, Datelike, Timelike, Utc};
use gotmpl::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use storage::model::number::general;

/// The key of the text that a time or a duration prints.
const SHOWN: &str = "__shown";
/// The key of a time's milliseconds.
const MILLIS: &str = "__millis";

/// The text that a time or a duration prints; `None` for other values.
pub(crate) fn shown(value: &Value) -> Option<&Value> {
    value.field(SHOWN)
}

/// The Go type of a map that is a time or a duration.
pub(crate) fn kind(map: &BTreeMap<Arc<str>, Value>) -> Option<&'static str> {
    // Go's error texts name the type.
    let kind = if map.contains_key(MILLIS) { "*time.Time" } else { "*time.Duration" };
    map.contains_key(SHOWN).then_some(kind)
}

fn map<const N: usize>(pairs: [(&str, Value); N]) -> Value {
    Value::Map(Arc::new(pairs.into_iter().map(|(n, v)| (Arc::from(n), v)).collect::<BTreeMap<_, _>>()))
}

/// `v` seconds since 1970 as nanoseconds.
fn nanos(v: f64) -> Result<i64, FunctionError> {
    if !v.is_finite() {
        return Err(fail("value is NaN or Inf"));
    }
    let nanos = v * 1e9;
    if nanos.abs() > i64::MAX as f64 {
        let what = format!(
            "{} cannot be represented as a nanoseconds timestamp since it overflows int64",
            general(v)
        );
        return Err(fail(what));
    }
    Ok(nanos as i64)
}

/// The time `v` seconds after 1970, to the millisecond.
pub(crate) fn time(v: f64) -> Result<Value, FunctionError> {
    let millis = nanos(v)?.div_euclid(1_000_000);
    let t = moment(millis)?;
    Ok(map([
        (SHOWN, text(format(&t, "2006-01-02 15:04:05.999999999 -0700 MST"))),
        (MILLIS, Value::Int(millis)),
        ("String", text(format(&t, "2006-01-02 15:04:05.999999999 -0700 MST"))),
        ("Unix", Value::Int(t.timestamp())),
        ("UnixMilli", Value::Int(millis)),
        ("Year", Value::Int(t.year().into())),
        ("Month", text(format(&t, "January"))),
        ("Day", Value::Int(t.day().into())),
        ("Hour", Value::Int(t.hour().into())),
        ("Minute", Value::Int(t.minute().into())),
        ("Second", Value::Int(t.second().into())),
        ("Weekday", text(format(&t, "Monday"))),
        ("YearDay", Value::Int(t.ordinal().into())),
    ]))
}

fn moment(millis: i64) -> Result<DateTime<Utc>, FunctionError> {
    DateTime::from_timestamp_millis(millis).ok_or_else(|| fail("the time is too far away"))
}

/// A duration of `v` seconds. A value that does not fit becomes the smallest duration, as in Go.
pub(crate) fn duration(v: f64) -> Result<Value, FunctionError> {
    let nanos = v * 1e9;
    // What the conversion gives on amd64; NaN, too.
    let nanos = if nanos.abs() < i64::MAX as f64 { nanos as i64 } else { i64::MIN };
    let shown = text(duration_text(nanos));
    let in_units = |unit: f64| Value::Float(nanos as f64 / unit);
    Ok(map([
        (SHOWN, shown.clone()),
        ("String", shown),
        ("Milliseconds", Value::Int(nanos / 1_000_000)),
        ("Seconds", in_units(1e9)),
        ("Minutes", in_units(60e9)),
        ("Hours", in_units(3_600e9)),
    ]))
}

/// A `time.Duration` as Go prints it.
fn duration_text(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let n = nanos.unsigned_abs();
    let (unit, name) = match n {
        0 => return "0s".to_owned(),
        1..1_000 => (1, "ns"),
        1_000..1_000_000 => (1_000, "µs"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => (1_000_000_000, "s"),
    };
    let whole = n / unit;
    // All digits, of which the trailing zeros go.
    let fraction = format!("{:0width$}", n % unit, width = unit.ilog10() as usize);
    let fraction = fraction.trim_end_matches('0');
    let fraction = if n.is_multiple_of(unit) { String::new() } else { format!(".{fraction}") };
    let hours = whole / 3_600;
    let minutes = whole / 60 % 60;
    match (name, hours, minutes) {
        ("s", 0, 0) | ("ns" | "µs" | "ms", ..) => format!("{sign}{whole}{fraction}{name}"),
        (_, 0, _) => format!("{sign}{minutes}m{}{fraction}s", whole % 60),
        _ => format!("{sign}{hours}h{minutes}m{}{fraction}s", whole % 60),
    }
}

/// A method with arguments: `Format` of a time.
pub(crate) fn method(args: &[Value]) -> Result<Value, FunctionError> {
    match args {
        [Value::String(name), receiver, Value::String(layout)] if &**name == "Format" => {
            match receiver.field(MILLIS) {
                Some(Value::Int(millis)) => Ok(text(format(&moment(*millis)?, layout))),
                _ => Err(fail("can't evaluate field Format: it is no time")),
            }
        }
        _ => Err(fail("Format wants one string")),
    }
}

/// Parts of Go's layouts with their formats in [`chrono`]; of two with the same beginning the
/// longer is first.
const LAYOUT: [(&str, &str); 34] = [
    ("January", "%B"),
    ("Jan", "%b"),
    ("Monday", "%A"),
    ("Mon", "%a"),
    ("MST", "UTC"),
    ("2006", "%Y"),
    ("__2", "%_j"),
    ("_2006", "_%Y"),
    ("_2", "%e"),
    ("002", "%j"),
    ("01", "%m"),
    ("02", "%d"),
    ("03", "%I"),
    ("04", "%M"),
    ("05", "%S"),
    ("06", "%y"),
    ("15", "%H"),
    ("1", "%-m"),
    ("2", "%-d"),
    ("3", "%-I"),
    ("4", "%-M"),
    ("5", "%-S"),
    ("PM", "%p"),
    ("pm", "%P"),
    ("-07:00:00", "+00:00:00"),
    ("-070000", "+000000"),
    ("-07:00", "+00:00"),
    ("-0700", "+0000"),
    ("-07", "+00"),
    ("Z07:00:00", "Z"),
    ("Z070000", "Z"),
    ("Z07:00", "Z"),
    ("Z0700", "Z"),
    ("Z07", "Z"),
];

/// Formats `t` like Go's `Time.Format(layout)`.
fn format(t: &DateTime<Utc>, mut layout: &str) -> String {
    let mut out = String::new();
    while let Some(first) = layout.chars().next() {
        if let Some((length, digits)) = fraction(t, layout) {
            out.push_str(&digits);
            layout = &layout[length..];
        } else if let Some((piece, spec)) = LAYOUT.iter().find(|(piece, _)| begins(layout, piece)) {
            out.push_str(&t.format(spec).to_string());
            layout = &layout[piece.len()..];
        } else {
            out.push(first);
            layout = &layout[first.len_utf8()..];
        }
    }
    out
}

/// `Jan` and `Mon` are names only if no word continues after them.
fn begins(layout: &str, piece: &str) -> bool {
    let rest = layout.strip_prefix(piece);
    let word = matches!(piece, "Jan" | "Mon");
    rest.is_some_and(|rest| !word || !rest.starts_with(|c: char| c.is_ascii_lowercase()))
}

/// A fraction of a second, if `layout` begins with one: `.000` has all digits, `.999` only those
/// that are not 0.
fn fraction(t: &DateTime<Utc>, layout: &str) -> Option<(usize, String)> {
    let mark = layout.chars().next().filter(|c| matches!(c, '.' | ','))?;
    let digit = layout[1..].chars().next().filter(|c| matches!(c, '0' | '9'))?;
    let count = layout[1..].chars().take_while(|c| *c == digit).count();
    if layout[1 + count..].starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let digits = std::format!("{:09}", t.nanosecond());
    let digits: String = digits.chars().chain(std::iter::repeat('0')).take(count).collect();
    let digits = if digit == '9' { digits.trim_end_matches('0') } else { &digits };
    let shown = if digits.is_empty() { String::new() } else { std::format!("{mark}{digits}") };
    Some((1 + count, shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_those_of_go() {
        let t = moment(1_435_065_584_128).unwrap();
        let cases = [
            ("2006-01-02T15:04:05Z07:00", "2015-06-23T13:19:44Z"),
            ("Mon, 02 Jan 2006 15:04:05 MST", "Tue, 23 Jun 2015 13:19:44 UTC"),
            ("Monday 2 January, 3:04PM", "Tuesday 23 June, 1:19PM"),
            ("1/2/06 03:4:5.000 pm", "6/23/15 01:19:44.128 pm"),
            ("05.99 05,9999 .0x", "44.12 44,128 .1x"),
            ("002 _2 -0700", "174 23 +0000"),
            ("Janus 100%", "Janus 600%"),
        ];
        for (layout, want) in cases {
            assert_eq!(format(&t, layout), want, "{layout}");
        }
    }

    #[test]
    fn durations_print_as_in_go() {
        let cases = [
            (0.0, "0s"),
            (0.0000015, "1.5µs"),
            (0.15, "150ms"),
            (1.5, "1.5s"),
            (-90.0, "-1m30s"),
            (3_725.25, "1h2m5.25s"),
            (360_000.0, "100h0m0s"),
            (f64::NAN, "-2562047h47m16.854775808s"),
        ];
        for (v, want) in cases {
            assert_eq!(shown(&duration(v).unwrap()).and_then(Value::as_str), Some(want), "{v}");
        }
        assert!(time(f64::INFINITY).is_err());
    }
}
