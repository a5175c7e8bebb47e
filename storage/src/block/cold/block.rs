//! [`ColdBlock`]: a block whose files are in an object store. Its metadata is in memory; its index
//! is fetched when it is first read. [`super::files`] reads its files.

use super::ColdStore;
use crate::block::tombstones::Tombstone;
use crate::block::{Block, BlockMeta};
use crate::error::StoreError;
use crate::limits::COLD_OPEN_SERIES;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

type OpenBlockCell = Mutex<Option<Block>>;

/// A cold block; cheap to clone.
#[derive(Clone)]
pub struct ColdBlock {
    meta: Arc<BlockMeta>,
    cold: Arc<ColdStore>,
    /// The tombstones that affect it.
    tombstones: Arc<Vec<Tombstone>>,
    opened: Arc<OpenBlockCell>,
}

impl ColdBlock {
    pub(super) fn new(meta: BlockMeta, cold: Arc<ColdStore>) -> ColdBlock {
        ColdBlock { meta: Arc::new(meta), cold, tombstones: Arc::default(), opened: Arc::default() }
    }

    /// The metadata of the block.
    pub fn meta(&self) -> &BlockMeta {
        &self.meta
    }

    /// Opens the block for reading. Errors name the block.
    pub fn open(&self) -> Result<Block, StoreError> {
        let mut opened = self.opened.lock();
        if let Some(block) = opened.as_ref() {
            return Ok(block.clone());
        }
        self.cold.prefetch_footers(std::slice::from_ref(self))?;
        let block = self.cold.read(&self.meta)?.with_tombstones(&self.tombstones)?;
        *opened = Some(block.clone());
        drop(opened);
        self.cold.opened.add(self.meta.series, &self.opened);
        Ok(block)
    }

    /// Fetches what is needed to open these blocks, side by side.
    pub fn read_ahead(blocks: impl Iterator<Item = ColdBlock>) -> Result<(), StoreError> {
        // A locked block is being opened by another thread.
        let closed = |block: &ColdBlock| block.opened.try_lock().is_some_and(|opened| opened.is_none());
        let closed: Vec<ColdBlock> = blocks.filter(closed).collect();
        closed.first().map_or(Ok(()), |first| first.cold.prefetch_footers(&closed))
    }

    /// The same block without the samples that `tombstones` delete.
    pub fn with_deletes(&self, tombstones: &[Tombstone]) -> ColdBlock {
        let name = self.meta.name().to_string();
        let mut all = self.tombstones.as_ref().clone();
        all.extend(tombstones.iter().filter(|one| one.blocks.contains(&name)).cloned());
        ColdBlock { tombstones: Arc::new(all), opened: Arc::default(), ..self.clone() }
    }

    /// The same block without tombstones: it was opened, and has none of the deleted series.
    pub fn without_deletes(&self) -> ColdBlock {
        ColdBlock { tombstones: Arc::default(), ..self.clone() }
    }

    /// Whether samples of it may be deleted; [`Block::has_deletes`] knows exactly.
    pub fn may_have_deletes(&self) -> bool {
        !self.tombstones.is_empty()
    }
}

/// The cold blocks that are open, with their index in memory. If they are too many, the one opened
/// first is closed.
#[derive(Default)]
pub(super) struct OpenColdBlocks(Mutex<VecDeque<(u64, Weak<OpenBlockCell>)>>);

impl OpenColdBlocks {
    fn add(&self, series: u64, slot: &Arc<OpenBlockCell>) {
        let mut all = self.0.lock();
        all.retain(|(_, slot)| slot.strong_count() > 0);
        all.push_back((series, Arc::downgrade(slot)));
        let mut sum: u64 = all.iter().map(|(series, _)| series).sum();
        while sum > COLD_OPEN_SERIES && all.len() > 1 {
            let Some((series, slot)) = all.pop_front() else { return };
            sum -= series;
            // A block that is locked is being opened again: it stays open, and nothing waits for
            // it.
            if let Some(slot) = slot.upgrade()
                && let Some(mut slot) = slot.try_lock()
            {
                *slot = None;
            }
        }
    }
}
