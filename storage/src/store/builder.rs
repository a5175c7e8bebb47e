//! Opening a store: [`StoreBuilder`]. The blocks are opened, the log is scanned for the series that
//! it has, and a new segment is begun; then the store accepts samples. The samples of the log are
//! restored after that ([`super::replay_status`]).

use super::blocks::BlockManager;
use super::change_log::ChangeLog;
use super::flush::BlockBackend;
use super::head_deletes::HeadDeletes;
use super::locks::MaintenanceLocks;
use super::options::{ReplayReport, StoreOptions};
use super::replay_overlay::ReplayOverlay;
use super::replay_passes::{LogScan, scan_log};
use super::replay_status::{PendingReplay, ReplayStatus};
use super::retention::RetentionSettings;
use super::shards::{Shards, StoreShard};
use super::stats::StoreMetrics;
use super::subscribers::Subscribers;
use super::wal::StoreWal;
use super::{ColdOptions, Store};
use crate::disk::Disk;
use crate::error::StoreError;
use crate::exemplars::Exemplars;
use crate::head::Head;
use crate::limits::{EARLY_REPLAY_BYTES, WAL_SEGMENT_BYTES};
use crate::metrics::Metrics;
use crate::model::{SHARDS, TimeMs};
use crate::wal::{FlushWatermark, Log, LogOptions, RecordBuilder};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

/// How a store keeps what leaves the head.
enum BlockStorage {
    /// In Parquet files of the data directory; old ones in an object store, if there is one.
    Files(Option<ColdOptions>),
    /// With this implementation; `None`: samples never leave the head.
    Other(Option<Arc<dyn BlockBackend>>),
}

/// Opens a [`Store`].
///
/// ```
/// use std::sync::Arc;
/// use storage::disk::OsDisk;
/// use storage::metrics::Metrics;
/// use storage::model::{Labels, Matcher};
/// use storage::store::{FloatRow, StoreBuilder, StoreOptions};
///
/// let dir = tempfile::tempdir().unwrap();
/// let options = StoreOptions {
///     dir: dir.path().to_owned(),
///     wal_sync_interval_ms: 100,
///     block_range_ms: 7_200_000,
///     out_of_order_ms: 0,
/// };
/// let metrics = Metrics::default();
/// let builder = StoreBuilder::new(options, Arc::new(OsDisk), &metrics);
/// let (store, pending) = builder.open_before_replay()?;
/// // The samples of the log come back while the store works.
/// let replay = std::thread::spawn(move || pending.run());
///
/// let labels = Labels::from_pairs([("__name__", "up"), ("job", "node")]);
/// let series = store.get_or_create_series(&labels);
/// let stored = store.append_rows(&[FloatRow { series, t: 1_000, v: 1.0 }])?;
/// assert_eq!(stored.stored, 1);
/// replay.join().unwrap()?;
///
/// let selection = store.select(series.shard, &[Matcher::equal("job", "node")], 0, 2_000)?;
/// let mut ts = Vec::new();
/// let mut vs = Vec::new();
/// selection.read(0, 0, 2_000, &mut ts, &mut vs)?;
/// assert_eq!((ts, vs), (vec![1_000], vec![1.0]));
/// store.close()?;
/// # Ok::<(), storage::error::StoreError>(())
/// ```
pub struct StoreBuilder<'a> {
    options: StoreOptions,
    disk: Arc<dyn Disk>,
    metrics: &'a Metrics,
    blocks: BlockStorage,
    /// Bytes of a segment, if the log has no threads.
    manual_log: Option<u64>,
    /// Bytes of a segment otherwise.
    segment_bytes: u64,
}

impl<'a> StoreBuilder<'a> {
    /// A store in `options.dir` of `disk`, which is created if there is none.
    pub fn new(options: StoreOptions, disk: Arc<dyn Disk>, metrics: &'a Metrics) -> StoreBuilder<'a> {
        StoreBuilder {
            options,
            disk,
            metrics,
            blocks: BlockStorage::Files(None),
            manual_log: None,
            segment_bytes: WAL_SEGMENT_BYTES,
        }
    }

    /// With an object store for old blocks; `None`, as is the default: without.
    pub fn cold_storage(self, cold: Option<ColdOptions>) -> StoreBuilder<'a> {
        StoreBuilder { blocks: BlockStorage::Files(cold), ..self }
    }

