//! The series of one shard: which slot has which labels, which series readers can find, and which
//! series records the log does not have yet. Where the samples of a series are is in
//! [`HeadSeries`]; what is done with them is the business of [`super::shard`].
//!
//! A slot is never given to another series: records of the log, readers and the live runtime name
//! series by slot. So slots only grow, and after a restart few of them may be in use.

use super::inactive_labels::InactiveLabels;
use super::paged_vec::PagedVec;
use super::postings::HeadPostings;
use super::ranks::Ranks;
use super::series::{ColumnRef, HeadSeries};
use super::series_index::SeriesIndex;
use crate::error::StoreError;
use crate::limits::SHARD_SLOTS;
use crate::model::{Labels, Matcher};
use crate::wal::{self, RecordBuilder, RecordError};
use parking_lot::Mutex;
use roaring::RoaringBitmap;
use std::collections::BTreeSet;
use std::ops::{Index, IndexMut};

/// The error of an append to a shard that has given all of its slots or groups (`what`).
pub(crate) fn full(what: &str) -> StoreError {
    StoreError::LimitReached {
        reached: format!("a shard has {SHARD_SLOTS} {what}, which is the most"),
        remedy: "remove labels that change all the time, and begin with a new data directory",
    }
}

/// The series of one shard, by slot and by labels.
#[derive(Default)]
pub struct HeadSeriesTable {
    index: SeriesIndex,
    /// By slot. Inactive series have no labels here, but in `inactive`.
    slots: PagedVec<HeadSeries>,
    inactive: InactiveLabels,
    postings: HeadPostings,
    ranks: Mutex<Ranks>,
    /// Slots whose series records are not in the log yet, in the order in which they must be
    /// logged.
    unlogged: Vec<u32>,
    /// How often series ended, or came back under their old slots.
    returns: u64,
    /// How many series have ended.
    ended: u64,
}

/// The labels of the slots of one shard; empty for inactive series.
pub struct SlotLabels(PagedVec<Labels>);

impl SlotLabels {
    /// The labels of a slot, if its series is active.
    pub fn get(&self, slot: u32) -> Option<&Labels> {
        self.0.get(slot as usize).filter(|labels| !labels.is_empty())
    }
}

impl Index<u32> for HeadSeriesTable {
    type Output = HeadSeries;

    #[inline]
    fn index(&self, slot: u32) -> &HeadSeries {
        &self.slots[slot as usize]
    }
}

impl IndexMut<u32> for HeadSeriesTable {
    #[inline]
    fn index_mut(&mut self, slot: u32) -> &mut HeadSeries {
        &mut self.slots[slot as usize]
    }
}

impl HeadSeriesTable {
    /// Number of slots, active or not.
    pub fn slots(&self) -> u32 {
        self.slots.len() as u32
    }

    /// How often series ended, or came back under their old slots: a reader that has seen all slots
    /// may have missed only these.
    pub fn returns(&self) -> u64 {
        self.returns
    }

    /// How many series have ended; one that ended twice counts twice.
    pub fn ended(&self) -> u64 {
        self.ended
    }

    /// The series of a slot, if there is such a slot.
    pub(super) fn get(&self, slot: u32) -> Option<&HeadSeries> {
        self.slots.get(slot as usize)
    }

