//! Blocks as the head's history: complete ranges become Parquet directories under `blocks/`.

use super::compaction::{CompactionMetrics, due};
use super::flush::{History, LabelledPart, SeriesSamples};
use super::options::StoreError;
use super::retention::{Beside, BlockMetrics, Retention};
use super::selection::{Histograms, Part, Starts};
use crate::block::{BlockMeta, BlockSeries, BlockSeriesHandle, Blocks, OPEN_SQL, merge_blocks, write_block};
use crate::disk::{Disk, DiskFile};
use crate::metrics::{Gauge, Metrics};
use crate::model::time::format_duration;
use crate::model::{Matcher, TimeMs};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The blocks of a data directory.
pub struct BlockHistory {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    blocks: Blocks,
    metrics: BlockMetrics,
    compactions: CompactionMetrics,
    /// Held while files of blocks go: a merge and retention may want to remove what is left of the same one.
    removing: Mutex<()>,
    /// Blocks that could not be merged because one is damaged: not tried again before a restart.
    unmergeable: Mutex<BTreeSet<PathBuf>>,
}

impl BlockHistory {
    /// Opens the blocks in `data/blocks`. Those that are damaged are left out: answers miss their samples, so they
    /// are an error in the log, and counted.
    pub fn open(data: &Path, disk: Arc<dyn Disk>, metrics: &Metrics) -> Result<BlockHistory, StoreError> {
        let dir = data.join("blocks");
        disk.create_dir(&dir).map_err(|source| StoreError::Io { path: dir.clone(), source })?;
        Blocks::remove_unfinished(disk.as_ref(), &dir)?;
        let (blocks, damage) = Blocks::open(&dir)?;
        damage.iter().for_each(|line| tracing::error!("{line}"));
        damaged_blocks(metrics).set(damage.len() as f64);
        if let Err(error) = Blocks::sweep(disk.as_ref(), &dir) {
            tracing::warn!(%error, "what is left of a removed block stays for now");
        }
        if let Err(error) = write_open_sql(data, disk.as_ref()) {
            tracing::warn!(%error, "the views for DuckDB are not written");
        }
        if let Err(error) = blocks.remove_replaced(disk.as_ref()) {
            tracing::warn!(%error, "a block that was merged into another stays for now");
        }
        let compactions = CompactionMetrics::new(metrics);
        let history = BlockHistory {
            disk,
            dir,
            blocks,
            metrics: BlockMetrics::new(metrics),
            compactions,
            removing: Mutex::default(),
            unmergeable: Mutex::default(),
        };
        history.metrics.show(&history.blocks.metas());
        Ok(history)
    }

    /// Makes one block of these, and removes them.
    fn merge(&self, old: &[BlockMeta]) -> Result<(), StoreError> {
        let dirs: BTreeSet<PathBuf> = old.iter().map(|meta| meta.dir.clone()).collect();
        let meta = merge_blocks(self.disk.as_ref(), &self.dir, &self.blocks.in_dirs(&dirs))?;
        self.blocks.add(self.blocks.load(&meta.dir)?);
        let (block, merged, bytes) = (meta.name(), old.len(), meta.bytes_on_disk());
        tracing::info!(%block, merged, bytes, "blocks merged");
        let _one_at_a_time = self.removing.lock();
        self.blocks.remove_replaced(self.disk.as_ref())
    }

    /// Removes a block, and says why; `limit` is what it is beyond.
    fn remove(&self, meta: &BlockMeta, why: &str, limit: &str) -> Result<(), StoreError> {
        let (block, newest, bytes) = (meta.name(), meta.max_time, meta.bytes_on_disk());
        let outcome = self.blocks.remove(self.disk.as_ref(), &meta.dir);
        match &outcome {
            Ok(()) => tracing::info!(%block, newest, bytes, limit, "block removed: {why}"),
            Err(error) => tracing::error!(%block, %error, "block not removed, though {why}; tried again"),
        }
        outcome
    }
}

/// Blocks that are left out: answers are not whole where it is not 0.
pub fn damaged_blocks(metrics: &Metrics) -> Arc<Gauge> {
    let help = "Blocks that were damaged at start and are left out of answers.";
    metrics.gauge("prometheus_tsdb_blocks_damaged", help, &[])
}

