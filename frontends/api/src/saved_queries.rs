//! `PUT` and `DELETE` of `/api/v1/views/{name}`: saved queries, which are views that users define.
//! Also `/api/v1/views/{id}/result`.

use super::AppState;
use super::dispatch::ApiRequest;
use super::json_model::RuleJson;
use super::low_priority::blocking;
use super::params::parse_step;
use super::query::{self, Notices, unsupported_range_type};
use super::response::{ApiError, ApiResult, ErrorType, success_as};
use super::views::{describe_in_turn, not_found};
use axum::http::StatusCode;
use engine::live::describe::{AnswerContent, ViewReport};
use engine::live::{ViewError, ViewId, ViewKind};
use engine::plan::ValueType;
use engine::query::{AnswerMemory, QueryAnswer, QueryOptions, QueryValue, SampleStats, VectorSample};
use engine::types::histogram_column::Sample;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use storage::execution::Execution;
use storage::model::{Labels, TimeMs, value};
use views::saved::definition::{Language, RecordOptions, SavedQueryDefinition};
use views::saved::{PutOutcome, SavedQueryError};
use views::scheduled::{format_view_id, parse_view_id};

/// The body of a `PUT`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedQueryBody {
    query: String,
    #[serde(default)]
    lang: Language,
    record: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    interval: Option<IntervalText>,
}

/// Seconds, or a duration such as `15s`.
#[derive(Deserialize)]
#[serde(untagged)]
enum IntervalText {
    Seconds(f64),
    Text(String),
}

/// The response to a change.
#[derive(Serialize)]
struct SavedQueryChangeJson<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    change: &'static str,
}

impl SavedQueryBody {
    fn definition(self, default_interval: i64) -> Result<SavedQueryDefinition, ApiError> {
        let SavedQueryBody { query, lang, record, labels, interval } = self;
        let Some(record) = record else {
            let alone =
                if labels.is_some() { Some("labels") } else { interval.is_some().then_some("interval") };
            // Refused, because whoever writes labels or an interval without `record` has forgotten
            // `record`.
            return match alone {
                Some(field) => Err(ApiError::parameter(field, "only queries with `record` have it")),
                None => Ok(SavedQueryDefinition { query, lang, recording: None }),
            };
        };
        let interval = match interval {
            None => default_interval,
            Some(IntervalText::Seconds(seconds)) => (seconds * 1000.0).round() as i64,
            Some(IntervalText::Text(text)) => {
                parse_step(&text).map_err(|e| ApiError::parameter("interval", e))?
            }
        };
        let recording = RecordOptions { record, labels: labels.unwrap_or_default(), interval };
        Ok(SavedQueryDefinition { query, lang, recording: Some(recording) })
    }
}

/// `PUT /api/v1/views/{name}`
pub(crate) async fn put(call: ApiRequest) -> ApiResult {
    allowed(&call.state)?;
    let name = call.parameter.clone();
    let body: SavedQueryBody = serde_json::from_slice(&call.body)
        .map_err(|e| ApiError::bad_data(format!("the body must be a JSON object with `query`: {e}")))?;
    let state = call.state.clone();
    let admin = state.sources.admin.evaluation_interval();
    // The evaluation interval of the configuration, as a rule without an interval has it.
    let definition = body.definition(admin.unwrap_or(state.settings.queries.default_step))?;
    let plan = state.sources.queries.language.compile(&definition.query, None);
    // Only the type: a text that does not parse is refused by `put` itself, with its position.
    let plan = plan.ok().filter(|_| definition.lang == Language::Promql);
    if let Some(kind) = plan.and_then(|plan| unsupported_range_type(&plan)) {
        let reason = format!(
            "invalid expression type {kind:?} for a standing query, must be Scalar or instant Vector"
        );
        return Err(ApiError::parameter("query", reason));
    }
    let standing = state.sources.saved_queries.clone();
    let wanted = name.clone();
    // Two writers of one series would overwrite each other sample by sample, so rules are asked,
    // too.
    let change = move || standing.put(&wanted, definition, |recording| recording_rule(&state, recording));
    let put = off_runtime(call.state.settings.execution, change).await?.map_err(refused)?;
    let (status, change) = match put {
        PutOutcome::Created => (StatusCode::CREATED, "created"),
        PutOutcome::Replaced => (StatusCode::OK, "replaced"),
        PutOutcome::Unchanged => (StatusCode::OK, "unchanged"),
    };
    let id = call.state.sources.saved_queries.view(&name).and_then(Result::ok).map(format_view_id);
    success_as(status, &SavedQueryChangeJson { name: &name, id, change })
}

