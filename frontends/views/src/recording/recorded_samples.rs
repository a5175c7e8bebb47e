//! The samples that a rule records, computed from answers for many evaluation times at once.
//!
//! They are the same as those that [`engine::live::recorder::Recorder`] writes one time after the
//! other: the labels of the rule, a stale marker at the first time at which a row is gone, nothing
//! at a time whose evaluation failed.

use engine::live::ViewKind;
use engine::live::recorder::recorded_labels;
use engine::query::{QueryAnswer, QueryValue, Series};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use storage::model::labels::METRIC_NAME;
use storage::model::value::STALE;
use storage::model::{Labels, Matcher, NativeHistogram, TimeMs};
use storage::store::SeriesSamples;

/// The evaluation times `first, first + interval, …, last`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct EvaluationRange {
    /// The first time.
    pub first: TimeMs,
    /// The last time.
    pub last: TimeMs,
    /// Time between them, in ms.
    pub interval: i64,
}

/// What a recording rule writes. Times are those of its samples, not of its evaluations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingSpec {
    /// The metric name.
    pub record: String,
    /// Labels that are set on all series.
    pub labels: Vec<(String, String)>,
    /// Time between samples, in ms.
    pub interval: i64,
    /// Samples are at `k * interval + offset`.
    pub offset: i64,
    /// How much later than the time of its samples the rule is evaluated, in ms.
    pub delay: i64,
    /// Most series per evaluation; 0: no limit.
    pub limit: usize,
}

/// Samples by series.
pub type SamplesBySeries = BTreeMap<Labels, SeriesSamples>;

/// What a rule records at some evaluation times.
pub struct RecordedSamples {
    /// The samples, with stale markers.
    pub samples: SamplesBySeries,
    /// The times at which the evaluation failed, and why. They have no samples.
    pub failed: BTreeMap<TimeMs, String>,
}

impl EvaluationRange {
    /// The number of times.
    pub fn len(&self) -> usize {
        if self.last < self.first { 0 } else { ((self.last - self.first) / self.interval) as usize + 1 }
    }

    /// Whether there are no times.
    pub fn is_empty(&self) -> bool {
        self.last < self.first
    }

    fn time(&self, k: usize) -> TimeMs {
        self.first + k as i64 * self.interval
    }

    fn number(&self, t: TimeMs) -> Option<usize> {
        let k = (t - self.first).checked_div(self.interval).and_then(|k| usize::try_from(k).ok())?;
        (k < self.len() && self.time(k) == t).then_some(k)
    }
}

impl RecordingSpec {
    /// What a view records; `None`: nothing.
    pub fn from_kind(kind: &ViewKind) -> Option<RecordingSpec> {
        let ViewKind::Recorded { record, labels, interval, offset, query_offset, limit } = kind else {
            return None;
        };
        Some(RecordingSpec {
            record: record.clone(),
            labels: labels.clone(),
            // Divided by it later; zero comes only from a specification made by hand.
            interval: (*interval).max(1),
            // The offset of a rule is that of its evaluations, and its samples are at the time that
            // was read: `query_offset` earlier.
            offset: offset - query_offset,
            delay: *query_offset,
            limit: *limit,
        })
    }

    /// The latest evaluation time that is not after `t`.
    pub fn sample_time_at(&self, t: TimeMs) -> TimeMs {
        t - (t - self.offset).rem_euclid(self.interval)
    }

    /// Matchers for its series, which may match others of the same name.
    pub fn matchers(&self) -> Vec<Matcher> {
        // An empty value removes the label, so the series have none to match.
        let set = self.labels.iter().filter(|(name, value)| !value.is_empty() && name != METRIC_NAME);
        let set = set.map(|(name, value)| Matcher::equal(name.as_str(), value.as_str()));
        std::iter::once(Matcher::equal(METRIC_NAME, self.record.as_str())).chain(set).collect()
    }

    /// Whether another rule may record the same series, because no label that is set differs.
    pub fn may_share(&self, other: &RecordingSpec) -> bool {
        let differs = |(name, value): &(String, String)| {
            other.labels.iter().any(|(other, theirs)| other == name && theirs != value)
        };
        self.record == other.record && !self.labels.iter().any(differs)
    }

    /// The samples at `evaluations`. `present` has the series with a value at the time before, and
    /// then those with one at the last time.
    pub fn samples(
        &self,
        answer: QueryAnswer,
        evaluations: EvaluationRange,
        present: &mut BTreeSet<Labels>,
    ) -> RecordedSamples {
        let rows = self.rows(answer.value);
        let faults = self.faults(&rows, evaluations);
        let mut out = SamplesBySeries::new();
        let mut now = BTreeSet::new();
        let nothing = Vec::new();
        // They have no row in the answer at all, and still need a stale marker.
        let gone: Vec<&Labels> = present.iter().filter(|labels| !rows.contains_key(*labels)).collect();
        let all = rows.iter().chain(gone.into_iter().map(|labels| (labels, &nothing)));
        for (labels, rows) in all {
            let mut one = SeriesSamples { labels: labels.clone(), ..SeriesSamples::default() };
            if record_series(rows, evaluations, &faults, present.contains(labels), &mut one) {
                now.insert(labels.clone());
            }
            if !one.ts.is_empty() || !one.histograms.is_empty() {
                out.insert(labels.clone(), one);
            }
        }
        *present = now;
        let failed = faults.into_iter().map(|(k, why)| (evaluations.time(k), why)).collect();
        RecordedSamples { samples: out, failed }
    }

