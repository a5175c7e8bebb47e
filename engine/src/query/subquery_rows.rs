//! The rows of a subquery, over which windows slide ([`super::subquery`]).
//!
//! Cached rows ([`super::subquery_cache`]) get new samples at their end and lose those that no
//! window needs.

use super::Series;
use crate::functions::series_slices::SeriesSlices;
use crate::functions::window::TimedHistogram;
use std::sync::Arc;
use storage::model::histogram::ResetHint;
use storage::model::value::is_stale;
use storage::model::{Labels, NativeHistogram, TimeMs};

/// Rows in label order, each label set once. Shared, so that the cache and the query use the same
/// copy.
pub(super) type SubqueryRows = Arc<Vec<SubqueryRow>>;

/// The capacity of a row grows by 1/8.
const GROWTH_FRACTION: usize = 8;

/// The samples of one row.
#[derive(Clone, Debug)]
pub(super) struct SubqueryRow {
    /// The labels of the row.
    pub(super) labels: Labels,
    /// The metric name, type and unit are dropped in the end.
    pub(super) drops: bool,
    /// Times of the floats, ms.
    pub(super) ts: Vec<TimeMs>,
    /// The floats, parallel to `ts`.
    pub(super) vs: Vec<f64>,
    /// Samples that are native histograms.
    pub(super) histograms: Vec<TimedHistogram>,
}

/// Resets the hint: it relates to the previous sample of the series, which the steps of a subquery
/// may have skipped or repeated.
fn without_hint(h: Arc<NativeHistogram>) -> Arc<NativeHistogram> {
    match h.hint {
        ResetHint::Unknown | ResetHint::Gauge => h,
        ResetHint::Reset | ResetHint::NotReset => {
            Arc::new(NativeHistogram { hint: ResetHint::Unknown, ..NativeHistogram::clone(&h) })
        }
    }
}

/// The answers of a subquery's plan as rows.
pub(super) fn rows_of(answers: Vec<Series>) -> Vec<SubqueryRow> {
    answers.into_iter().map(SubqueryRow::from_series).collect()
}

/// Adds the answers at later steps.
pub(super) fn append(rows: &mut Vec<SubqueryRow>, later: Vec<Series>) {
    let mut merged = Vec::with_capacity(rows.len().max(later.len()));
    let mut later = later.into_iter().peekable();
    for mut row in rows.drain(..) {
        // Equality is cheap to test, and nearly always true.
        while let Some(new) = later.next_if(|new| new.labels != row.labels && new.labels < row.labels) {
            merged.push(SubqueryRow::from_series(new));
        }
        if let Some(new) = later.next_if(|new| new.labels == row.labels) {
            row.append(new);
        }
        merged.push(row);
    }
    merged.extend(later.map(SubqueryRow::from_series));
    *rows = merged;
}

impl SubqueryRow {
    fn from_series(series: Series) -> SubqueryRow {
        let Series { labels, points, histograms, drops } = series;
        let (ts, vs) = points.into_iter().filter(|(_, v)| !is_stale(*v)).unzip();
        let histograms = histograms.into_iter().map(|(t, h)| (t, without_hint(h))).collect();
        SubqueryRow { labels, drops, ts, vs, histograms }
    }

    /// The samples, for window functions.
    pub(super) fn slices(&self) -> SeriesSlices<'_> {
        SeriesSlices { ts: &self.ts, vs: &self.vs, histograms: &self.histograms, starts: &[] }
    }

    /// Number of samples.
    pub(super) fn samples(&self) -> usize {
        self.ts.len() + self.histograms.len()
    }

    /// Number of samples at `t` and later.
    pub(super) fn samples_from(&self, t: TimeMs) -> usize {
        let gone = self.ts.partition_point(|sample| *sample < t);
        self.samples() - gone - self.histograms.partition_point(|sample| sample.0 < t)
    }

    /// Bytes of memory, without labels and native histograms.
    pub(super) fn bytes(&self) -> usize {
        let columns = (self.ts.capacity() + self.vs.capacity()) * size_of::<f64>();
        size_of::<SubqueryRow>() + columns + self.histograms.capacity() * size_of::<TimedHistogram>()
    }

    /// Time of the newest sample.
    pub(super) fn newest(&self) -> Option<TimeMs> {
        self.ts.last().copied().max(self.histograms.last().map(|h| h.0))
    }

    /// Drops the samples at `t` and later.
    pub(super) fn forget_from(&mut self, t: TimeMs) {
        while self.ts.pop_if(|last| *last >= t).is_some() {}
        self.vs.truncate(self.ts.len());
        while self.histograms.pop_if(|last| last.0 >= t).is_some() {}
    }

    /// Drops the samples before `t`; the others are moved.
    pub(super) fn forget_before(&mut self, t: TimeMs) {
        let floats = self.ts.partition_point(|sample| *sample < t);
        self.ts.drain(..floats);
        self.vs.drain(..floats);
        let histograms = self.histograms.partition_point(|sample| sample.0 < t);
        self.histograms.drain(..histograms);
    }

    fn append(&mut self, later: Series) {
        let room = later.points.len() + self.ts.len() / GROWTH_FRACTION;
        if self.ts.len() + later.points.len() > self.ts.capacity() {
            self.ts.reserve_exact(room);
            self.vs.reserve_exact(room);
        }
        for (t, v) in later.points.into_iter().filter(|(_, v)| !is_stale(*v)) {
            self.ts.push(t);
            self.vs.push(v);
        }
        self.histograms.extend(later.histograms.into_iter().map(|(t, h)| (t, without_hint(h))));
    }
}
