//! How a store is opened, what opening found, what can go wrong, and what can be counted.

use crate::head::Head;
use crate::model::TimeMs;
use std::path::PathBuf;

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The data directory.
    pub dir: PathBuf,
    /// Time between fdatasyncs of the WAL, ms; 0: before every acknowledgement.
    pub wal_sync_interval_ms: u64,
    /// Length of a block, ms (2 h).
    pub block_range_ms: i64,
    /// How late a sample may come, ms.
    pub out_of_order_ms: i64,
}

impl StoreOptions {
    /// The empty head of a shard.
    pub(crate) fn new_head(&self) -> Head {
        Head::new(self.block_range_ms, self.out_of_order_ms)
    }
}

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplayReport {
    /// WAL records read.
    pub records: u64,
    /// Samples restored.
    pub samples: u64,
    /// Damage that was cut off or skipped: file, offset, reason; one line each.
    pub damage: Vec<String>,
}

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk said no.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{path}: {reason}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it, and where.
        reason: String,
    },
    /// The place for far blocks is another data directory's.
    #[error(
        "{address} is used by another data directory (its object \"owner\" says {owner}, this one is {mark}): give this one \
         a prefix of its own; if the other is gone for good, remove that object"
    )]
    Taken {
        /// The place.
        address: String,
        /// Whose it is.
        owner: String,
        /// Who asks.
        mark: String,
    },
    /// The log cannot be written any more; the data was not accepted.
    #[error("the write-ahead log refuses writes: {0}")]
    Refused(String),
}

/// Counts for `/api/v1/status/tsdb` and the self-metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeadStats {
    /// Active series in the head.
    pub series: u64,
    /// Distinct label pairs.
    pub label_pairs: u64,
    /// Sealed and open chunks.
    pub chunks: u64,
    /// Oldest sample in the head.
    pub min_time: TimeMs,
    /// Newest sample in the head.
    pub max_time: TimeMs,
    /// Series by metric name, most first.
    pub by_metric: Vec<(String, u64)>,
    /// Values by label name, most first.
    pub values_by_label: Vec<(String, u64)>,
    /// Bytes by label name, most first.
    pub bytes_by_label: Vec<(String, u64)>,
    /// Series by label pair `name=value`, most first.
    pub by_pair: Vec<(String, u64)>,
}
