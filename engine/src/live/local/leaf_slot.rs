//! A leaf (a selector or a window function over one) in one shard, with or without state.
//!
//! Every shard has one for each window of each view, and most rules of a large collection find
//! series in few shards or none. So the state ([`LiveLeaf`]) is created when the ring has its first
//! row (series). Before that the leaf has no rows and nothing to evaluate.

use crate::live::describe::LeafReport;
use crate::live::leaf::shared_sorted::SortedBytes;
use crate::live::leaf::{LeafConfig, LiveLeaf};
use crate::plan::explain::leaf_title;
use crate::plan::explain_physical::maintenance;
use crate::plan::physical::{Leaf, SampleSource};
use std::sync::Arc;
use storage::model::TimeMs;

/// What a leaf allocates, in bytes.
pub(super) struct LeafBytes {
    /// Its own state.
    pub own: usize,
    /// The sorted values of its window, which several leaves may share.
    pub sorted: SortedBytes,
}

/// A leaf of a shard; its state is created when it is needed.
pub(super) struct LeafSlot {
    /// Shared by all shards.
    config: Arc<LeafConfig>,
    /// Index of its ring in the shard.
    pub ring: usize,
    pub state: Option<Box<LiveLeaf>>,
}

impl LeafSlot {
    /// A leaf over ring number `ring`, without state.
    pub(super) fn new(config: Arc<LeafConfig>, ring: usize) -> LeafSlot {
        LeafSlot { config, ring, state: None }
    }

    /// The description of the leaf. When it is due depends on all shards, so that is left out.
    pub(super) fn report(&self) -> LeafReport {
        let (source, leaf) = self.reads();
        LeafReport { step: leaf_title(source, leaf), maintenance: maintenance(leaf), next_due: None }
    }

    /// See [`LiveLeaf::next_due`].
    pub(super) fn next_due(&self) -> Option<TimeMs> {
        self.state.as_ref()?.next_due()
    }

    /// What it computes.
    pub(super) fn config(&self) -> &LeafConfig {
        &self.config
    }

    /// The samples that it reads, and the function that it applies to them.
    pub(super) fn reads(&self) -> (&SampleSource, &Leaf) {
        (&self.config.source, &self.config.leaf)
    }

    /// See [`LiveLeaf::rows_read_since`].
    pub(super) fn rows_read_since(&self, since: TimeMs) -> usize {
        self.state.as_ref().map_or(0, |leaf| leaf.rows_read_since(since))
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> LeafBytes {
        let own = size_of::<LeafSlot>();
        match &self.state {
            Some(leaf) => LeafBytes { own: own + leaf.bytes(), sorted: leaf.sorted_bytes() },
            None => LeafBytes { own, sorted: SortedBytes::default() },
        }
    }

    /// See [`LiveLeaf::has_seen_all`].
    pub(super) fn has_seen_all(&self) -> bool {
        self.state.as_ref().is_none_or(|leaf| leaf.has_seen_all())
    }
}
