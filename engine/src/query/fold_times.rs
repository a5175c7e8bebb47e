//! Rewrites a plan with what is known before the query runs: `start()`, `end()` and the like become
//! numbers, and parameters of aggregations over `@` are fixed. Also warns of sorting in range
//! queries.

use crate::annotations::texts::sort_in_range_query;
use crate::annotations::{AnnotationSet, AnnotationTarget, StepOrigin};
use crate::functions::window::TimeDependence;
use crate::functions::{Kernel, OperatorFunction, QueryTimes};
use crate::plan::{Aggregate, AtTime, BitFloat, Plan, PlanNode, PlanOp};
use std::sync::Arc;
use storage::model::TimeMs;

/// The plan with numbers in place of functions of the query's times (`start()`, `end()`, ...).
pub(super) fn fold_query_times(plan: &Plan, times: QueryTimes) -> Plan {
    if !reads_query_times(plan) {
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
fn reads_query_times(plan: &PlanNode) -> bool {
    matches!(&plan.op, PlanOp::Call { function, .. } if matches!(function.0.kernel, Kernel::Query(_)))
        || plan.inputs().into_iter().any(|input| reads_query_times(input))
}

/// Whether the answer at a time depends on the other times of the query. Such a plan must be
/// evaluated at one time by itself.
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

/// Adds a warning for each sorting function: a range query returns series in label order. Below `@`
/// there is no warning, because that part is evaluated once.
pub(super) fn warn_of_sorting(plan: &PlanNode, annotations: &mut AnnotationSet) {
    use OperatorFunction::{Sort, SortByLabel, SortByLabelDesc, SortDesc};
    // A subquery has times of its own.
    if is_pinned(plan) || matches!(plan.op, PlanOp::Subquery { .. }) {
        return;
    }
    let sorts = |kernel| matches!(kernel, Kernel::Operator(Sort | SortDesc | SortByLabel | SortByLabelDesc));
    if matches!(&plan.op, PlanOp::Call { function, .. } if sorts(function.0.kernel)) {
        annotations.add(&sort_in_range_query(AnnotationTarget::Whole), &StepOrigin::from_node(plan));
    }
    for input in plan.inputs() {
        warn_of_sorting(input, annotations);
    }
}

/// Whether the answer is the same at all times, because of `@` and numbers. Prometheus evaluates
/// such a plan once, at the first time.
fn is_pinned(plan: &PlanNode) -> bool {
    match &plan.op {
        PlanOp::Number(_) | PlanOp::Text(_) => true,
        PlanOp::Instant(selector) | PlanOp::Range { selector, .. } => selector.at.is_some(),
        PlanOp::Subquery { at, .. } => at.is_some(),
        PlanOp::Negate(input) | PlanOp::Plus(input) => is_pinned(input),
        PlanOp::Binary(binary) => is_pinned(&binary.lhs) && is_pinned(&binary.rhs),
        // The parameter does not matter here.
        PlanOp::Aggregate(aggregate) => is_pinned(&aggregate.input),
        PlanOp::Call { function, args } => {
            let follows_time = match function.0.kernel {
                Kernel::Clock(_) | Kernel::MapOrClock(_) | Kernel::Query(_) => true,
                Kernel::Window(kernel) => matches!(kernel.time_dependence, TimeDependence::Linear(_)),
                Kernel::Operator(OperatorFunction::Timestamp) => !matches!(args[0].op, PlanOp::Instant(_)),
                _ => false,
            };
            !follows_time && args.iter().all(|arg| is_pinned(arg))
        }
    }
}

/// Whether `plan` is an aggregation over an input that is the same at all times, with a parameter
/// that is not.
fn with_varying_parameter(plan: &PlanNode) -> Option<&Aggregate> {
    let PlanOp::Aggregate(aggregate) = &plan.op else { return None };
    let param = aggregate.param.as_ref()?;
    (!is_pinned(param) && is_pinned(&aggregate.input)).then_some(&**aggregate)
}

/// Whether any aggregation in the plan uses the parameter of the first step at all steps
/// ([`pin_parameters`]).
pub fn depends_on_first_step(plan: &PlanNode) -> bool {
    with_varying_parameter(plan).is_some()
        || plan.inputs().into_iter().any(|input| depends_on_first_step(input))
}

/// The plan with the parameters of such aggregations fixed to time `start`: Prometheus evaluates
/// such an aggregation only once.
pub(super) fn pin_parameters(plan: &Plan, start: TimeMs) -> Plan {
    if !depends_on_first_step(plan) {
        return plan.clone();
    }
    let op = match with_varying_parameter(plan) {
        Some(aggregate) => {
            let param = aggregate.param.as_ref().map(|param| pinned(param, start));
            PlanOp::Aggregate(Box::new(Aggregate { param, ..aggregate.clone() }))
        }
        // The steps of a subquery have times of their own.
        None if matches!(plan.op, PlanOp::Subquery { .. }) => return plan.clone(),
        None => plan.op.map_inputs(&mut |input| pin_parameters(input, start)),
    };
    Arc::new(PlanNode { op, span: plan.span })
}

/// The plan with the answer that it has at `t`, at whatever time it is evaluated.
fn pinned(plan: &Plan, t: TimeMs) -> Plan {
    let at_t = || plan.op.map_at(|at| at.or(Some(AtTime::Time(t))));
    let op = match &plan.op {
        // The input of a subquery has times of its own.
        PlanOp::Subquery { .. } => at_t(),
        PlanOp::Call { function, .. } if let Kernel::Clock(kernel) = function.0.kernel => {
            PlanOp::Number(BitFloat(kernel(t)))
        }
        _ => at_t().map_inputs(&mut |input| pinned(input, t)),
    };
    Arc::new(PlanNode { op, span: plan.span })
}
