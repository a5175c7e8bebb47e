//! [`Term`]: a numeric column of a query while it is bound, as a tree of selectors, functions and
//! operators.
//!
//! A term becomes a plan only when all conditions of the query are known ([`Planner`]), because
//! conditions on labels become matchers of the selectors inside it. [`super::expr`] makes terms.

use super::{Refusal, refused};
use engine::functions::{Function, lookup};
use engine::plan::{
    Aggregate, AggregateOp, AtTime, Binary, BinaryOp, BitFloat, Cardinality, FunctionRef, Grouping, Plan,
    PlanNode, PlanOp, Selector, ValueType, VectorMatching,
};
use std::sync::Arc;
use storage::model::{Matcher, TimeMs};

/// A number of a row.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Term {
    /// A constant.
    Number(f64),
    /// The value of the series of a side.
    Value(usize),
    /// The native histogram of the series of a side.
    Histogram(usize),
    /// A number of a side that is grouped.
    Done(Plan, usize),
    /// A scalar.
    Scalar(Plan),
    /// Minus.
    Negate(Box<Term>),
    /// An operator; `bool`: a comparison that gives 0 or 1.
    Binary { op: BinaryOp, lhs: Box<Term>, rhs: Box<Term>, bool: bool },
    /// A function of the value at a time; the argument at `at` is the vector.
    Function { function: FunctionRef, args: Vec<Term> },
    /// A function of a window.
    Window {
        function: FunctionRef,
        before: Vec<f64>,
        input: Box<Term>,
        range: i64,
        step: Option<i64>,
        after: Vec<f64>,
    },
    /// The same term, this many ms earlier (`offset`).
    Ago(Box<Term>, i64),
    /// At a fixed time.
    At(Box<Term>, TimeMs),
    /// The first operand that has a value (`COALESCE`).
    Or(Box<Term>, Box<Term>),
}

/// A side of a join, or the only relation: where its numbers come from.
#[derive(Clone, Debug, Default)]
pub(super) struct Side {
    /// The conditions on the labels of its series.
    pub(super) matchers: Vec<Matcher>,
    /// The labels that its rows are grouped by; `None`: the rows are series.
    pub(super) keys: Option<Vec<String>>,
    /// Whether rows have the labels of series, but a computed number.
    pub(super) computed: bool,
}

/// How the sides of a join are matched.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum JoinMatching {
    /// There is one side, or both have the same labels.
    #[default]
    Same,
    /// By these labels; which side has several rows per match.
    On(Vec<String>, Cardinality),
    /// Rows of either side (`FULL JOIN`).
    Either,
}

/// The `offset` and the `@` of selectors.
#[derive(Copy, Clone, Default)]
struct When {
    /// ms.
    offset: i64,
    at: Option<AtTime>,
}

pub(super) fn node(op: PlanOp) -> Plan {
    Arc::new(PlanNode { op, span: engine::plan::Span::default() })
}

/// A call of a function of the table.
pub(crate) fn call(name: &str, args: Vec<Plan>) -> Result<Plan, Refusal> {
    let function = lookup(name).ok_or_else(|| Refusal(format!("there is no function {name}")))?;
    Ok(node(PlanOp::Call { function: FunctionRef(function), args }))
}

pub(super) fn number(value: f64) -> Plan {
    node(PlanOp::Number(BitFloat(value)))
}

/// An aggregation by labels.
pub(super) fn aggregate(op: AggregateOp, labels: &[String], param: Option<Plan>, input: Plan) -> Plan {
    let mut labels = labels.to_vec();
    labels.sort_unstable();
    labels.dedup();
    node(PlanOp::Aggregate(Box::new(Aggregate {
        op,
        grouping: Grouping { without: false, labels },
        param,
        input,
    })))
}

/// A binary operator between plans.
pub(super) fn binary(op: BinaryOp, bool: bool, lhs: Plan, rhs: Plan, matching: VectorMatching) -> Plan {
    let is_scalar = |plan: &Plan| plan.kind() == ValueType::Scalar;
    let scalars = is_scalar(&lhs) && is_scalar(&rhs);
    let vectors = !is_scalar(&lhs) && !is_scalar(&rhs);
    node(PlanOp::Binary(Box::new(Binary {
        op,
        return_bool: bool,
        // Matching by labels is of two vectors; with a scalar the engine would refuse it.
        matching: if vectors { matching } else { VectorMatching::default() },
        lhs,
        rhs,
        kind: if scalars { ValueType::Scalar } else { ValueType::Vector },
    })))
}

