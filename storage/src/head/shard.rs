//! The head of one shard: its series, column groups and the append path.
//!
//! In the common case (known layout, newer time, no samples of its series elsewhere) a batch costs
//! one pointer: the values of the batch become the open row without a copy. All other samples are
//! checked one by one by [`super::append_decision`].

use super::append_decision::{AppendCounts, AppendDecision};
use super::columns::ColumnSet;
use super::group::ColumnGroup;
use super::inactive_labels::InactiveLabels;
use super::paged_vec::PagedVec;
use super::postings::HeadPostings;
use super::ranks::Ranks;
use super::series::{ColumnRef, HeadSeries};
use super::series_index::SeriesIndex;
use crate::error::StoreError;
use crate::limits::GROUP_COLUMNS;
use crate::model::columns::ColumnLayout;
use crate::model::slot_samples::{SlotFloat, SlotHistogram, SlotStart};
use crate::model::value::{ABSENT, is_absent, sanitize};
use crate::model::{Labels, TimeMs};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// The recent samples of one shard, in memory.
pub struct Head {
    pub(super) registry: SeriesIndex,
    /// By slot. Inactive series have no labels here, but in `ended`.
    pub(super) series: PagedVec<HeadSeries>,
    pub(super) ended: InactiveLabels,
    pub(super) postings: HeadPostings,
    pub(super) ranks: Mutex<Ranks>,
    pub(super) groups: Vec<ColumnGroup>,
    pub(super) group_keys: HashMap<Arc<str>, u32>,
    /// Column sets by key. Keys are never reused.
    pub(super) sets: HashMap<u32, ColumnSet>,
    pub(super) next_set: u32,
    /// Slots whose series records are not in the log yet, in the order in which they must be
    /// logged.
    pub(super) unlogged: Vec<u32>,
    pub(super) block_range: i64,
    pub(super) out_of_order: i64,
    /// Times of the oldest sample, and of the newest sample ever stored, even if it was removed.
    pub(super) oldest: Option<TimeMs>,
    pub(super) newest: Option<TimeMs>,
    /// Set while a flush runs.
    pub(super) flushing: Option<FlushInProgress>,
    /// Samples before this time are refused: blocks cover it, and each late sample would make a
    /// small block at the next flush.
    pub(super) min_append_time: TimeMs,
    /// The append that runs refuses samples before this time.
    pub(super) bound: TimeMs,
    /// Samples before this time may be in blocks too, so they cannot be corrected.
    pub(super) settled: TimeMs,
}

/// The flush that runs: its end, and the samples before its end that arrived since its snapshot.
#[derive(Default)]
pub(super) struct FlushInProgress {
    pub(super) end: TimeMs,
    pub(super) rows: Vec<SlotFloat>,
    pub(super) histograms: Vec<SlotHistogram>,
    pub(super) starts: Vec<SlotStart>,
}

/// How a batch was stored.
pub enum AppendedBatch {
    /// As a row of the group's column set.
    Row {
        /// The values in the order of the batch; refused ones are *absent*.
        values: Arc<[f64]>,
        /// The values in the order of the set's columns.
        row: Arc<[f64]>,
    },
    /// As single samples, because the batch came late.
    Late(Vec<SlotFloat>),
}

impl Head {
    /// An empty head. Chunks do not cross multiples of `block_range`; `out_of_order` is the window
    /// of late samples. Both in milliseconds.
    pub fn new(block_range: i64, out_of_order: i64) -> Head {
        Head {
            min_append_time: TimeMs::MIN,
            bound: TimeMs::MIN,
            settled: TimeMs::MIN,
            registry: SeriesIndex::default(),
            series: PagedVec::default(),
            ended: InactiveLabels::default(),
            postings: HeadPostings::default(),
            ranks: Mutex::default(),
            groups: Vec::new(),
            group_keys: HashMap::new(),
            sets: HashMap::new(),
            next_set: 0,
            unlogged: Vec::new(),
            block_range: block_range.max(1),
            out_of_order,
            oldest: None,
            newest: None,
            flushing: None,
        }
    }

    /// Number of slots in use, active or not.
    pub fn slots(&self) -> u32 {
        self.series.len() as u32
    }

