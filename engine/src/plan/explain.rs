//! Prints a plan as text: one line per node, operands indented below it. Subscriptions return it as
//! `plan`. [`super::explain_physical`] prints the steps that run.

use super::explain_physical::leaf_words;
use super::leaf::{Leaf, SampleSource};
use super::{AtTime, BitFloat, Plan, PlanNode, PlanOp, Selector};
use std::fmt::Write;
use storage::model::time::format_duration;

/// The plan as an indented tree.
pub fn explain(plan: &Plan) -> String {
    let mut out = String::new();
    node(&mut out, plan, 0);
    out.truncate(out.trim_end().len());
    out
}

/// Recursive: the parser bounds the depth of a plan.
fn node(out: &mut String, plan: &Plan, depth: usize) {
    let _ = writeln!(out, "{:1$}{2}", "", 2 * depth, title(plan));
    for input in plan.inputs() {
        node(out, input, depth + 1);
    }
}

fn title(plan: &PlanNode) -> String {
    match &plan.op {
        PlanOp::Number(number) => format!("number {}", number.0),
        PlanOp::Text(text) => format!("text {text:?}"),
        PlanOp::Instant(selector) => format!("select {}", selected(selector)),
        PlanOp::Range { selector, range } => {
            format!("window {} of {}", format_duration(*range), selected(selector))
        }
        PlanOp::Subquery { range, step, offset, at, .. } => {
            let step = step.map_or("the default step".to_owned(), format_duration);
            format!("subquery over {} every {step}{}", format_duration(*range), shifted(*offset, *at))
        }
        PlanOp::Call { function, .. } => format!("call {}", function.0.name),
        PlanOp::Negate(_) => "negate".to_owned(),
        PlanOp::Plus(_) => "plus".to_owned(),
        PlanOp::Binary(b) => {
            let with = if b.matching.on { "on" } else { "ignoring" };
            let list = b.matching.labels.join(", ");
            let matching =
                if b.matching.on || !list.is_empty() { format!(" {with} ({list})") } else { String::new() };
            let fill = |name: &str, value: Option<BitFloat>| {
                value.map_or(String::new(), |v| format!(" {name} ({})", v.0))
            };
            let fill = fill("fill_left", b.matching.fill_left) + &fill("fill_right", b.matching.fill_right);
            format!("binary {}{}{matching}{fill}", b.op.as_str(), if b.return_bool { " bool" } else { "" })
        }
        PlanOp::Aggregate(a) => {
            let how = if a.grouping.without { "without" } else { "by" };
            format!("aggregate {} {how} ({})", a.op.as_str(), a.grouping.labels.join(", "))
        }
    }
}

fn selected(selector: &Selector) -> String {
    let matchers: Vec<String> = selector.matchers.iter().map(ToString::to_string).collect();
    let extension = selector.extension.map(|e| format!(" {}", e.as_str())).unwrap_or_default();
    format!("{{{}}}{extension}{}", matchers.join(", "), shifted(selector.offset, selector.at))
}

/// A leaf in one line: its window, its selector.
pub fn leaf_title(source: &SampleSource, leaf: &Leaf) -> String {
    let matchers: Vec<String> = source.matchers.iter().map(ToString::to_string).collect();
    let extension = source.extension.map(|e| format!(" {}", e.as_str())).unwrap_or_default();
    let at = shifted(source.offset, source.at);
    format!("{} of {{{}}}{extension}{at}", leaf_words(leaf), matchers.join(", "))
}

pub(super) fn shifted(offset: i64, at: Option<AtTime>) -> String {
    let at = match at {
        Some(AtTime::Time(t)) => format!(" at {}", t as f64 / 1000.0),
        Some(AtTime::Start) => " at start()".to_owned(),
        Some(AtTime::End) => " at end()".to_owned(),
        None => String::new(),
    };
    if offset == 0 { at } else { format!(" offset {}{at}", format_duration(offset)) }
}
