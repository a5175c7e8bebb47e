//! The state of the replay of the write-ahead log, which runs while the store is already open: its
//! progress, and what has to wait for it.
//!
//! A first pass over the log (the log scan) has found all series, so appends work at once: they go
//! into temporary heads (samples in memory), into the log after the records that are replayed, and
//! to the change feed of the live runtime. The replay fills other heads. When these are complete,
//! they get the samples of the temporary heads ([`super::replay_overlay`]) and replace them. A
//! query about a time for which the log has samples waits until then; a query about earlier times
//! is answered from blocks.

use super::Store;
use super::options::ReplayReport;
use super::replay_passes::{EarlyReplay, ReplayControl, ReplayedShards, replay_log};
use crate::error::StoreError;
use crate::head::SlotLabels;
use crate::metrics::Gauge;
use crate::model::{SHARDS, TimeMs};
use crate::wal::{FlushWatermark, LogContents};
use parking_lot::{Condvar, Mutex};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Called once with the result when the replay has ended.
pub(super) type ReplayCallback = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// The progress of a replay.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct ReplayProgress {
    /// Records of the log.
    pub records: u64,
    /// Records read so far.
    pub done: u64,
}

impl ReplayProgress {
    /// The progress as a number from 0 to 1.
    pub fn fraction(&self) -> f64 {
        self.done.min(self.records) as f64 / self.records.max(1) as f64
    }
}

impl fmt::Display for ReplayProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = (self.fraction() * 100.0).floor();
        write!(f, "replaying the log: {percent} %, {} of {} records", self.done, self.records)
    }
}

/// The state of the replay for readers and writers.
pub struct ReplayStatus {
    control: ReplayControl,
    /// Time of the oldest sample that the replay restores.
    oldest: Option<TimeMs>,
    phase: Mutex<ReplayPhase>,
    changed: Condvar,
    progress: Arc<Gauge>,
}

#[derive(Default)]
enum ReplayPhase {
    /// The replay runs; these callbacks wait for its end.
    Running(Vec<ReplayCallback>),
    #[default]
    Done,
    Failed(ReplayFailure),
}

/// Why the log was not replayed to its end.
#[derive(Clone)]
enum ReplayFailure {
    /// Nobody let it: the store was closed before.
    Stopped(&'static str),
    /// The log, or a file that belongs to it, cannot be read.
    Failed(String),
}

impl From<ReplayFailure> for StoreError {
    fn from(failure: ReplayFailure) -> StoreError {
        match failure {
            ReplayFailure::Stopped(reason) => StoreError::Closed(reason),
            ReplayFailure::Failed(reason) => {
                StoreError::Unavailable(format!("the write-ahead log could not be replayed: {reason}"))
            }
        }
    }
}

impl From<&StoreError> for ReplayFailure {
    fn from(error: &StoreError) -> ReplayFailure {
        match error {
            StoreError::Closed(reason) => ReplayFailure::Stopped(reason),
            error => ReplayFailure::Failed(error.to_string()),
        }
    }
}

impl ReplayStatus {
    /// The state at the beginning of a replay.
    pub(super) fn new(records: u64, oldest: Option<TimeMs>, progress: Arc<Gauge>) -> ReplayStatus {
        let control = ReplayControl { records, ..ReplayControl::default() };
        let phase = Mutex::new(ReplayPhase::Running(Vec::new()));
        ReplayStatus { control, oldest, phase, changed: Condvar::new(), progress }
    }

    fn end(&self, result: Result<(), ReplayFailure>) {
        self.progress.set(1.0);
        let after = result.clone().map_or_else(ReplayPhase::Failed, |()| ReplayPhase::Done);
        let before = std::mem::replace(&mut *self.phase.lock(), after);
        self.changed.notify_all();
        if let ReplayPhase::Running(waiters) = before {
            for callback in waiters.into_iter() {
                callback(result.clone().map_err(StoreError::from));
            }
        }
    }
}

impl ReplayStatus {
    /// The progress of the replay; `None` if it is complete.
    pub fn progress(&self) -> Option<ReplayProgress> {
        let ReplayControl { records, done, .. } = &self.control;
        let progress = ReplayProgress { records: *records, done: done.load(Relaxed) };
        self.progress.set(progress.fraction());
        self.is_running().then_some(progress)
    }

    /// Whether the samples of the log are not all restored yet.
    pub(super) fn is_running(&self) -> bool {
        !matches!(*self.phase.lock(), ReplayPhase::Done)
    }

