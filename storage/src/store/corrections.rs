//! Corrections: samples that are stored get other values, or go. For recorded series whose inputs came late.
//!
//! As every append: into the head, into the log and to the feed, in one order, under the shard's
//! lock. In the log a correction is a record of its own kind, so that replay, in which otherwise
//! the first sample of a time stays, knows it.

use super::batch::{ChangeData, FloatRow};
use super::options::StoreError;
use super::{Store, StoreShard};
use crate::head::{AppendCounts, SlotHistogram};
use crate::limits::WAL_SAMPLES;
use crate::model::value::{ABSENT, sanitize};
use crate::model::{NativeHistogram, SeriesRef, TimeMs};
use crate::wal::{RecordKind, add_histograms, put_samples};
use std::sync::Arc;

/// What a sample is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Correction {
    /// The series.
    pub series: SeriesRef,
    /// The sample's timestamp.
    pub t: TimeMs,
    /// What is there from now on.
    pub value: CorrectedValue,
}

/// See [`Correction`].
#[derive(Clone, Debug, PartialEq)]
pub enum CorrectedValue {
    /// This value; also the stale marker.
    Float(f64),
    /// This histogram.
    Histogram(Arc<NativeHistogram>),
    /// No sample.
    Gone,
}

impl Store {
    /// Changes samples of the head; where there is none, it is added. The feed hears of values as
    /// of rows, and of samples that are gone as of rows with the value *absent*. Returns how many
    /// were refused: only blocks have their time.
    pub fn correct(&self, corrections: &[Correction]) -> Result<usize, StoreError> {
        self.refuse_while_replaying()?;
        self.log.wait_for_space()?;
        let append = |shard: &mut StoreShard, at, rows: Vec<&Correction>, counts: &mut AppendCounts| {
            let mut floats = Vec::new();
            let mut histograms = Vec::new();
            for row in rows {
                if !shard.head.is_correctable(row.t) {
                    counts.too_old += 1;
                    continue;
                }
                let v = match &row.value {
                    CorrectedValue::Float(v) => sanitize(*v),
                    CorrectedValue::Histogram(_) | CorrectedValue::Gone => ABSENT,
                };
                shard.head.correct(row.series.slot, row.t, v);
                shard.deleted.revive(row.series.slot, row.t);
                floats.push((row.series.slot, row.t, v));
                if let CorrectedValue::Histogram(h) = &row.value {
                    histograms.push(shard.head.add_corrected((row.series.slot, row.t, h.clone())));
                }
            }
            let lsn = self.log_corrections(shard, at, &floats, &histograms);
            let changed = (!floats.is_empty()).then_some(ChangeData::Rows(floats));
            let histograms = (!histograms.is_empty()).then_some(ChangeData::Histograms(histograms));
            (lsn, changed.into_iter().chain(histograms).collect())
        };
        let (counts, _) = self.append_each(
            corrections,
            |row| row.series,
            TimeMs::MIN,
            append,
            |item| self.tell_feed(item),
        )?;
        Ok(counts.too_old)
    }

    pub(super) fn log_corrections(
        &self,
        shard: &mut StoreShard,
        shard_at: u16,
        floats: &[(u32, TimeMs, f64)],
        histograms: &[SlotHistogram],
    ) -> u64 {
        self.log_parts(shard, shard_at, floats.iter().map(|s| s.1).max(), |batch| {
            for part in floats.chunks(WAL_SAMPLES) {
                batch.add(RecordKind::Corrections, |out| put_samples(out, shard_at, part));
            }
            if !histograms.is_empty() {
                add_histograms(batch, shard_at, histograms);
            }
        })
    }
}

impl FloatRow {
    /// As a correction.
    pub fn corrected(self) -> Correction {
        Correction { series: self.series, t: self.t, value: CorrectedValue::Float(self.v) }
    }
}
