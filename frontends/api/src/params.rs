//! Request parameters: form values, times, durations and limits, with the error texts of
//! Prometheus' API.
//!
//! Every error here is `bad_data` (400). Handlers read a [`Form`] only through these functions.

use super::limits::FORM_VALUES;
use super::response::ApiError;
use std::ops::RangeInclusive;
use storage::model::TimeMs;
use storage::model::number;
use storage::model::time::parse_duration;

/// The earliest time of the API; it means "from the beginning".
pub const MIN_TIME: TimeMs = (i64::MIN / 1000 + 62_135_596_801) * 1000;
/// The latest time of the API; it means "to the end".
pub const MAX_TIME: TimeMs = (i64::MAX / 1000 - 62_135_596_801) * 1000 + 999;
/// How Prometheus' client libraries write [`MIN_TIME`] and [`MAX_TIME`].
const MIN_TIME_TEXT: &str = "-292273086-05-16T16:47:06Z";
const MAX_TIME_TEXT: &str = "292277025-08-18T07:12:54.999999999Z";

/// The values of a request in this order: form body, URL, parts of a `multipart/form-data` body.
/// Repeated names keep their order.
#[derive(Clone, Debug, Default)]
pub struct Form {
    values: Vec<(String, String)>,
    /// Why a part could not be decoded, in Go's words.
    fault: Option<String>,
}

impl Form {
    /// Parses a form body and a URL query. As in Go, pairs that cannot be decoded are left out:
    /// those with a semicolon or a broken `%` escape.
    pub fn parse(body: Option<&[u8]>, query: Option<&str>) -> Result<Form, ApiError> {
        let mut form = Form::default();
        for part in [body.unwrap_or_default(), query.unwrap_or_default().as_bytes()] {
            let pairs = part.split(|b| *b == b'&').filter(|pair| !pair.is_empty());
            if pairs.clone().nth(FORM_VALUES).is_some() {
                let what = "error parsing form values: number of URL query parameters exceeded limit";
                return Err(ApiError::bad_data(what));
            }
            for pair in pairs {
                match pair_fault(pair) {
                    Some(fault) => form.fault = form.fault.or(Some(fault)),
                    None => {
                        let decoded = url::form_urlencoded::parse(pair);
                        form.values.extend(decoded.map(|(name, value)| (name.into(), value.into())));
                    }
                }
            }
        }
        Ok(form)
    }

    /// Appends `values`; `fault` replaces an earlier fault.
    pub fn with(mut self, values: Vec<(String, String)>, fault: Option<&str>) -> Form {
        self.values.extend(values);
        self.fault = fault.map(str::to_owned).or(self.fault);
        self
    }

    /// An error if a part of the request could not be decoded. For endpoints that need all
    /// parameters.
    pub fn check_decoded(&self) -> Result<(), ApiError> {
        match &self.fault {
            Some(fault) => Err(ApiError::bad_data(format!("error parsing form values: {fault}"))),
            None => Ok(()),
        }
    }

    /// The first value of `name`, or "".
    pub fn get(&self, name: &str) -> &str {
        self.values.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }

    /// All names and values, in order.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// All values of `name`.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.values.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The required time `name`.
    pub fn time(&self, name: &str) -> Result<TimeMs, ApiError> {
        parse_time(self.get(name)).map_err(|e| ApiError::parameter(name, e))
    }

    /// The time `name`, or `default` if it is missing.
    pub fn time_or(&self, name: &str, default: TimeMs) -> Result<TimeMs, ApiError> {
        match self.get(name) {
            "" => Ok(default),
            text => parse_time(text)
                .map_err(|e| ApiError::parameter(name, format!("invalid time value for '{name}': {e}"))),
        }
    }

    /// The duration `name`, ms; `None` if it is missing.
    pub fn duration(&self, name: &str) -> Result<Option<i64>, ApiError> {
        match self.get(name) {
            "" => Ok(None),
            text => parse_step(text).map(Some).map_err(|e| ApiError::parameter(name, e)),
        }
    }

    /// The parameter `limit`; `None`: no limit.
    pub fn limit(&self) -> Result<Option<usize>, ApiError> {
        let text = self.get("limit");
        if text.is_empty() {
            return Ok(None);
        }
        let limit =
            go_integer("Atoi", text, i64::MIN..=i64::MAX).map_err(|e| ApiError::parameter("limit", e))?;
        match usize::try_from(limit) {
            Ok(0) => Ok(None),
            Ok(limit) => Ok(Some(limit)),
            Err(_) => Err(ApiError::parameter("limit", "limit must be non-negative")),
        }
    }

