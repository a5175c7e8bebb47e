//! The rate family: how much a counter or a gauge changed over a window.
//!
//! `rate`, `increase` and `delta` extrapolate to the edges of the window. [`extrapolated`] is their
//! common algorithm, and [`extrapolated_valid_until`] says how long a value holds while no sample
//! arrives. `irate` and `idelta` use the last two samples, `changes` and `resets` each adjacent
//! pair. These are the kernels for windows of floats; histograms and start timestamps are in
//! [`super::mixed_rate`] and [`super::mixed_pairs`], windows with `anchored` or `smoothed` in
//! [`super::extended`].

use super::window::MixedFn;
use super::{
    Function, Kernel, TimeDependence, Tolerance, Window, WindowKernel, mixed_pairs, mixed_rate, panes,
};
use crate::types::ValueType::{Matrix, Vector};
use storage::model::TimeMs;
use storage::model::value::ABSENT;

/// Across a gap of at least this many average intervals there is no extrapolation to the edge.
const GAP: f64 = 1.1;

type FloatFn = fn(&Window) -> f64;

/// A kernel with its slow reference: for windows of floats, and for windows of any kind.
/// `histograms` says in the documentation which native histograms the function accepts.
const fn kernel(floats: [FloatFn; 2], histograms: &'static str, mixed: [MixedFn; 2]) -> WindowKernel {
    WindowKernel::floats(floats[0], floats[1]).mixed_kernel(histograms, mixed[0], mixed[1])
}

const fn window(name: &'static str, kernel: WindowKernel) -> Function {
    Function::new(name, &[Matrix], Vector, Kernel::Window(kernel))
}

// Texts of the column "native histograms" in docs/promql-functions.md.
const COUNTERS: &str = "counters";
const GAUGES: &str = "gauges";
const BOTH: &str = "yes, also mixed with floats";

const CHANGES: WindowKernel =
    kernel([changes, changes_reference], BOTH, [mixed_pairs::changes, mixed_pairs::changes_reference])
        .extended(false)
        .panes(panes::pane_state::<panes::ChangeCount>, true);
const DELTA: WindowKernel =
    kernel([delta, delta_reference], GAUGES, [mixed_rate::delta, mixed_rate::delta_reference])
        .time_dependence(TimeDependence::Extrapolated)
        .extended(true)
        .endpoints(false);
const IDELTA: WindowKernel =
    kernel([idelta, idelta_reference], GAUGES, [mixed_pairs::idelta, mixed_pairs::idelta_reference])
        .endpoints(false);
const INCREASE: WindowKernel =
    kernel([increase, increase_reference], COUNTERS, [mixed_rate::increase, mixed_rate::increase_reference])
        .time_dependence(TimeDependence::Extrapolated)
        .extended(true)
        .reads_starts()
        .expects_counter()
        .endpoints(true);
const IRATE: WindowKernel =
    kernel([irate, irate_reference], COUNTERS, [mixed_pairs::irate, mixed_pairs::irate_reference])
        .reads_starts()
        .endpoints(false);
const RATE: WindowKernel =
    kernel([rate, rate_reference], COUNTERS, [mixed_rate::rate, mixed_rate::rate_reference])
        .time_dependence(TimeDependence::Extrapolated)
        .extended(true)
        .reads_starts()
        .expects_counter()
        .endpoints(true);
const RESETS: WindowKernel =
    kernel([resets, resets_reference], BOTH, [mixed_pairs::resets, mixed_pairs::resets_reference])
        .extended(false)
        .reads_starts()
        .endpoints(true);

/// Between samples, while both edges of the extrapolation move, the value is mathematically
/// constant: the window loses on the left what it gains on the right. But the formula rounds
/// differently at each time. Evaluating it at each tick, only for the last bits, would read every
/// row at every tick.
const EXTRAPOLATED: Tolerance = Tolerance {
    relative: 1e-13,
    least: 0.0,
    why: "while no sample comes or goes the value stands, and the formula would round it differently at each time",
};

