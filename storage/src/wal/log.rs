//! The write-ahead log as appenders see it. An append puts its records into a buffer under a short
//! lock and gets an LSN (the number of its last record). One thread ([`super::writer`]) writes
//! whole buffers, syncs them and reports what is committed.
//!
//! This gives group commit: records that arrive while the writer writes or syncs go out together in
//! the next write.

use super::record::{RecordBuilder, RecordKind};
use super::segment::SegmentInfo;
use super::writer::LogWriter;
use crate::disk::Disk;
use crate::error::StoreError;
use crate::limits::{
    WAL_BUFFER_BYTES, WAL_BUFFER_CHUNK_BYTES, WAL_RESERVE_BYTES, WAL_RETRY_MOST_MS, WAL_RETRY_MS, WAL_WAIT_MS,
};
use crate::metrics::{Counter, Gauge, Metrics};
use crate::model::TimeMs;
use parking_lot::{Condvar, Mutex};
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

/// Called once, with the result, when an append is committed or has failed.
pub type CommitCallback = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Consecutive records of one segment, to be written with one write.
#[derive(Default)]
pub(super) struct WriteBuffer {
    /// The encoded records.
    pub bytes: Vec<u8>,
    /// Whether a new segment begins with these records.
    pub begins: bool,
    /// LSN of the first record.
    pub first_lsn: u64,
    /// LSN of the last record.
    pub last_lsn: u64,
    /// Time of the newest sample in the records.
    pub newest: Option<TimeMs>,
}

/// The state that appenders, the writer and the ticker share.
pub(super) struct LogShared {
    pub(super) state: Mutex<LogState>,
    /// Signalled when the writer has something to do.
    pub(super) work_cv: Condvar,
    /// Signalled when the buffer has space again.
    pub(super) space_cv: Condvar,
    /// Signalled when there are unsynced records, which the ticker must time.
    pub(super) unsynced_cv: Condvar,
    /// Signalled only when the log closes. The ticker cannot wait on `unsynced_cv` for this: every
    /// write signals it and would shorten the sync interval.
    pub(super) closed_cv: Condvar,
    /// All segments; the last one is being written.
    pub(super) segments: Mutex<Vec<SegmentInfo>>,
    epoch: AtomicU64,
    segment_bytes: u64,
    pub(super) unsynced_seconds: Arc<Gauge>,
    pub(super) bytes_total: Arc<Counter>,
    pub(super) current_segment: Arc<Gauge>,
    pub(super) failed_writes: Arc<Counter>,
}

#[derive(Default)]
pub(super) struct LogState {
    pub queue: Vec<WriteBuffer>,
    pub queued: usize,
    /// How long the oldest queued record has waited, seconds.
    pub queued_seconds: f64,
    /// Bytes written but not synced yet.
    pub unsynced: usize,
    next_lsn: u64,
    epoch_bytes: u64,
    /// All records up to this LSN are acknowledged.
    pub committed: u64,
    waiters: Vec<(u64, CommitCallback)>,
    pub failed: Option<String>,
    pub sync_due: bool,
    pub closing: bool,
    pub closed: bool,
}

impl LogState {
    /// Removes and returns the callbacks whose LSN is committed, or all of them.
    pub(super) fn take_waiters(&mut self, all: bool) -> Vec<CommitCallback> {
        let committed = self.committed;
        self.waiters.extract_if(.., |(lsn, _)| all || *lsn <= committed).map(|(_, done)| done).collect()
    }
}

/// The options of a log, and where it continues.
#[derive(Clone)]
pub struct LogOptions {
    /// The directory of the segments.
    pub dir: PathBuf,
    /// Time between syncs, ms; 0: sync before each acknowledgement.
    pub sync_interval_ms: u64,
    /// LSN of the first new record.
    pub next_lsn: u64,
    /// Whether the LSNs directly before `next_lsn` are used by no record.
    pub skips: bool,
    /// Number of the first new segment.
    pub next_segment: u32,
    /// The existing segments.
    pub segments: Vec<SegmentInfo>,
    /// Maximum size of a segment, bytes.
    pub segment_bytes: u64,
}

/// The write-ahead log.
pub struct Log {
    shared: Arc<LogShared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// The writer, if the log has no threads.
    manual_writer: Option<Mutex<LogWriter>>,
}

