//! [`Server`]: opens all parts of the server in order, connects them, and closes them in the
//! reverse order.

use crate::config::{self, Config};
use crate::control::{ApiControl, ServerController};
use crate::data_directory_lock::DataLock;
use crate::environment::{SEGMENT_BY_HAND_BYTES, Surroundings};
use crate::flags::{Feature, Flags, QueryMemory};
use crate::health::Health;
use crate::limits::{EXEMPLARS, ROOMS_CLOSE};
use crate::statements::{StatementSources, Statements};
use crate::{alerts, cluster_config, machine, object_store, query_language, retention, sources, writes};
use api::query::log::QueryLog;
use api::{ApiServices, ApiSettings, AppState, StartupGate};
use cluster::{
    ClusterCatalog, ClusterHandles, ClusterQueryPeers, Heartbeat, PeerClient, PeerLateSamples, PeerServices,
};
use connectors::objects::config::ObjectStoreConfig;
use connectors::scrape::appender::StartRules;
use connectors::scrape::config::JobFeatures;
use connectors::scrape::manager::{ScrapeManager, ScrapeOptions, TargetPartition};
use engine::live::tick_driver::TickDriver;
use engine::live::{LiveOptions, LiveRuntime};
use engine::memory::{MemoryPool, ViewMemory};
use engine::query::{Querier, QueryOptions, SeriesCatalog};
use language::QueryLanguage;
use parking_lot::Mutex;
use promql::{PromqlLanguage, PromqlOptions};
use rules::alert_persistence::AlertStateFile;
use rules::file::{self, GroupDefaults, RuleCompiler, RuleGroup};
use rules::manager::{RuleManager, RuleManagerOptions as RuleOptions, RuleServices};
use rules::yaml::ConfigError;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use storage::clock::Clock;
use storage::durable_map::DurableMap;
use storage::execution::Execution;
use storage::metrics::Metrics;
use storage::model::time::format_duration;
use storage::model::{Labels, TimeMs};
use storage::store::{PendingReplay, ReplayReport, Store, StoreBuilder, StoreError, StoreOptions};
use views::ViewRegistry;
use views::recording::{self, CorrectionRole, RecordingHistory};
use views::saved::SavedQueries;
use views::saved::file::SavedQueryFile;
use views::scheduled::{CompositeViews, ScheduledViewServices};

/// The running parts of the server.
pub struct Server {
    /// The command line.
    pub flags: Flags,
    /// The self-metrics.
    pub metrics: Metrics,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// The start of the process, ms.
    pub started: TimeMs,
    /// The data directory.
    data: PathBuf,
    /// The store with the samples.
    pub store: Arc<Store>,
    /// The log replay, which continues after the server is open.
    replay: Mutex<Option<Replayer>>,
    /// The driver of ticks if the caller runs them; otherwise threads do.
    pub ticks: Mutex<Option<TickDriver>>,
    /// Whether work runs on threads or in the caller.
    pub execution: Execution,
    /// The live runtime, with the plans that can be maintained incrementally.
    pub live: LiveRuntime,
    /// All views, including those that cannot be maintained and are queried repeatedly.
    pub views: Arc<dyn ViewRegistry>,
    /// The views that are queried repeatedly.
    pub asked: Arc<CompositeViews>,
    /// The queries that users saved at run time.
    pub standing: Arc<SavedQueries>,
    /// Runs ad-hoc queries.
    pub querier: Arc<Querier>,
    /// Answers statements in SQL.
    pub statements: Statements,
    /// The memory pool for query results and lists of series.
    pub answers: Arc<MemoryPool>,
    /// The scrape manager.
    pub scrape: Arc<ScrapeManager>,
    /// Rules and alerts.
    pub rules: Arc<RuleManager>,
    /// Corrects recorded series after late samples, and records the past of new rules.
    pub past: Arc<RecordingHistory>,
    /// The Alertmanagers.
    pub alerts: Arc<alerts::AlertmanagerAdapter>,
    /// The file with the state of alerts, for restarts.
    pub memory: Arc<AlertStateFile>,
    /// PromQL, with the enabled features.
    pub language: PromqlOptions,
    /// `query_log_file`.
    pub query_log: Arc<QueryLog>,
    /// The heartbeat with the other processes of the cluster.
    pub cluster: Option<Arc<Heartbeat>>,
    /// The client for requests to the other processes.
    caller: Option<Arc<PeerClient>>,
    /// Whether the server can do its work.
    pub health: Arc<Health>,
    /// The object store for old blocks.
    objects: Option<ObjectStoreConfig>,
    /// The last field, so that it is dropped after all others; `None`: locking is disabled.
    _lock: Option<DataLock>,
}

