//! Literals of a statement as values: texts, numbers, durations (`'5m'`, `INTERVAL '5 minutes'`),
//! times, `LIKE` patterns as regular expressions. Used by [`super::bind`] and [`super::functions`].

use super::error::SqlError;
use chrono::{Datelike, Days, NaiveDate};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, Like};
use storage::model::TimeMs;
use storage::model::time::parse_duration;

/// The literal below casts and aliases.
pub(crate) fn literal(expr: &Expr) -> Option<&ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value),
        Expr::Cast(cast) => literal(&cast.expr),
        Expr::Alias(alias) => literal(&alias.expr),
        _ => None,
    }
}

/// A text literal.
pub(crate) fn text(expr: &Expr) -> Option<String> {
    scalar_text(literal(expr)?)
}

/// The text of a value, also of a dictionary.
pub(crate) fn scalar_text(value: &ScalarValue) -> Option<String> {
    match value {
        ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text) => text.clone(),
        ScalarValue::Dictionary(_, inner) => scalar_text(inner),
        _ => None,
    }
}

/// A number literal; a sign may stand before it.
pub(crate) fn number(expr: &Expr) -> Option<f64> {
    if let Expr::Negative(inner) = expr {
        return number(inner).map(|n| -n);
    }
    scalar_number(literal(expr)?)
}

fn scalar_number(value: &ScalarValue) -> Option<f64> {
    match value {
        ScalarValue::Float64(v) => *v,
        ScalarValue::Float32(v) => v.map(f64::from),
        ScalarValue::Int64(v) => v.map(|v| v as f64),
        ScalarValue::Int32(v) => v.map(f64::from),
        ScalarValue::UInt64(v) => v.map(|v| v as f64),
        ScalarValue::UInt32(v) => v.map(f64::from),
        _ => None,
    }
}

/// A whole number.
pub(crate) fn integer(expr: &Expr) -> Option<i64> {
    let value = number(expr)?;
    // Far above 1e15 a float has no digits after the point, so any number would seem whole.
    (value.fract() == 0.0 && value.abs() < 1e15).then_some(value as i64)
}

/// A duration in ms: `'5m'` and `'1h30m'` as in PromQL, `'5 minutes'` and `interval '5 minutes'` as
/// in SQL, `'60.000s'` as Grafana writes it, or a number of seconds.
pub(crate) fn duration(expr: &Expr) -> Option<i64> {
    if let Some(seconds) = number(expr) {
        return milliseconds(seconds * 1000.0);
    }
    match literal(expr)? {
        ScalarValue::IntervalDayTime(Some(v)) => {
            Some(i64::from(v.days) * 86_400_000 + i64::from(v.milliseconds))
        }
        // A month has no fixed length; PromQL has no months either.
        ScalarValue::IntervalMonthDayNano(Some(v)) if v.months == 0 => {
            Some(i64::from(v.days) * 86_400_000 + v.nanoseconds / 1_000_000)
        }
        value => duration_text(&scalar_text(value)?),
    }
}

fn milliseconds(ms: f64) -> Option<i64> {
    (ms.is_finite() && ms.abs() < 1e15).then_some(ms.round() as i64)
}

/// See [`duration`].
pub(crate) fn duration_text(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Some(ahead) = text.strip_prefix('-') {
        return duration_text(ahead).filter(|ms| *ms >= 0).map(|ms| -ms);
    }
    // PromQL's notation first: `1m` is a minute there, also where SQL's words follow.
    if let Ok(ms) = parse_duration(text) {
        return Some(ms);
    }
    // Grafana writes `$__interval` with decimals, which PromQL's durations do not have.
    if let Some(seconds) = text.strip_suffix('s').and_then(|n| n.parse::<f64>().ok()) {
        return milliseconds(seconds * 1000.0);
    }
    let mut total = 0;
    let mut words = text.split_whitespace();
    while let Some(count) = words.next() {
        let count: f64 = count.parse().ok()?;
        let unit = words.next()?.trim_end_matches(',').trim_end_matches('s').to_ascii_lowercase();
        let ms = match unit.as_str() {
            "m" | "milli" | "millisecond" | "msec" => 1.0,
            "second" | "sec" => 1_000.0,
            "minute" | "min" => 60_000.0,
            "hour" => 3_600_000.0,
            "day" => 86_400_000.0,
            "week" => 604_800_000.0,
            // 365 days, as in PromQL. Months are missing on purpose, see above.
            "year" => 31_536_000_000.0,
            _ => return None,
        };
        total += milliseconds(count * ms)?;
    }
    (total != 0).then_some(total)
}

