//! `/-/ready`, `/-/healthy`, `/-/reload` and `/-/quit`: handlers over the service
//! [`ServerControl`](super::services::ServerControl).

use super::AppState;
use super::dispatch::{ApiRequest, unavailable};
use super::response::{text, text_error};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

/// The answer of a healthy server that starts: it does not know its mode yet.
pub(crate) const HEALTHY: &str = "Prometheus Server is Healthy.\n";

/// `/-/ready`
pub(crate) async fn ready(call: ApiRequest) -> Response {
    if !call.state.is_ready() {
        return unavailable(&call.state);
    }
    let ready = format!("Prometheus {} is Ready.\n", mode(&call.state));
    unhealthy(&call.state).unwrap_or_else(|| text(StatusCode::OK, ready))
}

/// `/-/healthy`
pub(crate) async fn healthy(call: ApiRequest) -> Response {
    let healthy = format!("Prometheus {} is Healthy.\n", mode(&call.state));
    unhealthy(&call.state).unwrap_or_else(|| text(StatusCode::OK, healthy))
}

/// What Prometheus calls this mode.
fn mode(state: &AppState) -> &'static str {
    if state.settings.agent { "Agent" } else { "Server" }
}

/// The response of a server that runs but cannot do its work; `None`: it is healthy.
fn unhealthy(state: &AppState) -> Option<Response> {
    let reason = state.sources.admin.unhealthy()?;
    Some(text(
        StatusCode::SERVICE_UNAVAILABLE,
        format!("Prometheus {} is not Healthy: {reason}\n", mode(state)),
    ))
}

/// `/-/reload`
pub(crate) async fn reload(call: ApiRequest) -> Response {
    if let Some(refusal) = refused(&call.state) {
        return refusal;
    }
    match call.state.sources.admin.reload().await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(e) => text_error(StatusCode::INTERNAL_SERVER_ERROR, &format!("failed to reload config: {e}")),
    }
}

/// `/-/quit`
pub(crate) async fn quit(call: ApiRequest) -> Response {
    if let Some(refusal) = refused(&call.state) {
        return refusal;
    }
    call.state.sources.admin.quit();
    text(StatusCode::OK, "Requesting termination... Goodbye!")
}

fn refused(state: &AppState) -> Option<Response> {
    (!state.settings.lifecycle).then(|| text(StatusCode::FORBIDDEN, "Lifecycle API is not enabled."))
}
