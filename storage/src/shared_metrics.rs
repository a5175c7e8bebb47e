//! Metrics of the store that are counted or read at more than one place. Each has its name and its
//! help text here; whoever asks first registers it, and the others get the same counter or gauge.
//!
//! `store::stats` has those that belong to the store alone.

use crate::metrics::{Counter, Gauge, Metrics};
use std::sync::Arc;

/// The kind of a sample, as the label `type` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleType {
    /// A float.
    Float,
    /// A native histogram.
    Histogram,
}

/// Samples stored.
pub fn appended_samples(metrics: &Metrics, kind: SampleType) -> Arc<Counter> {
    let kind = match kind {
        SampleType::Float => "float",
        SampleType::Histogram => "histogram",
    };
    let name = "prometheus_tsdb_head_samples_appended_total";
    metrics.counter(name, "Samples stored.", &[("type", kind)])
}

/// Exemplars stored.
pub fn appended_exemplars(metrics: &Metrics) -> Arc<Counter> {
    metrics.counter("prometheus_tsdb_exemplar_exemplars_appended_total", "Exemplars stored.", &[])
}

/// Series in the head.
pub fn head_series(metrics: &Metrics) -> Arc<Gauge> {
    metrics.gauge("prometheus_tsdb_head_series", "Series in the head.", &[])
}

/// Whether the last start found a log that was closed.
pub fn clean_start(metrics: &Metrics) -> Arc<Gauge> {
    let help = "Whether the log ended with an orderly close at the last start.";
    metrics.gauge("prometheus_tsdb_clean_start", help, &[])
}

/// Damaged positions of the log.
pub fn log_corruptions(metrics: &Metrics) -> Arc<Counter> {
    let help = "Damaged positions found in the log.";
    metrics.counter("prometheus_tsdb_wal_corruptions_total", help, &[])
}

/// Samples that are older than the window of late samples.
pub fn too_old_samples(metrics: &Metrics) -> Arc<Counter> {
    let help = "Samples refused: older than the window of late samples.";
    metrics.counter("prometheus_tsdb_too_old_samples_total", help, &[])
}

/// Samples that are older than the store accepts for any series.
pub fn out_of_bound_samples(metrics: &Metrics) -> Arc<Counter> {
    let help = "Samples refused: older than the store accepts for any series.";
    metrics.counter("prometheus_tsdb_out_of_bound_samples_total", help, &[])
}

/// Blocks that were written, from the head and of other blocks: Prometheus counts both as
/// compactions.
pub(crate) fn compactions(metrics: &Metrics) -> Arc<Counter> {
    let help = "Blocks written from the head, and merges of blocks that succeeded.";
    metrics.counter("prometheus_tsdb_compactions_total", help, &[])
}

/// What [`compactions`] counts, where it failed.
pub(crate) fn failed_compactions(metrics: &Metrics) -> Arc<Counter> {
    let help = "Flushes of the head and merges of blocks that failed.";
    metrics.counter("prometheus_tsdb_compactions_failed_total", help, &[])
}
