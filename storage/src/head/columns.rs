//! A column set: the series of one column group (a scrape target or a rule) under one numbering of
//! columns, with the open rows and the sealed chunks of these columns.
//!
//! Columns are only ever appended, so a series keeps its column for as long as the set exists. When
//! most columns are without samples, the group begins a new set ([`super::group`]); the old one
//! stays readable until its samples are dropped. [`super::open_rows`] holds the latest rows,
//! [`super::group_chunk`] the compressed ones.

use super::chunk_merge::ChunkMerge;
use super::group_chunk::GroupChunk;
use super::open_rows::{OpenRow, OpenRows};
use super::seal_schedule::SealSchedule;
use crate::limits::{GROUP_CHUNK_SCRAPES, SCRAPE_RUN_PENDING_CHUNKS};
use crate::model::TimeMs;
use roaring::RoaringBitmap;
use std::sync::Arc;

/// A column set: columns, open rows and sealed chunks.
pub(super) struct ColumnSet {
    /// The index of its group within the shard.
    pub group: u32,
    /// The series slot of each column.
    pub columns: Vec<u32>,
    /// Columns whose series also has samples elsewhere: each of their samples is checked for
    /// duplicates.
    pub mixed: RoaringBitmap,
    /// The newest rows, not compressed.
    rows: OpenRows,
    /// The compressed rows, oldest first.
    chunks: Vec<Arc<GroupChunk>>,
    /// The merge of chunks that is going on.
    merge: Option<ChunkMerge>,
    schedule: SealSchedule,
}

impl ColumnSet {
    /// A set without columns.
    pub(super) fn new(group: u32) -> ColumnSet {
        ColumnSet {
            group,
            columns: Vec::new(),
            mixed: RoaringBitmap::new(),
            rows: OpenRows::default(),
            chunks: Vec::new(),
            merge: None,
            schedule: SealSchedule::begin(group),
        }
    }

    /// Adds a row; `t` is later than all other rows. Chunks do not cross multiples of `range`.
    /// Returns whether the open rows were sealed.
    pub(super) fn push(&mut self, t: TimeMs, values: Arc<[f64]>, range: i64) -> bool {
        let crosses = self.rows.min().is_some_and(|first| first.div_euclid(range) != t.div_euclid(range));
        let sealed = (crosses || self.rows.len() >= self.schedule.rows_per_chunk) && self.seal();
        self.rows.push(t, values);
        if crosses {
            // All sets cross the range at the same time. The next seal of each set is staggered
            // again, so they do not all seal and merge together.
            self.schedule = SealSchedule::begin(self.group);
        } else if sealed {
            self.schedule.sealed();
        }
        if let Some(merge) = &mut self.merge {
            if merge.work()
                && let Some(merge) = self.merge.take()
            {
                merge.finish(&mut self.chunks);
            }
        } else if sealed && !crosses {
            self.merge = ChunkMerge::plan_next(&self.chunks, range, &mut self.schedule);
        }
        sealed
    }

    /// Number of samples in the newest row, 0 if no row is open.
    pub(super) fn newest_samples(&self) -> usize {
        self.rows.newest_samples(self.columns.len())
    }

    /// Puts a value into the open row of time `t`, if there is such a row and its column `c` is
    /// empty. Returns whether it did.
    pub(super) fn fill(&mut self, c: u32, t: TimeMs, v: f64) -> bool {
        self.rows.fill(c, t, v, self.columns.len())
    }

    /// Seals the open rows. Returns whether there were any.
    pub(super) fn seal(&mut self) -> bool {
        let chunk = self.rows.seal(self.columns.len());
        let any = chunk.is_some();
        self.chunks.extend(chunk.map(Arc::new));
        any
    }

    /// Whether a ready-made chunk that begins at `t` may be appended: no merge runs, and at most
    /// [`SCRAPE_RUN_PENDING_CHUNKS`] short chunks of the same range wait to be merged.
    pub(super) fn has_no_pending_merge(&self, t: TimeMs, range: i64) -> bool {
        let waits = |chunk: &&Arc<GroupChunk>| {
            chunk.clock().len() <= GROUP_CHUNK_SCRAPES && chunk.max().div_euclid(range) == t.div_euclid(range)
        };
        self.merge.is_none()
            && self.chunks.iter().rev().take_while(waits).count() <= SCRAPE_RUN_PENDING_CHUNKS
    }

    /// Appends a chunk that is later than all others.
    pub(super) fn push_chunk(&mut self, chunk: GroupChunk) {
        self.seal();
        self.chunks.push(Arc::new(chunk));
    }

