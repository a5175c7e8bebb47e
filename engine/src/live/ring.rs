//! Rings: the recent samples of the series that one selector picks in one shard, for all windows over it.
//!
//! Series of one scrape share one clock: a [`Block`] has one vector of times and a column of values per
//! series, [`ABSENT`] where a series has no sample at a time. A window is then the same index range for all
//! columns of a block. Series that come alone have a block of their own. Two windows over one selector
//! share its ring; it is as long as the longest of them.

use std::cmp::Ordering;
use std::collections::HashMap;
use storage::model::value::{ABSENT, is_absent, is_sample};
use storage::model::{Labels, Matcher, SeriesRef, TimeMs};
use storage::store::{GroupId, Store, StoreError};

/// Series that share a clock.
#[derive(Debug, Default)]
pub struct Block {
    /// Times, ascending.
    pub clock: Vec<TimeMs>,
    /// Columns.
    pub columns: Vec<Column>,
    /// Grows with every sample.
    pub version: u64,
}

/// One series of a block.
#[derive(Debug)]
pub struct Column {
    /// The ring's row.
    pub row: u32,
    /// Value per clock time.
    pub values: Vec<f64>,
    /// Time of the newest entry that is not a sample: windows after it need not look for gaps.
    pub last_gap: TimeMs,
    /// Time of the newest sample that is below its predecessor: windows that begin there have no reset.
    pub last_reset: TimeMs,
    /// The newest sample's value, and its time.
    last: f64,
    newest: TimeMs,
}

impl Column {
    fn new(row: u32, clock: &[TimeMs]) -> Column {
        Column {
            row,
            values: vec![ABSENT; clock.len()],
            last_gap: clock.last().copied().unwrap_or(TimeMs::MIN),
            last_reset: TimeMs::MIN,
            last: f64::NEG_INFINITY,
            newest: TimeMs::MIN,
        }
    }

    #[inline]
    fn push(&mut self, t: TimeMs, v: f64) {
        self.values.push(v);
        self.note(t, v);
    }

    #[inline]
    fn note(&mut self, t: TimeMs, v: f64) {
        if !is_sample(v) {
            self.last_gap = t;
            return;
        }
        // A NaN on either side makes the kernels look for themselves.
        if v.partial_cmp(&self.last).is_none_or(Ordering::is_lt) {
            self.last_reset = t;
        }
        self.last = v;
        self.newest = t;
    }
}

impl Block {
    fn place(&mut self, t: TimeMs) -> usize {
        let at = self.clock.partition_point(|c| *c < t);
        if self.clock.get(at) != Some(&t) {
            self.clock.insert(at, t);
            self.columns.iter_mut().for_each(|c| {
                c.values.insert(at, ABSENT);
                c.last_gap = c.last_gap.max(t);
            });
        }
        at
    }

    /// Adds one sample of one column.
    fn set(&mut self, column: usize, t: TimeMs, v: f64) {
        self.version += 1;
        let newest = self.clock.last().copied().unwrap_or(TimeMs::MIN);
        let at = self.place(t);
        let column = &mut self.columns[column];
        column.values[at] = v;
        if t > newest {
            column.note(t, v);
        } else {
            // Filling in behind the newest: let every window over it look for gaps and resets.
            column.last_reset = newest;
            column.last_gap = newest;
        }
    }

    /// Adds one scrape: `sources[c]` is the index in `values` of column `c`.
    fn push(&mut self, t: TimeMs, values: &[f64], sources: &[u32]) {
        self.version += 1;
        if self.clock.last().is_some_and(|newest| *newest >= t) {
            for (column, source) in sources.iter().enumerate() {
                match values.get(*source as usize) {
                    Some(v) if !is_absent(*v) => self.set(column, t, *v),
                    _ => {}
                }
            }
            return;
        }
        self.clock.push(t);
        for (c, column) in self.columns.iter_mut().enumerate() {
            let source = sources.get(c).copied().unwrap_or(u32::MAX);
            column.push(t, values.get(source as usize).copied().unwrap_or(ABSENT));
        }
    }

