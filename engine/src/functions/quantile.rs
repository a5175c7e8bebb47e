//! Order statistics: Prometheus' quantile formula, for window functions and for the `quantile`
//! operator. In views, long windows keep their values sorted ([`super::sorted_window`]).

use super::sorted_window::SortedWindow;
use super::{Function, Kernel, NAN, Window, WindowKernel};
use crate::annotations::texts::invalid_quantile;
use crate::annotations::{AnnotationTarget, StepAnnotation};
use crate::types::ValueType::{Matrix, Scalar, Vector};
use std::cmp::Ordering;

/// The entries of these functions in the table of functions.
pub(super) static ENTRIES: &[Function] = &[
    Function::new(
        "mad_over_time",
        &[Matrix],
        Vector,
        Kernel::Window(WindowKernel::floats(mad, mad_reference).sorted(mad_of_sorted)),
    )
    .doc(
        "Median absolute deviation of the values in the window from their median.",
        "mad_over_time(latency_seconds[1h])",
    )
    .experimental(),
    Function::new(
        "quantile_over_time",
        &[Scalar, Matrix],
        Vector,
        Kernel::Window(WindowKernel::floats(over_time, over_time_reference).sorted(over_time_of_sorted)),
    )
    .annotates_params(annotate_quantile)
    .doc("The given quantile of the values in the window.", "quantile_over_time(0.9, latency_seconds[1h])"),
];

/// NaNs first, by their bits; `-0` before `+0`, so that the result does not depend on the order of
/// the values.
pub fn order(a: &f64, b: &f64) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (false, false) => a.total_cmp(b),
        // NaNs are ordered too, so that a stored one is found again when it leaves its window.
        (true, true) => a.to_bits().cmp(&b.to_bits()),
        (a, b) => b.cmp(&a),
    }
}

/// The result if it does not depend on the values: without values, or for `q` outside [0, 1].
fn degenerate(q: f64, len: usize) -> Option<f64> {
    if len == 0 || q.is_nan() {
        Some(NAN)
    } else if q < 0.0 {
        Some(f64::NEG_INFINITY)
    } else if q > 1.0 {
        Some(f64::INFINITY)
    } else {
        None
    }
}

/// The indices of the two values between which quantile `q` of `len` values lies, and the weight of
/// the upper one.
fn rank_position(q: f64, len: usize) -> (usize, usize, f64) {
    let rank = q * (len - 1) as f64;
    let lower = rank.floor();
    (lower as usize, (lower as usize + 1).min(len - 1), rank - lower)
}

/// Interpolates between two values. A weight of zero is also multiplied: with an infinity that
/// gives NaN, as in Prometheus.
fn between(lower: f64, upper: f64, weight: f64) -> f64 {
    lower * (1.0 - weight) + upper * weight
}

/// Quantile `q` of the values, in any order; rearranges them. Linear time.
pub fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if let Some(answer) = degenerate(q, values.len()) {
        return answer;
    }
    let (lower, upper, weight) = rank_position(q, values.len());
    // Selection is linear, sorting is not. The next value is the least of those above.
    let (_, at_lower, above) = values.select_nth_unstable_by(lower, order);
    let at_lower = *at_lower;
    let at_upper =
        if upper == lower { at_lower } else { above.iter().copied().min_by(order).unwrap_or(at_lower) };
    between(at_lower, at_upper, weight)
}

/// Quantile `q` of values sorted by [`order`].
fn quantile_sorted(q: f64, values: &SortedWindow) -> f64 {
    degenerate(q, values.len()).unwrap_or_else(|| {
        let (lower, upper, weight) = rank_position(q, values.len());
        between(values.at(lower), values.at(upper), weight)
    })
}

/// A quantile outside of 0 to 1 has a result, and a warning.
fn annotate_quantile(args: &[f64]) -> Option<StepAnnotation> {
    (!(0.0..=1.0).contains(&args[0])).then(|| invalid_quantile(AnnotationTarget::Operand(0), args[0]))
}

fn over_time(w: &Window) -> f64 {
    quantile(w.args[0], &mut w.vs.to_vec())
}

fn over_time_of_sorted(values: &SortedWindow, args: &[f64]) -> f64 {
    quantile_sorted(args[0], values)
}

fn over_time_reference(w: &Window) -> f64 {
    sorted_quantile_reference(w.args[0], w.vs.to_vec())
}

