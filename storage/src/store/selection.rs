//! [`Selection`]: a snapshot of the series of one shard that satisfy some matchers, readable
//! without a lock. Queries and the rings of the live runtime read samples through it.
//!
//! A series has up to two kinds of sources: parts of blocks (oldest first) and the head. They may
//! overlap; at the same time the later source wins. The part of the head is
//! [`crate::head::HeadSnapshot`].

use super::flush::LabelledSource;
use crate::error::StoreError;
use crate::head::HeadSnapshot;
use crate::model::runs::{RunMerger, TimedHistograms, TimedStarts, merge_by_time, merge_histogram_runs};
use crate::model::{Intervals, Labels, TimeMs};
use std::sync::Arc;

/// A source of samples of one series outside the head: a row of a block, or what another server
/// has.
///
/// # Contract
/// 1. Methods only append to what they are given, in ascending order of time, each time once, and
///    only times with `from ≤ t ≤ to` (`debug_assert!` in [`Selection::read`]). Merging with other
///    sources takes each answer for one sorted run; otherwise samples would appear twice, or in
///    the wrong order.
/// 2. Stale markers are among the values; the value *absent* never is.
/// 3. A time has a float or a histogram, not both.
/// 4. [`SeriesSource::has_histograms`] and [`SeriesSource::has_starts`] may wrongly say yes, never
///    wrongly no: a reader then leaves them out.
/// 5. It stays readable for as long as it exists, also when its block is removed, from any thread.
/// 6. After an error, what was appended is incomplete, and the reader must not use any of it.
pub trait SeriesSource: Send + Sync {
    /// Appends to `ts` and `vs` the samples with `from ≤ t ≤ to`, in time order.
    fn read(
        &self,
        from: TimeMs,
        to: TimeMs,
        ts: &mut Vec<TimeMs>,
        vs: &mut Vec<f64>,
    ) -> Result<(), StoreError>;

    /// Whether it may hold histograms. Must be cheap.
    fn has_histograms(&self) -> bool {
        false
    }

    /// Appends the histograms with `from ≤ t ≤ to`, in time order.
    fn read_histograms(
        &self,
        _from: TimeMs,
        _to: TimeMs,
        _out: &mut TimedHistograms,
    ) -> Result<(), StoreError> {
        Ok(())
    }

    /// Whether it may hold start timestamps. Must be cheap.
    fn has_starts(&self) -> bool {
        false
    }

    /// Appends the start timestamps of the samples with `from ≤ t ≤ to`, in time order.
    fn read_starts(&self, _from: TimeMs, _to: TimeMs, _out: &mut TimedStarts) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Whether the times ascend and are in `from..=to`.
fn is_run(ts: &[TimeMs], from: TimeMs, to: TimeMs) -> bool {
    ts.is_sorted_by(|a, b| a < b) && ts.iter().all(|t| (from..=to).contains(t))
}

/// A snapshot of the matching series of one shard: holds no lock, does not see later appends.
pub struct Selection {
    /// Append sequence number of the shard that the snapshot includes.
    pub seq: u64,
    /// Label sets, sorted; parallel to `slots`.
    pub labels: Vec<Labels>,
    /// Slots; `None` for a series that is only in blocks.
    pub slots: Vec<Option<u32>>,
    sources: Vec<SeriesSources>,
    head: HeadSnapshot,
}

/// The sources of one series.
#[derive(Default)]
pub(crate) struct SeriesSources {
    /// Index of the series in the head's snapshot.
    pub head: Option<u32>,
    /// Parts of blocks, oldest block first.
    pub parts: Vec<Arc<dyn SeriesSource>>,
    /// The deleted times of the series in the head.
    pub deleted: Option<Arc<Intervals>>,
}

/// A series of a selection that is being built.
pub(crate) struct SelectionEntry {
    /// The labels of the series.
    pub labels: Labels,
    /// The slot, if the series is in the head.
    pub slot: Option<u32>,
    /// The sources of its samples.
    pub sources: SeriesSources,
}

impl Selection {
    /// The selection of these series, which are sorted by labels.
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

