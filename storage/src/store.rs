//! The storage engine's entry point. [`Store`] owns the write-ahead log (WAL), the head (recent
//! samples in memory) and the blocks (immutable Parquet files).
//!
//! Writers append batches by column ([`Store::append_columns`]: a scrape or the result of a rule,
//! one timestamp for many series) or single rows ([`Store::append_rows`] for remote write,
//! [`Store::append_histograms`]). Every append returns an LSN, its position in the log; the data is
//! acknowledged when [`Store::on_committed`] confirms this LSN. Readers get a [`Selection`], a
//! snapshot that holds no lock.

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
pub use crate::error::{ErrorClass, StoreError};
pub use crate::head::Refusal;
pub use crate::model::columns::{ColumnBatch, ColumnLayout, GroupId};
pub use crate::model::runs::{TimedHistograms, TimedStarts};
pub use append::is_storable;
pub use batch::{
    AppendObserver, AppendResult, ChangeData, ChangeEvent, ChangeFeed, Duplicate, FeedDelivery, FloatRow,
    HistogramRow, Recorded, Refused, StartRow, ZeroRow,
};
pub use blocks::damaged_blocks;
pub use changed_since::{ChangedSince, StoreVersion};
pub use corrections::{CorrectedValue, Correction};
pub use flush::{BlockBackend, LabelledSource, SeriesSamples};
pub use newest::{NewestSample, NewestValue};
pub use options::{HeadStats, ReplayReport, StoreOptions};
pub use replay_status::{PendingReplay, ReplayProgress};
pub use retention::{ExpiredBlocks, HeadAndLog, Retention};
pub use selection::{Selection, SeriesSource};
pub use series_retention::{RetentionCutoffs, SeriesRetention};

use crate::block::BlockMeta;
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

/// The storage engine: write-ahead log, head and blocks of one data directory.
pub struct Store {
    options: StoreOptions,
    disk: Arc<dyn Disk>,
    shards: Vec<RwLock<StoreShard>>,
    log: Log,
    /// Time of the newest sample that ever was in the head; `TimeMs::MIN` if there was none.
    newest: AtomicI64,
    history: Option<Arc<dyn BlockBackend>>,
    feed: RwLock<Option<Arc<dyn ChangeFeed>>>,
    watch: RwLock<Option<Arc<dyn AppendObserver>>>,
    metrics: StoreMetrics,
    exemplars: Exemplars,
    flush_lock: Mutex<()>,
    /// What is in blocks but not yet removed from the log; `None`: nothing.
    in_blocks: Mutex<Option<FlushWatermark>>,
    merge_lock: Mutex<()>,
    /// Held while blocks are moved to the object store or rewritten: these exclude each other.
    /// Locked before `merge_lock` and `flush_lock`.
    move_lock: Mutex<()>,
    retention: RwLock<Retention>,
    series_retention: RwLock<Arc<[SeriesRetention]>>,
    retention_limits: retention::RetentionLimitGauges,
    ongoing: replay_status::ReplayStatus,
}

/// The part of the store that is under the lock of one shard.
struct StoreShard {
    head: Head,
    /// Number of the last append.
    seq: u64,
    /// The oldest times that recent appends changed.
    arrivals: ChangeLog,
    /// Buffer for records that are encoded; kept to reuse its memory.
    batch: RecordBuilder,
    /// The deleted times of the head's series.
    deleted: HeadDeletes,
    /// While the log is replayed: what was appended since the start.
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

    /// As [`Store::open`], with an object store for old blocks.
    pub fn open_far(
        options: StoreOptions,
        far: Option<ColdOptions>,
        disk: Arc<dyn Disk>,
        metrics: &Metrics,
    ) -> Result<(Arc<Store>, ReplayReport), StoreError> {
        Store::open_early(options, far, disk, metrics).and_then(replayed)
    }

