//! Rings: the recent samples of the series that one selector matches in one shard. All windows over
//! the selector read the same ring, which reaches back as far as the longest of them.
//!
//! Series of one scrape share their times: a [`RingBlock`] has one vector of times and one column
//! of values per series, with [`storage::model::value::ABSENT`] where a series has no sample. So a
//! window is the same range of rows for all columns of a block. Series whose samples come alone
//! have blocks of their own. Mind the two meanings of *row*: a row of a block is one time, a row of
//! the ring is one series (its number in the outputs of the leaves).
//!
//! Native histograms and start timestamps are in [`super::column_extras`]; where a histogram is,
//! the column of floats has a marker. The values of a block are in a
//! [`super::circular_matrix::CircularMatrix`]. The rows of long windows may be [`spilled`]. Read
//! [`RingBlock`] next; [`crate::live`] explains shards, slots and leaves.

mod block;
mod change_log;
mod edit_log;
mod numbering;
pub mod spilled;

pub use block::{RingBlock, RingColumn};

use super::circular_matrix::reserve_slack;
use super::column_extras::ColumnExtras;
use crate::plan::physical::StepId;
use spilled::{ChunkValues, ResidentRows, SpillSource};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use storage::model::labels::{METRIC_NAME, describes_metric};
use storage::model::value::HISTOGRAM;
use storage::model::{Labels, Matcher, NativeHistogram, SeriesRef, TimeMs};
use storage::store::{GroupId, Selection, Store, StoreError};

/// Instead of the number of a block: the series has no column yet.
const NO_BLOCK: u32 = u32::MAX;

/// Where the samples of a row (a series) are.
#[derive(Copy, Clone, Debug)]
struct RowLocation {
    /// Index in [`SampleRing::blocks`], or [`NO_BLOCK`].
    block: u32,
    /// Index in the columns of the block.
    column: u32,
}

impl RowLocation {
    /// The location of a series without a column.
    const NONE: RowLocation = RowLocation { block: NO_BLOCK, column: 0 };
}

/// The recent samples of one selector in one shard.
#[derive(Debug, Default)]
pub struct SampleRing {
    /// The selector; all shards share the vector.
    matchers: Arc<[Matcher]>,
    /// How far back the ring must reach, in ms.
    retention: i64,
    /// Labels by row.
    pub labels: Vec<Labels>,
    /// The labels without metric name, type and unit, for the rows up to the last
    /// [`SampleRing::strip_names`]. All windows share them.
    pub labels_without_name: Vec<Labels>,
    /// Two rows may have the same labels once the names are dropped.
    pub may_have_duplicates: bool,
    /// Block and column by row.
    locations: Vec<RowLocation>,
    /// Series by their times; each series is in one block.
    pub blocks: Vec<RingBlock>,
    /// Rows by series slot.
    by_slot: HashMap<u32, u32>,
    /// Rows of series that have no slot any more: they were only in blocks on disk when the ring
    /// was read.
    slotless: HashMap<Labels, u32>,
    /// By column group: the block to which new series of the group are added.
    group_blocks: HashMap<GroupId, u32>,
    /// Changes up to this append sequence number were read from the store.
    loaded_seq: u64,
    /// Where spilled rows are read back from.
    source: Option<Arc<SpillSource>>,
    /// By step: the oldest time whose samples it still needs, see [`SampleRing::require_from`].
    required_from: BTreeMap<StepId, TimeMs>,
}

/// A block that is being read: its times, and for each column the row, the values and the extras.
struct BlockInProgress {
    times: Vec<TimeMs>,
    columns: Vec<(u32, Vec<f64>, Option<ColumnExtras>)>,
}

/// How the batches of a group reach a ring: for each block, the batch column of each block column.
#[derive(Debug, Default)]
pub struct BatchRoute {
    /// The number of a block, and by its columns the column of the batch; `u32::MAX`: none.
    sources_by_block: Vec<(u32, Vec<u32>)>,
}

impl BatchRoute {
    /// The blocks that batches of the group reach.
    pub fn blocks(&self) -> impl Iterator<Item = u32> + Clone {
        self.sources_by_block.iter().map(|(block, _)| *block)
    }
}

impl SampleRing {
    /// An empty ring that reaches back `retention` ms.
    pub fn new(matchers: impl Into<Arc<[Matcher]>>, retention: i64) -> SampleRing {
        SampleRing { matchers: matchers.into(), retention, ..SampleRing::default() }
    }

    /// The small form of the ring, if it has no rows.
    pub fn as_empty(&self) -> Option<EmptyRing> {
        let Self { retention, loaded_seq, .. } = *self;
        self.labels.is_empty().then(|| EmptyRing { matchers: self.matchers.clone(), retention, loaded_seq })
    }

    /// The metric name, if the matchers require one.
    pub fn name(&self) -> Option<&str> {
        equal_name(&self.matchers)
    }

