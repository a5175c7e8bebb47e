//! `POST /api/v1/rules/test`: what an alerting rule would have done in the past.
//!
//! The rule comes as YAML or in form fields. It is evaluated over history step by step, with the
//! same state machine as real alerts (`rules::trial`). With `Accept: application/x-ndjson` the
//! answer begins with lines that report the progress.

use super::dispatch::ApiRequest;
use super::json_model::{AlertStateJson, label_map, sample_time, seconds};
use super::limits::{RULE_TEST_PIECES, RULE_TEST_STEPS, RULE_TEST_TIME};
use super::params::{Form, parse_step, parse_time};
use super::query::CancelOnDrop;
use super::query::running_queries::{QueryKind, RunningQuery};
use super::response::{ApiError, ApiResult, ErrorType, success};
use super::sending::streamed;
use super::subscribe::NDJSON;
use super::{AppState, query};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use bytes::Bytes;
use engine::query::{QueryError, QueryOptions};
use serde::Serialize;
use serde_json::Value;
use std::convert::Infallible;
use storage::model::{Labels, TimeMs};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The rule.
#[derive(Clone, Debug, PartialEq)]
pub enum RuleText {
    /// YAML: a rule, a list of rules, or a rule file.
    Yaml(String),
    /// The fields of a rule as in a rule file.
    Fields(serde_json::Map<String, Value>),
}

/// What is to be tried.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleTestRequest {
    /// The rule.
    pub text: RuleText,
    /// Which group of a rule file; "": the only one that has the alert.
    pub group: String,
    /// Which alert, of several; "": the only one.
    pub alert: String,
    /// Which rule of the group, from 0, where several have one name.
    pub index: Option<usize>,
    /// The interval of the group, where the text has none, ms.
    pub interval: Option<i64>,
    /// The first time, ms.
    pub start: TimeMs,
    /// The last time, ms.
    pub end: TimeMs,
    /// The time between two evaluations, ms; `None`: the interval of the group.
    pub step: Option<i64>,
}

/// How far a trial is.
#[derive(Copy, Clone, Debug, Serialize)]
pub struct RuleTestProgress {
    /// The part that is done, from 0 to 1.
    pub done: f64,
    /// The time up to which the rule was evaluated.
    #[serde(serialize_with = "sample_time")]
    pub at: TimeMs,
    /// How many times an alert began to fire.
    pub fired: u64,
}

/// The result.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleTestJson {
    /// The name of the alert.
    pub alert: String,
    /// The expression, as it is printed.
    pub query: String,
    /// The first evaluation.
    #[serde(serialize_with = "sample_time")]
    pub start: TimeMs,
    /// The last evaluation.
    #[serde(serialize_with = "sample_time")]
    pub end: TimeMs,
    /// The time between two evaluations, s.
    #[serde(serialize_with = "seconds")]
    pub step: f64,
    /// What each alert would have done, sorted by labels.
    pub alerts: Vec<TestedAlertJson>,
    /// How many times an alert began to fire.
    pub fired: u64,
    /// How long alerts fired, all added, s.
    #[serde(serialize_with = "seconds")]
    pub firing_seconds: f64,
    /// The longest that one alert fired, s.
    #[serde(serialize_with = "seconds")]
    pub longest_seconds: f64,
    /// Notifications that an alert fires or has ended.
    pub notifications: u64,
    /// The same with those that repeat it.
    pub sent: u64,
    /// Evaluations.
    pub evaluations: u64,
    /// Evaluations that failed.
    pub failures: u64,
    /// Why the first of them failed; "": none did.
    pub first_error: String,
    /// The list of alerts is not complete; the sums are.
    pub truncated: bool,
}

/// What one alert would have done.
#[derive(Clone, Debug, Serialize)]
pub struct TestedAlertJson {
    /// Its labels.
    #[serde(serialize_with = "label_map")]
    pub labels: Labels,
    /// When it was pending and when it fired.
    pub intervals: Vec<TestedIntervalJson>,
}

