//! The column groups of one shard (the series that a target or rule writes together), and their
//! column sets: which columns a group has, and what the log knows of them. The rows themselves are
//! in [`ColumnSet`].

use super::columns::ColumnSet;
use super::group::ColumnGroup;
use super::paged_vec::PagedVec;
use super::series_table::full;
use crate::error::StoreError;
use crate::limits::{GROUP_COLUMNS, SHARD_SLOTS};
use crate::model::columns::ColumnLayout;
use crate::model::{SHARDS, TimeMs};
use crate::wal::{self, RecordBuilder, RecordError};
use roaring::RoaringBitmap;
use std::collections::HashMap;
use std::ops::{Index, IndexMut};
use std::sync::Arc;

/// The id of group `group` of `shard`, as in the log and for callers of the store.
pub fn group_id(shard: u16, group: u32) -> u32 {
    group * u32::from(SHARDS) + u32::from(shard % SHARDS)
}

/// Shard and index within the shard of a group id.
pub fn group_of(id: u32) -> (u16, u32) {
    ((id % u32::from(SHARDS)) as u16, id / u32::from(SHARDS))
}

/// The column groups of one shard.
#[derive(Default)]
pub struct GroupTable {
    /// By index, which the group id has.
    groups: PagedVec<ColumnGroup>,
    /// The index of each group by its key.
    by_key: HashMap<Arc<str>, u32>,
    /// Column sets by key. Keys are never reused.
    pub(super) sets: HashMap<u32, ColumnSet>,
    next_set: u32,
}

impl Index<u32> for GroupTable {
    type Output = ColumnGroup;

    fn index(&self, group: u32) -> &ColumnGroup {
        &self.groups[group as usize]
    }
}

impl IndexMut<u32> for GroupTable {
    fn index_mut(&mut self, group: u32) -> &mut ColumnGroup {
        &mut self.groups[group as usize]
    }
}

impl GroupTable {
    /// Number of groups.
    pub(super) fn len(&self) -> u32 {
        self.groups.len() as u32
    }

    /// A group, if there is one with this number.
    pub(super) fn get(&self, group: u32) -> Option<&ColumnGroup> {
        self.groups.get(group as usize)
    }

    /// The group with this key, created on first use. A shard with [`SHARD_SLOTS`] groups creates
    /// no further one: the result is then this number, and appends to it are refused.
    pub fn open(&mut self, key: &str) -> u32 {
        if let Some(group) = self.by_key.get(key) {
            return *group;
        }
        let group = self.len();
        // A replay refuses the records of larger numbers, so the log must not get them.
        if group >= SHARD_SLOTS {
            return SHARD_SLOTS;
        }
        let key: Arc<str> = key.into();
        self.groups.push(ColumnGroup::new(key.clone()));
        self.by_key.insert(key, group);
        group
    }

    /// An implicit group without columns, if there is one.
    pub(super) fn spare_implicit(&self) -> Option<u32> {
        let mut groups = self.groups.iter();
        groups.find(|(_, group)| group.is_implicit() && group.set.is_none()).map(|(at, _)| at)
    }

    /// The current column set of a group.
    pub(super) fn set_of(&self, group: u32) -> Option<&ColumnSet> {
        self.sets.get(&self.get(group)?.set?)
    }

    /// Number of columns of a group.
    pub(super) fn width(&self, group: u32) -> usize {
        self.columns_of(group).len()
    }

    /// The slots of a group's columns.
    pub fn columns_of(&self, group: u32) -> &[u32] {
        self.set_of(group).map_or(&[], |set| &set.columns)
    }

    /// Begins a new column set for a group. The old one stays readable.
    pub(super) fn begin_set(&mut self, group: u32) -> u32 {
        if let Some(old) = self[group].set.and_then(|set| self.sets.get_mut(&set)) {
            old.seal();
        }
        let set = self.next_set;
        self.next_set += 1;
        self.sets.insert(set, ColumnSet::new(group));
        self[group].forget_set();
        self[group].set = Some(set);
        set
    }

