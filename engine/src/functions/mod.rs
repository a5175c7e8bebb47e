//! The functions of PromQL: one table with one entry per function. The name of a function is in its
//! entry and nowhere else.
//!
//! An entry has what the type checker, the documentation and both runtimes need. Each family of
//! functions has a file with its kernels (plain functions over slices), their slow reference
//! versions and its entries (`ENTRIES`). Start with [`rate`]; sums are in [`summation`], the
//! arithmetic of aggregation operators is in [`aggregation`], and [`docs`] renders the table for
//! `docs/promql-functions.md`.
//!
//! The order of operations is exactly that of Prometheus on amd64, because answers are compared
//! with Prometheus, not with the exact result. Rust never fuses multiply and add, so the same order
//! gives the same bits. Only functions of the system's `libm` (`exp`, `ln`, trigonometry) may
//! differ by a few units in the last place.

pub mod aggregation;
pub mod clock;
pub mod dates;
pub mod docs;
pub mod extended;
pub mod extended_histograms;
pub mod findings;
pub mod histogram;
pub mod labels;
pub mod line_fit;
pub mod math;
mod mixed_over_time;
mod mixed_pairs;
mod mixed_rate;
pub mod native;
pub mod over_time;
pub mod panes;
#[cfg(test)]
mod properties;
pub mod quantile;
pub mod rate;
pub mod regression;
pub mod series_slices;
pub mod sliding_extremes;
pub mod sorted_window;
mod start_timestamps;
pub mod summation;
#[cfg(test)]
mod testing;
pub mod trigonometry;
pub mod vectors;
pub mod window;

pub use docs::{markdown, signature};
pub use window::{HistogramSupport, SortedKernel, TimeDependence, Window, WindowKernel, WindowMethod};

pub use clock::QueryTimes;

use crate::annotations::StepAnnotation;
use crate::types::ValueType;
use std::sync::LazyLock;
use storage::model::{NativeHistogram, TimeMs};

/// Validates scalar parameters.
pub type ValidateParams = fn(&[f64]) -> Result<(), ParamError>;

/// Why a function rejects a scalar parameter. The text is Prometheus'.
#[derive(Copy, Clone, Debug, PartialEq, thiserror::Error)]
#[error("invalid {name} factor. Expected: 0 < {symbol} < 1, got: {}", factor_text(*.value))]
pub struct ParamError {
    /// What the parameter is.
    pub name: &'static str,
    /// Its symbol in Prometheus' documentation.
    pub symbol: &'static str,
    /// The value that is not between 0 and 1.
    pub value: f64,
}

/// A factor as Go's `%f` prints it.
fn factor_text(value: f64) -> String {
    match value {
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        _ => format!("{value:.6}"),
    }
}

/// The annotation about scalar parameters, if there is one; used where the function has a result.
pub type AnnotateParams = fn(&[f64]) -> Option<StepAnnotation>;

/// One function.
#[derive(Debug)]
pub struct Function {
    /// The name in PromQL.
    pub name: &'static str,
    /// Types of the parameters.
    pub args: &'static [ValueType],
    /// How many of the last parameters are optional.
    pub optional: usize,
    /// How often the last parameter may be repeated beyond `args`.
    pub repeat: usize,
    /// Type of the result.
    pub returns: ValueType,
    /// Needs `--enable-feature=promql-experimental-functions`.
    pub experimental: bool,
    /// The result keeps the metric name.
    pub keeps_name: bool,
    /// One sentence for documentation and completion.
    pub doc: &'static str,
    /// An expression that uses the function.
    pub example: &'static str,
    /// How it is computed.
    pub kernel: Kernel,
    /// Rejects scalar parameters with Prometheus' error text. Called only if there is a sample,
    /// before the kernel.
    pub check: Option<ValidateParams>,
    /// The annotation about scalar parameters of a window function. Called only where it has a
    /// result.
    pub annotate_params: Option<AnnotateParams>,
    /// Uses only count and sum of native histograms, see `counts_only` of `SampleSource`.
    pub counts_only: bool,
    /// How much a value in a view may differ from one that is computed from scratch; `None`: not at
    /// all.
    pub tolerance: Option<Tolerance>,
}

/// A bound for a difference, see [`Function::tolerance`].
#[derive(Debug)]
pub struct Tolerance {
    /// Largest difference, relative to the value.
    pub relative: f64,
    /// For values below this one, the difference is relative to this.
    pub least: f64,
    /// Why the result cannot be exact, for the documentation.
    pub why: &'static str,
}

