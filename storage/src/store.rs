//! The door of the store: one object that owns WAL, head and blocks.
//!
//! Writers come by column ([`Store::append_columns`], a scrape or a rule's output: one timestamp,
//! many series) or by row ([`Store::append_rows`], remote write; [`Store::append_histograms`]). All
//! get an LSN; data is acknowledged once [`Store::on_committed`] says so. Readers take a
//! [`Selection`], a snapshot that holds no lock.

mod append;
mod backfill;
mod batch;
mod block_source;
mod blocks;
mod change_log;
mod changed_since;
mod compaction;
mod corrections;
mod delete;
mod exemplars;
mod flush;
mod head_deletes;
mod health;
mod log_scan;
mod move_cold;
mod newest;
mod options;
mod record_applier;
mod replay_overlay;
mod replay_passes;
mod replay_pool;
mod replay_status;
mod retention;
mod scrape_decoder;
mod selection;
mod series_retention;
mod snapshot;
mod stats;
mod zeros;

pub use crate::block::ColdOptions;
pub use crate::head::Refusal;
pub use append::is_storable;
pub use batch::{
    AppendObserver, AppendResult, ChangeData, ChangeEvent, ChangeFeed, ColumnBatch, ColumnLayout, Duplicate,
    FeedDelivery, FloatRow, GroupId, HistogramRow, Recorded, Refused, StartRow, ZeroRow,
};
pub use blocks::damaged_blocks;
pub use changed_since::{ChangedSince, StoreVersion};
pub use corrections::{CorrectedValue, Correction};
pub use flush::{BlockBackend, LabelledSource, SeriesSamples};
pub use newest::{NewestSample, NewestValue};
pub use options::{HeadStats, ReplayReport, StoreError, StoreOptions};
pub use replay_status::{PendingReplay, ReplayProgress};
pub use retention::{ExpiredBlocks, HeadAndLog, Retention};
pub(crate) use selection::{RunMerger, merge_by_time, merge_histogram_runs};
pub use selection::{Selection, SeriesSource, TimedHistograms, TimedStarts};
pub use series_retention::{RetentionCutoffs, SeriesRetention};

use crate::disk::Disk;
use crate::exemplars::Exemplars;
use crate::head::{Head, group_id};
use crate::limits::{REPLAY_AHEAD_BYTES, WAL_SEGMENT_BYTES};
use crate::metrics::Metrics;
use crate::model::{Labels, Matcher, SHARDS, SeriesRef, TimeMs, shard_of, shard_of_encoded};
use crate::wal::{FlushWatermark, Log, LogOptions, RecordBuilder};
use change_log::ChangeLog;
use head_deletes::HeadDeletes;
use parking_lot::{Mutex, RwLock};
use replay_overlay::ReplayOverlay;
use selection::{SelectionEntry, SeriesSources};
use stats::{HeadStatsCollector, StoreMetrics};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

/// The store.
pub struct Store {
    options: StoreOptions,
    disk: Arc<dyn Disk>,
    shards: Vec<RwLock<StoreShard>>,
    log: Log,
    /// Time of the newest sample that ever was in the head; `TimeMs::MIN`: none.
    newest: AtomicI64,
    history: Option<Arc<dyn BlockBackend>>,
    feed: RwLock<Option<Arc<dyn ChangeFeed>>>,
    watch: RwLock<Option<Arc<dyn AppendObserver>>>,
    metrics: StoreMetrics,
    exemplars: Exemplars,
    flush_lock: Mutex<()>,
    /// What is in blocks and still in the log.
    in_blocks: Mutex<Option<FlushWatermark>>,
    merge_lock: Mutex<()>,
    /// Held while blocks move, or are written anew: those exclude each other. Taken before the other two.
    move_lock: Mutex<()>,
    retention: RwLock<Retention>,
    series_retention: RwLock<Arc<[SeriesRetention]>>,
    retention_limits: retention::RetentionLimitGauges,
    ongoing: replay_status::ReplayStatus,
}

