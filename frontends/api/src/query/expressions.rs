//! Endpoints that analyse an expression without evaluating it: `format_query`, `parse_query`, and
//! `query_exemplars`, which uses its selectors.

use super::super::dispatch::ApiRequest;
use super::super::json_model::SeriesExemplarsJson;
use super::super::params::{MAX_TIME, MIN_TIME};
use super::super::response::{ApiError, ApiResult, success};
use super::super::series::run_blocking;
use axum::http::StatusCode;
use axum::response::IntoResponse;

/// `/api/v1/format_query`
pub async fn format(call: ApiRequest) -> ApiResult {
    let text = call.state.sources.queries.language.format(call.form.get("query"));
    success(&text.map_err(|e| ApiError::parameter("query", e))?)
}

/// `/api/v1/parse_query`
pub async fn parse(call: ApiRequest) -> ApiResult {
    let tree = call.state.sources.queries.language.tree(call.form.get("query"));
    success(&tree.map_err(|e| ApiError::parameter("query", e))?)
}

/// `/api/v1/promql/functions`
pub async fn functions(call: ApiRequest) -> ApiResult {
    success(&call.state.sources.queries.language.functions())
}

/// `/api/v1/query_exemplars`: the exemplars of all series that a selector of the expression
/// matches.
pub async fn exemplars(call: ApiRequest) -> ApiResult {
    let ApiRequest { state, form, .. } = call;
    let start = form.time_or("start", MIN_TIME)?;
    let end = form.time_or("end", MAX_TIME)?;
    if end < start {
        return Err(ApiError::bad_data("end timestamp must not be before start timestamp"));
    }
    let selectors = state.sources.queries.language.selectors(form.get("query"))?;
    if selectors.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let ask = move |state: &super::AppState| state.sources.queries.catalog.exemplars(&selectors, start, end);
    let found = run_blocking(state, ask).await?;
    let shown: Vec<SeriesExemplarsJson> = found.into_iter().map(SeriesExemplarsJson::from).collect();
    success(&shown)
}