fn sorted_quantile_reference(q: f64, mut values: Vec<f64>) -> f64 {
    if q.is_nan() {
        return q;
    }
    if !(0.0..=1.0).contains(&q) {
        return q * f64::INFINITY;
    }
    let (mut nans, mut numbers): (Vec<f64>, Vec<f64>) = values.drain(..).partition(|v| v.is_nan());
    numbers.sort_by(f64::total_cmp);
    nans.append(&mut numbers);
    let top = nans.len() as f64 - 1.0;
    let rank = q * top;
    let lower = rank.floor();
    let weight = rank - rank.floor();
    let upper = if lower + 1.0 > top { top } else { lower + 1.0 };
    nans[lower as usize] * (1.0 - weight) + nans[upper as usize] * weight
}

/// NaN if any value is NaN.
fn mad(w: &Window) -> f64 {
    if w.vs.iter().any(|v| v.is_nan()) {
        return NAN;
    }
    let mut values = w.vs.to_vec();
    let median = quantile(0.5, &mut values);
    for v in values.iter_mut() {
        *v = (*v - median).abs();
    }
    quantile(0.5, &mut values)
}

fn mad_of_sorted(values: &SortedWindow, _: &[f64]) -> f64 {
    // NaNs come first in the order.
    if values.at(0).is_nan() {
        return NAN;
    }
    let median = quantile_sorted(0.5, values);
    // Differences from an infinity are NaN or infinite, so they do not increase to both sides as
    // the search needs.
    if !median.is_finite() {
        let mut deviations: Vec<f64> = (0..values.len()).map(|at| (values.at(at) - median).abs()).collect();
        return quantile(0.5, &mut deviations);
    }
    let (lower, upper, weight) = rank_position(0.5, values.len());
    let [at_lower, next] = deviations(values, median, lower);
    between(at_lower, if upper == lower { at_lower } else { next }, weight)
}

/// Deviation number `rank` from the median, the smallest being 0, and the next one if there is one.
/// To the left and to the right of the median, deviations increase; a binary search finds how many
/// of the smallest `rank` are on the left.
fn deviations(values: &SortedWindow, median: f64, rank: usize) -> [f64; 2] {
    let below = values.below(median);
    let above = values.len() - below;
    let deviation = |at: usize| (values.at(at) - median).abs();
    let left = |i: usize| if i < below { deviation(below - 1 - i) } else { f64::INFINITY };
    let right = |i: usize| if i < above { deviation(below + i) } else { f64::INFINITY };
    // At least as many from the left as the right side cannot give.
    let mut least = rank.saturating_sub(above);
    let mut most = rank.min(below);
    while least < most {
        let middle = usize::midpoint(least, most);
        if left(middle) < right(rank - middle - 1) { least = middle + 1 } else { most = middle }
    }
    let l = left(least);
    let r = right(rank - least);
    let next = if l <= r { left(least + 1).min(r) } else { l.min(right(rank - least + 1)) };
    [l.min(r), next]
}

fn mad_reference(w: &Window) -> f64 {
    if w.vs.iter().any(|v| v.is_nan()) {
        return NAN;
    }
    let median = sorted_quantile_reference(0.5, w.vs.to_vec());
    sorted_quantile_reference(0.5, w.vs.iter().map(|v| (v - median).abs()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::testing::{same, window_call};
    use storage::model::value::ABSENT;

    const INF: f64 = f64::INFINITY;

    #[test]
    fn the_formula() {
        for (q, values, want) in [
            (0.5, &[1.0, 3.0, 2.0][..], 2.0),
            (0.75, &[0.0, 1.0], 0.75),
            (0.1, &[10.0, 0.0, 5.0], 1.0),
            (0.0, &[2.0, 1.0], 1.0),
            (1.0, &[2.0, 1.0], 2.0),
            (-0.1, &[1.0], -INF),
            (1.1, &[1.0], INF),
            (NAN, &[1.0], NAN),
            (0.5, &[], NAN),
            (0.0, &[NAN, 1.0], NAN),
            (1.0, &[NAN, 1.0], 1.0),
            (0.0, &[1.0, INF], NAN), // 1 * 1 + Inf * 0
            (0.5, &[-1.0, 0.0, INF], NAN),
            (1.0, &[1.0, INF], INF * 0.0 + INF),
        ] {
            let got = quantile(q, &mut values.to_vec());
            assert!(same(got, want), "quantile({q}, {values:?}) = {got}, want {want}");
            let mut sorted = values.to_vec();
            sorted.sort_by(order);
            assert!(same(quantile_sorted(q, &SortedWindow::new(&sorted, ABSENT)), want));
        }
    }

    #[test]
    fn median_absolute_deviation() {
        let mad = |vs: &[f64]| window_call("mad_over_time", vs, &[]);
        assert_eq!(mad(&[4.0, 6.0, 2.0, 1.0, 999.0, 1.0, 2.0]), 1.0);
        assert_eq!(mad(&[7.0]), 0.0);
        assert!(mad(&[1.0, NAN, 2.0]).is_nan());
    }
}
