//! The two passes over the write-ahead log at a start: the scan and the replay.
//!
//! The scan finds the series and groups, so that the store can be opened; new records are then
//! written after the existing ones. The replay fills heads with samples. It runs while the store is
//! open ([`super::replay_status`]), and begins earlier: whenever a thread of the pool
//! ([`super::replay_pool`]) has nothing to scan, it restores records that the scan has kept. Of a
//! long log only the beginning is kept; the rest is read a second time.

use super::head_deletes::HeadDeletes;
use super::log_scan::LogScanner;
use super::record_applier::{LabelLookup, RecordApplier};
use super::replay_pool::{PayloadBudget, PoolOutput, ReplayBatch, ReplayWorker, owns, run_pool, threads};
use crate::disk::Disk;
use crate::error::StoreError;
use crate::head::{Head, SlotLabels};
use crate::model::{SHARDS, TimeMs};
use crate::wal::{
    FlushWatermark, LogContents, RecordOutcomes, RecordPosition, ResumePoint, read_log, read_log_again,
};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// The result of the scan.
pub(super) struct LogScan {
    /// Heads with the series and groups of the log, without samples.
    pub heads: Vec<Head>,
    /// Segment files, damage, and the last numbers.
    pub outcome: LogContents,
    /// The flush watermark: what is in blocks.
    pub flushed: Option<FlushWatermark>,
    /// Whether LSNs must be skipped: the watermark is beyond the last record, because the records
    /// before the flush were not synced.
    pub gap: bool,
    /// Time of the oldest sample that is in no block.
    pub oldest: Option<TimeMs>,
    /// The part of the replay that was done during the scan.
    pub ahead: EarlyReplay,
}

/// What the scan has restored, and kept for the replay.
pub(super) struct EarlyReplay {
    /// By thread.
    restoring: Vec<PartialReplay>,
    /// Where the kept records end; `None`: all were kept.
    until: Option<ResumePoint>,
}

/// The result of the replay.
pub(super) struct ReplayedShards {
    /// The head and the deletions of each shard.
    pub shards: Vec<(Head, HeadDeletes)>,
    /// Number of samples restored.
    pub samples: u64,
    /// Segment files, records that could not be used, and the last numbers.
    pub outcome: LogContents,
}

/// The progress of a replay, and the request to stop it.
#[derive(Default)]
pub(super) struct ReplayControl {
    /// Records of the log.
    pub records: u64,
    /// Records restored so far.
    pub done: AtomicU64,
    /// Set to end the replay without a result.
    pub stop: AtomicBool,
}

/// Scans the log in `dir` and cuts off a torn tail. Keeps up to `keep` bytes of records for the
/// replay. `make` returns empty heads for all shards.
pub(super) fn scan_log(
    disk: &dyn Disk,
    dir: &Path,
    make: impl Fn() -> Vec<Head>,
    keep: usize,
) -> Result<LogScan, StoreError> {
    let scan_worker =
        || ScanWorker { scanner: LogScanner::new(make()), restoring: PartialReplay::new(make()) };
    let all = std::iter::repeat_with(scan_worker).take(threads()).collect();
    let never = AtomicBool::new(false);
    let made = run_pool(dir, all, PayloadBudget::AtMost(keep), &never, |pool| read_log(disk, dir, pool))?;
    let PoolOutput { mut outcome, workers, partial_from: until } = made;
    let (done, restoring): (Vec<LogScanner>, _) =
        workers.into_iter().map(|t| (t.scanner, t.restoring)).unzip();
    let flushed = done.iter().filter_map(|scanner| scanner.flushed).max_by_key(|flushed| flushed.lsn);
    let oldest = done.iter().filter_map(|scanner| scanner.oldest).min();
    let last = flushed.map_or(0, |flushed| flushed.lsn);
    // The watermark is synced, the records before it need not be. LSNs up to the watermark must not
    // be used again: the next start would take such records for flushed ones.
    let gap = outcome.last_lsn < last;
    outcome.last_lsn = outcome.last_lsn.max(last);
    let heads = by_shard(done.into_iter().map(|scanner| scanner.heads.into_iter()).collect());
    Ok(LogScan { heads, outcome, flushed, gap, oldest, ahead: EarlyReplay { restoring, until } })
}