    /// The same with sources from outside of the store, sorted by labels. At equal times the
    /// store's own sample wins, then the source that comes first.
    #[must_use]
    pub fn with_sources(self, added: &[LabelledSource]) -> Selection {
        let Selection { seq, labels, slots, sources, head } = self;
        let own = labels.into_iter().zip(slots).zip(sources);
        let own = own.map(|((labels, slot), sources)| SelectionEntry { labels, slot, sources });
        let mut entries: Vec<SelectionEntry> = own.collect();
        let of_store = entries.len();
        let mut at = 0;
        for (labels, source) in added {
            while at < of_store && entries[at].labels < *labels {
                at += 1;
            }
            let last = entries.len().saturating_sub(1);
            let known = if at < of_store { at } else { last };
            // The last one may be another added source of the same series.
            let known =
                [known, last].into_iter().find(|i| entries.get(*i).is_some_and(|e| e.labels == *labels));
            match known {
                // In front: of equal times the later source wins.
                Some(i) => entries[i].sources.parts.insert(0, source.clone()),
                None => {
                    let sources = SeriesSources { parts: vec![source.clone()], ..SeriesSources::default() };
                    entries.push(SelectionEntry { labels: labels.clone(), slot: None, sources });
                }
            }
        }
        if entries.len() > of_store {
            // Two sorted runs: a stable sort only merges them.
            entries.sort_by(|a, b| a.labels.cmp(&b.labels));
        }
        Selection::new(seq, entries, head)
    }

    /// Appends to `ts` and `vs` the samples of series `i` with `from ≤ t ≤ to`, in time order, each
    /// time once; stale markers included, absent values never.
    pub fn read(
        &self,
        i: usize,
        from: TimeMs,
        to: TimeMs,
        ts: &mut Vec<TimeMs>,
        vs: &mut Vec<f64>,
    ) -> Result<(), StoreError> {
        let sources = &self.sources[i];
        // Oldest source first: at equal times the later one wins, and the head over all.
        let mut runs = RunMerger::start(ts);
        for part in &sources.parts {
            let base = ts.len();
            part.read(from, to, ts, vs)?;
            debug_assert!(is_run(&ts[base..], from, to) && ts.len() == vs.len(), "a clause of SeriesSource");
            runs.end(ts);
        }
        if let Some(at) = sources.head {
            let base = ts.len();
            self.head.read(at, from, to, ts, vs, &mut runs);
            // Only what the head gave: blocks leave out by themselves what was deleted of them.
            if let Some(deleted) = &sources.deleted {
                runs.retain(deleted, base, ts, vs);
            }
        }
        runs.merge(ts, vs);
        Ok(())
    }

    /// As [`Selection::read`] for callers that need only the newest sample: older ones may be left
    /// out.
    pub fn read_latest(
        &self,
        i: usize,
        from: TimeMs,
        to: TimeMs,
        ts: &mut Vec<TimeMs>,
        vs: &mut Vec<f64>,
    ) -> Result<(), StoreError> {
        let SeriesSources { head, parts, deleted } = &self.sources[i];
        // The head alone has the newest sample of a series, unless some of it is deleted; with
        // blocks the sources have to be merged.
        if let Some(at) = head.filter(|_| parts.is_empty() && deleted.is_none())
            && let Ok(latest) = self.head.latest(at, from, to)
        {
            ts.extend(latest.map(|(t, _)| t));
            vs.extend(latest.map(|(_, v)| v));
            return Ok(());
        }
        self.read(i, from, to, ts, vs)
    }

    /// Whether series `i` may have a sample in `from..=to`. Reads samples only if some are deleted,
    /// otherwise returns true.
    pub fn may_have_samples(&self, i: usize, from: TimeMs, to: TimeMs) -> Result<bool, StoreError> {
        // Sources are only selected if they may have samples, so only deletions can make this
        // wrong.
        if self.sources[i].deleted.is_none() {
            return Ok(true);
        }
        let mut ts = Vec::new();
        let mut histograms = Vec::new();
        self.read(i, from, to, &mut ts, &mut Vec::new())?;
        self.read_histograms(i, from, to, &mut histograms)?;
        Ok(!ts.is_empty() || !histograms.is_empty())
    }

