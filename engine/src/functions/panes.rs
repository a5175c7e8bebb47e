//! Window functions that are computed from panes. The rows of a block are divided into panes of
//! [`PANE`] rows, and each complete pane is summarised once. A window then costs its panes and the
//! rows at its two ends. All windows over a block have the same rows, so the summaries of all
//! columns are computed together.
//!
//! Nothing is ever subtracted from a sum: that would accumulate rounding errors, and an infinity
//! could not be removed. Extremes and counts are exactly those computed from scratch; sums are
//! added in another order, which the table of functions declares as a tolerance.
//!
//! The newest row of a block is in no pane, because samples of other series may still arrive for
//! it.

use super::sorted_window::RowEdit;
use super::summation::{Mean, Neumaier};
use std::collections::VecDeque;
use storage::model::TimeMs;
use storage::model::value::{ABSENT, is_absent, is_histogram, is_sample};

/// Rows in a pane.
pub const PANE: u32 = 32;

/// Windows with fewer rows are computed from all samples: that gives exactly Prometheus' bits, and
/// costs no more.
pub const MIN_PANE_WINDOW: usize = 2 * PANE as usize;

/// Rows of values, as window functions read them.
///
/// # Contract
/// 1. The row after row `at` is `at + 1`, and its time is later. A row keeps its number until
///    [`WindowRows::epoch`] changes.
/// 2. Rows from [`WindowRows::oldest`] on can be read, also those that were moved out of memory.
///    *Checked:* `debug_assert!` in the panes that windows begin there or later.
/// 3. A row has at most as many values as the block has columns; values that are missing at its end
///    are ABSENT. *Checked:* `debug_assert!` when a row is added to a summary.
/// 4. After any change of a row that is not the newest, or of numbers, the epoch has grown, and
///    [`WindowRows::stable_since`] is at or before the first such row. A row too low costs time; a
///    row too high leaves a summary with an old value for as long as it is in a window.
/// 5. [`WindowRows::edits_since`] has every change since then, in order, or is `None`. A change
///    that is missing leaves a value among the sorted ones that never goes away again.
pub trait WindowRows {
    /// Increases when a row changes that is not the newest, or when rows get other numbers.
    fn epoch(&self) -> u32;
    /// The row before which nothing has changed since an epoch.
    fn stable_since(&self, epoch: u32) -> u32;
    /// The time of a row.
    fn time(&self, at: u32) -> TimeMs;
    /// The values of a row; the last columns may be missing.
    fn values(&self, at: u32) -> &[f64];
    /// The oldest row.
    fn oldest(&self) -> u32;
    /// How many edits of rows before the newest there have been.
    fn edits(&self) -> u64;
    /// The edits after the first `edits`; `None` if they are not known any more.
    fn edits_since(&self, edits: u64) -> Option<&[RowEdit]>;
}

/// The rows `from..to` of a block.
#[derive(Copy, Clone, Debug)]
pub struct RowSpan {
    /// The first row.
    pub from: u32,
    /// The row after the last.
    pub to: u32,
}

/// The panes of one block for one function; `A` is the result for a window.
///
/// # Contract
/// 1. All calls are for the same block and the same number of columns, or for more columns together
///    with another epoch.
/// 2. The end of the window never goes back within an epoch, and its begin rarely does: what has
///    left the window must be read again. *Checked:* `debug_assert!` that no pane is beyond the
///    end.
/// 3. The result is that of the kernel over the samples of the window, bit by bit if
///    [`WindowMethod::Panes`](super::WindowMethod::Panes) says `exact`, else within
///    [`REORDER_TOLERANCE`]. *Checked:* the tests of this module, `live_equals_scratch`.
/// 4. A column without samples in the window gets ABSENT.
pub trait PaneState<A = f64>: Send {
    /// Writes the results of the window over the rows of `span` to `out`, for each of `width`
    /// columns. Windows only move forward.
    fn eval(&mut self, rows: &dyn WindowRows, span: RowSpan, width: usize, out: &mut Vec<A>);

    /// Bytes allocated.
    fn bytes(&self) -> usize;
}

/// Creates the panes of a function.
pub type PaneFactory = fn() -> Box<dyn PaneState>;