/// A configuration that was read and validated as a whole, with the rule files.
pub struct LoadedConfig {
    /// `prometheus.yml`.
    pub config: Config,
    /// The groups of the rule files.
    pub groups: Vec<RuleGroup>,
    /// Settings that are valid, but probably not intended.
    pub warnings: Vec<ConfigError>,
}

impl Server {
    /// Opens all parts. Nothing is scraped before [`Server::start_ingestion`], and no view or rule
    /// runs before [`Server::restore_saved_queries`] and [`Server::install_rules`], which must
    /// follow [`Server::replayed`].
    pub fn open(
        flags: Flags,
        config: &Config,
        metrics: Metrics,
        here: Surroundings,
    ) -> Result<Server, String> {
        let clock = here.clock.clone();
        let execution = here.execution;
        let dir = flags.data_path(config.storage.path.as_ref());
        let lock = flags.lock_data().then(|| DataLock::take(&dir)).transpose()?;
        let OpenedStore { store, replay, health } = open_store(&flags, config, dir.clone(), &here, &metrics)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let language = query_language::options(|feature| flags.has(feature));
        let query_memory = flags.query_memory(machine::memory());
        let pool = MemoryPool::of_queries(query_memory.together);
        let queries = query_options(&flags, config, &language);
        let options = live_options(&flags, cores, (queries.clone(), pool.clone()), query_memory);
        let live_options = LiveOptions { execution, ..options };
        let setup = cluster_config::cluster_config(&flags, live_options.workers)?;
        let (live, cluster, ticks) = start_live(&store, &clock, live_options, &metrics, setup.as_ref())?;
        let share = setup.as_ref().map_or_else(TargetPartition::default, share);
        let (cluster, caller, gate) =
            cluster.map_or((None, None, None), |c| (Some(c.heartbeat), Some(c.client), Some(c.listener)));
        let querier = |threads| querier(execution, &store, threads, &pool, caller.as_ref());
        // One thread for slow queries: they are not urgent, and the other queries have the rest.
        let (querier, slow) = (querier(cores), querier(1));
        let options = scrape_options(&flags, config, share, &here);
        let scrape = Arc::new(ScrapeManager::new(store.clone(), clock.clone(), &metrics, options));
        let alerts = Arc::new(alerts::AlertmanagerAdapter::new(&flags, &metrics, here.peers.clone()));
        let memory = Arc::new(open_alert_state(&dir, &here, &metrics)?);
        let statements = statements(&querier, catalog(&flags, &store, caller.as_ref()), language, &pool);
        let history = ScheduledViewServices {
            answers: statements.answers(querier.clone()),
            store: store.clone(),
            clock: clock.clone(),
            options: queries.clone(),
            execution,
        };
        let options = queries.clone();
        let templates = query_language::TemplateQueries { querier: querier.clone(), language, options };
        let role = corrects(cluster.as_ref(), caller.as_ref());
        let past = recording_history(slow, &store, queries, role, &metrics, &here, &dir)?;
        if let Some(cluster) = &cluster {
            connect_late_samples(cluster, &past);
        }
        gate.map_or(Ok(()), |gate| gate.open(peer_services(&querier, &store, &past)))
            .map_err(|e| e.to_string())?;
        let asked = CompositeViews::new(Arc::new(live.clone()), history, &metrics).with_history(past.clone());
        let asked = Arc::new(if cluster.is_some() { asked.in_cluster() } else { asked });
        let views: Arc<dyn ViewRegistry> = asked.clone();
        let standing = saved_queries(views.clone(), language, &here, &dir);
        let ports = RuleServices {
            views: views.clone(),
            store: store.clone(),
            memory: memory.clone(),
            notify: alerts.clone(),
            query: Arc::new(templates),
            clock: clock.clone(),
            metrics: metrics.clone(),
        };
        let rules = Arc::new(start_rules(execution, ports, rule_options(&flags, config))?);
        Ok(Server {
            flags,
            started: clock.now(),
            clock,
            data: dir,
            store,
            replay: Mutex::new(Some(replay)),
            ticks: Mutex::new(ticks),
            execution,
            live,
            views,
            asked,
            standing,
            querier,
            statements,
            answers: pool,
            scrape,
            rules,
            past,
            alerts,
            memory,
            language,
            query_log: Arc::new(QueryLog::new(&metrics)),
            metrics,
            cluster,
            caller,
            health,
            objects: config.storage.objects.clone(),
            _lock: lock,
        })
    }

