//! The metrics of a queue of remote write, under Prometheus' names
//! (`prometheus_remote_storage_samples_total` and others).

use std::sync::Arc;
use storage::metrics::{Counter, Gauge, MetricHistogram, Metrics};
use storage::store::LoggedSamples;

/// The bounds of the duration of a request, seconds.
const DURATION_BOUNDS: [f64; 15] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 120.0, 300.0];

/// The values of the label `type` of records that were read.
const RECORD_TYPES: [&str; 2] = ["samples", "histogram_samples"];

/// What is sent.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum ItemKind {
    /// A float.
    Sample,
    /// An exemplar.
    Exemplar,
    /// A native histogram.
    Histogram,
}

/// Why an item is not sent.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum DropReason {
    /// It is older than `sample_age_limit`.
    TooOld,
    /// The relabelling rules drop its series.
    DroppedSeries,
    /// The labels of its series are not known.
    UnknownSeries,
    /// Remote write 1.0 has no histograms with custom buckets.
    CustomBuckets,
    /// An exemplar for which no sample came that it could go with.
    NoSample,
}

impl DropReason {
    const ALL: [DropReason; 5] = [
        DropReason::TooOld,
        DropReason::DroppedSeries,
        DropReason::UnknownSeries,
        DropReason::CustomBuckets,
        DropReason::NoSample,
    ];

    /// The value of the label `reason`.
    fn as_str(self) -> &'static str {
        match self {
            DropReason::TooOld => "too_old",
            DropReason::DroppedSeries => "dropped_series",
            DropReason::UnknownSeries => "unintentionally_dropped_series",
            DropReason::CustomBuckets => "nhcb_in_rw1_not_supported",
            DropReason::NoSample => "without_sample",
        }
    }
}

/// Numbers of items by kind.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ItemCounts {
    pub samples: u64,
    pub exemplars: u64,
    pub histograms: u64,
}

impl ItemCounts {
    /// All items.
    pub(super) fn total(self) -> u64 {
        self.samples + self.exemplars + self.histograms
    }

    /// Counts one item.
    pub(super) fn add(&mut self, kind: ItemKind) {
        match kind {
            ItemKind::Sample => self.samples += 1,
            ItemKind::Exemplar => self.exemplars += 1,
            ItemKind::Histogram => self.histograms += 1,
        }
    }

    /// What is left without `other`.
    pub(super) fn without(self, other: ItemCounts) -> ItemCounts {
        ItemCounts {
            samples: self.samples.saturating_sub(other.samples),
            exemplars: self.exemplars.saturating_sub(other.exemplars),
            histograms: self.histograms.saturating_sub(other.histograms),
        }
    }
}

/// A counter for each kind of item.
pub(super) struct KindCounters([Arc<Counter>; 3]);

impl KindCounters {
    /// Adds the counts to the counters.
    pub(super) fn add(&self, counts: ItemCounts) {
        let [samples, exemplars, histograms] = &self.0;
        samples.add(counts.samples);
        exemplars.add(counts.exemplars);
        histograms.add(counts.histograms);
    }

    /// Counts one item.
    fn inc(&self, kind: ItemKind) {
        let [samples, exemplars, histograms] = &self.0;
        match kind {
            ItemKind::Sample => samples.inc(),
            ItemKind::Exemplar => exemplars.inc(),
            ItemKind::Histogram => histograms.inc(),
        }
    }
}

/// A gauge for each kind of item.
pub(super) struct KindGauges([Arc<Gauge>; 3]);

impl KindGauges {
    /// Adds the counts (`sign` 1), or takes them away (-1).
    pub(super) fn add(&self, counts: ItemCounts, sign: f64) {
        let [samples, exemplars, histograms] = &self.0;
        samples.add(counts.samples as f64 * sign);
        exemplars.add(counts.exemplars as f64 * sign);
        histograms.add(counts.histograms as f64 * sign);
    }
}

/// The metrics of a queue. They vanish when it is dropped.
pub(super) struct QueueMetrics {
    registry: Metrics,
    name: String,
    url: String,
    pub items: ItemMetrics,
    pub requests: RequestMetrics,
    pub metadata: MetadataMetrics,
    pub shards: ShardMetrics,
    pub log: LogMetrics,
}