    /// Whether series `i` may have histograms in the selected range; cheap. Histograms and floats
    /// of a series never have the same time.
    pub fn has_histograms(&self, i: usize) -> bool {
        let SeriesSources { head, parts, .. } = &self.sources[i];
        head.is_some_and(|at| self.head.has_histograms(at)) || parts.iter().any(|part| part.has_histograms())
    }

    /// Appends to `out` the histograms of series `i` with `from ≤ t ≤ to`, in time order, each time
    /// once. Stale markers are not among them: they are floats.
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
        if let Some(at) = sources.head {
            self.head.read_histograms(at, from, to, out);
        }
        if let Some(deleted) = &sources.deleted {
            deleted.retain_histograms(of_head, out);
        }
        merge_histogram_runs(out, base, &ends);
        Ok(())
    }

    /// Whether series `i` may have start timestamps in the selected range; cheap.
    pub fn has_starts(&self, i: usize) -> bool {
        let SeriesSources { head, parts, .. } = &self.sources[i];
        head.is_some_and(|at| self.head.has_starts(at)) || parts.iter().any(|part| part.has_starts())
    }

    /// Appends to `out` the known start timestamps of the samples of series `i` with `from ≤ t ≤
    /// to`: (time of the sample, start), in time order, each time once.
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
        if let Some(at) = sources.head {
            self.head.read_starts(at, from, to, out);
        }
        if let Some(deleted) = &sources.deleted {
            deleted.retain_pairs(of_head, out);
        }
        merge_by_time(out, base);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::OsDisk;
    use crate::metrics::Metrics;
    use crate::store::{FloatRow, Store, StoreOptions};

    /// Floats of another place, all with one value.
    struct OtherSource(Vec<TimeMs>, f64);

    impl SeriesSource for OtherSource {
        fn read(
            &self,
            from: TimeMs,
            to: TimeMs,
            ts: &mut Vec<TimeMs>,
            vs: &mut Vec<f64>,
        ) -> Result<(), StoreError> {
            let found = self.0.iter().filter(|t| (from..=to).contains(*t));
            ts.extend(found);
            vs.resize(ts.len(), self.1);
            Ok(())
        }
    }

    #[test]
    fn own_samples_win_over_those_of_other_sources() {
        let dir = tempfile::tempdir().expect("a directory");
        let options = StoreOptions {
            dir: dir.path().to_owned(),
            wal_sync_interval_ms: 1_000,
            block_range_ms: 7_200_000,
            out_of_order_ms: 0,
        };
        let (store, _) = Store::open(options, Arc::new(OsDisk), &Metrics::default()).expect("a store");
        // One shard has them all: they have the same job.
        let labels = |n: &str| Labels::from_pairs([("__name__", "m"), ("job", "j"), ("n", n)]);
        let series = store.get_or_create_series(&labels("b"));
        let rows = [3, 4].map(|t| FloatRow { series, t, v: 0.0 });
        store.append_rows(&rows).expect("appended");
        let source = |n: &str, ts: &[TimeMs], v: f64| -> LabelledSource {
            (labels(n), Arc::new(OtherSource(ts.to_vec(), v)))
        };
        let added = [
            source("a", &[9], 1.0),
            source("b", &[1, 3], 1.0),
            source("b", &[1, 2, 4], 2.0),
            source("c", &[5], 1.0),
            source("c", &[5, 6], 2.0),
        ];
        let selection = store.select(series.shard, &[], 0, 10).expect("a selection").with_sources(&added);
        let read = |row: usize| {
            let mut ts = Vec::new();
            let mut vs = Vec::new();
            selection.read(row, 0, 10, &mut ts, &mut vs).expect("samples");
            ts.into_iter().zip(vs).collect::<Vec<(TimeMs, f64)>>()
        };
        assert_eq!(selection.labels, [labels("a"), labels("b"), labels("c")]);
        assert_eq!(read(0), [(9, 1.0)]);
        assert_eq!(read(1), [(1, 1.0), (2, 2.0), (3, 0.0), (4, 0.0)]);
        assert_eq!(read(2), [(5, 1.0), (6, 2.0)]);
        assert_eq!(selection.slots, [None, Some(series.slot), None]);
        store.close().expect("closed");
    }
}
