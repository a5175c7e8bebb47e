//! Tests of the receiver: requests encoded by `prost` (an independent encoder), read back from the
//! store.

use super::super::test_store;
use super::*;
use proptest::prelude::*;
use prost::Message;
use storage::model::value::{ABSENT, STALE, is_stale};
use storage::model::{Matcher, SHARDS};

#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    exemplars: Vec<Exemplar>,
    #[prost(message, repeated, tag = "4")]
    histograms: Vec<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct Exemplar {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(int64, tag = "3")]
    timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

/// The histogram of both versions.
#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    count_int: Option<u64>,
    #[prost(double, optional, tag = "2")]
    count_float: Option<f64>,
    #[prost(double, tag = "3")]
    sum: f64,
    #[prost(sint32, tag = "4")]
    schema: i32,
    #[prost(double, tag = "5")]
    zero_threshold: f64,
    #[prost(uint64, optional, tag = "6")]
    zero_count_int: Option<u64>,
    #[prost(message, repeated, tag = "8")]
    negative_spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "9")]
    negative_deltas: Vec<i64>,
    #[prost(message, repeated, tag = "11")]
    positive_spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "12")]
    positive_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "13")]
    positive_counts: Vec<f64>,
    #[prost(int32, tag = "14")]
    reset_hint: i32,
    #[prost(int64, tag = "15")]
    timestamp: i64,
    #[prost(double, repeated, tag = "16")]
    custom_values: Vec<f64>,
    #[prost(int64, tag = "17")]
    start_timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

const NOW: TimeMs = 1_700_000_000_000;

fn series(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> TimeSeries {
    let label = |(name, value): &(&str, &str)| Label { name: (*name).into(), value: (*value).into() };
    let sample = |(timestamp, value): &(i64, f64)| Sample { timestamp: NOW + timestamp, value: *value };
    TimeSeries {
        labels: labels.iter().map(label).collect(),
        samples: samples.iter().map(sample).collect(),
        exemplars: Vec::new(),
        histograms: Vec::new(),
    }
}

fn packed(timeseries: Vec<TimeSeries>) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(&WriteRequest { timeseries }.encode_to_vec()).unwrap()
}

fn writer() -> (RemoteWriteReceiver, tempfile::TempDir) {
    let (store, dir) = test_store::open();
    (RemoteWriteReceiver::new(store), dir)
}

fn stored(writer: &RemoteWriteReceiver, name: &str) -> Vec<(String, Vec<i64>, Vec<f64>)> {
    let rows = test_store::stored(&writer.store, name).into_iter();
    rows.map(|row| (row.labels, row.ts.iter().map(|t| t - NOW).collect(), row.vs)).collect()
}

#[test]
fn samples_arrive() {
    let (writer, _dir) = writer();
    for (t, v) in [(0, 1.0), (1000, 2.0)] {
        let body = packed(vec![
            series(&[("__name__", "a"), ("job", "j"), ("empty", "")], &[(t, v), (t + 500, v + 0.5)]),
            series(&[("__name__", "b")], &[(t, STALE)]),
        ]);
        let written = writer.apply(&body, MessageVersion::V1, NOW).unwrap();
        assert_eq!((written.samples, written.refusal()), (3, None));
    }
    assert_eq!(
        stored(&writer, "a"),
        [("a{job=\"j\"}".to_owned(), vec![0, 500, 1000, 1500], vec![1.0, 1.5, 2.0, 2.5])]
    );
    assert!(stored(&writer, "b")[0].2.iter().all(|v| is_stale(*v)));
}

