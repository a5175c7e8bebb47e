//! Checkpoints of the write-ahead log: a file with what removed segments said about series and
//! groups, and with the flush watermark (which samples are in blocks).
//!
//! A checkpoint is written under a temporary name, synced and renamed. Only then are the old
//! segments and checkpoints removed.

use super::record::{RecordBuilder, RecordKind};
use super::segment::{CHECKPOINT, Header, checkpoint_number, checkpoint_path};
use crate::codec;
use crate::disk::Disk;
use crate::error::StoreError;
use crate::model::{Labels, TimeMs};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

/// The payload of a series record.
#[derive(Serialize, Deserialize)]
pub struct SeriesRecord {
    /// The shard of the series.
    pub shard: u16,
    /// Its number in the shard.
    pub slot: u32,
    /// All labels, with the name.
    pub labels: Labels,
}

/// A [`SeriesRecord`] with its labels still encoded: most readers only compare them.
#[derive(Deserialize)]
pub struct EncodedSeriesRecord<'a> {
    /// The shard of the series.
    pub shard: u16,
    /// Its number in the shard.
    pub slot: u32,
    /// The labels, encoded.
    pub labels: &'a [u8],
}

/// The payload of a group record.
#[derive(Serialize, Deserialize)]
pub struct GroupRecord {
    /// The id of the group.
    pub group: u32,
    /// The key of the group.
    pub key: String,
}

/// The flush watermark, payload of a flushed record: samples before `end` in records up to `lsn`
/// are in blocks.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlushWatermark {
    /// End of the flushed range, exclusive, ms.
    pub end: TimeMs,
    /// LSN of the last record that the flush saw.
    pub lsn: u64,
}

impl FlushWatermark {
    /// Whether a sample at time `t` in record `lsn` is in blocks.
    pub fn covers(&self, lsn: u64, t: TimeMs) -> bool {
        t < self.end && lsn <= self.lsn
    }
}

/// Adds a series record.
pub fn add_series(batch: &mut RecordBuilder, shard: u16, slot: u32, labels: &Labels) {
    add(batch, RecordKind::Series, &SeriesRecord { shard, slot, labels: labels.clone() });
}

/// Adds a group record.
pub fn add_group(batch: &mut RecordBuilder, group: u32, key: &str) {
    add(batch, RecordKind::Group, &GroupRecord { group, key: key.to_owned() });
}

/// Adds a record whose payload is `value`, encoded by the codec.
pub fn add<T: Serialize>(batch: &mut RecordBuilder, kind: RecordKind, value: &T) {
    match codec::encode(value) {
        Ok(payload) => batch.add(kind, |out| out.extend_from_slice(&payload)),
        // Labels are limited before they come here, so this cannot happen. If it did, the next
        // start would miss the series, and not end.
        Err(error) => tracing::error!(%error, ?kind, "a control record is too large to be logged"),
    }
}

/// A checkpoint that is being written.
pub struct Checkpoint<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    number: u32,
    file: Box<dyn crate::disk::DiskFile>,
    temporary: PathBuf,
    records: u64,
    finished: bool,
}

/// Removes the temporary file of an unfinished checkpoint.
impl Drop for Checkpoint<'_> {
    fn drop(&mut self) {
        if !self.finished {
            // If this fails too, the next checkpoint overwrites the file.
            let _ = self.disk.remove(&self.temporary);
        }
    }
}

impl<'a> Checkpoint<'a> {
    /// Begins checkpoint `number`.
    pub fn begin(disk: &'a dyn Disk, dir: &'a Path, number: u32) -> Result<Checkpoint<'a>, StoreError> {
        let temporary = dir.join("checkpoint.tmp");
        let file = disk.create(&temporary);
        let file = file.map_err(|source| StoreError::Io { path: temporary.clone(), source })?;
        let mut begun = Checkpoint { disk, dir, number, file, temporary, records: 0, finished: false };
        let header = Header { number, continues: false, skips: false, first_lsn: 0 };
        begun.file.append(&header.encode(CHECKPOINT)).map_err(|source| begun.error(source))?;
        Ok(begun)
    }

    /// Appends `records` records.
    pub fn append(&mut self, batch: &mut RecordBuilder, records: u64) -> Result<(), StoreError> {
        if batch.is_empty() {
            return Ok(());
        }
        batch.seal(self.records + 1);
        self.records += records;
        self.file.append(batch.bytes()).map_err(|source| self.error(source))
    }

    /// Makes the checkpoint durable, and then removes older ones.
    pub fn finish(mut self) -> Result<(), StoreError> {
        let mut end = RecordBuilder::default();
        add(&mut end, RecordKind::End, &self.records);
        end.seal(self.records + 1);
        let path = checkpoint_path(self.dir, self.number);
        let durable = self.file.append(end.bytes()).and_then(|()| self.file.sync());
        durable
            .and_then(|()| self.disk.rename(&self.temporary, &path))
            .map_err(|source| self.error(source))?;
        self.finished = true;
        let names = self.disk.list(self.dir).map_err(|source| self.error(source))?;
        for old in names.iter().filter(|path| checkpoint_number(path).is_some_and(|n| n < self.number)) {
            self.disk.remove(old).map_err(|source| self.error(source))?;
        }
        Ok(())
    }

    fn error(&self, source: io::Error) -> StoreError {
        StoreError::Io { path: self.temporary.clone(), source }
    }
}