    /// Checks a batch of `values` values before anything is changed. `slots` is the number of slots
    /// of the shard.
    pub(super) fn check_batch(
        &self,
        group: u32,
        layout: &Arc<ColumnLayout>,
        values: usize,
        slots: u32,
    ) -> Result<(), StoreError> {
        let refuse = |why: String| Err(StoreError::Invalid(format!("malformed batch: {why}")));
        if group == SHARD_SLOTS {
            return Err(full("groups"));
        }
        let Some(known) = self.get(group) else {
            return refuse(format!("no group {group} in its shard"));
        };
        if layout.slots.len() != values {
            return refuse(format!("{} columns but {values} values", layout.slots.len()));
        }
        // A column set grows to about twice its layout before a new one begins, and in the log a
        // layout of all its columns must still fit into one record.
        if values > GROUP_COLUMNS / 4 {
            return refuse(format!("{values} columns; at most {} are possible", GROUP_COLUMNS / 4));
        }
        // The layout of the last batch has been checked already, and most batches reuse it.
        if known.layout.as_ref().is_some_and(|l| Arc::ptr_eq(l, layout) || l == layout) {
            return Ok(());
        }
        if layout.slots.contains(&SHARD_SLOTS) {
            return Err(full("series"));
        }
        if let Some(slot) = layout.slots.iter().find(|slot| **slot >= slots) {
            return refuse(format!("no slot {slot} in its shard"));
        }
        let mut seen = layout.slots.clone();
        // Sorted, so that equal slots are adjacent.
        seen.sort_unstable();
        match seen.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => refuse(format!("slot {} has two columns", pair[0])),
            None => Ok(()),
        }
    }

    /// Removes the column sets that have no samples. Returns their keys with their columns.
    pub(super) fn remove_empty_sets(&mut self) -> Vec<(u32, Vec<u32>)> {
        let empty = self.sets.extract_if(|_, set| set.is_empty());
        let removed: Vec<(u32, ColumnSet)> = empty.collect();
        for (key, set) in &removed {
            let group = &mut self[set.group];
            // An older set of the group may be the empty one; then the current layout stays.
            if group.set == Some(*key) {
                group.forget_set();
            }
        }
        removed.into_iter().map(|(key, set)| (key, set.columns)).collect()
    }

    /// Begins a new set for groups of which most columns have no samples: they cost memory in every
    /// row. A margin of a third and 16 columns avoids a new set after each small change.
    pub(super) fn renew_sparse_sets(&mut self) {
        let mostly_empty =
            |set: &ColumnSet| set.columns.len() > set.live_columns().len() as usize * 4 / 3 + 16;
        let groups = self.groups.iter().map(|(group, _)| group);
        let sparse: Vec<u32> = groups.filter(|group| self.set_of(*group).is_some_and(mostly_empty)).collect();
        for group in sparse {
            self.begin_set(group);
        }
        // The log need not keep the names of idle groups: a target that comes back is logged again.
        for (_, group) in self.groups.iter_mut().filter(|(_, group)| group.set.is_none()) {
            group.log.name_logged = false;
        }
    }

    /// The columns of a set that have samples, or that the current layout may fill without a lookup
    /// of the series.
    fn columns_in_use(&self, key: u32, set: &ColumnSet) -> RoaringBitmap {
        let group = &self[set.group];
        let mut columns = set.live_columns();
        match (&group.layout, &group.map) {
            (Some(_), Some(map)) if group.set == Some(key) => columns.extend(map.iter().copied()),
            (Some(layout), None) if group.set == Some(key) => {
                columns.insert_range(0..layout.slots.len() as u32);
            }
            // An older set gets no rows any more: only its samples count.
            _ => (),
        }
        columns
    }

    /// By key, the columns of all sets that have samples or may get some.
    pub(super) fn all_columns_in_use(&self) -> HashMap<u32, RoaringBitmap> {
        self.sets.iter().map(|(key, set)| (*key, self.columns_in_use(*key, set))).collect()
    }

    /// Whether column set `set` belongs to another group than `group`.
    pub(super) fn is_foreign(&self, set: u32, group: u32) -> bool {
        self.sets.get(&set).is_some_and(|set| set.group != group)
    }

    /// Takes groups from the temporary head of a replay: those that are new. Both heads were filled
    /// from the same log, so groups that both know have the same numbers.
    pub(super) fn take_from(&mut self, temporary: &GroupTable) {
        let known = self.len();
        self.groups.extend_to(temporary.groups.len());
        for (key, group) in temporary.by_key.iter().filter(|(_, group)| **group >= known) {
            self[*group] = ColumnGroup::new(key.clone());
            self[*group].log.name_logged = temporary[*group].log.name_logged;
            self.by_key.insert(key.clone(), *group);
        }
    }
}

