//! The write-ahead log as part of a store: what the head of a shard has stored goes into records,
//! and segments (files of the log) whose samples are in blocks are removed. [`crate::wal`] is the
//! log itself.
//!
//! Everything here that encodes records is called under the lock of the shard, after the samples
//! are in its head: so head and log never differ, and records of one shard keep their order.

use super::shards::{Shards, StoreShard};
use crate::disk::Disk;
use crate::error::StoreError;
use crate::head::{SlotHistogram, SlotStart};
use crate::limits::{WAL_HELD_BYTES, WAL_SAMPLES};
use crate::metrics::{Counter, Metrics};
use crate::model::{SHARDS, TimeMs};
use crate::wal::{
    Checkpoint, FlushWatermark, Log, RecordBuilder, RecordKind, add, add_histograms, put_samples, put_starts,
};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::channel;
use std::time::Duration;

/// The log of a store.
pub struct StoreWal {
    pub(super) log: Log,
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    /// What is in blocks but not yet removed from the log; `None`: nothing.
    in_blocks: Mutex<Option<FlushWatermark>>,
    holds: Arc<Mutex<HeldRecords>>,
    /// The last record that was in the log when it was opened.
    opened_at: u64,
    /// Segments whose samples are all older are kept for no reader.
    held_since: AtomicI64,
    metrics: LogMetrics,
}

/// How often something was done, and how often it failed.
struct Attempts {
    total: Arc<Counter>,
    failed: Arc<Counter>,
}

impl Attempts {
    /// Counts an attempt; returns its outcome.
    fn count<T>(&self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        self.total.inc();
        self.failed.add(u64::from(outcome.is_err()));
        outcome
    }
}

/// The metrics of what keeps the log short; the names are those of Prometheus.
struct LogMetrics {
    checkpoints: Attempts,
    truncations: Attempts,
}

impl LogMetrics {
    fn new(metrics: &Metrics) -> LogMetrics {
        let counter = |name, help| metrics.counter(name, help, &[]);
        LogMetrics {
            checkpoints: Attempts {
                total: counter(
                    "prometheus_tsdb_checkpoint_creations_total",
                    "Checkpoints of the log that were begun.",
                ),
                failed: counter(
                    "prometheus_tsdb_checkpoint_creations_failed_total",
                    "Checkpoints of the log that failed.",
                ),
            },
            truncations: Attempts {
                total: counter(
                    "prometheus_tsdb_wal_truncations_total",
                    "Removals of segments of the log whose samples are in blocks.",
                ),
                failed: counter(
                    "prometheus_tsdb_wal_truncations_failed_total",
                    "Removals of segments of the log that failed.",
                ),
            },
        }
    }
}

/// The first records that readers of the log still need, by the number of the reader.
#[derive(Default)]
struct HeldRecords {
    next_reader: u64,
    from: BTreeMap<u64, u64>,
}

/// Keeps the records of the log from one on, until it is dropped. [`WAL_HELD_BYTES`] of them are
/// kept at most, the latest.
pub struct LogHold {
    reader: u64,
    holds: Arc<Mutex<HeldRecords>>,
}

impl LogHold {
    /// Keeps the records from `lsn` on, and no earlier ones.
    pub fn keep_from(&self, lsn: u64) {
        self.holds.lock().from.insert(self.reader, lsn);
    }
}

impl Drop for LogHold {
    fn drop(&mut self) {
        self.holds.lock().from.remove(&self.reader);
    }
}

impl StoreWal {
    pub(super) fn new(log: Log, dir: PathBuf, disk: Arc<dyn Disk>, metrics: &Metrics) -> StoreWal {
        let metrics = LogMetrics::new(metrics);
        let opened_at = log.last_lsn();
        let held_since = AtomicI64::new(TimeMs::MIN);
        StoreWal {
            log,
            dir,
            disk,
            in_blocks: Mutex::default(),
            holds: Arc::default(),
            opened_at,
            held_since,
            metrics,
        }
    }

    /// Keeps the records from `lsn` on, although their samples are in blocks, for a reader of the
    /// log ([`super::LogTail`]).
    pub fn hold(&self, lsn: u64) -> LogHold {
        let mut held = self.holds.lock();
        let reader = held.next_reader;
        held.next_reader += 1;
        held.from.insert(reader, lsn);
        LogHold { reader, holds: self.holds.clone() }
    }

    /// From now on samples before `t` are kept for no reader ([`StoreWal::hold`]): the next
    /// truncation removes the segments that have no others.
    pub fn hold_since(&self, t: TimeMs) {
        self.held_since.store(t, Relaxed);
    }

    /// The LSN of the last record that was in the log when the store was opened. A power loss may
    /// have taken later ones, whose numbers are given again: a reader that remembers a later
    /// position goes on after this one.
    pub fn opened_at(&self) -> u64 {
        self.opened_at
    }

