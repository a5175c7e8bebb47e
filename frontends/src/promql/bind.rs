//! Binding: the checked syntax tree into the plan that both runtimes run.
//!
//! Parentheses go, durations become milliseconds, names become matchers and table entries.
//! What the plan cannot express yet is refused by name.

use super::ast::{Aggregate, At, Binary, Duration, Expr, Extended, Kind, VectorSelector, When};
use super::duration::{Known, milliseconds};
use super::errors::Fault;
use super::quoting::quote;
use super::{Options, QueryRange};
use engine::functions::lookup;
use engine::plan::{
    self, Cardinality, Extension, FunctionRef, Grouping, Matching, Node, Number, Op, Plan, Selector, Span,
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
    // The recursive ways are functions of their own, so that their frames on the stack stay small.
    fn expr(&self, expr: &Expr) -> Result<Plan, Fault> {
        let op = match &*expr.kind {
            Kind::Paren(inner) => return self.expr(inner),
            Kind::Unary { minus, inner } => self.signed(*minus, inner),
            Kind::Subquery { inner, .. } => self.subquery(inner, &expr.kind),
            Kind::Call { function, args } => self.call(function, args, expr.span),
            Kind::Aggregate(aggregate) => self.aggregate(aggregate),
            Kind::Binary(binary) => self.binary(binary),
            Kind::Number { .. } | Kind::Text(_) | Kind::Vector(_) | Kind::Matrix { .. } => self.leaf(expr),
        };
        node(op?, expr.span)
    }

    fn leaf(&self, expr: &Expr) -> Result<Op, Fault> {
        Ok(match &*expr.kind {
            Kind::Number { value, .. } => Op::Number(Number(*value)),
            Kind::Text(text) => Op::Text(text.clone()),
            Kind::Matrix { selector, range, .. } => {
                Op::Range { selector: self.selector(selector)?, range: self.length(range)? }
            }
            Kind::Vector(selector) => Op::Instant(self.selector(selector)?),
            _ => return Err(Fault::new(expr.span, "unexpected error")),
        })
    }

    /// `inner` with a sign in front; a number takes it on the spot.
    fn signed(&self, minus: bool, inner: &Expr) -> Result<Op, Fault> {
        let inner = self.expr(inner)?;
        Ok(match &inner.op {
            Op::Number(Number(value)) => Op::Number(Number(if minus { -value } else { *value })),
            _ if minus => Op::Negate(inner),
            _ => Op::Plus(inner),
        })
    }

    fn subquery(&self, inner: &Expr, kind: &Kind) -> Result<Op, Fault> {
        let input = self.expr(inner)?;
        self.windowed(input, kind)
    }

    /// The subquery `kind` over `input`.
    fn windowed(&self, input: Plan, kind: &Kind) -> Result<Op, Fault> {
        let Kind::Subquery { range, step, when, .. } = kind else {
            return Err(Fault::new(input.span, "unexpected error"));
        };
        let (offset, at) = self.when(when)?;
        let step = step.as_ref().map(|step| self.length(step)).transpose()?;
        Ok(Op::Subquery { input, range: self.length(range)?, step, offset, at })
    }

    fn selector(&self, selector: &VectorSelector) -> Result<Selector, Fault> {
        let (offset, at) = self.when(&selector.when)?;
        let extension = selector.extended.map(|extended| match extended {
            Extended::Anchored => Extension::Anchored,
            Extended::Smoothed => Extension::Smoothed,
        });
        Ok(Selector { matchers: matchers(selector), offset, at, extension })
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

    fn known(&self) -> Known {
        let seconds = |ms: i64| ms as f64 / 1000.0;
        self.range
            .map_or_else(Known::default, |r| Known { step: seconds(r.step), range: seconds(r.end - r.start) })
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

    fn aggregate(&self, aggregate: &Aggregate) -> Result<Op, Fault> {
        let input = self.expr(&aggregate.inner)?;
        let param = aggregate.param.as_ref().map(|param| self.expr(param)).transpose()?;
        Ok(grouped(aggregate, input, param))
    }

    fn binary(&self, binary: &Binary) -> Result<Op, Fault> {
        let (lhs, rhs) = (self.expr(&binary.lhs)?, self.expr(&binary.rhs)?);
        Ok(joined(binary, lhs, rhs))
    }
}

fn node(op: Op, span: Span) -> Result<Plan, Fault> {
    Ok(Arc::new(Node { op, span }))
}

fn grouped(aggregate: &Aggregate, input: Plan, param: Option<Plan>) -> Op {
    let mut labels = aggregate.grouping.clone();
    labels.sort_unstable();
    labels.dedup();
    let grouping = Grouping { without: aggregate.without, labels };
    Op::Aggregate(Box::new(plan::Aggregate { op: aggregate.op, grouping, param, input }))
}

fn joined(binary: &Binary, lhs: Plan, rhs: Plan) -> Op {
    let Binary { op, modifiers, .. } = binary;
    let vectors = lhs.kind() == plan::Type::Vector && rhs.kind() == plan::Type::Vector;
    let scalars = lhs.kind() == plan::Type::Scalar && rhs.kind() == plan::Type::Scalar;
    let matching = Matching {
        on: modifiers.on,
        labels: modifiers.labels.clone(),
        cardinality: if op.is_set() { Cardinality::ManyToMany } else { modifiers.cardinality },
        include: modifiers.include.clone(),
        fill_left: modifiers.fill_left.map(Number),
        fill_right: modifiers.fill_right.map(Number),
    };
    Op::Binary(Box::new(plan::Binary {
        op: op.plan(),
        return_bool: modifiers.return_bool,
        matching: if vectors { matching } else { Matching::default() },
        lhs,
        rhs,
        kind: if scalars { plan::Type::Scalar } else { plan::Type::Vector },
    }))
}
