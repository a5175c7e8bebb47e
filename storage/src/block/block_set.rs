//! [`BlockSet`]: the blocks of a data directory, local and cold. Opens, lists, adds and removes
//! them.
//!
//! A block is removed in three steps: taken off the list, renamed ([`deleting`]), deleted. A crash
//! in between leaves either a complete block, which the next start lists again, or a renamed
//! directory, which every start ignores and deletes.

use super::cache::PageCache;
use super::cold::{ColdBlock, ColdOptions, ColdStore};
use super::reader::{Block, BlockSeriesHandle};
use super::tombstones::Tombstone;
use super::{BlockMeta, io_error};
use crate::disk::Disk;
use crate::error::StoreError;
use crate::limits::COLD_PREFETCH_BLOCKS;
use crate::metrics::Metrics;
use crate::model::{Matcher, TimeMs};
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The extension of a block directory that is being removed.
const DELETING: &str = "deleting";

/// A block of the set, local or cold.
#[derive(Clone)]
pub enum BlockHandle {
    /// Its files are in the data directory.
    Local(Block),
    /// Its files are in an object store.
    Cold(ColdBlock),
}

impl BlockHandle {
    /// The metadata of the block.
    pub fn meta(&self) -> &BlockMeta {
        match self {
            BlockHandle::Local(block) => block.meta(),
            BlockHandle::Cold(block) => block.meta(),
        }
    }

    /// Opens the block for reading. For a cold block this may fail.
    pub fn open(&self) -> Result<Block, StoreError> {
        match self {
            BlockHandle::Local(block) => Ok(block.clone()),
            BlockHandle::Cold(block) => block.open(),
        }
    }

    /// Whether its files are in an object store.
    pub fn is_cold(&self) -> bool {
        matches!(self, BlockHandle::Cold(_))
    }

    fn cold(&self) -> Option<ColdBlock> {
        match self {
            BlockHandle::Local(_) => None,
            BlockHandle::Cold(block) => Some(block.clone()),
        }
    }

    /// Whether samples of it may be deleted; [`Block::has_deletes`] knows exactly.
    pub fn may_have_deletes(&self) -> bool {
        match self {
            BlockHandle::Local(block) => block.has_deletes(),
            BlockHandle::Cold(block) => block.may_have_deletes(),
        }
    }

    /// The same block without the samples that `tombstones` delete. For a cold block this is
    /// evaluated when it is opened.
    fn with_deletes(&self, tombstones: &[Tombstone]) -> Result<BlockHandle, StoreError> {
        Ok(match self {
            BlockHandle::Local(block) => BlockHandle::Local(block.with_tombstones(tombstones)?),
            BlockHandle::Cold(block) => BlockHandle::Cold(block.with_deletes(tombstones)),
        })
    }
}

/// The blocks of a set.
struct BlockList {
    /// Sorted by time range, then by directory; names are unique.
    blocks: Arc<Vec<BlockHandle>>,
    /// As [`BlockSet::version`].
    version: u64,
}

impl BlockList {
    fn become_these(&mut self, blocks: Vec<BlockHandle>) {
        self.blocks = Arc::new(blocks);
    }
}

/// A set of blocks. Readers work on the blocks that were in the set when they started, and hold no
/// lock while they read.
pub struct BlockSet {
    blocks: RwLock<BlockList>,
    cache: PageCache,
    /// Blocks that are off the list but still read.
    leaving: Mutex<Vec<Block>>,
    cold: RwLock<Option<Arc<ColdStore>>>,
}

