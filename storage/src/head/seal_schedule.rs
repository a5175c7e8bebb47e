//! When a column set (the series of a scrape target) compresses its open rows, which is called
//! sealing, and how many short chunks are merged into a long one ([`super::chunk_merge`]).
//!
//! Targets with one scrape interval would seal and merge at the same scrape, and all would need the
//! most memory at the same time. So each group begins at another point of the cycle from one long
//! chunk to the next.

use crate::limits::{GROUP_CHUNK_SCRAPES, MERGED_GROUP_CHUNKS};

/// When to seal and when to merge next.
pub(super) struct SealSchedule {
    /// Number of open rows that are sealed to a chunk.
    pub rows_per_chunk: usize,
    /// Number of short chunks that are merged to a long one.
    pub chunks_per_merge: usize,
}

impl SealSchedule {
    /// The first cycle of a group. Consecutive group numbers are spread evenly over the cycle,
    /// however many groups there are (multiplication by the golden ratio).
    pub(super) fn begin(group: u32) -> SealSchedule {
        let turn = u64::from(group.wrapping_mul(0x9E37_79B9));
        let scrapes = (GROUP_CHUNK_SCRAPES * MERGED_GROUP_CHUNKS) as u64;
        let at = ((turn * scrapes) >> 32) as usize;
        // At least two chunks: a single one cannot be merged.
        SealSchedule {
            rows_per_chunk: 1 + at % GROUP_CHUNK_SCRAPES,
            chunks_per_merge: 2 + at / GROUP_CHUNK_SCRAPES,
        }
    }

    /// Rows were sealed: the next seal comes after a full number of rows.
    pub(super) fn sealed(&mut self) {
        self.rows_per_chunk = GROUP_CHUNK_SCRAPES;
    }

    /// Chunks were merged: the next merge comes after a full number of chunks.
    pub(super) fn merged(&mut self) {
        self.chunks_per_merge = MERGED_GROUP_CHUNKS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_begin_apart() {
        for groups in [8_u32, 10, 64, 1000] {
            let mut chunks_per_merge = [0; MERGED_GROUP_CHUNKS];
            for group in 0..groups {
                let schedule = SealSchedule::begin(group);
                assert!((1..=GROUP_CHUNK_SCRAPES).contains(&schedule.rows_per_chunk));
                chunks_per_merge[schedule.chunks_per_merge % MERGED_GROUP_CHUNKS] += 1;
            }
            let fair = groups.div_ceil(MERGED_GROUP_CHUNKS as u32);
            assert!(chunks_per_merge.iter().all(|n| *n <= fair + 1), "{groups} groups: {chunks_per_merge:?}");
        }
    }
}
