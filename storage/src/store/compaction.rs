//! Compaction: merges adjacent blocks into longer ones, so that a query over a month opens few
//! blocks.
//!
//! Which blocks are merged depends only on their metadata ([`due`]), as in Prometheus: each level
//! has ranges three times as long as the one below, aligned and complete. The merge itself is in
//! `../block/merge.rs`. Appends and queries continue meanwhile. A crash leaves the old blocks, the
//! new one, or both; both hold the same samples.

use super::maintenance::Maintenance;
use super::retention::Retention;
use crate::block::BlockMeta;
use crate::error::StoreError;
use crate::limits::{
    BLOCK_SMALL_FILE_BYTES, COMPACTED_RANGE_MS, COMPACTED_ROWS, COMPACTED_TIMES, MERGE_AT_ONCE,
};
use crate::metrics::{Counter, Metrics};
use crate::model::TimeMs;
use crate::shared_metrics;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many times longer the ranges of a level are than those of the level below.
pub(super) const FACTOR: i64 = 3;

/// The metrics of compaction; the names are those of Prometheus.
pub(super) struct CompactionMetrics {
    done: Arc<Counter>,
    failed: Arc<Counter>,
}

impl CompactionMetrics {
    /// Registers the metrics.
    pub(super) fn new(metrics: &Metrics) -> CompactionMetrics {
        CompactionMetrics {
            done: shared_metrics::compactions(metrics),
            failed: shared_metrics::failed_compactions(metrics),
        }
    }

    /// Counts the outcome of a merge.
    pub(super) fn count<T>(&self, outcome: &Result<T, StoreError>) {
        if outcome.is_ok() { self.done.inc() } else { self.failed.inc() }
    }
}

/// The longest range of a merged block: a tenth of the retention time, as in Prometheus.
fn longest(retention: Retention) -> TimeMs {
    if retention.time_ms > 0 { COMPACTED_RANGE_MS.min(retention.time_ms / 10) } else { COMPACTED_RANGE_MS }
}

/// The blocks to merge next; empty if there are none. The shortest ranges come first, and of these
/// the oldest. `range` is that of blocks from the head. If there are very many blocks, the longest
/// ranges with very many come first.
///
/// A range is merged only when a newer block begins after its end. Otherwise each new block would
/// cause the range to be rewritten.
pub(super) fn due(blocks: &[BlockMeta], range: TimeMs, retention: Retention) -> Vec<BlockMeta> {
    let newest = blocks.iter().map(|b| b.from).max().unwrap_or(TimeMs::MIN);
    let longest = longest(retention).max(range);
    let next = |size: &i64| Some(size.saturating_mul(FACTOR)).filter(|size| *size <= longest);
    let sizes: Vec<i64> = std::iter::successors(Some(range.max(1)), next).collect();
    let most = if blocks.len() > MERGE_AT_ONCE { &sizes[..] } else { &[] };
    let many = most.iter().rev().map(|size| (*size, MERGE_AT_ONCE));
    let few = sizes.iter().map(|size| (*size, 1));
    let mut found = many.chain(few).filter_map(|(size, beyond)| in_one_range(blocks, size, newest, beyond));
    found.next().unwrap_or_default()
}

/// The blocks of the oldest range of length `size` that has more than `beyond` of them, if they may
/// be merged.
fn in_one_range(blocks: &[BlockMeta], size: TimeMs, newest: TimeMs, beyond: usize) -> Option<Vec<BlockMeta>> {
    let mut ranges: BTreeMap<TimeMs, Vec<&BlockMeta>> = BTreeMap::new();
    for block in blocks {
        let at = block.from.div_euclid(size);
        // Blocks of a backfill or an import may lie across; they wait for a longer range.
        let within = at == block.to.saturating_sub(1).div_euclid(size);
        if within && at.saturating_add(1).saturating_mul(size) <= newest {
            ranges.entry(at).or_default().push(block);
        }
    }
    let found = ranges.into_values().find(|blocks| blocks.len() > beyond && fit(blocks))?;
    Some(found.into_iter().cloned().collect())
}

/// Whether the merged block stays within the limits of writing and reading: its times are held in
/// memory, and its small files are read whole.
fn fit(blocks: &[&BlockMeta]) -> bool {
    let small =
        |b: &BlockMeta| ["series.parquet", "clocks.parquet"].map(|f| b.files.get(f).map_or(0, |f| f.bytes));
    let bytes: u64 = blocks.iter().flat_map(|b| small(b)).sum();
    let sum = |count: fn(&BlockMeta) -> u64| blocks.iter().map(|b| count(b)).sum::<u64>();
    bytes <= BLOCK_SMALL_FILE_BYTES
        && sum(|b| b.rows) <= COMPACTED_ROWS
        && sum(|b| b.times) <= COMPACTED_TIMES
}

