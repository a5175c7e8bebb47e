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

/// Whether a function takes these scalar parameters; the error is Prometheus' text.
pub type ValidateParams = fn(&[f64]) -> Result<(), String>;

/// What there is to remark about these scalar parameters where there is an answer.
pub type AnnotateParams = fn(&[f64]) -> Option<StepAnnotation>;

/// One function.
#[derive(Debug)]
pub struct Function {
    /// As written in PromQL.
    pub name: &'static str,
    /// Types of the parameters.
    pub args: &'static [ValueType],
    /// How many of the last parameters may be left out.
    pub optional: usize,
    /// The last parameter may be repeated, up to this many times beyond `args`.
    pub repeat: usize,
    /// Type of the answer.
    pub returns: ValueType,
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
    /// Refuses scalar parameters with Prometheus' error text; asked where there is a sample, before
    /// the kernel.
    pub check: Option<ValidateParams>,
    /// Remarks on scalar parameters of a window function; asked where it has an answer.
    pub annotate_params: Option<AnnotateParams>,
    /// Of native histograms it wants count and sum only: see `skims` of `SampleSource`.
    pub skims: bool,
    /// By how much a standing answer may differ from one that is worked out anew; `None`: by no bit.
    pub tolerance: Option<Tolerance>,
}

/// See [`Function::tolerance`].
#[derive(Debug)]
pub struct Tolerance {
    /// Largest difference, as a part of the value.
    pub relative: f64,
    /// Of a value that is smaller, the part of this.
    pub least: f64,
    /// Why there is one.
    pub why: &'static str,
}

impl Function {
    /// An entry without optional or repeated parameters, stable, dropping the metric name.
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
            skims: false,
            tolerance: None,
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
    const fn check(mut self, check: ValidateParams) -> Function {
        self.check = Some(check);
        self
    }

    /// Wants count and sum of native histograms only.
    const fn skims(mut self) -> Function {
        self.skims = true;
        self
    }

    /// A standing answer may differ a little.
    const fn tolerance(mut self, tolerance: Tolerance) -> Function {
        self.tolerance = Some(tolerance);
        self
    }

    /// Remarks on some scalar parameters.
    const fn annotates_params(mut self, annotate_params: AnnotateParams) -> Function {
        self.annotate_params = Some(annotate_params);
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
    pub fn arg(&self, i: usize) -> Option<ValueType> {
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
    /// As `Map`, of one parameter which may be left out: then of the evaluation time in seconds,
    /// with no labels.
    MapOrClock(fn(f64) -> f64),
    /// Per native histogram; floats are left out.
    Histogram(fn(&NativeHistogram) -> f64),
    /// A scalar that depends on the evaluation time at most.
    Clock(fn(TimeMs) -> f64),
    /// A scalar that depends on the times of the whole query. A live view is an instant query at every tick.
    Query(fn(QueryTimes) -> f64),
    /// A scalar computed from scalars.
    Scalars(fn(&[f64]) -> f64),
    /// Changes the labels of each series.
    Relabel(LabelFunction),
    /// Has an operator of its own.
    Special(OperatorFunction),
}

/// Functions that change labels.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum LabelFunction {
    /// label_replace
    Replace,
    /// label_join
    Join,
}

/// Functions that see more than one sample or series at a time.
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
    /// Ascending order of presentation.
    Sort,
    /// Descending order of presentation.
    SortDesc,
    /// The time of each sample.
    Timestamp,
    /// The start timestamp of each sample.
    StartTimestamp,
    /// Quantile of histograms: [`histogram::bucket_quantile`], [`native::quantile`].
    HistogramQuantile,
    /// Several quantiles at once, each under a label.
    HistogramQuantiles,
    /// Share of observations between two values: [`histogram::bucket_fraction`], [`native::fraction`].
    HistogramFraction,
    /// Ascending order of presentation, by the values of labels.
    SortByLabel,
    /// Descending order of presentation, by the values of labels.
    SortByLabelDesc,
    /// Adds the labels of info metrics.
    Info,
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
        assert_eq!(table().iter().filter(|f| f.args.contains(&ValueType::Matrix)).count(), 27);
        for f in table() {
            assert!(f.doc.ends_with('.') && f.example.contains(f.name), "{}", f.name);
            assert!(f.optional <= f.args.len(), "{}", f.name);
            assert_eq!(lookup(f.name).map(|g| g.name), Some(f.name));
        }
        assert!(lookup("rat").is_none());
    }
}
