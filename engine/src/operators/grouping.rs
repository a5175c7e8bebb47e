//! Grouping: which row belongs to which group, and the members of each group in canonical order.
//!
//! Floats do not add up the same in every order, so the order is fixed: by shard, then by labels. Restarts,
//! worker counts and both runtimes agree on it, and it is Prometheus' order where one selector is summed.

use super::members::{Dirty, all_changed};
use super::{Input, Output};
use crate::heap::Heap;
use crate::plan::{Grouping, Matching};
use std::collections::HashMap;
use storage::model::Labels;
use storage::model::labels::METRIC_NAME;

/// The groups of one input.
#[derive(Default)]
pub struct Groups {
    /// Group of each row.
    pub of_row: Vec<u32>,
    /// Labels of each group.
    pub labels: Vec<Labels>,
    /// Whether some member of the group loses its name in the end: then the group does.
    pub drops: Vec<bool>,
    by_labels: HashMap<Labels, u32>,
    /// Members of group `g`: `members[starts[g]..starts[g + 1]]`.
    members: Vec<u32>,
    starts: Vec<u32>,
}

impl Heap for Groups {
    fn heap(&self) -> usize {
        let labels = self.labels.heap() + self.drops.heap() + self.by_labels.heap();
        self.of_row.heap() + labels + self.members.heap() + self.starts.heap()
    }
}

impl Groups {
    /// Learns the rows that `input` got since the last call; `key` gives a row's group labels.
    /// Returns whether there were any.
    pub fn learn(&mut self, input: &Output, mut key: impl FnMut(&Labels) -> Labels) -> bool {
        let seen = self.of_row.len();
        if seen == input.labels.len() {
            return false;
        }
        for row in seen..input.labels.len() {
            let labels = key(&input.labels[row]);
            let next = self.labels.len() as u32;
            let group = *self.by_labels.entry(labels).or_insert_with_key(|labels| {
                self.labels.push(labels.clone());
                self.drops.push(false);
                next
            });
            self.drops[group as usize] |= input.drops(row);
            self.of_row.push(group);
        }
        self.sort_members(input);
        true
    }

    /// The same, and marks the groups to compute again: those of new rows, and of rows that changed.
    pub(super) fn learn_dirty(
        &mut self,
        input: &Input,
        dirty: &mut Dirty,
        key: impl FnMut(&Labels) -> Labels,
    ) -> bool {
        let known = self.of_row.len();
        let learnt = self.learn(input.out, key);
        self.of_row[known..].iter().for_each(|group| dirty.mark(*group));
        match all_changed(input) {
            true => dirty.mark_all(self.len()),
            false => dirty.mark_changed(input, &self.of_row),
        }
        learnt
    }

    /// Rows of group `group`, in canonical order.
    pub fn members(&self, group: usize) -> &[u32] {
        &self.members[self.starts[group] as usize..self.starts[group + 1] as usize]
    }

    /// Number of groups.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no group yet.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Counting sort by group over the rows in canonical order.
    fn sort_members(&mut self, input: &Output) {
        let mut starts = vec![0u32; self.labels.len() + 1];
        self.of_row.iter().for_each(|g| starts[*g as usize + 1] += 1);
        for g in 1..starts.len() {
            starts[g] += starts[g - 1];
        }
        let mut next = starts.clone();
        self.members = vec![0; self.of_row.len()];
        for row in input.rows_by_labels() {
            let place = &mut next[self.of_row[row as usize] as usize];
            self.members[*place as usize] = row;
            *place += 1;
        }
        self.starts = starts;
    }
}

/// The group labels of an aggregation. `by (__name__)` keeps the name, `without` always drops it.
pub fn group_key(grouping: &Grouping, labels: &Labels) -> Labels {
    if grouping.without {
        labels.filter(|n| n != METRIC_NAME && !grouping.labels.iter().any(|l| l == n))
    } else if grouping.labels.is_empty() {
        Labels::default()
    } else {
        labels.filter(|n| grouping.labels.iter().any(|l| l == n))
    }
}

/// The labels by which the sides of a binary operator find each other.
pub fn match_key(matching: &Matching, labels: &Labels) -> Labels {
    if matching.on {
        labels.filter(|n| matching.labels.iter().any(|l| l == n))
    } else {
        labels.filter(|n| n != METRIC_NAME && !matching.labels.iter().any(|l| l == n))
    }
}
