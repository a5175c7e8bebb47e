//! Trends: least-squares lines and Holt-Winters smoothing over a window.

use super::summation::{Neumaier, reference_step};
use super::{Function, Kernel, Moves, NAN, Window, WindowKernel};
use crate::plan::Type::{Matrix, Scalar, Vector};
use storage::model::TimeMs;
use storage::model::value::ABSENT;

/// The family's entries.
pub(super) static ENTRIES: &[Function] = &[
    Function::new(
        "deriv",
        &[Matrix],
        Vector,
        Kernel::Window(WindowKernel { eval: deriv, reference: deriv_reference, moves: Moves::OnExpiry }),
    )
    .doc("Per-second slope of the least-squares line through the window.", "deriv(disk_free_bytes[1h])"),
    Function::new(
        "double_exponential_smoothing",
        &[Matrix, Scalar, Scalar],
        Vector,
        Kernel::Window(WindowKernel {
            eval: smoothing,
            reference: smoothing_reference,
            moves: Moves::OnExpiry,
        }),
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
        Kernel::Window(WindowKernel { eval: predict, reference: predict_reference, moves: Moves::Always }),
    )
    .doc(
        "Value that the least-squares line through the window has so many seconds after the evaluation time.",
        "predict_linear(disk_free_bytes[1h], 4 * 3600)",
    ),
];

/// Slope per second, and value at `origin`, of the least-squares line through the samples.
fn line(w: &Window, origin: TimeMs) -> (f64, f64) {
    if w.vs[1..].iter().all(|v| *v == w.vs[0]) {
        return if w.vs[0].is_infinite() { (NAN, NAN) } else { (0.0, w.vs[0]) };
    }
    let [mut x_sum, mut y_sum, mut xy_sum, mut xx_sum] = [Neumaier::default(); 4];
    for (t, y) in w.ts.iter().zip(w.vs) {
        let x = (t - origin) as f64 / 1e3;
        x_sum.add(x);
        y_sum.add(*y);
        xy_sum.add(x * y);
        xx_sum.add(x * x);
    }
    let n = w.len() as f64;
    let [x, y, xy, xx] = [x_sum, y_sum, xy_sum, xx_sum].map(|s| s.sum + s.c);
    let covariance = xy - x * y / n;
    let variance = xx - x * x / n;
    let slope = covariance / variance;
    (slope, y / n - slope * x / n)
}

fn deriv(w: &Window) -> f64 {
    if w.len() < 2 { ABSENT } else { line(w, w.ts[0]).0 }
}

/// The line's origin is the evaluation time, whatever the offset.
fn predict(w: &Window) -> f64 {
    if w.len() < 2 {
        return ABSENT;
    }
    let (slope, intercept) = line(w, w.t);
    slope * w.args[0] + intercept
}

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
    let (x, y) = (total(&|x, _| x), total(&|_, y| y));
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

/// Refuses factors outside (0, 1). A NaN passes, as in Prometheus.
fn check_smoothing(args: &[f64]) -> Result<(), String> {
    for (kind, symbol, factor) in [("smoothing", "sf", args[0]), ("trend", "tf", args[1])] {
        if factor <= 0.0 || factor >= 1.0 {
            let shown = match factor {
                f64::INFINITY => "+Inf".to_owned(),
                f64::NEG_INFINITY => "-Inf".to_owned(),
                _ => format!("{factor:.6}"),
            };
            return Err(format!("invalid {kind} factor. Expected: 0 < {symbol} < 1, got: {shown}"));
        }
    }
    Ok(())
}

/// Holt-Winters: a smoothed value and a trend, both carried along. `args`: smoothing and trend factor.
fn smoothing(w: &Window) -> f64 {
    if w.len() < 2 {
        return ABSENT;
    }
    let (sf, tf) = (w.args[0], w.args[1]);
    let (mut before, mut smoothed, mut trend) = (0.0, w.vs[0], w.vs[1] - w.vs[0]);
    for (i, v) in w.vs[1..].iter().enumerate() {
        let scaled = sf * v;
        if i > 0 {
            trend = tf * (smoothed - before) + (1.0 - tf) * trend;
        }
        let carried = (1.0 - sf) * (smoothed + trend);
        (before, smoothed) = (smoothed, scaled + carried);
    }
    smoothed
}

/// The recurrences as whole sequences: `s[i]` from `s[i-1]` and `b[i]`, `b[i]` from `s[i-1]`, `s[i-2]`, `b[i-1]`.
fn smoothing_reference(w: &Window) -> f64 {
    if w.vs.len() < 2 {
        return ABSENT;
    }
    let (sf, tf) = (w.args[0], w.args[1]);
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
