//! The head between log and blocks: it encodes its series, groups and rows for the write-ahead log,
//! is filled from the log by a replay (`restore_*`), and drops samples that are in blocks
//! ([`Head::drop_before`]).

use super::columns::ColumnSet;
use super::group::ColumnGroup;
use super::series::ColumnRef;
use super::shard::{FlushInProgress, Head};
use crate::limits::SHARD_SLOTS;
use crate::model::value::{ABSENT, is_absent};
use crate::model::{Labels, SHARDS, TimeMs};
use crate::wal::{self, RecordBuilder};
use roaring::RoaringBitmap;
use std::collections::HashMap;
use std::sync::Arc;

/// The id of group `group` of `shard`, as in the log and for callers of the store.
pub fn group_id(shard: u16, group: u32) -> u32 {
    group * u32::from(SHARDS) + u32::from(shard % SHARDS)
}

/// Shard and index within the shard of a group id.
pub fn group_of(id: u32) -> (u16, u32) {
    ((id % u32::from(SHARDS)) as u16, id / u32::from(SHARDS))
}

impl Head {
    /// Whether there are series that are not in the log yet.
    pub fn has_unlogged(&self) -> bool {
        !self.unlogged.is_empty()
    }

    /// Adds records of the series that are not in the log yet.
    pub fn encode_series(&self, shard: u16, batch: &mut RecordBuilder) {
        for slot in &self.unlogged {
            wal::add_series(batch, shard, *slot, &self.series[*slot as usize].labels);
        }
    }

    /// The records of [`Head::encode_series`] are in the log.
    pub fn series_logged(&mut self) {
        for slot in std::mem::take(&mut self.unlogged) {
            self.series[slot as usize].logged = true;
        }
    }

    /// Adds the records of one row of a group: its name and layout if the log does not have them,
    /// then the values. `epoch` is that of the log.
    pub fn encode_row(
        &self,
        shard: u16,
        group: u32,
        t: TimeMs,
        row: &[f64],
        epoch: u64,
        batch: &mut RecordBuilder,
    ) {
        let known = &self.groups[group as usize];
        if !known.log.name_logged {
            wal::add_group(batch, group_id(shard, group), &known.key);
        }
        if let Some(set) = known.set.and_then(|set| self.sets.get(&set)) {
            known.log.encode(batch, epoch, group_id(shard, group), &set.columns, t, row);
        }
    }

    /// The records of [`Head::encode_row`] are in the log; `lsn` is the number of the last one.
    pub fn row_logged(&mut self, group: u32, epoch: u64, row: Arc<[f64]>, lsn: u64) {
        let columns = row.len();
        self.groups[group as usize].log.logged(epoch, columns, row, lsn);
    }

    /// Adds records of all series and groups that may have samples, for a checkpoint. Returns the
    /// number of records.
    pub fn encode_checkpoint(&self, shard: u16, batch: &mut RecordBuilder) -> u64 {
        let mut records = 0;
        for (slot, series) in self.series.iter().enumerate().filter(|(_, series)| series.listed) {
            wal::add_series(batch, shard, slot as u32, &series.labels);
            records += 1;
        }
        for (group, known) in self.groups.iter().enumerate().filter(|(_, known)| known.log.name_logged) {
            wal::add_group(batch, group_id(shard, group as u32), &known.key);
            records += 1;
        }
        records
    }

    /// Applies a series record. An error means that the log is inconsistent.
    pub fn restore_series(&mut self, slot: u32, labels: Labels) -> Result<(), String> {
        if slot >= SHARD_SLOTS {
            return Err(format!("slot {slot} is beyond {SHARD_SLOTS}"));
        }
        if self.labels(slot).is_some_and(|known| *known != labels) {
            return Err(format!("slot {slot} belongs to another series"));
        }
        // A repeated record of the same series is normal: checkpoints contain all series again.
        if self.registry.get(labels.encoded(), &self.series).is_some_and(|known| known != slot) {
            return Err(format!("the series of slot {slot} has another slot"));
        }
        self.assign_slot(slot, labels);
        self.series[slot as usize].logged = true;
        self.activate(slot);
        Ok(())
    }