/// What becomes of samples, exemplars and histograms.
pub(super) struct ItemMetrics {
    pub sent: KindCounters,
    pub failed: KindCounters,
    pub retried: KindCounters,
    dropped: [KindCounters; 5],
    pub pending: KindGauges,
    /// The newest time that was put into a request, and that was sent, seconds.
    pub highest: Arc<Gauge>,
    pub highest_sent: Arc<Gauge>,
}

/// The requests of a queue.
pub(super) struct RequestMetrics {
    pub duration: Arc<MetricHistogram>,
    pub bytes: Arc<Counter>,
    pub enqueue_retries: Arc<Counter>,
    /// Items of a request at most.
    pub batch: Arc<Gauge>,
}

/// Metadata in requests of their own.
pub(super) struct MetadataMetrics {
    pub sent: Arc<Counter>,
    pub failed: Arc<Counter>,
    pub retried: Arc<Counter>,
    pub bytes: Arc<Counter>,
}

/// The number of shards, and its limits.
pub(super) struct ShardMetrics {
    pub capacity: Arc<Gauge>,
    pub running: Arc<Gauge>,
    pub most: Arc<Gauge>,
    pub least: Arc<Gauge>,
    pub desired: Arc<Gauge>,
}

/// What a queue reads of the log.
pub(super) struct LogMetrics {
    pub segment: Arc<Gauge>,
    pub failures: Arc<Counter>,
    /// Records with floats, and with histograms.
    records: [Arc<Counter>; 2],
    old_records: Arc<Counter>,
    pub missing: Arc<Counter>,
    pub behind: Arc<Gauge>,
}

impl QueueMetrics {
    /// The metrics of the queue `name` for `url`, which has no password.
    pub(super) fn new(registry: &Metrics, name: &str, url: &str) -> QueueMetrics {
        let labels = [("remote_name", name), ("url", url)];
        QueueMetrics {
            registry: registry.clone(),
            name: name.to_owned(),
            url: url.to_owned(),
            items: ItemMetrics::new(registry, &labels),
            requests: RequestMetrics::new(registry, &labels),
            metadata: MetadataMetrics::new(registry, &labels),
            shards: ShardMetrics::new(registry, &labels),
            log: LogMetrics::new(registry, name, &labels),
        }
    }
}

impl ItemMetrics {
    fn new(registry: &Metrics, labels: &[(&str, &str); 2]) -> ItemMetrics {
        let gauge = |name, help| registry.gauge(name, help, labels);
        ItemMetrics {
            sent: sent_items(registry, labels),
            failed: failed_items(registry, labels),
            retried: retried_items(registry, labels),
            dropped: DropReason::ALL.map(|reason| dropped(registry, labels, reason)),
            pending: pending_items(registry, labels),
            highest: gauge(
                "prometheus_remote_storage_queue_highest_timestamp_seconds",
                "Highest timestamp that was enqueued, in seconds since epoch.",
            ),
            highest_sent: gauge(
                "prometheus_remote_storage_queue_highest_sent_timestamp_seconds",
                "Timestamp from a WAL sample, the highest timestamp successfully sent by this queue, in seconds since epoch.",
            ),
        }
    }

    /// Counts an item that is not sent.
    pub(super) fn count_dropped(&self, kind: ItemKind, reason: DropReason) {
        self.dropped[reason as usize].inc(kind);
    }
}

impl RequestMetrics {
    fn new(registry: &Metrics, labels: &[(&str, &str)]) -> RequestMetrics {
        let counter = |name, help| registry.counter(name, help, labels);
        RequestMetrics {
            duration: registry.histogram(
                "prometheus_remote_storage_sent_batch_duration_seconds",
                "Duration of send calls to the remote storage.",
                labels,
                &DURATION_BOUNDS,
            ),
            bytes: counter(
                "prometheus_remote_storage_bytes_total",
                "The total number of bytes of data (not metadata) sent by the queue after compression.",
            ),
            enqueue_retries: counter(
                "prometheus_remote_storage_enqueue_retries_total",
                "Total number of times enqueue has failed because a shards queue was full.",
            ),
            batch: registry.gauge(
                "prometheus_remote_storage_max_samples_per_send",
                "The maximum number of samples to be sent, in a single request, to the remote storage.",
                labels,
            ),
        }
    }
}