#[test]
fn what_cannot_be_stored_is_counted_and_keeps_nothing_out() {
    let (writer, _dir) = writer();
    let mut histogram = series(&[("__name__", "h")], &[]);
    histogram.histograms.push(Histogram { count_int: Some(1), ..Histogram::default() });
    let body = packed(vec![
        series(&[("job", "nameless")], &[(0, 1.0)]),
        series(&[("__name__", "twice"), ("x", "1"), ("x", "2")], &[(0, 1.0)]),
        series(&[("__name__", "later")], &[(limits::FUTURE_MS + 1, 1.0)]),
        series(&[("__name__", "good")], &[(0, ABSENT)]),
        histogram,
    ]);
    let written = writer.apply(&body, MessageVersion::V1, NOW).unwrap();
    assert_eq!((written.samples, written.left_out, written.future, written.histograms), (1, 2, 1, 0));
    assert_eq!(written.invalid, 0, "1.0 leaves out series that cannot be, and says nothing");
    let (bad, why) = written.bad_histograms.clone().unwrap();
    assert!(bad == 1 && why.starts_with("0 observations found in buckets"), "{why}");
    let refusal = written.refusal().unwrap();
    let lines: Vec<&str> = refusal.lines().collect();
    let line = "out of bounds: timestamp is too far in the future for series {__name__=\"later\"}: timestamp 17000006000";
    assert!(lines[0].starts_with(line), "{refusal}");
    let line = "0 observations found in buckets, but the Count field is 1: ";
    assert!(lines.len() == 2 && lines[1].starts_with(line), "{refusal}");
    assert!(lines[1].ends_with(" for series {__name__=\"h\"}"), "{refusal}");
    assert!(stored(&writer, "good")[0].2[0].is_nan(), "the reserved pattern came in as an ordinary NaN");
}

/// Times sent by senders with wrong clocks or confused units.
#[test]
fn times_out_of_bounds_are_refused_by_name_and_keep_nothing_out() {
    let (writer, _dir) = writer();
    let good = |t| series(&[("__name__", "good")], &[(t, 1.0)]);
    assert_eq!(writer.apply(&packed(vec![good(0)]), MessageVersion::V1, NOW).unwrap().refusal(), None);
    let old = [i64::MIN, i64::MIN + NOW, -1, 0, NOW / 1000, NOW - 7_200_000, NOW - 3_600_001];
    let far = [i64::MAX, i64::MAX - NOW, NOW * 1000, NOW + limits::FUTURE_MS + 1];
    for (i, t) in (1..).zip(old.into_iter().chain(far)) {
        let name = format!("n{i}");
        let bad = || TimeSeries {
            samples: vec![Sample { value: 1.0, timestamp: t }],
            ..series(&[("__name__", &name), ("a", "b")], &[])
        };
        for new in [true, false] {
            let written = writer.apply(&packed(vec![bad(), good(i)]), MessageVersion::V1, NOW).unwrap();
            assert_eq!(written.samples, usize::from(new), "{t}: the good one comes once");
            let refusal = written.refusal().unwrap();
            let what =
                if t < NOW { "too old sample" } else { "out of bounds: timestamp is too far in the future" };
            let line = format!("{what} for series {{__name__=\"{name}\", a=\"b\"}}: timestamp {t}");
            assert!(refusal.starts_with(&line), "{refusal}");
            assert!(refusal.contains("out of bounds") && refusal.lines().count() == 1, "{refusal}");
        }
        assert!(stored(&writer, &name).is_empty(), "{t}");
    }
    let seconds = series(&[("__name__", "d")], &[(NOW / 1000 - NOW, 1.0)]);
    let refusal = writer.apply(&packed(vec![seconds]), MessageVersion::V1, NOW).unwrap().refusal().unwrap();
    let dates = "timestamp 1700000000 (1970-01-20T16:13:20.000Z) is out of bounds, the oldest that is taken is \
                 1699996400011 (2023-11-14T21:13:20.011Z)";
    assert!(refusal.contains(dates), "{refusal}");
}

#[test]
fn a_request_with_thousands_of_old_samples_has_a_short_answer() {
    let (writer, _dir) = writer();
    let two_hours_apart = (0..3_000).map(|i| (format!("n{i}"), i * -7_200_000));
    let all = two_hours_apart.map(|(name, t)| series(&[("__name__", &name)], &[(t, 1.0)])).collect();
    let body = packed(all);
    assert!(body.len() < 60_000, "{}", body.len());
    let written = writer.apply(&body, MessageVersion::V1, NOW).unwrap();
    assert_eq!((written.samples, written.too_old), (1, 2_999));
    let refusal = written.refusal().unwrap();
    assert_eq!(refusal.lines().count(), limits::REFUSALS_NAMED + 1);
    assert!(refusal.ends_with("2999 samples refused: too old sample (2999 samples)"), "{refusal}");
}

