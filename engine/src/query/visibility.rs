//! Which evaluations of a plan see a sample: what has to be asked again when one comes late.

use super::QueryOptions;
use crate::plan::physical::{PhysicalPlan, StepOp};
use crate::plan::{AtTime, Plan};
use storage::model::{Matcher, TimeMs};

/// A selector of a plan, and when its samples are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectorVisibility {
    /// What picks its series.
    pub matchers: Vec<Matcher>,
    /// A sample at `t` is seen by evaluations from `t + from` on, ms.
    pub from: i64,
    /// And before `t + to`, ms.
    pub to: i64,
}

/// What a plan looks at; a sample of one moment that a fixed time (`@`) picks may be seen by any evaluation.
pub fn visibilities(plan: &Plan, options: &QueryOptions) -> Vec<SelectorVisibility> {
    let mut found = Vec::new();
    collect(plan, false, (0, 0), options, &mut found);
    found
}

/// From when on evaluations of the plan of a subquery see a sample at 0, ms.
pub(super) fn seen_from(input: &Plan, options: &QueryOptions) -> i64 {
    let mut found = Vec::new();
    collect(input, true, (0, 0), options, &mut found);
    found.iter().map(|sight| sight.from).min().unwrap_or(TimeMs::MAX / 4)
}

/// Evaluations at any time.
const ALWAYS: (i64, i64) = (TimeMs::MIN / 4, TimeMs::MAX / 4);

/// Adds what `plan` looks at, which is itself evaluated between `from` and `to` before the
/// evaluation that counts.
fn collect(
    plan: &Plan,
    inner: bool,
    (from, to): (i64, i64),
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
    for asked in &physical.subqueries {
        let span = if fixed(&asked.at) {
            ALWAYS
        } else {
            (from + asked.offset, to + asked.offset + asked.range + 1)
        };
        collect(&asked.input, true, span, options, found);
    }
    physical.given.iter().for_each(|plan| collect(plan, inner, (from, to), options, found));
}
