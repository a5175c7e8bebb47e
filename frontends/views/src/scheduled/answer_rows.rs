//! The latest answer of a scheduled view (one that is evaluated from history again and again) as
//! rows with fixed numbers, as the consumers and recorders of the live runtime need it.

use engine::limits::ENDED_ROWS;
use engine::operators::labelled_rows::LabelledRows;
use engine::operators::metric_names::FlaggedLabels;
use engine::operators::{ChangedRows, StepOutput};
use engine::types::histogram_column::Sample;
use storage::model::Labels;

/// Rows by labels.
#[derive(Default)]
pub(super) struct AnswerRows {
    out: StepOutput,
    rows: LabelledRows,
}

impl AnswerRows {
    /// Makes `answer` the only rows with a value.
    pub(super) fn replace(&mut self, answer: Vec<(Labels, Sample)>) {
        let latest = self.out.changed.clone();
        let named = answer.into_iter().map(|(labels, sample)| (FlaggedLabels::new(labels, false), sample));
        self.rows.replace(&mut self.out, named.collect());
        if self.out.changed == ChangedRows::Rows(Vec::new()) {
            self.out.changed = latest;
        } else {
            self.out.version += 1;
        }
    }

    /// Whether too many rows without values have accumulated.
    pub(super) fn has_many_dead_rows(&self) -> bool {
        let present = self.out.present().count();
        self.out.labels.len() > 2 * present + ENDED_ROWS
    }

    /// The latest answer, in the form of a step's output.
    pub(super) fn output(&self) -> &StepOutput {
        &self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_their_numbers() {
        let job = |name: &str| Labels::from_pairs([("job", name)]);
        let mut rows = AnswerRows::default();
        rows.replace(vec![(job("a"), 1.0.into()), (job("b"), 2.0.into())]);
        rows.replace(vec![(job("b"), 2.0.into()), (job("c"), 3.0.into())]);
        let out = rows.output();
        assert_eq!(out.labels, [job("a"), job("b"), job("c")]);
        assert_eq!(out.present().collect::<Vec<_>>(), [1, 2]);
        assert_eq!((out.version, &out.changed), (2, &ChangedRows::Rows(vec![2, 0])));
    }
}
