//! Turns the samples of a scrape into columnar batches.
//!
//! A [`ScrapeBatch`] has one part per shard that contains series of the target, and further parts
//! if a target has more series than one record of the WAL should contain. A series has the same
//! column in every scrape, so the `Arc` of the layout remains the same while the set of series
//! does. A column that had a sample in the last scrape and has none now gets one stale marker.
//! Columns that remain empty are removed once there are many.

use crate::limits::PART_COLUMNS;
use std::collections::HashMap;
use std::sync::Arc;
use storage::model::value::{ABSENT, STALE, is_absent, is_sample};
use storage::model::{SeriesRef, TimeMs};
use storage::store::{AppendResult, ColumnBatch, ColumnLayout, FeedDelivery, GroupId, Store, StoreError};

/// Empty columns are removed if there are more than half the number of live columns plus this.
const COMPACT_SLACK: usize = 256;

/// The series of a target in one shard.
#[derive(Debug)]
struct ShardBatch {
    shard: u16,
    group: GroupId,
    layout: Arc<ColumnLayout>,
    slots: Vec<u32>,
    /// The values of the current scrape, by column.
    values: Vec<f64>,
    /// Whether the last entry of the column was a sample.
    live: Vec<bool>,
    /// The time of the last batch.
    newest: Option<TimeMs>,
}

/// All parts of a target.
#[derive(Debug)]
pub struct ScrapeBatch {
    key: String,
    parts: Vec<ShardBatch>,
}

/// The column of a series.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct BatchColumn {
    /// The index of the part.
    pub part: u32,
    /// The index of the column in the part.
    pub column: u32,
}

/// Finds columns by series while new series are added; built for one scrape.
#[derive(Default)]
pub struct ColumnFinder(HashMap<SeriesRef, BatchColumn>);

impl ColumnFinder {
    /// The number of columns.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no columns.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl ScrapeBatch {
    /// An empty batch whose column groups have the key `key`, which is unique to the target and the
    /// same after a restart.
    pub fn new(key: String) -> ScrapeBatch {
        ScrapeBatch { key, parts: Vec::new() }
    }

    /// A finder of all present columns.
    pub fn finder(&self) -> ColumnFinder {
        let columns = self.parts.iter().zip(0..).flat_map(|(p, part)| {
            let place =
                move |(slot, column)| (SeriesRef { shard: p.shard, slot }, BatchColumn { part, column });
            p.slots.iter().copied().zip(0..).map(place)
        });
        ColumnFinder(columns.collect())
    }

    /// The index of a part of `shard` with room for a column; creates the part if needed.
    pub fn part(&mut self, shard: u16, store: &Store) -> u32 {
        let room = |p: &ShardBatch| p.shard == shard && p.slots.len() < PART_COLUMNS;
        let at = self.parts.iter().position(room).unwrap_or_else(|| {
            // The key must be the same after a restart, so that the group goes on; parts are
            // numbered in the order in which they fill.
            let group = match self.parts.iter().filter(|p| p.shard == shard).count() {
                0 => store.open_group(&self.key, shard),
                before => store.open_group(&format!("{} part {}", self.key, before + 1), shard),
            };
            let layout = Arc::new(ColumnLayout { slots: Vec::new() });
            let (slots, values, live) = Default::default();
            self.parts.push(ShardBatch { shard, group, layout, slots, values, live, newest: None });
            self.parts.len() - 1
        });
        at as u32
    }

    /// The shard of a part.
    #[inline]
    pub fn shard(&self, part: u32) -> u16 {
        self.parts[part as usize].shard
    }

    /// The column of `series`, created on first use.
    pub fn column(&mut self, series: SeriesRef, finder: &mut ColumnFinder, store: &Store) -> BatchColumn {
        if let Some(column) = finder.0.get(&series) {
            return *column;
        }
        let part = self.part(series.shard, store);
        let column = self.add(part, series.slot);
        finder.0.insert(series, column);
        column
    }

    /// Adds a column at the end of a part. The slot must not have a column yet.
    pub fn add(&mut self, part: u32, slot: u32) -> BatchColumn {
        let p = &mut self.parts[part as usize];
        p.slots.push(slot);
        p.values.push(ABSENT);
        p.live.push(false);
        BatchColumn { part, column: p.slots.len() as u32 - 1 }
    }

    /// Enters a sample; `false` if the column already has one.
    #[inline]
    pub fn put(&mut self, at: BatchColumn, value: f64) -> bool {
        let cell = &mut self.parts[at.part as usize].values[at.column as usize];
        let free = is_absent(*cell);
        // The first sample of a body counts. To overwrite it would make the result depend on the
        // order of lines that mean the same.
        if free {
            *cell = value;
        }
        free
    }

    /// Enters a sample and replaces the present one.
    pub fn set_report(&mut self, at: BatchColumn, value: f64) {
        self.parts[at.part as usize].values[at.column as usize] = value;
    }

