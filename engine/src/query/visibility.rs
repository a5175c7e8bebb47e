//! Which evaluations of a plan read a given sample. If it arrives late, those must be repeated:
//! cached subqueries ([`super::subquery_cache`]) and recorded series are computed again.

use super::QueryOptions;
use crate::plan::physical::{PhysicalPlan, StepOp};
use crate::plan::{AtTime, Plan};
use storage::model::{Matcher, TimeMs};

/// A selector of a plan, and which evaluations read its samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectorVisibility {
    /// The matchers of the selector.
    pub matchers: Vec<Matcher>,
    /// A sample at `t` is read by evaluations from `t + from` on, in ms.
    pub from: i64,
    /// And before `t + to`, in ms.
    pub to: i64,
}

/// The selectors of a plan. The samples of a selector with a fixed time (`@`) may be read by any
/// evaluation.
pub fn visibilities(plan: &Plan, options: &QueryOptions) -> Vec<SelectorVisibility> {
    let mut found = Vec::new();
    collect(plan, false, 0, 0, options, &mut found);
    found
}

/// How long after a sample the first evaluation of a subquery's plan can see it, in ms (negative:
/// before).
pub(super) fn visible_from(input: &Plan, options: &QueryOptions) -> i64 {
    let mut found = Vec::new();
    collect(input, true, 0, 0, options, &mut found);
    found.iter().map(|visibility| visibility.from).min().unwrap_or(TimeMs::MAX / 4)
}

/// Evaluations at any time.
const ALWAYS: (i64, i64) = (TimeMs::MIN / 4, TimeMs::MAX / 4);

/// Adds the selectors of `plan`, which is itself evaluated between `from` and `to` before the outer
/// evaluation.
fn collect(
    plan: &Plan,
    inner: bool,
    from: i64,
    to: i64,
    options: &QueryOptions,
    found: &mut Vec<SelectorVisibility>,
) {
    let Ok(physical) = PhysicalPlan::for_history(plan, inner, options.dialect) else { return };
    let fixed = |at: &Option<AtTime>| matches!(at, Some(AtTime::Time(_)));
    for step in &physical.local {
        let StepOp::Leaf(source, leaf) = &step.op else { continue };
        let (back, ahead) = source.reach(leaf, options.lookback);
        let (from, to) = if fixed(&source.at) {
            ALWAYS
        } else {
            (from + source.offset - ahead, to + source.offset + back)
        };
        found.push(SelectorVisibility { matchers: source.matchers.clone(), from, to });
    }
    for subquery in &physical.subqueries {
        let span = if fixed(&subquery.at) {
            ALWAYS
        } else {
            (from + subquery.offset, to + subquery.offset + subquery.range + 1)
        };
        collect(&subquery.input, true, span.0, span.1, options, found);
    }
    for plan in &physical.scalar_params {
        collect(plan, inner, from, to, options, found);
    }
}
