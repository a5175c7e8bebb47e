//! A snapshot of the matching series of one shard: readable without any lock.
//!
//! A series comes from up to two kinds of sources: parts of blocks (oldest first) and the head. They may
//! overlap; at one timestamp the later source wins. The head's half is [`crate::head::HeadSnapshot`].

use super::options::StoreError;
use crate::head::HeadSnapshot;
use crate::model::value::is_absent;
use crate::model::{Intervals, Labels, NativeHistogram, TimeMs};
use std::cmp::Reverse;
use std::sync::Arc;

/// Histogram samples in time order.
pub type TimedHistograms = Vec<(TimeMs, Arc<NativeHistogram>)>;
/// Start timestamps by their samples' time, in order.
pub type TimedStarts = Vec<(TimeMs, TimeMs)>;

/// One source of samples of one series besides the head: a row of a block.
pub trait SeriesSource: Send + Sync {
    /// Appends to `ts`, `vs` the samples with `from ≤ t ≤ to` in time order.
    fn read(
        &self,
        from: TimeMs,
        to: TimeMs,
        ts: &mut Vec<TimeMs>,
        vs: &mut Vec<f64>,
    ) -> Result<(), StoreError>;

    /// Whether it may hold histograms; cheap.
    fn has_histograms(&self) -> bool {
        false
    }

    /// Appends the histograms with `from ≤ t ≤ to` in time order.
    fn read_histograms(
        &self,
        _from: TimeMs,
        _to: TimeMs,
        _out: &mut TimedHistograms,
    ) -> Result<(), StoreError> {
        Ok(())
    }

    /// Whether it may hold start timestamps; cheap.
    fn has_starts(&self) -> bool {
        false
    }

    /// Appends the start timestamps of the samples with `from ≤ t ≤ to` in time order.
    fn read_starts(&self, _from: TimeMs, _to: TimeMs, _out: &mut TimedStarts) -> Result<(), StoreError> {
        Ok(())
    }
}

/// A snapshot of the series of one shard that match: holds no lock, sees no later append.
pub struct Selection {
    /// Append sequence number of the shard that the snapshot includes.
    pub seq: u64,
    /// Label sets, sorted; parallel to `slots`.
    pub labels: Vec<Labels>,
    /// Slots; `None` for a series that only blocks know.
    pub slots: Vec<Option<u32>>,
    sources: Vec<SeriesSources>,
    head: HeadSnapshot,
}

/// Where the samples of one series are.
#[derive(Default)]
pub(crate) struct SeriesSources {
    /// Its index in the head's snapshot.
    pub head: Option<u32>,
    /// Its rows in blocks, oldest block first.
    pub parts: Vec<Arc<dyn SeriesSource>>,
    /// What is deleted of it in the head.
    pub deleted: Option<Arc<Intervals>>,
}

/// One series of a selection in the making.
pub(crate) struct SelectionEntry {
    /// Its labels.
    pub labels: Labels,
    /// Its slot, if the head knows it.
    pub slot: Option<u32>,
    /// Its samples.
    pub sources: SeriesSources,
}

impl Selection {
    /// The selection of these series, which are in the order of their labels.
    pub(crate) fn new(seq: u64, entries: Vec<SelectionEntry>, head: HeadSnapshot) -> Selection {
        let n = entries.len();
        let (mut labels, mut slots, mut sources) =
            (Vec::with_capacity(n), Vec::with_capacity(n), Vec::with_capacity(n));
        for entry in entries {
            labels.push(entry.labels);
            slots.push(entry.slot);
            sources.push(entry.sources);
        }
        Selection { seq, labels, slots, sources, head }
    }

    /// Appends to `ts`, `vs` the samples of series `i` with `from ≤ t ≤ to`, in time order, each time once;
    /// stale markers included, never an absent value.
    pub fn read(
        &self,
        i: usize,
        from: TimeMs,
        to: TimeMs,
        ts: &mut Vec<TimeMs>,
        vs: &mut Vec<f64>,
    ) -> Result<(), StoreError> {
        let sources = &self.sources[i];
        let mut runs = RunMerger::start(ts);
        for part in &sources.parts {
            part.read(from, to, ts, vs)?;
            runs.end(ts);
        }
        if let Some(at) = sources.head {
            let base = ts.len();
            self.head.read(at, from, to, ts, vs, &mut runs);
            sources.deleted.iter().for_each(|deleted| runs.retain(deleted, base, ts, vs));
        }
        runs.merge(ts, vs);
        Ok(())
    }

    /// As [`Selection::read`], if only the newest sample of these times matters: older ones may be left out.
    pub fn read_latest(
        &self,
        i: usize,
        from: TimeMs,
        to: TimeMs,
        ts: &mut Vec<TimeMs>,
        vs: &mut Vec<f64>,
    ) -> Result<(), StoreError> {
        let SeriesSources { head, parts, deleted } = &self.sources[i];
        if let Some(at) = head.filter(|_| parts.is_empty() && deleted.is_none())
            && let Ok(latest) = self.head.latest(at, from, to)
        {
            ts.extend(latest.map(|(t, _)| t));
            vs.extend(latest.map(|(_, v)| v));
            return Ok(());
        }
        self.read(i, from, to, ts, vs)
    }

