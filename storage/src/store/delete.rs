//! Deletions: the samples of matching series in a range of time are invisible to readers at once.
//! They are removed from the disk when their blocks are merged, or by [`Store::clean_tombstones`].
//!
//! For blocks, a deletion is a tombstone (`../block/tombstones.rs`); for the head it is a record of
//! the log (`head_deletes.rs`). Only existing samples are deleted: samples that are appended later
//! at the same times stay.

use super::{Store, StoreShard};
use crate::error::StoreError;
use crate::head::{AppendCounts, AppendDecision, SlotFloat, SlotHistogram};
use crate::limits::WAL_SAMPLES;
use crate::model::value::ABSENT;
use crate::model::{Matcher, NativeHistogram, SHARDS, TimeMs};
use crate::wal::{RecordKind, put_starts};
use std::sync::Arc;

impl Store {
    /// Deletes the samples in `from..=to` of the series that satisfy all matchers. Waits for a
    /// running flush or merge. Returns an LSN: the deletion in the head is durable when
    /// [`Store::on_committed`] says so; that in blocks is durable on return.
    pub fn delete(&self, matchers: &[Matcher], from: TimeMs, to: TimeMs) -> Result<u64, StoreError> {
        self.refuse_while_replaying()?;
        let _no_merge = self.merge_lock.lock();
        let _no_flush = self.flush_lock.lock();
        self.log.wait_for_space()?;
        if let Some(history) = &self.history {
            history.delete(matchers, from, to)?;
        }
        let shards = (0..SHARDS).map(|shard| self.delete_in_head(shard, matchers, from, to));
        let lsn = shards.max().unwrap_or(0);
        if let Some(feed) = &*self.feed.read() {
            feed.deleted();
        }
        Ok(lsn)
    }

    fn delete_in_head(&self, shard_at: u16, matchers: &[Matcher], from: TimeMs, to: TimeMs) -> u64 {
        let mut shard = self.shard(shard_at).write();
        let mut gone = Vec::new();
        for slot in shard.head.matching(matchers) {
            // Only up to the newest sample: samples that are appended later must stay.
            if let Some(newest) = shard.head.newest_of(slot).filter(|newest| from <= *newest) {
                gone.push((slot, from, to.min(newest)));
            }
        }
        for (slot, from, to) in &gone {
            shard.deleted.add(*slot, *from, *to);
        }
        if !gone.is_empty() {
            shard.arrivals.add(from);
        }
        self.log_parts(&mut shard, shard_at, gone.iter().map(|one| one.2).max(), |batch| {
            for part in gone.chunks(WAL_SAMPLES) {
                batch.add(RecordKind::Deletes, |out| put_starts(out, shard_at, part));
            }
        })
    }

    /// Rewrites the blocks that have deleted samples. Returns how many were rewritten or removed.
    /// Appends and queries continue meanwhile; flushes and merges run in between.
    pub fn clean_tombstones(&self) -> Result<usize, StoreError> {
        let Some(history) = &self.history else { return Ok(0) };
        let mut done = 0;
        loop {
            let _no_move = self.move_lock.lock();
            let _one_at_a_time = self.merge_lock.lock();
            if !history.apply_tombstones()? {
                return Ok(done);
            }
            done += 1;
        }
    }

    /// Stores a sample if its time is a deleted one.
    pub(super) fn append_again(
        &self,
        shard: &mut StoreShard,
        (slot, t, v): SlotFloat,
        counts: &mut AppendCounts,
    ) -> DeletedTimeAppend {
        let again = self.comes_again(shard, slot, t, counts);
        if again == DeletedTimeAppend::Taken {
            shard.head.correct(slot, t, v);
        }
        again
    }

    /// Stores a histogram if its time is a deleted one. Returns it as it was stored.
    pub(super) fn append_histogram_again(
        &self,
        shard: &mut StoreShard,
        (slot, t, h): (u32, TimeMs, &Arc<NativeHistogram>),
        counts: &mut AppendCounts,
    ) -> (DeletedTimeAppend, Option<SlotHistogram>) {
        let again = self.comes_again(shard, slot, t, counts);
        let kept = (again == DeletedTimeAppend::Taken).then(|| {
            shard.head.correct(slot, t, ABSENT);
            shard.head.add_corrected((slot, t, h.clone()))
        });
        (again, kept)
    }

    /// Decides about a sample at `t` if this time may be deleted. If the sample is accepted, the
    /// time is no longer deleted.
    fn comes_again(
        &self,
        shard: &mut StoreShard,
        slot: u32,
        t: TimeMs,
        counts: &mut AppendCounts,
    ) -> DeletedTimeAppend {
        if !shard.deleted.covers(slot, t) {
            return DeletedTimeAppend::No;
        }
        let oldest = shard.head.newest_of(slot).map(|t| t.saturating_sub(self.options.out_of_order_ms));
        // A block has this time, or may have it: the sample could not be stored, so its writer must
        // get an error.
        if !shard.head.is_correctable(t) || oldest.is_some_and(|oldest| t < oldest) {
            shard.head.note(AppendDecision::TooOld, (slot, t), counts);
            return DeletedTimeAppend::Refused;
        }
        shard.deleted.revive(slot, t);
        counts.stored += 1;
        counts.late += 1;
        DeletedTimeAppend::Taken
    }
}

/// The decision about a sample at a time that may be deleted.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum DeletedTimeAppend {
    /// The time is not deleted.
    No,
    /// The sample is accepted, and stored again.
    Taken,
    /// The sample is too late.
    Refused,
}
