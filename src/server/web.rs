//! Makes the services and settings of the HTTP API ([`api::services`]) from the parts of the server
//! and the flags.

use super::{Server, ServerContext, ServerError, external_url, scraped_starts};
use crate::consoles::ConsoleFiles;
use crate::control::{ApiControl, ServerController};
use crate::flags::Feature;
use crate::reads::RemoteReadAdapter;
use crate::writes::{OtlpAdapter, RemoteWriteAdapter, WriteTurns};
use crate::{machine, sources};
#[cfg(feature = "sql")]
use api::services::SqlServices;
use api::services::{QueryServices, Receivers, RemoteReadHandler, RemoteWriteHandler};
use api::{ApiServices, ApiSettings, AppState, Capabilities, QuerySettings, StartupGate, WebSettings};
use connectors::discovery::DiscoveryConfigs;
use promql::PromqlLanguage;
use rules::template::template_functions;
use std::collections::BTreeMap;
use std::sync::Arc;
use storage::execution::Execution;

impl Server {
    /// Opens `gate` to requests; returns the state of the API.
    pub fn serve(
        self: &Arc<Server>,
        gate: &StartupGate,
        control: &Arc<ServerController>,
        default_step: i64,
    ) -> Result<AppState, ServerError> {
        let (router, state) = self.router(control, default_step)?;
        gate.open(router, state.clone());
        Ok(state)
    }

    /// The HTTP router and its state.
    pub fn router(
        self: &Arc<Server>,
        control: &Arc<ServerController>,
        default_step: i64,
    ) -> Result<(axum::Router, AppState), ServerError> {
        let services = self.services(Arc::new(ApiControl(control.clone())));
        let state = AppState::new(self.settings(default_step)?, services);
        #[cfg(feature = "sql")]
        self.queries.statements.connect(&state.sql_lists());
        let mut router = api::router(state.clone());
        // The embedded configuration scrapes this page; with a file, the node exporter is the
        // usual source, and a page that nobody asked for would be one more thing to protect.
        if self.context.flags.config_file().is_none() {
            let page = || async { connectors::host_metrics::render() };
            router = router.route("/host/metrics", axum::routing::get(page));
        }
        Ok((router, state))
    }

    fn settings(&self, default_step: i64) -> Result<ApiSettings, ServerError> {
        let flags = &self.context.flags;
        let external = external_url(flags);
        let after_scheme = external.split_once("://").map_or("", |(_, rest)| rest);
        let (authority, path) = after_scheme.split_once('/').unwrap_or((after_scheme, ""));
        // A path that begins with two slashes, or with a backslash, would be another host to a
        // browser.
        let path = path.replace('\\', "%5C");
        let path = path.trim_matches('/');
        let path = if path.is_empty() { String::new() } else { format!("/{path}") };
        let origins = flags.web_cors_origin.as_str();
        let cors = api::cors_origin(origins).map_err(bad_origin)?;
        let acting = api::acting_origin(origins).map_err(bad_origin)?;
        let web = WebSettings {
            route_prefix: flags.route_prefix(),
            external_path: path,
            external_authority: authority.to_owned(),
            page_title: flags.web_page_title.value.clone(),
            cors_origin: cors,
            acting_origin: flags.web_cors_origin.is_given.then_some(acting),
        };
        Ok(ApiSettings {
            web,
            queries: self.query_settings(default_step),
            capabilities: Capabilities {
                discovery: discovery_mechanisms(),
                template_functions: template_functions(),
                otlp_delta_sums: flags.has(Feature::OtlpDeltaToCumulative),
                otlp_native_deltas: flags.has(Feature::OtlpNativeDeltaIngestion),
            },
            agent: *flags.agent,
            lifecycle: *flags.web_enable_lifecycle,
            admin: *flags.web_enable_admin_api,
            search: flags.has(Feature::SearchApi).then(|| *flags.web_search_max_limit),
            subscription_buffers: flags.subscription_buffers(),
            body_memory: flags.max_body_memory(),
            data_directory: Some(self.storage.dir.clone()),
            execution: self.context.execution,
        })
    }