    /// Waits until the log is replayed, and logs the result.
    pub fn replayed(&self) -> Result<(), String> {
        let replayer = self.replay.lock().take();
        let replay = match replayer {
            None => return Ok(()),
            Some(Replayer::Caller(replaying)) => replaying.run(),
            Some(Replayer::Thread(thread)) => {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            }
        };
        let replay = replay.map_err(|e| format!("cannot replay the log of {}: {e}", self.data.display()))?;
        replay.damage.iter().for_each(|line| tracing::warn!("damage in the data directory: {line}"));
        let ReplayReport { records, samples, .. } = replay;
        tracing::info!(dir = %self.data.display(), records, samples, "store open, log replayed");
        Ok(())
    }

    /// Puts a configuration in force.
    ///
    /// The configuration was validated before, so little can fail. After an error the steps before it
    /// remain applied.
    pub fn apply(&self, loaded: &LoadedConfig) -> Result<(), String> {
        self.apply_storage_settings(loaded)?;
        self.install_rules(loaded)?;
        self.start_ingestion(loaded)
    }

    /// Applies the settings of the storage and of the query log.
    pub fn apply_storage_settings(&self, loaded: &LoadedConfig) -> Result<(), String> {
        loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        if self.flags.has(Feature::ExemplarStorage) {
            let most = loaded.config.storage.max_exemplars.unwrap_or(EXEMPLARS);
            self.store.exemplars().set_limit(usize::try_from(most).unwrap_or(0));
        }
        self.store.retention().set(retention::in_force(&self.flags, &loaded.config.storage));
        self.store.retention().set_series(loaded.config.storage.series_retention.clone());
        if self.objects != loaded.config.storage.objects {
            tracing::warn!("storage.objects has changed: it is read when the server starts");
        }
        self.query_log.set(loaded.config.query_log_file().as_deref())
    }

    /// Restores the queries that users saved at run time.
    pub fn restore_saved_queries(&self) -> Result<(), String> {
        self.standing.restore()
    }

    /// Installs the rules of the configuration.
    pub fn install_rules(&self, loaded: &LoadedConfig) -> Result<(), String> {
        let groups = if self.keeps_rules() { loaded.groups.clone() } else { Vec::new() };
        self.rules.apply(groups, loaded.config.external_labels.clone()).map_err(|e| e.to_string())
    }

    /// Starts scraping and sending alerts according to the configuration.
    pub fn start_ingestion(&self, loaded: &LoadedConfig) -> Result<(), String> {
        let mut jobs = loaded.config.jobs.clone();
        let features = JobFeatures {
            native: self.flags.has(Feature::NativeHistograms),
            extra_metrics: self.flags.has(Feature::ExtraScrapeMetrics),
            starts: scraped_starts(&self.flags).are_read(),
        };
        for job in jobs.iter_mut() {
            job.assume(features);
        }
        self.scrape.apply(jobs)?;
        if let (Some(cluster), Some(file)) = (&self.cluster, self.flags.config_file()) {
            cluster.configure(cluster_config::checksum(&file));
        }
        self.alerts.apply(&loaded.config)
    }

