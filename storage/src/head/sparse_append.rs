//! The sparse columns of a series and their append path: native histograms and start timestamps.
//!
//! A histogram is a sample like a float. The rules of order apply to both together, and at one time
//! a series has either a float or a histogram. A start timestamp belongs to a sample that was
//! stored before it.

use super::append_decision::{AppendCounts, AppendDecision};
use super::reset_hints::hint_after;
use super::shard::{FlushInProgress, Head};
use super::sparse_column::SparseColumn;
use crate::model::histogram::ResetHint;
use crate::model::value::is_absent;
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
        let is_same = || match self.histogram_at(slot, t) {
            Some(existing) => Some(existing.equals(h)),
            None => self.at(slot, t).map(|_| false),
        };
        let decision = self.limits.decide(t, || self.newest_of(slot), is_same);
        let newest = self.newest_of(slot);
        if !self.limits.count(decision, slot, t, counts) {
            return None;
        }
        counts.late += usize::from(newest.is_some_and(|newest| t < newest));
        let stored = self.hinted(slot, t, h);
        self.add_histogram(slot, t, stored.clone());
        Some(stored)
    }

    /// The histogram with the hint that readers must see.
    pub(super) fn hinted(&self, slot: u32, t: TimeMs, h: &Arc<NativeHistogram>) -> Arc<NativeHistogram> {
        let hint = self.hint_for(slot, t, h);
        if h.hint == hint {
            h.clone()
        } else {
            Arc::new(NativeHistogram { hint, ..NativeHistogram::clone(h) })
        }
    }

    /// The hint of a new histogram. A histogram that is older than another, or directly after a
    /// float, is compared with none.
    fn hint_for(&self, slot: u32, t: TimeMs, h: &NativeHistogram) -> ResetHint {
        let last = self.sparse(slot).and_then(|sparse| sparse.histograms.last());
        let float_since = |before: TimeMs| match self.newest_float(slot) {
            Some(float) if float > t => self.float_between(slot, before, t),
            float => float.is_some_and(|float| float > before),
        };
        let previous = last.filter(|(before, _)| *before < t && !float_since(*before));
        hint_after(previous.map(|(_, previous)| previous.as_ref()), h)
    }

    /// Whether a series has a float after `from` and before `to`, both excluded.
    fn float_between(&self, slot: u32, from: TimeMs, to: TimeMs) -> bool {
        let Some(series) = self.series.get(slot) else { return false };
        let from = from + 1;
        let to = to - 1;
        let mut ts = Vec::new();
        let mut vs = Vec::new();
        if let Some(rows) = series.rows() {
            rows.slices().read(from, to, &mut ts, &mut vs, |_| ());
        }
        for column_ref in series.columns() {
            if let Some(set) = self.groups.sets.get(&column_ref.set) {
                set.snapshot(from, to).read(column_ref.column, from, to, &mut ts, &mut vs);
            }
        }
        // Removed samples are *absent* here, and do not count.
        vs.iter().any(|v| !is_absent(*v))
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
        let decision = match self.start_at(slot, t) {
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
        if self.at(slot, t).is_none() && self.histogram_at(slot, t).is_none() {
            // The hint was true when it was logged, but the histogram that it refers to may be
            // lost.
            if self.hint_for(slot, t, &h) != ResetHint::NotReset {
                h.clear_reset_hint();
            }
            self.add_histogram(slot, t, h);
        }
        Ok(())
    }

    /// Applies a record of a start timestamp.
    pub fn restore_start(&mut self, slot: u32, t: TimeMs, start: TimeMs) -> Result<(), RecordError> {
        self.series.restore_slot(slot)?;
        if self.start_at(slot, t).is_none() {
            self.add_start(slot, t, start);
        }
        Ok(())
    }

    fn sparse(&self, slot: u32) -> Option<&SparseColumns> {
        self.series.get(slot)?.sparse()
    }

    /// The histogram of a series at exactly `t`.
    pub fn histogram_at(&self, slot: u32, t: TimeMs) -> Option<Arc<NativeHistogram>> {
        self.sparse(slot)?.histograms.at(t)
    }

    /// The start timestamp of the sample of a series at exactly `t`, if it is known.
    pub fn start_at(&self, slot: u32, t: TimeMs) -> Option<TimeMs> {
        self.sparse(slot)?.starts.at(t)
    }

    /// Time of the newest histogram of a series.
    pub(super) fn newest_histogram(&self, slot: u32) -> Option<TimeMs> {
        self.sparse(slot)?.histograms.newest()
    }
}
