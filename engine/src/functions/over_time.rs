//! `…_over_time`: one value for a whole window.
//!
//! Each entry of the table has a kernel and a slow reference, with which tests compare it, and says
//! how its value is updated while the window slides: from panes, from the two ends, or not at all.
//! Order statistics are in [`super::quantile`], windows with native histograms in
//! [`super::mixed_over_time`].

use super::panes::{self, PaneFactory};
use super::sliding_extremes::{self, BatchKernel};
use super::summation::{Mean, Neumaier, reference_step};
use super::window::MixedFn;
use super::{Function, Kernel, Tolerance, Window, WindowKernel, WindowMethod, mixed_over_time as mixed};
use crate::types::ValueType::{Matrix, Vector};
use storage::model::TimeMs;

/// A function of floats that is computed from panes: runs of rows that are summed up once. `exact`:
/// the result does not depend on the order in which panes are combined.
const fn paned(
    name: &'static str,
    eval: fn(&Window) -> f64,
    reference: fn(&Window) -> f64,
    make: PaneFactory,
    exact: bool,
) -> Function {
    let kernel = WindowKernel::floats(eval, reference).panes(make, exact);
    Function::new(name, &[Matrix], Vector, Kernel::Window(kernel))
}

/// Like `paned`, with a kernel for many windows at once.
const fn sliding(
    name: &'static str,
    eval: fn(&Window) -> f64,
    reference: fn(&Window) -> f64,
    slide: BatchKernel,
    make: PaneFactory,
) -> Function {
    Function::new(
        name,
        &[Matrix],
        Vector,
        Kernel::Window(WindowKernel::floats(eval, reference).batch_kernel(slide).panes(make, true)),
    )
}

/// A function whose windows may have native histograms: kernel and slow reference for windows of
/// floats, and for windows of any kind. `histograms` says in the documentation which it accepts.
const fn any_kind(
    name: &'static str,
    floats: [fn(&Window) -> f64; 2],
    histograms: &'static str,
    mixed: [MixedFn; 2],
    method: WindowMethod,
) -> Function {
    let kernel = WindowKernel::floats(floats[0], floats[1]).mixed_kernel(histograms, mixed[0], mixed[1]);
    Function::new(name, &[Matrix], Vector, Kernel::Window(WindowKernel { method, ..kernel }))
}

/// The difference by another order of additions, see [`panes::REORDER_TOLERANCE`].
const REORDER_TOLERANCE: Tolerance = Tolerance {
    relative: panes::REORDER_TOLERANCE,
    least: 0.0,
    why: "windows of 64 samples and more are added up pane by pane, in another order, and round differently",
};

const ENDPOINTS: WindowMethod = WindowMethod::Endpoints { pairs: false };

const fn reordered(make: PaneFactory) -> WindowMethod {
    WindowMethod::Panes { make, exact: false }
}

// Texts of the column "native histograms" in docs/promql-functions.md.
const NOT_MIXED: &str = "yes, but not mixed with floats";
const ALSO_MIXED: &str = "yes, also mixed with floats";