    /// Whether this process runs the rules and sends alerts. In a cluster that is process 0.
    fn keeps_rules(&self) -> bool {
        self.cluster.as_ref().is_none_or(|cluster| cluster.process() == 0)
    }

    /// Opens `gate` to requests, and starts the maintenance.
    pub fn serve(
        self: &Arc<Server>,
        gate: &StartupGate,
        control: &Arc<ServerController>,
        default_step: i64,
    ) -> Result<(), String> {
        let (router, state) = self.router(control, default_step)?;
        gate.open(router, state);
        Ok(())
    }

    /// The HTTP router and its state.
    pub fn router(
        self: &Arc<Server>,
        control: &Arc<ServerController>,
        default_step: i64,
    ) -> Result<(axum::Router, AppState), String> {
        let sources = self.sources(Arc::new(ApiControl(control.clone())));
        let state = AppState::new(self.settings(default_step)?, sources);
        #[cfg(feature = "sql")]
        self.statements.connect(&state.sql_lists());
        let mut router = api::router(state.clone());
        if self.flags.config_file().is_none() {
            let page = || async { connectors::host_metrics::render() };
            router = router.route("/host/metrics", axum::routing::get(page));
        }
        Ok((router, state))
    }

    /// Closes all parts: the sources of samples first, the store last. The replay must have ended.
    ///
    /// The installation of rules cannot be interrupted, and takes a while for a hundred thousand
    /// rules. The store does not wait for it: for the store that is the same as a killed process,
    /// which loses nothing that was acknowledged.
    pub fn close(self: &Arc<Self>, stopping: Instant) -> Result<(), String> {
        match self.execution {
            Execution::Threads => self.close_rooms_in_time(stopping)?,
            Execution::Caller => self.close_rooms(stopping),
        }
        self.store.close().map_err(|e| e.to_string())?;
        self.cluster.as_ref().and_then(|cluster| cluster.ended_by()).map_or(Ok(()), Err)
    }

    fn close_rooms_in_time(self: &Arc<Self>, stopping: Instant) -> Result<(), String> {
        // The processes of a cluster stop together, with a timeout of their own.
        let patience = self.cluster.is_none().then(|| ROOMS_CLOSE.saturating_sub(stopping.elapsed()));
        let server = self.clone();
        let runtime = tokio::runtime::Handle::current();
        let close = move || {
            let _guard = runtime.enter();
            server.close_rooms(stopping);
        };
        let closing = std::thread::Builder::new().name("close".to_owned()).spawn(close);
        let closing = closing.map_err(|e| format!("cannot start threads: {e}"))?;
        if !ends_within(closing, patience) {
            tracing::warn!("rules or views were still at work at the end, and were left");
        }
        Ok(())
    }

    fn close_rooms(&self, stopping: Instant) {
        self.scrape.shutdown();
        self.rules.stop();
        self.past.stop();
        self.alerts.close(stopping);
        self.memory.close();
        self.live.end_ticks();
        self.cluster.iter().for_each(|cluster| cluster.announce_stop());
        self.live.stop();
    }

