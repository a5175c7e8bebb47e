//! Tests of the receiver: requests in JSON, read back from the store.

use super::*;
use crate::remote::test_store;
use storage::model::value::is_stale;
use storage::model::{Matcher, NativeHistogram, SHARDS};

const NOW: TimeMs = 1_700_000_000_000;
const JSON: OtlpEncoding = OtlpEncoding { is_json: true, is_gzip: false };

struct Fixture {
    receiver: OtlpReceiver,
    _dir: tempfile::TempDir,
}

fn fixture(config: &str, features: OtlpFeatures) -> Fixture {
    let (store, dir) = test_store::open();
    let receiver = OtlpReceiver::new(store, features, &Metrics::default());
    receiver.configure(serde_saphyr::from_str(config).unwrap());
    Fixture { receiver, _dir: dir }
}

const PLAIN: OtlpFeatures = OtlpFeatures {
    deltas: DeltaSums::Refused,
    type_and_unit: false,
    starts: false,
    zeros: false,
    lookback_ms: 300_000,
};

/// A request with these metrics of a service, in short notation.
fn request(metrics: &str) -> String {
    let resource = r#""resource":{"attributes":[
        {"key":"service.name","value":{"stringValue":"shop"}},{"key":"service.namespace","value":{"stringValue":"eu"}},
        {"key":"service.instance.id","value":{"stringValue":"i-1"}},{"key":"host.name","value":{"stringValue":"h1"}}]}"#;
    let scope = r#""scope":{"name":"lib","version":"1.2","attributes":[{"key":"a.b","value":{"intValue":"3"}}]},"schemaUrl":"https://x""#;
    // `@5` is the time five seconds after the beginning.
    let mut metrics = metrics.to_owned();
    for seconds in 0..10 {
        let ns = (NOW + seconds * 1000) * 1_000_000;
        metrics = metrics.replace(&format!("@{seconds}"), &format!("\"timeUnixNano\":\"{ns}\""));
    }
    format!(r#"{{"resourceMetrics":[{{{resource},"scopeMetrics":[{{{scope},"metrics":[{metrics}]}}]}}]}}"#)
}

impl Fixture {
    fn apply(&self, metrics: &str) -> Result<WriteOutcome, RemoteWriteError> {
        self.receiver.apply(request(metrics).as_bytes(), JSON, NOW)
    }

    /// The series with a metric name and their values, as `value@seconds`.
    fn stored(&self, name: &str) -> Vec<String> {
        let mut lines: Vec<String> = test_store::stored(&self.receiver.store, name)
            .into_iter()
            .map(|row| {
                let values: Vec<String> = row
                    .ts
                    .iter()
                    .zip(&row.vs)
                    .map(|(t, v)| {
                        let v = if is_stale(*v) { "stale".to_owned() } else { v.to_string() };
                        format!("{v}@{}", (t - NOW) / 1000)
                    })
                    .collect();
                format!("{} {}", row.labels, values.join(" "))
            })
            .collect();
        lines.sort();
        lines
    }

    fn histograms(&self, name: &str) -> Vec<Arc<NativeHistogram>> {
        let mut found = Vec::new();
        for shard in 0..SHARDS {
            let matcher = [Matcher::equal("__name__", name)];
            let selection = self.receiver.store.select(shard, &matcher, 0, i64::MAX).unwrap();
            for i in 0..selection.labels.len() {
                selection.read_histograms(i, 0, i64::MAX, &mut found).unwrap();
            }
        }
        found.into_iter().map(|(_, h)| h).collect()
    }
}

const COUNTER: &str = r#"{"name":"http.requests","unit":"{request}","sum":{"aggregationTemporality":2,"isMonotonic":true,
    "dataPoints":[{@0,"asInt":"5","attributes":[{"key":"http.route","value":{"stringValue":"/a"}}]},{@1,"asDouble":7.5}]}}"#;

