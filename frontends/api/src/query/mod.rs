//! `/api/v1/query` and `query_range`: evaluate PromQL over stored history.
//!
//! A query waits for its turn, of which there are `--query.max-concurrency` ([`active_queries`]),
//! and runs off the async runtime. It is cancelled when its client disconnects: hyper then drops
//! the handler's future, and [`CancelOnDrop`] with it. It is also cancelled at its deadline; the
//! client gets the error at once, not only when the query has noticed. The answer is sent in pieces
//! ([`sending`]). The cost of a query is in [`stats`] and, if enabled, in the [`log`].
//! [`expressions`] has the endpoints that evaluate nothing.

pub mod active_queries;
pub mod expressions;
pub mod log;
mod newest_time;
pub mod running_queries;
pub mod stats;

use super::dispatch::ApiRequest;
use super::json_model::utc_millis;
use super::params::{Form, parse_interval};
use super::query_json::AnnotationTexts;
use super::response::{ApiError, ApiResult, ErrorType, json_response};
use super::self_metrics::GaugeGuard;
use super::serve::ClientAddress;
use super::{AppState, limits, query_json, sending};
use axum::extract::ConnectInfo;
use axum::http::StatusCode;
use axum::response::Response;
use engine::annotations::{Annotation, Severity};
use engine::plan::{Plan, ValueType};
use engine::query::{QueryAnswer, QueryError, QueryOptions, QueryValue};
use language::QueryRange;
use language::annotations::render;
use log::QueryLogEntry;
use newest_time::newest_time_read;
use running_queries::{QueryKind, RunningQuery};
use stats::{QueryStats, Stopwatch};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use storage::spans::{Span, SpanContext, SpanKind};
use tokio::time::Instant;

/// The warning about a list that was truncated.
pub const TRUNCATED: &str = "results truncated due to limit";

/// `/api/v1/query`
pub async fn instant(call: ApiRequest) -> ApiResult {
    let form = &call.form;
    let limit = form.limit()?;
    let t = form.time_or("time", call.state.sources.clock.now())?;
    // The range is given although the query is instant: `start()` and `end()` are its time then.
    let parsed = ParsedQuery::new(&call, QueryRange { start: t, end: t, step: 0 })?;
    let plan = parsed.plan.clone();
    let ask = move |state: &AppState, options: &QueryOptions| {
        state.sources.queries.answers.instant(&plan, t, options)
    };
    answer(&call, limit, parsed, ask).await
}

/// `/api/v1/query_range`
pub async fn range(call: ApiRequest) -> ApiResult {
    let limit = call.form.limit()?;
    let (start, end, step) = steps(&call.form)?;
    let parsed = ParsedQuery::new(&call, QueryRange { start, end, step })?;
    if let Some(kind) = unsupported_range_type(&parsed.plan) {
        let reason =
            format!("invalid expression type {kind:?} for range query, must be Scalar or instant Vector");
        return Err(ApiError::parameter("query", reason));
    }
    let plan = parsed.plan.clone();
    let ask = move |state: &AppState, options: &QueryOptions| {
        state.sources.queries.answers.range(&plan, start, end, step, options)
    };
    answer(&call, limit, parsed, ask).await
}

/// The name of the plan's type if a range query cannot evaluate it.
pub fn unsupported_range_type(plan: &Plan) -> Option<&'static str> {
    match plan.kind() {
        ValueType::Matrix => Some("range vector"),
        ValueType::Text => Some("string"),
        // At each step a range query must have one value for a series; these two have.
        ValueType::Scalar | ValueType::Vector => None,
    }
}