#[test]
fn a_histogram_that_is_too_large_keeps_nothing_out() {
    let (writer, _dir) = writer();
    let many = storage::limits::HISTOGRAM_BUCKETS + 1;
    let buckets: Vec<i64> = (0..many).map(|i| i64::from(i == 0)).collect();
    let mut spans = whole(2, &[1]);
    spans.positive_spans.extend(vec![Span::default(); many]);
    let mut all = series(&[("__name__", "h")], &[(0, 1.0)]);
    all.histograms = vec![whole(1, &buckets), spans, whole(3, &[1])];
    let written = writer.apply(&packed(vec![all]), MessageVersion::V1, NOW).unwrap();
    assert_eq!((written.samples, written.histograms), (1, 1));
    let line = "histogram bucket limit exceeded for series {__name__=\"h\"}";
    assert_eq!(written.refusal().unwrap(), [line, line].join("\n"));
    assert_eq!(lanes(&writer, "h").0, [(3, "3 3 1.5 [1.0] [1.0] [] Unknown".to_owned())]);
}

/// As large as four batches: damage at its end must leave nothing stored.
#[test]
fn a_request_of_many_batches_is_stored_whole_or_not_at_all() {
    let (writer, _dir) = writer();
    let samples: Vec<(i64, f64)> = (0..100_000).map(|i| (i - 100_000, i as f64)).collect();
    let mut all = series(&[("__name__", "a")], &samples);
    all.exemplars = vec![Exemplar { labels: Vec::new(), value: 1.0, timestamp: NOW }];
    let first = all.encode_to_vec();
    let whole =
        WriteRequest { timeseries: vec![all, series(&[("__name__", "b")], &[(0, 1.0)])] }.encode_to_vec();
    let send = |message: &[u8]| {
        writer.apply(&snap::raw::Encoder::new().compress_vec(message).unwrap(), MessageVersion::V1, NOW)
    };
    assert_eq!(send(&whole[..whole.len() - 1]).unwrap_err().status(), 400);
    let late_label = [0x0a, 0x04, 0x12, 0x00, 0x0a, 0x00];
    assert_eq!(send(&[&whole[..], &late_label].concat()).unwrap_err().status(), 400);
    assert_eq!(stored(&writer, "a"), []);
    let written = send(&whole).unwrap();
    assert_eq!((written.samples, written.refusal()), (100_001, None));
    let kept = &stored(&writer, "a")[0];
    assert!(first.len() > 1 << 20 && kept.2.len() == 100_000 && kept.1[0] == -100_000);
}

#[test]
fn a_request_has_as_many_items_as_say_something() {
    let (writer, _dir) = writer();
    let name = Label { name: "__name__".to_owned(), value: "a".to_owned() }.encode_to_vec();
    let send = |item: u8, n: usize| {
        let mut series = [&[0x0a, name.len() as u8][..], &name].concat();
        series.extend([item, 0].repeat(n));
        let mut message = vec![0x0a];
        prost::encoding::encode_varint(series.len() as u64, &mut message);
        message.extend(series);
        writer.apply(&snap::raw::Encoder::new().compress_vec(&message).unwrap(), MessageVersion::V1, NOW)
    };
    let error = send(0x12, limits::REMOTE_WRITE_ITEMS + 1).unwrap_err();
    assert_eq!(error.status(), 413);
    assert!(error.to_string().starts_with("the request has more than 2000000 samples"), "{error}");
}