    /// Which series the ring has.
    pub fn matchers(&self) -> &[Matcher] {
        &self.matchers
    }

    /// Bytes of times, values, histograms and indexes. The texts of labels are the store's.
    pub fn bytes(&self) -> usize {
        let slots = self.by_slot.capacity() * (size_of::<(u32, u32)>() + 1);
        (self.labels.capacity() + self.labels_without_name.capacity()) * size_of::<Labels>()
            + self.locations.capacity() * size_of::<RowLocation>()
            + slots
            + self.slotless.len() * size_of::<(Labels, u32)>()
            + self.blocks.iter().map(RingBlock::bytes).sum::<usize>()
    }

    /// Computes the labels without names of all rows.
    pub fn strip_names(&mut self) {
        let more = self.labels.len() - self.labels_without_name.len();
        reserve_slack(&mut self.labels_without_name, more);
        self.labels_without_name
            .extend(self.labels[self.labels_without_name.len()..].iter().map(Labels::without_metric_labels));
    }

    /// How far back the ring reaches, in ms.
    pub fn retention(&self) -> i64 {
        self.retention
    }

    /// Makes the ring reach back at least `retention` ms from now on.
    pub fn extend_retention(&mut self, retention: i64) {
        self.retention = self.retention.max(retention);
    }

    /// Keeps samples from time `from` on for step `step`, which has to subtract them from its state
    /// when they leave its window. `None`: nothing.
    pub fn require_from(&mut self, step: StepId, from: Option<TimeMs>) {
        match from {
            Some(from) => drop(self.required_from.insert(step, from)),
            None => drop(self.required_from.remove(&step)),
        }
    }

    /// The time before which samples are dropped at `t`. Samples that a step holds stay longer, by
    /// at most a quarter of the ring: a step that is evaluated rarely must not keep all of them.
    fn cutoff(&self, t: TimeMs) -> TimeMs {
        let cutoff = t - self.retention;
        // Sorted values are reduced by the value that leaves, so that value must still be readable
        // when the step is evaluated next.
        let required = self.required_from.values().copied().min().unwrap_or(cutoff);
        cutoff.min(required.max(cutoff - self.retention / 4))
    }

    /// Whether the ring has a change already, because it was in the store when the ring was read.
    pub fn was_loaded(&self, seq: u64) -> bool {
        seq <= self.loaded_seq
    }

    /// Whether ended series outnumber the living ones by far.
    pub fn has_mostly_ended_series(&self, t: TimeMs) -> bool {
        // Old rows of a block are dropped when a sample arrives. So a block that receives nothing
        // keeps its rows, and is dead if even the newest is too old.
        let is_live =
            |block: &&RingBlock| block.clock().last().is_some_and(|newest| *newest >= t - self.retention);
        let living =
            |block: &RingBlock| (0..block.columns.len()).filter(|column| block.has_samples(*column)).count();
        let living: usize = self.blocks.iter().filter(is_live).map(living).sum();
        self.labels.len() > 2 * living + crate::limits::ENDED_ROWS
    }

    /// Reads a ring from the store, back to `retention` ms before `t`.
    pub fn read(
        store: &Store,
        shard: u16,
        matchers: Arc<[Matcher]>,
        t: TimeMs,
        retention: i64,
    ) -> Result<SampleRing, StoreError> {
        let mut ring = SampleRing::new(matchers, retention);
        let from = t - retention;
        // Up to the end of time: samples ahead of the clock are in the feed only if they arrive
        // from now on.
        let selection = store.select(shard, &ring.matchers, from, TimeMs::MAX)?;
        let mut clocks = HashMap::<Vec<TimeMs>, usize>::new();
        let mut blocks_in_progress = Vec::<BlockInProgress>::new();
        let mut ts = Vec::new();
        let mut vs = Vec::new();
        for i in 0..selection.labels.len() {
            ts.clear();
            vs.clear();
            selection.read(i, from, TimeMs::MAX, &mut ts, &mut vs)?;
            let extras = read_extras(&selection, i, from)?;
            if let Some(extras) = &extras {
                (ts, vs) = extras.among(&ts, &vs);
            }
            if ts.is_empty() && extras.is_none() {
                // The series ended before.
                continue;
            }
            let row = ring.row(selection.slots[i], &selection.labels[i]);
            // Series with exactly the same times become one block, as they came from one scrape.
            // The group of a series is not stored, so the times are what shows which series were
            // scraped together.
            let index = clocks.get(&ts).copied().unwrap_or(blocks_in_progress.len());
            if index == blocks_in_progress.len() {
                clocks.insert(ts.clone(), index);
                blocks_in_progress.push(BlockInProgress { times: ts.clone(), columns: Vec::new() });
            }
            blocks_in_progress[index].columns.push((row, vs.clone(), extras));
        }
        for block in blocks_in_progress {
            ring.add_loaded(block);
        }
        // Events up to this number are in what was read. Later ones come through the queue, which
        // was opened before the selection.
        ring.loaded_seq = selection.seq;
        Ok(ring)
    }