    /// All series that ever had labels or samples here, with their slots; and some that had not.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &HeadSeries)> {
        self.slots.iter()
    }

    /// As [`HeadSeriesTable::iter`].
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut HeadSeries)> {
        self.slots.iter_mut()
    }

    /// The labels of `slot`, if its series is active.
    pub fn labels(&self, slot: u32) -> Option<&Labels> {
        self.get(slot).map(|s| &s.labels).filter(|labels| !labels.is_empty())
    }

    /// The labels of `slot`, also of an inactive series.
    pub fn labels_including_inactive(&self, slot: u32) -> Option<Labels> {
        self.labels(slot).cloned().or_else(|| self.inactive.labels(slot))
    }

    /// The labels of all slots.
    pub fn all_labels(&self) -> SlotLabels {
        let mut all = PagedVec::default();
        all.extend_to(self.slots.len());
        for (slot, series) in self.iter().filter(|(_, series)| !series.labels.is_empty()) {
            all[slot as usize] = series.labels.clone();
        }
        SlotLabels(all)
    }

    /// The slot of these encoded labels, also of a series that readers cannot find yet.
    pub(super) fn slot_of(&self, encoded: &[u8]) -> Option<u32> {
        self.index.get(encoded, &self.slots)
    }

    /// The slot of these encoded labels, if readers can find the series.
    pub fn find(&self, encoded: &[u8]) -> Option<u32> {
        self.slot_of(encoded).filter(|slot| self[*slot].listed)
    }

    /// The slot of these labels; the series is created or activated again if needed. A new series
    /// of a shard that has given all its slots gets none: the result is then [`SHARD_SLOTS`], which
    /// is the slot of no series, so that appends to it are refused.
    pub fn resolve(&mut self, labels: &Labels) -> u32 {
        // An inactive series gets its old slot back, because records of the log name series by
        // slot.
        let known = self.slot_of(labels.encoded());
        if let Some(slot) = known.or_else(|| self.inactive.find(labels.encoded())) {
            self.activate(slot);
            return slot;
        }
        let slot = self.slots();
        // A replay refuses the records of larger slots, so the log must not get them.
        if slot >= SHARD_SLOTS {
            return SHARD_SLOTS;
        }
        self.assign(slot, labels.clone());
        self.list(slot);
        slot
    }

    /// Gives labels to a slot. Slots up to it are created without labels (a replay may name them
    /// later).
    fn assign(&mut self, slot: u32, labels: Labels) {
        self.extend_to(slot);
        self[slot].labels = labels;
        self.index.insert(slot, &self.slots);
    }

    /// Creates slots up to `slot`, without labels and not visible.
    pub(super) fn extend_to(&mut self, slot: u32) {
        self.slots.extend_to(slot as usize + 1);
    }

    /// Makes a slot visible and queues its series record for the log.
    pub(super) fn activate(&mut self, slot: u32) {
        if self[slot].labels.is_empty() {
            let Some(labels) = self.inactive.take(slot) else { return };
            self.assign(slot, labels);
        }
        if !self[slot].listed {
            self.returns += 1;
            self.list(slot);
        }
    }

    /// Makes a slot with labels visible.
    fn list(&mut self, slot: u32) {
        let series = &mut self.slots[slot as usize];
        series.listed = true;
        self.postings.add(slot, &series.labels);
        // After a replay the log has the record of the slot already, and a second one would only
        // cost space.
        if !series.logged {
            self.unlogged.push(slot);
        }
    }

    /// The visible series from slot `from` on.
    pub fn visible_from(&self, from: u32) -> impl Iterator<Item = (u32, &Labels)> {
        let slots = from..self.slots();
        slots.filter_map(|slot| {
            self.get(slot).filter(|series| series.listed).map(|series| (slot, &series.labels))
        })
    }

    /// Deactivates series that have no samples and no column that `in_use` tells to be in use: they
    /// leave the postings, and their labels are kept compressed. The slots stay theirs, because a
    /// writer may come back. No record of the log after `last_lsn` has samples of them.
    pub(super) fn deactivate_unused(&mut self, last_lsn: u64, in_use: impl Fn(&ColumnRef) -> bool) {
        let mut inactive = Vec::new();
        for (slot, series) in self.slots.iter_mut() {
            let no_samples = series.rows().is_none() && series.sparse().is_none();
            if series.listed && no_samples && !series.columns().iter().any(&in_use) {
                self.postings.remove(slot, &series.labels);
                self.index.remove(slot, &series.labels);
                series.listed = false;
                series.logged = false;
                inactive.push((slot, std::mem::take(&mut series.labels)));
            }
        }
        if !inactive.is_empty() {
            self.returns += 1;
            self.ended += inactive.len() as u64;
        }
        let slots = &self.slots;
        self.unlogged.retain(|slot| slots[*slot as usize].listed);
        // Labels that could not be compressed stay with their series; nothing else is lost.
        for (slot, labels) in self.inactive.add(inactive, last_lsn) {
            self.assign(slot, labels);
        }
    }

    /// Takes series from the temporary head of a replay: those that are new, and the index from
    /// labels to slots. Both heads were filled from the same log, so slots that both know are of
    /// the same series.
    pub(super) fn take_from(&mut self, temporary: HeadSeriesTable) {
        let HeadSeriesTable { index, slots, inactive, postings, unlogged, .. } = temporary;
        let known = self.slots();
        self.slots.extend_to(slots.len());
        for (slot, series) in slots.into_iter().filter(|(slot, _)| *slot >= known) {
            let own = &mut self[slot];
            own.labels = series.labels;
            own.listed = series.listed;
            own.logged = series.logged;
        }
        self.index = index;
        self.inactive = inactive;
        self.postings = postings;
        self.returns += 1;
        self.unlogged.extend(unlogged);
    }
}

/// What the log gets of the series, and gives back.
impl HeadSeriesTable {
    /// Whether there are series that are not in the log yet.
    pub fn has_unlogged(&self) -> bool {
        !self.unlogged.is_empty()
    }

    /// Adds records of the series that are not in the log yet.
    pub fn encode_unlogged(&self, shard: u16, batch: &mut RecordBuilder) {
        for slot in &self.unlogged {
            wal::add_series(batch, shard, *slot, &self[*slot].labels);
        }
    }

    /// The records of [`HeadSeriesTable::encode_unlogged`] are in the log.
    pub fn mark_logged(&mut self) {
        for slot in std::mem::take(&mut self.unlogged) {
            self[slot].logged = true;
        }
    }

    /// Adds records of all series that may have samples, for a checkpoint; with `held_from` also
    /// those of inactive series that may have samples in that record of the log or later. Returns
    /// the number of records.
    pub(super) fn encode_known(&self, shard: u16, held_from: Option<u64>, batch: &mut RecordBuilder) -> u64 {
        let mut records = 0;
        if let Some(from) = held_from {
            self.inactive.since(from, |slot, labels| {
                // A slot that came back is in the list below.
                if self.labels(slot).is_none() {
                    wal::add_series(batch, shard, slot, labels);
                    records += 1;
                }
            });
        }
        for (slot, series) in self.iter().filter(|(_, series)| series.listed) {
            wal::add_series(batch, shard, slot, &series.labels);
            records += 1;
        }
        records
    }

