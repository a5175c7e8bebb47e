//! The threads of the scan and of the replay of the write-ahead log ([`super::replay_passes`]). One
//! thread reads and checks the log. It distributes the records in batches to workers, each of which
//! owns some of the shards. Records of one shard keep their order, so the result does not depend on
//! the number of threads. What a worker does is defined by [`ReplayWorker`], implemented in
//! [`super::replay_passes`].

use super::log_scan::LogScanner;
use crate::error::StoreError;
use crate::head::group_of;
use crate::limits::{REPLAY_BATCH_BYTES, REPLAY_BATCHES, REPLAY_THREADS};
use crate::wal::{
    LogContents, LogRecord, RecordKind, RecordOutcomes, RecordPosition, RecordVisitor, ResumePoint,
};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

/// The work of one thread of the pool.
///
/// # Contract
/// 1. A worker gets all records of its shards, in the order of the log, and the flush watermark of
///    all. Which shards these are depends on the number of threads; the result must not.
/// 2. [`ReplayWorker::idle`] is called only while no batch waits, and does a small piece of work:
///    the reader of the log waits when the queue is full.
/// 3. A batch that is returned is not looked at again: its memory is used for other records.
pub(super) trait ReplayWorker: Send {
    /// Processes a batch. Returns a batch that is finished, so that its memory is reused; `None` if
    /// it was kept.
    fn take(&mut self, batch: ReplayBatch) -> Option<ReplayBatch>;

    /// Called while no batch waits. Returns a finished batch for reuse, or `None` if there was
    /// nothing to do.
    fn idle(&mut self) -> Option<ReplayBatch> {
        None
    }

    /// Called after the last batch. Returns what became of the records.
    fn finish(&mut self) -> RecordOutcomes {
        RecordOutcomes::default()
    }
}

/// Records for one thread.
pub(super) struct ReplayBatch {
    /// Whether the records have their whole payloads, or only what the scan needs
    /// ([`LogScanner::scanned_payload`]).
    pub whole: bool,
    payloads: Vec<u8>,
    records: Vec<BatchedRecord>,
}

/// A record without its payload, and where the payload ends in the batch.
struct BatchedRecord {
    position: RecordPosition,
    lsn: u64,
    kind: RecordKind,
    end: usize,
}

impl ReplayBatch {
    fn new(whole: bool) -> ReplayBatch {
        ReplayBatch { whole, payloads: Vec::with_capacity(REPLAY_BATCH_BYTES), records: Vec::new() }
    }

    /// Calls `each` for the records, in order.
    pub(super) fn each(&self, mut each: impl FnMut(RecordPosition, &LogRecord)) {
        let mut from = 0;
        for BatchedRecord { position, lsn, kind, end } in &self.records {
            let payload = &self.payloads[from..*end];
            each(*position, &LogRecord { lsn: *lsn, kind: *kind, payload, end: *end });
            from = *end;
        }
    }

    /// Number of records.
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    fn bytes(&self) -> usize {
        self.payloads.len() + self.records.len() * size_of::<BatchedRecord>()
    }

