//! Flush: complete ranges of the head (the recent hours, in memory) become blocks (Parquet files),
//! and their log segments are removed. Also [`BlockBackend`], the interface of the store to its
//! blocks.
//!
//! The order keeps every sample readable and durable at every moment: the block is on disk and
//! listed, then the head drops the samples, then a checkpoint in the log says so, then the segments
//! are removed. A crash in between leaves samples in two places, never in none; readers take each
//! time once.

use super::Store;
use super::compaction::FACTOR;
use super::retention::{HeadAndLog, Retention};
use super::selection::SeriesSource;
use super::series_retention::SeriesRetention;
use super::shards::StoreShard;
use crate::block::BlockMeta;
use crate::error::StoreError;
use crate::head::HeadSnapshot;
use crate::limits::{FLUSH_BLOCKS, FLUSH_SLACK_MS, FLUSH_SLACK_SHARE};
use crate::model::runs::{RunMerger, TimedHistograms, TimedStarts};
use crate::model::{Intervals, Labels, Matcher, SHARDS, TimeMs};
use crate::wal::FlushWatermark;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// The niceness of the flush thread. Appends and queries go first: the flush gets a thirtieth of a
/// core that they want.
const NICENESS: i32 = 15;

/// All samples of one series in one range.
#[derive(Clone, Debug, Default)]
pub struct SeriesSamples {
    /// The labels of the series.
    pub labels: Labels,
    /// Times, strictly ascending.
    pub ts: Vec<TimeMs>,
    /// Values, parallel to `ts`.
    pub vs: Vec<f64>,
    /// Samples that are native histograms.
    pub histograms: TimedHistograms,
    /// Start timestamps of samples.
    pub starts: TimedStarts,
}

/// A source of samples outside the head, with the labels of its series.
pub type LabelledSource = (Labels, Arc<dyn SeriesSource>);

/// The blocks behind the head: the head flushes complete ranges to it, and readers select from it.
/// Implemented by [`super::blocks::BlockManager`]; tests have others. *Parts* below are blocks.
///
/// # Contract
/// 1. [`BlockBackend::write`] is given series sorted by labels with samples in `from ≤ t < to`,
///    under the lock of flushes. When it returns, the part is durable *and* selected from: the head
///    drops its samples next, so that they would be in no answer, or lost by a crash.
/// 2. [`BlockBackend::select`] is called after the snapshot of the head, so samples that move
///    meanwhile are seen twice rather than not at all. Its answer is sorted by labels
///    (`debug_assert!` in [`Store::select`]), parts of one series in the order of their time: at
///    equal times the later part wins.
/// 3. [`BlockBackend::version`] is another number whenever parts may give another answer than parts
///    and head together gave before: caches of answers are valid as long as it stays. A flush, a
///    merge and retention do not change it, a deletion does.
/// 4. [`BlockBackend::delete`] and [`BlockBackend::apply_retention`] are durable on return, and do
///    not touch parts that are written later.
/// 5. [`BlockBackend::compact`], [`BlockBackend::drop_expired_series`],
///    [`BlockBackend::apply_tombstones`] and [`BlockBackend::upload`] do at most one unit of work
///    and say whether they did, so that others get the locks in between. A crash in the middle
///    leaves the old parts, the new one, or both, with the same samples.
/// 6. [`BlockBackend::has_after`] may wrongly say yes, never wrongly no, and does not block: it
///    decides whether a query is answered on the spot.
/// 7. The defaults of the trait do nothing, or refuse; they are right only for a backend whose
///    parts never change and are never removed.
///
/// *Checked:* clauses 1 and 5 by `storage/tests/failing_disk.rs` and `simulation.rs`, 2 also by
/// `storage/tests/store.rs` against a model, 3 by `frontends/promql/tests`
/// (`subquery_cache_equals_fresh`).
pub trait BlockBackend: Send + Sync {
    /// Writes the range `from ≤ t < to` from series sorted by labels. Durable and readable on
    /// return.
    fn write(
        &self,
        from: TimeMs,
        to: TimeMs,
        series: &mut dyn Iterator<Item = Result<SeriesSamples, StoreError>>,
    ) -> Result<(), StoreError>;