    /// Drops rows that `source` can read back, except those that `resident` names. Returns the
    /// chunks that are needed and not in memory.
    pub fn spill(
        &mut self,
        source: impl FnOnce(&[Matcher]) -> SpillSource,
        resident: ResidentRows,
    ) -> BTreeSet<i64> {
        let source = self.source.get_or_insert_with(|| Arc::new(source(&self.matchers)));
        let blocks = self.blocks.iter_mut();
        blocks.flat_map(|block| block.spill(&self.labels, source, resident)).collect()
    }

    /// Where spilled rows are read back from.
    pub fn source(&self) -> Option<&Arc<SpillSource>> {
        self.source.as_ref()
    }

    /// Puts back a chunk that was read from the ring's source.
    pub fn refill(&mut self, number: i64, read: &ChunkValues) {
        for block in &self.blocks {
            block.refill(number, read);
        }
    }

    /// Adds a block that was read from the store.
    fn add_loaded(&mut self, loaded: BlockInProgress) {
        let number = self.blocks.len() as u32;
        let mut block = RingBlock::new(loaded.times, loaded.columns.len());
        for (column, (row, values, extras)) in loaded.columns.into_iter().enumerate() {
            self.locations[row as usize] = RowLocation { block: number, column: column as u32 };
            block.add_loaded(row, values, extras);
        }
        block.columns.shrink_to_fit();
        self.blocks.push(block);
    }

    /// Gives a row a block of its own.
    fn add_own_block(&mut self, row: u32) {
        // Not in a block with other single series: their times differ, and each would get a row for
        // every sample of the others.
        self.locations[row as usize] = RowLocation { block: self.blocks.len() as u32, column: 0 };
        let mut block = RingBlock::default();
        block.add_column(row, &self.labels[row as usize]);
        self.blocks.push(block);
    }

    /// The row of a series. If it is new, it is created, without a column yet.
    fn row(&mut self, slot: Option<u32>, labels: &Labels) -> u32 {
        if let Some(row) = slot.and_then(|slot| self.by_slot.get(&slot)) {
            return *row;
        }
        // A series that was read from blocks on disk has no slot. When it comes back it gets one,
        // and must keep its row.
        let row = self.slotless.remove(labels).unwrap_or_else(|| {
            reserve_slack(&mut self.labels, 1);
            reserve_slack(&mut self.locations, 1);
            self.labels.push(labels.clone());
            // If the selector requires a name, only the labels for type and unit can distinguish
            // two such rows.
            self.may_have_duplicates |= self.name().is_none()
                || labels.iter().any(|(name, _)| name != METRIC_NAME && describes_metric(name));
            self.locations.push(RowLocation::NONE);
            self.labels.len() as u32 - 1
        });
        match slot {
            Some(slot) => drop(self.by_slot.insert(slot, row)),
            None => drop(self.slotless.insert(labels.clone(), row)),
        }
        row
    }

    /// The row of the series in `slot`, if the ring's selector matches it.
    fn member(&mut self, slot: u32, labels: &Labels) -> Option<u32> {
        // Matchers are not evaluated again for a series that is known: labels of a slot never
        // change.
        if let Some(row) = self.by_slot.get(&slot) {
            return Some(*row);
        }
        self.matchers.iter().all(|m| m.matches_labels(labels)).then(|| self.row(Some(slot), labels))
    }

    /// How batches of `group` with these series (column, slot, labels) reach the ring; `None` if
    /// the selector matches none.
    pub fn route<'a>(
        &mut self,
        group: GroupId,
        series: impl Iterator<Item = (u32, u32, &'a Labels)>,
    ) -> Option<BatchRoute> {
        let mut columns_by_block: HashMap<u32, Vec<(u32, u32)>> = HashMap::new();
        for (source, slot, labels) in series {
            let Some(row) = self.member(slot, labels) else { continue };
            // A row without a block is new, or was in no block of the history that was read.
            if self.locations[row as usize].block == NO_BLOCK {
                self.add_to_group_block(row, group);
            }
            let location = self.locations[row as usize];
            columns_by_block.entry(location.block).or_default().push((location.column, source));
        }
        let route = |(block, columns): (u32, Vec<(u32, u32)>)| {
            // `u32::MAX` is no index of a batch: such a column of the block gets no value from it.
            let mut sources = vec![u32::MAX; self.blocks[block as usize].columns.len()];
            for (column, source) in columns.iter() {
                sources[*column as usize] = *source;
            }
            (block, sources)
        };
        (!columns_by_block.is_empty())
            .then(|| BatchRoute { sources_by_block: columns_by_block.into_iter().map(route).collect() })
    }