    /// A number such as `limit` of the metadata endpoints, where a negative number means no limit.
    pub fn number(&self, name: &str) -> Result<Option<usize>, ApiError> {
        match self.get(name) {
            "" => Ok(None),
            text => match text.parse::<i64>() {
                Ok(n) => Ok(usize::try_from(n).ok()),
                Err(_) => Err(ApiError::bad_data(format!("{name} must be a number"))),
            },
        }
    }

    /// A flag such as `skip_head`.
    pub fn flag(&self, name: &str) -> Result<bool, ApiError> {
        go_bool(self.get(name)).map_err(|e| ApiError::parameter(name, e))
    }
}

/// Why a pair cannot be decoded, in Go's words.
fn pair_fault(pair: &[u8]) -> Option<String> {
    if pair.contains(&b';') {
        return Some("invalid semicolon separator in query".to_owned());
    }
    let escaped = |at: usize| pair[at + 1..].iter().take(2).filter(|b| b.is_ascii_hexdigit()).count() == 2;
    let broken = (0..pair.len()).find(|at| pair[*at] == b'%' && !escaped(*at))?;
    // A broken escape in the name is reported up to the end of the name.
    let end = pair[broken..].iter().position(|b| *b == b'=').map_or(pair.len(), |at| broken + at);
    let text = String::from_utf8_lossy(&pair[broken..end.min(broken + 3)]);
    Some(format!("invalid URL escape {text:?}"))
}

/// Why the text of a parameter has no value. Clients see the text, which is that of Prometheus.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParamError {
    /// It is no flag.
    #[error("strconv.ParseBool: parsing {0:?}: invalid syntax")]
    Bool(String),
    /// It is no integer.
    #[error("strconv.{function}: parsing {text:?}: invalid syntax")]
    Integer {
        /// The function of Go that parses it.
        function: &'static str,
        /// The text.
        text: String,
    },
    /// It is an integer that the parameter cannot have.
    #[error("strconv.{function}: parsing {text:?}: value out of range")]
    IntegerOutOfRange {
        /// The function of Go that parses it.
        function: &'static str,
        /// The text.
        text: String,
    },
    /// It is no time.
    #[error("cannot parse {0:?} to a valid timestamp")]
    Time(String),
    /// It is no duration.
    #[error("cannot parse {0:?} to a valid duration")]
    Duration(String),
    /// It is a number of seconds that no duration of Go can have.
    #[error("cannot parse {0:?} to a valid duration. It overflows int64")]
    DurationOverflow(String),
}

/// Parses a flag as Go's `ParseBool`, and "" as false.
pub fn go_bool(text: &str) -> Result<bool, ParamError> {
    match text {
        "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        _ => Err(ParamError::Bool(text.to_owned())),
    }
}

/// Parses a decimal integer with the error text of the given Go function.
pub fn go_integer(function: &'static str, text: &str, range: RangeInclusive<i64>) -> Result<i64, ParamError> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ParamError::Integer { function, text: text.to_owned() });
    }
    let parsed = text.parse().ok().filter(|n| range.contains(n));
    parsed.ok_or_else(|| ParamError::IntegerOutOfRange { function, text: text.to_owned() })
}

/// Parses seconds since the epoch (`1500000000.123`) or RFC 3339 to ms. Times outside the range of
/// the API are clamped to it; in Go the result depends on the processor.
pub fn parse_time(text: &str) -> Result<TimeMs, ParamError> {
    if let Ok(seconds) = number::parse(text) {
        let fraction = if seconds.is_finite() { seconds.fract() } else { 0.0 };
        let ms = seconds.trunc() * 1000.0 + (fraction * 1000.0).round();
        return Ok(if ms.is_nan() { MIN_TIME } else { (ms as TimeMs).clamp(MIN_TIME, MAX_TIME) });
    }
    match text {
        MIN_TIME_TEXT => Ok(MIN_TIME),
        MAX_TIME_TEXT => Ok(MAX_TIME),
        _ => rfc3339(text).ok_or_else(|| ParamError::Time(text.to_owned())),
    }
}

