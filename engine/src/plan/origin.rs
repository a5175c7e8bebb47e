//! Where in the query text the steps of a plan come from. Annotations (warnings and infos) show
//! this position to the user.

use super::{Plan, PlanNode, PlanOp};
use crate::annotations::StepOrigin;
use crate::types::Span;

/// The positions of all expressions of a plan: the plan itself, then those of its operands, in
/// order. Equal plans have equally many.
pub fn expression_spans(node: &PlanNode) -> Vec<Span> {
    let mut spans = vec![node.span];
    for input in node.inputs() {
        spans.extend(expression_spans(input));
    }
    spans
}

impl StepOrigin {
    /// The origin of the steps of `node`.
    pub fn from_node(node: &PlanNode) -> StepOrigin {
        // As in Prometheus: a subquery that is the argument of a function has no position.
        let position = |input: &&Plan| match input.op {
            PlanOp::Subquery { .. } => Span::default(),
            _ => input.span,
        };
        StepOrigin {
            whole: node.span,
            operands: node.inputs().iter().map(position).collect(),
            inner: Vec::new(),
        }
    }

    /// The origin of a step that evaluates the whole of `node` by itself.
    pub fn from_query_node(node: &PlanNode) -> StepOrigin {
        StepOrigin { inner: expression_spans(node), ..StepOrigin::from_node(node) }
    }
}