/// Puts the views for DuckDB beside the blocks, if others or none are there.
fn write_open_sql(data: &Path, disk: &dyn Disk) -> Result<(), StoreError> {
    let path = data.join("open.sql");
    if disk.read(&path).is_ok_and(|there| there == OPEN_SQL.as_bytes()) {
        return Ok(());
    }
    let write = |mut file: Box<dyn DiskFile>| file.append(OPEN_SQL.as_bytes());
    disk.create(&path).and_then(write).map_err(|source| StoreError::Io { path, source })
}

impl Part for BlockSeriesHandle {
    fn read(
        &self,
        from: TimeMs,
        to: TimeMs,
        ts: &mut Vec<TimeMs>,
        vs: &mut Vec<f64>,
    ) -> Result<(), StoreError> {
        BlockSeriesHandle::read(self, from, to, ts, vs)
    }

    fn has_histograms(&self) -> bool {
        BlockSeriesHandle::has_histograms(self)
    }

    fn read_histograms(&self, from: TimeMs, to: TimeMs, out: &mut Histograms) -> Result<(), StoreError> {
        BlockSeriesHandle::read_histograms(self, from, to, out)
    }

    fn has_starts(&self) -> bool {
        BlockSeriesHandle::has_starts(self)
    }

    fn read_starts(&self, from: TimeMs, to: TimeMs, out: &mut Starts) -> Result<(), StoreError> {
        BlockSeriesHandle::read_starts(self, from, to, out)
    }
}

impl History for BlockHistory {
    fn write(
        &self,
        from: TimeMs,
        to: TimeMs,
        series: &mut dyn Iterator<Item = Result<SeriesSamples, StoreError>>,
    ) -> Result<(), StoreError> {
        let series = series.map(|s| {
            s.map(|SeriesSamples { labels, ts, vs, histograms, starts }| BlockSeries {
                labels,
                ts,
                vs,
                histograms,
                starts,
            })
        });
        let meta = write_block(self.disk.as_ref(), &self.dir, from, to, series)?;
        self.blocks.add(self.blocks.load(&meta.dir)?);
        self.metrics.show(&self.blocks.metas());
        Ok(())
    }

    fn retain(&self, retention: Retention, head: Beside, now: TimeMs) -> Result<(), StoreError> {
        let _one_at_a_time = self.removing.lock();
        let swept = Blocks::sweep(self.disk.as_ref(), &self.dir).map(|_| ());
        let due = retention.due(self.blocks.metas(), head, now);
        self.metrics.count(&due);
        let time = format_duration(retention.time_ms);
        let old = |meta| self.remove(meta, "its newest sample is older than the retention time", &time);
        let size = retention.size_bytes.to_string();
        let much = |meta| self.remove(meta, "blocks and log are larger than the retention size", &size);
        // One that cannot be removed does not keep the others.
        let outcome =
            due.by_time.iter().map(old).chain(due.by_size.iter().map(much)).fold(swept, Result::and);
        self.metrics.show(&self.blocks.metas());
        outcome
    }

    fn compact(&self, range: TimeMs, retention: Retention) -> Result<bool, StoreError> {
        // What an earlier merge left goes first: a block must not be merged with those that it replaces.
        {
            let _one_at_a_time = self.removing.lock();
            Blocks::sweep(self.disk.as_ref(), &self.dir)?;
            self.blocks.remove_replaced(self.disk.as_ref())?;
        }
        let mut blocks = self.blocks.metas();
        let unmergeable = self.unmergeable.lock().clone();
        blocks.retain(|meta| !unmergeable.contains(&meta.dir));
        let old = due(&blocks, range, retention);
        if old.is_empty() {
            return Ok(false);
        }
        let outcome = self.merge(&old);
        self.compactions.count(&outcome);
        if let Err(StoreError::Damaged { .. }) = &outcome {
            self.unmergeable.lock().extend(old.into_iter().map(|meta| meta.dir));
        }
        self.metrics.show(&self.blocks.metas());
        outcome.map(|()| true)
    }

    fn select(
        &self,
        shard: u16,
        matchers: &[Matcher],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<LabelledPart>, StoreError> {
        let handles = self.blocks.select(shard, matchers, from, to).into_iter();
        Ok(handles.map(|handle| (handle.labels().clone(), Arc::new(handle) as Arc<dyn Part>)).collect())
    }

    fn label_names(&self, sets: &[Vec<Matcher>], from: TimeMs, to: TimeMs) -> Vec<String> {
        self.blocks.label_names(sets, from, to)
    }

    fn label_values(&self, name: &str, sets: &[Vec<Matcher>], from: TimeMs, to: TimeMs) -> Vec<String> {
        self.blocks.label_values(name, sets, from, to)
    }
}
