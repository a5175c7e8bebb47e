//! A block: series that share a clock, as one vector of times and a column of values per series.
//!
//! Its newest rows stand in a [`CircularMatrix`]. Of a long window, the rows before them may be
//! [`chunks`](super::spilled) that the store keeps ([`RingBlock::spill`]); whoever reads a row
//! there gets the same values. [`change_log`](super::change_log) knows which rows stayed what they
//! were.

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

/// Blocks of fewer times than twice the shortest window that is kept up keep them.
const FEW: usize = 2 * MIN_PANE_WINDOW;

/// Series that share a clock. Its times have numbers that stay: [`RingBlock::base`] is that of the
/// oldest one kept.
#[derive(Debug, Default)]
pub struct RingBlock {
    /// Times, ascending; the first `gone` are forgotten.
    times: Vec<TimeMs>,
    gone: usize,
    /// Rows from number `near` on.
    grid: CircularMatrix,
    grid_from: u32,
    /// Rows before it.
    chunks: Option<Box<SpilledChunks>>,
    /// Somebody wanted rows that were away: it keeps them from now on.
    whole: bool,
    /// Columns.
    pub columns: Vec<RingColumn>,
    pub(super) sides: BTreeMap<u32, ColumnExtras>,
    base: u32,
    changes: RowChangeLog,
    edits: EditLog,
}

/// One series of a block. Times are numbers of the block.
#[derive(Debug)]
pub struct RingColumn {
    /// The ring's row.
    pub row: u32,
    /// Windows that begin with this time, or later, hold a float at each time.
    pub whole_from: u32,
    /// Windows that begin with this time, or later, and have no gaps, have no float that is below
    /// its predecessor.
    pub rising_from: u32,
    /// It has native histograms or start timestamps.
    pub has_extras: bool,
    /// The newest float.
    last: f64,
}

impl RingColumn {
    /// A column without samples in times below `from`.
    pub(super) fn new(row: u32, from: u32) -> RingColumn {
        RingColumn { row, whole_from: from, rising_from: 0, has_extras: false, last: f64::NEG_INFINITY }
    }

    /// Notes what came at the newest time.
    #[inline]
    fn note(&mut self, at: u32, v: f64) {
        if !is_sample(v) || is_histogram(v) {
            self.whole_from = at + 1;
            return;
        }
        // A NaN on either side makes the kernels look for themselves.
        if v.partial_cmp(&self.last).is_none_or(Ordering::is_lt) {
            self.rising_from = at;
        }
        self.last = v;
    }

    /// A time was squeezed in.
    fn shift(&mut self, at: u32) {
        self.whole_from = (self.whole_from + u32::from(self.whole_from > at)).max(at + 1);
        self.rising_from += u32::from(self.rising_from > at);
    }
}

impl RingBlock {
    /// A block of these times, ascending, with room for so many columns of values.
    pub(super) fn new(times: Vec<TimeMs>, width: usize) -> RingBlock {
        let mut block = RingBlock { times, ..RingBlock::default() };
        block.grid.widen(width);
        for _ in 0..block.times.len() {
            block.grid.push();
        }
        block
    }

    /// Adds a column with a value for each time.
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

    /// Adds a column of the series `labels` without samples; returns its number.
    pub(super) fn add_column(&mut self, row: u32, labels: &Labels) -> u32 {
        let column = self.columns.len() as u32;
        let end = self.end();
        reserve_slack(&mut self.columns, 1);
        self.columns.push(RingColumn::new(row, end));
        self.chunks.iter_mut().for_each(|chunks| chunks.add_series(labels));
        column
    }

    /// Times, ascending.
    pub fn clock(&self) -> &[TimeMs] {
        &self.times[self.gone..]
    }

    /// The number of the oldest time.
    pub fn base(&self) -> u32 {
        self.base
    }

    /// The value of a column at time number `at`, which is kept.
    #[inline]
    pub fn value(&self, at: u32, column: usize) -> f64 {
        match &self.chunks {
            Some(chunks) if at < self.grid_from => chunks.value(self, at, column),
            _ => self.grid.get((at - self.grid_from) as usize, column),
        }
    }

