//! `/api/v1/query`, `query_range` and `format_query`.
//!
//! A query waits for one of `--query.max-concurrency` permits, runs off the async runtime, and is told to stop when
//! its client goes away: then hyper drops the handler's future, and [`CancelOnDrop`] with it.

use super::dispatch::Call;
use super::params::Form;
use super::reply::{ApiError, ErrorType, Reply, json_response, success};
use super::telemetry::Counted;
use super::{AppState, json, limits};
use axum::body::Body;
use axum::http::StatusCode;
use engine::plan::{Plan, Type};
use engine::query::{Answer, QueryError, QueryOptions, Value};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The warning that goes with a cut list.
pub const TRUNCATED: &str = "results truncated due to limit";

/// `/api/v1/query`
pub async fn instant(call: Call) -> Reply {
    let Call { state, form, .. } = call;
    let limit = form.limit()?;
    let t = form.time_or("time", state.sources.clock.now())?;
    let options = options(&state, &form)?;
    let clock = Stopwatch::start();
    let plan = compile(&state, form.get("query"))?;
    let prepared = clock.read();
    let ask = move |state: &AppState, options: &QueryOptions| {
        let mut answer = state.sources.answers.instant(&plan, t, options)?;
        if matches!(answer.value, Value::Matrix(_)) {
            sort(&mut answer);
        }
        Ok(answer)
    };
    let (answer, times) = run(state, options, ask).await?;
    reply(answer, limit, form.get("stats"), Timings { prepared, ..times })
}

/// `/api/v1/query_range`
pub async fn range(call: Call) -> Reply {
    let Call { state, form, .. } = call;
    let limit = form.limit()?;
    let (start, end, step) = steps(&form)?;
    let options = options(&state, &form)?;
    let clock = Stopwatch::start();
    let plan = compile(&state, form.get("query"))?;
    let prepared = clock.read();
    if let Some(kind) = not_a_series(&plan) {
        let reason =
            format!("invalid expression type {kind:?} for range query, must be Scalar or instant Vector");
        return Err(ApiError::parameter("query", reason));
    }
    let ask = move |state: &AppState, options: &QueryOptions| {
        let mut answer = state.sources.answers.range(&plan, start, end, step, options)?;
        sort(&mut answer);
        Ok(answer)
    };
    let (answer, times) = run(state, options, ask).await?;
    reply(answer, limit, form.get("stats"), Timings { prepared, ..times })
}

/// `/api/v1/format_query`
pub async fn format(call: Call) -> Reply {
    let text = call.state.sources.language.format(call.form.get("query"));
    success(&text.map_err(|e| ApiError::parameter("query", e))?)
}

/// `/api/v1/query_exemplars`: checked as in Prometheus. Grafana asks it beside its queries.
pub async fn exemplars(call: Call) -> Reply {
    let Call { state, form, .. } = call;
    let (start, end) = (form.time_or("start", i64::MIN)?, form.time_or("end", i64::MAX)?);
    if end < start {
        return Err(ApiError::parameter("end", "end timestamp must not be before start timestamp"));
    }
    compile(&state, form.get("query"))?;
    success(&[(); 0])
}

/// The plan of `text`.
pub fn compile(state: &AppState, text: &str) -> Result<Plan, ApiError> {
    state.sources.language.compile(text).map_err(|e| ApiError::parameter("query", e))
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
        default_step: settings.default_step,
        max_samples: settings.max_samples,
        timeout: given.unwrap_or(settings.query_timeout).min(settings.query_timeout),
        cancel: Arc::default(),
    })
}

/// Runs `ask` off the async runtime, when it is its turn.
async fn run<F>(state: AppState, mut options: QueryOptions, ask: F) -> Result<(Answer, Timings), ApiError>
where
    F: FnOnce(&AppState, &QueryOptions) -> Result<Answer, QueryError> + Send + 'static,
{
    let clock = Stopwatch::start();
    let counted = Counted::new(&state.telemetry.queries);
    let queue = || ApiError::new(ErrorType::Timeout, "query timed out in query queue");
    if options.timeout.is_zero() {
        return Err(queue());
    }
    let turn = tokio::time::timeout(options.timeout, state.queries.clone().acquire_owned());
    let Ok(Ok(permit)) = turn.await else { return Err(queue()) };
    let queued = clock.read();
    options.timeout = options.timeout.saturating_sub(queued).max(Duration::from_millis(1));
    let _guard = CancelOnDrop(options.cancel.clone());
    let asked = tokio::task::spawn_blocking(move || {
        // Both stay until the query has really stopped, not only until its client is gone.
        let _held = (permit, counted);
        let evaluation = Stopwatch::start();
        ask(&state, &options).map(|answer| (answer, evaluation.read()))
    });
    let (answer, evaluated) = match asked.await {
        Ok(answered) => answered?,
        Err(e) => {
            return Err(ApiError::new(ErrorType::Internal, format!("the query stopped unexpectedly: {e}")));
        }
    };
    Ok((answer, Timings { prepared: Duration::ZERO, queued, evaluated }))
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

fn reply(mut answer: Answer, limit: Option<usize>, stats: &str, timings: Timings) -> Reply {
    if let Some(limit) = limit
        && cut(&mut answer.value, limit)
    {
        answer.warnings.push(TRUNCATED.to_owned());
    }
    let stats = if stats.is_empty() { String::new() } else { timings.to_json(answer.samples) };
    let mut chunks = json::chunks(answer, stats).peekable();
    let first = chunks.next().unwrap_or_default();
    let body = match chunks.peek() {
        None => Body::from(first),
        Some(_) => {
            let pieces = std::iter::once(first).chain(chunks).map(Ok::<_, Infallible>);
            Body::from_stream(futures::stream::iter(pieces))
        }
    };
    Ok(json_response(StatusCode::OK, body))
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

struct Stopwatch(Instant);

impl Stopwatch {
    fn start() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    fn read(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Where a query's time went.
#[derive(Copy, Clone, Debug)]
struct Timings {
    prepared: Duration,
    queued: Duration,
    evaluated: Duration,
}

impl Timings {
    /// `data.stats`: matrices come sorted out of the evaluation, so sorting has no time of its own.
    fn to_json(self, samples: usize) -> String {
        let Timings { prepared, queued, evaluated } = self;
        let (total, exec) = (prepared + evaluated, prepared + queued + evaluated);
        let timings = serde_json::json!({
            "evalTotalTime": total.as_secs_f64(),
            "resultSortTime": 0,
            "queryPreparationTime": prepared.as_secs_f64(),
            "innerEvalTime": evaluated.as_secs_f64(),
            "execQueueTime": queued.as_secs_f64(),
            "execTotalTime": exec.as_secs_f64(),
        });
        let samples = serde_json::json!({"totalQueryableSamples": samples, "peakSamples": samples, "samplesRead": samples});
        serde_json::json!({"timings": timings, "samples": samples}).to_string()
    }
}
