//! Evaluates a shard in a round: the leaves and steps that are due and whose inputs have changed,
//! in order of dependency.
//!
//! A leaf has to be evaluated after a sample in its ring ([`disturb`]), a timer, or a change of its
//! parameters. The stage knows the steps whose inputs changed. Nothing is polled.

use super::leaf_slot::{LeafSlot, Leaves, make_state};
use super::shard::LocalShard;
use crate::live::cost::StepTimer;
use crate::operators::stage::Stage;
use crate::operators::step_set::StepSet;
use crate::plan::physical::StepId;
use storage::model::TimeMs;

/// Blocks of a ring have new samples: marks the leaves that read them.
pub(super) fn disturb(
    readers: &[StepId],
    leaves: &mut Leaves,
    stage: &mut Stage,
    blocks: impl Iterator<Item = u32> + Clone,
) {
    for reader in readers {
        match leaves.get_mut(reader) {
            Some(LeafSlot { state: Some(leaf), .. }) => {
                blocks.clone().for_each(|block| leaf.mark_dirty(block))
            }
            // The leaf has no state yet, so it evaluates all blocks anyway.
            Some(_) => make_state(leaves, readers, *reader),
            None => continue,
        }
        stage.disturb(*reader);
    }
}

impl LocalShard {
    pub(super) fn add_leaf(&mut self, step: StepId, leaf: LeafSlot) {
        let ring = leaf.ring;
        if self.readers.len() <= ring {
            self.readers.resize_with(ring + 1, Vec::new);
        }
        self.readers[ring].push(step);
        self.leaves.insert(step, leaf);
        if self.has_rows(ring) {
            make_state(&mut self.leaves, &self.readers[ring], step);
        }
    }

    fn has_rows(&self, ring: usize) -> bool {
        self.rings.get(ring).and_then(Option::as_ref).is_some_and(|ring| !ring.labels.is_empty())
    }

    /// Removes a leaf, if the step is one. Returns the ring that it read.
    pub(super) fn remove_leaf(&mut self, step: StepId) -> Option<usize> {
        let ring = self.leaves.remove(&step)?.ring;
        self.readers[ring].retain(|reader| *reader != step);
        self.rings[ring].iter_mut().for_each(|ring| ring.hold(step, None));
        self.timers.leaf_removed();
        Some(ring)
    }

    /// A ring was read from the store: what leaves know of its blocks is void.
    pub(super) fn reset_leaves(&mut self, ring: usize) {
        let has_rows = self.has_rows(ring);
        let readers = self.readers.get(ring).map_or(&[][..], Vec::as_slice);
        for reader in readers {
            if has_rows {
                make_state(&mut self.leaves, readers, *reader);
            }
            let state = self.leaves.get_mut(reader).and_then(|leaf| leaf.state.as_mut());
            for leaf in state.into_iter() {
                leaf.reset();
            }
            self.stage.disturb(*reader);
        }
    }

    /// Makes the state of all leaves void.
    pub(super) fn reset_all(&mut self) {
        (0..self.readers.len()).for_each(|ring| self.reset_leaves(ring));
    }

    /// Evaluates the steps that are due and have changed inputs, in order. Returns how many rows
    /// leaves and groups read.
    pub(super) fn eval(&mut self, due: &StepSet, t: TimeMs, meter: &mut StepTimer) -> usize {
        self.ring_timers(t);
        let mut rows = 0;
        let mut from = 0;
        self.stage.begin();
        meter.skip();
        while let Some(id) = self.stage.next(due, from) {
            let before = self.versions(id);
            match self.leaves.contains_key(&id) {
                true => rows += self.eval_leaf(id, t),
                false if self.stage.eval(id, t) => rows += self.stage.output(id).rows_looked_at,
                false => {}
            }
            let after = self.versions(id);
            if after.1 != before.1 {
                self.renoted.push(id);
                if !self.noted.contains(&id) {
                    self.noted.push(id);
                    self.remarks_stand = false;
                }
            }
            if after.0 != before.0 {
                self.stage.changed(id);
                self.changed.push(id);
            }
            meter.step(id);
            from = id + 1;
        }
        rows
    }

    /// Versions of a step's rows and of its annotations.
    fn versions(&self, id: StepId) -> (u64, u64) {
        let out = self.stage.output(id);
        (out.version, out.notes.version())
    }

    fn eval_leaf(&mut self, id: StepId, t: TimeMs) -> usize {
        // Without a state the leaf has no rows.
        let Some(leaf) = self.leaves.get_mut(&id).and_then(|leaf| leaf.state.as_mut()) else { return 0 };
        // The leaf is new, and its ring is being read from the store. The ring that is there now
        // may have spilled rows that the leaf needs.
        if leaf.is_new() && self.past.is_reading(leaf.ring) {
            return 0;
        }
        // The ring is still being read. [`LocalShard::place`] resets the leaf when it is there.
        let Some(ring) = self.rings.get_mut(leaf.ring).and_then(Option::as_mut) else { return 0 };
        if leaf.config.strips_names() {
            ring.strip_names();
        }
        let params = self.stage.inputs(id).iter();
        let params = params.map(|p| self.stage.output(*p).values.first().copied().unwrap_or(f64::NAN));
        let params = params.collect();
        let rows = leaf.eval(ring, t, params, self.stage.output_mut(id));
        ring.hold(id, leaf.sorted_from());
        self.timers.set(id, leaf.drain_timers());
        rows
    }

    /// Notifies the leaves whose timers have expired.
    fn ring_timers(&mut self, t: TimeMs) {
        let leaves = &mut self.leaves;
        self.timers.sweep(|leaf| leaves.contains_key(&leaf));
        while let Some(timer) = self.timers.next(t) {
            let leaf = leaves.get_mut(&timer.leaf()).and_then(|leaf| leaf.state.as_mut());
            let Some(leaf) = leaf else { continue };
            if leaf.timer_expired(timer.block, timer.deadline, t) {
                self.stage.disturb(timer.leaf());
            }
            self.timers.set(timer.leaf(), leaf.drain_timers());
        }
    }
}