    fn settings(&self, default_step: i64) -> Result<ApiSettings, String> {
        let flags = &self.flags;
        let external = external_url(flags);
        let after_scheme = external.split_once("://").map_or("", |(_, rest)| rest);
        let (authority, path) = after_scheme.split_once('/').unwrap_or((after_scheme, ""));
        let path = if path.is_empty() { String::new() } else { format!("/{path}") };
        let origins = flags.web_cors_origin.as_str();
        let cors = api::cors_origin(origins).map_err(|e| format!("--web.cors.origin: {e}"))?;
        let acting = api::acting_origin(origins).map_err(|e| format!("--web.cors.origin: {e}"))?;
        Ok(ApiSettings {
            route_prefix: flags.route_prefix(),
            external_path: path,
            external_authority: authority.to_owned(),
            page_title: flags.web_page_title.value.clone(),
            cors_origin: cors,
            acting_origin: flags.web_cors_origin.is_given.then_some(acting),
            lifecycle: *flags.web_enable_lifecycle,
            admin: *flags.web_enable_admin_api,
            max_concurrency: flags.query_concurrency(),
            query_timeout: flags.query_timeout.std(),
            max_samples: *flags.query_max_samples,
            max_bytes: flags.query_memory(machine::memory()).one,
            lookback: flags.query_lookback_delta.0,
            dialect: query_language::options(|feature| flags.has(feature)).dialect(),
            default_step,
            search: flags.has(Feature::SearchApi).then(|| *flags.web_search_max_limit),
            step_stats: flags.has(Feature::PromqlPerStepStats),
            subscription_buffers: flags.subscription_buffers(),
            data_directory: Some(self.data.clone()),
            body_memory: flags.max_body_memory(),
            execution: self.execution,
        })
    }

    fn sources(&self, control: Arc<ApiControl>) -> ApiServices {
        let zeros = scraped_starts(&self.flags).zeros;
        let writes =
            writes::RemoteWriteAdapter::new(self.store.clone(), zeros, self.clock.clone(), self.execution);
        ApiServices {
            language: Arc::new(PromqlLanguage(self.language)),
            answers: self.querier.clone(),
            memory: self.answers.clone(),
            catalog: catalog(&self.flags, &self.store, self.caller.as_ref()),
            readiness: self.store.clone(),
            tsdb: self.store.clone(),
            views: self.views.clone(),
            saved_queries: self.standing.clone(),
            targets: Arc::new(sources::ScrapeTargetAdapter(self.scrape.clone())),
            rules: Arc::new(sources::RuleGroupAdapter(self.rules.clone())),
            alertmanagers: self.alerts.clone(),
            admin: control,
            remote_write: self
                .flags
                .web_enable_remote_write_receiver
                .then(|| Arc::new(writes) as Arc<dyn api::services::RemoteWriteHandler>),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            query_log: self.query_log.clone(),
            #[cfg(feature = "sql")]
            sql: Some(self.statements.engine()),
        }
    }
}

/// Starts what records the past of rules and corrects recorded samples.
fn recording_history(
    answers: Arc<Querier>,
    store: &Arc<Store>,
    options: QueryOptions,
    corrects: CorrectionRole,
    metrics: &Metrics,
    here: &Surroundings,
    dir: &Path,
) -> Result<Arc<RecordingHistory>, String> {
    let services = recording::RecordingHistoryServices {
        answers,
        store: store.clone(),
        clock: here.clock.clone(),
        options,
        disk: here.disk.clone(),
        metrics: metrics.clone(),
        corrects,
        execution: here.execution,
    };
    RecordingHistory::start(services, dir)
}

/// SQL over history.
fn statements(
    querier: &Arc<Querier>,
    catalog: Arc<dyn SeriesCatalog>,
    language: PromqlOptions,
    memory: &Arc<MemoryPool>,
) -> Statements {
    Statements::new(StatementSources { querier: querier.clone(), catalog, language, memory: memory.clone() })
}

/// The catalog of the series in all processes.
fn catalog(flags: &Flags, store: &Arc<Store>, caller: Option<&Arc<PeerClient>>) -> Arc<dyn SeriesCatalog> {
    let timeout = flags.query_timeout.std();
    match caller {
        None => store.clone(),
        Some(client) => Arc::new(ClusterCatalog { store: store.clone(), client: client.clone(), timeout }),
    }
}

/// Reads the rule files that `config` names, and validates everything else that it names, so that
/// applying the result is not refused.
pub fn load_rules(
    config: Config,
    mut warnings: Vec<ConfigError>,
    compiler: &dyn RuleCompiler,
) -> Result<LoadedConfig, ConfigError> {
    warnings.extend(config.check_clients()?);
    let defaults = defaults(&config);
    let loaded = file::load(&config.rule_files, defaults, compiler)?;
    warnings.extend(loaded.warnings);
    if let Some(fault) = loaded.groups.iter().find_map(|group| too_late(group, out_of_order(&config))) {
        return Err(fault);
    }
    Ok(LoadedConfig { config, groups: loaded.groups, warnings })
}