/// The summary of some samples of one series.
///
/// # Contract
/// 1. Samples are added in order of time; a merged summary has only later samples.
/// 2. Merging summaries is adding their samples one by one, within the tolerance of the function:
///    otherwise the value of a view would depend on where panes begin. *Checked:* the tests of this
///    module.
/// 3. Merging [`PaneSummary::EMPTY`], on either side, changes nothing.
pub(super) trait PaneSummary: Copy + Send + 'static {
    /// The result: for most functions the value.
    type Answer;
    /// The summary of no samples.
    const EMPTY: Self;
    /// Adds a sample, the newest.
    fn add(&mut self, t: TimeMs, v: f64);
    /// Adds a summary of later samples.
    fn merge(&mut self, later: &Self);
    /// The function's value; ABSENT without samples.
    fn value(&self) -> Self::Answer;
}

/// Panes of summaries.
pub(super) fn pane_state<S: PaneSummary>() -> Box<dyn PaneState<S::Answer>> {
    Box::new(PaneWindow::<S> { epoch: 0, first: 0, panes: VecDeque::new(), sums: Vec::new() })
}

struct PaneWindow<S> {
    epoch: u32,
    /// Number of the first pane.
    first: u32,
    panes: VecDeque<Box<[S]>>,
    /// A buffer for evaluations.
    sums: Vec<S>,
}

/// Adds a row to the summaries of its columns.
fn add_row<S: PaneSummary>(sums: &mut [S], rows: &dyn WindowRows, at: u32) {
    debug_assert!(
        rows.values(at).len() <= sums.len(),
        "clause 3 of the contract of `WindowRows`: a row has at most as many values as columns"
    );
    let t = rows.time(at);
    // `zip` ends with the shorter one: columns that are newer than the row have no value in it.
    for (sum, v) in sums.iter_mut().zip(rows.values(at)) {
        // A row of a block may have a stale marker or nothing in a column, since series of a group
        // come and go.
        if is_sample(*v) && !is_histogram(*v) {
            sum.add(t, *v);
        }
    }
}

impl<S: PaneSummary> PaneWindow<S> {
    /// Keeps the panes within the rows of `span`: drops earlier ones, and summarises new ones.
    fn slide(&mut self, rows: &dyn WindowRows, span: RowSpan, width: usize) {
        let RowSpan { from, to } = span;
        // Something old was overwritten. Only panes after the first changed row are made again;
        // most late samples concern the newest rows.
        if self.epoch != rows.epoch() {
            let stable = rows.stable_since(self.epoch);
            while !self.panes.is_empty() && self.end() > stable {
                self.panes.pop_back();
            }
            self.epoch = rows.epoch();
        }
        let first = from.div_ceil(PANE);
        // A pane that is partly outside of the window is useless, because nothing can be subtracted
        // from it.
        let gone = (first.saturating_sub(self.first) as usize).min(self.panes.len());
        self.panes.drain(..gone);
        // Without panes the numbering begins at the window, however far it has jumped.
        self.first = first.max(if self.panes.is_empty() { first } else { self.first });
        // `<` and not `<=`: the newest row must not get into a pane, see the file's head.
        while self.end() + PANE < to {
            let mut pane = vec![S::EMPTY; width];
            for at in self.end()..self.end() + PANE {
                add_row(&mut pane, rows, at);
            }
            self.panes.push_back(pane.into());
        }
        debug_assert!(
            self.panes.is_empty() || self.end() < to,
            "clause 2 of the contract of `PaneState`: the end of a window does not go back"
        );
    }

    /// The row after the last pane.
    fn end(&self) -> u32 {
        (self.first + self.panes.len() as u32) * PANE
    }
}

