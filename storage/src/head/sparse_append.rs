//! The sparse columns of a series and their append path: native histograms and start timestamps.
//!
//! A histogram is a sample like a float. The rules of order apply to both together, and at one time
//! a series has either a float or a histogram. A start timestamp belongs to a sample that was
//! stored before it.

use super::append_decision::{AppendCounts, AppendDecision};
use super::reset_hints::hint_behind;
use super::shard::Head;
use super::sparse_column::SparseColumn;
use crate::limits::SHARD_SLOTS;
use crate::model::histogram::ResetHint;
use crate::model::value::is_absent;
use crate::model::{NativeHistogram, TimeMs};
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
        let verdict = self.judge(slot, t, || match self.histogram_at(slot, t) {
            Some(there) => Some(there.equals(h)),
            None => self.at(slot, t).map(|_| false),
        });
        let newest = self.newest_of(slot);
        if !self.note(verdict, (slot, t), counts) {
            return None;
        }
        counts.late += usize::from(newest.is_some_and(|newest| t < newest));
        let kept = self.hinted(slot, t, h);
        self.add_histogram(slot, t, kept.clone());
        Some(kept)
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
        let last = self.lanes(slot).and_then(|lanes| lanes.histograms.last());
        let float_since = |before: TimeMs| match self.newest_float(slot) {
            Some(float) if float > t => self.float_between(slot, before, t),
            float => float.is_some_and(|float| float > before),
        };
        let previous = last.filter(|(before, _)| *before < t && !float_since(*before));
        hint_behind(previous.map(|(_, previous)| previous.as_ref()), h)
    }

    /// Whether a series has a float after `from` and before `to`, both excluded.
    fn float_between(&self, slot: u32, from: TimeMs, to: TimeMs) -> bool {
        let Some(series) = self.series.get(slot as usize) else { return false };
        let from = from + 1;
        let to = to - 1;
        let mut ts = Vec::new();
        let mut vs = Vec::new();
        if let Some(rows) = series.rows() {
            rows.slices().read(from, to, &mut ts, &mut vs, |_| ());
        }
        for home in series.homes() {
            if let Some(set) = self.sets.get(&home.set) {
                set.snapshot(from, to).read(home.column, from, to, &mut ts, &mut vs);
            }
        }
        vs.iter().any(|v| !is_absent(*v))
    }

    /// Stores a histogram at a time at which its series has no sample.
    pub fn add_histogram(&mut self, slot: u32, t: TimeMs, h: Arc<NativeHistogram>) {
        self.activate(slot);
        if let Some(flushing) = self.flushing.as_mut().filter(|flushing| t < flushing.end) {
            flushing.histograms.push((slot, t, h.clone()));
        }
        self.extend_time_range(t);
        let lane = &mut self.series[slot as usize].lanes_mut().histograms;
        let first = lane.is_empty();
        if lane.newest().is_some_and(|newest| t < newest) {
            // The next histogram has another one before it now.
            lane.change_after(t, NativeHistogram::clear_reset_hint);
        }
        lane.add(t, h);
        if first {
            self.mark_mixed(slot);
        }
    }

    /// Appends the start timestamp of a sample. Returns whether it was stored.
    pub fn append_start(&mut self, slot: u32, t: TimeMs, start: TimeMs, counts: &mut AppendCounts) -> bool {
        let verdict = match self.start_at(slot, t) {
            Some(there) if there == start => AppendDecision::Same,
            Some(_) => AppendDecision::Duplicate,
            // No check against the window of late samples: the sample itself was accepted.
            None if t < self.min_append_time => AppendDecision::TooOld,
            None if t < self.bound => AppendDecision::OutOfBounds,
            None => AppendDecision::Store,
        };
        let store = self.note(verdict, (slot, t), counts);
        if store {
            self.add_start(slot, t, start);
        }
        store
    }

    pub(super) fn add_start(&mut self, slot: u32, t: TimeMs, start: TimeMs) {
        if let Some(flushing) = self.flushing.as_mut().filter(|flushing| t < flushing.end) {
            flushing.starts.push((slot, t, start));
        }
        self.series[slot as usize].lanes_mut().starts.add(t, start);
    }

    /// Applies a histogram record. The hint is checked again: the histogram before it may be lost,
    /// and then *not reset* would be wrong.
    pub fn restore_histogram(
        &mut self,
        slot: u32,
        t: TimeMs,
        mut h: Arc<NativeHistogram>,
    ) -> Result<(), String> {
        self.restore_slot(slot)?;
        if self.at(slot, t).is_none() && self.histogram_at(slot, t).is_none() {
            if self.hint_for(slot, t, &h) != ResetHint::NotReset {
                h.clear_reset_hint();
            }
            self.add_histogram(slot, t, h);
        }
        Ok(())
    }

    /// Applies a record of a start timestamp.
    pub fn restore_start(&mut self, slot: u32, t: TimeMs, start: TimeMs) -> Result<(), String> {
        self.restore_slot(slot)?;
        if self.start_at(slot, t).is_none() {
            self.add_start(slot, t, start);
        }
        Ok(())
    }

    /// Creates the slots up to one that the log names.
    pub fn restore_slot(&mut self, slot: u32) -> Result<(), String> {
        if slot >= SHARD_SLOTS {
            return Err(format!("slot {slot} is beyond {SHARD_SLOTS}"));
        }
        self.extend_slots(slot);
        Ok(())
    }

    fn lanes(&self, slot: u32) -> Option<&SparseColumns> {
        self.series.get(slot as usize)?.lanes()
    }

    /// The histogram of a series at exactly `t`.
    pub fn histogram_at(&self, slot: u32, t: TimeMs) -> Option<Arc<NativeHistogram>> {
        self.lanes(slot)?.histograms.at(t)
    }

    pub(super) fn start_at(&self, slot: u32, t: TimeMs) -> Option<TimeMs> {
        self.lanes(slot)?.starts.at(t)
    }

    /// Time of the newest histogram of a series.
    pub(super) fn newest_histogram(&self, slot: u32) -> Option<TimeMs> {
        self.lanes(slot)?.histograms.newest()
    }
}
