//! A block of a ring: series that share their times, stored as one vector of times and a column of
//! values per series. A row of a block is one time; it keeps its number while the block lives.
//!
//! The newest rows are in a [`CircularMatrix`]. Older rows of a long window may be
//! [`chunks`](super::spilled) whose values are not in memory ([`RingBlock::spill`]); reading such a
//! row reads the chunk from the store. [`change_log`](super::change_log) tells which rows have not
//! changed since, [`edit_log`](super::edit_log) which single values have.

use super::change_log::RowChangeLog;
use super::edit_log::EditLog;
use super::spilled::{ChunkPosition, ChunkValues, ResidentRows, SpillSource, SpilledChunk, SpilledChunks};
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
const MIN_SPILL_ROWS: usize = 2 * MIN_PANE_WINDOW;

/// Series that share their times. Rows have numbers that never change; [`RingBlock::base`] is the
/// number of the oldest row.
#[derive(Debug, Default)]
pub struct RingBlock {
    /// Times, ascending. The first `dropped` of them are dropped, and removed now and then.
    times: Vec<TimeMs>,
    dropped: usize,
    /// The rows from number `matrix_from` on.
    matrix: CircularMatrix,
    matrix_from: u32,
    /// The rows before `matrix_from`.
    chunks: Option<Box<SpilledChunks>>,
    /// A reader needed rows that were spilled: from now on the block keeps all rows in memory.
    never_spill: bool,
    /// Columns.
    pub columns: Vec<RingColumn>,
    pub(super) extras: BTreeMap<u32, ColumnExtras>,
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
    pub gapless_from: u32,
    /// A window that begins at this row or later and has no gaps has no counter reset.
    pub monotone_from: u32,
    /// The column has native histograms or start timestamps.
    pub has_extras: bool,
    /// The newest float.
    last: f64,
}

impl RingColumn {
    /// A column without samples in the rows before `from`.
    pub(super) fn new(row: u32, from: u32) -> RingColumn {
        RingColumn { row, gapless_from: from, monotone_from: 0, has_extras: false, last: f64::NEG_INFINITY }
    }

    /// Updates the column for the value of a new newest row.
    #[inline]
    fn update(&mut self, row_number: u32, v: f64) {
        if !is_sample(v) || is_histogram(v) {
            self.gapless_from = row_number + 1;
            return;
        }
        // With a NaN on either side this is true, so that the kernels look at the samples
        // themselves.
        // Not `v < last`: that is false for NaN, and the column would count as rising across it.
        if v.partial_cmp(&self.last).is_none_or(Ordering::is_lt) {
            self.monotone_from = row_number;
        }
        self.last = v;
    }

    /// A row was inserted at `row_number`.
    fn shift(&mut self, row_number: u32) {
        // The inserted row has no value yet, so for every column it is a gap.
        self.gapless_from =
            (self.gapless_from + u32::from(self.gapless_from > row_number)).max(row_number + 1);
        self.monotone_from += u32::from(self.monotone_from > row_number);
    }
}

impl RingBlock {
    /// A block with these times, ascending, and space for `width` columns.
    pub(super) fn new(times: Vec<TimeMs>, width: usize) -> RingBlock {
        let mut block = RingBlock { times, ..RingBlock::default() };
        block.matrix.widen(width);
        // All rows at once, before the columns: widening a matrix with rows copies it for every
        // column.
        for _ in 0..block.times.len() {
            block.matrix.push();
        }
        block
    }

    /// Adds a column with a value for each row.
    pub(super) fn add_loaded(&mut self, row: u32, values: Vec<f64>, extras: Option<ColumnExtras>) {
        let column = self.columns.len();
        let mut state = RingColumn::new(row, 0);
        for (row_number, v) in values.into_iter().enumerate() {
            self.matrix.set(row_number, column, v);
            state.update(row_number as u32, v);
        }
        state.has_extras = extras.is_some();
        self.columns.push(state);
        if let Some(extras) = extras {
            self.extras.insert(column as u32, extras);
        }
    }

    /// Adds a column of the series `labels`, without samples. Returns its number.
    pub(super) fn add_column(&mut self, row: u32, labels: &Labels) -> u32 {
        let column = self.columns.len() as u32;
        let end = self.end();
        reserve_slack(&mut self.columns, 1);
        self.columns.push(RingColumn::new(row, end));
        if let Some(chunks) = &mut self.chunks {
            chunks.add_series(labels);
        }
        column
    }

