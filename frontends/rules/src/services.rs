//! What the rules manager needs of the rest of the server, as traits, so that tests can pass fakes:
//! the store for the series of alerts ([`AlertSeriesStore`]), and the sender of notifications
//! ([`AlertSender`]). Views are in [`views`].

use std::sync::Arc;
use storage::model::{Labels, Matcher, SeriesRef, TimeMs};
use storage::store::{AppendResult, ColumnBatch, FloatRow, GroupId, RecentSamples, Store, StoreError};

/// Where the samples of alerts are written and read: implemented by the store.
///
/// # Contract
/// 1. Appends do not wait, not even for space in the log: they are called on the rules thread. They
///    fail instead.
/// 2. A sample that was appended is seen by reads that begin later, and by the views that select
///    it.
/// 3. [`AlertSeriesStore::resolve`] returns the same series for the same labels as long as the
///    store is open; series are remembered by it.
pub trait AlertSeriesStore: Send + Sync {
    /// The column group of a key in a shard.
    fn open_group(&self, key: &str, shard: u16) -> GroupId;
    /// The series with these labels, created if needed.
    fn resolve(&self, labels: &Labels) -> SeriesRef;
    /// Appends one batch. Never waits.
    fn append(&self, batch: &ColumnBatch) -> Result<AppendResult, StoreError>;
    /// Appends single samples. Never waits.
    fn append_rows(&self, rows: &[FloatRow]) -> Result<AppendResult, StoreError>;
    /// The newest sample of each matching series in `from..=to`, including stale markers.
    fn newest(
        &self,
        matchers: &[Matcher],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<(Labels, TimeMs, f64)>, StoreError>;
    /// The two newest samples of each matching series in `from..=to`, of at most `most` series.
    fn recent(
        &self,
        matchers: &[Matcher],
        from: TimeMs,
        to: TimeMs,
        most: usize,
    ) -> Result<RecentSamples, StoreError>;
}

impl AlertSeriesStore for Store {
    fn open_group(&self, key: &str, shard: u16) -> GroupId {
        Store::open_group(self, key, shard)
    }
    fn resolve(&self, labels: &Labels) -> SeriesRef {
        Store::get_or_create_series(self, labels)
    }
    fn append(&self, batch: &ColumnBatch) -> Result<AppendResult, StoreError> {
        self.recorder().append_columns(batch)
    }
    fn append_rows(&self, rows: &[FloatRow]) -> Result<AppendResult, StoreError> {
        self.recorder().append_rows(rows)
    }
    fn newest(
        &self,
        matchers: &[Matcher],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<(Labels, TimeMs, f64)>, StoreError> {
        Store::newest(self).floats(matchers, from, to)
    }
    fn recent(
        &self,
        matchers: &[Matcher],
        from: TimeMs,
        to: TimeMs,
        most: usize,
    ) -> Result<RecentSamples, StoreError> {
        Store::newest(self).two_floats(matchers, from, to, most)
    }
}

/// What became of an alert that was sent to an Alertmanager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryOutcome {
    /// The URL of the Alertmanager.
    pub alertmanager: String,
    /// Why it was not accepted; "": it was.
    pub error: String,
}

/// Called when an Alertmanager has accepted an alert, or was given up; on any thread, any number of
/// times.
#[derive(Clone)]
pub struct DeliveryReceipt(pub Arc<dyn Fn(&DeliveryOutcome) + Send + Sync>);

impl std::fmt::Debug for DeliveryReceipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Receipt")
    }
}

/// An alert to be sent to Alertmanager; external labels and relabelling are applied later.
#[derive(Clone, Debug)]
pub struct AlertNotification {
    /// The labels of the alert, without external labels.
    pub labels: Labels,
    /// Expanded annotations, sorted by name.
    pub annotations: Vec<(String, String)>,
    /// When the alert began to fire, in ms.
    pub starts_at: TimeMs,
    /// When it ended, or when it may be forgotten, in ms.
    pub ends_at: TimeMs,
    /// Whether it has ended.
    pub resolved: bool,
    /// The URL of a page that shows its expression.
    pub generator_url: String,
    /// Called when it has arrived, or cannot.
    pub receipt: DeliveryReceipt,
}

/// Sends alerts.
///
/// # Contract
/// 1. `send` queues and returns: it is called on the rules thread.
/// 2. When an Alertmanager has accepted an alert, or it was given up, its receipt is called, on any
///    thread. Until an Alertmanager has accepted it, the rules send the alert again.
/// 3. Notifications of one alert are sent in the order of the calls. Otherwise an alert that has
///    ended could be shown as firing.
pub trait AlertSender: Send + Sync {
    /// Takes alerts that are due.
    fn send(&self, alerts: Vec<AlertNotification>);
}
