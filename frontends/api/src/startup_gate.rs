//! What answers from the first moment on: before there is a store `/-/healthy` says that the
//! process lives and everything else that it is not ready; then all requests go to the
//! [`super::router`].

use super::AppState;
use super::dispatch::not_ready;
use super::lifecycle::HEALTHY;
use super::response::text;
use axum::Router;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use tokio::sync::watch;
use tower::ServiceExt;

/// See the module.
pub struct StartupGate {
    prefix: String,
    opened: OnceLock<(Router, AppState)>,
    stopping: watch::Sender<bool>,
}

impl StartupGate {
    /// A door with nothing behind it yet, for a server with this `--web.route-prefix`.
    pub fn new(route_prefix: &str) -> Arc<StartupGate> {
        let prefix = route_prefix.trim_end_matches('/').to_owned();
        Arc::new(StartupGate { prefix, opened: OnceLock::new(), stopping: watch::Sender::new(false) })
    }

    /// From now on requests go to `router`, whose state is `state`.
    pub fn open(&self, router: Router, state: AppState) {
        let _ = self.opened.set((router, state));
        if *self.stopping.borrow() {
            self.stop();
        }
    }

    /// The server stops: it takes no new connections, and subscriptions end.
    pub(super) fn stop(&self) {
        self.stopping.send_replace(true);
        if let Some((_, state)) = self.opened.get() {
            state.stop();
        }
    }

    /// Resolves when the server stops.
    pub(super) async fn stopped(&self) {
        // An error means that the sender is gone, and with it the server.
        let _ = self.stopping.subscribe().wait_for(|stopping| *stopping).await;
    }

    /// A path without `--web.route-prefix`.
    pub(super) fn local_path<'a>(&self, path: &'a str) -> &'a str {
        path.strip_prefix(&self.prefix).unwrap_or(path)
    }

    /// The answer to a request.
    pub(super) async fn answer(&self, request: Request) -> Response {
        if let Some((router, _)) = self.opened.get() {
            return router.clone().oneshot(request).await.unwrap_or_else(|never: Infallible| match never {});
        }
        let looks = matches!(*request.method(), Method::GET | Method::HEAD);
        if looks && self.local_path(request.uri().path()) == "/-/healthy" {
            return text(StatusCode::OK, HEALTHY);
        }
        not_ready("opening the data directory", *self.stopping.borrow()).into_response()
    }
}
