//! Prometheus' blocks: directories with `meta.json`, `index`, `chunks/` and perhaps `tombstones`.
//!
//! Read only, and only what is in blocks: the newest hours are in Prometheus' head and log until it
//! makes a block of them, or a snapshot (`POST /api/v1/admin/tsdb/snapshot`). Format: Prometheus'
//! `tsdb/docs/format`. The parts: [`index`] (series and their chunks), [`chunks`] (files of
//! chunks), [`xor`] and [`histogram`] (their samples).

pub mod bits;
pub mod bytes;
pub mod chunks;
pub mod histogram;
pub mod index;
mod starts;
#[cfg(test)]
mod tests;
mod tombstones;
pub mod xor;
pub mod xor2;

use super::{ImportError, damaged, io_error};
use chunks::{ChunkSamples, TsdbChunks};
use index::{IndexedSeries, TsdbIndex};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use storage::block::{BlockMeta, BlockSeries, BlockSpec, write_block_replacing};
use storage::disk::Disk;
use storage::model::TimeMs;
use storage::store::StoreError;
use tombstones::TsdbTombstones;

/// The version of `meta.json` that is known.
const META_VERSION: u32 = 1;

/// What a block's `meta.json` says.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TsdbMeta {
    /// Its name.
    pub ulid: String,
    /// First instant.
    pub min_time: TimeMs,
    /// First instant behind it.
    pub max_time: TimeMs,
    /// Format version.
    pub version: u32,
    /// Counts.
    #[serde(default)]
    pub stats: TsdbStats,
}

/// What a block counts of itself.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TsdbStats {
    /// Samples.
    pub num_samples: u64,
    /// Series.
    pub num_series: u64,
}

/// A block of Prometheus.
#[derive(Clone, Debug)]
pub struct TsdbBlock {
    /// Where it is.
    pub dir: PathBuf,
    /// What it says of itself.
    pub meta: TsdbMeta,
}

/// The blocks in Prometheus' data directory `dir`, oldest first; `dir` may be a single block or a
/// snapshot too.
pub fn blocks(dir: &Path) -> Result<Vec<TsdbBlock>, ImportError> {
    if dir.join("meta.json").is_file() {
        return Ok(vec![open(dir)?]);
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io_error(dir))? {
        let path = entry.map_err(io_error(dir))?.path();
        // What is being written or removed has a name with a point in it.
        if path.extension().is_none() && path.join("meta.json").is_file() {
            found.push(open(&path)?);
        }
    }
    if found.is_empty() {
        return Err(damaged(dir, "holds no blocks of Prometheus; is this its --storage.tsdb.path?"));
    }
    found.sort_by_key(|block: &TsdbBlock| (block.meta.min_time, block.meta.max_time));
    Ok(found)
}

fn open(dir: &Path) -> Result<TsdbBlock, ImportError> {
    let path = dir.join("meta.json");
    let text = std::fs::read(&path).map_err(io_error(&path))?;
    let meta: TsdbMeta = serde_json::from_slice(&text).map_err(|e| damaged(&path, e))?;
    if meta.version != META_VERSION {
        return Err(damaged(&path, format!("version {} is unknown, {META_VERSION} is known", meta.version)));
    }
    Ok(TsdbBlock { dir: dir.to_owned(), meta })
}

/// Writes `block` as a block of ours into `blocks_dir`, under a name that is not `taken`;
/// `progress` hears of each series. `None`: it holds no samples.
pub fn copy(
    block: &TsdbBlock,
    disk: &dyn Disk,
    blocks_dir: &Path,
    taken: &BTreeSet<String>,
    mut progress: impl FnMut(&BlockSeries),
) -> Result<Option<BlockMeta>, ImportError> {
    let index = TsdbIndex::open(&block.dir.join("index"))?;
    let chunks = TsdbChunks::open(&block.dir.join("chunks"))?;
    let tombstones = TsdbTombstones::open(&block.dir.join("tombstones"))?;
    let mut failed = None;
    let mut any = false;
    let series = index.series()?.map_while(|one| {
        let read = one.and_then(|series| read_series(&series, &chunks, &tombstones, &block.meta));
        match read {
            Ok(series) => {
                any |= !series.ts.is_empty() || !series.histograms.is_empty();
                progress(&series);
                Some(Ok(series))
            }
            // The store's writer knows no errors of ours: it is told to give up, and this one is
            // told outside.
            Err(error) => {
                let stop = StoreError::Damaged { path: block.dir.clone(), reason: error.to_string() };
                failed = Some(error);
                Some(Err(stop))
            }
        }
    });
    let mut series = series.peekable();
    if series.peek().is_none() {
        return Ok(None);
    }
    let TsdbMeta { min_time: from, max_time: to, .. } = block.meta;
    let origin = BlockSpec { from, to, replaces: Vec::new(), reserved: taken };
    let written = write_block_replacing(disk, blocks_dir, origin, series);
    match (failed, written) {
        (Some(error), _) => Err(error),
        (None, written) => {
            let meta = written?;
            if any {
                Ok(Some(meta))
            } else {
                disk.remove(&meta.dir).map(|()| None).map_err(io_error(&meta.dir))
            }
        }
    }
}

/// All samples of a series that are in the block's range and not deleted.
fn read_series(
    series: &IndexedSeries,
    chunks: &TsdbChunks,
    tombstones: &TsdbTombstones,
    meta: &TsdbMeta,
) -> Result<BlockSeries, ImportError> {
    let mut samples = ChunkSamples::default();
    for chunk in &series.chunks {
        chunks.read(*chunk, &mut samples)?;
    }
    let wanted =
        |t: TimeMs| meta.min_time <= t && t < meta.max_time && !tombstones.covers(series.reference, t);
    samples.finish(wanted);
    let ChunkSamples { ts, vs, histograms, starts } = samples;
    Ok(BlockSeries { labels: series.labels.clone(), ts, vs, histograms, starts })
}