/// `and on (…)`, `unless on (…)`, or with the whole label set.
pub(super) fn set(op: BinaryOp, on: Option<&[String]>, lhs: Plan, rhs: Plan) -> Plan {
    let matching = VectorMatching {
        on: on.is_some(),
        labels: on.unwrap_or_default().to_vec(),
        cardinality: Cardinality::ManyToMany,
        ..VectorMatching::default()
    };
    binary(op, false, lhs, rhs, matching)
}

/// Makes plans of terms.
pub(super) struct Planner<'a> {
    pub(super) sides: &'a [Side],
    pub(super) joined: &'a JoinMatching,
}

impl Planner<'_> {
    /// The plan of `term`.
    pub(super) fn plan(&self, term: &Term) -> Result<Plan, Refusal> {
        self.at(term, When::default())
    }

    fn at(&self, term: &Term, when: When) -> Result<Plan, Refusal> {
        Ok(match term {
            Term::Number(value) => number(*value),
            Term::Value(side) | Term::Histogram(side) => node(PlanOp::Instant(self.selector(*side, when)?)),
            Term::Done(plan, _) | Term::Scalar(plan) => shifted(plan, when)?,
            Term::Negate(inner) => node(PlanOp::Negate(self.at(inner, when)?)),
            Term::Binary { op, lhs, rhs, bool } => {
                let matching = self.matching(lhs, rhs);
                binary(*op, *bool, self.at(lhs, when)?, self.at(rhs, when)?, matching)
            }
            Term::Function { function, args } => {
                let args = args.iter().map(|arg| self.at(arg, when)).collect::<Result<_, _>>()?;
                node(PlanOp::Call { function: *function, args })
            }
            Term::Window { function, before, input, range, step, after } => {
                let window = match step {
                    Some(step) => node(PlanOp::Subquery {
                        input: self.at(input, when)?,
                        range: *range,
                        step: Some(*step),
                        offset: 0,
                        at: None,
                    }),
                    None => self.window(function.0, input, *range, when)?,
                };
                let numbers = |list: &[f64]| list.iter().map(|v| number(*v)).collect::<Vec<_>>();
                let args = [numbers(before), vec![window], numbers(after)].concat();
                node(PlanOp::Call { function: *function, args })
            }
            Term::Ago(inner, ms) => self.at(inner, When { offset: when.offset + ms, ..when })?,
            Term::At(inner, t) => self.at(inner, When { at: Some(AtTime::Time(*t)), ..when })?,
            Term::Or(lhs, rhs) => set(BinaryOp::Or, None, self.at(lhs, when)?, self.at(rhs, when)?),
        })
    }

    /// A window over the samples of a series.
    fn window(&self, function: &Function, input: &Term, range: i64, when: When) -> Result<Plan, Refusal> {
        match input {
            Term::Value(side) | Term::Histogram(side) => {
                Ok(node(PlanOp::Range { selector: self.selector(*side, when)?, range }))
            }
            Term::Ago(inner, ms) => {
                self.window(function, inner, range, When { offset: when.offset + ms, ..when })
            }
            Term::At(inner, t) => {
                self.window(function, inner, range, When { at: Some(AtTime::Time(*t)), ..when })
            }
            _ => refused(format!(
                "{} over a window needs the samples of a series; over something computed it needs a step, too: {0}(…, '1h', '1m')",
                function.name
            )),
        }
    }

    fn selector(&self, side: usize, when: When) -> Result<Selector, Refusal> {
        // A side that is grouped or computed has no samples to select.
        let Some(side) = self.sides.get(side).filter(|side| side.keys.is_none() && !side.computed) else {
            return refused("the value of a group is not that of a series");
        };
        Ok(Selector { matchers: side.matchers.clone(), offset: when.offset, at: when.at, extension: None })
    }

    /// How two operands are matched: those of one side have the same labels.
    fn matching(&self, lhs: &Term, rhs: &Term) -> VectorMatching {
        match (self.joined, side_of(lhs), side_of(rhs)) {
            (JoinMatching::On(labels, cardinality), Some(left), Some(right)) if left != right => {
                // The cardinality was found for the left side of the join; the operands may stand
                // the other way round.
                let turned = left > right;
                let cardinality = match cardinality {
                    Cardinality::ManyToOne if turned => Cardinality::OneToMany,
                    Cardinality::OneToMany if turned => Cardinality::ManyToOne,
                    other => *other,
                };
                VectorMatching { on: true, labels: labels.clone(), cardinality, ..VectorMatching::default() }
            }
            _ => VectorMatching::default(),
        }
    }
}

