//! The HTTP front end: Prometheus' API, live subscriptions, health and self-metrics.
//!
//! An endpoint is one entry of the table in [`endpoints`]; [`dispatch`] turns a request into a [`dispatch::Call`], and a
//! handler turns that into a response. What lives in other crates comes in through [`sources`]. Answers are
//! written by [`json`], errors by [`reply`]; [`subscribe`] is the part that Prometheus does not have.

pub mod dispatch;
pub mod endpoints;
mod federate;
pub mod json;
pub mod language;
mod lifecycle;
pub mod limits;
pub mod model;
mod names;
mod page;
pub mod params;
mod query;
pub mod reply;
mod rules;
pub mod serve;
pub mod sources;
mod status;
pub mod subscribe;
mod targets;
mod telemetry;
mod write;

#[cfg(test)]
mod tests;

pub use serve::serve;
pub use sources::Sources;

use axum::Router;
use axum::routing::any;
use engine::query::QueryOptions;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;
use subscribe::asked::AskedViews;
use subscribe::views::SharedViews;
use telemetry::Telemetry;
use tokio::sync::{Semaphore, watch};
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, NotForContentType, Predicate};

/// What the flags say about this front end.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `--web.route-prefix`: `/`, or a path such as `/prometheus`.
    pub route_prefix: String,
    /// Path of `--web.external-url`, as browsers see it, without a final slash: "" or such as `/prometheus`.
    pub external_path: String,
    /// `--web.page-title`.
    pub page_title: String,
    /// `--web.cors.origin`: which origins may read; `None` is the default `.*`.
    pub cors_origin: Option<regex::Regex>,
    /// `--web.enable-lifecycle`.
    pub lifecycle: bool,
    /// `--query.max-concurrency`.
    pub max_concurrency: usize,
    /// `--query.timeout`.
    pub query_timeout: Duration,
    /// `--query.max-samples`.
    pub max_samples: usize,
    /// `--query.lookback-delta`, ms.
    pub lookback: i64,
    /// The global evaluation interval: the step of subqueries that name none, ms.
    pub default_step: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            route_prefix: "/".into(),
            external_path: String::new(),
            page_title: "Perennial".into(),
            cors_origin: None,
            lifecycle: false,
            max_concurrency: 20,
            query_timeout: Duration::from_secs(120),
            max_samples: engine::limits::QUERY_SAMPLES,
            lookback: 300_000,
            default_step: 60_000,
        }
    }
}

/// Compiles `--web.cors.origin`; `.*` means any origin.
pub fn cors_origin(pattern: &str) -> Result<Option<regex::Regex>, regex::Error> {
    if pattern == ".*" { Ok(None) } else { regex::Regex::new(&format!("^(?:{pattern})$")).map(Some) }
}

/// The state behind all handlers. Cheap to clone.
#[derive(Clone)]
pub struct AppState(Arc<Inner>);

/// See [`AppState`].
pub struct Inner {
    /// What the flags say.
    pub settings: Settings,
    /// Where everything comes from.
    pub sources: Sources,
    telemetry: Telemetry,
    /// `--query.max-concurrency`: one permit per running query.
    queries: Arc<Semaphore>,
    views: Arc<SharedViews>,
    stopping: watch::Sender<bool>,
}

impl Deref for AppState {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl AppState {
    /// The state for these settings and sources.
    pub fn new(settings: Settings, sources: Sources) -> AppState {
        let telemetry = Telemetry::new(&sources.metrics);
        let asking = QueryOptions {
            lookback: settings.lookback,
            default_step: settings.default_step,
            max_samples: settings.max_samples,
            timeout: settings.query_timeout,
            cancel: Arc::default(),
        };
        telemetry.concurrent_max.set(settings.max_concurrency as f64);
        AppState(Arc::new(Inner {
            telemetry,
            queries: Arc::new(Semaphore::new(settings.max_concurrency.clamp(1, Semaphore::MAX_PERMITS))),
            views: SharedViews::new(Arc::new(AskedViews::new(
                sources.views.clone(),
                sources.answers.clone(),
                sources.clock.clone(),
                asking,
            ))),
            stopping: watch::Sender::new(false),
            settings,
            sources,
        }))
    }

    /// From now on the server counts as stopping: it is not ready, and subscriptions end.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Whether [`AppState::stop`] was called.
    pub fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Resolves when the server stops.
    pub(crate) async fn stopped(&self) {
        let mut stopping = self.stopping.subscribe();
        // An error means that the sender is gone, and with it the server.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }

    /// Whether requests are served in full.
    pub(crate) fn is_ready(&self) -> bool {
        !self.is_stopping() && self.sources.admin.ready()
    }
}

/// All endpoints.
pub fn router(state: AppState) -> Router {
    let prefix = state.settings.route_prefix.trim_end_matches('/').to_owned();
    let mut routes = Router::new();
    for endpoint in endpoints::ENDPOINTS {
        let state = state.clone();
        let handler = move |request| dispatch::dispatch(state.clone(), endpoint, request);
        routes = routes.route(&format!("{prefix}{}", endpoint.path), any(handler));
    }
    let fallback = {
        let state = state.clone();
        move |request| dispatch::fallback(state.clone(), request)
    };
    // Streams must reach the client message by message.
    let worth_it = DefaultPredicate::new().and(NotForContentType::const_new(subscribe::NDJSON));
    routes.fallback(fallback).layer(CompressionLayer::new().compress_when(worth_it))
}
