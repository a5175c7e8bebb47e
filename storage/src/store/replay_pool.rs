//! The threads that take the log's records. One reads and checks the log; others, each of which has
//! some of the shards, take what it finds, in *loads*. Records of one shard keep their order, so
//! what comes out does not depend on the number of threads. What they do with loads is the
//! [`ReplayWorker`]'s business: [`super::replay_passes`].

use super::log_scan::LogScanner;
use super::options::StoreError;
use crate::head::group_of;
use crate::limits::{REPLAY_BATCH_BYTES, REPLAY_BATCHES, REPLAY_THREADS};
use crate::wal::{
    LogContents, LogRecord, RecordKind, RecordOutcomes, RecordPosition, RecordVisitor, ResumePoint,
};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

/// What a thread of the crew does.
pub trait ReplayWorker: Send {
    /// Takes a load. Gives one back that it is done with: its memory is used again.
    fn take(&mut self, load: ReplayBatch) -> Option<ReplayBatch>;

    /// Nothing waits: does something that could wait; `None` if there is nothing. Gives a load back
    /// that it is done with.
    fn idle(&mut self) -> Option<ReplayBatch> {
        None
    }

    /// There are no more: what became of the records.
    fn finish(&mut self) -> RecordOutcomes {
        RecordOutcomes::default()
    }
}

/// Records for one thread.
pub struct ReplayBatch {
    /// Whether the records have all of their payloads, or what a survey wants of them.
    pub whole: bool,
    payloads: Vec<u8>,
    records: Vec<BatchedRecord>,
}

/// A record without its payload, and where that ends in its load.
struct BatchedRecord {
    place: RecordPosition,
    lsn: u64,
    kind: RecordKind,
    end: usize,
}

impl ReplayBatch {
    fn new(whole: bool) -> ReplayBatch {
        ReplayBatch { whole, payloads: Vec::with_capacity(REPLAY_BATCH_BYTES), records: Vec::new() }
    }

    /// The records, in order.
    pub fn each(&self, mut each: impl FnMut(RecordPosition, &LogRecord)) {
        let mut from = 0;
        for BatchedRecord { place, lsn, kind, end } in &self.records {
            let payload = &self.payloads[from..*end];
            each(*place, &LogRecord { lsn: *lsn, kind: *kind, payload, end: *end });
            from = *end;
        }
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    fn bytes(&self) -> usize {
        self.payloads.len() + self.records.len() * size_of::<BatchedRecord>()
    }

    /// Adds a record; by how many bytes there is more now.
    fn add(&mut self, place: RecordPosition, found: &LogRecord) -> usize {
        let part = if self.whole { found.payload } else { LogScanner::part(found) };
        self.payloads.extend_from_slice(part);
        self.records.push(BatchedRecord {
            place,
            lsn: found.lsn,
            kind: found.kind,
            end: self.payloads.len(),
        });
        part.len() + size_of::<BatchedRecord>()
    }

    fn emptied(mut self, whole: bool) -> ReplayBatch {
        self.payloads.clear();
        self.records.clear();
        ReplayBatch { whole, ..self }
    }
}

/// How much the threads may keep of what they are given.
#[derive(Copy, Clone)]
pub enum PayloadBudget {
    /// All: they are done with it soon.
    All,
    /// So many bytes; what is behind them they get in parts only.
    Most(usize),
}

/// What the threads made of the records.
pub struct PoolOutput<T> {
    /// What was read.
    pub outcome: LogContents,
    /// By thread.
    pub takers: Vec<T>,
    /// From here on they were given parts only.
    pub parted: Option<ResumePoint>,
}

/// How many threads there are to be.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(REPLAY_THREADS)
}

/// Has threads, one for each of `takers`, take the records that `read` finds.
pub fn crew<T: ReplayWorker>(
    dir: &Path,
    takers: Vec<T>,
    keep: PayloadBudget,
    stop: &AtomicBool,
    read: impl FnOnce(&mut dyn RecordVisitor) -> Result<LogContents, StoreError>,
) -> Result<PoolOutput<T>, StoreError> {
    std::thread::scope(|scope| {
        let hands = takers.into_iter().enumerate().map(|(at, taker)| WorkerHandle::new(scope, at, taker));
        let hands = hands.collect::<Result<_, _>>();
        let hands = hands.map_err(|source| StoreError::Io { path: dir.to_owned(), source })?;
        let mut crew = ReplayPool { hands, done: Vec::new(), keep, parted: None, given: 0, last: None, stop };
        let outcome = read(&mut crew)?;
        Ok(PoolOutput { outcome, takers: crew.done, parted: crew.parted })
    })
}

