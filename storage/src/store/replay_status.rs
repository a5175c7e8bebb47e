//! The time in which the log is replayed while the store is open already.
//!
//! A survey of the log has told which series there are, so what comes is taken at once, as always:
//! into *young* heads, into the log behind what is replayed, to the feed. What is replayed goes
//! into other heads. When they are whole they take over what the young ones got
//! ([`super::replay_overlay`]) and their place. A question about a time of which the log has
//! samples waits until then; one about earlier times is answered from blocks.

use super::Store;
use super::options::{ReplayReport, StoreError};
use super::record_applier::SlotLabels;
use super::replay_passes::{EarlyReplay, ReplayControl, ReplayedShards, replay_log};
use crate::metrics::Gauge;
use crate::model::{SHARDS, TimeMs};
use crate::wal::{FlushWatermark, LogContents};
use parking_lot::{Condvar, Mutex};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Called once when the replay has ended, with how.
pub type ReplayCallback = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// How far a replay is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct ReplayProgress {
    /// Records of the log.
    pub records: u64,
    /// Of these, read.
    pub done: u64,
}

impl ReplayProgress {
    /// What is done, of one.
    pub fn part(&self) -> f64 {
        self.done.min(self.records) as f64 / self.records.max(1) as f64
    }
}

impl fmt::Display for ReplayProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = (self.part() * 100.0).floor();
        write!(f, "replaying the log: {percent} %, {} of {} records", self.done, self.records)
    }
}

/// What readers and writers must know of it.
pub struct ReplayStatus {
    course: ReplayControl,
    /// Time of the oldest sample that is replayed.
    oldest: Option<TimeMs>,
    phase: Mutex<ReplayPhase>,
    changed: Condvar,
    progress: Arc<Gauge>,
}

#[derive(Default)]
enum ReplayPhase {
    /// With who wants to hear of its end.
    Running(Vec<ReplayCallback>),
    #[default]
    Done,
    Failed(String),
}

impl ReplayStatus {
    /// One that begins.
    pub fn new(records: u64, oldest: Option<TimeMs>, progress: Arc<Gauge>) -> ReplayStatus {
        let course = ReplayControl { records, ..ReplayControl::default() };
        let phase = Mutex::new(ReplayPhase::Running(Vec::new()));
        ReplayStatus { course, oldest, phase, changed: Condvar::new(), progress }
    }

    /// Whether an answer about times up to `to` has to wait for it.
    fn touches(&self, to: TimeMs) -> bool {
        self.oldest.is_some_and(|oldest| oldest <= to) && !matches!(*self.phase.lock(), ReplayPhase::Done)
    }

    fn end(&self, fate: Result<(), String>) {
        self.progress.set(1.0);
        let after = fate.clone().map_or_else(ReplayPhase::Failed, |()| ReplayPhase::Done);
        let before = std::mem::replace(&mut *self.phase.lock(), after);
        self.changed.notify_all();
        if let ReplayPhase::Running(waiters) = before {
            for told in waiters.into_iter() {
                told(fate.clone().map_err(StoreError::Refused));
            }
        }
    }
}

impl Store {
    /// How far the replay is; `None`: it is done.
    pub fn replay_progress(&self) -> Option<ReplayProgress> {
        let ReplayControl { records, done, .. } = &self.ongoing.course;
        let progress = ReplayProgress { records: *records, done: done.load(Relaxed) };
        self.ongoing.progress.set(progress.part());
        self.is_replaying().then_some(progress)
    }

    /// Whether what the log has is not all there yet.
    pub(super) fn is_replaying(&self) -> bool {
        !matches!(*self.ongoing.phase.lock(), ReplayPhase::Done)
    }

    /// Whether a question about times up to `to` waits for the replay.
    pub fn waits_for_replay(&self, to: TimeMs) -> bool {
        self.ongoing.touches(to)
    }

    /// Calls `told` when the replay has ended, perhaps at once.
    pub fn on_replayed(&self, told: ReplayCallback) {
        let mut phase = self.ongoing.phase.lock();
        let fate = match &mut *phase {
            ReplayPhase::Running(waiters) => return waiters.push(told),
            ReplayPhase::Done => Ok(()),
            ReplayPhase::Failed(reason) => Err(StoreError::Refused(reason.clone())),
        };
        drop(phase);
        told(fate);
    }