/// Returns an error for a group that waits for samples later than the late sample window. The store
/// refuses such samples; those within the window are in the head, where results can still be
/// corrected.
fn too_late(group: &RuleGroup, window: i64) -> Option<ConfigError> {
    let lateness = group.lateness.filter(|lateness| *lateness > window)?;
    let [lateness, window] = [lateness, window].map(format_duration);
    let what = format!(
        "group {:?}: samples may be {lateness} late, but those more than {window} older than the newest of their series are refused",
        group.name
    );
    Some(ConfigError::whole(
        &group.file,
        what,
        "raise `storage.tsdb.out_of_order_time_window`, or lower `lateness`",
    ))
}

/// The late sample window, ms.
fn out_of_order(config: &Config) -> i64 {
    config.storage.out_of_order_ms.unwrap_or(storage::limits::OUT_OF_ORDER_WINDOW_MS)
}

/// The defaults of rule groups.
pub fn defaults(config: &Config) -> GroupDefaults {
    GroupDefaults {
        interval: config.evaluation_interval(),
        query_offset: config.global.keys.rule_query_offset.0,
    }
}

/// The URL under which people reach the server; by default with `https` where it has TLS.
fn external_url(flags: &Flags) -> String {
    let url = flags.external_url(&crate::host_name());
    let web = flags.web_config_file().filter(|_| !flags.web_external_url.is_given);
    let is_encrypted =
        web.is_some_and(|path| config::read_web_file(&path).is_ok_and(|web| web.tls.is_some()));
    match url.strip_prefix("http://") {
        Some(rest) if is_encrypted => format!("https://{rest}"),
        _ => url,
    }
}

/// What replays the log: a thread or the caller.
enum Replayer {
    Thread(JoinHandle<Result<ReplayReport, StoreError>>),
    Caller(Box<PendingReplay>),
}

/// The opened store, its replay, and its health.
struct OpenedStore {
    store: Arc<Store>,
    replay: Replayer,
    health: Arc<Health>,
}

/// Opens the data directory `dir`, which is locked already.
fn open_store(
    flags: &Flags,
    config: &Config,
    dir: PathBuf,
    here: &Surroundings,
    metrics: &Metrics,
) -> Result<OpenedStore, String> {
    let options = StoreOptions {
        dir: dir.clone(),
        wal_sync_interval_ms: flags.wal_sync_interval(),
        block_range_ms: flags.block_range(config.storage.min_block),
        out_of_order_ms: out_of_order(config),
    };
    let far =
        config.storage.objects.as_ref().map(|objects| object_store::options(objects, &dir)).transpose()?;
    let opened = match here.execution {
        Execution::Threads => {
            StoreBuilder::new(options, here.disk.clone(), metrics).cold_storage(far).open_before_replay()
        }
        Execution::Caller => StoreBuilder::new(options, here.disk.clone(), metrics)
            .manual_log(SEGMENT_BY_HAND_BYTES)
            .open_before_replay(),
    };
    let (store, replaying) =
        opened.map_err(|e| format!("cannot open the data directory {}: {e}", dir.display()))?;
    let replay = match here.execution {
        Execution::Threads => {
            let thread = std::thread::Builder::new().name("replay".to_owned());
            let thread = thread.spawn(move || replaying.run());
            Replayer::Thread(thread.map_err(|e| format!("cannot start threads: {e}"))?)
        }
        Execution::Caller => Replayer::Caller(Box::new(replaying)),
    };
    if config.storage.objects.is_some() {
        object_store::connect(&store)?;
    }
    let health = Health::new(
        store.clone(),
        here.clock.clone(),
        &dir,
        flags.lock_data(),
        here.reserve.clone(),
        metrics,
    )?;
    Ok(OpenedStore { store, replay, health: Arc::new(health) })
}

