//! A block in an object store: what it holds is known, its index is fetched when somebody asks.

use super::ColdStore;
use crate::block::tombstones::Tombstone;
use crate::block::{Block, BlockMeta};
use crate::limits::FAR_OPEN_SERIES;
use crate::store::StoreError;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

type OpenBlockCell = Mutex<Option<Block>>;

/// A far block; cheap to clone.
#[derive(Clone)]
pub struct ColdBlock {
    meta: Arc<BlockMeta>,
    far: Arc<ColdStore>,
    /// What is deleted of it.
    tombstones: Arc<Vec<Tombstone>>,
    opened: Arc<OpenBlockCell>,
}

impl ColdBlock {
    pub(super) fn new(meta: BlockMeta, far: Arc<ColdStore>) -> ColdBlock {
        ColdBlock { meta: Arc::new(meta), far, tombstones: Arc::default(), opened: Arc::default() }
    }

    /// What it holds.
    pub fn meta(&self) -> &BlockMeta {
        &self.meta
    }

    /// The block, for reading. An error names it.
    pub fn open(&self) -> Result<Block, StoreError> {
        let mut opened = self.opened.lock();
        if let Some(block) = opened.as_ref() {
            return Ok(block.clone());
        }
        self.far.prefetch_footers(std::slice::from_ref(self))?;
        let block = self.far.read(&self.meta)?.with_tombstones(&self.tombstones)?;
        *opened = Some(block.clone());
        drop(opened);
        self.far.opened.add(self.meta.series, &self.opened);
        Ok(block)
    }

    /// Fetches what is missing to open these, side by side.
    pub fn read_ahead(blocks: impl Iterator<Item = ColdBlock>) -> Result<(), StoreError> {
        // One that is locked is being opened by another.
        let closed = |block: &ColdBlock| block.opened.try_lock().is_some_and(|opened| opened.is_none());
        let closed: Vec<ColdBlock> = blocks.filter(closed).collect();
        closed.first().map_or(Ok(()), |first| first.far.prefetch_footers(&closed))
    }

    /// The same block, without what these say that is deleted of it.
    pub fn with_deletes(&self, tombstones: &[Tombstone]) -> ColdBlock {
        let name = self.meta.name().to_string();
        let mut all = self.tombstones.as_ref().clone();
        all.extend(tombstones.iter().filter(|one| one.blocks.contains(&name)).cloned());
        ColdBlock { tombstones: Arc::new(all), opened: Arc::default(), ..self.clone() }
    }

    /// The same block, of which nothing is deleted: it was opened, and had no such series.
    pub fn without_deletes(&self) -> ColdBlock {
        ColdBlock { tombstones: Arc::default(), ..self.clone() }
    }

    /// Whether something may be deleted of it: [`Block::has_deletes`] knows.
    pub fn may_have_deletes(&self) -> bool {
        !self.tombstones.is_empty()
    }
}

/// The far blocks whose index is in memory: the one that was opened first goes first.
#[derive(Default)]
pub(super) struct OpenColdBlocks(Mutex<VecDeque<(u64, Weak<OpenBlockCell>)>>);

impl OpenColdBlocks {
    fn add(&self, series: u64, slot: &Arc<OpenBlockCell>) {
        let mut all = self.0.lock();
        all.retain(|(_, slot)| slot.strong_count() > 0);
        all.push_back((series, Arc::downgrade(slot)));
        let mut sum: u64 = all.iter().map(|(series, _)| series).sum();
        while sum > FAR_OPEN_SERIES && all.len() > 1 {
            let Some((series, slot)) = all.pop_front() else { return };
            sum -= series;
            // One that is being opened now is not this one, or stays: nobody waits here.
            if let Some(slot) = slot.upgrade()
                && let Some(mut slot) = slot.try_lock()
            {
                *slot = None;
            }
        }
    }
}
