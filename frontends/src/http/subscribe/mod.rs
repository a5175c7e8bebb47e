//! `/api/v1/subscribe`: answers that stay current, pushed to the client. The protocol is in `docs/subscribe.md`.
//!
//! Equal questions share one standing view ([`views`]). A [`subscription`] taps its view through a bounded [`outbox`],
//! which does what the client's back-pressure policy says; [`protocol`] writes the messages, and [`websocket`] or
//! [`stream`] carries them.

pub mod outbox;
pub mod protocol;
pub mod request;
pub mod stream;
pub mod subscription;
pub mod views;
mod websocket;

use super::dispatch::Call;
use super::reply::{ApiError, ErrorType, Reply, text_error};
use axum::extract::FromRequestParts;
use axum::extract::ws::WebSocketUpgrade;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use request::Request;

/// Media type of newline-delimited JSON.
pub const NDJSON: &str = "application/x-ndjson";
/// Media type of server-sent events.
pub const EVENTS: &str = "text/event-stream";

/// `/api/v1/subscribe`
pub async fn subscribe(mut call: Call) -> Reply {
    if !call.header(header::UPGRADE).eq_ignore_ascii_case("websocket") {
        return stream::subscribe(call).await;
    }
    if !may_connect(&call) {
        return Ok(text_error(StatusCode::FORBIDDEN, "this origin may not subscribe (--web.cors.origin)"));
    }
    let asks = ["query", "view"].iter().any(|field| !call.form.get(field).is_empty());
    let first = asks.then(|| Request::from_form(&call.form)).transpose()?;
    match WebSocketUpgrade::from_request_parts(&mut call.parts, &()).await {
        Ok(upgrade) => Ok(websocket::accept(call.state, upgrade, first)),
        Err(refusal) => Ok(refusal.into_response()),
    }
}

/// Browsers let any page open a websocket: the origin check is ours.
fn may_connect(call: &Call) -> bool {
    let (origin, host) = (call.header(header::ORIGIN), call.header(header::HOST));
    let Some(pattern) = &call.state.settings.cors_origin else { return true };
    let same = origin.split_once("://").is_some_and(|(_, authority)| authority == host);
    origin.is_empty() || same || pattern.is_match(origin)
}

/// The error of a full server.
fn too_many(what: &str, limit: usize) -> ApiError {
    ApiError::new(ErrorType::Unavailable, format!("too many {what} (limit {limit})"))
}