    /// Applies a series record that another head has checked by [`Head::restore_series`]; `labels`
    /// are those of this slot. The series is not in the index and postings of this head until
    /// [`Head::take_series_from`]; until then lookups go to the other head.
    pub fn restore_known(&mut self, slot: u32, labels: Labels) {
        self.extend_slots(slot);
        let series = &mut self.series[slot as usize];
        series.labels = labels;
        series.listed = true;
        series.logged = true;
    }

    /// Applies a group record. With `key` `None` it only creates the group, for a record that names
    /// a group whose own record is lost.
    pub fn restore_group(&mut self, group: u32, key: Option<&str>) -> Result<(), String> {
        if group >= SHARD_SLOTS {
            return Err(format!("group {group} is beyond {SHARD_SLOTS}"));
        }
        while self.groups.len() <= group as usize {
            let lost: Arc<str> = format!("\0lost group {}", self.groups.len()).into();
            self.groups.push(ColumnGroup::new(lost));
        }
        if let Some(key) = key {
            let (key, known): (Arc<str>, _) = (key.into(), &mut self.groups[group as usize]);
            known.key = key.clone();
            known.log.name_logged = true;
            self.group_keys.insert(key, group);
        }
        Ok(())
    }

    /// Applies a layout record: the columns from `from` on belong to `slots`.
    pub fn restore_layout(&mut self, group: u32, from: u32, slots: &[u32]) -> Result<(), String> {
        self.restore_group(group, None)?;
        if let Some(slot) = slots.iter().find(|slot| **slot >= SHARD_SLOTS) {
            return Err(format!("slot {slot} is beyond {SHARD_SLOTS}"));
        }
        let at = group as usize;
        let current =
            self.groups[at].set.and_then(|set| self.sets.get(&set)).map_or(&[][..], |set| &set.columns);
        let known = current.get(from as usize..);
        // The log repeats the layout in a new epoch: if it continues the current columns, the set
        // remains. Otherwise a layout from column 0 on begins a new set.
        let set = match (known.is_some_and(|known| slots.starts_with(known)), self.groups[at].set) {
            (true, Some(set)) => set,
            _ if from == 0 => self.new_set(at),
            _ => {
                self.groups[at].set = None;
                return Err("the layout that it extends is missing".to_owned());
            }
        };
        for slot in slots {
            self.extend_slots(*slot);
            self.column(set, *slot);
        }
        Ok(())
    }

    /// Applies a scrape record. Returns the number of its samples.
    pub fn restore_row(&mut self, group: u32, t: TimeMs, row: Arc<[f64]>) -> Result<u64, String> {
        let known = self.groups.get(group as usize).and_then(|g| Some((g.newest, self.sets.get(&g.set?)?)));
        let Some((newest, set)) = known else { return Err("the layout of its group is missing".to_owned()) };
        if row.len() > set.columns.len() {
            return Err(format!("{} values for {} columns", row.len(), set.columns.len()));
        }
        let samples = row.iter().filter(|v| !is_absent(**v)).count() as u64;
        // A newer row is appended to the columns of the group.
        if newest.is_none_or(|newest| t > newest) {
            let row = self.without_stored(group as usize, t, row);
            self.push_row(group as usize, t, row);
            return Ok(samples);
        }
        // Late rows become single samples: columns only grow in time.
        let single: Vec<(u32, f64)> = set.columns.iter().copied().zip(row.iter().copied()).collect();
        for (slot, v) in single.into_iter().filter(|(_, v)| !is_absent(*v)) {
            self.restore_sample(slot, t, v)?;
        }
        Ok(samples)
    }

    /// The slots of a group's columns.
    pub fn columns_of(&self, group: u32) -> &[u32] {
        let set = self.groups.get(group as usize).and_then(|group| self.sets.get(&group.set?));
        set.map_or(&[], |set| &set.columns)
    }

