//! Imports Prometheus' data directory. Its blocks are directories with `meta.json`, `index`,
//! `chunks/` and possibly `tombstones`.
//!
//! Prometheus' `tsdb/docs/format` specifies the format. [`index`] reads series and their chunks,
//! [`chunks`] the chunk files, [`xor`] and [`histogram`] the samples; [`log`] what is in no block
//! yet.

pub mod bits;
pub mod bytes;
pub mod chunks;
pub mod histogram;
pub mod index;
pub mod log;
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
use std::ops::Range;
use std::path::{Path, PathBuf};
use storage::block::{BlockMeta, BlockSeries, BlockSpec, write_block_replacing};
use storage::disk::Disk;
use storage::model::TimeMs;
use storage::store::StoreError;
use tombstones::TsdbTombstones;

/// The supported version of `meta.json`.
const META_VERSION: u32 = 1;

/// The content of a block's `meta.json`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TsdbMeta {
    /// The name of the block.
    pub ulid: String,
    /// First instant of its range.
    pub min_time: TimeMs,
    /// First instant after its range.
    pub max_time: TimeMs,
    /// Format version.
    pub version: u32,
    /// Numbers of samples and series.
    #[serde(default)]
    pub stats: TsdbStats,
    /// Where its samples come from.
    #[serde(default)]
    pub compaction: TsdbCompaction,
}

/// Where the samples of a block come from.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct TsdbCompaction {
    hints: Vec<String>,
}

impl TsdbCompaction {
    /// Whether the block was made in this way.
    pub fn has_hint(&self, hint: &str) -> bool {
        self.hints.iter().any(|own| own == hint)
    }
}

/// The counts of a block.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TsdbStats {
    /// Number of samples.
    pub num_samples: u64,
    /// Number of series.
    pub num_series: u64,
}

/// A block of Prometheus.
#[derive(Clone, Debug)]
pub struct TsdbBlock {
    /// The directory of the block.
    pub dir: PathBuf,
    /// The content of its `meta.json`.
    pub meta: TsdbMeta,
}

/// The blocks in Prometheus' data directory `dir`, oldest first. `dir` may also be a single block
/// or a snapshot. A new directory has none, only a log.
pub fn blocks(dir: &Path) -> Result<Vec<TsdbBlock>, ImportError> {
    // A single block, such as one from a backup.
    if dir.join("meta.json").is_file() {
        return Ok(vec![open(dir)?]);
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io_error(dir))? {
        let path = entry.map_err(io_error(dir))?.path();
        // Directories that are being written or removed have an extension.
        if path.extension().is_none() && path.join("meta.json").is_file() {
            found.push(open(&path)?);
        }
    }
    if found.is_empty() && !log::has_segments(&dir.join("wal")) {
        return Err(damaged(
            dir,
            "holds no blocks and no log of Prometheus; is this its --storage.tsdb.path?",
        ));
    }
    // Oldest first, so that an import that is broken off has a history without holes.
    found.sort_by_key(|block: &TsdbBlock| (block.meta.min_time, block.meta.max_time));
    Ok(found)
}

/// Whether `dir` is a data directory of Prometheus: it has blocks, or segments of a log.
pub fn is_data_directory(dir: &Path) -> bool {
    log::has_segments(&dir.join("wal")) || blocks(dir).is_ok_and(|blocks| !blocks.is_empty())
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

/// Writes `block` as one of our blocks into `blocks_dir`, under a name that is not in `taken`.
/// `progress` is called for each series. `None` if it has no samples.
pub fn copy(
    block: &TsdbBlock,
    disk: &dyn Disk,
    blocks_dir: &Path,
    taken: &BTreeSet<String>,
    progress: impl FnMut(&BlockSeries),
) -> Result<Option<BlockMeta>, ImportError> {
    let index = TsdbIndex::open(&block.dir.join("index"))?;
    let chunks = TsdbChunks::open(&block.dir.join("chunks"))?;
    let tombstones = TsdbTombstones::open(&block.dir.join("tombstones"))?;
    let rows = index
        .series()?
        .map(|one| one.and_then(|series| read_series(&series, &chunks, &tombstones, &block.meta)));
    let range = block.meta.min_time..block.meta.max_time;
    write_series(&block.dir, range, rows, disk, blocks_dir, taken, progress)
}

/// Writes a block of what was read in `source`.
fn write_series(
    source: &Path,
    range: Range<TimeMs>,
    rows: impl Iterator<Item = Result<BlockSeries, ImportError>>,
    disk: &dyn Disk,
    blocks_dir: &Path,
    taken: &BTreeSet<String>,
    mut progress: impl FnMut(&BlockSeries),
) -> Result<Option<BlockMeta>, ImportError> {
    let mut failed = None;
    let mut any = false;
    let series = rows.map_while(|read| match read {
        Ok(series) => {
            any |= !series.ts.is_empty() || !series.histograms.is_empty();
            progress(&series);
            Some(Ok(series))
        }
        // The writer of the store cannot return our errors: it gets a stand-in that makes it give
        // up, and the real error is returned below.
        Err(error) => {
            let stop = StoreError::Damaged { path: source.to_owned(), reason: error.to_string() };
            failed = Some(error);
            Some(Err(stop))
        }
    });
    let mut series = series.peekable();
    // A block without series would be an empty directory that every query opens.
    if series.peek().is_none() {
        return Ok(None);
    }
    let origin = BlockSpec { from: range.start, to: range.end, replaces: Vec::new(), reserved: taken };
    let written = write_block_replacing(disk, blocks_dir, origin, series);
    match (failed, written) {
        (Some(error), _) => Err(error),
        (None, written) => {
            let meta = written?;
            // All samples were deleted or out of range. What was written is removed again.
            if any {
                Ok(Some(meta))
            } else {
                disk.remove(&meta.dir).map(|()| None).map_err(io_error(&meta.dir))
            }
        }
    }
}

/// The samples of a series that are within the block's range and not deleted.
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
