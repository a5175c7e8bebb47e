//! `/api/v1/status/self_metrics`: this server's own metrics as JSON, in the form that protobuf
//! gives the families of the exposition format.

use super::dispatch::ApiRequest;
use super::response::{ApiError, ApiResult, success};
use regex::Regex;
use serde_json::{Map, Value, json};
use storage::metrics::{
    BucketReading, FamilyReading, HistogramReading, MetricReading, Metrics, SummaryReading,
};

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
    let wanted = |name: &str| pattern.as_ref().is_none_or(|pattern| pattern.is_match(name));
    success(&families(&call.state.sources.metrics, wanted))
}

/// The families of the registry whose name `wanted` accepts.
fn families(metrics: &Metrics, wanted: impl Fn(&str) -> bool) -> Vec<Value> {
    metrics.read(wanted).into_iter().map(family).collect()
}

fn family(family: FamilyReading) -> Value {
    let FamilyReading { name, help, kind, series } = family;
    let series: Vec<Value> =
        series.iter().map(|(labels, reading)| series_json(kind, labels, reading)).collect();
    json!({"name": name, "help": help, "type": kind.to_uppercase(), "metric": series})
}

/// One series. As in protobuf's JSON, the field with the values is named after the type.
fn series_json(kind: &str, labels: &[(String, String)], reading: &MetricReading) -> Value {
    let labels: Vec<Value> =
        labels.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
    let mut out = Map::new();
    out.insert("label".to_owned(), Value::Array(labels));
    out.insert(kind.to_owned(), values(reading));
    Value::Object(out)
}

/// The values of one series. Protobuf's JSON writes 64-bit integers as text.
fn values(reading: &MetricReading) -> Value {
    match reading {
        MetricReading::Counter(value) | MetricReading::Gauge(value) => json!({"value": number(*value)}),
        MetricReading::Histogram(HistogramReading { buckets, sum, count }) => {
            let bucket = |bucket: &BucketReading| {
                let count = bucket.cumulative_count.to_string();
                json!({"cumulativeCount": count, "upperBound": number(bucket.upper_bound)})
            };
            let buckets: Vec<Value> = buckets.iter().map(bucket).collect();
            json!({"sampleCount": count.to_string(), "sampleSum": number(*sum), "bucket": buckets})
        }
        MetricReading::Summary(SummaryReading { quantiles, sum, count }) => {
            let quantile = |(quantile, value): &(f64, f64)| json!({"quantile": number(*quantile), "value": number(*value)});
            let quantiles: Vec<Value> = quantiles.iter().map(quantile).collect();
            json!({"sampleCount": count.to_string(), "sampleSum": number(*sum), "quantile": quantiles})
        }
    }
}

/// JSON has no infinities: protobuf writes them as text.
fn number(value: f64) -> Value {
    match value {
        v if v.is_nan() => "NaN".into(),
        v if v.is_infinite() => if v > 0.0 { "Infinity" } else { "-Infinity" }.into(),
        v => v.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_metric_is_shown() {
        let metrics = Metrics::default();
        metrics.counter("a_total", "A.", &[("x", "1\"2")]).add(3);
        metrics.gauge("b", "B.", &[]).set(f64::INFINITY);
        metrics.histogram("c_seconds", "C.", &[], &[0.5, 1.0]).observe(0.7);
        let got = Value::from(families(&metrics, |name| name != "nothing"));
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
        assert_eq!(families(&metrics, |name| name == "b").len(), 1);
    }
}
