//! What window kernels (the functions over the samples of a range) notice in their samples, to
//! become annotations: counters that are no counters, mixed histograms and floats. They are stored
//! as bits, because the same is found at step after step and there are only a few kinds.
//!
//! [`Findings::annotations`] makes the texts of Prometheus, which name the metric. All of them
//! refer to the call's first argument, even if that is not the window.

use crate::annotations::texts;
use crate::annotations::{AnnotationTarget, Occurrences, StepAnnotation};

/// One kind of finding.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Floats and histograms are in one window, which the function does not support.
    MixedKinds,
    /// Histograms were ignored because there are floats.
    HistogramsIgnored,
    /// A gauge histogram where a counter is expected.
    NotACounter,
    /// A counter histogram where a gauge is expected.
    NotAGauge,
    /// Custom and exponential buckets are in one window.
    MixedSchemas,
    /// Custom bounds were reconciled in a subtraction of histograms.
    ReconciledSub,
    /// Custom bounds were reconciled in an addition.
    ReconciledAdd,
    /// Custom bounds were reconciled in an aggregation.
    ReconciledAggregate,
    /// Hints contradict each other: the counter was reset, and was not.
    ConflictingResets,
}

const ALL: [Finding; 9] = [
    Finding::MixedKinds,
    Finding::HistogramsIgnored,
    Finding::NotACounter,
    Finding::NotAGauge,
    Finding::MixedSchemas,
    Finding::ReconciledSub,
    Finding::ReconciledAdd,
    Finding::ReconciledAggregate,
    Finding::ConflictingResets,
];

/// The findings in the windows of one series.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    bits: u16,
    /// In how many windows a start timestamp was before the previous sample.
    overlaps: u64,
}

impl Findings {
    /// Whether there are no findings.
    pub fn is_empty(&self) -> bool {
        *self == Findings::default()
    }

    /// Adds a finding.
    pub fn add(&mut self, finding: Finding) {
        self.bits |= 1 << finding as u16;
    }

    /// Adds a window in which a start timestamp is before the previous sample.
    pub fn overlap(&mut self) {
        self.overlaps += 1;
    }

    /// Adds the findings of `other`.
    pub fn merge(&mut self, other: Findings) {
        self.bits |= other.bits;
        self.overlaps += other.overlaps;
    }

    /// Whether there is such a finding.
    pub fn has(&self, finding: Finding) -> bool {
        self.bits & (1 << finding as u16) != 0
    }

    /// The annotations for a series of `metric` (empty: it has no name); its selector is at
    /// `target`.
    pub fn annotations(&self, metric: &str, target: AnnotationTarget) -> Vec<StepAnnotation> {
        let text = |finding: &Finding| match finding {
            Finding::MixedKinds => texts::mixed_floats_histograms(target, metric),
            Finding::HistogramsIgnored => texts::ignored_in_window(target, metric),
            Finding::NotACounter => texts::not_a_counter(target, metric),
            Finding::NotAGauge => texts::not_a_gauge(target, metric),
            Finding::MixedSchemas => texts::mixed_bucket_schemas(target, metric),
            Finding::ReconciledSub => texts::reconciled_bounds(target, "subtraction"),
            Finding::ReconciledAdd => texts::reconciled_bounds(target, "addition"),
            Finding::ReconciledAggregate => texts::reconciled_bounds(target, "aggregation"),
            Finding::ConflictingResets => texts::conflicting_resets(target, "aggregation"),
        };
        let mut annotations: Vec<StepAnnotation> =
            ALL.iter().filter(|finding| self.has(**finding)).map(text).collect();
        if self.overlaps > 0 {
            let extent = Occurrences::Times(self.overlaps);
            annotations.push(StepAnnotation { extent, ..texts::overlapping_start(target, metric) });
        }
        annotations
    }
}

/// The suffixes of the names of counters.
const COUNTER_SUFFIXES: [&str; 4] = ["_total", "_sum", "_count", "_bucket"];

/// The annotation of a function for counters that returned floats for a series with these labels.
/// `typed`: the label `__type__` decides what is a counter, not the name.
pub fn non_counter_annotation(
    labels: &storage::model::Labels,
    typed: bool,
    target: AnnotationTarget,
) -> Option<StepAnnotation> {
    let metric = labels.name();
    if metric.is_empty() {
        return None;
    }
    if typed {
        let kind = labels.get(METRIC_TYPE).unwrap_or("");
        let counter = matches!(kind, "counter" | "histogram");
        return (!counter).then(|| texts::typed_no_counter(target, metric, kind));
    }
    let counter = COUNTER_SUFFIXES.iter().any(|suffix| metric.ends_with(suffix));
    (!counter).then(|| texts::possibly_no_counter(target, metric))
}

/// The label with a metric's type.
const METRIC_TYPE: &str = "__type__";

#[cfg(test)]
mod tests {
    use super::*;
    use storage::model::Labels;

    #[test]
    fn what_is_noticed_twice_is_said_once() {
        let mut findings = Findings::default();
        assert!(findings.is_empty());
        findings.add(Finding::MixedKinds);
        findings.add(Finding::MixedKinds);
        findings.overlap();
        findings.overlap();
        let annotations = findings.annotations("m", AnnotationTarget::Operand(0));
        assert_eq!(annotations.len(), 2);
        assert!(annotations[0].text.ends_with("for metric name \"m\""));
        assert_eq!(annotations[1].extent, Occurrences::Times(2));
    }

    #[test]
    fn counters_are_known_by_name_or_by_type() {
        let annotate_params = |pairs: &[(&str, &str)], typed| {
            non_counter_annotation(&Labels::from_pairs(pairs.iter().copied()), typed, AnnotationTarget::Whole)
                .is_some()
        };
        assert!(annotate_params(&[("__name__", "up")], false));
        assert!(!annotate_params(&[("__name__", "up_total")], false));
        assert!(!annotate_params(&[("a", "b")], false), "no name, no doubt");
        assert!(annotate_params(&[("__name__", "up_total")], true));
        assert!(!annotate_params(&[("__name__", "up"), ("__type__", "counter")], true));
        assert!(annotate_params(&[("__name__", "up"), ("__type__", "gauge")], true));
    }
}
