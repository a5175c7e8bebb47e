//! The append path: a sample goes into the head, the log and the feed, in this order, under the
//! lock of its shard.
//!
//! The log is asked for space before the lock is taken. Under the lock nothing waits and nothing
//! fails, so head and log cannot differ. Records are encoded under the lock, too: a scrape is
//! encoded as the difference to the scrape before.
//!
//! Samples of writers must be within the bounds of the head ([`Store::oldest_taken`]), as in
//! Prometheus, so that one request cannot create blocks over many years. What the server itself
//! records only has to be in order for its series.

use super::batch::{
    AppendResult, ChangeData, ChangeEvent, Duplicate, FeedDelivery, FloatRow, HistogramRow, Recorded,
    Refused, StartRow,
};
use super::delete::DeletedTimeAppend;
use super::{Store, StoreShard};
use crate::error::StoreError;
use crate::head::{
    AppendCounts, AppendedBatch, Head, RefusedSample, RowsAppended, SlotFloat, SlotHistogram, SlotStart,
    group_of,
};
use crate::limits::{HISTOGRAM_BUCKETS, OLDEST_MS, REFUSED_NAMED, WAL_SAMPLES};
use crate::model::columns::ColumnBatch;
use crate::model::histogram::Buckets;
use crate::model::value::{ABSENT, is_absent, sanitize};
use crate::model::{NativeHistogram, SHARDS, SeriesRef, TimeMs};
use crate::wal::{RecordBuilder, RecordKind, add_histograms, put_samples, put_starts};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

impl Store {
    /// Appends one batch. Waits for a while if the disk does not keep up.
    pub fn append_columns(
        &self,
        batch: &ColumnBatch,
        tell: FeedDelivery,
    ) -> Result<AppendResult, StoreError> {
        self.log.wait_for_space()?;
        self.append_admitted(batch, self.oldest_taken(Some(batch.t)), |item, _| match tell {
            FeedDelivery::Feed => self.tell(item),
            FeedDelivery::Nobody => {}
        })
    }

    /// As [`Store::append_columns`], but never waits: for alerts, which the disk must not delay.
    pub fn append_without_waiting(&self, batch: &ColumnBatch) -> Result<AppendResult, StoreError> {
        self.log.require_space()?;
        self.append_admitted(batch, TimeMs::MIN, |item, _| self.tell(item))
    }

    /// As [`Store::append_without_waiting`], without pushing to the feed: for the live runtime,
    /// which passes on the result itself. Returns what was stored; this may be less than the batch.
    pub fn append_recorded(&self, batch: &ColumnBatch) -> Result<Recorded, StoreError> {
        self.log.require_space()?;
        let mut recorded = None;
        self.append_admitted(batch, TimeMs::MIN, |item, head| {
            let duplicates = head.map_or_else(Vec::new, |head| duplicates(batch, head));
            recorded = Some(Recorded { item, duplicates });
        })?;
        recorded.ok_or_else(|| StoreError::Invalid("nothing was appended".to_owned()))
    }

    /// The oldest time that writers may append: half a block range, or the window of late samples
    /// if longer, before the newest sample of the store. In an empty store, `first` counts as the
    /// newest.
    fn oldest_taken(&self, first: Option<TimeMs>) -> TimeMs {
        let behind = (self.options.block_range_ms / 2).max(self.options.out_of_order_ms);
        self.newest_or(first.unwrap_or(TimeMs::MIN)).saturating_sub(behind).max(OLDEST_MS)
    }

    /// Time of the newest sample of the store; `first` if the store is empty.
    pub(super) fn newest_or(&self, first: TimeMs) -> TimeMs {
        match self.newest.load(Relaxed) {
            TimeMs::MIN => first,
            newest => newest,
        }
    }

    /// Updates the time of the store's newest sample after an append to `head`.
    pub(super) fn note_newest(&self, head: &Head) {
        if let Some((_, newest)) = head.span() {
            self.newest.fetch_max(newest, Relaxed);
        }
    }

