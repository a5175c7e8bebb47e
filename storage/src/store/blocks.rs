//! [`BlockManager`]: the blocks of a data directory, as the store uses them ([`BlockBackend`]). It
//! writes complete ranges as Parquet directories under `blocks/`, merges them, removes expired
//! ones, applies deletions and moves old blocks to an object store.

use super::compaction::{CompactionMetrics, due};
use super::flush::{BlockBackend, LabelledSource, SeriesSamples, SeriesStream};
use super::move_cold::ColdMetrics;
use super::retention::{BlockMetrics, ExpiredBlocks, HeadAndLog, Retention};
use super::selection::SeriesSource;
use super::series_retention::{CheckedColdBlocks, RetentionCutoffs, SeriesRetention};
use crate::block::{
    Block, BlockHandle, BlockMeta, BlockSeries, BlockSet, BlockSpec, ColdOptions, ColdStore, OPEN_SQL,
    Tombstone, Tombstones, merge_blocks, remove_dir, reserved_names, write_block_replacing,
};
use crate::disk::{Disk, DiskFile};
use crate::error::StoreError;
use crate::metrics::{Counter, Gauge, Metrics};
use crate::model::time::format_duration;
use crate::model::{Labels, Matcher, TimeMs};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The blocks of a data directory, local and cold.
pub(super) struct BlockManager {
    pub(super) disk: Arc<dyn Disk>,
    dir: PathBuf,
    pub(super) blocks: BlockSet,
    pub(super) cold: Arc<ColdStore>,
    pub(super) cold_metrics: ColdMetrics,
    pub(super) tombstones: Tombstones,
    pub(super) metrics: BlockMetrics,
    damaged: Arc<Gauge>,
    /// Blocks that could not be read.
    failed_reloads: Arc<Counter>,
    compactions: CompactionMetrics,
    /// Held while files of blocks are removed: a merge and retention may both want to remove the
    /// same block.
    pub(super) removing: Mutex<()>,
    /// Blocks that could not be merged because one is damaged. They are not tried again before a
    /// restart.
    pub(super) unmergeable: Mutex<BTreeSet<PathBuf>>,
    /// Cold blocks that were checked and have no expired series.
    pub(super) trimmed: Mutex<CheckedColdBlocks>,
    /// Blocks that could not be moved to the object store. They are not tried again before a
    /// restart.
    pub(super) immovable: Mutex<BTreeSet<PathBuf>>,
}

impl BlockManager {
    /// Opens the blocks in `data/blocks`. Damaged blocks are left out: answers then miss their
    /// samples, so each is an error in the log and counted. `cold` is the object store for old
    /// blocks.
    pub(super) fn open(
        data: &Path,
        cold: Option<ColdOptions>,
        disk: Arc<dyn Disk>,
        metrics: &Metrics,
    ) -> Result<BlockManager, StoreError> {
        let dir = data.join("blocks");
        disk.create_dir(&dir).map_err(|source| StoreError::Io { path: dir.clone(), source })?;
        // A killed process may have created names without syncing the directory. What is seen now
        // must survive a power loss, too.
        for names in [data, &dir] {
            disk.sync_dir(names).map_err(|source| StoreError::Io { path: names.to_owned(), source })?;
        }
        BlockSet::remove_unfinished(disk.as_ref(), &dir)?;
        let (blocks, damage) = BlockSet::open(disk.clone(), &dir)?;
        let cold = blocks.open_cold(disk.clone(), data, cold, metrics)?;
        for line in damage.iter() {
            tracing::error!("{line}");
        }
        if let Err(error) = BlockSet::finish_removals(disk.as_ref(), &dir) {
            tracing::warn!(%error, "what is left of a removed block stays for now");
        }
        if let Err(error) = write_open_sql(data, disk.as_ref()) {
            tracing::warn!(%error, "the views for DuckDB are not written");
        }
        if let Err(error) = blocks.remove_replaced(disk.as_ref()) {
            tracing::warn!(%error, "a block that was merged into another stays for now");
        }
        let tombstones = Tombstones::open(disk.as_ref(), data)?;
        // Before any reader: deleted samples must not be visible for a moment after a start.
        let unread = blocks.delete(&tombstones.list());
        for line in unread.iter() {
            tracing::error!("{line}");
        }
        let damaged = damaged_blocks(metrics);
        damaged.set((damage.len() + unread.len()) as f64);
        let help = "Blocks that could not be read, and are left out of answers.";
        let failed_reloads = metrics.counter("prometheus_tsdb_reloads_failures_total", help, &[]);
        failed_reloads.add((damage.len() + unread.len()) as u64);
        let compactions = CompactionMetrics::new(metrics);
        let history = BlockManager {
            disk,
            dir,
            blocks,
            cold_metrics: ColdMetrics::new(metrics),
            cold,
            tombstones,
            metrics: BlockMetrics::new(metrics),
            damaged,
            failed_reloads,
            compactions,
            removing: Mutex::default(),
            unmergeable: Mutex::default(),
            trimmed: Mutex::default(),
            immovable: Mutex::default(),
        };
        history.show();
        Ok(history)
    }

