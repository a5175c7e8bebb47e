//! Metric names: when computed values lose them.
//!
//! By default immediately. With delayed names ([`Dialect::delayed_names`]) a row keeps its labels
//! with a flag that it will lose name, type and unit, and loses them in the last step
//! ([`DropNames`]). Steps in between can still distinguish series, and match and group by name.

use super::evaluation_guard::EvaluationGuard;
use super::map::add_rows;
use super::{ChangedRows, DuplicateLabels, EvalError, Operator, StepInput, StepOutput};
use crate::heap_size::HeapSize;
use crate::plan::Dialect;
use crate::plan::physical::Leaf;
use crate::types::histogram_column::Sample;
use std::collections::HashSet;
use storage::model::value::ABSENT;
use storage::model::{Labels, TimeMs};

/// The labels of a row, and whether it loses name, type and unit in the end.
#[derive(Clone, Debug)]
pub struct FlaggedLabels {
    /// The labels of the row, with the name that may have to be dropped.
    pub labels: Labels,
    /// Whether the row loses what describes its metric when the answer is complete.
    pub drops_name: bool,
}

impl FlaggedLabels {
    /// Labels with their flag.
    pub fn new(labels: Labels, drops_name: bool) -> FlaggedLabels {
        FlaggedLabels { labels, drops_name }
    }
}

/// The labels of a value that is computed from one with `labels`. `keeps`: the function keeps the
/// name.
pub fn computed(dialect: Dialect, labels: &Labels, drops: bool, keeps: bool) -> FlaggedLabels {
    if keeps {
        FlaggedLabels::new(labels.clone(), drops)
    } else if dialect.delayed_names {
        FlaggedLabels::new(labels.clone(), true)
    } else {
        FlaggedLabels::new(labels.without_metric_labels(), false)
    }
}

/// The labels of a series in a leaf.
pub fn leaf_labels(leaf: &Leaf, labels: &Labels, dialect: Dialect) -> FlaggedLabels {
    computed(dialect, labels, false, leaf.keeps_name())
}

/// The last step of a plan with delayed names. If a float and a histogram get the same labels, they
/// are one series: at one time it has the histogram. A range query gets both, as in Prometheus.
#[derive(Default)]
pub struct DropNames {
    duplicates: DuplicateLabels,
    keeps_both: bool,
}

impl DropNames {
    /// The operator for a query.
    pub fn for_query() -> DropNames {
        DropNames { keeps_both: true, ..DropNames::default() }
    }
}

impl Operator for DropNames {
    fn eval(
        &mut self,
        inputs: &[StepInput],
        _: TimeMs,
        out: &mut StepOutput,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<(), EvalError> {
        add_rows(&inputs[0], out, eval_guard, |labels, drops| {
            Ok(FlaggedLabels::new(if drops { labels.without_metric_labels() } else { labels.clone() }, false))
        })?;
        let mut touched = Vec::new();
        let input = inputs[0].out;
        let sample = |row: usize| input.cell(row).sample().unwrap_or(Sample::Float(ABSENT));
        let mut hidden = HashSet::new();
        // Rows in strict label order have no duplicates.
        if !out.sorted {
            self.duplicates.add_rows(out, eval_guard)?;
            let floats = self.duplicates.floats_beside_histograms(input, eval_guard)?;
            hidden = if self.keeps_both { hidden } else { floats };
        }
        for row in inputs[0].rows().chain(self.duplicates.rows()) {
            eval_guard.row()?;
            let shown = if hidden.contains(&row) { Sample::Float(ABSENT) } else { sample(row) };
            out.put(row, shown, &mut touched);
        }
        out.changed = ChangedRows::Rows(touched);
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.duplicates.heap()
    }
}
