//! Prints a plan as PromQL on one line: for `EXPLAIN`, errors and tests. Compiling the text gives
//! the plan again.

use super::{AtTime, Binary, BinaryOp, Cardinality, Grouping, Plan, PlanOp, Selector, VectorMatching};
use crate::functions::{Kernel, OperatorFunction};
use crate::types::go_text::quote;
use storage::model::labels::METRIC_NAME;
use storage::model::number::plain;
use storage::model::time::format_duration;
use storage::model::{MatchOp, Matcher};

/// Words of PromQL that could be taken for something else than the name of a metric.
const WORDS: &[&str] = &[
    "and",
    "anchored",
    "atan2",
    "bool",
    "by",
    "group_left",
    "group_right",
    "ignoring",
    "inf",
    "nan",
    "offset",
    "on",
    "or",
    "smoothed",
    "unless",
    "without",
];

/// The plan as PromQL. Recursive: languages limit the depth of a plan.
pub fn as_promql(plan: &Plan) -> String {
    match &plan.op {
        PlanOp::Number(number) => plain(number.0),
        PlanOp::Text(text) => quote(text),
        PlanOp::Instant(selector) => format!("{}{}", series(selector), modifiers(selector)),
        PlanOp::Range { selector, range } => {
            format!("{}[{}]{}", series(selector), format_duration(*range), modifiers(selector))
        }
        PlanOp::Subquery { input, range, step, offset, at } => {
            let step = step.map(format_duration).unwrap_or_default();
            format!("{}[{}:{step}]{}", operand(input), format_duration(*range), times(*offset, *at))
        }
        PlanOp::Call { function, args } => {
            let is_info = matches!(function.0.kernel, Kernel::Operator(OperatorFunction::Info));
            let text = |(i, arg): (usize, &Plan)| match &arg.op {
                // It takes matchers, no selector.
                PlanOp::Instant(selector) if is_info && i == 1 => {
                    format!("{{{}}}", listed(&selector.matchers))
                }
                _ => as_promql(arg),
            };
            let args: Vec<String> = args.iter().enumerate().map(text).collect();
            format!("{}({})", function.0.name, args.join(", "))
        }
        PlanOp::Negate(input) => format!("-{}", operand(input)),
        PlanOp::Plus(input) => format!("+{}", operand(input)),
        PlanOp::Binary(binary) => joined(binary),
        PlanOp::Aggregate(a) => {
            let param = a.param.as_ref().map(|param| format!("{}, ", as_promql(param))).unwrap_or_default();
            format!("{}{}({param}{})", a.op.as_str(), grouped(&a.grouping), as_promql(&a.input))
        }
    }
}

/// An operand that must not fall apart: in parentheses if it is an operator.
fn operand(plan: &Plan) -> String {
    let text = as_promql(plan);
    match &plan.op {
        PlanOp::Binary(_) | PlanOp::Negate(_) | PlanOp::Plus(_) => format!("({text})"),
        // `-1 ^ 2` is `-(1 ^ 2)`, and `+Inf` begins with a sign too.
        PlanOp::Number(_) if text.starts_with(['-', '+']) => format!("({text})"),
        _ => text,
    }
}

/// How strongly an operator binds.
fn precedence(op: BinaryOp) -> u8 {
    match op {
        BinaryOp::Or => 0,
        BinaryOp::And | BinaryOp::Unless => 1,
        BinaryOp::Pow => 5,
        BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod | BinaryOp::Atan2 => 4,
        BinaryOp::Add | BinaryOp::Sub => 3,
        op if op.is_comparison() || op.is_trim() => 2,
        _ => 2,
    }
}

fn joined(binary: &Binary) -> String {
    let own = precedence(binary.op);
    let left = match &binary.lhs.op {
        // Operators associate to the left, except `^`.
        PlanOp::Binary(inner) if precedence(inner.op) >= own && binary.op != BinaryOp::Pow => {
            as_promql(&binary.lhs)
        }
        _ => operand(&binary.lhs),
    };
    let right = match &binary.rhs.op {
        PlanOp::Binary(inner) if precedence(inner.op) > own => as_promql(&binary.rhs),
        _ => operand(&binary.rhs),
    };
    let bool = if binary.return_bool { " bool" } else { "" };
    format!("{left} {}{bool}{} {right}", binary.op.as_str(), matched(&binary.matching))
}