    /// Discards all samples entered since the last [`ScrapeBatch::commit`].
    pub fn discard(&mut self) {
        for part in &mut self.parts {
            part.values.fill(ABSENT);
        }
    }

    /// How many columns have a sample now and had none in the last batch.
    pub fn newly_alive(&self) -> usize {
        let risen = |p: &ShardBatch| {
            p.values.iter().zip(&p.live).filter(|(v, live)| !**live && is_sample(**v)).count()
        };
        self.parts.iter().map(risen).sum()
    }

    /// Appends the entered samples at time `t`, with stale markers for columns that no longer have
    /// a sample. Returns how many samples were refused, and why.
    ///
    /// The first part, which contains the reports, is appended last: if another part fails, the
    /// reports can still say so.
    pub fn commit(&mut self, t: TimeMs, store: &Store) -> Result<AppendResult, StoreError> {
        let mut all = AppendResult::default();
        // Last to first, so that the reports are appended when everything else is known.
        for part in self.parts.iter_mut().rev() {
            let appended = part.commit(t, store)?;
            all.too_old += appended.too_old;
            all.duplicate += appended.duplicate;
            all.out_of_bounds += appended.out_of_bounds;
        }
        Ok(all)
    }

    /// Appends only these samples, discarding all others, without waiting for the disk.
    pub fn commit_at_once(
        &mut self,
        t: TimeMs,
        samples: impl Iterator<Item = (BatchColumn, f64)>,
        store: &Store,
    ) -> Result<(), StoreError> {
        self.discard();
        for (column, value) in samples {
            self.set_report(column, value);
        }
        for part in &mut self.parts {
            if part.values.iter().any(|v| !is_absent(*v)) {
                let batch = part.batch(t);
                // Before the append: whether it succeeds or not, these values must not be part of
                // the next batch.
                part.values.fill(ABSENT);
                store.recorder().append_columns(&batch)?;
            }
        }
        Ok(())
    }

    /// Removes long-empty columns if there are many; calls `moved(part, new column by old column)`.
    pub fn compact(&mut self, mut moved: impl FnMut(u32, &[u32])) {
        for (part, index) in self.parts.iter_mut().zip(0..) {
            let live = part.live.iter().filter(|live| **live).count();
            // Not at once: a series that comes back finds its column, and each removal makes a new
            // layout, which the log has to write in full.
            if part.live.len() - live > live / 2 + COMPACT_SLACK {
                moved(index, &part.compact());
            }
        }
    }
}

impl ShardBatch {
    fn commit(&mut self, t: TimeMs, store: &Store) -> Result<AppendResult, StoreError> {
        let silent = self.values.iter().all(|v| is_absent(*v));
        if silent && self.newest == Some(t) {
            // The batch of this time was appended before the scrape failed: a second one would be
            // refused.
            return Ok(AppendResult::default());
        }
        let mut anything = false;
        for (value, live) in self.values.iter_mut().zip(&self.live) {
            // The series had a sample and has none: one marker says that it has ended. After it the
            // column is not live, so the next scrape writes nothing.
            if *live && is_absent(*value) {
                *value = STALE;
            }
            anything |= !is_absent(*value);
        }
        // All columns are empty and were before: a batch of nothing would only make the log longer.
        if !anything {
            return Ok(AppendResult::default());
        }
        let batch = self.batch(t);
        let result = store.append_columns(&batch, FeedDelivery::Feed);
        if result.is_ok() {
            for (live, value) in self.live.iter_mut().zip(&self.values) {
                *live = is_sample(*value);
            }
            self.newest = Some(t);
        }
        // Also after an error: a batch that the store refused is not tried again with the next
        // scrape.
        self.values.fill(ABSENT);
        result
    }

    /// The current values as a batch at time `t`.
    fn batch(&mut self, t: TimeMs) -> ColumnBatch {
        // Columns are only added at the end, so the number says whether the layout is still the
        // same. The same `Arc` is what lets the store keep one layout for all batches.
        if self.layout.slots.len() != self.slots.len() {
            self.layout = Arc::new(ColumnLayout { slots: self.slots.clone() });
        }
        ColumnBatch { group: self.group, layout: self.layout.clone(), t, values: Arc::from(&self.values[..]) }
    }

    /// Removes all columns that are not live; returns the new column by old column.
    fn compact(&mut self) -> Vec<u32> {
        let mut moved = vec![super::series_cache::NO_COLUMN; self.slots.len()];
        let mut slots = Vec::new();
        for (old, slot) in self.slots.iter().enumerate().filter(|(old, _)| self.live[*old]) {
            moved[old] = slots.len() as u32;
            slots.push(*slot);
        }
        self.values = vec![ABSENT; slots.len()];
        self.live = vec![true; slots.len()];
        self.layout = Arc::new(ColumnLayout { slots: slots.clone() });
        self.slots = slots;
        moved
    }
}
