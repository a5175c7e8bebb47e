//! Where the steps of a plan stand in the text of its query, for the positions of annotations.

use super::{Plan, PlanNode, PlanOp};
use crate::annotations::StepOrigin;
use crate::types::Span;

/// The expressions of a plan: the plan itself, then those of its operands, in order. Equal plans
/// have as many, wherever their texts stand.
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
        // As upstream: a subquery that a function works on has no place of its own.
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

    /// The origin of a step that answers `node` by itself.
    pub fn of_query(node: &PlanNode) -> StepOrigin {
        StepOrigin { parts: parts(node), ..StepOrigin::of(node) }
    }
}
