//! Scrape runs (in names also *stretches*): consecutive scrapes of one column group as the log has
//! them, collected by the replay until there are enough for a long chunk. The replay builds this
//! chunk directly, without the short chunks that appends make first ([`super::chunk_merge`]), and
//! transposes only columns that change.
//!
//! Which scrapes may join a run, and when a run must end, is decided in [`crate::store`]'s
//! `scrape_decoder.rs`.

use super::group_chunk::{GroupChunk, GroupChunkBuilder};
use super::shard::Head;
use crate::limits::{HEAD_FOLDED_WINDOWS, HEAD_WINDOW_SCRAPES, STRETCH_COLUMNS, STRETCH_SCRAPES};
use crate::model::TimeMs;
use crate::model::value::{ABSENT, ABSENT_BITS, is_absent};
use crate::wal::EncodedRow;
use std::ops::Range;
use std::sync::Arc;

/// Marks a column whose value has not changed in this run: it gets no slot in `cells`.
const STILL: u32 = u32::MAX;

/// Encoded scrapes that will become one chunk.
#[derive(Default)]
pub struct ScrapeRun {
    columns: usize,
    /// The row before the run, to which the first row is a difference.
    before: Vec<f64>,
    clock: Vec<TimeMs>,
    /// The encoded rows, one after the other.
    bytes: Vec<u8>,
    /// For each row its end in `bytes`, and whether it is a keyframe.
    ends: Vec<(usize, bool)>,
}

impl ScrapeRun {
    /// Whether the run has no rows.
    pub fn is_empty(&self) -> bool {
        self.clock.is_empty()
    }

    /// Columns of each row; `None` if the run is empty.
    pub fn columns(&self) -> Option<usize> {
        (!self.is_empty()).then_some(self.columns)
    }

    /// Whether the run must become a chunk before another row is added.
    pub fn is_full(&self) -> bool {
        self.clock.len() >= HEAD_WINDOW_SCRAPES * HEAD_FOLDED_WINDOWS
    }

    /// Begins a run of rows with `columns` columns; the first is a difference to `before`.
    pub fn begin(&mut self, before: &[f64], columns: usize) {
        self.columns = columns;
        self.before.clear();
        self.before.extend_from_slice(&before[..before.len().min(columns)]);
        self.before.resize(columns, ABSENT);
    }

    /// Adds a row.
    pub fn push(&mut self, t: TimeMs, row: EncodedRow, keyframe: bool) {
        self.clock.push(t);
        self.bytes.extend_from_slice(row.bytes);
        self.ends.push((self.bytes.len(), keyframe));
    }

    fn row(&self, at: usize) -> (EncodedRow<'_>, bool) {
        let (end, keyframe) = self.ends[at];
        let begin = at.checked_sub(1).map_or(0, |before| self.ends[before].0);
        (EncodedRow { columns: self.columns, bytes: &self.bytes[begin..end] }, keyframe)
    }

    fn clear(&mut self) {
        self.clock.clear();
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
    whole: Vec<f64>,
    moving: ChangingColumns,
    /// Number of samples of all rows since the run began.
    samples: u64,
}

/// The values of the columns that change, column by column. Constant columns take no memory here.
#[derive(Default)]
struct ChangingColumns {
    /// Rows of the chunk.
    rows: usize,
    /// Number of the current row.
    at: usize,
    /// For each column its index among the changing ones, or [`STILL`].
    places: Vec<u32>,
    cells: Vec<u64>,
    /// For each changing column, how many rows are filled in.
    filled: Vec<usize>,
}

impl ChangingColumns {
    fn begin(&mut self, rows: usize, columns: usize) {
        self.rows = rows;
        self.at = 0;
        self.places.clear();
        self.places.resize(columns, STILL);
        self.cells.clear();
        self.filled.clear();
    }

    /// Notes that `column` changes in the current row; it had the value `before` until now.
    #[inline]
    fn changes(&mut self, column: usize, before: u64) {
        // The first row of a chunk has no row before it within the chunk.
        if self.at == 0 {
            return;
        }
        if self.places[column] == STILL {
            self.places[column] = self.filled.len() as u32;
            self.filled.push(0);
            self.cells.resize(self.cells.len() + self.rows, 0);
        }
        self.fill(self.places[column] as usize, self.at, before);
    }

    #[inline]
    fn fill(&mut self, place: usize, to: usize, bits: u64) {
        let column = place * self.rows;
        let filled = self.filled[place];
        self.cells[column + filled..column + to].fill(bits);
        self.filled[place] = to;
    }

    /// All values of a column; `bits` is its value in the last row. `None` if the column is
    /// constant.
    fn column(&mut self, column: usize, bits: u64) -> Option<&[u64]> {
        let place = Some(self.places[column]).filter(|place| *place != STILL)? as usize;
        self.fill(place, self.rows, bits);
        self.cells.get(place * self.rows..(place + 1) * self.rows)
    }
}

impl Transposer {
    fn begin(&mut self, stretch: &ScrapeRun) {
        self.row.clear();
        self.row.extend_from_slice(&stretch.before);
        self.present = count(&self.row);
        self.samples = 0;
    }