    /// As [`Store::open`], but returns before the log is replayed; [`PendingReplay::run`] does
    /// that, on another thread. Meanwhile the store accepts samples, and answers queries about
    /// times before the oldest sample of the log.
    pub fn open_early(
        options: StoreOptions,
        far: Option<ColdOptions>,
        disk: Arc<dyn Disk>,
        metrics: &Metrics,
    ) -> Result<(Arc<Store>, PendingReplay), StoreError> {
        let history = blocks::BlockManager::open(&options.dir, far, disk.clone(), metrics)?;
        Store::build(options, disk, metrics, Some(Arc::new(history)), REPLAY_AHEAD_BYTES, Log::start)
    }

    /// As [`Store::open`], without the log's threads and with segments of `segment_bytes`. The log
    /// is written only by [`Store::write_log`]. For tests in which nothing happens by itself. The
    /// log scan keeps at most `segment_bytes` of records for the replay; a longer log is read a
    /// second time.
    pub fn open_by_hand(
        options: StoreOptions,
        disk: Arc<dyn Disk>,
        metrics: &Metrics,
        segment_bytes: u64,
    ) -> Result<(Arc<Store>, ReplayReport), StoreError> {
        Store::open_early_by_hand(options, disk, metrics, segment_bytes).and_then(replayed)
    }

    /// [`Store::open_early`] and [`Store::open_by_hand`] together.
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

    /// Writes the queued records of a store without threads, and syncs the log if `sync`.
    pub fn write_log(&self, sync: bool) {
        self.log.write_queued(sync);
    }

    /// As [`Store::open`], with this implementation of blocks; with `None`, samples never leave the
    /// head.
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

    /// Sets the feed that gets every append with [`FeedDelivery::Feed`] from now on.
    pub fn set_feed(&self, feed: Arc<dyn ChangeFeed>) {
        *self.feed.write() = Some(feed);
    }

    /// Sets the observer that sees every append of a writer from now on.
    pub fn set_watch(&self, watch: Arc<dyn AppendObserver>) {
        *self.watch.write() = Some(watch);
    }

    /// The column group with this key in this shard, created on first use.
    pub fn open_group(&self, key: &str, shard: u16) -> GroupId {
        let group = self.shard(shard).write().head.open_group(key);
        GroupId(group_id(shard, group))
    }

    /// The shard and slot of the series with these labels; created on first use, and logged with
    /// its first sample.
    pub fn get_or_create_series(&self, labels: &Labels) -> SeriesRef {
        let shard = shard_of(labels);
        let known = self.shard(shard).read().head.find(labels.encoded());
        let slot = known.unwrap_or_else(|| {
            self.metrics.series.add(1.0);
            self.shard(shard).write().head.resolve(labels)
        });
        SeriesRef { shard, slot }
    }

    /// The series with these labels in their encoded form ([`Labels::encoded`]), if it is active.
    /// Bytes that are no label set find none.
    pub fn find_encoded(&self, encoded: &[u8]) -> Option<SeriesRef> {
        let shard = shard_of_encoded(encoded);
        let slot = self.shard(shard).read().head.find(encoded)?;
        Some(SeriesRef { shard, slot })
    }

    /// Whether the series has samples in the head in a column of a group whose key begins with
    /// `prefix`.
    pub fn is_column_of(&self, labels: &Labels, prefix: &str) -> bool {
        self.shard(shard_of(labels)).read().head.is_column_of(labels, prefix)
    }

    /// The labels of a series, also of an inactive one; empty if there is no such series.
    pub fn labels(&self, series: SeriesRef) -> Labels {
        self.shard(series.shard).read().head.labels_including_inactive(series.slot).unwrap_or_default()
    }

    /// Number of slots of a shard. Slots are numbered from 0, so series created since an earlier
    /// call have the slots from the earlier result on.
    pub fn slots(&self, shard: u16) -> u32 {
        self.shard(shard).read().head.slots()
    }

    /// Calls `done` when everything up to `lsn` would survive a `kill -9`, or with an error if it
    /// never will. The call comes from the thread of the log, or at once.
    pub fn on_committed(&self, lsn: u64, done: Box<dyn FnOnce(Result<(), StoreError>) + Send>) {
        self.log.on_committed(lsn, done);
    }

