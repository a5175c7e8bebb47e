//! The newest samples of each series that satisfies some matchers. Used for recorded series, for
//! states of alerts that continue after a restart, and for the causes of alerts.

use super::Store;
use crate::error::StoreError;
use crate::model::value::is_stale;
use crate::model::{Labels, Matcher, NativeHistogram, SHARDS, TimeMs};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The newest sample of a series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewestSample {
    /// The labels of the series.
    pub labels: Labels,
    /// The time of the sample.
    pub t: TimeMs,
    /// The value of the sample.
    pub value: NewestValue,
}

/// The value of a sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum NewestValue {
    /// A float; may be a stale marker.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<NativeHistogram>),
}

/// The two newest samples of a series.
#[derive(Clone, Debug, PartialEq)]
pub struct RecentSeries {
    /// The labels of the series.
    pub labels: Labels,
    /// Time and value of the newest sample; the value may be a stale marker.
    pub newest: (TimeMs, f64),
    /// The value of the sample before; `None`: there is none, or it is a stale marker.
    pub before: Option<f64>,
}

/// The two newest samples of some series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RecentSamples {
    /// Series with at least one sample, sorted by labels within each shard.
    pub series: Vec<RecentSeries>,
    /// There are more series, which were not read.
    pub truncated: bool,
}

/// Reads the newest samples of the series of a store.
#[derive(Copy, Clone)]
pub struct NewestSamples<'a> {
    pub(super) store: &'a Store,
}

impl NewestSamples<'_> {
    /// The two newest floats in `from..=to` of each series that satisfies all matchers, of at most
    /// `most` series.
    pub fn two_floats(
        &self,
        matchers: &[Matcher],
        from: TimeMs,
        to: TimeMs,
        most: usize,
    ) -> Result<RecentSamples, StoreError> {
        let mut found = RecentSamples::default();
        let mut ts = Vec::new();
        let mut vs = Vec::new();
        let mut looked = 0;
        for shard in 0..SHARDS {
            let selection = self.store.select(shard, matchers, from, to)?;
            for (i, labels) in selection.labels.iter().enumerate() {
                // Series are counted, not rows found: otherwise a selector that matches a million
                // ended series would read all of them.
                if looked == most {
                    found.truncated = true;
                    return Ok(found);
                }
                looked += 1;
                ts.clear();
                vs.clear();
                selection.read(i, from, to, &mut ts, &mut vs)?;
                let (Some(t), Some(v)) = (ts.last(), vs.last()) else { continue };
                // After a stale marker the series began anew, so there is no sample before.
                let before = vs.iter().rev().nth(1).copied().filter(|v| !is_stale(*v));
                found.series.push(RecentSeries { labels: labels.clone(), newest: (*t, *v), before });
            }
        }
        Ok(found)
    }

    /// The newest float in `from..=to` of each series that satisfies all matchers, stale markers
    /// included.
    pub fn floats(
        &self,
        matchers: &[Matcher],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<(Labels, TimeMs, f64)>, StoreError> {
        let mut found = Vec::new();
        self.each_newest(matchers, from, to, false, |sample| {
            if let NewestValue::Float(v) = sample.value {
                found.push((sample.labels, sample.t, v));
            }
        })?;
        Ok(found)
    }

    /// The newest sample in `from..=to`, float or histogram, of each series that satisfies all
    /// matchers.
    pub fn samples(
        &self,
        matchers: &[Matcher],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<NewestSample>, StoreError> {
        let mut found = Vec::new();
        self.each_newest(matchers, from, to, true, |sample| found.push(sample))?;
        Ok(found)
    }

    fn each_newest(
        &self,
        matchers: &[Matcher],
        from: TimeMs,
        to: TimeMs,
        wants_histograms: bool,
        mut take: impl FnMut(NewestSample),
    ) -> Result<(), StoreError> {
        let mut ts = Vec::new();
        let mut vs = Vec::new();
        let mut histograms = Vec::new();
        for shard in 0..SHARDS {
            let selection = self.store.select(shard, matchers, from, to)?;
            for (i, labels) in selection.labels.iter().enumerate() {
                ts.clear();
                vs.clear();
                histograms.clear();
                selection.read(i, from, to, &mut ts, &mut vs)?;
                if wants_histograms {
                    selection.read_histograms(i, from, to, &mut histograms)?;
                }
                let float = ts.last().zip(vs.last()).map(|(t, v)| (*t, NewestValue::Float(*v)));
                let histogram = histograms.pop().map(|(t, h)| (t, NewestValue::Histogram(h)));
                // At one time a series has a float or a histogram, not both.
                let newest = float.into_iter().chain(histogram).max_by_key(|(t, _)| *t);
                if let Some((t, value)) = newest {
                    take(NewestSample { labels: labels.clone(), t, value });
                }
            }
        }
        Ok(())
    }
}
