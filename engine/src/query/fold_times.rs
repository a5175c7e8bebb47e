//! What a query knows of its own times before it runs: functions of them become numbers, and
//! sorting is of no use where there are several.

use crate::annotations::texts::sort_in_range_query;
use crate::annotations::{AnnotationSet, AnnotationTarget, StepOrigin};
use crate::functions::window::TimeDependence;
use crate::functions::{Kernel, OperatorFunction, QueryTimes};
use crate::plan::{Aggregate, AtTime, BitFloat, Plan, PlanNode, PlanOp};
use std::sync::Arc;
use storage::model::TimeMs;

/// `plan` with numbers in place of the functions of the query's times.
pub(super) fn fold_query_times(plan: &Plan, times: QueryTimes) -> Plan {
    if !asks(plan) {
        return plan.clone();
    }
    let op = match &plan.op {
        PlanOp::Call { function, .. } if let Kernel::Query(kernel) = function.0.kernel => {
            PlanOp::Number(BitFloat(kernel(times)))
        }
        op => op.map_inputs(&mut |input| fold_query_times(input, times)),
    };
    Arc::new(PlanNode { op, span: plan.span })
}

/// Whether there is such a function.
fn asks(plan: &PlanNode) -> bool {
    matches!(&plan.op, PlanOp::Call { function, .. } if matches!(function.0.kernel, Kernel::Query(_)))
        || plan.inputs().into_iter().any(|input| asks(input))
}

/// Whether an answer at a time depends on what else is asked with it: such a plan has to be asked
/// for one time by itself.
pub fn depends_on_query_times(plan: &PlanNode) -> bool {
    let pinned = |at: &Option<AtTime>| matches!(at, Some(AtTime::Start | AtTime::End));
    let own = match &plan.op {
        PlanOp::Instant(selector) | PlanOp::Range { selector, .. } => pinned(&selector.at),
        PlanOp::Subquery { at, .. } => pinned(at),
        PlanOp::Call { function, .. } => matches!(function.0.kernel, Kernel::Query(_)),
        _ => false,
    };
    own || plan.inputs().into_iter().any(|input| depends_on_query_times(input))
}

/// Warns of what sorts: a query at several times answers in label order. What `@` pins is evaluated once.
pub(super) fn warn_of_sorting(plan: &PlanNode, notes: &mut AnnotationSet) {
    use OperatorFunction::{Sort, SortByLabel, SortByLabelDesc, SortDesc};
    // A subquery has times of its own.
    if is_pinned(plan) || matches!(plan.op, PlanOp::Subquery { .. }) {
        return;
    }
    let sorts = |kernel| matches!(kernel, Kernel::Special(Sort | SortDesc | SortByLabel | SortByLabelDesc));
    if matches!(&plan.op, PlanOp::Call { function, .. } if sorts(function.0.kernel)) {
        notes.add(&sort_in_range_query(AnnotationTarget::Whole), &StepOrigin::of(plan));
    }
    plan.inputs().into_iter().for_each(|input| warn_of_sorting(input, notes));
}

/// Whether the answer is the same at all times, because of `@` and numbers: then Prometheus
/// evaluates it once, at the first.
fn is_pinned(plan: &PlanNode) -> bool {
    match &plan.op {
        PlanOp::Number(_) | PlanOp::Text(_) => true,
        PlanOp::Instant(selector) | PlanOp::Range { selector, .. } => selector.at.is_some(),
        PlanOp::Subquery { at, .. } => at.is_some(),
        PlanOp::Negate(input) | PlanOp::Plus(input) => is_pinned(input),
        PlanOp::Binary(binary) => is_pinned(&binary.lhs) && is_pinned(&binary.rhs),
        // Its parameter is not looked at.
        PlanOp::Aggregate(aggregate) => is_pinned(&aggregate.input),
        PlanOp::Call { function, args } => {
            let follows_time = match function.0.kernel {
                Kernel::Clock(_) | Kernel::MapOrClock(_) | Kernel::Query(_) => true,
                Kernel::Window(kernel) => matches!(kernel.moves, TimeDependence::Line(_)),
                Kernel::Special(OperatorFunction::Timestamp) => !matches!(args[0].op, PlanOp::Instant(_)),
                _ => false,
            };
            !follows_time && args.iter().all(|arg| is_pinned(arg))
        }
    }
}

/// Whether `plan` itself is an aggregation that is evaluated once, with a parameter that may move.
fn moves_its_parameter(plan: &PlanNode) -> Option<&Aggregate> {
    let PlanOp::Aggregate(aggregate) = &plan.op else { return None };
    let param = aggregate.param.as_ref()?;
    (!is_pinned(param) && is_pinned(&aggregate.input)).then_some(&**aggregate)
}

/// Whether an aggregation somewhere in it has the parameter of the first step at all of them
/// ([`pin_parameters`]).
pub fn hangs_on_first_step(plan: &PlanNode) -> bool {
    moves_its_parameter(plan).is_some() || plan.inputs().into_iter().any(|input| hangs_on_first_step(input))
}

/// `plan` with the parameters of aggregations over what `@` pins pinned to `start`: as in
/// Prometheus, all of such an aggregation is evaluated once.
pub(super) fn pin_parameters(plan: &Plan, start: TimeMs) -> Plan {
    if !hangs_on_first_step(plan) {
        return plan.clone();
    }
    let op = match moves_its_parameter(plan) {
        Some(aggregate) => {
            let param = aggregate.param.as_ref().map(|param| pinned(param, start));
            PlanOp::Aggregate(Box::new(Aggregate { param, ..aggregate.clone() }))
        }
        // What is in a subquery has times of its own.
        None if matches!(plan.op, PlanOp::Subquery { .. }) => return plan.clone(),
        None => plan.op.map_inputs(&mut |input| pin_parameters(input, start)),
    };
    Arc::new(PlanNode { op, span: plan.span })
}

/// `plan` as it is at `t`, whenever it is evaluated.
fn pinned(plan: &Plan, t: TimeMs) -> Plan {
    let at_t = || plan.op.map_at(|at| at.or(Some(AtTime::Time(t))));
    let op = match &plan.op {
        // What is in it has times of its own.
        PlanOp::Subquery { .. } => at_t(),
        PlanOp::Call { function, .. } if let Kernel::Clock(kernel) = function.0.kernel => {
            PlanOp::Number(BitFloat(kernel(t)))
        }
        _ => at_t().map_inputs(&mut |input| pinned(input, t)),
    };
    Arc::new(PlanNode { op, span: plan.span })
}