impl Function {
    /// An entry without optional or repeated parameters, stable, that drops the metric name.
    const fn new(
        name: &'static str,
        args: &'static [ValueType],
        returns: ValueType,
        kernel: Kernel,
    ) -> Function {
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
            annotate_params: None,
            counts_only: false,
            tolerance: None,
        }
    }

    /// Sets the sentence and the example.
    const fn doc(mut self, doc: &'static str, example: &'static str) -> Function {
        self.doc = doc;
        self.example = example;
        self
    }

    /// The last `n` parameters are optional.
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

    /// The result keeps the metric name.
    const fn keeps_name(mut self) -> Function {
        self.keeps_name = true;
        self
    }

    /// Rejects some scalar parameters.
    const fn check(mut self, check: ValidateParams) -> Function {
        self.check = Some(check);
        self
    }

    /// Uses only count and sum of native histograms.
    const fn counts_only(mut self) -> Function {
        self.counts_only = true;
        self
    }

    /// A value in a view may differ a little.
    const fn tolerance(mut self, tolerance: Tolerance) -> Function {
        self.tolerance = Some(tolerance);
        self
    }

    /// Has annotations about some scalar parameters.
    const fn annotates_params(mut self, annotate_params: AnnotateParams) -> Function {
        self.annotate_params = Some(annotate_params);
        self
    }

    /// The fewest arguments of a call.
    pub fn min_args(&self) -> usize {
        self.args.len() - self.optional
    }

    /// The most arguments of a call.
    pub fn max_args(&self) -> usize {
        self.args.len() + self.repeat
    }

    /// Type of argument `i`, counted from 0; `None` beyond [`Function::max_args`].
    pub fn arg(&self, i: usize) -> Option<ValueType> {
        let last = self.args.len().checked_sub(1)?;
        (i < self.max_args()).then(|| self.args[i.min(last)])
    }
}

/// How a function is computed.
#[derive(Copy, Clone, Debug)]
pub enum Kernel {
    /// Per series, over the samples of a window. Scalar parameters are in `Window::args`.
    Window(WindowKernel),
    /// Per sample: `(value, scalar parameters, evaluation time)`; ABSENT drops the sample.
    Map(fn(f64, &[f64], TimeMs) -> f64),
    /// Like `Map`, with one optional parameter: without it the value is the evaluation time in
    /// seconds, without labels.
    MapOrClock(fn(f64) -> f64),
    /// Per native histogram; floats are dropped.
    Histogram(fn(&NativeHistogram) -> f64),
    /// A scalar that depends on nothing but the evaluation time.
    Clock(fn(TimeMs) -> f64),
    /// A scalar that depends on the times of the whole query. A view is an instant query at every
    /// tick.
    Query(fn(QueryTimes) -> f64),
    /// A scalar computed from scalars.
    Scalars(fn(&[f64]) -> f64),
    /// Changes the labels of each series.
    Relabel(LabelFunction),
    /// Has an operator of its own.
    Operator(OperatorFunction),
}

/// Functions that change labels.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum LabelFunction {
    /// `label_replace`
    Replace,
    /// `label_join`
    Join,
}

/// Functions that need more than one sample or series at a time.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum OperatorFunction {
    /// One sample if the vector is empty.
    Absent,
    /// One sample if no series has a sample in the window.
    AbsentOverTime,
    /// The only sample as a scalar.
    Scalar,
    /// A scalar as a vector.
    Vector,
    /// Sorts by value, ascending.
    Sort,
    /// Sorts by value, descending.
    SortDesc,
    /// The time of each sample.
    Timestamp,
    /// The start timestamp of each sample.
    StartTimestamp,
    /// A quantile of histograms: [`histogram::bucket_quantile`], [`native::quantile`].
    HistogramQuantile,
    /// Several quantiles, each with a label.
    HistogramQuantiles,
    /// The fraction of observations between two values: [`histogram::bucket_fraction`],
    /// [`native::fraction`].
    HistogramFraction,
    /// Sorts by the values of labels, ascending.
    SortByLabel,
    /// Sorts by the values of labels, descending.
    SortByLabelDesc,
    /// Adds the labels of info series.
    Info,
    /// Runs a statement of another language again at each evaluation ([`crate::plan::statement`]).
    Statement,
}

/// The value where Prometheus' code has `math.NaN()`.
pub const NAN: f64 = f64::from_bits(storage::model::value::NORMAL_NAN_BITS);

/// The entry of function `name`.
///
/// ```
/// let rate = engine::functions::lookup("rate").unwrap();
/// assert!(!rate.experimental && engine::functions::lookup("rats").is_none());
/// ```
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
        assert_eq!(table().iter().filter(|f| f.args.contains(&ValueType::Matrix)).count(), 27);
        for f in table() {
            assert!(f.doc.ends_with('.') && f.example.contains(f.name), "{}", f.name);
            assert!(f.optional <= f.args.len(), "{}", f.name);
            assert_eq!(lookup(f.name).map(|g| g.name), Some(f.name));
        }
        assert!(lookup("rat").is_none());
    }
}