#[test]
fn bad_requests() {
    let (writer, _dir) = writer();
    let status = |body: &[u8]| writer.apply(body, MessageVersion::V1, NOW).unwrap_err().status();
    assert_eq!(status(b"no snappy"), 400);
    assert_eq!(status(&snap::raw::Encoder::new().compress_vec(&[0x0a, 0x7f, 0x01]).unwrap()), 400);
    let bomb = snap::raw::Encoder::new().compress_vec(&vec![0; limits::REMOTE_WRITE_BYTES + 1]).unwrap();
    assert!(
        writer.apply(&bomb, MessageVersion::V1, NOW).unwrap_err().to_string().contains("exceeds the limit")
    );
    assert!(check_headers(Some("application/x-protobuf"), Some("snappy")).is_ok());
    assert!(check_headers(Some("application/x-protobuf;proto=prometheus.WriteRequest"), None).is_ok());
    let second =
        check_headers(Some("application/x-protobuf;proto=io.prometheus.write.v2.Request"), Some("snappy"));
    assert_eq!(second.unwrap(), MessageVersion::V2);
    for (content_type, encoding) in [
        (Some("application/json"), Some("snappy")),
        (Some("application/x-protobuf;proto=io.prometheus.write.v9.Request"), Some("snappy")),
        (Some("application/x-protobuf"), Some("gzip")),
    ] {
        assert_eq!(check_headers(content_type, encoding).unwrap_err().status(), 415);
    }
}

/// Histograms of a series with their times, start timestamps, and exemplars.
type Lanes = (Vec<(i64, String)>, Vec<(i64, i64)>, Vec<(i64, f64)>);

fn lanes(writer: &RemoteWriteReceiver, name: &str) -> Lanes {
    let matcher = [Matcher::equal("__name__", name)];
    let mut histograms = Vec::new();
    let mut starts = Vec::new();
    for shard in 0..SHARDS {
        let selection = writer.store.select(shard, &matcher, 0, i64::MAX).unwrap();
        for i in 0..selection.labels.len() {
            selection.read_histograms(i, 0, i64::MAX, &mut histograms).unwrap();
            selection.read_starts(i, 0, i64::MAX, &mut starts).unwrap();
        }
    }
    let show = |h: &storage::model::NativeHistogram| {
        let positive = &h.positive.counts;
        let negative = &h.negative.counts;
        format!("{} {} {} {positive:?} {negative:?} {:?} {:?}", h.schema, h.count, h.sum, h.bounds, h.hint)
    };
    let found = writer.store.select_exemplars(&[matcher.to_vec()], 0, i64::MAX);
    let exemplars = found.iter().flat_map(|s| &s.exemplars).map(|e| (e.t - NOW, e.v)).collect();
    let histograms = histograms.iter().map(|(t, h)| (t - NOW, show(h))).collect();
    (histograms, starts.iter().map(|(t, s)| (t - NOW, s - NOW)).collect(), exemplars)
}

fn whole(t: i64, deltas: &[i64]) -> Histogram {
    let positive_spans = vec![Span { offset: 1, length: deltas.len() as u32 }];
    let mut at = 0;
    let mut count = 2;
    for delta in deltas {
        at += delta;
        count += at as u64;
    }
    Histogram {
        count_int: Some(count),
        sum: 1.5,
        schema: 3,
        zero_threshold: 0.1,
        zero_count_int: Some(1),
        negative_spans: vec![Span { offset: -5, length: 1 }],
        negative_deltas: vec![1],
        positive_spans,
        positive_deltas: deltas.to_vec(),
        timestamp: NOW + t,
        ..Histogram::default()
    }
}

