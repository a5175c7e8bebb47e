//! A block of a ring: series that share their times, stored as one vector of times and a column of
//! values per series.
//!
//! The newest rows are in a [`CircularMatrix`]. Older rows of a long window may be
//! [`chunks`](super::spilled) whose values are not in memory ([`RingBlock::spill`]); reading such a
//! row reads the chunk from the store. [`change_log`](super::change_log) tells which rows have not
//! changed since.

use super::change_log::RowChangeLog;
use super::edit_log::EditLog;
use super::spilled::{ChunkValues, ResidentRows, SpillSource, SpilledChunk, SpilledChunks};
use crate::functions::panes::{MIN_PANE_WINDOW, PANE, WindowRows};
use crate::functions::sorted_window::RowEdit;
use crate::live::circular_matrix::{CircularMatrix, reserve_slack};
use crate::live::column_extras::ColumnExtras;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use storage::model::value::{ABSENT, is_absent, is_histogram, is_sample};
use storage::model::{Labels, TimeMs};

/// Blocks with fewer rows are never spilled: twice the shortest window that is computed
/// incrementally.
const FEW: usize = 2 * MIN_PANE_WINDOW;

/// Series that share their times. Rows have numbers that never change; [`RingBlock::base`] is the
/// number of the oldest row.
#[derive(Debug, Default)]
pub struct RingBlock {
    /// Times, ascending. The first `gone` of them are dropped, and removed now and then.
    times: Vec<TimeMs>,
    gone: usize,
    /// The rows from number `grid_from` on.
    grid: CircularMatrix,
    grid_from: u32,
    /// The rows before `grid_from`.
    chunks: Option<Box<SpilledChunks>>,
    /// A reader needed rows that were spilled: from now on the block keeps all rows in memory.
    whole: bool,
    /// Columns.
    pub columns: Vec<RingColumn>,
    pub(super) sides: BTreeMap<u32, ColumnExtras>,
    base: u32,
    changes: RowChangeLog,
    edits: EditLog,
}

/// One series of a block. Rows are given as numbers of the block.
#[derive(Debug)]
pub struct RingColumn {
    /// Row of the ring.
    pub row: u32,
    /// A window that begins at this row or later has a float in each row.
    pub whole_from: u32,
    /// A window that begins at this row or later and has no gaps has no counter reset.
    pub rising_from: u32,
    /// The column has native histograms or start timestamps.
    pub has_extras: bool,
    /// The newest float.
    last: f64,
}

impl RingColumn {
    /// A column without samples in the rows before `from`.
    pub(super) fn new(row: u32, from: u32) -> RingColumn {
        RingColumn { row, whole_from: from, rising_from: 0, has_extras: false, last: f64::NEG_INFINITY }
    }

    /// Updates the column for the value of a new newest row.
    #[inline]
    fn note(&mut self, at: u32, v: f64) {
        if !is_sample(v) || is_histogram(v) {
            self.whole_from = at + 1;
            return;
        }
        // With a NaN on either side this is true, so that the kernels look at the samples
        // themselves.
        if v.partial_cmp(&self.last).is_none_or(Ordering::is_lt) {
            self.rising_from = at;
        }
        self.last = v;
    }

    /// A row was inserted at `at`.
    fn shift(&mut self, at: u32) {
        self.whole_from = (self.whole_from + u32::from(self.whole_from > at)).max(at + 1);
        self.rising_from += u32::from(self.rising_from > at);
    }
}

impl RingBlock {
    /// A block with these times, ascending, and space for `width` columns.
    pub(super) fn new(times: Vec<TimeMs>, width: usize) -> RingBlock {
        let mut block = RingBlock { times, ..RingBlock::default() };
        block.grid.widen(width);
        for _ in 0..block.times.len() {
            block.grid.push();
        }
        block
    }

    /// Adds a column with a value for each row.
    pub(super) fn add_filled(&mut self, row: u32, values: Vec<f64>, side: Option<ColumnExtras>) {
        let column = self.columns.len();
        let mut state = RingColumn::new(row, 0);
        for (at, v) in values.into_iter().enumerate() {
            self.grid.set(at, column, v);
            state.note(at as u32, v);
        }
        state.has_extras = side.is_some();
        self.columns.push(state);
        for side in side.into_iter() {
            drop(self.sides.insert(column as u32, side));
        }
    }

