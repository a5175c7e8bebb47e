//! Which expressions of a view are evaluated by a query over the store, because the samples that
//! they read are not among the recent ones that the live runtime has in memory (its rings).

use super::{Lowering, Purpose, StoreQueries, StoreQuery};
use crate::functions::{Kernel, OperatorFunction};
use crate::plan::leaf::has_vectors;
use crate::plan::{AtTime, FunctionRef, Plan, PlanNode, PlanOp, Selector};
use std::sync::Arc;

impl Lowering {
    /// Whether the plan is for a query over history.
    pub(super) fn is_query(&self) -> bool {
        matches!(self.purpose, Purpose::Query { .. } | Purpose::Part)
    }

    /// The query over the store for `node`, if it needs one.
    pub(super) fn store_query(&self, node: &PlanNode) -> Option<StoreQuery> {
        let allowed = self.purpose == Purpose::View(StoreQueries::Allowed);
        if !allowed || !is_store_query(node, self.shift) {
            return None;
        }
        Some(StoreQuery { plan: Arc::new(node.clone()), shift: self.shift })
    }
}

/// Whether `node`, evaluated `shift` ms in the past, needs a query over the store. Its operands may
/// need one as well.
fn is_store_query(node: &PlanNode, shift: i64) -> bool {
    match &node.op {
        PlanOp::Instant(selector) => leaves_rings(selector, shift),
        PlanOp::Call { function, args } => is_store_query_call(*function, args, shift),
        _ => false,
    }
}

fn is_store_query_call(function: FunctionRef, args: &[Plan], shift: i64) -> bool {
    match function.0.kernel {
        Kernel::Window(_) => args.iter().any(|arg| match &arg.op {
            PlanOp::Range { selector, .. } => leaves_rings(selector, shift),
            PlanOp::Subquery { .. } => true,
            _ => has_vectors(arg),
        }),
        // These functions read the samples of their selector, not its values.
        Kernel::Operator(
            OperatorFunction::AbsentOverTime | OperatorFunction::Timestamp | OperatorFunction::StartTimestamp,
        ) => args.iter().any(|arg| match &arg.op {
            PlanOp::Instant(selector) | PlanOp::Range { selector, .. } => leaves_rings(selector, shift),
            PlanOp::Subquery { .. } => true,
            _ => false,
        }),
        // The info series are read at the time of the vector's samples.
        Kernel::Operator(OperatorFunction::Info) => args.first().is_some_and(|arg| holds_such(arg, shift)),
        _ => false,
    }
}

/// Whether a selector reads at a time that does not move with the evaluation, or in the future.
fn leaves_rings(selector: &Selector, shift: i64) -> bool {
    matches!(selector.at, Some(AtTime::Time(_))) || selector.offset + shift < 0
}

fn holds_such(plan: &PlanNode, shift: i64) -> bool {
    is_store_query(plan, shift) || plan.inputs().into_iter().any(|input| holds_such(input, shift))
}
