//! `/api/v1/search/…` of Prometheus 3.14: names and values that resemble the typed text, as lines
//! of JSON.
//!
//! Searches read only the in-memory postings and metadata. All names in the time range are scored
//! ([`similarity`]); the best are sent in batches, followed by a line that says whether there are
//! more. As in Prometheus, `--enable-feature=search-api` enables them. `search_help` is an
//! extension: it searches the help texts too.

mod params;
pub mod similarity;

use super::AppState;
use super::dispatch::ApiRequest;
use super::response::{ApiError, ApiResult, ErrorType};
use super::series::run_blocking;
use super::targets::described;
use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use params::{SearchParams, SortBy, flag};
use serde::{Serialize, Serializer};
use std::cmp::Reverse;
use std::collections::HashMap;
use storage::model::labels::METRIC_NAME;

const CONTENT_TYPE: &str = "application/x-ndjson; charset=utf-8";
/// The score of a metric whose help text matches but whose name does not.
const HELP_SCORE: f64 = 0.5;

/// A name or value that was found.
#[derive(Serialize)]
struct SearchHit {
    #[serde(flatten)]
    text: Text,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "plain_number")]
    score: Option<f64>,
    #[serde(flatten)]
    about: SearchMetadata,
}

/// The key of the name in the line.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Text {
    Name(String),
    Value(String),
}

/// The metadata of a metric.
#[derive(Clone, Default, Serialize)]
struct SearchMetadata {
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    help: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    unit: String,
}

#[derive(Serialize)]
struct SearchBatch<'a> {
    results: &'a [SearchHit],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
}

#[derive(Serialize)]
struct SearchTrailer {
    status: &'static str,
    has_more: bool,
}

/// `/api/v1/search/metric_names`
pub async fn metric_names(call: ApiRequest) -> ApiResult {
    let params = SearchParams::new(&call, "metric_names")?;
    let with_metadata = flag(&call.form, "include_metadata", false)?;
    let in_help = flag(&call.form, "search_help", false)?;
    let about = if with_metadata || in_help { metadata(&call.state).await? } else { HashMap::new() };
    let names = values(call.state.clone(), METRIC_NAME.to_owned(), &params).await?;
    let filter = params.filter.clone();
    let score = |name: &str| {
        let in_help = || about.get(name).filter(|about| in_help && filter.in_text(&about.help));
        filter.score(name).or_else(|| in_help().map(|_| HELP_SCORE))
    };
    let shown = |name: &str| about.get(name).filter(|_| with_metadata).cloned().unwrap_or_default();
    answer(&call.state, &params, names, Text::Name, score, shown)
}

/// `/api/v1/search/label_names`
pub async fn label_names(call: ApiRequest) -> ApiResult {
    let params = SearchParams::new(&call, "label_names")?;
    let sets = params.sets.clone();
    let (from, to) = params.span;
    let ask = move |state: &AppState| state.sources.queries.catalog.label_names(&sets, from, to);
    let names = run_blocking(call.state.clone(), ask).await?;
    answer(
        &call.state,
        &params,
        names,
        Text::Name,
        |name| params.filter.score(name),
        |_| SearchMetadata::default(),
    )
}

/// `/api/v1/search/label_values`
pub async fn label_values(call: ApiRequest) -> ApiResult {
    let params = SearchParams::new(&call, "label_values")?;
    let label = call.form.get("label").to_owned();
    if label.is_empty() {
        return Err(ApiError::bad_data("missing required parameter \"label\""));
    }
    let found = values(call.state.clone(), label, &params).await?;
    answer(
        &call.state,
        &params,
        found,
        Text::Value,
        |value| params.filter.score(value),
        |_| SearchMetadata::default(),
    )
}

async fn values(state: AppState, label: String, params: &SearchParams) -> Result<Vec<String>, ApiError> {
    let sets = params.sets.clone();
    let (from, to) = params.span;
    run_blocking(state, move |state| state.sources.queries.catalog.label_values(&label, &sets, from, to))
        .await
}

/// The metadata by metric family; the first target's wins.
async fn metadata(state: &AppState) -> Result<HashMap<String, SearchMetadata>, ApiError> {
    let mut found = HashMap::new();
    for one in described(state).await? {
        found.entry(one.metric).or_insert(SearchMetadata { kind: one.kind, help: one.help, unit: one.unit });
    }
    Ok(found)
}

/// The lines of an answer: the best of `names`, which are sorted; `text` gives a name the key of
/// its line.
fn answer(
    state: &AppState,
    params: &SearchParams,
    names: Vec<String>,
    text: fn(String) -> Text,
    score: impl Fn(&str) -> Option<f64>,
    about: impl Fn(&str) -> SearchMetadata,
) -> ApiResult {
    let mut scored: Vec<(String, f64)> =
        names.into_iter().filter_map(|name| score(&name).map(|score| (name, score))).collect();
    match params.sort_by {
        SortBy::Ascending => (),
        SortBy::Descending => scored.reverse(),
        // Scores are positive, so their bits have the same order. The sort is stable: names with
        // equal scores stay in name order.
        SortBy::Score => scored.sort_by_key(|(_, score)| Reverse(score.to_bits())),
    }
    let has_more = scored.len() > params.limit;
    scored.truncate(params.limit);
    let found: Vec<SearchHit> = scored
        .into_iter()
        .map(|(name, score)| SearchHit {
            about: about(&name),
            score: params.include_score.then_some(score),
            text: text(name),
        })
        .collect();
    let warnings = Vec::from_iter(state.incomplete_reason());
    let mut lines = String::new();
    let first = found.len().min(params.batch_size);
    line(&mut lines, &SearchBatch { results: &found[..first], warnings: &warnings })?;
    for results in found[first..].chunks(params.batch_size) {
        line(&mut lines, &SearchBatch { results, warnings: &[] })?;
    }
    line(&mut lines, &SearchTrailer { status: "success", has_more })?;
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, CONTENT_TYPE)], Body::from(lines)).into_response())
}

fn line(out: &mut String, value: &impl Serialize) -> Result<(), ApiError> {
    let text = serde_json::to_string(value);
    out.push_str(&text.map_err(|e| ApiError::new(ErrorType::Internal, e.to_string()))?);
    out.push('\n');
    Ok(())
}

/// Writes whole numbers without a point, as Go does.
fn plain_number<S: Serializer>(v: &Option<f64>, s: S) -> Result<S::Ok, S::Error> {
    match v {
        Some(v) if v.fract() == 0.0 => s.serialize_i64(*v as i64),
        Some(v) => s.serialize_f64(*v),
        None => s.serialize_none(),
    }
}
