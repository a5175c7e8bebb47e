//! The variants of an instant query: as written, and evaluated at other times with `@` on every
//! selector.
//!
//! If every selector has an `@`, the answer is the same at every evaluation time, unless a function
//! reads that time itself. Prometheus' test runner uses the same variants.

use crate::ast::{AtModifier, Expr, ExprKind, TimeModifiers};
use crate::{PromqlOptions, parse, printer};
use engine::functions::{Function, Kernel, OperatorFunction, TimeDependence, lookup};
use std::sync::LazyLock;
use storage::model::TimeMs;

/// A query and its evaluation time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct QueryVariant {
    pub expr: String,
    pub t: TimeMs,
}

/// The variants that must all have the answer of `expr` at `t`.
pub(super) fn questions(expr: &str, t: TimeMs) -> Vec<QueryVariant> {
    let mut questions = vec![QueryVariant { expr: expr.to_owned(), t }];
    // A query that cannot be parsed has no other variant.
    if let Ok(mut parsed) = parse(expr, &PromqlOptions::all())
        && pin(&mut parsed, t)
    {
        let pinned = printer::print(&parsed);
        let times = if t == 0 { vec![-1_000, 0, 1_000] } else { vec![-10 * t, 0, t / 5, t, 10 * t] };
        questions.extend(times.into_iter().map(|t| QueryVariant { expr: pinned.clone(), t }));
    }
    questions
}

/// Whether `expr` reads the time range of its query, so that a range query has another answer.
pub(super) fn reads_query_range(expr: &str) -> bool {
    static CALLS: LazyLock<Option<regex::Regex>> =
        LazyLock::new(|| regex::Regex::new(r"(start|end|range|step)\(\)").ok());
    CALLS.as_ref().is_some_and(|calls| calls.is_match(expr))
}

/// Adds `@ t` wherever there is no `@` yet; `false`: a function still reads the evaluation time.
fn pin(expr: &mut Expr, t: TimeMs) -> bool {
    match &mut *expr.kind {
        ExprKind::Number { .. } | ExprKind::Text(_) => true,
        ExprKind::Vector(selector) | ExprKind::Matrix { selector, .. } => {
            at(&mut selector.when, t);
            true
        }
        // The inner expression of a subquery with `@` is evaluated at the subquery's times.
        ExprKind::Subquery { when, .. } => {
            at(when, t);
            true
        }
        ExprKind::Call { function, args } => {
            let steady = lookup(function).is_some_and(|function| !depends_on_time(function));
            args.iter_mut().fold(steady, |steady, arg| pin(arg, t) && steady)
        }
        ExprKind::Aggregate(aggregate) => {
            let param = aggregate.param.as_mut().is_none_or(|param| pin(param, t));
            pin(&mut aggregate.inner, t) && param
        }
        ExprKind::Binary(binary) => {
            let lhs = pin(&mut binary.lhs, t);
            pin(&mut binary.rhs, t) && lhs
        }
        ExprKind::Unary { inner, .. } | ExprKind::Paren(inner) => pin(inner, t),
    }
}

fn at(when: &mut TimeModifiers, t: TimeMs) {
    when.at.get_or_insert(AtModifier::Time(t));
}

/// Whether the answer of a function depends on the evaluation time even if its arguments do not.
fn depends_on_time(function: &Function) -> bool {
    match function.kernel {
        // `pi()` does not, but it is not worth a special case.
        Kernel::Clock(_) | Kernel::Query(_) | Kernel::MapOrClock(_) => true,
        Kernel::Operator(OperatorFunction::Timestamp | OperatorFunction::StartTimestamp) => true,
        Kernel::Window(window) => matches!(window.time_dependence, TimeDependence::Linear(_)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pinned(expr: &str) -> Option<String> {
        questions(expr, 60_000).get(1).map(|question| question.expr.clone())
    }

    #[test]
    fn selectors_and_subqueries_are_pinned_once() {
        for (expr, wanted) in [
            ("up", "up @ 60.000"),
            ("sum by (a) (rate(x[5m] offset 1m)) > 1", "sum by (a) (rate(x[5m] @ 60.000 offset 1m)) > 1"),
            ("max_over_time(rate(x[5m])[1h:])", "max_over_time(rate(x[5m])[1h:] @ 60.000)"),
            ("x @ 5 + y @ end()", "x @ 5.000 + y @ end()"),
            ("topk(scalar(a), b)", "topk(scalar(a @ 60.000), b @ 60.000)"),
            ("-(x)", "-(x @ 60.000)"),
            ("1 + 1", "1 + 1"),
            ("max_over_time(timestamp(x)[5m:])", "max_over_time(timestamp(x)[5m:] @ 60.000)"),
        ] {
            assert_eq!(pinned(expr).as_deref(), Some(wanted), "{expr}");
        }
    }

    #[test]
    fn what_looks_at_the_time_is_asked_once() {
        for expr in [
            "time()",
            "x > time()",
            "hour(x)",
            "predict_linear(x[5m], 60)",
            "timestamp(x)",
            "step() + 1",
            "x +",
        ] {
            assert_eq!(questions(expr, 60_000).len(), 1, "{expr}");
        }
        let times: Vec<TimeMs> = questions("x", 60_000).iter().map(|q| q.t).collect();
        assert_eq!(times, [60_000, -600_000, 0, 12_000, 60_000, 600_000]);
        assert_eq!(questions("x", 0).iter().map(|q| q.t).collect::<Vec<_>>(), [0, -1_000, 0, 1_000]);
        assert!(reads_query_range("x @ start()") && !reads_query_range("restart"));
    }
}
