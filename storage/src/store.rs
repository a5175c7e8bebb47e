//! The door of the store: one object that owns WAL, head and blocks.
//!
//! Writers come by column ([`Store::append_columns`], a scrape or a rule's output: one timestamp, many
//! series) or by row ([`Store::append_rows`], remote write). Both get an LSN; data is acknowledged
//! once [`Store::on_committed`] says so. Readers take a [`Selection`], a snapshot that holds no lock.

use crate::disk::Disk;
use crate::metrics::Metrics;
use crate::model::{Labels, Matcher, SeriesRef, TimeMs};
use std::path::PathBuf;
use std::sync::Arc;

/// Identity of a column group: the series of one target (or one rule) in one shard.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct GroupId(pub u32);

/// Which series the columns of a batch are. Writers keep one `Arc` while the set stays the same, so that
/// readers can recognise an unchanged layout by its address.
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    /// Slots, column by column; all in the group's shard, each at most once.
    pub slots: Vec<u32>,
}

/// One scrape's samples of one group: a clock tick and a value per column.
#[derive(Clone, Debug)]
pub struct Columns {
    /// The group, from [`Store::open_group`].
    pub group: GroupId,
    /// What the columns are.
    pub layout: Arc<Layout>,
    /// The one timestamp of all samples.
    pub t: TimeMs,
    /// Value per column; `ABSENT` where there is no sample, `STALE` where the series ended.
    pub values: Arc<[f64]>,
}

/// One sample that comes alone.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Row {
    /// The series.
    pub series: SeriesRef,
    /// Its timestamp.
    pub t: TimeMs,
    /// Its value.
    pub v: f64,
}

/// What an append did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// Log position to wait for before acknowledging.
    pub lsn: u64,
    /// Samples stored.
    pub stored: usize,
    /// Samples refused: behind the out-of-order window.
    pub too_old: usize,
    /// Samples refused: another value is stored at the same time.
    pub duplicate: usize,
    /// Append sequence number of the shard after this append (of the last shard touched).
    pub seq: u64,
}

/// A change of a shard, in the order of its append sequence numbers.
#[derive(Clone, Debug)]
pub struct FeedItem {
    /// The shard.
    pub shard: u16,
    /// Its append sequence number: 1, 2, 3, …
    pub seq: u64,
    /// What was appended.
    pub data: FeedData,
}

/// The two shapes of appended data.
#[derive(Clone, Debug)]
pub enum FeedData {
    /// A scrape's batch.
    Columns(Columns),
    /// Single samples: (slot, time, value).
    Rows(Vec<(u32, TimeMs, f64)>),
}

/// Who wants to hear of every append: the live runtime. Called with the shard's lock held, so that
/// order is kept: must only queue and return.
pub trait Feed: Send + Sync {
    /// One appended item.
    fn push(&self, item: FeedItem);
}

/// Whether an append is also pushed to the [`Feed`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Tell {
    /// Push it (scrapes, remote write).
    Feed,
    /// Do not: the caller is the live runtime and hands it on itself, with the sequence number it gets back.
    Nobody,
}

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// The data directory.
    pub dir: PathBuf,
    /// Time between fdatasyncs of the WAL, ms; 0: before every acknowledgement.
    pub wal_sync_interval_ms: u64,
    /// Length of a block, ms (2 h).
    pub block_range_ms: i64,
    /// How late a sample may come, ms.
    pub out_of_order_ms: i64,
}

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replay {
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

/// A snapshot of the series of one shard that match: holds no lock, sees no later append.
pub struct Selection {
    /// Append sequence number of the shard that the snapshot includes.
    pub seq: u64,
    /// Label sets, sorted; parallel to `slots`.
    pub labels: Vec<Labels>,
    /// Slots; `None` for a series that only blocks know.
    pub slots: Vec<Option<u32>>,
}

impl Selection {
    /// Appends to `ts`, `vs` the samples of series `i` with `from ≤ t ≤ to`, in time order, each time once;
    /// stale markers included, never an absent value.
    pub fn read(
        &self,
        i: usize,
        from: TimeMs,
        to: TimeMs,
        ts: &mut Vec<TimeMs>,
        vs: &mut Vec<f64>,
    ) -> Result<(), StoreError> {
        let _ = (i, from, to, ts, vs);
        unimplemented!()
    }
}

/// The store.
pub struct Store {}

impl Store {
    /// Opens (or creates) the data directory and replays the log.
    pub fn open(options: Options, disk: Arc<dyn Disk>, metrics: &Metrics) -> Result<(Arc<Store>, Replay), StoreError> {
        let _ = (options, disk, metrics);
        unimplemented!()
    }

    /// From now on `feed` hears of every append with [`Tell::Feed`].
    pub fn set_feed(&self, feed: Arc<dyn Feed>) {
        let _ = feed;
        unimplemented!()
    }

    /// The group with this key in this shard; made on first use.
    pub fn open_group(&self, key: &str, shard: u16) -> GroupId {
        let _ = (key, shard);
        unimplemented!()
    }

    /// Where the series with these labels lives; made, and logged, on first use.
    pub fn resolve(&self, labels: &Labels) -> SeriesRef {
        let _ = labels;
        unimplemented!()
    }

    /// The labels of a series.
    pub fn labels(&self, series: SeriesRef) -> Labels {
        let _ = series;
        unimplemented!()
    }

    /// Number of slots handed out in a shard: new series are `old..new`.
    pub fn slots(&self, shard: u16) -> u32 {
        let _ = shard;
        unimplemented!()
    }

    /// Appends one batch.
    pub fn append_columns(&self, batch: &Columns, tell: Tell) -> Result<Appended, StoreError> {
        let _ = (batch, tell);
        unimplemented!()
    }

    /// Appends single samples, in any order and of any shard.
    pub fn append_rows(&self, rows: &[Row]) -> Result<Appended, StoreError> {
        let _ = rows;
        unimplemented!()
    }

    /// Calls `done` (on the WAL's thread, or at once) when everything up to `lsn` would survive kill -9;
    /// with an error if it never will.
    pub fn on_committed(&self, lsn: u64, done: Box<dyn FnOnce(Result<(), StoreError>) + Send>) {
        let _ = (lsn, done);
        unimplemented!()
    }

    /// The series of `shard` that satisfy all matchers and may have samples in `from..=to`, from head and blocks.
    pub fn select(
        &self,
        shard: u16,
        matchers: &[Matcher],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Selection, StoreError> {
        let _ = (shard, matchers, from, to);
        unimplemented!()
    }

    /// Sorted names of the labels of all series in `from..=to` that satisfy any of the matcher sets (none: all).
    pub fn label_names(&self, sets: &[Vec<Matcher>], from: TimeMs, to: TimeMs) -> Result<Vec<String>, StoreError> {
        let _ = (sets, from, to);
        unimplemented!()
    }

    /// Sorted values of label `name`, as [`Store::label_names`].
    pub fn label_values(
        &self,
        name: &str,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<String>, StoreError> {
        let _ = (name, sets, from, to);
        unimplemented!()
    }

    /// Counts; the lists hold at most `limit` entries.
    pub fn stats(&self, limit: usize) -> HeadStats {
        let _ = limit;
        unimplemented!()
    }

    /// Housekeeping, to be called about once a minute: flushes what is complete as of `now` into blocks and
    /// drops the log behind it. Returns the number of blocks written.
    pub fn maintain(&self, now: TimeMs) -> Result<usize, StoreError> {
        let _ = now;
        unimplemented!()
    }

    /// Writes and syncs what is queued and stops the log's thread.
    pub fn close(&self) -> Result<(), StoreError> {
        unimplemented!()
    }
}