/// The entries of these functions in the table of functions.
pub(super) static ENTRIES: &[Function] = &[
    any_kind(
        "avg_over_time",
        [avg, avg_reference],
        NOT_MIXED,
        [mixed::avg, mixed::avg_reference],
        reordered(panes::pane_state::<panes::Average>),
    )
    .doc("Mean of the values in the window.", "avg_over_time(cpu_temp_celsius[1h])")
    .tolerance(REORDER_TOLERANCE),
    any_kind(
        "count_over_time",
        [count, count_reference],
        ALSO_MIXED,
        [mixed::count, mixed::count_reference],
        ENDPOINTS,
    )
    .doc("Number of samples in the window.", "count_over_time(up[1h])"),
    any_kind(
        "first_over_time",
        [first, first_reference],
        ALSO_MIXED,
        [mixed::first, mixed::first_reference],
        ENDPOINTS,
    )
    .doc("Oldest value in the window.", "first_over_time(up[1h])")
    .keeps_name(),
    any_kind(
        "last_over_time",
        [last, last_reference],
        ALSO_MIXED,
        [mixed::last, mixed::last_reference],
        ENDPOINTS,
    )
    .doc("Newest value in the window, even if the series has ended since.", "last_over_time(up[1h])")
    .keeps_name(),
    sliding("max_over_time", max, max_reference, sliding_extremes::max, panes::pane_state::<panes::MaxValue>)
        .doc("Largest value in the window.", "max_over_time(cpu_temp_celsius[1h])"),
    sliding("min_over_time", min, min_reference, sliding_extremes::min, panes::pane_state::<panes::MinValue>)
        .doc("Smallest value in the window.", "min_over_time(cpu_temp_celsius[1h])"),
    any_kind(
        "present_over_time",
        [present, present_reference],
        ALSO_MIXED,
        [mixed::present, mixed::present_reference],
        ENDPOINTS,
    )
    .doc("1 if there is any sample in the window.", "present_over_time(up[1h])"),
    paned("stddev_over_time", stddev, stddev_reference, panes::pane_state::<panes::Variance<true>>, false)
        .doc(
            "Population standard deviation of the values in the window.",
            "stddev_over_time(cpu_temp_celsius[1h])",
        )
        .tolerance(REORDER_TOLERANCE),
    paned("stdvar_over_time", stdvar, stdvar_reference, panes::pane_state::<panes::Variance<false>>, false)
        .doc("Population variance of the values in the window.", "stdvar_over_time(cpu_temp_celsius[1h])")
        .tolerance(REORDER_TOLERANCE),
    any_kind(
        "sum_over_time",
        [sum, sum_reference],
        NOT_MIXED,
        [mixed::sum, mixed::sum_reference],
        reordered(panes::pane_state::<panes::Sum>),
    )
    .doc("Sum of the values in the window.", "sum_over_time(batch_items[1h])")
    .tolerance(REORDER_TOLERANCE),
    any_kind(
        "ts_of_first_over_time",
        [ts_of_first, ts_of_first_reference],
        ALSO_MIXED,
        [mixed::ts_of_first, mixed::ts_of_first_reference],
        ENDPOINTS,
    )
    .doc("Time of the oldest sample in the window, in seconds.", "ts_of_first_over_time(up[1h])")
    .experimental(),
    any_kind(
        "ts_of_last_over_time",
        [ts_of_last, ts_of_last_reference],
        ALSO_MIXED,
        [mixed::ts_of_last, mixed::ts_of_last_reference],
        ENDPOINTS,
    )
    .doc("Time of the newest sample in the window, in seconds.", "ts_of_last_over_time(up[1h])")
    .experimental(),
    paned(
        "ts_of_max_over_time",
        ts_of_max,
        ts_of_max_reference,
        panes::pane_state::<panes::TimeOfExtreme<true>>,
        true,
    )
    .doc(
        "Time of the largest value in the window, the last of equals, in seconds.",
        "ts_of_max_over_time(cpu_temp_celsius[1h])",
    )
    .experimental(),
    paned(
        "ts_of_min_over_time",
        ts_of_min,
        ts_of_min_reference,
        panes::pane_state::<panes::TimeOfExtreme<false>>,
        true,
    )
    .doc(
        "Time of the smallest value in the window, the last of equals, in seconds.",
        "ts_of_min_over_time(cpu_temp_celsius[1h])",
    )
    .experimental(),
];

fn seconds(t: TimeMs) -> f64 {
    t as f64 / 1000.0
}

fn sum(w: &Window) -> f64 {
    let mut sum = Neumaier::default();
    for v in w.vs {
        sum.add(*v);
    }
    sum.value()
}

fn sum_reference(w: &Window) -> f64 {
    let (sum, c) = w.vs.iter().fold((0.0, 0.0), |(sum, c), v| reference_step(sum, c, *v));
    // With an infinite sum the correction is NaN.
    if sum.is_infinite() { sum } else { sum + c }
}

fn avg(w: &Window) -> f64 {
    // Begins with the first value and not with 0: a mean of `-0` must stay `-0`, as in Prometheus.
    let mut mean = Mean::from_first(w.vs[0]);
    for v in &w.vs[1..] {
        mean.add(*v);
    }
    mean.value()
}

/// Finds where the sum first overflows, and continues from there with the incremental mean.
fn avg_reference(w: &Window) -> f64 {
    let mut sum = w.vs[0];
    let mut c = 0.0;
    let mut n = 1;
    while n < w.vs.len() {
        let next = reference_step(sum, c, w.vs[n]);
        if next.0.is_infinite() {
            break;
        }
        (sum, c) = next;
        n += 1;
    }
    if n == w.vs.len() {
        return sum / n as f64 + c / n as f64;
    }
    let mut mean = sum / n as f64;
    let mut c = c / n as f64;
    for (i, v) in w.vs.iter().enumerate().skip(n) {
        let before = i as f64;
        let count = (i + 1) as f64;
        let share = before / count;
        (mean, c) = reference_step(share * mean, share * c, v / count);
    }
    mean + c
}

fn count(w: &Window) -> f64 {
    w.len() as f64
}

fn count_reference(w: &Window) -> f64 {
    // References compute in another way than the kernels do, so that both do not have the same
    // fault.
    w.ts.iter().map(|_| 1.0).sum()
}

fn present(_: &Window) -> f64 {
    1.0
}

fn present_reference(w: &Window) -> f64 {
    w.ts.iter().zip(w.vs).map(|_| 1.0).fold(0.0, f64::max)
}

fn first(w: &Window) -> f64 {
    w.vs[0]
}

