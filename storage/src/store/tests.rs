//! Tests of the store that need its private parts: what happens when a shard has given all of its
//! slots (numbers of series).

use super::{ColumnBatch, ColumnLayout, FeedDelivery, FloatRow, Store, StoreOptions};
use crate::disk::OsDisk;
use crate::error::{ErrorClass, StoreError};
use crate::limits::SHARD_SLOTS;
use crate::metrics::Metrics;
use crate::model::{Labels, SeriesRef, shard_of};
use std::path::Path;
use std::sync::Arc;

const T: i64 = 1_795_000_000_000;

fn open(dir: &Path) -> Arc<Store> {
    let options = StoreOptions {
        dir: dir.to_owned(),
        wal_sync_interval_ms: 60_000,
        block_range_ms: 7_200_000,
        out_of_order_ms: 0,
    };
    let (store, report) = Store::open(options, Arc::new(OsDisk), &Metrics::default()).unwrap();
    assert_eq!(report.damage.len(), 0, "{report:?}");
    store
}

/// Labels of series of shard 0.
fn labels(n: usize) -> Labels {
    let all = (0..).map(|i: u32| Labels::from_pairs([("__name__", "up".to_owned()), ("i", i.to_string())]));
    all.filter(|labels| shard_of(labels) == 0).nth(n).unwrap()
}

fn class<T>(result: Result<T, StoreError>) -> Option<ErrorClass> {
    result.err().map(|error| error.class())
}

#[test]
fn samples_of_series_without_a_slot_are_refused_and_the_log_stays_readable() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let row = |series: SeriesRef, t: i64| [FloatRow { series, t, v: 1.0 }];
    let known = store.get_or_create_series(&labels(0));
    store.append_rows(&row(known, T)).unwrap();
    // As if all others had been given to series that have ended.
    store.shards.get(0).write().head.series.restore_slot(SHARD_SLOTS - 2).unwrap();
    let last = store.get_or_create_series(&labels(1));
    assert_eq!(last.slot, SHARD_SLOTS - 1);
    assert_eq!(store.append_rows(&row(last, T)).unwrap().stored, 1, "the last slot is one");
    let none = store.get_or_create_series(&labels(2));
    assert_eq!(class(store.append_rows(&row(none, T))), Some(ErrorClass::LimitReached));
    let group = store.open_group("target", 0);
    let batch = |slots: Vec<u32>| ColumnBatch {
        group,
        t: T + 1,
        values: vec![2.0; slots.len()].into(),
        layout: Arc::new(ColumnLayout { slots }),
    };
    let both = batch(vec![known.slot, none.slot]);
    assert_eq!(class(store.append_columns(&both, FeedDelivery::Feed)), Some(ErrorClass::LimitReached));
    assert_eq!(store.append_columns(&batch(vec![last.slot]), FeedDelivery::Feed).unwrap().stored, 1);
    store.close().unwrap();
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.series().find_encoded(labels(1).encoded()), Some(last));
    assert_eq!(store.series().find_encoded(labels(2).encoded()), None);
    assert_eq!(store.series().slots(0), SHARD_SLOTS);
}

#[test]
fn batches_of_groups_without_a_number_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let series = store.get_or_create_series(&labels(0));
    store.shards.get(0).write().head.groups.restore(SHARD_SLOTS - 1, None).unwrap();
    let batch = ColumnBatch {
        group: store.open_group("target", 0),
        t: T,
        values: vec![2.0].into(),
        layout: Arc::new(ColumnLayout { slots: vec![series.slot] }),
    };
    assert_eq!(class(store.append_columns(&batch, FeedDelivery::Feed)), Some(ErrorClass::LimitReached));
    // Without a group of their own, single samples are stored as such.
    let others: Vec<SeriesRef> = (1..200).map(|n| store.get_or_create_series(&labels(n))).collect();
    let rows: Vec<FloatRow> =
        others.iter().map(|series| FloatRow { series: *series, t: T, v: 1.0 }).collect();
    assert_eq!(store.append_rows(&rows).unwrap().stored, rows.len());
    store.close().unwrap();
    drop(store);
    assert_eq!(open(dir.path()).series().slots(0), 200);
}
