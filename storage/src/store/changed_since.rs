//! What changed in the store since an earlier moment: for readers that keep answers and want to
//! recompute only what may differ.
//!
//! Every change of a shard (a fixed share of the series) is recorded under its lock, before it
//! becomes visible ([`super::change_log`]). Blocks have a version that changes when their samples
//! may: by a deletion, an import, or blocks found in the object store. Flushes and merges do not
//! change answers and are not counted. Retention is not counted either: an answer may keep what it
//! saw before.

use super::Store;
use super::batch::ChangeData;
use super::shards::StoreShard;
use crate::model::TimeMs;

/// A moment of the store. A selection made after it contains at least everything of that moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreVersion {
    /// For each shard the number of changes so far.
    arrivals: Box<[u64]>,
    /// The version of the blocks.
    history: u64,
}

/// What may have changed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ChangedSince {
    /// No sample.
    Nothing,
    /// Samples at this time (ms) or later.
    From(TimeMs),
    /// Any sample.
    Everything,
}

/// Tells readers what changed in a store.
#[derive(Copy, Clone)]
pub struct StoreChanges<'a> {
    pub(super) store: &'a Store,
}

impl StoreChanges<'_> {
    /// The current moment. Take it before the selection that it belongs to: changes in between then
    /// count as changed.
    pub fn version(&self) -> StoreVersion {
        let arrivals = self.store.shards.iter().map(|shard| shard.read().arrivals.made()).collect();
        StoreVersion { arrivals, history: self.store.history_version() }
    }

    /// What may have changed since `version`, which must come from this store.
    pub fn samples_since(&self, version: &StoreVersion) -> ChangedSince {
        // What changed in blocks is not known by time, so anything may have.
        if self.store.history_version() != version.history {
            return ChangedSince::Everything;
        }
        let shards = self.store.shards.iter().zip(&version.arrivals);
        let oldest = shards.filter_map(|(shard, seen)| shard.read().arrivals.since(*seen)).min();
        oldest.map_or(ChangedSince::Nothing, ChangedSince::From)
    }
}

impl Store {
    pub(super) fn history_version(&self) -> u64 {
        self.history.as_ref().map_or(0, |history| history.version())
    }
}

impl StoreShard {
    /// Counts an append that is in the head. Returns its sequence number.
    pub(super) fn count(&mut self, data: &ChangeData) -> u64 {
        for t in oldest(data).into_iter() {
            self.arrivals.add(t);
        }
        self.seq += 1;
        self.seq
    }
}

/// Time of the oldest sample of an append.
fn oldest(data: &ChangeData) -> Option<TimeMs> {
    match data {
        ChangeData::Columns(batch) => Some(batch.t),
        ChangeData::Rows(rows) => rows.iter().map(|row| row.1).min(),
        ChangeData::Histograms(rows) => rows.iter().map(|row| row.1).min(),
        ChangeData::Starts(rows) => rows.iter().map(|row| row.1).min(),
    }
}