    /// Gives a new row a column in the block of its group.
    fn add_to_group_block(&mut self, row: u32, group: GroupId) {
        let next = self.blocks.len() as u32;
        let block = *self.group_blocks.entry(group).or_insert(next);
        if block == next {
            self.blocks.push(RingBlock::default());
        }
        let column = self.blocks[block as usize].add_column(row, &self.labels[row as usize]);
        self.locations[row as usize] = RowLocation { block, column };
    }

    /// Adds one batch.
    pub fn push(&mut self, route: &BatchRoute, t: TimeMs, values: &[f64], now: TimeMs) {
        let cutoff = self.cutoff(now);
        for (block, sources) in &route.sources_by_block {
            let block = &mut self.blocks[*block as usize];
            // Trimmed first, so that the new row reuses the memory of an old one.
            block.trim(cutoff);
            block.push(t, values, sources);
        }
    }

    /// Adds one sample of the series in `slot`, if the selector matches it. Returns the number of
    /// its block.
    pub fn push_single(
        &mut self,
        slot: u32,
        labels: &Labels,
        t: TimeMs,
        sample: &SingleSample,
        now: TimeMs,
    ) -> Option<u32> {
        let cutoff = self.cutoff(now);
        let row = self.member(slot, labels)?;
        if self.locations[row as usize].block == NO_BLOCK {
            self.add_own_block(row);
        }
        let location = self.locations[row as usize];
        let block = &mut self.blocks[location.block as usize];
        let column = location.column as usize;
        match sample {
            SingleSample::Float(v) => {
                // A sample has one kind. If the sender changed its mind at this time, the later one
                // counts.
                block.drop_histogram(column, t);
                block.set(column, t, *v);
            }
            SingleSample::Histogram(h) => {
                block.set(column, t, HISTOGRAM);
                block.extras_mut(column, t).add_histogram(t, h.clone());
            }
            SingleSample::Start(start) => block.extras_mut(column, t).add_start(t, *start),
        }
        block.trim(cutoff);
        Some(location.block)
    }
}

/// The metric name that the matchers require by equality. Unlike
/// [`crate::plan::row_labels::required_name`] it may be empty: series without a name are found
/// under it.
fn equal_name(matchers: &[Matcher]) -> Option<&str> {
    let requires_name = |m: &&Matcher| m.name == METRIC_NAME && m.op == storage::model::MatchOp::Equal;
    matchers.iter().find(requires_name).map(|m| m.value.as_str())
}

/// A ring without rows, in a tenth of the memory: most selectors of a large collection of rules
/// match nothing in a shard.
#[derive(Debug)]
pub struct EmptyRing {
    matchers: Arc<[Matcher]>,
    retention: i64,
    loaded_seq: u64,
}

impl EmptyRing {
    /// A ring that can get rows.
    pub fn ring(&self) -> SampleRing {
        let ring = SampleRing::new(self.matchers.clone(), self.retention);
        SampleRing { loaded_seq: self.loaded_seq, ..ring }
    }

    /// See [`SampleRing::name`].
    pub fn name(&self) -> Option<&str> {
        equal_name(&self.matchers)
    }

    /// Whether the selector matches a series.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.matchers.iter().all(|m| m.matches_labels(labels))
    }

    /// See [`SampleRing::matchers`].
    pub fn matchers(&self) -> &[Matcher] {
        &self.matchers
    }

    /// See [`SampleRing::retention`].
    pub fn retention(&self) -> i64 {
        self.retention
    }

    /// See [`SampleRing::extend_retention`].
    pub fn extend_retention(&mut self, retention: i64) {
        self.retention = self.retention.max(retention);
    }
}

/// A sample that comes alone for a series.
#[derive(Clone, Debug)]
pub enum SingleSample {
    /// A float sample.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<NativeHistogram>),
    /// The start timestamp of the sample at that time.
    Start(TimeMs),
}

/// The histograms and start timestamps of series `i` from `from` on.
fn read_extras(selection: &Selection, i: usize, from: TimeMs) -> Result<Option<ColumnExtras>, StoreError> {
    let mut extras = ColumnExtras::default();
    if selection.has_histograms(i) {
        selection.read_histograms(i, from, TimeMs::MAX, &mut extras.histograms)?;
    }
    if selection.has_starts(i) {
        selection.read_starts(i, from, TimeMs::MAX, &mut extras.starts)?;
    }
    Ok((!extras.is_empty()).then_some(extras))
}

/// The labels of the series in these slots of a shard, with their slots.
pub fn labels_of_slots(store: &Store, shard: u16, slots: &[u32]) -> Vec<(u32, Labels)> {
    slots.iter().map(|slot| (*slot, store.series().labels(SeriesRef { shard, slot: *slot }))).collect()
}
