//! From a request to a handler: method check, CORS, readiness, form and body, counting.

use super::bodies::{self, BodyShare};
use super::endpoints::{Endpoint, Since, Takes};
use super::params::Form;
use super::reply::{text, text_error};
use super::{AppState, limits, security};
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use std::time::Instant;

/// A request as handlers see it.
pub struct Call {
    /// The server.
    pub state: AppState,
    /// Values of the body and of the URL.
    pub form: Form,
    /// The body of an endpoint that takes one; empty for forms.
    pub body: Bytes,
    /// What the body holds of the memory of all bodies.
    pub share: BodyShare,
    /// Method, URL, headers, extensions.
    pub parts: Parts,
}

impl Call {
    /// The value of a header, "" if it has none or no text.
    pub fn header(&self, name: HeaderName) -> &str {
        self.parts.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("")
    }
}

/// Runs the endpoint's handler.
pub async fn dispatch(state: AppState, endpoint: &'static Endpoint, request: Request) -> Response {
    let began = Instant::now();
    let cors = cors_headers(&state, request.headers());
    let mut response = answer(&state, endpoint, request).await;
    response.headers_mut().extend(cors);
    state.telemetry.count(endpoint.path, response.status(), began.elapsed());
    response
}

async fn answer(state: &AppState, endpoint: &'static Endpoint, request: Request) -> Response {
    let api = endpoint.path.starts_with("/api/");
    if api && request.method() == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    if !endpoint.methods.contains(request.method()) {
        return method_not_allowed(endpoint, api);
    }
    if (endpoint.streams || endpoint.changes(request.method()))
        && let Some(why) = security::foreign(&state.settings, request.headers(), request.uri())
    {
        return text_error(StatusCode::FORBIDDEN, &why);
    }
    if !state.answers(endpoint.since) {
        return unavailable(state);
    }
    match read(state, endpoint, request).await {
        Ok(call) => {
            let response = (endpoint.handler)(call).await;
            if endpoint.since != Since::Start {
                settle(state).await;
            }
            response
        }
        Err(e) => e,
    }
}

/// Lets the log catch up with what an answer may show: a scrape is visible a moment before it is in there, and what
/// somebody was told must survive kill -9. A log that stands still keeps nobody from reading.
async fn settle(state: &AppState) {
    let _ = tokio::time::timeout(limits::SETTLE, state.sources.catalog.settled()).await;
}

/// Reads what the endpoint takes; the response to give if that fails.
async fn read(state: &AppState, endpoint: &Endpoint, request: Request) -> Result<Call, Response> {
    let (parts, body) = request.into_parts();
    let posted = parts.method == Method::POST || parts.method == Method::PUT;
    let is_form = parts
        .headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|v| v.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
    let mut share = state.bodies.share();
    let mut form_body = None;
    let mut own_body = Bytes::new();
    match endpoint.takes {
        Takes::Body(limit) => {
            own_body = bodies::read(body, limit, &mut share).await.map_err(|e| e.into_text())?;
        }
        Takes::Form if posted && is_form => {
            let read = bodies::read(body, limits::FORM_BYTES, &mut share).await;
            form_body = Some(read.map_err(|e| e.into_envelope())?);
        }
        Takes::Form => {}
    }
    let form = Form::parse(form_body.as_deref(), parts.uri.query()).map_err(IntoResponse::into_response)?;
    Ok(Call { state: state.clone(), form, body: own_body, share, parts })
}

fn method_not_allowed(endpoint: &Endpoint, api: bool) -> Response {
    let mut allowed: Vec<&str> = endpoint.methods.iter().map(Method::as_str).collect();
    if api {
        allowed.push("OPTIONS");
    }
    allowed.sort_unstable();
    let acts = !api && endpoint.methods.contains(&Method::PUT);
    let mut response = if acts {
        text(StatusCode::METHOD_NOT_ALLOWED, "Only POST or PUT requests allowed")
    } else {
        text_error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
    };
    if let Ok(value) = HeaderValue::from_str(&allowed.join(", ")) {
        response.headers_mut().insert(header::ALLOW, value);
    }
    response
}

/// The answer to everything that waits for the server to start, or while it stops.
pub fn unavailable(state: &AppState) -> Response {
    let doing = state.sources.admin.starting().filter(|_| !state.is_stopping());
    not_ready(&doing.unwrap_or_default(), state.is_stopping())
}

/// See [`unavailable`]; `doing`: what keeps the server from being ready.
pub fn not_ready(doing: &str, stopping: bool) -> Response {
    let said = if doing.is_empty() { String::new() } else { format!("\n{doing}\n") };
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, format!("Service Unavailable{said}"));
    let stopping = HeaderValue::from_static(if stopping { "true" } else { "false" });
    response.headers_mut().insert("x-prometheus-stopping", stopping);
    response.headers_mut().insert(header::RETRY_AFTER, limits::RETRY_AFTER_SECONDS.into());
    response
}

/// What no endpoint takes.
pub async fn fallback(state: AppState, request: Request) -> Response {
    let prefix = state.settings.route_prefix.trim_end_matches('/').to_owned();
    let path = request.uri().path();
    let local = path.strip_prefix(prefix.as_str()).unwrap_or(path);
    if request.method() == Method::OPTIONS && local.starts_with("/api/v1/") {
        let mut response = StatusCode::NO_CONTENT.into_response();
        response.headers_mut().extend(cors_headers(&state, request.headers()));
        return response;
    }
    let to_root = path == "/" || path == prefix;
    if to_root && !prefix.is_empty() {
        let location = format!("{}/", state.settings.external_path);
        return (StatusCode::FOUND, [(header::LOCATION, location)]).into_response();
    }
    text_error(StatusCode::NOT_FOUND, "404 page not found")
}

/// CORS headers for a request that has an origin, if the origin may read.
fn cors_headers(state: &AppState, headers: &HeaderMap) -> HeaderMap {
    let mut out = HeaderMap::new();
    let Some(origin) = headers.get(header::ORIGIN) else { return out };
    let allowed = match &state.settings.cors_origin {
        None => HeaderValue::from_static("*"),
        Some(pattern) if origin.to_str().is_ok_and(|o| pattern.is_match(o)) => origin.clone(),
        Some(_) => return out,
    };
    let fixed = HeaderValue::from_static;
    out.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, fixed("Accept, Authorization, Content-Type, Origin"));
    out.insert(header::ACCESS_CONTROL_ALLOW_METHODS, fixed("GET, POST, OPTIONS"));
    out.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    out.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, fixed("Date"));
    out.insert(header::VARY, fixed("Origin"));
    out
}
