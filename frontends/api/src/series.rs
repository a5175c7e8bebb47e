//! `/api/v1/series`, `labels` and `label/{name}/values`: the series, label names and label values
//! of the store.

use super::dispatch::ApiRequest;
use super::limits::{SELECTOR_BYTES, SELECTOR_REGEXES};
use super::params::{Form, MAX_TIME, MIN_TIME, unescape_name};
use super::query::TRUNCATED;
use super::query_json::{FoundList, List};
use super::remote_series::{label_warnings, with_remote_series};
use super::response::{ApiError, ApiResult, ErrorType, json_response};
use super::{AppState, query_json, sending};
use axum::http::StatusCode;
use axum::response::Response;
use engine::memory::MemoryReservation;
use engine::query::QueryError;
use language::QueryTextError;
use std::sync::{Arc, OnceLock};
use storage::model::{MatchOp, Matcher, TimeMs};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// `/api/v1/series`
pub(crate) async fn series(call: ApiRequest) -> ApiResult {
    let ApiRequest { state, form, .. } = call;
    form.check_decoded()?;
    // Required here only: all series of a server are too many to ask for by mistake, all label
    // names are not.
    if form.all("match[]").next().is_none() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let limit = form.limit()?;
    let (from, to) = bounds(&form)?;
    let sets = matcher_sets(&state, &form).map_err(|e| ApiError::parameter("match[]", e))?;
    state.wait_readable(to, state.settings.queries.timeout).await?;
    let warnings: Arc<OnceLock<Vec<String>>> = Arc::default();
    let told = warnings.clone();
    let ask = move |state: &AppState, memory: &MemoryReservation| {
        let own = state.sources.queries.catalog.series(&sets, from, to, memory)?;
        let list = with_remote_series(state, own, &sets, from, to, memory)?;
        // Set once: here.
        let _ = told.set(list.warnings);
        Ok(list.series)
    };
    let listed = listed(&state, ask).await?;
    let warnings = warnings.get().cloned().unwrap_or_default();
    Ok(written(&state, listed, limit, warnings, query_json::labels))
}

/// `/api/v1/labels`
pub(crate) async fn label_names(call: ApiRequest) -> ApiResult {
    let ApiRequest { state, form, .. } = call;
    let limit = form.limit()?;
    let (from, to) = bounds(&form)?;
    let sets = matcher_sets(&state, &form)?;
    state.wait_readable(to, state.settings.queries.timeout).await?;
    let ask = move |state: &AppState, memory: &MemoryReservation| {
        counted(state.sources.queries.catalog.label_names(&sets, from, to)?, memory)
    };
    let listed = listed(&state, ask).await?;
    let warnings = label_warnings(&state, from, to);
    Ok(written(&state, listed, limit, warnings, |out, name| query_json::string(out, name)))
}

/// `/api/v1/label/{name}/values`
pub(crate) async fn label_values(call: ApiRequest) -> ApiResult {
    let name = label_name(&call.parameter)?;
    let ApiRequest { state, form, .. } = call;
    let limit = form.limit()?;
    let (from, to) = bounds(&form)?;
    let sets = matcher_sets(&state, &form)?;
    state.wait_readable(to, state.settings.queries.timeout).await?;
    let ask = move |state: &AppState, memory: &MemoryReservation| {
        counted(state.sources.queries.catalog.label_values(&name, &sets, from, to)?, memory)
    };
    let listed = listed(&state, ask).await?;
    let warnings = label_warnings(&state, from, to);
    Ok(written(&state, listed, limit, warnings, |out, value| query_json::string(out, value)))
}

/// The label name in a path.
fn label_name(given: &str) -> Result<String, ApiError> {
    let name = unescape_name(given);
    // The replacement character stands for bytes of the path that were not UTF-8.
    let valid = !name.is_empty() && !name.contains('\u{fffd}');
    if valid { Ok(name) } else { Err(ApiError::bad_data(format!("invalid label name: {name:?}"))) }
}

fn bounds(form: &Form) -> Result<(TimeMs, TimeMs), ApiError> {
    Ok((form.time_or("start", MIN_TIME)?, form.time_or("end", MAX_TIME)?))
}

/// Why the `match[]` selectors of a request cannot be used. The request is wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SelectorError {
    /// All matchers of a selector match the empty value, so it would select every series.
    #[error("match[] must contain at least one non-empty matcher")]
    AllEmpty,
    /// The selectors together have too many bytes.
    #[error("the selectors are too long: the limit is {SELECTOR_BYTES} bytes for all of them")]
    TooLong,
    /// The selectors together have too many regular expressions.
    #[error("too many regular expressions: the limit is {SELECTOR_REGEXES} for all selectors")]
    TooManyRegexes,
    /// A text is no selector.
    #[error("{}", .0.message())]
    Syntax(QueryTextError),
}

