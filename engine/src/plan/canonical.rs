//! The canonical form of a plan: texts that mean the same become equal plans, which share steps.
//!
//! Matchers are sorted, the one of the metric name first, and each stands once; `=~"a"` is `="a"`
//! and `=~".*"` is dropped. Lists of labels are sorted. Every query language calls [`canonical`]
//! last. Spans stay, so errors and annotations point into the text as it was written.
//!
//! Two functions read the matchers of their operand as text, and keep them: `absent` makes labels
//! of those that compare with `=`, and `info` adds the labels that its matchers name.

use super::{Binary, Plan, PlanNode, PlanOp, Selector, VectorMatching};
use crate::functions::{Kernel, OperatorFunction};
use std::collections::BTreeSet;
use std::sync::Arc;
use storage::model::labels::METRIC_NAME;
use storage::model::{MatchOp, Matcher};

/// What has a meaning in a regular expression; a pattern without it is the text itself.
const METACHARACTERS: &[char] = &['\\', '.', '+', '*', '?', '(', ')', '|', '[', ']', '{', '}', '^', '$'];

/// The canonical form of `plan`. Recursive: languages limit the depth of a plan.
pub fn canonical(plan: &Plan) -> Plan {
    let op = match &plan.op {
        PlanOp::Instant(selector) => PlanOp::Instant(canonical_selector(selector)),
        PlanOp::Range { selector, range } => {
            PlanOp::Range { selector: canonical_selector(selector), range: *range }
        }
        PlanOp::Call { function, args } => {
            let args = match function.0.kernel {
                Kernel::Operator(OperatorFunction::Absent | OperatorFunction::AbsentOverTime) => {
                    args.iter().map(operand_of_absent).collect()
                }
                Kernel::Operator(OperatorFunction::Info) => args
                    .iter()
                    .enumerate()
                    .map(|(i, arg)| if i == 0 { canonical(arg) } else { arg.clone() })
                    .collect(),
                _ => args.iter().map(canonical).collect(),
            };
            PlanOp::Call { function: *function, args }
        }
        PlanOp::Binary(binary) => PlanOp::Binary(Box::new(canonical_binary(binary))),
        op => op.map_inputs(&mut canonical),
    };
    Arc::new(PlanNode { op, span: plan.span })
}

/// An operand of `absent`. Its labels come from the matchers with `=`; where a label has several
/// matchers, their order counts.
fn operand_of_absent(plan: &Plan) -> Plan {
    let sort_if_distinct = |selector: &Selector| {
        let names: BTreeSet<&str> = selector.matchers.iter().map(|m| m.name.as_str()).collect();
        if names.len() < selector.matchers.len() {
            return selector.clone();
        }
        let mut matchers = selector.matchers.clone();
        sort(&mut matchers);
        Selector { matchers, ..selector.clone() }
    };
    let op = match &plan.op {
        PlanOp::Instant(selector) => PlanOp::Instant(sort_if_distinct(selector)),
        PlanOp::Range { selector, range } => {
            PlanOp::Range { selector: sort_if_distinct(selector), range: *range }
        }
        _ => return canonical(plan),
    };
    Arc::new(PlanNode { op, span: plan.span })
}

/// The selector with its matchers in the simplest form, sorted, without those that match anything.
fn canonical_selector(selector: &Selector) -> Selector {
    let mut matchers: Vec<Matcher> = selector.matchers.iter().map(simplest_matcher).collect();
    matchers.retain(|m| !(m.op == MatchOp::Regex && m.value == ".*"));
    sort(&mut matchers);
    Selector { matchers, ..selector.clone() }
}

/// The matcher of the metric name comes first; each stands once.
fn sort(matchers: &mut Vec<Matcher>) {
    matchers.sort_by(|a, b| (a.name != METRIC_NAME, a).cmp(&(b.name != METRIC_NAME, b)));
    matchers.dedup();
}

/// A pattern that is a text is compared as one.
fn simplest_matcher(matcher: &Matcher) -> Matcher {
    let op = match matcher.op {
        MatchOp::Regex => MatchOp::Equal,
        MatchOp::NotRegex => MatchOp::NotEqual,
        MatchOp::Equal | MatchOp::NotEqual => return matcher.clone(),
    };
    if matcher.value.contains(METACHARACTERS) {
        return matcher.clone();
    }
    Matcher::new(&matcher.name, op, &matcher.value).unwrap_or_else(|_| matcher.clone())
}

/// Both operands in canonical form, and the label lists of the matching sorted: `on(b, a)` is
/// `on(a, b)`.
fn canonical_binary(binary: &Binary) -> Binary {
    let sorted = |labels: &[String]| -> Vec<String> {
        labels.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect()
    };
    let matching = VectorMatching {
        labels: sorted(&binary.matching.labels),
        include: sorted(&binary.matching.include),
        ..binary.matching.clone()
    };
    Binary { matching, lhs: canonical(&binary.lhs), rhs: canonical(&binary.rhs), ..binary.clone() }
}