    /// Whether the set holds no sample.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.chunks.is_empty()
    }

    /// Time of the oldest row.
    pub(super) fn oldest(&self) -> Option<TimeMs> {
        self.chunks.first().map(|w| w.min()).or(self.rows.min())
    }

    /// Number of column chunks, the open ones included.
    pub(super) fn chunks(&self) -> u64 {
        let open = if self.rows.is_empty() { 0 } else { self.columns.len() as u64 };
        self.chunks.iter().map(|w| u64::from(w.present())).sum::<u64>() + open
    }

    /// Time of the newest sample of column `c`.
    pub(super) fn newest(&self, c: u32) -> Option<TimeMs> {
        self.rows.newest(c).or_else(|| {
            // Only for series that are in no open row, such as those that ended: decoding a chunk
            // for each sample would be too slow.
            let chunk = self.chunks.iter().rev().find(|w| w.has(c))?;
            let mut ts = Vec::new();
            let mut vs = Vec::new();
            chunk.read(c, TimeMs::MIN, TimeMs::MAX, &mut ts, &mut vs);
            ts.last().copied()
        })
    }

    /// The value of column `c` at exactly `t`.
    pub(super) fn at(&self, c: u32, t: TimeMs) -> Option<f64> {
        if let Some(v) = self.rows.sample_at(c, t) {
            return Some(v);
        }
        let i = self.chunks.partition_point(|w| w.max() < t);
        let mut ts = Vec::new();
        let mut vs = Vec::new();
        self.chunks.get(i)?.read(c, t, t, &mut ts, &mut vs);
        vs.first().copied()
    }

    /// The chunks and rows that may hold samples in `from..=to`.
    pub(super) fn snapshot(&self, from: TimeMs, to: TimeMs) -> ColumnsSnapshot {
        let first = self.chunks.partition_point(|w| w.max() < from);
        let end = self.chunks.partition_point(|w| w.min() <= to).max(first);
        let rows = self.rows.between(from, to).to_vec();
        ColumnsSnapshot { chunks: self.chunks[first..end].to_vec(), rows }
    }

    /// Drops chunks that end before `end`, and rows before `end`.
    pub(super) fn drop_before(&mut self, end: TimeMs) {
        self.chunks.retain(|w| w.max() >= end);
        // The merge may hold chunks that were just dropped.
        self.merge = None;
        self.rows.drop_before(end);
    }

    /// The columns that have samples.
    pub(super) fn live_columns(&self) -> RoaringBitmap {
        let alive = |c: &u32| self.chunks.iter().any(|w| w.has(*c)) || self.rows.newest(*c).is_some();
        (0..self.columns.len() as u32).filter(alive).collect()
    }
}

#[cfg(test)]
impl ColumnSet {
    pub(super) fn group_chunks(&self) -> &[Arc<GroupChunk>] {
        &self.chunks
    }

    pub(super) fn open_rows(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn is_merging(&self) -> bool {
        self.merge.is_some()
    }
}

/// What a reader needs of a column set. All series of the set in one selection share it.
pub(super) struct ColumnsSnapshot {
    chunks: Vec<Arc<GroupChunk>>,
    rows: Vec<(TimeMs, OpenRow)>,
}

impl ColumnsSnapshot {
    /// Whether column `c` has a sample.
    pub(super) fn has(&self, c: u32) -> bool {
        self.chunks.iter().any(|w| w.has(c)) || self.rows.iter().any(|(_, row)| row.get(c).is_some())
    }

    /// Appends the samples of column `c` with `from ≤ t ≤ to` in time order.
    pub(super) fn read(&self, c: u32, from: TimeMs, to: TimeMs, ts: &mut Vec<TimeMs>, vs: &mut Vec<f64>) {
        for chunk in self.chunks.iter().filter(|w| w.min() <= to && w.max() >= from) {
            chunk.read(c, from, to, ts, vs);
        }
        for (t, row) in self.rows.iter().filter(|(t, _)| *t >= from && *t <= to) {
            if let Some(v) = row.get(c) {
                ts.push(*t);
                vs.push(v);
            }
        }
    }

    /// The newest sample of column `c` with `from ≤ t ≤ to`. Open rows are searched first: they are
    /// not compressed.
    pub(super) fn latest(&self, c: u32, from: TimeMs, to: TimeMs) -> Option<(TimeMs, f64)> {
        let mut rows = self.rows.iter().rev().filter(|(t, _)| *t >= from && *t <= to);
        let in_row = rows.find_map(|(t, row)| Some((*t, row.get(c)?)));
        in_row.or_else(|| self.chunks.iter().rev().find_map(|chunk| chunk.latest(c, from, to)))
    }

    /// Calls `add(min, max)` for each chunk and each row.
    pub(super) fn spans(&self, mut add: impl FnMut(TimeMs, TimeMs)) {
        for w in &self.chunks {
            add(w.min(), w.max());
        }
        for (t, _) in &self.rows {
            add(*t, *t);
        }
    }
}