pub(super) static ENTRIES: &[Function] = &[
    window("changes", CHANGES)
        .doc("How often the value changed within the window.", "changes(process_start_time_seconds[1h])"),
    window("delta", DELTA).doc(
        "Difference of a gauge between the edges of the window, extrapolated to them.",
        "delta(cpu_temp_celsius[2h])",
    ).tolerance(EXTRAPOLATED),
    window("idelta", IDELTA)
        .doc("Difference of the last two samples of a gauge.", "idelta(cpu_temp_celsius[5m])"),
    window("increase", INCREASE).doc(
        "Increase of a counter over the window, corrected for resets and extrapolated to the edges.",
        "increase(http_requests_total[5m])",
    ).tolerance(EXTRAPOLATED),
    window("irate", IRATE).doc(
        "Per-second rate of a counter from its last two samples.",
        "irate(http_requests_total[5m])",
    ),
    window("rate", RATE).doc(
        "Average per-second increase of a counter over the window, corrected for resets and extrapolated to the edges.",
        "rate(http_requests_total[5m])",
    ).tolerance(EXTRAPOLATED),
    window("resets", RESETS)
        .doc("How often a counter was reset within the window.", "resets(http_requests_total[1h])"),
];

fn rate(w: &Window) -> f64 {
    extrapolated(w, true, true)
}

fn increase(w: &Window) -> f64 {
    extrapolated(w, true, false)
}

fn delta(w: &Window) -> f64 {
    extrapolated(w, false, false)
}

/// Last minus first value; for a counter plus the value before each reset, added in order of time.
fn raw_change(w: &Window, counter: bool) -> f64 {
    // First the difference, then the resets, in the order in which Prometheus adds them, which the
    // last bits depend on.
    let mut result = w.vs[w.vs.len() - 1] - w.vs[0];
    // The ring knows of most counters that they never fell. Then a window costs its two ends and
    // not its length.
    if counter && !w.monotone {
        for pair in w.vs.windows(2) {
            if pair[1] < pair[0] {
                result += pair[0];
            }
        }
    }
    result
}

/// How long, in seconds, a counter took from zero to its first value, if it always rose as in the
/// window. `None` if that says nothing.
fn since_zero(first: f64, result: f64, sampled: f64) -> Option<f64> {
    // A negative first value is no counter, and one that did not rise gives no line to follow back.
    (result > 0.0 && first >= 0.0).then(|| sampled * (first / result))
}

/// The part of a window between its first and last sample, which is extrapolated to the edges.
#[derive(Copy, Clone, Debug)]
pub(super) struct SampledSpan {
    /// Time of the first sample.
    pub first: TimeMs,
    /// Time of the last one.
    pub last: TimeMs,
    /// Number of samples, at least 1.
    pub count: usize,
    /// When the counter was zero, if its start timestamp says so and is within the window.
    pub started: Option<TimeMs>,
}

impl SampledSpan {
    /// The factor by which the change between the samples is multiplied. For counters, `counter`
    /// has the first value and the change, so that it is not extrapolated below zero. `None`: there
    /// is one sample and no start.
    #[inline]
    pub(super) fn factor(&self, w: &Window, counter: Option<(f64, f64)>, per_second: bool) -> Option<f64> {
        let mut to_start = (self.first - w.start) as f64 / 1000.0;
        let mut to_end = (w.end - self.last) as f64 / 1000.0;
        let mut sampled = (self.last - self.first) as f64 / 1000.0;
        let average = if self.count > 1 { sampled / (self.count - 1) as f64 } else { 0.0 };
        let threshold = average * GAP;
        // The start is known, so nothing is guessed: the increase since the start is measured, not
        // extrapolated.
        if let Some(started) = self.started {
            to_start = 0.0;
            sampled = (self.last - started) as f64 / 1000.0;
        } else if self.count == 1 {
            // One sample shows no change. With a start it would: then the counter rose from 0.
            return None;
        } else {
            // The series probably began within the window. Half an interval is the expected
            // distance to its true begin.
            if to_start >= threshold {
                to_start = average / 2.0;
            }
            if let Some((first, change)) = counter
                && let Some(zero) = since_zero(first, change, sampled)
                && zero < to_start
            {
                to_start = zero;
            }
        }
        // The same at the end: the series has probably ended.
        if to_end >= threshold {
            to_end = average / 2.0;
        }
        // The only sample is at the start of its counter: there is no length from which to
        // extrapolate.
        let factor = if sampled == 0.0 { 1.0 } else { (sampled + to_start + to_end) / sampled };
        Some(if per_second { factor / w.range_seconds() } else { factor })
    }
}

