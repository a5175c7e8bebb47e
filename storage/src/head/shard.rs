//! The head of one shard: registry, groups, series, and the append path.
//!
//! A batch whose layout is known, whose time is new and whose series live nowhere else costs one
//! pointer per scrape: the batch's own values become the open row. Everything else goes through
//! [`super::append_decision`].

use super::append_decision::{AppendCounts, AppendDecision};
use super::columns::ColumnSet;
use super::group::ColumnGroup;
use super::inactive_labels::InactiveLabels;
use super::paged_vec::PagedVec;
use super::postings::HeadPostings;
use super::ranks::Ranks;
use super::series::{ColumnRef, HeadSeries};
use super::series_index::SeriesIndex;
use super::sparse_append::{SlotHistogram, SlotStart};
use crate::limits::GROUP_COLUMNS;
use crate::model::value::{ABSENT, is_absent, sanitize};
use crate::model::{Labels, TimeMs};
use crate::store::{ColumnLayout, StoreError};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// A single sample: slot, time, value.
pub type SlotFloat = (u32, TimeMs, f64);

/// The recent samples of one shard.
pub struct Head {
    pub(super) registry: SeriesIndex,
    /// Those that have ended have no labels here.
    pub(super) series: PagedVec<HeadSeries>,
    pub(super) ended: InactiveLabels,
    pub(super) postings: HeadPostings,
    pub(super) ranks: Mutex<Ranks>,
    pub(super) groups: Vec<ColumnGroup>,
    pub(super) group_keys: HashMap<Arc<str>, u32>,
    /// Column sets by key; keys are never reused.
    pub(super) sets: HashMap<u32, ColumnSet>,
    pub(super) next_set: u32,
    /// Slots in the order in which the log must hear of them.
    pub(super) unlogged: Vec<u32>,
    pub(super) block_range: i64,
    pub(super) out_of_order: i64,
    /// Times of the oldest sample and, whether it is still there or not, of the newest.
    pub(super) oldest: Option<TimeMs>,
    pub(super) newest: Option<TimeMs>,
    /// While a flush runs.
    pub(super) flushing: Option<FlushInProgress>,
    /// Everything before is in blocks: what comes for it now would make a block of its own at every flush.
    pub(super) min_append_time: TimeMs,
    /// What is older is refused by the append that runs.
    pub(super) bound: TimeMs,
    /// Everything before may be in blocks, too: it is not corrected.
    pub(super) settled: TimeMs,
}

/// The end of a flush that runs, and what came for the time before it since its snapshot.
#[derive(Default)]
pub struct FlushInProgress {
    pub(super) end: TimeMs,
    pub(super) rows: Vec<SlotFloat>,
    pub(super) histograms: Vec<SlotHistogram>,
    pub(super) starts: Vec<SlotStart>,
}

/// What a batch became.
pub enum AppendedBatch {
    /// A row of the group's column set.
    Row {
        /// The values in the batch's order, without those that were refused.
        values: Arc<[f64]>,
        /// The same in the order of the set's columns.
        row: Arc<[f64]>,
    },
    /// Single samples: the batch came late.
    Late(Vec<SlotFloat>),
}

impl Head {
    /// An empty head. Windows and chunks do not cross multiples of `block_range`.
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

    /// Number of slots handed out.
    pub fn slots(&self) -> u32 {
        self.series.len() as u32
    }

    /// The labels in `slot`, if it has some and its series has not ended.
    pub fn labels(&self, slot: u32) -> Option<&Labels> {
        self.series.get(slot as usize).map(|s| &s.labels).filter(|labels| !labels.is_empty())
    }

    /// The labels in `slot`, of an ended series, too.
    pub fn labels_including_inactive(&self, slot: u32) -> Option<Labels> {
        self.labels(slot).cloned().or_else(|| self.ended.labels(slot))
    }

    /// The labels of all slots.
    pub fn all_labels(&self) -> Vec<Labels> {
        self.series.iter().map(|series| series.labels.clone()).collect()
    }

    /// The slot of these labels, which are in their encoded form, if they have one and it is in use.
    pub fn find(&self, encoded: &[u8]) -> Option<u32> {
        self.registry.get(encoded, &self.series).filter(|slot| self.series[*slot as usize].listed)
    }

