//! The sparse columns of a series and their append path: native histograms and start timestamps.
//!
//! A histogram is a sample like a float. The rules of order apply to both together, and at one time
//! a series has either a float or a histogram. A start timestamp belongs to a sample that was
//! stored before it.

use super::append_decision::{AppendCounts, AppendDecision};
use super::shard::{FlushInProgress, Head};
use super::sparse_column::SparseColumn;
use crate::model::histogram::ResetHint;
use crate::model::{NativeHistogram, TimeMs};
use crate::wal::RecordError;
use std::sync::Arc;

/// What only some samples of a series have.
#[derive(Clone, Debug, Default)]
pub(super) struct SparseColumns {
    /// Samples that are native histograms.
    pub histograms: SparseColumn<Arc<NativeHistogram>>,
    /// Since when the counter counts, where that is known; by the time of the sample.
    pub starts: SparseColumn<TimeMs>,
}

impl SparseColumns {
    /// Whether both are empty.
    pub(super) fn is_empty(&self) -> bool {
        self.histograms.is_empty() && self.starts.is_empty()
    }

    /// What a reader of `from..=to` needs.
    pub(super) fn snapshot(&self, from: TimeMs, to: TimeMs) -> SparseColumns {
        SparseColumns {
            histograms: self.histograms.snapshot(from, to),
            starts: self.starts.snapshot(from, to),
        }
    }

    /// Drops everything before `end`.
    pub(super) fn drop_before(&mut self, end: TimeMs) {
        self.histograms.drop_before(end);
        self.starts.drop_before(end);
    }
}

impl Head {
    /// Appends one histogram. Returns what was stored, with its hint; `None` if it was not stored.
    pub fn append_histogram(
        &mut self,
        slot: u32,
        t: TimeMs,
        h: &Arc<NativeHistogram>,
        counts: &mut AppendCounts,
    ) -> Option<Arc<NativeHistogram>> {
        let stored = self.stored(slot);
        let is_same = || match stored.histogram_at(t) {
            Some(existing) => Some(existing.equals(h)),
            None => stored.float_at(t).map(|_| false),
        };
        let newest = stored.newest();
        let decision = self.limits.decide(t, || newest, is_same);
        if !self.limits.count(decision, slot, t, counts) {
            return None;
        }
        counts.late += usize::from(newest.is_some_and(|newest| t < newest));
        let stored = self.stored(slot).hinted(t, h);
        self.add_histogram(slot, t, stored.clone());
        Some(stored)
    }

    /// Stores a histogram at a time at which its series has no sample.
    pub fn add_histogram(&mut self, slot: u32, t: TimeMs, h: Arc<NativeHistogram>) {
        self.series.activate(slot);
        if let Some(flushing) = FlushInProgress::at(&mut self.flushing, t) {
            flushing.histograms.push((slot, t, h.clone()));
        }
        self.times.extend(t);
        let column = &mut self.series[slot].sparse_mut().histograms;
        // The first histogram of a series: from now on its floats must be checked against them.
        let first = column.is_empty();
        if column.newest().is_some_and(|newest| t < newest) {
            // The next histogram has another one before it now.
            column.change_after(t, NativeHistogram::clear_reset_hint);
        }
        column.add(t, h);
        if first {
            self.mark_mixed(slot);
        }
    }

    /// Appends the start timestamp of a sample. Returns whether it was stored.
    pub fn append_start(&mut self, slot: u32, t: TimeMs, start: TimeMs, counts: &mut AppendCounts) -> bool {
        let decision = match self.stored(slot).start_at(t) {
            Some(there) if there == start => AppendDecision::Same,
            Some(_) => AppendDecision::Duplicate,
            // No check against the window of late samples: the sample itself was accepted.
            None if t < self.limits.min_append_time => AppendDecision::TooOld,
            None if t < self.limits.bound => AppendDecision::OutOfBounds,
            None => AppendDecision::Store,
        };
        let store = self.limits.count(decision, slot, t, counts);
        if store {
            self.add_start(slot, t, start);
        }
        store
    }

    pub(super) fn add_start(&mut self, slot: u32, t: TimeMs, start: TimeMs) {
        if let Some(flushing) = FlushInProgress::at(&mut self.flushing, t) {
            flushing.starts.push((slot, t, start));
        }
        self.series[slot].sparse_mut().starts.add(t, start);
    }

    /// Applies a histogram record. The hint is checked again: the histogram before it may be lost,
    /// and then *not reset* would be wrong.
    pub fn restore_histogram(
        &mut self,
        slot: u32,
        t: TimeMs,
        mut h: Arc<NativeHistogram>,
    ) -> Result<(), RecordError> {
        self.series.restore_slot(slot)?;
        if !self.stored(slot).has_sample_at(t) {
            // The hint was true when it was logged, but the histogram that it refers to may be
            // lost.
            if self.stored(slot).hint_for(t, &h) != ResetHint::NotReset {
                h.clear_reset_hint();
            }
            self.add_histogram(slot, t, h);
        }
        Ok(())
    }

    /// Applies a record of a start timestamp.
    pub fn restore_start(&mut self, slot: u32, t: TimeMs, start: TimeMs) -> Result<(), RecordError> {
        self.series.restore_slot(slot)?;
        if self.stored(slot).start_at(t).is_none() {
            self.add_start(slot, t, start);
        }
        Ok(())
    }
}