    /// Waits, at most `patience`, until everything that readers can have seen so far would survive
    /// a `kill -9`.
    pub fn wait_durable(&self, patience: std::time::Duration) {
        let (tell, told) = std::sync::mpsc::channel::<()>();
        self.on_committed(self.last_lsn(), Box::new(move |_| drop(tell)));
        // No message is ever sent: the receiver returns when the sender is dropped with the
        // callback.
        let _ = told.recv_timeout(patience);
    }

    /// The LSN of the last append: everything that a reader can have seen is at or before it.
    pub fn last_lsn(&self) -> u64 {
        self.log.last_lsn()
    }

    /// Whether all samples at `from` and later are in memory, so that reading them waits for
    /// nothing.
    pub fn has_in_memory(&self, from: TimeMs) -> bool {
        !self.is_replaying() && self.history.as_ref().is_none_or(|history| !history.has_after(from))
    }

    /// The series of `shard` that satisfy all matchers and may have samples in `from..=to`, from
    /// head and blocks.
    ///
    /// # Errors
    /// A block cannot be read, or the replay of the log has failed.
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
        // Blocks after the head: samples that are flushed in between are seen twice rather than not
        // at all.
        if let Some(history) = &self.history {
            let parts = history.select(shard, matchers, from, to)?;
            self.add_parts(shard, parts, &mut entries);
        }
        Ok(Selection::new(seq, entries, head))
    }

    /// Adds the series of blocks, sorted by labels, to those of the head, which are sorted and stay
    /// so.
    fn add_parts(&self, shard: u16, parts: Vec<LabelledSource>, entries: &mut Vec<SelectionEntry>) {
        let of_head = entries.len();
        let mut at = 0;
        for (labels, part) in parts {
            // `!=` compares faster than `<`, and the head has nearly all series that blocks have.
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
            // Two sorted runs: a stable sort only merges them.
            entries.sort_by(|a, b| a.labels.cmp(&b.labels));
        }
    }

    /// The sorted names of the labels of all series with samples in `from..=to` that satisfy any of
    /// the matcher sets (no set: all series).
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

    /// The sorted values of label `name`, of the same series as [`Store::label_names`].
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

    /// Counts of the head; its lists have at most `limit` entries.
    pub fn stats(&self, limit: usize) -> HeadStats {
        let mut gathered = HeadStatsCollector::default();
        self.shards.iter().for_each(|shard| gathered.add(&shard.read().head));
        gathered.finish(limit)
    }

    /// The blocks that answers are read from, in the order of their time.
    pub fn block_metas(&self) -> Vec<BlockMeta> {
        let Some(history) = &self.history else { return Vec::new() };
        let mut metas = history.metas();
        metas.sort_by_key(|meta| (meta.from, meta.to));
        metas
    }

    /// Housekeeping, to be called about once a minute. Flushes the ranges that are complete at
    /// `now` into blocks, removes the log segments of these, and removes expired blocks, even if
    /// the flush fails: it may have failed because the disk is full. Returns the number of blocks
    /// written.
    pub fn run_housekeeping(&self, now: TimeMs) -> Result<usize, StoreError> {
        if self.is_replaying() {
            return Ok(0);
        }
        let written = self.write_blocks(now);
        let removed = self.remove_blocks(now);
        written.and_then(|blocks| removed.map(|()| blocks))
    }

    /// The flush of [`Store::run_housekeeping`]. Returns the number of blocks written.
    pub fn write_blocks(&self, now: TimeMs) -> Result<usize, StoreError> {
        if self.is_replaying() {
            return Ok(0);
        }
        let written = self.flush(now);
        self.count_series();
        written
    }

    /// The retention of [`Store::run_housekeeping`].
    pub fn remove_blocks(&self, now: TimeMs) -> Result<(), StoreError> {
        if self.is_replaying() { Ok(()) } else { self.remove_old_blocks(now) }
    }

    fn count_series(&self) {
        let count =
            |of: fn(&Head) -> u64| self.shards.iter().map(|shard| of(&shard.read().head)).sum::<u64>() as f64;
        self.metrics.series.set(count(Head::active_series));
        self.metrics.chunks.set(count(Head::chunks));
    }

    /// Writes and syncs the queued records and stops the threads of the log. Stops a replay that
    /// runs.
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
