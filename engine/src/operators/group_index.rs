//! Groups of rows whose members change one by one: which groups must be computed again, which rows
//! belong to each, and which rows of the output.
//!
//! An operator on groups of rows (matching pairs, buckets of a histogram, `topk`) computes a group
//! again when one of its members changed or is new, or when all groups must be. The output rows of
//! all other groups stay.

use super::{ChangedRows, StepInput, StepOutput};
use crate::heap_size::HeapSize;
use crate::types::histogram_column::SampleRef;
use std::sync::Arc;
use storage::model::NativeHistogram;
use storage::model::value::ABSENT;

const NO_ROW: u32 = u32::MAX;

/// The groups that must be computed again.
#[derive(Default)]
pub(super) struct DirtyGroups {
    /// By group: whether it is in the list.
    marked: Vec<bool>,
    /// The groups, each once.
    list: Vec<u32>,
}

impl DirtyGroups {
    pub(super) fn mark(&mut self, group: u32) {
        if self.marked.len() <= group as usize {
            self.marked.resize(group as usize + 1, false);
        }
        // A group is listed once, however many of its members changed.
        if !std::mem::replace(&mut self.marked[group as usize], true) {
            self.list.push(group);
        }
    }

    /// Marks the groups of rows that changed in `input`; `of_row` has the group of each row.
    pub(super) fn mark_changed(&mut self, input: &StepInput, of_row: &[u32]) {
        // If all rows may have changed, the caller marks all groups.
        if let Some(ChangedRows::Rows(rows)) = input.delta {
            for row in rows.iter() {
                self.mark(of_row[*row as usize]);
            }
        }
    }

    /// Marks the first `groups` groups.
    pub(super) fn mark_all(&mut self, groups: usize) {
        for group in 0..groups as u32 {
            self.mark(group);
        }
    }

    /// Returns the marked groups, and removes the marks.
    pub(super) fn take(&mut self) -> Vec<u32> {
        for group in &self.list {
            self.marked[*group as usize] = false;
        }
        std::mem::take(&mut self.list)
    }
}

impl HeapSize for DirtyGroups {
    fn heap(&self) -> usize {
        self.marked.heap() + self.list.heap()
    }
}

/// Whether any row of an input may have changed.
pub(super) fn all_changed(input: &StepInput) -> bool {
    matches!(input.delta, Some(ChangedRows::All))
}

/// Rows by group, in the order in which they were added. The group of a row never changes. Each
/// group is a circular list, so adding a row allocates no list per group.
#[derive(Default)]
pub(super) struct GroupMembers {
    /// The last row of each group.
    last: Vec<u32>,
    /// The row after each row; after the last row of a group, its first.
    next: Vec<u32>,
}

impl GroupMembers {
    /// Adds a row to a group, unless it has one.
    pub(super) fn add(&mut self, group: u32, row: u32) {
        let group = group as usize;
        let at = row as usize;
        if self.next.len() <= at {
            self.next.resize(at + 1, NO_ROW);
        }
        // `NO_ROW` as successor means that the row has no group: even a single row points to
        // itself.
        if self.next[at] != NO_ROW {
            return;
        }
        if self.last.len() <= group {
            self.last.resize(group + 1, NO_ROW);
        }
        let last = std::mem::replace(&mut self.last[group], row);
        // The new row goes after the last one and points to the first; a list of one points to
        // itself.
        let before = if last == NO_ROW { at } else { last as usize };
        self.next[at] = if last == NO_ROW { row } else { self.next[before] };
        self.next[before] = if last == NO_ROW { self.next[before] } else { row };
    }

    /// The rows of a group.
    pub(super) fn rows_of(&self, group: u32) -> impl Iterator<Item = usize> + '_ {
        let last = self.last.get(group as usize).copied().filter(|last| *last != NO_ROW);
        let mut next = last.map(|last| self.next[last as usize]);
        std::iter::from_fn(move || {
            let row = next?;
            // The last row points to the first again, so the walk must end there.
            next = (Some(row) != last).then(|| self.next[row as usize]);
            Some(row as usize)
        })
    }
}

impl HeapSize for GroupMembers {
    fn heap(&self) -> usize {
        self.last.heap() + self.next.heap()
    }
}

/// The result of a group: rows of the output with their samples.
#[derive(Default)]
pub(super) struct GroupResult {
    pub(super) values: Vec<(u32, f64)>,
    pub(super) histograms: Vec<(u32, Arc<NativeHistogram>)>,
}

impl GroupResult {
    /// Adds the sample of row `row` of `input` as row `to` of the output.
    pub(super) fn add(&mut self, to: u32, input: &StepOutput, row: usize) {
        match input.cell(row) {
            SampleRef::Absent => {}
            SampleRef::Float(v) => self.values.push((to, v)),
            SampleRef::Histogram(h) => self.histograms.push((to, h.clone())),
        }
    }
}

/// The rows of the output, by group.
#[derive(Default)]
pub(super) struct GroupRows {
    rows: GroupMembers,
    /// By row: whether the result of the current group has it.
    has_value: Vec<bool>,
}

impl GroupRows {
    /// Makes the result the only rows of a group with a value, and clears it.
    pub(super) fn replace(
        &mut self,
        group: u32,
        found: &mut GroupResult,
        out: &mut StepOutput,
        touched: &mut Vec<u32>,
    ) {
        // One buffer for all groups: after each call all entries are `false` again.
        self.has_value.resize(out.values.len(), false);
        for (row, value) in found.values.drain(..) {
            self.keep(group, row);
            out.set(row as usize, value, touched);
        }
        for (row, histogram) in found.histograms.drain(..) {
            self.keep(group, row);
            out.set_histogram(row as usize, histogram, touched);
        }
        for row in self.rows.rows_of(group) {
            // Rows of the group that the new result lacks, such as a series that is no longer among
            // the top.
            if !std::mem::take(&mut self.has_value[row]) {
                out.set(row, ABSENT, touched);
            }
        }
    }

    fn keep(&mut self, group: u32, row: u32) {
        self.rows.add(group, row);
        self.has_value[row as usize] = true;
    }
}

impl HeapSize for GroupRows {
    fn heap(&self) -> usize {
        self.rows.heap() + self.has_value.heap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_in_order_and_once() {
        let mut members = GroupMembers::default();
        for (group, row) in [(0, 0), (2, 1), (0, 2), (0, 5), (2, 3), (0, 2)] {
            members.add(group, row);
        }
        let of = |group| members.rows_of(group).collect::<Vec<usize>>();
        assert_eq!((of(0), of(1), of(2), of(7)), (vec![0, 2, 5], vec![], vec![1, 3], vec![]));
    }

    #[test]
    fn groups_are_marked_once() {
        let mut dirty = DirtyGroups::default();
        for group in [3, 1, 3].into_iter() {
            dirty.mark(group);
        }
        assert_eq!(dirty.take(), [3, 1]);
        dirty.mark_all(2);
        assert_eq!((dirty.take(), dirty.take()), (vec![0, 1], vec![]));
    }
}
