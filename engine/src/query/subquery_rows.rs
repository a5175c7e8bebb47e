//! The rows of a subquery, as its windows slide over them ([`super::subquery`]).
//!
//! Kept ones ([`super::subquery_cache`]) get later samples at their end and lose those that no
//! window sees any more.

use super::Series;
use crate::functions::series_slices::SeriesSlices;
use crate::functions::window::TimedHistogram;
use std::sync::Arc;
use storage::model::histogram::ResetHint;
use storage::model::value::is_stale;
use storage::model::{Labels, NativeHistogram, TimeMs};

/// Rows in the order of their labels, each set of labels once. Shared, so that nobody copies them
/// to look at them.
pub(super) type SubqueryRows = Arc<Vec<SubqueryRow>>;

/// A row grows by this part of itself.
const GROWTH_PART: usize = 8;

/// The samples of one row.
#[derive(Clone, Debug)]
pub(super) struct SubqueryRow {
    pub(super) labels: Labels,
    /// It is to lose in the end what describes the metric.
    pub(super) drops: bool,
    pub(super) ts: Vec<TimeMs>,
    pub(super) vs: Vec<f64>,
    pub(super) histograms: Vec<TimedHistogram>,
}

/// What is known about a reset is about the sample before, which a subquery may have left out or repeated.
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
    answers.into_iter().map(SubqueryRow::of).collect()
}

/// Adds answers at later steps.
pub(super) fn append(rows: &mut Vec<SubqueryRow>, later: Vec<Series>) {
    let mut merged = Vec::with_capacity(rows.len().max(later.len()));
    let mut later = later.into_iter().peekable();
    for mut row in rows.drain(..) {
        // Equal is quick to tell, and nearly all are.
        while let Some(new) = later.next_if(|new| new.labels != row.labels && new.labels < row.labels) {
            merged.push(SubqueryRow::of(new));
        }
        if let Some(new) = later.next_if(|new| new.labels == row.labels) {
            row.append(new);
        }
        merged.push(row);
    }
    merged.extend(later.map(SubqueryRow::of));
    *rows = merged;
}

impl SubqueryRow {
    fn of(series: Series) -> SubqueryRow {
        let Series { labels, points, histograms, drops } = series;
        let (ts, vs) = points.into_iter().filter(|(_, v)| !is_stale(*v)).unzip();
        let histograms = histograms.into_iter().map(|(t, h)| (t, without_hint(h))).collect();
        SubqueryRow { labels, drops, ts, vs, histograms }
    }

    /// Its samples.
    pub(super) fn lanes(&self) -> SeriesSlices<'_> {
        SeriesSlices { ts: &self.ts, vs: &self.vs, histograms: &self.histograms, starts: &[] }
    }

    /// Number of its samples.
    pub(super) fn samples(&self) -> usize {
        self.ts.len() + self.histograms.len()
    }

    /// Number of its samples at `t` and later.
    pub(super) fn samples_from(&self, t: TimeMs) -> usize {
        let gone = self.ts.partition_point(|sample| *sample < t);
        self.samples() - gone - self.histograms.partition_point(|sample| sample.0 < t)
    }

    /// Bytes of memory, without labels and native histograms.
    pub(super) fn bytes(&self) -> usize {
        let columns = (self.ts.capacity() + self.vs.capacity()) * size_of::<f64>();
        size_of::<SubqueryRow>() + columns + self.histograms.capacity() * size_of::<TimedHistogram>()
    }

    /// Time of its newest sample.
    pub(super) fn newest(&self) -> Option<TimeMs> {
        self.ts.last().copied().max(self.histograms.last().map(|h| h.0))
    }

    /// Forgets the samples at `t` and later.
    pub(super) fn forget_from(&mut self, t: TimeMs) {
        while self.ts.pop_if(|last| *last >= t).is_some() {}
        self.vs.truncate(self.ts.len());
        while self.histograms.pop_if(|last| last.0 >= t).is_some() {}
    }

    /// Forgets the samples before `t`. What stays is moved.
    pub(super) fn forget_before(&mut self, t: TimeMs) {
        let floats = self.ts.partition_point(|sample| *sample < t);
        self.ts.drain(..floats);
        self.vs.drain(..floats);
        let histograms = self.histograms.partition_point(|sample| sample.0 < t);
        self.histograms.drain(..histograms);
    }

    fn append(&mut self, later: Series) {
        let room = later.points.len() + self.ts.len() / GROWTH_PART;
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
