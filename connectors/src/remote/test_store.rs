//! For the tests of the receivers of remote write and OTLP: a store, and a list of all samples in
//! it.

use std::sync::Arc;
use storage::metrics::Metrics;
use storage::model::{Matcher, SHARDS, TimeMs};
use storage::store::{Store, StoreOptions};

/// A store in a directory of its own, with a window of half an hour for late samples.
pub(crate) fn open() -> (Arc<Store>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        dir: dir.path().into(),
        wal_sync_interval_ms: 100,
        block_range_ms: 7_200_000,
        out_of_order_ms: 1_800_000,
    };
    let (store, _) = Store::open(options, Arc::new(storage::disk::OsDisk), &Metrics::default()).unwrap();
    (store, dir)
}

/// The floats of a series.
pub(crate) struct StoredSeries {
    pub labels: String,
    pub ts: Vec<TimeMs>,
    pub vs: Vec<f64>,
}

/// The series with a metric name, in the order of the shards.
pub(crate) fn stored(store: &Store, name: &str) -> Vec<StoredSeries> {
    let mut all = Vec::new();
    for shard in 0..SHARDS {
        let selection = store.select(shard, &[Matcher::equal("__name__", name)], 0, i64::MAX).unwrap();
        for (i, labels) in selection.labels.iter().enumerate() {
            let mut ts = Vec::new();
            let mut vs = Vec::new();
            selection.read(i, 0, i64::MAX, &mut ts, &mut vs).unwrap();
            all.push(StoredSeries { labels: labels.to_string(), ts, vs });
        }
    }
    all
}
