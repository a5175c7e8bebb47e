//! Samples by column: the batch that one scrape of a target, or one evaluation of a rule, makes in
//! one shard. All its samples have one timestamp. Which series the columns are changes rarely, so
//! it is stored once ([`ColumnLayout`]), and a batch is a time and a list of values.

use super::TimeMs;
use std::sync::Arc;

/// The id of a column group: the series of one target or one rule in one shard.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct GroupId(pub u32);

/// Which series the columns of a batch are. A writer keeps one `Arc` for as long as the set of
/// series is the same, so that readers recognise an unchanged layout by its address.
#[derive(Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ColumnLayout {
    /// Series slot of each column; all in the group's shard, each at most once.
    pub slots: Vec<u32>,
}

/// The samples of one scrape of one group: one timestamp and a value per column.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct ColumnBatch {
    /// The group, from [`crate::store::Store::open_group`].
    pub group: GroupId,
    /// The series of the columns.
    pub layout: Arc<ColumnLayout>,
    /// The timestamp of all samples.
    pub t: TimeMs,
    /// Value per column; `ABSENT` where there is no sample, `STALE` where the series has ended.
    pub values: Arc<[f64]>,
}
