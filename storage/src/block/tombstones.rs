//! Tombstones: deletions of samples in blocks. Blocks never change, so a file next to them says
//! what is deleted (`docs/format/tombstones.md`).
//!
//! A tombstone names the blocks that it affects. So it does not affect blocks written later, for
//! example by a merge that left out the deleted samples, or by a backfill. [`BlockDeletes`] are the
//! deletions of one block.

use super::{BlockMeta, damaged, io_error};
use crate::checksummed_file;
use crate::disk::Disk;
use crate::error::StoreError;
use crate::limits::TOMBSTONES;
use crate::model::{Intervals, Matcher, TimeMs};
use parking_lot::Mutex;
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The name of the file in the data directory.
const FILE: &str = "tombstones";
/// The version that is written and read.
const VERSION: &str = "perennial tombstones 1";

/// A deletion.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tombstone {
    /// It affects the series that satisfy all of these.
    pub matchers: Vec<Matcher>,
    /// First deleted time.
    pub from: TimeMs,
    /// Last deleted time.
    pub to: TimeMs,
    /// Names of the blocks that it affects.
    pub blocks: BTreeSet<String>,
}

/// The tombstones file and its content.
pub struct Tombstones {
    path: PathBuf,
    list: Mutex<Arc<Vec<Tombstone>>>,
}

impl Tombstones {
    /// Reads the file in data directory `data`. A damaged file is an error: deleted samples must
    /// not come back.
    pub fn open(disk: &dyn Disk, data: &Path) -> Result<Tombstones, StoreError> {
        let path = data.join(FILE);
        let text = checksummed_file::read(disk, &path).map_err(|e| match e.kind() {
            std::io::ErrorKind::InvalidData => damaged(&path, e),
            _ => io_error(&path)(e),
        })?;
        let list = text.map_or(Ok(Vec::new()), |text| parse(&path, &text))?;
        Ok(Tombstones { path, list: Mutex::new(Arc::new(list)) })
    }

    /// All tombstones.
    pub fn list(&self) -> Arc<Vec<Tombstone>> {
        self.list.lock().clone()
    }

    /// Adds a tombstone; durable on return.
    pub fn add(&self, disk: &dyn Disk, tombstone: Tombstone) -> Result<(), StoreError> {
        let mut known = self.list.lock();
        let mut list = known.as_ref().clone();
        // Every query looks through them, and the whole file is written for each.
        if list.len() >= TOMBSTONES {
            return Err(StoreError::LimitReached {
                reached: format!("{TOMBSTONES} deletions are waiting to be carried out in blocks"),
                remedy: "POST /api/v1/admin/tsdb/clean_tombstones first",
            });
        }
        // Written before readers see it: if that fails, nothing is deleted, and the caller is told
        // so.
        list.push(tombstone);
        write(disk, &self.path, &list)?;
        *known = Arc::new(list);
        Ok(())
    }

    /// Removes block `name` from all tombstones; durable on return.
    pub fn forget(&self, disk: &dyn Disk, name: &str) -> Result<(), StoreError> {
        self.keep_blocks(disk, |block| block != name)
    }

    /// Removes all blocks from the tombstones for which `stays` is false; durable on return.
    pub fn keep_blocks(&self, disk: &dyn Disk, stays: impl Fn(&str) -> bool) -> Result<(), StoreError> {
        let mut known = self.list.lock();
        let mut list = known.as_ref().clone();
        let count = |list: &[Tombstone]| list.iter().map(|one| one.blocks.len()).sum::<usize>();
        let before = count(&list);
        for one in list.iter_mut() {
            one.blocks.retain(|name| stays(name));
        }
        list.retain(|one| !one.blocks.is_empty());
        // Called after every merge; mostly nothing has changed, and nothing is written.
        if count(&list) < before {
            write(disk, &self.path, &list)?;
            *known = Arc::new(list);
        }
        Ok(())
    }

    /// Writes the tombstones of the blocks `names` into another data directory.
    pub fn copy_to(&self, disk: &dyn Disk, data: &Path, names: &BTreeSet<String>) -> Result<(), StoreError> {
        let mut list = self.list().as_ref().clone();
        for one in list.iter_mut() {
            one.blocks.retain(|name| names.contains(name));
        }
        list.retain(|one| !one.blocks.is_empty());
        if list.is_empty() { Ok(()) } else { write(disk, &data.join(FILE), &list) }
    }
}

fn write(disk: &dyn Disk, path: &Path, list: &[Tombstone]) -> Result<(), StoreError> {
    let mut text = format!("{VERSION}\n");
    for one in list {
        text.push_str(&serde_json::to_string(one).map_err(|e| damaged(path, e))?);
        text.push('\n');
    }
    checksummed_file::write(disk, path, &text).map_err(io_error(path))
}

fn parse(path: &Path, text: &str) -> Result<Vec<Tombstone>, StoreError> {
    let mut lines = text.lines();
    let version = lines.next().unwrap_or_default();
    if version != VERSION {
        return Err(damaged(path, format!("version {version:?} is unknown, {VERSION:?} is known")));
    }
    lines.map(|line| serde_json::from_str(line).map_err(|e| damaged(path, e))).collect()
}

/// The deletions of one block: series, and a range of time for each deletion.
#[derive(Clone, Debug, Default)]
pub(super) struct BlockDeletes(Vec<(RoaringBitmap, TimeMs, TimeMs)>);

impl BlockDeletes {
    /// Adds the deletions of `tombstones` that affect the block; `select` finds its series.
    pub(super) fn with_tombstones(
        &self,
        meta: &BlockMeta,
        tombstones: &[Tombstone],
        select: impl Fn(&[Matcher]) -> Result<RoaringBitmap, StoreError>,
    ) -> Result<BlockDeletes, StoreError> {
        let name = meta.name().to_string();
        let about = tombstones.iter().filter(|one| one.blocks.contains(&name));
        let mut all = self.0.clone();
        for one in about {
            let series = select(&one.matchers)?;
            // A tombstone of other series of the block costs its readers nothing.
            if !series.is_empty() {
                all.push((series, one.from, one.to));
            }
        }
        Ok(BlockDeletes(all))
    }

    /// Whether nothing is deleted.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The deleted times of a series, if there are any.
    pub(super) fn times(&self, series: u32) -> Option<Arc<Intervals>> {
        let mut times = Intervals::default();
        let of_series = self.0.iter().filter(|(ids, ..)| ids.contains(series));
        for (_, from, to) in of_series {
            times.add(*from, *to);
        }
        (!times.is_empty()).then(|| Arc::new(times))
    }
}
