//! Tests that a log replay of twice the size, and reading twice the samples, cost at most 2.6 times
//! as much CPU time. The only test in its program, because the CPU time of the process is measured:
//! a store has its own threads.

use std::path::Path;
use std::sync::Arc;
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::model::{Labels, Matcher, SHARDS, TimeMs, shard_of};
use storage::store::{ColumnBatch, ColumnLayout, FeedDelivery, FloatRow, Store, StoreOptions};
use testing::assert_proportional_in_process;

const START: TimeMs = 1_700_000_000_000;

fn open(dir: &Path) -> Arc<Store> {
    let options = StoreOptions {
        dir: dir.into(),
        wal_sync_interval_ms: 5,
        block_range_ms: 7_200_000,
        out_of_order_ms: 1_800_000,
    };
    let (store, replay) = Store::open(options, Arc::new(OsDisk), &Metrics::default()).unwrap();
    assert_eq!(replay.damage, Vec::<String>::new());
    store
}

fn labels(i: usize) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string())])
}

/// Appends one sample of each of `n` series.
fn series(store: &Store, n: usize) {
    let row = |i| FloatRow { series: store.get_or_create_series(&labels(i)), t: START, v: i as f64 };
    store.append_rows(&(0..n).map(row).collect::<Vec<FloatRow>>()).unwrap();
}

/// Appends samples of one series, at these times after the start.
fn samples(store: &Store, times: impl Iterator<Item = usize>) {
    let series = store.get_or_create_series(&labels(0));
    let rows: Vec<FloatRow> =
        times.map(|t| FloatRow { series, t: START + t as i64, v: t as f64 / 7.0 }).collect();
    for rows in rows.chunks(100) {
        drop(store.append_rows(rows).unwrap());
    }
}

/// Appends some scrapes of `n` series of one target.
fn columns(store: &Store, n: usize) {
    let shard = shard_of(&labels(0));
    let slots: Vec<u32> = (0..)
        .map(labels)
        .filter(|labels| shard_of(labels) == shard)
        .take(n)
        .map(|labels| store.get_or_create_series(&labels).slot)
        .collect();
    let group = store.open_group("target", shard);
    let layout = Arc::new(ColumnLayout { slots });
    for t in 0..20 {
        let values = (0..n).map(|i| (i * t) as f64).collect::<Vec<f64>>();
        let batch =
            ColumnBatch { group, layout: layout.clone(), t: START + t as i64 * 1_000, values: values.into() };
        store.append_columns(&batch, FeedDelivery::Nobody).unwrap();
    }
}

/// Makes `n` deletions, each of one sample.
fn deletions(store: &Store, n: usize) {
    samples(store, 0..n);
    for t in 0..n / 4 {
        let t = START + 4 * t as i64;
        store.admin().delete(&[Matcher::equal("__name__", "m")], t, t).unwrap();
    }
}

/// The number of readable samples.
fn count(store: &Store) -> usize {
    let all = [Matcher::equal("__name__", "m")];
    let in_shard = |shard| {
        let selection = store.select(shard, &all, START, i64::MAX).unwrap();
        let mut ts = Vec::new();
        let mut vs = Vec::new();
        for i in 0..selection.labels.len() {
            selection.read(i, START, i64::MAX, &mut ts, &mut vs).unwrap();
        }
        ts.len()
    };
    (0..SHARDS).map(in_shard).sum()
}

/// Fills a store with a given amount.
type Fill = fn(&Store, usize);

#[test]
fn twice_as_much_to_read_again() {
    let cases: [(&str, usize, Fill); 6] = [
        ("series", 4_000, series),
        ("samples", 20_000, |store, n| samples(store, 0..n)),
        ("samples from the newest on", 5_000, |store, n| samples(store, (0..n).rev())),
        ("samples in any order", 5_000, |store, n| samples(store, (0..n).map(|i| i * 7_919 % n))),
        ("columns", 4_000, columns),
        ("deletions", 800, deletions),
    ];
    for (what, n, fill) in cases {
        let filled = |n: usize| {
            let dir = tempfile::tempdir().unwrap();
            let store = open(dir.path());
            fill(&store, n);
            store.close().unwrap();
            dir
        };
        assert!(count(&open(filled(100).path())) > 0, "{what}: nothing is there");
        assert_proportional_in_process(&format!("a start with {what}"), n, filled, |dir| {
            open(dir.path()).close().unwrap();
        });
        let opened = |n: usize| {
            let dir = filled(n);
            (open(dir.path()), dir)
        };
        assert_proportional_in_process(&format!("reading {what}"), n, opened, |(store, _)| count(store));
    }
}
