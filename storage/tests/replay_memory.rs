//! Tests the memory limit of a log replay. A start keeps the records that its first pass has read,
//! up to a size, and reads the rest again for the second pass. The result is the same wherever the
//! size is reached: within a checkpoint, at its end, or at any record of a segment.
#![allow(clippy::disallowed_methods, reason = "files are looked at beside the store")]

use std::path::Path;
use std::sync::Arc;
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::model::{Labels, TimeMs};
use storage::store::{FloatRow, Store, StoreBuilder, StoreOptions};

#[allow(dead_code, reason = "shared with other tests")]
mod support;
use support::{contents, copy};

const RANGE: TimeMs = 10_000;
const START: TimeMs = 1_000_000;
const SERIES: usize = 12;
/// The step between two tested sizes, bytes: less than any record counts.
const STEP: usize = 32;

fn open(dir: &Path, keep: u64) -> Arc<Store> {
    let options = StoreOptions {
        dir: dir.into(),
        wal_sync_interval_ms: 0,
        block_range_ms: RANGE,
        out_of_order_ms: 30_000,
    };
    let (store, replay) = StoreBuilder::new(options, Arc::new(OsDisk), &Metrics::default())
        .manual_log(keep)
        .open()
        .expect("a store");
    assert_eq!(replay.damage, Vec::<String>::new());
    store
}

/// Appends samples of some series at some times, one record each.
fn write(store: &Store, phase: &str, times: std::ops::Range<i64>) {
    for n in times {
        for i in 0..SERIES {
            let labels = Labels::from_pairs([
                ("__name__", "m".to_owned()),
                ("phase", phase.to_owned()),
                ("i", i.to_string()),
            ]);
            let row =
                FloatRow { series: store.get_or_create_series(&labels), t: START + n * 1_000, v: n as f64 };
            store.append_rows(&[row]).expect("room");
        }
        store.wal().write_queued(true);
    }
}

#[test]
fn what_is_kept_may_end_anywhere() {
    let made = tempfile::tempdir().expect("a directory");
    let store = open(made.path(), 2_000);
    // The first records of the log survive the checkpoint, whose records have their own numbers.
    write(&store, "early", 21..23);
    write(&store, "late", 0..25);
    assert_eq!(store.maintenance().run_housekeeping(START + 60_000).expect("blocks"), 1, "and a checkpoint");
    write(&store, "late", 25..28);
    let before = contents(&store);
    assert_eq!(before.len(), (2 + 28) * SERIES);
    store.close().expect("a disk");
    let log = std::fs::read_dir(made.path().join("wal")).expect("a log");
    let bytes: u64 = log.map(|file| file.expect("a file").metadata().expect("its size").len()).sum();
    // The overhead of a record in memory is less than its size in the log, so twice the log size is
    // enough.
    for keep in (0..2 * bytes as usize).step_by(STEP) {
        let dir = tempfile::tempdir().expect("a directory");
        copy(made.path(), dir.path());
        let after = contents(&open(dir.path(), keep as u64));
        assert_eq!(after.len(), before.len(), "{keep} bytes are kept");
        assert_eq!(after, before, "{keep} bytes are kept");
    }
}
