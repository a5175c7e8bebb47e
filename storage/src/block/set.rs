//! The blocks of a data directory: opened, listed, added, removed.
//!
//! A block goes in three steps: off the list, renamed ([`deleting`]), removed. A kill between them leaves a whole
//! block, which the next start lists again, or a directory that every start leaves out and sweeps away.

use super::cache::PageCache;
use super::reader::{Block, BlockSeriesHandle};
use super::tombstones::Tombstone;
use super::{BlockMeta, io_error};
use crate::disk::Disk;
use crate::model::{Matcher, TimeMs};
use crate::store::StoreError;
use parking_lot::RwLock;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How the directory of a block ends that is being removed.
const DELETING: &str = "deleting";

/// A set of blocks. Readers work on the blocks that were there when they asked; no lock is held while they read.
pub struct Blocks {
    /// Sorted by time range, then by directory.
    blocks: RwLock<Arc<Vec<Block>>>,
    cache: PageCache,
}

impl Blocks {
    /// Opens all blocks in `blocks_dir` (made if missing). What an interrupted writer left is left out, for
    /// [`Blocks::remove_unfinished`], and what is being removed, for [`Blocks::sweep`]. A damaged block is left out, left on disk, and named in the second
    /// result: one line each.
    pub fn open(blocks_dir: &Path) -> Result<(Blocks, Vec<String>), StoreError> {
        let bad = io_error(blocks_dir);
        std::fs::create_dir_all(blocks_dir).map_err(&bad)?;
        let (cache, mut blocks, mut damage) = (PageCache::default(), Vec::new(), Vec::new());
        for entry in std::fs::read_dir(blocks_dir).map_err(&bad)? {
            let path = entry.map_err(&bad)?.path();
            let unfinished = path.extension().is_some_and(|e| e == "tmp");
            if path.is_dir() && !unfinished && !is_deleting(&path) {
                match Block::open_with(&path, &cache) {
                    Ok(block) => blocks.push(block),
                    Err(error) => damage.push(format!("block left out: {error}")),
                }
            }
        }
        damage.sort();
        sort(&mut blocks);
        Ok((Blocks { blocks: RwLock::new(Arc::new(blocks)), cache }, damage))
    }

    /// Removes what an interrupted writer left in `blocks_dir`. Not while one writes.
    pub fn remove_unfinished(disk: &dyn Disk, blocks_dir: &Path) -> Result<(), StoreError> {
        let mut left = disk.list(blocks_dir).map_err(io_error(blocks_dir))?;
        left.retain(|path| path.extension().is_some_and(|e| e == "tmp"));
        left.iter().try_for_each(|path| disk.remove(path).map_err(io_error(path)))
    }

    /// Opens the block in `dir` for [`Blocks::add`], with the set's page cache.
    pub fn load(&self, dir: &Path) -> Result<Block, StoreError> {
        Block::open_with(dir, &self.cache)
    }

    /// From now on `block` is a part of the set.
    pub fn add(&self, block: Block) {
        let mut blocks = self.blocks.write();
        let mut new: Vec<Block> =
            blocks.iter().filter(|b| b.meta().dir != block.meta().dir).cloned().collect();
        new.push(block);
        sort(&mut new);
        *blocks = Arc::new(new);
    }

    /// From now on new readers do not see what these say that is deleted. Of a block that cannot say which of its series
    /// these are nothing is seen any more: it is off the list, and named, one line each.
    pub fn delete(&self, tombstones: &[Tombstone]) -> Vec<String> {
        let mut blocks = self.blocks.write();
        let about = |b: &Block| {
            let name = b.meta().name().to_string();
            tombstones.iter().any(|one| one.blocks.contains(&name))
        };
        let (mut new, mut damage) = (Vec::new(), Vec::new());
        for block in blocks.iter() {
            match if about(block) { block.with_deletes(tombstones) } else { Ok(block.clone()) } {
                Ok(block) => new.push(block),
                Err(error) => damage.push(format!("block left out: {error}")),
            }
        }
        *blocks = Arc::new(new);
        damage
    }

    /// All blocks, in time order.
    pub fn all(&self) -> Arc<Vec<Block>> {
        self.blocks.read().clone()
    }

    /// Takes the block in directory `dir` off the list; readers that have it open go on reading.
    fn take(&self, dir: &Path) -> Option<Block> {
        let mut blocks = self.blocks.write();
        let (mut gone, stay): (Vec<Block>, Vec<Block>) =
            blocks.iter().cloned().partition(|b| b.meta().dir == dir);
        *blocks = Arc::new(stay);
        gone.pop()
    }

