//! Where in the query text the steps of a plan come from, for the positions of annotations.

use super::{Plan, PlanNode, PlanOp};
use crate::annotations::StepOrigin;
use crate::types::Span;

/// The positions of all expressions of a plan: the plan itself, then those of its operands, in
/// order. Equal plans have equally many.
pub fn parts(node: &PlanNode) -> Vec<Span> {
    let mut spans = vec![node.span];
    for input in node.inputs() {
        spans.extend(parts(input));
    }
    spans
}

impl StepOrigin {
    /// The origin of the steps of `node`.
    pub fn of(node: &PlanNode) -> StepOrigin {
        // As in Prometheus: a subquery that is the argument of a function has no position.
        let place = |input: &&Plan| match input.op {
            PlanOp::Subquery { .. } => Span::default(),
            _ => input.span,
        };
        StepOrigin {
            whole: node.span,
            operands: node.inputs().iter().map(place).collect(),
            parts: Vec::new(),
        }
    }

    /// The origin of a step that evaluates the whole of `node` by itself.
    pub fn of_query(node: &PlanNode) -> StepOrigin {
        StepOrigin { parts: parts(node), ..StepOrigin::of(node) }
    }
}
