//! No text makes the PromQL front end panic, and a printed query has the same meaning when it is
//! parsed again.

mod support;

use engine::plan::{BinaryOp, BitFloat, Plan, PlanNode, PlanOp};
use promql::{compile, format, parse, parse_selector, printer, series::parse_series};
use proptest::prelude::*;
use support::options;

/// Parts of queries, valid and not.
const PIECES: &[&str] = &[
    "a",
    "sum",
    "rate",
    "by",
    "without",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "5m",
    "1",
    "0x1F",
    "1_0",
    ".5",
    "inf",
    "NaN",
    "\"s\"",
    "'\\x41'",
    "`r`",
    "\"\\",
    ",",
    ":",
    "=",
    "=~",
    "!~",
    "!=",
    "==",
    ">=",
    "</",
    ">/",
    "+",
    "-",
    "*",
    "/",
    "%",
    "^",
    "atan2",
    "and",
    "or",
    "unless",
    "bool",
    "on",
    "ignoring",
    "group_left",
    "fill",
    "offset",
    "@",
    "start",
    "end",
    "step",
    "range",
    "min_of",
    "anchored",
    "smoothed",
    "topk",
    "count_values",
    "info",
    "time",
    " ",
    "\n",
    "# c\n",
    "ü",
    "\u{fffd}",
    "_",
    "x",
    "a[5m]",
    "{b=\"c\"}",
    "(a)",
    "a{b=~'.+'}",
    "[5m:1m]",
    "offset 5m",
    "@ 1",
    "rate(a[5m])",
    "sum by (b) (a)",
    "on (b)",
    "1+2x3",
    "stale",
    "step()",
    "99999999999999999999",
    "1e9",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_pieces_is_answered(picks in prop::collection::vec(0..PIECES.len(), 0..14)) {
        let text: String = picks.iter().map(|i| PIECES[*i]).collect();
        let _ = compile(&text, &options());
        let _ = parse_selector(&text);
        let _ = parse_series(&text);
        match parse(&text, &options()) {
            Ok(expr) => {
                let once = printer::print(&expr);
                let again = parse(&once, &options()).map_err(|e| TestCaseError::fail(format!("{text:?} → {once:?}: {e}")))?;
                // As in Prometheus, infinity prints with a sign; before `^`, the sign is parsed as
                // an operator.
                let bare = |text: &str| text.replace('+', "");
                prop_assert_eq!(bare(&printer::print(&again)), bare(&once));
                prop_assert!(expr.span.end as usize <= text.len());
            }
            Err(error) => {
                prop_assert!(error.span.start <= error.span.end && error.span.end as usize <= text.len(), "{:?}", error);
                prop_assert!(format(&text, &options()).is_err());
            }
        }
    }

    #[test]
    fn any_text_is_answered(text in "\\PC{0,40}") {
        let _ = compile(&text, &options());
        let _ = parse_series(&text);
    }

    /// Operands joined by operators: mostly valid, so that printing is tested.
    #[test]
    fn expressions_survive_printing(
        first in 0..OPERANDS.len(),
        rest in prop::collection::vec((0..OPERATORS.len(), 0..OPERANDS.len()), 0..6),
    ) {
        let mut text = OPERANDS[first].to_owned();
        for (operator, operand) in rest {
            text.push_str(OPERATORS[operator]);
            text.push_str(OPERANDS[operand]);
        }
        if let Ok(expr) = parse(&text, &options()) {
            let once = printer::print(&expr);
            // The plan is the same, if there is one.
            let plan = |text: &str| compile(text, &options()).ok().map(|plan| signless(&plan));
            prop_assert_eq!(plan(&text), plan(&once), "{} → {}", text, once);
        }
    }
}

/// A plan without the sign of infinity before `^`: as in Prometheus it is printed, and then parsed
/// as an operator.
fn signless(plan: &Plan) -> Plan {
    let op = plan.op.map_inputs(&mut |input| signless(input));
    match op {
        PlanOp::Plus(power) if is_power_of_infinity(&power) => power,
        op => Plan::new(PlanNode { op, span: plan.span }),
    }
}

fn is_power_of_infinity(plan: &Plan) -> bool {
    let PlanOp::Binary(binary) = &plan.op else { return false };
    binary.op == BinaryOp::Pow && matches!(binary.lhs.op, PlanOp::Number(BitFloat(f64::INFINITY)))
}

const OPERANDS: &[&str] = &[
    "a",
    "b{c='d'}",
    "-a",
    "+a",
    "-1",
    "(a + 1)",
    "2h",
    "sum(a) by (b)",
    "a offset -5m",
    "a @ 3.25",
    "1e3",
    "-inf",
    "scalar(a)",
    "avg_over_time(a[5m:30s] offset 1m)",
    "a[(1m)]",
    "topk(2, a)",
    "{'x y'}",
    "time()",
    "--a",
];
const OPERATORS: &[&str] = &[
    " + ",
    "-",
    "*",
    "/ ",
    " %",
    "^",
    " atan2 ",
    " and ",
    " or ",
    " unless ",
    " == ",
    " > bool ",
    "</",
    " * on (c) ",
    " - ignoring (c) group_left (e) ",
    " + on () ",
    " / fill(1) ",
];
