//! `/api/v1/query` and `query_range`.
//!
//! A query waits for one of `--query.max-concurrency` turns ([`active`]), runs off the async runtime, and is told to
//! stop when its client goes away: then hyper drops the handler's future, and [`CancelOnDrop`] with it. What it cost
//! is in [`stats`], and in [`log`] if that is on. Without evaluating anything answer [`expressions`].

pub mod active;
pub mod expressions;
pub mod log;
mod reach;
pub mod stats;

use super::dispatch::Call;
use super::json::Remarks;
use super::params::Form;
use super::reply::{ApiError, ErrorType, Reply, json_response};
use super::serve::Peer;
use super::telemetry::Counted;
use super::{AppState, json, limits};
use crate::promql::QueryRange;
use crate::promql::annotations::render_all;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::StatusCode;
use axum::response::Response;
use engine::plan::{Plan, Type};
use engine::query::{Answer, QueryError, QueryOptions, Value};
use log::Logged;
use reach::newest_seen;
use stats::{Stats, Stopwatch};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The warning that goes with a cut list.
pub const TRUNCATED: &str = "results truncated due to limit";

/// `/api/v1/query`
pub async fn instant(call: Call) -> Reply {
    let form = &call.form;
    let limit = form.limit()?;
    let t = form.time_or("time", call.state.sources.clock.now())?;
    let asked = Asked::new(&call, QueryRange { start: t, end: t, step: 0 })?;
    let plan = asked.plan.clone();
    let ask =
        move |state: &AppState, options: &QueryOptions| state.sources.answers.instant(&plan, t, options);
    answer(&call, limit, asked, ask).await
}

/// `/api/v1/query_range`
pub async fn range(call: Call) -> Reply {
    let limit = call.form.limit()?;
    let (start, end, step) = steps(&call.form)?;
    let asked = Asked::new(&call, QueryRange { start, end, step })?;
    if let Some(kind) = not_a_series(&asked.plan) {
        let reason =
            format!("invalid expression type {kind:?} for range query, must be Scalar or instant Vector");
        return Err(ApiError::parameter("query", reason));
    }
    let plan = asked.plan.clone();
    let ask = move |state: &AppState, options: &QueryOptions| {
        state.sources.answers.range(&plan, start, end, step, options)
    };
    answer(&call, limit, asked, ask).await
}

/// The name of the plan's type if it cannot be asked step by step.
pub fn not_a_series(plan: &Plan) -> Option<&'static str> {
    match plan.kind() {
        Type::Matrix => Some("range vector"),
        Type::Text => Some("string"),
        Type::Scalar | Type::Vector => None,
    }
}

/// `start`, `end` and `step`, ms.
fn steps(form: &Form) -> Result<(i64, i64, i64), ApiError> {
    let (start, end) = (form.time("start")?, form.time("end")?);
    if end < start {
        return Err(ApiError::parameter("end", "end timestamp must not be before start time"));
    }
    let step = match form.duration("step")? {
        Some(step) => step,
        None => return Err(ApiError::parameter("step", "cannot parse \"\" to a valid duration")),
    };
    if step <= 0 {
        let reason = "zero or negative query resolution step widths are not accepted. Try a positive integer";
        return Err(ApiError::parameter("step", reason));
    }
    if end.saturating_sub(start) / step > limits::RANGE_POINTS {
        return Err(ApiError::bad_data(
            "exceeded maximum resolution of 11,000 points per timeseries. \
             Try decreasing the query resolution (?step=XX)",
        ));
    }
    Ok((start, end, step))
}

/// A query that was understood.
struct Asked {
    plan: Plan,
    options: QueryOptions,
    stats: Stats,
    logged: Logged,
}

impl Asked {
    fn new(call: &Call, range: QueryRange) -> Result<Asked, ApiError> {
        let Call { state, form, .. } = call;
        let options = options(state, form)?;
        let (clock, text) = (Stopwatch::start(), form.get("query"));
        let plan = state.sources.language.compile(text, Some(range));
        let plan = plan.map_err(|e| ApiError::parameter("query", e))?;
        let stats = Stats { prepared: clock.read(), ..Stats::default() };
        let peer = call.parts.extensions.get::<ConnectInfo<Peer>>();
        let logged = Logged {
            query: text.to_owned(),
            start: range.start,
            end: range.end,
            step: range.step,
            client: peer.map(|peer| peer.0.0.ip().to_string()).unwrap_or_default(),
            method: call.parts.method.to_string(),
            path: call.parts.uri.path().to_owned(),
        };
        Ok(Asked { plan, options, stats, logged })
    }
}

/// The query's own settings; `timeout` can only shorten.
fn options(state: &AppState, form: &Form) -> Result<QueryOptions, ApiError> {
    let settings = &state.settings;
    let given = form.duration("timeout")?.map(|ms| Duration::from_millis(ms.max(0).unsigned_abs()));
    let lookback = match form.get("lookback_delta") {
        "" => settings.lookback,
        text => super::params::parse_step(text)
            .map_err(|e| ApiError::bad_data(format!("error parsing lookback delta duration: {e}")))?,
    };
    Ok(QueryOptions {
        lookback: if lookback > 0 { lookback } else { settings.lookback },
        default_step: state.sources.admin.evaluation_interval().unwrap_or(settings.default_step),
        max_samples: settings.max_samples,
        dialect: settings.dialect,
        step_stats: settings.step_stats && form.get("stats") == "all",
        timeout: given.unwrap_or(settings.query_timeout).min(settings.query_timeout),
        cancel: Arc::default(),
    })
}