    /// Times of the rows, ascending.
    pub fn clock(&self) -> &[TimeMs] {
        &self.times[self.dropped..]
    }

    /// Number of the oldest row.
    pub fn base(&self) -> u32 {
        self.base
    }

    /// The value of a column in row number `row_number`, which must exist.
    #[inline]
    pub fn value(&self, row_number: u32, column: usize) -> f64 {
        match &self.chunks {
            Some(chunks) if row_number < self.matrix_from => chunks.value(self, row_number, column),
            _ => self.matrix.get((row_number - self.matrix_from) as usize, column),
        }
    }

    /// The chunk that begins at row `row_number`, if its values are not in memory. Its summary may
    /// make reading them unnecessary.
    pub fn spilled_at(&self, row_number: u32) -> Option<&SpilledChunk> {
        self.chunks.as_ref().filter(|_| row_number < self.matrix_from)?.spilled_at(row_number)
    }

    /// Times of the rows from number `row_number` on.
    pub(super) fn times_from(&self, row_number: u32) -> &[TimeMs] {
        &self.clock()[(row_number - self.base) as usize..]
    }

    /// Histograms and start timestamps of a column.
    pub fn extras(&self, column: usize) -> Option<&ColumnExtras> {
        self.extras.get(&(column as u32))
    }

    /// Histograms and start timestamps of a column, to add one at time `t`.
    pub(super) fn extras_mut(&mut self, column: usize, t: TimeMs) -> &mut ColumnExtras {
        let row_number = self.base + self.clock().partition_point(|c| *c < t) as u32;
        self.columns[column].has_extras = true;
        self.changes.add(row_number);
        self.extras.entry(column as u32).or_default()
    }

    /// A float replaces whatever is at time `t`: removes the histogram there, if there is one.
    pub(super) fn drop_histogram(&mut self, column: usize, t: TimeMs) {
        let has_extras = self.columns[column].has_extras;
        let extras = self.extras.get_mut(&(column as u32)).filter(|_| has_extras);
        if extras.is_some_and(|extras| extras.remove_histogram(t)) {
            self.changes.add(self.base + self.clock().partition_point(|c| *c < t) as u32);
        }
    }

    /// Number of the row after the newest.
    fn end(&self) -> u32 {
        self.matrix_from + self.matrix.len() as u32
    }

    /// The number of the row with time `t`, which is created if it is new.
    fn row_at(&mut self, t: TimeMs) -> u32 {
        let index = self.clock().partition_point(|c| *c < t);
        let number = self.base + index as u32;
        // A late sample among spilled rows. That is rare enough to take all rows back; changing a
        // chunk would need its values anyway.
        if number < self.matrix_from {
            self.unspill();
        }
        if self.clock().get(index) == Some(&t) {
            return number;
        }
        self.times.insert(self.dropped + index, t);
        if number == self.end() {
            self.matrix.push();
        } else {
            self.matrix.insert((number - self.matrix_from) as usize);
            for c in &mut self.columns {
                c.shift(number);
            }
            // Rows after the inserted one have other numbers now, so partial results over them are
            // void.
            self.changes.add(number);
            self.edit(RowEdit::Row(number));
        }
        number
    }

    /// Sets one value of one column.
    pub(super) fn set(&mut self, column: usize, t: TimeMs, v: f64) {
        self.matrix.widen(self.columns.len());
        let end = self.end();
        let row_number = self.row_at(t);
        let row = (row_number - self.matrix_from) as usize;
        let before = self.matrix.get(row, column);
        self.matrix.set(row, column, v);
        if row_number == end {
            // The new row exists for all columns of the block; those without a sample have a gap in
            // it.
            let value = |other: usize| if other == column { v } else { ABSENT };
            for (other, state) in self.columns.iter_mut().enumerate() {
                state.update(row_number, value(other));
            }
            return;
        }
        // A late value, or a second one for the newest row: from here on, windows look for gaps and
        // resets themselves.
        let newest = self.end() - 1;
        let state = &mut self.columns[column];
        state.gapless_from = newest + 1;
        state.monotone_from = newest;
        // A second value for the newest row is no edit: no partial result includes that row yet.
        if row_number < newest {
            self.changes.add(row_number);
            self.edit(RowEdit::Cell { row: row_number, column: column as u32, before, after: v });
        } else if is_sample(v) && !is_histogram(v) {
            state.last = v;
        }
    }

