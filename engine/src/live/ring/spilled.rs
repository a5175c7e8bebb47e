//! Spilled rows: of a window of days, the samples between its two ends are not in memory. The store
//! has them in its compressed chunks; in memory are only a summary that incremental functions need,
//! and the values where a window begins or ends. What is spilled are rows (all series at one time)
//! of a [`RingBlock`], which has the samples of the series that share their times.
//!
//! A [`SpilledChunk`] has the rows of one period, the same periods for all blocks. Its values are
//! read back from the store before an edge of a window reaches them (`local/spill.rs`). If a reader
//! needs values that are not in memory, they are read immediately, and from then on the block keeps
//! all of its rows ([`SpilledChunks::were_missed`]).

use super::block::RingBlock;
use crate::functions::panes::WindowRows;
use std::cell::{Cell, OnceCell};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;
use storage::metrics::Counter;
use storage::model::value::{ABSENT, HISTOGRAM, is_histogram, is_sample};
use storage::model::{Labels, Matcher, TimeMs};
use storage::store::{Store, StoreError};

/// Times and values of series.
pub type ChunkValues = HashMap<Labels, (Vec<TimeMs>, Vec<f64>)>;

/// Where the spilled rows of a ring are read from.
pub struct SpillSource {
    /// Has the rows.
    pub store: Arc<Store>,
    /// Number of the shard.
    pub shard: u16,
    /// The selector of the ring.
    pub matchers: Vec<Matcher>,
    /// Length of a chunk, in ms.
    pub length: i64,
    /// Counts the chunks of single blocks that a tick had to read itself.
    pub reads_in_tick: Arc<Counter>,
}

impl std::fmt::Debug for SpillSource {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "shard {} {:?}", self.shard, self.matchers)
    }
}

impl SpillSource {
    /// Number of the chunk that `t` is in.
    pub fn number(&self, t: TimeMs) -> i64 {
        t.div_euclid(self.length)
    }

    /// Reads the samples in `from..=to`.
    pub fn read(&self, from: TimeMs, to: TimeMs) -> Result<ChunkValues, StoreError> {
        let selection = self.store.select(self.shard, &self.matchers, from, to)?;
        let mut read = ChunkValues::with_capacity(selection.labels.len());
        for (i, labels) in selection.labels.iter().enumerate() {
            let mut ts = Vec::new();
            let mut vs = Vec::new();
            selection.read(i, from, to, &mut ts, &mut vs)?;
            read.insert(labels.clone(), (ts, vs));
        }
        Ok(read)
    }

    /// Reads the samples of chunk `number`.
    pub fn read_chunk(&self, number: i64) -> Result<ChunkValues, StoreError> {
        self.read(number * self.length, (number + 1) * self.length - 1)
    }
}

/// The rows of a ring that stay in memory.
#[derive(Copy, Clone)]
pub struct ResidentRows<'a> {
    /// All rows from this time on.
    pub from: TimeMs,
    /// The rows around these times.
    pub around: &'a [RangeInclusive<TimeMs>],
    /// Also the values of series that have gaps or fall.
    pub irregular: bool,
}

/// Which rows of a block become a chunk.
#[derive(Copy, Clone, Debug)]
pub struct ChunkPosition {
    /// Number of the chunk, see [`SpillSource::number`].
    pub number: i64,
    /// Number of its first row.
    pub first: u32,
    /// How many rows it has.
    pub rows: usize,
}

/// The rows `first..first + rows` of a block.
#[derive(Debug)]
pub struct SpilledChunk {
    number: i64,
    first: u32,
    rows: u32,
    width: usize,
    /// The values by row, while they are in memory.
    values: OnceCell<Box<[f64]>>,
    /// The last row.
    last: Box<[f64]>,
    /// By column: number of floats.
    counts: Box<[u16]>,
    /// Columns with a float in each row, none of them NaN or below its predecessor.
    rising: BTreeSet<u32>,
    /// The values of columns that have gaps or fall, if readers need them.
    irregular: BTreeMap<u32, Box<[f64]>>,
}