    /// Appends a batch for which the log has space. Calls `tell` under the lock with what was
    /// stored, and with the head if some samples were refused as duplicates.
    fn append_admitted(
        &self,
        batch: &ColumnBatch,
        oldest: TimeMs,
        tell: impl FnOnce(ChangeEvent, Option<&Head>),
    ) -> Result<AppendResult, StoreError> {
        let (shard_at, _) = group_of(batch.group.0);
        let mut counts = AppendCounts::default();
        let mut shard = self.shard(shard_at).write();
        self.admit_young(&shard)?;
        shard.head.set_bound(oldest);
        let (lsn, data) = self.append_batch(&mut shard, batch, &mut counts)?;
        self.note_newest(&shard.head);
        let seq = shard.count(&data);
        shard.overlay.iter_mut().for_each(|young| young.keep(&data));
        tell(ChangeEvent { shard: shard_at, seq, data }, (counts.duplicate > 0).then_some(&shard.head));
        drop(shard);
        self.metrics.count(&counts);
        let refused = refused_of(shard_at, &mut counts, oldest);
        Ok(appended(&counts, lsn, seq, refused))
    }

    /// Appends a batch, under the lock of its shard.
    fn append_batch(
        &self,
        shard: &mut StoreShard,
        batch: &ColumnBatch,
        counts: &mut AppendCounts,
    ) -> Result<(u64, ChangeData), StoreError> {
        let (at, group) = group_of(batch.group.0);
        if shard.deleted.touches(&batch.layout.slots, batch.t) {
            // The batch has samples at deleted times: these are stored as corrections, so each is
            // appended by itself.
            let rows = batch.layout.slots.iter().zip(&*batch.values).filter(|(_, v)| !is_absent(**v));
            let rows = rows.map(|(slot, v)| (*slot, batch.t, *v));
            return Ok(self.append_samples(shard, at, rows, counts));
        }
        Ok(match shard.head.append_columns(group, &batch.layout, batch.t, &batch.values, counts)? {
            AppendedBatch::Row { values, row } => {
                let lsn = self.log_row(shard, at, group, batch.t, row);
                (lsn, ChangeData::Columns(ColumnBatch { values, ..batch.clone() }))
            }
            AppendedBatch::Late(rows) => (self.log_samples(shard, at, &rows), ChangeData::Rows(rows)),
        })
    }

    /// Appends single samples of a shard, under its lock. Returns the LSN and what was stored.
    pub(super) fn append_samples(
        &self,
        shard: &mut StoreShard,
        at: u16,
        rows: impl Iterator<Item = (u32, TimeMs, f64)>,
        counts: &mut AppendCounts,
    ) -> (u64, ChangeData) {
        let samples = rows.map(|(slot, t, v)| (slot, t, sanitize(v)));
        let mut again = Vec::new();
        let ordinary = |sample: &SlotFloat| match self.append_again(shard, *sample, counts) {
            DeletedTimeAppend::No => true,
            DeletedTimeAppend::Refused => false,
            DeletedTimeAppend::Taken => {
                again.push(*sample);
                false
            }
        };
        let samples: Vec<SlotFloat> = samples.filter(ordinary).collect();
        let RowsAppended { rows, single, mut stored } = shard.head.append_rows(&samples, counts);
        let mut lsn = 0;
        for (group, t, row) in rows {
            lsn = self.log_row(shard, at, group, t, row);
        }
        if lsn == 0 || !single.is_empty() {
            lsn = self.log_samples(shard, at, &single);
        }
        if !again.is_empty() {
            lsn = self.log_corrections(shard, at, &again, &[]);
            stored.append(&mut again);
        }
        (lsn, ChangeData::Rows(stored))
    }

    /// Appends single samples, in any order and of any shard.
    pub fn append_rows(&self, rows: &[FloatRow]) -> Result<AppendResult, StoreError> {
        self.log.wait_for_space()?;
        self.append_rows_admitted(rows, self.oldest_taken(rows.first().map(|row| row.t)))
    }

    /// As [`Store::append_rows`], but never waits: for alerts, which the disk must not delay.
    pub fn append_rows_at_once(&self, rows: &[FloatRow]) -> Result<AppendResult, StoreError> {
        self.log.require_space()?;
        self.append_rows_admitted(rows, TimeMs::MIN)
    }

