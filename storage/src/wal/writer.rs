//! The log's one writer: takes whole buffers, writes each with one write(2), syncs, and fires
//! acknowledgements.
//!
//! Nothing is locked while it writes or syncs. What is written but not synced stays in memory: a
//! failed write or sync ends the segment (its pages may be gone, whatever a second fsync says), and
//! all of it is written anew into the next one. A segment of which nothing was acknowledged goes
//! when the next one is there: however often the disk says no, it leaves no files behind.

use super::log::{LogOptions, LogShared, LogState, WriteBuffer};
use super::segment::{Header, SEGMENT, SegmentInfo, segment_path};
use crate::disk::{Disk, DiskFile};
use crate::limits::WAL_BUFFER_BYTES;
use crate::store::StoreError;
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// The writer's own state.
pub struct LogWriter {
    shared: Arc<LogShared>,
    disk: Arc<dyn Disk>,
    options: LogOptions,
    file: Option<Box<dyn DiskFile>>,
    next_number: u32,
    /// To be written, oldest first.
    todo: VecDeque<WriteBuffer>,
    /// Written into the current segment, not synced.
    unsynced: VecDeque<WriteBuffer>,
    /// A failed segment came before: the next one goes on where it stopped.
    continues: bool,
    /// Segments of which nothing was synced or acknowledged, so nobody needs them if they fail: the
    /// current one, and failed ones that are still there.
    idle: Vec<PathBuf>,
}

/// What there is to do.
enum WriterStep {
    /// Pieces to write, or to sync.
    Write {
        /// Whether a sync is due.
        sync: bool,
    },
    Nothing,
    /// The log is closed, and all is done that can be.
    End,
}

impl LogWriter {
    /// A writer that has not begun.
    pub fn new(shared: Arc<LogShared>, disk: Arc<dyn Disk>, options: LogOptions) -> LogWriter {
        let next_number = options.next_segment;
        let todo = VecDeque::new();
        let unsynced = VecDeque::new();
        let idle = Vec::new();
        LogWriter { shared, disk, options, file: None, next_number, todo, unsynced, continues: false, idle }
    }

    /// Works until the log is closed.
    pub fn run(mut self) {
        loop {
            let shared = self.shared.clone();
            let mut state = shared.state.lock();
            match self.next(&mut state) {
                WriterStep::Nothing => shared.work.wait(&mut state),
                WriterStep::Write { sync } => {
                    drop(state);
                    self.write_and_report(sync);
                }
                WriterStep::End => break,
            }
        }
        self.end();
    }

    /// Does at once what there is to do, on this thread.
    pub fn run_once(&mut self, sync: bool) {
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
            // Once more, into a new segment; then the ticker says when.
            outcome = self.write_all(sync_now);
        }
        self.report(outcome);
    }

    /// The log is closed: nobody waits any more.
    pub fn end(&self) {
        let waiters = {
            let mut state = self.shared.state.lock();
            state.closed = true;
            state.take_waiters(true)
        };
        self.shared.dirt.notify_all();
        self.shared.end.notify_all();
        for done in waiters.into_iter() {
            done(Err(StoreError::Refused("the store is closed".to_owned())));
        }
    }

    /// Takes over the pieces that wait, if they, or a sync, are due.
    fn next(&mut self, state: &mut LogState) -> WriterStep {
        let due = std::mem::take(&mut state.sync_due);
        let queued = state.queued > 0 && (state.failed.is_none() || due || state.closing);
        let unfinished = !self.unsynced.is_empty() || !self.todo.is_empty();
        if queued || (due && unfinished) {
            self.todo.extend(std::mem::take(&mut state.queue));
            state.unsynced += std::mem::take(&mut state.queued);
            state.queued_seconds = 0.0;
            self.shared.room.notify_all();
            return WriterStep::Write { sync: due || state.unsynced > WAL_BUFFER_BYTES / 2 };
        }
        if !state.closing {
            WriterStep::Nothing
        } else if unfinished && state.failed.is_none() {
            WriterStep::Write { sync: true }
        } else {
            WriterStep::End
        }
    }

    /// Writes what is to do and syncs if asked to. On failure everything unsynced is to do again.
    fn write_all(&mut self, sync: bool) -> io::Result<()> {
        let mut outcome = Ok(());
        while let Some(piece) = self.todo.pop_front() {
            outcome = self.write(&piece);
            if piece.bytes.is_empty() && outcome.is_ok() {
                continue;
            }
            self.unsynced.push_back(piece);
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
            while let Some(piece) = self.unsynced.pop_back() {
                self.todo.push_front(piece);
            }
        }
        outcome
    }

    fn write(&mut self, piece: &WriteBuffer) -> io::Result<()> {
        if piece.begins && self.file.is_some() {
            self.sync()?;
            self.file = None;
        }
        if piece.bytes.is_empty() {
            return Ok(());
        }
        if self.file.is_none() {
            self.open(piece.first_lsn)?;
        }
        if let Some(file) = &mut self.file {
            file.append(&piece.bytes)?;
        }
        self.shared.bytes_total.add(piece.bytes.len() as u64);
        if let Some(current) = self.shared.segments.lock().last_mut() {
            current.last_lsn = piece.last_lsn;
            current.newest = current.newest.max(piece.newest);
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
        self.next_number += 1;
        let info = SegmentInfo {
            path: path.clone(),
            number: header.number,
            last_lsn: first_lsn.saturating_sub(1),
            newest: None,
            continues_failed: header.continues,
            repeated_from: None,
        };
        self.shared.segments.lock().push(info);
        self.remove_idle();
        self.idle.push(path);
        file.append(&header.encode(SEGMENT))?;
        self.disk.sync_dir(&self.options.dir)?;
        self.file = Some(file);
        self.continues = false;
        Ok(())
    }

    /// Removes what failed attempts have left, when the next file is there but has taken no room
    /// yet: a start sees by the file behind a segment that this one failed. What cannot be removed
    /// is tried again with the next file.
    fn remove_idle(&mut self) {
        let disk = &self.disk;
        let segments = &self.shared.segments;
        self.idle.retain(|path| {
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
            self.options.skips = false;
            self.idle.clear();
        }
        let bytes: usize = self.unsynced.drain(..).map(|piece| piece.bytes.len()).sum();
        let mut state = self.shared.state.lock();
        state.unsynced = state.unsynced.saturating_sub(bytes);
        // What came during a long sync is the oldest now.
        self.shared.unsynced_seconds.set(state.queued_seconds);
        self.shared.room.notify_all();
        Ok(())
    }

    /// Tells who waits what became of it.
    fn report(&mut self, outcome: io::Result<()>) {
        let last = self.unsynced.back().map(|piece| piece.last_lsn);
        let written = last.or(self.shared.segments.lock().last().map(|s| s.last_lsn));
        let mut state = self.shared.state.lock();
        let failed = outcome.err().map(|e| format!("{}: {e}", self.options.dir.display()));
        if failed.is_none() {
            state.committed = state.committed.max(written.unwrap_or(0));
            self.idle.clear();
        } else {
            // A tick that came meanwhile asks for nothing: the next attempt comes after a pause.
            state.sync_due = false;
        }
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
        let waiters = state.take_waiters(fate.is_some());
        drop(state);
        self.shared.dirt.notify_one();
        for done in waiters {
            done(fate.clone().map_or(Ok(()), |reason| Err(StoreError::Refused(reason))));
        }
    }
}
