//! Metrics of scraping about itself, under Prometheus' names (`prometheus_target_…`, and of
//! `prometheus_sd_…` what is counted for each list of targets).

use crate::scrape::appender::ScrapeCounts;
use std::sync::Arc;
use storage::metrics::{Counter, Gauge, MetricSummary, Metrics};
use storage::model::TimeMs;

/// The quantiles of intervals and syncs, as in Prometheus.
const QUANTILES: [f64; 5] = [0.01, 0.05, 0.5, 0.9, 0.99];

/// Counters that all scrape loops share.
pub struct ScrapeMetrics {
    registry: Metrics,
    /// Scrapes whose body exceeded `body_size_limit`.
    pub exceeded_body_size_limit: Arc<Counter>,
    /// Scrapes that exceeded `sample_limit`.
    pub exceeded_sample_limit: Arc<Counter>,
    /// Scrapes that exposed a histogram with too many buckets.
    pub exceeded_bucket_limit: Arc<Counter>,
    /// Scrapes that exceeded a label limit.
    pub exceeded_label_limits: Arc<Counter>,
    /// Syncs that found more targets than `target_limit`.
    pub exceeded_target_limit: Arc<Counter>,
    duplicates: Arc<Counter>,
    out_of_order: Arc<Counter>,
    out_of_bounds: Arc<Counter>,
    late_exemplars: Arc<Counter>,
    samples: Arc<Counter>,
    /// Pools that were started.
    pub pools: Arc<Counter>,
    /// Reloads of pools whose job changed.
    pub pool_reloads: Arc<Counter>,
    /// Pools that could not be started.
    pub failed_pools: Arc<Counter>,
    /// Reloads of pools that failed.
    pub failed_pool_reloads: Arc<Counter>,
    found_lists: [Arc<Counter>; 2],
    last_list: Arc<Gauge>,
}

impl ScrapeMetrics {
    /// Registers all counters, so that they are exported before the first event.
    pub fn new(registry: &Metrics) -> ScrapeMetrics {
        let counter = |name, help| registry.counter(name, help, &[]);
        ScrapeMetrics {
            exceeded_body_size_limit: counter(
                "prometheus_target_scrapes_exceeded_body_size_limit_total",
                "Scrapes that hit the body size limit.",
            ),
            exceeded_sample_limit: counter(
                "prometheus_target_scrapes_exceeded_sample_limit_total",
                "Scrapes that hit the sample limit and were rejected.",
            ),
            exceeded_bucket_limit: counter(
                "prometheus_target_scrapes_exceeded_native_histogram_bucket_limit_total",
                "Scrapes that hit the native histogram bucket limit and were rejected.",
            ),
            exceeded_label_limits: counter(
                "prometheus_target_scrape_pool_exceeded_label_limits_total",
                "Scrapes that hit a label limit and were rejected.",
            ),
            exceeded_target_limit: counter(
                "prometheus_target_scrape_pool_exceeded_target_limit_total",
                "Times a pool had more targets than its limit.",
            ),
            duplicates: counter(
                "prometheus_target_scrapes_sample_duplicate_timestamp_total",
                "Samples rejected because their series already had one at that time.",
            ),
            out_of_order: counter(
                "prometheus_target_scrapes_sample_out_of_order_total",
                "Samples rejected because they were behind the out-of-order window.",
            ),
            out_of_bounds: counter(
                "prometheus_target_scrapes_sample_out_of_bounds_total",
                "Samples rejected because they were too old for any series, or too far in the future.",
            ),
            late_exemplars: counter(
                "prometheus_target_scrapes_exemplar_out_of_order_total",
                "Exemplars rejected because they were behind the out-of-order window.",
            ),
            samples: counter("perennial_scrape_samples_total", "Samples kept by all scrapes."),
            pools: counter("prometheus_target_scrape_pools_total", "Scrape pools created."),
            pool_reloads: counter("prometheus_target_scrape_pool_reloads_total", "Scrape pools reloaded."),
            failed_pools: counter(
                "prometheus_target_scrape_pools_failed_total",
                "Scrape pools that could not be created.",
            ),
            failed_pool_reloads: counter(
                "prometheus_target_scrape_pool_reloads_failed_total",
                "Reloads of scrape pools that failed.",
            ),
            // Each list goes from its discovery to its pool at once.
            found_lists: [
                ("prometheus_sd_received_updates_total", "Lists of targets that a discovery has given."),
                ("prometheus_sd_updates_total", "Lists of targets that were handed to a scrape pool."),
            ]
            .map(|(name, help)| registry.counter(name, help, &[("name", "scrape")])),
            last_list: registry.gauge(
                "prometheus_sd_last_update_timestamp_seconds",
                "When the last list of targets was handed to a scrape pool.",
                &[("name", "scrape")],
            ),
            registry: registry.clone(),
        }
    }

