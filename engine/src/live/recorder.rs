//! The recorder of a recorded view: writes the rows of an answer to the store as samples, at the
//! evaluation times of the rule's group.
//!
//! The labels of a row are computed once. The rows of one shard are a column group of the store, so
//! a rule's output is stored like a scrape: one timestamp, one value per column. A row that
//! disappears gets a stale marker.

use super::ViewKind;
use crate::heap_size::HeapSize;
use crate::operators::StepOutput;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use storage::model::histogram::HistogramError;
use storage::model::labels::METRIC_NAME;
use storage::model::number::general;
use storage::model::value::{ABSENT, STALE, is_absent, is_histogram, is_stale};
use storage::model::{Labels, NativeHistogram, SeriesRef, TimeMs, shard_of};
use storage::store::{
    ChangeEvent, ColumnBatch, ColumnLayout, Duplicate, FeedDelivery, GroupId, HistogramRow, Refusal, Store,
    StoreError,
};

/// Why an answer, or a part of it, was not recorded. The texts are those of Prometheus.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The answer has more series than the rule allows. Nothing was recorded.
    #[error("exceeded limit of {limit} with {series} series")]
    TooManySeries {
        /// The rule's limit.
        limit: usize,
        /// How many series the answer has.
        series: usize,
    },
    /// Two rows get the same labels from the rule. Nothing was recorded.
    #[error("vector contains metrics with the same labelset after applying rule labels")]
    SameLabels,
    /// A native histogram is invalid. Its row was left out.
    #[error(transparent)]
    Histogram(#[from] HistogramError),
    /// Another rule has recorded another value of the series at this time. The first one stays.
    #[error(
        "duplicate sample for timestamp {t}; overrides not allowed: existing {}, new value {}",
        .existing.map_or("is a histogram".to_owned(), general),
        general(*.new)
    )]
    Duplicate {
        /// The time of the sample.
        t: TimeMs,
        /// The value that is stored; `None`: a histogram.
        existing: Option<f64>,
        /// The value that was not stored.
        new: f64,
    },
    /// The store has refused a native histogram for this reason.
    #[error("{0}")]
    Refused(Refusal),
    /// The store does not take samples now.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Writes the answers of one recorded view.
pub struct Recorder {
    key: String,
    record: String,
    labels: Vec<(String, String)>,
    query_offset: i64,
    limit: usize,
    delivery: FeedDelivery,
    parts: BTreeMap<u16, RecordedShard>,
    rows: usize,
    /// The column of each series, to find rows that would be the same series.
    columns: HashMap<SeriesRef, (u16, usize)>,
    /// Shard and column of each row.
    row_columns: Vec<(u16, usize)>,
    /// Number of rows of the latest answer.
    samples: usize,
}

/// The recorded series of one shard.
struct RecordedShard {
    group: GroupId,
    layout: Arc<ColumnLayout>,
    /// Which columns had a value at the last evaluation.
    present: Vec<bool>,
}

impl RecordedShard {
    /// At time `t` the store had samples of another rule for some of the series, and those stay:
    /// the first rule that records a series owns it, so this one must not end it either. Returns an
    /// error unless only stale markers were refused.
    fn leave_to_others(&mut self, t: TimeMs, duplicates: &[Duplicate]) -> Result<(), RecordError> {
        let mut outcome = Ok(());
        for Duplicate { column, existing, value } in duplicates {
            // If it stayed present, the next evaluation without it would write a stale marker into
            // a series of another rule.
            self.present[*column] = false;
            // That a marker was refused is no fault: the other rule's sample is what readers should
            // see.
            if !is_stale(*value) {
                outcome = outcome.and(Err(RecordError::Duplicate { t, existing: *existing, new: *value }));
            }
        }
        outcome
    }
}

impl Recorder {
    /// The recorder of a view; `None` for views that are not recorded. `delivery`: whether the
    /// store sends the samples to the change feed, or the caller passes on the returned ones.
    pub fn new(name: &str, kind: &ViewKind, delivery: FeedDelivery) -> Option<Recorder> {
        let ViewKind::Recorded { record, labels, interval, offset, query_offset, limit } = kind else {
            return None;
        };
        Some(Recorder {
            // Everything that decides times and labels of the samples is in the key: a group of
            // columns is appended to in order of time, so two rules must never share one.
            key: format!("{}{interval}/{offset}/{labels:?}", group_prefix(name, record)),
            record: record.clone(),
            labels: labels.clone(),
            query_offset: *query_offset,
            limit: *limit,
            delivery,
            parts: BTreeMap::new(),
            rows: 0,
            columns: HashMap::new(),
            row_columns: Vec::new(),
            samples: 0,
        })
    }

