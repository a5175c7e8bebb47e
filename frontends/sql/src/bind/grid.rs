//! Finds the evaluation times of a query: from conditions on the column `ts`, and from the time
//! bucket in its `GROUP BY`.
//!
//! The result is [`Times`]: now, or a [`Grid`] like that of a range query (start, end, step). A
//! time range of a metric without a step is refused, because any step would be a guess. Raw samples
//! (`samples.…`) have the times at which they were stored.

use super::condition::split;
use super::expr::comparison;
use crate::error::SqlError;
use crate::limits::GRID_POINTS;
use crate::relations::Relation;
use crate::values;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator, expr::ScalarFunction};
use engine::plan::BinaryOp;
use storage::model::TimeMs;

/// Evaluation times: `start, start + step, … ≤ end`, ms.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Grid {
    /// The first.
    pub start: TimeMs,
    /// The end; no time is later.
    pub end: TimeMs,
    /// The step, ms; more than 0.
    pub step: i64,
}

/// The evaluation times of a query.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Times {
    /// None: the time of the request.
    Now,
    /// `ts = …`
    At(TimeMs),
    /// Between two times, in buckets.
    Grid(Grid),
}

/// The bounds from conditions on `ts`, and the step from a bucket, ms.
#[derive(Default, PartialEq)]
struct TimeConditions {
    from: Option<TimeMs>,
    to: Option<TimeMs>,
    at: Option<TimeMs>,
    step: Option<i64>,
    /// There is a condition on `ts` whose time is not understood.
    is_unclear: bool,
}

/// The evaluation times of the metrics in `plan`. `now` is the time of the request.
pub(crate) fn find(plan: &LogicalPlan, now: TimeMs) -> Result<Times, SqlError> {
    let mut found = TimeConditions::default();
    let walked = plan.apply_with_subqueries(|node| {
        // In all of the plan, since metrics in subqueries are evaluated at the same times. But a
        // condition on the time of raw samples says nothing about evaluation times.
        if reads_metrics(node) {
            if let LogicalPlan::Filter(filter) = node {
                for part in split(&filter.predicate) {
                    found.is_unclear |= is_unclear(part, now);
                    bound(&mut found, part, now);
                }
            }
            for expr in node.expressions() {
                let _ = expr.apply(|part| {
                    if let Some(step) = bucket(part) {
                        // The first bucket decides: later ones are usually the same expression in
                        // GROUP BY and ORDER BY.
                        found.step.get_or_insert(step);
                    }
                    Ok(TreeNodeRecursion::Continue)
                });
            }
        }
        Ok(TreeNodeRecursion::Continue)
    });
    walked.map_err(|e| SqlError::from_datafusion(e, ""))?;
    // Without the bound the metric would be evaluated at other times, and rows would be missing.
    if found.is_unclear {
        return Err(SqlError::bad("a condition on ts compares it with a time that is not understood")
            .hint("write a time, or now() plus or minus an interval, also in date_trunc"));
    }
    // A single time needs no step, so other bounds are not looked at.
    if let Some(at) = found.at {
        return Ok(Times::At(at));
    }
    match (found.from, found.to, found.step) {
        (None, None, _) => Ok(Times::Now),
        (from, to, Some(step)) => grid(from, to.unwrap_or(now), step),
        _ => Err(SqlError::bad("a condition on ts needs a step: at which times is the metric evaluated?")
            .hint("group by date_bin('1 minute', ts), or ask for the raw samples: FROM samples.<metric>")),
    }
}

fn grid(from: Option<TimeMs>, end: TimeMs, step: i64) -> Result<Times, SqlError> {
    let Some(from) = from else {
        return Err(SqlError::bad("a condition on ts has an end and no begin").hint("add AND ts >= …"));
    };
    // The multiples of the step inside: buckets begin there.
    // Rounded up, also before 1970 (`div_euclid`): the multiple below would be outside of the
    // condition.
    let start = from.div_euclid(step) * step + if from.rem_euclid(step) == 0 { 0 } else { step };
    if (end - start) / step >= GRID_POINTS {
        let error = format!("more than {GRID_POINTS} steps between the two times");
        return Err(SqlError::bad(error).hint("take a longer step, or a shorter time"));
    }
    Ok(Times::Grid(Grid { start, end, step }))
}

/// Whether a node reads metrics, and no raw samples: their times are others.
fn reads_metrics(node: &LogicalPlan) -> bool {
    let mut metrics = false;
    let _ = node.apply_with_subqueries(|inner| {
        if let LogicalPlan::TableScan(scan) = inner
            && let Some(relation) = Relation::of_source(scan.source.as_ref())
        {
            metrics |= relation.is_of_metric();
        }
        Ok(TreeNodeRecursion::Continue)
    });
    metrics
}

/// Whether a condition bounds the evaluation times, as [`find`] reads it.
pub(super) fn is_bound(part: &Expr) -> bool {
    let mut found = TimeConditions::default();
    bound(&mut found, part, 0);
    match part {
        Expr::Between(_) => found.from.is_some() && found.to.is_some(),
        _ => found != TimeConditions::default(),
    }
}

/// Whether a condition compares `ts` with a time that is the same for all rows, and [`moment`] does
/// not know it. Parameters that have no value yet are not looked at.
fn is_unclear(part: &Expr, now: TimeMs) -> bool {
    let is_unknown =
        |column: &Expr, other: &Expr| is_ts(column) && moment(other, now).is_none() && is_computed(other);
    match part {
        Expr::Between(between) => {
            is_unknown(&between.expr, &between.low) || is_unknown(&between.expr, &between.high)
        }
        Expr::BinaryExpr(binary) if comparison(binary.op).is_some() => {
            is_unknown(&binary.left, &binary.right) || is_unknown(&binary.right, &binary.left)
        }
        _ => false,
    }
}

