//! The shards of a store. The series are divided into a fixed number of shards by a hash of their
//! target; each shard has a head (its recent samples, in memory) and a lock of its own, so that
//! scrapes of different targets do not wait for each other.

use super::change_log::ChangeLog;
use super::head_deletes::HeadDeletes;
use super::replay_overlay::ReplayOverlay;
use crate::error::StoreError;
use crate::head::{Head, full};
use crate::limits::SHARD_SLOTS;
use crate::model::{Labels, SHARDS, SeriesRef, TimeMs, shard_of_encoded};
use crate::wal::RecordBuilder;
use parking_lot::RwLock;

/// What is under the lock of one shard.
pub(super) struct StoreShard {
    pub(super) head: Head,
    /// Number of the last append.
    pub(super) seq: u64,
    /// The oldest times that recent appends changed.
    pub(super) arrivals: ChangeLog,
    /// Buffer for records that are encoded; kept to reuse its memory.
    pub(super) batch: RecordBuilder,
    /// The deleted times of the head's series.
    pub(super) deleted: HeadDeletes,
    /// While the log is replayed: what was appended since the start.
    pub(super) overlay: Option<ReplayOverlay>,
}

/// All shards.
pub(super) struct Shards(Vec<RwLock<StoreShard>>);

impl Shards {
    /// One for each of [`SHARDS`].
    pub(super) fn new(shards: Vec<StoreShard>) -> Shards {
        debug_assert_eq!(shards.len(), usize::from(SHARDS));
        Shards(shards.into_iter().map(RwLock::new).collect())
    }

    /// A shard by its number. Numbers of other processes' shards wrap around: a wrong shard is
    /// found rather than a panic, and has no such series.
    pub(super) fn get(&self, shard: u16) -> &RwLock<StoreShard> {
        &self.0[usize::from(shard % SHARDS)]
    }

    /// All shards, in order. They are locked one at a time, so a sum over them is not one moment.
    pub(super) fn iter(&self) -> impl Iterator<Item = &RwLock<StoreShard>> {
        self.0.iter()
    }

    /// The series with these encoded labels, if it is active.
    pub(super) fn find_encoded(&self, encoded: &[u8]) -> Option<SeriesRef> {
        let shard = shard_of_encoded(encoded);
        let slot = self.get(shard).read().head.series.find(encoded)?;
        Some(SeriesRef { shard, slot })
    }

    /// The labels of a series, also of an inactive one; empty if there is no such series.
    pub(super) fn labels(&self, series: SeriesRef) -> Labels {
        let shard = self.get(series.shard).read();
        shard.head.series.labels_including_inactive(series.slot).unwrap_or_default()
    }

    /// Number of slots of a shard.
    pub(super) fn slots(&self, shard: u16) -> u32 {
        self.get(shard).read().head.series.slots()
    }

    /// Times of the oldest and newest sample of each head that has any.
    pub(super) fn spans(&self) -> impl Iterator<Item = (TimeMs, TimeMs)> {
        self.0.iter().filter_map(|shard| shard.read().head.times.span())
    }

    /// Checks that all series exist, before anything of them is appended.
    pub(super) fn check_series(&self, mut series: impl Iterator<Item = SeriesRef>) -> Result<(), StoreError> {
        // Slots are never taken back, so each shard is asked once.
        let mut slots = [None; SHARDS as usize];
        let mut known = |series: &SeriesRef| {
            let count = slots.get_mut(usize::from(series.shard));
            count.is_some_and(|n| series.slot < *n.get_or_insert_with(|| self.slots(series.shard)))
        };
        match series.find(|series| !known(series)) {
            Some(series) if series.slot == SHARD_SLOTS => Err(full("series")),
            Some(series) => {
                Err(StoreError::Invalid(format!("malformed rows: there is no series {series:?}")))
            }
            None => Ok(()),
        }
    }
}
