//! Merges adjacent short group chunks of a column set into one long chunk. A group chunk is a
//! compressed run of scrapes of one target ([`super::group_chunk`]).
//!
//! Every chunk starts its columns with a full value, so one long chunk is smaller than many short
//! ones. The merge is incremental: each row that is appended merges a few columns
//! ([`ChunkMerge::work`]), so no single append waits for all of them. When that begins is decided
//! by [`super::seal_schedule`].

use super::group_chunk::{GroupChunk, GroupChunkBuilder};
use super::seal_schedule::SealSchedule;
use crate::limits::GROUP_CHUNK_SCRAPES;
use std::sync::Arc;

/// A merge in progress: the chunks to merge, and the merged columns so far.
pub(super) struct ChunkMerge {
    /// The short chunks, oldest first.
    chunks: Vec<Arc<GroupChunk>>,
    /// Number of columns of the merged chunk.
    columns: usize,
    /// Has the columns that are merged.
    builder: GroupChunkBuilder,
    /// A buffer for the values of one column, as bits.
    column: Vec<u64>,
}

impl ChunkMerge {
    /// Chooses the chunks to merge next, if there are any. These are the newest short chunks, once
    /// there are as many as `schedule` asks for. Short chunks that remain of an earlier multiple of
    /// `range` come first; two of them are enough. A merged chunk never crosses a multiple of
    /// `range`.
    pub(super) fn plan_next(
        chunks: &[Arc<GroupChunk>],
        range: i64,
        schedule: &mut SealSchedule,
    ) -> Option<ChunkMerge> {
        // Long chunks are never merged again: each sample is rewritten once.
        let shorts = chunks.iter().rev().take_while(|w| w.clock().len() <= GROUP_CHUNK_SCRAPES).count();
        let shorts = &chunks[chunks.len() - shorts..];
        let at = |w: &Arc<GroupChunk>| w.min().div_euclid(range);
        let now = at(shorts.last()?);
        let enough = |run: &&[Arc<GroupChunk>]| {
            run.len() >= if at(&run[0]) == now { schedule.chunks_per_merge } else { 2 }
        };
        let chunks = shorts.chunk_by(|a, b| at(a) == at(b)).find(enough)?;
        if at(&chunks[0]) == now {
            schedule.merged();
        }
        // Earlier ranges do not count: they get no more chunks, so they follow no schedule.
        let columns = chunks.iter().map(|w| w.columns()).max().unwrap_or(0);
        let builder = GroupChunkBuilder::new(columns, true);
        let column = Vec::new();
        Some(ChunkMerge { chunks: chunks.to_vec(), columns, builder, column })
    }

    /// Merges the next share of the columns. Returns whether the merge is complete.
    pub(super) fn work(&mut self) -> bool {
        // A share per scrape, so that no single append pays for a whole merge.
        let end = self.columns.min(self.builder.columns() + self.columns.div_ceil(GROUP_CHUNK_SCRAPES));
        for c in self.builder.columns() as u32..end as u32 {
            let first = self.chunks[0].constant(c);
            // A column that is constant in all chunks is merged without decoding it.
            match first.filter(|_| self.chunks[1..].iter().all(|chunk| chunk.constant(c) == first)) {
                Some(bits) => self.builder.push_constant(bits),
                None => {
                    self.column.clear();
                    for chunk in &self.chunks {
                        chunk.append_bits(c, &mut self.column);
                    }
                    self.builder.push(&self.column);
                }
            }
        }
        end == self.columns
    }

    /// Replaces the merged chunks in `chunks` by the long one. Does nothing if they are gone,
    /// because they were dropped meanwhile.
    pub(super) fn finish(self, chunks: &mut Vec<Arc<GroupChunk>>) {
        let Some(at) = chunks.iter().position(|w| Arc::ptr_eq(w, &self.chunks[0])) else { return };
        let clock = self.chunks.iter().flat_map(|w| w.clock().iter().copied()).collect();
        let one = Arc::new(self.builder.finish(clock));
        chunks.splice(at..at + self.chunks.len(), [one]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::columns::ColumnSet;
    use super::*;
    use crate::model::TimeMs;

    const STEP: i64 = 15_000;
    const RANGE: i64 = 2 * 3_600_000;

    fn set(group: u32) -> ColumnSet {
        let mut set = ColumnSet::new(group);
        set.columns = vec![0, 1];
        set
    }

    fn row(scrape: i64) -> Arc<[f64]> {
        Arc::new([scrape as f64 / 10.0, 3.0])
    }

    fn clocks(set: &ColumnSet) -> Vec<Vec<TimeMs>> {
        set.group_chunks().iter().map(|w| w.clock().to_vec()).collect()
    }

    #[test]
    fn short_windows_become_long_ones_within_their_range() {
        for group in 0..40 {
            let mut set = set(group);
            // The rows begin within a range, cover a whole one, and end in a third.
            for scrape in 300..300 + 900 {
                set.push(scrape * STEP, row(scrape), RANGE);
            }
            let clocks = clocks(&set);
            assert!(clocks.iter().flatten().is_sorted(), "{clocks:?}");
            let crosses =
                |clock: &Vec<TimeMs>| clock[0].div_euclid(RANGE) != clock[clock.len() - 1].div_euclid(RANGE);
            assert!(!clocks.iter().any(crosses), "{clocks:?}");
            // Two ranges are complete: none of their chunks stayed short, except single ones.
            let short = |clock: &&Vec<TimeMs>| clock.len() <= GROUP_CHUNK_SCRAPES;
            let over = clocks.iter().filter(|clock| clock[0] < 2 * RANGE).filter(short).count();
            assert!(over <= 2, "{over}: {:?}", clocks.iter().map(Vec::len).collect::<Vec<_>>());
            for (column, value) in [(0, 77.7), (1, 3.0)] {
                assert_eq!(set.at(column, 777 * STEP), Some(value));
            }
            let mut ts = Vec::new();
            let mut vs = Vec::new();
            set.snapshot(TimeMs::MIN, TimeMs::MAX).read(0, TimeMs::MIN, TimeMs::MAX, &mut ts, &mut vs);
            assert!(ts.iter().copied().eq((300..1200).map(|scrape| scrape * STEP)));
            assert!(vs.iter().copied().eq((300..1200).map(|scrape| scrape as f64 / 10.0)));
        }
    }

    #[test]
    fn targets_do_not_hold_most_at_the_same_time() {
        let mut sets: Vec<ColumnSet> = (0..64).map(set).collect();
        for scrape in 0..400 {
            for set in &mut sets {
                set.push(scrape * STEP, row(scrape), RANGE);
            }
            if scrape < 150 {
                continue;
            }
            let open: usize = sets.iter().map(|set| set.open_rows()).sum();
            let all = sets.len() * GROUP_CHUNK_SCRAPES;
            assert!((all / 3..all * 2 / 3).contains(&open), "{open} of {all} rows are open at {scrape}");
            let folding = sets.iter().filter(|set| set.is_merging()).count();
            assert!(folding <= sets.len() / 4, "{folding} of {} fold at {scrape}", sets.len());
        }
    }
}
