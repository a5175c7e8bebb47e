//! `/api/v1/views` and `/api/v1/views/{id}`: the views that the live runtime maintains, and the
//! scheduled views, which are evaluated again and again because they cannot be maintained.
//!
//! Requests that change views are in [`super::saved_queries`].

use super::dispatch::ApiRequest;
use super::json_model::{HealthJson, instant, seconds};
use super::limits::VIEWS_PER_PAGE;
use super::params::Form;
use super::response::{ApiError, ApiResult, ErrorType, success};
use super::versions::Version;
use super::{AppState, saved_queries};
use axum::http::Method;
use engine::live::describe::{
    AnswerReport, DescribeError, Description, LeafReport, RingReport, StepCount, ViewFootprint, ViewReport,
};
use engine::live::{ViewId, ViewKind};
use engine::query::SubqueryCacheReport;
use serde::Serialize;
use std::collections::BTreeMap;
use storage::model::TimeMs;
use views::limits::DESCRIBE_TIMEOUT;
use views::recording::{BackfillState, BackfillStatus};
use views::scheduled::{format_view_id, parse_view_id};

/// A page of views.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ViewPageJson {
    /// The tick that the views describe.
    #[serde(serialize_with = "instant", skip_serializing_if = "Option::is_none")]
    time: Option<TimeMs>,
    views: Vec<ViewJson>,
    total: usize,
    /// The id of the first view of the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ViewJson {
    id: String,
    name: String,
    kind: &'static str,
    #[serde(flatten)]
    recorded: Option<RecordedViewJson>,
    standing: bool,
    plan: String,
    /// The steps of both stages of a live view; only if this view alone was requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    physical_plan: Option<String>,
    /// The text of a saved query; rules and subscriptions have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<String>,
    taps: usize,
    rows: usize,
    #[serde(serialize_with = "instant", skip_serializing_if = "Option::is_none")]
    last_change: Option<TimeMs>,
    /// The answer is complete up to this tick.
    #[serde(serialize_with = "instant", skip_serializing_if = "Option::is_none")]
    frontier: Option<TimeMs>,
    health: HealthJson,
    last_error: String,
    #[serde(serialize_with = "instant", skip_serializing_if = "Option::is_none")]
    last_error_time: Option<TimeMs>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backfill: Option<BackfillJson>,
    #[serde(flatten)]
    work: Option<LiveViewJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subquery_cache: Option<SubqueryCacheJson>,
}

/// The additional fields of a recording rule; times in s.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RecordedViewJson {
    record: String,
    labels: BTreeMap<String, String>,
    #[serde(serialize_with = "seconds")]
    interval: f64,
    #[serde(serialize_with = "seconds")]
    offset: f64,
    #[serde(serialize_with = "seconds")]
    query_offset: f64,
    limit: usize,
}

/// The state of the backfill of a recording rule.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BackfillJson {
    state: BackfillState,
    #[serde(serialize_with = "instant")]
    from: Option<TimeMs>,
    #[serde(serialize_with = "instant")]
    to: Option<TimeMs>,
    #[serde(serialize_with = "instant")]
    done_until: Option<TimeMs>,
    error: String,
}

/// What the live runtime reports.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LiveViewJson {
    level: u64,
    worker: usize,
    local_steps: SharedCountJson,
    gather_steps: SharedCountJson,
    rows_touched: usize,
    state_bytes: SharedCountJson,
    /// The view's share of the live runtime's CPU time since it was installed, s.
    #[serde(serialize_with = "seconds")]
    cpu_seconds: f64,
    /// The duration of the latest measured evaluation, s.
    #[serde(serialize_with = "seconds")]
    evaluation_seconds: f64,
    rings: Vec<RingJson>,
    /// Only if this view alone was requested.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    leaves: Vec<LeafJson>,
}

/// A selector or window: how it is kept current.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LeafJson {
    step: String,
    maintenance: &'static str,
    /// After this time it is evaluated again, although no sample comes.
    #[serde(serialize_with = "instant", skip_serializing_if = "Option::is_none")]
    next_due: Option<TimeMs>,
}

/// The size of the cache of subquery results.
#[derive(Serialize)]
struct SubqueryCacheJson {
    steps: usize,
    rows: usize,
    bytes: usize,
}

#[derive(Serialize)]
struct SharedCountJson {
    total: usize,
    shared: usize,
}

#[derive(Serialize)]
struct RingJson {
    selector: String,
    /// How far back the ring reaches, s.
    #[serde(serialize_with = "seconds")]
    reach: f64,
    series: usize,
    bytes: usize,
    readers: usize,
}