    /// Adds the counts of one scrape.
    pub fn count(&self, counts: &ScrapeCounts) {
        self.samples.add(counts.kept as u64);
        self.duplicates.add(counts.duplicates as u64);
        self.out_of_order.add(counts.too_old as u64);
        self.out_of_bounds.add(counts.out_of_bounds as u64);
        self.late_exemplars.add(counts.late_exemplars as u64);
    }

    /// Records a sync of a pool: the numbers of discovered targets, active targets, the target
    /// limit, and failed targets.
    pub fn synced(&self, job: &str, discovered: usize, targets: usize, limit: usize, failed: usize) {
        let discovery = [("config", job), ("name", "scrape")];
        let help = "Current number of discovered targets.";
        self.registry.gauge("prometheus_sd_discovered_targets", help, &discovery).set(discovered as f64);
        for lists in &self.found_lists {
            lists.inc();
        }
        let labels = [("scrape_job", job)];
        let gauge = |name, help| self.registry.gauge(name, help, &labels);
        let counter = |name, help| self.registry.counter(name, help, &labels);
        gauge("prometheus_target_scrape_pool_targets", "Targets of this pool.").set(targets as f64);
        let limit = if limit == usize::MAX { 0.0 } else { limit as f64 };
        gauge("prometheus_target_scrape_pool_target_limit", "Most targets of this pool.").set(limit);
        counter("prometheus_target_scrape_pool_sync_total", "Syncs of this pool.").inc();
        counter("prometheus_target_sync_failed_total", "Targets that could not be made.").add(failed as u64);
    }

    /// Records that a sync of a pool took so many seconds, up to the time `now` (ms).
    pub fn sync_length(&self, job: &str, seconds: f64, now: TimeMs) {
        self.last_list.set(now as f64 / 1_000.0);
        let name = "prometheus_target_sync_length_seconds";
        let help = "What a sync of the scrape pool took.";
        self.registry.summary_of(name, help, &[("scrape_job", job)], &QUANTILES).observe(seconds);
    }

    /// The summary of the true intervals between the scrapes of targets whose interval is so many
    /// ms.
    pub fn interval_lengths(&self, interval: TimeMs) -> Arc<MetricSummary> {
        let name = "prometheus_target_interval_length_seconds";
        let help = "Actual intervals between scrapes.";
        self.registry.summary_of(name, help, &[("interval", &go_duration(interval))], &QUANTILES)
    }

    /// Records how many metric families the targets of a pool describe, and the bytes of their
    /// names and texts.
    pub fn metadata_cache(&self, job: &str, entries: usize, bytes: usize) {
        let labels = [("scrape_job", job)];
        let gauge = |name, help| self.registry.gauge(name, help, &labels);
        gauge("prometheus_target_metadata_cache_entries", "Metric families whose metadata is cached.")
            .set(entries as f64);
        gauge("prometheus_target_metadata_cache_bytes", "Bytes of the metadata that is cached.")
            .set(bytes as f64);
    }
}

/// A time in ms as Go writes durations: `1m30s` is `1m30s`, a minute `1m0s`, `1500` ms `1.5s`.
fn go_duration(ms: TimeMs) -> String {
    if ms < 1_000 {
        return format!("{ms}ms");
    }
    let seconds = (ms % 60_000) as f64 / 1_000.0;
    let minutes = ms / 60_000;
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_written_as_in_go() {
        let cases =
            [(15_000, "15s"), (60_000, "1m0s"), (90_500, "1m30.5s"), (500, "500ms"), (3_600_000, "1h0m0s")];
        for (ms, text) in cases {
            assert_eq!(go_duration(ms), text);
        }
    }
}
