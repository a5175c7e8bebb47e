//! The leaves of a shard: which leaves read which ring, and the timers of their blocks (the series
//! of a ring that share their times).
//!
//! A leaf has to be evaluated after a sample in its ring ([`LeafTable::mark_dirty`]), a timer, or a
//! change of its parameters. Nothing is polled.

use super::leaf_slot::LeafSlot;
use super::timers::Timers;
use crate::live::leaf::{LeafConfig, LiveLeaf};
use crate::operators::stage::Stage;
use crate::plan::physical::StepId;
use std::collections::BTreeMap;
use storage::model::TimeMs;

/// The leaves of a shard.
#[derive(Default)]
pub(super) struct LeafTable {
    leaves: BTreeMap<StepId, LeafSlot>,
    /// By ring: the leaves that read it.
    readers: Vec<Vec<StepId>>,
    timers: Timers,
}

impl LeafTable {
    /// Adds a leaf. It gets its state now if its ring has rows.
    pub(super) fn add(&mut self, step: StepId, leaf: LeafSlot, ring_has_rows: bool) {
        let ring = leaf.ring;
        if self.readers.len() <= ring {
            self.readers.resize_with(ring + 1, Vec::new);
        }
        self.readers[ring].push(step);
        self.leaves.insert(step, leaf);
        if ring_has_rows {
            make_state(&mut self.leaves, &self.readers[ring], step);
        }
    }

    /// Removes a leaf, if the step is one. Returns the ring that it read.
    pub(super) fn remove(&mut self, step: StepId) -> Option<usize> {
        let ring = self.leaves.remove(&step)?.ring;
        self.readers[ring].retain(|reader| *reader != step);
        self.timers.leaf_removed();
        Some(ring)
    }

    /// A leaf.
    pub(super) fn get(&self, step: StepId) -> Option<&LeafSlot> {
        self.leaves.get(&step)
    }

    /// All leaves, by step.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&StepId, &LeafSlot)> {
        self.leaves.iter()
    }

    /// The leaves that read a ring.
    pub(super) fn readers(&self, ring: usize) -> &[StepId] {
        self.readers.get(ring).map_or(&[][..], Vec::as_slice)
    }

    /// One more than the largest number of a ring that a leaf has read.
    pub(super) fn ring_count(&self) -> usize {
        self.readers.len()
    }

    /// Whether the step is a leaf.
    pub(super) fn contains(&self, step: StepId) -> bool {
        self.leaves.contains_key(&step)
    }

    /// The state of a leaf, if the step is a leaf that has one.
    pub(super) fn state_mut(&mut self, step: StepId) -> Option<&mut LiveLeaf> {
        self.leaves.get_mut(&step)?.state.as_deref_mut()
    }

    /// Blocks of a ring have new samples of time `sample_t`: marks the leaves that read them.
    pub(super) fn mark_dirty(
        &mut self,
        ring: usize,
        sample_t: TimeMs,
        blocks: impl Iterator<Item = u32> + Clone,
        stage: &mut Stage,
    ) {
        let readers = self.readers.get(ring).map_or(&[][..], Vec::as_slice);
        for reader in readers {
            // Without a state yet it evaluates all blocks anyway, but must know since when.
            make_state(&mut self.leaves, readers, *reader);
            let leaf = self.leaves.get_mut(reader).and_then(|leaf| leaf.state.as_mut());
            let Some(leaf) = leaf else { continue };
            for block in blocks.clone() {
                leaf.mark_dirty(block, sample_t);
            }
            stage.mark_dirty(*reader);
        }
    }

    /// A ring was read from the store: what leaves know of its blocks is void.
    pub(super) fn reset(&mut self, ring: usize, ring_has_rows: bool, stage: &mut Stage) {
        let readers = self.readers.get(ring).map_or(&[][..], Vec::as_slice);
        for reader in readers {
            if ring_has_rows {
                make_state(&mut self.leaves, readers, *reader);
            }
            if let Some(leaf) = self.leaves.get_mut(reader).and_then(|leaf| leaf.state.as_mut()) {
                leaf.reset();
            }
            stage.mark_dirty(*reader);
        }
    }

    /// Sets the timers that the evaluation of a leaf has requested.
    pub(super) fn set_timers(&mut self, step: StepId) {
        if let Some(leaf) = self.leaves.get_mut(&step).and_then(|leaf| leaf.state.as_mut()) {
            self.timers.set(step, leaf.drain_timers());
        }
    }

    /// Marks the leaves that have a block whose answer has expired at `t`.
    pub(super) fn expire_timers(&mut self, t: TimeMs, stage: &mut Stage) {
        let leaves = &mut self.leaves;
        self.timers.sweep(|leaf| leaves.contains_key(&leaf));
        while let Some(timer) = self.timers.next(t) {
            let leaf = leaves.get_mut(&timer.leaf()).and_then(|leaf| leaf.state.as_mut());
            let Some(leaf) = leaf else { continue };
            if leaf.timer_expired(timer.block, timer.deadline, t) {
                stage.mark_dirty(timer.leaf());
            }
            self.timers.set(timer.leaf(), leaf.drain_timers());
        }
    }
}

/// Creates the state of a leaf if it has none. `readers`: the leaves over the same ring.
fn make_state(leaves: &mut BTreeMap<StepId, LeafSlot>, readers: &[StepId], step: StepId) {
    let Some(slot) = leaves.get(&step).filter(|slot| slot.state.is_none()) else { return };
    let mut state = LiveLeaf::new(LeafConfig::clone(slot.config()), slot.ring);
    let mut others = readers.iter().filter_map(|reader| leaves.get(reader)?.state.as_deref());
    others.any(|other| state.share_sorted(other));
    leaves.entry(step).and_modify(|slot| slot.state = Some(Box::new(state)));
}
