//! `/api/v1/status/…`, `/api/v1/alertmanagers`, `/metrics` and `/version`: what the server says of itself.

use super::dispatch::Call;
use super::model::BuildInfo;
use super::names::blocking;
use super::reply::{ApiError, Reply, success, text};
use super::{AppState, limits};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;
use storage::store::HeadStats;

/// The type of the text format.
pub const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `/api/v1/status/buildinfo`
pub async fn build_info(_: Call) -> Reply {
    success(&BuildInfo::default())
}

/// `/version`
pub async fn version(_: Call) -> Response {
    text(StatusCode::OK, serde_json::to_string(&BuildInfo::default()).unwrap_or_default())
}

/// `/api/v1/status/runtimeinfo`
pub async fn runtime_info(call: Call) -> Reply {
    success(&call.state.sources.admin.runtime())
}

/// `/api/v1/status/flags`
pub async fn flags(call: Call) -> Reply {
    success(&call.state.sources.admin.flags())
}

/// `/api/v1/status/config`
pub async fn config(call: Call) -> Reply {
    success(&json!({"yaml": call.state.sources.admin.config_yaml()}))
}

/// `/api/v1/status/walreplay`
pub async fn wal_replay(call: Call) -> Reply {
    success(&call.state.sources.admin.wal_replay())
}

/// `/api/v1/alertmanagers`
pub async fn alertmanagers(call: Call) -> Reply {
    let shown = |urls: Vec<String>| urls.into_iter().map(|url| json!({"url": url})).collect::<Vec<_>>();
    let known = &call.state.sources.alertmanagers;
    success(&json!({
        "activeAlertmanagers": shown(known.active()),
        "droppedAlertmanagers": shown(known.dropped()),
    }))
}

#[derive(Serialize)]
struct Stat {
    name: String,
    value: u64,
}

fn stats(list: Vec<(String, u64)>) -> Vec<Stat> {
    list.into_iter().map(|(name, value)| Stat { name, value }).collect()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tsdb {
    head_stats: serde_json::Value,
    series_count_by_metric_name: Vec<Stat>,
    label_value_count_by_label_name: Vec<Stat>,
    memory_in_bytes_by_label_name: Vec<Stat>,
    series_count_by_label_value_pair: Vec<Stat>,
}

impl From<HeadStats> for Tsdb {
    fn from(head: HeadStats) -> Tsdb {
        Tsdb {
            head_stats: json!({
                "numSeries": head.series,
                "numLabelPairs": head.label_pairs,
                "chunkCount": head.chunks,
                "minTime": head.min_time,
                "maxTime": head.max_time,
            }),
            series_count_by_metric_name: stats(head.by_metric),
            label_value_count_by_label_name: stats(head.values_by_label),
            memory_in_bytes_by_label_name: stats(head.bytes_by_label),
            series_count_by_label_value_pair: stats(head.by_pair),
        }
    }
}

/// `/api/v1/status/tsdb`
pub async fn tsdb(call: Call) -> Reply {
    let limit = match call.form.get("limit") {
        "" => 10,
        text => match text.parse::<usize>() {
            Ok(n) if n > 0 => n,
            _ => return Err(ApiError::bad_data("limit must be a positive number")),
        },
    };
    if limit > limits::TSDB_STATUS_LIMIT {
        return Err(ApiError::bad_data(format!("limit must not exceed {}", limits::TSDB_STATUS_LIMIT)));
    }
    let head = blocking(call.state, move |state| Ok(state.sources.catalog.stats(limit))).await?;
    success(&Tsdb::from(head))
}

/// `/metrics`
pub async fn metrics(call: Call) -> Response {
    refresh(&call.state);
    ([(header::CONTENT_TYPE, TEXT_FORMAT)], call.state.sources.metrics.render()).into_response()
}

fn refresh(state: &AppState) {
    state.telemetry.ready.set(if state.is_ready() { 1.0 } else { 0.0 });
    state.telemetry.views.set(state.views.count() as f64);
    state.sources.admin.collect();
}