    fn query_settings(&self, default_step: i64) -> QuerySettings {
        let flags = &self.context.flags;
        QuerySettings {
            max_concurrency: flags.query_concurrency(),
            timeout: flags.query_timeout.std(),
            max_samples: *flags.query_max_samples,
            max_bytes: flags.query_memory(machine::memory()).one,
            lookback: flags.query_lookback_delta.0,
            dialect: self.queries.language.dialect(),
            default_step,
            step_stats: flags.has(Feature::PromqlPerStepStats),
        }
    }

    /// What answers remote reads. None in a cluster, where this process has a part of the series,
    /// nor in a simulation, which has no threads for it.
    fn remote_reads(&self, control: &Arc<ApiControl>) -> Option<Arc<dyn RemoteReadHandler>> {
        let ServerContext { flags, metrics, execution, .. } = &self.context;
        if self.cluster.is_some() || *execution == Execution::Caller {
            return None;
        }
        let bytes = flags.query_memory(machine::memory()).one;
        let store = self.storage.store.clone();
        let memory = self.queries.memory.clone();
        Some(Arc::new(RemoteReadAdapter::new(store, control.clone(), flags, memory, bytes, metrics)))
    }

    fn services(self: &Arc<Server>, control: Arc<ApiControl>) -> ApiServices {
        let store = self.storage.store.clone();
        let queries = QueryServices {
            language: Arc::new(PromqlLanguage(self.queries.language)),
            // Statements in SQL that run again, too.
            answers: self.queries.statements.answers(self.queries.reader.clone()),
            memory: self.queries.memory.clone(),
            catalog: self.queries.catalog.clone(),
            readiness: store.clone(),
            remote_stores: self.queries.remote.clone(),
            log: self.queries.log.clone(),
        };
        ApiServices {
            queries,
            receivers: self.receivers(&control),
            #[cfg(feature = "sql")]
            sql: SqlServices {
                engine: Some(self.queries.statements.engine()),
                alert_definitions: Some(Arc::new(crate::statements::AlertDefinitionAdapter(self.clone()))),
                tables: Some(self.queries.statements.tables()),
            },
            tsdb: store,
            views: self.views.registry(),
            saved_queries: self.views.saved.clone(),
            targets: Arc::new(sources::ScrapeTargetAdapter(self.scrape.clone())),
            rules: Arc::new(sources::RuleGroupAdapter(self.clone())),
            alertmanagers: self.rules.alertmanagers.clone(),
            admin: control,
            files: Arc::new(ConsoleFiles::new(self.clone())),
            clock: self.context.clock.clone(),
            metrics: self.context.metrics.clone(),
            tracer: self.context.tracer.clone(),
        }
    }

    /// The receivers that the flags enable.
    fn receivers(self: &Arc<Server>, control: &Arc<ApiControl>) -> Receivers {
        let ServerContext { flags, metrics, clock, execution, .. } = &self.context;
        let turns = WriteTurns::new(self.storage.store.clone(), clock.clone(), *execution);
        let accepted = &flags.web_remote_write_receiver_accepted_protobuf_messages.0;
        let zeros = scraped_starts(flags).zeros;
        let remote_write = RemoteWriteAdapter::new(turns.clone(), zeros, accepted, metrics);
        let otlp = OtlpAdapter::new(turns, self.otlp.clone());
        Receivers {
            remote_write: flags
                .web_enable_remote_write_receiver
                .then(|| Arc::new(remote_write) as Arc<dyn RemoteWriteHandler>),
            otlp: flags.web_enable_otlp_receiver.then(|| Arc::new(otlp) as Arc<dyn RemoteWriteHandler>),
            remote_read: self.remote_reads(control),
        }
    }
}

/// The pattern of `--web.cors.origin` cannot be compiled.
fn bad_origin(error: impl std::fmt::Display) -> ServerError {
    ServerError::Flag { flag: "--web.cors.origin", reason: error.to_string() }
}

/// The discovery mechanisms of Prometheus, all of which this server has.
fn discovery_mechanisms() -> BTreeMap<String, bool> {
    DiscoveryConfigs::mechanisms().into_iter().map(|name| (name.to_owned(), true)).collect()
}