    /// Forgets what is older than `cutoff`, when that is a good part of it.
    fn trim(&mut self, cutoff: TimeMs) {
        let old = self.clock.partition_point(|t| *t < cutoff);
        if old > 16 && old * 4 > self.clock.len() {
            self.clock.drain(..old);
            self.columns.iter_mut().for_each(|c| drop(c.values.drain(..old)));
        }
    }
}

/// Where a row's samples are.
#[derive(Copy, Clone, Debug)]
struct Place {
    block: u32,
    column: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Ring {
    matchers: Vec<Matcher>,
    /// How far back it must reach, ms.
    retention: i64,
    /// Labels per row.
    pub labels: Vec<Labels>,
    places: Vec<Place>,
    /// The blocks.
    pub blocks: Vec<Block>,
    by_slot: HashMap<u32, u32>,
    /// Rows that only blocks on disk knew when the ring was filled.
    slotless: HashMap<Labels, u32>,
    home: HashMap<GroupId, u32>,
    /// Items up to this append sequence number are in already.
    filled: u64,
}

/// How a group's batches reach a ring: per block, the batch column of each block column.
#[derive(Debug, Default)]
pub struct Route {
    parts: Vec<(u32, Vec<u32>)>,
}

impl Ring {
    /// An empty ring.
    pub fn new(matchers: Vec<Matcher>) -> Ring {
        Ring { matchers, ..Ring::default() }
    }

    /// The metric name that the matchers pin, if they do.
    pub fn name(&self) -> Option<&str> {
        let pins = |m: &&Matcher| {
            m.name == storage::model::labels::METRIC_NAME && m.op == storage::model::MatchOp::Equal
        };
        self.matchers.iter().find(pins).map(|m| m.value.as_str())
    }

    /// How far back it reaches, ms.
    pub fn retention(&self) -> i64 {
        self.retention
    }

    /// Whether an item is in already because the fill saw it.
    pub fn has(&self, seq: u64) -> bool {
        seq <= self.filled
    }

    /// Whether ended series outnumber the living ones by far.
    pub fn is_garbage(&self, t: TimeMs) -> bool {
        let columns = self.blocks.iter().flat_map(|block| &block.columns);
        let living = columns.filter(|column| column.newest >= t - self.retention).count();
        self.labels.len() > 2 * living + crate::limits::DEAD_ROWS
    }

    /// Fills the ring from the store, so that it reaches back `retention` ms from `t`. Rows that it has
    /// keep their numbers.
    pub fn fill(&mut self, store: &Store, shard: u16, t: TimeMs, retention: i64) -> Result<(), StoreError> {
        self.retention = self.retention.max(retention);
        let from = t - self.retention;
        let selection = store.select(shard, &self.matchers, from, TimeMs::MAX)?;
        self.blocks.clear();
        self.home.clear();
        self.places.iter_mut().for_each(|p| p.block = u32::MAX);
        let mut clocks: HashMap<Vec<TimeMs>, u32> = HashMap::new();
        let (mut ts, mut vs) = (Vec::new(), Vec::new());
        for i in 0..selection.labels.len() {
            ts.clear();
            vs.clear();
            selection.read(i, from, TimeMs::MAX, &mut ts, &mut vs)?;
            let row = self.row(selection.slots[i], &selection.labels[i]);
            let block = *clocks.entry(ts.clone()).or_insert_with(|| self.blocks.len() as u32);
            self.add_column(block, row, &ts, &vs);
        }
        self.filled = selection.seq;
        // Rows that the store no longer shows keep a place, empty.
        for row in 0..self.places.len() {
            if self.places[row].block == u32::MAX {
                let block = self.blocks.len() as u32;
                self.add_column(block, row as u32, &[], &[]);
            }
        }
        Ok(())
    }

    fn add_column(&mut self, block: u32, row: u32, ts: &[TimeMs], vs: &[f64]) {
        if block as usize == self.blocks.len() {
            self.blocks.push(Block { clock: ts.to_vec(), ..Block::default() });
        }
        let block_state = &mut self.blocks[block as usize];
        let mut column = Column::new(row, &[]);
        ts.iter().zip(vs).for_each(|(t, v)| column.push(*t, *v));
        self.places[row as usize] = Place { block, column: block_state.columns.len() as u32 };
        block_state.columns.push(column);
        block_state.version += 1;
    }

