//! Decides what happens to a sample that is appended to the head: it is stored, ignored because the
//! same sample is there already, or refused as too old or as a second value at the same time.
//!
//! The rules apply to floats and native histograms of a series together, and the sample that came
//! first wins. A sample must not be older than the bounds of the head ([`AppendLimits`]). A sample
//! that is older than the newest of its series must also be within the window of late samples
//! (`out_of_order`). [`super::shard`] appends what is to be stored.

use super::shard::Head;
use crate::limits::REFUSED_NAMED;
use crate::model::TimeMs;

/// The decision for one sample.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum AppendDecision {
    /// Store the sample.
    Store,
    /// Ignore the sample: the series has the same value at this time already.
    Same,
    /// Refuse the sample: the series has another value at this time.
    Duplicate,
    /// Refuse the sample: it is older than the window of late samples of its series.
    TooOld,
    /// Refuse the sample: it is older than the head accepts for any series.
    OutOfBounds,
}

/// Why a sample was refused. The texts are those of Prometheus.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Older than the window of late samples, or than the bounds of the head while there is a
    /// window.
    #[error("too old sample")]
    TooOld,
    /// Older than the newest sample of its series, and there is no window of late samples.
    #[error("out of order sample")]
    OutOfOrder,
    /// Older than the bounds of the head, and there is no window of late samples.
    #[error("out of bounds")]
    OutOfBounds,
    /// The series has another value at this time.
    #[error("duplicate sample for timestamp")]
    Duplicate,
}

/// A sample that was refused.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct RefusedSample {
    /// The series slot.
    pub slot: u32,
    /// The time of the sample.
    pub t: TimeMs,
    /// Which rule of order or which limit it breaks.
    pub why: Refusal,
}

/// How many samples of an append were stored and refused.
#[derive(Clone, Debug, Default)]
pub struct AppendCounts {
    /// Stored samples.
    pub stored: usize,
    /// Those of them that are native histograms.
    pub histograms: usize,
    /// Stored samples that are older than the newest of their series.
    pub late: usize,
    /// Refused as too old.
    pub too_old: usize,
    /// Refused because the series has another value at this time.
    pub duplicate: usize,
    /// Refused because they are older than the bounds of the head.
    pub out_of_bounds: usize,
    /// The first [`REFUSED_NAMED`] refused samples, for the log and for error messages.
    pub refused: Vec<RefusedSample>,
}

/// Which samples a head refuses because of their time.
#[derive(Clone, Debug)]
pub struct AppendLimits {
    /// The window of late samples, ms.
    pub(super) out_of_order: i64,
    /// Samples before this time are refused: blocks cover it, and each late sample would make a
    /// small block at the next flush.
    pub(super) min_append_time: TimeMs,
    /// The append that runs refuses samples before this time.
    pub(super) bound: TimeMs,
    /// Samples before this time may be in blocks too, so they cannot be corrected.
    pub(super) min_correction_time: TimeMs,
}

impl Default for AppendLimits {
    fn default() -> AppendLimits {
        AppendLimits::new(0)
    }
}

impl AppendLimits {
    /// No limits but the window of late samples.
    pub(super) fn new(out_of_order: i64) -> AppendLimits {
        AppendLimits {
            out_of_order,
            min_append_time: TimeMs::MIN,
            bound: TimeMs::MIN,
            min_correction_time: TimeMs::MIN,
        }
    }

    /// Sets the bound of the append that runs: samples older than `bound` are refused, also those
    /// of new series.
    pub fn set_bound(&mut self, bound: TimeMs) {
        self.bound = bound;
    }

    /// The oldest time that the head accepts, for any series.
    pub(super) fn oldest_accepted(&self) -> TimeMs {
        self.min_append_time.max(self.bound)
    }

    /// From now on, samples before `end` are refused as too old: blocks cover that time.
    pub fn raise_min_append_time(&mut self, end: TimeMs) {
        self.min_append_time = self.min_append_time.max(end);
    }

    /// Refuses corrections before `end` from now on: a block may have these samples too, and would
    /// bring the old values back.
    pub fn raise_min_correction_time(&mut self, end: TimeMs) {
        self.min_correction_time = self.min_correction_time.max(end);
    }

    /// Decides about a sample at `t`. `newest` is the time of its series' newest sample. `there` is
    /// called only if a sample could be there: it returns `None` for no sample, else whether the
    /// stored sample is the same.
    pub(super) fn decide(
        &self,
        t: TimeMs,
        newest: impl FnOnce() -> Option<TimeMs>,
        there: impl FnOnce() -> Option<bool>,
    ) -> AppendDecision {
        if t < self.min_append_time {
            return AppendDecision::TooOld;
        }
        if t < self.bound {
            return AppendDecision::OutOfBounds;
        }
        // In order: nothing can be stored at `t`, so the costly look at the samples is skipped.
        let Some(newest) = newest().filter(|newest| t <= *newest) else {
            return AppendDecision::Store;
        };
        if t < newest.saturating_sub(self.out_of_order) {
            return AppendDecision::TooOld;
        }
        match there() {
            Some(true) => AppendDecision::Same,
            Some(false) => AppendDecision::Duplicate,
            None => AppendDecision::Store,
        }
    }

    /// Counts a sample of `slot` at `t` in `counts`. Returns whether the sample must be stored.
    pub fn count(&self, decision: AppendDecision, slot: u32, t: TimeMs, counts: &mut AppendCounts) -> bool {
        // Without a window of late samples, Prometheus has other names for the same refusals.
        let in_order = self.out_of_order == 0;
        let why = match decision {
            AppendDecision::Store => {
                counts.stored += 1;
                return true;
            }
            // A sample that is sent twice is no error of its sender: it may not know that the
            // first request arrived.
            AppendDecision::Same => return false,
            AppendDecision::Duplicate => {
                counts.duplicate += 1;
                Refusal::Duplicate
            }
            AppendDecision::TooOld => {
                counts.too_old += 1;
                if in_order { Refusal::OutOfOrder } else { Refusal::TooOld }
            }
            AppendDecision::OutOfBounds => {
                counts.out_of_bounds += 1;
                if in_order { Refusal::OutOfBounds } else { Refusal::TooOld }
            }
        };
        if counts.refused.len() < REFUSED_NAMED {
            counts.refused.push(RefusedSample { slot, t, why });
        }
        false
    }
}

impl Head {
    /// Decides about a float of `slot`.
    pub(super) fn decide(&self, slot: u32, t: TimeMs, v: f64) -> AppendDecision {
        let stored = self.stored(slot);
        let is_same = || match stored.float_at(t) {
            Some(existing) => Some(existing.to_bits() == v.to_bits()),
            None => stored.histogram_at(t).map(|_| false),
        };
        self.limits.decide(t, || stored.newest(), is_same)
    }
}
