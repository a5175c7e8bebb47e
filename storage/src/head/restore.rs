//! What moves the head between the write-ahead log and the blocks: a replay fills it from the log
//! (`restore_*`), it writes a checkpoint of the series and groups that it knows, and it drops
//! samples that are in blocks ([`Head::drop_before`]).

use super::shard::{FlushInProgress, Head};
use crate::limits::SHARD_SLOTS;
use crate::model::TimeMs;
use crate::model::value::{ABSENT, is_absent};
use crate::wal::{RecordBuilder, RecordError};
use roaring::RoaringBitmap;
use std::sync::Arc;

impl Head {
    /// Adds records of all series and groups that may have samples, for a checkpoint. `held_from`
    /// is the first record of the log that a reader of it still needs. Returns the number of
    /// records.
    pub fn encode_checkpoint(&self, shard: u16, held_from: Option<u64>, batch: &mut RecordBuilder) -> u64 {
        self.series.encode_known(shard, held_from, batch) + self.groups.encode_named(shard, batch)
    }

    /// Applies a layout record: the columns from `from` on belong to `slots`.
    pub fn restore_layout(&mut self, group: u32, from: u32, slots: &[u32]) -> Result<(), RecordError> {
        self.groups.restore(group, None)?;
        if let Some(slot) = slots.iter().find(|slot| **slot >= SHARD_SLOTS) {
            return Err(RecordError::SlotTooLarge(*slot));
        }
        let known = self.groups.columns_of(group).get(from as usize..);
        // The log repeats the layout in each new segment: if it continues the current columns, the
        // set remains. Otherwise a layout from column 0 on begins a new set.
        let continues = known.is_some_and(|known| slots.starts_with(known));
        let set = match self.groups[group].set {
            Some(set) if continues => set,
            _ if from == 0 => self.groups.begin_set(group),
            _ => {
                // Without the columns before, the values of the next scrapes would go to the wrong
                // series: the group waits for its next whole layout.
                self.groups[group].set = None;
                return Err(RecordError::NoLayoutToExtend);
            }
        };
        for slot in slots {
            self.series.extend_to(*slot);
            self.column(set, *slot);
        }
        Ok(())
    }

    /// Applies a scrape record. Returns the number of its samples.
    pub fn restore_row(&mut self, group: u32, t: TimeMs, row: Arc<[f64]>) -> Result<u64, RecordError> {
        let Some(set) = self.groups.set_of(group) else { return Err(RecordError::NoLayout) };
        if row.len() > set.columns.len() {
            return Err(RecordError::TooManyValues { values: row.len(), columns: set.columns.len() });
        }
        let samples = row.iter().filter(|v| !is_absent(**v)).count() as u64;
        // A newer row is appended to the columns of the group.
        if self.groups[group].newest.is_none_or(|newest| t > newest) {
            let row = self.without_stored(group, t, row);
            self.push_row(group, t, row);
            return Ok(samples);
        }
        // Late rows become single samples: columns only grow in time.
        let single: Vec<(u32, f64)> = set.columns.iter().copied().zip(row.iter().copied()).collect();
        for (slot, v) in single.into_iter().filter(|(_, v)| !is_absent(*v)) {
            self.restore_sample(slot, t, v)?;
        }
        Ok(samples)
    }

    /// A row of a group without the samples that its series already have elsewhere at `t`.
    pub(super) fn without_stored(&self, group: u32, t: TimeMs, row: Arc<[f64]>) -> Arc<[f64]> {
        let Some(set) = self.groups.set_of(group) else { return row };
        let known = |column: &u32| {
            let slot = set.columns[*column as usize];
            // Most series have no sample at or after `t`; that check is cheap and avoids the
            // lookups.
            let stored = self.stored(slot);
            let reaches = stored.newest().is_some_and(|newest| t <= newest);
            reaches && stored.has_sample_at(t)
        };
        let mut fewer: Option<Vec<f64>> = None;
        // Only series of `mixed` columns can have samples outside this group. The row is copied
        // only if it must change, because it is shared.
        for column in set.mixed.iter().filter(|column| (*column as usize) < row.len()).filter(known) {
            fewer.get_or_insert_with(|| row.to_vec())[column as usize] = ABSENT;
        }
        fewer.map_or(row, Arc::from)
    }

    /// Applies a record of a single sample. A stored sample at this time wins.
    pub fn restore_sample(&mut self, slot: u32, t: TimeMs, v: f64) -> Result<(), RecordError> {
        self.series.restore_slot(slot)?;
        if !self.stored(slot).has_sample_at(t) {
            self.add_row(slot, t, v);
        }
        Ok(())
    }

