//! Handlers of `/api/v1/admin/tsdb/…`: delete series, clean tombstones, take a snapshot. They
//! answer only with `--web.enable-admin-api`.
//!
//! Statuses and texts are those of Prometheus. What a deletion means is described in
//! `storage/src/store/delete.rs`.

use super::AppState;
use super::dispatch::ApiRequest;
use super::params::{MAX_TIME, MIN_TIME};
use super::response::{ApiError, ApiResult, ErrorType, success};
use super::series::{join_store_call, selectors};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::json;
use std::hash::{BuildHasher, RandomState};
use std::time::Instant;
use storage::model::TimeMs;
use storage::store::StoreError;

/// `/api/v1/admin/tsdb/delete_series`
pub(crate) async fn delete_series(call: ApiRequest) -> ApiResult {
    let ApiRequest { state, form, .. } = call;
    allowed(&state)?;
    form.check_decoded()?;
    if form.all("match[]").next().is_none() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let from = form.time_or("start", MIN_TIME)?;
    let to = form.time_or("end", MAX_TIME)?;
    let from = open_end(from, MIN_TIME, TimeMs::MIN);
    let to = open_end(to, MAX_TIME, TimeMs::MAX);
    // Parse all selectors first: a rejected request deletes nothing.
    let sets = selectors(&state, &form).map_err(|e| ApiError::parameter("match[]", e))?;
    let delete = move |state: &AppState| {
        for matchers in &sets {
            state.sources.tsdb.delete(matchers, from, to)?;
        }
        Ok(())
    };
    changed(state, delete).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `/api/v1/admin/tsdb/clean_tombstones`
pub(crate) async fn clean_tombstones(call: ApiRequest) -> ApiResult {
    allowed(&call.state)?;
    let took = call.state.telemetry.tombstone_cleanup.clone();
    let clean = move |state: &AppState| {
        let began = Instant::now();
        let outcome = state.sources.tsdb.clean_tombstones();
        took.observe(began.elapsed().as_secs_f64());
        outcome
    };
    changed(call.state, clean).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `/api/v1/admin/tsdb/snapshot`
pub(crate) async fn snapshot(call: ApiRequest) -> ApiResult {
    let ApiRequest { state, form, .. } = call;
    allowed(&state)?;
    let skip_head = form.flag("skip_head").map_err(|_| {
        let text = form.get("skip_head");
        let reason = format!("unable to parse boolean: strconv.ParseBool: parsing {text:?}: invalid syntax");
        ApiError::parameter("skip_head", reason)
    })?;
    let Some(data) = state.settings.data_directory.clone() else {
        return Err(ApiError::new(ErrorType::Internal, "create snapshot: there is no data directory"));
    };
    let name = name(state.sources.clock.now());
    let dir = data.join("snapshots").join(&name);
    let make = move |state: &AppState| state.sources.tsdb.snapshot(&dir, !skip_head);
    let made = changed(state, make).await;
    made.map_err(|e| ApiError::new(e.kind, format!("create snapshot: {}", e.message)))?;
    success(&json!({"name": name}))
}

/// Runs a change of the store off the async runtime. It does not run at low priority, because it
/// holds locks that appends wait for.
async fn changed<T: Send + 'static>(
    state: AppState,
    change: impl FnOnce(&AppState) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, ApiError> {
    let changing = state.clone();
    join_store_call(state.blocking(move || change(&changing))).await
}

/// Replaces `t` by `meant` if it equals `end`: the API's earliest and latest times mean "no bound".
fn open_end(t: TimeMs, end: TimeMs, meant: TimeMs) -> TimeMs {
    if t == end { meant } else { t }
}

/// The name of a snapshot: its time, and a random number that keeps two snapshots of one moment
/// apart.
fn name(now: TimeMs) -> String {
    let when = chrono::DateTime::from_timestamp_millis(now).unwrap_or_default();
    let random = RandomState::new().hash_one(now) >> 1;
    format!("{}-{random:016x}", when.format("%Y%m%dT%H%M%SZ"))
}

fn allowed(state: &AppState) -> Result<(), ApiError> {
    if state.settings.admin {
        Ok(())
    } else {
        Err(ApiError::new(ErrorType::Unavailable, "admin APIs disabled"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_prometheus() {
        let names: Vec<String> = (0..2).map(|_| name(1_795_248_371_731)).collect();
        assert!(names[0].starts_with("20261121T080611Z-") && names[0].len() == 17 + 16, "{}", names[0]);
        assert_ne!(names[0], names[1]);
    }
}
