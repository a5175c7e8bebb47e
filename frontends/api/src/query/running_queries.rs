//! `/api/v1/status/queries`: the queries that run now, and the cost of the recent ones by text. A
//! running query can be stopped by its id.
//!
//! [`RunningQueries`] is the registry: each query enters it when it begins.
//! [`super::active_queries`] limits how many run.

use super::super::AppState;
use super::super::dispatch::ApiRequest;
use super::super::json_model::{sample_time, seconds};
use super::super::limits::{QUERY_TEXT_BYTES, RECENT_QUERIES, RECENT_QUERIES_SHOWN};
use super::super::response::{ApiError, ApiResult, ErrorType, success};
use super::super::versions::Version;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use engine::query::QueryOptions;
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Instant;
use storage::model::TimeMs;

/// What a client gets whose query was stopped here.
pub(crate) const STOPPED: &str = "query was canceled by the operator";

/// What kind of request runs a query.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum QueryKind {
    /// `/api/v1/query`
    Instant,
    /// `/api/v1/query_range`
    Range,
    /// `/api/v1/sql`
    Sql,
    /// `/api/v1/rules/test`
    RuleTest,
}

/// What a running query shares with this list: its cancellation and its counters.
#[derive(Clone, Debug)]
pub struct QueryHandles {
    cancel: Arc<AtomicBool>,
    samples: Arc<AtomicUsize>,
    max_samples: usize,
}

impl From<&QueryOptions> for QueryHandles {
    fn from(options: &QueryOptions) -> QueryHandles {
        QueryHandles {
            cancel: options.cancel.clone(),
            samples: options.samples_read.clone(),
            max_samples: options.max_samples,
        }
    }
}

/// What is known of a query when it begins.
pub struct RunningQuery {
    /// Its kind.
    pub kind: QueryKind,
    /// Its text.
    pub text: String,
    /// The address of its client; "": unknown.
    pub client: String,
    /// When it began, ms.
    pub since: TimeMs,
    /// How to stop it, and what it has read.
    pub handles: QueryHandles,
}

/// A query in the list.
struct ListedQuery {
    query: RunningQuery,
    began: Instant,
    /// It was stopped by its id.
    stopped: AtomicBool,
}

/// A query that has ended.
struct RecentQuery {
    text: Arc<str>,
    at: TimeMs,
    seconds: f64,
    samples: usize,
    error: String,
}

/// The running queries and the recent ones.
#[derive(Default)]
pub struct RunningQueries {
    running: Mutex<RunningState>,
}

/// What [`RunningQueries`] has under its lock.
#[derive(Default)]
struct RunningState {
    next: u64,
    running: BTreeMap<u64, Arc<ListedQuery>>,
    recent: VecDeque<RecentQuery>,
}

/// A query's entry in the list; it goes when this is dropped.
pub struct RunningEntry {
    list: Arc<RunningQueries>,
    id: u64,
    listed: Arc<ListedQuery>,
}

impl RunningQueries {
    /// Adds a query.
    pub fn begin(self: &Arc<Self>, mut query: RunningQuery) -> RunningEntry {
        cut(&mut query.text);
        let listed = Arc::new(ListedQuery { query, began: Instant::now(), stopped: AtomicBool::new(false) });
        let mut state = self.running.lock();
        state.next += 1;
        let id = state.next;
        state.running.insert(id, listed.clone());
        drop(state);
        RunningEntry { list: self.clone(), id, listed }
    }

    /// Stops a query; `false`: it does not run.
    pub fn stop(&self, id: u64) -> bool {
        let Some(listed) = self.running.lock().running.get(&id).cloned() else { return false };
        listed.stopped.store(true, Relaxed);
        listed.query.handles.cancel.store(true, Relaxed);
        true
    }

    /// The list at `now`: what runs, and what cost most in the last `window` ms.
    pub fn list(&self, now: TimeMs, window: i64, limit: usize) -> QueriesJson {
        let state = self.running.lock();
        let active = state.running.iter().map(|(id, listed)| listed.json(*id)).collect();
        let mut by_text: HashMap<&str, TopQueryJson> = HashMap::new();
        for recent in state.recent.iter().filter(|recent| recent.at > now - window) {
            let fresh = || TopQueryJson { query: recent.text.to_string(), ..TopQueryJson::default() };
            let top = by_text.entry(&recent.text).or_insert_with(fresh);
            top.count += 1;
            top.seconds += recent.seconds;
            top.max_seconds = top.max_seconds.max(recent.seconds);
            top.samples += recent.samples as u64;
            top.last_at = top.last_at.max(recent.at);
            if !recent.error.is_empty() {
                top.last_error.clone_from(&recent.error);
            }
        }
        let mut top: Vec<TopQueryJson> = by_text.into_values().collect();
        top.sort_by(|a, b| b.seconds.total_cmp(&a.seconds).then_with(|| a.query.cmp(&b.query)));
        top.truncate(limit);
        QueriesJson { active, top, window: window as f64 / 1000.0 }
    }
}

