//! Rules for native histograms: how values within a bucket are estimated, and how far counts are
//! extrapolated.
//!
//! The responses of 2.42 to the arguments of a function contain the buckets; the result of
//! Prometheus 3 is computed from them.

use crate::answer::{Answer, Bucket, Native, Row, Sample};
use crate::expr::Expr;
use crate::rules::{equals, names};
use crate::shrink::{Case, Servers};

/// 2.42 distributed observations evenly within a bucket, Prometheus 3 evenly in the logarithm.
pub fn estimates(case: &Case, servers: Servers) -> bool {
    match &case.expr {
        Expr::Call("histogram_quantile", args) => {
            let Expr::Number(q) = args[0] else { return false };
            equals(case, &of_each(case, &args[1], servers, |h| quantile(q, h)))
        }
        Expr::Call("histogram_fraction", args) => {
            let (Expr::Number(low), Expr::Number(high)) = (&args[0], &args[1]) else { return false };
            equals(case, &of_each(case, &args[2], servers, |h| fraction(*low, *high, h)))
        }
        _ => false,
    }
}

/// 2.42 returned 0 for `avg`; the mean is its sum divided by its count.
pub fn mean(case: &Case, servers: Servers) -> bool {
    let Expr::Aggregate { op: "avg", .. } = case.expr else { return false };
    let ask = |name: &'static str| {
        let mut expr = case.expr.clone();
        if let Expr::Aggregate { op, .. } = &mut expr {
            *op = name;
        }
        servers.ask_theirs(&expr, case.when)
    };
    let mut sums = ask("sum");
    let counts = ask("count").steps();
    if !sums.has_histograms() {
        return false;
    }
    for row in sums.result.iter_mut().flat_map(|data| &mut data.rows) {
        for (t, sample) in &mut row.points {
            let step = counts.get(&((*t * 1000.0).round() as i64));
            let (Sample::Histogram(h), Some(count)) = (sample, step.and_then(|s| s.get(&row.labels))) else {
                return false;
            };
            h.scale(1.0 / count);
        }
    }
    equals(case, &sums)
}

/// The result of a function of each histogram that 2.42 returns for `inner`.
fn of_each(case: &Case, inner: &Expr, servers: Servers, function: impl Fn(&Native) -> f64) -> Answer {
    let mut answer = servers.ask_theirs(inner, case.when);
    if let Ok(data) = &mut answer.result {
        for row in &mut data.rows {
            only_histograms(row, &function);
        }
        data.rows.retain(|row| !row.points.is_empty());
    }
    names::dropped(answer)
}

fn only_histograms(row: &mut Row, function: &impl Fn(&Native) -> f64) {
    let value = |(t, sample): &(f64, Sample)| match sample {
        Sample::Histogram(h) => Some((*t, Sample::Float(function(h)))),
        _ => None,
    };
    row.points = row.points.iter().filter_map(value).collect();
}

/// The buckets as (lower, upper, count); the zero bucket ends at zero if there are no buckets on
/// its other side.
fn buckets(h: &Native) -> Vec<(f64, f64, f64)> {
    let zero = |lower: f64, upper: f64| lower <= 0.0 && upper >= 0.0;
    let negative = h.buckets.iter().any(|(_, l, u, _)| !zero(*l, *u) && *u <= 0.0);
    let positive = h.buckets.iter().any(|(_, l, u, _)| !zero(*l, *u) && *l >= 0.0);
    let fit = |(_, lower, upper, count): &Bucket| match zero(*lower, *upper) {
        true if positive && !negative => (0.0, *upper, *count),
        true if negative && !positive => (*lower, 0.0, *count),
        _ => (*lower, *upper, *count),
    };
    h.buckets.iter().map(fit).collect()
}

/// The share of a bucket that is below `v`, between 0 and 1.
fn share_below(v: f64, lower: f64, upper: f64) -> f64 {
    let logarithm = |x: f64| x.abs().log2();
    match () {
        () if v <= lower => 0.0,
        () if v >= upper => 1.0,
        () if lower <= 0.0 && upper >= 0.0 => (v - lower) / (upper - lower),
        () if lower > 0.0 => (logarithm(v) - logarithm(lower)) / (logarithm(upper) - logarithm(lower)),
        () => 1.0 - (logarithm(v) - logarithm(upper)) / (logarithm(lower) - logarithm(upper)),
    }
}

/// The value below which this share of a bucket lies.
fn value_at(share: f64, lower: f64, upper: f64) -> f64 {
    let between = |from: f64, to: f64, share: f64| {
        let from = from.abs().log2();
        let to = to.abs().log2();
        (from + (to - from) * share).exp2()
    };
    match () {
        () if lower <= 0.0 && upper >= 0.0 => lower + (upper - lower) * share,
        () if lower > 0.0 => between(lower, upper, share),
        () => -between(upper, lower, 1.0 - share),
    }
}

fn fraction(low: f64, high: f64, h: &Native) -> f64 {
    if h.count == 0.0 {
        return f64::NAN;
    }
    if low >= high {
        return 0.0;
    }
    let below =
        |v: f64| buckets(h).into_iter().map(|(l, u, count)| count * share_below(v, l, u)).sum::<f64>();
    (below(high).min(h.count) - below(low).min(h.count)) / h.count
}

fn quantile(q: f64, h: &Native) -> f64 {
    match () {
        () if q < 0.0 => return f64::NEG_INFINITY,
        () if q > 1.0 => return f64::INFINITY,
        () if q.is_nan() || h.count == 0.0 => return f64::NAN,
        () => {}
    }
    // Counts from the nearer end; `rank` is relative to that end.
    let mut buckets = buckets(h);
    let from_below = q < 0.5;
    let rank = if from_below { q } else { 1.0 - q } * h.count;
    if !from_below {
        buckets.reverse();
    }
    let mut count = 0.0;
    let found = buckets.iter().find(|bucket| {
        count += bucket.2;
        count >= rank
    });
    let Some((lower, upper, own)) = found.or(buckets.last()) else { return f64::NAN };
    let count = count.min(h.count);
    let share = if from_below { rank - (count - own) } else { count - rank } / own;
    value_at(share, *lower, *upper)
}

#[test]
fn estimates_are_todays() {
    let h = Native { count: 10.0, sum: 20.0, buckets: vec![(0, 1.0, 2.0, 4.0), (0, 2.0, 4.0, 6.0)] };
    assert_eq!(quantile(0.2, &h), 2f64.sqrt());
    assert_eq!(quantile(0.7, &h), 8f64.sqrt());
    assert_eq!(quantile(1.0, &h), 4.0);
    assert_eq!(fraction(2.0, 8f64.sqrt(), &h), 0.3);
    let zero = Native { count: 4.0, sum: 1.0, buckets: vec![(3, -0.5, 0.5, 3.0), (0, 0.5, 1.0, 1.0)] };
    assert_eq!(fraction(f64::NEG_INFINITY, 0.25, &zero), 0.375, "nothing is below zero");
}
