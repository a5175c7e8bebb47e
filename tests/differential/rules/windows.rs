//! Rules for functions of windows: rounding and overflow of means and variances, and windows at a
//! fixed time.

use crate::answer::{Answer, Sample, When};
use crate::expr::{Expr, Type};
use crate::rules::{equals, names, step_by_step};
use crate::shrink::{Case, Servers};

/// In range queries and subqueries, 2.42 moved a window with `@` from step to step if another
/// parameter of the function, or the function itself, depends on the time. The response to each
/// single step is correct.
pub fn pinned(case: &Case, servers: Servers) -> bool {
    let fixed = |window: &Expr| match window {
        Expr::Range(selector, _) => selector.shift.at.is_some(),
        Expr::Subquery { shift, .. } => shift.at.is_some(),
        _ => false,
    };
    let moves = |expr: &Expr| match expr {
        Expr::Call("predict_linear", args) => fixed(&args[0]),
        Expr::Call(_, args) => {
            args.iter().any(fixed)
                && args.iter().any(|a| a.kind() == Type::Scalar && !matches!(a, Expr::Number(_)))
        }
        _ => false,
    };
    matches!(case.when, When::Range(..))
        && case.expr.any(&moves)
        && equals(case, &step_by_step(case, servers))
}

/// If a compensated sum overflowed, the compensation of 2.42 became NaN.
pub fn variance(case: &Case, servers: Servers) -> bool {
    match case.expr {
        Expr::Call("stdvar_over_time", _) => equals(case, &over_window(case, servers, variance_of)),
        Expr::Call("stddev_over_time", _) => {
            equals(case, &over_window(case, servers, |values| variance_of(values).sqrt()))
        }
        _ => false,
    }
}

/// 2.42 updated the mean value by value; Prometheus 3 divides the sum, unless it overflows.
pub fn mean(case: &Case, servers: Servers) -> bool {
    matches!(case.expr, Expr::Call("avg_over_time", _)) && equals(case, &over_window(case, servers, mean_of))
}

/// A function of a window, computed from the samples that 2.42 has in the window.
fn over_window(case: &Case, servers: Servers, function: impl Fn(&[f64]) -> f64) -> Answer {
    let (Expr::Call(_, args), When::Instant(t)) = (&case.expr, case.when) else { return case.theirs.clone() };
    let mut samples = servers.ask_theirs(&args[0], case.when);
    if let Ok(data) = &mut samples.result {
        data.kind = "vector".into();
        for row in &mut data.rows {
            let values: Vec<f64> = row.points.iter().map(|(_, v)| v.float()).collect();
            row.points = vec![(t as f64 / 1000.0, Sample::Float(function(&values)))];
        }
    }
    names::dropped(samples)
}

/// Prometheus 3's mean: of a compensated sum, or updated value by value once the sum overflows.
fn mean_of(values: &[f64]) -> f64 {
    let mut sum = CompensatedSum { total: values[0], lost: 0.0 };
    for at in 1..values.len() {
        let next = add(values[at], sum);
        if next.total.is_infinite() {
            let count = at as f64;
            let mean = CompensatedSum { total: sum.total / count, lost: sum.lost / count };
            return moving_mean(mean, at, values);
        }
        sum = next;
    }
    let count = values.len() as f64;
    sum.total / count + sum.lost / count
}

fn moving_mean(mut mean: CompensatedSum, from: usize, values: &[f64]) -> f64 {
    for (at, value) in values.iter().enumerate().skip(from) {
        let count = (at + 1) as f64;
        let share = (count - 1.0) / count;
        let rest = CompensatedSum { total: share * mean.total, lost: share * mean.lost };
        mean = add(value / count, rest);
    }
    mean.total + mean.lost
}

/// Prometheus 3's variance: Welford's algorithm, with a compensated mean and sum of squares.
fn variance_of(values: &[f64]) -> f64 {
    let mut mean = CompensatedSum::default();
    let mut squares = CompensatedSum::default();
    let mut count = 0.0;
    for value in values {
        count += 1.0;
        let delta = value - (mean.total + mean.lost);
        mean = add(delta / count, mean);
        squares = add(delta * (value - (mean.total + mean.lost)), squares);
    }
    (squares.total + squares.lost) / count
}

/// A sum, and what rounding has taken from it: zero once the sum is infinite.
#[derive(Copy, Clone, Default)]
struct CompensatedSum {
    total: f64,
    lost: f64,
}

/// Compensated addition.
fn add(value: f64, to: CompensatedSum) -> CompensatedSum {
    let CompensatedSum { total: sum, lost } = to;
    let total = sum + value;
    let lost = if total.is_infinite() {
        0.0
    } else if sum.abs() >= value.abs() {
        lost + ((sum - total) + value)
    } else {
        lost + ((value - total) + sum)
    };
    CompensatedSum { total, lost }
}

#[test]
fn overflow_is_infinite() {
    assert_eq!(variance_of(&[1.0, 2.0, 3.0]), 2.0 / 3.0);
    assert_eq!(variance_of(&[1e300, -1e300]), f64::INFINITY);
    assert_eq!(mean_of(&[1e308, 1e308]), 1e308);
    assert_eq!(mean_of(&[1e300, 0.5, -1e300, 0.5]), 0.25);
    assert_eq!(variance_of(&[0.1, 0.1, 0.1]), 0.0);
}