    /// Removes the block in directory `dir` from the set and from the disk. On an error it is whole and on the list
    /// again, or [`Blocks::sweep`] has to finish.
    pub fn remove(&self, disk: &dyn Disk, dir: &Path) -> Result<(), StoreError> {
        let Some(block) = self.take(dir) else { return Ok(()) };
        let away = deleting(dir);
        if let Err(error) = disk.rename(dir, &away) {
            // It may have been renamed all the same, and only not have become durable.
            if disk.list(dir).is_ok() {
                self.add(block);
            }
            return Err(io_error(dir)(error));
        }
        disk.remove(&away).map_err(io_error(&away))
    }

    /// Removes the blocks that others say they replace. Until then both are read, and hold the same.
    pub fn remove_replaced(&self, disk: &dyn Disk) -> Result<(), StoreError> {
        let metas = self.metas();
        let replaced: BTreeSet<&str> = metas.iter().flat_map(|m| &m.replaces).map(String::as_str).collect();
        let gone = metas.iter().filter(|meta| replaced.contains(meta.name().to_string().as_str()));
        // One that cannot be removed does not keep the others.
        gone.map(|meta| self.remove(disk, &meta.dir)).fold(Ok(()), Result::and)
    }

    /// The blocks in these directories, in the set's order.
    pub fn in_dirs(&self, dirs: &BTreeSet<PathBuf>) -> Vec<Block> {
        self.blocks.read().iter().filter(|block| dirs.contains(&block.meta().dir)).cloned().collect()
    }

    /// Removes what an interrupted [`Blocks::remove`] left in `blocks_dir`; how many directories.
    pub fn sweep(disk: &dyn Disk, blocks_dir: &Path) -> Result<usize, StoreError> {
        let mut left = disk.list(blocks_dir).map_err(io_error(blocks_dir))?;
        left.retain(|path| is_deleting(path));
        if !left.is_empty() {
            // The new names first: no power loss may show half a block under its old one.
            disk.sync_dir(blocks_dir).map_err(io_error(blocks_dir))?;
        }
        left.iter().try_for_each(|path| disk.remove(path).map_err(io_error(path)))?;
        Ok(left.len())
    }

    /// What the blocks hold, in time order.
    pub fn metas(&self) -> Vec<BlockMeta> {
        self.blocks.read().iter().map(|b| b.meta().clone()).collect()
    }

    fn within(&self, from: TimeMs, to: TimeMs) -> impl Iterator<Item = Block> {
        let blocks = self.blocks.read().clone();
        (0..blocks.len()).map(move |i| blocks[i].clone()).filter(move |b| b.meta().overlaps(from, to))
    }

    /// The series of `shard` that satisfy all matchers and may have samples in `from..=to`: sorted by labels and,
    /// as one label set may be in several blocks, by time. Blocks may overlap: of samples with one time, those
    /// of any block will do.
    pub fn select(
        &self,
        shard: u16,
        matchers: &[Matcher],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<BlockSeriesHandle>, StoreError> {
        let mut all: Vec<BlockSeriesHandle> = Vec::new();
        for block in self.within(from, to) {
            all.extend(block.select_shard(shard, matchers, from, to)?);
        }
        // Stable: blocks come in time order.
        all.sort_by(|a, b| a.labels().cmp(b.labels()));
        Ok(all)
    }

    /// Sorted label names of the blocks that overlap `from..=to`, of series that satisfy any of the matcher sets (none: all).
    pub fn label_names(
        &self,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<String>, StoreError> {
        self.collect(sets, from, to, |block, set, out| {
            block.series().each_name(set, |name| insert(out, name))
        })
    }

    /// Sorted values of label `name`, as [`Blocks::label_names`].
    pub fn label_values(
        &self,
        name: &str,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<String>, StoreError> {
        self.collect(sets, from, to, |block, set, out| {
            block.series().each_value(name, set, |value| insert(out, value))
        })
    }

    fn collect(
        &self,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
        visit: impl Fn(&Block, &[Matcher], &mut BTreeSet<String>) -> Result<(), StoreError>,
    ) -> Result<Vec<String>, StoreError> {
        let mut out = BTreeSet::new();
        for block in self.within(from, to) {
            match sets {
                [] => visit(&block, &[], &mut out)?,
                _ => sets.iter().try_for_each(|set| visit(&block, set, &mut out))?,
            }
        }
        Ok(out.into_iter().collect())
    }
}

/// What the directory of a block is called while it is removed; not a name that `docs/format/open.sql` looks for.
fn deleting(dir: &Path) -> PathBuf {
    let name = dir.file_name().unwrap_or_default().to_string_lossy().replace('_', "-");
    dir.with_file_name(format!("{name}.{DELETING}"))
}

fn is_deleting(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == DELETING)
}

/// Allocates for new texts only.
fn insert(out: &mut BTreeSet<String>, text: &str) {
    if !out.contains(text) {
        out.insert(text.to_owned());
    }
}

fn sort(blocks: &mut [Block]) {
    blocks.sort_by(|a, b| {
        let key = |b: &Block| (b.meta().from, b.meta().to);
        key(a).cmp(&key(b)).then_with(|| a.meta().dir.cmp(&b.meta().dir))
    });
}
