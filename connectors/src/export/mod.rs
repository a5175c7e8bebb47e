//! Export: writes history from a store in a format that other programs read.
//!
//! [`export`] finds the series, sorted by metric name and labels, and reads one at a time. An
//! [`ExportWriter`] writes it: [`csv`], [`openmetrics`] or [`parquet`]. What a format cannot
//! represent is counted, never left out silently.

pub mod csv;
pub mod openmetrics;
pub mod parquet;

use std::collections::BTreeSet;
use std::io;
use storage::model::labels::METRIC_NAME;
use storage::model::{Labels, Matcher, SHARDS, TimeMs};
use storage::store::{Selection, Store, StoreError, TimedHistograms};

/// Why an export failed.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The store could not read the samples.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The output could not be written.
    #[error("cannot write the export: {0}")]
    Io(#[from] io::Error),
    /// The data do not fit into the format.
    #[error("{0}")]
    Unfit(String),
}

/// All samples of one series.
#[derive(Default)]
pub struct ExportedSeries {
    /// Times of floats, ascending.
    pub ts: Vec<TimeMs>,
    /// Values, parallel to `ts`; may be stale markers.
    pub vs: Vec<f64>,
    /// Histograms, at other times.
    pub histograms: TimedHistograms,
}

/// What was written and what was left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExportCounts {
    /// Number of series with samples.
    pub series: u64,
    /// Number of samples written.
    pub samples: u64,
    /// Number of native histograms left out.
    pub histograms_left_out: u64,
    /// Number of stale markers left out.
    pub stale_left_out: u64,
}

/// Writes series in one format.
///
/// # Contract
///
/// 1. `series` is called once for each series, sorted by metric name and labels, then `finish`
///    once.
/// 2. What the format cannot represent is counted in `done`, and never left out silently.
/// 3. After an error nothing more is called, and the output is not complete.
pub trait ExportWriter {
    /// Writes one series, and counts in `done`. Series come sorted by metric name and labels, each
    /// once.
    fn series(
        &mut self,
        labels: &Labels,
        samples: &ExportedSeries,
        done: &mut ExportCounts,
    ) -> Result<(), ExportError>;
    /// Writes the end of the output.
    fn finish(self: Box<Self>) -> Result<(), ExportError>;
}

/// What a writer must know before the first series.
pub struct ExportSchema {
    /// The names of all labels, sorted.
    pub labels: Vec<String>,
    /// Whether there may be histograms.
    pub histograms: bool,
}

/// Writes the samples in `from..=to` of the series that satisfy any of the matcher sets.
pub fn export<'a>(
    store: &Store,
    sets: &[Vec<Matcher>],
    from: TimeMs,
    to: TimeMs,
    sink: impl FnOnce(ExportSchema) -> Result<Box<dyn ExportWriter + 'a>, ExportError>,
) -> Result<ExportCounts, ExportError> {
    let mut selections: Vec<Selection> = Vec::new();
    // All selections at once: they are snapshots, so the export is of one moment although it may
    // take minutes.
    for (set, shard) in sets.iter().flat_map(|set| (0..SHARDS).map(move |shard| (set, shard))) {
        selections.push(store.select(shard, set, from, to)?);
    }
    let mut found: Vec<(&Labels, &Selection, usize)> = Vec::new();
    for selection in &selections {
        found.extend(selection.labels.iter().enumerate().map(|(i, labels)| (labels, selection, i)));
    }
    let name = |labels: &Labels| labels.get(METRIC_NAME).unwrap_or_default().to_owned();
    found.sort_by_cached_key(|(labels, ..)| (name(labels), (*labels).clone()));
    // A series that satisfies several sets is exported once.
    found.dedup_by(|a, b| a.0 == b.0);
    let names: BTreeSet<&str> = found.iter().flat_map(|(labels, ..)| labels.iter().map(|(n, _)| n)).collect();
    let shape = ExportSchema {
        labels: names.into_iter().map(str::to_owned).collect(),
        histograms: found.iter().any(|(_, selection, i)| selection.has_histograms(*i)),
    };
    let mut sink = sink(shape)?;
    let mut done = ExportCounts::default();
    // One series at a time in memory, in buffers that are used again.
    let mut samples = ExportedSeries::default();
    for (labels, selection, i) in found {
        samples.ts.clear();
        samples.vs.clear();
        samples.histograms.clear();
        selection.read(i, from, to, &mut samples.ts, &mut samples.vs)?;
        selection.read_histograms(i, from, to, &mut samples.histograms)?;
        if !samples.ts.is_empty() || !samples.histograms.is_empty() {
            done.series += 1;
            sink.series(labels, &samples, &mut done)?;
        }
    }
    sink.finish()?;
    Ok(done)
}

/// A value as text that reads back as the same number: `1.5`, `1e300`, `+Inf`, `NaN`.
fn number(v: f64) -> String {
    let size = v.abs();
    match size {
        _ if v.is_nan() => "NaN".to_owned(),
        _ if v.is_infinite() => if v > 0.0 { "+Inf" } else { "-Inf" }.to_owned(),
        // Rust prints exponents only on demand, and a thousand zeros without one.
        _ if v == 0.0 || (1e-5..1e17).contains(&size) => format!("{v}"),
        _ => format!("{v:e}"),
    }
}
