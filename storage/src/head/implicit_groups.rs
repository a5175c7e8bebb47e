//! Implicit groups (in code and keys also *cohorts*): series whose samples arrive together although
//! the writer names no group, for example those of one target in remote write.
//!
//! Adjacent single samples of one shard with the same time in one call become a row of columns, as
//! a scrape does: one clock, one chunk, one delta in the log. An implicit group is a column group
//! ([`super::group`]) that the head creates. A series joins the group of its neighbours with its
//! first sample. Samples that do not fit (late, from too few series, twice in a call) are stored as
//! single samples by [`Head::append_row`].

use super::append_decision::{AppendCounts, AppendDecision};
use super::series::ColumnRef;
use super::shard::Head;
use crate::limits::{COHORT_COLUMNS, COHORT_ROWS, COHORT_SPARSE};
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
    group: u32,
    set: u32,
    row: Vec<f64>,
    samples: Vec<SlotFloat>,
}

/// The samples of one call with one time, while they are distributed to rows.
#[derive(Default)]
struct SameTimeRun {
    parts: Vec<RowInProgress>,
    /// Index of the row (in `parts`) that the sample before went to. Neighbours mostly go to the
    /// same row.
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
            if run.len() < COHORT_ROWS || run[0].1 < self.oldest_taken() {
                self.append_alone(run, counts, &mut out);
            } else {
                self.append_run(run, counts, &mut out);
            }
        }
        out
    }

    fn append_alone(&mut self, samples: &[SlotFloat], counts: &mut AppendCounts, out: &mut RowsAppended) {
        for (slot, t, v) in samples {
            if self.append_row(*slot, *t, *v, counts) {
                out.single.push((*slot, *t, *v));
                out.stored.push((*slot, *t, *v));
            }
        }
    }

    fn append_run(&mut self, samples: &[SlotFloat], counts: &mut AppendCounts, out: &mut RowsAppended) {
        let mut run = SameTimeRun::default();
        for sample in samples {
            match self.series[sample.0 as usize].homes().last().copied() {
                Some(home) => self.place_known(*sample, home, &mut run, counts),
                None => run.new.push(*sample),
            }
        }
        self.place_new(&mut run, counts);
        for part in std::mem::take(&mut run.parts) {
            self.push_part(part, counts, out, &mut run.alone);
        }
        self.append_alone(&run.alone, counts, out);
    }

    /// Places a sample of a series that has a column.
    fn place_known(
        &mut self,
        sample: SlotFloat,
        home: ColumnRef,
        run: &mut SameTimeRun,
        counts: &mut AppendCounts,
    ) {
        if run.parts.get(run.at).is_none_or(|part| part.set != home.set) {
            match self.part_of(home.set, sample.1, &mut run.parts) {
                Some(at) => run.at = at,
                None => return run.alone.push(sample),
            }
        }
        let set = run.parts[run.at].set;
        let column = if set == home.set { home.column } else { self.column(set, sample.0) };
        self.gather(sample, ColumnRef { set, column }, run, counts);
    }

    /// The index of the row of the implicit group that `set` belongs to; begins it if needed.
    /// `None` if the group is not implicit or already has a row at `t` or later.
    fn part_of(&mut self, set: u32, t: TimeMs, parts: &mut Vec<RowInProgress>) -> Option<usize> {
        let group = self.sets.get(&set)?.group;
        if let Some(at) = parts.iter().position(|part| part.group == group) {
            return Some(at);
        }
        let known = &self.groups[group as usize];
        if !known.is_implicit() || known.newest.is_some_and(|newest| t <= newest) {
            return None;
        }
        Some(self.begin_part(group, parts))
    }

    fn begin_part(&mut self, group: u32, parts: &mut Vec<RowInProgress>) -> usize {
        let set = self.groups[group as usize].set.unwrap_or_else(|| self.new_set(group as usize));
        let width = self.sets.get(&set).map_or(0, |set| set.columns.len());
        parts.push(RowInProgress {
            group,
            set,
            row: vec![ABSENT; width],
            samples: Vec::with_capacity(width),
        });
        parts.len() - 1
    }

    /// Adds series without a column to the implicit group that arrived with them, or to a new
    /// group.
    fn place_new(&mut self, run: &mut SameTimeRun, counts: &mut AppendCounts) {
        let new = std::mem::take(&mut run.new);
        if run.parts.is_empty() && new.len() < COHORT_ROWS {
            return run.alone.extend(new);
        }
        for sample in new {
            if run.parts.get(run.at).is_none_or(|part| part.row.len() >= COHORT_COLUMNS) {
                let group = self.spare_cohort();
                run.at = self.begin_part(group, &mut run.parts);
            }
            let set = run.parts[run.at].set;
            let column = self.column(set, sample.0);
            self.gather(sample, ColumnRef { set, column }, run, counts);
        }
    }

    /// An implicit group without columns; created if there is none.
    fn spare_cohort(&mut self) -> u32 {
        let spare = self.groups.iter().position(|group| group.is_implicit() && group.set.is_none());
        let group = match spare {
            Some(group) => group as u32,
            None => self.open_group(&format!("{PREFIX}{}", self.groups.len())),
        };
        self.groups[group as usize].newest = None;
        group
    }

    /// Puts a sample into the row that is collected, unless it must be refused or stored as a
    /// single sample.
    fn gather(
        &mut self,
        sample: SlotFloat,
        home: ColumnRef,
        run: &mut SameTimeRun,
        counts: &mut AppendCounts,
    ) {
        let (slot, t, v) = sample;
        let part = &mut run.parts[run.at];
        let column = home.column as usize;
        if part.row.len() <= column {
            part.row.resize(column + 1, ABSENT);
        }
        let series = &self.series[slot as usize];
        // The row has a sample of this series already, or a hole would hide the column's sample.
        if !is_absent(part.row[column]) || series.rows().is_some_and(|rows| rows.has_holes()) {
            return run.alone.push(sample);
        }
        if series.is_mixed() || series.homes().len() > 1 {
            let verdict = self.verdict(slot, t, v);
            if verdict != AppendDecision::Store {
                self.note(verdict, (slot, t), counts);
                return;
            }
        }
        if !self.series[slot as usize].listed {
            self.activate(slot);
        }
        part.row[column] = v;
        part.samples.push(sample);
    }

    /// Stores a collected row if it has enough samples. A sparse row is stored too if the row
    /// before it was filled by later calls: this one probably will be. Otherwise its samples become
    /// single samples (`alone`).
    fn push_part(
        &mut self,
        part: RowInProgress,
        counts: &mut AppendCounts,
        out: &mut RowsAppended,
        alone: &mut Vec<SlotFloat>,
    ) {
        let RowInProgress { group, set, mut row, samples } = part;
        let Some(columns) = self.sets.get(&set).filter(|_| !samples.is_empty()) else { return };
        let width = columns.columns.len();
        let enough = |samples: usize| samples * COHORT_SPARSE >= width;
        if !enough(samples.len()) && !enough(columns.newest_samples()) {
            return alone.extend(samples);
        }
        row.resize(width, ABSENT);
        let row: Arc<[f64]> = row.into();
        counts.stored += samples.len();
        self.push_row(group as usize, samples[0].1, row.clone());
        out.rows.push((group, samples[0].1, row));
        out.stored.extend(samples);
    }

    /// Puts a sample into the open row of its time, if its column is empty there. Returns whether
    /// it did.
    pub(super) fn fill(&mut self, slot: u32, t: TimeMs, v: f64) -> bool {
        let series = &self.series[slot as usize];
        // A hole at this time would hide the sample of the column.
        let free = series.rows().is_none_or(|rows| !rows.has_holes());
        let Some(home) = series.homes().last().filter(|_| free) else { return false };
        self.sets.get_mut(&home.set).is_some_and(|set| set.fill(home.column, t, v))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Labels;

    #[test]
    fn calls_that_begin_anywhere_in_a_cohort_make_columns() {
        let mut head = Head::new(7_200_000, 0);
        let labels = |i: u32| Labels::from_pairs([("i", i.to_string())]);
        let slots: Vec<u32> = (0..200).map(|i| head.resolve(&labels(i))).collect();
        let mut counts = AppendCounts::default();
        for at in 0..30 {
            let t = at * 15_000;
            let samples: Vec<SlotFloat> = slots.iter().map(|slot| (*slot, t, f64::from(*slot))).collect();
            // In the first call all series arrive together. Later, some arrive before the others,
            // too few for a row.
            let first = if at == 0 { 200 } else { COHORT_ROWS + at as usize % 3 };
            let (some, others) = samples.split_at(first);
            head.append_rows(some, &mut counts);
            head.append_rows(others, &mut counts);
        }
        assert_eq!(counts.stored, 30 * 200);
        assert!(slots.iter().all(|slot| head.series[*slot as usize].rows().is_none()));
        assert!(slots.iter().all(|slot| head.at(*slot, 29 * 15_000) == Some(f64::from(*slot))));
    }
}
