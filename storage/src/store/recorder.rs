//! What the server itself writes: recorded samples, samples of alerts, corrections and backfill.
//!
//! A tick must not wait for a slow disk, so these appends fail at once where those of writers wait
//! for space in the log. The limits on the time of a sample do not apply either: a rule may be
//! evaluated for any time, and only has to be in order for its series.

use super::Store;
use super::batch::{AppendResult, ChangeEvent, Duplicate, FloatRow, HistogramRow, RecordResult};
use crate::error::StoreError;
use crate::head::Head;
use crate::model::TimeMs;
use crate::model::columns::ColumnBatch;
use crate::model::value::{is_absent, sanitize};

/// Appends of the server to its own store. Corrections are in [`super::corrections`], backfill in
/// [`super::backfill`].
#[derive(Copy, Clone)]
pub struct Recorder<'a> {
    pub(super) store: &'a Store,
}

impl Recorder<'_> {
    /// As [`Store::append_columns`], but never waits: for alerts, which the disk must not delay.
    pub fn append_columns(&self, batch: &ColumnBatch) -> Result<AppendResult, StoreError> {
        self.store.wal.log.require_space()?;
        let subscribers = &self.store.subscribers;
        self.store.append_admitted(batch, TimeMs::MIN, |item, _| subscribers.on_append(item))
    }

    /// As [`Store::append_rows`], but never waits: for alerts, which the disk must not delay.
    pub fn append_rows(&self, rows: &[FloatRow]) -> Result<AppendResult, StoreError> {
        self.store.wal.log.require_space()?;
        self.store.append_rows_admitted(rows, TimeMs::MIN)
    }

    /// As [`Recorder::append_columns`], without pushing to the feed: for the live runtime, which
    /// passes on the result itself. Returns what was stored; this may be less than the batch.
    pub fn record(&self, batch: &ColumnBatch) -> Result<RecordResult, StoreError> {
        self.store.wal.log.require_space()?;
        let mut recorded = None;
        self.store.append_admitted(batch, TimeMs::MIN, |event, head| {
            let duplicates = head.map_or_else(Vec::new, |head| duplicates(batch, head));
            recorded = Some(RecordResult { event, duplicates });
        })?;
        recorded.ok_or_else(|| StoreError::Invalid("nothing was appended".to_owned()))
    }

    /// As [`Store::append_histograms`], without waiting and without pushing to the feed: for the
    /// live runtime, which passes on the changes itself. `items` gets what was stored, also if an
    /// error is returned.
    pub fn record_histograms(
        &self,
        rows: &[HistogramRow],
        items: &mut Vec<ChangeEvent>,
    ) -> Result<AppendResult, StoreError> {
        self.store.wal.log.require_space()?;
        self.store.append_histograms_admitted(rows, TimeMs::MIN, |item| items.push(item))
    }
}

/// The samples of a batch for which the head has another value at this time.
fn duplicates(batch: &ColumnBatch, head: &Head) -> Vec<Duplicate> {
    let samples = batch.layout.slots.iter().zip(&*batch.values).enumerate();
    let samples = samples.filter(|(_, (_, value))| !is_absent(**value));
    let duplicate = |(column, (slot, value)): (usize, (&u32, &f64))| {
        let stored = head.stored(*slot);
        let existing = stored.float_at(batch.t);
        let is_other = match existing {
            Some(existing) => existing.to_bits() != sanitize(*value).to_bits(),
            None => stored.histogram_at(batch.t).is_some(),
        };
        is_other.then_some(Duplicate { column, existing, value: *value })
    };
    samples.filter_map(duplicate).collect()
}
