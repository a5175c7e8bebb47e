//! Scrape runs: consecutive scrapes of one target as the write-ahead log has them, collected by the
//! replay until there are enough for a long chunk. The replay builds this chunk directly, without
//! the short chunks that appends make first ([`super::chunk_merge`]), and transposes only columns
//! that change.
//!
//! Which scrapes may join a run, and when a run must end, is decided in [`crate::store`]'s
//! `scrape_decoder.rs`.

use super::group_chunk::{GroupChunk, GroupChunkBuilder};
use super::shard::Head;
use crate::limits::{GROUP_CHUNK_SCRAPES, MERGED_GROUP_CHUNKS, SCRAPE_RUN_COLUMNS, SCRAPE_RUN_SCRAPES};
use crate::model::TimeMs;
use crate::model::value::{ABSENT, ABSENT_BITS, is_absent};
use crate::wal::EncodedRow;
use std::ops::Range;
use std::sync::Arc;

/// Marks a column whose value has not changed in this run: it gets no slot in `cells`.
const UNCHANGED: u32 = u32::MAX;

/// Encoded scrapes that will become one chunk.
#[derive(Default)]
pub struct ScrapeRun {
    /// Number of columns of each row.
    columns: usize,
    /// The row before the run, to which the first row is a difference.
    before: Vec<f64>,
    /// The times of the rows, ms.
    times: Vec<TimeMs>,
    /// The encoded rows, one after the other.
    bytes: Vec<u8>,
    /// For each row its end in `bytes`, and whether it is a keyframe.
    ends: Vec<(usize, bool)>,
}

impl ScrapeRun {
    /// Whether the run has no rows.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Columns of each row; `None` if the run is empty.
    pub fn columns(&self) -> Option<usize> {
        (!self.is_empty()).then_some(self.columns)
    }

    /// Whether the run must become a chunk before another row is added.
    pub fn is_full(&self) -> bool {
        self.times.len() >= GROUP_CHUNK_SCRAPES * MERGED_GROUP_CHUNKS
    }

    /// Begins a run of rows with `columns` columns; the first is a difference to `before`.
    pub fn begin(&mut self, before: &[f64], columns: usize) {
        self.columns = columns;
        self.before.clear();
        self.before.extend_from_slice(&before[..before.len().min(columns)]);
        // Columns that were added since had no sample before the run.
        self.before.resize(columns, ABSENT);
    }

    /// Adds a row.
    pub fn push(&mut self, t: TimeMs, row: EncodedRow, keyframe: bool) {
        self.times.push(t);
        self.bytes.extend_from_slice(row.bytes);
        self.ends.push((self.bytes.len(), keyframe));
    }

    fn row(&self, row_index: usize) -> (EncodedRow<'_>, bool) {
        let (end, keyframe) = self.ends[row_index];
        let begin = row_index.checked_sub(1).map_or(0, |before| self.ends[before].0);
        (EncodedRow { columns: self.columns, bytes: &self.bytes[begin..end] }, keyframe)
    }

    fn clear(&mut self) {
        self.times.clear();
        self.bytes.clear();
        self.ends.clear();
    }
}

/// Transposes rows to columns. Its buffers are reused from one run to the next.
#[derive(Default)]
pub struct Transposer {
    /// The current row, and the number of its samples.
    row: Vec<f64>,
    present: u64,
    /// Buffer for a decoded keyframe.
    keyframe_row: Vec<f64>,
    changing: ChangingColumns,
    /// Number of samples of all rows since the run began.
    samples: u64,
}

/// The values of the columns that change, column by column. Constant columns take no memory here.
#[derive(Default)]
struct ChangingColumns {
    /// Rows of the chunk.
    rows: usize,
    /// Number of the current row.
    row_index: usize,
    /// For each column its index among the changing ones, or [`UNCHANGED`].
    positions: Vec<u32>,
    cells: Vec<u64>,
    /// For each changing column, how many rows are filled in.
    filled: Vec<usize>,
}

impl ChangingColumns {
    fn begin(&mut self, rows: usize, columns: usize) {
        self.rows = rows;
        self.row_index = 0;
        self.positions.clear();
        self.positions.resize(columns, UNCHANGED);
        self.cells.clear();
        self.filled.clear();
    }

    /// Notes that `column` changes in the current row; it had the value `before` until now.
    #[inline]
    fn changes(&mut self, column: usize, before: u64) {
        // The first row of a chunk has no row before it within the chunk.
        if self.row_index == 0 {
            return;
        }
        if self.positions[column] == UNCHANGED {
            self.positions[column] = self.filled.len() as u32;
            self.filled.push(0);
            self.cells.resize(self.cells.len() + self.rows, 0);
        }
        self.fill(self.positions[column] as usize, self.row_index, before);
    }

    #[inline]
    fn fill(&mut self, position: usize, to: usize, bits: u64) {
        let column = position * self.rows;
        let filled = self.filled[position];
        self.cells[column + filled..column + to].fill(bits);
        self.filled[position] = to;
    }

    /// All values of a column; `bits` is its value in the last row. `None` if the column is
    /// constant.
    fn column(&mut self, column: usize, bits: u64) -> Option<&[u64]> {
        let position = Some(self.positions[column]).filter(|position| *position != UNCHANGED)? as usize;
        self.fill(position, self.rows, bits);
        self.cells.get(position * self.rows..(position + 1) * self.rows)
    }
}