impl ListedQuery {
    /// The query as the API shows it.
    fn json(&self, id: u64) -> ActiveQueryJson {
        let RunningQuery { kind, text, client, since, handles } = &self.query;
        ActiveQueryJson {
            id: format!("q{id}"),
            kind: *kind,
            query: text.clone(),
            client: client.clone(),
            since: *since,
            elapsed_seconds: self.began.elapsed().as_secs_f64(),
            state: if self.stopped.load(Relaxed) { "stopping" } else { "running" },
            samples: handles.samples.load(Relaxed),
            limit_samples: handles.max_samples,
        }
    }
}

impl RunningEntry {
    /// Counts the query as one that has ended, with this error.
    pub fn finish(&self, error: Option<&str>) {
        let query = &self.listed.query;
        let seconds = self.listed.began.elapsed().as_secs_f64();
        let error = if self.is_stopped() { Some(STOPPED) } else { error };
        let mut error = error.unwrap_or_default().to_owned();
        cut(&mut error);
        let recent = RecentQuery {
            text: query.text.as_str().into(),
            // By the clock that told when it began, which tests set.
            at: query.since.saturating_add((seconds * 1000.0) as i64),
            seconds,
            samples: query.handles.samples.load(Relaxed),
            error,
        };
        let mut state = self.list.running.lock();
        if state.recent.len() >= RECENT_QUERIES {
            state.recent.pop_front();
        }
        state.recent.push_back(recent);
    }

    /// Whether the query was stopped by its id.
    pub fn is_stopped(&self) -> bool {
        self.listed.stopped.load(Relaxed)
    }

    /// The error for the client: who stopped the query, if it was stopped here.
    pub fn reason_of(&self, error: ApiError) -> ApiError {
        if self.is_stopped() && error.kind == ErrorType::Canceled {
            ApiError::new(ErrorType::Canceled, STOPPED)
        } else {
            error
        }
    }
}

impl Drop for RunningEntry {
    fn drop(&mut self) {
        self.list.running.lock().running.remove(&self.id);
    }
}

/// Cuts a text to what the list keeps.
pub(crate) fn cut(text: &mut String) {
    if text.len() > QUERY_TEXT_BYTES {
        text.truncate(text.floor_char_boundary(QUERY_TEXT_BYTES));
        text.push('…');
    }
}

/// The answer of `/api/v1/status/queries`.
#[derive(Clone, Debug, Serialize)]
pub struct QueriesJson {
    /// What runs, the oldest first.
    pub active: Vec<ActiveQueryJson>,
    /// The texts that took most time, of those that have ended.
    pub top: Vec<TopQueryJson>,
    /// The time that `top` is of, s.
    #[serde(serialize_with = "seconds")]
    pub window: f64,
}

/// A query that runs.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ActiveQueryJson {
    /// What to stop it by.
    pub id: String,
    /// Its kind.
    pub kind: QueryKind,
    /// Its text.
    pub query: String,
    /// The address of its client.
    pub client: String,
    /// When it began.
    #[serde(serialize_with = "sample_time")]
    pub since: TimeMs,
    /// For how long it runs, s.
    pub elapsed_seconds: f64,
    /// `running`, or `stopping`.
    pub state: &'static str,
    /// Samples that it has read so far.
    pub samples: usize,
    /// The most samples that it may hold.
    pub limit_samples: usize,
}

/// The queries of one text.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TopQueryJson {
    /// The text.
    pub query: String,
    /// How many there were.
    pub count: u64,
    /// What they took together, s.
    pub seconds: f64,
    /// The longest, s.
    pub max_seconds: f64,
    /// Samples that they read.
    pub samples: u64,
    /// When the last one ended.
    #[serde(serialize_with = "sample_time")]
    pub last_at: TimeMs,
    /// The latest error; "": none failed.
    pub last_error: String,
}

/// The time that the list of the recent queries is of, if the request names none, ms.
const WINDOW_MS: i64 = 3_600_000;

/// `/api/v1/status/queries`
pub(crate) async fn queries(call: ApiRequest) -> ApiResult {
    let window = call.form.duration("window")?.unwrap_or(WINDOW_MS).max(0);
    let limit = call.form.limit()?.unwrap_or(RECENT_QUERIES_SHOWN).min(RECENT_QUERIES);
    let now = call.state.sources.clock.now();
    success(&call.state.work.query_permits.running.list(now, window, limit))
}

/// The version of the list: which queries run, and how many have ended.
pub(crate) fn version(state: &AppState) -> Version {
    let now = state.sources.clock.now();
    let list = state.work.query_permits.running.list(now, WINDOW_MS, RECENT_QUERIES_SHOWN);
    let active: Vec<(String, &str)> = list.active.into_iter().map(|query| (query.id, query.state)).collect();
    let top: Vec<(String, u64)> = list.top.into_iter().map(|query| (query.query, query.count)).collect();
    Version::new(&(active, top))
}

/// `/api/v1/status/queries/{id}`: stops a query.
pub(crate) async fn stop(call: ApiRequest) -> ApiResult {
    if !call.state.settings.admin {
        let reason = "queries can be stopped with --web.enable-admin-api only";
        return Err(ApiError::new(ErrorType::Unavailable, reason));
    }
    let id = call.parameter.strip_prefix('q').and_then(|digits| digits.parse().ok());
    if id.is_some_and(|id| call.state.work.query_permits.running.stop(id)) {
        tracing::info!(target: "query", query = %call.parameter, "a query is stopped by an operator");
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Err(ApiError::new(ErrorType::NotFound, format!("no query {:?} runs", call.parameter)))
}