    /// Removes the parts that are expired at `now`; `head` describes the head and the log. Running
    /// readers are not disturbed.
    fn apply_retention(
        &self,
        _retention: Retention,
        _rules: &[SeriesRetention],
        _head: HeadAndLog,
        _now: TimeMs,
    ) -> Result<(), StoreError> {
        Ok(())
    }

    /// What it has, by block.
    fn metas(&self) -> Vec<BlockMeta> {
        Vec::new()
    }

    /// Rewrites one part of which some series are expired, if there is one. Returns whether there
    /// was.
    fn drop_expired_series(
        &self,
        _retention: Retention,
        _rules: &[SeriesRetention],
        _head: HeadAndLog,
        _now: TimeMs,
    ) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Deletes the samples of the matching series in `from..=to`; durable on return. Parts written
    /// later are not affected.
    fn delete(&self, _matchers: &[Matcher], _from: TimeMs, _to: TimeMs) -> Result<(), StoreError> {
        Err(StoreError::Invalid("nothing can be deleted of this store's history".to_owned()))
    }

    /// Rewrites one part that has deleted samples, if there is one. Returns whether there was.
    fn apply_tombstones(&self) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Copies all parts, as they are, into the new data directory `data`.
    fn snapshot_into(&self, _data: &Path) -> Result<(), StoreError> {
        Err(StoreError::Invalid("this store's history cannot be copied".to_owned()))
    }

    /// Merges the next parts that are due, if there are any; `range` is that of
    /// [`BlockBackend::write`]. Returns whether there were. The answers to readers stay the same.
    fn compact(&self, _range: TimeMs, _retention: Retention) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// The end of the newest part that ends at or before `until`.
    fn last_block_end(&self, _until: TimeMs) -> Option<TimeMs> {
        None
    }

    /// A number that changes whenever the samples of parts and head together may have changed
    /// because of the parts: see [`BlockBackend::note_other_samples`]. A flush from the head, and
    /// retention, do not count.
    fn version(&self) -> u64;

    /// The part that was just written has samples that were not in the head: the version changes.
    fn note_other_samples(&self) {}

    /// Whether there may be samples at `from` or later. Must be cheap.
    fn has_after(&self, _from: TimeMs) -> bool {
        true
    }

