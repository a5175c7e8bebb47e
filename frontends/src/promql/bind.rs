//! Binding: the checked syntax tree into the plan that both runtimes run.
//!
//! Parentheses and plus signs go, durations become milliseconds, names become matchers and table entries.
//! What the plan cannot express yet is refused by name.

use super::ast::{Aggregate, At, Binary, Duration, Expr, Kind, VectorSelector, When};
use super::duration::{Known, milliseconds};
use super::errors::Fault;
use super::quoting::quote;
use super::{Options, QueryRange};
use engine::functions::lookup;
use engine::plan::{
    self, Cardinality, FunctionRef, Grouping, Matching, Node, Number, Op, Plan, Selector, Span,
};
use std::sync::Arc;
use storage::model::labels::METRIC_NAME;
use storage::model::{Matcher, TimeMs};

/// The plan of `expr`.
pub(crate) fn bind(expr: &Expr, options: &Options) -> Result<Plan, Fault> {
    Binder { range: options.range }.expr(expr)
}

/// The matchers of a selector: the metric's name, then the others in order.
pub(crate) fn matchers(selector: &VectorSelector) -> Vec<Matcher> {
    let name = selector.name.iter().map(|name| Matcher::equal(METRIC_NAME, name));
    name.chain(selector.matchers.iter().cloned()).collect()
}

struct Binder {
    range: Option<QueryRange>,
}

impl Binder {
    fn expr(&self, expr: &Expr) -> Result<Plan, Fault> {
        let op = match &*expr.kind {
            Kind::Paren(inner) | Kind::Unary { minus: false, inner } => return self.expr(inner),
            Kind::Unary { minus: true, inner } => negate(self.expr(inner)?),
            Kind::Number { value, .. } => Op::Number(Number(*value)),
            Kind::Text(text) => Op::Text(text.clone()),
            Kind::Vector(selector) => Op::Instant(self.selector(selector, expr.span)?),
            Kind::Matrix { selector, range, .. } => {
                Op::Range { selector: self.selector(selector, expr.span)?, range: self.length(range)? }
            }
            Kind::Subquery { inner, range, step, when } => {
                let (offset, at) = self.when(when)?;
                Op::Subquery {
                    input: self.expr(inner)?,
                    range: self.length(range)?,
                    step: step.as_ref().map(|step| self.length(step)).transpose()?,
                    offset,
                    at,
                }
            }
            Kind::Call { function, args } => self.call(function, args, expr.span)?,
            Kind::Aggregate(aggregate) => Op::Aggregate(Box::new(self.aggregate(aggregate)?)),
            Kind::Binary(binary) => Op::Binary(Box::new(self.binary(binary, expr.span)?)),
        };
        Ok(Arc::new(Node { op, span: expr.span }))
    }

    fn selector(&self, selector: &VectorSelector, span: Span) -> Result<Selector, Fault> {
        if let Some(extended) = selector.extended {
            return Err(Fault::new(span, format!("{} modifier is not supported yet", extended.as_str())));
        }
        let (offset, at) = self.when(&selector.when)?;
        Ok(Selector { matchers: matchers(selector), offset, at })
    }

    fn when(&self, when: &When) -> Result<(TimeMs, Option<plan::At>), Fault> {
        let offset = match &when.offset {
            Some(offset) => milliseconds(offset, false, self.known())?,
            None => 0,
        };
        let at = when.at.map(|at| match at {
            At::Time(t) => plan::At::Time(t),
            At::Start => plan::At::Start,
            At::End => plan::At::End,
        });
        Ok((offset, at))
    }

    fn length(&self, duration: &Duration) -> Result<i64, Fault> {
        milliseconds(duration, true, self.known())
    }

    fn known(&self) -> Option<Known> {
        let seconds = |ms: i64| ms as f64 / 1000.0;
        self.range.map(|r| Known { step: seconds(r.step), range: seconds(r.end - r.start) })
    }

    fn call(&self, function: &str, args: &[Expr], span: Span) -> Result<Op, Fault> {
        if let (Some(range), true) = (self.range, args.is_empty())
            && let Some(ms) = range.value_of(function)
        {
            return Ok(Op::Number(Number(ms as f64 / 1000.0)));
        }
        let Some(entry) = lookup(function) else {
            return Err(Fault::new(span, format!("function {} is not supported yet", quote(function))));
        };
        let args = args.iter().map(|arg| self.expr(arg)).collect::<Result<_, _>>()?;
        Ok(Op::Call { function: FunctionRef(entry), args })
    }

    fn aggregate(&self, aggregate: &Aggregate) -> Result<plan::Aggregate, Fault> {
        let mut labels = aggregate.grouping.clone();
        labels.sort_unstable();
        labels.dedup();
        Ok(plan::Aggregate {
            op: aggregate.op,
            grouping: Grouping { without: aggregate.without, labels },
            param: aggregate.param.as_ref().map(|param| self.expr(param)).transpose()?,
            input: self.expr(&aggregate.inner)?,
        })
    }

    fn binary(&self, binary: &Binary, span: Span) -> Result<plan::Binary, Fault> {
        let Binary { op, modifiers, lhs, rhs } = binary;
        if modifiers.fill_left.is_some() || modifiers.fill_right.is_some() {
            return Err(Fault::new(span, "fill modifiers are not supported yet"));
        }
        let Some(plan_op) = op.plan() else {
            return Err(Fault::new(span, format!("operator {} is not supported yet", op.as_str())));
        };
        let (lhs, rhs) = (self.expr(lhs)?, self.expr(rhs)?);
        let vectors = [&lhs, &rhs].iter().all(|side| side.kind() == plan::Type::Vector);
        let matching = Matching {
            on: modifiers.on,
            labels: modifiers.labels.clone(),
            cardinality: if op.is_set() { Cardinality::ManyToMany } else { modifiers.cardinality },
            include: modifiers.include.clone(),
        };
        Ok(plan::Binary {
            op: plan_op,
            return_bool: modifiers.return_bool,
            matching: if vectors { matching } else { Matching::default() },
            lhs,
            rhs,
        })
    }
}

/// Minus `inner`; a number is negated on the spot.
fn negate(inner: Plan) -> Op {
    match &inner.op {
        Op::Number(Number(value)) => Op::Number(Number(-value)),
        _ => Op::Negate(inner),
    }
}