/// `start`, `end` and `step`, ms.
fn steps(form: &Form) -> Result<(i64, i64, i64), ApiError> {
    let start = form.time("start")?;
    let end = form.time("end")?;
    if end < start {
        return Err(ApiError::parameter("end", "end timestamp must not be before start time"));
    }
    // In nanoseconds, as Prometheus compares it: a step of half a millisecond is positive, and only
    // then too small.
    let interval = parse_interval(form.get("step")).map_err(|e| ApiError::parameter("step", e))?;
    let refused = || {
        let reason = "zero or negative query resolution step widths are not accepted. Try a positive integer";
        ApiError::parameter("step", reason)
    };
    if interval <= 0 {
        return Err(refused());
    }
    // Wider than 64 bits: the times may be the smallest and the largest that there are.
    let span = i128::from(end) - i128::from(start);
    if span * 1_000_000 / i128::from(interval) > i128::from(limits::RANGE_POINTS) {
        return Err(ApiError::bad_data(
            "exceeded maximum resolution of 11,000 points per timeseries. \
             Try decreasing the query resolution (?step=XX)",
        ));
    }
    // Prometheus would divide by zero here.
    let step = interval / 1_000_000;
    if step == 0 { Err(refused()) } else { Ok((start, end, step)) }
}

/// A parsed query and its options.
struct ParsedQuery {
    plan: Plan,
    options: QueryOptions,
    stats: QueryStats,
    client: Option<SocketAddr>,
    logged: QueryLogEntry,
    span: Span,
}

/// The address of the client.
pub(crate) fn client_of(call: &ApiRequest) -> Option<SocketAddr> {
    call.parts.extensions.get::<ConnectInfo<ClientAddress>>().map(|peer| peer.0.0)
}

impl ParsedQuery {
    fn new(call: &ApiRequest, range: QueryRange) -> Result<ParsedQuery, ApiError> {
        let ApiRequest { state, form, .. } = call;
        let options = options(state, form)?;
        let clock = Stopwatch::start();
        let text = form.get("query");
        let plan = state.sources.queries.language.compile(text, Some(range));
        let plan = plan.map_err(|e| ApiError::parameter("query", e))?;
        let stats = QueryStats { prepared: clock.read(), ..QueryStats::default() };
        let client = client_of(call);
        let span = query_span(call, range, options.timeout);
        let logged = QueryLogEntry {
            query: text.to_owned(),
            start: range.start,
            end: range.end,
            step: range.step,
            client: client.map(|client| client.ip().to_string()).unwrap_or_default(),
            method: call.parts.method.to_string(),
            path: call.parts.uri.path().to_owned(),
            span: span.context(),
        };
        Ok(ParsedQuery { plan, options, stats, client, logged, span })
    }
}

/// The options of the query; its `timeout` can only be shorter than the server's.
pub(crate) fn options(state: &AppState, form: &Form) -> Result<QueryOptions, ApiError> {
    let settings = &state.settings;
    let given = form.duration("timeout")?.map(|ms| Duration::from_millis(ms.max(0).unsigned_abs()));
    let lookback = match form.get("lookback_delta") {
        "" => settings.queries.lookback,
        text => super::params::parse_step(text)
            .map_err(|e| ApiError::bad_data(format!("error parsing lookback delta duration: {e}")))?,
    };
    Ok(QueryOptions {
        // A value of 0 or less means the server's, as in Prometheus' engine.
        lookback: if lookback > 0 { lookback } else { settings.queries.lookback },
        default_step: state.sources.admin.evaluation_interval().unwrap_or(settings.queries.default_step),
        max_samples: settings.queries.max_samples,
        max_bytes: settings.queries.max_bytes,
        dialect: settings.queries.dialect,
        step_stats: settings.queries.step_stats && form.get("stats") == "all",
        is_part: false,
        timeout: given.unwrap_or(settings.queries.timeout).min(settings.queries.timeout),
        cancel: Arc::default(),
        samples_read: Arc::default(),
    })
}

/// Evaluates a query and writes its answer.
async fn answer<F>(call: &ApiRequest, limit: Option<usize>, parsed: ParsedQuery, ask: F) -> ApiResult
where
    F: FnOnce(&AppState, &QueryOptions) -> Result<QueryAnswer, QueryError> + Send + 'static,
{
    let wanted = call.form.get("stats");
    let QueryOutcome { answer, stats, deadline } = run(call.state.clone(), parsed, ask).await?;
    // Asked after the query: a block that fails while it runs must be reported, too.
    let partial = call.state.incomplete_reason();
    let stats = if wanted.is_empty() { String::new() } else { stats.to_json() };
    let notices = Notices { partial, deprecated: stats::deprecated(wanted) };
    Ok(written(answer, call.form.get("query"), limit, stats, notices, deadline))
}

