//! The changes between Prometheus 2.42 and 3 that spelling cannot undo: one named rule per change.
//! `docs/differences-from-2.42.md` describes them.
//!
//! A rule computes the result of Prometheus 3 for the smallest differing part, from the responses
//! of 2.42 to this part or to its subexpressions. The rule explains the difference only if that is
//! our result. If the order or the last bits are undefined, the rule checks what is defined. Read
//! next: [`extrapolation`].

pub mod aggregation;
pub mod extrapolation;
pub mod histograms;
pub mod names;
pub mod windows;

use crate::answer::{Answer, Data, Labels, Order, Row, When, close, compare, plain};
use crate::expr::Expr;
use crate::shrink::{Case, Servers, parts};
use std::collections::BTreeMap;

/// A change between the versions.
pub struct Rule {
    /// The name, also in the document.
    pub name: &'static str,
    /// Whether the rule explains the difference.
    pub explains: fn(&Case, Servers) -> bool,
}

/// All rules.
pub const RULES: &[Rule] = &[
    Rule { name: "extrapolation to zero", explains: extrapolation::of_floats },
    Rule { name: "native extrapolation", explains: extrapolation::of_histograms },
    Rule { name: "values within a bucket", explains: histograms::estimates },
    Rule { name: "mean of native histograms", explains: histograms::mean },
    Rule { name: "variance of what is not finite", explains: aggregation::variance },
    Rule { name: "equal values in topk", explains: aggregation::ties },
    Rule { name: "compensated sums", explains: aggregation::sums },
    Rule { name: "variance over infinities", explains: windows::variance },
    Rule { name: "mean of a window", explains: windows::mean },
    Rule { name: "pinned windows", explains: windows::pinned },
    Rule { name: "atan2 drops the name", explains: names::atan2 },
    Rule { name: "labels of count_values", explains: names::count_values },
    Rule { name: "names in UTF-8", explains: names::utf8 },
    Rule { name: "logarithms of denormal numbers", explains: denormal },
    Rule { name: "matches before the filter", explains: matches_before_filter },
    Rule { name: "one of several errors", explains: several_errors },
    Rule { name: "rounded parts", explains: rounded },
];

/// The name for queries to which 2.42 itself returns different results when repeated, because its
/// order of additions, or of equal values, is that of a hash map.
pub const UNSTABLE: &str = "order that changes";

/// The rule that explains a difference.
pub fn explain(case: &Case, servers: Servers) -> Option<&'static str> {
    RULES.iter().find(|rule| (rule.explains)(case, servers)).map(|rule| rule.name)
}

/// Whether our response is the computed response of Prometheus 3.
fn equals(case: &Case, today: &Answer) -> bool {
    compare(&case.ours, today, Order::Any).is_ok()
}

/// If several parts fail, the response names one of them. 2.42 and 3 evaluate operand by operand,
/// our server step by step.
fn several_errors(case: &Case, servers: Servers) -> bool {
    let (Err((_, ours)), true) = (&case.ours.result, case.theirs.failed()) else { return false };
    parts(&case.expr, case.when).into_iter().any(|(part, when)| {
        let answer = servers.ask_theirs(part, when);
        matches!(&answer.result, Err((_, theirs)) if plain(theirs) == plain(ours))
    })
}

/// Prometheus 3 looks for multiple matches before a comparison filters them, 2.42 did it
/// afterwards. With `bool` nothing is filtered.
fn matches_before_filter(case: &Case, servers: Servers) -> bool {
    let Expr::Binary { op: "==" | "!=" | "<" | "<=" | ">" | ">=", bool: false, .. } = case.expr else {
        return false;
    };
    let mut expr = case.expr.clone();
    if let Expr::Binary { bool, .. } = &mut expr {
        *bool = true;
    }
    case.ours.failed() && !case.theirs.failed() && equals(case, &servers.ask_theirs(&expr, case.when))
}

/// The parts agree only within [`crate::answer::RELATIVE`] (transcendental functions of another
/// library, compensated sums), and the expression amplifies the difference: it compares, rounds,
/// subtracts, or writes the value into a label.
fn rounded(case: &Case, _: Servers) -> bool {
    case.rounded && !case.ours.failed() && !case.theirs.failed()
}

/// Go's amd64 assembly computes wrong logarithms of denormal numbers.
fn denormal(case: &Case, servers: Servers) -> bool {
    let Expr::Call(name @ ("ln" | "log10"), args) = &case.expr else { return false };
    let inputs = names::dropped(servers.ask_theirs(&args[0], case.when)).steps();
    let logarithm = |x: f64| if *name == "ln" { x.ln() } else { x.log10() };
    let ours = case.ours.steps();
    let theirs = case.theirs.steps();
    ours.iter().all(|(t, step)| {
        step.iter().all(|(labels, ours)| {
            let input = inputs.get(t).and_then(|s| s.get(labels));
            let theirs = theirs.get(t).and_then(|s| s.get(labels));
            let (Some(input), Some(theirs)) = (input, theirs) else { return false };
            close(*ours, if input.is_subnormal() { logarithm(*input) } else { *theirs })
        })
    })
}

/// The response of 2.42 to a range query, composed of its responses to each single step.
fn step_by_step(case: &Case, servers: Servers) -> Answer {
    let mut rows: BTreeMap<Labels, Row> = BTreeMap::new();
    for t in case.when.times() {
        let answer = servers.ask_theirs(&case.expr, When::Instant(t));
        if answer.failed() {
            return answer;
        }
        for row in answer.rows() {
            let labels = row.labels.clone();
            let all = rows.entry(labels.clone()).or_insert(Row { labels, points: Vec::new() });
            all.points.extend(row.points.clone());
        }
    }
    Answer { status: 200, result: Ok(Data { kind: "matrix".into(), rows: rows.into_values().collect() }) }
}

#[test]
fn the_document_lists_the_rules() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/differences-from-2.42.md");
    let text = std::fs::read_to_string(path).expect("the document");
    let table = text.split("## Rules").nth(1).expect("a section");
    let rows = table.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let mut documented: Vec<&str> = rows.filter(|name| *name != "rule").collect();
    let mut known: Vec<&str> = RULES.iter().map(|rule| rule.name).chain([UNSTABLE]).collect();
    documented.sort_unstable();
    known.sort_unstable();
    assert_eq!(documented, known);
}