    /// Waits until what the log has of times up to `to` is there.
    pub(super) fn wait_for_replay(&self, to: TimeMs) -> Result<(), StoreError> {
        if !self.ongoing.touches(to) {
            return Ok(());
        }
        let mut phase = self.ongoing.phase.lock();
        loop {
            match &*phase {
                ReplayPhase::Running(_) => self.ongoing.changed.wait(&mut phase),
                ReplayPhase::Done => return Ok(()),
                ReplayPhase::Failed(reason) => return Err(StoreError::Refused(reason.clone())),
            }
        }
    }

    /// For what cannot be done while the log is replayed.
    pub(super) fn refuse_while_replaying(&self) -> Result<(), StoreError> {
        let progress = self.replay_progress();
        progress.map_or(Ok(()), |progress| Err(StoreError::Refused(progress.to_string())))
    }

    /// Ends a replay that is under way; what it has not reached is in the log for the next start.
    pub fn stop_replay(&self) {
        self.ongoing.course.stop.store(true, Relaxed);
    }
}

/// A replay that is to be run.
pub struct PendingReplay {
    pub(super) store: Arc<Store>,
    pub(super) dir: PathBuf,
    pub(super) surveyed: LogContents,
    pub(super) flushed: Option<FlushWatermark>,
    pub(super) names: SlotLabels,
    pub(super) ahead: Option<EarlyReplay>,
}

impl PendingReplay {
    /// Replays the log, on this thread and some more. If that fails the store has to be closed: it
    /// can answer nothing of what the log has.
    pub fn run(mut self) -> Result<ReplayReport, StoreError> {
        let store = self.store.clone();
        let ahead = self.ahead.take();
        let outcome = ahead.map_or_else(|| Err(stopped()), |ahead| self.replay(ahead));
        store.ongoing.end(outcome.as_ref().map(|_| ()).map_err(ToString::to_string));
        outcome
    }

    fn replay(&self, ahead: EarlyReplay) -> Result<ReplayReport, StoreError> {
        let store = &*self.store;
        let make = || (0..SHARDS).map(|_| store.options.new_head()).collect();
        let course = &store.ongoing.course;
        let disk = store.disk.as_ref();
        let surveyed = &self.surveyed;
        let recovered = replay_log(disk, &self.dir, surveyed, ahead, make, &self.names, course)?;
        let Some(ReplayedShards { shards, samples, outcome }) = recovered else {
            return Err(stopped());
        };
        store.log.set_newest_times(&outcome.segments);
        for (shard, (mut head, deleted)) in store.shards.iter().zip(shards) {
            self.flushed.into_iter().for_each(|flushed| head.raise_min_append_time(flushed.end));
            store.note_newest(&head);
            shard.write().install_replayed(head, deleted);
        }
        store.freeze_flushed_times();
        // Of what was cut off, and of the files' damage in what was kept, only the survey knows.
        let mut damage = self.surveyed.damage.clone();
        damage.extend(outcome.damage.into_iter().filter(|line| !self.surveyed.damage.contains(line)));
        damage.sort_by_key(|(place, _)| *place);
        let damage: Vec<String> = damage.into_iter().map(|(_, line)| line).collect();
        store.metrics.corruptions.add(damage.len() as u64);
        store.metrics.clean_start.set(f64::from(u8::from(self.surveyed.clean && damage.is_empty())));
        store.count_series();
        Ok(ReplayReport { records: outcome.records, samples, damage })
    }
}

fn stopped() -> StoreError {
    StoreError::Refused("the store was closed while its log was replayed".to_owned())
}

impl Drop for PendingReplay {
    fn drop(&mut self) {
        // Only if nobody ran it.
        let running = matches!(*self.store.ongoing.phase.lock(), ReplayPhase::Running(_));
        if running {
            self.store.ongoing.end(Err("the log was not replayed".to_owned()));
        }
    }
}
