//! [`ServerController`]: the administration of the running server: the configuration in force,
//! reload, stop, and the status pages of the API.

use crate::process_metrics::ProcessMetrics;
use crate::reload_changes::{ConfigParts, ReloadChanges};
use crate::remote_metrics::RemoteMetrics;
use crate::server::{LoadedConfig, Server, ServerError, load_rules};
use crate::statements::RuleLanguages;
use crate::store_metrics::StoreMetrics;
use api::json_model::{PendingConfigJson, RuleGroupChangesJson, RuntimeInfo, WalReplay};
use api::services::{ReloadError, ServerControl};
use connectors::blocking;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use storage::metrics::Gauge;
use storage::model::{Labels, TimeMs};
use storage::shared_metrics;
use tokio::sync::{Notify, watch};

/// The administration of a server.
pub struct ServerController {
    server: Arc<Server>,
    loaded: Mutex<ActiveConfig>,
    ready: watch::Sender<bool>,
    /// Notified when somebody requests that the server stop.
    pub quit: Notify,
    reload_ok: Arc<Gauge>,
    reload_time: Arc<Gauge>,
    process: ProcessMetrics,
    remote: RemoteMetrics,
    store: StoreMetrics,
    /// Prevents two reloads at the same time.
    reloading: tokio::sync::Mutex<()>,
}

struct ActiveConfig {
    parts: ConfigParts,
    text: String,
    /// A line for each key without effect.
    without_effect: Vec<String>,
    external_labels: Labels,
    evaluation_interval: Option<i64>,
    /// When a reload failed; `None`: the last one succeeded.
    failed: Option<TimeMs>,
    since: TimeMs,
}

impl ServerController {
    /// The controller of a server whose configuration in force is `loaded`.
    pub fn new(server: Arc<Server>, loaded: &LoadedConfig) -> ServerController {
        let metrics = &server.context.metrics;
        let reload_ok = metrics.gauge(
            "prometheus_config_last_reload_successful",
            "Whether the last configuration reload attempt was successful.",
            &[],
        );
        let reload_time = metrics.gauge(
            "prometheus_config_last_reload_success_timestamp_seconds",
            "Timestamp of the last successful configuration reload.",
            &[],
        );
        let control = ServerController {
            loaded: Mutex::new(ActiveConfig {
                parts: ConfigParts::default(),
                text: String::new(),
                without_effect: Vec::new(),
                external_labels: Labels::default(),
                evaluation_interval: None,
                failed: None,
                since: 0,
            }),
            process: ProcessMetrics::new(metrics, server.context.started),
            remote: RemoteMetrics::new(metrics, *server.context.flags.agent),
            store: StoreMetrics::new(metrics),
            server,
            ready: watch::Sender::new(false),
            quit: Notify::new(),
            reload_ok,
            reload_time,
            reloading: tokio::sync::Mutex::new(()),
        };
        // The start counts as a reload that succeeded, as in Prometheus.
        control.in_force(loaded);
        control
    }

    /// Marks the server ready: all requests are served from now on.
    pub fn set_ready(&self) {
        self.ready.send_replace(true);
        tracing::info!(version = env!("CARGO_PKG_VERSION"), "perennial is ready");
    }

    /// Notes that a configuration is in force. Returns what is other than before, except jobs.
    fn in_force(&self, loaded: &LoadedConfig) -> ReloadChanges {
        let now = self.server.context.clock.now();
        self.reload_ok.set(1.0);
        self.reload_time.set(now as f64 / 1000.0);
        let parts = ConfigParts::new(loaded);
        let mut active = self.loaded.lock();
        let changes = ReloadChanges::between(&active.parts, &parts);
        *active = ActiveConfig {
            parts,
            text: loaded.config.text.clone(),
            without_effect: loaded.config.without_effect.clone(),
            external_labels: loaded.config.external_labels.clone(),
            evaluation_interval: Some(loaded.config.evaluation_interval()),
            failed: None,
            since: now,
        };
        changes
    }

    /// Resolves when another process of the cluster stops in order; without a cluster never.
    pub async fn cluster_ends(&self) {
        match &self.server.cluster {
            Some(cluster) => cluster.heartbeat.ended().await,
            None => std::future::pending().await,
        }
    }

    /// Reads the configuration again and puts it in force; after a failure the old one remains in
    /// force.
    pub async fn reload(self: Arc<ServerController>) -> Result<(), ServerError> {
        // The second waits instead of being refused: its file may be newer than what the first has
        // read.
        let _one = self.reloading.lock().await;
        // The configuration of the start is applied first. If waiting fails, the server is
        // stopping.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
        let this = self.clone();
        // `apply` starts scrape loops, so it runs on the runtime. Reading files blocks, so it does
        // not.
        let read = blocking::run(self.server.context.execution, move || this.read());
        let result = match read.await {
            Ok(Ok(loaded)) => {
                let this = self.clone();
                let handle = tokio::runtime::Handle::current();
                let apply = move || {
                    let _guard = handle.enter();
                    // In the same closure, so that a client that goes away between the two does not
                    // leave a configuration in force that the API does not show.
                    let jobs = this.server.apply(&loaded)?;
                    Ok(ReloadChanges { jobs, ..this.in_force(&loaded) })
                };
                let applied = blocking::run(self.server.context.execution, apply).await;
                applied.unwrap_or_else(|error| Err(ServerError::Task(error)))
            }
            Ok(Err(error)) => Err(error),
            Err(error) => Err(ServerError::Task(error)),
        };
        match &result {
            Ok(changes) => {
                let ReloadChanges { jobs, rule_groups, blocks } = changes;
                tracing::info!(%jobs, %rule_groups, %blocks, "the configuration is reloaded");
            }
            Err(error) => {
                // The alert on this metric is how most people notice a broken file.
                self.reload_ok.set(0.0);
                let now = self.server.context.clock.now();
                // The first failure: since then the file on disk is not what runs.
                self.loaded.lock().failed.get_or_insert(now);
                tracing::error!("the configuration is not reloaded, the old one stays in force: {error}");
            }
        }
        result.map(|_| ())
    }