    /// Updates the metrics of the blocks.
    pub(super) fn show(&self) {
        self.metrics.show(&self.blocks.local_metas(), self.blocks.all().len());
        self.cold_metrics.show(&self.blocks.all(), self.cold.missing());
    }

    /// Opens a block that was just written. If this fails, the block is removed, unless it existed
    /// before: deletions would not cover an unknown block, and a restart would bring the deleted
    /// samples back.
    fn load(&self, meta: &BlockMeta) -> Result<Block, StoreError> {
        self.blocks.load(&meta.dir).inspect_err(|_| {
            // The block was there before under the same name, so it has the same content, and is
            // covered by deletions.
            if !self.blocks.all_metas().iter().any(|known| known.dir == meta.dir) {
                let _ = remove_dir(self.disk.as_ref(), &meta.dir);
            }
        })
    }

    /// Names that no new block may get.
    fn reserved_names(&self) -> BTreeSet<String> {
        let mut names =
            reserved_names(self.blocks.all().iter().map(BlockHandle::meta), &self.tombstones.list());
        names.extend(self.blocks.leaving());
        names
    }

    /// Merges blocks into one, without deleted samples and without the series for which `keep` is
    /// false, and removes the old ones. Returns false, and changes nothing, if one of them was
    /// removed meanwhile.
    fn merge(&self, old: &[BlockMeta], keep: &dyn Fn(&Labels) -> bool) -> Result<bool, StoreError> {
        let disk = self.disk.as_ref();
        let merged = old.len();
        let dirs: BTreeSet<PathBuf> = old.iter().map(|meta| meta.dir.clone()).collect();
        let all_there = || {
            self.blocks.all().iter().filter(|block| dirs.contains(&block.meta().dir)).count() == dirs.len()
        };
        // Without a lock: it takes minutes, and retention goes on.
        let made = merge_blocks(disk, &self.dir, &self.reserved_names(), &self.blocks.in_dirs(&dirs)?, keep)?;
        let _one_at_a_time = self.removing.lock();
        let Some(meta) = made else {
            tracing::info!(merged, "blocks removed: all that they had is deleted");
            let removed = dirs.iter().map(|dir| self.blocks.remove(disk, dir)).fold(Ok(()), Result::and);
            return removed.map(|()| true);
        };
        if !all_there() {
            tracing::info!(merged, "blocks not merged: retention removed one of them meanwhile");
            return remove_dir(disk, &meta.dir).map(|()| false);
        }
        self.blocks.add(self.load(&meta)?);
        let block = meta.name();
        let bytes = meta.bytes_on_disk();
        tracing::info!(%block, merged, bytes, "blocks merged");
        self.blocks.remove_replaced(disk).map(|()| true)
    }

    /// Rewrites one block, without deleted samples and without the series for which `keep` is
    /// false.
    pub(super) fn rewrite(
        &self,
        block: &BlockMeta,
        keep: &dyn Fn(&Labels) -> bool,
    ) -> Result<bool, StoreError> {
        self.try_to_merge(std::slice::from_ref(block), keep)
    }

    /// As [`BlockManager::merge`]; remembers unreadable blocks, which are not tried again.
    fn try_to_merge(&self, old: &[BlockMeta], keep: &dyn Fn(&Labels) -> bool) -> Result<bool, StoreError> {
        let outcome = self.merge(old, keep);
        if outcome.as_ref().is_err_and(|error| self.is_unreadable(error, old)) {
            self.unmergeable.lock().extend(old.iter().map(|meta| meta.dir.clone()));
        }
        self.show();
        outcome
    }

