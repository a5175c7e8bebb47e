//! Grouping for aggregations (`by`, `without`) and matching (`on`, `ignoring`): which row belongs
//! to which group, and the members of each group in a fixed order.
//!
//! A sum of floats depends on the order of the additions, so the order is fixed: by shard (a fixed
//! share of the series), then by labels. It is the same after restarts, with any number of workers
//! and in both runtimes; and where one selector is summed it is the order of Prometheus.

use super::evaluation_guard::EvaluationGuard;
use super::group_index::{DirtyGroups, all_changed};
use super::{EvalError, StepInput, StepOutput};
use crate::heap_size::HeapSize;
use crate::plan::{Grouping, VectorMatching};
use std::collections::HashMap;
use storage::model::Labels;
use storage::model::labels::METRIC_NAME;

/// The groups of one input.
#[derive(Default)]
pub struct RowGroups {
    /// By row: its group.
    pub of_row: Vec<u32>,
    /// By group: its labels.
    pub labels: Vec<Labels>,
    /// By group: whether some member loses its metric name in the end. Then the group does.
    pub drops: Vec<bool>,
    /// The group of each label set.
    by_labels: HashMap<Labels, u32>,
    /// The members of group `g` are `members[starts[g]..starts[g + 1]]`.
    members: Vec<u32>,
    /// By group: see `members`; one more than there are groups.
    starts: Vec<u32>,
}

impl HeapSize for RowGroups {
    fn heap(&self) -> usize {
        let labels = self.labels.heap() + self.drops.heap() + self.by_labels.heap();
        self.of_row.heap() + labels + self.members.heap() + self.starts.heap()
    }
}

impl RowGroups {
    /// Adds the rows that `input` got since the last call; `key` returns a row's group labels.
    /// Returns whether there were any.
    pub fn add_rows(
        &mut self,
        input: &StepOutput,
        mut key: impl FnMut(&Labels) -> Labels,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<bool, EvalError> {
        // After an error there may be rows that have a group but are not in `members`.
        if self.of_row.len() == input.labels.len() && self.members.len() == self.of_row.len() {
            return Ok(false);
        }
        for row in self.of_row.len()..input.labels.len() {
            eval_guard.row()?;
            let labels = key(&input.labels[row]);
            let known = self.by_labels.get(&labels).copied();
            let group = match known {
                Some(group) => group,
                None => {
                    eval_guard.relabelled(&labels, &input.labels[row])?;
                    self.add(labels)
                }
            };
            self.drops[group as usize] |= input.drops(row);
            self.of_row.push(group);
        }
        // All members again: new rows may belong between others in the fixed order. New rows are
        // rare.
        self.sort_members(input, eval_guard)?;
        Ok(true)
    }

    /// Adds a group.
    fn add(&mut self, labels: Labels) -> u32 {
        let group = self.labels.len() as u32;
        self.labels.push(labels.clone());
        self.drops.push(false);
        self.by_labels.insert(labels, group);
        group
    }

    /// Like `add_rows`, and marks the groups to compute again: those of new and of changed rows.
    pub(super) fn add_rows_and_mark(
        &mut self,
        input: &StepInput,
        dirty: &mut DirtyGroups,
        key: impl FnMut(&Labels) -> Labels,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<bool, EvalError> {
        let known = self.of_row.len();
        let added = self.add_rows(input.out, key, eval_guard)?;
        for group in &self.of_row[known..] {
            dirty.mark(*group);
        }
        if all_changed(input) {
            dirty.mark_all(self.len());
        } else {
            // After `add_rows`, so that changed rows have a group.
            dirty.mark_changed(input, &self.of_row);
        }
        Ok(added)
    }

    /// Rows of group `group`, in the fixed order.
    pub fn members(&self, group: usize) -> &[u32] {
        &self.members[self.starts[group] as usize..self.starts[group + 1] as usize]
    }

    /// Number of groups.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no groups.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// A counting sort by group over the rows in the fixed order.
    fn sort_members(
        &mut self,
        input: &StepOutput,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<(), EvalError> {
        let mut starts = vec![0u32; self.labels.len() + 1];
        for g in &self.of_row {
            starts[*g as usize + 1] += 1;
        }
        for g in 1..starts.len() {
            starts[g] += starts[g - 1];
        }
        let mut next = starts.clone();
        // Rows come in the fixed order, and the counting sort is stable, so each group has them in
        // this order.
        let rows = input.rows_by_labels(eval_guard)?;
        self.members = vec![0; self.of_row.len()];
        for row in rows {
            let place = &mut next[self.of_row[row as usize] as usize];
            self.members[*place as usize] = row;
            *place += 1;
        }
        self.starts = starts;
        Ok(())
    }
}

/// The group labels of an aggregation. `by (__name__)` keeps the name, `without` always drops it.
pub fn group_key(grouping: &Grouping, labels: &Labels) -> Labels {
    let listed = |name: &str| is_listed(&grouping.labels, name);
    if grouping.without {
        labels.filter(|n| n != METRIC_NAME && !listed(n))
    } else if grouping.labels.is_empty() {
        // Without `by`, everything is one group. Filtering each row's labels would give the same,
        // slower.
        Labels::default()
    } else {
        labels.filter(listed)
    }
}

/// Whether a name is in `names`, which are sorted.
fn is_listed(names: &[String], name: &str) -> bool {
    names.binary_search_by(|listed| listed.as_str().cmp(name)).is_ok()
}

/// The labels that a binary operator lists, sorted for lookups: a query may list thousands.
#[derive(Debug)]
pub(super) struct MatchNames {
    on: bool,
    labels: Vec<String>,
    include: Vec<String>,
}

impl HeapSize for MatchNames {
    fn heap(&self) -> usize {
        self.labels.heap() + self.include.heap()
    }
}

impl MatchNames {
    pub(super) fn from_matching(matching: &VectorMatching) -> MatchNames {
        let sorted = |names: &[String]| {
            let mut names = names.to_vec();
            names.sort_unstable();
            names.dedup();
            names
        };
        MatchNames { on: matching.on, labels: sorted(&matching.labels), include: sorted(&matching.include) }
    }

    /// Whether `on` or `ignoring` lists a label.
    pub(super) fn lists(&self, name: &str) -> bool {
        is_listed(&self.labels, name)
    }

    /// The labels by which the two sides are matched.
    pub(super) fn key(&self, labels: &Labels) -> Labels {
        if self.on {
            labels.filter(|n| self.lists(n))
        } else {
            labels.filter(|n| n != METRIC_NAME && !self.lists(n))
        }
    }

    /// The labels of `many` with those that it gets from the other side.
    pub(super) fn with_included(&self, many: &Labels, one: &Labels) -> Labels {
        let mut given = one.iter().peekable();
        many.with_sorted(self.include.iter().map(|name| {
            // Both lists are sorted, so one pass finds all names.
            while given.next_if(|(other, _)| *other < name.as_str()).is_some() {}
            // A label that the other side lacks is removed from the result, as in Prometheus.
            let value = given.next_if(|(other, _)| other == name).map_or("", |(_, value)| value);
            (name.as_str(), value)
        }))
    }
}
