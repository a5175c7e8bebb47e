//! The latest answer of an asked view in rows with fixed numbers, as taps and recorders want it.

use engine::limits::DEAD_ROWS;
use engine::operators::side::Sample;
use engine::operators::{Changed, Output};
use std::collections::HashMap;
use storage::model::Labels;
use storage::model::value::ABSENT;

/// Rows by labels.
#[derive(Default)]
pub struct Rows {
    out: Output,
    by_labels: HashMap<Labels, usize>,
}

impl Rows {
    /// Makes `answer` the only rows with a value.
    pub fn replace(&mut self, answer: Vec<(Labels, Sample)>) {
        let mut touched = Vec::new();
        let mut kept = vec![false; self.out.values.len()];
        for (labels, sample) in answer {
            let out = &mut self.out;
            let row = *self.by_labels.entry(labels).or_insert_with_key(|labels| out.add_row(labels.clone()));
            kept.resize(out.values.len(), false);
            kept[row] = true;
            out.put(row, sample, &mut touched);
        }
        for row in (0..kept.len()).filter(|row| !kept[*row]) {
            self.out.set(row, ABSENT, &mut touched);
        }
        if !touched.is_empty() {
            self.out.changed = Changed::Rows(touched);
            self.out.version += 1;
        }
    }

    /// Whether rows of labels that are gone have piled up.
    pub fn is_litter(&self) -> bool {
        let present = self.out.present().count();
        self.out.labels.len() > 2 * present + DEAD_ROWS
    }

    /// The rows.
    pub fn output(&self) -> &Output {
        &self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_their_numbers() {
        let job = |name: &str| Labels::from_pairs([("job", name)]);
        let mut rows = Rows::default();
        rows.replace(vec![(job("a"), 1.0.into()), (job("b"), 2.0.into())]);
        rows.replace(vec![(job("b"), 2.0.into()), (job("c"), 3.0.into())]);
        let out = rows.output();
        assert_eq!(out.labels, [job("a"), job("b"), job("c")]);
        assert_eq!(out.present().collect::<Vec<_>>(), [1, 2]);
        assert_eq!((out.version, &out.changed), (2, &Changed::Rows(vec![2, 0])));
    }
}