    /// Whether one of these blocks is damaged, or a file of one of them cannot be read and it would
    /// be in vain to try again.
    fn is_unreadable(&self, error: &StoreError, blocks: &[BlockMeta]) -> bool {
        let StoreError::Io { path, source } = error else {
            return matches!(error, StoreError::Damaged { .. });
        };
        // An error of another path is one of writing the new block: that is tried again.
        let Some(block) = blocks.iter().find(|meta| path.starts_with(&meta.dir)) else { return false };
        // An object store that fails a request mostly answers later; one that says that the object
        // is not there does not. A local disk that cannot read a file has a bad sector.
        block.dir.starts_with(&self.dir) || source.kind() == std::io::ErrorKind::NotFound
    }

    /// The expired blocks: by time, those of which all series are too old, local and cold; by size,
    /// only local ones.
    fn due(
        &self,
        retention: Retention,
        rules: &[SeriesRetention],
        head: HeadAndLog,
        now: TimeMs,
    ) -> ExpiredBlocks {
        let cutoffs = RetentionCutoffs::new(rules, retention, &self.blocks.all_metas(), head, now);
        let blocks = self.blocks.all();
        let (mut old, stay): (Vec<&BlockHandle>, Vec<&BlockHandle>) =
            blocks.iter().partition(|block| cutoffs.is_due(block));
        old.sort_by_key(|block| (block.meta().max_time, block.meta().min_time));
        let metas =
            |blocks: Vec<&BlockHandle>| blocks.into_iter().map(|block| block.meta().clone()).collect();
        // The size limit is one of the local disk.
        let stay = stay.into_iter().filter(|block| !block.is_cold()).collect();
        let by_size = Retention { time_ms: 0, ..retention };
        ExpiredBlocks { by_time: metas(old), ..by_size.due(metas(stay), head, now) }
    }

    /// Removes the deletions of blocks that no longer exist. Those of damaged blocks are kept: if a
    /// block is repaired, its deleted samples must not come back.
    fn forget_tombstones(&self) -> Result<(), StoreError> {
        let mut existing: BTreeSet<String> =
            self.blocks.all_metas().iter().map(|meta| meta.name().to_string()).collect();
        let files = self.disk.list(&self.dir);
        let files = files.map_err(|source| StoreError::Io { path: self.dir.clone(), source })?;
        existing
            .extend(files.iter().filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())));
        existing.extend(self.cold.names()?);
        self.tombstones.keep_blocks(self.disk.as_ref(), |name| existing.contains(name))
    }

    /// Finishes what an earlier merge left behind: a block must not be merged with the blocks that
    /// it replaces.
    pub(super) fn tidy(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.removing.lock();
        BlockSet::finish_removals(self.disk.as_ref(), &self.dir)?;
        self.blocks.remove_leaving(self.disk.as_ref())?;
        self.blocks.remove_replaced(self.disk.as_ref())
    }

    /// Removes a block and logs the reason; `limit` is the limit that it exceeds.
    fn remove(&self, meta: &BlockMeta, why: &str, limit: &str) -> Result<(), StoreError> {
        let block = meta.name();
        let newest = meta.max_time;
        let bytes = meta.bytes_on_disk();
        let outcome = self.blocks.remove(self.disk.as_ref(), &meta.dir);
        match &outcome {
            Ok(()) => tracing::info!(%block, newest, bytes, limit, "block removed: {why}"),
            Err(error) => tracing::error!(%block, %error, "block not removed, though {why}; tried again"),
        }
        outcome
    }
}

/// Writes a block into `dir`.
pub(super) fn write_series(
    disk: &dyn Disk,
    dir: &Path,
    origin: BlockSpec,
    series: &mut SeriesStream,
) -> Result<BlockMeta, StoreError> {
    let series = series.map(|s| {
        s.map(|SeriesSamples { labels, ts, vs, histograms, starts }| BlockSeries {
            labels,
            ts,
            vs,
            histograms,
            starts,
        })
    });
    write_block_replacing(disk, dir, origin, series)
}