/// Evaluates a query and writes its answer.
async fn answer<F>(call: &Call, limit: Option<usize>, asked: Asked, ask: F) -> Reply
where
    F: FnOnce(&AppState, &QueryOptions) -> Result<Answer, QueryError> + Send + 'static,
{
    let wants_stats = !call.form.get("stats").is_empty();
    let (answer, stats) = run(call.state.clone(), asked, ask).await?;
    let partial = call.state.partial();
    let stats = if wants_stats { stats.to_json() } else { String::new() };
    Ok(written(answer, call.form.get("query"), limit, stats, partial))
}

/// The response with the answer to `query`, with `limit` series at most. `partial`: why it is not whole.
pub fn written(
    mut answer: Answer,
    query: &str,
    limit: Option<usize>,
    stats: String,
    partial: Option<String>,
) -> Response {
    let cut = limit.is_some_and(|limit| cut(&mut answer.value, limit));
    let remarks = remarks(query, &answer, cut, partial);
    let mut chunks = json::chunks(answer, remarks, stats).peekable();
    let first = chunks.next().unwrap_or_default();
    let body = match chunks.peek() {
        None => Body::from(first),
        Some(_) => {
            let pieces = std::iter::once(first).chain(chunks).map(Ok::<_, Infallible>);
            Body::from_stream(futures::stream::iter(pieces))
        }
    };
    json_response(StatusCode::OK, body)
}

/// The annotations of an answer to `query`, as many of each level as a reader can take in. `partial`: why it is not
/// whole.
fn remarks(query: &str, answer: &Answer, cut: bool, partial: Option<String>) -> Remarks {
    let (mut warnings, mut infos) = render_all(query, &answer.notes);
    warnings.splice(..0, partial);
    if cut {
        warnings.push(TRUNCATED.to_owned());
    }
    for (lines, level) in [(&mut warnings, "warning"), (&mut infos, "info")] {
        let more = lines.len().saturating_sub(limits::ANNOTATIONS);
        if more > 0 {
            lines.truncate(limits::ANNOTATIONS);
            lines.push(format!("{more} more {level} annotations omitted"));
        }
    }
    Remarks { warnings, infos }
}

/// Runs `ask` off the async runtime, when it is its turn.
async fn run<F>(state: AppState, asked: Asked, ask: F) -> Result<(Answer, Stats), ApiError>
where
    F: FnOnce(&AppState, &QueryOptions) -> Result<Answer, QueryError> + Send + 'static,
{
    let Asked { plan, mut options, mut stats, logged } = asked;
    let clock = Stopwatch::start();
    // Before its turn: those that wait keep nobody from asking for what can be read.
    state.readable(newest_seen(&plan, logged.end, &options), options.timeout).await?;
    let counted = Counted::new(&state.telemetry.queries);
    let turn = match options.timeout.is_zero() {
        true => None,
        false => tokio::time::timeout(options.timeout, state.active.turn()).await.ok().flatten(),
    };
    stats.queued = clock.read();
    let Some(turn) = turn else {
        let late = QueryError::Timeout("query timed out in query queue".to_owned());
        finish(&state, &logged, &stats, Err(&late));
        return Err(late.into());
    };
    options.timeout = options.timeout.saturating_sub(stats.queued).max(Duration::from_millis(1));
    let _guard = CancelOnDrop(options.cancel.clone());
    let asking = state.clone();
    let work = move || {
        let written = state.active.write(&logged.query, state.sources.clock.now() / 1000);
        // All of them stay until the query has really stopped, not only until its client is gone.
        let _held = (turn, counted, written);
        let evaluation = Stopwatch::start();
        let mut answered = ask(&state, &options);
        stats.evaluated = evaluation.read();
        if let Ok(answer) = &mut answered {
            let sorting = Stopwatch::start();
            sort(answer);
            stats.sorted = sorting.read();
            stats.count(answer, &logged, options.step_stats);
        }
        finish(&state, &logged, &stats, answered.as_ref());
        answered.map(|answer| (answer, stats))
    };
    match asking.aside.run(work).await {
        Ok(answered) => Ok(answered?),
        Err(e) => Err(ApiError::new(ErrorType::Internal, format!("the query stopped unexpectedly: {e}"))),
    }
}

/// Counts a query that has ended, and logs it.
fn finish(state: &AppState, logged: &Logged, stats: &Stats, answered: Result<&Answer, &QueryError>) {
    stats.observe(&state.telemetry);
    let log = &state.sources.query_log;
    if log.is_on() {
        let error = answered.err().map(ToString::to_string);
        log.write(logged, stats, error.as_deref(), state.sources.clock.now());
    }
}

/// Tells the query to stop when the handler ends, early or not.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Matrices come by label set.
fn sort(answer: &mut Answer) {
    if let Value::Matrix(series) = &mut answer.value
        && !series.is_sorted_by(|a, b| a.labels <= b.labels)
    {
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
    }
}

/// Keeps the first `limit` series; whether there were more.
fn cut(value: &mut Value, limit: usize) -> bool {
    let before = match value {
        Value::Vector(samples) => {
            let n = samples.len();
            samples.truncate(limit);
            n
        }
        Value::Matrix(series) => {
            let n = series.len();
            series.truncate(limit);
            n
        }
        Value::Scalar(..) | Value::Text(..) => 0,
    };
    before > limit
}