impl SpilledChunk {
    /// A chunk of the oldest rows of the block's matrix. `is_resident`: keep the values;
    /// `irregular`: keep the values of columns that have gaps or fall.
    pub fn new(
        block: &RingBlock,
        position: ChunkPosition,
        is_resident: bool,
        irregular: bool,
    ) -> SpilledChunk {
        let ChunkPosition { number, first, rows } = position;
        let row_number = first..first + rows as u32;
        let width = block.values(first).len();
        let mut chunk = SpilledChunk {
            number,
            first,
            rows: rows as u32,
            width,
            values: OnceCell::new(),
            last: block.values(row_number.end - 1).into(),
            counts: vec![0; width].into(),
            rising: BTreeSet::new(),
            irregular: BTreeMap::new(),
        };
        let mut column = Vec::with_capacity(rows);
        for c in 0..width {
            column.clear();
            column.extend(row_number.clone().map(|row_number| block.value(row_number, c)));
            // The value before the chunk decides whether the series rises into it. If it was
            // dropped already, the chunk does not count as rising.
            let before = (first > block.base()).then(|| block.value(first - 1, c));
            chunk.add_column(c as u32, before, &column, irregular);
        }
        if is_resident {
            let values: Vec<f64> =
                row_number.flat_map(|row_number| block.values(row_number)).copied().collect();
            chunk.values = OnceCell::from(values.into_boxed_slice());
        }
        chunk
    }

