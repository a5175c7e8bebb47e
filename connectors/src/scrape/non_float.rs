//! The parts of a scrape other than floats: native histograms, start timestamps, exemplars.
//!
//! [`NonFloatSamples`] collects them until the whole body has been read without error. Histograms
//! are appended before the floats of their scrape: if a series changes from floats to histograms,
//! the stale marker of its float column is then at the time of the histogram and is refused.

use crate::exposition::points::RawExemplar;
use crate::scrape::appender::StartRules;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;
use storage::exemplars::{Exemplar, ExemplarRow};
use storage::model::value::STALE;
use storage::model::{NativeHistogram, SeriesRef, TimeMs};
use storage::store::{AppendResult, FloatRow, HistogramRow, StartRow, Store, StoreError, ZeroRow};

/// An exemplar, and the sample that it belongs to.
#[derive(Clone, Debug)]
pub struct SampleExemplar {
    /// The value of the sample; `None` if it is a native histogram.
    pub value: Option<f64>,
    /// The exemplar.
    pub exemplar: RawExemplar,
}

/// The collected samples. A time is `None` if the sample has the time of the scrape.
#[derive(Default)]
pub struct NonFloatSamples {
    /// Histograms.
    pub histograms: Vec<(SeriesRef, Option<TimeMs>, Arc<NativeHistogram>)>,
    /// Start timestamps.
    pub starts: Vec<(SeriesRef, Option<TimeMs>, TimeMs)>,
    /// How start timestamps are handled.
    pub rules: StartRules,
    /// Exemplars, in the order of the exposition.
    pub exemplars: Vec<(SeriesRef, Option<TimeMs>, SampleExemplar)>,
    /// For each series that had a start timestamp in the last scrape: the start at which a 0 was
    /// appended, or tried.
    tried: HashMap<SeriesRef, TimeMs>,
    /// The series that had a histogram without a timestamp in the last scrape, sorted.
    alive: Vec<SeriesRef>,
}

impl NonFloatSamples {
    /// Discards what was collected.
    pub fn discard(&mut self) {
        self.histograms.clear();
        self.starts.clear();
        self.exemplars.clear();
    }

    /// The series that have a histogram with the time of the scrape, sorted.
    fn present(&self) -> Vec<SeriesRef> {
        let timeless = self.histograms.iter().filter(|(_, t, _)| t.is_none());
        let mut present: Vec<SeriesRef> = timeless.map(|(series, _, _)| *series).collect();
        present.sort_unstable();
        present.dedup();
        present
    }

    /// How many of these series had no histogram in the last scrape.
    pub fn risen(&self) -> usize {
        let present = self.present();
        present.iter().filter(|series| self.alive.binary_search(series).is_err()).count()
    }

    /// The series whose histograms have timestamps.
    pub fn timed(&self) -> impl Iterator<Item = SeriesRef> {
        self.histograms.iter().filter(|(_, t, _)| t.is_some()).map(|(series, _, _)| *series)
    }

    /// If zeros are enabled, appends a 0 at the start of each series that started since the last
    /// scrape, before the samples of the scrape at `t`.
    pub fn commit_zeros(&mut self, t: TimeMs, store: &Store) -> Result<(), StoreError> {
        if !self.rules.zeros {
            return Ok(());
        }
        let mut tried = HashMap::with_capacity(self.starts.len());
        let mut rows = Vec::new();
        for (series, own, start) in &self.starts {
            let is_known = self.tried.get(series).or_else(|| tried.get(series)) == Some(start);
            tried.insert(*series, *start);
            // A zero for each start is tried once. Whether the store took it does not matter: if it
            // was refused, the series has a sample at that time or later.
            if !is_known && *start < own.unwrap_or(t) {
                rows.push(ZeroRow { series: *series, start: *start, like: None });
            }
        }
        self.tried = tried;
        if rows.is_empty() {
            return Ok(());
        }
        let histograms: HashMap<SeriesRef, &Arc<NativeHistogram>> =
            self.histograms.iter().map(|(series, _, h)| (*series, h)).collect();
        for row in rows.iter_mut() {
            row.like = histograms.get(&row.series).map(|h| Arc::clone(h));
        }
        store.append_zeros(&rows, t).map(drop)
    }

