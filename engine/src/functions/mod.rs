//! The functions: one table, one entry each. A function's name stands in its entry and nowhere else.
//!
//! An entry says what the type checker, the documentation and both runtimes need. Families live in files of
//! their own; each holds kernels (plain functions over slices), their slow references and its entries
//! (`ENTRIES`). Start with [`rate`]; sums are in [`summation`], the aggregation operators' arithmetic is in
//! [`aggregation`], and [`docs`] renders the table for `docs/promql-functions.md`.
//!
//! Operation order follows Prometheus on amd64 exactly: answers are compared with it, not with the truth.
//! Rust never fuses multiply and add, so the same order gives the same bits. Only what goes through the
//! system's `libm` (`exp`, `ln`, trigonometry) may differ by a few units in the last place.

pub mod aggregation;
pub mod clock;
pub mod dates;
pub mod docs;
pub mod histogram;
pub mod labels;
pub mod math;
pub mod over_time;
#[cfg(test)]
mod properties;
pub mod quantile;
pub mod rate;
pub mod regression;
pub mod summation;
#[cfg(test)]
mod testing;
pub mod trigonometry;
pub mod vectors;

pub use docs::markdown;

use crate::plan::Type;
use std::sync::LazyLock;
use storage::model::TimeMs;

/// Whether a function takes these scalar parameters; the error is Prometheus' text.
pub type Check = fn(&[f64]) -> Result<(), String>;

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
    /// Refuses scalar parameters with Prometheus' error text; asked once per evaluation, before the kernel.
    pub check: Option<Check>,
}

impl Function {
    /// An entry without optional or repeated parameters, stable, dropping the metric name.
    const fn new(name: &'static str, args: &'static [Type], returns: Type, kernel: Kernel) -> Function {
        Function {
            name,
            args,
            optional: 0,
            repeat: 0,
            returns,
            experimental: false,
            keeps_name: false,
            doc: "",
            example: "",
            kernel,
            check: None,
        }
    }

    /// Adds the sentence and the example.
    const fn doc(mut self, doc: &'static str, example: &'static str) -> Function {
        self.doc = doc;
        self.example = example;
        self
    }

    /// The last `n` parameters may be left out.
    const fn optional(mut self, n: usize) -> Function {
        self.optional = n;
        self
    }

    /// The last parameter may be repeated up to `n` more times.
    const fn repeat(mut self, n: usize) -> Function {
        self.repeat = n;
        self
    }

    /// Needs the feature flag.
    const fn experimental(mut self) -> Function {
        self.experimental = true;
        self
    }

    /// The answer keeps the metric name.
    const fn keeps_name(mut self) -> Function {
        self.keeps_name = true;
        self
    }

    /// Refuses some scalar parameters.
    const fn check(mut self, check: Check) -> Function {
        self.check = Some(check);
        self
    }

    /// Fewest arguments a call may have.
    pub fn min_args(&self) -> usize {
        self.args.len() - self.optional
    }

    /// Most arguments a call may have.
    pub fn max_args(&self) -> usize {
        self.args.len() + self.repeat
    }

    /// Type of argument `i`, counting from 0; `None` beyond [`Function::max_args`].
    pub fn arg(&self, i: usize) -> Option<Type> {
        let last = self.args.len().checked_sub(1)?;
        (i < self.max_args()).then(|| self.args[i.min(last)])
    }
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
    /// A scalar computed from scalars.
    Scalars(fn(&[f64]) -> f64),
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
    /// Quantile of classic histograms: [`histogram::bucket_quantile`].
    HistogramQuantile,
    /// Several quantiles at once, each under a label.
    HistogramQuantiles,
    /// Share of observations between two values: [`histogram::bucket_fraction`].
    HistogramFraction,
    /// Ascending order of presentation, by the values of labels.
    SortByLabel,
    /// Descending order of presentation, by the values of labels.
    SortByLabelDesc,
    /// Adds the labels of info metrics.
    Info,
    /// In the table so that it parses, but no operator computes it yet.
    NotYet,
}