impl MetadataMetrics {
    fn new(registry: &Metrics, labels: &[(&str, &str)]) -> MetadataMetrics {
        let counter = |name, help| registry.counter(name, help, labels);
        MetadataMetrics {
            sent: counter(
                "prometheus_remote_storage_metadata_total",
                "Total number of metadata entries sent to remote storage.",
            ),
            failed: counter(
                "prometheus_remote_storage_metadata_failed_total",
                "Total number of metadata entries which failed on send to remote storage, non-recoverable errors.",
            ),
            retried: counter(
                "prometheus_remote_storage_metadata_retried_total",
                "Total number of metadata entries which failed on send to remote storage but were retried because the send error was recoverable.",
            ),
            bytes: counter(
                "prometheus_remote_storage_metadata_bytes_total",
                "The total number of bytes of metadata sent by the queue after compression.",
            ),
        }
    }
}

impl ShardMetrics {
    fn new(registry: &Metrics, labels: &[(&str, &str)]) -> ShardMetrics {
        let gauge = |name, help| registry.gauge(name, help, labels);
        ShardMetrics {
            capacity: gauge(
                "prometheus_remote_storage_shard_capacity",
                "The capacity of each shard of the queue used for parallel sending to the remote storage.",
            ),
            running: gauge(
                "prometheus_remote_storage_shards",
                "The number of shards used for parallel sending to the remote storage.",
            ),
            most: gauge(
                "prometheus_remote_storage_shards_max",
                "The maximum number of shards that the queue is allowed to run.",
            ),
            least: gauge(
                "prometheus_remote_storage_shards_min",
                "The minimum number of shards that the queue is allowed to run.",
            ),
            desired: gauge(
                "prometheus_remote_storage_shards_desired",
                "The number of shards that the queues shard calculation wants to run based on the rate of samples in vs. samples out.",
            ),
        }
    }
}

impl LogMetrics {
    fn new(registry: &Metrics, queue: &str, labels: &[(&str, &str)]) -> LogMetrics {
        let consumer = [("consumer", queue)];
        LogMetrics {
            segment: registry.gauge(
                "prometheus_wal_watcher_current_segment",
                "Current segment the WAL watcher is reading records from.",
                &consumer,
            ),
            failures: registry.counter(
                "prometheus_wal_watcher_record_decode_failures_total",
                "Number of records read by the WAL watcher that resulted in an error when decoding.",
                &consumer,
            ),
            records: RECORD_TYPES.map(|kind| read_records(registry, queue, kind)),
            old_records: old_records(registry, queue),
            missing: registry.counter(
                "perennial_remote_storage_missing_records_total",
                "Records of the log that were removed before this queue had read them: their samples are not sent.",
                labels,
            ),
            behind: registry.gauge(
                "perennial_remote_storage_queue_behind_records",
                "Records of the log that this queue has not read yet.",
                labels,
            ),
        }
    }

    /// Counts a record of the log that was read; `is_old`: it was there when the server started.
    pub(super) fn count_record(&self, samples: &LoggedSamples, is_old: bool) {
        let [floats, histograms] = &self.records;
        if samples.histograms.is_empty() {
            floats.inc();
        } else {
            histograms.inc();
        }
        if is_old {
            self.old_records.inc();
        }
    }
}

/// Counts the records of one type that were read from the log.
fn read_records(registry: &Metrics, queue: &str, kind: &str) -> Arc<Counter> {
    registry.counter(
        "prometheus_wal_watcher_records_read_total",
        "Number of records read by the WAL watcher from the WAL.",
        &[("consumer", queue), ("type", kind)],
    )
}

/// Counts the records that were in the log when the server started.
fn old_records(registry: &Metrics, queue: &str) -> Arc<Counter> {
    registry.counter(
        "prometheus_wal_watcher_samples_sent_pre_tailing_total",
        "Number of sample records read by the WAL watcher and sent to remote write during replay of existing WAL.",
        &[("consumer", queue)],
    )
}

