//! The head of one shard: the append path over its series ([`super::series_table`]) and column
//! groups ([`super::group_table`]).
//!
//! In the common case (known layout, newer time, no samples of its series elsewhere) a batch costs
//! one pointer: the values of the batch become the open row without a copy. All other samples are
//! checked one by one by [`super::append_decision`].

use super::append_decision::{AppendCounts, AppendDecision, AppendLimits};
use super::group_table::GroupTable;
use super::series::ColumnRef;
use super::series_table::HeadSeriesTable;
use super::stored_series::StoredSeries;
use crate::error::StoreError;
use crate::model::columns::ColumnLayout;
use crate::model::slot_samples::{SlotFloat, SlotHistogram, SlotStart};
use crate::model::value::{ABSENT, is_absent, sanitize};
use crate::model::{Labels, TimeMs};
use std::sync::Arc;

/// The recent samples of one shard, in memory.
#[derive(Default)]
pub struct Head {
    /// The series of the shard.
    pub series: HeadSeriesTable,
    /// The column groups of the shard.
    pub groups: GroupTable,
    /// Which samples are refused because of their time.
    pub limits: AppendLimits,
    /// From when to when there are samples.
    pub times: TimeRange,
    /// Chunks do not cross multiples of this, ms.
    pub(super) block_range: i64,
    /// Set while a flush runs.
    pub(super) flushing: Option<FlushInProgress>,
}

/// Times of the oldest sample, and of the newest sample ever stored, even if it was removed.
#[derive(Copy, Clone, Debug, Default)]
pub struct TimeRange {
    pub(super) oldest: Option<TimeMs>,
    pub(super) newest: Option<TimeMs>,
}

impl TimeRange {
    /// Times of the oldest and the newest sample.
    pub fn span(&self) -> Option<(TimeMs, TimeMs)> {
        Some((self.oldest?, self.newest?))
    }

    /// Whether the range from the oldest to the newest sample overlaps `from..=to`.
    pub fn overlaps(&self, from: TimeMs, to: TimeMs) -> bool {
        self.span().is_some_and(|(oldest, newest)| oldest <= to && from <= newest)
    }

    /// Extends the range to `t`.
    pub(super) fn extend(&mut self, t: TimeMs) {
        self.oldest = Some(self.oldest.map_or(t, |oldest| oldest.min(t)));
        self.newest = self.newest.max(Some(t));
    }
}

/// The flush that runs: its end, and the samples before its end that arrived since its snapshot.
/// The flush does not write these, so they must survive the removal of what it wrote.
#[derive(Default)]
pub(super) struct FlushInProgress {
    pub(super) end: TimeMs,
    pub(super) rows: Vec<SlotFloat>,
    pub(super) histograms: Vec<SlotHistogram>,
    pub(super) starts: Vec<SlotStart>,
}