impl BlockSet {
    /// Opens all blocks in `blocks_dir`, which is created if missing. Directories of interrupted
    /// writes are ignored, for [`BlockSet::remove_unfinished`], and those of interrupted removals,
    /// for [`BlockSet::finish_removals`]. A damaged block is left out, but stays on disk; the
    /// second result has one line for each. A damaged block that another block replaces is removed.
    pub fn open(disk: Arc<dyn Disk>, blocks_dir: &Path) -> Result<(BlockSet, Vec<String>), StoreError> {
        let bad = io_error(blocks_dir);
        disk.create_dir(blocks_dir).map_err(&bad)?;
        let cache = PageCache::new(disk.clone());
        let mut blocks = Vec::new();
        let mut damage = Vec::new();
        for path in disk.list(blocks_dir).map_err(&bad)? {
            let unfinished = path.extension().is_some_and(|e| e == "tmp");
            if disk.is_dir(&path) && !unfinished && !is_deleting(&path) {
                // One failed read must not leave a block out until the next start.
                let opened = Block::open_with(&path, &cache).or_else(|error| match error {
                    StoreError::Io { .. } => Block::open_with(&path, &cache),
                    damage => Err(damage),
                });
                match opened {
                    Ok(block) => blocks.push(BlockHandle::Local(block)),
                    Err(error) => damage.push((path, format!("block left out: {error}"))),
                }
            }
        }
        let replaced = replaced(blocks.iter().map(BlockHandle::meta));
        damage.retain(|(path, _)| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            // A directory that cannot be removed is tried again at the next start.
            !replaced.contains(name.as_ref()) || remove_dir(disk.as_ref(), path).is_err()
        });
        let mut damage: Vec<String> = damage.into_iter().map(|(_, line)| line).collect();
        damage.sort();
        sort(&mut blocks);
        let list = BlockList { blocks: Arc::new(blocks), version: 0 };
        let leaving = Mutex::default();
        let cold = RwLock::default();
        Ok((BlockSet { blocks: RwLock::new(list), cache, leaving, cold }, damage))
    }

    /// Adds the cold blocks of data directory `data`. A block that is also local is read locally.
    pub fn open_cold(
        &self,
        disk: Arc<dyn Disk>,
        data: &Path,
        options: Option<ColdOptions>,
        metrics: &Metrics,
    ) -> Result<Arc<ColdStore>, StoreError> {
        let (cold, found) = ColdStore::open(disk, data, options, self.cache.clone(), metrics)?;
        *self.cold.write() = Some(cold.clone());
        self.add_cold(found);
        Ok(cold)
    }

    /// Adds cold blocks that were found in the object store.
    pub fn add_cold(&self, mut found: Vec<ColdBlock>) {
        let here: BTreeSet<String> = self.all_metas().iter().map(|meta| meta.name().to_string()).collect();
        // A block that is here and in the object store: the upload was interrupted, or the move is
        // not finished. The local one is complete, and costs no request.
        found.retain(|block| !here.contains(&block.meta().name().to_string()));
        let new = !found.is_empty();
        for block in found.into_iter() {
            self.put(BlockHandle::Cold(block));
        }
        if new {
            self.note_other_samples();
        }
    }

    /// Changes the version, because the samples of the set have changed: see [`BlockSet::version`].
    pub fn note_other_samples(&self) {
        self.blocks.write().version += 1;
    }

    /// Removes what interrupted writes left in `blocks_dir`. Must not run while a block is written.
    pub fn remove_unfinished(disk: &dyn Disk, blocks_dir: &Path) -> Result<(), StoreError> {
        let mut left = disk.list(blocks_dir).map_err(io_error(blocks_dir))?;
        left.retain(|path| path.extension().is_some_and(|e| e == "tmp"));
        left.iter().try_for_each(|path| disk.remove(path).map_err(io_error(path)))
    }

    /// Opens the block in `dir` with the page cache of the set, for [`BlockSet::add`].
    pub fn load(&self, dir: &Path) -> Result<Block, StoreError> {
        Block::open_with(dir, &self.cache)
    }

    /// Adds `block` to the set; replaces a block with the same name.
    pub fn add(&self, block: Block) {
        self.put(BlockHandle::Local(block));
    }

    fn put(&self, block: BlockHandle) {
        let mut list = self.blocks.write();
        let name = block.meta().dir.file_name();
        let others = list.blocks.iter().filter(|b| b.meta().dir.file_name() != name).cloned();
        let mut new: Vec<BlockHandle> = others.collect();
        new.push(block);
        sort(&mut new);
        list.become_these(new);
    }

    /// Applies `tombstones`: new readers do not see the deleted samples. A block of which the
    /// affected series cannot be determined is taken off the list, so that nothing deleted is
    /// visible, and reported with one line. A cold block stays on the list, because it can only be
    /// opened once this is determined.
    pub fn delete(&self, tombstones: &[Tombstone]) -> Vec<String> {
        let mut list = self.blocks.write();
        let about = |b: &BlockHandle| {
            let name = b.meta().name().to_string();
            tombstones.iter().any(|one| one.blocks.contains(&name))
        };
        let mut new = Vec::new();
        let mut damage = Vec::new();
        for block in list.blocks.iter() {
            // Blocks that the deletion does not name were written later, and keep all samples.
            match if about(block) { block.with_deletes(tombstones) } else { Ok(block.clone()) } {
                Ok(block) => new.push(block),
                Err(error) => damage.push(format!("block left out: {error}")),
            }
        }
        list.become_these(new);
        list.version += 1;
        damage
    }

    /// Notes that the cold block `meta` has none of the deleted series.
    pub fn forget_deletes(&self, meta: &BlockMeta) {
        let mut list = self.blocks.write();
        let without = |block: &BlockHandle| match block {
            BlockHandle::Cold(cold) if cold.meta().dir == meta.dir => {
                BlockHandle::Cold(cold.without_deletes())
            }
            block => block.clone(),
        };
        let new = list.blocks.iter().map(without).collect();
        list.become_these(new);
    }

    /// All blocks, in time order.
    pub fn all(&self) -> Arc<Vec<BlockHandle>> {
        self.blocks.read().blocks.clone()
    }

    /// A number that changes whenever the samples of the set change: by an import, a deletion, or
    /// blocks found in an object store. Flushes, merges and moves do not change samples; retention
    /// is not counted.
    pub fn version(&self) -> u64 {
        self.blocks.read().version
    }

    /// Takes the block in `dir` off the list. Readers that have it continue.
    fn unlist(&self, dir: &Path) -> Option<BlockHandle> {
        let mut list = self.blocks.write();
        let (mut gone, stay): (Vec<BlockHandle>, Vec<BlockHandle>) =
            list.blocks.iter().cloned().partition(|b| b.meta().dir == dir);
        list.become_these(stay);
        gone.pop()
    }

    /// Removes the block in `dir` from the set and from the disk or object store. After an error,
    /// either the block is complete and on the list again, or [`BlockSet::finish_removals`] must
    /// finish the removal.
    pub fn remove(&self, disk: &dyn Disk, dir: &Path) -> Result<(), StoreError> {
        let Some(block) = self.unlist(dir) else { return Ok(()) };
        let name = block.meta().name().to_string();
        // Also for a local block: it may have been uploaded, and its record must go first.
        // Otherwise a restart would find it again in the object store.
        let cold = self.cold.read().clone().filter(|cold| cold.is_recorded(&name));
        let forgotten = cold.map_or(Ok(()), |cold| cold.schedule_delete(&name));
        let removed = match &block {
            BlockHandle::Cold(_) => forgotten,
            BlockHandle::Local(here) => forgotten.and_then(|()| self.remove_local(disk, here)),
        };
        // On an error the rename may have happened without becoming durable: then the directory is
        // gone, and the block must not be listed again.
        if removed.is_err() && (block.is_cold() || disk.list(dir).is_ok()) {
            self.put(block);
        }
        removed
    }

    /// Removes the directory of a block that is off the list. If it has readers and there are not
    /// enough file descriptors to keep its files open for them, the directory stays until
    /// [`BlockSet::remove_leaving`].
    fn remove_local(&self, disk: &dyn Disk, block: &Block) -> Result<(), StoreError> {
        if block.pin() {
            return remove_dir(disk, &block.meta().dir);
        }
        self.leaving.lock().push(block.clone());
        Ok(())
    }

    /// Removes directories that were kept for readers that have finished.
    pub fn remove_leaving(&self, disk: &dyn Disk) -> Result<(), StoreError> {
        let mut leaving = self.leaving.lock();
        // `pin` succeeds when the readers have finished, or when there are enough file descriptors
        // now.
        let (stay, go): (Vec<Block>, Vec<Block>) = leaving.drain(..).partition(|block| !block.pin());
        *leaving = stay;
        let mut outcome = Ok(());
        for block in go {
            if let Err(error) = remove_dir(disk, &block.meta().dir) {
                leaving.push(block);
                outcome = Err(error);
            }
        }
        outcome
    }

    /// Names of the blocks whose directories are kept for readers.
    pub fn leaving(&self) -> Vec<String> {
        self.leaving.lock().iter().map(|block| block.meta().name().to_string()).collect()
    }

    /// Reads the block `cold` from the object store from now on, and removes its directory `dir`.
    /// After an error some files remain; a later [`BlockSet::finish_removals`] or move removes
    /// them.
    pub fn switch_to_cold(&self, disk: &dyn Disk, dir: &Path, cold: ColdBlock) -> Result<(), StoreError> {
        let here = self.all().iter().find(|block| block.meta().dir == dir).cloned();
        self.put(BlockHandle::Cold(cold));
        let removed = match &here {
            Some(BlockHandle::Local(block)) => self.remove_local(disk, block),
            _ => remove_dir(disk, dir),
        };
        if let (Err(_), Some(here)) = (&removed, here.filter(|_| disk.list(dir).is_ok())) {
            self.put(here);
        }
        removed
    }

    /// Removes blocks that others replace. Until then both are read; they hold the same samples.
    pub fn remove_replaced(&self, disk: &dyn Disk) -> Result<(), StoreError> {
        let mut gone = self.all_metas();
        let replaced = replaced(gone.iter());
        gone.retain(|meta| replaced.contains(&meta.name().to_string()));
        // A block that cannot be removed does not keep the others from being removed.
        gone.iter().map(|meta| self.remove(disk, &meta.dir)).fold(Ok(()), Result::and)
    }

    /// Opens the blocks in these directories, in the order of the set.
    pub fn in_dirs(&self, dirs: &BTreeSet<PathBuf>) -> Result<Vec<Block>, StoreError> {
        self.all().iter().filter(|block| dirs.contains(&block.meta().dir)).map(BlockHandle::open).collect()
    }

    /// Finishes interrupted removals in `blocks_dir`. Returns the number of directories removed.
    pub fn finish_removals(disk: &dyn Disk, blocks_dir: &Path) -> Result<usize, StoreError> {
        let mut left = disk.list(blocks_dir).map_err(io_error(blocks_dir))?;
        left.retain(|path| is_deleting(path));
        if !left.is_empty() {
            // Sync the renames first: a power loss must not show half a block under its old name.
            disk.sync_dir(blocks_dir).map_err(io_error(blocks_dir))?;
        }
        left.iter().try_for_each(|path| disk.remove(path).map_err(io_error(path)))?;
        Ok(left.len())
    }

    /// The metadata of all blocks, in time order.
    pub fn all_metas(&self) -> Vec<BlockMeta> {
        self.blocks.read().blocks.iter().map(|b| b.meta().clone()).collect()
    }

    /// The metadata of the local blocks, in time order.
    pub fn local_metas(&self) -> Vec<BlockMeta> {
        self.blocks.read().blocks.iter().filter(|b| !b.is_cold()).map(|b| b.meta().clone()).collect()
    }

    /// Whether any block has samples at `from` or later, as far as is known.
    pub fn have_after(&self, from: TimeMs) -> bool {
        self.blocks.read().blocks.iter().any(|block| block.meta().max_time >= from)
    }

    fn within(&self, from: TimeMs, to: TimeMs) -> impl Iterator<Item = Result<Block, StoreError>> {
        let mut blocks = self.all().to_vec();
        blocks.retain(|block| block.meta().overlaps(from, to));
        let length = blocks.len();
        (0..length).map(move |i| {
            // Cold blocks are fetched in groups, side by side, and only as far as the caller reads.
            if i % COLD_PREFETCH_BLOCKS == 0 {
                let next = blocks[i..].iter().take(COLD_PREFETCH_BLOCKS);
                ColdBlock::read_ahead(next.filter_map(BlockHandle::cold))?;
            }
            blocks[i].open()
        })
    }

    /// The series of `shard` that satisfy all matchers and may have samples in `from..=to`, sorted
    /// by labels; the parts of one series in several blocks are sorted by time. If blocks overlap,
    /// samples of the same time are equal, and either may be used.
    pub fn select(
        &self,
        shard: u16,
        matchers: &[Matcher],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<BlockSeriesHandle>, StoreError> {
        let mut all: Vec<BlockSeriesHandle> = Vec::new();
        for block in self.within(from, to) {
            all.extend(block?.select_shard(shard, matchers, from, to)?);
        }
        // The sort is stable, and the blocks come in time order.
        all.sort_by(|a, b| a.labels().cmp(b.labels()));
        Ok(all)
    }

    /// The sorted label names of the blocks that overlap `from..=to`, of the series that satisfy
    /// any of the matcher sets (no set: all series).
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

    /// The sorted values of label `name`, of the same series as [`BlockSet::label_names`].
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
            let block = block?;
            match sets {
                [] => visit(&block, &[], &mut out)?,
                _ => sets.iter().try_for_each(|set| visit(&block, set, &mut out))?,
            }
        }
        Ok(out.into_iter().collect())
    }
}

