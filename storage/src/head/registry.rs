//! Which slot has which labels. Only slots are kept here: the labels are in the series themselves.

use super::series::Series;
use crate::model::Labels;
use hashbrown::HashTable;

/// Slots, by the hash of their labels.
#[derive(Default)]
pub struct Registry(HashTable<u32>);

impl Registry {
    /// The slot with these labels.
    pub fn get(&self, labels: &Labels, series: &[Series]) -> Option<u32> {
        self.0.find(labels.hash64(), |slot| series[*slot as usize].labels == *labels).copied()
    }

    /// Adds a slot that has got its labels, if they are not there.
    pub fn insert(&mut self, slot: u32, series: &[Series]) {
        let labels = &series[slot as usize].labels;
        if self.get(labels, series).is_none() {
            let hash = |slot: &u32| series[*slot as usize].labels.hash64();
            self.0.insert_unique(labels.hash64(), slot, hash);
        }
    }
}
