//! Rules for `rate`, `increase` and `delta`: how far a counter is extrapolated towards its zero at
//! the left end of the window.
//!
//! 2.42 first moves the start towards the zero of the counter, then compares the distance with 1.1
//! average intervals. Prometheus 3 compares first, so that it never extrapolates by more than half
//! an interval where the series seems to begin.

use crate::answer::{Answer, Native, Row, Sample, When};
use crate::expr::{Expr, Shift};
use crate::rules::{equals, names};
use crate::shrink::{Case, Servers};

/// The rule for floats.
pub fn of_floats(case: &Case, servers: Servers) -> bool {
    !case.theirs.has_histograms() && explains(case, servers)
}

/// The rule for native histograms, for which 2.42 did not limit the extrapolation at the zero of
/// the counter.
pub fn of_histograms(case: &Case, servers: Servers) -> bool {
    case.theirs.has_histograms() && explains(case, servers)
}

/// Whether our response is Prometheus 3's formula over the samples that 2.42 has in the window.
fn explains(case: &Case, servers: Servers) -> bool {
    let (Expr::Call(name @ ("rate" | "increase" | "delta"), args), When::Instant(t)) =
        (&case.expr, case.when)
    else {
        return false;
    };
    let (range, shift) = window(&args[0]);
    let samples = servers.ask_theirs(&args[0], case.when);
    let end = shift.apply(t);
    let limits = WindowLimits { start: (end - range) as f64, end: end as f64 };
    let compute = |row: &Row| {
        let value = match row.points.first()?.1 {
            Sample::Histogram(_) => Sample::Histogram(scaled(name, row, limits, &case.theirs)?),
            _ => {
                let points: Vec<_> = row.points.iter().map(|(t, v)| (t * 1000.0, v.float())).collect();
                Sample::Float(extrapolate(name, &points, limits)?)
            }
        };
        Some(Row { labels: row.labels.clone(), points: vec![(t as f64 / 1000.0, value)] })
    };
    let Ok(mut data) = samples.result else { return false };
    data.kind = "vector".into();
    data.rows = data.rows.iter().filter_map(compute).collect();
    equals(case, &names::dropped(Answer { status: 200, result: Ok(data) }))
}

/// The edges of a window, ms.
#[derive(Copy, Clone)]
struct WindowLimits {
    start: f64,
    end: f64,
}

/// The first count of a window, and by how much it grows.
#[derive(Copy, Clone)]
struct CounterGrowth {
    first: f64,
    grown: f64,
}

/// The response of 2.42 for a native histogram, with the current factor.
fn scaled(name: &str, row: &Row, limits: WindowLimits, theirs: &Answer) -> Option<Native> {
    let mut labels = row.labels.clone();
    labels.remove("__name__");
    let Sample::Histogram(old) = &theirs.rows().iter().find(|r| r.labels == labels)?.points.first()?.1 else {
        return None;
    };
    let times: Vec<f64> = row.points.iter().map(|(t, _)| t * 1000.0).collect();
    let Sample::Histogram(first) = &row.points.first()?.1 else { return None };
    let before = factor(name, &times, limits, None);
    let now =
        factor(name, &times, limits, Some(CounterGrowth { first: first.count, grown: old.count / before }));
    let mut today = old.clone();
    today.scale(now / before);
    Some(today)
}

/// The length and the time modifiers of a window.
fn window(expr: &Expr) -> (i64, Shift) {
    match expr {
        Expr::Range(selector, range) => (*range, selector.shift),
        Expr::Subquery { range, shift, .. } => (*range, *shift),
        _ => (0, Shift::default()),
    }
}

/// Prometheus 3's formula for floats; times in ms.
fn extrapolate(name: &str, points: &[(f64, f64)], limits: WindowLimits) -> Option<f64> {
    let first = points.first()?;
    let last = points.last()?;
    if points.len() < 2 {
        return None;
    }
    let counter = name != "delta";
    let mut result = last.1 - first.1;
    for pair in points.windows(2).filter(|p| counter && p[1].1 < p[0].1) {
        result += pair[0].1;
    }
    let times: Vec<f64> = points.iter().map(|(t, _)| *t).collect();
    let counts = (counter && first.1 >= 0.0).then_some(CounterGrowth { first: first.1, grown: result });
    Some(result * factor(name, &times, limits, counts))
}

/// The factor of the raw increase, for samples at these times within these limits (ms); `counts`
/// is set if the series is a counter.
fn factor(name: &str, times: &[f64], limits: WindowLimits, counts: Option<CounterGrowth>) -> f64 {
    let WindowLimits { start, end } = limits;
    let first = times[0];
    let last = times[times.len() - 1];
    let mut before = (first - start) / 1000.0;
    let mut after = (end - last) / 1000.0;
    let sampled = (last - first) / 1000.0;
    let average = sampled / (times.len() - 1) as f64;
    if before >= average * 1.1 {
        before = average / 2.0;
    }
    if let Some(CounterGrowth { first, grown }) = counts.filter(|counts| counts.grown > 0.0) {
        before = f64::min(before, sampled * (first / grown));
    }
    if after >= average * 1.1 {
        after = average / 2.0;
    }
    let factor = (sampled + before + after) / sampled;
    if name == "rate" { factor / ((end - start) / 1000.0) } else { factor }
}

#[test]
fn the_formula_is_todays() {
    let window = WindowLimits { start: 0.0, end: 75_000.0 };
    let points = [(60_000.0, 10.0), (75_000.0, 40.0)];
    // The start is 4 intervals away: extrapolated by half an interval, or less if the zero is
    // nearer.
    assert_eq!(extrapolate("delta", &points, window), Some(45.0));
    assert_eq!(extrapolate("increase", &points, window), Some(40.0));
    assert_eq!(extrapolate("rate", &points, window), Some(30.0 * (20.0 / 15.0 / 75.0)));
    assert_eq!(extrapolate("rate", &points[..1], window), None);
}
