//! Opening: the log's records become heads again, in the shapes they had.
//!
//! First a survey learns what there is, so that the store can be opened: what comes from then on is written behind it. Samples are put into
//! heads while the store is open already ([`super::replaying`]), and before, whenever a thread ([`super::crew`]) has
//! nothing to survey: the records are kept for that. Of a long log only the begin is; the rest is read once more.

use super::crew::{Keep, Load, Made, Taker, crew, owns, threads};
use super::deleted::Deleted;
use super::options::StoreError;
use super::restorer::{Known, Names, Restorer};
use super::survey::Surveyor;
use crate::disk::Disk;
use crate::head::Head;
use crate::model::{SHARDS, TimeMs};
use crate::wal::{Flushed, Outcome, Place, Resume, Used, again, replay};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// What is known of the log before its samples are in heads.
pub struct Surveyed {
    /// Heads that know the series and groups, and have no samples.
    pub heads: Vec<Head>,
    /// Files, damage of files and frames, numbers.
    pub outcome: Outcome,
    /// What is in blocks.
    pub flushed: Option<Flushed>,
    /// The log skips record numbers: what is in blocks went further than what was synced of it.
    pub gap: bool,
    /// Time of the oldest sample that is in no block.
    pub oldest: Option<TimeMs>,
    /// What is done of the replay.
    pub ahead: Ahead,
}

/// What a survey has done of the replay, and kept for it.
pub struct Ahead {
    /// By thread.
    restoring: Vec<Restoring>,
    /// Where what was kept ends; `None`: all was.
    until: Option<Resume>,
}

/// What comes out of the log.
pub struct Recovered {
    /// The shards' heads, and what is deleted of each.
    pub shards: Vec<(Head, Deleted)>,
    /// Samples restored.
    pub samples: u64,
    /// Files, what could not be used, numbers.
    pub outcome: Outcome,
}

/// How far a replay is, and whether it should go on.
#[derive(Default)]
pub struct Course {
    /// Records of the log.
    pub records: u64,
    /// Of these, restored.
    pub done: AtomicU64,
    /// Set: it ends without a result.
    pub stop: AtomicBool,
}

/// Reads the log in `dir` for what has to be known before anything can be appended behind it; cuts off its torn tail. `keep` bytes
/// of it are kept for the replay.
pub fn survey(
    disk: &dyn Disk,
    dir: &Path,
    make: impl Fn() -> Vec<Head>,
    keep: usize,
) -> Result<Surveyed, StoreError> {
    let surveying = || Surveying { surveyor: Surveyor::new(make()), restoring: Restoring::new(make()) };
    let all = std::iter::repeat_with(surveying).take(threads()).collect();
    let never = AtomicBool::new(false);
    let made = crew(dir, all, Keep::Most(keep), &never, |crew| replay(disk, dir, crew))?;
    let Made { mut outcome, takers, parted: until } = made;
    let (done, restoring): (Vec<Surveyor>, _) = takers.into_iter().map(|t| (t.surveyor, t.restoring)).unzip();
    let flushed = done.iter().filter_map(|surveyor| surveyor.flushed).max_by_key(|flushed| flushed.lsn);
    let oldest = done.iter().filter_map(|surveyor| surveyor.oldest).min();
    let last = flushed.map_or(0, |flushed| flushed.lsn);
    let gap = outcome.last_lsn < last;
    outcome.last_lsn = outcome.last_lsn.max(last);
    let heads = by_shard(done.into_iter().map(|surveyor| surveyor.heads.into_iter()).collect());
    Ok(Surveyed { heads, outcome, flushed, gap, oldest, ahead: Ahead { restoring, until } })
}