/// One shard under its lock.
struct StoreShard {
    head: Head,
    /// Append sequence number.
    seq: u64,
    /// How far back what came lately reached.
    arrivals: ChangeLog,
    /// Records being encoded; kept for its memory.
    batch: RecordBuilder,
    /// What is deleted of the head.
    deleted: HeadDeletes,
    /// While the log is replayed: what has come since.
    overlay: Option<ReplayOverlay>,
}

impl Store {
    /// Opens (or creates) the data directory and replays the log.
    pub fn open(
        options: StoreOptions,
        disk: Arc<dyn Disk>,
        metrics: &Metrics,
    ) -> Result<(Arc<Store>, ReplayReport), StoreError> {
        Store::open_far(options, None, disk, metrics)
    }

    /// As [`Store::open`], with a place for old blocks.
    pub fn open_far(
        options: StoreOptions,
        far: Option<ColdOptions>,
        disk: Arc<dyn Disk>,
        metrics: &Metrics,
    ) -> Result<(Arc<Store>, ReplayReport), StoreError> {
        Store::open_early(options, far, disk, metrics).and_then(replayed)
    }

    /// As [`Store::open`], but the log is still to be replayed, by [`PendingReplay::run`]: on
    /// another thread, while samples come already and what is older than those of the log can be
    /// read.
    pub fn open_early(
        options: StoreOptions,
        far: Option<ColdOptions>,
        disk: Arc<dyn Disk>,
        metrics: &Metrics,
    ) -> Result<(Arc<Store>, PendingReplay), StoreError> {
        let history = blocks::BlockManager::open(&options.dir, far, disk.clone(), metrics)?;
        Store::build(options, disk, metrics, Some(Arc::new(history)), REPLAY_AHEAD_BYTES, Log::start)
    }

    /// As [`Store::open`], without threads of the log, and with segments of this size: it is
    /// written when [`Store::write_log`] is called. As much is kept between survey and replay, so
    /// what is more is read twice. For tests in which nothing happens by itself.
    pub fn open_by_hand(
        options: StoreOptions,
        disk: Arc<dyn Disk>,
        metrics: &Metrics,
        segment_bytes: u64,
    ) -> Result<(Arc<Store>, ReplayReport), StoreError> {
        Store::open_early_by_hand(options, disk, metrics, segment_bytes).and_then(replayed)
    }

    /// As [`Store::open_early`] and [`Store::open_by_hand`].
    pub fn open_early_by_hand(
        options: StoreOptions,
        disk: Arc<dyn Disk>,
        metrics: &Metrics,
        segment_bytes: u64,
    ) -> Result<(Arc<Store>, PendingReplay), StoreError> {
        let history = blocks::BlockManager::open(&options.dir, None, disk.clone(), metrics)?;
        let start =
            |log, disk, metrics: &Metrics| Log::manual(LogOptions { segment_bytes, ..log }, disk, metrics);
        Store::build(
            options,
            disk,
            metrics,
            Some(Arc::new(history)),
            usize::try_from(segment_bytes).unwrap_or(usize::MAX),
            start,
        )
    }

    /// Writes the log of a store without threads, and syncs it if that is asked for.
    pub fn write_log(&self, sync: bool) {
        self.log.write_queued(sync);
    }

    /// As [`Store::open`], with this history behind the head; without one, nothing ever leaves the head.
    pub fn open_with(
        options: StoreOptions,
        disk: Arc<dyn Disk>,
        metrics: &Metrics,
        history: Option<Arc<dyn BlockBackend>>,
    ) -> Result<(Arc<Store>, ReplayReport), StoreError> {
        Store::build(options, disk, metrics, history, REPLAY_AHEAD_BYTES, Log::start).and_then(replayed)
    }