/// Parses RFC 3339 as Go does: letters must be upper case, a comma may start the fraction, and the
/// hour may have one digit.
fn rfc3339(text: &str) -> Option<TimeMs> {
    let (day, time) = text.split_once('T')?;
    let zero = if time.find(':') == Some(1) { "0" } else { "" };
    let time = format!("{zero}{}", time.replacen(',', ".", 1));
    // Go accepts no leap second.
    if time.contains('z') || time.get(6..8) == Some("60") {
        return None;
    }
    let parsed = chrono::DateTime::parse_from_rfc3339(&format!("{day}T{time}")).ok()?;
    Some(parsed.timestamp_millis())
}

/// Parses seconds (`15`, `0.5`) or a Prometheus duration (`1m`) to ms.
pub fn parse_step(text: &str) -> Result<i64, ParamError> {
    parse_interval(text).map(|ns| ns / 1_000_000)
}

/// Like [`parse_step`], but in ns.
pub fn parse_interval(text: &str) -> Result<i64, ParamError> {
    if let Ok(seconds) = number::parse(text) {
        // Go's durations are nanoseconds in an i64: ±292 years.
        let ns = seconds * 1e9;
        let overflows = ns > i64::MAX as f64 || ns < i64::MIN as f64;
        // Go converts NaN to the smallest integer.
        let whole = if ns.is_nan() { i64::MIN } else { ns as i64 };
        return if overflows { Err(ParamError::DurationOverflow(text.to_owned())) } else { Ok(whole) };
    }
    let ms = parse_duration(text).map_err(|_| ParamError::Duration(text.to_owned()))?;
    Ok(ms.saturating_mul(1_000_000))
}

/// Decodes a label name of a path: `U__http_2e_code` is `http.code` (Prometheus' escaping of UTF-8
/// names).
pub fn unescape_name(name: &str) -> String {
    match name.strip_prefix("U__") {
        Some(escaped) => unescape(escaped).unwrap_or_else(|| name.to_owned()),
        None => name.to_owned(),
    }
}

