//! What changed since somebody looked: for who keeps answers, and wants to ask anew only what may
//! be another one now.
//!
//! Whatever comes into a shard, or goes, is noted under the shard's lock, before it can be seen
//! ([`super::change_log`]). Of the blocks is known that they hold other samples: by a deletion, an
//! import, what was found in the object store. Flushes and merges, every two hours, change no
//! answer. Retention is not counted: what an answer saw before it stays.

use super::batch::ChangeData;
use super::{Store, StoreShard};
use crate::model::TimeMs;

/// A moment of the store: what was selected behind it may have seen more, never less.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreVersion {
    /// Of each shard: how much had come.
    arrivals: Box<[u64]>,
    /// Version of the history.
    history: u64,
}

/// What may answer differently.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ChangedSince {
    /// Nothing.
    Nothing,
    /// Samples at this time or later, ms.
    From(TimeMs),
    /// Anything.
    Everything,
}

impl Store {
    /// This moment. To be taken before what is to be compared with it is selected: what comes in
    /// between counts as changed.
    pub fn mark(&self) -> StoreVersion {
        let arrivals = self.shards.iter().map(|shard| shard.read().arrivals.made()).collect();
        StoreVersion { arrivals, history: self.history_version() }
    }

    /// What may have changed since `mark`, which is one of this store.
    pub fn changed_since(&self, mark: &StoreVersion) -> ChangedSince {
        if self.history_version() != mark.history {
            return ChangedSince::Everything;
        }
        let shards = self.shards.iter().zip(&mark.arrivals);
        let oldest = shards.filter_map(|(shard, seen)| shard.read().arrivals.since(*seen)).min();
        oldest.map_or(ChangedSince::Nothing, ChangedSince::From)
    }

    fn history_version(&self) -> u64 {
        self.history.as_ref().map_or(0, |history| history.version())
    }
}

impl StoreShard {
    /// Counts an append that is in the head; its number.
    pub(super) fn count(&mut self, data: &ChangeData) -> u64 {
        for t in oldest(data).into_iter() {
            self.arrivals.add(t);
        }
        self.seq += 1;
        self.seq
    }
}

/// Time of the oldest sample.
fn oldest(data: &ChangeData) -> Option<TimeMs> {
    match data {
        ChangeData::Columns(batch) => Some(batch.t),
        ChangeData::Rows(rows) => rows.iter().map(|row| row.1).min(),
        ChangeData::Histograms(rows) => rows.iter().map(|row| row.1).min(),
        ChangeData::Starts(rows) => rows.iter().map(|row| row.1).min(),
    }
}