/// `/api/v1/views`
pub(crate) async fn views(call: ApiRequest) -> ApiResult {
    let ApiRequest { state, form, .. } = call;
    let (from, limit) = page_of(&form)?;
    // One more than the page shows: the first view of the next page.
    let mut found = describe(&state, from, limit + 1).await?;
    let next = found.views.get(limit).map(|view| format_view_id(view.id));
    // The id is taken before: a view that is removed until the next request only makes that page
    // begin later.
    found.views.truncate(limit);
    let definitions = state.sources.saved_queries.definitions();
    let shown = |view: ViewReport| shown(&state, definitions.get(&view.id).map(|d| d.query.clone()), view);
    let views = found.views.into_iter().map(shown).collect();
    success(&ViewPageJson { time: found.t, views, total: found.total, next })
}

/// `/api/v1/views/{id}`
pub(crate) async fn view(call: ApiRequest) -> ApiResult {
    match call.parts.method {
        // Here and not as entries of their own, because the table has one handler for each path.
        Method::PUT => return saved_queries::put(call).await,
        Method::DELETE => return saved_queries::delete(call).await,
        _ => {}
    }
    let name = call.parameter.clone();
    let id = saved_queries::id_named(&call.state, &name)?;
    let found = one(&call.state, id).await?;
    // The text as it was put; `plan` is the same in canonical form and may look different.
    let query = call.state.sources.saved_queries.definition(id).map(|(_, definition)| definition.query);
    success(&shown(&call.state, query, found.ok_or_else(|| not_found(&name))?))
}

/// The version of the first page of views: another one with each tick.
pub(crate) async fn version(state: &AppState) -> Result<Version, ApiError> {
    let found = describe(state, ViewId(0), VIEWS_PER_PAGE).await?;
    let steady: Vec<SteadyView> = found.views.iter().map(SteadyView::new).collect();
    Ok(Version::new(&(steady, found.total, found.t)))
}

/// What belongs to the version of a view.
#[derive(Hash)]
struct SteadyView<'a> {
    id: u64,
    name: &'a str,
    taps: usize,
    rows: usize,
    last_change: Option<TimeMs>,
    last_error: Option<&'a str>,
}

impl SteadyView<'_> {
    fn new(view: &ViewReport) -> SteadyView<'_> {
        SteadyView {
            id: view.id.0,
            name: &view.spec.name,
            taps: view.answer.taps,
            rows: view.answer.rows,
            last_change: view.answer.changed,
            last_error: view.answer.failure.as_ref().map(|failure| failure.error.as_str()),
        }
    }
}

/// The report of one view.
pub(crate) async fn one(state: &AppState, id: ViewId) -> Result<Option<ViewReport>, ApiError> {
    // The page begins at the next existing view, which may be another one.
    Ok(describe(state, id, 1).await?.views.into_iter().find(|view| view.id == id))
}

/// The error for a view that does not exist.
pub(crate) fn not_found(name: &str) -> ApiError {
    ApiError::new(ErrorType::NotFound, format!("no view {name:?}: it is gone, or never was"))
}

fn page_of(form: &Form) -> Result<(ViewId, usize), ApiError> {
    let limit = match form.get("limit") {
        "" => VIEWS_PER_PAGE,
        text => match text.parse::<usize>() {
            Ok(n) if n > 0 => n,
            _ => return Err(ApiError::bad_data("limit must be a positive number")),
        },
    };
    // Refused, not cut: whoever asks for more would take a shorter page for the last one.
    if limit > VIEWS_PER_PAGE {
        return Err(ApiError::bad_data(format!("limit must not exceed {VIEWS_PER_PAGE}")));
    }
    let from = match form.get("from") {
        "" => ViewId(0),
        name => parse_view_id(name)
            .ok_or_else(|| ApiError::parameter("from", format!("{name:?} is not the id of a view")))?,
    };
    Ok((from, limit))
}

/// Describes views; the live runtime answers within a tick.
async fn describe(state: &AppState, from: ViewId, limit: usize) -> Result<Description, ApiError> {
    let views = state.sources.views.clone();
    describe_in_turn(state, move || views.describe(from, limit)).await
}

