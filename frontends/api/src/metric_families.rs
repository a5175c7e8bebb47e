//! `/api/v1/status/self_metrics`: this server's own metrics as JSON, in the form that protobuf gives the
//! families of the exposition format.

use super::dispatch::ApiRequest;
use super::response::{ApiError, ApiResult, success};
use regex::Regex;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// `/api/v1/status/self_metrics`; `metric_name_pattern` selects families.
pub(crate) async fn self_metrics(call: ApiRequest) -> ApiResult {
    let pattern = match call.form.get("metric_name_pattern") {
        "" => None,
        text => Some(
            Regex::new(&format!("^(?:{text})$"))
                .map_err(|e| ApiError::parameter("metric_name_pattern", e))?,
        ),
    };
    super::status::refresh(&call.state);
    let text = call.state.sources.metrics.render();
    success(&families(&text, |name| pattern.as_ref().is_none_or(|pattern| pattern.is_match(name))))
}

/// The families of a text in the format that [`storage::metrics::Metrics::render`] writes.
fn families(text: &str, keep: impl Fn(&str) -> bool) -> Vec<Value> {
    let mut found = Vec::new();
    let mut help = "";
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').map_or("", |(_, help)| help);
            continue;
        }
        let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) else {
            continue;
        };
        let mut series: BTreeMap<String, SeriesJson> = BTreeMap::new();
        while let Some(sample) = lines.next_if(|line| !line.starts_with('#')) {
            if let Some(sample) = SampleLine::parse(sample) {
                sample.add(name, &mut series);
            }
        }
        if keep(name) {
            let metrics: Vec<Value> = series.into_values().map(|series| series.finish(kind)).collect();
            found.push(json!({"name": name, "help": help, "type": kind.to_uppercase(), "metric": metrics}));
        }
    }
    found
}

/// The lines of one series; a histogram has many.
#[derive(Default)]
struct SeriesJson {
    labels: Vec<Value>,
    value: Option<f64>,
    sum: Option<f64>,
    count: Option<f64>,
    parts: Vec<Value>,
}

impl SeriesJson {
    fn finish(self, kind: &str) -> Value {
        let count = self.count.unwrap_or_default() as u64;
        let body = match kind {
            "histogram" => {
                json!({"sampleCount": count.to_string(), "sampleSum": number(self.sum), "bucket": self.parts})
            }
            "summary" => {
                json!({"sampleCount": count.to_string(), "sampleSum": number(self.sum), "quantile": self.parts})
            }
            _ => json!({"value": number(self.value)}),
        };
        let mut out = Map::new();
        out.insert("label".to_owned(), Value::Array(self.labels));
        out.insert(kind.to_owned(), body);
        Value::Object(out)
    }
}

/// JSON has no infinities: protobuf writes them as text.
fn number(value: Option<f64>) -> Value {
    match value.unwrap_or_default() {
        v if v.is_nan() => "NaN".into(),
        v if v.is_infinite() => if v > 0.0 { "Infinity" } else { "-Infinity" }.into(),
        v => v.into(),
    }
}

/// A line `name{label="value"} 1`.
struct SampleLine<'a> {
    name: &'a str,
    labels: Vec<(String, String)>,
    value: f64,
}

impl<'a> SampleLine<'a> {
    fn parse(line: &'a str) -> Option<SampleLine<'a>> {
        let (series, value) = line.rsplit_once(' ')?;
        let value = match value {
            "+Inf" => f64::INFINITY,
            text => text.parse().ok()?,
        };
        let (name, inside) = series.split_once('{').unwrap_or((series, ""));
        let mut labels = Vec::new();
        let mut rest = inside.strip_suffix('}').unwrap_or(inside);
        while let Some((label, after)) = rest.split_once("=\"") {
            let end = closing_quote(after)?;
            let text: String = serde_json::from_str(&format!("\"{}\"", &after[..end])).ok()?;
            labels.push((label.trim_start_matches(',').to_owned(), text));
            rest = &after[end + 1..];
        }
        Some(SampleLine { name, labels, value })
    }

    fn add(mut self, family: &str, into: &mut BTreeMap<String, SeriesJson>) {
        let part = self.labels.iter().position(|(name, _)| name == "le" || name == "quantile");
        let part = part.map(|at| self.labels.remove(at));
        let series = into.entry(format!("{:?}", self.labels)).or_default();
        if series.labels.is_empty() {
            series.labels =
                self.labels.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        }
        let bound = |text: &str| number(Some(text.parse().unwrap_or(f64::INFINITY)));
        match (self.name.strip_prefix(family), part) {
            (Some("_sum"), _) => series.sum = Some(self.value),
            (Some("_count"), _) => series.count = Some(self.value),
            (Some("_bucket"), Some((_, le))) => series
                .parts
                .push(json!({"cumulativeCount": (self.value as u64).to_string(), "upperBound": bound(&le)})),
            (_, Some((_, q))) => {
                series.parts.push(json!({"quantile": bound(&q), "value": number(Some(self.value))}));
            }
            _ => series.value = Some(self.value),
        }
    }
}

/// The index of the quote that ends a value.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, c)| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends.then_some(at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::metrics::Metrics;

    #[test]
    fn every_kind_of_metric_is_shown() {
        let metrics = Metrics::default();
        metrics.counter("a_total", "A.", &[("x", "1\"2")]).add(3);
        metrics.gauge("b", "B.", &[]).set(f64::INFINITY);
        metrics.histogram("c_seconds", "C.", &[], &[0.5, 1.0]).observe(0.7);
        let got = Value::from(families(&metrics.render(), |name| name != "nothing"));
        assert_eq!(
            got,
            json!([
                {"name": "a_total", "help": "A.", "type": "COUNTER",
                 "metric": [{"label": [{"name": "x", "value": "1\"2"}], "counter": {"value": 3.0}}]},
                {"name": "b", "help": "B.", "type": "GAUGE", "metric": [{"label": [], "gauge": {"value": "Infinity"}}]},
                {"name": "c_seconds", "help": "C.", "type": "HISTOGRAM", "metric": [{"label": [], "histogram": {
                    "sampleCount": "1", "sampleSum": 0.7, "bucket": [
                        {"cumulativeCount": "0", "upperBound": 0.5},
                        {"cumulativeCount": "1", "upperBound": 1.0},
                        {"cumulativeCount": "1", "upperBound": "Infinity"}]}}]},
            ])
        );
        assert_eq!(families(&metrics.render(), |name| name == "b").len(), 1);
    }
}