    fn build(
        options: StoreOptions,
        disk: Arc<dyn Disk>,
        metrics: &Metrics,
        history: Option<Arc<dyn BlockBackend>>,
        keep: usize,
        start_log: impl FnOnce(LogOptions, Arc<dyn Disk>, &Metrics) -> Result<Log, StoreError>,
    ) -> Result<(Arc<Store>, PendingReplay), StoreError> {
        let dir = options.dir.join("wal");
        disk.create_dir(&dir).map_err(|source| StoreError::Io { path: dir.clone(), source })?;
        let heads = || (0..SHARDS).map(|_| options.new_head()).collect();
        let surveyed = replay_passes::scan_log(disk.as_ref(), &dir, heads, keep)?;
        let outcome = surveyed.outcome;
        let log_options = LogOptions {
            dir: dir.clone(),
            sync_interval_ms: options.wal_sync_interval_ms,
            next_lsn: outcome.last_lsn + 1,
            skips: surveyed.gap,
            next_segment: outcome.last_number + 1,
            segments: outcome.segments.clone(),
            segment_bytes: WAL_SEGMENT_BYTES,
        };
        let log = start_log(log_options, disk.clone(), metrics)?;
        let progress = metrics.gauge(
            "perennial_wal_replay_progress",
            "Part of the write-ahead log that the start has replayed: 1 when it is done.",
            &[],
        );
        let ongoing = replay_status::ReplayStatus::new(outcome.records, surveyed.oldest, progress);
        let flushed = surveyed.flushed;
        let newest = outcome.segments.iter().filter_map(|segment| segment.newest).max();
        let names = surveyed.heads.iter().map(Head::all_labels).collect();
        let ahead = Some(surveyed.ahead);
        let shard = |mut head: Head| {
            for flushed in flushed.into_iter() {
                head.raise_min_append_time(flushed.end);
            }
            let (batch, deleted, young) =
                (RecordBuilder::default(), HeadDeletes::default(), Some(ReplayOverlay::default()));
            RwLock::new(StoreShard {
                head,
                seq: 0,
                arrivals: ChangeLog::default(),
                batch,
                deleted,
                overlay: young,
            })
        };
        let store = Arc::new(Store {
            shards: surveyed.heads.into_iter().map(shard).collect(),
            retention_limits: retention::RetentionLimitGauges::new(metrics),
            exemplars: Exemplars::new(options.out_of_order_ms, metrics),
            metrics: StoreMetrics::new(metrics),
            options,
            disk,
            log,
            newest: AtomicI64::new(newest.unwrap_or(TimeMs::MIN)),
            history,
            feed: RwLock::new(None),
            watch: RwLock::new(None),
            flush_lock: Mutex::new(()),
            in_blocks: Mutex::default(),
            merge_lock: Mutex::new(()),
            move_lock: Mutex::default(),
            retention: RwLock::default(),
            series_retention: RwLock::new(Arc::default()),
            ongoing,
        });
        store.count_series();
        Ok((store.clone(), PendingReplay { store, dir, surveyed: outcome, flushed, names, ahead }))
    }

    fn shard(&self, shard: u16) -> &RwLock<StoreShard> {
        &self.shards[usize::from(shard % SHARDS)]
    }

    /// From now on `feed` hears of every append with [`FeedDelivery::Feed`].
    pub fn set_feed(&self, feed: Arc<dyn ChangeFeed>) {
        *self.feed.write() = Some(feed);
    }

    /// From now on `watch` looks at every append that writers make.
    pub fn set_watch(&self, watch: Arc<dyn AppendObserver>) {
        *self.watch.write() = Some(watch);
    }

    /// The group with this key in this shard; made on first use.
    pub fn open_group(&self, key: &str, shard: u16) -> GroupId {
        let group = self.shard(shard).write().head.open_group(key);
        GroupId(group_id(shard, group))
    }

    /// Where the series with these labels lives; made, and logged, on first use.
    pub fn get_or_create_series(&self, labels: &Labels) -> SeriesRef {
        let shard = shard_of(labels);
        let known = self.shard(shard).read().head.find(labels.encoded());
        let slot = known.unwrap_or_else(|| {
            self.metrics.series.add(1.0);
            self.shard(shard).write().head.resolve(labels)
        });
        SeriesRef { shard, slot }
    }

