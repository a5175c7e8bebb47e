//! What goes into the store and what is told of it: batches by column, single rows, the feed.
//!
//! See [`super::Store::append_columns`] for who takes them and [`crate::head`] for where they stay.

use crate::head::Refusal;
use crate::model::{NativeHistogram, SeriesRef, TimeMs};
use std::sync::Arc;

/// Identity of a column group: the series of one target (or one rule) in one shard.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct GroupId(pub u32);

/// Which series the columns of a batch are. Writers keep one `Arc` while the set stays the same, so that
/// readers can recognise an unchanged layout by its address.
#[derive(Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ColumnLayout {
    /// Slots, column by column; all in the group's shard, each at most once.
    pub slots: Vec<u32>,
}

/// One scrape's samples of one group: a clock tick and a value per column.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct ColumnBatch {
    /// The group, from [`super::Store::open_group`].
    pub group: GroupId,
    /// What the columns are.
    pub layout: Arc<ColumnLayout>,
    /// The one timestamp of all samples.
    pub t: TimeMs,
    /// Value per column; `ABSENT` where there is no sample, `STALE` where the series ended.
    pub values: Arc<[f64]>,
}

/// One sample that comes alone.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct FloatRow {
    /// The series.
    pub series: SeriesRef,
    /// Its timestamp.
    pub t: TimeMs,
    /// Its value.
    pub v: f64,
}

/// One native histogram. A stale one is a [`FloatRow`] with the marker instead.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramRow {
    /// The series.
    pub series: SeriesRef,
    /// Its timestamp.
    pub t: TimeMs,
    /// The histogram.
    pub h: Arc<NativeHistogram>,
}

/// Since when a sample's counter counts; for samples of which it is known.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct StartRow {
    /// The series.
    pub series: SeriesRef,
    /// The sample's timestamp.
    pub t: TimeMs,
    /// The start timestamp; 0 says nothing and is not stored.
    pub start: TimeMs,
}

/// The 0 that a counter had when it began to count.
#[derive(Clone, Debug, PartialEq)]
pub struct ZeroRow {
    /// The series.
    pub series: SeriesRef,
    /// When it began, ms.
    pub start: TimeMs,
    /// Of a native histogram: the first one that was counted, whose schema, zero threshold and
    /// bounds the zero has.
    pub like: Option<Arc<NativeHistogram>>,
}

/// What an append did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppendResult {
    /// Log position to wait for before acknowledging.
    pub lsn: u64,
    /// Samples stored.
    pub stored: usize,
    /// Samples refused: behind the out-of-order window.
    pub too_old: usize,
    /// Samples refused: another value is stored at the same time.
    pub duplicate: usize,
    /// Samples refused: older than is taken of any series.
    pub out_of_bounds: usize,
    /// The first samples that were refused, for whatever reason.
    pub refused: Vec<Refused>,
    /// Append sequence number of the shard after this append (of the last shard touched).
    pub seq: u64,
}

/// A sample that was refused.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its series.
    pub series: SeriesRef,
    /// Its time.
    pub t: TimeMs,
    /// Why.
    pub why: Refusal,
    /// The oldest time that was taken then, of whatever series.
    pub oldest: TimeMs,
}

/// What became of a batch that the live runtime recorded.
#[derive(Debug)]
pub struct Recorded {
    /// What was stored.
    pub item: ChangeEvent,
    /// What was refused because there is another value at its time.
    pub duplicates: Vec<Duplicate>,
}

/// A sample that was refused because its series has another value at its time.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Duplicate {
    /// Its column in the batch.
    pub column: usize,
    /// The value that stays; `None`: a histogram.
    pub existing: Option<f64>,
    /// The value that was refused.
    pub value: f64,
}

/// A change of a shard, in the order of its append sequence numbers.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct ChangeEvent {
    /// The shard.
    pub shard: u16,
    /// Its append sequence number: 1, 2, 3, …
    pub seq: u64,
    /// What was appended.
    pub data: ChangeData,
}

/// The shapes of appended data.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub enum ChangeData {
    /// A scrape's batch.
    Columns(ColumnBatch),
    /// Single samples: (slot, time, value).
    Rows(Vec<(u32, TimeMs, f64)>),
    /// Native histograms: (slot, time, histogram).
    Histograms(Vec<(u32, TimeMs, Arc<NativeHistogram>)>),
    /// Start timestamps: (slot, time of the sample, start). They come behind the samples.
    Starts(Vec<(u32, TimeMs, TimeMs)>),
}

/// Who wants to hear of every append: the live runtime. Called with the shard's lock held, so that
/// order is kept: must only queue and return.
pub trait ChangeFeed: Send + Sync {
    /// One appended item.
    fn push(&self, item: ChangeEvent);
    /// Samples were deleted that it has heard of: what it keeps of them should be read anew. Called
    /// without a lock.
    fn deleted(&self) {}
}

/// Who wants to look at what writers append, besides the feed. Corrections, and what the live
/// runtime records, are not shown. Called with the shard's lock held: must only look, and queue
/// what it wants.
pub trait AppendObserver: Send + Sync {
    /// One appended item.
    fn look(&self, item: &ChangeEvent);
}

/// Whether an append is also pushed to the [`ChangeFeed`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum FeedDelivery {
    /// Push it (scrapes, remote write).
    Feed,
    /// Do not: the caller is the live runtime and hands it on itself, with the sequence number it gets back.
    Nobody,
}
