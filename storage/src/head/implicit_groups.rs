//! Implicit groups: series whose samples arrive together although the writer names no group, for
//! example those of one target in remote write.
//!
//! Adjacent single samples of one shard with the same time in one call become a row of columns, as
//! a scrape does: one clock, one chunk, one delta in the log. An implicit group is a column group
//! ([`super::group`]) that the head creates. A series joins the group of its neighbours with its
//! first sample. Samples that do not fit (late, from too few series, twice in a call) are stored as
//! single samples by [`Head::append_row`].

use super::append_decision::{AppendCounts, AppendDecision};
use super::series::ColumnRef;
use super::shard::Head;
use crate::limits::{IMPLICIT_GROUP_COLUMNS, IMPLICIT_GROUP_ROWS, IMPLICIT_GROUP_SPARSE};
use crate::model::TimeMs;
use crate::model::slot_samples::SlotFloat;
use crate::model::value::{ABSENT, is_absent};
use std::sync::Arc;

/// Prefix of the keys of implicit groups. No target or rule has such a name.
pub(super) const PREFIX: &str = "\0cohort ";

/// How single samples were stored.
#[derive(Default)]
pub struct RowsAppended {
    /// Rows of implicit groups: group, time, values in the order of its columns.
    pub rows: Vec<(u32, TimeMs, Arc<[f64]>)>,
    /// Samples that were stored as single samples.
    pub single: Vec<SlotFloat>,
    /// All stored samples.
    pub stored: Vec<SlotFloat>,
}

/// A row that is being collected.
struct RowInProgress {
    /// The index of the group.
    group: u32,
    /// The key of its column set.
    set: u32,
    /// The values by column; *absent* where there is no sample yet.
    row: Vec<f64>,
    samples: Vec<SlotFloat>,
}

/// The samples of one call with one time, while they are distributed to rows.
struct SameTimeRun<'a> {
    head: &'a mut Head,
    counts: &'a mut AppendCounts,
    rows_in_progress: Vec<RowInProgress>,
    /// Index of the row (in `rows_in_progress`) that the sample before went to. Neighbours mostly
    /// go to the same row.
    at: usize,
    /// Samples of series that have no column.
    new: Vec<SlotFloat>,
    /// Samples for [`Head::append_row`].
    alone: Vec<SlotFloat>,
}

impl Head {
    /// Appends single samples in the order in which they arrived.
    pub fn append_rows(&mut self, samples: &[SlotFloat], counts: &mut AppendCounts) -> RowsAppended {
        let mut out = RowsAppended { stored: Vec::with_capacity(samples.len()), ..RowsAppended::default() };
        for run in samples.chunk_by(|a, b| a.1 == b.1) {
            // Too few for columns to save anything, or too old for a row: those are decided one by
            // one, with their reasons.
            if run.len() < IMPLICIT_GROUP_ROWS || run[0].1 < self.limits.oldest_accepted() {
                self.append_singly(run, counts, &mut out);
            } else {
                SameTimeRun::new(self, counts).append(run, &mut out);
            }
        }
        out
    }

    fn append_singly(&mut self, samples: &[SlotFloat], counts: &mut AppendCounts, out: &mut RowsAppended) {
        for (slot, t, v) in samples {
            if self.append_row(*slot, *t, *v, counts) {
                out.single.push((*slot, *t, *v));
                out.stored.push((*slot, *t, *v));
            }
        }
    }

    /// Puts a sample into the open row of its time, if its column is empty there. Returns whether
    /// it did.
    pub(super) fn fill(&mut self, slot: u32, t: TimeMs, v: f64) -> bool {
        let series = &self.series[slot];
        // A hole at this time would hide the sample of the column.
        let free = series.rows().is_none_or(|rows| !rows.has_holes());
        let Some(column_ref) = series.columns().last().filter(|_| free) else { return false };
        self.groups.sets.get_mut(&column_ref.set).is_some_and(|set| set.fill(column_ref.column, t, v))
    }
}

