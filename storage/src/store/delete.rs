//! Deletions: the samples of matching series in a range of time are invisible to readers at once.
//! They are removed from the disk when their blocks are merged, or by [`Admin::clean_tombstones`].
//!
//! For blocks, a deletion is a tombstone (`../block/tombstones.rs`); for the head it is a record of
//! the log (`head_deletes.rs`). Only existing samples are deleted: samples that are appended later
//! at the same times stay.

use super::Store;
use super::admin::Admin;
use super::shards::StoreShard;
use crate::error::StoreError;
use crate::head::{AppendCounts, AppendDecision, SlotFloat, SlotHistogram};
use crate::model::value::ABSENT;
use crate::model::{Matcher, NativeHistogram, SHARDS, TimeMs};
use std::sync::Arc;

impl Admin<'_> {
    /// Deletes the samples in `from..=to` of the series that satisfy all matchers. Waits for a
    /// running flush or merge. Returns an LSN: the deletion in the head is durable when
    /// [`StoreWal::on_committed`](super::StoreWal::on_committed) says so; that in blocks is durable
    /// on return.
    pub fn delete(&self, matchers: &[Matcher], from: TimeMs, to: TimeMs) -> Result<u64, StoreError> {
        let store = self.store;
        store.replay.refuse_while_running()?;
        let _locks = store.locks.for_all_blocks();
        store.wal.log.wait_for_space()?;
        if let Some(history) = &store.history {
            history.delete(matchers, from, to)?;
        }
        let shards = (0..SHARDS).map(|shard| store.delete_in_head(shard, matchers, from, to));
        let lsn = shards.max().unwrap_or(0);
        store.subscribers.on_delete();
        Ok(lsn)
    }

    /// Rewrites the blocks that have deleted samples. Returns how many were rewritten or removed.
    /// Appends and queries continue meanwhile; flushes and merges run in between.
    pub fn clean_tombstones(&self) -> Result<usize, StoreError> {
        let Some(history) = &self.store.history else { return Ok(0) };
        let mut rewritten = 0;
        loop {
            let _locks = self.store.locks.for_rewrite();
            if !history.apply_tombstones()? {
                return Ok(rewritten);
            }
            rewritten += 1;
        }
    }
}

impl Store {
    fn delete_in_head(&self, shard_at: u16, matchers: &[Matcher], from: TimeMs, to: TimeMs) -> u64 {
        let mut shard = self.shards.get(shard_at).write();
        let mut deleted = Vec::new();
        for slot in shard.head.series.matching(matchers) {
            // Only up to the newest sample: samples that are appended later must stay.
            if let Some(newest) = shard.head.stored(slot).newest().filter(|newest| from <= *newest) {
                deleted.push((slot, from, to.min(newest)));
            }
        }
        for (slot, from, to) in &deleted {
            shard.deleted.add(*slot, *from, *to);
        }
        if !deleted.is_empty() {
            shard.arrivals.add(from);
        }
        self.wal.log_deletes(&mut shard, shard_at, &deleted)
    }

    /// Stores a sample if its time is a deleted one.
    pub(super) fn append_at_deleted_time(
        &self,
        shard: &mut StoreShard,
        sample: SlotFloat,
        counts: &mut AppendCounts,
    ) -> DeletedTimeAppend {
        let (slot, t, v) = sample;
        let decision = self.decide_at_deleted_time(shard, slot, t, counts);
        if decision == DeletedTimeAppend::Stored {
            shard.head.correct(slot, t, v);
        }
        decision
    }

    /// Stores a histogram if its time is a deleted one. Returns it as it was stored.
    pub(super) fn append_histogram_at_deleted_time(
        &self,
        shard: &mut StoreShard,
        slot: u32,
        t: TimeMs,
        h: &Arc<NativeHistogram>,
        counts: &mut AppendCounts,
    ) -> (DeletedTimeAppend, Option<SlotHistogram>) {
        let decision = self.decide_at_deleted_time(shard, slot, t, counts);
        let stored = (decision == DeletedTimeAppend::Stored).then(|| {
            shard.head.correct(slot, t, ABSENT);
            shard.head.add_corrected(slot, t, h)
        });
        (decision, stored)
    }

    /// Decides about a sample at `t` if this time may be deleted. If the sample is accepted, the
    /// time is no longer deleted.
    fn decide_at_deleted_time(
        &self,
        shard: &mut StoreShard,
        slot: u32,
        t: TimeMs,
        counts: &mut AppendCounts,
    ) -> DeletedTimeAppend {
        if !shard.deleted.covers(slot, t) {
            return DeletedTimeAppend::NotDeleted;
        }
        let oldest = shard.head.stored(slot).newest().map(|t| t.saturating_sub(self.options.out_of_order_ms));
        // A block has this time, or may have it: the sample could not be stored, so its writer must
        // get an error.
        if !shard.head.is_correctable(t) || oldest.is_some_and(|oldest| t < oldest) {
            shard.head.limits.count(AppendDecision::TooOld, slot, t, counts);
            return DeletedTimeAppend::TooOld;
        }
        shard.deleted.revive(slot, t);
        counts.stored += 1;
        counts.late += 1;
        DeletedTimeAppend::Stored
    }
}

/// The decision about a sample at a time that may be deleted.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum DeletedTimeAppend {
    /// The time is not deleted.
    NotDeleted,
    /// The sample is accepted, and stored again.
    Stored,
    /// The sample is too late.
    TooOld,
}
