//! Runs mechanisms that ask for their targets at an interval.

use super::{DiscoveredTarget, Discoverer, DiscoveryContext, TargetSender};
use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use storage::metrics::{Counter, MetricHistogram, MetricSummary};
use tokio::time::Instant;

/// Asks for the targets once.
pub trait Refresh: Send + 'static {
    /// The complete list, or the text of what went wrong.
    fn refresh(&mut self) -> BoxFuture<'_, Result<Vec<DiscoveredTarget>, String>>;
}

/// Refreshes at an interval. A refresh that fails is logged and counted, and leaves the previous
/// list. The second refresh of a pool is earlier by up to a tenth of the interval, by the pool's
/// name, so that pools do not refresh in step for ever.
pub struct Polling<R> {
    refresh: R,
    interval: Duration,
    mechanism: &'static str,
    pool: String,
    failures: Arc<Counter>,
    seconds: Arc<MetricSummary>,
    histogram: Arc<MetricHistogram>,
}

impl<R: Refresh> Polling<R> {
    /// `mechanism` is Prometheus' name: `http`.
    pub fn start(
        mechanism: &'static str,
        interval: Duration,
        refresh: R,
        context: &DiscoveryContext<'_>,
    ) -> Box<dyn Discoverer> {
        let labels = [("mechanism", mechanism), ("config", context.pool)];
        let metrics = context.metrics;
        Box::new(Polling {
            refresh,
            interval,
            mechanism,
            pool: context.pool.to_owned(),
            failures: metrics.counter(
                "prometheus_sd_refresh_failures_total",
                "Number of refresh failures for the given SD mechanism.",
                &labels,
            ),
            seconds: metrics.summary(
                "prometheus_sd_refresh_duration_seconds",
                "The duration of a refresh in seconds for the given SD mechanism.",
                &labels,
            ),
            histogram: metrics.histogram(
                "prometheus_sd_refresh_duration_histogram_seconds",
                "The duration of a refresh for the given SD mechanism.",
                &labels[..1],
                &[0.01, 0.1, 1.0, 10.0],
            ),
        })
    }

    async fn refresh_once(&mut self, report: &TargetSender) {
        let started = Instant::now();
        let outcome = self.refresh.refresh().await;
        let seconds = started.elapsed().as_secs_f64();
        self.seconds.observe(seconds);
        self.histogram.observe(seconds);
        match outcome {
            Ok(targets) => report.send(targets),
            Err(error) => {
                self.failures.inc();
                let pool = &self.pool;
                let mechanism = self.mechanism;
                tracing::error!(
                    pool,
                    mechanism,
                    error,
                    "unable to refresh targets; keeping the previous ones"
                );
            }
        }
    }
}

impl<R: Refresh> Discoverer for Polling<R> {
    fn run(mut self: Box<Self>, report: TargetSender) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let part = xxhash_rust::xxh3::xxh3_64(self.pool.as_bytes()) % 1_000;
            let mut wait = self.interval - self.interval / 10_000 * part as u32;
            loop {
                let started = Instant::now();
                self.refresh_once(&report).await;
                tokio::time::sleep_until(started + wait).await;
                wait = self.interval;
            }
        })
    }
}
