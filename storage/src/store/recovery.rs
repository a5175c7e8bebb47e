//! Opening: the log's records become heads again, in the shapes they had.
//!
//! One thread reads and checks the log; others, each of which has some of the shards, take the records. Records of one shard
//! keep their order, so what comes out does not depend on the number of threads. The log is read twice: a
//! [`survey`] learns what there is, then [`recover`] puts samples into heads while the store is open already
//! ([`super::replaying`]).

use super::deleted::Deleted;
use super::options::StoreError;
use super::restorer::{Names, Restorer};
use super::survey::Surveyor;
use crate::disk::Disk;
use crate::head::{Head, group_of};
use crate::limits::{REPLAY_BATCH_BYTES, REPLAY_BATCHES, REPLAY_THREADS};
use crate::model::{SHARDS, TimeMs};
use crate::wal::{Flushed, Found, Kind, Outcome, Place, Used, Visitor, again, replay};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

/// What takes the records of some shards.
pub trait Taker: Send {
    /// One record; time of its newest sample, or why it cannot be used.
    fn record(&mut self, found: &Found) -> Result<Option<TimeMs>, String>;

    /// There are no more; what could not be used of those that waited for others.
    fn finish(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// What it wants to see of a record's payload.
    fn part<'a>(found: &Found<'a>) -> &'a [u8] {
        found.payload
    }
}

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
    /// Of these, read.
    pub done: AtomicU64,
    /// Set: it ends without a result.
    pub stop: AtomicBool,
}

/// Reads the log in `dir` for what has to be known before anything can be appended behind it; cuts off its torn tail.
pub fn survey(disk: &dyn Disk, dir: &Path, make: impl Fn() -> Head) -> Result<Surveyed, StoreError> {
    let all = |_: &dyn Fn(usize) -> bool| Surveyor::new((0..SHARDS).map(|_| make()).collect());
    let course = Course::default();
    let (mut outcome, done) = crew(dir, all, &course, |crew| replay(disk, dir, crew))?;
    let flushed = done.iter().filter_map(|surveyor| surveyor.flushed).max_by_key(|flushed| flushed.lsn);
    let oldest = done.iter().filter_map(|surveyor| surveyor.oldest).min();
    let last = flushed.map_or(0, |flushed| flushed.lsn);
    let gap = outcome.last_lsn < last;
    outcome.last_lsn = outcome.last_lsn.max(last);
    let heads = by_shard(done.into_iter().map(|surveyor| surveyor.heads.into_iter()).collect());
    Ok(Surveyed { heads, outcome, flushed, gap, oldest })
}

/// Replays what was surveyed. `None`: it was stopped.
pub fn recover(
    disk: &dyn Disk,
    dir: &Path,
    surveyed: &Outcome,
    make: impl Fn() -> Vec<Head>,
    names: &Arc<Names>,
    course: &Course,
) -> Result<Option<Recovered>, StoreError> {
    let all = |own: &dyn Fn(usize) -> bool| {
        let mut heads = make();
        let own = heads.iter_mut().zip(&**names).enumerate().filter(|(shard, _)| own(*shard));
        own.for_each(|(_, (head, names))| head.expect_slots(names.len()));
        Restorer::new(heads, names.clone())
    };
    let (outcome, done) = crew(dir, all, course, |crew| again(disk, dir, surveyed, crew))?;
    if course.stop.load(Relaxed) {
        return Ok(None);
    }
    let samples = done.iter().map(|restorer| restorer.samples).sum();
    let shards = by_shard(done.into_iter().map(Restorer::into_shards).collect());
    Ok(Some(Recovered { shards, samples, outcome }))
}

/// Has threads take the records that `read` finds; `make` is told which shards are the taker's own.
fn crew<T: Taker>(
    dir: &Path,
    make: impl Fn(&dyn Fn(usize) -> bool) -> T,
    course: &Course,
    read: impl FnOnce(&mut Crew<T>) -> Result<Outcome, StoreError>,
) -> Result<(Outcome, Vec<T>), StoreError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(REPLAY_THREADS);
    std::thread::scope(|scope| {
        let hands = (0..threads).map(|at| hand(scope, at, make(&|shard| shard % threads == at)));
        let hands = hands.collect::<Result<_, _>>();
        let hands = hands.map_err(|source| StoreError::Io { path: dir.to_owned(), source })?;
        let mut crew = Crew { hands, done: Vec::new(), course };
        let outcome = read(&mut crew)?;
        Ok((outcome, crew.done))
    })
}