impl<S: PaneSummary> PaneState<S::Answer> for PaneWindow<S> {
    fn eval(&mut self, rows: &dyn WindowRows, span: RowSpan, width: usize, out: &mut Vec<S::Answer>) {
        debug_assert!(
            span.from >= rows.oldest() || span.from >= span.to,
            "clause 2 of the contract of `WindowRows`: a window begins at the oldest row or later"
        );
        self.slide(rows, span, width);
        let RowSpan { from, to } = span;
        // Before the first pane the rest of a pane whose begin has left the window is read row by
        // row.
        let first = (self.first * PANE).min(to);
        let last = self.end();
        let sums = &mut self.sums;
        sums.clear();
        sums.resize(width, S::EMPTY);
        for at in from..first {
            add_row(sums, rows, at);
        }
        // Oldest first: extremes of equal values and changes between panes depend on the order.
        for pane in &self.panes {
            for (sum, pane) in sums.iter_mut().zip(pane) {
                sum.merge(pane);
            }
        }
        for at in last..to {
            add_row(sums, rows, at);
        }
        out.clear();
        out.extend(sums.iter().map(S::value));
    }

    fn bytes(&self) -> usize {
        let panes: usize = self.panes.iter().map(|pane| size_of_val(&**pane) + size_of::<Box<[S]>>()).sum();
        panes + self.sums.capacity() * size_of::<S>()
    }
}

/// The largest value: of equal ones the first, NaN only if all are NaN.
#[derive(Copy, Clone)]
pub(super) struct MaxValue(f64);

impl PaneSummary for MaxValue {
    type Answer = f64;
    const EMPTY: MaxValue = MaxValue(ABSENT);

    #[inline]
    fn add(&mut self, _: TimeMs, v: f64) {
        if v > self.0 || self.0.is_nan() {
            self.0 = v;
        }
    }

    #[inline]
    fn merge(&mut self, later: &MaxValue) {
        // A pane in which the series had no sample must not overwrite what there is: ABSENT is a
        // NaN.
        if !is_absent(later.0) {
            self.add(0, later.0);
        }
    }

    fn value(&self) -> f64 {
        self.0
    }
}

/// The smallest value, like [`MaxValue`].
#[derive(Copy, Clone)]
pub(super) struct MinValue(f64);

impl PaneSummary for MinValue {
    type Answer = f64;
    const EMPTY: MinValue = MinValue(ABSENT);

    #[inline]
    fn add(&mut self, _: TimeMs, v: f64) {
        if v < self.0 || self.0.is_nan() {
            self.0 = v;
        }
    }

    #[inline]
    fn merge(&mut self, later: &MinValue) {
        if !is_absent(later.0) {
            self.add(0, later.0);
        }
    }

    fn value(&self) -> f64 {
        self.0
    }
}

/// A sum; `sum` is ABSENT without samples.
#[derive(Copy, Clone)]
pub(super) struct Sum(Neumaier);

impl PaneSummary for Sum {
    type Answer = f64;
    const EMPTY: Sum = Sum(Neumaier { sum: ABSENT, c: 0.0 });

    #[inline]
    fn add(&mut self, _: TimeMs, v: f64) {
        // ABSENT and not 0 is the empty sum, so that a series without samples gets no value instead
        // of 0.
        if is_absent(self.0.sum) {
            self.0 = Neumaier::default();
        }
        self.0.add(v);
    }

    fn merge(&mut self, later: &Sum) {
        if is_absent(later.0.sum) {
            return;
        }
        self.add(0, later.0.sum);
        // The correction of an infinite sum is NaN and would spoil the result.
        if !self.0.sum.is_infinite() {
            self.0.c += later.0.c;
        }
    }

    fn value(&self) -> f64 {
        if is_absent(self.0.sum) { ABSENT } else { self.0.value() }
    }
}

/// A mean.
#[derive(Copy, Clone)]
pub(super) struct Average(Option<Mean>);

impl PaneSummary for Average {
    type Answer = f64;
    const EMPTY: Average = Average(None);

    #[inline]
    fn add(&mut self, _: TimeMs, v: f64) {
        match &mut self.0 {
            Some(mean) => mean.add(v),
            none => *none = Some(Mean::from_first(v)),
        }
    }

    fn merge(&mut self, later: &Average) {
        match (&mut self.0, &later.0) {
            (Some(mean), Some(later)) => mean.merge(later),
            (none, later) => *none = none.or(*later),
        }
    }

    fn value(&self) -> f64 {
        self.0.map_or(ABSENT, |mean| mean.value())
    }
}

/// Welford's recurrence with compensated mean and sum of squares, merged as by Chan; with `ROOT`,
/// the standard deviation.
#[derive(Copy, Clone)]
pub(super) struct Variance<const ROOT: bool> {
    n: f64,
    mean: Neumaier,
    squares: Neumaier,
}

