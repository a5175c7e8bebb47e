//! Binding: turns the type-checked syntax tree into the plan that both runtimes run.
//!
//! Parentheses disappear, durations become milliseconds, metric names become matchers and function
//! names become entries of the function table. What a plan cannot express is rejected with an error
//! that names it. The plan is canonical: texts that mean the same share their steps.

use super::ast::{
    AggregateExpr, AtModifier, BinaryExpr, DurationArgument, Expr, ExprKind, ExtensionKeyword, TimeModifiers,
    VectorSelector,
};
use super::duration::{QueryTimes, milliseconds};
use super::errors::SpannedError;
use super::quoting::quote;
use super::{PromqlOptions, QueryRange};
use engine::functions::lookup;
use engine::plan::canonical::canonical;
use engine::plan::{
    self, BitFloat, Cardinality, FunctionRef, Grouping, Plan, PlanNode, PlanOp, Selector, Span,
    VectorMatching, WindowExtension,
};
use std::sync::Arc;
use storage::model::labels::METRIC_NAME;
use storage::model::{Matcher, TimeMs};

/// The plan of `expr`.
pub(crate) fn bind(expr: &Expr, options: &PromqlOptions) -> Result<Plan, SpannedError> {
    let plan = Binder { range: options.range }.expr(expr)?;
    // Here and not in the engine: other languages bind to canonical plans by themselves, and plans
    // of tests stay as written.
    Ok(canonical(&plan))
}

/// The matchers of a selector: the one for the metric name first, then the others in order.
pub(crate) fn matchers(selector: &VectorSelector) -> Vec<Matcher> {
    // First, because looking up a metric name narrows the series more than any other matcher.
    let name = selector.name.iter().map(|name| Matcher::equal(METRIC_NAME, name));
    name.chain(selector.matchers.iter().cloned()).collect()
}

struct Binder {
    range: Option<QueryRange>,
}

impl Binder {
    // Each recursive case is a function of its own, which keeps the stack frames small.
    fn expr(&self, expr: &Expr) -> Result<Plan, SpannedError> {
        let op = match &*expr.kind {
            // The plan has the order of evaluation in its structure.
            ExprKind::Paren(inner) => return self.expr(inner),
            ExprKind::Unary { minus, inner } => self.signed(*minus, inner),
            ExprKind::Subquery { inner, .. } => self.subquery(inner, &expr.kind),
            ExprKind::Call { function, args } => self.call(function, args, expr.span),
            ExprKind::Aggregate(aggregate) => self.aggregate(aggregate),
            ExprKind::Binary(binary) => self.binary(binary),
            ExprKind::Number { .. } | ExprKind::Text(_) | ExprKind::Vector(_) | ExprKind::Matrix { .. } => {
                self.leaf(expr)
            }
        };
        node(op?, expr.span)
    }

    fn leaf(&self, expr: &Expr) -> Result<PlanOp, SpannedError> {
        Ok(match &*expr.kind {
            ExprKind::Number { value, .. } => PlanOp::Number(BitFloat(*value)),
            ExprKind::Text(text) => PlanOp::Text(text.clone()),
            ExprKind::Matrix { selector, range, .. } => {
                PlanOp::Range { selector: self.selector(selector)?, range: self.length(range)? }
            }
            ExprKind::Vector(selector) => PlanOp::Instant(self.selector(selector)?),
            _ => return Err(SpannedError::new(expr.span, "unexpected error")),
        })
    }

    /// `inner` with a sign; a number takes the sign at once.
    fn signed(&self, minus: bool, inner: &Expr) -> Result<PlanOp, SpannedError> {
        let inner = self.expr(inner)?;
        Ok(match &inner.op {
            PlanOp::Number(BitFloat(value)) => PlanOp::Number(BitFloat(if minus { -value } else { *value })),
            // A plus is kept, too: it drops the metric name, as every operation does.
            _ if minus => PlanOp::Negate(inner),
            _ => PlanOp::Plus(inner),
        })
    }

    fn subquery(&self, inner: &Expr, kind: &ExprKind) -> Result<PlanOp, SpannedError> {
        let input = self.expr(inner)?;
        self.windowed(input, kind)
    }

    /// The subquery `kind` over `input`.
    fn windowed(&self, input: Plan, kind: &ExprKind) -> Result<PlanOp, SpannedError> {
        let ExprKind::Subquery { range, step, when, .. } = kind else {
            return Err(SpannedError::new(input.span, "unexpected error"));
        };
        let (offset, at) = self.when(when)?;
        // Without one, the default step of the query decides when it runs; a plan must not depend
        // on it.
        let step = step.as_ref().map(|step| self.length(step)).transpose()?;
        Ok(PlanOp::Subquery { input, range: self.length(range)?, step, offset, at })
    }