fn first_reference(w: &Window) -> f64 {
    w.vs.iter().rev().fold(0.0, |_, v| *v)
}

fn last(w: &Window) -> f64 {
    w.vs[w.vs.len() - 1]
}

fn last_reference(w: &Window) -> f64 {
    w.vs.iter().fold(0.0, |_, v| *v)
}

fn ts_of_first(w: &Window) -> f64 {
    seconds(w.ts[0])
}

fn ts_of_first_reference(w: &Window) -> f64 {
    w.ts.iter().min().map_or(0.0, |t| *t as f64 / 1000.0)
}

fn ts_of_last(w: &Window) -> f64 {
    seconds(w.ts[w.ts.len() - 1])
}

fn ts_of_last_reference(w: &Window) -> f64 {
    w.ts.iter().max().map_or(0.0, |t| *t as f64 / 1000.0)
}

/// Of equal values the first (which matters for ±0); NaN only if all are NaN.
fn max(w: &Window) -> f64 {
    // Not `f64::max`, which may return either zero of `0` and `-0`, and skips NaN also where all
    // are NaN and their bits matter.
    w.vs[1..].iter().fold(w.vs[0], |best, v| if *v > best || best.is_nan() { *v } else { best })
}

fn min(w: &Window) -> f64 {
    w.vs[1..].iter().fold(w.vs[0], |best, v| if *v < best || best.is_nan() { *v } else { best })
}

/// All values that are not NaN, with their times; all values if every one is NaN.
fn numbers(w: &Window) -> Vec<(TimeMs, f64)> {
    let all = || w.ts.iter().copied().zip(w.vs.iter().copied());
    let numbers: Vec<_> = all().filter(|(_, v)| !v.is_nan()).collect();
    if numbers.is_empty() { all().collect() } else { numbers }
}

/// The value that no other is `better` than: the earliest or the latest of several. Of NaNs the
/// latest.
fn best(w: &Window, better: fn(f64, f64) -> bool, latest: bool) -> (TimeMs, f64) {
    let numbers = numbers(w);
    let unbeaten: Vec<_> =
        numbers.iter().filter(|(_, v)| !numbers.iter().any(|(_, u)| better(*u, *v))).collect();
    let nan = unbeaten[0].1.is_nan();
    *unbeaten[if latest || nan { unbeaten.len() - 1 } else { 0 }]
}

fn max_reference(w: &Window) -> f64 {
    best(w, |a, b| a > b, false).1
}

fn min_reference(w: &Window) -> f64 {
    best(w, |a, b| a < b, false).1
}

/// Of equal values the last, and the last sample if all are NaN.
fn ts_of_max(w: &Window) -> f64 {
    let mut at = 0;
    for (i, v) in w.vs.iter().enumerate() {
        // `>=`, unlike in `max`: of equal values the last one counts.
        if *v >= w.vs[at] || w.vs[at].is_nan() {
            at = i;
        }
    }
    seconds(w.ts[at])
}

fn ts_of_min(w: &Window) -> f64 {
    let mut at = 0;
    for (i, v) in w.vs.iter().enumerate() {
        if *v <= w.vs[at] || w.vs[at].is_nan() {
            at = i;
        }
    }
    seconds(w.ts[at])
}

fn ts_of_max_reference(w: &Window) -> f64 {
    seconds(best(w, |a, b| a > b, true).0)
}

fn ts_of_min_reference(w: &Window) -> f64 {
    seconds(best(w, |a, b| a < b, true).0)
}

/// Welford's recurrence with compensated mean and sum of squares; exactly 0 if all values are
/// equal.
fn stdvar(w: &Window) -> f64 {
    let mut mean = Neumaier::default();
    let mut squares = Neumaier::default();
    let mut n = 0.0;
    // The order of operations is Prometheus': another one would differ in the last bits.
    for v in w.vs {
        n += 1.0;
        let delta = v - (mean.sum + mean.c);
        mean.add(delta / n);
        squares.add(delta * (v - (mean.sum + mean.c)));
    }
    (squares.sum + squares.c) / n
}

fn stddev(w: &Window) -> f64 {
    stdvar(w).sqrt()
}

fn stdvar_reference(w: &Window) -> f64 {
    let start = ((0.0, 0.0), (0.0, 0.0));
    let (_, squares) = (1..).zip(w.vs).fold(start, |(mean, squares), (n, v)| {
        let before = mean.0 + mean.1;
        let mean = reference_step(mean.0, mean.1, (v - before) / f64::from(n));
        let after = mean.0 + mean.1;
        (mean, reference_step(squares.0, squares.1, (v - before) * (v - after)))
    });
    (squares.0 + squares.1) / w.vs.len() as f64
}

fn stddev_reference(w: &Window) -> f64 {
    f64::sqrt(stdvar_reference(w))
}
