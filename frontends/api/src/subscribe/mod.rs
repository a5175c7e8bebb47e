//! `/api/v1/subscribe`: live query results, pushed to the client. `docs/subscribe.md` describes the
//! protocol.
//!
//! A *view* is a query whose result the engine keeps current. Equal queries share one
//! ([`shared_views`]), within a memory budget ([`state_budget`]). A [`subscription`] attaches a
//! *tap* to its view ([`attachment`]): the changes go into a bounded [`subscriber_queue`], which
//! applies the client's back-pressure policy. [`server_message`] and [`delta_encoder`] write the
//! messages; [`websocket`] or [`streaming`] sends them. [`topics`] are subscriptions to lists that
//! are no queries. [`subscribers`] lists who subscribes, [`services`] is what all of them share.

mod attachment;
pub mod budget;
pub mod client_message;
pub mod delta_encoder;
pub mod outgoing;
pub mod server_message;
pub(crate) mod services;
pub mod shared_views;
pub mod state_budget;
pub mod streaming;
pub mod subscriber_queue;
pub mod subscribers;
pub mod subscription;
pub mod topics;
mod websocket;

use super::dispatch::ApiRequest;
use super::limits;
use super::progress::Progress;
use super::response::{ApiError, ApiResult, ErrorType};
use axum::extract::FromRequestParts;
use axum::extract::ws::WebSocketUpgrade;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use client_message::SubscribeRequest;
use std::sync::Arc;
use subscribers::Transport;

/// The media type of newline-delimited JSON.
pub const NDJSON: &str = "application/x-ndjson";
/// The media type of server-sent events.
pub const EVENTS: &str = "text/event-stream";

/// `/api/v1/subscribe`
pub async fn subscribe(mut call: ApiRequest) -> ApiResult {
    if !call.header(header::UPGRADE).eq_ignore_ascii_case("websocket") {
        return streaming::subscribe(call).await;
    }
    let asks = ["query", "view", "sql", "topic"].iter().any(|field| !call.form.get(field).is_empty());
    let first = asks.then(|| SubscribeRequest::from_form(&call.form)).transpose()?;
    if let Err(e) = subscription::admit(&call.state) {
        return Ok(full(e));
    }
    let connection = call.parts.extensions.get::<Arc<Progress>>().cloned();
    match WebSocketUpgrade::from_request_parts(&mut call.parts, &()).await {
        Ok(upgrade) => {
            let subscriber = call.state.subscriptions.subscribers.enter(&call, Transport::Websocket);
            Ok(websocket::accept(call.state, upgrade, first, connection, subscriber))
        }
        Err(refusal) => Ok(refusal.into_response()),
    }
}

/// The response of a server that is full: 503, because the client may retry later.
fn full(error: ApiError) -> Response {
    let mut response = error.into_response();
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response.headers_mut().insert(header::RETRY_AFTER, limits::RETRY_AFTER_SECONDS.into());
    response
}

/// The error of a server that is full.
fn too_many(what: &str, limit: usize) -> ApiError {
    ApiError::new(ErrorType::Unavailable, format!("too many {what} (limit {limit})"))
}
