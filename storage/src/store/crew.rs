//! The threads that take the log's records. One reads and checks the log; others, each of which has some of the shards, take
//! what it finds, in *loads*. Records of one shard keep their order, so what comes out does not depend on the number
//! of threads. What they do with loads is the [`Taker`]'s business: [`super::recovery`].

use super::options::StoreError;
use super::survey::Surveyor;
use crate::head::group_of;
use crate::limits::{REPLAY_BATCH_BYTES, REPLAY_BATCHES, REPLAY_THREADS};
use crate::wal::{Found, Kind, Outcome, Place, Resume, Used, Visitor};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

/// What a thread of the crew does.
pub trait Taker: Send {
    /// Takes a load. Gives one back that it is done with: its memory is used again.
    fn take(&mut self, load: Load) -> Option<Load>;

    /// Nothing waits: does something that could wait; `None` if there is nothing. Gives a load back that it is done with.
    fn idle(&mut self) -> Option<Load> {
        None
    }

    /// There are no more: what became of the records.
    fn finish(&mut self) -> Used {
        Used::default()
    }
}

/// Records for one thread.
pub struct Load {
    /// Whether the records have all of their payloads, or what a survey wants of them.
    pub whole: bool,
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

impl Load {
    fn new(whole: bool) -> Load {
        Load { whole, payloads: Vec::with_capacity(REPLAY_BATCH_BYTES), records: Vec::new() }
    }

    /// The records, in order.
    pub fn each(&self, mut each: impl FnMut(Place, &Found)) {
        let mut from = 0;
        for Record { place, lsn, kind, end } in &self.records {
            let payload = &self.payloads[from..*end];
            each(*place, &Found { lsn: *lsn, kind: *kind, payload, end: *end });
            from = *end;
        }
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    fn bytes(&self) -> usize {
        self.payloads.len() + self.records.len() * size_of::<Record>()
    }

    /// Adds a record; by how many bytes there is more now.
    fn add(&mut self, place: Place, found: &Found) -> usize {
        let part = if self.whole { found.payload } else { Surveyor::part(found) };
        self.payloads.extend_from_slice(part);
        self.records.push(Record { place, lsn: found.lsn, kind: found.kind, end: self.payloads.len() });
        part.len() + size_of::<Record>()
    }

    fn emptied(mut self, whole: bool) -> Load {
        self.payloads.clear();
        self.records.clear();
        Load { whole, ..self }
    }
}

/// How much the threads may keep of what they are given.
#[derive(Copy, Clone)]
pub enum Keep {
    /// All: they are done with it soon.
    All,
    /// So many bytes; what is behind them they get in parts only.
    Most(usize),
}

/// What the threads made of the records.
pub struct Made<T> {
    /// What was read.
    pub outcome: Outcome,
    /// By thread.
    pub takers: Vec<T>,
    /// From here on they were given parts only.
    pub parted: Option<Resume>,
}

/// How many threads there are to be.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(REPLAY_THREADS)
}

/// Has threads, one for each of `takers`, take the records that `read` finds.
pub fn crew<T: Taker>(
    dir: &Path,
    takers: Vec<T>,
    keep: Keep,
    stop: &AtomicBool,
    read: impl FnOnce(&mut dyn Visitor) -> Result<Outcome, StoreError>,
) -> Result<Made<T>, StoreError> {
    std::thread::scope(|scope| {
        let hands = takers.into_iter().enumerate().map(|(at, taker)| Hand::new(scope, at, taker));
        let hands = hands.collect::<Result<_, _>>();
        let hands = hands.map_err(|source| StoreError::Io { path: dir.to_owned(), source })?;
        let mut crew = Crew { hands, done: Vec::new(), keep, parted: None, given: 0, last: None, stop };
        let outcome = read(&mut crew)?;
        Ok(Made { outcome, takers: crew.done, parted: crew.parted })
    })
}

/// Whether the thread with number `at` of so many has a shard.
pub fn owns(at: usize, threads: usize, shard: usize) -> bool {
    shard % threads == at
}

/// A thread, and what it gets next.
struct Hand<'s, T> {
    load: SyncSender<Load>,
    /// Loads that it is done with.
    done: Receiver<Load>,
    /// Empty ones.
    spare: Vec<Load>,
    waiting: Load,
    thread: ScopedJoinHandle<'s, (T, Used)>,
}

