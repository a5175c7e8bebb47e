//! Handles a request from its arrival to its handler: finds the endpoint, checks method, CORS and
//! readiness, reads the form or body, counts the request.
//!
//! [`route`] is the entry. It makes an [`ApiRequest`] and calls the handler in
//! [`super::endpoints`].

use super::bodies::{self, BodyShare};
use super::confinement::{self, ConfinedAccess, Confinement};
use super::endpoints::{Availability, Endpoint, RequestBody};
use super::forms::MediaType;
use super::params::Form;
use super::paths::Lookup;
use super::response::{text, text_error};
use super::{AppState, agent, forms, limits, paths, security};
use axum::body::HttpBody as _;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Instant;
use storage::spans::{Span, SpanContext, SpanKind, TRACEPARENT};

/// A request as handlers get it.
pub struct ApiRequest {
    /// The state of the server.
    pub state: AppState,
    /// The value of the path parameter of the endpoint, decoded; "" if the endpoint has none.
    pub parameter: String,
    /// The values of the form body and of the URL.
    pub form: Form,
    /// The body of an endpoint that takes one; empty for forms.
    pub body: Bytes,
    /// The memory that the body holds.
    pub share: BodyShare,
    /// Method, URL, headers, extensions.
    pub parts: Parts,
}

impl ApiRequest {
    /// The value of a header; "" if it is missing or is not text.
    pub fn header(&self, name: HeaderName) -> &str {
        self.parts.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("")
    }
}

/// Answers a request: runs the handler of its endpoint, or redirects.
pub async fn route(state: AppState, request: Request) -> Response {
    let prefix = state.settings.web.route_prefix.trim_end_matches('/');
    match paths::lookup(request.uri().path(), prefix, request.method()) {
        Lookup::Endpoint(endpoint, parameter) => dispatch(&state, endpoint, parameter, request).await,
        Lookup::Moved(status, path) => {
            let location = paths::location(&path, request.uri().query());
            (status, [(header::LOCATION, location)]).into_response()
        }
        Lookup::Nothing => fallback(&state, &request),
        // The text is Go's: its server answers this before any handler runs.
        Lookup::Malformed => text_error(StatusCode::BAD_REQUEST, "400 Bad Request"),
    }
}

/// Runs the handler of an endpoint.
async fn dispatch(
    state: &AppState,
    endpoint: &'static Endpoint,
    parameter: String,
    mut request: Request,
) -> Response {
    let began = Instant::now();
    // Before the handler, because that takes the request; on errors too, because a browser shows a
    // page the error text only with these headers.
    let cors = cors_headers(state, request.headers());
    let mut span = request_span(state, endpoint, &mut request);
    let mut response = answer(state, endpoint, parameter, request).await;
    if span.is_sampled() {
        span.set("http.response.status_code", i64::from(response.status().as_u16()));
        if response.status().is_server_error() {
            span.fail(response.status());
        }
    }
    response.headers_mut().extend(cors);
    let size = response.body().size_hint().exact();
    state.telemetry.count(endpoint.path, response.status(), began.elapsed(), size);
    response
}

/// The span of a request, which continues that of its client. The handler finds its context among
/// the extensions of the request.
fn request_span(state: &AppState, endpoint: &Endpoint, request: &mut Request) -> Span {
    let tracer = &state.sources.tracer;
    if !tracer.is_on() {
        return Span::default();
    }
    let caller =
        request.headers().get(TRACEPARENT).and_then(|value| SpanContext::parse(value.to_str().ok()?));
    let path = request.uri().path();
    let mut span = tracer.start(format!("{} {path}", request.method()), SpanKind::Server, caller);
    span.set("http.request.method", request.method().as_str());
    span.set("http.route", endpoint.path);
    span.set("url.path", path);
    if let Some(context) = span.context() {
        request.extensions_mut().insert(context);
    }
    span
}