    /// What is known of the rows from number `at` on without reading them: they are a chunk that is away.
    pub fn away(&self, at: u32) -> Option<&SpilledChunk> {
        self.chunks.as_ref().filter(|_| at < self.grid_from)?.away(at)
    }

    /// Times from number `at` on.
    pub(super) fn times_from(&self, at: u32) -> &[TimeMs] {
        &self.clock()[(at - self.base) as usize..]
    }

    /// What a column has beside floats.
    pub fn side(&self, column: usize) -> Option<&ColumnExtras> {
        self.sides.get(&(column as u32))
    }

    /// To add something at time `t`.
    pub(super) fn side_mut(&mut self, column: usize, t: TimeMs) -> &mut ColumnExtras {
        let at = self.base + self.clock().partition_point(|c| *c < t) as u32;
        self.columns[column].has_extras = true;
        self.changes.add(at);
        self.sides.entry(column as u32).or_default()
    }

    /// A float, or nothing, is at time `t` where a histogram may have been.
    pub(super) fn drop_histogram(&mut self, column: usize, t: TimeMs) {
        let sided = self.columns[column].has_extras;
        let side = self.sides.get_mut(&(column as u32)).filter(|_| sided);
        if side.is_some_and(|side| side.remove_histogram(t)) {
            self.changes.add(self.base + self.clock().partition_point(|c| *c < t) as u32);
        }
    }

    /// Number of the time after the newest.
    fn end(&self) -> u32 {
        self.grid_from + self.grid.len() as u32
    }

    /// The number of time `t`, which is made if it is new.
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

    /// Adds one sample of one column.
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
        // Filling in behind the newest, or at it: let every window over it look for gaps and resets.
        let newest = self.end() - 1;
        let state = &mut self.columns[column];
        (state.whole_from, state.rising_from) = (newest + 1, newest);
        if at < newest {
            self.changes.add(at);
            self.edit(RowEdit::Cell { at, column: column as u32, before, after: v });
        } else if is_sample(v) && !is_histogram(v) {
            state.last = v;
        }
    }

    /// Notes an edit behind the newest time, where windows may be long enough to want it.
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
        // Columns that the group does not know.
        self.columns.iter_mut().skip(sources.len()).for_each(|column| column.note(at, ABSENT));
    }

    /// Forgets what is older than `cutoff`.
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
        // Sides are seldom, and trimmed now and then.
        if !self.sides.is_empty() && before / 16 != self.base / 16 {
            let columns = &mut self.columns;
            self.sides.retain(|column, side| {
                let empty = side.trim(cutoff);
                columns[*column as usize].has_extras = !empty;
                !empty
            });
        }
    }

    /// Forgets the values of rows before the oldest time.
    fn forget_rows(&mut self) {
        if self.base > self.grid_from {
            self.grid.forget((self.base - self.grid_from) as usize);
            self.grid_from = self.base;
        }
        if self.chunks.as_mut().is_some_and(|chunks| chunks.trim(self.base)) {
            self.chunks = None;
        }
    }

    /// The values of a column at times `at` (as indices of the clock), into `out`.
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

    /// Gives rows away, but for those that are `kept`. Returns the chunks that belong here and are
    /// away. `labels`: of the ring's rows.
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
            let chunk = SpilledChunk::new((number, self.grid_from), (self, rows), stays, kept.odd);
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

    /// The chunks of what stands in `ranges`, and of as many times before and after as whoever
    /// looks there may take.
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

    /// The number of the chunk that the oldest rows of the grid belong to, and how many do. None if
    /// it is not complete.
    fn oldest_chunk(&self, source: &SpillSource) -> Option<(i64, usize)> {
        let times = self.times_from(self.grid_from);
        let number = source.number(*times.first()?);
        let rows = times.iter().take_while(|t| source.number(**t) == number).count();
        (rows < times.len()).then_some((number, rows))
    }

    /// Puts a chunk in that was read.
    pub(super) fn fill(&self, number: i64, read: &ChunkValues) {
        self.chunks.iter().for_each(|chunks| chunks.fill(self, number, read));
    }

    /// Brings back all rows that are away, for good.
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
        (self.grid, self.grid_from, self.chunks) = (grid, self.base, None);
        // The store may have had other samples than those that were given away.
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