    /// Bytes allocated for the recorded series.
    pub fn bytes(&self) -> usize {
        let part = |part: &RecordedShard| {
            part.layout.slots.heap() + part.present.heap() + size_of::<(u16, RecordedShard)>()
        };
        let columns = self.columns.capacity() * (size_of::<(SeriesRef, (u16, usize))>() + 1);
        self.parts.values().map(part).sum::<usize>() + columns + self.row_columns.heap()
    }

    /// How many samples the latest evaluation recorded.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Stores the rows of `out` as of evaluation time `t`. `items` gets the changes that the rings
    /// must receive, also if there is an error. As in Prometheus, rows that cannot be stored are
    /// left out, and the first error is returned.
    pub fn record(
        &mut self,
        t: TimeMs,
        out: &StepOutput,
        store: &Store,
        items: &mut Vec<ChangeEvent>,
    ) -> Result<(), RecordError> {
        let present = out.present().count();
        // Nothing at all is recorded, as in Prometheus: half of an answer would be taken for all of
        // it.
        if self.limit > 0 && present > self.limit {
            return Err(RecordError::TooManySeries { limit: self.limit, series: present });
        }
        self.samples = present;
        // Rows only grow, so each row's labels are computed once in its life.
        self.add_rows(out, store);
        let mut values: BTreeMap<u16, Vec<f64>> =
            self.parts.iter().map(|(shard, part)| (*shard, vec![ABSENT; part.layout.slots.len()])).collect();
        for row in out.present() {
            let (shard, column) = self.row_columns[row];
            let Some(value) = values.get_mut(&shard).and_then(|v| v.get_mut(column)) else { continue };
            // Only rows that are present now can collide. Two rows with the same labels may exist
            // as long as they are never present together.
            if !is_absent(*value) {
                return Err(RecordError::SameLabels);
            }
            *value = out.values[row];
        }
        // Samples are stored at the time that was queried, so that a rule with an offset does not
        // record the past as present.
        let t = t - self.query_offset;
        let mut outcome = Ok(());
        let mut histograms = Vec::new();
        for (row, h) in out.histograms.iter().filter(|(row, _)| is_histogram(out.values[*row])) {
            let (shard, column) = self.row_columns[row];
            match h.validate() {
                Ok(()) => histograms.extend(self.histogram_row(shard, column, t, h)),
                // An invalid histogram must not end its series by a stale marker either, but the
                // value is gone: its column has no sample at this time.
                Err(error) => {
                    let value = values.get_mut(&shard).and_then(|values| values.get_mut(column));
                    if let Some(value) = value {
                        *value = ABSENT;
                    }
                    outcome = outcome.and(Err(error.into()));
                }
            }
        }
        // Floats are stored even if a histogram was refused. `and` keeps the first error.
        outcome = outcome.and(self.store(t, values, store, items));
        if !histograms.is_empty() {
            outcome = outcome.and(self.store_histograms(&histograms, store, items));
        }
        outcome
    }

    /// The sample of a histogram at `t`, for the series in a shard's column.
    fn histogram_row(
        &self,
        shard: u16,
        column: usize,
        t: TimeMs,
        h: &Arc<NativeHistogram>,
    ) -> Option<HistogramRow> {
        let slot = self.parts.get(&shard)?.layout.slots[column];
        Some(HistogramRow { series: SeriesRef { shard, slot }, t, h: h.clone() })
    }

    /// The view gets another plan or other row numbers. If name and labels of its series are the
    /// same, they keep their columns; `false` if they are not.
    pub fn continue_as(&mut self, kind: &ViewKind) -> bool {
        let ViewKind::Recorded { record, labels, query_offset, limit, .. } = kind else { return false };
        // The series would be others: the caller ends this recorder and makes a new one, so that
        // the old series get stale markers.
        if (record, labels) != (&self.record, &self.labels) {
            return false;
        }
        self.query_offset = *query_offset;
        self.limit = *limit;
        self.rows = 0;
        self.row_columns.clear();
        // The new plan has new row numbers, so this is the only moment at which columns may be
        // renumbered.
        self.compact();
        true
    }

    /// Drops the columns of series that have ended.
    fn compact(&mut self) {
        self.columns.clear();
        for (shard, part) in &mut self.parts {
            let present = part.layout.slots.iter().zip(&part.present).filter(|(_, present)| **present);
            let slots: Vec<u32> = present.map(|(slot, _)| *slot).collect();
            for (column, slot) in slots.iter().enumerate() {
                self.columns.insert(SeriesRef { shard: *shard, slot: *slot }, (*shard, column));
            }
            // Only living columns remain. If the new plan does not have one of them, its next
            // evaluation ends it.
            part.present = vec![true; slots.len()];
            part.layout = Arc::new(ColumnLayout { slots });
        }
    }

