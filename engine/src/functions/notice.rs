//! What window kernels notice about their samples, to become annotations: kept as bits, because the same is noticed at
//! step after step, and only a few things can be. [`Noticed::notes`] makes Prometheus' texts of it, which name the
//! metric. All of them are about the call's first argument, even where that is not the window.

use crate::operators::remarks;
use crate::plan::notes::{Extent, Note, Place};

/// One thing that can be noticed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Floats and histograms are in one window, and the function has no answer to that.
    MixedKinds,
    /// Histograms were left out beside floats.
    LeftOut,
    /// A gauge histogram where a counter is wanted.
    NotACounter,
    /// A counter histogram where a gauge is wanted.
    NotAGauge,
    /// Custom and exponential buckets are in one window.
    MixedSchemas,
    /// Custom bounds were reconciled while one histogram was taken from another.
    ReconciledSub,
    /// The same while they were added.
    ReconciledAdd,
    /// The same while many were added up.
    ReconciledAggregate,
    /// Hints said that the counter was reset, and that it was not.
    ConflictingResets,
}

const ALL: [Notice; 9] = [
    Notice::MixedKinds,
    Notice::LeftOut,
    Notice::NotACounter,
    Notice::NotAGauge,
    Notice::MixedSchemas,
    Notice::ReconciledSub,
    Notice::ReconciledAdd,
    Notice::ReconciledAggregate,
    Notice::ConflictingResets,
];

/// What was noticed in the windows of one series.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Noticed {
    bits: u16,
    /// In how many windows a start timestamp lay before the sample before.
    overlaps: u64,
}

impl Noticed {
    /// Whether it is nothing.
    pub fn is_empty(&self) -> bool {
        *self == Noticed::default()
    }

    /// Adds one thing.
    pub fn add(&mut self, notice: Notice) {
        self.bits |= 1 << notice as u16;
    }

    /// A start timestamp lies before the sample before, in one more window.
    pub fn overlap(&mut self) {
        self.overlaps += 1;
    }

    /// Adds what `other` is.
    pub fn merge(&mut self, other: Noticed) {
        self.bits |= other.bits;
        self.overlaps += other.overlaps;
    }

    /// Whether that was noticed.
    pub fn has(&self, notice: Notice) -> bool {
        self.bits & (1 << notice as u16) != 0
    }

    /// As notes on a series of `metric` (empty: it has no name), on its selector at `place`.
    pub fn notes(&self, metric: &str, place: Place) -> Vec<Note> {
        let text = |notice: &Notice| match notice {
            Notice::MixedKinds => remarks::mixed_floats_histograms(place, metric),
            Notice::LeftOut => remarks::ignored_in_window(place, metric),
            Notice::NotACounter => remarks::not_a_counter(place, metric),
            Notice::NotAGauge => remarks::not_a_gauge(place, metric),
            Notice::MixedSchemas => remarks::mixed_bucket_schemas(place, metric),
            Notice::ReconciledSub => remarks::reconciled_bounds(place, "subtraction"),
            Notice::ReconciledAdd => remarks::reconciled_bounds(place, "addition"),
            Notice::ReconciledAggregate => remarks::reconciled_bounds(place, "aggregation"),
            Notice::ConflictingResets => remarks::conflicting_resets(place, "aggregation"),
        };
        let mut notes: Vec<Note> = ALL.iter().filter(|notice| self.has(**notice)).map(text).collect();
        if self.overlaps > 0 {
            let extent = Extent::Times(self.overlaps);
            notes.push(Note { extent, ..remarks::overlapping_start(place, metric) });
        }
        notes
    }
}

/// The suffixes by which counters are known.
const COUNTER_SUFFIXES: [&str; 4] = ["_total", "_sum", "_count", "_bucket"];

/// What there is to say of a function for counters that gave floats of a series with these labels.
/// `typed`: the label `__type__` tells what is one, not the name.
pub fn counter_doubt(labels: &storage::model::Labels, typed: bool, place: Place) -> Option<Note> {
    let metric = labels.name();
    if metric.is_empty() {
        return None;
    }
    if typed {
        let kind = labels.get(METRIC_TYPE).unwrap_or("");
        let counter = matches!(kind, "counter" | "histogram");
        return (!counter).then(|| remarks::typed_no_counter(place, metric, kind));
    }
    let counter = COUNTER_SUFFIXES.iter().any(|suffix| metric.ends_with(suffix));
    (!counter).then(|| remarks::possibly_no_counter(place, metric))
}

/// The label that names a metric's type.
const METRIC_TYPE: &str = "__type__";

#[cfg(test)]
mod tests {
    use super::*;
    use storage::model::Labels;

    #[test]
    fn what_is_noticed_twice_is_said_once() {
        let mut noticed = Noticed::default();
        assert!(noticed.is_empty());
        noticed.add(Notice::MixedKinds);
        noticed.add(Notice::MixedKinds);
        noticed.overlap();
        noticed.overlap();
        let notes = noticed.notes("m", Place::Operand(0));
        assert_eq!(notes.len(), 2);
        assert!(notes[0].text.ends_with("for metric name \"m\""));
        assert_eq!(notes[1].extent, Extent::Times(2));
    }

    #[test]
    fn counters_are_known_by_name_or_by_type() {
        let doubt = |pairs: &[(&str, &str)], typed| {
            counter_doubt(&Labels::from_pairs(pairs.iter().copied()), typed, Place::Whole).is_some()
        };
        assert!(doubt(&[("__name__", "up")], false));
        assert!(!doubt(&[("__name__", "up_total")], false));
        assert!(!doubt(&[("a", "b")], false), "no name, no doubt");
        assert!(doubt(&[("__name__", "up_total")], true));
        assert!(!doubt(&[("__name__", "up"), ("__type__", "counter")], true));
        assert!(doubt(&[("__name__", "up"), ("__type__", "gauge")], true));
    }
}