/// Whether an expression computes something of literals alone.
fn is_computed(expr: &Expr) -> bool {
    let mut is_of_literals = true;
    let mut computes = false;
    let _ = expr.apply(|part| {
        computes |= matches!(part, Expr::BinaryExpr(_) | Expr::ScalarFunction(_) | Expr::Case(_));
        is_of_literals &= !matches!(
            part,
            Expr::Column(_)
                | Expr::OuterReferenceColumn(..)
                | Expr::Placeholder(_)
                | Expr::ScalarSubquery(_)
                | Expr::AggregateFunction(_)
                | Expr::WindowFunction(_)
        );
        Ok(TreeNodeRecursion::Continue)
    });
    computes && is_of_literals
}

fn is_ts(expr: &Expr) -> bool {
    match expr {
        Expr::Column(column) => column.name == "ts",
        Expr::Cast(cast) => is_ts(&cast.expr),
        _ => false,
    }
}

/// Whether it is `extract(epoch FROM ts)`.
fn is_epoch(expr: &Expr) -> bool {
    match expr {
        Expr::ScalarFunction(part) => part.name() == "date_part" && part.args.iter().any(is_ts),
        Expr::Cast(cast) => is_epoch(&cast.expr),
        _ => false,
    }
}

/// A moment that `column` is compared with.
fn compared_with(column: &Expr, other: &Expr, now: TimeMs) -> Option<TimeMs> {
    // As Grafana's macros for seconds since 1970 write it.
    if is_epoch(column) {
        return values::number(other).map(|seconds| (seconds * 1000.0) as TimeMs);
    }
    if is_ts(column) { moment(other, now) } else { None }
}

/// A literal time, or `now()` plus or minus an interval, also cut to its hour, day, …, as Metabase
/// writes it.
fn moment(expr: &Expr, now: TimeMs) -> Option<TimeMs> {
    match expr {
        Expr::ScalarFunction(function) if function.name() == "now" => Some(now),
        Expr::ScalarFunction(ScalarFunction { func, args }) if func.name() == "date_trunc" => {
            let [unit, time] = args.as_slice() else { return None };
            values::truncated(moment(time, now)?, &values::text(unit)?)
        }
        Expr::Cast(cast) if matches!(cast.field.data_type(), DataType::Date32 | DataType::Date64) => {
            values::truncated(moment(&cast.expr, now)?, "day")
        }
        Expr::Cast(cast) => moment(&cast.expr, now),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Minus, right }) => {
            Some(moment(left, now)? - values::duration(right)?)
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Plus, right }) => {
            Some(moment(left, now)? + values::duration(right)?)
        }
        other => values::time(other),
    }
}

/// Adds the bound that a condition sets on `ts`.
fn bound(found: &mut TimeConditions, part: &Expr, now: TimeMs) {
    match part {
        Expr::Between(between) if !between.negated => {
            found.from = compared_with(&between.expr, &between.low, now).or(found.from);
            found.to = compared_with(&between.expr, &between.high, now).or(found.to);
        }
        Expr::BinaryExpr(binary) => {
            let turned = is_ts(&binary.right) || is_epoch(&binary.right);
            let (column, other) =
                if turned { (&binary.right, &binary.left) } else { (&binary.left, &binary.right) };
            let t = compared_with(column, other, now);
            let (Some(op), Some(t)) = (comparison(binary.op), t) else { return };
            match (op, turned) {
                (BinaryOp::Eq, _) => found.at = Some(t),
                (BinaryOp::Ge, false) | (BinaryOp::Le, true) => found.from = Some(t),
                // Times are whole milliseconds, so `>` is `>=` of the next.
                (BinaryOp::Gt, false) | (BinaryOp::Lt, true) => found.from = Some(t + 1),
                (BinaryOp::Le, false) | (BinaryOp::Ge, true) => found.to = Some(t),
                (BinaryOp::Lt, false) | (BinaryOp::Gt, true) => found.to = Some(t - 1),
                _ => {}
            }
        }
        _ => {}
    }
}

/// The step of a bucket of `ts`: `date_bin`, `time_bucket`, `date_trunc`, or what Grafana writes:
/// `floor(extract(epoch from ts)/60)*60`.
fn bucket(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::ScalarFunction(ScalarFunction { func, args }) => {
            let reads_ts = args.iter().any(is_ts);
            match (func.name(), args.as_slice()) {
                ("date_bin" | "time_bucket", [step, ..]) if reads_ts => {
                    values::duration(step).filter(|ms| *ms > 0)
                }
                ("date_trunc", [unit, _]) if reads_ts => match values::text(unit)?.as_str() {
                    "second" => Some(1_000),
                    "minute" => Some(60_000),
                    "hour" => Some(3_600_000),
                    "day" => Some(86_400_000),
                    _ => None,
                },
                _ => None,
            }
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Multiply, right }) => {
            let Expr::ScalarFunction(floor) = left.as_ref() else { return None };
            let [Expr::BinaryExpr(BinaryExpr { left: epoch, op: Operator::Divide, right: by })] =
                floor.args.as_slice()
            else {
                return None;
            };
            let seconds = values::number(by)?;
            (floor.name() == "floor" && is_epoch(epoch) && values::number(right)? == seconds && seconds > 0.0)
                .then_some((seconds * 1000.0) as i64)
        }
        _ => None,
    }
}
