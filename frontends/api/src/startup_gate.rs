//! The startup gate: answers requests from the first moment on, while the store is still being
//! opened. Until then `/-/healthy` reports that the process runs, and all other paths answer that
//! the server is not ready, to browsers with a page that asks again by itself. Then all requests go
//! to the [`super::router`].

use super::AppState;
use super::dispatch::not_ready;
use super::lifecycle::HEALTHY;
use super::response::text;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use tokio::sync::watch;
use tower::ServiceExt;

/// What the server does while the gate is closed.
const OPENING: &str = "opening the data directory";

/// What a browser shows meanwhile. It has no script and no style: the files of the page are behind
/// the gate.
const WAITING_PAGE: &str = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"1\">\
    <meta name=\"viewport\" content=\"width=device-width\"><meta name=\"color-scheme\" content=\"light dark\"><title>Starting</title></head>\
    <body><h1>The server is starting</h1><p>It is opening the data directory. This page asks again every second.</p></body></html>\n";

/// The switch between "starting" and the router.
pub struct StartupGate {
    prefix: String,
    opened: OnceLock<(Router, AppState)>,
    stopping: watch::Sender<bool>,
}

impl StartupGate {
    /// A gate without a router, for a server with this `--web.route-prefix`.
    pub fn new(route_prefix: &str) -> Arc<StartupGate> {
        let prefix = route_prefix.trim_end_matches('/').to_owned();
        Arc::new(StartupGate { prefix, opened: OnceLock::new(), stopping: watch::Sender::new(false) })
    }

    /// Sends requests to `router` from now on; `state` is its state.
    pub fn open(&self, router: Router, state: AppState) {
        let _ = self.opened.set((router, state));
        if *self.stopping.borrow() {
            self.stop();
        }
    }

    /// Marks the server as stopping: it accepts no new connections, and subscriptions end.
    pub(super) fn stop(&self) {
        self.stopping.send_replace(true);
        if let Some((_, state)) = self.opened.get() {
            state.stop();
        }
    }

    /// Resolves when the server stops.
    pub(super) async fn stopped(&self) {
        // An error means that the sender was dropped, and so was the server.
        let _ = self.stopping.subscribe().wait_for(|stopping| *stopping).await;
    }

    /// The path without `--web.route-prefix`.
    pub(super) fn local_path<'a>(&self, path: &'a str) -> &'a str {
        path.strip_prefix(&self.prefix).unwrap_or(path)
    }

    /// Answers a request.
    pub(super) async fn answer(&self, request: Request) -> Response {
        if let Some((router, _)) = self.opened.get() {
            return router.clone().oneshot(request).await.unwrap_or_else(|never: Infallible| match never {});
        }
        let looks = matches!(*request.method(), Method::GET | Method::HEAD);
        if looks && self.local_path(request.uri().path()) == "/-/healthy" {
            return text(StatusCode::OK, HEALTHY);
        }
        let mut response = not_ready(OPENING, *self.stopping.borrow());
        let local = self.local_path(request.uri().path());
        let of_program = ["/api/", "/-/"].iter().any(|prefix| local.starts_with(prefix));
        let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
        if looks && !of_program && accept.is_some_and(|accept| accept.contains("text/html")) {
            let html = HeaderValue::from_static("text/html; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, html);
            *response.body_mut() = Body::from(WAITING_PAGE);
        }
        response
    }
}
