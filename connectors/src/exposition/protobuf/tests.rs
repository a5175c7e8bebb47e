//! Tests the protobuf reader with bodies that `prost` has encoded, which is independent of our
//! reader.

use super::super::points::ExposedPoint;
use super::*;
use proptest::prelude::*;
use prost::Message;
use storage::model::NativeHistogram;

#[derive(Clone, PartialEq, Message)]
struct MetricFamily {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    help: String,
    #[prost(int32, tag = "3")]
    kind: i32,
    #[prost(message, repeated, tag = "4")]
    metric: Vec<Metric>,
    #[prost(string, tag = "5")]
    unit: String,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    label: Vec<Pair>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Gauge>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Counter>,
    #[prost(message, optional, tag = "4")]
    summary: Option<Summary>,
    #[prost(int64, tag = "6")]
    timestamp_ms: i64,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct Pair {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Gauge {
    #[prost(double, tag = "1")]
    value: f64,
}

#[derive(Clone, PartialEq, Message)]
struct Time {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Exemplar {
    #[prost(message, repeated, tag = "1")]
    label: Vec<Pair>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(message, optional, tag = "3")]
    timestamp: Option<Time>,
}

#[derive(Clone, PartialEq, Message)]
struct Counter {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(message, optional, tag = "2")]
    exemplar: Option<Exemplar>,
    #[prost(message, optional, tag = "3")]
    created: Option<Time>,
}

#[derive(Clone, PartialEq, Message)]
struct Quantile {
    #[prost(double, tag = "1")]
    quantile: f64,
    #[prost(double, tag = "2")]
    value: f64,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "2")]
    sum: f64,
    #[prost(message, repeated, tag = "3")]
    quantile: Vec<Quantile>,
}

#[derive(Clone, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "2")]
    bound: f64,
    #[prost(message, optional, tag = "3")]
    exemplar: Option<Exemplar>,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "2")]
    sum: f64,
    #[prost(message, repeated, tag = "3")]
    bucket: Vec<Bucket>,
    #[prost(double, tag = "4")]
    count_float: f64,
    #[prost(sint32, tag = "5")]
    schema: i32,
    #[prost(double, tag = "6")]
    zero_threshold: f64,
    #[prost(uint64, tag = "7")]
    zero_count: u64,
    #[prost(message, repeated, tag = "12")]
    positive_span: Vec<Span>,
    #[prost(sint64, repeated, packed = "false", tag = "13")]
    positive_delta: Vec<i64>,
    #[prost(double, repeated, tag = "14")]
    positive_count: Vec<f64>,
    #[prost(message, optional, tag = "15")]
    created: Option<Time>,
    #[prost(message, repeated, tag = "16")]
    exemplars: Vec<Exemplar>,
}

fn pairs(all: &[(&str, &str)]) -> Vec<Pair> {
    all.iter().map(|(name, value)| Pair { name: (*name).into(), value: (*value).into() }).collect()
}

fn family(name: &str, kind: i32, metric: Metric) -> MetricFamily {
    MetricFamily { name: name.into(), help: "h".into(), kind, metric: vec![metric], unit: String::new() }
}

fn body(families: &[MetricFamily]) -> Vec<u8> {
    families.iter().flat_map(|family| family.encode_length_delimited_to_vec()).collect()
}

fn seen(v: f64, seconds: Option<i64>) -> Option<Exemplar> {
    let timestamp = seconds.map(|seconds| Time { seconds, nanos: 5_000_000 });
    Some(Exemplar { label: pairs(&[("id", "x")]), value: v, timestamp })
}

/// A histogram with native and classic buckets.
fn both() -> Histogram {
    Histogram {
        count: 7,
        sum: 9.5,
        bucket: vec![
            Bucket { count: 3, bound: 0.5, exemplar: seen(0.25, Some(7)) },
            Bucket { count: 5, bound: 1.0, exemplar: seen(0.75, None) },
        ],
        schema: 1,
        zero_threshold: 0.001,
        zero_count: 2,
        positive_span: vec![Span { offset: -2, length: 2 }, Span { offset: 1, length: 1 }],
        positive_delta: vec![1, 1, 0],
        created: Some(Time { seconds: 100, nanos: 999_999 }),
        ..Histogram::default()
    }
}

fn histogram(histogram: Histogram) -> Metric {
    Metric { label: pairs(&[("a", "1")]), histogram: Some(histogram), ..Metric::default() }
}

