//! The options of a store ([`StoreOptions`]), what opening it reports ([`ReplayReport`]), and the
//! statistics of its head ([`HeadStats`]).

use crate::head::Head;
use crate::model::TimeMs;
use std::path::PathBuf;

/// How to open a store.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The data directory.
    pub dir: PathBuf,
    /// Time between fdatasyncs of the log, ms; 0: before every acknowledgement.
    pub wal_sync_interval_ms: u64,
    /// Time range of a block, ms (2 h by default).
    pub block_range_ms: i64,
    /// The window of late samples, ms: how much older than the newest of its series a sample may
    /// be.
    pub out_of_order_ms: i64,
}

impl StoreOptions {
    /// An empty head for a shard.
    pub(crate) fn new_head(&self) -> Head {
        Head::new(self.block_range_ms, self.out_of_order_ms)
    }
}

/// The result of a replay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplayReport {
    /// Number of log records read.
    pub records: u64,
    /// Number of samples restored.
    pub samples: u64,
    /// Damage that was cut off or skipped, one line each: file, offset, reason.
    pub damage: Vec<String>,
}

/// Statistics of the head, for `/api/v1/status/tsdb` and the server's own metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeadStats {
    /// Number of active series.
    pub series: u64,
    /// Number of distinct label pairs.
    pub label_pairs: u64,
    /// Number of sealed and open chunks.
    pub chunks: u64,
    /// Time of the oldest sample.
    pub min_time: TimeMs,
    /// Time of the newest sample.
    pub max_time: TimeMs,
    /// Number of series by metric name, descending.
    pub by_metric: Vec<(String, u64)>,
    /// Number of values by label name, descending.
    pub values_by_label: Vec<(String, u64)>,
    /// Bytes of the values by label name, descending.
    pub bytes_by_label: Vec<(String, u64)>,
    /// Number of series by label pair `name=value`, descending.
    pub by_pair: Vec<(String, u64)>,
}