    /// Records an edit before the newest row, unless the block is too short for a window that needs
    /// it.
    fn edit(&mut self, edit: RowEdit) {
        // Edits serve sorted windows, which short blocks do not have. `void` says that some were
        // not kept.
        if self.clock().len() < MIN_PANE_WINDOW {
            self.edits.void()
        } else {
            self.edits.add(edit, self.columns.len())
        }
    }

    /// Adds one scrape: `sources[c]` is the index in `values` of column `c`.
    pub(super) fn push(&mut self, t: TimeMs, values: &[f64], sources: &[u32]) {
        let value = |source: u32| values.get(source as usize).copied().unwrap_or(ABSENT);
        // A late scrape, or a second one with the same time: value by value, on the slow path.
        if self.clock().last().is_some_and(|newest| *newest >= t) {
            for (column, source) in sources.iter().enumerate() {
                let v = value(*source);
                if !is_absent(v) {
                    self.set(column, t, v);
                }
            }
            return;
        }
        self.matrix.widen(self.columns.len());
        let row_number = self.end();
        // The common path: one more row, written in one pass over the scrape's values.
        self.times.push(t);
        let row = self.matrix.push();
        for ((cell, source), column) in row.iter_mut().zip(sources).zip(&mut self.columns) {
            *cell = value(*source);
            column.update(row_number, *cell);
        }
        // Columns that the group's batches do not have.
        for column in self.columns.iter_mut().skip(sources.len()) {
            column.update(row_number, ABSENT);
        }
    }

    /// Drops rows older than `cutoff`.
    pub(super) fn trim(&mut self, cutoff: TimeMs) {
        let old = self.clock().partition_point(|t| *t < cutoff);
        if old == 0 {
            return;
        }
        self.dropped += old;
        // Draining moves all later times, so it is done once for many rows; at most 1/8 of the
        // memory is unused.
        if self.dropped * 8 > self.times.len() {
            self.times.drain(..self.dropped);
            self.dropped = 0;
        }
        let before = self.base;
        self.base += old as u32;
        self.forget_rows();
        // Few blocks have extras; they are trimmed once in 16 rows.
        // Extras are looked up by time, so keeping a few too many of them changes no result.
        if !self.extras.is_empty() && before / 16 != self.base / 16 {
            let columns = &mut self.columns;
            self.extras.retain(|column, extras| {
                let empty = extras.trim(cutoff);
                columns[*column as usize].has_extras = !empty;
                !empty
            });
        }
    }

    /// Drops the values of rows before the oldest.
    fn forget_rows(&mut self) {
        if self.base > self.matrix_from {
            self.matrix.forget((self.base - self.matrix_from) as usize);
            self.matrix_from = self.base;
        }
        // The last chunk is gone: reads take the short path again.
        if self.chunks.as_mut().is_some_and(|chunks| chunks.trim(self.base)) {
            self.chunks = None;
        }
    }

    /// Writes the values of a column in `rows` (indices into the times) to `out`.
    pub fn column(&self, rows: Range<usize>, column: usize, out: &mut Vec<f64>) {
        let spilled_rows = (self.matrix_from - self.base) as usize;
        if rows.start >= spilled_rows {
            return self.matrix.column(rows.start - spilled_rows..rows.end - spilled_rows, column, out);
        }
        out.clear();
        out.extend(rows.map(|row| self.value(self.base + row as u32, column)));
    }

    /// Whether a column has a sample.
    pub(super) fn has_samples(&self, column: usize) -> bool {
        (self.matrix_from..self.end()).rev().any(|row_number| is_sample(self.value(row_number, column)))
            || self.chunks.as_ref().is_some_and(|chunks| chunks.has_samples(column))
    }

