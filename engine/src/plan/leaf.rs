//! Leaves of a physical plan: which samples of a series are looked at, and what becomes of them.

use super::physical::LowerError;
use super::{AtTime, FunctionRef, PlanNode, Selector, ValueType, WindowExtension};
use crate::annotations::AnnotationTarget;
use crate::functions::{Function, Kernel, table};
use storage::model::{Matcher, TimeMs};

/// Which samples a leaf reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SampleSource {
    /// All must hold.
    pub matchers: Vec<Matcher>,
    /// Shift into the past, ms.
    pub offset: i64,
    /// Pinned time.
    pub at: Option<AtTime>,
    /// Samples beyond the edges are looked at.
    pub extension: Option<WindowExtension>,
    /// Only count and sum of native histograms are wanted in the end. Prometheus then leaves the
    /// buckets away as it reads, and says of each histogram whether it comes behind a reset, where
    /// the histogram itself does not: that shows in what is remarked.
    pub skims: bool,
}

/// What a leaf makes of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Leaf {
    /// The newest value within the lookback.
    Value,
    /// The time of that sample, seconds; the lookback is shorter by so many ms.
    Timestamp(i64),
    /// The start timestamp of that sample, seconds.
    StartTimestamp,
    /// Its time in ms, under all labels of the series; a native histogram is a native histogram.
    Info,
    /// A window function over `range` ms; scalar parameters are the step's inputs.
    Window(FunctionRef, i64),
    /// 1 for each series with a sample within `range` ms.
    Present(i64),
}

impl SampleSource {
    /// The time that evaluation at `t` of a query over `start..=end` looks at.
    pub fn time(&self, t: TimeMs, start: TimeMs, end: TimeMs) -> TimeMs {
        let base = match self.at {
            None => t,
            Some(AtTime::Time(at)) => at,
            Some(AtTime::Start) => start,
            Some(AtTime::End) => end,
        };
        base - self.offset
    }

    /// How far back from its time a leaf over this source looks, and how far ahead, ms.
    pub fn reach(&self, leaf: &Leaf, lookback: i64) -> (i64, i64) {
        let own = leaf.reach(lookback);
        match (self.extension, leaf) {
            (Some(WindowExtension::Smoothed), Leaf::Value) => (own, lookback),
            (Some(WindowExtension::Smoothed), Leaf::Window(..)) => (own + lookback, lookback),
            (Some(WindowExtension::Anchored), Leaf::Window(..)) => (own + lookback, 0),
            _ => (own, 0),
        }
    }
}

impl Leaf {
    /// Whether it may leave the buckets of native histograms away, where nobody wants them: they
    /// tell counters of resets.
    pub fn skims(&self) -> bool {
        match self {
            Leaf::Window(function, _) => {
                !matches!(function.0.kernel, Kernel::Window(kernel) if kernel.expects_counter)
            }
            _ => true,
        }
    }

    /// Whether the rows keep the metric names of their series.
    pub fn keeps_name(&self) -> bool {
        match self {
            // Only the number of these rows matters, and the name may be all that distinguishes them.
            Leaf::Value | Leaf::Info | Leaf::Present(_) => true,
            Leaf::Window(function, _) => function.0.keeps_name,
            Leaf::Timestamp(_) | Leaf::StartTimestamp => false,
        }
    }

    /// What the annotations of the leaf are about: the selector, which is an operand of window
    /// functions.
    pub fn annotation_target(&self) -> AnnotationTarget {
        if matches!(self, Leaf::Window(..)) { AnnotationTarget::Operand(0) } else { AnnotationTarget::Whole }
    }

    /// Whether start timestamps make a difference to it.
    pub fn reads_starts(&self) -> bool {
        match self {
            Leaf::StartTimestamp => true,
            Leaf::Window(function, _) => {
                matches!(function.0.kernel, Kernel::Window(kernel) if kernel.reads_starts)
            }
            Leaf::Value | Leaf::Timestamp(_) | Leaf::Info | Leaf::Present(_) => false,
        }
    }

    /// How far back from its time the leaf looks, ms, by itself.
    pub(crate) fn reach(&self, lookback: i64) -> i64 {
        match self {
            Leaf::Value | Leaf::StartTimestamp | Leaf::Info => lookback,
            Leaf::Timestamp(shorter) => lookback - shorter,
            Leaf::Window(_, range) | Leaf::Present(range) => *range,
        }
    }
}

/// Refuses functions that do not know what to do with samples beyond the edges of their window.
pub(super) fn check_extension(function: FunctionRef, selector: &Selector) -> Result<(), LowerError> {
    let allows =
        |f: &Function, extension| matches!(f.kernel, Kernel::Window(kernel) if kernel.allows(extension));
    match selector.extension {
        Some(extension) if !allows(function.0, extension) => {
            let able = table().iter().filter(|f| allows(f, extension)).map(|f| f.name);
            let word = extension.as_str();
            let able = able.collect::<Vec<_>>().join(", ");
            let name = function.0.name;
            Err(LowerError(format!("{word} modifier can only be used with: {able} - not with {name}")))
        }
        _ => Ok(()),
    }
}

/// Whether a vector is made on the way to the answer, be it of samples or of a scalar: then not
/// every shard can compute it.
pub(super) fn has_vectors(plan: &PlanNode) -> bool {
    plan.kind() != ValueType::Scalar || plan.inputs().iter().any(|input| has_vectors(input))
}
