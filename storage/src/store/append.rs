//! The append path of the store: a sample goes into the head (memory), the write-ahead log and the
//! change feed (what the live runtime reads), in this order, under the lock of its shard.
//!
//! The log is asked for space before the lock is taken. Under the lock nothing waits and nothing
//! fails, so head and log cannot differ. Records are encoded under the lock, too: a scrape is
//! encoded as the difference to the scrape before.
//!
//! Samples of writers must be within the bounds of the head ([`Store::oldest_accepted`]), as in
//! Prometheus, so that one request cannot create blocks over many years. What the server itself
//! records only has to be in order for its series ([`super::recorder`]).

use super::Store;
use super::batch::{
    AppendResult, ChangeData, ChangeEvent, FeedDelivery, FloatRow, HistogramRow, RefusedRow, StartRow,
};
use super::delete::DeletedTimeAppend;
use super::shards::StoreShard;
use crate::error::StoreError;
use crate::head::{
    AppendCounts, AppendedBatch, Head, RefusedSample, RowsAppended, SlotFloat, SlotHistogram, group_of,
};
use crate::limits::{HISTOGRAM_BUCKETS, OLDEST_MS, REFUSED_NAMED};
use crate::model::columns::ColumnBatch;
use crate::model::histogram::Buckets;
use crate::model::value::{ABSENT, is_absent, sanitize};
use crate::model::{NativeHistogram, SHARDS, SeriesRef, TimeMs};
use std::sync::atomic::Ordering::Relaxed;

impl Store {
    /// Appends one batch. Waits for a while if the disk does not keep up.
    pub fn append_columns(
        &self,
        batch: &ColumnBatch,
        tell: FeedDelivery,
    ) -> Result<AppendResult, StoreError> {
        self.wal.log.wait_for_space()?;
        // Asked before the lock is taken: another writer may make the store newer meanwhile, and
        // then this batch still counts as it came.
        self.append_admitted(batch, self.oldest_accepted(Some(batch.t)), |item, _| match tell {
            FeedDelivery::Feed => self.subscribers.on_append(item),
            FeedDelivery::Nobody => {}
        })
    }

    /// The oldest time that writers may append: half a block range, or the window of late samples
    /// if longer, before the newest sample of the store. In an empty store, `first` counts as the
    /// newest.
    fn oldest_accepted(&self, first: Option<TimeMs>) -> TimeMs {
        let behind = (self.options.block_range_ms / 2).max(self.options.out_of_order_ms);
        self.newest_or(first.unwrap_or(TimeMs::MIN)).saturating_sub(behind).max(OLDEST_MS)
    }

    /// Time of the newest sample of the store; `first` if the store is empty.
    pub(super) fn newest_or(&self, first: TimeMs) -> TimeMs {
        match self.newest.load(Relaxed) {
            // The first sample of an empty store may be of any time: there is nothing that it could
            // be far from.
            TimeMs::MIN => first,
            newest => newest,
        }
    }

    /// Updates the time of the store's newest sample after an append to `head`.
    pub(super) fn note_newest(&self, head: &Head) {
        if let Some((_, newest)) = head.times.span() {
            self.newest.fetch_max(newest, Relaxed);
        }
    }

