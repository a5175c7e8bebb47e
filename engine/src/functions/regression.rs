//! Trends: least-squares lines (`deriv`, `predict_linear`) and Holt-Winters smoothing
//! (`double_exponential_smoothing`) over a window. In views, lines through long windows come from
//! panes ([`super::line_fit`]), and a prediction is moved along its line while no sample arrives.

use super::line_fit::LineFit;
use super::summation::{Neumaier, reference_step};
use super::{Function, Kernel, NAN, ParamError, TimeDependence, Tolerance, Window, WindowKernel};
use crate::types::ValueType::{Matrix, Scalar, Vector};
use storage::model::TimeMs;
use storage::model::value::ABSENT;

/// The entries of these functions in the table of functions.
pub(super) static ENTRIES: &[Function] = &[
    Function::new("deriv", &[Matrix], Vector, Kernel::Window(WindowKernel::floats(deriv, deriv_reference).least_squares(deriv_of)))
        .doc("Per-second slope of the least-squares line through the window.", "deriv(disk_free_bytes[1h])"),
    Function::new(
        "double_exponential_smoothing",
        &[Matrix, Scalar, Scalar],
        Vector,
        Kernel::Window(WindowKernel::floats(smoothing, smoothing_reference)),
    )
    .check(check_smoothing)
    .doc(
        "Value of a gauge smoothed with a smoothing and a trend factor, both between 0 and 1.",
        "double_exponential_smoothing(queue_length[10m], 0.5, 0.1)",
    )
    .experimental(),
    Function::new(
        "predict_linear",
        &[Matrix, Scalar],
        Vector,
        Kernel::Window(
            WindowKernel::floats(predict, predict_reference).time_dependence(TimeDependence::Linear(predicted)).least_squares(predicted_of),
        ),
    )
    .tolerance(Tolerance {
        relative: OTHER_ORIGIN_TOLERANCE,
        least: 1e4,
        why: "between samples the line is followed; the formula would work it out from another origin at each time, \
              which rounds otherwise, relative to the terms of the line, which may be larger than their sum",
    })
    .doc(
        "Value that the least-squares line through the window has so many seconds after the evaluation time.",
        "predict_linear(disk_free_bytes[1h], 4 * 3600)",
    ),
];

/// The least-squares line through the samples.
struct DirectFit {
    /// Slope per second.
    slope: f64,
    /// Value at the origin.
    intercept: f64,
    /// Sum of the squared differences of times from their mean, in s².
    variance: f64,
}

fn line(w: &Window, origin: TimeMs) -> DirectFit {
    // As in Prometheus: rounding would give a constant a tiny slope.
    if w.vs[1..].iter().all(|v| *v == w.vs[0]) {
        let (slope, intercept) = if w.vs[0].is_infinite() { (NAN, NAN) } else { (0.0, w.vs[0]) };
        return DirectFit { slope, intercept, variance: f64::INFINITY };
    }
    let [mut x_sum, mut y_sum, mut xy_sum, mut xx_sum] = [Neumaier::default(); 4];
    for (t, y) in w.ts.iter().zip(w.vs) {
        // Relative to a near origin: with times since 1970 the squares would lose all digits that
        // matter.
        let x = (t - origin) as f64 / 1e3;
        x_sum.add(x);
        y_sum.add(*y);
        xy_sum.add(x * y);
        xx_sum.add(x * x);
    }
    let n = w.ts.len() as f64;
    let [x, y, xy, xx] = [x_sum, y_sum, xy_sum, xx_sum].map(|s| s.sum + s.c);
    let covariance = xy - x * y / n;
    let variance = xx - x * x / n;
    let slope = covariance / variance;
    DirectFit { slope, intercept: y / n - slope * x / n, variance }
}

fn deriv(w: &Window) -> f64 {
    if w.ts.len() < 2 { ABSENT } else { line(w, w.ts[0]).slope }
}

/// The line's origin is the evaluation time, whatever the offset.
fn predict(w: &Window) -> f64 {
    predicted(w).0
}

/// The prediction, and how much it rises per second of evaluation time: the line is the same while
/// no sample arrives or leaves. The kernel computes it from another origin at each time, which
/// rounds differently, relative to the summands by [`OTHER_ORIGIN_TOLERANCE`]. If the samples are
/// close together compared with their age, the squares of times cancel and rounding decides the
/// result. Then it must be computed each time, and the slope is NaN.
fn predicted(w: &Window) -> (f64, f64) {
    if w.ts.len() < 2 {
        return (ABSENT, 0.0);
    }
    let DirectFit { slope, intercept, variance } = line(w, w.t);
    let cancels = cancels(w, w.ts.len() as f64, variance);
    (slope * w.args[0] + intercept, if cancels { NAN } else { slope })
}

/// Whether the squares of the times of a window cancel.
fn cancels(w: &Window, n: f64, variance: f64) -> bool {
    let oldest = (w.t - w.start) as f64 / 1e3;
    // From the age of the window's edge and not of its oldest sample: the answer must not flip when
    // that leaves.
    oldest * oldest * n > CANCELS * variance
}

fn deriv_of(trend: &LineFit, _: &Window) -> Option<(f64, f64)> {
    Some((if trend.n < 2.0 { ABSENT } else { trend.slope() }, 0.0))
}

