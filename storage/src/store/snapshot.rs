//! Snapshots: a copy of the store at one moment, as a data directory of its own.
//!
//! Blocks never change, so the snapshot has hard links to their files. The head is written as
//! blocks. Only flushes and merges wait meanwhile. The directory gets its final name when it is
//! complete and durable; before that its name ends in `.tmp`.

use super::admin::Admin;
use super::blocks::write_series;
use super::flush::snapshot;
use crate::block::{BlockSpec, reserved_names_in};
use crate::error::StoreError;
use crate::model::{SHARDS, TimeMs};
use std::path::Path;

impl Admin<'_> {
    /// Makes the snapshot `dir`, with the samples of the head if `with_head`.
    pub fn snapshot(&self, dir: &Path, with_head: bool) -> Result<(), StoreError> {
        self.store.replay.refuse_while_running()?;
        let _locks = self.store.locks.for_all_blocks();
        let disk = self.store.disk.as_ref();
        let parent = dir.parent().unwrap_or(Path::new("."));
        disk.create_dir(parent).map_err(io_error(parent))?;
        // Remove what an interrupted snapshot left behind.
        for left in disk.list(parent).map_err(io_error(parent))? {
            if left.extension().is_some_and(|e| e == "tmp") {
                disk.remove(&left).map_err(io_error(&left))?;
            }
        }
        let temporary = dir.with_extension("tmp");
        let made = self.snapshot_into(&temporary, with_head);
        if made.is_err() {
            // If this fails too, the next snapshot removes the directory.
            let _ = disk.remove(&temporary);
        }
        made?;
        disk.rename(&temporary, dir).map_err(io_error(dir))
    }

    fn snapshot_into(&self, dir: &Path, with_head: bool) -> Result<(), StoreError> {
        let disk = self.store.disk.as_ref();
        let blocks = dir.join("blocks");
        disk.create_dir(&blocks).map_err(io_error(&blocks))?;
        if let Some(history) = &self.store.history {
            history.snapshot_into(dir)?;
        }
        if with_head {
            let mut entries = Vec::new();
            let mut snapshots = Vec::new();
            for shard in 0..SHARDS {
                let locked = self.store.shards.get(shard).read();
                snapshots.push(snapshot(&locked, shard, TimeMs::MIN, TimeMs::MAX, &mut entries));
            }
            // A block of the head may have the content, and so the name, of one that was linked: a
            // range that was flushed and is still in the head.
            let reserved = reserved_names_in(disk, dir)?;
            entries.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
            self.store.write_ranges(TimeMs::MAX, &entries, &snapshots, &mut |from, to, series| {
                let origin = BlockSpec { from, to, replaces: Vec::new(), reserved: &reserved };
                write_series(disk, &blocks, origin, series).map(|_| ())
            })?;
        }
        disk.sync_dir(&blocks).and_then(|()| disk.sync_dir(dir)).map_err(io_error(dir))
    }
}

fn io_error(path: &Path) -> impl Fn(std::io::Error) -> StoreError + '_ {
    |source| StoreError::Io { path: path.to_owned(), source }
}
