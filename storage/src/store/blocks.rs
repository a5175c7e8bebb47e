//! Blocks as the head's history: complete ranges become Parquet directories under `blocks/`.

use super::flush::{History, LabelledPart, SeriesSamples};
use super::options::StoreError;
use super::selection::Part;
use crate::block::{BlockSeries, BlockSeriesHandle, Blocks, write_block};
use crate::disk::Disk;
use crate::metrics::Metrics;
use crate::model::{Matcher, TimeMs};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The blocks of a data directory.
pub struct BlockHistory {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    blocks: Blocks,
}

impl BlockHistory {
    /// Opens the blocks in `data/blocks`. Those that are damaged are left out: answers miss their samples, so they
    /// are an error in the log, and counted.
    pub fn open(data: &Path, disk: Arc<dyn Disk>, metrics: &Metrics) -> Result<BlockHistory, StoreError> {
        let dir = data.join("blocks");
        let (blocks, damage) = Blocks::open(&dir)?;
        damage.iter().for_each(|line| tracing::error!("{line}"));
        let help = "Blocks that were damaged at start and are left out of answers.";
        metrics.gauge("prometheus_tsdb_blocks_damaged", help, &[]).set(damage.len() as f64);
        Ok(BlockHistory { disk, dir, blocks })
    }
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
}

impl History for BlockHistory {
    fn write(
        &self,
        from: TimeMs,
        to: TimeMs,
        series: &mut dyn Iterator<Item = Result<SeriesSamples, StoreError>>,
    ) -> Result<(), StoreError> {
        let series = series.map(|s| s.map(|s| BlockSeries { labels: s.labels, ts: s.ts, vs: s.vs }));
        let meta = write_block(self.disk.as_ref(), &self.dir, from, to, series)?;
        self.blocks.add(self.blocks.load(&meta.dir)?);
        Ok(())
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