    /// A row of a group without the samples that its series already have elsewhere at `t`.
    pub(super) fn without_stored(&self, group: usize, t: TimeMs, row: Arc<[f64]>) -> Arc<[f64]> {
        let Some(set) = self.groups[group].set.and_then(|set| self.sets.get(&set)) else { return row };
        let known = |column: &u32| {
            let slot = set.columns[*column as usize];
            // Most series have no sample at or after `t`; that check is cheap and avoids the
            // lookups.
            let reaches = self.newest_of(slot).is_some_and(|newest| t <= newest);
            reaches && (self.at(slot, t).is_some() || self.histogram_at(slot, t).is_some())
        };
        let mut kept: Option<Vec<f64>> = None;
        // Only series of `mixed` columns can have samples outside this group. The row is copied
        // only if it must change, because it is shared.
        for column in set.mixed.iter().filter(|column| (*column as usize) < row.len()).filter(known) {
            kept.get_or_insert_with(|| row.to_vec())[column as usize] = ABSENT;
        }
        kept.map_or(row, Arc::from)
    }

    /// Applies a record of a single sample. A stored sample at this time wins.
    pub fn restore_sample(&mut self, slot: u32, t: TimeMs, v: f64) -> Result<(), String> {
        self.restore_slot(slot)?;
        if self.at(slot, t).is_none() && self.histogram_at(slot, t).is_none() {
            self.add_row(slot, t, v);
        }
        Ok(())
    }

    /// Times of the oldest and the newest sample.
    pub fn span(&self) -> Option<(TimeMs, TimeMs)> {
        Some((self.oldest?, self.newest?))
    }

    /// Time of the oldest sample; visits every series.
    pub(super) fn find_oldest(&self) -> Option<TimeMs> {
        let sets = self.sets.values().filter_map(|set| set.oldest());
        let rows = self.series.iter().filter_map(|series| series.rows()?.oldest());
        let histograms = self.series.iter().filter_map(|series| series.lanes()?.histograms.oldest());
        sets.chain(rows).chain(histograms).min()
    }

    /// Whether the range from the oldest to the newest sample overlaps `from..=to`.
    pub fn overlaps(&self, from: TimeMs, to: TimeMs) -> bool {
        self.span().is_some_and(|(oldest, newest)| oldest <= to && from <= newest)
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

    /// From now on, samples before `end` are refused as too old: blocks cover that time.
    pub fn raise_min_append_time(&mut self, end: TimeMs) {
        self.min_append_time = self.min_append_time.max(end);
    }

    /// Drops all samples before `end`, except those that arrived since [`Head::begin_flush`], and
    /// deactivates series that have no samples left.
    pub fn drop_before(&mut self, end: TimeMs) {
        self.raise_min_append_time(end);
        for set in self.sets.values_mut() {
            set.drop_before(end);
        }
        for series in self.series.iter_mut() {
            series.drop_before(end);
        }
        self.drop_sets();
        if let Some(flushing) = self.flushing.take() {
            self.put_back(flushing);
        }
        self.oldest = self.find_oldest();
        self.refresh_mixed();
        self.deactivate_empty();
    }

    /// Stores again the samples that arrived during a flush: they were dropped together with the
    /// flushed ones.
    fn put_back(&mut self, late: FlushInProgress) {
        for (slot, t, v) in late.rows {
            if self.at(slot, t).is_none() {
                self.add_row(slot, t, v);
            }
        }
        for (slot, t, h) in late.histograms {
            if self.histogram_at(slot, t).is_none() {
                self.add_histogram(slot, t, h);
            }
        }
        for (slot, t, start) in late.starts {
            if self.start_at(slot, t).is_none() {
                self.add_start(slot, t, start);
            }
        }
    }

    /// Removes column sets without samples, and begins a new set for groups of which most columns
    /// have no samples.
    fn drop_sets(&mut self) {
        let empty: Vec<u32> =
            self.sets.iter().filter(|(_, set)| set.is_empty()).map(|(key, _)| *key).collect();
        for key in empty {
            let Some(set) = self.sets.remove(&key) else { continue };
            for slot in set.columns {
                self.series[slot as usize].remove_home(key);
            }
            let group = &mut self.groups[set.group as usize];
            if group.set == Some(key) {
                group.set = None;
                group.layout = None;
                group.map = None;
                group.log.forget_layout();
            }
        }
        for group in 0..self.groups.len() {
            let set = self.groups[group].set.and_then(|set| self.sets.get(&set));
            // Dead columns cost memory in every row. A margin of a third and 16 columns avoids a
            // new set after each small change.
            if set.is_some_and(|set| set.columns.len() > set.live_columns().len() as usize * 4 / 3 + 16) {
                self.new_set(group);
            }
        }
        // The log need not keep the names of idle groups: a target that comes back is logged again.
        let idle = self.groups.iter_mut().filter(|group| group.set.is_none());
        idle.for_each(|group| group.log.name_logged = false);
    }

    /// Clears the `mixed` mark of columns whose series no longer has samples elsewhere.
    fn refresh_mixed(&mut self) {
        let mixed = |slot: u32, group: u32| {
            let series = &self.series[slot as usize];
            let foreign = |set: u32| self.sets.get(&set).is_some_and(|set| set.group != group);
            series.is_mixed() || series.homes().iter().any(|home| foreign(home.set))
        };
        let fresh: Vec<(u32, RoaringBitmap)> = self
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
            if let Some(set) = self.sets.get_mut(&key) {
                set.mixed = columns;
            }
        }
    }

