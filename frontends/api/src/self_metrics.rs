//! The metrics of the HTTP front end about itself, under the names that common dashboards use.

use axum::http::StatusCode;
use std::sync::Arc;
use std::time::Duration;
use storage::metrics::{Counter, Gauge, MetricHistogram, MetricSummary, Metrics};

/// The buckets of the request duration, s, as in Prometheus.
const BUCKETS: [f64; 9] = [0.1, 0.2, 0.4, 1.0, 3.0, 8.0, 20.0, 60.0, 120.0];

/// The buckets of the size of answers, bytes, as in Prometheus.
const SIZE_BUCKETS: [f64; 8] = [1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

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
    pub(super) metric_requests: MetricRequests,
    pub(super) federation_errors: Arc<Counter>,
    pub(super) tombstone_cleanup: Arc<MetricHistogram>,
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
            metric_requests: MetricRequests::new(metrics),
            federation_errors: metrics.counter(
                "prometheus_web_federation_errors_total",
                "Total number of errors that occurred while sending federation responses.",
                &[],
            ),
            tombstone_cleanup: metrics.histogram(
                "prometheus_tsdb_tombstone_cleanup_seconds",
                "The time taken to rewrite blocks to remove tombstones.",
                &[],
                &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0],
            ),
            ready: gauge("prometheus_ready", "Whether the server is ready: 1, otherwise 0."),
            subscriptions: gauge("perennial_subscriptions", "Open live subscriptions."),
            views: gauge("perennial_subscribed_views", "Standing views that live subscriptions share."),
            metrics: metrics.clone(),
        }
    }

    /// Counts one answered request; `size`: the bytes of the body, if they are known before it is
    /// sent.
    pub fn count(&self, path: &str, status: StatusCode, took: Duration, size: Option<u64>) {
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
        let sizes = self.metrics.histogram(
            "prometheus_http_response_size_bytes",
            "Histogram of response size for HTTP requests; without those that are sent while they are made.",
            &[("handler", &handler)],
            &SIZE_BUCKETS,
        );
        if let Some(size) = size {
            sizes.observe(size as f64);
        }
    }
}

/// Requests of `/metrics`, under the names of Prometheus' client library.
pub(super) struct MetricRequests {
    pub(super) in_flight: Arc<Gauge>,
    pub(super) answered: Arc<Counter>,
}

impl MetricRequests {
    fn new(metrics: &Metrics) -> MetricRequests {
        let name = "promhttp_metric_handler_requests_total";
        let counter =
            |code| metrics.counter(name, "Total number of scrapes by HTTP status code.", &[("code", code)]);
        // Others than 200 are not possible here, and alerts want to see the zeros.
        for code in ["500", "503"] {
            drop(counter(code));
        }
        MetricRequests {
            in_flight: metrics.gauge(
                "promhttp_metric_handler_requests_in_flight",
                "Current number of scrapes being served.",
                &[],
            ),
            answered: counter("200"),
        }
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