fn show((series, point): (&[u8], &ExposedPoint)) -> String {
    let series = String::from_utf8(series.to_vec()).unwrap();
    let value = match &point.value {
        PointValue::Float(v) => v.to_string(),
        PointValue::Histogram(raw) => match raw.clone().finish() {
            Ok(NativeHistogram { schema, count, sum, positive, hint, .. }) => {
                format!("[{schema} {count} {sum} {:?} {hint:?}]", positive.counts)
            }
            Err(error) => error.to_string(),
        },
    };
    let exemplars: Vec<String> = point.exemplars.iter().map(|e| format!("{}@{:?}", e.v, e.t)).collect();
    format!("{series} {value} {:?} {} {exemplars:?}", point.t, point.start)
}

/// Records all samples and families.
#[derive(Default)]
struct ReadFamilies {
    lines: Vec<String>,
    families: Vec<(String, MetricType)>,
    units: Vec<String>,
}

impl FamilySink for ReadFamilies {
    type Error = FamilyError;

    fn family(&mut self, family: &ProtobufFamily<'_>) {
        self.families.push((family.name.to_owned(), family.kind));
    }

    fn points(&mut self, points: &ExposedPoints, unit: &str) -> Fallible<()> {
        self.lines.extend(points.iter().map(show));
        self.units.push(unit.to_owned());
        Ok(())
    }
}

fn read(body: &[u8], rules: PointRules) -> Fallible<ReadFamilies> {
    let mut taken = ReadFamilies::default();
    Families::default().read(body, true, rules, &mut taken).map(|_| taken)
}

/// As [`read`], but the body arrives in pieces of `size` bytes.
fn read_in_pieces(body: &[u8], rules: PointRules, size: usize) -> Fallible<ReadFamilies> {
    let mut taken = ReadFamilies::default();
    let mut families = Families::default();
    let mut from = 0;
    let mut to = 0;
    while to < body.len() {
        to = (to + size).min(body.len());
        from += families.read(&body[from..to], to == body.len(), rules, &mut taken)?;
    }
    assert_eq!(from, body.len());
    Ok(taken)
}

fn lines(families: &[MetricFamily], rules: PointRules) -> Vec<String> {
    let whole = read(&body(families), rules).unwrap().lines;
    assert_eq!(read_in_pieces(&body(families), rules, 7).unwrap().lines, whole);
    whole
}

const ALL: PointRules = PointRules { native: true, classic_too: false, convert: false, exemplars: true };

#[test]
fn floats() {
    let counter =
        Counter { value: 3.0, exemplar: seen(1.0, Some(2)), created: Some(Time { seconds: 9, nanos: 1 }) };
    let counter = Metric { counter: Some(counter), timestamp_ms: 77, ..Metric::default() };
    let gauge =
        Metric { gauge: Some(Gauge { value: -0.5 }), label: pairs(&[("x.y", "\"")]), ..Metric::default() };
    let quantile = vec![Quantile { quantile: 0.5, value: 1.0 }, Quantile { quantile: 1.0, value: f64::NAN }];
    let summary = Metric { summary: Some(Summary { count: 4, sum: 2.5, quantile }), ..Metric::default() };
    let families = [family("c_total", 0, counter), family("g", 1, gauge), family("s", 2, summary)];
    assert_eq!(
        lines(&families, ALL),
        [
            "c_total 3 Some(77) 9000 [\"1@Some(2005)\"]",
            "g{\"x.y\"=\"\\\"\"} -0.5 None 0 []",
            "s_count 4 None 0 []",
            "s_sum 2.5 None 0 []",
            "s{quantile=\"0.5\"} 1 None 0 []",
            "s{quantile=\"1.0\"} NaN None 0 []",
        ]
    );
    let told = read(&body(&families), ALL).unwrap().families;
    assert_eq!(told[..2], [("c_total".to_owned(), MetricType::Counter), ("g".to_owned(), MetricType::Gauge)]);
}

