//! What the rules manager needs of the house, as traits: tests put small fakes behind them.
//! Standing plans are [`views`].

use std::sync::Arc;
use storage::model::{Labels, Matcher, SeriesRef, TimeMs};
use storage::store::{AppendResult, ColumnBatch, FloatRow, GroupId, Store, StoreError};

/// Where the samples of alerts are written and read back: implemented by the store.
pub trait AlertSeriesStore: Send + Sync {
    /// The column group of a key in a shard.
    fn open_group(&self, key: &str, shard: u16) -> GroupId;
    /// Where a series lives.
    fn resolve(&self, labels: &Labels) -> SeriesRef;
    /// Appends one batch. Never waits.
    fn append(&self, batch: &ColumnBatch) -> Result<AppendResult, StoreError>;
    /// Appends single samples. Never waits.
    fn append_rows(&self, rows: &[FloatRow]) -> Result<AppendResult, StoreError>;
    /// The newest sample of each matching series in `from..=to`, stale markers included.
    fn newest(
        &self,
        matchers: &[Matcher],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<(Labels, TimeMs, f64)>, StoreError>;
}

impl AlertSeriesStore for Store {
    fn open_group(&self, key: &str, shard: u16) -> GroupId {
        Store::open_group(self, key, shard)
    }
    fn resolve(&self, labels: &Labels) -> SeriesRef {
        Store::get_or_create_series(self, labels)
    }
    fn append(&self, batch: &ColumnBatch) -> Result<AppendResult, StoreError> {
        self.append_without_waiting(batch)
    }
    fn append_rows(&self, rows: &[FloatRow]) -> Result<AppendResult, StoreError> {
        self.append_rows_at_once(rows)
    }
    fn newest(
        &self,
        matchers: &[Matcher],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<(Labels, TimeMs, f64)>, StoreError> {
        Store::newest(self, matchers, from, to)
    }
}

/// To be called when an Alertmanager has taken an alert; on any thread, any number of times.
#[derive(Clone)]
pub struct DeliveryReceipt(pub Arc<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for DeliveryReceipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Receipt")
    }
}

/// An alert on its way to Alertmanager; external labels and relabelling come after.
#[derive(Clone, Debug)]
pub struct AlertNotification {
    /// Its labels.
    pub labels: Labels,
    /// Expanded annotations, sorted by name.
    pub annotations: Vec<(String, String)>,
    /// When it began to fire, ms.
    pub starts_at: TimeMs,
    /// When it ended, or when it may be forgotten, ms.
    pub ends_at: TimeMs,
    /// It has ended.
    pub resolved: bool,
    /// A page that shows its expression.
    pub generator_url: String,
    /// Who wants to know that it has arrived.
    pub receipt: DeliveryReceipt,
}

/// Carries alerts out. Called on the rules thread: must queue and return.
pub trait AlertSender: Send + Sync {
    /// Takes alerts that are due.
    fn send(&self, alerts: Vec<AlertNotification>);
}