    /// Applies a series record.
    ///
    /// # Errors
    /// The record contradicts another one.
    pub fn restore(&mut self, slot: u32, labels: Labels) -> Result<(), RecordError> {
        if slot >= SHARD_SLOTS {
            return Err(RecordError::SlotTooLarge(slot));
        }
        if self.labels(slot).is_some_and(|known| *known != labels) {
            return Err(RecordError::SlotOccupied(slot));
        }
        // A repeated record of the same series is normal: checkpoints contain all series again.
        if self.slot_of(labels.encoded()).is_some_and(|known| known != slot) {
            return Err(RecordError::SeriesHasOtherSlot(slot));
        }
        self.assign(slot, labels);
        self[slot].logged = true;
        self.activate(slot);
        Ok(())
    }

    /// Applies a series record that another head has checked by [`HeadSeriesTable::restore`];
    /// `labels` are those of this slot. The series is not in the index and postings of this head
    /// until it takes those of the other head; until then lookups go there.
    pub fn restore_known(&mut self, slot: u32, labels: Labels) {
        self.extend_to(slot);
        let series = &mut self[slot];
        series.labels = labels;
        series.listed = true;
        series.logged = true;
    }

    /// Creates the slots up to one that a record names. The record of its series may be lost, or
    /// come later; no new series may get the slot.
    pub fn restore_slot(&mut self, slot: u32) -> Result<(), RecordError> {
        if slot >= SHARD_SLOTS {
            return Err(RecordError::SlotTooLarge(slot));
        }
        self.extend_to(slot);
        Ok(())
    }
}

/// What readers ask.
impl HeadSeriesTable {
    /// The slots that satisfy all matchers.
    pub fn matching(&self, matchers: &[Matcher]) -> RoaringBitmap {
        self.postings.select(matchers, |slot| &self[slot].labels)
    }

    /// The slots that satisfy all matchers, and whether they are sorted by their labels.
    pub fn matching_in_order(&self, matchers: &[Matcher]) -> (Vec<u32>, bool) {
        let mut slots: Vec<u32> = self.matching(matchers).into_iter().collect();
        let in_order = slots.len() < 2 || self.ranks.lock().sort(&mut slots, &self.slots);
        (slots, in_order)
    }

    /// Adds the label names of the series that satisfy any of the matcher sets (no set: all
    /// series).
    pub fn label_names(&self, sets: &[Vec<Matcher>], names: &mut BTreeSet<String>) {
        self.postings.label_names(self.any_of(sets).as_ref(), names);
    }

    /// Adds the values of label `name` of the same series as [`HeadSeriesTable::label_names`].
    pub fn label_values(&self, name: &str, sets: &[Vec<Matcher>], values: &mut BTreeSet<String>) {
        self.postings.label_values(name, self.any_of(sets).as_ref(), values);
    }

    fn any_of(&self, sets: &[Vec<Matcher>]) -> Option<RoaringBitmap> {
        if sets.is_empty() {
            return None;
        }
        Some(sets.iter().map(|set| self.matching(set)).fold(RoaringBitmap::new(), |a, b| a | b))
    }

    /// Number of visible series.
    pub fn active(&self) -> u64 {
        self.postings.all().len()
    }

    /// Calls `visit(name, value, number of series)` for every label pair.
    pub fn for_each_pair(&self, visit: impl FnMut(&str, &str, u64)) {
        self.postings.for_each_pair(visit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_with_a_huge_slot_costs_no_memory_for_the_slots_below() {
        let labels = |i: u32| Labels::from_pairs([("i", i.to_string())]);
        let mut table = HeadSeriesTable::default();
        // As after a restart: all series below were inactive, and left the log with a checkpoint.
        let last = SHARD_SLOTS - 2;
        table.restore(last, labels(1)).unwrap();
        table.restore(3, labels(2)).unwrap();
        assert_eq!(table.iter().count(), 2 * 64 - 1, "two pages, the last slot of which does not exist");
        assert_eq!((table.find(labels(1).encoded()), table.labels(last)), (Some(last), Some(&labels(1))));
        assert_eq!(table.labels(1 << 20), None);
        assert_eq!(table.all_labels().get(last), Some(&labels(1)));
        assert_eq!(table.matching_in_order(&[]), (vec![last, 3], true));
        assert_eq!(table.resolve(&labels(3)), last + 1, "no slot is given twice");
        assert!(matches!(table.restore(SHARD_SLOTS, labels(4)), Err(RecordError::SlotTooLarge(_))));
        assert_eq!(table.resolve(&labels(4)), SHARD_SLOTS, "no slot is left");
        assert_eq!((table.slots(), table.find(labels(4).encoded())), (SHARD_SLOTS, None));
        assert_eq!(table.resolve(&labels(2)), 3, "a known series keeps its slot");
    }
}