/// Replays what was surveyed. `None`: it was stopped.
pub fn recover(
    disk: &dyn Disk,
    dir: &Path,
    surveyed: &Outcome,
    ahead: Ahead,
    make: impl Fn() -> Vec<Head>,
    names: &Names,
    course: &Course,
) -> Result<Option<Recovered>, StoreError> {
    let Ahead { restoring, until } = ahead.or_anew(surveyed, make);
    let go_on = |restoring: Restoring| {
        course.done.fetch_add(restoring.records, Relaxed);
        Resuming { restoring, names, course }
    };
    let all = restoring.into_iter().map(go_on).collect();
    let made = crew(dir, all, Keep::All, &course.stop, |crew| again(disk, dir, surveyed, until, crew))?;
    if course.stop.load(Relaxed) {
        return Ok(None);
    }
    let restorers = made.takers.into_iter().map(|taker| taker.restoring.restorer);
    let restorers: Vec<Restorer> = restorers.collect();
    let samples = restorers.iter().map(|restorer| restorer.samples).sum();
    let shards = by_shard(restorers.into_iter().map(Restorer::into_shards).collect());
    Ok(Some(Recovered { shards, samples, outcome: made.outcome }))
}

/// Of each shard what the thread has that had it; of other threads' shards each has something empty.
fn by_shard<T>(mut of_threads: Vec<impl Iterator<Item = T>>) -> Vec<T> {
    let (threads, mut all) = (of_threads.len(), Vec::with_capacity(usize::from(SHARDS)));
    for shard in 0..usize::from(SHARDS) {
        for (at, of_thread) in of_threads.iter_mut().enumerate() {
            all.extend(of_thread.next().filter(|_| owns(at, threads, shard)));
        }
    }
    all
}

impl Ahead {
    /// A checkpoint is read whole or not at all: if what was kept ends in one, nothing of it counts.
    fn or_anew(self, surveyed: &Outcome, make: impl Fn() -> Vec<Head>) -> Ahead {
        match self.until {
            Some(until) if surveyed.in_checkpoint(until.place) => {
                let restoring = self.restoring.iter().map(|_| Restoring::new(make())).collect();
                Ahead { restoring, until: Some(Resume::default()) }
            }
            _ => self,
        }
    }
}

/// A survey, and what of the replay can be done beside it.
struct Surveying {
    surveyor: Surveyor,
    restoring: Restoring,
}

impl Taker for Surveying {
    fn take(&mut self, load: Load) -> Option<Load> {
        load.each(|_, found| self.surveyor.record(found));
        if !load.whole {
            return Some(load);
        }
        self.restoring.kept.push_back(load);
        None
    }

    fn idle(&mut self) -> Option<Load> {
        let load = self.restoring.kept.pop_front()?;
        self.restoring.restore(&load, &self.surveyor.heads[..]);
        Some(load)
    }
}

/// The rest of the replay.
struct Resuming<'a> {
    restoring: Restoring,
    names: &'a Names,
    course: &'a Course,
}

impl Resuming<'_> {
    fn restore(&mut self, load: &Load) {
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

impl Taker for Resuming<'_> {
    fn take(&mut self, load: Load) -> Option<Load> {
        self.catch_up();
        self.restore(&load);
        Some(load)
    }

    fn finish(&mut self) -> Used {
        self.catch_up();
        self.restoring.finish()
    }
}

/// A thread's part of the replay, as far as it is.
struct Restoring {
    restorer: Restorer,
    used: Used,
    /// The latest record.
    last: Option<(Place, u64)>,
    /// How many it had.
    records: u64,
    /// What the survey has read and nobody has restored.
    kept: VecDeque<Load>,
}

impl Restoring {
    fn new(heads: Vec<Head>) -> Restoring {
        let (restorer, kept) = (Restorer::new(heads), VecDeque::new());
        Restoring { restorer, used: Used::default(), last: None, records: 0, kept }
    }

    fn restore<K: Known + ?Sized>(&mut self, load: &Load, names: &K) {
        load.each(|place, found| {
            self.used.note(place, found.lsn, self.restorer.record(found, names));
            self.last = Some((place, found.lsn));
        });
        self.records += load.len() as u64;
    }

    fn finish(&mut self) -> Used {
        let mut used = std::mem::take(&mut self.used);
        if let Some((place, lsn)) = self.last {
            used.note(place, lsn, self.restorer.finish().map(|()| None));
        }
        used
    }
}