impl Log {
    /// Starts the threads of the log. No file is created before the first record.
    pub fn start(options: LogOptions, disk: Arc<dyn Disk>, metrics: &Metrics) -> Result<Log, StoreError> {
        // Without an interval the writer syncs by itself before each acknowledgement; the ticker is
        // then only needed for the attempts after a failure.
        let period = match options.sync_interval_ms {
            0 => WAL_RETRY_MS,
            interval => interval,
        };
        let shared = Log::shared(&options, metrics);
        let log = Log { shared: shared.clone(), threads: Mutex::default(), manual_writer: None };
        let writer = LogWriter::new(shared.clone(), disk, options);
        log.spawn("wal-writer", move || writer.run())?;
        log.spawn("wal-ticker", move || tick(&shared, period))?;
        Ok(log)
    }

    /// A log without threads: [`Log::write_queued`] does their work. For tests in which nothing
    /// happens by itself.
    pub fn manual(options: LogOptions, disk: Arc<dyn Disk>, metrics: &Metrics) -> Result<Log, StoreError> {
        let shared = Log::shared(&options, metrics);
        let writer = LogWriter::new(shared.clone(), disk, options);
        Ok(Log { shared, threads: Mutex::default(), manual_writer: Some(Mutex::new(writer)) })
    }

    /// For a log without threads: writes what is queued, and syncs if `sync`.
    pub fn write_queued(&self, sync: bool) {
        if let Some(writer) = &self.manual_writer {
            writer.lock().run_once(sync);
        }
    }

    fn shared(options: &LogOptions, metrics: &Metrics) -> Arc<LogShared> {
        let state = LogState {
            // LSNs begin at 1: 0 stands for "nothing is committed".
            next_lsn: options.next_lsn.max(1),
            committed: options.next_lsn.max(1) - 1,
            queue: vec![WriteBuffer {
                begins: true,
                first_lsn: options.next_lsn.max(1),
                ..WriteBuffer::default()
            }],
            ..LogState::default()
        };
        Arc::new(LogShared {
            state: Mutex::new(state),
            work_cv: Condvar::new(),
            space_cv: Condvar::new(),
            unsynced_cv: Condvar::new(),
            closed_cv: Condvar::new(),
            segments: Mutex::new(options.segments.clone()),
            epoch: AtomicU64::new(1),
            segment_bytes: options.segment_bytes,
            unsynced_seconds: metrics.gauge(
                "perennial_wal_unsynced_seconds",
                "Age of the oldest record that power loss would take, in seconds.",
                &[],
            ),
            bytes_total: metrics.counter("perennial_wal_bytes_total", "Bytes written to the log.", &[]),
            current_segment: metrics.gauge(
                "prometheus_tsdb_wal_segment_current",
                "Number of the segment of the log that is being written.",
                &[],
            ),
            failed_writes: metrics.counter(
                "prometheus_tsdb_wal_writes_failed_total",
                "Attempts to write to the log that failed.",
                &[],
            ),
        })
    }

    fn spawn(&self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), StoreError> {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
        let thread = thread.map_err(|source| StoreError::Io { path: PathBuf::from(name), source })?;
        self.threads.lock().push(thread);
        Ok(())
    }

    /// Waits until the buffer has space. To be called without holding a lock; after it, the append
    /// may call [`Log::push`].
    pub fn wait_for_space(&self) -> Result<(), StoreError> {
        let mut state = self.shared.state.lock();
        // Unsynced bytes count, too: after a failure they are written again from memory, so they
        // stay in memory until a sync.
        while state.queued + state.unsynced > WAL_BUFFER_BYTES && state.failed.is_none() && !state.closing {
            if self.shared.space_cv.wait_for(&mut state, Duration::from_millis(WAL_WAIT_MS)).timed_out() {
                return Err(StoreError::slow_disk());
            }
        }
        if state.closing {
            return Err(StoreError::closed());
        }
        state.failed.as_deref().map_or(Ok(()), |reason| Err(StoreError::log_unwritable(reason)))
    }

    /// Why appends are refused; `None` if they are accepted.
    pub fn failure(&self) -> Option<String> {
        self.shared.state.lock().failed.clone()
    }

    /// As [`Log::wait_for_space`], but never waits: for callers that must not. They may also use a
    /// reserve in the buffer; if that is full, they get an error at once.
    pub fn require_space(&self) -> Result<(), StoreError> {
        let state = self.shared.state.lock();
        if state.closing {
            return Err(StoreError::closed());
        }
        if state.queued + state.unsynced > WAL_BUFFER_BYTES + WAL_RESERVE_BYTES {
            return Err(StoreError::slow_disk());
        }
        state.failed.as_deref().map_or(Ok(()), |reason| Err(StoreError::log_unwritable(reason)))
    }