/// Runs `question` off the async runtime, one request at a time.
pub(crate) async fn describe_in_turn<T: Send + 'static>(
    state: &AppState,
    question: impl FnOnce() -> Result<T, DescribeError> + Send + 'static,
) -> Result<T, ApiError> {
    let late = |_| error_of(DescribeError::Late(DESCRIBE_TIMEOUT));
    // One at a time: a description walks the state of every worker inside a tick, and ten
    // dashboards that ask together would delay the ticks of all rules.
    let turn = state.work.describe_lock.clone().lock_owned();
    let turn = tokio::time::timeout(DESCRIBE_TIMEOUT, turn).await.map_err(late)?;
    let description = state.blocking(move || {
        // Even if the client has disconnected, the next request waits until this one is done.
        let _turn = turn;
        question()
    });
    let found = description.await.map_err(|e| ApiError::new(ErrorType::Internal, e.to_string()))?;
    found.map_err(error_of)
}

/// A description that did not come, as the API answers it.
pub(crate) fn error_of(e: DescribeError) -> ApiError {
    let kind = match e {
        // The server works, but a tick takes longer than the client may wait: trying again may
        // help, waiting does not.
        DescribeError::Late(_) => ErrorType::Timeout,
        DescribeError::Stopped => ErrorType::UnavailableNow,
    };
    ApiError::new(kind, e.to_string())
}

fn shown(state: &AppState, query: Option<String>, view: ViewReport) -> ViewJson {
    // All fields are named, so that a new one cannot be forgotten here.
    let AnswerReport { taps, rows, changed, frontier, failure, content: _, check: _ } = view.answer;
    let health = match &failure {
        // A failure that is over stays visible in `lastError`, but the answer is good again.
        Some(failure) if failure.lasts => HealthJson::Bad,
        _ if changed.is_some() => HealthJson::Good,
        _ => HealthJson::Unknown,
    };
    let (last_error, last_error_time) = failure.map_or_else(Default::default, |f| (f.error, Some(f.t)));
    let recorded = recorded(view.spec.kind);
    let plan = view.work.as_ref().map(|work| work.physical_plan.clone());
    let physical_plan = plan.filter(|plan| !plan.is_empty());
    let backfill = state.sources.views.past(view.id).map(backfill);
    ViewJson {
        id: format_view_id(view.id),
        name: view.spec.name,
        kind: if recorded.is_some() { "recorded" } else { "continuous" },
        recorded,
        // Scheduled views do no work in the live runtime; that is what this field tells.
        standing: view.work.is_some(),
        plan: state.sources.queries.language.explain(&view.spec.plan),
        physical_plan,
        query,
        taps,
        rows,
        last_change: changed,
        frontier,
        health,
        last_error,
        last_error_time,
        backfill,
        work: view.work.map(live_view),
        subquery_cache: view
            .subquery_cache
            .map(|SubqueryCacheReport { steps, rows, bytes, .. }| SubqueryCacheJson { steps, rows, bytes }),
    }
}

fn backfill(report: BackfillStatus) -> BackfillJson {
    let BackfillStatus { from, to, done_until, state, error } = report;
    BackfillJson { state, from: Some(from), to: Some(to), done_until: Some(done_until), error }
}

fn in_seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

fn recorded(kind: ViewKind) -> Option<RecordedViewJson> {
    match kind {
        // Conditions of alerts are continuous views, too: their series are written by the rules,
        // not by the view.
        ViewKind::Continuous { .. } => None,
        ViewKind::Recorded { record, labels, interval, offset, query_offset, limit } => {
            Some(RecordedViewJson {
                record,
                labels: labels.into_iter().collect(),
                interval: in_seconds(interval),
                offset: in_seconds(offset),
                query_offset: in_seconds(query_offset),
                limit,
            })
        }
    }
}

fn live_view(work: ViewFootprint) -> LiveViewJson {
    let shared = |steps: StepCount| SharedCountJson { total: steps.total, shared: steps.shared };
    let ring = |ring: RingReport| RingJson {
        selector: ring.selector,
        reach: in_seconds(ring.retention),
        series: ring.series,
        bytes: ring.bytes,
        readers: ring.readers,
    };
    let leaf = |leaf: LeafReport| LeafJson {
        step: leaf.step,
        maintenance: leaf.maintenance,
        next_due: leaf.next_due,
    };
    let spent = work.spent.unwrap_or_default();
    LiveViewJson {
        level: work.round,
        worker: work.owner,
        local_steps: shared(work.local),
        gather_steps: shared(work.gather),
        rows_touched: work.rows_touched,
        state_bytes: SharedCountJson { total: work.state.total, shared: work.state.shared },
        cpu_seconds: spent.total,
        evaluation_seconds: spent.latest,
        rings: work.rings.into_iter().map(ring).collect(),
        leaves: work.leaves.into_iter().map(leaf).collect(),
    }
}
