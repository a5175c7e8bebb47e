//! Old blocks, and those that are too much here, move into an object store (`../block/far/`):
//! uploaded and read back, then described as far, then removed here.
//!
//! A kill in between leaves the block here, and perhaps there, too; here counts, and the next
//! minute moves it again. Queries go on: the list of blocks changes at once, and who reads the
//! files that go reads on.

use super::Store;
use super::blocks::BlockManager;
use super::options::StoreError;
use super::retention::{ExpiredBlocks, HeadAndLog};
use crate::block::{BlockHandle, BlockMeta};
use crate::metrics::{Counter, Gauge, Metrics};
use crate::model::TimeMs;
use std::path::PathBuf;
use std::sync::Arc;

/// What is counted of far blocks.
pub struct ColdMetrics {
    moved: Arc<Counter>,
    blocks: Arc<Gauge>,
    bytes: Arc<Gauge>,
    missing: Arc<Gauge>,
}

impl ColdMetrics {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> ColdMetrics {
        let gauge = |name, help| metrics.gauge(name, help, &[]);
        let moved = "Blocks that were moved into the object store.";
        ColdMetrics {
            moved: metrics.counter("perennial_object_store_moved_total", moved, &[]),
            blocks: gauge("perennial_object_store_blocks", "Blocks in the object store."),
            bytes: gauge("perennial_object_store_blocks_bytes", "Bytes of the blocks in the object store."),
            missing: gauge(
                "perennial_object_store_blocks_missing",
                "Blocks that should be in the object store and were not when it was listed.",
            ),
        }
    }

    /// Shows what there is.
    pub fn show(&self, blocks: &[BlockHandle], missing: usize) {
        let far = || blocks.iter().filter(|block| block.is_far());
        self.blocks.set(far().count() as f64);
        self.bytes.set(far().map(|block| block.meta().bytes_on_disk()).sum::<u64>() as f64);
        self.missing.set(missing as f64);
    }
}

impl BlockManager {
    pub(super) fn reconcile_cold_storage(&self) -> Result<(), StoreError> {
        let mut found = Vec::new();
        let reached = self.far.reconcile_cold_storage(&mut found);
        if !found.is_empty() {
            tracing::info!(blocks = found.len(), "blocks found in the object store");
            let tombstones = self.tombstones.list();
            let found = found.iter().map(|block| block.with_deletes(&tombstones)).collect();
            let _one_at_a_time = self.removing.lock();
            self.blocks.add_found(found);
            self.blocks.remove_replaced(self.disk.as_ref())?;
        }
        self.show();
        reached
    }

    /// `due` is what would have to go from here by retention.
    pub(super) fn upload_old(
        &self,
        due: &ExpiredBlocks,
        head: HeadAndLog,
        now: TimeMs,
    ) -> Result<Option<BlockMeta>, StoreError> {
        let Some(after) = self.far.move_after_ms() else { return Ok(None) };
        let oldest = head.newest(&self.blocks.all_metas(), now).saturating_sub(after);
        let stay = self.immovable.lock().clone();
        let mut old = self.blocks.local_metas();
        let too_much = |meta: &BlockMeta| due.by_size.iter().any(|one| one.dir == meta.dir);
        old.retain(|meta| (meta.max_time < oldest || too_much(meta)) && !stay.contains(&meta.dir));
        for meta in old {
            match self.far.upload(&meta) {
                Ok(()) => return Ok(Some(meta)),
                // It stays here, and is answered from as far as it can be read.
                Err(error @ StoreError::Damaged { .. }) => {
                    tracing::error!(block = %meta.name(), %error, "block not moved to the object store");
                    self.immovable.lock().insert(meta.dir.clone());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    pub(super) fn hand_over_far(&self, meta: &BlockMeta) -> Result<(), StoreError> {
        let _one_at_a_time = self.removing.lock();
        let there = |dir: &PathBuf| self.blocks.all().iter().any(|block| block.meta().dir == *dir);
        if !there(&meta.dir) {
            // Retention was faster: what was uploaded has to go.
            self.far.record(meta)?;
            return self.far.schedule_delete(&meta.name().to_string());
        }
        let far = self.far.record(meta)?.with_deletes(&self.tombstones.list());
        let moved = self.blocks.switch_to_cold(self.disk.as_ref(), &meta.dir, far);
        self.show();
        moved?;
        self.far_metrics.moved.inc();
        let block = meta.name();
        let bytes = meta.bytes_on_disk();
        tracing::info!(%block, bytes, "block moved to the object store");
        Ok(())
    }
}

impl Store {
    /// Asks the object store, if there is one and it did not answer yet, what is in it.
    pub fn reach_far(&self) -> Result<(), StoreError> {
        let _no_other = self.move_lock.lock();
        self.history.as_ref().map_or(Ok(()), |history| history.reconcile_cold_storage())
    }

    /// Moves blocks that are old enough at `now` into the object store; how many. To be called
    /// after [`Store::compact`], on a thread that may take minutes: nothing waits for it but what
    /// writes blocks anew.
    pub fn move_to_cold(&self, now: TimeMs) -> Result<usize, StoreError> {
        let Some(history) = &self.history else { return Ok(0) };
        self.reach_far()?;
        let mut moved = 0;
        loop {
            let _no_other = self.move_lock.lock();
            let retention = self.retention();
            let rules = self.series_retention.read().clone();
            let Some(block) = history.upload(retention, &rules, self.head_and_log()?, now)? else {
                return Ok(moved);
            };
            // A deletion or a snapshot sees the block here or there.
            let _no_merge = self.merge_lock.lock();
            history.switch_to_cold(&block)?;
            moved += 1;
        }
    }

    /// Why answers may not be whole; `None`: they are, or are errors.
    pub fn incomplete_reason(&self) -> Option<String> {
        self.history.as_ref().and_then(|history| history.incomplete_reason())
    }
}