impl<const ROOT: bool> PaneSummary for Variance<ROOT> {
    type Answer = f64;
    const EMPTY: Self =
        Variance { n: 0.0, mean: Neumaier { sum: 0.0, c: 0.0 }, squares: Neumaier { sum: 0.0, c: 0.0 } };

    #[inline]
    fn add(&mut self, _: TimeMs, v: f64) {
        self.n += 1.0;
        let delta = v - (self.mean.sum + self.mean.c);
        self.mean.add(delta / self.n);
        self.squares.add(delta * (v - (self.mean.sum + self.mean.c)));
    }

    fn merge(&mut self, later: &Self) {
        // Merging with nothing must be exact, and the formula below would divide by 0 if both are
        // empty.
        if later.n == 0.0 || self.n == 0.0 {
            *self = if self.n == 0.0 { *later } else { *self };
            return;
        }
        let before = self.n;
        let n = self.n + later.n;
        let delta = (later.mean.sum + later.mean.c) - (self.mean.sum + self.mean.c);
        self.n = n;
        self.mean.add(delta * (later.n / n));
        // Sum and correction are added separately: their sum would already be rounded.
        self.squares.add(later.squares.sum);
        self.squares.add(later.squares.c + delta * delta * (before * later.n / n));
    }

    fn value(&self) -> f64 {
        let variance = (self.squares.sum + self.squares.c) / self.n;
        if self.n == 0.0 {
            ABSENT
        } else if ROOT {
            variance.sqrt()
        } else {
            variance
        }
    }
}

/// How often the value changed; a NaN after a NaN is no change.
#[derive(Copy, Clone)]
pub(super) struct ChangeCount {
    first: f64,
    last: f64,
    count: u32,
}

fn differ(a: f64, b: f64) -> bool {
    a != b && !(a.is_nan() && b.is_nan())
}

impl PaneSummary for ChangeCount {
    type Answer = f64;
    const EMPTY: ChangeCount = ChangeCount { first: ABSENT, last: ABSENT, count: 0 };

    #[inline]
    fn add(&mut self, _: TimeMs, v: f64) {
        if is_absent(self.last) {
            self.first = v
        } else {
            // The change from the last value of one pane to the first of the next is counted here
            // too, because `merge` adds `first` as a sample.
            self.count += u32::from(differ(self.last, v))
        }
        self.last = v;
    }

    fn merge(&mut self, later: &ChangeCount) {
        if !is_absent(later.last) {
            self.add(0, later.first);
            self.last = later.last;
            self.count += later.count;
        }
    }

    fn value(&self) -> f64 {
        if is_absent(self.last) { ABSENT } else { f64::from(self.count) }
    }
}

/// Time of the largest or the smallest value in seconds: of equal ones the last, and the last
/// sample if all are NaN.
#[derive(Copy, Clone)]
pub(super) struct TimeOfExtreme<const LARGEST: bool> {
    t: TimeMs,
    v: f64,
}

impl<const LARGEST: bool> PaneSummary for TimeOfExtreme<LARGEST> {
    type Answer = f64;
    const EMPTY: Self = TimeOfExtreme { t: 0, v: ABSENT };

    #[inline]
    fn add(&mut self, t: TimeMs, v: f64) {
        // Samples come in order of time, so `>=` makes the last of equal ones win.
        let better = if LARGEST { v >= self.v } else { v <= self.v };
        if better || self.v.is_nan() {
            *self = TimeOfExtreme { t, v };
        }
    }

    fn merge(&mut self, later: &Self) {
        if !is_absent(later.v) {
            self.add(later.t, later.v);
        }
    }

    fn value(&self) -> f64 {
        if is_absent(self.v) { ABSENT } else { self.t as f64 / 1000.0 }
    }
}