/// `DELETE /api/v1/views/{id}`
pub(crate) async fn delete(call: ApiRequest) -> ApiResult {
    allowed(&call.state)?;
    let mut name = call.parameter.clone();
    let standing = call.state.sources.saved_queries.clone();
    if let Some(id) = parse_view_id(&name) {
        let found = standing.definition(id).map(|(name, _)| name);
        name = found.ok_or_else(|| {
            let reason = "only what was put there can be removed: rules go from their file, subscriptions with their client";
            ApiError::new(ErrorType::NotFound, format!("no standing query {name:?}: {reason}"))
        })?;
    }
    // By name from here on: the view may be replaced meanwhile, the name is what was meant.
    let gone = name.clone();
    off_runtime(call.state.settings.execution, move || standing.remove(&gone)).await?.map_err(refused)?;
    success_as(StatusCode::OK, &SavedQueryChangeJson { name: &name, id: None, change: "removed" })
}

/// `GET /api/v1/views/{id}/result`
pub(crate) async fn result(call: ApiRequest) -> ApiResult {
    let state = call.state.clone();
    let name = call.parameter.clone();
    let id = id_named(&state, &name)?;
    let views = state.sources.views.clone();
    let read = describe_in_turn(&state, move || views.read(id)).await?;
    let report = read.ok_or_else(|| not_found(&name))?;
    // Not the last good answer: nobody could see that it is old.
    if let Some(failure) = report.answer.failure.as_ref().filter(|failure| failure.lasts) {
        return Err(ApiError::new(ErrorType::Execution, failure.error.clone()));
    }
    let definition = state.sources.saved_queries.definition(id).map(|(_, definition)| definition);
    #[cfg(feature = "sql")]
    if let Some(saved) = definition.as_ref().filter(|saved| saved.has_cells()) {
        return super::sql::standing_answer(&call, saved.query.clone()).await;
    }
    let text = definition.map_or(report.spec.name.clone(), |definition| definition.query);
    let asked_continuously = report.work.is_none() && matches!(report.spec.kind, ViewKind::Continuous { .. });
    let answer = match (report.answer.frontier, report.answer.content.clone()) {
        (Some(t), Some(content)) if !asked_continuously => shown(&report, t, content),
        // The view holds no current answer: it records and its rows have changed since, or it is
        // evaluated only while a subscriber listens.
        (t, _) => from_history(&state, report, t.filter(|_| !asked_continuously)).await?,
    };
    let deadline = tokio::time::Instant::now() + state.settings.queries.timeout;
    Ok(query::written(answer, &text, None, String::new(), Notices::default(), deadline))
}

/// The answer that the view holds.
fn shown(report: &ViewReport, t: TimeMs, content: AnswerContent) -> QueryAnswer {
    let sample = |(labels, sample): (Labels, Sample)| match sample {
        Sample::Float(v) => VectorSample { labels, t, v, h: None, drops: false },
        Sample::Histogram(h) => VectorSample { labels, t, v: value::HISTOGRAM, h: Some(h), drops: false },
    };
    let mut rows: Vec<VectorSample> = content.rows.into_iter().map(sample).collect();
    // Rows of a view are in the order of their creation; answers of queries are sorted.
    rows.sort_by(|a, b| a.labels.cmp(&b.labels));
    let value = match report.spec.plan.kind() {
        // A view keeps a scalar as one row without labels.
        ValueType::Scalar => QueryValue::Scalar(t, rows.first().map_or(f64::NAN, |row| row.v)),
        _ => QueryValue::Vector(rows),
    };
    let samples = SampleStats::default();
    let memory = AnswerMemory::default();
    QueryAnswer { value, annotations: content.annotations, samples, memory }
}