/// Counts what receivers have accepted.
fn sent_items(registry: &Metrics, labels: &[(&str, &str)]) -> KindCounters {
    let counter = |name, help| registry.counter(name, help, labels);
    KindCounters([
        counter("prometheus_remote_storage_samples_total", "Total number of samples sent to remote storage."),
        counter(
            "prometheus_remote_storage_exemplars_total",
            "Total number of exemplars sent to remote storage.",
        ),
        counter(
            "prometheus_remote_storage_histograms_total",
            "Total number of histograms sent to remote storage.",
        ),
    ])
}

/// Counts what receivers have refused for good.
fn failed_items(registry: &Metrics, labels: &[(&str, &str)]) -> KindCounters {
    let counter = |name, help| registry.counter(name, help, labels);
    KindCounters([
        counter(
            "prometheus_remote_storage_samples_failed_total",
            "Total number of samples which failed on send to remote storage, non-recoverable errors.",
        ),
        counter(
            "prometheus_remote_storage_exemplars_failed_total",
            "Total number of exemplars which failed on send to remote storage, non-recoverable errors.",
        ),
        counter(
            "prometheus_remote_storage_histograms_failed_total",
            "Total number of histograms which failed on send to remote storage, non-recoverable errors.",
        ),
    ])
}

/// Counts what was sent again.
fn retried_items(registry: &Metrics, labels: &[(&str, &str)]) -> KindCounters {
    let counter = |name, help| registry.counter(name, help, labels);
    KindCounters([
        counter(
            "prometheus_remote_storage_samples_retried_total",
            "Total number of samples which failed on send to remote storage but were retried because the send error was recoverable.",
        ),
        counter(
            "prometheus_remote_storage_exemplars_retried_total",
            "Total number of exemplars which failed on send to remote storage but were retried because the send error was recoverable.",
        ),
        counter(
            "prometheus_remote_storage_histograms_retried_total",
            "Total number of histograms which failed on send to remote storage but were retried because the send error was recoverable.",
        ),
    ])
}

/// Counts what waits in the queues.
fn pending_items(registry: &Metrics, labels: &[(&str, &str)]) -> KindGauges {
    let gauge = |name, help| registry.gauge(name, help, labels);
    KindGauges([
        gauge(
            "prometheus_remote_storage_samples_pending",
            "The number of samples pending in the queues shards to be sent to the remote storage.",
        ),
        gauge(
            "prometheus_remote_storage_exemplars_pending",
            "The number of exemplars pending in the queues shards to be sent to the remote storage.",
        ),
        gauge(
            "prometheus_remote_storage_histograms_pending",
            "The number of histograms pending in the queues shards to be sent to the remote storage.",
        ),
    ])
}

/// Counts what was not sent for one reason.
fn dropped(registry: &Metrics, labels: &[(&str, &str); 2], reason: DropReason) -> KindCounters {
    let labels = [("reason", reason.as_str()), labels[0], labels[1]];
    let counter = |name, help| registry.counter(name, help, &labels);
    KindCounters([
        counter(
            "prometheus_remote_storage_samples_dropped_total",
            "Total number of samples which were dropped after being read from the WAL before being sent via remote write, either via relabelling, due to being too old or unintentionally because of an unknown reference ID.",
        ),
        counter(
            "prometheus_remote_storage_exemplars_dropped_total",
            "Total number of exemplars which were dropped after being read from the WAL before being sent via remote write, either via relabelling, due to being too old or unintentionally because of an unknown reference ID.",
        ),
        counter(
            "prometheus_remote_storage_histograms_dropped_total",
            "Total number of histograms which were dropped after being read from the WAL before being sent via remote write, either via relabelling, due to being too old or unintentionally because of an unknown reference ID.",
        ),
    ])
}

impl Drop for QueueMetrics {
    fn drop(&mut self) {
        let labels = [("remote_name", self.name.as_str()), ("url", self.url.as_str())];
        self.registry.forget(&labels);
        self.registry.forget(&[("consumer", &self.name)]);
        for kind in RECORD_TYPES {
            self.registry.forget(&[("consumer", &self.name), ("type", kind)]);
        }
        for reason in DropReason::ALL {
            self.registry.forget(&[("reason", reason.as_str()), labels[0], labels[1]]);
        }
    }
}