/// What the log gets of the groups, and gives back.
impl GroupTable {
    /// Adds the records of one row of a group: its name and layout if the log does not have them,
    /// then the values. `epoch` is that of the log.
    pub fn encode_row(
        &self,
        shard: u16,
        group: u32,
        t: TimeMs,
        row: &[f64],
        epoch: u64,
        batch: &mut RecordBuilder,
    ) {
        let known = &self[group];
        if !known.log.name_logged {
            wal::add_group(batch, group_id(shard, group), &known.key);
        }
        if let Some(set) = self.set_of(group) {
            known.log.encode(batch, epoch, group_id(shard, group), &set.columns, t, row);
        }
    }

    /// The records of [`GroupTable::encode_row`] are in the log; `lsn` is the number of the last
    /// one.
    pub fn row_logged(&mut self, group: u32, epoch: u64, row: Arc<[f64]>, lsn: u64) {
        let columns = row.len();
        self[group].log.logged(epoch, columns, row, lsn);
    }

    /// Adds records of all groups that may have samples, for a checkpoint. Returns the number of
    /// records.
    pub(super) fn encode_named(&self, shard: u16, batch: &mut RecordBuilder) -> u64 {
        let mut records = 0;
        for (group, known) in self.groups.iter().filter(|(_, known)| known.log.name_logged) {
            wal::add_group(batch, group_id(shard, group), &known.key);
            records += 1;
        }
        records
    }

    /// Applies a group record. With `key` `None` it only creates the group, for a record that names
    /// a group whose own record is lost.
    pub fn restore(&mut self, group: u32, key: Option<&str>) -> Result<(), RecordError> {
        // Slots and groups have the same limit; a shard has more series than groups.
        if group >= SHARD_SLOTS {
            return Err(RecordError::GroupTooLarge(group));
        }
        self.groups.extend_to(group as usize + 1);
        if let Some(key) = key {
            let key: Arc<str> = key.into();
            self[group].key = key.clone();
            self[group].log.name_logged = true;
            self.by_key.insert(key, group);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_with_a_huge_group_costs_no_memory_for_the_groups_below() {
        let mut table = GroupTable::default();
        table.restore(SHARD_SLOTS - 2, Some("a")).unwrap();
        table.restore(SHARD_SLOTS - 1, None).unwrap();
        assert_eq!(table.groups.iter().count(), 64, "one page");
        assert_eq!((table.open("a"), table.open("b")), (SHARD_SLOTS - 2, SHARD_SLOTS), "no group is left");
        let mut replayed = GroupTable::default();
        replayed.restore(2, Some("c")).unwrap();
        replayed.take_from(&table);
        assert_eq!((replayed.open("a"), replayed.open("b")), (SHARD_SLOTS - 2, SHARD_SLOTS));
        assert_eq!((replayed.open("c"), replayed.open("d")), (2, SHARD_SLOTS));
        assert_eq!(replayed.len(), SHARD_SLOTS, "none was created");
        assert!(matches!(table.restore(SHARD_SLOTS, None), Err(RecordError::GroupTooLarge(_))));
    }
}