/// Replays the log that was scanned. `None` if it was stopped.
pub(super) fn replay_log(
    disk: &dyn Disk,
    dir: &Path,
    scanned: &LogContents,
    ahead: EarlyReplay,
    make: impl Fn() -> Vec<Head>,
    names: &[SlotLabels],
    control: &ReplayControl,
) -> Result<Option<ReplayedShards>, StoreError> {
    let EarlyReplay { restoring, until } = ahead.or_restart(scanned, make);
    let go_on = |restoring: PartialReplay| {
        control.done.fetch_add(restoring.records, Relaxed);
        RestoreWorker { restoring, names, control }
    };
    let all = restoring.into_iter().map(go_on).collect();
    let made = run_pool(dir, all, PayloadBudget::All, &control.stop, |pool| {
        read_log_again(disk, dir, scanned, until, pool)
    })?;
    // What was restored is incomplete. The log is not changed by a replay, so the next start does
    // it all.
    if control.stop.load(Relaxed) {
        return Ok(None);
    }
    let appliers = made.workers.into_iter().map(|worker| worker.restoring.applier);
    let appliers: Vec<RecordApplier> = appliers.collect();
    let samples = appliers.iter().map(|applier| applier.samples).sum();
    let shards = by_shard(appliers.into_iter().map(RecordApplier::into_shards).collect());
    Ok(Some(ReplayedShards { shards, samples, outcome: made.outcome }))
}

/// Collects, for each shard, the result of the thread that owns it; the other threads have an empty
/// one.
fn by_shard<T>(mut of_threads: Vec<impl Iterator<Item = T>>) -> Vec<T> {
    let threads = of_threads.len();
    let mut all = Vec::with_capacity(usize::from(SHARDS));
    for shard in 0..usize::from(SHARDS) {
        for (at, of_thread) in of_threads.iter_mut().enumerate() {
            all.extend(of_thread.next().filter(|_| owns(at, threads, shard)));
        }
    }
    all
}

impl EarlyReplay {
    /// A checkpoint is read completely or not at all. If the kept records end within one, they are
    /// discarded and the replay begins again.
    fn or_restart(self, scanned: &LogContents, make: impl Fn() -> Vec<Head>) -> EarlyReplay {
        match self.until {
            Some(until) if scanned.in_checkpoint(until.position) => {
                let restoring = self.restoring.iter().map(|_| PartialReplay::new(make())).collect();
                EarlyReplay { restoring, until: Some(ResumePoint::default()) }
            }
            _ => self,
        }
    }
}

/// A worker of the scan, which restores records when it has nothing to scan.
struct ScanWorker {
    scanner: LogScanner,
    restoring: PartialReplay,
}

impl ReplayWorker for ScanWorker {
    fn take(&mut self, batch: ReplayBatch) -> Option<ReplayBatch> {
        batch.each(|_, found| self.scanner.record(found));
        // Only batches with complete payloads can be restored later; others are read a second time.
        if !batch.whole {
            return Some(batch);
        }
        self.restoring.unreplayed.push_back(batch);
        None
    }

    fn idle(&mut self) -> Option<ReplayBatch> {
        let batch = self.restoring.unreplayed.pop_front()?;
        self.restoring.restore(&batch, &self.scanner.heads[..]);
        Some(batch)
    }
}

/// A worker of the replay.
struct RestoreWorker<'a> {
    restoring: PartialReplay,
    names: &'a [SlotLabels],
    control: &'a ReplayControl,
}

impl RestoreWorker<'_> {
    fn restore(&mut self, batch: &ReplayBatch) {
        self.restoring.restore(batch, self.names);
        self.control.done.fetch_add(batch.len() as u64, Relaxed);
    }

    /// Restores the records that the scan has kept; they come first.
    fn catch_up(&mut self) {
        while !self.control.stop.load(Relaxed)
            && let Some(batch) = self.restoring.unreplayed.pop_front()
        {
            self.restore(&batch);
        }
    }
}

impl ReplayWorker for RestoreWorker<'_> {
    fn take(&mut self, batch: ReplayBatch) -> Option<ReplayBatch> {
        self.catch_up();
        self.restore(&batch);
        Some(batch)
    }

    fn finish(&mut self) -> RecordOutcomes {
        self.catch_up();
        self.restoring.finish()
    }
}

/// The progress of one thread's part of the replay.
struct PartialReplay {
    applier: RecordApplier,
    used: RecordOutcomes,
    /// The latest record and its LSN.
    last: Option<(RecordPosition, u64)>,
    /// Number of records restored.
    records: u64,
    /// Batches that the scan has read and that are not restored yet.
    unreplayed: VecDeque<ReplayBatch>,
}

impl PartialReplay {
    fn new(heads: Vec<Head>) -> PartialReplay {
        let applier = RecordApplier::new(heads);
        let unreplayed = VecDeque::new();
        PartialReplay { applier, used: RecordOutcomes::default(), last: None, records: 0, unreplayed }
    }

    fn restore<K: LabelLookup + ?Sized>(&mut self, batch: &ReplayBatch, names: &K) {
        batch.each(|position, found| {
            self.used.note(position, found.lsn, self.applier.record(found, names));
            self.last = Some((position, found.lsn));
        });
        self.records += batch.len() as u64;
    }

    fn finish(&mut self) -> RecordOutcomes {
        let mut used = std::mem::take(&mut self.used);
        if let Some((position, lsn)) = self.last {
            used.note(position, lsn, self.applier.finish().map(|()| None));
        }
        used
    }
}