impl Special {
    /// Whether an operator computes it; the others parse, and are refused when a plan is cut into steps.
    pub fn has_operator(self) -> bool {
        use Special::*;
        match self {
            Absent | AbsentOverTime | Scalar | Vector | Sort | SortDesc | SortByLabel | SortByLabelDesc
            | Timestamp | HistogramQuantile | HistogramFraction => true,
            HistogramQuantiles | Info | NotYet => false,
        }
    }
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

impl Window<'_> {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.ts.len()
    }

    /// Whether there is no sample. Kernels never see such a window.
    pub fn is_empty(&self) -> bool {
        self.ts.is_empty()
    }

    /// Length of the window, ms.
    pub fn range(&self) -> i64 {
        self.end - self.start
    }

    /// Length of the window in seconds, rounded as Go's `Duration.Seconds`: whole seconds plus the rest.
    pub fn range_seconds(&self) -> f64 {
        let range = self.range();
        (range / 1000) as f64 + ((range % 1000) * 1_000_000) as f64 / 1e9
    }

    /// The last evaluation time at which the window that slides with it still holds its first sample.
    pub fn expiry(&self) -> TimeMs {
        self.t + (self.ts[0] - self.start) - 1
    }
}

impl WindowKernel {
    /// The last evaluation time, at least `w.t`, up to which the value stays as it is while no sample arrives
    /// and the window slides with time. See [`rate::extrapolated_valid_until`] for what "as it is" allows.
    pub fn valid_until(&self, w: &Window) -> TimeMs {
        match self.moves {
            Moves::OnExpiry => w.expiry(),
            Moves::Extrapolated => rate::extrapolated_valid_until(w),
            Moves::Always => w.t,
        }
    }
}

/// What a kernel answers where Prometheus' code says `math.NaN()`.
pub const NAN: f64 = f64::from_bits(storage::model::value::NORMAL_NAN_BITS);

/// The entry of function `name`.
pub fn lookup(name: &str) -> Option<&'static Function> {
    let table = table();
    table.binary_search_by(|f| f.name.cmp(name)).ok().map(|at| table[at])
}

/// All functions, sorted by name.
pub fn table() -> &'static [&'static Function] {
    static TABLE: LazyLock<Vec<&'static Function>> = LazyLock::new(|| {
        let families = [
            clock::ENTRIES,
            dates::ENTRIES,
            histogram::ENTRIES,
            labels::ENTRIES,
            math::ENTRIES,
            over_time::ENTRIES,
            quantile::ENTRIES,
            rate::ENTRIES,
            regression::ENTRIES,
            trigonometry::ENTRIES,
            vectors::ENTRIES,
        ];
        let mut all: Vec<&'static Function> = families.into_iter().flatten().collect();
        all.sort_unstable_by_key(|f| f.name);
        all
    });
    &TABLE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole_and_sorted() {
        let names: Vec<_> = table().iter().map(|f| f.name).collect();
        assert_eq!(names.len(), 90);
        assert!(names.windows(2).all(|w| w[0] < w[1]));
        assert_eq!(table().iter().filter(|f| f.experimental).count(), 17);
        assert_eq!(table().iter().filter(|f| f.args.contains(&Type::Matrix)).count(), 27);
        for f in table() {
            assert!(f.doc.ends_with('.') && f.example.contains(f.name), "{}", f.name);
            assert!(f.optional <= f.args.len(), "{}", f.name);
            assert_eq!(lookup(f.name).map(|g| g.name), Some(f.name));
        }
        assert!(lookup("rat").is_none());
    }

    #[test]
    fn range_seconds_rounds_as_go_does() {
        let window =
            |range| Window { ts: &[], vs: &[], start: 0, end: range, t: range, args: &[], monotone: false };
        assert_eq!(window(300_000).range_seconds(), 300.0);
        assert_eq!(window(1_500).range_seconds(), 1.5);
        assert_eq!(window(2_001).range_seconds(), 2.0 + 0.001);
    }
}