    /// With another implementation of blocks; with `None`, samples never leave the head.
    pub fn block_backend(self, backend: Option<Arc<dyn BlockBackend>>) -> StoreBuilder<'a> {
        StoreBuilder { blocks: BlockStorage::Other(backend), ..self }
    }

    /// With segments of the log of about this many bytes.
    pub fn segment_bytes(self, segment_bytes: u64) -> StoreBuilder<'a> {
        StoreBuilder { segment_bytes, ..self }
    }

    /// Without the log's threads and with segments of `segment_bytes`: the log is written only by
    /// [`StoreWal::write_queued`]. For tests in which nothing happens by itself. The log scan keeps
    /// at most `segment_bytes` of records for the replay; a longer log is read a second time.
    pub fn manual_log(self, segment_bytes: u64) -> StoreBuilder<'a> {
        StoreBuilder { manual_log: Some(segment_bytes), ..self }
    }

    /// Opens the store and replays its log.
    ///
    /// # Errors
    /// The data directory, or the object store's part of it, cannot be read.
    pub fn open(self) -> Result<(Arc<Store>, ReplayReport), StoreError> {
        let (store, pending) = self.open_before_replay()?;
        let report = pending.run()?;
        Ok((store, report))
    }

    /// As [`StoreBuilder::open`], but returns before the log is replayed; [`PendingReplay::run`]
    /// does that, on another thread. Meanwhile the store accepts samples, and answers queries about
    /// times before the oldest sample of the log.
    ///
    /// # Errors
    /// As [`StoreBuilder::open`].
    pub fn open_before_replay(self) -> Result<(Arc<Store>, PendingReplay), StoreError> {
        let StoreBuilder { options, disk, metrics, blocks, manual_log, segment_bytes } = self;
        let history: Option<Arc<dyn BlockBackend>> = match blocks {
            BlockStorage::Files(cold) => {
                Some(Arc::new(BlockManager::open(&options.dir, cold, disk.clone(), metrics)?))
            }
            BlockStorage::Other(backend) => backend,
        };
        let wal_dir = options.dir.join("wal");
        disk.create_dir(&wal_dir).map_err(|source| StoreError::Io { path: wal_dir.clone(), source })?;
        let heads = || (0..SHARDS).map(|_| options.new_head()).collect();
        let early_bytes =
            manual_log.map_or(EARLY_REPLAY_BYTES, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        let scan = scan_log(disk.as_ref(), &wal_dir, heads, early_bytes)?;
        // After the scan: the numbers of new records follow those that it found, and a torn tail is
        // cut off by now.
        let log = start_log(
            &options,
            &scan,
            manual_log.unwrap_or(segment_bytes),
            manual_log.is_some(),
            disk.clone(),
            metrics,
        )?;
        let progress = metrics.gauge(
            "perennial_wal_replay_progress",
            "Part of the write-ahead log that the start has replayed: 1 when it is done.",
            &[],
        );
        let LogScan { heads, outcome, flushed, oldest, ahead, .. } = scan;
        let newest = outcome.segments.iter().filter_map(|segment| segment.newest).max();
        let names = heads.iter().map(|head| head.series.all_labels()).collect();
        let store = Arc::new(Store {
            shards: Shards::new(heads.into_iter().map(|head| new_shard(head, flushed)).collect()),
            wal: StoreWal::new(log, wal_dir.clone(), disk.clone(), metrics),
            newest: AtomicI64::new(newest.unwrap_or(TimeMs::MIN)),
            history,
            subscribers: Subscribers::default(),
            metrics: StoreMetrics::new(metrics),
            exemplars: Exemplars::new(options.out_of_order_ms, metrics),
            locks: MaintenanceLocks::default(),
            retention: RetentionSettings::new(metrics),
            replay: ReplayStatus::new(outcome.records, oldest, progress),
            options,
            disk,
        });
        store.count_series();
        let pending = PendingReplay {
            store: store.clone(),
            dir: wal_dir,
            scanned: outcome,
            flushed,
            names,
            ahead: Some(ahead),
        };
        Ok((store, pending))
    }
}

/// The log, which continues after the last record of the scan.
fn start_log(
    options: &StoreOptions,
    scan: &LogScan,
    segment_bytes: u64,
    is_manual: bool,
    disk: Arc<dyn Disk>,
    metrics: &Metrics,
) -> Result<Log, StoreError> {
    let log_options = LogOptions {
        dir: options.dir.join("wal"),
        sync_interval_ms: options.wal_sync_interval_ms,
        next_lsn: scan.outcome.last_lsn + 1,
        skips: scan.gap,
        next_segment: scan.outcome.last_number + 1,
        segments: scan.outcome.segments.clone(),
        segment_bytes,
    };
    if is_manual { Log::manual(log_options, disk, metrics) } else { Log::start(log_options, disk, metrics) }
}

/// A shard whose log is not replayed yet.
fn new_shard(mut head: Head, flushed: Option<FlushWatermark>) -> StoreShard {
    if let Some(flushed) = flushed {
        // Blocks have these times, so late samples of them are refused from the first append on.
        head.limits.raise_min_append_time(flushed.end);
    }
    StoreShard {
        head,
        seq: 0,
        arrivals: ChangeLog::default(),
        batch: RecordBuilder::default(),
        deleted: HeadDeletes::default(),
        overlay: Some(ReplayOverlay::default()),
    }
}