/// The text of an interval with its clock in words: `1 day 01:00:05` as PostgreSQL prints it, which
/// Arrow does not read. `None`: it has no clock.
pub(crate) fn interval_without_clock(text: &str) -> Option<String> {
    let mut has_clock = false;
    let mut words = Vec::new();
    for word in text.split_whitespace() {
        let Some((hours, rest)) = word.split_once(':') else {
            words.push(word.to_owned());
            continue;
        };
        let (minutes, seconds) = rest.split_once(':').unwrap_or((rest, "0"));
        let sign = if hours.starts_with('-') { "-" } else { "" };
        let hours = hours.trim_start_matches(['-', '+']);
        words.push(format!("{sign}{hours} hours {sign}{minutes} minutes {sign}{seconds} seconds"));
        has_clock = true;
    }
    has_clock.then(|| words.join(" "))
}

/// The begin of a day whose text has a zone, `2026-11-28 +00`, as JDBC writes a date. `None`: it is
/// something else.
pub(crate) fn day_with_zone(text: &str) -> Option<String> {
    let (day, zone) = text.trim().split_once(' ')?;
    NaiveDate::parse_from_str(day, "%Y-%m-%d").ok()?;
    let is_zone = zone.starts_with(['+', '-']) && zone[1..].chars().all(|c| c.is_ascii_digit() || c == ':');
    is_zone.then(|| format!("{day} 00:00:00{zone}"))
}

/// A time in ms: a timestamp, its text in RFC 3339 or `YYYY-MM-DD HH:MM:SS`, or seconds since 1970.
pub(crate) fn time(expr: &Expr) -> Option<TimeMs> {
    if let Some(seconds) = number(expr) {
        return milliseconds(seconds * 1000.0);
    }
    scalar_time(literal(expr)?)
}

/// Seconds since 1970 as a time in ms; `None`: no whole milliseconds.
pub(crate) fn seconds(expr: &Expr) -> Option<TimeMs> {
    let ms = number(expr)? * 1000.0;
    (ms.fract() == 0.0 && ms.abs() < 1e15).then_some(ms as TimeMs)
}

/// See [`time`].
pub(crate) fn scalar_time(value: &ScalarValue) -> Option<TimeMs> {
    match value {
        ScalarValue::TimestampMillisecond(v, _) => *v,
        ScalarValue::TimestampSecond(v, _) => v.map(|v| v * 1_000),
        // Rounded down also before 1970; a plain division would round towards it.
        ScalarValue::TimestampMicrosecond(v, _) => v.map(|v| v.div_euclid(1_000)),
        ScalarValue::TimestampNanosecond(v, _) => v.map(|v| v.div_euclid(1_000_000)),
        ScalarValue::Date32(v) => v.map(|days| i64::from(days) * 86_400_000),
        value => time_text(&scalar_text(value)?),
    }
}

fn time_text(text: &str) -> Option<TimeMs> {
    let text = text.trim();
    if let Ok(time) = chrono::DateTime::parse_from_rfc3339(text) {
        return Some(time.timestamp_millis());
    }
    for format in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M"] {
        if let Ok(time) = chrono::NaiveDateTime::parse_from_str(text, format) {
            return Some(time.and_utc().timestamp_millis());
        }
    }
    let date = chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    // Without a zone a time is in UTC: the answer must not depend on where the server runs.
    Some(date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_millis())
}

/// The begin of the second, …, year around a time, in UTC, as `date_trunc` has it.
pub(crate) fn truncated(time: TimeMs, unit: &str) -> Option<TimeMs> {
    let whole = |ms: i64| Some(time.div_euclid(ms) * ms);
    let day = chrono::DateTime::from_timestamp_millis(time)?.date_naive();
    let first = match unit.to_ascii_lowercase().as_str() {
        "second" => return whole(1_000),
        "minute" => return whole(60_000),
        "hour" => return whole(3_600_000),
        "day" => day,
        // Weeks begin on Monday.
        "week" => day.checked_sub_days(Days::new(u64::from(day.weekday().num_days_from_monday())))?,
        "month" => day.with_day(1)?,
        "quarter" => day.with_day(1)?.with_month0(day.month0() / 3 * 3)?,
        "year" => NaiveDate::from_ymd_opt(day.year(), 1, 1)?,
        _ => return None,
    };
    Some(first.and_hms_opt(0, 0, 0)?.and_utc().timestamp_millis())
}

