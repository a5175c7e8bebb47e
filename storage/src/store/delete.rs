//! Deletions: what matching series have in a stretch of time is gone for every reader at once, and
//! from the disk when blocks are merged or [`Store::clean_tombstones`] is asked for.
//!
//! Of blocks a tombstone says it (`../block/tombstones.rs`), of the head a record of the log
//! (`head_deletes.rs` is what that becomes). Only what is there is deleted: what is appended or
//! written later, at whatever time, stays.

use super::options::StoreError;
use super::{Store, StoreShard};
use crate::head::{AppendCounts, AppendDecision, SlotFloat, SlotHistogram};
use crate::limits::WAL_SAMPLES;
use crate::model::value::ABSENT;
use crate::model::{Matcher, NativeHistogram, SHARDS, TimeMs};
use crate::wal::{RecordKind, put_starts};
use std::sync::Arc;

impl Store {
    /// Deletes what the series that satisfy all matchers have in `from..=to`. Waits for a flush or
    /// a merge that runs. The head's part is as durable as an append: see [`Store::on_committed`]
    /// with the number that comes back.
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
            // No further than what is there: what comes is not meant.
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

    /// Carries out in the files of blocks what is deleted; how many blocks were written anew or
    /// removed. Appends and queries go on meanwhile; flushes and merges come in between.
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

    /// Takes a sample if its time is a deleted one.
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

    /// Takes a histogram if its time is a deleted one; as it is stored, if it is.
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

    /// What becomes of a sample at `t` where one may have been deleted; if it is taken, that time
    /// is not deleted any more.
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
        // A block of that time is written, or may be there: who sends it must not hear that it is stored.
        if !shard.head.is_correctable(t) || oldest.is_some_and(|oldest| t < oldest) {
            shard.head.note(AppendDecision::TooOld, (slot, t), counts);
            return DeletedTimeAppend::Refused;
        }
        shard.deleted.revive(slot, t);
        (counts.stored, counts.late) = (counts.stored + 1, counts.late + 1);
        DeletedTimeAppend::Taken
    }
}

/// What becomes of a sample because of what is deleted.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum DeletedTimeAppend {
    /// Nothing is deleted at its time.
    No,
    /// It is there again.
    Taken,
    /// It comes too late.
    Refused,
}
