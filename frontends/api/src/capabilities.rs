//! `/api/v1/features` and `/api/v1/openapi.yaml`: which functions, operators, endpoints and
//! features this server has, for programs. Made from the tables of the engine and of
//! [`super::endpoints`].

use super::dispatch::ApiRequest;
use super::endpoints::ENDPOINTS;
use super::response::{ApiResult, success};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

/// `/api/v1/features`: what works here, in Prometheus' twelve categories and by its names.
pub(crate) async fn features(call: ApiRequest) -> ApiResult {
    let settings = &call.state.settings;
    let dialect = &settings.queries.dialect;
    // The manual's table, so that the list cannot disagree with what the parser accepts.
    let functions: Map<String, Value> = match call.state.sources.queries.language.functions() {
        Value::Array(list) => list
            .iter()
            .filter_map(|function| Some((function["name"].as_str()?.to_owned(), Value::Bool(true))))
            .collect(),
        Value::Object(map) => map.keys().map(|name| (name.clone(), Value::Bool(true))).collect(),
        _ => Map::new(),
    };
    let templating: Map<String, Value> = settings
        .capabilities
        .template_functions
        .iter()
        .map(|name| (name.clone(), Value::Bool(true)))
        .collect();
    success(&json!({
        "api": {
            "admin": settings.admin,
            "exclude_alerts": true,
            "label_values_match": true,
            "lifecycle": settings.lifecycle,
            "openapi_3.1": true,
            "otlp_write_receiver": call.state.sources.receivers.otlp.is_some(),
            "query_stats": true,
            "query_warnings": true,
            "remote_write_receiver": call.state.sources.receivers.remote_write.is_some(),
            "search": settings.search.is_some(),
            "subscribe": true,
            "time_range_labels": true,
            "time_range_series": true,
        },
        "otlp_receiver": {
            "delta_conversion": settings.capabilities.otlp_delta_sums,
            "native_delta_ingestion": settings.capabilities.otlp_native_deltas,
        },
        "prometheus": { "agent_mode": settings.agent, "server_mode": !settings.agent, "stringlabels": true },
        "promql": {
            "at_modifier": true,
            "bool": true,
            "by": true,
            "delayed_name_removal": dialect.delayed_names,
            "group_left": true,
            "group_right": true,
            "ignoring": true,
            "negative_offset": true,
            "offset": true,
            "on": true,
            "per_query_lookback_delta": true,
            "per_step_stats": settings.queries.step_stats,
            "start_timestamps": dialect.start_timestamps,
            "subqueries": true,
            "type_and_unit_labels": dialect.type_and_unit_labels,
            "without": true,
        },
        "promql_functions": functions,
        "promql_operators": operators(),
        "rules": { "alerting": true, "keep_firing_for": true, "query_offset": true, "recording": true },
        "scrape": {
            "exemplars": true,
            "extra_scrape_metrics": true,
            "native_histograms": true,
            "proto": true,
            "type_and_unit_labels": dialect.type_and_unit_labels,
        },
        "service_discovery_providers": settings.capabilities.discovery,
        "templating_functions": templating,
        "tsdb": { "delayed_compaction": false, "exemplar_storage": true, "isolation": true, "native_histograms": true },
        "ui": { "ui_perennial": true, "ui_v2": false, "ui_v3": false },
    }))
}

const OPERATORS: &str = "! != !~ % * + - / < <= = == =~ > >= ^ and atan2 avg bottomk count count_values group \
    max min or quantile stddev stdvar sum topk unless";

fn operators() -> Map<String, Value> {
    OPERATORS.split(' ').map(|name| (name.to_owned(), Value::Bool(true))).collect()
}

/// `/api/v1/openapi.yaml`: the table of endpoints in the form of OpenAPI 3.1. Parameters are
/// described in the documentation only.
pub(crate) async fn openapi(call: ApiRequest) -> Response {
    let server = if call.state.settings.web.external_path.is_empty() {
        "/"
    } else {
        &call.state.settings.web.external_path
    };
    let mut yaml = format!(
        "openapi: 3.1.0\ninfo:\n  title: Perennial\n  version: {}\nservers:\n  - url: {}\npaths:\n",
        quoted(env!("CARGO_PKG_VERSION")),
        quoted(server)
    );
    // Pages and health checks are no interface for programs that generate clients.
    for endpoint in ENDPOINTS.iter().filter(|endpoint| endpoint.path.starts_with("/api/v1/")) {
        yaml.push_str(&format!("  {}:\n", quoted(endpoint.path)));
        if let Some((_, rest)) = endpoint.path.split_once('{') {
            let name = rest.split('}').next().unwrap_or_default();
            yaml.push_str(&format!(
                "    parameters:\n      - name: {name}\n        in: path\n        required: true\n        schema:\n          type: string\n"
            ));
        }
        for method in endpoint.methods {
            let method = method.as_str().to_lowercase();
            yaml.push_str(&format!(
                "    {method}:\n      summary: {}\n      responses:\n        default:\n          description: An answer in Prometheus' envelope, or an error in it.\n",
                quoted(endpoint.doc)
            ));
        }
    }
    ([(header::CONTENT_TYPE, "application/yaml; charset=utf-8")], yaml).into_response()
}

/// A text as a YAML scalar: JSON strings are YAML.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
