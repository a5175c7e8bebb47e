//! What can be said about the labels of a plan's rows before evaluation, and the selectors of a
//! plan.
//!
//! The live runtime needs this to order views: whether a rule reads what another one records
//! ([`RowLabels::may_match`]), and whether two rules may record the same series. Where the plan
//! does not determine a label, the answer is "possible": a dependency too many costs time, one too
//! few would evaluate a rule before its input.

use super::details::InfoSelector;
use super::{
    Aggregate, AggregateOp, Binary, BinaryOp, Cardinality, FunctionRef, Plan, PlanNode, PlanOp, ValueType,
};
use crate::functions::{Kernel, LabelFunction, OperatorFunction};
use std::collections::BTreeMap;
use storage::model::labels::METRIC_NAME;
use storage::model::{Labels, MatchOp, Matcher};

/// The label with the bound of a classic histogram's bucket.
const BUCKET_LABEL: &str = "le";

/// The labels that all rows of a plan have, as far as the plan determines them. An absent label has
/// the value "".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowLabels {
    /// By name: the value in all rows; `None`: any value.
    labels: BTreeMap<String, Option<String>>,
    /// Labels that are not listed are absent. Otherwise they may have any value.
    only_listed: bool,
}

impl RowLabels {
    /// The labels of the rows of `plan`.
    pub fn from_plan(plan: &PlanNode) -> RowLabels {
        match &plan.op {
            PlanOp::Number(_) | PlanOp::Text(_) => RowLabels::none(),
            PlanOp::Instant(selector) | PlanOp::Range { selector, .. } => {
                RowLabels::selected(&selector.matchers)
            }
            PlanOp::Subquery { input, .. } | PlanOp::Negate(input) | PlanOp::Plus(input) => {
                RowLabels::from_plan(input)
            }
            PlanOp::Call { function, args } => RowLabels::from_call(*function, args),
            PlanOp::Binary(binary) => RowLabels::from_binary(binary),
            PlanOp::Aggregate(aggregate) => RowLabels::from_aggregate(aggregate),
        }
    }

    /// Sets a label to a value in all rows; "" removes it.
    pub fn set(&mut self, name: &str, value: &str) {
        self.labels.insert(name.to_owned(), Some(value.to_owned()));
    }

    /// Whether a row may match all of `matchers`.
    pub fn may_match(&self, matchers: &[Matcher]) -> bool {
        matchers.iter().all(|m| self.value(&m.name).is_none_or(|value| m.matches(value)))
    }

    /// Whether every row matches all of `matchers`.
    pub fn must_match(&self, matchers: &[Matcher]) -> bool {
        matchers.iter().all(|m| self.value(&m.name).is_some_and(|value| m.matches(value)))
    }