/// The common algorithm: `counter` corrects for resets and never extrapolates below zero,
/// `per_second` divides by the length of the window. ABSENT with fewer than two samples.
fn extrapolated(w: &Window, counter: bool, per_second: bool) -> f64 {
    let last = w.ts.len() - 1;
    if last == 0 {
        return ABSENT;
    }
    let result = raw_change(w, counter);
    let sampled = SampledSpan { first: w.ts[0], last: w.ts[last], count: w.len(), started: None };
    let factor = sampled.factor(w, counter.then_some((w.vs[0], result)), per_second);
    factor.map_or(ABSENT, |factor| result * factor)
}

/// The last evaluation time, at least `w.t`, up to which `rate`, `increase` and `delta` keep their
/// value while no sample arrives and the window slides with time; `w.t` if the value changes with
/// time now.
///
/// Each edge of the extrapolation is either *fixed* (clipped to half an interval, or limited by the
/// counter's zero) or *moving* by the same amount per millisecond, the left one shrinking while the
/// right one grows. The value holds while both are fixed, where it is the same bit by bit, and
/// while both move, where their sum is mathematically constant: rounding of `sampled + left +
/// right` then changes the value by at most a few units in the last place (relative 1e-14 covers
/// it; 3.3e-16 was measured). The bound is found with the predicates of the kernel itself, so
/// rounding of the thresholds cannot shift it. It never exceeds [`Window::expiry`]. One result
/// serves counters and gauges: the earlier of both.
pub fn extrapolated_valid_until(w: &Window) -> TimeMs {
    if w.len() < 2 {
        return w.expiry();
    }
    // Whether it is a counter is a property of the function. The earlier of both is correct for
    // either, and saves a parameter in every caller.
    valid_until(w, true).min(valid_until(w, false))
}

fn valid_until(w: &Window, counter: bool) -> TimeMs {
    let edges = ExtrapolationEdges::from_window(w, counter);
    let now = edges.state(0);
    // One edge that moves while the other stands changes the value at every millisecond.
    if now.0 != EdgeState::Moving && now.1 != EdgeState::Moving
        || now == (EdgeState::Moving, EdgeState::Moving)
    {
        w.t + last_same(w.expiry() - w.t, |later| edges.state(later) == now)
    } else {
        w.t
    }
}

/// What the edges of a window depend on, apart from values.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct WindowTimes {
    first: TimeMs,
    last: TimeMs,
    samples: usize,
    /// The right edge.
    end: TimeMs,
}

/// The part of [`extrapolated_valid_until`] that does not depend on values, unless the zero of a
/// counter is near. Windows of series with the same times share it.
#[derive(Copy, Clone, Debug)]
pub struct RateValidity {
    /// What it was computed for.
    of: WindowTimes,
    valid_until: TimeMs,
    /// A zero at least so long before the first sample limits no edge, now or later.
    no_edge_before: f64,
}