    /// Adds a column of the series `labels`, without samples. Returns its number.
    pub(super) fn add_column(&mut self, row: u32, labels: &Labels) -> u32 {
        let column = self.columns.len() as u32;
        let end = self.end();
        reserve_slack(&mut self.columns, 1);
        self.columns.push(RingColumn::new(row, end));
        self.chunks.iter_mut().for_each(|chunks| chunks.add_series(labels));
        column
    }

    /// Times of the rows, ascending.
    pub fn clock(&self) -> &[TimeMs] {
        &self.times[self.gone..]
    }

    /// Number of the oldest row.
    pub fn base(&self) -> u32 {
        self.base
    }

    /// The value of a column in row number `at`, which must exist.
    #[inline]
    pub fn value(&self, at: u32, column: usize) -> f64 {
        match &self.chunks {
            Some(chunks) if at < self.grid_from => chunks.value(self, at, column),
            _ => self.grid.get((at - self.grid_from) as usize, column),
        }
    }

    /// The chunk that begins at row `at`, if its values are not in memory. Its summary may make
    /// reading them unnecessary.
    pub fn away(&self, at: u32) -> Option<&SpilledChunk> {
        self.chunks.as_ref().filter(|_| at < self.grid_from)?.away(at)
    }

    /// Times of the rows from number `at` on.
    pub(super) fn times_from(&self, at: u32) -> &[TimeMs] {
        &self.clock()[(at - self.base) as usize..]
    }

    /// Histograms and start timestamps of a column.
    pub fn side(&self, column: usize) -> Option<&ColumnExtras> {
        self.sides.get(&(column as u32))
    }

    /// Histograms and start timestamps of a column, to add one at time `t`.
    pub(super) fn side_mut(&mut self, column: usize, t: TimeMs) -> &mut ColumnExtras {
        let at = self.base + self.clock().partition_point(|c| *c < t) as u32;
        self.columns[column].has_extras = true;
        self.changes.add(at);
        self.sides.entry(column as u32).or_default()
    }

    /// A float replaces whatever is at time `t`: removes the histogram there, if there is one.
    pub(super) fn drop_histogram(&mut self, column: usize, t: TimeMs) {
        let sided = self.columns[column].has_extras;
        let side = self.sides.get_mut(&(column as u32)).filter(|_| sided);
        if side.is_some_and(|side| side.remove_histogram(t)) {
            self.changes.add(self.base + self.clock().partition_point(|c| *c < t) as u32);
        }
    }

    /// Number of the row after the newest.
    fn end(&self) -> u32 {
        self.grid_from + self.grid.len() as u32
    }

    /// The number of the row with time `t`, which is created if it is new.
    fn place(&mut self, t: TimeMs) -> u32 {
        let at = self.clock().partition_point(|c| *c < t);
        let number = self.base + at as u32;
        if number < self.grid_from {
            self.keep_whole();
        }
        if self.clock().get(at) == Some(&t) {
            return number;
        }
        self.times.insert(self.gone + at, t);
        if number == self.end() {
            self.grid.push();
        } else {
            self.grid.insert((number - self.grid_from) as usize);
            self.columns.iter_mut().for_each(|c| c.shift(number));
            self.changes.add(number);
            self.edit(RowEdit::Row(number));
        }
        number
    }

    /// Sets one value of one column.
    pub(super) fn set(&mut self, column: usize, t: TimeMs, v: f64) {
        self.grid.widen(self.columns.len());
        let end = self.end();
        let at = self.place(t);
        let row = (at - self.grid_from) as usize;
        let before = self.grid.get(row, column);
        self.grid.set(row, column, v);
        if at == end {
            let value = |other: usize| if other == column { v } else { ABSENT };
            self.columns.iter_mut().enumerate().for_each(|(other, state)| state.note(at, value(other)));
            return;
        }
        // A late value, or a second one for the newest row: from here on, windows look for gaps and
        // resets themselves.
        let newest = self.end() - 1;
        let state = &mut self.columns[column];
        state.whole_from = newest + 1;
        state.rising_from = newest;
        if at < newest {
            self.changes.add(at);
            self.edit(RowEdit::Cell { at, column: column as u32, before, after: v });
        } else if is_sample(v) && !is_histogram(v) {
            state.last = v;
        }
    }

