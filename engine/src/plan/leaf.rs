//! Leaves of a physical plan, which are its steps that read samples: which samples of a series are
//! read, and what is computed from them. `engine/src/query/leaf.rs` evaluates a leaf over stored
//! history, `engine/src/live/leaf.rs` keeps one current.

use super::physical::LowerError;
use super::{AtTime, FunctionRef, PlanNode, Selector, ValueType, WindowExtension};
use crate::annotations::AnnotationTarget;
use crate::functions::{Function, Kernel, table};
use storage::model::{Matcher, TimeMs};

/// Which samples a leaf reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SampleSource {
    /// All of them must match.
    pub matchers: Vec<Matcher>,
    /// Shift into the past, in ms.
    pub offset: i64,
    /// Fixed time (`@`).
    pub at: Option<AtTime>,
    /// Also reads samples outside of the window.
    pub extension: Option<WindowExtension>,
    /// Only count and sum of native histograms are needed. Prometheus then skips the buckets when
    /// it reads, and derives for each histogram without a reset hint whether it follows a counter
    /// reset. That is visible in annotations.
    pub counts_only: bool,
}

/// What a leaf computes from the samples of a series.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Leaf {
    /// The newest value within the lookback.
    Value,
    /// The time of that sample in seconds; the lookback is shorter by this many ms.
    Timestamp(i64),
    /// The start timestamp of that sample, in seconds.
    StartTimestamp,
    /// The time of that sample in ms, under all labels of the series; native histograms are
    /// returned as they are.
    Info,
    /// A window function over `range` ms; its scalar parameters are the step's inputs.
    Window(FunctionRef, i64),
    /// 1 for each series with a sample within `range` ms.
    Present(i64),
}

impl SampleSource {
    /// The time whose samples the evaluation at `t` reads, in a query over `start..=end`.
    pub fn time(&self, t: TimeMs, start: TimeMs, end: TimeMs) -> TimeMs {
        let base = match self.at {
            None => t,
            Some(AtTime::Time(at)) => at,
            Some(AtTime::Start) => start,
            Some(AtTime::End) => end,
        };
        base - self.offset
    }

    /// How far before and after that time a leaf over this source reads, in ms.
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
    /// Whether the leaf may skip the buckets of native histograms where no step needs them: not if
    /// it needs them to find counter resets.
    pub fn drops_buckets(&self) -> bool {
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
            // Only the number of these rows matters, and series may differ in their names only.
            Leaf::Value | Leaf::Info | Leaf::Present(_) => true,
            Leaf::Window(function, _) => function.0.keeps_name,
            Leaf::Timestamp(_) | Leaf::StartTimestamp => false,
        }
    }

    /// What the annotations of the leaf refer to: the selector, which is an operand of window
    /// functions.
    pub fn annotation_target(&self) -> AnnotationTarget {
        if matches!(self, Leaf::Window(..)) { AnnotationTarget::Operand(0) } else { AnnotationTarget::Whole }
    }

    /// Whether start timestamps matter.
    pub fn reads_starts(&self) -> bool {
        match self {
            Leaf::StartTimestamp => true,
            Leaf::Window(function, _) => {
                matches!(function.0.kernel, Kernel::Window(kernel) if kernel.reads_starts)
            }
            Leaf::Value | Leaf::Timestamp(_) | Leaf::Info | Leaf::Present(_) => false,
        }
    }

    /// How far back the leaf reads in ms, without extension.
    pub(crate) fn reach(&self, lookback: i64) -> i64 {
        match self {
            Leaf::Value | Leaf::StartTimestamp | Leaf::Info => lookback,
            Leaf::Timestamp(shorter) => lookback - shorter,
            Leaf::Window(_, range) | Leaf::Present(range) => *range,
        }
    }
}

/// Rejects functions that do not support `anchored` or `smoothed`.
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

/// Whether a vector occurs in the evaluation, of samples or of a scalar. If so, not every shard can
/// compute the value by itself.
pub(super) fn has_vectors(plan: &PlanNode) -> bool {
    plan.kind() != ValueType::Scalar || plan.inputs().iter().any(|input| has_vectors(input))
}