impl Transposer {
    fn begin(&mut self, run: &ScrapeRun) {
        self.row.clear();
        self.row.extend_from_slice(&run.before);
        self.present = count(&self.row);
        self.samples = 0;
    }

    /// Decodes row `row_index` of the run into the current row. `None` if it is malformed.
    fn decode(&mut self, run: &ScrapeRun, row_index: usize) -> Option<()> {
        let ((raw, keyframe), changing) = (run.row(row_index), &mut self.changing);
        if keyframe {
            self.keyframe_row.clear();
            self.keyframe_row.resize(run.columns, ABSENT);
            raw.apply(&mut self.keyframe_row, |_, _, _| ())?;
            for (column, (before, now)) in self.row.iter().zip(&self.keyframe_row).enumerate() {
                if before.to_bits() != now.to_bits() {
                    changing.changes(column, before.to_bits());
                }
            }
            std::mem::swap(&mut self.row, &mut self.keyframe_row);
            self.present = count(&self.row);
        } else {
            let present = &mut self.present;
            raw.apply(&mut self.row, |column, before, now| {
                *present = *present + u64::from(before == ABSENT_BITS) - u64::from(now == ABSENT_BITS);
                changing.changes(column, before);
            })?;
        }
        self.samples += self.present;
        Some(())
    }

    /// The chunk of `rows`, which follow the rows decoded before, with `width` columns. `None` if a
    /// row is malformed.
    fn chunk(
        &mut self,
        run: &ScrapeRun,
        rows: Range<usize>,
        width: usize,
        long_lived: bool,
    ) -> Option<GroupChunk> {
        self.changing.begin(rows.len(), run.columns);
        for row_index in rows.clone() {
            self.changing.row_index = row_index - rows.start;
            self.decode(run, row_index)?;
        }
        let mut builder = GroupChunkBuilder::new(width, long_lived);
        for (column, value) in self.row.iter().enumerate() {
            match self.changing.column(column, value.to_bits()) {
                Some(values) => builder.push(values),
                None => builder.push_constant(value.to_bits()),
            }
        }
        for _ in self.row.len()..width {
            builder.push_constant(ABSENT_BITS);
        }
        Some(builder.finish(run.times[rows].into()))
    }
}

fn count(row: &[f64]) -> u64 {
    row.iter().filter(|v| !is_absent(**v)).count() as u64
}

impl Head {
    /// Whether a row of `columns` values at `t` can join the run `run`, or begin one. It must
    /// be the newest of its group, no series of the set may have samples elsewhere, and no short
    /// chunks may wait for a merge.
    pub fn can_join(&self, group: u32, run: &ScrapeRun, t: TimeMs, columns: usize) -> bool {
        let Some(known) = self.groups.get(group) else { return false };
        let Some(set) = known.set.and_then(|set| self.groups.sets.get(&set)) else { return false };
        let range = |t: TimeMs| t.div_euclid(self.block_range);
        // A chunk lies within one range, has rows of one width, and ascends.
        let follows = match run.times.last() {
            Some(last) => t > *last && range(t) == range(*last) && columns == run.columns,
            None => {
                known.newest.is_none_or(|newest| t > newest) && set.has_no_pending_merge(t, self.block_range)
            }
        };
        follows && set.mixed.is_empty() && columns <= set.columns.len().min(SCRAPE_RUN_COLUMNS)
    }

    /// Stores the run and empties it: as one long chunk if it has enough rows, otherwise as appends
    /// would have. `last` becomes its last row. Returns the number of samples; `None` if a row is
    /// malformed, which loses this row and the rest of the run.
    pub fn append_run(
        &mut self,
        group: u32,
        run: &mut ScrapeRun,
        transposer: &mut Transposer,
        last: &mut Vec<f64>,
    ) -> Option<u64> {
        if run.is_empty() {
            return Some(0);
        }
        transposer.begin(run);
        let transposed = self.transpose(group, run, transposer);
        // Also after a malformed row: the caller forgets the row then.
        last.clone_from(&transposer.row);
        run.clear();
        transposed.map(|()| transposer.samples)
    }

    fn transpose(&mut self, group: u32, run: &ScrapeRun, transposer: &mut Transposer) -> Option<()> {
        let rows = run.times.len();
        let key = self.groups[group].set?;
        let long = rows >= SCRAPE_RUN_SCRAPES;
        // Too few for a long chunk: the same short chunks as appends would have made.
        let length = if long { rows } else { GROUP_CHUNK_SCRAPES };
        let mut stored = 0;
        while rows - stored >= length {
            let set = self.groups.sets.get_mut(&key)?;
            set.push_chunk(transposer.chunk(run, stored..stored + length, set.columns.len(), long)?);
            self.times.extend(run.times[stored]);
            stored += length;
            self.times.extend(run.times[stored - 1]);
            self.groups[group].newest = Some(run.times[stored - 1]);
        }
        // The remaining rows are too few for a chunk: they become open rows.
        transposer.changing.begin(0, run.columns);
        for row_index in stored..rows {
            transposer.decode(run, row_index)?;
            self.push_row(group, run.times[row_index], Arc::from(&transposer.row[..]));
        }
        Some(())
    }
}