#[test]
fn histograms_and_exemplars_arrive() {
    let (writer, _dir) = writer();
    writer.store.exemplars().set_limit(9);
    let mut all = series(&[("__name__", "h")], &[]);
    let custom = Histogram {
        count_float: Some(4.5),
        sum: 2.0,
        schema: -53,
        positive_spans: vec![Span { offset: 0, length: 2 }],
        positive_counts: vec![1.5, 3.0],
        custom_values: vec![0.25],
        reset_hint: 3,
        timestamp: NOW + 3,
        ..Histogram::default()
    };
    let stale = Histogram { sum: STALE, timestamp: NOW + 4, ..Histogram::default() };
    all.histograms = vec![whole(1, &[3, -1]), whole(2, &[3, 1]), custom, stale];
    all.exemplars.push(Exemplar { labels: vec![Label::default()], value: 1.0, timestamp: NOW });
    let labels = vec![Label { name: "id".into(), value: "x".into() }];
    all.exemplars.push(Exemplar { labels, value: 7.0, timestamp: NOW + 1 });
    let written = writer.apply(&packed(vec![all]), MessageVersion::V1, NOW).unwrap();
    let counts = (written.histograms, written.samples, written.exemplars, written.left_out);
    assert_eq!(counts, (4, 0, 1, 1), "an empty label name is no label; the end of a histogram is one");
    let (histograms, starts, exemplars) = lanes(&writer, "h");
    let line = |t, text: &str| (t, text.to_owned());
    assert_eq!(
        histograms,
        [
            line(1, "3 7 1.5 [3.0, 2.0] [1.0] [] Unknown"),
            line(2, "3 9 1.5 [3.0, 4.0] [1.0] [] NotReset"),
            line(3, "-53 4.5 2 [1.5, 3.0] [] [0.25] Gauge"),
        ]
    );
    assert_eq!((starts, exemplars), (vec![], vec![(1, 7.0)]));
    assert!(is_stale(stored(&writer, "h")[0].2[0]), "the end of a histogram is a float");
}