    /// The first record that a reader still needs, within what may be kept. `None`: no reader needs
    /// any.
    fn held_from(&self) -> Option<u64> {
        let mut wanted = self.holds.lock().from.values().copied().min()?;
        let since = self.held_since.load(Relaxed);
        let segments = self.log.segments();
        let mut bytes = 0;
        for segment in segments.iter().take_while(|segment| segment.newest.is_some_and(|t| t < since)) {
            wanted = wanted.max(segment.last_lsn + 1);
        }
        for segment in segments.iter().rev() {
            // A file whose size cannot be found out is counted as nothing: it is kept.
            bytes += self.disk.size(&segment.path).unwrap_or(0);
            if bytes > WAL_HELD_BYTES {
                return Some(wanted.max(segment.last_lsn + 1));
            }
        }
        Some(wanted)
    }

    /// Calls `done` when everything up to `lsn` would survive a `kill -9`, or with an error if it
    /// never will. The call comes from the thread of the log, or at once.
    pub fn on_committed(&self, lsn: u64, done: Box<dyn FnOnce(Result<(), StoreError>) + Send>) {
        self.log.on_committed(lsn, done);
    }

    /// Waits, at most `patience`, until everything that readers can have seen so far would survive
    /// a `kill -9`.
    pub fn wait_durable(&self, patience: Duration) {
        let (sender, receiver) = channel::<()>();
        self.on_committed(self.last_lsn(), Box::new(move |_| drop(sender)));
        // No message is ever sent: the receiver returns when the sender is dropped with the
        // callback.
        let _ = receiver.recv_timeout(patience);
    }

    /// The LSN of the last append: everything that a reader can have seen is at or before it.
    pub fn last_lsn(&self) -> u64 {
        self.log.last_lsn()
    }

    /// Writes the queued records of a log without threads, and syncs it if `sync`.
    pub fn write_queued(&self, sync: bool) {
        self.log.write_queued(sync);
    }

    /// Checks whether appends reach the log: it accepts records, and its current segment file
    /// exists.
    pub fn check(&self) -> Result<(), StoreError> {
        if let Some(reason) = self.log.failure() {
            return Err(StoreError::log_unwritable(&reason));
        }
        match self.log.segments().last() {
            Some(segment) => {
                let path = segment.path.clone();
                self.disk.size(&path).map(drop).map_err(|source| StoreError::Io { path, source })
            }
            // Before the first record there is no segment; the directory must be there.
            None => self.disk.list(&self.dir).map(drop).map_err(|source| self.io_error(source)),
        }
    }

    fn io_error(&self, source: std::io::Error) -> StoreError {
        StoreError::Io { path: self.dir.clone(), source }
    }

    /// Bytes of the log: segments and checkpoints.
    pub(super) fn bytes(&self) -> Result<u64, StoreError> {
        let files = self.disk.list(&self.dir);
        let sizes = files.and_then(|files| files.iter().map(|file| self.disk.size(file)).sum());
        sizes.map_err(|source| self.io_error(source))
    }

    /// Logs a scrape that is in the head already.
    pub(super) fn log_row(
        &self,
        shard: &mut StoreShard,
        shard_at: u16,
        group: u32,
        t: TimeMs,
        row: Arc<[f64]>,
    ) -> u64 {
        let StoreShard { head, batch, .. } = shard;
        loop {
            let epoch = self.log.segment_epoch();
            batch.clear();
            head.series.encode_unlogged(shard_at, batch);
            head.groups.encode_row(shard_at, group, t, &row, epoch, batch);
            // Fails only if a new segment began since the epoch was read: then the record is
            // encoded again, because the first scrape of a segment must be a keyframe.
            if let Ok(lsn) = self.log.push(batch, epoch, Some(t)) {
                head.series.mark_logged();
                head.groups.row_logged(group, epoch, row, lsn);
                batch.clear();
                return lsn;
            }
        }
    }

    /// Logs single samples that are in the head already.
    pub(super) fn log_samples(
        &self,
        shard: &mut StoreShard,
        shard_at: u16,
        samples: &[(u32, TimeMs, f64)],
    ) -> u64 {
        self.log_records(shard, shard_at, samples.iter().map(|s| s.1).max(), |batch| {
            for some in samples.chunks(WAL_SAMPLES) {
                batch.add(RecordKind::Samples, |out| put_samples(out, shard_at, some));
            }
        })
    }

    /// Logs histograms that are in the head already.
    pub(super) fn log_histograms(
        &self,
        shard: &mut StoreShard,
        shard_at: u16,
        samples: &[SlotHistogram],
    ) -> u64 {
        self.log_records(shard, shard_at, samples.iter().map(|s| s.1).max(), |batch| {
            add_histograms(batch, shard_at, samples);
        })
    }

    /// Logs start timestamps that are in the head already.
    pub(super) fn log_starts(&self, shard: &mut StoreShard, shard_at: u16, starts: &[SlotStart]) -> u64 {
        self.log_records(shard, shard_at, starts.iter().map(|s| s.1).max(), |batch| {
            for some in starts.chunks(WAL_SAMPLES) {
                batch.add(RecordKind::Starts, |out| put_starts(out, shard_at, some));
            }
        })
    }