    /// Records an edit before the newest row, unless the block is too short for a window that needs
    /// it.
    fn edit(&mut self, edit: RowEdit) {
        if self.clock().len() < MIN_PANE_WINDOW {
            self.edits.void()
        } else {
            self.edits.add(edit, self.columns.len())
        }
    }

    /// Adds one scrape: `sources[c]` is the index in `values` of column `c`.
    pub(super) fn push(&mut self, t: TimeMs, values: &[f64], sources: &[u32]) {
        let value = |source: u32| values.get(source as usize).copied().unwrap_or(ABSENT);
        if self.clock().last().is_some_and(|newest| *newest >= t) {
            let found = sources.iter().map(|source| value(*source)).enumerate();
            found.filter(|(_, v)| !is_absent(*v)).for_each(|(column, v)| self.set(column, t, v));
            return;
        }
        self.grid.widen(self.columns.len());
        let at = self.end();
        self.times.push(t);
        let row = self.grid.push();
        for ((cell, source), column) in row.iter_mut().zip(sources).zip(&mut self.columns) {
            *cell = value(*source);
            column.note(at, *cell);
        }
        // Columns that the group's batches do not have.
        self.columns.iter_mut().skip(sources.len()).for_each(|column| column.note(at, ABSENT));
    }

    /// Drops rows older than `cutoff`.
    pub(super) fn trim(&mut self, cutoff: TimeMs) {
        let old = self.clock().partition_point(|t| *t < cutoff);
        if old == 0 {
            return;
        }
        self.gone += old;
        if self.gone * 8 > self.times.len() {
            self.times.drain(..self.gone);
            self.gone = 0;
        }
        let before = self.base;
        self.base += old as u32;
        self.forget_rows();
        // Few blocks have extras; they are trimmed once in 16 rows.
        if !self.sides.is_empty() && before / 16 != self.base / 16 {
            let columns = &mut self.columns;
            self.sides.retain(|column, side| {
                let empty = side.trim(cutoff);
                columns[*column as usize].has_extras = !empty;
                !empty
            });
        }
    }

    /// Drops the values of rows before the oldest.
    fn forget_rows(&mut self) {
        if self.base > self.grid_from {
            self.grid.forget((self.base - self.grid_from) as usize);
            self.grid_from = self.base;
        }
        if self.chunks.as_mut().is_some_and(|chunks| chunks.trim(self.base)) {
            self.chunks = None;
        }
    }

    /// Writes the values of a column in the rows `at` (indices into the times) to `out`.
    pub fn column(&self, at: Range<usize>, column: usize, out: &mut Vec<f64>) {
        let away = (self.grid_from - self.base) as usize;
        if at.start >= away {
            return self.grid.column(at.start - away..at.end - away, column, out);
        }
        out.clear();
        out.extend(at.map(|at| self.value(self.base + at as u32, column)));
    }

    /// Whether a column has a sample.
    pub(super) fn lives(&self, column: usize) -> bool {
        (self.grid_from..self.end()).rev().any(|at| is_sample(self.value(at, column)))
            || self.chunks.as_ref().is_some_and(|chunks| chunks.lives(column))
    }

