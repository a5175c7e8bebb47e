//! The output of a step whose rows are replaced as a whole by each answer, and found again by their
//! labels. Used where the answer comes from outside, such as from a query over the store.

use super::metric_names::FlaggedLabels;
use super::{ChangedRows, StepOutput};
use crate::types::histogram_column::Sample;
use std::collections::HashMap;
use storage::model::Labels;
use storage::model::value::ABSENT;

/// The row number of each label set in one [`StepOutput`]. Rows keep their numbers; rows that are
/// not in an answer have no value.
#[derive(Default)]
pub struct LabelledRows {
    numbers: HashMap<Labels, usize>,
}

impl LabelledRows {
    /// Makes `answer` the only rows of `out` with a value, and sets `out.changed` to the rows that
    /// changed.
    pub fn replace(&mut self, out: &mut StepOutput, answer: Vec<(FlaggedLabels, Sample)>) {
        let mut touched = Vec::new();
        let mut present = vec![false; out.values.len()];
        for (FlaggedLabels { labels, drops_name }, sample) in answer {
            let made =
                |labels: &Labels| out.add_row_with_name_flag(FlaggedLabels::new(labels.clone(), drops_name));
            let row = *self.numbers.entry(labels).or_insert_with_key(made);
            present.resize(out.values.len(), false);
            present[row] = true;
            out.put(row, sample, &mut touched);
        }
        for row in (0..present.len()).filter(|row| !present[*row]) {
            out.set(row, ABSENT, &mut touched);
        }
        out.changed = ChangedRows::Rows(touched);
    }

    /// Bytes allocated, without the labels, which the output has.
    pub fn bytes(&self) -> usize {
        self.numbers.capacity() * size_of::<(Labels, usize)>()
    }
}
