//! Finds steps of the gather stage that have accumulated rows (series) without values:
//! `count_values`, for example, has a row for each value that ever occurred. The state of the views
//! that read them is then built again from the store. [`crate::live`] explains steps and stages.

use super::GatherExecutor;
use crate::limits::ENDED_ROWS;
use crate::plan::physical::{StepId, StepOp};
use storage::model::{Matcher, TimeMs};

impl GatherExecutor {
    /// Selectors of views of this worker in which steps have accumulated rows without values.
    /// Checked about once a minute.
    pub fn garbage(&mut self, t: TimeMs) -> Vec<Vec<Matcher>> {
        if !self.sweep.is_due(t) {
            return Vec::new();
        }
        let own = self.outputs.ids().filter_map(|id| self.views.all.get(&id));
        let full = own.filter(|view| view.gather.iter().any(|step| self.has_dead_rows(*step)));
        let leaves = full.flat_map(|view| &view.local).filter_map(|step| self.views.local.step(*step));
        let mut selectors: Vec<Vec<Matcher>> = Vec::new();
        for step in leaves {
            if let StepOp::Leaf(source, _) = &step.op
                && !selectors.contains(&source.matchers)
            {
                selectors.push(source.matchers.clone());
            }
        }
        selectors
    }

    /// Whether most rows of a step have no value, and there are more of them than its inputs
    /// explain.
    fn has_dead_rows(&self, step: StepId) -> bool {
        let rows_of = |step: StepId| self.stage.output(step).labels.len();
        let Some(definition) = self.views.gather.step(step) else { return false };
        let rows = rows_of(step);
        let input_rows: usize = definition.inputs.iter().map(|input| rows_of(*input)).sum();
        if input_rows == 0 || rows <= input_rows.max(ENDED_ROWS) {
            return false;
        }
        rows > 2 * self.stage.output(step).present().count() + ENDED_ROWS
    }
}