/// Names of the blocks that `blocks` replace.
pub(super) fn replaced<'a>(blocks: impl Iterator<Item = &'a BlockMeta>) -> BTreeSet<String> {
    blocks.flat_map(|meta| &meta.replaces).cloned().collect()
}

/// Renames and deletes the directory of a block that is on no list.
pub(crate) fn remove_dir(disk: &dyn Disk, dir: &Path) -> Result<(), StoreError> {
    let away = deleting(dir);
    disk.rename(dir, &away).map_err(io_error(dir))?;
    disk.remove(&away).map_err(io_error(&away))
}

/// The name of a block directory while it is removed. `docs/format/open.sql` does not match it.
fn deleting(dir: &Path) -> PathBuf {
    let name = dir.file_name().unwrap_or_default().to_string_lossy().replace('_', "-");
    dir.with_file_name(format!("{name}.{DELETING}"))
}

fn is_deleting(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == DELETING)
}

/// Inserts a text; allocates only if it is new.
fn insert(out: &mut BTreeSet<String>, text: &str) {
    if !out.contains(text) {
        out.insert(text.to_owned());
    }
}

fn sort(blocks: &mut [BlockHandle]) {
    blocks.sort_by(|a, b| {
        let key = |b: &BlockHandle| (b.meta().from, b.meta().to);
        key(a).cmp(&key(b)).then_with(|| a.meta().dir.cmp(&b.meta().dir))
    });
}
