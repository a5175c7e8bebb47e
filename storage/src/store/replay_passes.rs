//! Opening: the log's records become heads again, in the shapes they had.
//!
//! First a survey learns what there is, so that the store can be opened: what comes from then on is
//! written behind it. Samples are put into heads while the store is open already
//! ([`super::replay_status`]), and before, whenever a thread ([`super::replay_pool`]) has nothing
//! to survey: the records are kept for that. Of a long log only the begin is; the rest is read once
//! more.

use super::head_deletes::HeadDeletes;
use super::log_scan::LogScanner;
use super::options::StoreError;
use super::record_applier::{LabelLookup, RecordApplier, SlotLabels};
use super::replay_pool::{PayloadBudget, PoolOutput, ReplayBatch, ReplayWorker, crew, owns, threads};
use crate::disk::Disk;
use crate::head::Head;
use crate::model::{SHARDS, TimeMs};
use crate::wal::{
    FlushWatermark, LogContents, RecordOutcomes, RecordPosition, ResumePoint, read_log, read_log_again,
};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// What is known of the log before its samples are in heads.
pub struct LogScan {
    /// Heads that know the series and groups, and have no samples.
    pub heads: Vec<Head>,
    /// Files, damage of files and frames, numbers.
    pub outcome: LogContents,
    /// What is in blocks.
    pub flushed: Option<FlushWatermark>,
    /// The log skips record numbers: what is in blocks went further than what was synced of it.
    pub gap: bool,
    /// Time of the oldest sample that is in no block.
    pub oldest: Option<TimeMs>,
    /// What is done of the replay.
    pub ahead: EarlyReplay,
}

/// What a survey has done of the replay, and kept for it.
pub struct EarlyReplay {
    /// By thread.
    restoring: Vec<PartialReplay>,
    /// Where what was kept ends; `None`: all was.
    until: Option<ResumePoint>,
}

/// What comes out of the log.
pub struct ReplayedShards {
    /// The shards' heads, and what is deleted of each.
    pub shards: Vec<(Head, HeadDeletes)>,
    /// Samples restored.
    pub samples: u64,
    /// Files, what could not be used, numbers.
    pub outcome: LogContents,
}

/// How far a replay is, and whether it should go on.
#[derive(Default)]
pub struct ReplayControl {
    /// Records of the log.
    pub records: u64,
    /// Of these, restored.
    pub done: AtomicU64,
    /// Set: it ends without a result.
    pub stop: AtomicBool,
}

/// Reads the log in `dir` for what has to be known before anything can be appended behind it; cuts
/// off its torn tail. `keep` bytes of it are kept for the replay.
pub fn scan_log(
    disk: &dyn Disk,
    dir: &Path,
    make: impl Fn() -> Vec<Head>,
    keep: usize,
) -> Result<LogScan, StoreError> {
    let surveying =
        || ScanWorker { surveyor: LogScanner::new(make()), restoring: PartialReplay::new(make()) };
    let all = std::iter::repeat_with(surveying).take(threads()).collect();
    let never = AtomicBool::new(false);
    let made = crew(dir, all, PayloadBudget::Most(keep), &never, |crew| read_log(disk, dir, crew))?;
    let PoolOutput { mut outcome, takers, parted: until } = made;
    let (done, restoring): (Vec<LogScanner>, _) =
        takers.into_iter().map(|t| (t.surveyor, t.restoring)).unzip();
    let flushed = done.iter().filter_map(|surveyor| surveyor.flushed).max_by_key(|flushed| flushed.lsn);
    let oldest = done.iter().filter_map(|surveyor| surveyor.oldest).min();
    let last = flushed.map_or(0, |flushed| flushed.lsn);
    let gap = outcome.last_lsn < last;
    outcome.last_lsn = outcome.last_lsn.max(last);
    let heads = by_shard(done.into_iter().map(|surveyor| surveyor.heads.into_iter()).collect());
    Ok(LogScan { heads, outcome, flushed, gap, oldest, ahead: EarlyReplay { restoring, until } })
}

