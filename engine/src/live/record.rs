//! Recorded views: rows of an answer become samples of series, in columns, at the slots of the rule's group.
//!
//! A row's labels are worked out once. The rows of one shard are one column group of the store, so a rule's
//! output is stored like a scrape: one clock, a value per column. A row that is gone leaves a stale marker.

use super::ViewKind;
use crate::operators::Output;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use storage::model::labels::METRIC_NAME;
use storage::model::value::{ABSENT, STALE, is_absent};
use storage::model::{Labels, SeriesRef, TimeMs, shard_of};
use storage::store::{Columns, FeedData, FeedItem, GroupId, Layout, Store, Tell};

/// See the module.
pub struct Recorder {
    key: String,
    record: String,
    labels: Vec<(String, String)>,
    query_offset: i64,
    limit: usize,
    parts: BTreeMap<u16, Part>,
    rows: usize,
    /// Column of each series, to find rows that would be the same series.
    columns: HashMap<SeriesRef, (u16, usize)>,
    /// (shard, column) of each row.
    places: Vec<(u16, usize)>,
}

/// The series of one shard.
struct Part {
    group: GroupId,
    layout: Arc<Layout>,
    /// Which columns had a value at the last slot.
    present: Vec<bool>,
}

impl Recorder {
    /// The recorder of a view; `None` for views that are not recorded.
    pub fn new(name: &str, kind: &ViewKind) -> Option<Recorder> {
        let ViewKind::Recorded { record, labels, interval, offset, query_offset, limit } = kind else {
            return None;
        };
        Some(Recorder {
            key: format!("rule/{name}/{record}/{interval}/{offset}/{labels:?}"),
            record: record.clone(),
            labels: labels.clone(),
            query_offset: *query_offset,
            limit: *limit,
            parts: BTreeMap::new(),
            rows: 0,
            columns: HashMap::new(),
            places: Vec::new(),
        })
    }

    /// Stores the rows of `out` as of slot `t`; returns what the rings must hear of.
    pub fn record(&mut self, t: TimeMs, out: &Output, store: &Store) -> Result<Vec<FeedItem>, String> {
        let present = out.present().count();
        if self.limit > 0 && present > self.limit {
            return Err(format!("exceeded limit of {} with {present} series", self.limit));
        }
        self.learn(out, store);
        let mut values: BTreeMap<u16, Vec<f64>> =
            self.parts.iter().map(|(shard, part)| (*shard, vec![ABSENT; part.layout.slots.len()])).collect();
        for row in out.present() {
            let (shard, column) = self.places[row];
            let Some(value) = values.get_mut(&shard).and_then(|v| v.get_mut(column)) else { continue };
            if !is_absent(*value) {
                return Err(
                    "vector contains metrics with the same labelset after applying rule labels".to_owned()
                );
            }
            *value = out.values[row];
        }
        self.store(t - self.query_offset, values, store)
    }

    /// Rows have new numbers; the series keep their columns.
    pub fn restart(&mut self) {
        self.rows = 0;
        self.places.clear();
    }

    /// Ends all series: the rule is gone.
    pub fn end(&mut self, t: TimeMs, store: &Store) -> Vec<FeedItem> {
        let absent =
            self.parts.iter().map(|(shard, part)| (*shard, vec![ABSENT; part.layout.slots.len()])).collect();
        self.store(t - self.query_offset, absent, store).unwrap_or_default()
    }

    fn store(
        &mut self,
        t: TimeMs,
        values: BTreeMap<u16, Vec<f64>>,
        store: &Store,
    ) -> Result<Vec<FeedItem>, String> {
        let mut items = Vec::new();
        for (shard, mut values) in values {
            let Some(part) = self.parts.get_mut(&shard) else { continue };
            part.present.resize(values.len(), false);
            for (value, present) in values.iter_mut().zip(&mut part.present) {
                let was = std::mem::replace(present, !is_absent(*value));
                if was && is_absent(*value) {
                    *value = STALE;
                }
            }
            if values.iter().all(|v| is_absent(*v)) {
                continue;
            }
            let batch = Columns { group: part.group, layout: part.layout.clone(), t, values: values.into() };
            let appended = store.append_columns(&batch, Tell::Nobody).map_err(|e| e.to_string())?;
            items.push(FeedItem { shard, seq: appended.seq, data: FeedData::Columns(batch) });
        }
        Ok(items)
    }

    /// Finds a place for each new row.
    fn learn(&mut self, out: &Output, store: &Store) {
        let mut grown: BTreeMap<u16, Vec<u32>> = BTreeMap::new();
        for labels in &out.labels[self.rows..] {
            let labels = self.labels_of(labels);
            let series = store.resolve(&labels);
            let shard = shard_of(&labels);
            let next = {
                let known = self.parts.get(&shard).map_or(0, |part| part.layout.slots.len());
                known + grown.get(&shard).map_or(0, Vec::len)
            };
            let place = *self.columns.entry(series).or_insert((shard, next));
            if place.1 == next {
                grown.entry(shard).or_default().push(series.slot);
            }
            self.places.push(place);
        }
        self.rows = out.labels.len();
        for (shard, slots) in grown {
            let part = self.parts.entry(shard).or_insert_with(|| Part {
                group: store.open_group(&self.key, shard),
                layout: Arc::new(Layout { slots: Vec::new() }),
                present: Vec::new(),
            });
            let all = part.layout.slots.iter().copied().chain(slots).collect();
            part.layout = Arc::new(Layout { slots: all });
        }
    }

    fn labels_of(&self, labels: &Labels) -> Labels {
        let mut builder = labels.to_builder();
        builder.set(METRIC_NAME, self.record.as_str());
        for (name, value) in &self.labels {
            builder.set(name.as_str(), value.as_str());
        }
        builder.build()
    }
}
