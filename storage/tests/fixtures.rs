//! Tests data directories of every format version, which are kept forever: each is opened and
//! compared with its original content.
//!
//! `fixtures/<name>/` is a data directory with its content in `contents.txt`. Never change one. For
//! a new format version, or a new kind of record, add a fixture: `FIXTURE=<name> cargo test
//! --workspace --test fixtures -- --ignored` writes one with the current code. The formats are in
//! `docs/format/`.
#![allow(
    clippy::disallowed_methods,
    reason = "files are looked at beside the store; real threads write the log"
)]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use storage::disk::OsDisk;
use storage::durable_map::DurableMap;
use storage::metrics::Metrics;
use storage::model::histogram::{BucketSpan, Buckets, ResetHint};
use storage::model::value::STALE;
use storage::model::{Labels, MatchOp, Matcher, NativeHistogram, SHARDS, shard_of};
use storage::store::{
    ColumnBatch, ColumnLayout, CorrectedValue, Correction, FeedDelivery, FloatRow, HistogramRow, Selection,
    StartRow, Store, StoreOptions,
};

const HOUR: i64 = 3_600_000;
const START: i64 = 1_795_200_000_000 / (2 * HOUR) * (2 * HOUR);

fn open(dir: &Path) -> (Arc<Store>, Vec<String>, f64) {
    let dir = dir.to_owned();
    let metrics = Metrics::default();
    let options =
        StoreOptions { dir, wal_sync_interval_ms: 0, block_range_ms: 2 * HOUR, out_of_order_ms: HOUR / 2 };
    let (store, replay) = Store::open(options, Arc::new(OsDisk), &metrics).unwrap();
    (store, replay.damage, metrics.gauge("prometheus_tsdb_blocks_damaged", "", &[]).get())
}

fn labels(i: usize) -> Labels {
    Labels::from_pairs([
        ("__name__", if i == 3 { "größe" } else { "m" }.to_owned()),
        ("instance", "a:1".to_owned()),
        ("job", "j".to_owned()),
        ("i", i.to_string()),
    ])
}

fn scrape(store: &Store, t: i64, series: &[usize], values: &[f64]) {
    let group = store.open_group("target a:1", shard_of(&labels(0)));
    let slots = series.iter().map(|i| store.get_or_create_series(&labels(*i)).slot).collect();
    let batch = ColumnBatch { group, layout: Arc::new(ColumnLayout { slots }), t, values: values.into() };
    store.append_columns(&batch, FeedDelivery::Nobody).unwrap();
}

/// Values that an encoding could easily lose.
fn values(n: usize) -> [f64; 4] {
    let odd = [-0.0, f64::INFINITY, f64::from_bits(0x7ff8_dead_beef_0001), STALE, 1e-310, 0.1 + 0.2];
    [n as f64, 0.1 * n as f64, odd[n % odd.len()], (n * n) as f64 * 1e9]
}

fn histogram(n: i64) -> NativeHistogram {
    let spans = vec![BucketSpan { offset: -2, length: 2 }, BucketSpan { offset: 3, length: 1 }];
    let positive = Buckets { spans, counts: vec![1.0, n as f64, 300.0] };
    let mut h = NativeHistogram { count: 301.0 + n as f64, sum: 0.3 * n as f64, positive, ..<_>::default() };
    match n % 3 {
        0 => h.negative = h.positive.clone(),
        1 => (h.hint, h.zero_threshold, h.zero_count, h.count) = (ResetHint::Gauge, 1e-128, 0.5, 0.25),
        _ => (h.schema, h.bounds) = (-53, [-1.0, 0.25, 5.0].into()),
    }
    h
}

fn histogram_text(h: &NativeHistogram) -> String {
    let bits = |all: &[f64]| all.iter().map(|v| format!("{:x}", v.to_bits())).collect::<Vec<_>>().join(",");
    let buckets = |b: &Buckets| {
        let spans: Vec<String> = b.spans.iter().map(|s| format!("{}+{}", s.offset, s.length)).collect();
        format!("{} [{}]", spans.join(","), bits(&b.counts))
    };
    let numbers = bits(&[h.zero_threshold, h.zero_count, h.count, h.sum]);
    let positive = buckets(&h.positive);
    let negative = buckets(&h.negative);
    format!("{} {:?} [{numbers}] {positive} {negative} [{}]", h.schema, h.hint, bits(&h.bounds))
}