    /// Appends a batch for which the log has space. Calls `tell` under the lock with what was
    /// stored, and with the head if some samples were refused as duplicates.
    pub(super) fn append_admitted(
        &self,
        batch: &ColumnBatch,
        oldest: TimeMs,
        tell: impl FnOnce(ChangeEvent, Option<&Head>),
    ) -> Result<AppendResult, StoreError> {
        let (shard_at, _) = group_of(batch.group.0);
        let mut counts = AppendCounts::default();
        let mut shard = self.shards.get(shard_at).write();
        // Under the lock, so that the overlay cannot grow by more than one append beyond its limit.
        self.admit_to_overlay(&shard)?;
        shard.head.limits.set_bound(oldest);
        let (lsn, data) = self.append_batch(&mut shard, batch, &mut counts)?;
        self.note_newest(&shard.head);
        let seq = shard.count(&data);
        if let Some(overlay) = &mut shard.overlay {
            overlay.add(&data);
        }
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
        // Nearly never: the newest deleted time is compared first.
        if shard.deleted.touches(&batch.layout.slots, batch.t) {
            // The batch has samples at deleted times: these are stored as corrections, so each is
            // appended by itself.
            let rows = batch.layout.slots.iter().zip(&*batch.values).filter(|(_, v)| !is_absent(**v));
            let rows = rows.map(|(slot, v)| (*slot, batch.t, *v));
            return Ok(self.append_samples(shard, at, rows, counts));
        }
        Ok(match shard.head.append_columns(group, &batch.layout, batch.t, &batch.values, counts)? {
            AppendedBatch::Row { values, row } => {
                let lsn = self.wal.log_row(shard, at, group, batch.t, row);
                (lsn, ChangeData::Columns(ColumnBatch { values, ..batch.clone() }))
            }
            AppendedBatch::Late(rows) => (self.wal.log_samples(shard, at, &rows), ChangeData::Rows(rows)),
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
        // Samples at deleted times are stored in the closure, before all others. They are few, and
        // the order within one call is not seen by anyone.
        let ordinary = |sample: &SlotFloat| match self.append_at_deleted_time(shard, *sample, counts) {
            DeletedTimeAppend::NotDeleted => true,
            DeletedTimeAppend::TooOld => false,
            DeletedTimeAppend::Stored => {
                again.push(*sample);
                false
            }
        };
        let samples: Vec<SlotFloat> = samples.filter(ordinary).collect();
        let RowsAppended { rows, single, mut stored } = shard.head.append_rows(&samples, counts);
        let mut lsn = 0;
        for (group, t, row) in rows {
            lsn = self.wal.log_row(shard, at, group, t, row);
        }
        // With nothing to log this is the LSN of the newest record: a sample that was stored before
        // is acknowledged when its own record is durable.
        if lsn == 0 || !single.is_empty() {
            lsn = self.wal.log_samples(shard, at, &single);
        }
        if !again.is_empty() {
            lsn = self.wal.log_corrections(shard, at, &again, &[]);
            stored.append(&mut again);
        }
        (lsn, ChangeData::Rows(stored))
    }

    /// Appends single samples, in any order and of any shard.
    pub fn append_rows(&self, rows: &[FloatRow]) -> Result<AppendResult, StoreError> {
        self.wal.log.wait_for_space()?;
        self.append_rows_admitted(rows, self.oldest_accepted(rows.first().map(|row| row.t)))
    }

    pub(super) fn append_rows_admitted(
        &self,
        rows: &[FloatRow],
        oldest: TimeMs,
    ) -> Result<AppendResult, StoreError> {
        let (counts, appended) = self.append_each(
            rows,
            |row| row.series,
            oldest,
            |shard, at, rows, counts| {
                let rows = rows.into_iter().map(|row| (row.series.slot, row.t, row.v));
                let (lsn, data) = self.append_samples(shard, at, rows, counts);
                (lsn, vec![data])
            },
            |item| self.subscribers.on_append(item),
        )?;
        self.metrics.count(&counts);
        Ok(appended)
    }

    /// Appends native histograms, in any order and of any shard. The rules for floats apply: a
    /// histogram that is too late, or at a time at which its series has another sample, is refused
    /// and counted.
    pub fn append_histograms(&self, rows: &[HistogramRow]) -> Result<AppendResult, StoreError> {
        self.wal.log.wait_for_space()?;
        let oldest = self.oldest_accepted(rows.first().map(|row| row.t));
        self.append_histograms_admitted(rows, oldest, |item| self.subscribers.on_append(item))
    }

    pub(super) fn append_histograms_admitted(
        &self,
        rows: &[HistogramRow],
        oldest: TimeMs,
        tell: impl FnMut(ChangeEvent),
    ) -> Result<AppendResult, StoreError> {
        // All or nothing: if one were left out, its sender could not tell which.
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
            let (outcome, histogram) = self.append_histogram_at_deleted_time(shard, slot, t, &h, counts);
            if outcome != DeletedTimeAppend::NotDeleted {
                again.extend(histogram.iter().map(|_| (slot, t, ABSENT)));
                stored.extend(histogram);
                continue;
            }
            let histogram = shard.head.append_histogram(slot, t, &h, counts);
            stored.extend(histogram.map(|h| (slot, t, h)));
        }
        if !again.is_empty() {
            self.wal.log_corrections(shard, at, &again, &[]);
        }
        counts.histograms += stored.len();
        (self.wal.log_histograms(shard, at, &stored), ChangeData::Histograms(stored))
    }

    /// Appends the start timestamps of samples that were appended before. The first start timestamp
    /// of a sample wins.
    pub fn append_starts(&self, rows: &[StartRow]) -> Result<AppendResult, StoreError> {
        self.wal.log.wait_for_space()?;
        let append = |shard: &mut StoreShard, at, rows: Vec<&StartRow>, counts: &mut AppendCounts| {
            let mut stored = Vec::with_capacity(rows.len());
            for row in rows.into_iter().filter(|row| row.start != 0) {
                if shard.head.append_start(row.series.slot, row.t, row.start, counts) {
                    stored.push((row.series.slot, row.t, row.start));
                }
            }
            (self.wal.log_starts(shard, at, &stored), vec![ChangeData::Starts(stored)])
        };
        let oldest = self.oldest_accepted(rows.first().map(|row| row.t));
        let (_, appended) = self.append_each(
            rows,
            |row| row.series,
            oldest,
            append,
            |item| self.subscribers.on_append(item),
        )?;
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
        // Before anything is appended: an error then means that nothing was stored.
        self.shards.check_series(rows.iter().map(&series))?;
        let mut by_shard: Vec<Vec<&R>> = (0..SHARDS).map(|_| Vec::new()).collect();
        for row in rows.iter() {
            by_shard[usize::from(series(row).shard)].push(row);
        }
        let mut counts = AppendCounts::default();
        let mut refused = Vec::new();
        let mut lsn = 0;
        let mut seq = 0;
        // Each shard is locked once, however its rows are spread over the call.
        for (shard_at, rows) in (0..SHARDS).zip(by_shard).filter(|(_, rows)| !rows.is_empty()) {
            let mut shard = self.shards.get(shard_at).write();
            self.admit_to_overlay(&shard)?;
            shard.head.limits.set_bound(oldest);
            let (logged, all) = append(&mut shard, shard_at, rows, &mut counts);
            self.note_newest(&shard.head);
            refused.append(&mut refused_of(shard_at, &mut counts, oldest));
            lsn = lsn.max(logged);
            for data in all {
                if let Some(overlay) = &mut shard.overlay {
                    overlay.add(&data);
                }
                seq = shard.count(&data);
                tell(ChangeEvent { shard: shard_at, seq, data });
            }
        }
        // Each shard names up to as many.
        refused.truncate(REFUSED_NAMED);
        let appended = appended(&counts, lsn, seq, refused);
        Ok((counts, appended))
    }

    /// Logs the series that were created and have no samples yet. A caller that creates very many
    /// series before their first samples calls this from time to time: the log then gets them in
    /// portions and can wait for the disk in between.
    pub fn log_new_series(&self) -> Result<(), StoreError> {
        self.wal.log_new_series(&self.shards)
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

fn appended(counts: &AppendCounts, lsn: u64, seq: u64, refused: Vec<RefusedRow>) -> AppendResult {
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

fn refused_of(shard: u16, counts: &mut AppendCounts, oldest: TimeMs) -> Vec<RefusedRow> {
    let of_shard = |sample: RefusedSample| {
        let series = SeriesRef { shard, slot: sample.slot };
        RefusedRow { series, t: sample.t, why: sample.why, oldest }
    };
    std::mem::take(&mut counts.refused).into_iter().map(of_shard).collect()
}
