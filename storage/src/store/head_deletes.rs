//! What is deleted of the head of one shard, by slot: times that readers leave out.
//!
//! The head itself stays as it is until its ranges become blocks, without what is deleted. A
//! deletion goes no further than its series' newest sample, and a sample that comes later at a
//! deleted time is there again ([`HeadDeletes::revive`]): so a deletion is of what was there, never
//! of what comes.

use crate::model::{Intervals, TimeMs};
use std::collections::HashMap;
use std::sync::Arc;

/// Deleted times by slot. Cheap to clone for who reads.
#[derive(Clone, Debug)]
pub struct HeadDeletes {
    slots: Arc<HashMap<u32, Arc<Intervals>>>,
    /// Newest deleted time of any slot.
    newest: TimeMs,
}

impl Default for HeadDeletes {
    fn default() -> HeadDeletes {
        HeadDeletes { slots: Arc::default(), newest: TimeMs::MIN }
    }
}

impl HeadDeletes {
    /// From now on `from..=to` of `slot` is deleted.
    pub fn add(&mut self, slot: u32, from: TimeMs, to: TimeMs) {
        if from <= to {
            let intervals = Arc::make_mut(&mut self.slots).entry(slot).or_default();
            Arc::make_mut(intervals).add(from, to);
            self.newest = self.newest.max(to);
        }
    }

    /// Whether nothing is deleted.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The deleted times of a slot, if there are any.
    pub fn of(&self, slot: u32) -> Option<Arc<Intervals>> {
        self.slots.get(&slot).cloned()
    }

    /// Whether a sample of `slot` at `t` would be deleted.
    pub fn covers(&self, slot: u32, t: TimeMs) -> bool {
        t <= self.newest && self.slots.get(&slot).is_some_and(|intervals| intervals.covers(t))
    }

    /// Whether samples of some of `slots` at `t` would be deleted; nearly always quick to tell.
    pub fn touches(&self, slots: &[u32], t: TimeMs) -> bool {
        t <= self.newest && slots.iter().any(|slot| self.covers(*slot, t))
    }

    /// From now on `t` of `slot` is not deleted.
    pub fn revive(&mut self, slot: u32, t: TimeMs) {
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

    /// Forgets what is before `end`: the head has let go of it.
    pub fn drop_before(&mut self, end: TimeMs) {
        if self.slots.is_empty() {
            return;
        }
        Arc::make_mut(&mut self.slots).retain(|_, intervals| !Arc::make_mut(intervals).remove_before(end));
        if self.slots.is_empty() {
            self.newest = TimeMs::MIN;
        }
    }
}
