//! The HTTP front end: Prometheus' API, live subscriptions, health checks and the server's own
//! metrics.
//!
//! An endpoint is one entry of the table in [`endpoints`] (start there). [`dispatch`] turns a
//! request into a [`dispatch::ApiRequest`], and the endpoint's handler turns that into a response.
//! Handlers reach other crates through the traits in [`services`]. [`query`] answers PromQL,
//! [`query_json`] writes results and [`response`] errors. [`subscribe`] is the part that Prometheus
//! does not have: clients follow a *view*, which is a query whose answer the engine keeps current.

#![warn(unreachable_pub)]

mod admin;
mod agent;
pub mod alert_history;
pub mod bodies;
mod capabilities;
pub mod confinement;
mod connection;
pub mod consoles;
pub mod dispatch;
pub mod endpoints;
mod federate;
mod forms;
mod histogram_json;
mod index_page;
pub mod json_model;
mod lifecycle;
pub mod limits;
mod low_priority;
mod metric_families;
mod metric_messages;
mod notifications;
mod pages;
pub mod params;
mod paths;
mod progress;
pub mod protection;
mod protobuf;
pub mod query;
pub mod query_json;
mod remote_read;
mod remote_series;
mod remote_write;
pub mod response;
pub mod rule_test;
mod rules;
mod saved_queries;
pub mod search;
mod security;
mod self_metrics;
mod sending;
mod series;
pub mod serve;
pub mod services;
mod settings;
pub mod silences;
mod slots;
#[cfg(feature = "sql")]
pub mod sql;
mod startup_gate;
mod status;
pub mod subscribe;
mod targets;
mod transport;
mod versions;
mod view_check;
mod views;
mod work_limits;

#[cfg(test)]
mod tests;

pub use serve::{ServeOptions, Timeouts, serve};
pub use services::ApiServices;
pub use settings::{ApiSettings, Capabilities, QuerySettings, WebSettings, acting_origin, cors_origin};
pub use startup_gate::StartupGate;
pub use transport::Listener;

use axum::Router;
use confinement::{ConfinedScope, Confinement};
use endpoints::Availability;
use parking_lot::Mutex;
use response::{ApiError, ErrorType};
use self_metrics::ApiMetrics;
use silences::SilencesCache;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;
use storage::model::TimeMs;
use subscribe::services::SubscriptionServices;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, NotForContentType, Predicate};
use work_limits::WorkLimits;

/// The state of the server that all handlers share. Cheap to clone.
#[derive(Clone)]
pub struct AppState {
    shared: Arc<AppStateInner>,
    /// The services of the other crates, as the user of a request may use them.
    pub sources: Arc<ApiServices>,
    /// What the user of a request is confined to; `None`: he may see everything.
    scope: Option<Arc<ConfinedScope>>,
}

impl AppState {
    /// Why answers from history may be incomplete now; `None`: they are complete.
    fn incomplete_reason(&self) -> Option<String> {
        self.sources.queries.catalog.incomplete_reason()
    }
}

/// The fields of [`AppState`].
pub struct AppStateInner {
    /// The settings from the command line.
    pub settings: ApiSettings,
    /// What users who are confined to labels see, by what they are confined to.
    scopes: Mutex<BTreeMap<Confinement, Arc<ConfinedScope>>>,
    telemetry: ApiMetrics,
    /// What bounds the work of requests.
    work: WorkLimits,
    /// What all subscriptions share.
    subscriptions: SubscriptionServices,
    /// What the Alertmanagers answered last.
    silences: SilencesCache,
    /// What statements of SQL need, made by the first of them.
    #[cfg(feature = "sql")]
    sql: sql::SqlState,
    /// Whether the server stops.
    stopping: watch::Sender<bool>,
}

impl Deref for AppState {
    type Target = AppStateInner;
    fn deref(&self) -> &AppStateInner {
        &self.shared
    }
}