#[test]
fn histograms_are_native_or_classic() {
    let families = [family("h", 4, histogram(both()))];
    let native = "h{a=\"1\"} [1 7 9.5 [1.0, 2.0, 2.0] Unknown] None 100000 [\"0.25@Some(7005)\"]";
    let classic = [
        "h_count{a=\"1\"} 7 None 100000 []",
        "h_sum{a=\"1\"} 9.5 None 100000 []",
        "h_bucket{a=\"1\",le=\"0.5\"} 3 None 100000 [\"0.25@Some(7005)\"]",
        "h_bucket{a=\"1\",le=\"1.0\"} 5 None 100000 [\"0.75@None\"]",
        "h_bucket{a=\"1\",le=\"+Inf\"} 7 None 100000 []",
    ];
    assert_eq!(lines(&families, ALL), [native]);
    assert_eq!(lines(&families, PointRules { native: false, ..ALL }), classic);
    let all = lines(&families, PointRules { classic_too: true, ..ALL });
    assert_eq!((all[0].as_str(), &all[1..]), (native, &classic.map(str::to_owned)[..]));
    let converted = PointRules { native: false, convert: true, ..ALL };
    assert_eq!(
        lines(&families, converted),
        ["h{a=\"1\"} [-53 7 9.5 [3.0, 2.0, 2.0] Unknown] None 100000 [\"0.25@Some(7005)\"]"]
    );
    assert_eq!(lines(&families, PointRules { convert: true, ..ALL }), [native], "exponential buckets win");
}

#[test]
fn kinds_of_native_histograms() {
    let float = Histogram {
        count_float: 3.5,
        positive_span: vec![Span { offset: 0, length: 2 }],
        positive_count: vec![1.5, 2.0],
        exemplars: vec![seen(1.0, None).unwrap(), seen(2.0, Some(1)).unwrap()],
        ..Histogram::default()
    };
    let gauge = [family("g", 5, histogram(float))];
    assert_eq!(lines(&gauge, ALL), ["g{a=\"1\"} [0 3.5 0 [1.5, 2.0] Gauge] None 0 [\"2@Some(1005)\"]"]);
    let empty = Histogram { positive_span: vec![Span::default()], ..Histogram::default() };
    assert_eq!(lines(&[family("e", 4, histogram(empty))], ALL), ["e{a=\"1\"} [0 0 0 [] Unknown] None 0 []"]);
    let nothing = [family("n", 4, histogram(Histogram::default()))];
    assert_eq!(lines(&nothing, ALL).len(), 3, "nothing says that it is native");
}

#[test]
fn conversion_is_that_of_prometheus() {
    let convert = PointRules { native: false, convert: true, ..ALL };
    let bucket = |bound: f64, count: u64| Bucket { bound, count, ..Bucket::default() };
    let classic = |count: u64, sum: f64, bucket: Vec<Bucket>| {
        family("h", 4, histogram(Histogram { count, sum, bucket, ..Histogram::default() }))
    };
    // Without buckets all observations are in the bucket of `+Inf`.
    assert_eq!(
        lines(&[classic(10, 3.5, vec![])], convert),
        ["h{a=\"1\"} [-53 10 3.5 [10.0] Unknown] None 0 []"]
    );
    // The classic series come before the converted histogram; buckets after the highest one are
    // ignored.
    let buckets = vec![bucket(1.0, 2), bucket(f64::INFINITY, 3), bucket(f64::INFINITY, 9)];
    let both = lines(&[classic(3, 0.5, buckets)], PointRules { classic_too: true, ..convert });
    let names: Vec<&str> = both.iter().map(|line| line.split(' ').next().unwrap()).collect();
    let expected = [
        "h_count{a=\"1\"}",
        "h_sum{a=\"1\"}",
        "h_bucket{a=\"1\",le=\"1.0\"}",
        "h_bucket{a=\"1\",le=\"+Inf\"}",
        "h{a=\"1\"}",
    ];
    assert_eq!(names, expected);
    let error = |family: MetricFamily| read(&body(&[family]), convert).map(drop).unwrap_err().to_string();
    let inf = f64::INFINITY;
    assert_eq!(
        error(classic(9, 0.0, vec![bucket(1.0, 8), bucket(2.0, 4)])),
        "count is not cumulative: 4 < 8"
    );
    assert_eq!(error(classic(10, 0.0, vec![bucket(inf, 9)])), "count mismatch: count=10 != le=+Inf count=9");
    assert_eq!(error(classic(1, 0.0, vec![bucket(f64::NAN, 1)])), "bucket boundary must not be NaN");
    // The number of native buckets is checked before anything else.
    let native = Histogram { positive_span: vec![Span { offset: 0, length: 2 }], ..Histogram::default() };
    let error = read(&body(&[family("n", 4, histogram(native))]), ALL).map(drop).unwrap_err().to_string();
    assert_eq!(error, "histogram \"n\": positive side: spans require 2 buckets, have 0");
}