fn unescape(escaped: &str) -> Option<String> {
    let mut out = String::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some(at) = rest.find('_') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let end = rest.find('_')?;
        if end == 0 {
            out.push('_');
        } else {
            out.push(char::from_u32(u32::from_str_radix(&rest[..end], 16).ok()?)?);
        }
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use testing::assert_proportional;

    #[test]
    fn twice_the_parameters_cost_twice_as_much() {
        let pairs = |n: usize| (0..n).map(|i| format!("match%5B%5D=m{i}&")).collect::<String>();
        let form = |text: &String| Form::parse(Some(text.as_bytes()), Some(text));
        assert_proportional("pairs", 2_000, pairs, |text| {
            form(text).map_or(0, |form| form.all("match[]").count())
        });
        assert_proportional("escapes", 50_000, |n| format!("query={}", "%20".repeat(n)), form);
        assert_proportional("broken escapes", 50_000, |n| format!("query={}", "%2".repeat(n)), form);
        assert_proportional("separators", 2_000, |n| "&".repeat(n), form);
        assert_proportional("names without value", 1_000, |n| "a&=".repeat(n), form);
        assert_proportional("times", 50_000, |n| format!("1.{}", "5".repeat(n)), |text| parse_time(text));
        assert_proportional("no times", 100_000, |n| "2026-".repeat(n / 5), |text| parse_time(text));
        assert_proportional("steps", 50_000, |n| "1h".repeat(n), |text| parse_step(text));
        assert_proportional("digits of steps", 100_000, |n| "0".repeat(n) + "1h", |text| parse_step(text));
        let name = |n: usize| format!("U__{}", "_2e_a".repeat(n / 5));
        assert_proportional("escaped names", 100_000, name, |text| unescape_name(text));
        assert_proportional(
            "names that end in an escape",
            50_000,
            |n| format!("U__{}_2", "__".repeat(n)),
            |text| unescape_name(text),
        );
    }

    #[test]
    fn times_as_prometheus_reads_them() {
        assert_eq!(parse_time("4.123456"), Ok(4_123));
        assert_eq!(parse_time("4.0004"), Ok(4_000));
        assert_eq!(parse_time("1.5e9"), Ok(1_500_000_000_000));
        assert_eq!(parse_time("-0.5"), Ok(-500));
        assert_eq!(parse_time("2026-11-21T08:06:11.731779009Z"), Ok(1_795_248_371_731));
        assert_eq!(parse_time("2026-11-21T10:06:11+02:00"), Ok(1_795_248_371_000));
        assert_eq!(parse_time(MIN_TIME_TEXT), Ok(MIN_TIME));
        assert_eq!(parse_time(MAX_TIME_TEXT), Ok(MAX_TIME));
        assert_eq!(parse_time("1795592400_0"), Ok(17_955_924_000_000));
        assert_eq!(parse_time("2026-11-25T7:40:00,5Z"), Ok(1_795_592_400_500));
        for (text, t) in [
            ("NaN", MIN_TIME),
            ("-Inf", MIN_TIME),
            ("+Inf", MAX_TIME),
            ("9e99", MAX_TIME),
            ("9223372036854775807", MAX_TIME),
            ("-9223372036854775808", MIN_TIME),
        ] {
            assert_eq!(parse_time(text), Ok(t), "{text}");
        }
        for bad in [
            "",
            "x",
            "2026-11-25t07:40:00Z",
            "2026-11-25T07:40:00z",
            "2026-11-25 07:40:00Z",
            "2026-11-25T07:40:60Z",
            "1e400",
        ] {
            let error = parse_time(bad).unwrap_err().to_string();
            assert_eq!(error, format!("cannot parse {bad:?} to a valid timestamp"));
        }
    }

    #[test]
    fn steps_are_seconds_or_durations() {
        assert_eq!(parse_step("15"), Ok(15_000));
        assert_eq!(parse_step("0.25"), Ok(250));
        assert_eq!(parse_step("-1"), Ok(-1_000));
        assert_eq!(parse_step("1h30m"), Ok(5_400_000));
        assert_eq!(parse_step("x").unwrap_err().to_string(), "cannot parse \"x\" to a valid duration");
        assert!(parse_step("NaN").unwrap() < 0);
        assert_eq!(parse_interval("0.0001"), Ok(100_000));
        assert_eq!(parse_interval("1m"), Ok(60_000_000_000));
        assert!(parse_step("1e30").unwrap_err().to_string().ends_with("It overflows int64"));
    }

    #[test]
    fn the_body_comes_before_the_url() {
        let form = Form::parse(Some(b"query=1&match[]=a"), Some("query=2&time=3&match%5B%5D=b")).unwrap();
        assert_eq!((form.get("query"), form.get("time"), form.get("nix")), ("1", "3", ""));
        assert_eq!(form.all("match[]").collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn pairs_that_go_cannot_decode_are_left_out() {
        let form = Form::parse(Some(b"a=%zz&b=1;c=2&d=%4"), Some("e=%41+b%2Bc&d=3&=4&f")).unwrap();
        let values: Vec<_> = ["a", "b", "c", "d", "e", "", "f"].map(|name| form.get(name)).into();
        assert_eq!(values, ["", "", "", "3", "A b+c", "4", ""]);
        let fault = |body: &str| {
            let whole = Form::parse(Some(body.as_bytes()), Some("a=%41")).unwrap().check_decoded();
            whole.err().map(|e| e.message.replace("error parsing form values: ", ""))
        };
        assert_eq!(fault("b=%zzz&c;d"), Some("invalid URL escape \"%zz\"".into()));
        assert_eq!(fault("b%4=x"), Some("invalid URL escape \"%4\"".into()));
        assert_eq!(fault("c;d&b=%"), Some("invalid semicolon separator in query".into()));
        assert_eq!(fault("b=%20"), None);
    }

    #[test]
    fn integers_as_go_reads_them() {
        let read = |text| go_integer("ParseInt", text, -10..=10);
        assert_eq!((read("+7"), read("-10")), (Ok(7), Ok(-10)));
        let error = |text: &str, why: &str| format!("strconv.ParseInt: parsing {text:?}: {why}");
        for text in ["", "x", "1.0", " 1", "+-1"] {
            assert_eq!(read(text).unwrap_err().to_string(), error(text, "invalid syntax"));
        }
        for text in ["11", "99999999999999999999"] {
            assert_eq!(read(text).unwrap_err().to_string(), error(text, "value out of range"));
        }
    }

    #[test]
    fn a_form_has_as_many_values_as_go_takes() {
        let values = |n| Form::parse(Some("a&".repeat(n).as_bytes()), None).map(|form| form.all("a").count());
        assert_eq!(values(FORM_VALUES), Ok(FORM_VALUES));
        assert!(values(FORM_VALUES + 1).unwrap_err().message.ends_with("exceeded limit"));
    }

    #[test]
    fn escaped_label_names() {
        assert_eq!(unescape_name("job"), "job");
        assert_eq!(unescape_name("U__http_2e_code"), "http.code");
        assert_eq!(unescape_name("U__a__b"), "a_b");
        assert_eq!(unescape_name("U__broken_2e"), "U__broken_2e");
    }
}