    fn read(&self) -> Result<LoadedConfig, ServerError> {
        let flags = &self.server.context.flags;
        let path = flags.config_file().ok_or(ServerError::NoConfigFile)?;
        let (config, warnings) = crate::config::load(&path)?;
        config.check_mode(flags)?;
        let queries = &self.server.queries;
        let compiler =
            RuleLanguages::with_tables(queries.language, *flags.rules_enable_sql, &queries.statements);
        Ok(load_rules(config, warnings, &compiler)?)
    }
}

/// The handle for the API.
pub struct ApiControl(pub Arc<ServerController>);

impl ServerControl for ApiControl {
    fn config_yaml(&self) -> String {
        self.0.loaded.lock().text.clone()
    }

    fn pending_config(&self) -> PendingConfigJson {
        if self.0.server.context.flags.config_file().is_none() {
            // The configuration is in the program.
            return PendingConfigJson { yaml: self.config_yaml(), ..PendingConfigJson::default() };
        }
        // One at a time, and not while a reload reads the same files.
        let Ok(_turn) = self.0.reloading.try_lock() else {
            let error = "the files are being read just now".to_owned();
            return PendingConfigJson { error, ..PendingConfigJson::default() };
        };
        match self.0.read() {
            Ok(found) => {
                let parts = ConfigParts::new(&found);
                let changes = ReloadChanges::between(&self.0.loaded.lock().parts, &parts).rule_groups;
                PendingConfigJson {
                    yaml: found.config.text,
                    error: String::new(),
                    rule_groups: RuleGroupChangesJson {
                        added: changes.added,
                        changed: changes.changed,
                        removed: changes.removed,
                    },
                }
            }
            Err(error) => PendingConfigJson { error: error.to_string(), ..PendingConfigJson::default() },
        }
    }

    fn flags(&self) -> BTreeMap<String, String> {
        self.0.server.context.flags.as_map()
    }

    fn without_effect(&self) -> Vec<String> {
        let flags = self.0.server.context.flags.without_effect();
        flags.into_iter().chain(self.0.loaded.lock().without_effect.clone()).collect()
    }

    fn external_labels(&self) -> Labels {
        self.0.loaded.lock().external_labels.clone()
    }

    fn reload(&self) -> BoxFuture<'static, Result<(), ReloadError>> {
        let control = self.0.clone();
        Box::pin(async { control.reload().await.map_err(ReloadError::new) })
    }

    fn quit(&self) {
        self.0.quit.notify_one();
    }

    fn ready(&self) -> bool {
        *self.0.ready.borrow()
    }

    fn unhealthy(&self) -> Option<String> {
        self.0.server.storage.health.reason()
    }

    fn reload_failed_since(&self) -> Option<TimeMs> {
        self.0.loaded.lock().failed
    }

    fn starting(&self) -> Option<String> {
        let doing = || self.0.server.storage.store.replay().progress().map(|progress| progress.to_string());
        (!self.ready()).then(|| doing().unwrap_or_else(|| "rules and saved queries are installed".to_owned()))
    }

    fn runtime(&self) -> RuntimeInfo {
        let server = &self.0.server;
        let env = |name: &str| std::env::var(name).unwrap_or_default();
        let in_force = self.0.loaded.lock();
        RuntimeInfo {
            start_time: Some(server.context.started),
            cwd: std::env::current_dir().map(|d| d.display().to_string()).unwrap_or_default(),
            hostname: crate::host_name(),
            server_time: Some(server.context.clock.now()),
            reload_config_success: in_force.failed.is_none(),
            last_config_time: Some(in_force.since),
            corruption_count: shared_metrics::log_corruptions(&server.context.metrics).get(),
            goroutine_count: std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count),
            max_procs: std::thread::available_parallelism().map_or(1, usize::from),
            // Go's "no limit"; this and the next fields describe Go's runtime, which is not here.
            memory_limit: i64::MAX,
            gogc: env("GOGC"),
            godebug: env("GODEBUG"),
            storage_retention: server.storage.retention_text(),
        }
    }

    fn evaluation_interval(&self) -> Option<i64> {
        self.0.loaded.lock().evaluation_interval
    }

    fn collect(&self) {
        self.0.process.collect();
        self.0.remote.collect(&self.0.server.storage.store);
        self.0.store.collect(&self.0.server.storage.store);
        self.0.server.scrape.collect();
        // Called only because it sets a gauge.
        let _ = self.0.server.storage.store.replay().progress();
    }

    fn wal_replay(&self) -> WalReplay {
        let progress = self.0.server.storage.store.replay().progress();
        progress.map_or_else(WalReplay::default, |p| WalReplay { min: 0, max: p.records, current: p.done })
    }
}
