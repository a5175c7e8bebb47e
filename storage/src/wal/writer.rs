//! The writer thread of the log: takes queued buffers, writes each with one write(2), syncs, and
//! calls the callbacks of committed appends.
//!
//! It holds no lock while it writes or syncs. Records that are written but not synced stay in
//! memory. After a failed write or sync the segment is abandoned, because its pages may be lost
//! even if a second fsync succeeds; all unsynced records are written again to a new segment. An
//! abandoned segment of which nothing was acknowledged is removed once the next one exists, so that
//! repeated failures leave no files behind.

use super::log::{LogOptions, LogShared, LogState, WriteBuffer};
use super::segment::{Header, SEGMENT, SegmentInfo, segment_path};
use crate::disk::{Disk, DiskFile};
use crate::error::StoreError;
use crate::limits::WAL_BUFFER_BYTES;
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// The state of the writer.
pub(super) struct LogWriter {
    shared: Arc<LogShared>,
    disk: Arc<dyn Disk>,
    options: LogOptions,
    file: Option<Box<dyn DiskFile>>,
    next_number: u32,
    /// Buffers to be written, oldest first.
    to_write: VecDeque<WriteBuffer>,
    /// Buffers written to the current segment but not synced.
    unsynced: VecDeque<WriteBuffer>,
    /// Whether the segment before failed: the next one continues it.
    continues: bool,
    /// Segments of which nothing was synced or acknowledged, so that they can be removed if they
    /// fail: the current one, and failed ones that still exist.
    unacknowledged: Vec<PathBuf>,
}

/// What the writer has to do next.
enum WriterStep {
    /// Buffers to be written or synced.
    Write {
        /// Whether to sync.
        sync: bool,
    },
    Nothing,
    /// The log is closed, and everything possible is done.
    End,
}

impl LogWriter {
    /// A writer that has not written anything.
    pub(super) fn new(shared: Arc<LogShared>, disk: Arc<dyn Disk>, options: LogOptions) -> LogWriter {
        let next_number = options.next_segment;
        let to_write = VecDeque::new();
        let unsynced = VecDeque::new();
        let unacknowledged = Vec::new();
        LogWriter {
            shared,
            disk,
            options,
            file: None,
            next_number,
            to_write,
            unsynced,
            continues: false,
            unacknowledged,
        }
    }

    /// Works until the log is closed.
    pub(super) fn run(mut self) {
        loop {
            let shared = self.shared.clone();
            let mut state = shared.state.lock();
            // Asked and waited under one lock: a record that is queued in between cannot be missed.
            match self.next(&mut state) {
                WriterStep::Nothing => shared.work_cv.wait(&mut state),
                WriterStep::Write { sync } => {
                    drop(state);
                    self.write_and_report(sync);
                }
                WriterStep::End => break,
            }
        }
        self.end();
    }

    /// Does what there is to do now, on this thread.
    pub(super) fn run_once(&mut self, sync: bool) {
        let shared = self.shared.clone();
        let mut state = shared.state.lock();
        state.sync_due |= sync;
        if let WriterStep::Write { sync } = self.next(&mut state) {
            drop(state);
            self.write_and_report(sync);
        }
    }

    fn write_and_report(&mut self, sync_due: bool) {
        let (closing, failing) = {
            let state = self.shared.state.lock();
            (state.closing, state.failed.is_some())
        };
        let sync_now = sync_due || closing || self.options.sync_interval_ms == 0;
        let mut outcome = self.write_all(sync_now);
        if outcome.is_err() && !failing {
            // Try again at once, in a new segment. After that, the ticker decides when to try.
            outcome = self.write_all(sync_now);
        }
        self.report(outcome);
    }

    /// Marks the log as closed, and fails the callbacks that still wait.
    pub(super) fn end(&self) {
        let waiters = {
            let mut state = self.shared.state.lock();
            state.closed = true;
            state.take_waiters(true)
        };
        self.shared.unsynced_cv.notify_all();
        self.shared.closed_cv.notify_all();
        for done in waiters.into_iter() {
            done(Err(StoreError::closed()));
        }
    }

    /// Takes the queued buffers, if they, or a sync, are due.
    fn next(&mut self, state: &mut LogState) -> WriterStep {
        let due = std::mem::take(&mut state.sync_due);
        // After a failure queued records wait for the next attempt of the ticker: each append would
        // otherwise try a disk that was full a moment ago.
        let queued = state.queued > 0 && (state.failed.is_none() || due || state.closing);
        let unfinished = !self.unsynced.is_empty() || !self.to_write.is_empty();
        if queued || (due && unfinished) {
            self.to_write.extend(std::mem::take(&mut state.queue));
            state.unsynced += std::mem::take(&mut state.queued);
            state.queued_seconds = 0.0;
            self.shared.space_cv.notify_all();
            // Half of the buffer without a sync: appenders would soon wait for space, which only a
            // sync makes.
            return WriterStep::Write { sync: due || state.unsynced > WAL_BUFFER_BYTES / 2 };
        }
        // Nothing is queued and no sync is due.
        if !state.closing {
            WriterStep::Nothing
        // A log that cannot be written is not tried again at the end: the server is stopping, and a
        // full disk would keep it from doing so.
        } else if unfinished && state.failed.is_none() {
            WriterStep::Write { sync: true }
        } else {
            WriterStep::End
        }
    }