impl From<SelectorError> for ApiError {
    fn from(error: SelectorError) -> ApiError {
        ApiError::bad_data(error.to_string())
    }
}

/// The `match[]` selectors; each must have a matcher that does not match the empty value.
pub(crate) fn matcher_sets(state: &AppState, form: &Form) -> Result<Vec<Vec<Matcher>>, SelectorError> {
    let sets = selectors(state, form)?;
    if sets.iter().any(|set| set.iter().all(Matcher::matches_empty)) {
        return Err(SelectorError::AllEmpty);
    }
    Ok(sets)
}

/// The `match[]` selectors. Together they have the size limits of one query.
pub(crate) fn selectors(state: &AppState, form: &Form) -> Result<Vec<Vec<Matcher>>, SelectorError> {
    let mut sets = Vec::new();
    let mut bytes = 0;
    let mut regexes = 0;
    for text in form.all("match[]") {
        // Together, not each: a request may have many `match[]`, and each costs a walk over the
        // index.
        bytes += text.len();
        if bytes > SELECTOR_BYTES {
            return Err(SelectorError::TooLong);
        }
        let set = state.sources.queries.language.selector(text).map_err(SelectorError::Syntax)?;
        regexes += set.iter().filter(|m| matches!(m.op, MatchOp::Regex | MatchOp::NotRegex)).count();
        if regexes > SELECTOR_REGEXES {
            return Err(SelectorError::TooManyRegexes);
        }
        sets.push(set);
    }
    Ok(sets)
}

/// Runs a store read off the async runtime, at low priority.
pub(crate) async fn run_blocking<T: Send + 'static>(
    state: AppState,
    ask: impl FnOnce(&AppState) -> Result<T, QueryError> + Send + 'static,
) -> Result<T, ApiError> {
    let caller_state = state.clone();
    join_store_call(caller_state.work.low_priority.run(move || ask(&state))).await
}

/// The result of a store call.
pub(crate) async fn join_store_call<T, E: Into<ApiError>>(
    call: JoinHandle<Result<T, E>>,
) -> Result<T, ApiError> {
    // Only a panic ends a task so; the text of the panic is in the log.
    let internal = |e| ApiError::new(ErrorType::Internal, format!("the request stopped unexpectedly: {e}"));
    call.await.map_err(internal)?.map_err(E::into)
}

/// A list that the store returned, with its memory and its deadline.
pub(crate) struct StoreList<T> {
    /// The list.
    pub found: FoundList<T>,
    /// When the list must have been sent.
    pub deadline: Instant,
}

/// Reads a list from the store. The list counts towards the memory of all answers as long as it
/// exists, and has the time limit of a query.
pub(crate) async fn listed<T: Send + 'static>(
    state: &AppState,
    ask: impl FnOnce(&AppState, &MemoryReservation) -> Result<Vec<T>, QueryError> + Send + 'static,
) -> Result<StoreList<T>, ApiError> {
    let deadline = Instant::now() + state.settings.queries.timeout;
    let memory = state.sources.queries.memory.reservation(state.settings.queries.max_bytes);
    let work = move |state: &AppState| Ok(FoundList { list: ask(state, &memory)?, memory });
    let list = tokio::time::timeout_at(deadline, run_blocking(state.clone(), work)).await;
    // The read itself goes on until its next check; its memory counts until then, because the
    // reservation moved into it.
    let late = |_| ApiError::new(ErrorType::Timeout, "the request timed out: ask for fewer series");
    Ok(StoreList { found: list.map_err(late)??, deadline })
}

/// The list, after its bytes were added to `memory`.
fn counted(list: Vec<String>, memory: &MemoryReservation) -> Result<Vec<String>, QueryError> {
    let bytes = list.iter().map(|text| text.len() + size_of::<String>()).sum();
    memory.grow(bytes)?;
    Ok(list)
}

/// The response with at most `limit` items of the list, in pieces. `remote`: what is said of the
/// servers of `remote_read`.
fn written<T: Send + 'static>(
    state: &AppState,
    listed: StoreList<T>,
    limit: Option<usize>,
    remote: Vec<String>,
    write: fn(&mut String, &T),
) -> Response {
    let StoreList { mut found, deadline } = listed;
    // First: a list that lacks a damaged block is more important than one that was cut on request.
    let mut warnings = Vec::from_iter(state.incomplete_reason());
    warnings.extend(remote);
    if let Some(limit) = limit
        && found.list.len() > limit
    {
        found.list.truncate(limit);
        warnings.push(TRUNCATED.to_owned());
    }
    json_response(StatusCode::OK, sending::body(List::new(found, write, warnings), deadline))
}