    /// The series with these labels, which are in their encoded form ([`Labels::encoded`]), if it
    /// is in use. What is no label set finds none.
    pub fn find_encoded(&self, encoded: &[u8]) -> Option<SeriesRef> {
        let shard = shard_of_encoded(encoded);
        let slot = self.shard(shard).read().head.find(encoded)?;
        Some(SeriesRef { shard, slot })
    }

    /// Whether samples of a series that are in the head came as a column of a group whose key
    /// begins with `prefix`.
    pub fn is_column_of(&self, labels: &Labels, prefix: &str) -> bool {
        self.shard(shard_of(labels)).read().head.is_column_of(labels, prefix)
    }

    /// The labels of a series.
    pub fn labels(&self, series: SeriesRef) -> Labels {
        self.shard(series.shard).read().head.labels_including_inactive(series.slot).unwrap_or_default()
    }

    /// Number of slots handed out in a shard: new series are `old..new`.
    pub fn slots(&self, shard: u16) -> u32 {
        self.shard(shard).read().head.slots()
    }

    /// Calls `done` (on the WAL's thread, or at once) when everything up to `lsn` would survive kill -9;
    /// with an error if it never will.
    pub fn on_committed(&self, lsn: u64, done: Box<dyn FnOnce(Result<(), StoreError>) + Send>) {
        self.log.on_committed(lsn, done);
    }

    /// Waits, `patience` at most, until everything that can have been read so far would survive kill -9.
    pub fn wait_durable(&self, patience: std::time::Duration) {
        let (tell, told) = std::sync::mpsc::channel::<()>();
        self.on_committed(self.last_lsn(), Box::new(move |_| drop(tell)));
        // Nothing is ever said: it ends when nobody can speak any more.
        let _ = told.recv_timeout(patience);
    }

    /// The log position of what was appended last: all that a reader can have seen is at or before it.
    pub fn last_lsn(&self) -> u64 {
        self.log.last_lsn()
    }

    /// Whether all samples at `from` and later are in memory: nobody who reads them waits for anything.
    pub fn has_in_memory(&self, from: TimeMs) -> bool {
        !self.is_replaying() && self.history.as_ref().is_none_or(|history| !history.has_after(from))
    }