    fn append_rows_admitted(&self, rows: &[FloatRow], oldest: TimeMs) -> Result<AppendResult, StoreError> {
        let (counts, appended) = self.append_each(
            rows,
            |row| row.series,
            oldest,
            |shard, at, rows, counts| {
                let rows = rows.into_iter().map(|row| (row.series.slot, row.t, row.v));
                let (lsn, data) = self.append_samples(shard, at, rows, counts);
                (lsn, vec![data])
            },
            |item| self.tell(item),
        )?;
        self.metrics.count(&counts);
        Ok(appended)
    }

    /// Appends native histograms, in any order and of any shard. The rules for floats apply: a
    /// histogram that is too late, or at a time at which its series has another sample, is refused
    /// and counted.
    pub fn append_histograms(&self, rows: &[HistogramRow]) -> Result<AppendResult, StoreError> {
        self.log.wait_for_space()?;
        let oldest = self.oldest_taken(rows.first().map(|row| row.t));
        self.take_histograms(rows, oldest, |item| self.tell(item))
    }

    /// As [`Store::append_histograms`], without waiting and without pushing to the feed: for the
    /// live runtime, which passes on the changes itself. `items` gets what was stored, also if an
    /// error is returned.
    pub fn append_recorded_histograms(
        &self,
        rows: &[HistogramRow],
        items: &mut Vec<ChangeEvent>,
    ) -> Result<AppendResult, StoreError> {
        self.log.require_space()?;
        self.take_histograms(rows, TimeMs::MIN, |item| items.push(item))
    }

    fn take_histograms(
        &self,
        rows: &[HistogramRow],
        oldest: TimeMs,
        tell: impl FnMut(ChangeEvent),
    ) -> Result<AppendResult, StoreError> {
        if let Some(row) = rows.iter().find(|row| !is_storable(&row.h)) {
            return Err(StoreError::Invalid(format!("malformed histogram of series {:?}", row.series)));
        }
        let append = |shard: &mut StoreShard, at, rows: Vec<&HistogramRow>, counts: &mut AppendCounts| {
            let rows = rows.into_iter().map(|row| (row.series.slot, row.t, row.h.clone()));
            let (lsn, data) = self.append_histogram_samples(shard, at, rows, counts);
            (lsn, vec![data])
        };
        let (counts, appended) = self.append_each(rows, |row| row.series, oldest, append, tell)?;
        self.metrics.count(&counts);
        Ok(appended)
    }

    /// Appends histograms of a shard, under its lock.
    pub(super) fn append_histogram_samples(
        &self,
        shard: &mut StoreShard,
        at: u16,
        rows: impl Iterator<Item = SlotHistogram>,
        counts: &mut AppendCounts,
    ) -> (u64, ChangeData) {
        let mut stored = Vec::new();
        let mut again = Vec::new();
        for (slot, t, h) in rows {
            let (comes, kept) = self.append_histogram_again(shard, (slot, t, &h), counts);
            if comes != DeletedTimeAppend::No {
                again.extend(kept.iter().map(|_| (slot, t, ABSENT)));
                stored.extend(kept);
                continue;
            }
            let kept = shard.head.append_histogram(slot, t, &h, counts);
            stored.extend(kept.map(|h| (slot, t, h)));
        }
        if !again.is_empty() {
            self.log_corrections(shard, at, &again, &[]);
        }
        (self.log_histograms(shard, at, &stored), ChangeData::Histograms(stored))
    }

    /// Appends the start timestamps of samples that were appended before. The first start timestamp
    /// of a sample wins.
    pub fn append_starts(&self, rows: &[StartRow]) -> Result<AppendResult, StoreError> {
        self.log.wait_for_space()?;
        let append = |shard: &mut StoreShard, at, rows: Vec<&StartRow>, counts: &mut AppendCounts| {
            let mut stored = Vec::with_capacity(rows.len());
            for row in rows.into_iter().filter(|row| row.start != 0) {
                if shard.head.append_start(row.series.slot, row.t, row.start, counts) {
                    stored.push((row.series.slot, row.t, row.start));
                }
            }
            (self.log_starts(shard, at, &stored), vec![ChangeData::Starts(stored)])
        };
        let oldest = self.oldest_taken(rows.first().map(|row| row.t));
        let (_, appended) =
            self.append_each(rows, |row| row.series, oldest, append, |item| self.tell(item))?;
        Ok(appended)
    }

