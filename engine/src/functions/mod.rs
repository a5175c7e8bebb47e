//! The functions: one table, one entry each. A function's name stands in its entry and nowhere else.
//!
//! An entry says what the type checker, the documentation and both runtimes need. Families live in files of
//! their own; each holds kernels (plain functions over slices), their slow references and its entries.

use crate::plan::Type;
use storage::model::TimeMs;

/// One function.
#[derive(Debug)]
pub struct Function {
    /// As written in PromQL.
    pub name: &'static str,
    /// Types of the parameters.
    pub args: &'static [Type],
    /// How many of the last parameters may be left out.
    pub optional: usize,
    /// The last parameter may be repeated, up to this many times beyond `args`.
    pub repeat: usize,
    /// Type of the answer.
    pub returns: Type,
    /// Needs `--enable-feature=promql-experimental-functions`.
    pub experimental: bool,
    /// The answer keeps the metric name.
    pub keeps_name: bool,
    /// One sentence for documentation and completion.
    pub doc: &'static str,
    /// An expression that uses it.
    pub example: &'static str,
    /// How it is computed.
    pub kernel: Kernel,
}

/// How a function is computed.
#[derive(Copy, Clone, Debug)]
pub enum Kernel {
    /// Per series, over the samples of a window. Scalar parameters arrive in `Window::args`.
    Window(WindowKernel),
    /// Per sample: `(value, scalar parameters, evaluation time)`; ABSENT drops the sample.
    Map(fn(f64, &[f64], TimeMs) -> f64),
    /// As `Map`, of one parameter which may be left out: then of the evaluation time in seconds, with no labels.
    MapOrClock(fn(f64) -> f64),
    /// A scalar that depends on the evaluation time at most.
    Clock(fn(TimeMs) -> f64),
    /// Changes the labels of each series.
    Relabel(Relabel),
    /// Has an operator of its own.
    Special(Special),
}

/// Functions that change labels.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Relabel {
    /// label_replace
    Replace,
    /// label_join
    Join,
}

/// Functions that see more than one sample or series at a time.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Special {
    /// One sample if the vector is empty.
    Absent,
    /// One sample if no series has a sample in the window.
    AbsentOverTime,
    /// The only sample as a scalar.
    Scalar,
    /// A scalar as a vector.
    Vector,
    /// Ascending order of presentation.
    Sort,
    /// Descending order of presentation.
    SortDesc,
    /// The time of each sample.
    Timestamp,
    /// Quantile of classic histograms.
    HistogramQuantile,
    /// In the table so that it parses, but no operator computes it yet.
    NotYet,
}

/// A window function.
#[derive(Copy, Clone, Debug)]
pub struct WindowKernel {
    /// The kernel: ABSENT if the window gives no value. `Window::ts` is never empty.
    pub eval: fn(&Window) -> f64,
    /// The obviously right, slow version: property tests compare.
    pub reference: fn(&Window) -> f64,
    /// When the value moves although no sample arrives.
    pub moves: Moves,
}

/// When the value of a window function changes although no sample arrives.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Moves {
    /// Only when a sample leaves the window.
    OnExpiry,
    /// When a sample leaves, and with time while one edge is extrapolated (rate, increase, delta).
    Extrapolated,
    /// At every tick.
    Always,
}

/// The samples of one series in one window, and where the window stands.
#[derive(Copy, Clone, Debug)]
pub struct Window<'a> {
    /// Times, ascending; no stale markers, no absent values.
    pub ts: &'a [TimeMs],
    /// Values.
    pub vs: &'a [f64],
    /// Left edge, exclusive: every `ts > start`.
    pub start: TimeMs,
    /// Right edge, inclusive: evaluation time minus offset.
    pub end: TimeMs,
    /// Evaluation time.
    pub t: TimeMs,
    /// Scalar parameters, in order.
    pub args: &'a [f64],
    /// The caller knows that no adjacent pair decreases: a counter kernel need not look.
    pub monotone: bool,
}

/// The entry of function `name`.
pub fn lookup(name: &str) -> Option<&'static Function> {
    table().iter().copied().find(|f| f.name == name)
}

/// All functions, sorted by name.
pub fn table() -> &'static [&'static Function] {
    &[]
}
