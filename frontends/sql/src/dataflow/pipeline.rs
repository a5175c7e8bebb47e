//! [`Pipeline`]: a dataflow without joins, as most statements are. Its operators are called
//! directly, one after the other, without differential-dataflow: where no operator waits for a
//! second input there is nothing to schedule, and a change costs only the work of the operators.
//! [`super::flows`] runs it.

use super::aggregate::Groups;
use super::delta::Delta;
use super::program::{Runner, Update};
use super::rel::{Rel, RelOp};
use super::render::{Gauges, unwound};
use super::row::RowCodec;
use super::stateful::Stateful;
use super::top::OrderedRows;
use crate::error::SqlError;
use std::rc::Rc;
use std::sync::Arc;

/// A dataflow without joins.
pub(super) struct Pipeline {
    /// The input: the name of a list, or the text of the `GROUP BY` ([`Rel::text`]) whose rows it
    /// reads.
    pub(super) source: String,
    stages: Vec<Stage>,
    gauges: Gauges,
    output: Vec<Update>,
}

enum Stage {
    /// Filters and projects row by row.
    Map(Runner),
    State(StateStage),
}

struct StateStage {
    operator: Box<dyn Stateful>,
    /// Encodes the output rows of the operator.
    codec: Rc<RowCodec>,
}

impl Pipeline {
    /// The pipeline that computes `rel`; `None`: it has joins. With `is_groups`, `rel` is a `GROUP
    /// BY` that is computed here; any other `GROUP BY` is a dataflow of its own, whose rows are the
    /// input.
    pub(super) fn new(rel: &Arc<Rel>, is_groups: bool, gauges: Gauges) -> Result<Option<Pipeline>, SqlError> {
        let mut stages = Vec::new();
        let mut at = rel;
        if is_groups && let RelOp::Aggregate(input, aggregate) = &rel.op {
            let (base, programs) = unwound(input);
            let runner = Runner::new(programs, &input.kinds)?;
            let groups = Groups::new(aggregate, runner, &input.kinds, &rel.kinds)?;
            stages.push(Stage::of(groups, rel)?);
            at = base;
        }
        let source = loop {
            match &at.op {
                RelOp::Input(spec) => break spec.name.clone(),
                RelOp::Aggregate(..) => break at.text.clone(),
                RelOp::Map(..) => {
                    let (base, programs) = unwound(at);
                    stages.push(Stage::Map(Runner::new(programs, &at.kinds)?));
                    at = base;
                }
                RelOp::Top(input, top) => {
                    stages.push(Stage::of(OrderedRows::new(top, &input.kinds)?, at)?);
                    at = input;
                }
                RelOp::Join(_) | RelOp::Union(_) => return Ok(None),
            }
        };
        stages.reverse();
        Ok(Some(Pipeline { source, stages, gauges, output: Vec::new() }))
    }

    /// Applies changes of the input.
    pub(super) fn apply(&mut self, delta: &Delta) {
        let before = self.bytes();
        let result = pass(&mut self.stages, delta, &mut self.output);
        self.gauges.checked(result);
        self.count_bytes(before);
    }

    /// Ends a refresh: returns the changes of the output since the last call.
    pub(super) fn finish(&mut self) -> Vec<Update> {
        let before = self.bytes();
        let result = self.finish_stages();
        self.gauges.checked(result);
        self.count_bytes(before);
        std::mem::take(&mut self.output)
    }

    /// Changes of the output that nobody has read yet.
    pub(super) fn waiting(&self) -> usize {
        self.output.len()
    }

    fn finish_stages(&mut self) -> Result<(), SqlError> {
        let mut rest = self.stages.as_mut_slice();
        while let Some((stage, below)) = rest.split_first_mut() {
            rest = below;
            let Stage::State(stage) = stage else { continue };
            for piece in super::delta::in_pieces(&stage.codec, stage.operator.finish()?) {
                pass(rest, &piece, &mut self.output)?;
            }
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        let bytes = |stage: &Stage| if let Stage::State(stage) = stage { stage.operator.bytes() } else { 0 };
        self.stages.iter().map(bytes).sum()
    }

    fn count_bytes(&self, before: usize) {
        self.gauges.keep(self.bytes() as isize - before as isize);
    }
}

impl Stage {
    /// An operator with a state that makes `rel`.
    fn of(operator: impl Stateful + 'static, rel: &Arc<Rel>) -> Result<Stage, SqlError> {
        let codec = Rc::new(RowCodec::new(&rel.kinds)?);
        Ok(Stage::State(StateStage { operator: Box::new(operator), codec }))
    }
}

/// Passes changes through stages up to the first with a state, or to the output.
fn pass(stages: &mut [Stage], delta: &Delta, output: &mut Vec<Update>) -> Result<(), SqlError> {
    let mut delta = delta.clone();
    for stage in stages {
        if delta.is_empty() {
            return Ok(());
        }
        match stage {
            Stage::Map(runner) => delta = runner.run(&delta)?,
            Stage::State(stage) => return stage.operator.apply(&delta),
        }
    }
    output.extend(delta.updates()?);
    Ok(())
}
