//! What a query knows of its own times before it runs: functions of them become numbers, and sorting is of no use
//! where there are several.

use crate::functions::{Kernel, QueryTimes};
use crate::operators::remarks::sort_in_range_query;
use crate::plan::notes::{Annotations, Place};
use crate::plan::physical::{Physical, StepOp};
use crate::plan::{At, Node, Number, Op, Plan};
use std::sync::Arc;

/// `plan` with numbers in place of the functions of the query's times.
pub(super) fn fold(plan: &Plan, times: QueryTimes) -> Plan {
    if !asks(plan) {
        return plan.clone();
    }
    let op = match &plan.op {
        Op::Call { function, .. } if let Kernel::Query(kernel) = function.0.kernel => {
            Op::Number(Number(kernel(times)))
        }
        op => op.map_inputs(&mut |input| fold(input, times)),
    };
    Arc::new(Node { op, span: plan.span })
}

/// Whether there is such a function.
fn asks(plan: &Node) -> bool {
    matches!(&plan.op, Op::Call { function, .. } if matches!(function.0.kernel, Kernel::Query(_)))
        || plan.inputs().into_iter().any(|input| asks(input))
}

/// Whether an answer at a time depends on what else is asked with it: such a plan has to be asked for one time by itself.
pub fn asks_own_times(plan: &Node) -> bool {
    let pinned = |at: &Option<At>| matches!(at, Some(At::Start | At::End));
    let own = match &plan.op {
        Op::Instant(selector) | Op::Range { selector, .. } => pinned(&selector.at),
        Op::Subquery { at, .. } => pinned(at),
        Op::Call { function, .. } => matches!(function.0.kernel, Kernel::Query(_)),
        _ => false,
    };
    own || plan.inputs().into_iter().any(|input| asks_own_times(input))
}

/// Warns of steps that sort: a query at several times answers in label order.
pub(super) fn warn_of_sorting(physical: &Physical, notes: &mut Annotations) {
    for (step, origin) in physical.gather.iter().zip(&physical.gather_origins) {
        if matches!(step.op, StepOp::Sort(_) | StepOp::SortByLabel(..)) {
            notes.add(&sort_in_range_query(Place::Whole), origin);
        }
    }
}
