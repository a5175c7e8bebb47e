//! `GET /api/v1/views/{id}/check`: whether the answer of a view equals the answer of a query over
//! history. [`views::check`] compares them.

use super::AppState;
use super::dispatch::ApiRequest;
use super::json_model::instant;
use super::response::{ApiError, ApiResult, ErrorType, success};
use super::saved_queries::{id_named, off_runtime, query_options};
use super::views::{error_of, not_found};
use super::{histogram_json, query_json};
use engine::live::ViewId;
use engine::live::check::{EvaluationCause, LastEvaluation};
use engine::types::histogram_column::Sample;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use storage::model::{Labels, TimeMs};
use views::check::{CheckError, CheckOutcome, RowDifference, ViewCheck, check_view};
use views::limits::DESCRIBE_TIMEOUT;
use views::scheduled::format_view_id;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CheckJson {
    id: String,
    name: String,
    result: CheckOutcome,
    /// The tick at which the answers were compared.
    #[serde(serialize_with = "instant", skip_serializing_if = "Option::is_none")]
    time: Option<TimeMs>,
    attempts: usize,
    /// The number of rows that differ; `differences` has the first of them.
    different_rows: usize,
    differences: Vec<DifferenceJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    live_error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    history_error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tolerance: Option<ToleranceJson>,
}

/// A function of the plan whose values may differ slightly.
#[derive(Serialize)]
struct ToleranceJson {
    function: &'static str,
    relative: f64,
}

/// A row; a missing value is `null`.
#[derive(Serialize)]
struct DifferenceJson {
    labels: BTreeMap<String, String>,
    live: Option<Value>,
    history: Option<Value>,
    evaluations: Vec<EvaluationJson>,
}

/// When and why a series that contributes to the row was last evaluated.
#[derive(Serialize)]
struct EvaluationJson {
    series: BTreeMap<String, String>,
    step: String,
    #[serde(serialize_with = "instant")]
    time: Option<TimeMs>,
    cause: EvaluationCause,
}

/// `GET /api/v1/views/{id}/check`
pub(crate) async fn check(call: ApiRequest) -> ApiResult {
    let state = call.state.clone();
    let name = call.parameter.clone();
    let id = id_named(&state, &name)?;
    // One check at a time, because each takes ticks and queries.
    let turn = tokio::time::timeout(DESCRIBE_TIMEOUT, state.work.check_lock.clone().lock_owned()).await;
    let Ok(turn) = turn else {
        let busy = "another check is under way: try again when it is done";
        return Err(ApiError::new(ErrorType::Timeout, busy));
    };
    let views = state.sources.views.clone();
    let history = state.sources.queries.answers.clone();
    let options = query_options(&state);
    let _cancel = super::query::CancelOnDrop(options.cancel.clone());
    let compare = move || {
        // Even if the client has disconnected, the next check waits until this one is done.
        let _turn = turn;
        check_view(&*views, &*history, id, &options)
    };
    let found = off_runtime(state.settings.execution, compare).await?.map_err(refused)?;
    success(&shown(&state, id, found.ok_or_else(|| not_found(&name))?))
}

fn refused(error: CheckError) -> ApiError {
    match error {
        CheckError::Live(error) => error_of(error),
        CheckError::History(error) => error.into(),
    }
}

fn shown(state: &AppState, id: ViewId, check: ViewCheck) -> CheckJson {
    let saved = state.sources.saved_queries.definition(id).map(|(name, _)| name);
    let ViewCheck { spec, outcome, t, attempts, difference, tolerance } = check;
    CheckJson {
        id: format_view_id(id),
        name: saved.unwrap_or(spec.name),
        result: outcome,
        time: t,
        attempts,
        different_rows: difference.rows,
        differences: difference.first.into_iter().map(row).collect(),
        live_error: difference.live_error,
        history_error: difference.history_error,
        tolerance: tolerance.map(|(function, relative)| ToleranceJson { function, relative }),
    }
}

fn row(row: RowDifference) -> DifferenceJson {
    DifferenceJson {
        labels: label_map(&row.labels),
        live: row.live.map(value),
        history: row.history.map(value),
        evaluations: row.evaluations.into_iter().map(evaluation).collect(),
    }
}

fn evaluation(last: LastEvaluation) -> EvaluationJson {
    EvaluationJson { series: label_map(&last.series), step: last.step, time: Some(last.t), cause: last.cause }
}

fn label_map(labels: &Labels) -> BTreeMap<String, String> {
    labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// As in query answers: floats are text, histograms are objects.
fn value(sample: Sample) -> Value {
    let mut text = String::new();
    match sample {
        Sample::Float(v) => {
            query_json::value(&mut text, v);
            Value::String(text)
        }
        Sample::Histogram(h) => {
            histogram_json::write(&mut text, &h);
            serde_json::from_str(&text).unwrap_or(Value::String(text))
        }
    }
}