    /// Spills old rows, except those that `kept` names. Returns the chunks that are needed and not
    /// in memory. `labels`: those of the ring's rows.
    pub(super) fn spill(
        &mut self,
        labels: &[Labels],
        source: &Arc<SpillSource>,
        kept: ResidentRows,
    ) -> BTreeSet<i64> {
        if self.whole || self.clock().len() < FEW {
            return BTreeSet::new();
        }
        if self.chunks.as_ref().is_some_and(|chunks| chunks.was_asked()) {
            self.keep_whole();
            return BTreeSet::new();
        }
        let before = source.number(kept.from);
        let wanted = self.chunks_around(source, kept.around);
        while let Some((number, rows)) = self.oldest_chunk(source).filter(|(number, _)| *number < before) {
            let stays = wanted.contains(&number);
            let chunk = SpilledChunk::new((number, self.grid_from), (self, rows), stays, kept.irregular);
            let of = |column: &RingColumn| labels[column.row as usize].clone();
            let chunks = self.chunks.get_or_insert_with(|| {
                Box::new(SpilledChunks::new(source, self.columns.iter().map(of).collect()))
            });
            chunks.push(chunk);
            self.grid.forget(rows);
            self.grid_from += rows as u32;
        }
        self.chunks.as_mut().map_or_else(BTreeSet::new, |chunks| chunks.keep_only(&wanted))
    }

    /// The chunks that the rows in `ranges` are in, and a margin of rows before and after, which
    /// incremental functions may read.
    fn chunks_around(&self, source: &SpillSource, ranges: &[RangeInclusive<TimeMs>]) -> BTreeSet<i64> {
        const MARGIN: usize = PANE as usize + 2;
        let clock = self.clock();
        let number = |at: usize| source.number(clock[at.min(clock.len() - 1)]);
        let around = |range: &RangeInclusive<TimeMs>| {
            let from = clock.partition_point(|t| t < range.start()).saturating_sub(MARGIN);
            let to = clock.partition_point(|t| t <= range.end()) + MARGIN;
            number(from)..=number(to)
        };
        ranges.iter().flat_map(around).collect()
    }

    /// The number of the chunk of the oldest rows in the grid, and how many rows it has. `None` if
    /// the chunk may still get rows.
    fn oldest_chunk(&self, source: &SpillSource) -> Option<(i64, usize)> {
        let times = self.times_from(self.grid_from);
        let number = source.number(*times.first()?);
        let rows = times.iter().take_while(|t| source.number(**t) == number).count();
        (rows < times.len()).then_some((number, rows))
    }

    /// Puts back a chunk that was read.
    pub(super) fn fill(&self, number: i64, read: &ChunkValues) {
        self.chunks.iter().for_each(|chunks| chunks.fill(self, number, read));
    }

    /// Reads all spilled rows back into memory, for good.
    fn keep_whole(&mut self) {
        self.whole = true;
        if self.chunks.is_none() {
            return;
        }
        let mut grid = CircularMatrix::default();
        grid.widen(self.columns.len());
        for at in self.base..self.end() {
            let values = self.values(at);
            grid.push()[..values.len()].copy_from_slice(values);
        }
        self.grid = grid;
        self.grid_from = self.base;
        self.chunks = None;
        // The store may have other values than the spilled ones, for example after a deletion.
        self.edits.void();
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        let sides: usize =
            self.sides.values().map(|side| size_of::<(u32, ColumnExtras)>() + side.bytes()).sum();
        size_of::<RingBlock>()
            + self.times.capacity() * size_of::<TimeMs>()
            + self.grid.bytes()
            + self.columns.capacity() * size_of::<RingColumn>()
            + self.chunks.as_ref().map_or(0, |chunks| chunks.bytes())
            + self.changes.bytes()
            + self.edits.bytes()
            + sides
    }
}

impl WindowRows for RingBlock {
    fn epoch(&self) -> u32 {
        self.changes.epoch()
    }

    fn stable_since(&self, epoch: u32) -> u32 {
        self.changes.stable_since(epoch)
    }

    fn time(&self, at: u32) -> TimeMs {
        self.clock()[(at - self.base) as usize]
    }

    fn values(&self, at: u32) -> &[f64] {
        match &self.chunks {
            Some(chunks) if at < self.grid_from => chunks.values(self, at),
            _ => self.grid.row((at - self.grid_from) as usize),
        }
    }

    fn oldest(&self) -> u32 {
        self.base
    }

    fn edits(&self) -> u64 {
        self.edits.count()
    }

    fn edits_since(&self, edits: u64) -> Option<&[RowEdit]> {
        self.edits.since(edits)
    }
}
