//! The local stage of one shard (a fixed share of the series): its rings, the routes by which
//! samples reach them, and the steps that read them.
//!
//! Evaluation is in [`super::eval`], the deltas for the owners of views in [`super::ports`], the
//! loading of history in [`super::history_load`].

use super::history_load::PendingLoads;
use super::leaf_slot::LeafSlot;
use super::leaf_table::LeafTable;
use super::ports::PortOutbox;
use super::sample_routes::{Delivery, SampleRoutes, SampleTarget};
use super::shard_rings::ShardRings;
use crate::live::check::ArrivalWatch;
use crate::live::ring::SampleRing;
use crate::live::topology::WorkerTopology;
use crate::operators::stage::Stage;
use crate::operators::step_set::StepSet;
use crate::plan::Dialect;
use crate::plan::physical::{Step, StepId};
use std::sync::Arc;
use storage::model::TimeMs;
use storage::store::{ChangeEvent, Store};

/// The state of the local stage in one shard.
pub(super) struct LocalShard {
    /// The number of the shard in this process.
    pub number: u16,
    pub stage: Stage,
    pub leaves: LeafTable,
    pub rings: ShardRings,
    pub routes: SampleRoutes,
    /// Rings that are being read from the store.
    pub loads: PendingLoads,
    /// New steps that must not be evaluated yet.
    pub unopened: StepSet,
    /// What owners of ports have received and must receive.
    pub outbox: PortOutbox,
    /// The rings of a view that is being checked.
    pub watch: Option<Box<ArrivalWatch>>,
}

impl LocalShard {
    /// Shard `number` of the process of `topology`, without steps.
    pub(super) fn new(number: u16, topology: WorkerTopology, dialect: Dialect) -> LocalShard {
        LocalShard {
            number,
            stage: Stage::new(dialect),
            leaves: LeafTable::default(),
            rings: ShardRings::default(),
            routes: SampleRoutes::new(number, dialect.start_timestamps),
            loads: PendingLoads::default(),
            unopened: StepSet::default(),
            outbox: PortOutbox::new(topology.global_shard(number)),
            watch: None,
        }
    }

    /// Adds a step that must not be evaluated before [`LocalShard::open`].
    pub(super) fn add_step(&mut self, id: StepId, step: Arc<Step>) {
        self.stage.insert(id, step);
        self.unopened.insert(id);
    }

    /// Makes an added step a leaf.
    pub(super) fn add_leaf(&mut self, step: StepId, leaf: LeafSlot) {
        // The ring itself comes later, when its history has been read.
        self.rings.make_space(leaf.ring);
        let has_rows = self.rings.has_rows(leaf.ring);
        self.leaves.add(step, leaf, has_rows);
    }

    /// Removes a step that no view reads any more. Returns its ring, if it is a leaf.
    pub(super) fn remove_step(&mut self, step: StepId) -> Option<usize> {
        self.stage.remove(step);
        self.unopened.remove(step);
        self.outbox.remove_step(step);
        let ring = self.leaves.remove(step)?;
        // The ring may have other readers, which do not need the samples that this step held.
        if let Some(ring) = self.rings.get_mut(ring) {
            ring.require_from(step, None);
        }
        Some(ring)
    }

    /// Whether no ring is being read and no step waits for its first evaluation.
    pub(super) fn is_at_rest(&self) -> bool {
        self.loads.is_idle() && self.unopened.is_empty()
    }

    /// Whether any of these steps waits for its history or for its first evaluation.
    pub(super) fn keeps_waiting(&self, steps: &[StepId]) -> bool {
        let reads = |step: StepId| self.leaves.get(step).is_some_and(|leaf| self.loads.is_reading(leaf.ring));
        steps.iter().any(|step| self.unopened.contains(*step) || reads(*step))
    }

    /// Lets new steps be evaluated. Returns about how many rows that will read.
    pub(super) fn open(&mut self) -> usize {
        let rows = |step: StepId| {
            let ring = self.leaves.get(step).and_then(|leaf| self.rings.get(leaf.ring));
            // A step without rows costs something as well: a thousand rules have thousands of them.
            1 + ring.map_or(0, |ring| ring.labels.len())
        };
        let rows = self.unopened.iter().map(rows).sum();
        self.unopened = StepSet::default();
        rows
    }

    /// Puts a ring in place; if it replaces one, rows keep the numbers they had in that one.
    /// Changes that arrived after the ring was read must then be added with
    /// [`LocalShard::deliver`].
    pub(super) fn install_ring(&mut self, number: usize, mut ring: SampleRing, t: TimeMs) {
        // Before routes: they contain the row numbers.
        self.rings.prepare(number, &mut ring);
        self.routes.route_groups(number, &mut ring, t);
        self.rings.store(number, ring);
        self.reset_leaves(number);
    }

    /// Drops a ring that has no readers.
    pub(super) fn drop_ring(&mut self, number: usize) {
        self.loads.forget(number);
        self.rings.remove(number);
    }

    /// Forgets the routes of groups and series that have sent nothing for as long as the longest
    /// ring reaches back.
    pub(super) fn forget_silent(&mut self, t: TimeMs) {
        self.routes.forget_unused_since(t - self.rings.longest_retention());
    }

    /// Keeps an existing ring although the history that it should have cannot be read: from now on
    /// it grows to `retention` ms. `false`: there is no ring.
    pub(super) fn extend_ring(&mut self, number: usize, retention: i64) -> bool {
        let exists = self.rings.extend(number, retention);
        if exists {
            self.reset_leaves(number);
        }
        exists
    }

    /// A ring was read from the store: what leaves know of its blocks is void.
    fn reset_leaves(&mut self, ring: usize) {
        let has_rows = self.rings.has_rows(ring);
        self.leaves.reset(ring, has_rows, &mut self.stage);
    }

    /// Makes the state of all leaves void.
    pub(super) fn reset_all_leaves(&mut self) {
        for ring in 0..self.leaves.ring_count() {
            self.reset_leaves(ring);
        }
    }

    /// Adds a change to all rings, or only to ring `only`. `t`: the tick that it belongs to.
    pub(super) fn deliver(&mut self, store: &Store, event: &ChangeEvent, t: TimeMs, only: Option<usize>) {
        let mut target = SampleTarget {
            rings: &mut self.rings,
            leaves: &mut self.leaves,
            stage: &mut self.stage,
            watch: self.watch.as_deref_mut(),
        };
        self.routes.deliver(store, event, Delivery { seq: event.seq, t, only }, &mut target);
    }
}
