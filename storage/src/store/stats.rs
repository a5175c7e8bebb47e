//! The metrics of the store under Prometheus' names, and the statistics of the head for
//! `/api/v1/status/tsdb`: which metrics, label names and pairs have most series.

use super::options::HeadStats;
use crate::head::{AppendCounts, Head};
use crate::metrics::{Counter, Gauge, Metrics};
use crate::model::TimeMs;
use crate::model::labels::METRIC_NAME;
use crate::shared_metrics::{self, SampleType};
use std::collections::HashMap;
use std::sync::Arc;

/// The counters and gauges of the store.
pub(super) struct StoreMetrics {
    pub series: Arc<Gauge>,
    pub chunks: Arc<Gauge>,
    pub blocks_written: Arc<Counter>,
    pub flush_failures: Arc<Counter>,
    /// Flushes of the head, also those that failed.
    pub flushes: Arc<Counter>,
    pub failed_flushes: Arc<Counter>,
    pub corruptions: Arc<Counter>,
    pub clean_start: Arc<Gauge>,
    floats: Arc<Counter>,
    histograms: Arc<Counter>,
    out_of_order: Arc<Counter>,
    too_old: Arc<Counter>,
    out_of_bounds: Arc<Counter>,
    duplicates: Arc<Counter>,
}

impl StoreMetrics {
    /// Registers the metrics.
    pub(super) fn new(metrics: &Metrics) -> StoreMetrics {
        let counter = |name, help| metrics.counter(name, help, &[]);
        StoreMetrics {
            series: shared_metrics::head_series(metrics),
            chunks: metrics.gauge(
                "prometheus_tsdb_head_chunks",
                "Chunks in the head, as of the last housekeeping.",
                &[],
            ),
            blocks_written: shared_metrics::compactions(metrics),
            flush_failures: shared_metrics::failed_compactions(metrics),
            flushes: counter(
                "prometheus_tsdb_head_truncations_total",
                "Attempts to move samples from the head to blocks.",
            ),
            failed_flushes: counter(
                "prometheus_tsdb_head_truncations_failed_total",
                "Attempts to move samples from the head to blocks that failed.",
            ),
            corruptions: shared_metrics::log_corruptions(metrics),
            clean_start: shared_metrics::clean_start(metrics),
            floats: shared_metrics::appended_samples(metrics, SampleType::Float),
            histograms: shared_metrics::appended_samples(metrics, SampleType::Histogram),
            out_of_order: counter(
                // Not `prometheus_tsdb_out_of_order_samples_total`: Prometheus counts refused
                // samples there, and samples within the window are not refused here.
                "prometheus_tsdb_head_out_of_order_samples_appended_total",
                "Stored samples that are older than the newest of their series.",
            ),
            too_old: shared_metrics::too_old_samples(metrics),
            out_of_bounds: shared_metrics::out_of_bound_samples(metrics),
            duplicates: counter(
                "perennial_tsdb_duplicate_samples_total",
                "Samples refused: another value is stored at the same time.",
            ),
        }
    }

    /// Number of samples refused because of their time.
    pub(super) fn refused_as_too_old(&self) -> u64 {
        self.too_old.get() + self.out_of_bounds.get()
    }

    /// Counts the samples of an append.
    pub(super) fn count(&self, counts: &AppendCounts) {
        let add = |counter: &Counter, n: usize| {
            if n > 0 {
                counter.add(n as u64);
            }
        };
        add(&self.floats, counts.stored.saturating_sub(counts.histograms));
        add(&self.histograms, counts.histograms);
        add(&self.out_of_order, counts.late);
        add(&self.too_old, counts.too_old);
        add(&self.out_of_bounds, counts.out_of_bounds);
        add(&self.duplicates, counts.duplicate);
    }
}

/// Collects [`HeadStats`] over all shards.
#[derive(Default)]
pub(super) struct HeadStatsCollector {
    stats: HeadStats,
    span: Option<(TimeMs, TimeMs)>,
    pairs: HashMap<String, HashMap<String, u64>>,
}

impl HeadStatsCollector {
    /// Adds the head of one shard.
    pub(super) fn add(&mut self, head: &Head) {
        self.stats.series += head.series.active();
        self.stats.chunks += head.chunks();
        if let Some((min, max)) = head.times.span() {
            self.span = Some(self.span.map_or((min, max), |(a, b)| (a.min(min), b.max(max))));
        }
        head.series.for_each_pair(|name, value, series| {
            // Not `entry`: that would allocate the name for each of a million pairs.
            if !self.pairs.contains_key(name) {
                self.pairs.insert(name.to_owned(), HashMap::new());
            }
            let Some(values) = self.pairs.get_mut(name) else { return };
            match values.get_mut(value) {
                Some(n) => *n += series,
                None => drop(values.insert(value.to_owned(), series)),
            }
        });
    }

    /// The statistics; lists are cut to `limit` entries.
    pub(super) fn finish(mut self, limit: usize) -> HeadStats {
        (self.stats.min_time, self.stats.max_time) = self.span.unwrap_or((TimeMs::MAX, TimeMs::MIN));
        for (name, values) in &self.pairs {
            self.stats.label_pairs += values.len() as u64;
            self.stats.values_by_label.push((name.clone(), values.len() as u64));
            let bytes = values.iter().map(|(value, n)| value.len() as u64 * n).sum();
            self.stats.bytes_by_label.push((name.clone(), bytes));
            self.stats.by_pair.extend(values.iter().map(|(value, n)| (format!("{name}={value}"), *n)));
        }
        let names = self.pairs.remove(METRIC_NAME).unwrap_or_default();
        self.stats.by_metric = names.into_iter().collect();
        let stats = &mut self.stats;
        for list in
            [&mut stats.by_metric, &mut stats.values_by_label, &mut stats.bytes_by_label, &mut stats.by_pair]
        {
            // By name where numbers are equal, so that the list does not change from one request to
            // the next.
            list.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            list.truncate(limit);
        }
        self.stats
    }
}
