//! Evaluates the local stage of one shard in a round of a tick: the leaves and steps that are due
//! and whose inputs have changed. Steps are evaluated as in every stage
//! ([`crate::operators::stage`]). Leaves are not operators, because they read rings: the hooks here
//! evaluate them.

use super::history_load::PendingLoads;
use super::leaf_table::LeafTable;
use super::ports::PortOutbox;
use super::shard::LocalShard;
use super::shard_rings::ShardRings;
use crate::live::cost::StepTimer;
use crate::operators::stage::{Stage, StageHooks, StepChange};
use crate::operators::step_set::StepSet;
use crate::plan::physical::StepId;
use storage::model::TimeMs;

impl LocalShard {
    /// Evaluates the steps that are due and have changed inputs, in order. Returns how many rows
    /// leaves and groups read.
    pub(super) fn eval(&mut self, due: &StepSet, t: TimeMs, meter: &mut StepTimer) -> usize {
        self.leaves.expire_timers(t, &mut self.stage);
        // The time since the previous shard belongs to no step.
        meter.skip();
        let mut hooks = LocalHooks {
            leaves: &mut self.leaves,
            rings: &mut self.rings,
            loads: &self.loads,
            outbox: &mut self.outbox,
            meter,
        };
        self.stage.eval_round(due, t, &mut hooks)
    }
}

/// Evaluates leaves, and collects what owners must receive.
struct LocalHooks<'a> {
    leaves: &'a mut LeafTable,
    rings: &'a mut ShardRings,
    loads: &'a PendingLoads,
    outbox: &'a mut PortOutbox,
    meter: &'a mut StepTimer,
}

impl StageHooks for LocalHooks<'_> {
    fn eval_leaf(&mut self, stage: &mut Stage, step: StepId, t: TimeMs) -> Option<usize> {
        self.leaves.contains(step).then(|| self.eval_existing_leaf(stage, step, t).unwrap_or(0))
    }

    fn evaluated(&mut self, step: StepId, change: StepChange) {
        self.outbox.step_evaluated(step, change);
        self.meter.step(step);
    }
}

impl LocalHooks<'_> {
    /// Evaluates a leaf. `None`: it cannot be evaluated now.
    fn eval_existing_leaf(&mut self, stage: &mut Stage, step: StepId, t: TimeMs) -> Option<usize> {
        // Without a state the leaf has no rows.
        let leaf = self.leaves.state_mut(step)?;
        // The leaf is new, and its ring is being read from the store. The ring that is there now
        // may have spilled rows that the leaf needs.
        if leaf.is_new() && self.loads.is_reading(leaf.ring) {
            return None;
        }
        // Without a ring, it is still being read. [`LocalShard::install_ring`] resets the leaf when
        // it is there.
        let ring = self.rings.get_mut(leaf.ring)?;
        if leaf.config.strips_names() {
            ring.strip_names();
        }
        let params = stage.inputs(step).iter();
        let params = params.map(|p| stage.output(*p).values.first().copied().unwrap_or(f64::NAN)).collect();
        let rows = leaf.eval(ring, t, params, stage.output_mut(step));
        ring.require_from(step, leaf.sorted_from());
        self.leaves.set_timers(step);
        Some(rows)
    }
}