    /// The row of a series; made if it is new (without a place yet).
    fn row(&mut self, slot: Option<u32>, labels: &Labels) -> u32 {
        if let Some(row) = slot.and_then(|slot| self.by_slot.get(&slot)) {
            return *row;
        }
        let row = self.slotless.remove(labels).unwrap_or_else(|| {
            self.labels.push(labels.clone());
            self.places.push(Place { block: u32::MAX, column: 0 });
            self.labels.len() as u32 - 1
        });
        match slot {
            Some(slot) => drop(self.by_slot.insert(slot, row)),
            None => drop(self.slotless.insert(labels.clone(), row)),
        }
        row
    }

    /// The row of the series in `slot`, if the ring's selector picks it.
    fn member(&mut self, slot: u32, labels: &Labels) -> Option<u32> {
        if let Some(row) = self.by_slot.get(&slot) {
            return Some(*row);
        }
        self.matchers.iter().all(|m| m.matches_labels(labels)).then(|| self.row(Some(slot), labels))
    }

    /// How batches of `group` with these series (slot, labels) reach the ring; `None` if none is picked.
    pub fn route<'a>(
        &mut self,
        group: GroupId,
        series: impl Iterator<Item = (u32, &'a Labels)>,
    ) -> Option<Route> {
        let mut parts: HashMap<u32, Vec<(u32, u32)>> = HashMap::new();
        for (source, (slot, labels)) in series.enumerate() {
            let Some(row) = self.member(slot, labels) else { continue };
            if self.places[row as usize].block == u32::MAX {
                self.settle(row, group);
            }
            let place = self.places[row as usize];
            parts.entry(place.block).or_default().push((place.column, source as u32));
        }
        let route = |(block, columns): (u32, Vec<(u32, u32)>)| {
            let mut sources = vec![u32::MAX; self.blocks[block as usize].columns.len()];
            columns.iter().for_each(|(column, source)| sources[*column as usize] = *source);
            (block, sources)
        };
        (!parts.is_empty()).then(|| Route { parts: parts.into_iter().map(route).collect() })
    }

    /// Gives a new row a column in the block of its group.
    fn settle(&mut self, row: u32, group: GroupId) {
        let next = self.blocks.len() as u32;
        let block = *self.home.entry(group).or_insert(next);
        if block == next {
            self.blocks.push(Block::default());
        }
        let state = &mut self.blocks[block as usize];
        self.places[row as usize] = Place { block, column: state.columns.len() as u32 };
        state.columns.push(Column::new(row, &state.clock));
        state.version += 1;
    }

    /// Adds one batch. Returns how many rows it touched.
    pub fn push(&mut self, route: &Route, t: TimeMs, values: &[f64], cutoff: TimeMs) -> usize {
        let mut touched = 0;
        for (block, sources) in &route.parts {
            let block = &mut self.blocks[*block as usize];
            block.push(t, values, sources);
            block.trim(cutoff - self.retention);
            touched += sources.len();
        }
        touched
    }

    /// Adds one sample of the series in `slot`, if the selector picks it.
    pub fn push_row(&mut self, slot: u32, labels: &Labels, t: TimeMs, v: f64, cutoff: TimeMs) -> bool {
        let Some(row) = self.member(slot, labels) else { return false };
        if self.places[row as usize].block == u32::MAX {
            let block = self.blocks.len() as u32;
            self.add_column(block, row, &[], &[]);
        }
        let place = self.places[row as usize];
        let block = &mut self.blocks[place.block as usize];
        block.set(place.column as usize, t, v);
        block.trim(cutoff - self.retention);
        true
    }
}

/// The series a batch is about.
pub fn series_of(store: &Store, shard: u16, slots: &[u32]) -> Vec<(u32, Labels)> {
    slots.iter().map(|slot| (*slot, store.labels(SeriesRef { shard, slot: *slot }))).collect()
}
