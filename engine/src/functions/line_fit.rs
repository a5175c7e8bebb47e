//! The least-squares line through samples, computed pane by pane ([`super::panes`]) from means and
//! sums of products around them, which are merged without cancellation. The kernels in
//! [`super::regression`] add products of the numbers themselves, as Prometheus does.

use super::NAN;
use super::panes::{PaneState, PaneSummary, pane_state};
use super::summation::Neumaier;
use storage::model::TimeMs;

/// How much a line may differ from that of the kernel, relative to the largest value in the window;
/// for a slope, per second of the window. The kernel subtracts two sums of products that are larger
/// than their difference.
pub const REFIT_TOLERANCE: f64 = 1e-12;

/// The sums of some samples of one series.
#[derive(Copy, Clone, Debug)]
pub struct LineFit {
    /// Number of samples.
    pub(super) n: f64,
    /// Time of the first sample.
    origin: TimeMs,
    /// Mean time, in seconds after `origin`.
    x: f64,
    /// Mean value.
    y: Neumaier,
    /// Sum of the squared differences of times from their mean, in s².
    xx: f64,
    /// Sum of the products of the differences of times and values from their means.
    xy: Neumaier,
    /// The first value, and whether all values equal it: then rounding must not make a slope.
    first: f64,
    constant: bool,
}

fn seconds(from: TimeMs, to: TimeMs) -> f64 {
    (to - from) as f64 / 1e3
}

impl LineFit {
    /// The panes of a block.
    pub fn panes() -> Box<dyn PaneState<LineFit>> {
        pane_state::<LineFit>()
    }

    pub(super) fn is_constant(&self) -> bool {
        self.constant
    }

    /// Sum of the squared differences of times from their mean, in s².
    pub(super) fn variance(&self) -> f64 {
        self.xx
    }

    /// Slope per second.
    pub(super) fn slope(&self) -> f64 {
        if !self.constant {
            (self.xy.sum + self.xy.c) / self.xx
        } else if self.first.is_infinite() {
            // As in Prometheus: infinities have no line.
            NAN
        } else {
            0.0
        }
    }

    /// The line's value at `t`.
    pub(super) fn at(&self, t: TimeMs) -> f64 {
        if !self.constant {
            self.y.sum + self.y.c + self.slope() * (seconds(self.origin, t) - self.x)
        } else if self.first.is_infinite() {
            NAN
        } else {
            // The value itself: through the means it would differ by rounding.
            self.first
        }
    }
}

impl PaneSummary for LineFit {
    type Answer = LineFit;

    const EMPTY: LineFit = LineFit {
        n: 0.0,
        origin: 0,
        x: 0.0,
        y: Neumaier { sum: 0.0, c: 0.0 },
        xx: 0.0,
        xy: Neumaier { sum: 0.0, c: 0.0 },
        first: 0.0,
        constant: true,
    };

    #[inline]
    fn add(&mut self, t: TimeMs, v: f64) {
        if self.n == 0.0 {
            self.origin = t;
            self.first = v;
        }
        self.constant &= v == self.first;
        self.n += 1.0;
        let x = seconds(self.origin, t);
        let dx = x - self.x;
        let dy = v - (self.y.sum + self.y.c);
        self.x += dx / self.n;
        self.y.add(dy / self.n);
        self.xx += dx * (x - self.x);
        self.xy.add((x - self.x) * dy);
    }

    fn merge(&mut self, later: &LineFit) {
        if later.n == 0.0 || self.n == 0.0 {
            *self = if self.n == 0.0 { *later } else { *self };
            return;
        }
        let n = self.n + later.n;
        let dx = seconds(self.origin, later.origin) + later.x - self.x;
        let dy = (later.y.sum + later.y.c) - (self.y.sum + self.y.c);
        let weight = self.n * later.n / n;
        self.x += dx * (later.n / n);
        self.y.add(dy * (later.n / n));
        self.xx += later.xx + dx * dx * weight;
        self.xy.add(later.xy.sum);
        self.xy.add(later.xy.c + dx * dy * weight);
        self.constant &= later.constant && later.first == self.first;
        self.n = n;
    }

    fn value(&self) -> LineFit {
        *self
    }
}

#[cfg(test)]
mod tests {
    use super::super::window::{TimeDependence, WindowMethod};
    use super::super::{Kernel, Window, lookup};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// However samples are divided into panes, slope and prediction are those of the kernels.
        #[test]
        fn panes_make_no_difference(
            vs in prop::collection::vec((-1e6f64..1e6, 1i64..90_000), 2..300),
            still in prop::option::weighted(0.1, -5.0f64..5.0),
            pane in 1usize..40,
            late in 0i64..60_000,
            ahead in -3600.0f64..36_000.0,
        ) {
            let mut ts = Vec::new();
            let mut t = 1_700_000_000_000;
            for (_, gap) in &vs {
                ts.push(t);
                t += gap;
            }
            let vs: Vec<f64> = vs.iter().map(|(v, _)| still.unwrap_or(*v)).collect();
            let samples: Vec<(TimeMs, f64)> = ts.iter().copied().zip(vs.iter().copied()).collect();
            let mut whole = LineFit::EMPTY;
            for part in samples.chunks(pane) {
                let mut trend = LineFit::EMPTY;
                for (t, v) in part.iter() { trend.add(*t, *v); }
                whole.merge(&trend);
            }
            let end = ts[ts.len() - 1] + late;
            let args = [ahead];
            let window = Window { ts: &ts, vs: &vs, start: ts[0] - 1, end, t: end, args: &args, ..Window::default() };
            let length = seconds(ts[0], end);
            for name in ["deriv", "predict_linear"] {
                let Kernel::Window(kernel) = lookup(name).expect("it is there").kernel else { continue };
                let WindowMethod::LeastSquares(of_line) = kernel.method else { panic!("{name} is kept up as a line") };
                let Some((value, slope)) = of_line(&whole, &window) else { continue };
                let steepness = 1e6 * (vs.len() as f64) / seconds(ts[0], ts[ts.len() - 1]);
                let size = match kernel.time_dependence {
                    TimeDependence::Linear(line) => {
                        prop_assert!((slope - line(&window).1).abs() <= REFIT_TOLERANCE * steepness);
                        1e6 * vs.len() as f64 + steepness * (ahead.abs() + length)
                    }
                    _ => steepness,
                };
                let wanted = (kernel.eval)(&window);
                prop_assert!((value - wanted).abs() <= REFIT_TOLERANCE * size, "{name}: {value:e}, from scratch {wanted:e}");
                prop_assert!(still.is_none() || value.to_bits() == wanted.to_bits(), "{name} of what stands still");
            }
        }
    }

    #[test]
    fn what_is_not_a_number_makes_no_line() {
        let of_all = |vs: &[f64]| {
            let mut trend = LineFit::EMPTY;
            for (v, t) in vs.iter().zip(0..) {
                trend.add(t * 1_000, *v);
            }
            (trend.slope(), trend.at(9_000))
        };
        for vs in [&[f64::INFINITY; 3][..], &[1.0, f64::NAN, 2.0], &[1.0, f64::INFINITY, 2.0]] {
            let (slope, at) = of_all(vs);
            assert!(slope.is_nan() && at.is_nan(), "{vs:?}: {slope} {at}");
        }
        assert_eq!(of_all(&[-0.0, 0.0]), (0.0, -0.0));
    }
}