/// A stretch of time.
#[derive(Clone, Debug, Serialize)]
pub struct TestedIntervalJson {
    /// When it began.
    #[serde(serialize_with = "sample_time")]
    pub from: TimeMs,
    /// When it ended, or the last evaluation.
    #[serde(serialize_with = "sample_time")]
    pub to: TimeMs,
    /// Pending or firing.
    pub state: AlertStateJson,
    /// It had not ended.
    pub open: bool,
}

/// `/api/v1/rules/test`
pub(crate) async fn test(call: ApiRequest) -> ApiResult {
    let form = form_of(&call)?;
    let request = request(&call.state, form.fields, &form.values)?;
    let mut options = query::options(&call.state, &form.values)?;
    // A month is more than one query; the memory of each piece is that of a query.
    options.timeout = form.values.duration("timeout")?.map_or(RULE_TEST_TIME, |ms| {
        std::time::Duration::from_millis(ms.max(1).unsigned_abs()).min(RULE_TEST_TIME)
    });
    let streams = call.header(header::ACCEPT).contains(NDJSON);
    let (pieces, received) = mpsc::channel(RULE_TEST_PIECES);
    let cancel = CancelOnDrop(options.cancel.clone());
    let running = begin(&call, request, options, pieces).await?;
    if streams {
        return Ok(stream(received, running, cancel));
    }
    success(&finished(running.await)?)
}

type RunningTest = JoinHandle<Result<RuleTestJson, ApiError>>;

fn finished(
    ended: Result<Result<RuleTestJson, ApiError>, tokio::task::JoinError>,
) -> Result<RuleTestJson, ApiError> {
    ended.map_err(|e| ApiError::new(ErrorType::Internal, format!("the test stopped unexpectedly: {e}")))?
}

/// Starts the test when it has a turn.
async fn begin(
    call: &ApiRequest,
    request: RuleTestRequest,
    mut options: QueryOptions,
    pieces: mpsc::Sender<Bytes>,
) -> Result<RunningTest, ApiError> {
    let state = call.state.clone();
    state.wait_readable(request.end, options.timeout).await?;
    let client = query::client_of(call);
    let waiting = std::time::Instant::now();
    let turn =
        tokio::time::timeout(options.timeout, state.work.query_permits.turn(client.map(|c| c.ip()))).await;
    let Some(turn) = turn.ok().flatten() else {
        return Err(QueryError::Timeout("query timed out in query queue".to_owned()).into());
    };
    options.timeout = options.timeout.saturating_sub(waiting.elapsed());
    let text = match &request.text {
        RuleText::Yaml(text) => text.clone(),
        RuleText::Fields(fields) => fields.get("expr").and_then(Value::as_str).unwrap_or_default().to_owned(),
    };
    let running = state.work.query_permits.running.begin(RunningQuery {
        kind: QueryKind::RuleTest,
        text,
        client: client.map(|c| c.to_string()).unwrap_or_default(),
        since: state.sources.clock.now(),
        handles: (&options).into(),
    });
    let asking = state.clone();
    let work = move || {
        // Held until the test has really stopped.
        let _held = turn;
        let tell = |progress: RuleTestProgress| {
            let line = serde_json::json!({ "progress": progress });
            // A client that does not read fast misses some of these.
            let _ = pieces.try_send(Bytes::from(format!("{line}\n")));
        };
        let tested = asking.sources.rules.test(&request, &options, &tell);
        running.finish(tested.as_ref().err().map(|e| e.message.as_str()));
        tested.map_err(|e| running.reason_of(e))
    };
    Ok(state.work.low_priority.run(work))
}

/// The lines of progress, then the result or the error.
fn stream(
    received: mpsc::Receiver<Bytes>,
    running: RunningTest,
    cancel: CancelOnDrop,
) -> axum::response::Response {
    let lines = futures::stream::unfold(Some((received, running, cancel)), |waiting| async move {
        let (mut received, running, cancel) = waiting?;
        if let Some(line) = received.recv().await {
            return Some((Ok::<Bytes, Infallible>(line), Some((received, running, cancel))));
        }
        let last = match finished(running.await) {
            Ok(result) => serde_json::json!({ "status": "success", "data": result }).to_string(),
            Err(error) => error.to_json(),
        };
        Some((Ok(Bytes::from(format!("{last}\n"))), None))
    });
    let body = streamed(lines);
    (StatusCode::OK, [(header::CONTENT_TYPE, NDJSON)], body).into_response()
}