/// Puts hard links to the files of a block into another directory. Durable on return, except for
/// the name of the directory itself.
fn copy_block(disk: &dyn Disk, from: &Path, to: &Path) -> Result<(), StoreError> {
    let bad = |source| StoreError::Io { path: to.to_owned(), source };
    disk.create_dir(to).map_err(bad)?;
    for file in disk.list(from).map_err(bad)? {
        let name = file.file_name().unwrap_or_default();
        disk.link(&file, &to.join(name)).map_err(bad)?;
    }
    disk.sync_dir(to).map_err(bad)
}

/// The gauge of damaged blocks that are left out. If it is not 0, answers are incomplete.
pub fn damaged_blocks(metrics: &Metrics) -> Arc<Gauge> {
    let help = "Blocks that were damaged at start and are left out of answers.";
    metrics.gauge("prometheus_tsdb_blocks_damaged", help, &[])
}

/// Writes the SQL views for DuckDB into the data directory, if they are missing or outdated.
fn write_open_sql(data: &Path, disk: &dyn Disk) -> Result<(), StoreError> {
    let path = data.join("open.sql");
    if disk.read(&path).is_ok_and(|there| there == OPEN_SQL.as_bytes()) {
        return Ok(());
    }
    let write = |mut file: Box<dyn DiskFile>| file.append(OPEN_SQL.as_bytes());
    disk.create(&path).and_then(write).map_err(|source| StoreError::Io { path, source })
}

impl BlockBackend for BlockManager {
    fn write(
        &self,
        from: TimeMs,
        to: TimeMs,
        series: &mut dyn Iterator<Item = Result<SeriesSamples, StoreError>>,
    ) -> Result<(), StoreError> {
        let origin = BlockSpec { from, to, replaces: Vec::new(), reserved: &self.reserved_names() };
        let meta = write_series(self.disk.as_ref(), &self.dir, origin, series)?;
        self.blocks.add(self.load(&meta)?);
        self.show();
        Ok(())
    }

    fn apply_retention(
        &self,
        retention: Retention,
        rules: &[SeriesRetention],
        head: HeadAndLog,
        now: TimeMs,
    ) -> Result<(), StoreError> {
        let _one_at_a_time = self.removing.lock();
        let swept = BlockSet::finish_removals(self.disk.as_ref(), &self.dir)
            .and_then(|_| self.blocks.remove_leaving(self.disk.as_ref()));
        let mut due = self.due(retention, rules, head, now);
        if self.cold.is_there() {
            // Blocks beyond the size limit are moved to the object store instead, if they can be:
            // see `move_cold.rs`.
            let immovable = self.immovable.lock();
            due.by_size.retain(|meta| immovable.contains(&meta.dir));
            due.too_large = !due.by_size.is_empty();
        }
        self.metrics.count(&due);
        let time = format_duration(retention.time_ms);
        let old = |meta| self.remove(meta, "its newest sample is older than the retention time", &time);
        let size = retention.size_bytes.to_string();
        let much = |meta| self.remove(meta, "blocks and log are larger than the retention size", &size);
        // A block that cannot be removed does not keep the others from being removed.
        let outcome =
            due.by_time.iter().map(old).chain(due.by_size.iter().map(much)).fold(swept, Result::and);
        self.show();
        outcome
    }

    fn drop_expired_series(
        &self,
        retention: Retention,
        rules: &[SeriesRetention],
        head: HeadAndLog,
        now: TimeMs,
    ) -> Result<bool, StoreError> {
        self.trim_one(retention, rules, head, now)
    }

    fn compact(&self, range: TimeMs, retention: Retention) -> Result<bool, StoreError> {
        loop {
            self.tidy()?;
            let mut blocks = self.blocks.local_metas();
            let unmergeable = self.unmergeable.lock().clone();
            blocks.retain(|meta| !unmergeable.contains(&meta.dir));
            let old = due(&blocks, range, retention);
            if old.is_empty() {
                return Ok(false);
            }
            let outcome = self.try_to_merge(&old, &|_| true);
            if !matches!(outcome, Ok(false)) {
                self.compactions.count(&outcome);
                return outcome;
            }
        }
    }