/// Opens the file with the state of alerts.
fn open_alert_state(dir: &Path, here: &Surroundings, metrics: &Metrics) -> Result<AlertStateFile, String> {
    let path = dir.join("alerts.keep");
    let open = match here.execution {
        Execution::Threads => DurableMap::open,
        Execution::Caller => DurableMap::open_by_hand,
    };
    let (map, found) = open(here.disk.clone(), path.clone(), metrics).map_err(|e| e.to_string())?;
    if let Some(damage) = found.damage {
        tracing::error!(path = %path.display(), damage, "some alerts of before the restart are forgotten");
    }
    Ok(AlertStateFile::new(map, found.existed.then_some(found.entries)))
}

/// The options of the live runtime; `queries` has the options of queries that a step of a view
/// runs, and their memory pool.
fn live_options(
    flags: &Flags,
    cores: usize,
    queries: (QueryOptions, Arc<MemoryPool>),
    memory: QueryMemory,
) -> LiveOptions {
    let (queries, query_memory) = queries;
    LiveOptions {
        workers: flags.live_workers(cores),
        lookback: queries.lookback,
        dialect: queries.dialect,
        queries,
        query_memory,
        memory: ViewMemory { pool: MemoryPool::of_views(memory.together), limit: memory.one },
        ..LiveOptions::default()
    }
}

/// Starts the live runtime; in a cluster once the other processes are connected.
fn start_live(
    store: &Arc<Store>,
    clock: &Arc<dyn Clock>,
    options: LiveOptions,
    metrics: &Metrics,
    setup: Option<&cluster::ClusterConfig>,
) -> Result<(LiveRuntime, Option<ClusterHandles>, Option<TickDriver>), String> {
    if options.execution == Execution::Caller {
        let (live, driver) = LiveRuntime::by_hand(store.clone(), clock.clone(), options, metrics)
            .map_err(|e| e.to_string())?;
        return Ok((live, None, Some(driver)));
    }
    let Some(setup) = setup else {
        let live = LiveRuntime::start(store.clone(), clock.clone(), options, metrics);
        return Ok((live.map_err(|e| e.to_string())?, None, None));
    };
    let (peers, cluster) = cluster::join(setup).map_err(|e| e.to_string())?;
    let live = LiveRuntime::start_in_cluster(store.clone(), clock.clone(), options, metrics, peers)
        .map_err(|e| e.to_string())?;
    let signalled = live.clone();
    cluster.heartbeat.set_on_signal(Box::new(move |signal| signalled.on_peer_signal(signal)));
    Ok((live, Some(cluster), None))
}

/// Waits for a thread; returns whether it ended in time (`None`: no limit). A panic of the thread
/// is resumed here.
fn ends_within(thread: JoinHandle<()>, patience: Option<Duration>) -> bool {
    let deadline = patience.map(|patience| Instant::now() + patience);
    while !thread.is_finished() && deadline.is_none_or(|deadline| Instant::now() < deadline) {
        std::thread::sleep(Duration::from_millis(2));
    }
    if thread.is_finished() {
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        return true;
    }
    false
}

fn start_rules(
    execution: Execution,
    ports: RuleServices,
    options: RuleOptions,
) -> Result<RuleManager, String> {
    match execution {
        Execution::Threads => RuleManager::start(ports, options).map_err(|e| e.to_string()),
        Execution::Caller => Ok(RuleManager::without_thread(ports, options)),
    }
}

/// The query runtime over the series of all processes, with `threads` threads if there are threads.
fn querier(
    execution: Execution,
    store: &Arc<Store>,
    threads: usize,
    memory: &Arc<MemoryPool>,
    caller: Option<&Arc<PeerClient>>,
) -> Arc<Querier> {
    let querier = match execution {
        Execution::Threads => Querier::new(store.clone(), threads).with_memory(memory.clone()),
        Execution::Caller => Querier::of_the_caller(store.clone(), memory.clone()),
    };
    Arc::new(match caller {
        None => querier,
        Some(caller) => querier.with_others(Arc::new(ClusterQueryPeers(caller.clone()))),
    })
}