    /// The rows of an answer by recorded labels.
    fn rows(&self, value: QueryValue) -> BTreeMap<Labels, Vec<Series>> {
        let alone =
            |labels, t, v| Series { labels, points: vec![(t, v)], histograms: Vec::new(), drops: false };
        let series = match value {
            QueryValue::Matrix(series) => series,
            QueryValue::Scalar(t, v) => vec![alone(Labels::default(), t, v)],
            QueryValue::Vector(rows) => rows
                .into_iter()
                .map(|row| match row.h {
                    None => alone(row.labels, row.t, row.v),
                    Some(h) => Series {
                        labels: row.labels,
                        points: Vec::new(),
                        histograms: vec![(row.t, h)],
                        drops: false,
                    },
                })
                .collect(),
            QueryValue::Text(..) => Vec::new(),
        };
        let mut rows: BTreeMap<Labels, Vec<Series>> = BTreeMap::new();
        for one in series {
            rows.entry(recorded_labels(&one.labels, &self.record, &self.labels)).or_default().push(one);
        }
        rows
    }

    /// Times at which nothing is recorded: too many rows, or two rows with the same labels.
    fn faults(
        &self,
        rows: &BTreeMap<Labels, Vec<Series>>,
        evaluations: EvaluationRange,
    ) -> BTreeMap<usize, String> {
        let mut counts = vec![0usize; if self.limit > 0 { evaluations.len() } else { 0 }];
        let mut faults = BTreeMap::new();
        for same in rows.values() {
            let mut seen = BTreeSet::new();
            for k in same.iter().flat_map(times).filter_map(|t| evaluations.number(t)) {
                // Empty without a limit: then nobody asks for the counts.
                if let Some(count) = counts.get_mut(k) {
                    *count += 1;
                }
                // Two rows may become one series by the labels of the rule, at different times.
                // Only a time that has both is an error, as in Prometheus.
                if same.len() > 1 && !seen.insert(k) {
                    let why = "vector contains metrics with the same labelset after applying rule labels";
                    faults.insert(k, why.to_owned());
                }
            }
        }
        for (k, count) in counts.into_iter().enumerate().filter(|(_, count)| *count > self.limit) {
            faults.insert(k, format!("exceeded limit of {} with {count} series", self.limit));
        }
        faults
    }
}

fn times(series: &Series) -> impl Iterator<Item = TimeMs> + '_ {
    series.points.iter().map(|p| p.0).chain(series.histograms.iter().map(|h| h.0))
}

/// A value of a row.
enum RecordedValue {
    Float(f64),
    Histogram(Arc<NativeHistogram>),
}

/// Writes the samples of one series. Returns whether it has a value at the last time.
fn record_series(
    rows: &[Series],
    evaluations: EvaluationRange,
    faults: &BTreeMap<usize, String>,
    mut there: bool,
    out: &mut SeriesSamples,
) -> bool {
    let mut points: Vec<(TimeMs, RecordedValue)> = Vec::new();
    for row in rows {
        points.extend(row.points.iter().map(|(t, v)| (*t, RecordedValue::Float(*v))));
        points.extend(row.histograms.iter().map(|(t, h)| (*t, RecordedValue::Histogram(h.clone()))));
    }
    points.sort_by_key(|(t, _)| *t);
    // A time without a value matters only directly after one with a value, or after a failure.
    let mut next = 0;
    let silence = |to: usize, there: &mut bool, out: &mut SeriesSamples, next: &mut usize| {
        // A failed evaluation writes no stale marker; the first good one after it does.
        let first_good = (*next..to).find(|k| !faults.contains_key(k)).filter(|_| *there);
        if let Some(k) = first_good {
            out.ts.push(evaluations.time(k));
            out.vs.push(STALE);
            *there = false;
        }
        *next = to + 1;
    };
    for (t, point) in points {
        let Some(k) = evaluations.number(t) else { continue };
        silence(k, &mut there, out, &mut next);
        if faults.contains_key(&k) {
            continue;
        }
        there = true;
        match point {
            RecordedValue::Float(v) => {
                out.ts.push(t);
                out.vs.push(v);
            }
            RecordedValue::Histogram(h) => out.histograms.push((t, h)),
        }
    }
    silence(evaluations.len(), &mut there, out, &mut next);
    there
}

/// Adds samples of `more` whose times `to` does not have.
pub fn merge_samples(to: &mut SeriesSamples, more: SeriesSamples) {
    let after = |to: &SeriesSamples| to.ts.last().copied().max(to.histograms.last().map(|h| h.0));
    let first = more.ts.first().copied().into_iter().chain(more.histograms.first().map(|h| h.0)).min();
    if after(to).is_none_or(|last| first.is_none_or(|first| last < first)) {
        to.ts.extend(more.ts);
        to.vs.extend(more.vs);
        to.histograms.extend(more.histograms);
        return;
    }
    // What is there wins: it may have been recorded live, and was seen.
    let more = without(more, to);
    let mut floats: Vec<(TimeMs, f64)> =
        to.ts.drain(..).zip(to.vs.drain(..)).chain(more.ts.into_iter().zip(more.vs)).collect();
    floats.sort_by_key(|(t, _)| *t);
    (to.ts, to.vs) = floats.into_iter().unzip();
    to.histograms.extend(more.histograms);
    to.histograms.sort_by_key(|(t, _)| *t);
}

/// The samples without those whose times `there` has.
pub fn without(mut samples: SeriesSamples, there: &SeriesSamples) -> SeriesSamples {
    let taken = |t: &TimeMs| {
        there.ts.binary_search(t).is_ok() || there.histograms.binary_search_by_key(t, |h| h.0).is_ok()
    };
    let ts = std::mem::take(&mut samples.ts);
    let vs = std::mem::take(&mut samples.vs);
    (samples.ts, samples.vs) = ts.into_iter().zip(vs).filter(|(t, _)| !taken(t)).unzip();
    samples.histograms.retain(|(t, _)| !taken(t));
    samples
}