#[derive(Clone, PartialEq, Message)]
struct Request2 {
    #[prost(string, repeated, tag = "4")]
    symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    timeseries: Vec<TimeSeries2>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries2 {
    #[prost(uint32, repeated, tag = "1")]
    labels_refs: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample2>,
    #[prost(message, repeated, tag = "3")]
    histograms: Vec<Histogram>,
    #[prost(message, repeated, tag = "4")]
    exemplars: Vec<Exemplar2>,
    #[prost(int64, tag = "6")]
    created: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample2 {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
    #[prost(int64, tag = "3")]
    start_timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Exemplar2 {
    #[prost(uint32, repeated, tag = "1")]
    labels_refs: Vec<u32>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(int64, tag = "3")]
    timestamp: i64,
}

#[test]
fn version_2_has_a_table_of_texts_and_start_timestamps() {
    let (writer, _dir) = writer();
    writer.store.exemplars().set_limit(9);
    let sample = |t, start| Sample2 {
        value: 2.5,
        timestamp: NOW + t,
        start_timestamp: if start == 0 { 0 } else { NOW + start },
    };
    let with = |labels_refs: &[u32], samples: Vec<Sample2>| TimeSeries2 {
        labels_refs: labels_refs.to_vec(),
        samples,
        ..TimeSeries2::default()
    };
    let mut a = with(&[1, 2, 3, 4], vec![sample(0, -9), sample(1, 0)]);
    a.histograms = vec![Histogram { start_timestamp: NOW - 8, ..whole(2, &[1]) }];
    a.exemplars = vec![Exemplar2 { labels_refs: vec![3, 5], value: 3.0, timestamp: NOW }];
    let created = TimeSeries2 { created: NOW - 5, ..with(&[1, 5], vec![sample(0, 0)]) };
    let mut orphan = with(&[1, 3], vec![]);
    orphan.exemplars = a.exemplars.clone();
    let bad = [&[1, 99][..], &[1], &[3, 4], &[1, 2, 1, 2]].map(|refs| with(refs, vec![sample(0, 0)]));
    let symbols = ["", "__name__", "a", "job", "j", "b"].map(str::to_owned).to_vec();
    let send = |symbols: Vec<String>, timeseries: Vec<TimeSeries2>| {
        let message = Request2 { symbols, timeseries }.encode_to_vec();
        writer.apply(&snap::raw::Encoder::new().compress_vec(&message).unwrap(), MessageVersion::V2, NOW)
    };
    let mut miscounted = with(&[1, 2], vec![]);
    miscounted.histograms = vec![Histogram { count_int: Some(99), ..whole(3, &[23]) }];
    let nameless = with(&[3, 99], vec![]);
    let all = [a, created].into_iter().chain(bad).chain([orphan, miscounted, nameless]).collect();
    let written = send(symbols, all).unwrap();
    assert_eq!((written.samples, written.histograms, written.exemplars, written.invalid), (3, 1, 1, 4));
    assert_eq!((written.empty, stored(&writer, "job").len()), (2, 0));
    let refusal = written.refusal().unwrap();
    let lines: Vec<&str> = refusal.lines().collect();
    let first = [
        "parsing labels for series [1 99]: labelRefs 1 (name) = 99 (value) outside of symbols table (size 6)",
        "parsing labels for series [1]: invalid labelRefs length 1",
        "invalid metric name or labels, got {job=\"j\"}",
        "invalid labels for series, labels {__name__=\"a\", __name__=\"a\"}, duplicated label __name__",
        "TimeSeries must contain at least one sample or histogram for series {__name__=\"job\"}",
    ];
    assert_eq!(lines[..5], first);
    assert!(
        lines[5].starts_with("25 observations found in buckets, but the Count field is 99"),
        "{}",
        lines[5]
    );
    assert!(lines[5].ends_with(" for series {__name__=\"a\"}"), "{}", lines[5]);
    assert!(lines[6].starts_with("parsing labels for series [3 99]:") && lines.len() == 7, "{refusal}");
    assert_eq!(stored(&writer, "a"), [("a{job=\"j\"}".to_owned(), vec![0, 1], vec![2.5, 2.5])]);
    let (histograms, starts, exemplars) = lanes(&writer, "a");
    assert_eq!((histograms.len(), starts, exemplars), (1, vec![(0, -9), (2, -8)], vec![(0, 3.0)]));
    assert_eq!(lanes(&writer, "b").1, [(0, -5)]);
    // Other numbers, the same texts.
    let symbols = ["", "j", "job", "a", "__name__"].map(str::to_owned).to_vec();
    send(symbols, vec![with(&[4, 3, 2, 1], vec![sample(7, 0)])]).unwrap();
    assert_eq!(stored(&writer, "a")[0].1, [0, 1, 7]);
    assert_eq!(send(vec!["x".to_owned()], Vec::new()).unwrap_err().status(), 400);
}

/// A request of version 2.0 with one series `a` and these samples, histograms and exemplars.
fn of_a(samples: Vec<Sample2>, histograms: Vec<Histogram>, exemplars: &[(i64, f64)]) -> Vec<u8> {
    let symbols = ["", "__name__", "a", "id", "x"].map(str::to_owned).to_vec();
    let exemplar =
        |(t, value): &(i64, f64)| Exemplar2 { labels_refs: vec![3, 4], value: *value, timestamp: NOW + t };
    let exemplars = exemplars.iter().map(exemplar).collect();
    let series = TimeSeries2 { labels_refs: vec![1, 2], samples, histograms, exemplars, created: 0 };
    let message = Request2 { symbols, timeseries: vec![series] }.encode_to_vec();
    snap::raw::Encoder::new().compress_vec(&message).unwrap()
}

#[test]
fn exemplars_come_late_twice_and_too_late() {
    let (writer, _dir) = writer();
    let sample = |t| vec![Sample2 { value: 1.0, timestamp: NOW + t, start_timestamp: 0 }];
    let send = |t, exemplars: &[(i64, f64)]| {
        writer.apply(&of_a(sample(t), vec![], exemplars), MessageVersion::V2, NOW).unwrap()
    };
    assert_eq!(send(0, &[(0, 1.0)]).exemplars, 1, "none are kept, which is no error");
    writer.store.exemplars().set_limit(9);
    let written = send(1, &[(0, 1.5), (-1_000, 1.5), (0, 1.5)]);
    assert_eq!((written.exemplars, written.refusal()), (3, None));
    assert_eq!(lanes(&writer, "a").2, [(-1_000, 1.5), (0, 1.5)]);
    let late = send(2, &[(0, 1.5), (-1_800_000, 1.0), (0, 1.0)]);
    let line = "out of order exemplar for series {__name__=\"a\"}";
    assert_eq!((late.samples, late.exemplars, late.refusal()), (1, 1, Some([line, line].join("\n"))));
    assert_eq!(lanes(&writer, "a").2.len(), 2);
    let known = send(3, &[(600_001, 1.0), (5, 1.0)]);
    assert_eq!(
        (known.exemplars, known.refusal(), lanes(&writer, "a").2.len()),
        (1, None, 3),
        "not one from far ahead"
    );
    // Also for a series whose only sample is in the future, or that has none.
    let ahead = series(&[("__name__", "b")], &[(600_001, 1.0)]);
    for mut unknown in [ahead, series(&[("__name__", "b")], &[])] {
        unknown.exemplars = vec![Exemplar { labels: vec![], value: 1.0, timestamp: NOW }];
        assert_eq!(writer.apply(&packed(vec![unknown]), MessageVersion::V1, NOW).unwrap().exemplars, 0);
    }
    // Remote write 1.0 reports nothing.
    let mut series = series(&[("__name__", "a")], &[(4, 1.0)]);
    let labels = vec![Label { name: "id".into(), value: "x".into() }];
    series.exemplars = vec![Exemplar { labels, value: 1.0, timestamp: NOW - 1_800_000 }];
    let written = writer.apply(&packed(vec![series]), MessageVersion::V1, NOW).unwrap();
    assert_eq!((written.exemplars, written.left_out_exemplars, written.refusal()), (0, 1, None));
}

#[test]
fn counters_that_begin_have_a_zero_where_that_is_wanted() {
    let (plain, _dir) = writer();
    let (zeros, _dir) = writer();
    let zeros = zeros.with_zeros(true);
    let sample = |t, start| Sample2 { value: 5.0, timestamp: NOW + t, start_timestamp: NOW + start };
    let counter = of_a(vec![sample(10, 3), sample(20, 3), sample(30, 25)], vec![], &[]);
    plain.apply(&counter, MessageVersion::V2, NOW).unwrap();
    assert_eq!(stored(&plain, "a")[0].1, [10, 20, 30]);
    zeros.apply(&counter, MessageVersion::V2, NOW).unwrap();
    assert_eq!(stored(&zeros, "a")[0].1[..3], [3, 10, 20]);
    assert_eq!(stored(&zeros, "a")[0].2[0], 0.0);
    let (histograms, _dir) = writer();
    let histograms = histograms.with_zeros(true);
    let begun = Histogram { start_timestamp: NOW + 1, ..whole(4, &[1]) };
    histograms.apply(&of_a(vec![], vec![begun], &[]), MessageVersion::V2, NOW).unwrap();
    let found = lanes(&histograms, "a").0;
    assert_eq!(found[0], (1, "3 0 0 [] [] [] Unknown".to_owned()));
    assert_eq!((found.len(), found[1].0), (2, 4));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn damaged_requests_never_panic(cut in any::<prop::sample::Index>(), flip in any::<u8>()) {
        let (writer, _dir) = writer();
        let mut message = WriteRequest { timeseries: vec![series(&[("__name__", "a"), ("b", "c")], &[(0, 1.0)])] }.encode_to_vec();
        let at = cut.index(message.len());
        message[at] ^= flip;
        for proto in [MessageVersion::V1, MessageVersion::V2] {
            let _ = writer.apply(&snap::raw::Encoder::new().compress_vec(&message).unwrap(), proto, NOW);
        }
        message.truncate(at);
        for proto in [MessageVersion::V1, MessageVersion::V2] {
            let _ = writer.apply(&snap::raw::Encoder::new().compress_vec(&message).unwrap(), proto, NOW);
        }
    }
}

/// What is wrong with the request is not sent again; what passes is, after a while.
#[test]
fn a_store_error_has_the_status_of_its_kind() {
    let path = std::path::PathBuf::from("/data/wal");
    let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
    for (error, status, is_retryable) in [
        (StoreError::Invalid("malformed batch: no group 7".to_owned()), 400, false),
        (StoreError::Unavailable("the disk does not keep up".to_owned()), 503, true),
        (StoreError::Closed("the store is closed"), 503, true),
        (StoreError::Damaged { path: path.clone(), reason: "checksum".to_owned() }, 500, false),
        (StoreError::Io { path, source: full }, 500, false),
    ] {
        let text = error.to_string();
        let error = RemoteWriteError::from(error);
        assert_eq!((error.status(), error.is_retryable()), (status, is_retryable), "{text}");
        assert_eq!(error.to_string(), text);
    }
}