/// The share of the targets that this process scrapes.
fn share(setup: &cluster::ClusterConfig) -> TargetPartition {
    TargetPartition { process: setup.process, processes: setup.addresses.len() }
}

/// Whether this process corrects results after late samples: in a cluster process 0, which runs the
/// rules.
fn corrects(cluster: Option<&Arc<Heartbeat>>, caller: Option<&Arc<PeerClient>>) -> CorrectionRole {
    match (cluster, caller) {
        (Some(cluster), Some(caller)) if cluster.process() == 0 => {
            CorrectionRole::First(Arc::new(PeerLateSamples(caller.clone())))
        }
        (Some(_), _) => CorrectionRole::Another,
        (None, _) => CorrectionRole::Alone,
    }
}

/// The queries that users saved as views, with the file that restores them after a restart.
fn saved_queries(
    views: Arc<dyn ViewRegistry>,
    language: PromqlOptions,
    here: &Surroundings,
    dir: &Path,
) -> Arc<SavedQueries> {
    let compiled = Box::new(move |text: &str| PromqlLanguage(language).compile(text, None));
    let file = SavedQueryFile::new(here.disk.clone(), dir);
    Arc::new(SavedQueries::with_file(views, compiled, file))
}

/// Sends late samples of other processes to process 0.
fn connect_late_samples(cluster: &Arc<Heartbeat>, past: &Arc<RecordingHistory>) {
    if cluster.process() == 0 {
        let past = past.clone();
        return cluster.listen_late_with(Box::new(move |process| past.late_samples_at(process)));
    }
    let sender = cluster.clone();
    past.late_samples().ring_with(Box::new(move || sender.signal_late_samples()));
}

/// The services that answer requests of the other processes.
fn peer_services(querier: &Arc<Querier>, store: &Arc<Store>, past: &RecordingHistory) -> PeerServices {
    let kept = store.clone();
    let querier = querier.clone();
    let store = store.clone();
    let late_samples = past.late_samples();
    PeerServices { querier, store, late_samples, left_out: Box::new(move || kept.incomplete_reason()) }
}

/// The options of queries in templates, from the flags.
fn query_options(flags: &Flags, config: &Config, language: &PromqlOptions) -> QueryOptions {
    QueryOptions {
        lookback: flags.query_lookback_delta.0,
        default_step: config.evaluation_interval(),
        max_samples: *flags.query_max_samples,
        max_bytes: flags.query_memory(machine::memory()).one,
        timeout: flags.query_timeout.std(),
        dialect: language.dialect(),
        ..QueryOptions::default()
    }
}

/// How start timestamps of scraped samples are handled, from the flags.
fn scraped_starts(flags: &Flags) -> StartRules {
    StartRules {
        keep: flags.has(Feature::StStorage),
        zeros: flags.has(Feature::CreatedTimestampZeroIngestion),
    }
}

fn scrape_options(
    flags: &Flags,
    config: &Config,
    share: TargetPartition,
    here: &Surroundings,
) -> ScrapeOptions {
    ScrapeOptions {
        seed: config.external_labels.hash64(),
        strict_content_type: *flags.scrape_strict_content_type,
        timestamp_tolerance: Some(flags.timestamp_tolerance()),
        starts: scraped_starts(flags),
        type_and_unit_labels: flags.has(Feature::TypeAndUnitLabels),
        hostname: crate::host_name(),
        share,
        max_memory: Some(flags.scrape_memory()),
        peers: here.peers.clone(),
        execution: here.execution,
    }
}

fn rule_options(flags: &Flags, config: &Config) -> RuleOptions {
    RuleOptions {
        external_labels: Labels::clone(&config.external_labels),
        external_url: external_url(flags),
        resend_delay: flags.rules_alert_resend_delay.0,
        outage_tolerance: flags.rules_alert_for_outage_tolerance.0,
        for_grace_period: flags.rules_alert_for_grace_period.0,
    }
}