async fn from_history(
    state: &AppState,
    report: ViewReport,
    t: Option<TimeMs>,
) -> Result<QueryAnswer, ApiError> {
    let settings = &state.settings;
    let options = query_options(state);
    let answers = state.sources.queries.answers.clone();
    let t = t.unwrap_or(state.sources.clock.now());
    // If the client goes away this future is dropped, and the query must not go on without a
    // reader.
    let _cancel = query::CancelOnDrop(options.cancel.clone());
    let shift = if let ViewKind::Recorded { query_offset, .. } = report.spec.kind { query_offset } else { 0 };
    Ok(off_runtime(settings.execution, move || answers.instant(&report.spec.plan, t - shift, &options))
        .await??)
}

/// Limits and settings of a query that a view is the reason of.
pub(crate) fn query_options(state: &AppState) -> QueryOptions {
    let settings = &state.settings;
    QueryOptions {
        lookback: settings.queries.lookback,
        max_samples: settings.queries.max_samples,
        max_bytes: settings.queries.max_bytes,
        timeout: settings.queries.timeout,
        dialect: settings.queries.dialect,
        default_step: state.sources.admin.evaluation_interval().unwrap_or(settings.queries.default_step),
        ..QueryOptions::default()
    }
}

/// The view with this id, or of the saved query with this name.
pub(crate) fn id_named(state: &AppState, name: &str) -> Result<ViewId, ApiError> {
    if let Some(id) = parse_view_id(name) {
        return Ok(id);
    }
    match state.sources.saved_queries.view(name) {
        Some(Ok(id)) => Ok(id),
        // It exists, but could not be installed after a restart: 404 would tell its owner that it
        // was never put.
        Some(Err(why)) => Err(ApiError::new(
            ErrorType::Execution,
            format!("the standing query {name:?} does not stand: {why}"),
        )),
        None => Err(not_found(name)),
    }
}

pub(crate) fn allowed(state: &AppState) -> Result<(), ApiError> {
    let closed = "admin APIs disabled: start the server with --web.enable-admin-api";
    if state.settings.admin { Ok(()) } else { Err(ApiError::new(ErrorType::Unavailable, closed)) }
}

/// A recording rule that writes the same series.
pub(crate) fn recording_rule(state: &AppState, recording: &RecordOptions) -> Option<String> {
    let groups = state.sources.rules.groups();
    let rules = groups.iter().flat_map(|group| group.rules.iter().map(move |rule| (group, rule)));
    let mut same = rules.filter(|(_, rule)| match rule {
        RuleJson::Recording(rule) => rule.name == recording.record && rule.labels == recording.labels,
        // Alerts write only `ALERTS` and `ALERTS_FOR_STATE`, which no saved query can record.
        RuleJson::Alerting(_) => false,
    });
    same.next().map(|(group, _)| format!("a rule of the group {:?} in {}", group.name, group.file))
}

pub(crate) fn refused(refusal: SavedQueryError) -> ApiError {
    let kind = match &refusal {
        SavedQueryError::Name(_) | SavedQueryError::Definition(_) | SavedQueryError::Query(_) => {
            ErrorType::BadData
        }
        // The same request may succeed later, so clients are told to try again.
        SavedQueryError::View(ViewError::LimitReached(_) | ViewError::Unavailable(_)) => {
            ErrorType::UnavailableNow
        }
        SavedQueryError::View(_) => ErrorType::BadData,
        SavedQueryError::Conflict(_) => ErrorType::Conflict,
        SavedQueryError::Missing(_) => ErrorType::NotFound,
        SavedQueryError::Full | SavedQueryError::Disk(_) => ErrorType::Unavailable,
    };
    ApiError::new(kind, refusal.to_string())
}

pub(crate) async fn off_runtime<T: Send + 'static>(
    execution: Execution,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    let done = blocking(execution, work).await;
    done.map_err(|e| ApiError::new(ErrorType::Internal, e.to_string()))
}