    /// Whether a row of one may have the labels of a row of the other.
    pub fn may_equal(&self, other: &RowLabels) -> bool {
        let mut names = self.labels.keys().chain(other.labels.keys());
        names.all(|name| match (self.value(name), other.value(name)) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        })
    }

    fn none() -> RowLabels {
        RowLabels { only_listed: true, ..RowLabels::default() }
    }

    fn listed(labels: &Labels) -> RowLabels {
        let mut rows = RowLabels::none();
        for (name, value) in labels.iter() {
            rows.set(name, value);
        }
        rows
    }

    fn selected(matchers: &[Matcher]) -> RowLabels {
        let mut rows = RowLabels::default();
        let equal = matchers.iter().filter(|m| m.op == MatchOp::Equal);
        for m in equal {
            rows.set(&m.name, &m.value);
        }
        rows
    }

    /// The value of a label in all rows, if the plan determines it.
    fn value(&self, name: &str) -> Option<&str> {
        match self.labels.get(name) {
            Some(value) => value.as_deref(),
            None => self.only_listed.then_some(""),
        }
    }

    fn forget(&mut self, name: &str) {
        self.labels.insert(name.to_owned(), None);
    }

    fn copy(&mut self, name: &str, from: &RowLabels) {
        self.labels.insert(name.to_owned(), from.value(name).map(str::to_owned));
    }

    /// Only these labels.
    fn only(&self, names: &[String]) -> RowLabels {
        let mut rows = RowLabels::none();
        for name in names.iter() {
            rows.copy(name, self);
        }
        rows
    }

    fn without(mut self, names: &[String]) -> RowLabels {
        for name in names.iter() {
            self.set(name, "");
        }
        self
    }

    /// What rows of both have in common.
    fn or(&self, other: &RowLabels) -> RowLabels {
        let only_listed = self.only_listed && other.only_listed;
        let mut rows = RowLabels { only_listed, ..RowLabels::default() };
        for name in self.labels.keys().chain(other.labels.keys()) {
            let value = self.value(name).filter(|value| other.value(name) == Some(value));
            rows.labels.insert(name.clone(), value.map(str::to_owned));
        }
        rows
    }

    fn from_call(function: FunctionRef, args: &[Plan]) -> RowLabels {
        let vector = args.iter().find(|arg| matches!(arg.kind(), ValueType::Vector | ValueType::Matrix));
        let mut rows = vector.map_or_else(RowLabels::none, |arg| RowLabels::from_plan(arg));
        match function.0.kernel {
            Kernel::Relabel(LabelFunction::Replace | LabelFunction::Join) => {
                rows.forget_named_by(args.get(1))
            }
            Kernel::Operator(OperatorFunction::Absent | OperatorFunction::AbsentOverTime) => {
                return vector.map_or_else(RowLabels::none, |arg| RowLabels::from_absent(arg));
            }
            Kernel::Operator(OperatorFunction::HistogramQuantile | OperatorFunction::HistogramFraction) => {
                rows.forget(BUCKET_LABEL);
            }
            Kernel::Operator(OperatorFunction::HistogramQuantiles) => {
                rows.forget(BUCKET_LABEL);
                rows.forget_named_by(args.get(1));
            }
            Kernel::Operator(OperatorFunction::Info) => rows.add_unknown(),
            _ => {}
        }
        rows
    }

    fn from_absent(arg: &PlanNode) -> RowLabels {
        match &arg.op {
            PlanOp::Instant(selector) | PlanOp::Range { selector, .. } => {
                RowLabels::listed(&crate::functions::labels::absent_labels(&selector.matchers))
            }
            _ => RowLabels::none(),
        }
    }

    fn forget_named_by(&mut self, arg: Option<&Plan>) {
        if let Some(PlanOp::Text(name)) = arg.map(|arg| &arg.op) {
            self.forget(name);
        }
    }

    /// Labels may be added; existing ones keep their values.
    fn add_unknown(&mut self) {
        self.labels.retain(|_, value| value.as_deref().is_some_and(|value| !value.is_empty()));
        self.only_listed = false;
    }

    fn from_binary(binary: &Binary) -> RowLabels {
        match (binary.lhs.kind(), binary.rhs.kind()) {
            (ValueType::Vector, ValueType::Vector) => RowLabels::from_matching(binary),
            (ValueType::Vector, _) => RowLabels::from_plan(&binary.lhs),
            (_, ValueType::Vector) => RowLabels::from_plan(&binary.rhs),
            _ => RowLabels::none(),
        }
    }

    fn from_matching(binary: &Binary) -> RowLabels {
        let lhs = RowLabels::from_plan(&binary.lhs);
        let rhs = RowLabels::from_plan(&binary.rhs);
        let matching = &binary.matching;
        if binary.op == BinaryOp::Or {
            return lhs.or(&rhs);
        }
        if binary.op.is_set() {
            return lhs;
        }
        let fills = matching.fill_left.is_some() || matching.fill_right.is_some();
        let (many, one) = match matching.cardinality {
            Cardinality::OneToMany => (&rhs, &lhs),
            _ => (&lhs, &rhs),
        };
        let mut rows = if fills { many.or(one) } else { many.clone() };
        match matching.cardinality {
            Cardinality::OneToMany | Cardinality::ManyToOne => {
                for name in &matching.include {
                    rows.copy(name, one);
                }
                rows
            }
            _ if matching.on => rows.only(&matching.labels),
            _ => rows.without(&matching.labels),
        }
    }

    fn from_aggregate(aggregate: &Aggregate) -> RowLabels {
        use AggregateOp::{Bottomk, CountValues, LimitRatio, Limitk, Topk};
        let input = RowLabels::from_plan(&aggregate.input);
        if matches!(aggregate.op, Topk | Bottomk | Limitk | LimitRatio) {
            return input;
        }
        let grouping = &aggregate.grouping;
        let mut rows =
            if grouping.without { input.without(&grouping.labels) } else { input.only(&grouping.labels) };
        if aggregate.op == CountValues {
            rows.forget_named_by(aggregate.param.as_ref());
        }
        rows
    }
}

/// Calls `each` with the matchers of all selectors of `plan`, including those of the info metrics
/// of `info`.
pub fn for_each_selector(plan: &PlanNode, each: &mut dyn FnMut(&[Matcher])) {
    match &plan.op {
        PlanOp::Instant(selector) | PlanOp::Range { selector, .. } => each(&selector.matchers),
        PlanOp::Call { function, args }
            if matches!(function.0.kernel, Kernel::Operator(OperatorFunction::Info)) =>
        {
            if let Some(vector) = args.first() {
                for_each_selector(vector, each);
            }
            let matchers = match args.get(1).map(|arg| &arg.op) {
                Some(PlanOp::Instant(selector)) => Some(selector.matchers.as_slice()),
                _ => None,
            };
            each(&InfoSelector::from_matchers(matchers).1);
        }
        _ => {
            for input in plan.inputs() {
                for_each_selector(input, each);
            }
        }
    }
}

/// The metric name that `matchers` require, if they do.
pub fn required_name(matchers: &[Matcher]) -> Option<&str> {
    let requires_name = |m: &&Matcher| m.name == METRIC_NAME && m.op == MatchOp::Equal && !m.value.is_empty();
    matchers.iter().find(requires_name).map(|m| m.value.as_str())
}