    /// Spills old rows, except those that `resident` names. Returns the chunks that are needed and
    /// not in memory. `labels`: those of the ring's rows.
    pub(super) fn spill(
        &mut self,
        labels: &[Labels],
        source: &Arc<SpillSource>,
        resident: ResidentRows,
    ) -> BTreeSet<i64> {
        // A short block saves little, and would be read back for its next incremental evaluation.
        if self.never_spill || self.clock().len() < MIN_SPILL_ROWS {
            return BTreeSet::new();
        }
        // Something reads rows that nobody had announced, for example another function over the
        // same selector. Reading them back at every tick would cost more than keeping them.
        if self.chunks.as_ref().is_some_and(|chunks| chunks.were_missed()) {
            self.unspill();
            return BTreeSet::new();
        }
        // Whole chunks only: a chunk that is partly recent may still get late samples.
        let before = source.number(resident.from);
        let wanted = self.chunks_around(source, resident.around);
        while let Some((number, rows)) = self.oldest_chunk(source).filter(|(number, _)| *number < before) {
            let is_resident = wanted.contains(&number);
            let position = ChunkPosition { number, first: self.matrix_from, rows };
            let chunk = SpilledChunk::new(self, position, is_resident, resident.irregular);
            let of = |column: &RingColumn| labels[column.row as usize].clone();
            let chunks = self.chunks.get_or_insert_with(|| {
                Box::new(SpilledChunks::new(source, self.columns.iter().map(of).collect()))
            });
            chunks.push(chunk);
            self.matrix.forget(rows);
            self.matrix_from += rows as u32;
        }
        self.chunks.as_mut().map_or_else(BTreeSet::new, |chunks| chunks.keep_only(&wanted))
    }

    /// The chunks that the rows in `ranges` are in, and a margin of rows before and after, which
    /// incremental functions may read.
    fn chunks_around(&self, source: &SpillSource, ranges: &[RangeInclusive<TimeMs>]) -> BTreeSet<i64> {
        const MARGIN: usize = PANE as usize + 2;
        let clock = self.clock();
        let number = |index: usize| source.number(clock[index.min(clock.len() - 1)]);
        let around = |range: &RangeInclusive<TimeMs>| {
            let from = clock.partition_point(|t| t < range.start()).saturating_sub(MARGIN);
            let to = clock.partition_point(|t| t <= range.end()) + MARGIN;
            number(from)..=number(to)
        };
        ranges.iter().flat_map(around).collect()
    }

    /// The number of the chunk of the oldest rows in the matrix, and how many rows it has. `None`
    /// if the chunk may still get rows.
    fn oldest_chunk(&self, source: &SpillSource) -> Option<(i64, usize)> {
        // A chunk is complete when a row of a later one exists.
        let times = self.times_from(self.matrix_from);
        let number = source.number(*times.first()?);
        let rows = times.iter().take_while(|t| source.number(**t) == number).count();
        (rows < times.len()).then_some((number, rows))
    }

    /// Puts back a chunk that was read.
    pub(super) fn refill(&self, number: i64, read: &ChunkValues) {
        if let Some(chunks) = &self.chunks {
            chunks.refill(self, number, read);
        }
    }

    /// Reads all spilled rows back into memory, for good.
    fn unspill(&mut self) {
        self.never_spill = true;
        if self.chunks.is_none() {
            return;
        }
        let mut matrix = CircularMatrix::default();
        matrix.widen(self.columns.len());
        for row_number in self.base..self.end() {
            let values = self.values(row_number);
            matrix.push()[..values.len()].copy_from_slice(values);
        }
        self.matrix = matrix;
        self.matrix_from = self.base;
        self.chunks = None;
        // The store may have other values than the spilled ones, for example after a deletion.
        // Sorted values were built from the spilled ones.
        self.edits.void();
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        let extras: usize =
            self.extras.values().map(|extras| size_of::<(u32, ColumnExtras)>() + extras.bytes()).sum();
        size_of::<RingBlock>()
            + self.times.capacity() * size_of::<TimeMs>()
            + self.matrix.bytes()
            + self.columns.capacity() * size_of::<RingColumn>()
            + self.chunks.as_ref().map_or(0, |chunks| chunks.bytes())
            + self.changes.bytes()
            + self.edits.bytes()
            + extras
    }
}

impl WindowRows for RingBlock {
    fn epoch(&self) -> u32 {
        self.changes.epoch()
    }

    fn stable_since(&self, epoch: u32) -> u32 {
        self.changes.stable_since(epoch)
    }

    fn time(&self, row_number: u32) -> TimeMs {
        self.clock()[(row_number - self.base) as usize]
    }

    fn values(&self, row_number: u32) -> &[f64] {
        match &self.chunks {
            Some(chunks) if row_number < self.matrix_from => chunks.values(self, row_number),
            _ => self.matrix.row((row_number - self.matrix_from) as usize),
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
