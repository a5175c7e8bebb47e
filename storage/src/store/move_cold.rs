//! Moves old blocks, and those beyond the size limit, to an object store (`../block/cold/`): a
//! block is uploaded and verified, then recorded as cold, then its local files are removed.
//!
//! A crash in between leaves the block locally, and perhaps also in the object store. The local one
//! counts, and the next run moves it again. Queries continue: the list of blocks changes at once,
//! and running readers keep the files that are removed open.

use super::blocks::BlockManager;
use super::maintenance::Maintenance;
use super::retention::{ExpiredBlocks, HeadAndLog};
use crate::block::{BlockHandle, BlockMeta};
use crate::error::StoreError;
use crate::metrics::{Counter, Gauge, Metrics};
use crate::model::TimeMs;
use std::path::PathBuf;
use std::sync::Arc;

/// The metrics of cold blocks.
pub(super) struct ColdMetrics {
    moved: Arc<Counter>,
    blocks: Arc<Gauge>,
    bytes: Arc<Gauge>,
    missing: Arc<Gauge>,
}

impl ColdMetrics {
    /// Registers the metrics.
    pub(super) fn new(metrics: &Metrics) -> ColdMetrics {
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

    /// Updates the gauges; `missing` is the number of recorded blocks that the object store does
    /// not have.
    pub(super) fn show(&self, blocks: &[BlockHandle], missing: usize) {
        let cold = || blocks.iter().filter(|block| block.is_cold());
        self.blocks.set(cold().count() as f64);
        self.bytes.set(cold().map(|block| block.meta().bytes_on_disk()).sum::<u64>() as f64);
        self.missing.set(missing as f64);
    }
}

impl BlockManager {
    pub(super) fn reconcile_cold_storage(&self) -> Result<(), StoreError> {
        let mut found = Vec::new();
        let reached = self.cold.reconcile_cold_storage(&mut found);
        if !found.is_empty() {
            tracing::info!(blocks = found.len(), "blocks found in the object store");
            let tombstones = self.tombstones.list();
            let found = found.iter().map(|block| block.with_deletes(&tombstones)).collect();
            let _one_at_a_time = self.removing.lock();
            self.blocks.add_cold(found);
            self.blocks.remove_replaced(self.disk.as_ref())?;
        }
        self.show();
        reached
    }

    /// Uploads the oldest block that is old enough at `now`, or that retention by size (`due`)
    /// would remove.
    pub(super) fn upload_old(
        &self,
        due: &ExpiredBlocks,
        head: HeadAndLog,
        now: TimeMs,
    ) -> Result<Option<BlockMeta>, StoreError> {
        let Some(after) = self.cold.move_after_ms() else { return Ok(None) };
        // Counted from the newest sample and not from the clock, as retention does: a server that
        // was off for a month must not move all of its blocks at the next start.
        let oldest = head.newest(&self.blocks.all_metas(), now).saturating_sub(after);
        // Remembered, so that a damaged block is not read again and again.
        let stay = self.immovable.lock().clone();
        let mut old = self.blocks.local_metas();
        let too_much = |meta: &BlockMeta| due.by_size.iter().any(|one| one.dir == meta.dir);
        old.retain(|meta| (meta.max_time < oldest || too_much(meta)) && !stay.contains(&meta.dir));
        for meta in old {
            match self.cold.upload(&meta) {
                Ok(()) => return Ok(Some(meta)),
                // A damaged block stays local, and is read as far as possible.
                Err(error @ StoreError::Damaged { .. }) => {
                    tracing::error!(block = %meta.name(), %error, "block not moved to the object store");
                    self.immovable.lock().insert(meta.dir.clone());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    pub(super) fn switch_to_cold_block(&self, meta: &BlockMeta) -> Result<(), StoreError> {
        let _one_at_a_time = self.removing.lock();
        let exists = |dir: &PathBuf| self.blocks.all().iter().any(|block| block.meta().dir == *dir);
        if !exists(&meta.dir) {
            // Retention removed the block meanwhile: its upload must be deleted.
            self.cold.record(meta)?;
            return self.cold.schedule_delete(&meta.name().to_string());
        }
        let cold = self.cold.record(meta)?.with_deletes(&self.tombstones.list());
        let moved = self.blocks.switch_to_cold(self.disk.as_ref(), &meta.dir, cold);
        self.show();
        moved?;
        self.cold_metrics.moved.inc();
        let block = meta.name();
        let bytes = meta.bytes_on_disk();
        tracing::info!(%block, bytes, "block moved to the object store");
        Ok(())
    }
}

impl Maintenance<'_> {
    /// Lists the object store, if there is one and it was not listed yet.
    pub fn reconcile_cold_storage(&self) -> Result<(), StoreError> {
        let _no_other = self.store.locks.for_upload();
        self.store.history.as_ref().map_or(Ok(()), |history| history.reconcile_cold_storage())
    }

    /// Moves blocks that are old enough at `now` to the object store. Returns how many. To be
    /// called after [`Maintenance::compact`], on a thread that may be busy for minutes: only
    /// rewriting of blocks waits for it.
    pub fn move_to_cold(&self, now: TimeMs) -> Result<usize, StoreError> {
        let store = self.store;
        let Some(history) = &store.history else { return Ok(0) };
        self.reconcile_cold_storage()?;
        let mut moved = 0;
        loop {
            let _no_other = store.locks.for_upload();
            let retention = store.retention.get();
            let rules = store.retention.series();
            let Some(block) = history.upload(retention, &rules, store.head_and_log()?, now)? else {
                return Ok(moved);
            };
            // Only for the switch: an upload takes minutes, and merges need not wait for it.
            let _no_merge = store.locks.for_switch();
            history.switch_to_cold(&block)?;
            moved += 1;
        }
    }
}