#[test]
fn sums_and_gauges_become_series_of_their_service() {
    let f = fixture("{}", PLAIN);
    let gauge =
        r#"{"name":"temp","unit":"Cel","gauge":{"dataPoints":[{@0,"asDouble":20.5},{@1,"flags":1}]}}"#;
    let written = f.apply(&format!("{COUNTER},{gauge}")).unwrap();
    assert_eq!((written.samples, written.refusal()), (6, None));
    let all = test_store::stored(&f.receiver.store, "temp_celsius");
    assert_eq!(all[0].labels, r#"temp_celsius{instance="i-1", job="eu/shop"}"#);
    assert_eq!(
        f.stored("http_requests_total"),
        [
            r#"http_requests_total{http_route="/a", instance="i-1", job="eu/shop"} 5@0"#,
            r#"http_requests_total{instance="i-1", job="eu/shop"} 7.5@1"#
        ]
    );
    assert_eq!(f.stored("temp_celsius"), [r#"temp_celsius{instance="i-1", job="eu/shop"} 20.5@0 stale@1"#]);
    assert_eq!(
        f.stored("target_info"),
        [r#"target_info{host_name="h1", instance="i-1", job="eu/shop"} 1@0 1@1"#]
    );
}

#[test]
fn the_configuration_decides_about_names_and_labels() {
    let labels = |config: &str, name: &str| {
        let f = fixture(config, PLAIN);
        f.apply(COUNTER).unwrap();
        let mut all: Vec<String> =
            test_store::stored(&f.receiver.store, name).into_iter().map(|row| row.labels).collect();
        all.sort();
        all
    };
    let first = |config: &str, name: &str| labels(config, name).swap_remove(0);
    assert_eq!(
        first("translation_strategy: NoTranslation", "http.requests"),
        r#"http.requests{http.route="/a", instance="i-1", job="eu/shop"}"#
    );
    // How an attribute becomes a label: what the two keys about underscores say.
    for (config, label) in [
        ("{}", "{instance=\"i-1\", job=\"eu/shop\", key_a__b=\"/a\"}"),
        ("label_name_underscore_sanitization: false", "{_a__b=\"/a\", instance=\"i-1\", job=\"eu/shop\"}"),
        (
            "label_name_preserve_multiple_underscores: false",
            "{instance=\"i-1\", job=\"eu/shop\", key_a_b=\"/a\"}",
        ),
    ] {
        let f = fixture(config, PLAIN);
        f.apply(&COUNTER.replace("http.route", "_a..b")).unwrap();
        let rows = test_store::stored(&f.receiver.store, "http_requests_total");
        let rows: Vec<String> = rows.into_iter().map(|row| row.labels).collect();
        assert!(rows.iter().any(|row| row.ends_with(label)), "{config}: {rows:?}");
    }
    assert_eq!(labels("translation_strategy: NoUTF8EscapingWithSuffixes", "http.requests_total").len(), 2);
    assert_eq!(labels("translation_strategy: UnderscoreEscapingWithoutSuffixes", "http_requests").len(), 2);
    assert_eq!(
        first("promote_resource_attributes: [host.name]", "http_requests_total"),
        r#"http_requests_total{host_name="h1", http_route="/a", instance="i-1", job="eu/shop"}"#
    );
    assert_eq!(
        first(
            "{promote_all_resource_attributes: true, ignore_resource_attributes: [service.name, service.namespace]}",
            "http_requests_total"
        ),
        r#"http_requests_total{host_name="h1", http_route="/a", instance="i-1", job="eu/shop", service_instance_id="i-1"}"#
    );
    assert_eq!(
        first("promote_scope_metadata: true", "http_requests_total"),
        r#"http_requests_total{http_route="/a", instance="i-1", job="eu/shop", otel_scope_a_b="3", otel_scope_name="lib", otel_scope_schema_url="https://x", otel_scope_version="1.2"}"#
    );
    assert_eq!(
        first("keep_identifying_resource_attributes: true", "target_info"),
        r#"target_info{host_name="h1", instance="i-1", job="eu/shop", service_instance_id="i-1", service_name="shop", service_namespace="eu"}"#
    );
    let f = fixture("{}", OtlpFeatures { type_and_unit: true, ..PLAIN });
    f.apply(&COUNTER.replace("{request}", "By/s")).unwrap();
    let rows = f.stored("http_requests_bytes_per_second_total");
    assert!(rows[0].contains(r#"__type__="counter", __unit__="bytes_per_second""#), "{rows:?}");
}

const HISTOGRAM: &str = r#"{"name":"lat","unit":"s","histogram":{"aggregationTemporality":2,"dataPoints":[
    {@0,"count":"6","sum":9.5,"bucketCounts":["1","2","3"],"explicitBounds":[0.5,1],
     "exemplars":[{@0,"asDouble":0.7,"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"00f067aa0ba902b7",
       "filteredAttributes":[{"key":"user","value":{"stringValue":"u"}}]},{@0,"asInt":"4"}]}]}}"#;

#[test]
fn histograms_are_classic_or_have_custom_buckets() {
    let f = fixture("{}", PLAIN);
    f.receiver.store.exemplars().set_limit(100);
    let written = f.apply(HISTOGRAM).unwrap();
    assert_eq!((written.exemplars, written.refusal()), (2, None));
    let tail = r#"instance="i-1", job="eu/shop""#;
    assert_eq!(f.stored("lat_seconds_sum"), [format!("lat_seconds_sum{{{tail}}} 9.5@0")]);
    assert_eq!(f.stored("lat_seconds_count"), [format!("lat_seconds_count{{{tail}}} 6@0")]);
    let bucket = |le: &str, v: &str| format!("lat_seconds_bucket{{{tail}, le=\"{le}\"}} {v}@0");
    assert_eq!(f.stored("lat_seconds_bucket"), [bucket("+Inf", "6"), bucket("0.5", "1"), bucket("1", "3")]);
    let matcher = vec![Matcher::equal("__name__", "lat_seconds_bucket")];
    let found = f.receiver.store.select_exemplars(&[matcher], 0, i64::MAX);
    let mut found: Vec<String> = found
        .iter()
        .flat_map(|s| {
            s.exemplars.iter().map(|e| format!("{} {} {}", s.labels.get("le").unwrap(), e.labels, e.v))
        })
        .collect();
    found.sort();
    let traced =
        r#"1 {span_id="00f067aa0ba902b7", trace_id="0af7651916cd43dd8448eb211c80319c", user="u"} 0.7"#;
    assert_eq!(found, ["+Inf {} 4", traced]);
    let f = fixture("convert_histograms_to_nhcb: true", PLAIN);
    f.apply(HISTOGRAM).unwrap();
    let h = &f.histograms("lat_seconds")[0];
    assert_eq!(
        (h.count, h.sum, &*h.bounds, &*h.positive.counts),
        (6.0, 9.5, &[0.5, 1.0][..], &[1.0, 2.0, 3.0][..])
    );
}

#[test]
fn exponential_histograms_are_native() {
    let f = fixture("{}", PLAIN);
    let metric = r#"{"name":"size","unit":"By","exponentialHistogram":{"aggregationTemporality":2,"dataPoints":[
        {@0,"count":"7","sum":20,"scale":1,"zeroCount":"1","positive":{"offset":1,"bucketCounts":["2","0","3"]},"negative":{"bucketCounts":["1"]}}]}}"#;
    let written = f.apply(metric).unwrap();
    assert_eq!((written.histograms, written.refusal()), (1, None));
    let h = &f.histograms("size_bytes")[0];
    assert_eq!((h.schema, h.count, h.zero_count, h.zero_threshold), (1, 7.0, 1.0, 1e-128));
    assert_eq!((h.positive.spans[0].offset, &*h.positive.counts), (2, &[2.0, 0.0, 3.0][..]));
    let miscounted =
        f.apply(&metric.replace(r#""count":"7""#, r#""count":"9""#).replace("@0", "@1")).unwrap();
    assert_eq!(refusal_status(&miscounted), 500);
    assert!(miscounted.refusal().unwrap().contains("but the Count field is 9"), "{miscounted:?}");
    let coarse = f.apply(&metric.replace(r#""scale":1"#, r#""scale":-5"#)).unwrap_err();
    assert_eq!(
        (coarse.status(), coarse.to_string().as_str()),
        (500, "cannot convert exponential to native histogram. Scale must be >= -4, was -5")
    );
}

#[test]
fn summaries_have_quantiles() {
    let f = fixture("{}", PLAIN);
    f.apply(r#"{"name":"s","summary":{"dataPoints":[{@0,"count":"4","sum":8,"quantileValues":[{"quantile":0.5,"value":2},{"quantile":1,"value":3}]}]}}"#)
        .unwrap();
    let tail = r#"instance="i-1", job="eu/shop""#;
    assert_eq!(f.stored("s_sum"), [format!("s_sum{{{tail}}} 8@0")]);
    assert_eq!(f.stored("s_count"), [format!("s_count{{{tail}}} 4@0")]);
    let quantile = |q: &str, v: u32| format!("s{{{tail}, quantile=\"{q}\"}} {v}@0");
    assert_eq!(f.stored("s"), [quantile("0.5", 2), quantile("1", 3)]);
}

#[test]
fn a_metric_without_a_translation_refuses_the_request() {
    let f = fixture("{}", PLAIN);
    let delta = COUNTER.replace("\"aggregationTemporality\":2", "\"aggregationTemporality\":1");
    let unspecified = COUNTER.replace("\"aggregationTemporality\":2,", "");
    let empty = r#"{"name":"e"}"#;
    let underscores = COUNTER.replace("http.route", "___");
    let all = format!("{COUNTER},{delta},{unspecified},{empty},{underscores}");
    let error = f.apply(&all).unwrap_err();
    let want = "invalid temporality and type combination for metric \"http.requests\"\n\
        invalid temporality and type combination for metric \"http.requests\"\n\
        could not get aggregation temporality for e as it has unsupported metric type Empty\n\
        normalization for label name \"___\" resulted in invalid name \"___\"";
    assert_eq!((error.status(), error.to_string().as_str()), (500, want));
    assert!(f.stored("http_requests_total").is_empty(), "nothing of the request is stored");
}

#[test]
fn deltas_are_summed_or_stored_as_they_are() {
    let delta = |time: &str, v: &str| {
        format!(
            r#"{{"name":"d","sum":{{"aggregationTemporality":"AGGREGATION_TEMPORALITY_DELTA","isMonotonic":true,"dataPoints":[{{{time},"asInt":"{v}"}}]}}}}"#
        )
    };
    let values = |deltas| {
        let f = fixture("{}", OtlpFeatures { deltas, ..PLAIN });
        for (time, v) in [("@0", "5"), ("@1", "2"), ("@1", "9"), ("@2", "1")] {
            f.apply(&delta(time, v)).unwrap();
        }
        f.stored("d_total")
    };
    assert_eq!(values(DeltaSums::Cumulative), [r#"d_total{instance="i-1", job="eu/shop"} 5@0 7@1 8@2"#]);
    assert_eq!(values(DeltaSums::Native), [r#"d_total{instance="i-1", job="eu/shop"} 5@0 2@1 1@2"#]);
}

#[test]
fn starts_are_used_by_two_features() {
    let counter = format!(
        r#"{{"name":"c","sum":{{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[{{@5,"startTimeUnixNano":"{}","asInt":"5"}}]}}}}"#,
        (NOW + 1000) * 1_000_000
    );
    let values = |starts, zeros| {
        let f = fixture("{}", OtlpFeatures { starts, zeros, ..PLAIN });
        f.apply(&counter).unwrap();
        f.stored("c_total")
    };
    assert_eq!(values(false, false), [r#"c_total{instance="i-1", job="eu/shop"} 5@5"#]);
    assert_eq!(values(true, true), [r#"c_total{instance="i-1", job="eu/shop"} 0@1 5@5"#]);
}

/// As in Prometheus, gauges have a zero too, and so has a histogram whose first point is its end.
#[test]
fn whatever_says_when_it_began_has_a_zero() {
    let f = fixture("{}", OtlpFeatures { starts: true, zeros: true, ..PLAIN });
    let start = (NOW + 1000) * 1_000_000;
    let point = |more: &str| format!(r#"{{"dataPoints":[{{@5,"startTimeUnixNano":"{start}",{more}}}]}}"#);
    f.apply(&format!(r#"{{"name":"g","gauge":{}}}"#, point(r#""asInt":"5""#))).unwrap();
    assert_eq!(f.stored("g"), [r#"g{instance="i-1", job="eu/shop"} 0@1 5@5"#]);
    let ended = point(r#""flags":1,"scale":2,"count":"1","sum":1,"zeroCount":"1""#);
    let ended = ended.replace("}]}", r#"}],"aggregationTemporality":2}"#);
    f.apply(&format!(r#"{{"name":"e","exponentialHistogram":{ended}}}"#)).unwrap();
    assert_eq!(f.stored("e"), [r#"e{instance="i-1", job="eu/shop"} stale@5"#]);
    let zeros = f.histograms("e");
    assert_eq!((zeros.len(), zeros[0].schema, zeros[0].count), (1, 2, 0.0));
}

#[test]
fn samples_that_the_store_refuses_are_told() {
    let f = fixture("{}", PLAIN);
    f.apply(COUNTER).unwrap();
    let again = f.apply(&COUNTER.replace("7.5", "8")).unwrap();
    assert_eq!((refusal_status(&again), again.duplicate), (400, 1));
    assert!(again.refusal().unwrap().contains("duplicate sample for timestamp"), "{again:?}");
    let future = f.apply(&COUNTER.replace("@0", "\"timeUnixNano\":\"1800000000000000000\"")).unwrap();
    // The sample, and target_info from the others up to it, of which not all are made.
    assert_eq!((refusal_status(&future), future.future), (400, 1_002));
    let nameless = fixture("translation_strategy: NoTranslation", PLAIN);
    let refused = nameless.apply(&COUNTER.replace("http.requests", "")).unwrap();
    assert_eq!((refusal_status(&refused), refused.invalid), (500, 2));
}

#[test]
fn a_point_of_1970_makes_no_millions_of_target_infos() {
    let f = fixture("{}", PLAIN);
    let written = f.apply(r#"{"name":"g","gauge":{"dataPoints":[{"asInt":1},{@0,"asInt":1}]}}"#).unwrap();
    // A thousand times two and a half minutes is 42 hours, of which the store takes the last ones.
    assert!(written.samples + written.too_old < 1_100, "{written:?}");
}

#[test]
fn headers_say_the_form() {
    let text = |result: Result<OtlpEncoding, RemoteWriteError>| result.unwrap_err().to_string();
    assert_eq!(check_headers("application/json", "").ok(), Some(JSON));
    assert!(check_headers("application/x-protobuf", "gzip").is_ok_and(|e| e.is_gzip && !e.is_json));
    assert_eq!(
        text(check_headers("application/json; charset=utf-8", "")),
        "unsupported content type: application/json; charset=utf-8, supported: [application/json, application/x-protobuf]"
    );
    assert_eq!(
        text(check_headers("application/json", "zstd")),
        "unsupported compression: zstd. Only \"gzip\" or no compression supported"
    );
}

#[test]
fn protobuf_and_gzip_are_the_same_request() {
    let json = request(COUNTER);
    let protobuf = super::super::json::to_protobuf(json.as_bytes(), OTLP_BYTES).unwrap();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut packed, &protobuf).unwrap();
    let packed = packed.finish().unwrap();
    let bodies = [(&protobuf, false), (&packed, true)];
    for (body, is_gzip) in bodies {
        let f = fixture("{}", PLAIN);
        let encoding = OtlpEncoding { is_json: false, is_gzip };
        f.receiver.apply(body, encoding, NOW).unwrap();
        assert_eq!(f.stored("http_requests_total").len(), 2);
        assert_eq!(decoded_bytes(body, encoding).unwrap(), if is_gzip { protobuf.len() } else { 0 });
        // Cut or changed anywhere it is an error or another request, and never a panic.
        for cut in 0..body.len() {
            let _ = f.receiver.apply(&body[..cut], encoding, NOW);
            let mut changed = body.clone();
            changed[cut] ^= 0x55;
            let _ = f.receiver.apply(&changed, encoding, NOW);
        }
    }
}

#[test]
fn a_request_that_is_damaged_late_stores_nothing() {
    // More than is decoded at a time.
    let points: Vec<String> = (0..60_000)
        .map(|i| {
            format!(r#"{{@{},"asInt":1,"attributes":[{{"key":"i","value":{{"intValue":{i}}}}}]}}"#, i % 5)
        })
        .collect();
    let metric = format!(r#"{{"name":"many","gauge":{{"dataPoints":[{}]}}}}"#, points.join(","));
    let mut protobuf = super::super::json::to_protobuf(request(&metric).as_bytes(), OTLP_BYTES).unwrap();
    let f = fixture("{}", PLAIN);
    let encoding = OtlpEncoding { is_json: false, is_gzip: false };
    protobuf.push(0xff);
    assert_eq!(f.receiver.apply(&protobuf, encoding, NOW).unwrap_err().status(), 400);
    assert!(f.stored("many").is_empty());
    protobuf.pop();
    assert_eq!(f.receiver.apply(&protobuf, encoding, NOW).unwrap().samples, 60_002);
}

#[test]
fn twice_the_request_costs_at_most_a_little_more_than_twice() {
    let request_of = |n: usize| {
        let points: Vec<String> = (0..n)
            .map(|i| format!(r#"{{@0,"asInt":{i},"attributes":[{{"key":"i","value":{{"intValue":{i}}}}}]}}"#))
            .collect();
        let metric = format!(r#"{{"name":"many","gauge":{{"dataPoints":[{}]}}}}"#, points.join(","));
        super::super::json::to_protobuf(request(&metric).as_bytes(), OTLP_BYTES).unwrap()
    };
    testing::assert_proportional("points", 500, request_of, |body| {
        let f = fixture("{}", PLAIN);
        f.receiver.apply(body, OtlpEncoding { is_json: false, is_gzip: false }, NOW).unwrap().samples
    });
}
