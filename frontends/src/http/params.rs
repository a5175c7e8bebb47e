//! Parameters: form values, times, durations and limits, with the error texts of Prometheus' API.
//!
//! Every error here is the user's (`bad_data`, 400). Handlers read a [`Form`] through these functions only.

use super::limits::FORM_VALUES;
use super::reply::ApiError;
use storage::model::TimeMs;
use storage::model::time::parse_duration;

/// The earliest time the API knows: "from the beginning".
pub const MIN_TIME: TimeMs = (i64::MIN / 1000 + 62_135_596_801) * 1000;
/// The latest time the API knows: "to the end".
pub const MAX_TIME: TimeMs = (i64::MAX / 1000 - 62_135_596_801) * 1000 + 999;
/// How Prometheus' client libraries write the two.
const MIN_TIME_TEXT: &str = "-292273086-05-16T16:47:06Z";
const MAX_TIME_TEXT: &str = "292277025-08-18T07:12:54.999999999Z";

/// The values of a request: those of the body before those of the URL, repeated names kept in order.
#[derive(Clone, Debug, Default)]
pub struct Form(Vec<(String, String)>);

impl Form {
    /// The values of a form body (if any) and of a URL query (if any). What Go cannot decode it leaves out, and so do
    /// we: pairs with a semicolon or with a broken `%` escape.
    pub fn parse(body: Option<&[u8]>, query: Option<&str>) -> Result<Form, ApiError> {
        let mut values = Vec::new();
        for part in [body.unwrap_or_default(), query.unwrap_or_default().as_bytes()] {
            let pairs = part.split(|b| *b == b'&').filter(|pair| !pair.is_empty());
            if pairs.clone().nth(FORM_VALUES).is_some() {
                let what = "error parsing form values: number of URL query parameters exceeded limit";
                return Err(ApiError::bad_data(what));
            }
            let decoded = pairs.filter(|pair| decodable(pair)).flat_map(url::form_urlencoded::parse);
            values.extend(decoded.map(|(name, value)| (name.into(), value.into())));
        }
        Ok(Form(values))
    }

    /// The first value of `name`, "" if it has none.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }

    /// All values of `name`.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The required time `name`.
    pub fn time(&self, name: &str) -> Result<TimeMs, ApiError> {
        parse_time(self.get(name)).map_err(|e| ApiError::parameter(name, e))
    }

    /// The time `name`, or `default` if it is not given.
    pub fn time_or(&self, name: &str, default: TimeMs) -> Result<TimeMs, ApiError> {
        match self.get(name) {
            "" => Ok(default),
            text => parse_time(text)
                .map_err(|e| ApiError::parameter(name, format!("Invalid time value for '{name}': {e}"))),
        }
    }

    /// The duration `name`, ms; `None` if it is not given.
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
        let syntax = || format!("strconv.Atoi: parsing {text:?}: invalid syntax");
        let limit: i64 = text.parse().map_err(|_| ApiError::parameter("limit", syntax()))?;
        match usize::try_from(limit) {
            Ok(0) => Ok(None),
            Ok(limit) => Ok(Some(limit)),
            Err(_) => Err(ApiError::parameter("limit", "limit must be non-negative")),
        }
    }

    /// A number such as `limit` of the metadata endpoints, where a negative one means none.
    pub fn number(&self, name: &str) -> Result<Option<usize>, ApiError> {
        match self.get(name) {
            "" => Ok(None),
            text => match text.parse::<i64>() {
                Ok(n) => Ok(usize::try_from(n).ok()),
                Err(_) => Err(ApiError::bad_data(format!("{name} must be a number"))),
            },
        }
    }

    /// A flag such as `exclude_alerts`.
    pub fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.get(name) {
            "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            text => {
                let reason = format!("strconv.ParseBool: parsing {text:?}: invalid syntax");
                Err(ApiError::parameter(name, reason))
            }
        }
    }
}

fn decodable(pair: &[u8]) -> bool {
    let escaped = |at: usize| pair[at + 1..].iter().take(2).filter(|b| b.is_ascii_hexdigit()).count() == 2;
    !pair.contains(&b';') && (0..pair.len()).all(|at| pair[at] != b'%' || escaped(at))
}

/// Parses seconds since the epoch (`1500000000.123`) or RFC 3339; milliseconds.
pub fn parse_time(text: &str) -> Result<TimeMs, String> {
    let bad = || format!("cannot parse {text:?} to a valid timestamp");
    if let Ok(seconds) = text.parse::<f64>() {
        let ms = seconds.trunc() * 1000.0 + (seconds.fract() * 1000.0).round();
        return if ms.abs() < MAX_TIME as f64 { Ok(ms as TimeMs) } else { Err(bad()) };
    }
    match text {
        MIN_TIME_TEXT => Ok(MIN_TIME),
        MAX_TIME_TEXT => Ok(MAX_TIME),
        _ => chrono::DateTime::parse_from_rfc3339(text).map(|t| t.timestamp_millis()).map_err(|_| bad()),
    }
}

/// Parses seconds (`15`, `0.5`) or a Prometheus duration (`1m`); milliseconds.
pub fn parse_step(text: &str) -> Result<i64, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        if seconds.is_nan() {
            // What Go makes of it: as negative as can be.
            return Ok(i64::MIN / 1_000_000);
        }
        // Go's durations are nanoseconds in an i64: ±292 years.
        let fits = (seconds * 1e9).abs() < i64::MAX as f64;
        let overflow = || format!("cannot parse {text:?} to a valid duration. It overflows int64");
        return if fits { Ok((seconds * 1000.0) as i64) } else { Err(overflow()) };
    }
    parse_duration(text).map_err(|_| format!("cannot parse {text:?} to a valid duration"))
}

/// A label name out of a path: `U__http_2e_code` is `http.code` (Prometheus' escaping of UTF-8 names).
pub fn unescape_name(name: &str) -> String {
    match name.strip_prefix("U__") {
        Some(escaped) => unescape(escaped).unwrap_or_else(|| name.to_owned()),
        None => name.to_owned(),
    }
}

fn unescape(escaped: &str) -> Option<String> {
    let (mut out, mut rest) = (String::with_capacity(escaped.len()), escaped);
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
        for bad in ["", "x", "NaN", "inf", "9e99"] {
            assert_eq!(parse_time(bad), Err(format!("cannot parse {bad:?} to a valid timestamp")));
        }
    }

    #[test]
    fn steps_are_seconds_or_durations() {
        assert_eq!(parse_step("15"), Ok(15_000));
        assert_eq!(parse_step("0.25"), Ok(250));
        assert_eq!(parse_step("-1"), Ok(-1_000));
        assert_eq!(parse_step("1h30m"), Ok(5_400_000));
        assert_eq!(parse_step("x"), Err("cannot parse \"x\" to a valid duration".into()));
        assert!(parse_step("NaN").unwrap() < 0);
        assert!(parse_step("1e30").unwrap_err().ends_with("It overflows int64"));
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
