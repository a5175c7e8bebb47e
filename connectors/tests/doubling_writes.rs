//! Tests that the cost of remote write requests is linear: twice the series, samples, labels or
//! histograms take about twice the CPU time.

mod bench;

use bench::protobuf::{double, label, number, signed, submessage, varint};
use connectors::remote::{MessageVersion, RemoteWriteReceiver, WriteOutcome};
use std::sync::Arc;
use storage::metrics::Metrics;
use storage::store::{Store, StoreOptions};
use testing::assert_proportional_anew;

const NOW: u64 = 1_700_000_000_000;

/// A receiver with its own store, and a request.
struct ReceiverStore {
    writer: RemoteWriteReceiver,
    body: Vec<u8>,
    _dir: tempfile::TempDir,
}

impl ReceiverStore {
    fn new(message: &[u8]) -> ReceiverStore {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            dir: dir.path().into(),
            wal_sync_interval_ms: 100,
            block_range_ms: 7_200_000,
            out_of_order_ms: 1_800_000,
        };
        let (store, _) = Store::open(options, Arc::new(storage::disk::OsDisk), &Metrics::default()).unwrap();
        store.exemplars().set_limit(100_000);
        let body = snap::raw::Encoder::new().compress_vec(message).unwrap();
        ReceiverStore { writer: RemoteWriteReceiver::new(store), body, _dir: dir }
    }

    fn take(&self, proto: MessageVersion) -> WriteOutcome {
        let written = self.writer.apply(&self.body, proto, NOW as i64).unwrap();
        assert_eq!(written.refusal(), None);
        written
    }
}

/// Makes a request of a given size, in protobuf.
type Message = fn(usize) -> Vec<u8>;

fn many(n: usize, item: impl Fn(usize) -> Vec<u8>) -> Vec<u8> {
    (0..n).flat_map(item).collect()
}

/// A sample of either version.
fn sample(i: u64) -> Vec<u8> {
    submessage(2, &[double(1, i as f64), number(2, NOW - i)].concat())
}

/// A 1.0 request with one series, which has these fields in addition to its name.
fn one(fields: &[u8]) -> Vec<u8> {
    submessage(1, &[label("__name__", "m"), fields.to_vec()].concat())
}

/// A histogram of either version: this many buckets in one span, with custom bounds or without.
fn histogram(buckets: usize, custom: bool) -> Vec<u8> {
    let span = submessage(11, &[signed(1, 0), number(2, buckets as u64)].concat());
    let deltas = many(buckets, |i| signed(12, i64::from(i == 0)));
    let bounds = if custom { many(buckets, |i| double(16, i as f64)) } else { Vec::new() };
    let schema = signed(4, if custom { -53 } else { 0 });
    let rest = [number(1, buckets as u64), schema, number(15, NOW)].concat();
    [rest, span, deltas, bounds].concat()
}

#[test]
fn requests_of_version_1() {
    let cases: [(&str, usize, Message); 8] = [
        ("series", 1_000, |n| {
            many(n, |i| {
                submessage(1, &[label("__name__", "m"), label("n", &i.to_string()), sample(0)].concat())
            })
        }),
        ("labels", 2_000, |n| one(&[many(n, |i| label(&format!("l{i}"), "v")), sample(0)].concat())),
        ("samples", 5_000, |n| one(&many(n, |i| sample((n - i) as u64)))),
        ("samples from the newest on", 5_000, |n| one(&many(n, |i| sample(i as u64)))),
        ("samples in any order", 5_000, |n| one(&many(n, |i| sample((i * 7_919 % n) as u64)))),
        ("exemplars", 2_000, |n| {
            let exemplar = |i: usize| {
                submessage(3, &[label("id", &i.to_string()), number(3, NOW - (n - i) as u64)].concat())
            };
            one(&[sample(0), many(n, exemplar)].concat())
        }),
        ("buckets", 5_000, |n| one(&submessage(4, &histogram(n, false)))),
        ("bounds", 5_000, |n| one(&submessage(4, &histogram(n, true)))),
    ];
    for (what, n, message) in cases {
        assert_proportional_anew(
            what,
            n,
            |n| ReceiverStore::new(&message(n)),
            |sent| sent.take(MessageVersion::V1),
        );
    }
}

/// A 2.0 request: its symbols, the empty one first, and its series.
fn request(symbols: impl Iterator<Item = String>, series: Vec<u8>) -> Vec<u8> {
    let first = ["", "__name__", "m"].map(str::to_owned).into_iter();
    let symbols = first.chain(symbols).flat_map(|symbol| submessage(4, symbol.as_bytes()));
    symbols.chain(series).collect()
}

fn refs(numbers: impl Iterator<Item = usize>) -> Vec<u8> {
    submessage(1, &numbers.flat_map(|n| varint(n as u64)).collect::<Vec<u8>>())
}

#[test]
fn requests_of_version_2() {
    let cases: [(&str, usize, Message); 4] = [
        ("series", 1_000, |n| {
            let one = |i: usize| submessage(5, &[refs([1, 3 + i].into_iter()), sample(0)].concat());
            request((0..n).map(|i| format!("m{i}")), many(n, one))
        }),
        ("labels", 1_500, |n| {
            let numbers = [1, 2].into_iter().chain((0..n).flat_map(|i| [3 + i, 2]));
            let series = submessage(5, &[refs(numbers), sample(0)].concat());
            request((0..n).map(|i| format!("l{i}")), series)
        }),
        ("symbols", 20_000, |n| {
            let series = submessage(5, &[refs([1, 2].into_iter()), sample(0)].concat());
            request((0..n).map(|i| format!("s{i}")), series)
        }),
        ("buckets", 5_000, |n| {
            let series =
                submessage(5, &[refs([1, 2].into_iter()), submessage(3, &histogram(n, false))].concat());
            request(std::iter::empty(), series)
        }),
    ];
    for (what, n, message) in cases {
        assert_proportional_anew(
            what,
            n,
            |n| ReceiverStore::new(&message(n)),
            |sent| sent.take(MessageVersion::V2),
        );
    }
}