fn predicted_of(trend: &LineFit, w: &Window) -> Option<(f64, f64)> {
    if trend.n < 2.0 {
        return Some((ABSENT, 0.0));
    }
    let slope = trend.slope();
    let value = trend.at(w.t);
    // A constant has no rounding, however old it is.
    (trend.is_constant() || !cancels(w, trend.n, trend.variance()))
        .then(|| (slope * w.args[0] + value, slope))
}

/// The rounding difference in [`predicted`].
pub const OTHER_ORIGIN_TOLERANCE: f64 = 1e-9;

/// Sums of squares that cancel by more than this factor.
const CANCELS: f64 = 1e3;

fn line_reference(w: &Window, origin: TimeMs) -> (f64, f64) {
    let constant = (1..w.vs.len()).all(|i| w.vs[i] == w.vs[0]);
    if constant {
        let finite = w.vs[0].is_finite();
        return (if finite { 0.0 } else { NAN }, if finite { w.vs[0] } else { NAN });
    }
    let n = w.vs.len() as f64;
    let xs: Vec<f64> = w.ts.iter().map(|t| (t - origin) as f64 / 1e3).collect();
    let total = |term: &dyn Fn(f64, f64) -> f64| {
        let (sum, c) =
            xs.iter().zip(w.vs).fold((0.0, 0.0), |(sum, c), (x, y)| reference_step(sum, c, term(*x, *y)));
        sum + c
    };
    let x = total(&|x, _| x);
    let y = total(&|_, y| y);
    let slope = (total(&|x, y| x * y) - x * y / n) / (total(&|x, _| x * x) - x * x / n);
    (slope, y / n - slope * x / n)
}

fn deriv_reference(w: &Window) -> f64 {
    if w.vs.len() >= 2 { line_reference(w, w.ts[0]).0 } else { ABSENT }
}

fn predict_reference(w: &Window) -> f64 {
    if w.vs.len() >= 2 {
        let (slope, intercept) = line_reference(w, w.t);
        slope * w.args[0] + intercept
    } else {
        ABSENT
    }
}

/// Rejects factors outside (0, 1). NaN passes, as in Prometheus.
fn check_smoothing(args: &[f64]) -> Result<(), ParamError> {
    for (name, symbol, value) in [("smoothing", "sf", args[0]), ("trend", "tf", args[1])] {
        // Not `!(0.0 < value && value < 1.0)`, which would reject NaN.
        if value <= 0.0 || value >= 1.0 {
            return Err(ParamError { name, symbol, value });
        }
    }
    Ok(())
}

/// Holt-Winters: a smoothed value and a trend. `args`: smoothing factor and trend factor.
fn smoothing(w: &Window) -> f64 {
    if w.ts.len() < 2 {
        return ABSENT;
    }
    let sf = w.args[0];
    let tf = w.args[1];
    let mut before = 0.0;
    let mut smoothed = w.vs[0];
    let mut trend = w.vs[1] - w.vs[0];
    for (i, v) in w.vs[1..].iter().enumerate() {
        let scaled = sf * v;
        // The first trend is the difference of the first two values, so it is not smoothed at the
        // second.
        if i > 0 {
            trend = tf * (smoothed - before) + (1.0 - tf) * trend;
        }
        let carried = (1.0 - sf) * (smoothed + trend);
        before = smoothed;
        smoothed = scaled + carried;
    }
    smoothed
}

/// The recurrences as whole sequences: `s[i]` from `s[i-1]` and `b[i]`, `b[i]` from `s[i-1]`,
/// `s[i-2]`, `b[i-1]`.
fn smoothing_reference(w: &Window) -> f64 {
    if w.vs.len() < 2 {
        return ABSENT;
    }
    let sf = w.args[0];
    let tf = w.args[1];
    let mut s = vec![w.vs[0]];
    let mut b = vec![f64::NAN, w.vs[1] - w.vs[0]];
    for i in 1..w.vs.len() {
        if i >= 2 {
            b.push(tf * (s[i - 1] - s[i - 2]) + (1.0 - tf) * b[i - 1]);
        }
        s.push(sf * w.vs[i] + (1.0 - sf) * (s[i - 1] + b[i]));
    }
    s[w.vs.len() - 1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// While the window slides over the same samples, the prediction moves along its line.
        #[test]
        fn predictions_move_along_a_line(
            vs in prop::collection::vec(-1e3f64..1e3, 2..40),
            gap in 1_000i64..60_000,
            later in 0i64..60_000,
            ahead in -3600.0f64..3600.0,
        ) {
            let ts: Vec<TimeMs> = (0..vs.len() as i64).map(|i| 1_700_000_000_000 + i * gap).collect();
            let t = ts[ts.len() - 1] + 500;
            let args = [ahead];
            let w = Window { ts: &ts, vs: &vs, start: ts[0] - 1, end: t, t, args: &args, ..Window::default() };
            let (value, slope) = predicted(&w);
            prop_assume!(!slope.is_nan());
            let then = predict(&Window { t: t + later, end: t + later, ..w });
            let now = value + slope * (later as f64 / 1e3);
            let size = 1e3 + slope.abs() * (ahead.abs() + (t + later - ts[0]) as f64 / 1e3);
            prop_assert!((now - then).abs() <= OTHER_ORIGIN_TOLERANCE * size, "{now:e}, from scratch {then:e}");
        }
    }
}
