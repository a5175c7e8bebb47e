//! `explain`: a plan for people, one step a line, indented by depth.

use super::{At, Node, Op, Plan, Selector};
use std::fmt::Write;
use storage::model::time::format_duration;

/// The plan as text.
pub fn explain(plan: &Plan) -> String {
    let mut out = String::new();
    let mut walk = vec![(plan, 0usize)];
    while let Some((node, depth)) = walk.pop() {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{:width$}{}", "", line(node), width = depth * 2);
        walk.extend(node.inputs().into_iter().rev().map(|input| (input, depth + 1)));
    }
    out
}

fn line(node: &Node) -> String {
    match &node.op {
        Op::Number(n) => format!("number {}", n.0),
        Op::Text(text) => format!("text {text:?}"),
        Op::Instant(s) => format!("select {}", selector(s)),
        Op::Range { selector: s, range } => format!("window {} of {}", format_duration(*range), selector(s)),
        Op::Subquery { range, step, offset, at, .. } => {
            let step = step.map_or("default".to_owned(), format_duration);
            format!("subquery {} every {step}{}", format_duration(*range), shift(*offset, *at))
        }
        Op::Call { function, .. } => format!("function {}", function.0.name),
        Op::Negate(_) => "negate".to_owned(),
        Op::Binary(b) => {
            let by = if b.matching.labels.is_empty() && !b.matching.on {
                String::new()
            } else {
                format!(" {} ({})", if b.matching.on { "on" } else { "ignoring" }, b.matching.labels.join(", "))
            };
            format!("binary {}{}{by}", b.op.as_str(), if b.return_bool { " bool" } else { "" })
        }
        Op::Aggregate(a) => {
            let how = if a.grouping.without { "without" } else { "by" };
            format!("aggregate {} {how} ({})", a.op.as_str(), a.grouping.labels.join(", "))
        }
    }
}

fn selector(s: &Selector) -> String {
    let matchers: Vec<String> = s.matchers.iter().map(ToString::to_string).collect();
    format!("{{{}}}{}", matchers.join(", "), shift(s.offset, s.at))
}

fn shift(offset: i64, at: Option<At>) -> String {
    let offset = if offset == 0 { String::new() } else { format!(" offset {}", format_duration(offset)) };
    match at {
        None => offset,
        Some(At::Time(t)) => format!("{offset} @ {}", t as f64 / 1000.0),
        Some(At::Start) => format!("{offset} @ start()"),
        Some(At::End) => format!("{offset} @ end()"),
    }
}