    /// The matching series of a shard with samples in `from..=to`, sorted by labels; several parts
    /// of one series in time order.
    fn select(
        &self,
        shard: u16,
        matchers: &[Matcher],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<LabelledSource>, StoreError>;

    /// As [`Store::label_names`], for the parts.
    fn label_names(&self, sets: &[Vec<Matcher>], from: TimeMs, to: TimeMs)
    -> Result<Vec<String>, StoreError>;

    /// As [`Store::label_values`], for the parts.
    fn label_values(
        &self,
        name: &str,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<String>, StoreError>;

    /// Lists the object store, if that was not done yet, and removes objects that are scheduled for
    /// deletion.
    fn reconcile_cold_storage(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Uploads the oldest part that is old enough at `now`, or that exceeds the size limit, to the
    /// object store. It is still read locally. Returns the part, if there was one.
    fn upload(
        &self,
        _retention: Retention,
        _rules: &[SeriesRetention],
        _head: HeadAndLog,
        _now: TimeMs,
    ) -> Result<Option<BlockMeta>, StoreError> {
        Ok(None)
    }

    /// Reads an uploaded part from the object store from now on, and removes its local files. Does
    /// nothing if the part was removed meanwhile.
    fn switch_to_cold(&self, _part: &BlockMeta) -> Result<(), StoreError> {
        Ok(())
    }

    /// Why answers may be incomplete; `None` if they are complete, or errors.
    fn incomplete_reason(&self) -> Option<String> {
        None
    }
}

/// Series sorted by labels, as the source of a block.
pub(super) type SeriesStream<'a> = dyn Iterator<Item = Result<SeriesSamples, StoreError>> + 'a;
/// Writes a block of a range.
pub(super) type RangeWriter<'a> = dyn FnMut(TimeMs, TimeMs, &mut SeriesStream) -> Result<(), StoreError> + 'a;

/// A series that a shard flushes.
pub(super) struct FlushSeries {
    pub(super) labels: Labels,
    shard: u16,
    /// Index in the snapshot of the shard.
    at: u32,
    deleted: Option<Arc<Intervals>>,
}

impl Store {
    /// The end of the newest complete range at `now`. A range is complete when late samples can no
    /// longer arrive, with some extra time, and half a range of newer samples exists. `None` if no
    /// range is complete.
    fn complete_until(&self, now: TimeMs) -> Option<TimeMs> {
        let (min, max) = self.shards.spans().reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))?;
        let range = self.options.block_range_ms.max(1);
        let open = self.options.out_of_order_ms.saturating_add(FLUSH_SLACK_MS.min(range / FLUSH_SLACK_SHARE));
        let settled = now.saturating_sub(open).min(max.saturating_sub(range / 2));
        let end = settled.div_euclid(range).saturating_mul(range);
        (min < end).then_some(end)
    }

    pub(super) fn flush(&self, now: TimeMs) -> Result<usize, StoreError> {
        let _one_at_a_time = self.locks.for_flush();
        let (Some(history), Some(end)) = (&self.history, self.complete_until(now)) else {
            return self.truncate_wal().map(|()| 0);
        };
        // Before the snapshot: records up to here are in it, later ones may not be.
        let lsn = self.wal.last_lsn();
        let (entries, snapshots) = self.snapshot_before(end);
        // Blocks that were written stay, even if a later one fails. So the head must drop their
        // range: otherwise its samples could be corrected there, and the block would bring the old
        // values back.
        let mut written = None;
        let outcome = on_niced_thread(|| {
            self.write_ranges(end, &entries, &snapshots, &mut |from, to, series| {
                history.write(from, to, series)?;
                self.metrics.blocks_written.inc();
                written = Some(to);
                Ok(())
            })
        });
        // If all ranges were written, also those without samples count as flushed.
        match if outcome.is_ok() { Some(end) } else { written } {
            Some(end) => self.drop_flushed(FlushWatermark { end, lsn }),
            None => {
                for shard in self.shards.iter() {
                    shard.write().head.abandon_flush();
                }
            }
        }
        self.metrics.flushes.inc();
        if outcome.is_err() {
            self.metrics.flush_failures.inc();
            self.metrics.failed_flushes.inc();
        }
        let truncated = self.truncate_wal();
        outcome.and_then(|ranges| truncated.map(|()| ranges))
    }

    /// To be called after a start. A range whose block was written shortly before a crash, or while
    /// checkpoints failed, is in the head again; it must not be corrected.
    pub(super) fn freeze_flushed_times(&self) {
        let newest = self.shards.spans().map(|(_, newest)| newest).max();
        // Flushes end here at the latest ([`Store::complete_until`]); blocks of a backfill may end
        // later.
        let until = newest.map(|newest| newest.saturating_sub(self.options.block_range_ms.max(1) / 2));
        if let Some(end) = until.and_then(|until| self.history.as_ref()?.last_block_end(until)) {
            for shard in self.shards.iter() {
                shard.write().head.limits.raise_min_correction_time(end);
            }
        }
    }

    /// Drops from the heads what is in blocks.
    fn drop_flushed(&self, flushed: FlushWatermark) {
        for shard in self.shards.iter() {
            let mut shard = shard.write();
            // Asked under the lock: no append to this shard is between head and log.
            shard.head.drop_before(flushed.end, self.wal.last_lsn());
            shard.deleted.drop_before(flushed.end);
        }
        self.wal.set_flushed(flushed);
    }

    fn truncate_wal(&self) -> Result<(), StoreError> {
        self.wal.truncate(&self.shards).inspect_err(|_| self.metrics.flush_failures.inc())
    }

    /// Snapshots of all shards up to `end`, and all their series sorted by labels. Nothing older is
    /// excluded: a sample older than any other may have arrived a moment ago.
    fn snapshot_before(&self, end: TimeMs) -> (Vec<FlushSeries>, Vec<HeadSnapshot>) {
        let mut entries = Vec::new();
        let mut snapshots = Vec::new();
        for shard in 0..SHARDS {
            let mut locked = self.shards.get(shard).write();
            locked.head.begin_flush(end);
            snapshots.push(snapshot(&locked, shard, TimeMs::MIN, end - 1, &mut entries));
        }
        // A block is sorted by labels over all shards.
        entries.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        (entries, snapshots)
    }

    /// Calls `write` for each aligned range before `end` that has samples, or for fewer, longer
    /// ranges if there are very many. Returns the number of blocks.
    pub(super) fn write_ranges(
        &self,
        end: TimeMs,
        entries: &[FlushSeries],
        snapshots: &[HeadSnapshot],
        write: &mut RangeWriter,
    ) -> Result<usize, StoreError> {
        let range = self.options.block_range_ms.max(1);
        let mut ranges = BTreeSet::new();
        let mut written = 0;
        for snapshot in snapshots.iter() {
            snapshot.ranges(range, end, &mut ranges);
        }
        for (from, to) in blocks_of(&ranges, range) {
            let series = entries.iter().filter_map(|entry| {
                let samples = read_series(entry, &snapshots[usize::from(entry.shard)], from, to - 1);
                let any = !samples.ts.is_empty() || !samples.histograms.is_empty();
                any.then_some(Ok(samples))
            });
            let mut series = series.peekable();
            // A range may only have samples that are deleted: no block for it.
            if series.peek().is_some() {
                write(from, to, &mut series)?;
                written += 1;
            }
        }
        Ok(written)
    }
}

/// The times of the blocks to write for the ranges with these numbers: one block per range, unless
/// there are more than [`FLUSH_BLOCKS`]. Then ranges that compaction would merge are written as one
/// block, with as many levels as it takes: samples may be years apart, and every block costs files
/// and time in each query.
fn blocks_of(ranges: &BTreeSet<i64>, range: TimeMs) -> Vec<(TimeMs, TimeMs)> {
    let mut length = 1;
    loop {
        let mut spans: Vec<(i64, i64)> = Vec::new();
        for number in ranges {
            match spans.last_mut() {
                Some((first, last)) if first.div_euclid(length) == number.div_euclid(length) => {
                    *last = *number
                }
                _ => spans.push((*number, *number)),
            }
        }
        if spans.len() <= FLUSH_BLOCKS {
            let times = |(first, last): (i64, i64)| {
                (first.saturating_mul(range), last.saturating_add(1).saturating_mul(range))
            };
            return spans.into_iter().map(times).collect();
        }
        length = length.saturating_mul(FACTOR);
    }
}

/// Runs `work` on a thread with a low priority. `work` must not hold a lock: others would wait for
/// a thread that gets no core.
fn on_niced_thread<T: Send>(work: impl FnOnce() -> Result<T, StoreError> + Send) -> Result<T, StoreError> {
    let niced = || {
        // If the system refuses, the flush only competes more with other threads.
        let _ = rustix::process::nice(NICENESS);
        work()
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("flush".to_owned()).spawn_scoped(scope, niced);
        let thread = thread.map_err(|e| StoreError::Unavailable(format!("cannot start a thread: {e}")))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A snapshot of a shard; adds its series to `entries`.
pub(super) fn snapshot(
    locked: &StoreShard,
    shard: u16,
    from: TimeMs,
    to: TimeMs,
    entries: &mut Vec<FlushSeries>,
) -> HeadSnapshot {
    let mut at = 0;
    locked.head.snapshot(locked.head.series.matching(&[]), from, to, |slot, labels| {
        entries.push(FlushSeries {
            labels: labels.clone(),
            shard,
            at,
            deleted: locked.deleted.intervals(slot),
        });
        at += 1;
    })
}

/// All samples of a series of a snapshot in `from..=to`.
fn read_series(entry: &FlushSeries, snapshot: &HeadSnapshot, from: TimeMs, to: TimeMs) -> SeriesSamples {
    let FlushSeries { labels, at, deleted, .. } = entry;
    let at = *at;
    let mut ts = Vec::new();
    let mut vs = Vec::new();
    let mut runs = RunMerger::start(&ts);
    snapshot.read(at, from, to, &mut ts, &mut vs, &mut runs);
    runs.merge(&mut ts, &mut vs);
    let mut histograms = Vec::new();
    let mut starts = Vec::new();
    snapshot.read_histograms(at, from, to, &mut histograms);
    snapshot.read_starts(at, from, to, &mut starts);
    if let Some(deleted) = deleted {
        deleted.retain(0, &mut ts, &mut vs);
        deleted.retain_histograms(0, &mut histograms);
        deleted.retain_pairs(0, &mut starts);
    }
    SeriesSamples { labels: labels.clone(), ts, vs, histograms, starts }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::OsDisk;
    use crate::metrics::Metrics;
    use crate::store::{FloatRow, StoreOptions};

    #[test]
    fn years_are_few_blocks() {
        const RANGE: TimeMs = 7_200_000;
        let spans = |numbers: &[i64]| blocks_of(&numbers.iter().copied().collect(), RANGE);
        assert_eq!(spans(&[-1, 0, 5]), [(-RANGE, 0), (0, RANGE), (5 * RANGE, 6 * RANGE)]);
        for many in [17, 3_000, 500_000] {
            let numbers: Vec<i64> = (0..many).collect();
            let found = spans(&numbers);
            assert!(found.len() <= FLUSH_BLOCKS, "{many}: {}", found.len());
            assert_eq!(
                (found[0].0, found[found.len() - 1].1),
                (0, many * RANGE),
                "no longer than what is there"
            );
            assert!(found.windows(2).all(|pair| pair[0].1 == pair[1].0), "{found:?}");
        }
        assert_eq!(spans(&[i64::MIN, 0, i64::MAX]).len(), 3, "no overflow");
    }

    #[test]
    fn what_comes_before_the_snapshot_is_in_it_however_old() {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            dir: dir.path().to_owned(),
            wal_sync_interval_ms: 5,
            block_range_ms: 10_000,
            out_of_order_ms: 8_000,
        };
        let (store, _) = Store::open(options, Arc::new(OsDisk), &Metrics::default()).unwrap();
        let append = |name: &str, times: [TimeMs; 2]| {
            let series = store.get_or_create_series(&Labels::from_pairs([("__name__", name.to_owned())]));
            let rows = times.map(|t| FloatRow { series, t, v: 1.0 });
            assert_eq!(store.append_rows(&rows).unwrap().stored, 2);
        };
        append("before", [19_000, 25_000]);
        let end = store.complete_until(60_000).unwrap();
        append("after", [17_500, 18_000]);
        let (entries, snapshots) = store.snapshot_before(end);
        let mut written = Vec::new();
        let ranges = store.write_ranges(end, &entries, &snapshots, &mut |_, _, series| {
            written.extend(series.map(|one| one.unwrap().ts));
            Ok(())
        });
        assert_eq!(ranges.unwrap(), 1);
        assert_eq!(written, [vec![17_500, 18_000], vec![19_000]], "in the order of names");
    }
}