async fn answer(
    state: &AppState,
    endpoint: &'static Endpoint,
    parameter: String,
    request: Request,
) -> Response {
    if !endpoint.methods.contains(request.method()) {
        return other_method(endpoint, request.method());
    }
    if let Some(refusal) = agent::refusal(state.settings.agent, endpoint.path) {
        return refusal;
    }
    // Browsers send cross-site requests of these kinds without asking first: a websocket has no
    // preflight, and neither has a form. So CORS headers would come too late.
    if (endpoint.streams || endpoint.changes(request.method()))
        && let Some(why) = security::foreign(&state.settings, request.headers(), request.uri())
    {
        return text_error(StatusCode::FORBIDDEN, &why);
    }
    let mut state = state.clone();
    if let Some(confinement) = request.extensions().get::<Arc<Confinement>>() {
        if endpoint.confined == ConfinedAccess::Refused {
            return confinement::forbidden(endpoint.path);
        }
        state = state.confined_to(confinement);
    }
    let state = &state;
    // After the checks above, so that a wrong method is told as such while the server starts, too.
    if !state.answers(endpoint.since) {
        return unavailable(state);
    }
    match read(state, endpoint, parameter, request).await {
        Ok(call) => {
            let response = (endpoint.handler)(call).await;
            // Endpoints that answer from the start show no samples, and health checks must not wait
            // for a disk.
            if endpoint.since != Availability::Start {
                wait_until_durable(state).await;
            }
            response
        }
        Err(e) => e,
    }
}

/// Waits until the write-ahead log is synced up to what the answer may show: a scraped sample is
/// visible a moment before it is in the log, and an answer must not show what a crash would lose.
/// After [`limits::SETTLE`] the answer is sent anyway: a stalled disk must not stop reads.
async fn wait_until_durable(state: &AppState) {
    let _ = tokio::time::timeout(limits::SETTLE, state.sources.queries.readiness.wait_committed()).await;
}

/// Reads the body or form that the endpoint takes; the error is the response to send.
async fn read(
    state: &AppState,
    endpoint: &Endpoint,
    parameter: String,
    request: Request,
) -> Result<ApiRequest, Response> {
    let (parts, body) = request.into_parts();
    let mut share = state.work.bodies.share();
    let query = parts.uri.query();
    // Such a body belongs to the handler; as in Go, values then come from the URL only.
    if let RequestBody::Body(limit) = endpoint.takes {
        let body = bodies::read(body, limit, &mut share).await.map_err(|e| e.into_text())?;
        let form = Form::parse(None, query).map_err(IntoResponse::into_response)?;
        return Ok(ApiRequest { state: state.clone(), parameter, form, body, share, parts });
    }
    // Go's `ParseForm` reads a body for these methods (and PATCH, which no endpoint takes),
    // whatever the body says of itself otherwise.
    let posted = parts.method == Method::POST || parts.method == Method::PUT;
    let media = if posted {
        MediaType::parse(parts.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()))
    } else {
        MediaType::default()
    };
    let is_multipart = media.essence == "multipart/form-data" && media.boundary.is_some();
    let form_body = if media.essence == "application/x-www-form-urlencoded" || is_multipart {
        let read = bodies::read(body, limits::FORM_BYTES, &mut share).await;
        Some(read.map_err(|e| e.into_envelope())?)
    } else {
        None
    };
    // Go merges the values of a multipart body into the others after the URL's; `Form::with`
    // appends them.
    let pairs = form_body.as_deref().filter(|_| !is_multipart);
    let form = Form::parse(pairs, query).map_err(IntoResponse::into_response)?;
    let parted = match (&form_body, &media.boundary) {
        (Some(body), Some(boundary)) if is_multipart => forms::multipart(body, boundary),
        _ => None,
    };
    // A broken Content-Type is an error only for handlers that need every value ([`Form::whole`]);
    // others work with what there is, as in Prometheus.
    let form = form.with(parted.unwrap_or_default(), media.fault);
    Ok(ApiRequest { state: state.clone(), parameter, form, body: Bytes::new(), share, parts })
}

