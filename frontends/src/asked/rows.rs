//! The latest answer of an asked view in rows with fixed numbers, as taps and recorders want it.

use engine::limits::DEAD_ROWS;
use engine::operators::labelled_rows::LabelledRows;
use engine::operators::side::Sample;
use engine::operators::{Changed, Output};
use storage::model::Labels;

/// Rows by labels.
#[derive(Default)]
pub struct Rows {
    out: Output,
    rows: LabelledRows,
}

impl Rows {
    /// Makes `answer` the only rows with a value.
    pub fn replace(&mut self, answer: Vec<(Labels, Sample)>) {
        let latest = self.out.changed.clone();
        let named = answer.into_iter().map(|(labels, sample)| ((labels, false), sample));
        self.rows.replace(&mut self.out, named.collect());
        if self.out.changed == Changed::Rows(Vec::new()) {
            self.out.changed = latest;
        } else {
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