    fn selector(&self, selector: &VectorSelector) -> Result<Selector, SpannedError> {
        let (offset, at) = self.when(&selector.when)?;
        let extension = selector.extended.map(|extended| match extended {
            ExtensionKeyword::Anchored => WindowExtension::Anchored,
            ExtensionKeyword::Smoothed => WindowExtension::Smoothed,
        });
        Ok(Selector { matchers: matchers(selector), offset, at, extension })
    }

    fn when(&self, when: &TimeModifiers) -> Result<(TimeMs, Option<plan::AtTime>), SpannedError> {
        let offset = match &when.offset {
            // Offsets may be zero or negative, lengths may not.
            Some(offset) => milliseconds(offset, false, self.query_times())?,
            None => 0,
        };
        let at = when.at.map(|at| match at {
            AtModifier::Time(t) => plan::AtTime::Time(t),
            AtModifier::Start => plan::AtTime::Start,
            AtModifier::End => plan::AtTime::End,
        });
        Ok((offset, at))
    }

    fn length(&self, duration: &DurationArgument) -> Result<i64, SpannedError> {
        milliseconds(duration, true, self.query_times())
    }

    fn query_times(&self) -> QueryTimes {
        let seconds = |ms: i64| ms as f64 / 1000.0;
        self.range.map_or_else(QueryTimes::default, |r| QueryTimes {
            step: seconds(r.step),
            range: seconds(r.end - r.start),
        })
    }

    fn call(&self, function: &str, args: &[Expr], span: Span) -> Result<PlanOp, SpannedError> {
        // `start()` and the like are numbers once the range is known. Without one they stay calls,
        // which views evaluate at each tick.
        if let (Some(range), true) = (self.range, args.is_empty())
            && let Some(ms) = crate::range_function(&range, function)
        {
            return Ok(PlanOp::Number(BitFloat(ms as f64 / 1000.0)));
        }
        let Some(entry) = lookup(function) else {
            return Err(SpannedError::new(
                span,
                format!("function {} is not supported yet", quote(function)),
            ));
        };
        // Types and count are right: the type checker ran before.
        let args = args.iter().map(|arg| self.expr(arg)).collect::<Result<_, _>>()?;
        Ok(PlanOp::Call { function: FunctionRef(entry), args })
    }

    fn aggregate(&self, aggregate: &AggregateExpr) -> Result<PlanOp, SpannedError> {
        let input = self.expr(&aggregate.inner)?;
        let param = aggregate.param.as_ref().map(|param| self.expr(param)).transpose()?;
        Ok(grouped(aggregate, input, param))
    }

    fn binary(&self, binary: &BinaryExpr) -> Result<PlanOp, SpannedError> {
        let lhs = self.expr(&binary.lhs)?;
        let rhs = self.expr(&binary.rhs)?;
        Ok(joined(binary, lhs, rhs))
    }
}

fn node(op: PlanOp, span: Span) -> Result<Plan, SpannedError> {
    Ok(Arc::new(PlanNode { op, span }))
}

fn grouped(aggregate: &AggregateExpr, input: Plan, param: Option<Plan>) -> PlanOp {
    let mut labels = aggregate.grouping.clone();
    // `by (a, b)` and `by (b, a, a)` are one grouping, and share their steps.
    labels.sort_unstable();
    labels.dedup();
    let grouping = Grouping { without: aggregate.without, labels };
    PlanOp::Aggregate(Box::new(plan::Aggregate { op: aggregate.op, grouping, param, input }))
}

fn joined(binary: &BinaryExpr, lhs: Plan, rhs: Plan) -> PlanOp {
    let BinaryExpr { op, modifiers, .. } = binary;
    let vectors = lhs.kind() == plan::ValueType::Vector && rhs.kind() == plan::ValueType::Vector;
    let scalars = lhs.kind() == plan::ValueType::Scalar && rhs.kind() == plan::ValueType::Scalar;
    let matching = VectorMatching {
        on: modifiers.on,
        labels: modifiers.labels.clone(),
        // The text cannot say it; set operators always match so.
        cardinality: if op.is_set() { Cardinality::ManyToMany } else { modifiers.cardinality },
        include: modifiers.include.clone(),
        fill_left: modifiers.fill_left.map(BitFloat),
        fill_right: modifiers.fill_right.map(BitFloat),
    };
    PlanOp::Binary(Box::new(plan::Binary {
        op: op.plan(),
        return_bool: modifiers.return_bool,
        // Modifiers between a vector and a scalar have no effect, and would only make equal plans
        // different.
        matching: if vectors { matching } else { VectorMatching::default() },
        lhs,
        rhs,
        kind: if scalars { plan::ValueType::Scalar } else { plan::ValueType::Vector },
    }))
}