    /// The segment that is being filled, as a number that only grows.
    pub fn segment_epoch(&self) -> u64 {
        self.shared.epoch.load(Relaxed)
    }

    /// Queues records that were encoded for segment `epoch`, and returns the LSN of the last.
    /// `Err`: another segment has begun; encode the records again for the epoch in the error.
    pub fn push(&self, batch: &mut RecordBuilder, epoch: u64, newest: Option<TimeMs>) -> Result<u64, u64> {
        let mut state = self.shared.state.lock();
        let current = self.segment_epoch();
        if epoch != current {
            return Err(current);
        }
        let len = batch.len() as u64;
        // A record that alone is larger than a segment still gets one: otherwise it could never be
        // written. The caller encodes again, because the first scrape of each group must be a
        // keyframe in a new segment.
        if state.epoch_bytes > 0 && state.epoch_bytes + len > self.shared.segment_bytes {
            self.shared.epoch.store(current + 1, Relaxed);
            state.epoch_bytes = 0;
            let buffer = WriteBuffer { begins: true, first_lsn: state.next_lsn, ..WriteBuffer::default() };
            state.queue.push(buffer);
            return Err(current + 1);
        }
        let first = state.next_lsn;
        // Numbers and checksums are set here, under the lock, so that the order of numbers is the
        // order in the file.
        state.next_lsn = batch.seal(first);
        state.epoch_bytes += len;
        state.queued += batch.len();
        let last = state.next_lsn - 1;
        // Buffers stay small: appending to a long one would copy it to a larger allocation, under
        // the lock.
        if state.queue.last().is_none_or(|buffer| buffer.bytes.len() > WAL_BUFFER_CHUNK_BYTES) {
            state.queue.push(WriteBuffer { first_lsn: first, ..WriteBuffer::default() });
        }
        if let Some(buffer) = state.queue.last_mut() {
            buffer.bytes.extend_from_slice(batch.bytes());
            buffer.last_lsn = last;
            buffer.newest = buffer.newest.max(newest);
        }
        drop(state);
        self.shared.work_cv.notify_one();
        Ok(last)
    }

    /// LSN of the last record.
    pub fn last_lsn(&self) -> u64 {
        self.shared.state.lock().next_lsn - 1
    }

    /// LSN of the last record that would survive a `kill -9`.
    pub fn committed_lsn(&self) -> u64 {
        self.shared.state.lock().committed
    }

    /// As [`crate::store::StoreWal::on_committed`].
    pub fn on_committed(&self, lsn: u64, done: CommitCallback) {
        let mut state = self.shared.state.lock();
        // A committed record stays committed, even if the log has failed since.
        let outcome = if lsn <= state.committed {
            Ok(())
        } else if let Some(reason) = &state.failed {
            Err(StoreError::log_unwritable(reason))
        } else if state.closed {
            Err(StoreError::closed())
        } else {
            state.waiters.push((lsn, done));
            return;
        };
        drop(state);
        done(outcome);
    }