/// Replays what was surveyed. `None`: it was stopped.
pub fn replay_log(
    disk: &dyn Disk,
    dir: &Path,
    surveyed: &LogContents,
    ahead: EarlyReplay,
    make: impl Fn() -> Vec<Head>,
    names: &SlotLabels,
    course: &ReplayControl,
) -> Result<Option<ReplayedShards>, StoreError> {
    let EarlyReplay { restoring, until } = ahead.or_anew(surveyed, make);
    let go_on = |restoring: PartialReplay| {
        course.done.fetch_add(restoring.records, Relaxed);
        RestoreWorker { restoring, names, course }
    };
    let all = restoring.into_iter().map(go_on).collect();
    let made = crew(dir, all, PayloadBudget::All, &course.stop, |crew| {
        read_log_again(disk, dir, surveyed, until, crew)
    })?;
    if course.stop.load(Relaxed) {
        return Ok(None);
    }
    let restorers = made.takers.into_iter().map(|taker| taker.restoring.restorer);
    let restorers: Vec<RecordApplier> = restorers.collect();
    let samples = restorers.iter().map(|restorer| restorer.samples).sum();
    let shards = by_shard(restorers.into_iter().map(RecordApplier::into_shards).collect());
    Ok(Some(ReplayedShards { shards, samples, outcome: made.outcome }))
}

/// Of each shard what the thread has that had it; of other threads' shards each has something empty.
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
    /// A checkpoint is read whole or not at all: if what was kept ends in one, nothing of it counts.
    fn or_anew(self, surveyed: &LogContents, make: impl Fn() -> Vec<Head>) -> EarlyReplay {
        match self.until {
            Some(until) if surveyed.in_checkpoint(until.place) => {
                let restoring = self.restoring.iter().map(|_| PartialReplay::new(make())).collect();
                EarlyReplay { restoring, until: Some(ResumePoint::default()) }
            }
            _ => self,
        }
    }
}

/// A survey, and what of the replay can be done beside it.
struct ScanWorker {
    surveyor: LogScanner,
    restoring: PartialReplay,
}

impl ReplayWorker for ScanWorker {
    fn take(&mut self, load: ReplayBatch) -> Option<ReplayBatch> {
        load.each(|_, found| self.surveyor.record(found));
        if !load.whole {
            return Some(load);
        }
        self.restoring.kept.push_back(load);
        None
    }

    fn idle(&mut self) -> Option<ReplayBatch> {
        let load = self.restoring.kept.pop_front()?;
        self.restoring.restore(&load, &self.surveyor.heads[..]);
        Some(load)
    }
}

/// The rest of the replay.
struct RestoreWorker<'a> {
    restoring: PartialReplay,
    names: &'a SlotLabels,
    course: &'a ReplayControl,
}

impl RestoreWorker<'_> {
    fn restore(&mut self, load: &ReplayBatch) {
        self.restoring.restore(load, self.names);
        self.course.done.fetch_add(load.len() as u64, Relaxed);
    }

    /// What the survey has kept comes first.
    fn catch_up(&mut self) {
        while !self.course.stop.load(Relaxed)
            && let Some(load) = self.restoring.kept.pop_front()
        {
            self.restore(&load);
        }
    }
}

impl ReplayWorker for RestoreWorker<'_> {
    fn take(&mut self, load: ReplayBatch) -> Option<ReplayBatch> {
        self.catch_up();
        self.restore(&load);
        Some(load)
    }

    fn finish(&mut self) -> RecordOutcomes {
        self.catch_up();
        self.restoring.finish()
    }
}

/// A thread's part of the replay, as far as it is.
struct PartialReplay {
    restorer: RecordApplier,
    used: RecordOutcomes,
    /// The latest record.
    last: Option<(RecordPosition, u64)>,
    /// How many it had.
    records: u64,
    /// What the survey has read and nobody has restored.
    kept: VecDeque<ReplayBatch>,
}

impl PartialReplay {
    fn new(heads: Vec<Head>) -> PartialReplay {
        let restorer = RecordApplier::new(heads);
        let kept = VecDeque::new();
        PartialReplay { restorer, used: RecordOutcomes::default(), last: None, records: 0, kept }
    }

    fn restore<K: LabelLookup + ?Sized>(&mut self, load: &ReplayBatch, names: &K) {
        load.each(|place, found| {
            self.used.note(place, found.lsn, self.restorer.record(found, names));
            self.last = Some((place, found.lsn));
        });
        self.records += load.len() as u64;
    }

    fn finish(&mut self) -> RecordOutcomes {
        let mut used = std::mem::take(&mut self.used);
        if let Some((place, lsn)) = self.last {
            used.note(place, lsn, self.restorer.finish().map(|()| None));
        }
        used
    }
}