impl<'a> SameTimeRun<'a> {
    fn new(head: &'a mut Head, counts: &'a mut AppendCounts) -> SameTimeRun<'a> {
        SameTimeRun { head, counts, rows_in_progress: Vec::new(), at: 0, new: Vec::new(), alone: Vec::new() }
    }

    /// Stores the samples.
    fn append(mut self, samples: &[SlotFloat], out: &mut RowsAppended) {
        for sample in samples {
            // The newest column: older sets get no rows any more.
            match self.head.series[sample.0].columns().last().copied() {
                Some(column_ref) => self.place_by_column(*sample, column_ref),
                None => self.new.push(*sample),
            }
        }
        // After the known ones: by then it shows which group the new series came with.
        self.place_new();
        for part in std::mem::take(&mut self.rows_in_progress) {
            self.push_collected(part, out);
        }
        self.head.append_singly(&self.alone, self.counts, out);
    }

    /// Places a sample of a series that has a column.
    fn place_by_column(&mut self, sample: SlotFloat, column_ref: ColumnRef) {
        if self.rows_in_progress.get(self.at).is_none_or(|part| part.set != column_ref.set) {
            match self.row_of_set(column_ref.set, sample.1) {
                Some(at) => self.at = at,
                None => return self.alone.push(sample),
            }
        }
        let set = self.rows_in_progress[self.at].set;
        let column = if set == column_ref.set { column_ref.column } else { self.head.column(set, sample.0) };
        self.gather(sample, ColumnRef { set, column });
    }

    /// The index of the row of the implicit group that `set` belongs to; begins it if needed.
    /// `None` if the group is not implicit or already has a row at `t` or later.
    fn row_of_set(&mut self, set: u32, t: TimeMs) -> Option<usize> {
        let group = self.head.groups.sets.get(&set)?.group;
        if let Some(at) = self.rows_in_progress.iter().position(|part| part.group == group) {
            return Some(at);
        }
        let known = &self.head.groups[group];
        if !known.is_implicit() || known.newest.is_some_and(|newest| t <= newest) {
            return None;
        }
        Some(self.begin_row(group))
    }

    fn begin_row(&mut self, group: u32) -> usize {
        let set = self.head.groups[group].set.unwrap_or_else(|| self.head.groups.begin_set(group));
        let width = self.head.groups.width(group);
        self.rows_in_progress.push(RowInProgress {
            group,
            set,
            row: vec![ABSENT; width],
            samples: Vec::with_capacity(width),
        });
        self.rows_in_progress.len() - 1
    }

    /// Adds series without a column to the implicit group that arrived with them, or to a new
    /// group.
    fn place_new(&mut self) {
        let new = std::mem::take(&mut self.new);
        // No group came with them, and a group of so few would be none.
        if self.rows_in_progress.is_empty() && new.len() < IMPLICIT_GROUP_ROWS {
            return self.alone.extend(new);
        }
        for sample in new {
            if self.rows_in_progress.get(self.at).is_none_or(|part| part.row.len() >= IMPLICIT_GROUP_COLUMNS)
            {
                let Some(group) = self.spare_group() else {
                    self.alone.push(sample);
                    continue;
                };
                self.at = self.begin_row(group);
            }
            let set = self.rows_in_progress[self.at].set;
            let column = self.head.column(set, sample.0);
            self.gather(sample, ColumnRef { set, column });
        }
    }

    /// An implicit group without columns; created if there is none. `None`: the shard has too many
    /// groups.
    fn spare_group(&mut self) -> Option<u32> {
        let group = match self.head.groups.spare_implicit() {
            Some(group) => group,
            None => self.head.groups.open(&format!("{PREFIX}{}", self.head.groups.len())),
        };
        self.head.groups.get(group)?;
        // The group was used before. Its rows are gone, so any time may begin the new ones.
        self.head.groups[group].newest = None;
        Some(group)
    }

    /// Puts a sample into the row that is collected, unless it must be refused or stored as a
    /// single sample.
    fn gather(&mut self, sample: SlotFloat, column_ref: ColumnRef) {
        let (slot, t, v) = sample;
        let part = &mut self.rows_in_progress[self.at];
        let column = column_ref.column as usize;
        if part.row.len() <= column {
            part.row.resize(column + 1, ABSENT);
        }
        let series = &self.head.series[slot];
        // The row has a sample of this series already, or a hole would hide the column's sample.
        if !is_absent(part.row[column]) || series.rows().is_some_and(|rows| rows.has_holes()) {
            return self.alone.push(sample);
        }
        // Samples of this series may be elsewhere at this time; for all others the time of the row
        // decides.
        if series.is_mixed() || series.columns().len() > 1 {
            let decision = self.head.decide(slot, t, v);
            if decision != AppendDecision::Store {
                self.head.limits.count(decision, slot, t, self.counts);
                return;
            }
        }
        if !self.head.series[slot].listed {
            self.head.series.activate(slot);
        }
        part.row[column] = v;
        part.samples.push(sample);
    }

    /// Stores a collected row if it has enough samples. A sparse row is stored too if the row
    /// before it was filled by later calls: this one probably will be. Otherwise its samples become
    /// single samples (`alone`).
    fn push_collected(&mut self, part: RowInProgress, out: &mut RowsAppended) {
        let RowInProgress { group, set, mut row, samples } = part;
        let Some(columns) = self.head.groups.sets.get(&set).filter(|_| !samples.is_empty()) else { return };
        let width = columns.columns.len();
        let enough = |samples: usize| samples * IMPLICIT_GROUP_SPARSE >= width;
        if !enough(samples.len()) && !enough(columns.newest_samples()) {
            return self.alone.extend(samples);
        }
        row.resize(width, ABSENT);
        let row: Arc<[f64]> = row.into();
        self.counts.stored += samples.len();
        self.head.push_row(group, samples[0].1, row.clone());
        out.rows.push((group, samples[0].1, row));
        out.stored.extend(samples);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Labels;

    #[test]
    fn calls_that_begin_anywhere_in_an_implicit_group_make_columns() {
        let mut head = Head::new(7_200_000, 0);
        let labels = |i: u32| Labels::from_pairs([("i", i.to_string())]);
        let slots: Vec<u32> = (0..200).map(|i| head.series.resolve(&labels(i))).collect();
        let mut counts = AppendCounts::default();
        for at in 0..30 {
            let t = at * 15_000;
            let samples: Vec<SlotFloat> = slots.iter().map(|slot| (*slot, t, f64::from(*slot))).collect();
            // In the first call all series arrive together. Later, some arrive before the others,
            // too few for a row.
            let first = if at == 0 { 200 } else { IMPLICIT_GROUP_ROWS + at as usize % 3 };
            let (some, others) = samples.split_at(first);
            head.append_rows(some, &mut counts);
            head.append_rows(others, &mut counts);
        }
        assert_eq!(counts.stored, 30 * 200);
        assert!(slots.iter().all(|slot| head.series[*slot].rows().is_none()));
        assert!(slots.iter().all(|slot| head.stored(*slot).float_at(29 * 15_000) == Some(f64::from(*slot))));
    }
}
