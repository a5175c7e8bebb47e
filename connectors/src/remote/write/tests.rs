//! Requests encoded by `prost` (an encoder we did not write), read back from the store.

use super::*;
use proptest::prelude::*;
use prost::Message;
use storage::metrics::Metrics;
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
    #[prost(message, repeated, tag = "4")]
    histograms: Vec<Label>,
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
        histograms: Vec::new(),
    }
}

fn packed(timeseries: Vec<TimeSeries>) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(&WriteRequest { timeseries }.encode_to_vec()).unwrap()
}

fn writer() -> (RemoteWriter, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let options = storage::store::Options {
        dir: dir.path().into(),
        wal_sync_interval_ms: 100,
        block_range_ms: 7_200_000,
        out_of_order_ms: 1_800_000,
    };
    let (store, _) = Store::open(options, Arc::new(storage::disk::OsDisk), &Metrics::default()).unwrap();
    (RemoteWriter::new(store), dir)
}

fn stored(writer: &RemoteWriter, name: &str) -> Vec<(String, Vec<i64>, Vec<f64>)> {
    let mut all = Vec::new();
    for shard in 0..SHARDS {
        let selection = writer.store.select(shard, &[Matcher::equal("__name__", name)], 0, i64::MAX).unwrap();
        for (i, labels) in selection.labels.iter().enumerate() {
            let (mut ts, mut vs) = (Vec::new(), Vec::new());
            selection.read(i, 0, i64::MAX, &mut ts, &mut vs).unwrap();
            all.push((labels.to_string(), ts.iter().map(|t| t - NOW).collect(), vs));
        }
    }
    all
}

#[test]
fn samples_arrive() {
    let (writer, _dir) = writer();
    for (t, v) in [(0, 1.0), (1000, 2.0)] {
        let body = packed(vec![
            series(&[("__name__", "a"), ("job", "j"), ("empty", "")], &[(t, v), (t + 500, v + 0.5)]),
            series(&[("__name__", "b")], &[(t, STALE)]),
        ]);
        let written = writer.apply(&body, NOW).unwrap();
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
    histogram.histograms.push(Label::default());
    let body = packed(vec![
        series(&[("job", "nameless")], &[(0, 1.0)]),
        series(&[("__name__", "twice"), ("x", "1"), ("x", "2")], &[(0, 1.0)]),
        series(&[("__name__", "later")], &[(limits::FUTURE_MS + 1, 1.0)]),
        series(&[("__name__", "good")], &[(0, ABSENT)]),
        histogram,
    ]);
    let written = writer.apply(&body, NOW).unwrap();
    assert_eq!((written.samples, written.invalid, written.future, written.histograms), (1, 2, 1, 1));
    assert!(written.refusal().unwrap().starts_with("out of bounds (1 samples); invalid labels (2 samples)"));
    assert!(stored(&writer, "good")[0].2[0].is_nan(), "the reserved pattern came in as an ordinary NaN");
}

#[test]
fn bad_requests() {
    let (writer, _dir) = writer();
    let status = |body: &[u8]| writer.apply(body, NOW).unwrap_err().status();
    assert_eq!(status(b"no snappy"), 400);
    assert_eq!(status(&snap::raw::Encoder::new().compress_vec(&[0x0a, 0x7f, 0x01]).unwrap()), 400);
    let bomb = snap::raw::Encoder::new().compress_vec(&vec![0; limits::REMOTE_WRITE_BYTES + 1]).unwrap();
    assert!(writer.apply(&bomb, NOW).unwrap_err().to_string().contains("exceeds the limit"));
    assert!(check_headers(Some("application/x-protobuf"), Some("snappy")).is_ok());
    assert!(check_headers(Some("application/x-protobuf;proto=prometheus.WriteRequest"), None).is_ok());
    for (content_type, encoding) in [
        (Some("application/json"), Some("snappy")),
        (Some("application/x-protobuf;proto=io.prometheus.write.v2.Request"), Some("snappy")),
        (Some("application/x-protobuf"), Some("gzip")),
    ] {
        assert_eq!(check_headers(content_type, encoding).unwrap_err().status(), 415);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn damaged_requests_never_panic(cut in any::<prop::sample::Index>(), flip in any::<u8>()) {
        let (writer, _dir) = writer();
        let mut message = WriteRequest { timeseries: vec![series(&[("__name__", "a"), ("b", "c")], &[(0, 1.0)])] }.encode_to_vec();
        let at = cut.index(message.len());
        message[at] ^= flip;
        let _ = writer.apply(&snap::raw::Encoder::new().compress_vec(&message).unwrap(), NOW);
        message.truncate(at);
        let _ = writer.apply(&snap::raw::Encoder::new().compress_vec(&message).unwrap(), NOW);
    }
}
