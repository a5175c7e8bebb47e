//! The index from labels to slots (the numbers of series in a shard). It stores only slots; the
//! labels to compare with are in the series ([`super::series_table`]), so that they are in memory
//! once.

use super::paged_vec::PagedVec;
use super::series::HeadSeries;
use crate::model::Labels;
use crate::model::labels::hash_encoded;
use hashbrown::HashTable;

/// Slots, by the hash of their labels.
#[derive(Default)]
pub(super) struct SeriesIndex(HashTable<u32>);

impl SeriesIndex {
    /// The slot of these encoded labels.
    pub(super) fn get(&self, encoded: &[u8], series: &PagedVec<HeadSeries>) -> Option<u32> {
        let has = |slot: &u32| series[*slot as usize].labels.encoded() == encoded;
        self.0.find(hash_encoded(encoded), has).copied()
    }

    /// Removes a slot; `labels` are its labels.
    pub(super) fn remove(&mut self, slot: u32, labels: &Labels) {
        if let Ok(entry) = self.0.find_entry(labels.hash64(), |known| *known == slot) {
            entry.remove();
        }
    }

    /// Adds a slot that has its labels already. Does nothing if the labels have a slot in the
    /// index.
    pub(super) fn insert(&mut self, slot: u32, series: &PagedVec<HeadSeries>) {
        let labels = &series[slot as usize].labels;
        if self.get(labels.encoded(), series).is_none() {
            let hash = |slot: &u32| series[*slot as usize].labels.hash64();
            self.0.insert_unique(labels.hash64(), slot, hash);
        }
    }
}
