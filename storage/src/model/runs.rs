//! Runs of samples in time order, as several sources give them, and how they are merged. At equal
//! times the later source wins.

use super::value::is_absent;
use super::{Intervals, NativeHistogram, TimeMs};
use std::cmp::Reverse;
use std::sync::Arc;

/// Histogram samples in time order.
pub type TimedHistograms = Vec<(TimeMs, Arc<NativeHistogram>)>;
/// (Time of a sample, its start timestamp), in time order.
pub type TimedStarts = Vec<(TimeMs, TimeMs)>;

/// Sorts by time what sources appended from `base` on. At equal times the later source wins.
pub(crate) fn merge_by_time<T>(out: &mut Vec<(TimeMs, T)>, base: usize) {
    // One source, or sources that follow each other: the common case.
    if out[base..].windows(2).all(|pair| pair[0].0 < pair[1].0) {
        return;
    }
    // The sort is stable: after the reversal, the entry of the later source comes first, and
    // `dedup` keeps it.
    let mut added = out.split_off(base);
    added.reverse();
    added.sort_by_key(|(t, _)| *t);
    added.dedup_by_key(|(t, _)| *t);
    out.append(&mut added);
}

/// As [`merge_by_time`], for histograms of sources that end at `ends`. The hint *not reset* refers
/// to the histogram before in the same source. It is cleared where a histogram of another source
/// now comes before.
pub(crate) fn merge_histogram_runs(out: &mut TimedHistograms, base: usize, ends: &[usize]) {
    // All are of one source: hints are right as they are.
    if !ends.iter().any(|end| base < *end && *end < out.len()) {
        return;
    }
    let source = |at: usize| ends.partition_point(|end| *end <= at);
    let added = out.split_off(base).into_iter().enumerate();
    let mut added: Vec<_> = added.map(|(i, (t, h))| (t, source(base + i), h)).collect();
    added.sort_by_key(|(t, source, _)| (*t, Reverse(*source)));
    added.dedup_by_key(|(t, ..)| *t);
    let mut before = None;
    out.extend(added.into_iter().map(|(t, source, mut h)| {
        // The histogram before it is another one than when the hint was made.
        if before.replace(source).is_some_and(|before| before != source) {
            h.clear_reset_hint();
        }
        (t, h)
    }));
}

/// The ascending runs that sources appended one after the other, and how to merge them.
pub(crate) struct RunMerger {
    base: usize,
    last: usize,
    bounds: Vec<usize>,
    /// Whether a later run may have *absent* values, which remove the sample of this time.
    pub holes: bool,
}

impl RunMerger {
    /// Begins after what `ts` already holds.
    pub(crate) fn start(ts: &[TimeMs]) -> RunMerger {
        RunMerger { base: ts.len(), last: ts.len(), bounds: Vec::new(), holes: false }
    }

    /// Ends the run of a source. Notes where it begins only if its first time is not after the run
    /// before: otherwise nothing is to be merged.
    pub(crate) fn end(&mut self, ts: &[TimeMs]) {
        if ts.len() > self.last {
            if self.last > self.base && ts[self.last] <= ts[self.last - 1] {
                self.bounds.push(self.last);
            }
            self.last = ts.len();
        }
    }

    /// Removes deleted times from the runs that begin at `base` or later.
    pub(crate) fn retain(
        &mut self,
        deleted: &Intervals,
        base: usize,
        ts: &mut Vec<TimeMs>,
        vs: &mut Vec<f64>,
    ) {
        // Bounds move forward by what is removed before them.
        let gone = |to: usize| ts[base..to].iter().filter(|t| deleted.covers(**t)).count();
        for bound in self.bounds.iter_mut().filter(|bound| **bound > base) {
            *bound -= gone(*bound);
        }
        deleted.retain(base, ts, vs);
        self.last = ts.len();
        self.bounds.dedup();
    }

    /// Sorts overlapping runs by time. At equal times the value of the later run wins.
    pub(crate) fn merge(self, ts: &mut Vec<TimeMs>, vs: &mut Vec<f64>) {
        if self.bounds.is_empty() && !self.holes {
            return;
        }
        let mut all: Vec<(TimeMs, f64)> =
            ts[self.base..].iter().copied().zip(vs[self.base..].iter().copied()).collect();
        all.sort_by_key(|(t, _)| *t);
        ts.truncate(self.base);
        vs.truncate(self.base);
        for (i, (t, v)) in all.iter().enumerate() {
            // The sort is stable, so of equal times the last is of the latest run.
            let last_word = all.get(i + 1).is_none_or(|next| next.0 != *t);
            if last_word && !is_absent(*v) {
                ts.push(*t);
                vs.push(*v);
            }
        }
    }
}