impl FlushInProgress {
    /// The running flush, if it writes the time `t`.
    pub(super) fn at(flushing: &mut Option<FlushInProgress>, t: TimeMs) -> Option<&mut FlushInProgress> {
        flushing.as_mut().filter(|flushing| t < flushing.end)
    }
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
        Head { block_range: block_range.max(1), limits: AppendLimits::new(out_of_order), ..Head::default() }
    }

    /// What is stored of a series.
    pub fn stored(&self, slot: u32) -> StoredSeries<'_> {
        StoredSeries { series: self.series.get(slot), groups: &self.groups }
    }

    /// Whether the series with these labels has a column in a group whose key begins with `prefix`.
    pub fn is_column_of(&self, labels: &Labels, prefix: &str) -> bool {
        let Some(slot) = self.series.slot_of(labels.encoded()) else { return false };
        let mut sets =
            self.series[slot].columns().iter().filter_map(|column_ref| self.groups.sets.get(&column_ref.set));
        sets.any(|set| self.groups[set.group].key.starts_with(prefix))
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
        self.groups.check_batch(group, layout, values.len(), self.series.slots())?;
        // A late batch cannot be a row: the rows of a set ascend in time.
        if t < self.limits.oldest_accepted() || self.groups[group].newest.is_some_and(|newest| t <= newest) {
            return Ok(self.append_late(layout, t, values, counts));
        }
        if !self.groups[group].has_layout(layout) {
            self.adopt_layout(group, layout);
        }
        let values = self.without_rejected(group, t, values, counts);
        let row = self.row_of(group, &values);
        counts.stored += values.iter().filter(|v| !is_absent(**v)).count();
        self.push_row(group, t, row.clone());
        Ok(AppendedBatch::Row { values, row })
    }

    /// The values of a batch in the order of the columns of its group's set.
    pub(super) fn row_of(&self, group: u32, values: &Arc<[f64]>) -> Arc<[f64]> {
        let Some(map) = &self.groups[group].map else { return values.clone() };
        let mut row = vec![ABSENT; self.groups.width(group)];
        for (v, column) in values.iter().zip(map) {
            row[*column as usize] = *v;
        }
        row.into()
    }

    /// Adds a row to the group's column set; `t` is later than all its rows. The replay uses it,
    /// too.
    pub fn push_row(&mut self, group: u32, t: TimeMs, row: Arc<[f64]>) {
        let Some(set) = self.groups[group].set else { return };
        self.groups[group].newest = Some(t);
        self.times.extend(t);
        let Some(columns) = self.groups.sets.get_mut(&set) else { return };
        // The snapshot of the running flush does not have this row.
        if let Some(flushing) = FlushInProgress::at(&mut self.flushing, t) {
            let samples = columns.columns.iter().zip(row.iter()).filter(|(_, v)| !is_absent(**v));
            flushing.rows.extend(samples.map(|(slot, v)| (*slot, t, *v)));
        }
        columns.push(t, row, self.block_range);
    }

    /// Maps a new layout to columns; slots without a column get one.
    pub(super) fn adopt_layout(&mut self, group: u32, layout: &Arc<ColumnLayout>) {
        // Most columns of the set would be empty with this layout: begin a new set.
        let too_wide = self.groups.width(group) > 2 * layout.slots.len() + 64;
        let set = match self.groups[group].set {
            Some(set) if !too_wide => set,
            _ => self.groups.begin_set(group),
        };
        let map: Vec<u32> = layout.slots.iter().map(|slot| self.column(set, *slot)).collect();
        // If the layout has the order of the columns, no map is stored, and rows need not be
        // permuted.
        let same =
            map.len() == self.groups.width(group) && map.iter().enumerate().all(|(i, c)| i == *c as usize);
        let known = &mut self.groups[group];
        known.map = if same { None } else { Some(map.into()) };
        known.layout = Some(layout.clone());
    }

    /// The column of `slot` in `set`, appended if there is none.
    pub(super) fn column(&mut self, set: u32, slot: u32) -> u32 {
        self.series.activate(slot);
        let series = &mut self.series[slot];
        if let Some(column_ref) = series.columns().iter().find(|column_ref| column_ref.set == set) {
            return column_ref.column;
        }
        let Some(columns) = self.groups.sets.get_mut(&set) else { return u32::MAX };
        let column = columns.columns.len() as u32;
        let group = columns.group;
        columns.columns.push(slot);
        series.add_column(ColumnRef { set, column });
        // A series that also has samples outside this group could get two samples at one time.
        // Another set of the same group cannot have the time of a new row: rows ascend.
        let foreign = series.columns().iter().any(|column_ref| self.groups.is_foreign(column_ref.set, group));
        if foreign || series.is_mixed() {
            self.mark_mixed(slot);
        }
        column
    }

    /// Marks the columns of `slot`: from now on each of its samples is checked for duplicates.
    pub(super) fn mark_mixed(&mut self, slot: u32) {
        for column_ref in self.series[slot].columns() {
            if let Some(set) = self.groups.sets.get_mut(&column_ref.set) {
                set.mixed.insert(column_ref.column);
            }
        }
    }

    /// The values of the batch; those that must not be stored are replaced by *absent*. No copy if
    /// all are stored.
    fn without_rejected(
        &self,
        group: u32,
        t: TimeMs,
        values: &Arc<[f64]>,
        counts: &mut AppendCounts,
    ) -> Arc<[f64]> {
        let Some(set) = self.groups.set_of(group) else { return values.clone() };
        if set.mixed.is_empty() {
            return values.clone();
        }
        let Some(layout) = &self.groups[group].layout else { return values.clone() };
        let map = self.groups[group].map.as_ref();
        let mut stored: Option<Vec<f64>> = None;
        for (i, slot) in layout.slots.iter().enumerate() {
            let column = map.map_or(i as u32, |map| map[i]);
            if is_absent(values[i]) || !set.mixed.contains(column) {
                continue;
            }
            let decision = self.decide(*slot, t, values[i]);
            if decision != AppendDecision::Store {
                self.limits.count(decision, *slot, t, counts);
                stored.get_or_insert_with(|| values.to_vec())[i] = ABSENT;
            }
        }
        stored.map_or_else(|| values.clone(), Arc::from)
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
        let decision = self.decide(slot, t, v);
        // Asked before the sample is stored: afterwards it may itself be the newest.
        let newest = self.stored(slot).newest();
        if !self.limits.count(decision, slot, t, counts) {
            return false;
        }
        counts.late += usize::from(newest.is_some_and(|newest| t < newest));
        self.add_row(slot, t, v);
        true
    }

    /// Stores a sample at a time at which its series has none.
    pub(super) fn add_row(&mut self, slot: u32, t: TimeMs, v: f64) {
        self.series.activate(slot);
        if let Some(flushing) = FlushInProgress::at(&mut self.flushing, t) {
            flushing.rows.push((slot, t, v));
        }
        self.times.extend(t);
        if self.fill(slot, t, v) {
            return;
        }
        let series = &mut self.series[slot];
        let first = series.rows().is_none();
        series.rows_mut().add(t, v, self.block_range);
        // From now on rows of the series' columns must be checked against its single samples.
        if first {
            self.mark_mixed(slot);
        }
    }
}
