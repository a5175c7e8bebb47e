//! Metrics of the store that follow from its state, under Prometheus' names. They are set for each
//! request of `/metrics`; the store itself counts the others (`storage/src/store/stats.rs`).

use std::sync::Arc;
use storage::metrics::{Gauge, Metrics};
use storage::model::TimeMs;
use storage::shared_metrics;
use storage::store::Store;

/// A time, in milliseconds and in seconds.
struct TimeGauges {
    ms: Arc<Gauge>,
    seconds: Arc<Gauge>,
}

impl TimeGauges {
    fn set(&self, t: TimeMs) {
        self.ms.set(t as f64);
        self.seconds.set(t.div_euclid(1_000) as f64);
    }
}

/// The metrics.
pub(crate) struct StoreMetrics {
    head_oldest: TimeGauges,
    head_newest: TimeGauges,
    /// The oldest time of head and blocks.
    oldest: TimeGauges,
    log_bytes: Arc<Gauge>,
    /// Series in the head, which the store itself sets.
    series: Arc<Gauge>,
    created: Arc<Gauge>,
    ended: Arc<Gauge>,
}

impl StoreMetrics {
    /// Registers the metrics.
    pub(crate) fn new(metrics: &Metrics) -> StoreMetrics {
        let gauge = |name, help| metrics.gauge(name, help, &[]);
        StoreMetrics {
            head_oldest: TimeGauges {
                ms: gauge("prometheus_tsdb_head_min_time", "Oldest time in the head, in milliseconds."),
                seconds: gauge("prometheus_tsdb_head_min_time_seconds", "Oldest time in the head."),
            },
            head_newest: TimeGauges {
                ms: gauge("prometheus_tsdb_head_max_time", "Newest time in the head, in milliseconds."),
                seconds: gauge("prometheus_tsdb_head_max_time_seconds", "Newest time in the head."),
            },
            oldest: TimeGauges {
                ms: gauge("prometheus_tsdb_lowest_timestamp", "Oldest time that is stored, in milliseconds."),
                seconds: gauge("prometheus_tsdb_lowest_timestamp_seconds", "Oldest time that is stored."),
            },
            log_bytes: gauge("prometheus_tsdb_wal_storage_size_bytes", "Bytes of the log on disk."),
            series: shared_metrics::head_series(metrics),
            created: metrics.total(
                "prometheus_tsdb_head_series_created_total",
                "Series that came into the head.",
                &[],
            ),
            ended: metrics.total(
                "prometheus_tsdb_head_series_removed_total",
                "Series that have ended and left the head.",
                &[],
            ),
        }
    }

    /// Sets all of them. What an empty store has no value for stays as it is.
    pub(crate) fn collect(&self, store: &Store) {
        let status = store.status();
        let head = status.head_span();
        if let Some((oldest, newest)) = head {
            self.head_oldest.set(oldest);
            self.head_newest.set(newest);
        }
        let in_blocks = status.blocks().iter().map(|block| block.min_time).min();
        let in_head = head.map(|(oldest, _)| oldest);
        if let Some(oldest) = in_blocks.into_iter().chain(in_head).min() {
            self.oldest.set(oldest);
        }
        if let Some(bytes) = status.log_bytes() {
            self.log_bytes.set(bytes as f64);
        }
        let ended = status.ended_series() as f64;
        self.ended.set(ended);
        self.created.set(self.series.get() + ended);
    }
}