    /// The series of `shard` that satisfy all matchers and may have samples in `from..=to`, from
    /// head and blocks.
    pub fn select(
        &self,
        shard: u16,
        matchers: &[Matcher],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Selection, StoreError> {
        self.wait_for_replay(to)?;
        let (seq, mut entries, head, in_order) = {
            let shard = self.shard(shard).read();
            let (slots, in_order) = shard.head.matching_in_order(matchers);
            let mut entries: Vec<SelectionEntry> = Vec::with_capacity(slots.len());
            let head = shard.head.snapshot(slots, (from, to), |slot, labels| {
                let head = Some(entries.len() as u32);
                let sources = SeriesSources { head, parts: Vec::new(), deleted: shard.deleted.of(slot) };
                entries.push(SelectionEntry { labels: labels.clone(), slot: Some(slot), sources });
            });
            (shard.seq, entries, head, in_order)
        };
        if !in_order {
            entries.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        }
        // After the head: what moves into a block in between is seen twice rather than not at all.
        if let Some(history) = &self.history {
            let parts = history.select(shard, matchers, from, to)?;
            self.add_parts(shard, parts, &mut entries);
        }
        Ok(Selection::new(seq, entries, head))
    }

    /// Adds what blocks know, in the order of labels, to the series of the head, which are in that
    /// order and stay so.
    fn add_parts(&self, shard: u16, parts: Vec<LabelledSource>, entries: &mut Vec<SelectionEntry>) {
        let of_head = entries.len();
        let mut at = 0;
        for (labels, part) in parts {
            // Equal is quick to tell, and nearly all are.
            while at < of_head && entries[at].labels != labels && entries[at].labels < labels {
                at += 1;
            }
            if at < of_head && entries[at].labels == labels {
                entries[at].sources.parts.push(part);
            } else if let Some(last) = entries[of_head..].last_mut().filter(|last| last.labels == labels) {
                last.sources.parts.push(part);
            } else {
                let slot = self.shard(shard).read().head.find(labels.encoded());
                let sources = SeriesSources { parts: vec![part], ..SeriesSources::default() };
                entries.push(SelectionEntry { labels, slot, sources });
            }
        }
        if entries.len() > of_head {
            // Two runs: a stable sort only merges them.
            entries.sort_by(|a, b| a.labels.cmp(&b.labels));
        }
    }

    /// Sorted names of the labels of all series in `from..=to` that satisfy any of the matcher sets
    /// (none: all).
    pub fn label_names(
        &self,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<String>, StoreError> {
        self.wait_for_replay(to)?;
        let mut names = BTreeSet::new();
        for shard in
            self.shards.iter().map(|shard| shard.read()).filter(|shard| shard.head.overlaps(from, to))
        {
            shard.head.label_names(sets, &mut names);
        }
        if let Some(history) = &self.history {
            names.extend(history.label_names(sets, from, to)?);
        }
        Ok(names.into_iter().collect())
    }

    /// Sorted values of label `name`, as [`Store::label_names`].
    pub fn label_values(
        &self,
        name: &str,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<String>, StoreError> {
        self.wait_for_replay(to)?;
        let mut values = BTreeSet::new();
        for shard in
            self.shards.iter().map(|shard| shard.read()).filter(|shard| shard.head.overlaps(from, to))
        {
            shard.head.label_values(name, sets, &mut values);
        }
        if let Some(history) = &self.history {
            values.extend(history.label_values(name, sets, from, to)?);
        }
        Ok(values.into_iter().collect())
    }

    /// Counts; the lists hold at most `limit` entries.
    pub fn stats(&self, limit: usize) -> HeadStats {
        let mut gathered = HeadStatsCollector::default();
        self.shards.iter().for_each(|shard| gathered.add(&shard.read().head));
        gathered.finish(limit)
    }

    /// Housekeeping, to be called about once a minute: flushes what is complete as of `now` into
    /// blocks, drops the log behind it, and removes the blocks that have to go (also if the flush
    /// fails: it may be because the disk is full). Returns the number of blocks written.
    pub fn run_housekeeping(&self, now: TimeMs) -> Result<usize, StoreError> {
        if self.is_replaying() {
            return Ok(0);
        }
        let written = self.write_blocks(now);
        let removed = self.remove_blocks(now);
        written.and_then(|blocks| removed.map(|()| blocks))
    }

    /// The first part of [`Store::run_housekeeping`].
    pub fn write_blocks(&self, now: TimeMs) -> Result<usize, StoreError> {
        if self.is_replaying() {
            return Ok(0);
        }
        let written = self.flush(now);
        self.count_series();
        written
    }

    /// The second part of [`Store::run_housekeeping`].
    pub fn remove_blocks(&self, now: TimeMs) -> Result<(), StoreError> {
        if self.is_replaying() { Ok(()) } else { self.remove_old_blocks(now) }
    }

    fn count_series(&self) {
        let count =
            |of: fn(&Head) -> u64| self.shards.iter().map(|shard| of(&shard.read().head)).sum::<u64>() as f64;
        self.metrics.series.set(count(Head::active_series));
        self.metrics.chunks.set(count(Head::chunks));
    }

    /// Writes and syncs what is queued and stops the log's thread. A replay that is under way ends.
    pub fn close(&self) -> Result<(), StoreError> {
        self.stop_replay();
        self.log.close()
    }
}

fn replayed(
    (store, replaying): (Arc<Store>, PendingReplay),
) -> Result<(Arc<Store>, ReplayReport), StoreError> {
    replaying.run().map(|replay| (store, replay))
}
