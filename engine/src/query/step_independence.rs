//! Whether the answer of a plan at one evaluation time depends on the other evaluation times of the
//! query, as with `@ end()`. If so, it cannot be cached ([`super::subquery_cache`]).

use super::fold_times::depends_on_first_step;
use crate::plan::physical::{PhysicalPlan, Step, StepOp, SubqueryFunction};
use crate::plan::{Dialect, Plan};
use storage::model::labels::METRIC_NAME;
use storage::model::{MatchOp, Matcher};

/// Whether a plan's answer at a step is the same whatever other steps the query has.
///
/// It is not in `info()`, and where window functions drop the names of different metrics: rows that
/// get the same labels are rejected even if they have values at different steps only. With labels
/// for type and unit, which are dropped with the name, metrics of one name may differ, too. And the
/// parameter of an aggregation over `@` is that of the first step.
pub(super) fn is_step_independent(plan: &Plan, dialect: Dialect) -> bool {
    let Ok(physical) = PhysicalPlan::for_history(plan, true, dialect) else { return false };
    let is_independent = |step: &Step| match &step.op {
        StepOp::Info(_) => false,
        StepOp::Leaf(source, leaf) => leaf.keeps_name() || name(&source.matchers, dialect).is_some(),
        StepOp::Subquery(number, SubqueryFunction::Call(function)) => {
            function.0.keeps_name || has_one_name(&physical.subqueries[*number].input, dialect)
        }
        _ => true,
    };
    !depends_on_first_step(plan)
        && physical.local.iter().chain(&physical.gather).all(is_independent)
        && physical.subqueries.iter().all(|subquery| is_step_independent(&subquery.input, dialect))
        && physical.scalar_params.iter().all(|plan| is_step_independent(plan, dialect))
}

/// The name that all selected series have, if only the name describes their metric.
fn name(matchers: &[Matcher], dialect: Dialect) -> Option<&str> {
    if dialect.type_and_unit_labels {
        return None;
    }
    let name = matchers.iter().find(|m| m.name == METRIC_NAME && m.op == MatchOp::Equal);
    name.map(|m| &*m.value).filter(|name| !name.is_empty())
}

/// Whether all rows of a plan's answer that have a name have the same one.
fn has_one_name(plan: &Plan, dialect: Dialect) -> bool {
    let mut names = Vec::new();
    names_of(plan, dialect, &mut names);
    names.first().is_none_or(|first| first.is_some() && names.iter().all(|name| name == first))
}

fn names_of(plan: &Plan, dialect: Dialect, names: &mut Vec<Option<String>>) {
    let Ok(physical) = PhysicalPlan::for_history(plan, true, dialect) else { return names.push(None) };
    names.extend(physical.local.iter().chain(&physical.gather).filter_map(|step| match &step.op {
        StepOp::Leaf(source, _) => Some(name(&source.matchers, dialect).map(str::to_owned)),
        StepOp::Relabel(..) => Some(None),
        _ => None,
    }));
    for subquery in &physical.subqueries {
        names_of(&subquery.input, dialect, names);
    }
    for plan in &physical.scalar_params {
        names_of(plan, dialect, names);
    }
}
