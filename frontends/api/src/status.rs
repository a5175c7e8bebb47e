//! `/api/v1/status/…`, `/api/v1/alertmanagers`, `/metrics` and `/version`: information about the
//! server itself.

use super::dispatch::ApiRequest;
use super::federate::{AcceptedFormat, Form};
use super::json_model::{BuildInfo, PendingConfigJson, RuntimeInfo};
use super::response::{ApiError, ApiResult, ErrorType, success, success_with_infos, text};
use super::self_metrics::GaugeGuard;
use super::series::run_blocking;
use super::versions::Version;
use super::{AppState, limits, metric_messages};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;
use storage::store::HeadStats;

/// The media type of the text format.
pub(crate) const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `/api/v1/status/buildinfo`
pub(crate) async fn build_info(_: ApiRequest) -> ApiResult {
    success(&BuildInfo::default())
}

/// `/version`
pub(crate) async fn version(_: ApiRequest) -> Response {
    text(StatusCode::OK, serde_json::to_string(&BuildInfo::default()).unwrap_or_default())
}

/// `/api/v1/status/runtimeinfo`
pub(crate) async fn runtime_info(call: ApiRequest) -> ApiResult {
    success(&call.state.sources.admin.runtime())
}

/// The version of what `/api/v1/status/runtimeinfo` says, without what moves all the time.
pub(crate) fn runtime_version(state: &AppState) -> Version {
    let runtime = state.sources.admin.runtime();
    let RuntimeInfo { last_config_time, reload_config_success, corruption_count, .. } = runtime;
    Version::new(&(last_config_time, reload_config_success, corruption_count))
}

/// `/api/v1/status/flags`. The envelope's `infos` say which settings have no effect.
pub(crate) async fn flags(call: ApiRequest) -> ApiResult {
    let admin = &call.state.sources.admin;
    // Infos and not warnings: the settings are accepted on purpose, so that files of Prometheus
    // work unchanged.
    success_with_infos(&admin.flags(), &admin.without_effect())
}

/// `/api/v1/status/config`
pub(crate) async fn config(call: ApiRequest) -> ApiResult {
    let yaml = call.state.sources.admin.config_yaml();
    if call.form.get("pending").is_empty() {
        return success(&json!({ "yaml": yaml }));
    }
    // Ours: what the files on the disk say, for whoever wants to see it before a reload. They are
    // read off the async runtime, and parsed.
    let admin = call.state.sources.admin.clone();
    let read = call.state.blocking(move || admin.pending_config()).await;
    let PendingConfigJson { yaml: pending, error, rule_groups } =
        read.map_err(|e| ApiError::new(ErrorType::Internal, e.to_string()))?;
    success(&json!({ "yaml": yaml, "pending": pending, "error": error, "ruleGroups": rule_groups }))
}

/// `/api/v1/status/walreplay`
pub(crate) async fn wal_replay(call: ApiRequest) -> ApiResult {
    // Answered from the start, because this is what a page shows while the server starts.
    success(&call.state.sources.admin.wal_replay())
}

/// `/api/v1/alertmanagers`
pub(crate) async fn alertmanagers(call: ApiRequest) -> ApiResult {
    let shown = |urls: Vec<String>| urls.into_iter().map(|url| json!({"url": url})).collect::<Vec<_>>();
    let known = &call.state.sources.alertmanagers;
    success(&json!({
        "activeAlertmanagers": shown(known.active()),
        "droppedAlertmanagers": shown(known.dropped()),
    }))
}

#[derive(Serialize)]
struct StatJson {
    name: String,
    value: u64,
}

fn stats(list: Vec<(String, u64)>) -> Vec<StatJson> {
    list.into_iter().map(|(name, value)| StatJson { name, value }).collect()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TsdbStatusJson {
    head_stats: serde_json::Value,
    series_count_by_metric_name: Vec<StatJson>,
    label_value_count_by_label_name: Vec<StatJson>,
    memory_in_bytes_by_label_name: Vec<StatJson>,
    series_count_by_label_value_pair: Vec<StatJson>,
}

impl From<HeadStats> for TsdbStatusJson {
    fn from(head: HeadStats) -> TsdbStatusJson {
        TsdbStatusJson {
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
pub(crate) async fn tsdb(call: ApiRequest) -> ApiResult {
    let limit = match call.form.get("limit") {
        "" => 10,
        text => match text.parse::<usize>() {
            Ok(n) if n > 0 => n,
            _ => return Err(ApiError::bad_data("limit must be a positive number")),
        },
    };
    // The lists are made of heaps of this size, for every label of the head.
    if limit > limits::TSDB_STATUS_LIMIT {
        return Err(ApiError::bad_data(format!("limit must not exceed {}", limits::TSDB_STATUS_LIMIT)));
    }
    // It walks the index of the head, which takes seconds for millions of series.
    let head = run_blocking(call.state, move |state| Ok(state.sources.queries.catalog.stats(limit))).await?;
    success(&TsdbStatusJson::from(head))
}

/// `/api/v1/status/tsdb/blocks`
pub(crate) async fn tsdb_blocks(call: ApiRequest) -> ApiResult {
    let blocks = call.state.sources.tsdb.blocks();
    let shown: Vec<serde_json::Value> = blocks
        .iter()
        .map(|meta| {
            json!({
                "ulid": meta.dir.file_name().map(|name| name.to_string_lossy()),
                "minTime": meta.min_time,
                "maxTime": meta.to,
                "stats": {
                    "numSamples": meta.samples,
                    "numHistogramSamples": meta.histograms,
                    "numSeries": meta.series,
                    "numChunks": meta.rows,
                },
                // This store has no levels: 2 stands for merged, which is what Prometheus' page
                // shows them for.
                "compaction": {"level": if meta.replaces.is_empty() { 1 } else { 2 }, "sources": meta.replaces},
                "version": meta.version,
            })
        })
        .collect();
    success(&json!({ "blocks": shown }))
}

/// `/metrics`
pub(crate) async fn metrics(call: ApiRequest) -> Response {
    let requests = &call.state.telemetry.metric_requests;
    let _counted = GaugeGuard::new(&requests.in_flight);
    requests.answered.inc();
    refresh(&call.state);
    // As Go's client library: protobuf for a scraper that prefers it, text for all others.
    let AcceptedFormat { form, content_type, .. } = AcceptedFormat::new(call.header(header::ACCEPT));
    if form == Form::Protobuf {
        let page = metric_messages::page(call.state.sources.metrics.read(|_| true));
        return ([(header::CONTENT_TYPE, content_type)], page).into_response();
    }
    ([(header::CONTENT_TYPE, TEXT_FORMAT)], call.state.sources.metrics.render()).into_response()
}

/// Updates the gauges that are not kept current.
pub(super) fn refresh(state: &AppState) {
    // Gauges that follow from other state are set when somebody looks, so they cannot go stale.
    state.telemetry.ready.set(if state.is_ready() { 1.0 } else { 0.0 });
    state.telemetry.views.set(state.subscriptions.views.count() as f64);
    state.sources.admin.collect();
}
