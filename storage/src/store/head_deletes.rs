//! The deleted times of the series in the head of one shard: readers leave them out. Deletions in
//! blocks are tombstones (`storage/src/block/tombstones.rs`).
//!
//! The head itself keeps the samples until it is flushed; the blocks then do not get them. A
//! deletion ends at the newest sample of its series, and a sample that is appended later at a
//! deleted time is visible ([`HeadDeletes::revive`]). So a deletion affects only samples that
//! existed, never later ones.

use crate::model::{Intervals, TimeMs};
use std::collections::HashMap;
use std::sync::Arc;

/// Deleted times by slot. Cheap to clone for readers.
#[derive(Clone, Debug)]
pub(super) struct HeadDeletes {
    slots: Arc<HashMap<u32, Arc<Intervals>>>,
    /// Newest deleted time of any slot: later samples need no lookup.
    newest: TimeMs,
    /// How often anything was deleted.
    changes: u64,
}

impl Default for HeadDeletes {
    fn default() -> HeadDeletes {
        HeadDeletes { slots: Arc::default(), newest: TimeMs::MIN, changes: 0 }
    }
}

impl HeadDeletes {
    /// Deletes `from..=to` of `slot`.
    pub(super) fn add(&mut self, slot: u32, from: TimeMs, to: TimeMs) {
        if from <= to {
            self.changes += 1;
            let intervals = Arc::make_mut(&mut self.slots).entry(slot).or_default();
            Arc::make_mut(intervals).add(from, to);
            self.newest = self.newest.max(to);
        }
    }

    /// How often anything was deleted.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Whether nothing is deleted.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The deleted times of a slot, if there are any.
    pub(super) fn intervals(&self, slot: u32) -> Option<Arc<Intervals>> {
        self.slots.get(&slot).cloned()
    }

    /// Whether time `t` of `slot` is deleted.
    pub(super) fn covers(&self, slot: u32, t: TimeMs) -> bool {
        t <= self.newest && self.slots.get(&slot).is_some_and(|intervals| intervals.covers(t))
    }

    /// Whether time `t` is deleted for any of `slots`. Nearly always cheap.
    pub(super) fn touches(&self, slots: &[u32], t: TimeMs) -> bool {
        t <= self.newest && slots.iter().any(|slot| self.covers(*slot, t))
    }

    /// Makes time `t` of `slot` visible again.
    pub(super) fn revive(&mut self, slot: u32, t: TimeMs) {
        if !self.covers(slot, t) {
            return;
        }
        let slots = Arc::make_mut(&mut self.slots);
        if let Some(intervals) = slots.get_mut(&slot) {
            let left = Arc::make_mut(intervals);
            left.remove(t);
            if left.is_empty() {
                slots.remove(&slot);
            }
        }
    }

    /// Forgets deletions before `end`: the head has dropped that time.
    pub(super) fn drop_before(&mut self, end: TimeMs) {
        if self.slots.is_empty() {
            return;
        }
        Arc::make_mut(&mut self.slots).retain(|_, intervals| !Arc::make_mut(intervals).remove_before(end));
        if self.slots.is_empty() {
            self.newest = TimeMs::MIN;
        }
    }
}
