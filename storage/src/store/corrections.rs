//! Corrections: stored samples get other values, or are removed. For recorded series whose inputs
//! came late.
//!
//! As with every append, a correction goes into the head, the log and the feed, in this order,
//! under the lock of the shard. In the log it has a record kind of its own: for all other samples
//! the replay keeps the first value of a time.

use super::batch::{ChangeData, FloatRow};
use super::recorder::Recorder;
use super::shards::StoreShard;
use crate::error::StoreError;
use crate::head::AppendCounts;
use crate::model::value::{ABSENT, sanitize};
use crate::model::{NativeHistogram, SeriesRef, TimeMs};
use std::sync::Arc;

/// A change of one sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Correction {
    /// The series whose sample is changed.
    pub series: SeriesRef,
    /// The sample's timestamp.
    pub t: TimeMs,
    /// What is stored at this time from now on.
    pub value: CorrectedValue,
}

/// The new content of a corrected sample.
#[derive(Clone, Debug, PartialEq)]
pub enum CorrectedValue {
    /// This value, or a stale marker.
    Float(f64),
    /// This histogram.
    Histogram(Arc<NativeHistogram>),
    /// No sample.
    Gone,
}

impl Recorder<'_> {
    /// Corrects samples in the head; adds them where there are none. The feed gets the new values
    /// as rows, and removed samples as rows with the value *absent*. Returns how many were refused
    /// because their time is, or may be, in a block.
    pub fn correct(&self, corrections: &[Correction]) -> Result<usize, StoreError> {
        let store = self.store;
        store.replay.refuse_while_running()?;
        store.wal.log.wait_for_space()?;
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
                    histograms.push(shard.head.add_corrected(row.series.slot, row.t, h));
                }
            }
            let lsn = store.wal.log_corrections(shard, at, &floats, &histograms);
            let changed = (!floats.is_empty()).then_some(ChangeData::Rows(floats));
            let histograms = (!histograms.is_empty()).then_some(ChangeData::Histograms(histograms));
            (lsn, changed.into_iter().chain(histograms).collect())
        };
        let (counts, _) = store.append_each(
            corrections,
            |row| row.series,
            TimeMs::MIN,
            append,
            |item| store.subscribers.on_change(item),
        )?;
        Ok(counts.too_old)
    }
}

impl FloatRow {
    /// The row as a correction.
    pub fn corrected(self) -> Correction {
        Correction { series: self.series, t: self.t, value: CorrectedValue::Float(self.v) }
    }
}
