//! Which series were added since an earlier moment, for readers that keep a list of series and do
//! not want to read all of it again.
//!
//! New series have new slots (numbers in their shard), so finding additions costs only what is new.
//! All other changes (a series that ends or comes back, a deletion, a change of the blocks) are
//! reported as "list again". Blocks that retention removes are not reported: readers list from a
//! fixed begin, and do not see the difference.

use super::changed_since::StoreChanges;
use crate::model::{Labels, SHARDS};

/// What a reader has seen.
#[derive(Clone, Debug, Default)]
pub struct SeriesMark {
    shards: Vec<ShardMark>,
    /// The version of the blocks.
    history: u64,
}

/// What a reader has seen of one shard.
#[derive(Clone, Debug, Default)]
struct ShardMark {
    /// All slots below were seen.
    slots: u32,
    /// Of those below, the visible ones that had no sample yet.
    waiting: Vec<u32>,
    /// How often series ended or came back, and how many deletions there were.
    returns: u64,
}

/// What changed in the list of series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeriesChanges {
    /// These came, and none went. Some may have been there before.
    Added(Vec<Labels>),
    /// Any series may have come or gone.
    Unknown,
}

impl StoreChanges<'_> {
    /// The current moment. Take it before the list that it belongs to.
    pub fn series_mark(&self) -> SeriesMark {
        let history = self.store.history_version();
        let shards = self.store.shards.iter().map(|shard| {
            let shard = shard.read();
            let series = &shard.head.series;
            let unread =
                series.visible_from(0).filter(|(slot, _)| shard.head.stored(*slot).newest().is_none());
            ShardMark {
                slots: series.slots(),
                waiting: unread.map(|(slot, _)| slot).collect(),
                returns: series.returns() + shard.deleted.changes(),
            }
        });
        SeriesMark { shards: shards.collect(), history }
    }

    /// What changed in the list of series since `mark`, which is moved to now. After
    /// [`SeriesChanges::Unknown`] the caller takes a new mark.
    pub fn series_since(&self, mark: &mut SeriesMark) -> SeriesChanges {
        if mark.history != self.store.history_version() || mark.shards.len() != usize::from(SHARDS) {
            return SeriesChanges::Unknown;
        }
        let mut added = Vec::new();
        for (number, seen) in (0..).zip(&mut mark.shards) {
            let shard = self.store.shards.get(number).read();
            let series = &shard.head.series;
            // Deleted samples hide series, and later ones show them again, without any of these
            // counts.
            if seen.returns != series.returns() + shard.deleted.changes() || !shard.deleted.is_empty() {
                return SeriesChanges::Unknown;
            }
            if seen.slots == series.slots() && seen.waiting.is_empty() {
                continue;
            }
            let is_read = |slot: u32| shard.head.stored(slot).newest().is_some();
            seen.waiting.extend(series.visible_from(seen.slots).map(|(slot, _)| slot));
            seen.slots = series.slots();
            let (ready, waiting): (Vec<u32>, Vec<u32>) =
                std::mem::take(&mut seen.waiting).into_iter().partition(|slot| is_read(*slot));
            seen.waiting = waiting;
            added.extend(ready.into_iter().filter_map(|slot| series.labels(slot).cloned()));
        }
        SeriesChanges::Added(added)
    }
}