    /// Adds a record. Returns the number of bytes added.
    fn add(&mut self, position: RecordPosition, found: &LogRecord) -> usize {
        // Of a long log the values of later scrapes are not kept: memory for them would grow with
        // the log.
        let part = if self.whole { found.payload } else { LogScanner::scanned_payload(found) };
        self.payloads.extend_from_slice(part);
        self.records.push(BatchedRecord {
            position,
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

/// How many bytes of payload the workers may keep.
#[derive(Copy, Clone)]
pub(super) enum PayloadBudget {
    /// Everything is sent whole: the workers finish it soon.
    All,
    /// Up to this many bytes are sent whole; of later records only the part that the scan needs.
    AtMost(usize),
}

/// The result of the pool.
pub(super) struct PoolOutput<T> {
    /// What was read.
    pub outcome: LogContents,
    /// The state that each thread has built.
    pub workers: Vec<T>,
    /// From here on only parts of the records were sent; `None` if all were sent whole.
    pub partial_from: Option<ResumePoint>,
}

/// The number of worker threads.
pub(super) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(REPLAY_THREADS)
}

/// Runs one thread for each of `workers` and distributes to them the records that `read` finds.
pub(super) fn run_pool<T: ReplayWorker>(
    dir: &Path,
    workers: Vec<T>,
    keep: PayloadBudget,
    stop: &AtomicBool,
    read: impl FnOnce(&mut dyn RecordVisitor) -> Result<LogContents, StoreError>,
) -> Result<PoolOutput<T>, StoreError> {
    std::thread::scope(|scope| {
        let handles = workers
            .into_iter()
            .enumerate()
            .map(|(worker_index, worker)| WorkerHandle::new(scope, worker_index, worker));
        let handles = handles.collect::<Result<_, _>>();
        let handles = handles.map_err(|source| StoreError::Io { path: dir.to_owned(), source })?;
        let mut pool = ReplayPool {
            handles,
            done: Vec::new(),
            keep,
            partial_from: None,
            bytes_sent: 0,
            last: None,
            stop,
        };
        let outcome = read(&mut pool)?;
        Ok(PoolOutput { outcome, workers: pool.done, partial_from: pool.partial_from })
    })
}

/// Whether worker `worker_index` of `threads` owns a shard.
pub(super) fn owns(worker_index: usize, threads: usize, shard: usize) -> bool {
    shard % threads == worker_index
}

/// A worker thread, and the batch that is filled for it.
struct WorkerHandle<'s, T> {
    batch: SyncSender<ReplayBatch>,
    /// Finished batches, for reuse.
    done: Receiver<ReplayBatch>,
    /// Empty batches.
    spare: Vec<ReplayBatch>,
    waiting: ReplayBatch,
    thread: ScopedJoinHandle<'s, (T, RecordOutcomes)>,
}

impl<'s, T: ReplayWorker + 's> WorkerHandle<'s, T> {
    fn new(scope: &'s Scope<'s, '_>, worker_index: usize, worker: T) -> std::io::Result<WorkerHandle<'s, T>> {
        let (batch, batches) = sync_channel(REPLAY_BATCHES);
        let (back, done) = channel();
        let run = move || work(worker, &batches, &back);
        let thread =
            std::thread::Builder::new().name(format!("replay-{worker_index}")).spawn_scoped(scope, run)?;
        Ok(WorkerHandle { batch, done, spare: Vec::new(), waiting: ReplayBatch::new(true), thread })
    }

    /// Sends the batch that is filled; `whole` is for the next one.
    fn send(&mut self, whole: bool) {
        // Buffers of finished batches are used again: a replay of 100 GB allocates a few MB.
        self.spare.extend(self.done.try_iter());
        let next = self.spare.pop().map_or_else(|| ReplayBatch::new(whole), |batch| batch.emptied(whole));
        // Sending fails only if the thread has panicked; joining it reports that.
        let _ = self.batch.send(std::mem::replace(&mut self.waiting, next));
    }
}

fn work<T: ReplayWorker>(
    mut worker: T,
    batches: &Receiver<ReplayBatch>,
    back: &Sender<ReplayBatch>,
) -> (T, RecordOutcomes) {
    let give = |batch: Option<ReplayBatch>| batch.map(|batch| back.send(batch)).is_some();
    loop {
        let next = match batches.try_recv() {
            Err(TryRecvError::Empty) => {
                // One piece of work at a time, so that a batch that comes is not kept waiting.
                if give(worker.idle()) {
                    continue;
                }
                batches.recv().ok()
            }
            next => next.ok(),
        };
        let Some(batch) = next else {
            let used = worker.finish();
            return (worker, used);
        };
        give(worker.take(batch));
    }
}

/// All worker threads, as the reader of the log sees them.
struct ReplayPool<'s, T> {
    handles: Vec<WorkerHandle<'s, T>>,
    done: Vec<T>,
    keep: PayloadBudget,
    /// As [`PoolOutput::partial_from`].
    partial_from: Option<ResumePoint>,
    /// Bytes sent so far.
    bytes_sent: usize,
    /// The latest record and its LSN.
    last: Option<(RecordPosition, u64)>,
    stop: &'s AtomicBool,
}

impl<'s, T: ReplayWorker + 's> ReplayPool<'s, T> {
    fn send(&mut self, worker_index: usize) {
        self.handles[worker_index].send(self.partial_from.is_none());
    }

    fn give(&mut self, worker_index: usize, position: RecordPosition, found: &LogRecord) {
        let waiting = &mut self.handles[worker_index].waiting;
        self.bytes_sent += waiting.add(position, found);
        if waiting.bytes() >= REPLAY_BATCH_BYTES {
            self.send(worker_index);
        }
    }

    /// From `position` on, sends only parts of the records.
    fn part(&mut self, position: RecordPosition) {
        self.partial_from = Some(ResumePoint { position, before: self.last });
        for worker_index in 0..self.handles.len() {
            self.send(worker_index);
        }
    }
}

impl<'s, T: ReplayWorker + 's> RecordVisitor for ReplayPool<'s, T> {
    fn record(&mut self, position: RecordPosition, found: &LogRecord) {
        // Between two records, so that a second reading can begin exactly here.
        if self.partial_from.is_none()
            && matches!(self.keep, PayloadBudget::AtMost(most) if self.bytes_sent > most)
        {
            self.part(position);
        }
        match found.kind {
            // Every worker needs the watermark: it decides which samples are skipped.
            RecordKind::Flushed => {
                for worker_index in 0..self.handles.len() {
                    self.give(worker_index, position, found);
                }
            }
            _ => self.give(shard(found) % self.handles.len(), position, found),
        }
        self.last = Some((position, found.lsn));
    }

    fn finish(&mut self) -> RecordOutcomes {
        let mut used = RecordOutcomes::default();
        for worker_index in 0..self.handles.len() {
            self.send(worker_index);
        }
        for WorkerHandle { batch, thread, .. } in self.handles.drain(..) {
            // The worker ends when its queue is closed and empty.
            drop(batch);
            let (worker, noted) = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            self.done.push(worker);
            used.add(noted);
        }
        used
    }

    fn should_stop(&self) -> bool {
        self.stop.load(Relaxed)
    }
}

/// The shard that a record belongs to, from the first bytes of its payload. For a malformed record
/// any shard will do.
fn shard(found: &LogRecord) -> usize {
    let word =
        |n: usize| found.payload.iter().take(n).rev().fold(0u32, |word, byte| word << 8 | u32::from(*byte));
    match found.kind {
        RecordKind::Series => word(2) as usize,
        RecordKind::Group
        | RecordKind::Layout
        | RecordKind::Keyframe
        | RecordKind::Delta
        | RecordKind::LayoutAndKeyframe => usize::from(group_of(word(4)).0),
        _ => word(4) as usize,
    }
}
