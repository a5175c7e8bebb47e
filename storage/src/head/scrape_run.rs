//! Stretches: scrapes of one group as the log has them, until there are enough of them for a long
//! window. A replay makes that at once, without the short windows that appends make first
//! ([`super::chunk_merge`]), and turns only columns that move.
//!
//! What may join a stretch, and when one has to end, is [`crate::store`]'s `scrape_decoder.rs`.

use super::group_chunk::{GroupChunk, GroupChunkBuilder};
use super::shard::Head;
use crate::limits::{HEAD_FOLDED_WINDOWS, HEAD_WINDOW_SCRAPES, STRETCH_COLUMNS, STRETCH_SCRAPES};
use crate::model::TimeMs;
use crate::model::value::{ABSENT, ABSENT_BITS, is_absent};
use crate::wal::EncodedRow;
use std::ops::Range;
use std::sync::Arc;

/// Columns that do not move have no place among those that do.
const STILL: u32 = u32::MAX;

/// Scrapes on their way to a window.
#[derive(Default)]
pub struct ScrapeRun {
    columns: usize,
    /// What the first row differs from.
    before: Vec<f64>,
    clock: Vec<TimeMs>,
    /// The rows, one behind the other.
    bytes: Vec<u8>,
    /// Where each ends, and whether it is a keyframe.
    ends: Vec<(usize, bool)>,
}

impl ScrapeRun {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.clock.is_empty()
    }

    /// Columns of each row; of none if there is none.
    pub fn columns(&self) -> Option<usize> {
        (!self.is_empty()).then_some(self.columns)
    }

    /// Whether it has to become a window before another row comes.
    pub fn is_full(&self) -> bool {
        self.clock.len() >= HEAD_WINDOW_SCRAPES * HEAD_FOLDED_WINDOWS
    }

    /// Begins with rows of so many columns, the first of which differs from `before`.
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

/// Turns rows into columns; its memory serves one stretch after the other.
#[derive(Default)]
pub struct Transposer {
    /// The row at hand, and the number of its samples.
    row: Vec<f64>,
    present: u64,
    /// A keyframe.
    whole: Vec<f64>,
    moving: ChangingColumns,
    /// Samples of all rows since the stretch began.
    samples: u64,
}

/// Values of the columns that move, column by column.
#[derive(Default)]
struct ChangingColumns {
    /// Rows of the window.
    rows: usize,
    /// The one at hand.
    at: usize,
    /// Of each column its place among those that move.
    places: Vec<u32>,
    cells: Vec<u64>,
    /// Rows that are there, by place.
    filled: Vec<usize>,
}

impl ChangingColumns {
    fn begin(&mut self, rows: usize, columns: usize) {
        (self.rows, self.at) = (rows, 0);
        self.places.clear();
        self.places.resize(columns, STILL);
        self.cells.clear();
        self.filled.clear();
    }

    /// A column has had this value until the row at hand.
    #[inline]
    fn changes(&mut self, column: usize, before: u64) {
        // Before its second row a window has nothing to compare with.
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

    /// All values of a column, the last of which is `bits`; `None`: it does not move.
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

    /// Makes row `at` of a stretch the one at hand. `None`: it is malformed.
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

    /// The window of some rows, behind those that were made before, with `width` columns.
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
    /// Whether a row of `columns` values at `t` can join `stretch`, or begin one: it is the group's
    /// newest, nobody else has samples of its series, and no short windows wait for more.
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

    /// Takes in a stretch, which is empty then: as one window if there is enough of it, else as
    /// appends would have. How many samples it had; its last row is `last` then. `None`: a row is
    /// malformed, and it and those behind it are lost.
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
        loom.moving.begin(0, stretch.columns);
        for at in laid..rows {
            loom.go(stretch, at)?;
            self.push_row(group as usize, stretch.clock[at], Arc::from(&loom.row[..]));
        }
        Some(())
    }

    /// The groups in whose columns a series is.
    pub fn groups_with(&self, slot: u32) -> impl Iterator<Item = u32> + '_ {
        let homes = self.series.get(slot as usize).map_or(&[][..], |series| series.homes());
        homes.iter().filter_map(|home| Some(self.sets.get(&home.set)?.group))
    }
}