    /// Decodes row `at` of the run into the current row. `None` if it is malformed.
    fn go(&mut self, stretch: &ScrapeRun, at: usize) -> Option<()> {
        let ((raw, keyframe), moving) = (stretch.row(at), &mut self.moving);
        if keyframe {
            self.whole.clear();
            self.whole.resize(stretch.columns, ABSENT);
            raw.apply(&mut self.whole, |_, _, _| ())?;
            for (column, (before, now)) in self.row.iter().zip(&self.whole).enumerate() {
                if before.to_bits() != now.to_bits() {
                    moving.changes(column, before.to_bits());
                }
            }
            std::mem::swap(&mut self.row, &mut self.whole);
            self.present = count(&self.row);
        } else {
            let present = &mut self.present;
            raw.apply(&mut self.row, |column, before, now| {
                *present = *present + u64::from(before == ABSENT_BITS) - u64::from(now == ABSENT_BITS);
                moving.changes(column, before);
            })?;
        }
        self.samples += self.present;
        Some(())
    }

    /// The chunk of `rows`, which follow the rows decoded before, with `width` columns. `None` if a
    /// row is malformed.
    fn window(
        &mut self,
        stretch: &ScrapeRun,
        rows: Range<usize>,
        width: usize,
        thorough: bool,
    ) -> Option<GroupChunk> {
        self.moving.begin(rows.len(), stretch.columns);
        for at in rows.clone() {
            self.moving.at = at - rows.start;
            self.go(stretch, at)?;
        }
        let mut builder = GroupChunkBuilder::new(width, thorough);
        for (column, value) in self.row.iter().enumerate() {
            match self.moving.column(column, value.to_bits()) {
                Some(values) => builder.push(values),
                None => builder.push_constant(value.to_bits()),
            }
        }
        (self.row.len()..width).for_each(|_| builder.push_constant(ABSENT_BITS));
        Some(builder.finish(stretch.clock[rows].into()))
    }
}

fn count(row: &[f64]) -> u64 {
    row.iter().filter(|v| !is_absent(**v)).count() as u64
}

impl Head {
    /// Whether a row of `columns` values at `t` can join the run `stretch`, or begin one. It must
    /// be the newest of its group, no series of the set may have samples elsewhere, and no short
    /// chunks may wait for a merge.
    pub fn can_join(&self, group: u32, stretch: &ScrapeRun, t: TimeMs, columns: usize) -> bool {
        let Some(known) = self.groups.get(group as usize) else { return false };
        let Some(set) = known.set.and_then(|set| self.sets.get(&set)) else { return false };
        let range = |t: TimeMs| t.div_euclid(self.block_range);
        let follows = match stretch.clock.last() {
            Some(last) => t > *last && range(t) == range(*last) && columns == stretch.columns,
            None => {
                known.newest.is_none_or(|newest| t > newest) && set.has_no_pending_merge(t, self.block_range)
            }
        };
        follows && set.mixed.is_empty() && columns <= set.columns.len().min(STRETCH_COLUMNS)
    }

    /// Stores the run and empties it: as one long chunk if it has enough rows, otherwise as appends
    /// would have. `last` becomes its last row. Returns the number of samples; `None` if a row is
    /// malformed, which loses this row and the rest of the run.
    pub fn take_stretch(
        &mut self,
        group: u32,
        stretch: &mut ScrapeRun,
        loom: &mut Transposer,
        last: &mut Vec<f64>,
    ) -> Option<u64> {
        if stretch.is_empty() {
            return Some(0);
        }
        loom.begin(stretch);
        let taken = self.weave(group, stretch, loom);
        last.clone_from(&loom.row);
        stretch.clear();
        taken.map(|()| loom.samples)
    }

    fn weave(&mut self, group: u32, stretch: &ScrapeRun, loom: &mut Transposer) -> Option<()> {
        let rows = stretch.clock.len();
        let key = self.groups[group as usize].set?;
        let long = rows >= STRETCH_SCRAPES;
        let length = if long { rows } else { HEAD_WINDOW_SCRAPES };
        let mut laid = 0;
        while rows - laid >= length {
            let set = self.sets.get_mut(&key)?;
            set.push_chunk(loom.window(stretch, laid..laid + length, set.columns.len(), long)?);
            self.extend_time_range(stretch.clock[laid]);
            laid += length;
            self.extend_time_range(stretch.clock[laid - 1]);
            self.groups[group as usize].newest = Some(stretch.clock[laid - 1]);
        }
        // The remaining rows are too few for a chunk: they become open rows.
        loom.moving.begin(0, stretch.columns);
        for at in laid..rows {
            loom.go(stretch, at)?;
            self.push_row(group as usize, stretch.clock[at], Arc::from(&loom.row[..]));
        }
        Some(())
    }

    /// The groups that have a column for this series.
    pub fn groups_with(&self, slot: u32) -> impl Iterator<Item = u32> + '_ {
        let homes = self.series.get(slot as usize).map_or(&[][..], |series| series.homes());
        homes.iter().filter_map(|home| Some(self.sets.get(&home.set)?.group))
    }
}