    /// The labels of `slot`, if its series is active.
    pub fn labels(&self, slot: u32) -> Option<&Labels> {
        self.series.get(slot as usize).map(|s| &s.labels).filter(|labels| !labels.is_empty())
    }

    /// The labels of `slot`, also of an inactive series.
    pub fn labels_including_inactive(&self, slot: u32) -> Option<Labels> {
        self.labels(slot).cloned().or_else(|| self.ended.labels(slot))
    }

    /// The labels of all slots; empty for inactive series.
    pub fn all_labels(&self) -> Vec<Labels> {
        self.series.iter().map(|series| series.labels.clone()).collect()
    }

    /// The slot of these encoded labels, if the series is visible.
    pub fn find(&self, encoded: &[u8]) -> Option<u32> {
        self.registry.get(encoded, &self.series).filter(|slot| self.series[*slot as usize].listed)
    }

    /// The slot of these labels; the series is created or activated again if needed.
    pub fn resolve(&mut self, labels: &Labels) -> u32 {
        // An inactive series gets its old slot back, because records of the log name series by
        // slot.
        let known = self.registry.get(labels.encoded(), &self.series);
        if let Some(slot) = known.or_else(|| self.ended.find(labels.encoded())) {
            self.activate(slot);
            return slot;
        }
        let slot = self.series.len() as u32;
        self.assign_slot(slot, labels.clone());
        self.activate(slot);
        slot
    }

    /// Whether the series with these labels has a column in a group whose key begins with `prefix`.
    pub fn is_column_of(&self, labels: &Labels, prefix: &str) -> bool {
        let Some(slot) = self.registry.get(labels.encoded(), &self.series) else { return false };
        let sets = self.series[slot as usize].homes().iter().filter_map(|home| self.sets.get(&home.set));
        sets.into_iter().any(|set| self.groups[set.group as usize].key.starts_with(prefix))
    }

    /// Gives labels to a slot. Slots up to it are created without labels (a replay may name them
    /// later).
    pub(super) fn assign_slot(&mut self, slot: u32, labels: Labels) {
        self.extend_slots(slot);
        self.series[slot as usize].labels = labels;
        self.registry.insert(slot, &self.series);
    }

    /// Creates slots up to `slot`, without labels and not visible.
    pub(super) fn extend_slots(&mut self, slot: u32) {
        while self.series.len() <= slot as usize {
            self.series.push(HeadSeries::default());
        }
    }

    /// Makes a slot visible and queues its series record for the log.
    pub(super) fn activate(&mut self, slot: u32) {
        if self.series[slot as usize].labels.is_empty() {
            let Some(labels) = self.ended.take(slot) else { return };
            self.assign_slot(slot, labels);
        }
        let series = &mut self.series[slot as usize];
        if !series.listed {
            series.listed = true;
            self.postings.add(slot, &series.labels);
            if !series.logged {
                self.unlogged.push(slot);
            }
        }
    }

    /// The group with this key, created on first use.
    pub fn open_group(&mut self, key: &str) -> u32 {
        if let Some(&group) = self.group_keys.get(key) {
            return group;
        }
        let (key, group): (Arc<str>, u32) = (key.into(), self.groups.len() as u32);
        self.groups.push(ColumnGroup::new(key.clone()));
        self.group_keys.insert(key, group);
        group
    }

    /// Appends one batch to `group`.
    ///
    /// # Errors
    /// The batch is malformed; then nothing is changed.
    pub fn append_columns(
        &mut self,
        group: u32,
        layout: &Arc<ColumnLayout>,
        t: TimeMs,
        values: &Arc<[f64]>,
        counts: &mut AppendCounts,
    ) -> Result<AppendedBatch, StoreError> {
        self.check_batch(group, layout, values.len())?;
        let at = group as usize;
        // A late batch cannot be a row: the rows of a set ascend in time.
        if t < self.oldest_taken() || self.groups[at].newest.is_some_and(|newest| t <= newest) {
            return Ok(self.append_late(layout, t, values, counts));
        }
        if !self.groups[at].has_layout(layout) {
            self.take_layout(at, layout);
        }
        let values = self.without_rejected(at, t, values, counts);
        let row = match &self.groups[at].map {
            None => values.clone(),
            Some(map) => permute(&values, map, self.width(at)),
        };
        counts.stored += values.iter().filter(|v| !is_absent(**v)).count();
        self.push_row(at, t, row.clone());
        Ok(AppendedBatch::Row { values, row })
    }