    /// Deactivates series that have no samples and are in no current layout: they leave the
    /// postings, and their labels move to [`InactiveLabels`](super::inactive_labels). The slots
    /// stay theirs, because a writer may come back.
    fn deactivate_empty(&mut self) {
        let held: HashMap<u32, RoaringBitmap> =
            self.sets.iter().map(|(key, set)| (*key, self.columns_in_use(*key, set))).collect();
        let mut ended = Vec::new();
        for (slot, series) in (0..).zip(self.series.iter_mut()) {
            let mut homes = series.homes().iter();
            let in_use =
                |home: &ColumnRef| held.get(&home.set).is_some_and(|columns| columns.contains(home.column));
            let alone = series.rows().is_none() && series.lanes().is_none();
            if series.listed && alone && !homes.any(in_use) {
                self.postings.remove(slot, &series.labels);
                self.registry.remove(slot, &series.labels);
                series.listed = false;
                series.logged = false;
                ended.push((slot, std::mem::take(&mut series.labels)));
            }
        }
        let series = &self.series;
        self.unlogged.retain(|slot| series[*slot as usize].listed);
        for (slot, labels) in self.ended.add(ended) {
            self.assign_slot(slot, labels);
        }
    }

    /// The columns of a set that have samples, or that the current layout may fill without a lookup
    /// of the series.
    fn columns_in_use(&self, key: u32, set: &ColumnSet) -> RoaringBitmap {
        let group = &self.groups[set.group as usize];
        let mut columns = set.live_columns();
        match (&group.layout, &group.map) {
            (Some(_), Some(map)) if group.set == Some(key) => columns.extend(map.iter().copied()),
            (Some(layout), None) if group.set == Some(key) => {
                columns.insert_range(0..layout.slots.len() as u32);
            }
            _ => (),
        }
        columns
    }

    /// Number of chunks, open ones included.
    pub fn chunks(&self) -> u64 {
        let rows = self.series.iter().filter_map(|series| series.rows()).map(|rows| rows.chunks() as u64);
        let lanes = self.series.iter().filter_map(|series| series.lanes());
        let histograms = lanes.map(|lanes| lanes.histograms.chunks() as u64);
        self.sets.values().map(|set| set.chunks()).sum::<u64>() + rows.sum::<u64>() + histograms.sum::<u64>()
    }

    /// Number of visible series.
    pub fn active_series(&self) -> u64 {
        self.postings.all().len()
    }

    /// Calls `visit(name, value, number of series)` for every label pair.
    pub fn for_each_pair(&self, visit: impl FnMut(&str, &str, u64)) {
        self.postings.for_each_pair(visit);
    }
}
