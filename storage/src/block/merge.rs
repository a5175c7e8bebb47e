//! Merges several blocks into one: the same samples, sorted again, in fewer files. Which blocks are
//! merged is decided in `storage/src/store/compaction.rs`.
//!
//! Series are read one at a time from all blocks that have them, so memory holds one series, all
//! labels and all timestamps. The metadata of the merged block names the blocks it replaces: see
//! [`super::block_set::BlockSet::remove_replaced`].

use super::reader::{Block, BlockSeriesHandle};
use super::writer::{BlockSeries, BlockSpec, write_block_replacing};
use super::{BlockMeta, damaged};
use crate::disk::Disk;
use crate::error::StoreError;
use crate::model::runs::{RunMerger, merge_by_time, merge_histogram_runs};
use crate::model::{Labels, TimeMs};
use std::collections::BTreeSet;
use std::path::Path;

/// Writes one block into `blocks_dir` with all samples of `blocks` (in the order of the set) that
/// are not deleted and whose labels `keep` accepts. Durable on return. Its name is none of
/// `reserved`. `None` if no samples remain; then no block is written.
pub fn merge_blocks(
    disk: &dyn Disk,
    blocks_dir: &Path,
    reserved: &BTreeSet<String>,
    blocks: &[Block],
    keep: &dyn Fn(&Labels) -> bool,
) -> Result<Option<BlockMeta>, StoreError> {
    let metas = || blocks.iter().map(Block::meta);
    let span = metas().map(|m| (m.from, m.to)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    let (from, to) = span.ok_or_else(|| damaged(blocks_dir, "no blocks to merge"))?;
    let mut series: Vec<BlockSeriesHandle> = Vec::new();
    for block in blocks {
        series.extend(block.select(&[], TimeMs::MIN, TimeMs::MAX)?);
    }
    series.retain(|one| keep(one.labels()));
    // The sort is stable: the parts of one series stay in the order of their blocks.
    series.sort_by(|a, b| a.labels().cmp(b.labels()));
    let merged = series.chunk_by(|a, b| a.labels() == b.labels()).map(read);
    let empty = |one: &Result<BlockSeries, StoreError>| {
        one.as_ref().is_ok_and(|one| one.ts.is_empty() && one.histograms.is_empty())
    };
    let mut merged = merged.filter(|one| !empty(one)).peekable();
    if merged.peek().is_none() {
        return Ok(None);
    }
    let replaces = metas().map(|meta| meta.name().to_string()).collect();
    write_block_replacing(disk, blocks_dir, BlockSpec { from, to, replaces, reserved }, merged).map(Some)
}

/// All samples of one series, each time once.
fn read(parts: &[BlockSeriesHandle]) -> Result<BlockSeries, StoreError> {
    const ALL: (TimeMs, TimeMs) = (TimeMs::MIN, TimeMs::MAX);
    let labels = parts.first().map(|part| part.labels().clone()).unwrap_or_default();
    let mut all = BlockSeries { labels, ..BlockSeries::default() };
    let mut runs = RunMerger::start(&all.ts);
    let mut ends = Vec::with_capacity(parts.len());
    for part in parts {
        part.read(ALL.0, ALL.1, &mut all.ts, &mut all.vs)?;
        runs.end(&all.ts);
        part.read_histograms(ALL.0, ALL.1, &mut all.histograms)?;
        ends.push(all.histograms.len());
        part.read_starts(ALL.0, ALL.1, &mut all.starts)?;
    }
    runs.merge(&mut all.ts, &mut all.vs);
    merge_histogram_runs(&mut all.histograms, 0, &ends);
    merge_by_time(&mut all.starts, 0);
    // At one time a series has a float or a histogram. Blocks of one store agree on that; should
    // they not, the float wins.
    let BlockSeries { ts, histograms, .. } = &mut all;
    histograms.retain(|(t, _)| ts.binary_search(t).is_err());
    Ok(all)
}