/// Whether the thread with number `at` of so many has a shard.
pub fn owns(at: usize, threads: usize, shard: usize) -> bool {
    shard % threads == at
}

/// A thread, and what it gets next.
struct WorkerHandle<'s, T> {
    load: SyncSender<ReplayBatch>,
    /// Loads that it is done with.
    done: Receiver<ReplayBatch>,
    /// Empty ones.
    spare: Vec<ReplayBatch>,
    waiting: ReplayBatch,
    thread: ScopedJoinHandle<'s, (T, RecordOutcomes)>,
}

impl<'s, T: ReplayWorker + 's> WorkerHandle<'s, T> {
    fn new(scope: &'s Scope<'s, '_>, at: usize, taker: T) -> std::io::Result<WorkerHandle<'s, T>> {
        let (load, loads) = sync_channel(REPLAY_BATCHES);
        let (back, done) = channel();
        let run = move || work(taker, &loads, &back);
        let thread = std::thread::Builder::new().name(format!("replay-{at}")).spawn_scoped(scope, run)?;
        Ok(WorkerHandle { load, done, spare: Vec::new(), waiting: ReplayBatch::new(true), thread })
    }

    /// Hands over what waits.
    fn send(&mut self, whole: bool) {
        self.spare.extend(self.done.try_iter());
        let next = self.spare.pop().map_or_else(|| ReplayBatch::new(whole), |load| load.emptied(whole));
        // A thread that is gone has panicked, which shows when it is joined.
        let _ = self.load.send(std::mem::replace(&mut self.waiting, next));
    }
}

fn work<T: ReplayWorker>(
    mut taker: T,
    loads: &Receiver<ReplayBatch>,
    back: &Sender<ReplayBatch>,
) -> (T, RecordOutcomes) {
    let give = |load: Option<ReplayBatch>| load.map(|load| back.send(load)).is_some();
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
struct ReplayPool<'s, T> {
    hands: Vec<WorkerHandle<'s, T>>,
    done: Vec<T>,
    keep: PayloadBudget,
    /// See [`PoolOutput`].
    parted: Option<ResumePoint>,
    /// Bytes that the threads were given.
    given: usize,
    /// The latest record, and its LSN.
    last: Option<(RecordPosition, u64)>,
    stop: &'s AtomicBool,
}

impl<'s, T: ReplayWorker + 's> ReplayPool<'s, T> {
    fn send(&mut self, at: usize) {
        self.hands[at].send(self.parted.is_none());
    }

    fn give(&mut self, at: usize, place: RecordPosition, found: &LogRecord) {
        let waiting = &mut self.hands[at].waiting;
        self.given += waiting.add(place, found);
        if waiting.bytes() >= REPLAY_BATCH_BYTES {
            self.send(at);
        }
    }

    /// From `place` on the threads get parts only.
    fn part(&mut self, place: RecordPosition) {
        self.parted = Some(ResumePoint { place, before: self.last });
        (0..self.hands.len()).for_each(|at| self.send(at));
    }
}

impl<'s, T: ReplayWorker + 's> RecordVisitor for ReplayPool<'s, T> {
    fn record(&mut self, place: RecordPosition, found: &LogRecord) {
        if self.parted.is_none() && matches!(self.keep, PayloadBudget::Most(most) if self.given > most) {
            self.part(place);
        }
        match found.kind {
            RecordKind::Flushed => (0..self.hands.len()).for_each(|at| self.give(at, place, found)),
            _ => self.give(shard(found) % self.hands.len(), place, found),
        }
        self.last = Some((place, found.lsn));
    }

    fn finish(&mut self) -> RecordOutcomes {
        let mut used = RecordOutcomes::default();
        (0..self.hands.len()).for_each(|at| self.send(at));
        for WorkerHandle { load, thread, .. } in self.hands.drain(..) {
            drop(load);
            let (taker, noted) = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            self.done.push(taker);
            used.add(noted);
        }
        used
    }

    fn should_stop(&self) -> bool {
        self.stop.load(Relaxed)
    }
}

/// The shard that a record is about, out of its first bytes; of one that is malformed any will do.
fn shard(found: &LogRecord) -> usize {
    let word =
        |n: usize| found.payload.iter().take(n).rev().fold(0u32, |word, byte| word << 8 | u32::from(*byte));
    match found.kind {
        RecordKind::Series => word(2) as usize,
        RecordKind::Group
        | RecordKind::Layout
        | RecordKind::Keyframe
        | RecordKind::Delta
        | RecordKind::Whole => usize::from(group_of(word(4)).0),
        _ => word(4) as usize,
    }
}
