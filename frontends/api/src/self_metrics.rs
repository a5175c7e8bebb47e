//! The metrics of the HTTP front end about itself, under the names that common dashboards use.

use axum::http::StatusCode;
use std::sync::Arc;
use std::time::Duration;
use storage::metrics::{Counter, Gauge, MetricSummary, Metrics};

/// The buckets of the request duration, s, as in Prometheus.
const BUCKETS: [f64; 9] = [0.1, 0.2, 0.4, 1.0, 3.0, 8.0, 20.0, 60.0, 120.0];

/// The metrics of this front end.
pub struct ApiMetrics {
    metrics: Metrics,
    pub(super) queries: Arc<Gauge>,
    pub(super) concurrent_max: Arc<Gauge>,
    pub(super) prepare_time: Arc<MetricSummary>,
    pub(super) queue_time: Arc<MetricSummary>,
    pub(super) inner_eval: Arc<MetricSummary>,
    pub(super) result_sort: Arc<MetricSummary>,
    pub(super) query_samples: Arc<Counter>,
    pub(super) query_samples_read: Arc<Counter>,
    pub(super) ready: Arc<Gauge>,
    pub(super) subscriptions: Arc<Gauge>,
    pub(super) views: Arc<Gauge>,
}

impl ApiMetrics {
    /// Registers the metrics.
    pub fn new(metrics: &Metrics) -> ApiMetrics {
        let gauge = |name, help| metrics.gauge(name, help, &[]);
        let slice = |slice| {
            metrics.summary("prometheus_engine_query_duration_seconds", "Query timings", &[("slice", slice)])
        };
        ApiMetrics {
            queries: gauge(
                "prometheus_engine_queries",
                "The current number of queries being executed or waiting.",
            ),
            concurrent_max: gauge(
                "prometheus_engine_queries_concurrent_max",
                "The max number of concurrent queries.",
            ),
            prepare_time: slice("prepare_time"),
            queue_time: slice("queue_time"),
            inner_eval: slice("inner_eval"),
            result_sort: slice("result_sort"),
            query_samples: metrics.counter(
                "prometheus_engine_query_samples_total",
                "The total number of samples loaded by all queries.",
                &[],
            ),
            query_samples_read: metrics.counter(
                "prometheus_engine_query_samples_read_total",
                "The total number of samples read by all queries, each counted once for its series.",
                &[],
            ),
            ready: gauge("prometheus_ready", "Whether the server is ready: 1, otherwise 0."),
            subscriptions: gauge("perennial_subscriptions", "Open live subscriptions."),
            views: gauge("perennial_subscribed_views", "Standing views that live subscriptions share."),
            metrics: metrics.clone(),
        }
    }

    /// Counts one answered request.
    pub fn count(&self, path: &str, status: StatusCode, took: Duration) {
        let handler = path.replace("{name}", ":name");
        let requests = self.metrics.counter(
            "prometheus_http_requests_total",
            "Counter of HTTP requests.",
            &[("handler", &handler), ("code", status.as_str())],
        );
        requests.inc();
        let durations = self.metrics.histogram(
            "prometheus_http_request_duration_seconds",
            "Histogram of latencies for HTTP requests.",
            &[("handler", &handler)],
            &BUCKETS,
        );
        durations.observe(took.as_secs_f64());
    }
}

/// Adds one to a gauge until it is dropped.
pub(crate) struct GaugeGuard(Arc<Gauge>);

impl GaugeGuard {
    /// Adds one to `gauge`.
    pub(crate) fn new(gauge: &Arc<Gauge>) -> GaugeGuard {
        gauge.add(1.0);
        GaugeGuard(gauge.clone())
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.add(-1.0);
    }
}
