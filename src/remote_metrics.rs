//! The metrics of remote storage and of an agent under Prometheus' names. The store counts the same
//! under other names; these metrics are set from its counters for each request of `/metrics`.

use std::sync::Arc;
use storage::metrics::{Counter, Gauge, Metrics};
use storage::shared_metrics::{self, SampleType};
use storage::store::Store;

/// The metrics of the store that are shown under other names, too.
struct StoreCounters {
    floats: Arc<Counter>,
    histograms: Arc<Counter>,
    exemplars: Arc<Counter>,
}

/// A counter of the store, and the metric that shows the same.
struct CounterCopy {
    of: Arc<Counter>,
    copy: Arc<Gauge>,
}

/// Metrics that show what others count.
pub(crate) struct RemoteMetrics {
    counters: Vec<CounterCopy>,
    /// The newest time in the store, seconds.
    newest: Arc<Gauge>,
    agent: Option<AgentMetrics>,
}

/// What only an agent has, besides copies of counters.
struct AgentMetrics {
    head_series: Arc<Gauge>,
    active_series: Arc<Gauge>,
    /// Samples that are refused as too old.
    refused: [Arc<Counter>; 2],
    out_of_order: Arc<Gauge>,
    clean: Arc<Gauge>,
    clean_start: Arc<Gauge>,
}

impl RemoteMetrics {
    /// Registers the metrics; those of agents for an agent alone.
    pub(crate) fn new(metrics: &Metrics, is_agent: bool) -> RemoteMetrics {
        let store = StoreCounters {
            floats: shared_metrics::appended_samples(metrics, SampleType::Float),
            histograms: shared_metrics::appended_samples(metrics, SampleType::Histogram),
            exemplars: shared_metrics::appended_exemplars(metrics),
        };
        let mut counters = incoming(metrics, &store);
        if is_agent {
            counters.extend(of_agent(metrics, &store));
        }
        RemoteMetrics {
            counters,
            newest: metrics.gauge(
                "prometheus_remote_storage_highest_timestamp_in_seconds",
                "Highest timestamp that has come into the remote storage, in seconds since epoch.",
                &[],
            ),
            agent: is_agent.then(|| AgentMetrics::new(metrics)),
        }
    }

    /// Sets all of them.
    pub(crate) fn collect(&self, store: &Store) {
        for CounterCopy { of, copy } in &self.counters {
            copy.set(of.get() as f64);
        }
        let newest = store.status().newest_time();
        self.newest.set(newest.map_or(0.0, |t| t.div_euclid(1000) as f64));
        let Some(agent) = &self.agent else { return };
        agent.active_series.set(agent.head_series.get());
        agent.clean_start.set(agent.clean.get());
        agent.out_of_order.set(agent.refused.iter().map(|counter| counter.get() as f64).sum());
    }
}

/// The samples that remote storage receives.
fn incoming(metrics: &Metrics, store: &StoreCounters) -> Vec<CounterCopy> {
    let shown =
        |of: &Arc<Counter>, name, help| CounterCopy { of: of.clone(), copy: metrics.total(name, help, &[]) };
    vec![
        shown(
            &store.floats,
            "prometheus_remote_storage_samples_in_total",
            "Samples in to remote storage, compare to samples out for queue managers.",
        ),
        shown(
            &store.exemplars,
            "prometheus_remote_storage_exemplars_in_total",
            "Exemplars in to remote storage, compare to exemplars out for queue managers.",
        ),
        shown(
            &store.histograms,
            "prometheus_remote_storage_histograms_in_total",
            "HistogramSamples in to remote storage, compare to histograms out for queue managers.",
        ),
    ]
}

/// What an agent stores.
fn of_agent(metrics: &Metrics, store: &StoreCounters) -> Vec<CounterCopy> {
    let shown = |of: &Arc<Counter>, name, help, labels: &[(&str, &str)]| CounterCopy {
        of: of.clone(),
        copy: metrics.total(name, help, labels),
    };
    let appended = "prometheus_agent_samples_appended_total";
    let help = "Total number of samples appended to the storage";
    let corruptions = shared_metrics::log_corruptions(metrics);
    vec![
        shown(&store.floats, appended, help, &[("type", "float")]),
        shown(&store.histograms, appended, help, &[("type", "histogram")]),
        shown(
            &store.exemplars,
            "prometheus_agent_exemplars_appended_total",
            "Total number of exemplars appended to the storage",
            &[],
        ),
        shown(&corruptions, "prometheus_agent_corruptions_total", "Total number of WAL corruptions.", &[]),
    ]
}

impl AgentMetrics {
    fn new(metrics: &Metrics) -> AgentMetrics {
        AgentMetrics {
            head_series: shared_metrics::head_series(metrics),
            active_series: metrics.gauge(
                "prometheus_agent_active_series",
                "Number of active series being tracked by the WAL storage",
                &[],
            ),
            refused: [
                shared_metrics::too_old_samples(metrics),
                shared_metrics::out_of_bound_samples(metrics),
            ],
            out_of_order: metrics.total(
                "prometheus_agent_out_of_order_samples_total",
                "Total number of out of order samples ingestion failed attempts.",
                &[],
            ),
            clean: shared_metrics::clean_start(metrics),
            clean_start: metrics.gauge(
                "prometheus_agent_clean_start",
                "Whether the log ended with an orderly close at the last start.",
                &[],
            ),
        }
    }
}