    fn check_batch(&self, group: u32, layout: &Arc<ColumnLayout>, values: usize) -> Result<(), StoreError> {
        let refuse = |why: String| Err(StoreError::Invalid(format!("malformed batch: {why}")));
        let Some(known) = self.groups.get(group as usize) else {
            return refuse(format!("no group {group} in its shard"));
        };
        if layout.slots.len() != values {
            return refuse(format!("{} columns but {values} values", layout.slots.len()));
        }
        if values > GROUP_COLUMNS / 4 {
            return refuse(format!("{values} columns; at most {} are possible", GROUP_COLUMNS / 4));
        }
        // The layout of the last batch has been checked already, and most batches reuse it.
        if known.layout.as_ref().is_some_and(|l| Arc::ptr_eq(l, layout) || l == layout) {
            return Ok(());
        }
        if let Some(slot) = layout.slots.iter().find(|slot| **slot >= self.slots()) {
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

    /// Adds a row to the group's column set; `t` is later than all its rows. The replay uses it,
    /// too.
    pub fn push_row(&mut self, group: usize, t: TimeMs, row: Arc<[f64]>) {
        let Some(set) = self.groups[group].set else { return };
        self.groups[group].newest = Some(t);
        self.extend_time_range(t);
        let Some(columns) = self.sets.get_mut(&set) else { return };
        // The snapshot of the running flush does not have this row.
        if let Some(flushing) = self.flushing.as_mut().filter(|flushing| t < flushing.end) {
            let samples = columns.columns.iter().zip(row.iter()).filter(|(_, v)| !is_absent(**v));
            flushing.rows.extend(samples.map(|(slot, v)| (*slot, t, *v)));
        }
        columns.push(t, row, self.block_range);
    }

    /// Extends the range from the oldest to the newest sample to `t`.
    pub(super) fn extend_time_range(&mut self, t: TimeMs) {
        self.oldest = Some(self.oldest.map_or(t, |oldest| oldest.min(t)));
        self.newest = self.newest.max(Some(t));
    }

    pub(super) fn width(&self, group: usize) -> usize {
        self.groups[group].set.and_then(|set| self.sets.get(&set)).map_or(0, |set| set.columns.len())
    }

    /// Maps a new layout to columns; slots without a column get one.
    pub(super) fn take_layout(&mut self, group: usize, layout: &Arc<ColumnLayout>) {
        // Most columns of the set would be empty with this layout: begin a new set.
        let too_wide = self.width(group) > 2 * layout.slots.len() + 64;
        let set = match self.groups[group].set {
            Some(set) if !too_wide => set,
            _ => self.new_set(group),
        };
        let map: Vec<u32> = layout.slots.iter().map(|slot| self.column(set, *slot)).collect();
        // If the layout has the order of the columns, no map is stored, and rows need not be
        // permuted.
        let same = map.len() == self.width(group) && map.iter().enumerate().all(|(i, c)| i == *c as usize);
        self.groups[group].map = if same { None } else { Some(map.into()) };
        self.groups[group].layout = Some(layout.clone());
    }

    /// Begins a new column set for a group. The old one stays readable.
    pub fn new_set(&mut self, group: usize) -> u32 {
        if let Some(old) = self.groups[group].set.and_then(|set| self.sets.get_mut(&set)) {
            old.seal();
        }
        let set = self.next_set;
        self.next_set += 1;
        self.sets.insert(set, ColumnSet::new(group as u32));
        let group = &mut self.groups[group];
        group.set = Some(set);
        group.layout = None;
        group.map = None;
        group.log.forget_layout();
        set
    }

    /// The column of `slot` in `set`, appended if there is none.
    pub fn column(&mut self, set: u32, slot: u32) -> u32 {
        self.activate(slot);
        let series = &mut self.series[slot as usize];
        if let Some(home) = series.homes().iter().find(|home| home.set == set) {
            return home.column;
        }
        let Some(columns) = self.sets.get_mut(&set) else { return u32::MAX };
        let column = columns.columns.len() as u32;
        let group = columns.group;
        columns.columns.push(slot);
        series.add_home(ColumnRef { set, column });
        // A series that also has samples outside this group could get two samples at one time.
        let others = series.homes().iter().filter(|home| home.set != set);
        let foreign =
            others.filter(|home| self.sets.get(&home.set).is_some_and(|s| s.group != group)).count();
        if foreign > 0 || series.is_mixed() {
            self.mark_mixed(slot);
        }
        column
    }

    /// Marks the columns of `slot`: from now on each of its samples is checked for duplicates.
    pub(super) fn mark_mixed(&mut self, slot: u32) {
        for home in self.series[slot as usize].homes() {
            if let Some(set) = self.sets.get_mut(&home.set) {
                set.mixed.insert(home.column);
            }
        }
    }

    /// The values of the batch; those that must not be stored are replaced by *absent*. No copy if
    /// all are stored.
    fn without_rejected(
        &self,
        group: usize,
        t: TimeMs,
        values: &Arc<[f64]>,
        counts: &mut AppendCounts,
    ) -> Arc<[f64]> {
        let Some(set) = self.groups[group].set.and_then(|set| self.sets.get(&set)) else {
            return values.clone();
        };
        if set.mixed.is_empty() {
            return values.clone();
        }
        let Some(layout) = &self.groups[group].layout else { return values.clone() };
        let mut kept: Option<Vec<f64>> = None;
        for (i, slot) in layout.slots.iter().enumerate() {
            let column = self.groups[group].map.as_ref().map_or(i as u32, |map| map[i]);
            if is_absent(values[i]) || !set.mixed.contains(column) {
                continue;
            }
            let verdict = self.verdict(*slot, t, values[i]);
            if verdict != AppendDecision::Store {
                self.note(verdict, (*slot, t), counts);
                kept.get_or_insert_with(|| values.to_vec())[i] = ABSENT;
            }
        }
        kept.map_or_else(|| values.clone(), Arc::from)
    }

    fn append_late(
        &mut self,
        layout: &ColumnLayout,
        t: TimeMs,
        values: &[f64],
        counts: &mut AppendCounts,
    ) -> AppendedBatch {
        let mut stored = Vec::new();
        for (slot, v) in layout.slots.iter().zip(values).filter(|(_, v)| !is_absent(**v)) {
            if self.append_row(*slot, t, *v, counts) {
                stored.push((*slot, t, *v));
            }
        }
        AppendedBatch::Late(stored)
    }

    /// Appends one sample. Returns whether it was stored.
    pub fn append_row(&mut self, slot: u32, t: TimeMs, v: f64, counts: &mut AppendCounts) -> bool {
        let v = sanitize(v);
        let verdict = self.verdict(slot, t, v);
        let newest = self.newest_of(slot);
        if !self.note(verdict, (slot, t), counts) {
            return false;
        }
        counts.late += usize::from(newest.is_some_and(|newest| t < newest));
        self.add_row(slot, t, v);
        true
    }

    /// Stores a sample at a time at which its series has none.
    pub fn add_row(&mut self, slot: u32, t: TimeMs, v: f64) {
        self.activate(slot);
        if let Some(flushing) = self.flushing.as_mut().filter(|flushing| t < flushing.end) {
            flushing.rows.push((slot, t, v));
        }
        let range = self.block_range;
        self.extend_time_range(t);
        if self.fill(slot, t, v) {
            return;
        }
        let series = &mut self.series[slot as usize];
        let first = series.rows().is_none();
        series.rows_mut().add(t, v, range);
        // From now on rows of the series' columns must be checked against its single samples.
        if first {
            self.mark_mixed(slot);
        }
    }
}

/// The values in the order of the set's columns.
pub(super) fn permute(values: &[f64], map: &[u32], width: usize) -> Arc<[f64]> {
    let mut row = vec![ABSENT; width];
    values.iter().zip(map).for_each(|(v, column)| row[*column as usize] = *v);
    row.into()
}