    /// Groups rows by shard and calls `append` for each shard, under its lock and with the bound
    /// `oldest`. Calls `tell` with what was stored, in the order of the shard. The log must have
    /// been asked for space.
    pub(super) fn append_each<R>(
        &self,
        rows: &[R],
        series: impl Fn(&R) -> SeriesRef,
        oldest: TimeMs,
        append: impl Fn(&mut StoreShard, u16, Vec<&R>, &mut AppendCounts) -> (u64, Vec<ChangeData>),
        mut tell: impl FnMut(ChangeEvent),
    ) -> Result<(AppendCounts, AppendResult), StoreError> {
        self.check_series(rows.iter().map(&series))?;
        let mut by_shard: Vec<Vec<&R>> = (0..SHARDS).map(|_| Vec::new()).collect();
        for row in rows.iter() {
            by_shard[usize::from(series(row).shard)].push(row);
        }
        let mut counts = AppendCounts::default();
        let mut refused = Vec::new();
        let mut lsn = 0;
        let mut seq = 0;
        for (shard_at, rows) in (0..SHARDS).zip(by_shard).filter(|(_, rows)| !rows.is_empty()) {
            let mut shard = self.shard(shard_at).write();
            self.admit_young(&shard)?;
            shard.head.set_bound(oldest);
            let (logged, all) = append(&mut shard, shard_at, rows, &mut counts);
            self.note_newest(&shard.head);
            refused.append(&mut refused_of(shard_at, &mut counts, oldest));
            lsn = lsn.max(logged);
            for data in all {
                shard.overlay.iter_mut().for_each(|young| young.keep(&data));
                seq = shard.count(&data);
                tell(ChangeEvent { shard: shard_at, seq, data });
            }
        }
        refused.truncate(REFUSED_NAMED);
        let appended = appended(&counts, lsn, seq, refused);
        Ok((counts, appended))
    }

    fn check_series(&self, mut series: impl Iterator<Item = SeriesRef>) -> Result<(), StoreError> {
        let mut slots = [None; SHARDS as usize];
        let mut known = |series: &SeriesRef| {
            let count = slots.get_mut(usize::from(series.shard));
            count.is_some_and(|n| series.slot < *n.get_or_insert_with(|| self.slots(series.shard)))
        };
        match series.find(|series| !known(series)) {
            Some(series) => {
                Err(StoreError::Invalid(format!("malformed rows: there is no series {series:?}")))
            }
            None => Ok(()),
        }
    }

    pub(super) fn tell(&self, item: ChangeEvent) {
        if let Some(watch) = &*self.watch.read() {
            watch.check_time(&item);
        }
        self.tell_feed(item);
    }

    pub(super) fn tell_feed(&self, item: ChangeEvent) {
        if let Some(feed) = &*self.feed.read() {
            feed.push(item);
        }
    }

    /// Logs the series that were created and have no samples yet. A caller that creates very many
    /// series before their first samples calls this from time to time: the log then gets them in
    /// portions and can wait for the disk in between.
    pub fn log_new_series(&self) -> Result<(), StoreError> {
        for shard_at in 0..SHARDS {
            if !self.shard(shard_at).read().head.has_unlogged() {
                continue;
            }
            self.log.wait_for_space()?;
            let mut shard = self.shard(shard_at).write();
            let StoreShard { head, batch, .. } = &mut *shard;
            batch.clear();
            head.encode_series(shard_at, batch);
            while self.log.push(batch, self.log.segment_epoch(), None).is_err() {}
            head.series_logged();
            batch.clear();
        }
        Ok(())
    }

    /// Logs a scrape that is in the head already.
    fn log_row(&self, shard: &mut StoreShard, shard_at: u16, group: u32, t: TimeMs, row: Arc<[f64]>) -> u64 {
        let StoreShard { head, batch, .. } = shard;
        loop {
            let epoch = self.log.segment_epoch();
            batch.clear();
            head.encode_series(shard_at, batch);
            head.encode_row(shard_at, group, t, &row, epoch, batch);
            // Fails only if a new segment began since the epoch was read: then the record is
            // encoded again, because the first scrape of a segment must be a keyframe.
            if let Ok(lsn) = self.log.push(batch, epoch, Some(t)) {
                head.series_logged();
                head.row_logged(group, epoch, row, lsn);
                batch.clear();
                return lsn;
            }
        }
    }