/// Warnings that do not come from the evaluation.
#[derive(Default)]
pub struct Notices {
    /// Why the answer may be incomplete.
    pub partial: Option<String>,
    /// A deprecated parameter was used.
    pub deprecated: Option<String>,
}

/// The response with the answer to `query`: at most `limit` series, sent until `deadline`.
pub fn written(
    mut answer: QueryAnswer,
    query: &str,
    limit: Option<usize>,
    stats: String,
    notices: Notices,
    deadline: Instant,
) -> Response {
    let cut = limit.is_some_and(|limit| truncate(&mut answer.value, limit));
    let remarks = annotation_texts(query, &answer, cut, notices);
    json_response(StatusCode::OK, sending::body(query_json::chunks(answer, remarks, stats), deadline))
}

/// The annotations of an answer to `query`, at most [`limits::ANNOTATIONS`] of each level.
fn annotation_texts(query: &str, answer: &QueryAnswer, cut: bool, notices: Notices) -> AnnotationTexts {
    let truncated = cut.then(|| TRUNCATED.to_owned());
    let last = truncated.into_iter().chain(notices.deprecated).collect();
    AnnotationTexts {
        warnings: lines(query, &answer.annotations, Severity::Warning, notices.partial, last),
        infos: lines(query, &answer.annotations, Severity::Info, None, Vec::new()),
    }
}

/// The lines of one level, with an optional line before and some after them. There may be an
/// annotation per series, so only those that are shown are formatted.
fn lines(
    query: &str,
    annotations: &[Annotation],
    level: Severity,
    first: Option<String>,
    last: Vec<String>,
) -> Vec<String> {
    let is_warning = level.is_warning();
    let of_level = || annotations.iter().filter(|annotation| annotation.level.is_warning() == is_warning);
    let all = of_level().count() + first.iter().count() + last.len();
    let rendered = of_level().map(|annotation| render(query, annotation));
    let lines = first.into_iter().chain(rendered).chain(last);
    let mut lines: Vec<String> = lines.take(limits::ANNOTATIONS).collect();
    if all > lines.len() {
        let name = if is_warning { "warning" } else { "info" };
        lines.push(format!("{} more {name} annotations omitted", all - lines.len()));
    }
    lines
}

/// The result of a query.
struct QueryOutcome {
    answer: QueryAnswer,
    stats: QueryStats,
    /// When the query's time is over.
    deadline: Instant,
}

/// Runs `ask` off the async runtime when it has a turn.
async fn run<F>(state: AppState, parsed: ParsedQuery, ask: F) -> Result<QueryOutcome, ApiError>
where
    F: FnOnce(&AppState, &QueryOptions) -> Result<QueryAnswer, QueryError> + Send + 'static,
{
    let ParsedQuery { plan, mut options, mut stats, client, logged, mut span } = parsed;
    let clock = Stopwatch::start();
    // Waits before it takes a turn: a query that waits for the replay must not block queries that
    // can run.
    state.wait_readable(newest_time_read(&plan, logged.end, &options), options.timeout).await?;
    let counted = GaugeGuard::new(&state.telemetry.queries);
    // A timeout of 0 has passed already; waiting would still give it a turn if one is free.
    let turn = if options.timeout.is_zero() {
        None
    } else {
        tokio::time::timeout(options.timeout, state.work.query_permits.turn(client.map(|c| c.ip())))
            .await
            .ok()
            .flatten()
    };
    stats.queued = clock.read();
    let Some(turn) = turn else {
        let late = QueryError::Timeout("query timed out in query queue".to_owned());
        finish(&state, &logged, &stats, Err(&late), &mut span);
        return Err(late.into());
    };
    // The time in the queue counts, as in Prometheus. At least a millisecond, because 0 means that
    // the query never began.
    options.timeout = options.timeout.saturating_sub(stats.queued).max(Duration::from_millis(1));
    let deadline = Instant::now() + options.timeout;
    let _guard = CancelOnDrop(options.cancel.clone());
    let running = state.work.query_permits.running.begin(RunningQuery {
        kind: if logged.step == 0 { QueryKind::Instant } else { QueryKind::Range },
        text: logged.query.clone(),
        client: client.map(|client| client.to_string()).unwrap_or_default(),
        since: state.sources.clock.now(),
        handles: (&options).into(),
    });
    let caller_state = state.clone();
    let work = move || {
        let written = state.work.query_permits.write(&logged.query, state.sources.clock.now() / 1000);
        // Held until the query has really stopped, not only until its client has disconnected.
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
        finish(&state, &logged, &stats, answered.as_ref(), &mut span);
        running.finish(answered.as_ref().err().map(ToString::to_string).as_deref());
        let answered = answered.map_err(|e| running.reason_of(e.into()));
        answered.map(|answer| QueryOutcome { answer, stats, deadline })
    };
    // A query that stops at its deadline returns a better error itself, such as which process it
    // waited for. So wait a little longer.
    let give_up_at = deadline + std::time::Duration::from_millis(200);
    match tokio::time::timeout_at(give_up_at, caller_state.work.low_priority.run(work)).await {
        Ok(Ok(answered)) => answered,
        Ok(Err(e)) => Err(ApiError::new(ErrorType::Internal, format!("the query stopped unexpectedly: {e}"))),
        // The query is cancelled, and stops at its next check.
        Err(_) => Err(QueryError::Timeout("query timed out in expression evaluation".to_owned()).into()),
    }
}

