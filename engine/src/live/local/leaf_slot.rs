//! A leaf in a shard, with or without state.
//!
//! Every shard has one for each window of each view, and most rules of a large collection find
//! series in few shards or none. So the state ([`LiveLeaf`]) is created when the ring has its first
//! row. Before that the leaf has no rows and nothing to evaluate.

use crate::live::describe::LeafReport;
use crate::live::leaf::LiveLeaf;
use crate::plan::Dialect;
use crate::plan::explain::leaf_title;
use crate::plan::explain_physical::maintenance;
use crate::plan::physical::{Leaf, SampleSource, StepId};
use std::collections::BTreeMap;
use std::sync::Arc;
use storage::model::TimeMs;

/// What a leaf computes; the same in all shards.
pub(super) struct LeafSpec {
    pub source: SampleSource,
    pub leaf: Leaf,
    pub lookback: i64,
    pub dialect: Dialect,
}

/// A leaf of a shard; its state is created when it is needed.
pub(super) struct LeafSlot {
    spec: Arc<LeafSpec>,
    /// Index of its ring in the shard.
    pub ring: usize,
    pub state: Option<Box<LiveLeaf>>,
}

/// The leaves of a shard, by step.
pub(super) type Leaves = BTreeMap<StepId, LeafSlot>;

impl LeafSlot {
    /// A leaf over ring number `ring`, without state.
    pub(super) fn new(spec: Arc<LeafSpec>, ring: usize) -> LeafSlot {
        LeafSlot { spec, ring, state: None }
    }

    /// What is said of it; when it is due follows from all shards.
    pub(super) fn report(&self) -> LeafReport {
        let (source, leaf) = self.reads();
        LeafReport { step: leaf_title(source, leaf), maintenance: maintenance(leaf), next_due: None }
    }

    /// See [`LiveLeaf::next_due`].
    pub(super) fn next_due(&self) -> Option<TimeMs> {
        self.state.as_ref()?.next_due()
    }

    /// What it reads, and what it makes of it.
    pub(super) fn reads(&self) -> (&SampleSource, &Leaf) {
        (&self.spec.source, &self.spec.leaf)
    }

    /// See [`LiveLeaf::touched`].
    pub(super) fn touched(&self, since: TimeMs) -> usize {
        self.state.as_ref().map_or(0, |leaf| leaf.touched(since))
    }

    /// Bytes of its own state, and [`LiveLeaf::order_bytes`].
    pub(super) fn bytes(&self) -> (usize, (usize, bool)) {
        let own = size_of::<LeafSlot>();
        self.state.as_ref().map_or((own, (0, false)), |leaf| (own + leaf.bytes(), leaf.order_bytes()))
    }

    /// See [`LiveLeaf::has_seen_all`].
    pub(super) fn has_seen_all(&self) -> bool {
        self.state.as_ref().is_none_or(|leaf| leaf.has_seen_all())
    }
}

/// Creates the state of a leaf if it has none. `readers`: the leaves over the same ring.
pub(super) fn make_state(leaves: &mut Leaves, readers: &[StepId], step: StepId) {
    let Some(slot) = leaves.get(&step).filter(|slot| slot.state.is_none()) else { return };
    let LeafSpec { source, leaf, lookback, dialect } = &*slot.spec;
    let mut state = LiveLeaf::new(source.clone(), leaf.clone(), slot.ring, (*lookback, *dialect));
    let mut others = readers.iter().filter_map(|reader| leaves.get(reader)?.state.as_deref());
    others.any(|other| state.share_order(other));
    leaves.entry(step).and_modify(|slot| slot.state = Some(Box::new(state)));
}