    /// Whether series `i` has a sample in `from..=to`, or may have one: looked up only where
    /// something is deleted.
    pub fn may_have_samples(&self, i: usize, from: TimeMs, to: TimeMs) -> Result<bool, StoreError> {
        if self.sources[i].deleted.is_none() {
            return Ok(true);
        }
        let mut ts = Vec::new();
        let mut histograms = Vec::new();
        self.read(i, from, to, &mut ts, &mut Vec::new())?;
        self.read_histograms(i, from, to, &mut histograms)?;
        Ok(!ts.is_empty() || !histograms.is_empty())
    }

    /// Whether series `i` may have histograms in the selected time; cheap. Their times are never
    /// those of floats.
    pub fn has_histograms(&self, i: usize) -> bool {
        let SeriesSources { head, parts, .. } = &self.sources[i];
        head.is_some_and(|at| self.head.has_histograms(at)) || parts.iter().any(|part| part.has_histograms())
    }

    /// Appends to `out` the histograms of series `i` with `from ≤ t ≤ to`, in time order, each time
    /// once. A stale marker is never among them: it is a float.
    pub fn read_histograms(
        &self,
        i: usize,
        from: TimeMs,
        to: TimeMs,
        out: &mut TimedHistograms,
    ) -> Result<(), StoreError> {
        let base = out.len();
        let sources = &self.sources[i];
        let mut ends = Vec::with_capacity(sources.parts.len());
        for part in &sources.parts {
            part.read_histograms(from, to, out)?;
            ends.push(out.len());
        }
        let of_head = out.len();
        sources.head.into_iter().for_each(|at| self.head.read_histograms(at, from, to, out));
        sources.deleted.iter().for_each(|deleted| deleted.retain_histograms(of_head, out));
        merge_histogram_runs(out, base, &ends);
        Ok(())
    }

    /// Whether series `i` may have start timestamps in the selected time; cheap.
    pub fn has_starts(&self, i: usize) -> bool {
        let SeriesSources { head, parts, .. } = &self.sources[i];
        head.is_some_and(|at| self.head.has_starts(at)) || parts.iter().any(|part| part.has_starts())
    }

    /// Appends to `out` the start timestamps that are known of the samples of series `i` with
    /// `from ≤ t ≤ to`: (time of the sample, start), in time order, each time once.
    pub fn read_starts(
        &self,
        i: usize,
        from: TimeMs,
        to: TimeMs,
        out: &mut TimedStarts,
    ) -> Result<(), StoreError> {
        let base = out.len();
        let sources = &self.sources[i];
        for part in &sources.parts {
            part.read_starts(from, to, out)?;
        }
        let of_head = out.len();
        sources.head.into_iter().for_each(|at| self.head.read_starts(at, from, to, out));
        sources.deleted.iter().for_each(|deleted| deleted.retain_pairs(of_head, out));
        merge_by_time(out, base);
        Ok(())
    }
}

/// Brings what sources appended from `base` on into time order; of equal times the later source's stays.
pub(crate) fn merge_by_time<T>(out: &mut Vec<(TimeMs, T)>, base: usize) {
    if out[base..].windows(2).all(|pair| pair[0].0 < pair[1].0) {
        return;
    }
    // Stable: among equal times the last one is the later source's, and it is kept.
    let mut added = out.split_off(base);
    added.reverse();
    added.sort_by_key(|(t, _)| *t);
    added.dedup_by_key(|(t, _)| *t);
    out.append(&mut added);
}

/// As [`merge_by_time`], of histograms of sources that end at `ends`. That there was no reset, one
/// says of the sample before it in its source: it says so no more where another source's is before
/// it.
pub(crate) fn merge_histogram_runs(out: &mut TimedHistograms, base: usize, ends: &[usize]) {
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
        if before.replace(source).is_some_and(|before| before != source) {
            h.clear_reset_hint();
        }
        (t, h)
    }));
}

/// The ascending runs that sources appended one after the other, and their merge.
pub(crate) struct RunMerger {
    base: usize,
    last: usize,
    bounds: Vec<usize>,
    /// A later run may say *absent* of a time: nothing is there.
    pub holes: bool,
}

impl RunMerger {
    /// Runs appended after what `ts` already holds.
    pub(crate) fn start(ts: &[TimeMs]) -> RunMerger {
        RunMerger { base: ts.len(), last: ts.len(), bounds: Vec::new(), holes: false }
    }

    /// A source is through. Remembers where its run begins only if it does not follow the one before.
    pub(crate) fn end(&mut self, ts: &[TimeMs]) {
        if ts.len() > self.last {
            if self.last > self.base && ts[self.last] <= ts[self.last - 1] {
                self.bounds.push(self.last);
            }
            self.last = ts.len();
        }
    }

    /// Removes what the runs from `base` on have at deleted times.
    pub(crate) fn retain(
        &mut self,
        deleted: &Intervals,
        base: usize,
        ts: &mut Vec<TimeMs>,
        vs: &mut Vec<f64>,
    ) {
        let gone = |to: usize| ts[base..to].iter().filter(|t| deleted.covers(**t)).count();
        for bound in self.bounds.iter_mut().filter(|bound| **bound > base) {
            *bound -= gone(*bound);
        }
        deleted.retain(base, ts, vs);
        self.last = ts.len();
        self.bounds.dedup();
    }

    /// Brings overlapping runs into time order; of equal times the later run's value stays.
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
            let last_word = all.get(i + 1).is_none_or(|next| next.0 != *t);
            if last_word && !is_absent(*v) {
                ts.push(*t);
                vs.push(*v);
            }
        }
    }
}