fn hand<'s, T: Taker + 's>(scope: &'s Scope<'s, '_>, at: usize, taker: T) -> std::io::Result<Hand<'s, T>> {
    let (load, loads) = sync_channel(REPLAY_BATCHES);
    let (back, done) = channel();
    let run = move || work(taker, &loads, &back);
    let thread = std::thread::Builder::new().name(format!("replay-{at}")).spawn_scoped(scope, run)?;
    Ok(Hand { load, done, waiting: Load::default(), thread })
}

/// Of each shard what the thread has that had it; of other threads' shards each has something empty.
fn by_shard<T>(mut of_threads: Vec<impl Iterator<Item = T>>) -> Vec<T> {
    let (threads, mut all) = (of_threads.len(), Vec::with_capacity(usize::from(SHARDS)));
    for shard in 0..usize::from(SHARDS) {
        for (at, of_thread) in of_threads.iter_mut().enumerate() {
            all.extend(of_thread.next().filter(|_| shard % threads == at));
        }
    }
    all
}

/// Records for one thread.
#[derive(Default)]
struct Load {
    payloads: Vec<u8>,
    records: Vec<Record>,
}

/// A record without its payload, and where that ends in its load.
struct Record {
    place: Place,
    lsn: u64,
    kind: Kind,
    end: usize,
}

/// What a thread made of its loads.
type Done<T> = (T, Used);

/// A thread, and what it gets next.
struct Hand<'s, T> {
    load: SyncSender<Load>,
    /// Loads that it is done with, empty: their memory is used again.
    done: Receiver<Load>,
    waiting: Load,
    thread: ScopedJoinHandle<'s, Done<T>>,
}

impl<T: Taker> Hand<'_, T> {
    fn take(&mut self, place: Place, found: &Found) {
        let Load { payloads, records } = &mut self.waiting;
        payloads.extend_from_slice(T::part(found));
        records.push(Record { place, lsn: found.lsn, kind: found.kind, end: payloads.len() });
        if payloads.len() + records.len() * size_of::<Record>() >= REPLAY_BATCH_BYTES {
            self.send();
        }
    }

    fn send(&mut self) {
        let next = self.done.try_recv().unwrap_or_default();
        // A thread that is gone has panicked, which shows when it is joined.
        let _ = self.load.send(std::mem::replace(&mut self.waiting, next));
    }
}

fn work<T: Taker>(mut taker: T, loads: &Receiver<Load>, back: &Sender<Load>) -> Done<T> {
    let (mut used, mut last) = (Used::default(), None);
    for mut load in loads {
        let mut from = 0;
        for Record { place, lsn, kind, end } in load.records.drain(..) {
            let found = Found { lsn, kind, payload: &load.payloads[from..end], end };
            used.note(place, lsn, taker.record(&found));
            (from, last) = (end, Some((place, lsn)));
        }
        load.payloads.clear();
        let _ = back.send(load);
    }
    if let Some((place, lsn)) = last {
        used.note(place, lsn, taker.finish().map(|()| None));
    }
    (taker, used)
}

/// All threads.
struct Crew<'s, T> {
    hands: Vec<Hand<'s, T>>,
    done: Vec<T>,
    course: &'s Course,
}

impl<T: Taker> Visitor for Crew<'_, T> {
    fn record(&mut self, place: Place, found: &Found) {
        self.course.done.fetch_add(1, Relaxed);
        match found.kind {
            Kind::Flushed => self.hands.iter_mut().for_each(|hand| hand.take(place, found)),
            _ => {
                let at = shard(found) % self.hands.len();
                self.hands[at].take(place, found);
            }
        }
    }

    fn finish(&mut self) -> Used {
        let mut used = Used::default();
        self.hands.iter_mut().for_each(Hand::send);
        for Hand { load, thread, .. } in self.hands.drain(..) {
            drop(load);
            let (taker, noted) = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            self.done.push(taker);
            used.add(noted);
        }
        used
    }

    fn stopped(&self) -> bool {
        self.course.stop.load(Relaxed)
    }
}

/// The shard that a record is about, out of its first bytes; of one that is malformed any will do.
fn shard(found: &Found) -> usize {
    let word =
        |n: usize| found.payload.iter().take(n).rev().fold(0u32, |word, byte| word << 8 | u32::from(*byte));
    match found.kind {
        Kind::Series => word(2) as usize,
        Kind::Group | Kind::Layout | Kind::Keyframe | Kind::Delta | Kind::Whole => {
            usize::from(group_of(word(4)).0)
        }
        _ => word(4) as usize,
    }
}
