//! Writes the `ALERTS` and `ALERTS_FOR_STATE` samples of one alerting rule to the store, with stale
//! markers where a series ends. At evaluation times of the rule group all of them are written, as
//! one column group per shard (series that are stored together with one timestamp), with the same
//! layout while the set of series stays the same. In between, the samples of changed alerts are
//! written one by one.

use super::alert::AlertState;
use super::services::AlertSeriesStore;
use std::collections::BTreeMap;
use std::sync::Arc;
use storage::model::value::STALE;
use storage::model::{Labels, SeriesRef, TimeMs};
use storage::store::{ColumnBatch, ColumnLayout, FloatRow, GroupId, StoreError};
use views::alert_series::{ALERTS, ALERTS_FOR_STATE};

/// The writer of one alerting rule.
#[derive(Debug)]
pub struct AlertSeriesWriter {
    /// The key of the column groups.
    key: String,
    /// The columns by shard.
    shards: BTreeMap<u16, AlertShardColumns>,
    /// The series of each label set that was written.
    refs: BTreeMap<Labels, SeriesRef>,
    /// The evaluation time that was written last, ms.
    last: TimeMs,
}

/// The columns in one shard.
#[derive(Debug)]
struct AlertShardColumns {
    group: GroupId,
    layout: Arc<ColumnLayout>,
}

impl AlertSeriesWriter {
    /// A writer whose column groups have this key.
    pub fn new(key: impl Into<String>) -> AlertSeriesWriter {
        AlertSeriesWriter {
            key: key.into(),
            shards: BTreeMap::new(),
            refs: BTreeMap::new(),
            last: TimeMs::MIN,
        }
    }

    /// Adds series from before a restart, so that they end with a stale marker if their alerts are
    /// gone.
    pub fn adopt(&mut self, store: &dyn AlertSeriesStore, series: impl IntoIterator<Item = Labels>) {
        self.refs.extend(series.into_iter().map(|labels| (labels.clone(), store.resolve(&labels))));
    }

    /// Writes the samples at `t`, or right after those of the last call if `t` is not later. Series
    /// of the last call without a sample end. Returns the highest log position.
    pub fn write(
        &mut self,
        store: &dyn AlertSeriesStore,
        t: TimeMs,
        samples: &[(Labels, f64)],
    ) -> Result<Option<u64>, StoreError> {
        if samples.is_empty() && self.refs.is_empty() {
            return Ok(None);
        }
        let t = t.max(self.last.saturating_add(1));
        self.last = t;
        let mut values: BTreeMap<Labels, f64> =
            // Stale unless a sample replaces it below: a series that has no sample any more ends.
            self.refs.keys().map(|labels| (labels.clone(), STALE)).collect();
        values.extend(samples.iter().cloned());
        let mut columns: BTreeMap<u16, Vec<(u32, f64)>> = BTreeMap::new();
        for (labels, value) in &values {
            let series = *self.refs.entry(labels.clone()).or_insert_with(|| store.resolve(labels));
            columns.entry(series.shard).or_default().push((series.slot, *value));
        }
        let mut lsn = None;
        for (shard, columns) in columns {
            let batch = self.batch(store, shard, t, &columns);
            lsn = lsn.max(Some(store.append(&batch)?.lsn));
        }
        // By bits: a stale marker is a NaN, and no NaN equals another.
        self.refs.retain(|labels, _| values.get(labels).is_some_and(|v| v.to_bits() != STALE.to_bits()));
        Ok(lsn)
    }

    /// Writes the samples of a few alerts at `t`, which need not be an evaluation time. `series`:
    /// all series of these alerts; those that the last call had and that have no sample now end.
    /// All other series stay as they are.
    pub fn write_changes(
        &mut self,
        store: &dyn AlertSeriesStore,
        t: TimeMs,
        series: &[Labels],
        samples: &[(Labels, f64)],
    ) -> Result<(), StoreError> {
        let t = t.max(self.last.saturating_add(1));
        let row = |series: SeriesRef, v: f64| FloatRow { series, t, v };
        let mut rows = Vec::new();
        for ended in series.iter().filter(|labels| samples.iter().all(|(sample, _)| sample != *labels)) {
            rows.extend(self.refs.remove(ended).map(|series| row(series, STALE)));
        }
        for (labels, value) in samples {
            let series = *self.refs.entry(labels.clone()).or_insert_with(|| store.resolve(labels));
            rows.push(row(series, *value));
        }
        if rows.is_empty() {
            return Ok(());
        }
        self.last = t;
        store.append_rows(&rows).map(drop)
    }

    fn batch(
        &mut self,
        store: &dyn AlertSeriesStore,
        shard: u16,
        t: TimeMs,
        columns: &[(u32, f64)],
    ) -> ColumnBatch {
        let slots: Vec<u32> = columns.iter().map(|(slot, _)| *slot).collect();
        let key = &self.key;
        let share = self.shards.entry(shard).or_insert_with(|| AlertShardColumns {
            group: store.open_group(key, shard),
            layout: Arc::new(ColumnLayout { slots: Vec::new() }),
        });
        // The same layout as long as the alerts are the same: then a batch is stored as a column of
        // numbers.
        if share.layout.slots != slots {
            share.layout = Arc::new(ColumnLayout { slots });
        }
        let values = columns.iter().map(|(_, v)| *v).collect();
        ColumnBatch { group: share.group, layout: share.layout.clone(), t, values }
    }
}

/// All series that an alert may have.
pub(super) fn series_of(alertname: &str, labels: &Labels) -> [Labels; 3] {
    [
        for_state_series(alertname, labels),
        state_series(alertname, labels, AlertState::Pending),
        state_series(alertname, labels, AlertState::Firing),
    ]
}

pub(super) fn for_state_series(alertname: &str, labels: &Labels) -> Labels {
    let mut series = labels.to_builder();
    series.set("alertname", alertname).set("__name__", ALERTS_FOR_STATE);
    series.build()
}

pub(super) fn state_series(alertname: &str, labels: &Labels, state: AlertState) -> Labels {
    let mut series = labels.to_builder();
    series.set("alertname", alertname).set("__name__", ALERTS).set("alertstate", state.as_str());
    series.build()
}
