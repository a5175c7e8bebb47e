//! Warns of labels in the templates of an alert that its expression has aggregated away: `{{
//! $labels.pod }}` over `sum by (job) (…)` is always empty.
//!
//! The set of labels that a plan's answer may have is computed bottom-up. Where it is not known (a
//! plain selector), every label is possible and there is no warning.

use crate::file::RuleExpression;
use engine::plan::{Cardinality, Plan, PlanNode, PlanOp};
use language::ShownLabels;
use std::collections::BTreeSet;

/// The labels that an answer may have.
#[derive(Clone, Debug, PartialEq, Eq)]
enum PossibleLabels {
    /// All but these.
    AllBut(BTreeSet<String>),
    /// Only these.
    Only(BTreeSet<String>),
}

/// The labels that `template` reads as `$labels.x` or `.Labels.x` and that `plan` cannot return.
pub fn missing_labels(plan: &Plan, template: &str) -> Vec<String> {
    missing(&carried(plan), template)
}

/// As [`missing_labels`], for an expression that may list its labels.
pub fn missing_labels_of(expr: &RuleExpression, template: &str) -> Vec<String> {
    match &expr.labels {
        ShownLabels::All => missing_labels(&expr.plan, template),
        ShownLabels::Listed(listed) => {
            let names = listed.iter().map(|label| label.name.clone()).collect();
            missing(&PossibleLabels::Only(names), template)
        }
    }
}

fn missing(carried: &PossibleLabels, template: &str) -> Vec<String> {
    let mut missing = BTreeSet::new();
    for prefix in ["$labels.", ".Labels."] {
        for (at, _) in template.match_indices(prefix) {
            let rest = &template[at + prefix.len()..];
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let possible = match carried {
                PossibleLabels::AllBut(gone) => !gone.contains(&name),
                PossibleLabels::Only(kept) => kept.contains(&name),
            };
            if !possible && !name.is_empty() {
                missing.insert(name);
            }
        }
    }
    // A template with queries reads labels of their results.
    if template.contains("query ") { Vec::new() } else { missing.into_iter().collect() }
}

fn anything() -> PossibleLabels {
    PossibleLabels::AllBut(BTreeSet::new())
}

fn carried(plan: &PlanNode) -> PossibleLabels {
    match &plan.op {
        PlanOp::Number(_) | PlanOp::Text(_) => PossibleLabels::Only(BTreeSet::new()),
        // Functions may add labels (`label_replace`), and those that do not are not worth a list
        // here.
        PlanOp::Instant(_) | PlanOp::Range { .. } | PlanOp::Call { .. } => anything(),
        PlanOp::Subquery { input, .. } | PlanOp::Negate(input) | PlanOp::Plus(input) => carried(input),
        PlanOp::Aggregate(aggregate) => {
            use engine::plan::AggregateOp as A;
            match aggregate.op {
                A::Topk | A::Bottomk | A::Limitk | A::LimitRatio => carried(&aggregate.input),
                // It adds the label that its parameter names.
                A::CountValues => anything(),
                _ => grouped(carried(&aggregate.input), &aggregate.grouping),
            }
        }
        PlanOp::Binary(binary) => {
            use engine::plan::{BinaryOp, ValueType};
            let l = carried(&binary.lhs);
            let r = carried(&binary.rhs);
            match (binary.lhs.kind(), binary.rhs.kind()) {
                (ValueType::Scalar, _) => return r,
                (_, ValueType::Scalar) => return l,
                _ => {}
            }
            match (binary.op, binary.matching.cardinality) {
                (BinaryOp::And | BinaryOp::Unless, _) => l,
                // Rows of both sides, or labels of the other side, may be in the answer.
                (BinaryOp::Or, _) | (_, Cardinality::ManyToOne | Cardinality::OneToMany) => anything(),
                _ => l,
            }
        }
    }
}

fn grouped(input: PossibleLabels, grouping: &engine::plan::Grouping) -> PossibleLabels {
    let listed: BTreeSet<String> = grouping.labels.iter().cloned().collect();
    match (grouping.without, input) {
        (false, PossibleLabels::AllBut(gone)) => PossibleLabels::Only(&listed - &gone),
        (false, PossibleLabels::Only(kept)) => PossibleLabels::Only(&listed & &kept),
        (true, PossibleLabels::AllBut(gone)) => PossibleLabels::AllBut(&gone | &listed),
        (true, PossibleLabels::Only(kept)) => PossibleLabels::Only(&kept - &listed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::plan::{Aggregate, AggregateOp, Binary, BinaryOp, BitFloat, Grouping, Span, VectorMatching};
    use std::sync::Arc;

    fn node(op: PlanOp) -> Plan {
        Arc::new(PlanNode { op, span: Span::default() })
    }

    fn aggregate(labels: &[&str], without: bool) -> Plan {
        let input = super::super::file::fake_compile("up").unwrap().plan;
        let grouping = Grouping { without, labels: labels.iter().map(|l| (*l).to_owned()).collect() };
        node(PlanOp::Aggregate(Box::new(Aggregate { op: AggregateOp::Avg, grouping, param: None, input })))
    }

    #[test]
    fn aggregated_labels_are_reported() {
        let text = "{{ $labels.instance }} {{ $labels.job }}";
        assert_eq!(missing_labels(&aggregate(&[], false), text), ["instance", "job"]);
        assert_eq!(missing_labels(&aggregate(&["job"], false), text), ["instance"]);
        assert_eq!(missing_labels(&aggregate(&["job"], true), text), ["job"]);
        let selector = super::super::file::fake_compile("up").unwrap().plan;
        assert!(missing_labels(&selector, text).is_empty());
    }

    #[test]
    fn arithmetic_with_numbers_keeps_the_answer() {
        let rhs = node(PlanOp::Number(BitFloat(80.0)));
        let matching = VectorMatching::default();
        let binary = Binary {
            op: BinaryOp::Gt,
            return_bool: false,
            matching,
            lhs: aggregate(&[], false),
            rhs,
            kind: engine::plan::ValueType::Vector,
        };
        let text = "{{ $labels.instance }}";
        assert_eq!(missing_labels(&node(PlanOp::Binary(Box::new(binary))), text), ["instance"]);
    }

    #[test]
    fn twice_the_text_costs_at_most_a_little_more_than_twice() {
        let names = |n: usize| (0..n).map(|i| format!("l{i}")).collect::<Vec<String>>();
        let text =
            |n: usize| names(n).iter().map(|name| format!("{{{{ $labels.{name} }}}} ")).collect::<String>();
        let nothing = aggregate(&[], false);
        let missing = |text: &String| missing_labels(&nothing, text).len();
        testing::assert_proportional("labels of a text", 2_000, text, missing);
        let grouped = |n: usize| {
            let names = names(n);
            aggregate(&names.iter().map(String::as_str).collect::<Vec<_>>(), true)
        };
        let gone = |plan: &Plan| missing_labels(plan, "{{ $labels.l1 }}").len();
        testing::assert_proportional("labels of a grouping", 2_000, grouped, gone);
        let long = |n: usize| format!("{{{{ $labels.{} }}}}", "x".repeat(n));
        testing::assert_proportional("a long label", 50_000, long, missing);
    }
}