/// The values of the request, whatever their form.
struct RequestValues {
    /// The fields of a rule.
    fields: serde_json::Map<String, Value>,
    values: Form,
}

/// The fields of a rule file that a rule may have.
const RULE_FIELDS: [&str; 5] = ["alert", "expr", "for", "keep_firing_for", "labels"];

fn form_of(call: &ApiRequest) -> Result<RequestValues, ApiError> {
    let media = call.header(header::CONTENT_TYPE).split(';').next().unwrap_or_default().trim().to_lowercase();
    if media != "application/json" {
        let values = Form::parse(Some(&call.body), call.parts.uri.query())?;
        values.check_decoded()?;
        let given = RULE_FIELDS.iter().filter(|name| !values.get(name).is_empty());
        let fields = given.map(|name| ((*name).to_owned(), Value::from(values.get(name)))).collect();
        return Ok(RequestValues { fields, values });
    }
    let body: Value = serde_json::from_slice(&call.body)
        .map_err(|e| ApiError::bad_data(format!("the body is no JSON: {e}")))?;
    let Value::Object(body) = body else {
        return Err(ApiError::bad_data(r#"the body must be an object: {"rule": "…", "start": …, "end": …}"#));
    };
    let mut fields = serde_json::Map::new();
    let mut values = Vec::new();
    for (name, value) in body {
        if RULE_FIELDS.contains(&name.as_str()) && name != "alert" {
            fields.insert(name, value);
            continue;
        }
        values.push((name, value.as_str().map_or_else(|| value.to_string(), str::to_owned)));
    }
    let values = call.form.clone().with(values, None);
    if !fields.is_empty() && !values.get("alert").is_empty() {
        fields.insert("alert".to_owned(), Value::from(values.get("alert")));
    }
    Ok(RequestValues { fields, values })
}

fn request(
    state: &AppState,
    mut fields: serde_json::Map<String, Value>,
    form: &Form,
) -> Result<RuleTestRequest, ApiError> {
    let text = match form.get("rule") {
        "" if !fields.contains_key("expr") => {
            return Err(ApiError::parameter(
                "rule",
                "it is missing: the rule as YAML, or its parts: expr, for, labels",
            ));
        }
        "" => {
            fields.entry("alert").or_insert_with(|| Value::from("Test"));
            RuleText::Fields(fields)
        }
        text => RuleText::Yaml(text.to_owned()),
    };
    let now = state.sources.clock.now();
    let end = if form.get("end").is_empty() { now } else { form.time("end")? };
    let start = match (form.get("start"), form.get("since")) {
        ("", "") => return Err(ApiError::parameter("start", "it is missing, and so is since")),
        ("", since) => end - parse_step(since).map_err(|e| ApiError::parameter("since", e))?,
        (start, _) => parse_time(start).map_err(|e| ApiError::parameter("start", e))?,
    };
    if end < start {
        return Err(ApiError::parameter("end", "end timestamp must not be before start time"));
    }
    let positive = |name: &str| match form.duration(name)? {
        Some(ms) if ms <= 0 => Err(ApiError::parameter(name, "it must be positive")),
        length => Ok(length),
    };
    let index = match form.get("index") {
        "" => None,
        text => Some(text.parse().map_err(|_| ApiError::parameter("index", "it must be a number"))?),
    };
    Ok(RuleTestRequest {
        text,
        group: form.get("group").to_owned(),
        alert: if form.get("rule").is_empty() { String::new() } else { form.get("alert").to_owned() },
        index,
        interval: positive("interval")?,
        start,
        // The future has no samples.
        end: end.min(now),
        step: positive("step")?,
    })
}

/// The error of a test with too many evaluations.
pub fn too_many_steps() -> ApiError {
    let reason = format!(
        "exceeded the limit of {RULE_TEST_STEPS} evaluations: choose a longer step or a shorter time"
    );
    ApiError::parameter("step", reason)
}