/// The response to a method that an endpoint does not take.
fn other_method(endpoint: &Endpoint, method: &Method) -> Response {
    // Prometheus has two routers: the API's answers OPTIONS itself, the other's lists the methods
    // in `Allow`. Clients have come to depend on both.
    let api = endpoint.path.starts_with("/api/");
    if api && *method == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    // `/-/reload` and `/-/quit`: Prometheus registers a GET handler for them that says what to do
    // instead.
    let acts = !api && endpoint.methods.contains(&Method::PUT);
    let mut allowed: Vec<&str> = endpoint.methods.iter().map(Method::as_str).collect();
    allowed.push("OPTIONS");
    if acts {
        allowed.push("GET");
    }
    allowed.sort_unstable();
    let mut response = if *method == Method::OPTIONS {
        StatusCode::OK.into_response()
    } else if acts && *method == Method::GET {
        text(StatusCode::METHOD_NOT_ALLOWED, "Only POST or PUT requests allowed")
    } else {
        text_error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
    };
    if let Ok(value) = HeaderValue::from_str(&allowed.join(", ")) {
        response.headers_mut().insert(header::ALLOW, value);
    }
    response
}

/// The response of endpoints that need a running server, while it starts or stops.
pub fn unavailable(state: &AppState) -> Response {
    // A server that stops during its start says that it stops.
    let doing = state.sources.admin.starting().filter(|_| !state.is_stopping());
    not_ready(&doing.unwrap_or_default(), state.is_stopping())
}

/// Like [`unavailable`]; `doing` says what the server is still doing.
pub fn not_ready(doing: &str, stopping: bool) -> Response {
    let said = if doing.is_empty() { String::new() } else { format!("\n{doing}\n") };
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, format!("Service Unavailable{said}"));
    let stopping = HeaderValue::from_static(if stopping { "true" } else { "false" });
    // A header of Prometheus; load balancers use it to tell a start from an end.
    response.headers_mut().insert("x-prometheus-stopping", stopping);
    response.headers_mut().insert(header::RETRY_AFTER, limits::RETRY_AFTER_SECONDS.into());
    response
}

/// The response to a path that no endpoint has.
fn fallback(state: &AppState, request: &Request) -> Response {
    let prefix = state.settings.web.route_prefix.trim_end_matches('/');
    let path = request.uri().path();
    let local = path.strip_prefix(prefix).unwrap_or(path);
    // Prometheus answers every preflight below the API's prefix, also for paths that it does not
    // have.
    if request.method() == Method::OPTIONS && local.starts_with("/api/v1/") {
        let mut response = StatusCode::NO_CONTENT.into_response();
        response.headers_mut().extend(cors_headers(state, request.headers()));
        return response;
    }
    let to_root = path == "/" || path == prefix;
    if to_root && !prefix.is_empty() {
        // The external path, not the route prefix: a reverse proxy may have removed one and know
        // only the other.
        let location = paths::location(&format!("{}/", state.settings.web.external_path), None);
        return (StatusCode::FOUND, [(header::LOCATION, location)]).into_response();
    }
    text_error(StatusCode::NOT_FOUND, "404 page not found")
}

/// The CORS headers of the response: set if the request has an `Origin` that may read.
fn cors_headers(state: &AppState, headers: &HeaderMap) -> HeaderMap {
    let mut out = HeaderMap::new();
    let Some(origin) = headers.get(header::ORIGIN) else { return out };
    let allowed = match &state.settings.web.cors_origin {
        None => HeaderValue::from_static("*"),
        Some(pattern) if origin.to_str().is_ok_and(|o| pattern.is_match(o)) => origin.clone(),
        // No headers at all: the browser then refuses the answer. A 403 would also refuse programs,
        // which send an `Origin` now and then.
        Some(_) => return out,
    };
    let fixed = HeaderValue::from_static;
    out.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, fixed("Accept, Authorization, Content-Type, Origin"));
    out.insert(header::ACCESS_CONTROL_ALLOW_METHODS, fixed("GET, POST, OPTIONS"));
    out.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    out.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, fixed("Date"));
    // A cache between must not give one origin the headers of another.
    out.insert(header::VARY, fixed("Origin"));
    out
}