fn matched(matching: &VectorMatching) -> String {
    let group = match matching.cardinality {
        Cardinality::ManyToOne => Some("group_left"),
        Cardinality::OneToMany => Some("group_right"),
        Cardinality::OneToOne | Cardinality::ManyToMany => None,
    };
    let mut out = String::new();
    // `ignoring ()` without labels is the default, but a group modifier needs it before it.
    if matching.on || !matching.labels.is_empty() || group.is_some() {
        let how = if matching.on { "on" } else { "ignoring" };
        out.push_str(&format!(" {how} ({})", names(&matching.labels)));
    }
    if let Some(group) = group {
        out.push_str(&format!(" {group} ({})", names(&matching.include)));
    }
    for (word, value) in [("fill_left", matching.fill_left), ("fill_right", matching.fill_right)] {
        if let Some(value) = value {
            out.push_str(&format!(" {word} ({})", plain(value.0)));
        }
    }
    out
}

fn grouped(grouping: &Grouping) -> String {
    match (grouping.without, grouping.labels.is_empty()) {
        (true, _) => format!(" without ({}) ", names(&grouping.labels)),
        (false, false) => format!(" by ({}) ", names(&grouping.labels)),
        (false, true) => String::new(),
    }
}

fn names(labels: &[String]) -> String {
    labels.iter().map(|label| label_name(label)).collect::<Vec<_>>().join(", ")
}

/// A name of letters, digits and underscores stands as it is; another is quoted.
fn label_name(name: &str) -> String {
    let is_letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    let is_plain = name.starts_with(is_letter) && name.chars().all(|c| is_letter(c) || c.is_ascii_digit());
    if is_plain { name.to_owned() } else { quote(name) }
}

fn is_metric_word(name: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(is_letter)
        && name.chars().all(|c| is_letter(c) || c == ':' || c.is_ascii_digit())
        // Keywords are recognised in any case.
        && !WORDS.contains(&name.to_ascii_lowercase().as_str())
}

/// The name and the matchers of a selector.
fn series(selector: &Selector) -> String {
    let is_name = |m: &&Matcher| m.name == METRIC_NAME && m.op == MatchOp::Equal && is_metric_word(&m.value);
    // Only the first: a second matcher for the name is legal and stays among the matchers.
    let name = selector.matchers.iter().position(|m| is_name(&m));
    let rest = selector.matchers.iter().enumerate().filter(|(i, _)| Some(*i) != name).map(|(_, m)| m);
    let rest = listed(rest);
    let name = name.map_or("", |i| selector.matchers[i].value.as_str());
    if rest.is_empty() && !name.is_empty() { name.to_owned() } else { format!("{name}{{{rest}}}") }
}

/// Matchers in a list.
fn listed<'a>(matchers: impl IntoIterator<Item = &'a Matcher>) -> String {
    let text = |m: &Matcher| format!("{}{}{}", label_name(&m.name), m.op.as_str(), quote(&m.value));
    matchers.into_iter().map(text).collect::<Vec<_>>().join(",")
}

fn modifiers(selector: &Selector) -> String {
    let extension = selector.extension.map(|e| format!(" {}", e.as_str())).unwrap_or_default();
    format!("{extension}{}", times(selector.offset, selector.at))
}

fn times(offset: i64, at: Option<AtTime>) -> String {
    let mut out = match at {
        Some(AtTime::Time(ms)) => {
            // Signs by hand: the whole part of -0.5 s is 0, which has none.
            let sign = if ms < 0 { "-" } else { "" };
            format!(" @ {sign}{}.{:03}", ms.unsigned_abs() / 1000, ms.unsigned_abs() % 1000)
        }
        Some(AtTime::Start) => " @ start()".to_owned(),
        Some(AtTime::End) => " @ end()".to_owned(),
        None => String::new(),
    };
    if offset != 0 {
        let sign = if offset < 0 { "-" } else { "" };
        out.push_str(&format!(" offset {sign}{}", format_duration(offset.saturating_abs())));
    }
    out
}