/// The pattern of `LIKE` as a regular expression that is anchored at both ends; `None`: it is no
/// literal.
pub(crate) fn like_pattern(like: &Like) -> Option<String> {
    let pattern = text(&like.pattern)?;
    // The default of PostgreSQL; standard SQL has none.
    let escape = like.escape_char.unwrap_or('\\');
    let mut out = String::new();
    if like.case_insensitive {
        out.push_str("(?i)");
    }
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '%' => out.push_str(".*"),
            '_' => out.push('.'),
            // An escape at the end stands for itself instead of failing: PostgreSQL reports an
            // error only for rows that get that far.
            c if c == escape => push_literal(&mut out, chars.next().unwrap_or(escape)),
            c => push_literal(&mut out, c),
        }
    }
    Some(out)
}

/// The texts as one pattern.
pub(crate) fn any_of(texts: &[String]) -> String {
    let quoted: Vec<String> = texts
        .iter()
        .map(|text| {
            let mut out = String::new();
            for c in text.chars() {
                push_literal(&mut out, c);
            }
            out
        })
        .collect();
    quoted.join("|")
}

fn push_literal(out: &mut String, c: char) {
    if matches!(c, '\\' | '.' | '+' | '*' | '?' | '(' | ')' | '|' | '[' | ']' | '{' | '}' | '^' | '$') {
        out.push('\\');
    }
    out.push(c);
}

/// A pattern that looks anywhere as one that is anchored at both ends.
pub(crate) fn anchored(pattern: &str) -> String {
    // With an alternative at the top level, `^` and `$` belong to one of them only.
    if pattern.contains('|') {
        return format!("(?s:.*)(?:{pattern})(?s:.*)");
    }
    let from_start = pattern.starts_with('^');
    let ends = pattern.ends_with('$') && !pattern.ends_with("\\$");
    let inner = pattern.strip_prefix('^').unwrap_or(pattern);
    let inner = if ends { inner.strip_suffix('$').unwrap_or(inner) } else { inner };
    // Redundant `.*` are left out, so that `~ '^5..$'` is the plan of `=~"5.."`, and the index can
    // use the literal begin of the pattern.
    let before = if from_start || inner.starts_with(".*") { "" } else { ".*" };
    let after = if ends || inner.ends_with(".*") && !inner.ends_with("\\.*") { "" } else { ".*" };
    format!("{before}{inner}{after}")
}

/// The error for an argument that must be a duration.
pub(crate) fn not_a_duration(of: &str) -> SqlError {
    SqlError::bad(format!("{of} must be a duration that is written out"))
        .hint("write '5m', '1h30m' or interval '5 minutes'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_every_notation() {
        let ms = |text: &str| duration_text(text);
        assert_eq!(ms("5m"), Some(300_000));
        assert_eq!(ms("1h30m"), Some(5_400_000));
        assert_eq!(ms("5 minutes"), Some(300_000));
        assert_eq!(ms("1 day 2 hours"), Some(93_600_000));
        assert_eq!(ms("60.000s"), Some(60_000));
        assert_eq!(ms("soon"), None);
        assert_eq!(ms("5 parsecs"), None);
    }

    #[test]
    fn clocks_of_intervals_become_words() {
        let words = |text: &str| interval_without_clock(text);
        assert_eq!(words("1 day 01:00:05.5").as_deref(), Some("1 day 01 hours 00 minutes 05.5 seconds"));
        assert_eq!(words("-00:30").as_deref(), Some("-00 hours -30 minutes -0 seconds"));
        assert_eq!(words("1 day"), None);
    }

    #[test]
    fn patterns_become_anchored() {
        assert_eq!(anchored("^5..$"), "5..");
        assert_eq!(anchored("admin"), ".*admin.*");
        assert_eq!(anchored("^/api/"), "/api/.*");
        assert_eq!(anchored("x\\$"), ".*x\\$.*");
        assert_eq!(anchored("^a$|b"), "(?s:.*)(?:^a$|b)(?s:.*)");
        assert_eq!(any_of(&["a.b".to_owned(), "c".to_owned()]), "a\\.b|c");
    }

    #[test]
    fn times_of_every_notation() {
        assert_eq!(time_text("2026-11-25T00:00:00Z"), Some(1_795_564_800_000));
        assert_eq!(time_text("2026-11-25 00:00:00"), Some(1_795_564_800_000));
        assert_eq!(time_text("2026-11-25"), Some(1_795_564_800_000));
        assert_eq!(time_text("yesterday"), None);
    }
}