/// A plan of another relation, shifted: each of its selectors.
fn shifted(plan: &Plan, when: When) -> Result<Plan, Refusal> {
    // The usual case, which keeps the plan shared.
    if when.offset == 0 && when.at.is_none() {
        return Ok(plan.clone());
    }
    let select =
        // Offsets add up; of two fixed times the outer one counts, as it is asked for last.
        |s: &Selector| Selector { offset: s.offset + when.offset, at: when.at.or(s.at), ..s.clone() };
    let op = match &plan.op {
        PlanOp::Instant(selector) => PlanOp::Instant(select(selector)),
        PlanOp::Range { selector, range } => PlanOp::Range { selector: select(selector), range: *range },
        op => {
            let mut failed = None;
            let op = op.map_inputs(&mut |input| {
                shifted(input, when).unwrap_or_else(|e| {
                    failed = Some(e);
                    input.clone()
                })
            });
            if let Some(failed) = failed {
                return Err(failed);
            }
            op
        }
    };
    Ok(Arc::new(PlanNode { op, span: plan.span }))
}

/// The side that a vector comes from; `None`: a scalar. For a match of both sides, the left one.
pub(super) fn side_of(term: &Term) -> Option<usize> {
    match term {
        Term::Number(_) | Term::Scalar(_) => None,
        Term::Value(side) | Term::Histogram(side) | Term::Done(_, side) => Some(*side),
        Term::Negate(inner) | Term::Ago(inner, _) | Term::At(inner, _) => side_of(inner),
        Term::Binary { lhs, rhs, .. } | Term::Or(lhs, rhs) => side_of(lhs).or_else(|| side_of(rhs)),
        Term::Function { args, .. } => args.iter().find_map(side_of),
        Term::Window { input, .. } => side_of(input),
    }
}

/// Whether a term reads this side.
pub(super) fn reads(term: &Term, side: usize) -> bool {
    match term {
        Term::Number(_) | Term::Scalar(_) => false,
        Term::Value(of) | Term::Histogram(of) | Term::Done(_, of) => *of == side,
        Term::Negate(inner) | Term::Ago(inner, _) | Term::At(inner, _) => reads(inner, side),
        Term::Binary { lhs, rhs, .. } | Term::Or(lhs, rhs) => reads(lhs, side) || reads(rhs, side),
        Term::Function { args, .. } => args.iter().any(|arg| reads(arg, side)),
        Term::Window { input, .. } => reads(input, side),
    }
}

/// Replaces all occurrences of `from` by `to`; also returns whether there was one.
pub(super) fn replace(term: &Term, from: &Term, to: &Term) -> (Term, bool) {
    if term == from {
        return (to.clone(), true);
    }
    let mut found = false;
    let mut inside = |inner: &Term| {
        let (inner, here) = replace(inner, from, to);
        found |= here;
        inner
    };
    let term = match term {
        Term::Negate(inner) => Term::Negate(Box::new(inside(inner))),
        Term::Binary { op, lhs, rhs, bool } => {
            let lhs = Box::new(inside(lhs));
            Term::Binary { op: *op, lhs, rhs: Box::new(inside(rhs)), bool: *bool }
        }
        Term::Function { function, args } => {
            Term::Function { function: *function, args: args.iter().map(inside).collect() }
        }
        // A window reads samples and not the current value.
        other => other.clone(),
    };
    (term, found)
}
