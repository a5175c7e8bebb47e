//! `/api/v1/notifications` and `/api/v1/notifications/live`: messages about this server that
//! Prometheus' page shows at the top, such as a reload that failed or a start that is not complete.
//! The second endpoint streams changes as server-sent events.

use super::dispatch::ApiRequest;
use super::json_model::NotificationJson;
use super::response::{ApiResult, success};
use super::sending::streamed;
use super::{AppState, limits};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use std::collections::VecDeque;
use std::convert::Infallible;
use storage::model::TimeMs;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

const RELOAD_FAILED: &str = "Configuration reload has failed.";
const STARTING: &str = "Prometheus is starting and replaying the WAL...";

/// What is to be said now.
pub(crate) fn active(state: &AppState) -> Vec<NotificationJson> {
    let admin = &state.sources.admin;
    let starting = (!state.is_ready()).then(|| admin.runtime().start_time.unwrap_or_default());
    let found: [(&str, Option<TimeMs>); 2] =
        [(RELOAD_FAILED, admin.reload_failed_since()), (STARTING, starting)];
    let shown = found.into_iter().filter_map(|(text, since)| {
        since.map(|date| NotificationJson { text: text.to_owned(), date: Some(date), active: true })
    });
    shown.collect()
}

/// `/api/v1/notifications`
pub(crate) async fn notifications(call: ApiRequest) -> ApiResult {
    success(&active(&call.state))
}

/// `/api/v1/notifications/live`: server-sent events; each says that a notification begins or has
/// ended. 204 when too many clients listen, as in Prometheus.
pub(crate) async fn live(call: ApiRequest) -> Response {
    let Ok(permit) = call.state.work.notification_streams.clone().try_acquire_owned() else {
        return StatusCode::NO_CONTENT.into_response();
    };
    let stream = NotificationStream {
        state: call.state,
        shown: Vec::new(),
        queue: VecDeque::new(),
        heartbeat: Instant::now(),
        is_first: true,
        _permit: permit,
    };
    let body = streamed(futures::stream::unfold(stream, NotificationStream::next));
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache"),
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, body).into_response()
}

/// One client that listens.
struct NotificationStream {
    state: AppState,
    /// What the client was told, and has not ended.
    shown: Vec<NotificationJson>,
    /// What it is to be told next.
    queue: VecDeque<NotificationJson>,
    /// When something was sent last.
    heartbeat: Instant,
    is_first: bool,
    _permit: OwnedSemaphorePermit,
}

impl NotificationStream {
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        if self.is_first {
            // A comment at once: the client then knows that it is connected. Without an empty line
            // behind it, which the reader of Prometheus' page takes for the end of a message, and
            // an empty message for a broken stream.
            self.is_first = false;
            self.compare();
            return Some((Ok(Bytes::from_static(b": connected\n")), self));
        }
        loop {
            if let Some(next) = self.queue.pop_front() {
                self.heartbeat = Instant::now();
                let json = serde_json::to_string(&next).unwrap_or_default();
                return Some((Ok(Bytes::from(format!("data: {json}\n\n"))), self));
            }
            if self.heartbeat.elapsed() >= limits::HEARTBEAT {
                self.heartbeat = Instant::now();
                return Some((Ok(Bytes::from_static(b": heartbeat\n")), self));
            }
            let stopped = self.state.clone();
            tokio::select! {
                () = stopped.until_stopped() => return None,
                () = tokio::time::sleep(limits::NOTIFICATION_PERIOD) => self.compare(),
            }
        }
    }

    /// Queues what began and what ended since the last comparison.
    fn compare(&mut self) {
        let now = active(&self.state);
        let said =
            |list: &[NotificationJson], one: &NotificationJson| list.iter().any(|n| n.text == one.text);
        let ended = self.shown.iter().filter(|old| !said(&now, old));
        self.queue.extend(ended.map(|old| NotificationJson { active: false, ..old.clone() }));
        self.queue.extend(now.iter().filter(|new| !said(&self.shown, new)).cloned());
        self.shown = now;
    }
}