    /// Logs single samples that are in the head already.
    fn log_samples(&self, shard: &mut StoreShard, shard_at: u16, samples: &[(u32, TimeMs, f64)]) -> u64 {
        self.log_parts(shard, shard_at, samples.iter().map(|s| s.1).max(), |batch| {
            for part in samples.chunks(WAL_SAMPLES) {
                batch.add(RecordKind::Samples, |out| put_samples(out, shard_at, part));
            }
        })
    }

    /// Logs histograms that are in the head already.
    fn log_histograms(&self, shard: &mut StoreShard, shard_at: u16, samples: &[SlotHistogram]) -> u64 {
        self.log_parts(shard, shard_at, samples.iter().map(|s| s.1).max(), |batch| {
            add_histograms(batch, shard_at, samples);
        })
    }

    /// Logs start timestamps that are in the head already.
    fn log_starts(&self, shard: &mut StoreShard, shard_at: u16, starts: &[SlotStart]) -> u64 {
        self.log_parts(shard, shard_at, starts.iter().map(|s| s.1).max(), |batch| {
            for part in starts.chunks(WAL_SAMPLES) {
                batch.add(RecordKind::Starts, |out| put_starts(out, shard_at, part));
            }
        })
    }

    /// Logs the records that `add` encodes; `newest` is the time of their newest sample. Returns
    /// the LSN of the last one; if there is nothing to log, that of the newest record.
    pub(super) fn log_parts(
        &self,
        shard: &mut StoreShard,
        shard_at: u16,
        newest: Option<TimeMs>,
        add: impl FnOnce(&mut RecordBuilder),
    ) -> u64 {
        if newest.is_none() {
            // All samples were stored before, so they are durable when the log up to now is.
            return self.log.last_lsn();
        }
        let StoreShard { head, batch, .. } = shard;
        batch.clear();
        head.encode_series(shard_at, batch);
        add(batch);
        loop {
            if let Ok(lsn) = self.log.push(batch, self.log.segment_epoch(), newest) {
                head.series_logged();
                batch.clear();
                return lsn;
            }
        }
    }
}

/// Whether the file formats can store the histogram: as many counts as its spans say, no more than
/// a record holds, and a schema that fits into 8 bits. [`Store::append_histograms`] refuses a whole
/// call if one of its histograms is not storable.
pub fn is_storable(h: &NativeHistogram) -> bool {
    let buckets = |b: &Buckets| {
        let counts: u64 = b.spans.iter().map(|span| u64::from(span.length)).sum();
        counts == b.counts.len() as u64
            && b.counts.len() <= HISTOGRAM_BUCKETS
            && b.spans.len() <= HISTOGRAM_BUCKETS
    };
    let schema = i8::try_from(h.schema).is_ok();
    schema && buckets(&h.positive) && buckets(&h.negative) && h.bounds.len() <= HISTOGRAM_BUCKETS
}

fn appended(counts: &AppendCounts, lsn: u64, seq: u64, refused: Vec<Refused>) -> AppendResult {
    AppendResult {
        lsn,
        stored: counts.stored,
        too_old: counts.too_old,
        duplicate: counts.duplicate,
        out_of_bounds: counts.out_of_bounds,
        refused,
        seq,
    }
}

/// The samples of a batch for which the head has another value at this time.
fn duplicates(batch: &ColumnBatch, head: &Head) -> Vec<Duplicate> {
    let samples = batch.layout.slots.iter().zip(&*batch.values).enumerate();
    let samples = samples.filter(|(_, (_, value))| !is_absent(**value));
    let duplicate = |(column, (slot, value)): (usize, (&u32, &f64))| {
        let existing = head.at(*slot, batch.t);
        let is_other = match existing {
            Some(existing) => existing.to_bits() != sanitize(*value).to_bits(),
            None => head.histogram_at(*slot, batch.t).is_some(),
        };
        is_other.then_some(Duplicate { column, existing, value: *value })
    };
    samples.filter_map(duplicate).collect()
}

fn refused_of(shard: u16, counts: &mut AppendCounts, oldest: TimeMs) -> Vec<Refused> {
    let of_shard = |sample: RefusedSample| {
        let series = SeriesRef { shard, slot: sample.slot };
        Refused { series, t: sample.t, why: sample.why, oldest }
    };
    std::mem::take(&mut counts.refused).into_iter().map(of_shard).collect()
}