    /// Ends all series with stale markers: the rule was removed.
    pub fn end(&mut self, t: TimeMs, store: &Store) -> Vec<ChangeEvent> {
        // All columns absent: those that were present get stale markers, as if the rule's answer
        // had become empty.
        let absent =
            self.parts.iter().map(|(shard, part)| (*shard, vec![ABSENT; part.layout.slots.len()])).collect();
        let mut items = Vec::new();
        if let Err(error) = self.store(t - self.query_offset, absent, store, &mut items) {
            tracing::warn!(
                target: "live::record",
                metric = self.record,
                %error,
                "stale markers of a removed rule were not stored: queries see its series for the lookback; \
                 nothing needs to be done"
            );
        }
        items
    }

    /// Stores the floats of all shards. Returns the first error.
    fn store(
        &mut self,
        t: TimeMs,
        values: BTreeMap<u16, Vec<f64>>,
        store: &Store,
        items: &mut Vec<ChangeEvent>,
    ) -> Result<(), RecordError> {
        let mut outcome = Ok(());
        for (shard, mut values) in values {
            let Some(part) = self.parts.get_mut(&shard) else { continue };
            part.present.resize(values.len(), false);
            for (value, present) in values.iter_mut().zip(&mut part.present) {
                // A marker is written once, when the row disappears. Writing it at every evaluation
                // would create samples without end.
                let was = std::mem::replace(present, !is_absent(*value));
                match *value {
                    v if was && is_absent(v) => *value = STALE,
                    // Histograms are stored separately.
                    v if is_histogram(v) => *value = ABSENT,
                    _ => {}
                }
            }
            // Nothing lives here and nothing ended: a batch without values would still cost a
            // record in the log.
            if values.iter().all(|v| is_absent(*v)) {
                continue;
            }
            let batch =
                ColumnBatch { group: part.group, layout: part.layout.clone(), t, values: values.into() };
            let stored = match self.delivery {
                // The caller runs within a tick and passes the changes to the rings itself. Through
                // the feed they would arrive one tick late.
                FeedDelivery::Nobody => {
                    store.recorder().record(&batch).map_err(RecordError::from).and_then(|recorded| {
                        items.push(recorded.event);
                        part.leave_to_others(t, &recorded.duplicates)
                    })
                }
                FeedDelivery::Feed => {
                    store.recorder().append_columns(&batch).map(drop).map_err(RecordError::from)
                }
            };
            outcome = outcome.and(stored);
        }
        outcome
    }

    fn store_histograms(
        &self,
        rows: &[HistogramRow],
        store: &Store,
        items: &mut Vec<ChangeEvent>,
    ) -> Result<(), RecordError> {
        let stored = match self.delivery {
            FeedDelivery::Nobody => store.recorder().record_histograms(rows, items),
            FeedDelivery::Feed => store.append_histograms(rows),
        };
        let duplicate = stored?.refused.into_iter().find(|refused| refused.why == Refusal::Duplicate);
        duplicate.map_or(Ok(()), |refused| Err(RecordError::Refused(refused.why)))
    }

    /// Finds the shard and the column of each new row.
    pub fn add_rows(&mut self, out: &StepOutput, store: &Store) {
        let mut grown: BTreeMap<u16, Vec<u32>> = BTreeMap::new();
        for labels in &out.labels[self.rows..] {
            let labels = recorded_labels(labels, &self.record, &self.labels);
            // Created here, because a column group has slots and no labels.
            let series = store.get_or_create_series(&labels);
            let shard = shard_of(&labels);
            let next = {
                let known = self.parts.get(&shard).map_or(0, |part| part.layout.slots.len());
                known + grown.get(&shard).map_or(0, Vec::len)
            };
            // Two rows may have the same recorded labels. They share a column, and `record` decides
            // whether that is an error.
            let location = *self.columns.entry(series).or_insert((shard, next));
            if location.1 == next {
                grown.entry(shard).or_default().push(series.slot);
            }
            self.row_columns.push(location);
        }
        self.rows = out.labels.len();
        for (shard, slots) in grown {
            let part = self.parts.entry(shard).or_insert_with(|| RecordedShard {
                group: store.open_group(&self.key, shard),
                layout: Arc::new(ColumnLayout { slots: Vec::new() }),
                present: Vec::new(),
            });
            // A layout never changes: the store recognises a known one by its pointer. So there is
            // a new one only if a column was added.
            let all = part.layout.slots.iter().copied().chain(slots).collect();
            part.layout = Arc::new(ColumnLayout { slots: all });
        }
    }
}

/// Prefix of the keys of the column groups in which a view of this name records this metric.
pub fn group_prefix(name: &str, record: &str) -> String {
    format!("rule/{name}/{record}/")
}

/// The labels of the recorded series of a row: the rule's metric name and labels are set; an empty
/// value removes a label.
pub fn recorded_labels(row: &Labels, record: &str, set: &[(String, String)]) -> Labels {
    let mut builder = row.to_builder();
    builder.set(METRIC_NAME, record);
    for (name, value) in set {
        builder.set(name.as_str(), value.as_str());
    }
    builder.build()
}