impl<'s, T: Taker + 's> Hand<'s, T> {
    fn new(scope: &'s Scope<'s, '_>, at: usize, taker: T) -> std::io::Result<Hand<'s, T>> {
        let (load, loads) = sync_channel(REPLAY_BATCHES);
        let (back, done) = channel();
        let run = move || work(taker, &loads, &back);
        let thread = std::thread::Builder::new().name(format!("replay-{at}")).spawn_scoped(scope, run)?;
        Ok(Hand { load, done, spare: Vec::new(), waiting: Load::new(true), thread })
    }

    /// Hands over what waits.
    fn send(&mut self, whole: bool) {
        self.spare.extend(self.done.try_iter());
        let next = self.spare.pop().map_or_else(|| Load::new(whole), |load| load.emptied(whole));
        // A thread that is gone has panicked, which shows when it is joined.
        let _ = self.load.send(std::mem::replace(&mut self.waiting, next));
    }
}

fn work<T: Taker>(mut taker: T, loads: &Receiver<Load>, back: &Sender<Load>) -> (T, Used) {
    let give = |load: Option<Load>| load.map(|load| back.send(load)).is_some();
    loop {
        let next = match loads.try_recv() {
            Err(TryRecvError::Empty) => {
                if give(taker.idle()) {
                    continue;
                }
                loads.recv().ok()
            }
            next => next.ok(),
        };
        let Some(load) = next else {
            let used = taker.finish();
            return (taker, used);
        };
        give(taker.take(load));
    }
}

/// All threads, as the reader sees them.
struct Crew<'s, T> {
    hands: Vec<Hand<'s, T>>,
    done: Vec<T>,
    keep: Keep,
    /// See [`Made`].
    parted: Option<Resume>,
    /// Bytes that the threads were given.
    given: usize,
    /// The latest record, and its LSN.
    last: Option<(Place, u64)>,
    stop: &'s AtomicBool,
}

impl<'s, T: Taker + 's> Crew<'s, T> {
    fn send(&mut self, at: usize) {
        self.hands[at].send(self.parted.is_none());
    }

    fn give(&mut self, at: usize, place: Place, found: &Found) {
        let waiting = &mut self.hands[at].waiting;
        self.given += waiting.add(place, found);
        if waiting.bytes() >= REPLAY_BATCH_BYTES {
            self.send(at);
        }
    }

    /// From `place` on the threads get parts only.
    fn part(&mut self, place: Place) {
        self.parted = Some(Resume { place, before: self.last });
        (0..self.hands.len()).for_each(|at| self.send(at));
    }
}

impl<'s, T: Taker + 's> Visitor for Crew<'s, T> {
    fn record(&mut self, place: Place, found: &Found) {
        if self.parted.is_none() && matches!(self.keep, Keep::Most(most) if self.given > most) {
            self.part(place);
        }
        match found.kind {
            Kind::Flushed => (0..self.hands.len()).for_each(|at| self.give(at, place, found)),
            _ => self.give(shard(found) % self.hands.len(), place, found),
        }
        self.last = Some((place, found.lsn));
    }

    fn finish(&mut self) -> Used {
        let mut used = Used::default();
        (0..self.hands.len()).for_each(|at| self.send(at));
        for Hand { load, thread, .. } in self.hands.drain(..) {
            drop(load);
            let (taker, noted) = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            self.done.push(taker);
            used.add(noted);
        }
        used
    }

    fn stopped(&self) -> bool {
        self.stop.load(Relaxed)
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