impl RateValidity {
    /// [`extrapolated_valid_until`], reusing the result `known` of an earlier window of the same
    /// length.
    pub fn valid_until(w: &Window, known: &mut Option<RateValidity>) -> TimeMs {
        if w.len() < 2 {
            return w.expiry();
        }
        let last = w.ts.len() - 1;
        let of = WindowTimes { first: w.ts[0], last: w.ts[last], samples: w.len(), end: w.end };
        // Series of one target have the same times, so for hundreds of rows in a block the edges
        // are computed once.
        let shared = match known {
            Some(shared) if shared.of == of => *shared,
            _ => {
                // Without the zero of a counter, which depends on the values: it is looked at
                // below, for each row.
                let edges = ExtrapolationEdges::from_window(w, false);
                // Without a limit, an edge reaches at most to the threshold, or to the window's
                // edge if that is nearer.
                let longest_edge = edges.average * GAP;
                *known.insert(RateValidity {
                    of,
                    valid_until: valid_until(w, false),
                    no_edge_before: longest_edge,
                })
            }
        };
        let sampled = (w.ts[last] - w.ts[0]) as f64 / 1000.0;
        match since_zero(w.vs[0], raw_change(w, true), sampled) {
            // The zero is nearer than the longest possible edge, so it may become the limit.
            // Everywhere else it cannot.
            Some(zero) if zero < shared.no_edge_before => valid_until(w, true).min(shared.valid_until),
            _ => shared.valid_until,
        }
    }
}

/// How an edge of the extrapolation changes with time.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum EdgeState {
    /// Follows the edge of the window.
    Moving,
    /// Half an average interval.
    Clipped,
    /// Where the counter was zero.
    Zero,
}

/// What the edges depend on; times as in [`extrapolated`].
struct ExtrapolationEdges {
    to_start_ms: i64,
    to_end_ms: i64,
    average: f64,
    zero: Option<f64>,
}

impl ExtrapolationEdges {
    fn from_window(w: &Window, counter: bool) -> ExtrapolationEdges {
        let last = w.ts.len() - 1;
        let sampled = (w.ts[last] - w.ts[0]) as f64 / 1000.0;
        let zero = if counter { since_zero(w.vs[0], raw_change(w, true), sampled) } else { None };
        ExtrapolationEdges {
            to_start_ms: w.ts[0] - w.start,
            to_end_ms: w.end - w.ts[last],
            average: sampled / (w.len() - 1) as f64,
            zero,
        }
    }

    /// The edges (left, right) `later` ms from now. Each changes at most twice as `later`
    /// increases, and never back into an earlier state.
    fn state(&self, later: i64) -> (EdgeState, EdgeState) {
        let threshold = self.average * GAP;
        let to_start = (self.to_start_ms - later) as f64 / 1000.0;
        let to_end = (self.to_end_ms + later) as f64 / 1000.0;
        let (length, without_zero) = if to_start >= threshold {
            (self.average / 2.0, EdgeState::Clipped)
        } else {
            (to_start, EdgeState::Moving)
        };
        // As in the kernel, the zero is compared after clipping: it can only shorten the edge.
        let left = if self.zero.is_some_and(|zero| zero < length) { EdgeState::Zero } else { without_zero };
        (left, if to_end >= threshold { EdgeState::Clipped } else { EdgeState::Moving })
    }
}