    /// Writes the buffers, and syncs if `sync`. After a failure, all unsynced buffers are to be
    /// written again.
    fn write_all(&mut self, sync: bool) -> io::Result<()> {
        let mut outcome = Ok(());
        while let Some(buffer) = self.to_write.pop_front() {
            outcome = self.write(&buffer);
            // A buffer that only says that a new segment begins.
            if buffer.bytes.is_empty() && outcome.is_ok() {
                continue;
            }
            // Also after a failure: nothing is known of how much of it reached the disk, so it is
            // written again.
            self.unsynced.push_back(buffer);
            if outcome.is_err() {
                break;
            }
        }
        if outcome.is_ok() && sync {
            outcome = self.sync();
        }
        if outcome.is_err() {
            self.file = None;
            self.continues = true;
            // From the newest to the oldest, so that the oldest is at the front at the end.
            while let Some(buffer) = self.unsynced.pop_back() {
                self.to_write.push_front(buffer);
            }
        }
        outcome
    }

    fn write(&mut self, buffer: &WriteBuffer) -> io::Result<()> {
        // The old segment is complete and synced before the next one exists: only the last segment
        // can have a torn tail.
        if buffer.begins && self.file.is_some() {
            self.sync()?;
            self.file = None;
        }
        if buffer.bytes.is_empty() {
            return Ok(());
        }
        // Also after a failure, although this buffer does not begin a segment: its records then
        // rest on deltas of the failed one, which the header says (`continues`).
        if self.file.is_none() {
            self.open(buffer.first_lsn)?;
        }
        if let Some(file) = &mut self.file {
            file.append(&buffer.bytes)?;
        }
        self.shared.bytes_total.add(buffer.bytes.len() as u64);
        if let Some(current) = self.shared.segments.lock().last_mut() {
            current.last_lsn = buffer.last_lsn;
            current.newest = current.newest.max(buffer.newest);
        }
        Ok(())
    }

    fn open(&mut self, first_lsn: u64) -> io::Result<()> {
        let header = Header {
            number: self.next_number,
            continues: self.continues,
            skips: self.options.skips,
            first_lsn,
        };
        let path = segment_path(&self.options.dir, header.number);
        let mut file = self.disk.create(&path)?;
        // Even if the following fails: the number of a file that exists is not used again.
        self.next_number += 1;
        self.shared.current_segment.set(f64::from(header.number));
        let info = SegmentInfo {
            path: path.clone(),
            number: header.number,
            last_lsn: first_lsn.saturating_sub(1),
            newest: None,
            continues_failed: header.continues,
            repeated_from: None,
        };
        // Before the header is written: if that fails, the file is one of those to be removed.
        self.shared.segments.lock().push(info);
        self.remove_unacknowledged();
        self.unacknowledged.push(path);
        file.append(&header.encode(SEGMENT))?;
        self.disk.sync_dir(&self.options.dir)?;
        self.file = Some(file);
        self.continues = false;
        Ok(())
    }

    /// Removes failed segments. This happens when the next file exists but is still empty: at a
    /// start, the next file shows that the segment before it failed. What cannot be removed is
    /// tried again with the next file.
    fn remove_unacknowledged(&mut self) {
        let disk = &self.disk;
        let segments = &self.shared.segments;
        self.unacknowledged.retain(|path| {
            let removed = disk.remove(path);
            if removed.is_ok() {
                segments.lock().retain(|segment| segment.path != *path);
            }
            removed.is_err()
        });
    }

    fn sync(&mut self) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.sync()?;
            // From now on a record with a valid LSN is on disk, so the gap before the first record
            // needs no mention in later headers.
            self.options.skips = false;
            self.unacknowledged.clear();
        }
        let bytes: usize = self.unsynced.drain(..).map(|buffer| buffer.bytes.len()).sum();
        let mut state = self.shared.state.lock();
        state.unsynced = state.unsynced.saturating_sub(bytes);
        // Records that were queued during a long sync are now the oldest.
        self.shared.unsynced_seconds.set(state.queued_seconds);
        self.shared.space_cv.notify_all();
        Ok(())
    }

    /// Reports the result to the appenders that wait.
    fn report(&mut self, outcome: io::Result<()>) {
        // Without unsynced buffers, everything in the last segment is synced.
        let last = self.unsynced.back().map(|buffer| buffer.last_lsn);
        let written = last.or(self.shared.segments.lock().last().map(|s| s.last_lsn));
        let mut state = self.shared.state.lock();
        let failed = outcome.err().map(|e| format!("{}: {e}", self.options.dir.display()));
        if failed.is_none() {
            state.committed = state.committed.max(written.unwrap_or(0));
            tracing::debug!(target: "wal", lsn = state.committed, "records are committed");
            self.unacknowledged.clear();
        } else {
            self.shared.failed_writes.inc();
            // Ignore a tick during the attempt: the next attempt must come after a pause.
            state.sync_due = false;
        }
        // Once per change, not once per attempt.
        if state.failed != failed {
            match &failed {
                Some(reason) => {
                    tracing::error!(reason, "the write-ahead log cannot be written; appends are refused")
                }
                None => tracing::info!("the write-ahead log can be written again"),
            }
        }
        state.failed = failed;
        let fate = state.failed.clone();
        // After a failure all of them get the error, although their records may still be written by
        // a later attempt: a sender that is told of a failure sends again, and the same sample
        // twice is stored once.
        let waiters = state.take_waiters(fate.is_some());
        drop(state);
        self.shared.unsynced_cv.notify_one();
        for done in waiters {
            done(fate.as_deref().map_or(Ok(()), |reason| Err(StoreError::log_unwritable(reason))));
        }
    }
}
