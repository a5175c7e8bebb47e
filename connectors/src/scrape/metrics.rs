//! Metrics of scraping about itself, under Prometheus' names (`prometheus_target_…`).

use crate::scrape::appender::ScrapeCounts;
use std::sync::Arc;
use storage::metrics::{Counter, Metrics};

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
                "prometheus_target_scrapes_histogram_exceeded_bucket_limit_total",
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
        let labels = [("scrape_job", job)];
        let gauge = |name, help| self.registry.gauge(name, help, &labels);
        let counter = |name, help| self.registry.counter(name, help, &labels);
        gauge("prometheus_target_scrape_pool_targets", "Targets of this pool.").set(targets as f64);
        let limit = if limit == usize::MAX { 0.0 } else { limit as f64 };
        gauge("prometheus_target_scrape_pool_target_limit", "Most targets of this pool.").set(limit);
        counter("prometheus_target_scrape_pool_sync_total", "Syncs of this pool.").inc();
        counter("prometheus_target_sync_failed_total", "Targets that could not be made.").add(failed as u64);
    }

    /// Records how many metric families the targets of a pool describe.
    pub fn metadata_entries(&self, job: &str, entries: usize) {
        let help = "Metric families whose metadata is cached.";
        self.registry
            .gauge("prometheus_target_metadata_cache_entries", help, &[("scrape_job", job)])
            .set(entries as f64);
    }
}