/// The largest `later` in `0..=most` for which `same` is true, if it is true at 0 and, once false,
/// stays false.
fn last_same(most: i64, same: impl Fn(i64) -> bool) -> i64 {
    let mut low = 0;
    let mut high = most;
    while low < high {
        // By bisection and not by solving for the threshold: the kernel compares rounded numbers,
        // and a solved bound could be one millisecond off.
        let middle = low + (high - low + 1) / 2;
        if same(middle) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    low
}

/// `rate`, `increase` and `delta` following the words of the specification, step by step.
fn extrapolated_reference(w: &Window, counter: bool, per_second: bool) -> f64 {
    let samples: Vec<(i64, f64)> = w.ts.iter().copied().zip(w.vs.iter().copied()).collect();
    let [(first_t, first), .., (last_t, last)] = samples[..] else { return ABSENT };
    let lost: Vec<f64> = samples.windows(2).filter(|p| p[1].1 < p[0].1).map(|p| p[0].1).collect();
    let change = if counter { lost.iter().fold(last - first, |sum, v| sum + v) } else { last - first };
    let seconds = |ms: i64| ms as f64 / 1000.0;
    let sampled = seconds(last_t - first_t);
    let average = sampled / (samples.len() - 1) as f64;
    let clip = |gap: f64| if gap >= average * 1.1 { average / 2.0 } else { gap };
    let right = clip(seconds(w.end - last_t));
    let mut left = clip(seconds(first_t - w.start));
    if counter && change > 0.0 && first >= 0.0 {
        let zero = sampled * (first / change);
        left = if zero < left { zero } else { left };
    }
    let factor = if sampled == 0.0 { 1.0 } else { (sampled + left + right) / sampled };
    change * if per_second { factor / w.range_seconds() } else { factor }
}

fn rate_reference(w: &Window) -> f64 {
    extrapolated_reference(w, true, true)
}

fn increase_reference(w: &Window) -> f64 {
    extrapolated_reference(w, true, false)
}

fn delta_reference(w: &Window) -> f64 {
    extrapolated_reference(w, false, false)
}

fn irate(w: &Window) -> f64 {
    instant(w, true)
}

fn idelta(w: &Window) -> f64 {
    instant(w, false)
}

/// The result of the last two samples. ABSENT if there are not two, or if they have the same time.
fn instant(w: &Window, counter: bool) -> f64 {
    let last = w.ts.len() - 1;
    // Times of stored samples differ. As in Prometheus, a window that breaks this has no value, not
    // an infinite one.
    if last == 0 || w.ts[last] == w.ts[last - 1] {
        return ABSENT;
    }
    let previous = w.vs[last - 1];
    let value = w.vs[last];
    if !counter {
        return value - previous;
    }
    // After a reset the counter began at 0, so its value is the increase.
    let change = if value < previous { value } else { value - previous };
    change / ((w.ts[last] - w.ts[last - 1]) as f64 / 1000.0)
}

fn irate_reference(w: &Window) -> f64 {
    let samples: Vec<_> = w.ts.iter().zip(w.vs).collect();
    match samples[..] {
        [.., (t0, v0), (t1, v1)] if t1 > t0 => {
            let seconds = (t1 - t0) as f64 / 1000.0;
            if v1 < v0 { v1 / seconds } else { (v1 - v0) / seconds }
        }
        _ => ABSENT,
    }
}

fn idelta_reference(w: &Window) -> f64 {
    let samples: Vec<_> = w.ts.iter().zip(w.vs).collect();
    match samples[..] {
        [.., (t0, v0), (t1, v1)] if t1 > t0 => v1 - v0,
        _ => ABSENT,
    }
}

/// A NaN after a NaN is no change.
fn changes(w: &Window) -> f64 {
    let differ = |p: &&[f64]| p[0] != p[1] && !(p[0].is_nan() && p[1].is_nan());
    w.vs.windows(2).filter(differ).count() as f64
}

fn changes_reference(w: &Window) -> f64 {
    let mut n = 0.0;
    for i in 1..w.vs.len() {
        let same = w.vs[i] == w.vs[i - 1] || (w.vs[i].is_nan() && w.vs[i - 1].is_nan());
        n += if same { 0.0 } else { 1.0 };
    }
    n
}

/// A NaN is never a reset.
fn resets(w: &Window) -> f64 {
    if w.monotone { 0.0 } else { w.vs.windows(2).filter(|p| p[1] < p[0]).count() as f64 }
}

fn resets_reference(w: &Window) -> f64 {
    let mut n = 0.0;
    for i in 1..w.vs.len() {
        n += f64::from(u8::from(w.vs[i] < w.vs[i - 1]));
    }
    n
}