    /// Adds the summary of a column, whose value in the row before is `before`.
    fn add_column(&mut self, column: u32, before: Option<f64>, values: &[f64], irregular: bool) {
        let floats = || values.iter().copied().filter(|v| is_sample(*v) && !is_histogram(*v));
        let count = floats().count();
        // A chunk of 15 minutes has at most some thousand rows. If it ever had more, the count
        // would not equal the number of rows, and the rows would be read one by one.
        self.counts[column as usize] = count.min(usize::from(u16::MAX)) as u16;
        let falls = floats().zip(floats().skip(1)).filter(|(a, b)| b < a).count();
        let nan = floats().any(f64::is_nan);
        let follows = before.is_some_and(|before| floats().next().is_some_and(|first| before <= first));
        let whole = count == values.len();
        if whole && falls == 0 && !nan && follows {
            // Not worth keeping: without floats, or with so many resets that a window reads all
            // rows anyway.
            self.rising.insert(column);
        } else if irregular && !(count == 0 || whole && (nan || falls * 8 > count)) {
            self.irregular.insert(column, values.into());
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// The row after the last one.
    pub fn end(&self) -> u32 {
        self.first + self.rows
    }

    /// How many floats a column has.
    pub fn count(&self, column: usize) -> usize {
        self.counts.get(column).copied().unwrap_or(0).into()
    }

    /// Whether a column has a float in each row, none of them NaN or below its predecessor.
    pub fn rises(&self, column: usize) -> bool {
        self.rising.contains(&(column as u32))
    }

    /// Whether a column has a float in each row.
    pub fn is_gapless(&self, column: usize) -> bool {
        self.count(column) == self.rows as usize
    }

    /// A value, if it is in memory.
    fn known(&self, row_number: u32, column: usize) -> Option<f64> {
        if column >= self.width {
            return Some(ABSENT);
        }
        let row = (row_number - self.first) as usize;
        if let Some(values) = self.values.get() {
            return Some(values[row * self.width + column]);
        }
        // The last row is kept for all columns: the first sample after the chunk is compared with
        // it.
        if row_number + 1 == self.end() {
            return Some(self.last[column]);
        }
        self.irregular.get(&(column as u32)).map(|values| values[row])
    }

    fn bytes(&self) -> usize {
        let irregular = |values: &[f64]| size_of_val(values) + size_of::<(u32, Box<[f64]>)>();
        size_of::<SpilledChunk>()
            + self.values.get().map_or(0, |values| size_of_val(&**values))
            + size_of_val(&*self.last)
            + size_of_val(&*self.counts)
            + self.rising.len() * size_of::<u32>()
            + self.irregular.values().map(|values| irregular(values)).sum::<usize>()
    }
}

/// The chunks of a block, oldest first.
#[derive(Debug)]
pub struct SpilledChunks {
    source: Arc<SpillSource>,
    /// The series of the columns.
    labels: Vec<Labels>,
    all: VecDeque<SpilledChunk>,
    missed: Cell<bool>,
}

impl SpilledChunks {
    /// No chunks yet, for series with these labels.
    pub fn new(source: &Arc<SpillSource>, labels: Vec<Labels>) -> SpilledChunks {
        SpilledChunks { source: source.clone(), labels, all: VecDeque::new(), missed: Cell::new(false) }
    }

    /// The block has one more column.
    pub fn add_series(&mut self, labels: &Labels) {
        self.labels.push(labels.clone());
    }

    /// Adds the next chunk.
    pub fn push(&mut self, chunk: SpilledChunk) {
        self.all.push_back(chunk);
    }

    /// Drops chunks that end before row `base`. Returns whether none is left.
    pub fn trim(&mut self, base: u32) -> bool {
        while self.all.front().is_some_and(|chunk| chunk.end() <= base) {
            self.all.pop_front();
        }
        self.all.is_empty()
    }

    /// Whether a reader needed values that were not in memory.
    pub fn were_missed(&self) -> bool {
        self.missed.get()
    }

    fn chunk_of(&self, row_number: u32) -> &SpilledChunk {
        &self.all[self.all.partition_point(|chunk| chunk.first <= row_number) - 1]
    }

    /// The chunk that begins at row `row_number`, if its values are not in memory.
    pub fn spilled_at(&self, row_number: u32) -> Option<&SpilledChunk> {
        Some(self.chunk_of(row_number))
            .filter(|chunk| chunk.first == row_number && chunk.values.get().is_none())
    }

    /// The values of a row.
    pub fn values(&self, block: &RingBlock, row_number: u32) -> &[f64] {
        let chunk = self.chunk_of(row_number);
        // A `OnceCell`, because readers hold a shared reference to the ring. All of them run on the
        // thread that owns the shard.
        let values = chunk.values.get_or_init(|| self.fetch(block, chunk));
        let row = (row_number - chunk.first) as usize * chunk.width;
        &values[row..row + chunk.width]
    }

    /// One value.
    pub fn value(&self, block: &RingBlock, row_number: u32, column: usize) -> f64 {
        let known = self.chunk_of(row_number).known(row_number, column);
        known.unwrap_or_else(|| self.values(block, row_number).get(column).copied().unwrap_or(ABSENT))
    }

    /// Whether a column has a sample.
    pub fn has_samples(&self, column: usize) -> bool {
        self.all.iter().any(|chunk| chunk.count(column) > 0)
    }

    /// Reads a chunk in the middle of an evaluation.
    fn fetch(&self, block: &RingBlock, chunk: &SpilledChunk) -> Box<[f64]> {
        // From the next check on, the block keeps all of its rows in memory.
        self.missed.set(true);
        self.source.reads_in_tick.inc();
        let read = self.source.read_chunk(chunk.number).unwrap_or_else(|error| {
            tracing::error!(
                target: "live::history",
                shard = self.source.shard,
                %error,
                "the store cannot be read: a view goes on without a part of its window; \
                 check the disk and the damaged blocks that the log names"
            );
            ChunkValues::new()
        });
        self.assemble(block, chunk, &read)
    }

    /// The values of a chunk, from the samples of the store. Rows that the block has dropped stay
    /// empty.
    fn assemble(&self, block: &RingBlock, chunk: &SpilledChunk, read: &ChunkValues) -> Box<[f64]> {
        let mut values = vec![ABSENT; chunk.rows as usize * chunk.width];
        // The block may have dropped the oldest rows of the chunk in the meantime.
        let first = chunk.first.max(block.base());
        let times = &block.times_from(first)[..(chunk.end() - first) as usize];
        let skipped = (first - chunk.first) as usize;
        let place = |t: TimeMs| times.binary_search(&t).ok().map(|index| (skipped + index) * chunk.width);
        for (column, labels) in self.labels.iter().take(chunk.width).enumerate() {
            let (ts, vs) = read.get(labels).map_or((&[][..], &[][..]), |(ts, vs)| (ts, vs));
            for (t, v) in ts.iter().zip(vs) {
                if let Some(index) = place(*t) {
                    values[index + column] = *v;
                }
            }
            for (t, _) in block.extras(column).into_iter().flat_map(|extras| &extras.histograms) {
                if let Some(index) = place(*t) {
                    values[index + column] = HISTOGRAM;
                }
            }
            let floats = values.iter().skip(column).step_by(chunk.width);
            let count = floats.filter(|v| is_sample(**v) && !is_histogram(**v)).count();
            // The store has other samples than those that were spilled: partial results must be
            // computed again.
            // Only for a complete chunk: the rows that were dropped are not counted here.
            if skipped == 0 && count != chunk.count(column) {
                self.missed.set(true);
            }
        }
        values.into()
    }

    /// Puts back a chunk that was read.
    pub fn refill(&self, block: &RingBlock, number: i64, read: &ChunkValues) {
        for chunk in self.all.iter().filter(|chunk| chunk.number == number) {
            chunk.values.get_or_init(|| self.assemble(block, chunk, read));
        }
    }

    /// Drops the values of chunks that are not wanted. Returns the wanted chunks whose values are
    /// not in memory.
    pub fn keep_only(&mut self, wanted: &BTreeSet<i64>) -> BTreeSet<i64> {
        let mut missing = BTreeSet::new();
        for chunk in &mut self.all {
            if !wanted.contains(&chunk.number) {
                chunk.values.take();
            } else if chunk.values.get().is_none() {
                missing.insert(chunk.number);
            }
        }
        missing
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        size_of::<SpilledChunks>()
            + self.labels.capacity() * size_of::<Labels>()
            + self.all.capacity() * size_of::<SpilledChunk>()
            + self.all.iter().map(|chunk| chunk.bytes() - size_of::<SpilledChunk>()).sum::<usize>()
    }
}