    /// Appends the histograms of the scrape at `t`. Returns the stale markers for series that no
    /// longer have a histogram, and the result of the append.
    pub fn commit_histograms(
        &mut self,
        t: TimeMs,
        store: &Store,
    ) -> Result<(Vec<FloatRow>, AppendResult), StoreError> {
        // Most targets have no histograms, now or before: nothing to compare.
        if self.histograms.is_empty() && self.alive.is_empty() {
            return Ok((Vec::new(), AppendResult::default()));
        }
        let present = self.present();
        let rows: Vec<HistogramRow> = self
            .histograms
            .drain(..)
            .map(|(series, own, h)| HistogramRow { series, t: own.unwrap_or(t), h })
            .collect();
        let appended = store.append_histograms(&rows)?;
        // Columns write their own stale markers; histograms have no columns, so it is done here.
        let gone = self.alive.iter().filter(|series| present.binary_search(series).is_err());
        let stale = gone.map(|series| FloatRow { series: *series, t, v: STALE }).collect();
        self.alive = present;
        Ok((stale, appended))
    }

    /// Appends the start timestamps of samples that were stored, if start timestamps are stored at
    /// all.
    pub fn commit_starts(&mut self, t: TimeMs, store: &Store) -> Result<(), StoreError> {
        if !self.rules.keep {
            self.starts.clear();
        }
        if !self.starts.is_empty() {
            let row = |(series, own, start): (SeriesRef, Option<TimeMs>, TimeMs)| StartRow {
                series,
                t: own.unwrap_or(t),
                start,
            };
            let rows: Vec<StartRow> = self.starts.drain(..).map(row).collect();
            store.append_starts(&rows)?;
        }
        Ok(())
    }

    /// Appends the exemplars of samples that were stored. Returns the number of exemplars that are
    /// out of order, counting only samples all of whose exemplars are.
    pub fn commit_exemplars(&mut self, t: TimeMs, store: &Store) -> usize {
        let mut rows = Vec::with_capacity(self.exemplars.len());
        let mut samples = Vec::new();
        let all = std::mem::take(&mut self.exemplars);
        for of_sample in all.chunk_by(|(a, x, _), (b, y, _)| (a, x) == (b, y)) {
            let (series, own, first) = &of_sample[0];
            // As in Prometheus: an exemplar of a sample that was refused is not stored, and not
            // counted as late.
            if !store.series().has_sample(*series, own.unwrap_or(t), first.value) {
                continue;
            }
            let row = |raw: &RawExemplar| ExemplarRow {
                series: *series,
                timed: raw.t.is_some(),
                exemplar: Exemplar { labels: raw.labels.clone(), t: raw.t.or(*own).unwrap_or(t), v: raw.v },
            };
            let begin = rows.len();
            rows.extend(of_sample.iter().map(|(_, _, of)| row(&of.exemplar)));
            // The store accepts exemplars of a series only in order. Those of one sample come in
            // the order of the buckets.
            rows[begin..].sort_by(in_order);
            samples.push(begin..rows.len());
        }
        if rows.is_empty() {
            return 0;
        }
        let late = store.exemplars().add(rows).out_of_order;
        // A sample counts once, and only if none of its exemplars was accepted: clients repeat old
        // exemplars at every scrape, which is no fault.
        let is_late = |n: usize| late.binary_search(&n).is_ok();
        samples.into_iter().filter(|sample| sample.clone().all(is_late)).map(|sample| sample.len()).sum()
    }

    /// Returns stale markers at `t` for all series that had histograms.
    pub fn end(&mut self, t: TimeMs) -> Vec<FloatRow> {
        self.alive.drain(..).map(|series| FloatRow { series, t, v: STALE }).collect()
    }
}

/// Orders by time, value, labels: a sample may have several exemplars.
fn in_order(a: &ExemplarRow, b: &ExemplarRow) -> Ordering {
    let x = &a.exemplar;
    let y = &b.exemplar;
    x.t.cmp(&y.t).then(x.v.total_cmp(&y.v)).then_with(|| x.labels.cmp(&y.labels))
}