#[test]
fn what_breaks_the_rules_of_protobuf_is_damage() {
    let gauge =
        |name: &str| family(name, 1, Metric { gauge: Some(Gauge { value: 1.0 }), ..Metric::default() });
    let good = body(&[gauge("a")]);
    let behind = |more: &[u8]| {
        let message = [&good[1..], more].concat();
        [&[message.len() as u8][..], &message].concat()
    };
    assert_eq!(read(&[&[0][..], &good].concat(), ALL).unwrap().lines, ["a 1 None 0 []"], "an empty message");
    assert!(read(&behind(&[0x02, 0x00]), ALL).map(drop).unwrap_err().to_string().contains("illegal tag 0"));
    assert!(read(&behind(&[0x08, 0x01]), ALL).map(drop).unwrap_err().to_string().contains("wrong wire type"));
    // A unit may be any bytes, a help text must be UTF-8. Without metrics an invalid name is
    // ignored.
    assert_eq!(read(&behind(&[0x2a, 0x01, 0xff]), ALL).unwrap().lines, ["a 1 None 0 []"]);
    assert!(read(&behind(&[0x12, 0x01, 0xff]), ALL).is_err());
    assert!(read(&[3, 0x0a, 0x01, 0xff], ALL).unwrap().lines.is_empty());
    let unit = MetricFamily { unit: "seconds".to_owned(), ..gauge("a_seconds") };
    assert_eq!(read(&body(&[unit]), ALL).unwrap().units, ["seconds"]);
}

#[test]
fn bad_bodies() {
    let error = |bytes: &[u8]| read(bytes, ALL).map(drop).unwrap_err().to_string();
    assert!(error(&[5, 1]).starts_with("damaged protobuf"));
    assert_eq!(error(&body(&[family("x", 9, Metric::default())])), "unknown metric type for metric \"x\": 9");
    assert_eq!(error(&body(&[family("", 1, Metric::default())])), "invalid metric name: ");
    let mut bytes = body(&[family("x", 1, Metric::default())]);
    bytes[3] = 0xff;
    assert!(error(&bytes).starts_with("invalid UTF-8 in metric name"));
}

#[test]
fn a_large_family_is_read_metric_by_metric() {
    let gauge = |i: usize| Metric {
        gauge: Some(Gauge { value: i as f64 }),
        label: pairs(&[("i", &i.to_string())]),
        ..Metric::default()
    };
    let count = 40_000;
    let large = MetricFamily { metric: (0..count).map(gauge).collect(), ..family("g", 1, gauge(0)) };
    let small = family("small", 1, gauge(7));
    let body = body(&[small.clone(), large, small]);
    assert!(body.len() as u64 > 2 * SCRAPE_FAMILY_BYTES, "{}", body.len());
    let whole = read(&body, ALL).unwrap().lines;
    assert_eq!(whole.len(), count + 2);
    assert_eq!(read_in_pieces(&body, ALL, 10_007).unwrap().lines, whole);
    for cut in [body.len() - 1, body.len() / 2, body.len() - 30] {
        assert!(read_in_pieces(&body[..cut], ALL, 10_007).is_err(), "{cut}");
    }
}

#[test]
fn too_many_labels_are_refused_at_the_first_beyond() {
    let many: Vec<Pair> = (0..85_000).map(|i| Pair { name: format!("l{i}"), value: "v".into() }).collect();
    let gauge = Metric { gauge: Some(Gauge { value: 1.0 }), label: many, ..Metric::default() };
    let error = read(&body(&[family("m", 1, gauge)]), ALL).map(drop).unwrap_err().to_string();
    let limit = SERIES_LABELS;
    let expected =
        format!("label_limit exceeded (metric: m, number of labels: more than {limit}, limit: {limit})");
    assert_eq!(error, expected);
}

proptest! {
    #[test]
    fn damage_never_panics(cut in any::<prop::sample::Index>(), flip in any::<u8>()) {
        let mut bytes = body(&[family("h", 4, histogram(both()))]);
        let at = cut.index(bytes.len());
        bytes[at] ^= flip;
        let _ = read(&bytes, PointRules { convert: true, classic_too: true, ..ALL });
        let _ = read(&bytes[..at], ALL);
    }
}