/// The content of a store, one line per item.
fn contents(store: &Store) -> String {
    let mut lines = BTreeSet::new();
    for shard in 0..SHARDS {
        let selection: Selection = store.select(shard, &[], i64::MIN, i64::MAX).unwrap();
        for (i, labels) in selection.labels.iter().enumerate() {
            let (mut ts, mut vs, mut histograms, mut starts) =
                (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            selection.read(i, i64::MIN, i64::MAX, &mut ts, &mut vs).unwrap();
            selection.read_histograms(i, i64::MIN, i64::MAX, &mut histograms).unwrap();
            selection.read_starts(i, i64::MIN, i64::MAX, &mut starts).unwrap();
            lines.extend(ts.iter().zip(&vs).map(|(t, v)| format!("{labels} {t} {:x}", v.to_bits())));
            lines.extend(histograms.iter().map(|(t, h)| format!("{labels} {t} {}", histogram_text(h))));
            lines.extend(starts.iter().map(|(t, start)| format!("{labels} {t} since {start}")));
        }
    }
    lines.into_iter().fold(String::new(), |mut text, line| {
        writeln!(text, "{line}").unwrap();
        text
    })
}

/// Writes data of every kind, some of it in blocks, some in the log after a checkpoint.
fn fill(store: &Store) {
    // Only floats. Columns are added, then the columns change.
    for n in 0..10 {
        scrape(store, START + n as i64 * 15_000, &[0, 1], &values(n)[..2]);
    }
    for n in 10..20 {
        scrape(store, START + n as i64 * 15_000, &[0, 1, 2], &values(n)[..3]);
    }
    // Two hours later: all kinds of samples.
    lanes(store, START + 2 * HOUR);
    let now = START + 6 * HOUR;
    scrape(store, now, &[3, 0, 2, 1], &values(20));
    assert_eq!(store.maintenance().run_housekeeping(now).unwrap(), 2);
    // The log after the checkpoint.
    for n in 1..70 {
        scrape(store, now + n as i64 * 15_000, &[3, 0, 2, 1], &values(n));
    }
    for n in 70..75 {
        scrape(store, now + n as i64 * 15_000, &[1, 2], &values(n)[..2]);
    }
    lanes(store, now + 1_000);
    // Deletions: a tombstone for blocks, a record for the head.
    let one = Matcher::new("i", MatchOp::Equal, "0").unwrap();
    store.admin().delete(&[one], START + 15_000, now + 30_000).unwrap();
}

/// Writes single samples, histograms, start timestamps, corrections.
fn lanes(store: &Store, t: i64) {
    let alone = |i: usize| Labels::from_pairs([("__name__", "alone".to_owned()), ("i", i.to_string())]);
    let series: Vec<_> = (0..3).map(|i| store.get_or_create_series(&alone(i))).collect();
    let row = |i: usize, t: i64, v: f64| FloatRow { series: series[i], t, v };
    store.append_rows(&[row(0, t + 20, 1.5), row(0, t + 10, f64::NAN), row(1, t + 7, STALE)]).unwrap();
    let rows = (0..6).map(|n| HistogramRow { series: series[2], t: t + n * 100, h: histogram(n).into() });
    store.append_histograms(&rows.collect::<Vec<_>>()).unwrap();
    let start = |i: usize, t: i64, start: i64| StartRow { series: series[i], t, start };
    store.append_starts(&[start(0, t + 10, 3), start(2, t + 100, t), start(0, t + 20, -5)]).unwrap();
    let correction = |i: usize, t: i64, to| Correction { series: series[i], t, value: to };
    let to_histogram = CorrectedValue::Histogram(histogram(9).into());
    let all = [
        correction(0, t + 20, CorrectedValue::Float(2.5)),
        correction(0, t + 10, CorrectedValue::Gone),
        correction(1, t + 9, to_histogram),
    ];
    assert_eq!(store.recorder().correct(&all).unwrap(), 0);
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The kinds of the records in the log files, and the versions of the blocks.
fn kinds(dir: &Path) -> (BTreeSet<u8>, BTreeSet<u64>) {
    let mut kinds = BTreeSet::new();
    let mut versions = BTreeSet::new();
    for entry in std::fs::read_dir(dir.join("wal")).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let mut at = 32;
        while at < bytes.len() {
            kinds.insert(bytes[at + 2]);
            at += 20 + u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap()) as usize;
        }
    }
    for entry in std::fs::read_dir(dir.join("blocks")).unwrap() {
        let meta = std::fs::read_to_string(entry.unwrap().path().join("meta.json")).unwrap();
        let meta: serde_json::Value = serde_json::from_str(&meta).unwrap();
        versions.insert(meta["version"].as_u64().unwrap());
    }
    (kinds, versions)
}

#[test]
fn data_of_every_version_opens_and_is_what_it_was() {
    let mut all_kinds = BTreeSet::new();
    let mut all_versions = BTreeSet::new();
    let mut opened = 0;
    for entry in std::fs::read_dir(fixtures()).unwrap() {
        let origin = entry.unwrap().path();
        let dir = tempfile::tempdir().unwrap();
        copy(&origin, dir.path());
        let (found, versions) = kinds(dir.path());
        all_kinds.extend(found);
        all_versions.extend(versions);
        let (store, damage, damaged_blocks) = open(dir.path());
        assert_eq!((damage, damaged_blocks), (Vec::new(), 0.0), "{}", origin.display());
        let wanted = std::fs::read_to_string(origin.join("contents.txt")).unwrap();
        assert!(contents(&store) == wanted, "{}: it holds something else", origin.display());
        let (_keep, kept) =
            DurableMap::open(Arc::new(OsDisk), dir.path().join("alerts.keep"), &Metrics::default()).unwrap();
        assert_eq!(kept.damage, None);
        assert_eq!(kept.entries.get(&b"key"[..]), Some(&b"value".to_vec()));
        opened += 1;
    }
    assert!(opened >= 2, "{opened} fixtures");
    assert_eq!(all_kinds, (1..=14).collect());
    assert_eq!(all_versions, [1, 2, 3, 4].into());
}

#[test]
#[ignore = "writes a fixture, once"]
fn write() {
    let dir = fixtures().join(std::env::var("FIXTURE").unwrap());
    std::fs::create_dir(&dir).unwrap();
    let (store, ..) = open(&dir);
    fill(&store);
    let text = contents(&store);
    store.close().unwrap();
    std::fs::write(dir.join("contents.txt"), text).unwrap();
    let (keep, _) = DurableMap::open(Arc::new(OsDisk), dir.join("alerts.keep"), &Metrics::default()).unwrap();
    keep.put([(b"key".to_vec(), Some(b"value".to_vec())), (b"gone".to_vec(), None)]);
    keep.close();
}
