//! [`Polling`]: runs discovery mechanisms that ask for all targets at an interval, such as
//! `http_sd_configs`. A failed refresh keeps the targets of the one before.
//!
//! Mechanisms that receive changes (Kubernetes, Consul, files) implement [`Discoverer`] themselves.

use super::dns::LookupError;
use super::{DiscoveredTarget, Discoverer, DiscoveryContext, TargetSender};
use crate::api_client::{ApiError, ApiRemedy};
use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use storage::metrics::{Counter, MetricHistogram, MetricSummary, Metrics};
use tokio::time::Instant;

/// Why a refresh has no list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefreshError {
    /// An API did not answer with one.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// No name could be looked up.
    #[error(transparent)]
    Lookup(#[from] LookupError),
}

impl RefreshError {
    /// Whether somebody must change something; otherwise the next refresh may succeed.
    fn needs_action(&self) -> bool {
        matches!(self, RefreshError::Api(error) if error.remedy() == ApiRemedy::Act)
    }
}

/// Asks for the targets once.
///
/// # Contract
///
/// 1. A refresh returns all targets or an error; a part of the list would end the other targets.
/// 2. A refresh ends: it has a timeout of its own. [`Polling`] waits for it.
pub trait Refresh: Send + 'static {
    /// The complete list. With an error the targets of the last list stay.
    fn refresh(&mut self) -> BoxFuture<'_, Result<Vec<DiscoveredTarget>, RefreshError>>;
}

/// Refreshes at an interval. A refresh that fails is logged and counted, and leaves the previous
/// list. The second refresh of a pool is earlier by up to a tenth of the interval, by the pool's
/// name, so that pools do not refresh in step for ever.
pub struct Polling<R> {
    refresh: R,
    interval: Duration,
    mechanism: &'static str,
    pool: String,
    own: RefreshMetrics,
    histogram: Arc<MetricHistogram>,
}

/// The metrics of a mechanism in one pool. All blocks of the mechanism in that pool share them;
/// they are removed with the last one, when a reload removes the job or the block.
struct RefreshMetrics {
    // Dropped before `lifetime`, which asks whether anybody else holds them.
    failures: Arc<Counter>,
    seconds: Arc<MetricSummary>,
    #[expect(dead_code, reason = "its drop removes the metrics")]
    lifetime: MetricLifetime,
}

/// Removes the metrics with these labels when nobody holds them any more.
struct MetricLifetime {
    metrics: Metrics,
    mechanism: &'static str,
    pool: String,
}

impl Drop for MetricLifetime {
    fn drop(&mut self) {
        self.metrics.forget_unused(&[("mechanism", self.mechanism), ("config", &self.pool)]);
    }
}

impl RefreshMetrics {
    fn new(mechanism: &'static str, context: &DiscoveryContext<'_>) -> RefreshMetrics {
        let labels = [("mechanism", mechanism), ("config", context.pool)];
        let metrics = context.metrics;
        RefreshMetrics {
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
            lifetime: MetricLifetime { metrics: metrics.clone(), mechanism, pool: context.pool.to_owned() },
        }
    }
}

impl<R: Refresh> Polling<R> {
    /// `mechanism` is Prometheus' name: `http`.
    pub fn start(
        mechanism: &'static str,
        interval: Duration,
        refresh: R,
        context: &DiscoveryContext<'_>,
    ) -> Box<dyn Discoverer> {
        Box::new(Polling {
            refresh,
            interval,
            mechanism,
            pool: context.pool.to_owned(),
            own: RefreshMetrics::new(mechanism, context),
            histogram: context.metrics.histogram(
                "prometheus_sd_refresh_duration_histogram_seconds",
                "The duration of a refresh for the given SD mechanism.",
                &[("mechanism", mechanism)],
                &[0.01, 0.1, 1.0, 10.0],
            ),
        })
    }

    async fn refresh_once(&mut self, report: &TargetSender) {
        let started = Instant::now();
        let outcome = self.refresh.refresh().await;
        let seconds = started.elapsed().as_secs_f64();
        // Also of refreshes that fail, as in Prometheus: a timeout is what one wants to see.
        self.own.seconds.observe(seconds);
        self.histogram.observe(seconds);
        match outcome {
            Ok(targets) => report.send(targets),
            Err(error) => {
                self.own.failures.inc();
                self.log(&error);
            }
        }
    }
}

impl<R> Polling<R> {
    /// The level says who must act: a warning goes away by itself, an error does not.
    fn log(&self, error: &RefreshError) {
        let pool = &self.pool;
        let mechanism = self.mechanism;
        if error.needs_action() {
            tracing::error!(
                target: "discovery", pool, mechanism, %error,
                "unable to refresh targets; the previous ones stay until the cause is removed"
            );
        } else {
            tracing::warn!(
                target: "discovery", pool, mechanism, %error,
                "unable to refresh targets; the previous ones stay and the next refresh tries again"
            );
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
                // From the start and not from the end of a refresh, or a slow server would stretch
                // the interval.
                tokio::time::sleep_until(started + wait).await;
                wait = self.interval;
            }
        })
    }
}