impl Maintenance<'_> {
    /// Merges blocks until none are due. Returns the number of merges. To be called after
    /// [`Maintenance::run_housekeeping`], on a thread that may be busy for minutes: flushes and
    /// retention continue meanwhile. A merge is dropped if retention removes one of its blocks.
    pub fn compact(&self) -> Result<usize, StoreError> {
        let Some(history) = &self.store.history else { return Ok(0) };
        let mut made = 0;
        loop {
            // Locked for one merge at a time, so that deletions and snapshots come in between.
            let _locks = self.store.locks.for_rewrite();
            if !history.compact(self.store.options.block_range_ms, self.store.retention.get())? {
                return Ok(made);
            }
            made += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(from: i64, to: i64) -> BlockMeta {
        BlockMeta { from, to, min_time: from, max_time: to - 1, ..BlockMeta::default() }
    }

    fn next(spans: &[(i64, i64)], time_ms: i64) -> Vec<(i64, i64)> {
        let blocks: Vec<BlockMeta> = spans.iter().map(|(from, to)| block(*from, *to)).collect();
        let found = due(&blocks, 10, Retention { time_ms, size_bytes: 0 });
        found.iter().map(|b| (b.from, b.to)).collect()
    }

    #[test]
    fn three_make_one_when_a_fourth_has_begun() {
        assert_eq!(next(&[(0, 10), (10, 20), (20, 30)], 0), []);
        assert_eq!(next(&[(0, 10), (10, 20), (20, 30), (30, 40)], 0), [(0, 10), (10, 20), (20, 30)]);
        assert_eq!(next(&[(0, 30), (30, 60), (60, 90), (90, 100)], 0), [(0, 30), (30, 60), (60, 90)]);
        assert_eq!(
            next(&[(0, 10), (20, 30), (40, 50)], 0),
            [(0, 10), (20, 30)],
            "what is missing is not waited for"
        );
        assert_eq!(next(&[(0, 30), (40, 50)], 0), [], "one is not merged");
    }

    #[test]
    fn two_of_one_range_come_first_and_aligned_ranges_only() {
        assert_eq!(next(&[(-10, 0), (0, 10), (10, 20), (10, 20), (30, 40)], 0), [(10, 20), (10, 20)]);
        assert_eq!(next(&[(-10, 0), (0, 10), (30, 40)], 0), [], "they are in different ranges");
    }

    #[test]
    fn thousands_of_blocks_become_few_in_few_merges() {
        const RANGE: i64 = 7_200_000;
        let mut blocks: Vec<BlockMeta> = (0..8_000).map(|i| block(i * RANGE, (i + 1) * RANGE)).collect();
        let mut merges = 0;
        loop {
            let old = due(&blocks, RANGE, Retention { time_ms: 0, size_bytes: 0 });
            let (Some(first), Some(last)) = (old.first(), old.last()) else { break };
            let merged = block(first.from, last.to);
            blocks.retain(|b| b.from < merged.from || merged.to < b.to);
            blocks.push(merged);
            blocks.sort_by_key(|b| b.from);
            merges += 1;
        }
        assert!(merges < 60, "{merges}");
        assert!(blocks.len() < 60, "{}", blocks.len());
    }

    #[test]
    fn what_cannot_be_held_is_not_merged() {
        let due_with = |rows, times| {
            let blocks = [(0, 10), (20, 30), (40, 50)].map(|(from, to)| block(from, to));
            let blocks = blocks.map(|block| BlockMeta { rows, times, ..block });
            due(&blocks, 10, Retention { time_ms: 0, size_bytes: 0 }).len()
        };
        assert_eq!(due_with(COMPACTED_ROWS / 2, COMPACTED_TIMES / 2), 2);
        assert_eq!(due_with(COMPACTED_ROWS / 2 + 1, 0), 0);
        assert_eq!(due_with(0, COMPACTED_TIMES / 2 + 1), 0);
    }

    #[test]
    fn no_longer_than_a_tenth_of_the_retention() {
        let four = [(0, 10), (10, 20), (20, 30), (30, 40)];
        assert_eq!((next(&four, 299).len(), next(&four, 300).len()), (0, 3));
    }
}
