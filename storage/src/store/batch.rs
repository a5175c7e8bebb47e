//! The types that writers pass to the store, and those of the change feed: batches by column,
//! single rows, change events.
//!
//! [`super::Store::append_columns`] and its siblings take them; [`crate::head`] stores them.

use crate::head::Refusal;
use crate::model::columns::ColumnBatch;
use crate::model::{NativeHistogram, SeriesRef, TimeMs};
use std::sync::Arc;

/// A single float sample.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct FloatRow {
    /// From [`Store::get_or_create_series`](super::Store::get_or_create_series).
    pub series: SeriesRef,
    /// The timestamp of the sample.
    pub t: TimeMs,
    /// The value of the sample.
    pub v: f64,
}

/// A native histogram sample. A stale marker is a [`FloatRow`] instead.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramRow {
    /// From [`Store::get_or_create_series`](super::Store::get_or_create_series).
    pub series: SeriesRef,
    /// The timestamp of the sample.
    pub t: TimeMs,
    /// The value, shared with those that read it.
    pub h: Arc<NativeHistogram>,
}

/// The start timestamp of a sample: since when its counter counts.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct StartRow {
    /// From [`Store::get_or_create_series`](super::Store::get_or_create_series).
    pub series: SeriesRef,
    /// The sample's timestamp.
    pub t: TimeMs,
    /// The start timestamp; 0 means unknown and is not stored.
    pub start: TimeMs,
}

/// The zero of a counter at the time when it began to count.
#[derive(Clone, Debug, PartialEq)]
pub struct ZeroRow {
    /// From [`Store::get_or_create_series`](super::Store::get_or_create_series).
    pub series: SeriesRef,
    /// When the counter began, ms.
    pub start: TimeMs,
    /// For a native histogram: its first observed value. The zero gets the schema, zero threshold
    /// and bounds of it. `None` for a float.
    pub like: Option<Arc<NativeHistogram>>,
}

/// The result of an append.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppendResult {
    /// The LSN to wait for before acknowledging.
    pub lsn: u64,
    /// Number of samples stored.
    pub stored: usize,
    /// Number of samples refused because they are older than the window of late samples.
    pub too_old: usize,
    /// Number of samples refused because another value is stored at the same time.
    pub duplicate: usize,
    /// Number of samples refused because they are older than the store accepts for any series.
    pub out_of_bounds: usize,
    /// The first refused samples, with their reasons.
    pub refused: Vec<RefusedRow>,
    /// Append sequence number of the shard after this append; of the last shard, if there were
    /// several.
    pub seq: u64,
}

/// A sample that was refused.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct RefusedRow {
    /// The series of the sample.
    pub series: SeriesRef,
    /// The time of the sample.
    pub t: TimeMs,
    /// Which rule of order or which limit it breaks.
    pub why: Refusal,
    /// The oldest time that the store accepted then, for any series.
    pub oldest: TimeMs,
}

/// The result of a batch that the live runtime recorded.
#[derive(Debug)]
pub struct RecordResult {
    /// What was stored.
    pub event: ChangeEvent,
    /// Samples that were refused because another value is stored at their time.
    pub duplicates: Vec<Duplicate>,
}

/// A sample that was refused because its series has another value at its time.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Duplicate {
    /// The column of the sample in the batch.
    pub column: usize,
    /// The stored value, which stays; `None` if it is a histogram.
    pub existing: Option<f64>,
    /// The value that was refused.
    pub value: f64,
}

/// A change of a shard, in the order of its append sequence numbers.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct ChangeEvent {
    /// The shard of all its samples.
    pub shard: u16,
    /// The append sequence number of this change in its shard: 1, 2, 3, …
    pub seq: u64,
    /// What was appended.
    pub data: ChangeData,
}

/// The data of a change.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub enum ChangeData {
    /// A batch by column.
    Columns(ColumnBatch),
    /// Single floats: (slot, time, value).
    Rows(Vec<(u32, TimeMs, f64)>),
    /// Native histograms: (slot, time, histogram).
    Histograms(Vec<(u32, TimeMs, Arc<NativeHistogram>)>),
    /// Start timestamps: (slot, time of the sample, start). They follow the samples.
    Starts(Vec<(u32, TimeMs, TimeMs)>),
}

/// Receives every append: the live runtime.
///
/// # Contract
/// 1. [`ChangeFeed::push`] is called under the write lock of the shard, to keep the order: it only
///    queues and returns. A call of the store from it would wait for that lock for ever.
/// 2. In one shard [`ChangeEvent::seq`] ascends. Numbers of what the [`super::Recorder`] was given
///    are missing: its caller hands these events on itself.
/// 3. What is told is in the head and in the buffer of the log, but not yet committed. It is what
///    was *stored*: refused samples are left out, reset hints are the stored ones. A removed sample
///    comes as a row with the value *absent*; start timestamps come after their samples; backfill
///    comes with old times.
/// 4. A reader that begins later opens its queue first, then selects, and drops the events up to
///    [`super::Selection::seq`]: so it gets each sample once.
/// 5. [`ChangeFeed::deleted`] is called without the lock of a shard, but under those of flushes and
///    merges, so neither may be started from it. Anything that was kept of the store may be wrong
///    after it.
/// 6. An implementation that cannot take an event must remember that it lost one, and read the
///    store again; nothing is repeated.
///
/// *Checked:* by `frontends/promql/tests` (`live_equals_scratch`): each broken clause makes a live
/// answer differ from a fresh one.
pub trait ChangeFeed: Send + Sync {
    /// One change.
    fn push(&self, item: ChangeEvent);
    /// Samples that the feed was given were deleted; data kept of them must be read again. Called
    /// without a lock.
    fn deleted(&self) {}
}

/// Sees what writers append, independent of the feed. It does not see corrections, nor what the
/// live runtime records.
///
/// # Contract
/// Called under the lock of the shard, before [`ChangeFeed::push`]: an implementation only looks,
/// and queues what it needs.
pub trait AppendObserver: Send + Sync {
    /// One append.
    fn check_time(&self, item: &ChangeEvent);
}

/// Whether an append is also pushed to the [`ChangeFeed`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum FeedDelivery {
    /// Push it (scrapes, remote write).
    Feed,
    /// Do not push it: the caller is the live runtime, which passes it on itself with the sequence
    /// number it gets back.
    Nobody,
}