/// The span of a query, a part of its request's.
fn query_span(call: &ApiRequest, range: QueryRange, timeout: Duration) -> Span {
    let tracer = &call.state.sources.tracer;
    if !tracer.is_on() {
        return Span::default();
    }
    let is_instant = range.step == 0;
    let name = if is_instant { "promqlInstantQuery" } else { "promqlRangeQuery" };
    let mut span =
        tracer.start(name, SpanKind::Internal, call.parts.extensions.get::<SpanContext>().copied());
    span.set("query", call.form.get("query"));
    span.set("timeout", timeout.as_secs_f64());
    if is_instant {
        span.set("time", utc_millis(range.start).as_str());
    } else {
        span.set("start", utc_millis(range.start).as_str());
        span.set("end", utc_millis(range.end).as_str());
        span.set("step", range.step as f64 / 1000.0);
    }
    span
}

/// Counts a query that has ended, and logs it.
fn finish(
    state: &AppState,
    logged: &QueryLogEntry,
    stats: &QueryStats,
    answered: Result<&QueryAnswer, &QueryError>,
    span: &mut Span,
) {
    stats.observe(&state.telemetry);
    if span.is_sampled() {
        match answered {
            Ok(answer) => {
                span.set("result_series", num_series(&answer.value));
                span.set("total_samples", stats.samples.total);
            }
            Err(error) => span.fail(error),
        }
        stats.trace(&state.sources.tracer, span.context());
    }
    let log = &state.sources.queries.log;
    if log.is_on() {
        let error = answered.err().map(ToString::to_string);
        log.write(logged, stats, error.as_deref(), state.sources.clock.now());
    }
}

/// Cancels the query when the handler ends, early or not.
pub struct CancelOnDrop(pub Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sorts a matrix by label set.
fn sort(answer: &mut QueryAnswer) {
    if let QueryValue::Matrix(series) = &mut answer.value
        // Most answers come sorted already, and comparing neighbours is much cheaper than sorting.
        && !series.is_sorted_by(|a, b| a.labels <= b.labels)
    {
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
    }
}

/// The number of series of an answer.
fn num_series(value: &QueryValue) -> usize {
    match value {
        QueryValue::Vector(samples) => samples.len(),
        QueryValue::Matrix(series) => series.len(),
        QueryValue::Scalar(..) | QueryValue::Text(..) => 1,
    }
}

/// Keeps the first `limit` series; returns whether there were more.
fn truncate(value: &mut QueryValue, limit: usize) -> bool {
    let before = match value {
        QueryValue::Vector(samples) => {
            let n = samples.len();
            samples.truncate(limit);
            n
        }
        QueryValue::Matrix(series) => {
            let n = series.len();
            series.truncate(limit);
            n
        }
        QueryValue::Scalar(..) | QueryValue::Text(..) => 0,
    };
    before > limit
}