    fn delete(&self, matchers: &[Matcher], from: TimeMs, to: TimeMs) -> Result<(), StoreError> {
        let blocks = self.blocks.all();
        let mut about = BTreeSet::new();
        for block in blocks.iter().filter(|block| block.meta().overlaps(from, to)) {
            let has = match block {
                BlockHandle::Local(block) => block.has(matchers)?,
                // Not fetched now: whether a cold block has such series is found out when it is
                // opened.
                BlockHandle::Cold(_) => true,
            };
            if has {
                about.insert(block.meta().name().to_string());
            }
        }
        if about.is_empty() {
            return Ok(());
        }
        self.forget_tombstones()?;
        let tombstone = Tombstone { matchers: matchers.to_vec(), from, to, blocks: about };
        self.tombstones.add(self.disk.as_ref(), tombstone.clone())?;
        for line in self.blocks.delete(&[tombstone]) {
            tracing::error!("{line}");
            self.damaged.set(self.damaged.get() + 1.0);
            self.failed_reloads.inc();
        }
        Ok(())
    }

    fn apply_tombstones(&self) -> Result<bool, StoreError> {
        self.tidy()?;
        for block in self.blocks.all().iter().filter(|block| block.may_have_deletes()) {
            if block.open()?.has_deletes() {
                return self.rewrite(block.meta(), &|_| true).map(|_| true);
            }
            // A cold block that has none of the deleted series.
            self.tombstones.forget(self.disk.as_ref(), &block.meta().name().to_string())?;
            self.blocks.forget_deletes(block.meta());
        }
        self.forget_tombstones().map(|()| false)
    }

    fn snapshot_into(&self, data: &Path) -> Result<(), StoreError> {
        let disk = self.disk.as_ref();
        let blocks = data.join("blocks");
        let mut names = BTreeSet::new();
        let cold = self.blocks.all().iter().filter(|block| block.is_cold()).count();
        if cold > 0 {
            tracing::warn!(cold, "the snapshot is without the blocks that are in the object store");
        }
        for meta in self.blocks.local_metas() {
            let name = meta.name().to_string();
            copy_block(disk, &meta.dir, &blocks.join(&name))?;
            names.insert(name);
        }
        self.tombstones.copy_to(disk, data, &names)
    }

    fn last_block_end(&self, until: TimeMs) -> Option<TimeMs> {
        self.blocks.all_metas().iter().map(|meta| meta.to).filter(|to| *to <= until).max()
    }

    fn version(&self) -> u64 {
        self.blocks.version()
    }

    fn note_other_samples(&self) {
        self.blocks.note_other_samples();
    }

    fn has_after(&self, from: TimeMs) -> bool {
        self.blocks.have_after(from)
    }

    fn select(
        &self,
        shard: u16,
        matchers: &[Matcher],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<LabelledSource>, StoreError> {
        let handles = self.blocks.select(shard, matchers, from, to)?.into_iter();
        Ok(handles
            .map(|handle| (handle.labels().clone(), Arc::new(handle) as Arc<dyn SeriesSource>))
            .collect())
    }

    fn label_names(
        &self,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<String>, StoreError> {
        self.blocks.label_names(sets, from, to)
    }

    fn label_values(
        &self,
        name: &str,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<String>, StoreError> {
        self.blocks.label_values(name, sets, from, to)
    }

    fn reconcile_cold_storage(&self) -> Result<(), StoreError> {
        self.reconcile_cold_storage()
    }

    fn upload(
        &self,
        retention: Retention,
        rules: &[SeriesRetention],
        head: HeadAndLog,
        now: TimeMs,
    ) -> Result<Option<BlockMeta>, StoreError> {
        self.upload_old(&self.due(retention, rules, head, now), head, now)
    }

    fn switch_to_cold(&self, block: &BlockMeta) -> Result<(), StoreError> {
        self.switch_to_cold_block(block)
    }

    fn metas(&self) -> Vec<BlockMeta> {
        self.blocks.all_metas()
    }

    fn incomplete_reason(&self) -> Option<String> {
        let damaged = self.damaged.get();
        let here = (damaged > 0.0)
            .then(|| format!("blocks that are damaged are left out: {damaged}; the log names them"));
        here.into_iter().chain(self.cold.incomplete_reason()).reduce(|one, other| format!("{one}; {other}"))
    }
}