impl AppState {
    /// The state for these settings and services.
    pub fn new(settings: ApiSettings, sources: ApiServices) -> AppState {
        let telemetry = ApiMetrics::new(&sources.metrics);
        telemetry.concurrent_max.set(settings.queries.max_concurrency as f64);
        let shared = Arc::new(AppStateInner {
            scopes: Mutex::default(),
            telemetry,
            work: WorkLimits::new(&settings),
            subscriptions: SubscriptionServices::new(&settings, &sources),
            silences: SilencesCache::default(),
            #[cfg(feature = "sql")]
            sql: sql::SqlState::default(),
            stopping: watch::Sender::new(false),
            settings,
        });
        AppState { shared, sources: Arc::new(sources), scope: None }
    }

    /// The state for a user who is confined to labels.
    pub(crate) fn confined_to(&self, confinement: &Arc<Confinement>) -> AppState {
        let mut scopes = self.scopes.lock();
        // Those of users who are no longer in the file.
        if scopes.len() >= limits::CONFINED_SCOPES && !scopes.contains_key(confinement.as_ref()) {
            scopes.clear();
        }
        let scope = scopes
            .entry(confinement.as_ref().clone())
            .or_insert_with(|| ConfinedScope::new(confinement.clone(), &self.sources))
            .clone();
        drop(scopes);
        AppState { shared: self.shared.clone(), sources: scope.sources.clone(), scope: Some(scope) }
    }

    /// The engine of SQL.
    #[cfg(feature = "sql")]
    fn sql_engine(&self) -> Arc<::sql::SqlEngine> {
        if let Some(scope) = &self.scope {
            let own = || {
                let lists = sql::lists(&scope.sources, &self.work.query_permits.running);
                Arc::new(sql::confined_engine(&scope.sources, lists))
            };
            return scope.sql.get_or_init(own).clone();
        }
        let make = || Arc::new(sql::engine(&self.sources, self.sql_lists()));
        let own = || self.sql.engine.get_or_init(make).clone();
        self.sources.sql.engine.clone().unwrap_or_else(own)
    }

    /// What the server knows about itself, as relations of SQL; they end with this state.
    #[cfg(feature = "sql")]
    pub fn sql_lists(&self) -> Arc<dyn ::sql::relations::MetaSource> {
        let make = || sql::lists(&self.sources, &self.work.query_permits.running);
        self.sql.lists.get_or_init(make).clone()
    }

    /// Marks the server as stopping: it is no longer ready, and subscriptions end.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Runs `work`, which may block, off the async threads.
    fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        low_priority::blocking(self.settings.execution, work)
    }

    /// Whether [`AppState::stop`] was called.
    pub fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Resolves when the server stops.
    pub(crate) async fn until_stopped(&self) {
        let mut stopping = self.stopping.subscribe();
        // An error means that the sender is gone, and with it the server.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }

    /// Whether the server is ready and not stopping.
    pub(crate) fn is_ready(&self) -> bool {
        !self.is_stopping() && self.sources.admin.ready()
    }

    /// Whether endpoints with this [`Availability`] answer now.
    pub(crate) fn answers(&self, since: Availability) -> bool {
        match since {
            Availability::Start => true,
            Availability::Open => {
                self.is_ready() || (!self.is_stopping() && self.sources.admin.starting().is_some())
            }
            Availability::Ready => self.is_ready(),
        }
    }

    /// Waits, at most `patience`, until samples up to time `to` can be read: while the write-ahead
    /// log is replayed, the samples in it cannot.
    pub(crate) async fn wait_readable(&self, to: TimeMs, patience: Duration) -> Result<(), ApiError> {
        let Some(wait) = self.sources.queries.readiness.readable(to) else { return Ok(()) };
        let Ok(replayed) = tokio::time::timeout(patience, wait).await else {
            let doing = self.sources.admin.starting().unwrap_or_default();
            let late = format!("query timed out in expression evaluation: the server starts, {doing}");
            return Err(ApiError::new(ErrorType::Timeout, late));
        };
        Ok(replayed?)
    }
}

/// The router of all endpoints.
pub fn router(state: AppState) -> Router {
    let route = move |request| dispatch::route(state.clone(), request);
    // Streams must reach the client message by message.
    let worth_it = DefaultPredicate::new().and(NotForContentType::const_new(subscribe::NDJSON));
    Router::new().fallback(route).layer(CompressionLayer::new().compress_when(worth_it))
}