    /// The slot of these labels; made, or taken into use again, if need be.
    pub fn resolve(&mut self, labels: &Labels) -> u32 {
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

    /// Whether these labels' series is a column of a group whose key begins with `prefix`.
    pub fn is_column_of(&self, labels: &Labels, prefix: &str) -> bool {
        let Some(slot) = self.registry.get(labels.encoded(), &self.series) else { return false };
        let sets = self.series[slot as usize].homes().iter().filter_map(|home| self.sets.get(&home.set));
        sets.into_iter().any(|set| self.groups[set.group as usize].key.starts_with(prefix))
    }

    /// Puts a series into a slot at or behind the end; slots between stay empty (replay).
    pub(super) fn assign_slot(&mut self, slot: u32, labels: Labels) {
        self.extend_slots(slot);
        self.series[slot as usize].labels = labels;
        self.registry.insert(slot, &self.series);
    }

    /// Hands out slots up to `slot`; they have no labels and are not visible.
    pub(super) fn extend_slots(&mut self, slot: u32) {
        while self.series.len() <= slot as usize {
            self.series.push(HeadSeries::default());
        }
    }

    /// Makes a slot visible and has it logged.
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

    /// The group with this key; made on first use.
    pub fn open_group(&mut self, key: &str) -> u32 {
        if let Some(&group) = self.group_keys.get(key) {
            return group;
        }
        let (key, group): (Arc<str>, u32) = (key.into(), self.groups.len() as u32);
        self.groups.push(ColumnGroup::new(key.clone()));
        self.group_keys.insert(key, group);
        group
    }

    /// Takes one batch of `group`. Fails if it is malformed; nothing is changed then.
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
        let refuse = |why: String| Err(StoreError::Refused(format!("malformed batch: {why}")));
        let Some(known) = self.groups.get(group as usize) else {
            return refuse(format!("no group {group} in its shard"));
        };
        if layout.slots.len() != values {
            return refuse(format!("{} columns but {values} values", layout.slots.len()));
        }
        if values > GROUP_COLUMNS / 4 {
            return refuse(format!("{values} columns; at most {} are possible", GROUP_COLUMNS / 4));
        }
        if known.layout.as_ref().is_some_and(|l| Arc::ptr_eq(l, layout) || l == layout) {
            return Ok(());
        }
        if let Some(slot) = layout.slots.iter().find(|slot| **slot >= self.slots()) {
            return refuse(format!("no slot {slot} in its shard"));
        }
        let mut seen = layout.slots.clone();
        seen.sort_unstable();
        match seen.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => refuse(format!("slot {} has two columns", pair[0])),
            None => Ok(()),
        }
    }

    /// A row of the group's set, later than all before. Also the way of replay.
    pub fn push_row(&mut self, group: usize, t: TimeMs, row: Arc<[f64]>) {
        let Some(set) = self.groups[group].set else { return };
        self.groups[group].newest = Some(t);
        self.extend_time_range(t);
        let Some(columns) = self.sets.get_mut(&set) else { return };
        if let Some(flushing) = self.flushing.as_mut().filter(|flushing| t < flushing.end) {
            let samples = columns.columns.iter().zip(row.iter()).filter(|(_, v)| !is_absent(**v));
            flushing.rows.extend(samples.map(|(slot, v)| (*slot, t, *v)));
        }
        columns.push(t, row, self.block_range);
    }

    /// There is a sample at `t`.
    pub(super) fn extend_time_range(&mut self, t: TimeMs) {
        self.oldest = Some(self.oldest.map_or(t, |oldest| oldest.min(t)));
        self.newest = self.newest.max(Some(t));
    }

    pub(super) fn width(&self, group: usize) -> usize {
        self.groups[group].set.and_then(|set| self.sets.get(&set)).map_or(0, |set| set.columns.len())
    }

    /// Maps a new layout to columns, adding columns for slots that have none.
    pub(super) fn take_layout(&mut self, group: usize, layout: &Arc<ColumnLayout>) {
        let too_wide = self.width(group) > 2 * layout.slots.len() + 64;
        let set = match self.groups[group].set {
            Some(set) if !too_wide => set,
            _ => self.new_set(group),
        };
        let map: Vec<u32> = layout.slots.iter().map(|slot| self.column(set, *slot)).collect();
        let same = map.len() == self.width(group) && map.iter().enumerate().all(|(i, c)| i == *c as usize);
        self.groups[group].map = if same { None } else { Some(map.into()) };
        self.groups[group].layout = Some(layout.clone());
    }

    /// Starts a new column set for a group. The old one stays to be read.
    pub fn new_set(&mut self, group: usize) -> u32 {
        if let Some(old) = self.groups[group].set.and_then(|set| self.sets.get_mut(&set)) {
            old.seal();
        }
        let set = self.next_set;
        self.next_set += 1;
        self.sets.insert(set, ColumnSet::new(group as u32));
        let group = &mut self.groups[group];
        (group.set, group.layout, group.map) = (Some(set), None, None);
        group.log.forget_layout();
        set
    }

    /// The column of `slot` in `set`; appended if it has none.
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
        let others = series.homes().iter().filter(|home| home.set != set);
        let foreign =
            others.filter(|home| self.sets.get(&home.set).is_some_and(|s| s.group != group)).count();
        if foreign > 0 || series.is_mixed() {
            self.mark_mixed(slot);
        }
        column
    }

    /// From now on, samples of `slot` are checked one by one wherever they come.
    pub(super) fn mark_mixed(&mut self, slot: u32) {
        for home in self.series[slot as usize].homes() {
            if let Some(set) = self.sets.get_mut(&home.set) {
                set.mixed.insert(home.column);
            }
        }
    }

    /// The batch's values, those that must not be stored replaced by *absent*.
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

    /// Takes one sample; whether it was stored.
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