    /// Whether a query about times up to `to` waits for the replay.
    pub fn waits_for(&self, to: TimeMs) -> bool {
        self.oldest.is_some_and(|oldest| oldest <= to) && self.is_running()
    }

    /// Calls `callback` when the replay has ended; at once if it has already.
    pub fn on_end(&self, callback: ReplayCallback) {
        let mut phase = self.phase.lock();
        let result = match &mut *phase {
            ReplayPhase::Running(waiters) => return waiters.push(callback),
            ReplayPhase::Done => Ok(()),
            ReplayPhase::Failed(reason) => Err(reason.clone().into()),
        };
        drop(phase);
        callback(result);
    }

    /// Waits until the samples of the log up to `to` are restored.
    ///
    /// # Errors
    /// The replay has failed.
    pub(super) fn wait_for(&self, to: TimeMs) -> Result<(), StoreError> {
        if !self.waits_for(to) {
            return Ok(());
        }
        let mut phase = self.phase.lock();
        loop {
            match &*phase {
                ReplayPhase::Running(_) => self.changed.wait(&mut phase),
                ReplayPhase::Done => return Ok(()),
                ReplayPhase::Failed(reason) => return Err(reason.clone().into()),
            }
        }
    }

    /// Returns an error while the log is replayed: for operations that need all samples.
    pub(super) fn refuse_while_running(&self) -> Result<(), StoreError> {
        let progress = self.progress();
        progress.map_or(Ok(()), |progress| Err(StoreError::Unavailable(progress.to_string())))
    }

    /// Stops a running replay. What it has not restored stays in the log for the next start.
    pub fn stop(&self) {
        self.control.stop.store(true, Relaxed);
    }
}

/// A replay that has not run yet.
pub struct PendingReplay {
    pub(super) store: Arc<Store>,
    pub(super) dir: PathBuf,
    pub(super) scanned: LogContents,
    pub(super) flushed: Option<FlushWatermark>,
    pub(super) names: Vec<SlotLabels>,
    pub(super) ahead: Option<EarlyReplay>,
}

impl PendingReplay {
    /// Replays the log, on this thread and on workers.
    ///
    /// # Errors
    /// After an error the store must be closed: it cannot answer for the samples in the log.
    pub fn run(mut self) -> Result<ReplayReport, StoreError> {
        let store = self.store.clone();
        let ahead = self.ahead.take();
        let outcome = ahead.map_or_else(|| Err(stopped()), |ahead| self.replay(ahead));
        store.replay.end(outcome.as_ref().map(|_| ()).map_err(ReplayFailure::from));
        outcome
    }

    fn replay(&self, ahead: EarlyReplay) -> Result<ReplayReport, StoreError> {
        let store = &*self.store;
        let make = || (0..SHARDS).map(|_| store.options.new_head()).collect();
        let control = &store.replay.control;
        let disk = store.disk.as_ref();
        let scanned = &self.scanned;
        let recovered = replay_log(disk, &self.dir, scanned, ahead, make, &self.names, control)?;
        let Some(ReplayedShards { shards, samples, outcome }) = recovered else {
            return Err(stopped());
        };
        store.wal.log.set_newest_times(&outcome.segments);
        // One shard at a time: writers of the others go on.
        for (shard, (mut head, deleted)) in store.shards.iter().zip(shards) {
            if let Some(flushed) = self.flushed {
                head.limits.raise_min_append_time(flushed.end);
            }
            store.note_newest(&head);
            shard.write().install_replayed(head, deleted);
        }
        // After all heads are in place: it asks them for their newest time.
        store.freeze_flushed_times();
        // Only the scan knows what was cut off, and the damage of files whose records were kept.
        let mut damage = self.scanned.damage.clone();
        damage.extend(outcome.damage.into_iter().filter(|line| !self.scanned.damage.contains(line)));
        damage.sort_by_key(|(place, _)| *place);
        let damage: Vec<String> = damage.into_iter().map(|(_, line)| line).collect();
        store.metrics.corruptions.add(damage.len() as u64);
        store.metrics.clean_start.set(f64::from(u8::from(self.scanned.clean && damage.is_empty())));
        store.count_series();
        Ok(ReplayReport { records: outcome.records, samples, damage })
    }
}

fn stopped() -> StoreError {
    StoreError::Closed("the store was closed while its log was replayed")
}

impl Drop for PendingReplay {
    fn drop(&mut self) {
        // The phase is still `Running` only if `run` was never called: callers that wait get an
        // error.
        let running = matches!(*self.store.replay.phase.lock(), ReplayPhase::Running(_));
        if running {
            self.store.replay.end(Err(ReplayFailure::Stopped("the log was not replayed")));
        }
    }
}