    /// The segments; the last one is being written.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.shared.segments.lock().clone()
    }

    /// Sets the times of the newest samples of segments, which only the replay knows.
    pub fn set_newest_times(&self, replayed: &[SegmentInfo]) {
        for segment in self.shared.segments.lock().iter_mut() {
            if let Some(known) = replayed.iter().find(|known| known.number == segment.number) {
                segment.newest = known.newest;
            }
        }
    }

    /// The oldest segments whose records are all at or before LSN `lsn` and whose samples are all
    /// before `end`, without those that have records from `held_from` on. The caller removes them
    /// and reports it ([`Log::segment_removed`]).
    pub fn obsolete_segments(&self, lsn: u64, end: TimeMs, held_from: Option<u64>) -> Vec<PathBuf> {
        let segments = self.shared.segments.lock();
        // The last segment is being written.
        let keep_last = segments.len().saturating_sub(1);
        let in_blocks = |s: &SegmentInfo| s.last_lsn <= lsn && s.newest.is_none_or(|t| t < end);
        let useless = |s: &SegmentInfo| in_blocks(s) && held_from.is_none_or(|from| s.last_lsn < from);
        let mut n = segments.iter().take(keep_last).take_while(|s| useless(s)).count();
        // A segment that continues a failed one has deltas to scrapes in the failed one: keep both.
        while n > 0 && segments.get(n).is_some_and(|s| s.continues_failed) {
            n -= 1;
        }
        segments[..n].iter().map(|s| s.path.clone()).collect()
    }

    /// Reports that a segment was removed.
    pub fn segment_removed(&self, path: &Path) {
        self.shared.segments.lock().retain(|segment| segment.path != path);
    }

    /// Writes and syncs all records, the last one a close record, and stops the threads.
    pub fn close(&self) -> Result<(), StoreError> {
        // `close` is called again when the log is dropped; there must be one close record.
        if !self.shared.state.lock().closing {
            let mut batch = RecordBuilder::default();
            batch.add(RecordKind::Close, |_| ());
            while self.push(&mut batch, self.segment_epoch(), None).is_err() {}
        }
        self.shared.state.lock().closing = true;
        self.shared.work_cv.notify_all();
        self.shared.space_cv.notify_all();
        if let Some(writer) = &self.manual_writer {
            let mut writer = writer.lock();
            writer.run_once(true);
            writer.end();
        }
        let threads = std::mem::take(&mut *self.threads.lock());
        // The writer is joined first: the ticker ends only after the writer has marked the log as
        // closed.
        for thread in threads {
            self.shared.unsynced_cv.notify_all();
            if thread.join().is_err() {
                return Err(StoreError::log_unwritable("its thread panicked"));
            }
        }
        let state = self.shared.state.lock();
        state.failed.as_deref().map_or(Ok(()), |reason| Err(StoreError::log_unwritable(reason)))
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "the write-ahead log was not closed in order");
        }
    }
}

/// The ticker thread: tells the writer when a sync, or another attempt after a failure, is due.
/// Sleeps while everything is synced.
fn tick(shared: &LogShared, period_ms: u64) {
    let period = Duration::from_millis(period_ms);
    let mut pause = RetryBackoff::default();
    let mut state = shared.state.lock();
    loop {
        if state.closed {
            return;
        }
        // Without this an idle server would wake up ten times a second for nothing.
        if state.unsynced == 0 && state.failed.is_none() {
            shared.unsynced_cv.wait(&mut state);
            continue;
        }
        // Not `unsynced_cv`: every write signals that, and each signal would end the interval
        // early.
        shared.closed_cv.wait_for(&mut state, period);
        // Counted also while a sync takes longer than the interval.
        if state.unsynced > 0 {
            shared.unsynced_seconds.add(period.as_secs_f64());
        }
        if state.queued > 0 {
            state.queued_seconds += period.as_secs_f64();
        }
        if pause.is_over(state.failed.is_some(), period_ms) {
            state.sync_due = true;
            shared.work_cv.notify_one();
        }
    }
}

/// The pause before a failed log is tried again, in periods. It doubles with each attempt.
#[derive(Default)]
struct RetryBackoff {
    length: u64,
    left: u64,
}

impl RetryBackoff {
    /// A period has passed: returns whether a sync or attempt is due. Without a failure it always
    /// is.
    fn is_over(&mut self, failed: bool, period_ms: u64) -> bool {
        // The first attempt after a success that fails again begins with the shortest pause.
        if !failed {
            *self = RetryBackoff::default();
            return true;
        }
        self.left = self.left.saturating_sub(1);
        if self.left > 0 {
            return false;
        }
        let most = WAL_RETRY_MOST_MS / period_ms.max(1);
        self.length = (self.length * 2).min(most).max(1);
        self.left = self.length;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_become_rarer_up_to_a_limit_and_begin_anew_after_success() {
        for period in [1, 20, 100, 2_999, 60_000] {
            let mut pause = RetryBackoff::default();
            let attempts = |pause: &mut RetryBackoff, ms: u64| -> Vec<u64> {
                (1..=ms / period).filter(|_| pause.is_over(true, period)).collect()
            };
            let first = attempts(&mut pause, 120_000);
            let gaps: Vec<u64> = first.windows(2).map(|pair| (pair[1] - pair[0]) * period).collect();
            assert!(gaps.is_sorted(), "{gaps:?}");
            assert!(gaps.iter().all(|gap| *gap <= WAL_RETRY_MOST_MS.max(period)), "{gaps:?}");
            assert!(first.len() <= 40 + 12, "every {period} ms: {} attempts in two minutes", first.len());
            assert!(pause.is_over(false, period), "a log that works is synced each time");
            assert_eq!(attempts(&mut pause, 120_000), first);
        }
    }
}