    /// Time of the oldest sample; visits every series.
    pub(super) fn find_oldest(&self) -> Option<TimeMs> {
        let sets = self.groups.sets.values().filter_map(|set| set.oldest());
        let rows = self.series.iter().filter_map(|(_, series)| series.rows()?.oldest());
        let histograms = self.series.iter().filter_map(|(_, series)| series.sparse()?.histograms.oldest());
        sets.chain(rows).chain(histograms).min()
    }

    /// Begins a flush up to `end`. Until [`Head::drop_before`], samples before `end` are recorded
    /// also in `flushing`: the flush works on a snapshot and does not see them.
    pub fn begin_flush(&mut self, end: TimeMs) {
        self.flushing = Some(FlushInProgress { end, ..FlushInProgress::default() });
    }

    /// Ends a flush that failed.
    pub fn abandon_flush(&mut self) {
        self.flushing = None;
    }

    /// Drops all samples before `end`, except those that arrived since [`Head::begin_flush`], and
    /// deactivates series that have no samples left. `last_lsn` is the last record of the log.
    pub fn drop_before(&mut self, end: TimeMs, last_lsn: u64) {
        self.limits.raise_min_append_time(end);
        for set in self.groups.sets.values_mut() {
            set.drop_before(end);
        }
        for (_, series) in self.series.iter_mut() {
            series.drop_before(end);
        }
        self.drop_sets();
        // Before the time range is found anew: these samples may be the oldest.
        if let Some(flushing) = self.flushing.take() {
            self.put_back(flushing);
        }
        self.times.oldest = self.find_oldest();
        self.refresh_mixed();
        // A column that the current layout may fill keeps its series: its next sample is stored
        // without a lookup of the series, so nothing would activate it again.
        let in_use = self.groups.all_columns_in_use();
        self.series.deactivate_unused(last_lsn, |column_ref| {
            in_use.get(&column_ref.set).is_some_and(|columns| columns.contains(column_ref.column))
        });
    }

    /// Stores again the samples that arrived during a flush: they were dropped together with the
    /// flushed ones.
    fn put_back(&mut self, late: FlushInProgress) {
        for (slot, t, v) in late.rows {
            if self.stored(slot).float_at(t).is_none() {
                self.add_row(slot, t, v);
            }
        }
        for (slot, t, h) in late.histograms {
            if self.stored(slot).histogram_at(t).is_none() {
                self.add_histogram(slot, t, h);
            }
        }
        for (slot, t, start) in late.starts {
            if self.stored(slot).start_at(t).is_none() {
                self.add_start(slot, t, start);
            }
        }
    }

    /// Removes column sets without samples, and begins new ones where most columns have none.
    fn drop_sets(&mut self) {
        for (key, columns) in self.groups.remove_empty_sets() {
            for slot in columns {
                self.series[slot].remove_column(key);
            }
        }
        self.groups.renew_sparse_sets();
    }

    /// Clears the `mixed` mark of columns whose series no longer has samples elsewhere.
    fn refresh_mixed(&mut self) {
        let mixed = |slot: u32, group: u32| {
            let series = &self.series[slot];
            let mut column_refs = series.columns().iter();
            series.is_mixed() || column_refs.any(|column_ref| self.groups.is_foreign(column_ref.set, group))
        };
        let fresh: Vec<(u32, RoaringBitmap)> = self
            .groups
            .sets
            .iter()
            .filter(|(_, set)| !set.mixed.is_empty())
            .map(|(key, set)| {
                let still =
                    |c: &u32| set.columns.get(*c as usize).is_some_and(|slot| mixed(*slot, set.group));
                (*key, set.mixed.iter().filter(still).collect())
            })
            .collect();
        for (key, columns) in fresh {
            if let Some(set) = self.groups.sets.get_mut(&key) {
                set.mixed = columns;
            }
        }
    }

    /// Number of chunks, open ones included.
    pub fn chunks(&self) -> u64 {
        let rows =
            self.series.iter().filter_map(|(_, series)| series.rows()).map(|rows| rows.chunks() as u64);
        let sparse = self.series.iter().filter_map(|(_, series)| series.sparse());
        let histograms = sparse.map(|sparse| sparse.histograms.chunks() as u64);
        let columns = self.groups.sets.values().map(|set| set.chunks());
        columns.chain(rows).chain(histograms).sum()
    }
}