    /// Logs corrections that are in the head already; each histogram has its float *absent* before
    /// it.
    pub(super) fn log_corrections(
        &self,
        shard: &mut StoreShard,
        shard_at: u16,
        floats: &[(u32, TimeMs, f64)],
        histograms: &[SlotHistogram],
    ) -> u64 {
        self.log_records(shard, shard_at, floats.iter().map(|s| s.1).max(), |batch| {
            for some in floats.chunks(WAL_SAMPLES) {
                batch.add(RecordKind::Corrections, |out| put_samples(out, shard_at, some));
            }
            if !histograms.is_empty() {
                add_histograms(batch, shard_at, histograms);
            }
        })
    }

    /// Logs deleted times: slot, first and last.
    pub(super) fn log_deletes(
        &self,
        shard: &mut StoreShard,
        shard_at: u16,
        deleted: &[(u32, TimeMs, TimeMs)],
    ) -> u64 {
        self.log_records(shard, shard_at, deleted.iter().map(|one| one.2).max(), |batch| {
            for some in deleted.chunks(WAL_SAMPLES) {
                batch.add(RecordKind::Deletes, |out| put_starts(out, shard_at, some));
            }
        })
    }

    /// Logs the records that `add` encodes; `newest` is the time of their newest sample. Returns
    /// the LSN of the last one; if there is nothing to log, that of the newest record.
    fn log_records(
        &self,
        shard: &mut StoreShard,
        shard_at: u16,
        newest: Option<TimeMs>,
        add: impl FnOnce(&mut RecordBuilder),
    ) -> u64 {
        if newest.is_none() {
            // All samples were stored before, so they are durable when the log up to now is.
            return self.log.last_lsn();
        }
        let StoreShard { head, batch, .. } = shard;
        batch.clear();
        head.series.encode_unlogged(shard_at, batch);
        add(batch);
        loop {
            // These records do not depend on others of their segment, so they are not encoded again
            // for a new one.
            if let Ok(lsn) = self.log.push(batch, self.log.segment_epoch(), newest) {
                head.series.mark_logged();
                batch.clear();
                return lsn;
            }
        }
    }

    /// Logs the series that were created and have no samples yet.
    pub(super) fn log_new_series(&self, shards: &Shards) -> Result<(), StoreError> {
        for (shard_at, shard) in (0..).zip(shards.iter()) {
            // With a read lock, so that readers and writers of other series do not wait for
            // nothing.
            if !shard.read().head.series.has_unlogged() {
                continue;
            }
            self.log.wait_for_space()?;
            let mut shard = shard.write();
            let StoreShard { head, batch, .. } = &mut *shard;
            batch.clear();
            head.series.encode_unlogged(shard_at, batch);
            while self.log.push(batch, self.log.segment_epoch(), None).is_err() {}
            head.series.mark_logged();
            batch.clear();
        }
        Ok(())
    }

    /// Notes what is in blocks: [`StoreWal::truncate`] removes it.
    pub(super) fn set_flushed(&self, flushed: FlushWatermark) {
        *self.in_blocks.lock() = Some(flushed);
    }

    /// Removes from the log what is in blocks, if anything is. If this fails, for example on a full
    /// disk, the next flush tries again, even if it has nothing else to do: the log may be what
    /// fills the disk.
    pub(super) fn truncate(&self, shards: &Shards) -> Result<(), StoreError> {
        let Some(flushed) = *self.in_blocks.lock() else { return Ok(()) };
        self.metrics.checkpoints.count(self.checkpoint(flushed, shards))?;
        self.metrics.truncations.count(self.remove_segments(flushed))?;
        *self.in_blocks.lock() = None;
        Ok(())
    }

    /// Removes the segments before a checkpoint.
    fn remove_segments(&self, flushed: FlushWatermark) -> Result<(), StoreError> {
        let held_from = self.held_from();
        for path in self.log.obsolete_segments(flushed.lsn, flushed.end, held_from) {
            // Oldest first, synced one by one: if a power loss brought an older segment back
            // without its successors, the gap would look like damage.
            let removed = self.disk.remove(&path).inspect(|()| self.log.segment_removed(&path));
            let durable = removed.and_then(|()| self.disk.sync_dir(&self.dir));
            durable.map_err(|source| StoreError::Io { path, source })?;
        }
        Ok(())
    }

    fn checkpoint(&self, flushed: FlushWatermark, shards: &Shards) -> Result<(), StoreError> {
        let number = self.log.segments().last().map_or(1, |s| s.number);
        let mut checkpoint = Checkpoint::begin(self.disk.as_ref(), &self.dir, number)?;
        let mut batch = RecordBuilder::default();
        let held_from = self.held_from();
        for shard in 0..SHARDS {
            batch.clear();
            let records = shards.get(shard).read().head.encode_checkpoint(shard, held_from, &mut batch);
            checkpoint.append(&mut batch, records)?;
        }
        batch.clear();
        add(&mut batch, RecordKind::Flushed, &flushed);
        checkpoint.append(&mut batch, 1)?;
        checkpoint.finish()
    }
}