/// How much the result of panes may differ from that of the kernel, relative to the largest sum of
/// magnitudes. A sum in another order rounds differently, by some units in the last place of what
/// is compensated.
pub const REORDER_TOLERANCE: f64 = 1e-13;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::{Kernel, Window, WindowMethod, table};
    use proptest::prelude::*;

    struct TestRows {
        epoch: u32,
        rows: Vec<Vec<f64>>,
    }

    impl WindowRows for TestRows {
        fn epoch(&self) -> u32 {
            self.epoch
        }

        fn stable_since(&self, epoch: u32) -> u32 {
            if epoch == self.epoch { u32::MAX } else { 0 }
        }

        fn time(&self, at: u32) -> TimeMs {
            i64::from(at) * 15_000
        }

        fn values(&self, at: u32) -> &[f64] {
            &self.rows[at as usize]
        }

        fn oldest(&self) -> u32 {
            0
        }

        fn edits(&self) -> u64 {
            0
        }

        fn edits_since(&self, _: u64) -> Option<&[RowEdit]> {
            None
        }
    }

    fn value() -> impl Strategy<Value = f64> {
        let nan = |bits: u64| f64::from_bits(0x7ff8_0000_0000_0000 | bits);
        prop_oneof![
            6 => (-3i32..3).prop_map(f64::from),
            6 => -1e6f64..1e6,
            1 => Just(-0.0),
            1 => Just(ABSENT),
            1 => (1u64..9).prop_map(nan),
        ]
    }

    /// The kernel's result over a window of one column, and the sum of the magnitudes in the
    /// window.
    fn scratch(eval: fn(&Window) -> f64, given: &TestRows, span: RowSpan, column: usize) -> (f64, f64) {
        let RowSpan { from, to } = span;
        let samples = (from..to).map(|at| (given.time(at), given.rows[at as usize][column]));
        let (ts, vs): (Vec<TimeMs>, Vec<f64>) = samples.filter(|(_, v)| is_sample(*v)).unzip();
        let size: f64 = vs.iter().filter(|v| v.is_finite()).map(|v| v.abs()).sum();
        let value =
            if ts.is_empty() { ABSENT } else { eval(&Window { ts: &ts, vs: &vs, ..Window::default() }) };
        (value, size)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Windows slide over rows, and sometimes an old value changes; for every function with
        /// panes.
        #[test]
        fn the_same_as_from_scratch(
            rows in prop::collection::vec(prop::collection::vec(value(), 2), 150..400),
            moves in prop::collection::vec((0u32..12, 0u32..12, prop::bool::weighted(0.05)), 1..30),
        ) {
            for function in table() {
                let Kernel::Window(kernel) = function.kernel else { continue };
                let WindowMethod::Panes { make, exact } = kernel.method else { continue };
                let mut given = TestRows { epoch: 0, rows: rows.clone() };
                let mut panes = make();
                let mut out = Vec::new();
                let mut from = 0;
                let mut to = 100;
                for (leave, enter, late) in &moves {
                    to = (to + enter).min(rows.len() as u32);
                    from = (from + leave).min(to - 1);
                    if *late && to - from > 3 {
                        given.rows[(from + to) as usize / 2][0] = 7.5;
                        given.epoch += 1;
                    }
                    let span = RowSpan { from, to };
                    panes.eval(&given, span, 2, &mut out);
                    for (column, got) in out.iter().enumerate() {
                        let (want, size) = scratch(kernel.eval, &given, span, column);
                        let same = got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan() && !is_absent(*got) && !is_absent(want);
                        // A variance is computed from squares: there the lost part is relative to
                        // the result.
                        let near = (got - want).abs() <= (REORDER_TOLERANCE * size).max(1e-9 * want.abs());
                        prop_assert!(same || !exact && near, "{}: {got:e}, from scratch {want:e}", function.name);
                    }
                }
            }
        }
    }

    #[test]
    fn an_infinity_leaves_a_sum_as_it_leaves_the_window() {
        let mut rows = vec![vec![0.1]; 200];
        rows[10][0] = f64::INFINITY;
        rows[70][0] = 1e17;
        let given = TestRows { epoch: 0, rows };
        let mut panes = pane_state::<Sum>();
        let mut out = Vec::new();
        panes.eval(&given, RowSpan { from: 0, to: 120 }, 1, &mut out);
        assert_eq!(out[0], f64::INFINITY);
        panes.eval(&given, RowSpan { from: 71, to: 191 }, 1, &mut out);
        assert!((out[0] - 12.0).abs() < 1e-12);
    }
}
