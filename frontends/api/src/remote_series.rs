//! Adds the series of the servers of `remote_read` to `/api/v1/series`. Label names and values are
//! only those of the own store, with a warning, as in Prometheus.

use super::AppState;
use engine::memory::MemoryReservation;
use engine::query::guard::QueryGuard;
use engine::query::{QueryError, QueryOptions, RemoteSelection, count_labels};
use storage::model::{Labels, Matcher, TimeMs};

/// A list of series, and why something may be missing.
pub(crate) struct SeriesList {
    /// The series, sorted, each once.
    pub series: Vec<Labels>,
    /// The warnings.
    pub warnings: Vec<String>,
}

/// The series of the own store with those of other servers. Blocks.
pub(crate) fn with_remote_series(
    state: &AppState,
    own: Vec<Labels>,
    sets: &[Vec<Matcher>],
    from: TimeMs,
    to: TimeMs,
    memory: &MemoryReservation,
) -> Result<SeriesList, QueryError> {
    let Some(remote) = &state.sources.queries.remote_stores else {
        return Ok(SeriesList { series: own, warnings: Vec::new() });
    };
    let selection = |matchers: &Vec<Matcher>| RemoteSelection {
        matchers: matchers.clone(),
        from,
        to,
        step: 0,
        function: "series",
        range: 0,
    };
    let selections: Vec<RemoteSelection> = sets.iter().map(selection).collect();
    let options = QueryOptions {
        timeout: state.settings.queries.timeout,
        max_bytes: state.settings.queries.max_bytes,
        ..QueryOptions::default()
    };
    // The samples that come count in a memory of their own, which ends here.
    let guard = QueryGuard::within(&options, &state.sources.queries.memory);
    let answer = remote.read(&selections, &guard)?;
    let mut series = own;
    for (labels, _) in answer.series.iter().flatten() {
        count_labels(memory, labels)?;
        series.push(labels.clone());
    }
    series.sort_unstable();
    series.dedup();
    Ok(SeriesList { series, warnings: answer.warnings })
}

/// The warnings of a list of label names or values.
pub(crate) fn label_warnings(state: &AppState, from: TimeMs, to: TimeMs) -> Vec<String> {
    state
        .sources
        .queries
        .remote_stores
        .as_ref()
        .map(|remote| remote.label_warnings(from, to))
        .unwrap_or_default()
}
