//! [`Server`]: opens all parts of the server in order, connects them, and closes them in reverse
//! order.
//!
//! A part holds what changes together: [`ServerStorage`] the data directory, [`ServerQueries`]
//! query evaluation, [`ServerViews`] live views, [`ServerRules`] rules and alerts, [`ServerRemote`]
//! remote storage, [`ServerCluster`] the other processes. [`web`] makes the HTTP API of them. All
//! get the same [`ServerContext`].
//!
//! Read [`crate::startup`] next: what happens between opening and being ready.

mod cluster_side;
mod context;
mod error;
mod query_side;
mod remote_side;
mod rule_side;
mod storage_side;
mod view_side;
mod web;

pub use cluster_side::ServerCluster;
pub use context::ServerContext;
pub use error::ServerError;
pub use query_side::ServerQueries;
pub use remote_side::ServerRemote;
pub use rule_side::ServerRules;
pub use storage_side::ServerStorage;
pub use view_side::ServerViews;

use crate::cluster_config;
use crate::config::{self, Config};
use crate::environment::Surroundings;
use crate::flags::{Feature, Flags};
use crate::limits::CLOSE_VIEWS_WAIT;
use crate::machine;
use connectors::config::changes::NamedChanges;
use connectors::otlp::{DeltaSums, OtlpFeatures, OtlpReceiver};
use connectors::scrape::appender::StartRules;
use connectors::scrape::config::JobFeatures;
use connectors::scrape::manager::{ScrapeManager, ScrapeOptions, TargetPartition};
use connectors::traces::TraceExporter;
use engine::memory::MemoryPool;
use rules::file::{self, GroupDefaults, RuleCompiler, RuleGroup};
use rules::yaml::ConfigError;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use storage::execution::Execution;
use storage::metrics::Metrics;
use storage::model::time::format_duration;
use storage::spans::Tracer;
use view_side::{live_options, start_live};

/// The running server.
pub struct Server {
    /// What all sides are given.
    pub context: ServerContext,
    /// Rules and alerts.
    pub rules: ServerRules,
    /// Everything that is kept current.
    pub views: ServerViews,
    /// What answers queries.
    pub queries: ServerQueries,
    /// The scrape manager.
    pub scrape: Arc<ScrapeManager>,
    /// Where spans go.
    pub traces: TraceExporter,
    /// The receiver of OTLP.
    pub otlp: Arc<OtlpReceiver>,
    /// Other servers as storage.
    pub remote: ServerRemote,
    /// The other processes; `None`: this one runs alone.
    pub cluster: Option<ServerCluster>,
    /// The data directory. The last field, so that its lock is dropped after everything that may
    /// still write.
    pub storage: ServerStorage,
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
    /// Opens all sides. Nothing is scraped before [`Server::start_ingestion`], and no view or rule
    /// runs before [`Server::restore_saved_queries`] and [`Server::install_rules`], which must
    /// follow [`Server::replayed`].
    pub fn open(
        flags: Flags,
        config: &Config,
        metrics: Metrics,
        here: Surroundings,
    ) -> Result<Server, ServerError> {
        let clock = here.clock.clone();
        let started = clock.now();
        let tracer = Tracer::default();
        let context = ServerContext { flags, metrics, tracer, clock, started, execution: here.execution };
        let storage = ServerStorage::open(&context, config, &here)?;
        // Before the first flush: the log is kept from where remote write has come to.
        let remote = ServerRemote::open(&context, &here, &storage)?;
        let limits = context.flags.query_memory(machine::memory());
        let memory = MemoryPool::for_queries(limits.together);
        let query_options = query_side::options(&context, config);
        let options = live_options(&context, query_options, memory.clone(), limits);
        let setup = cluster_config::cluster_config(&context.flags, options.workers)?;
        // The live runtime comes before the query runtime: in a cluster its start waits for the
        // other processes, and only then is there a client to ask them.
        let (live, joined) = start_live(&context, &storage, options, setup.as_ref())?;
        let (cluster, listener) = match joined.map(ServerCluster::new) {
            None => (None, None),
            Some((cluster, listener)) => (Some(cluster), Some(listener)),
        };
        let disk = here.disk.clone();
        let queries = ServerQueries::new(&context, config, &storage, memory, cluster.as_ref(), disk)?;
        let queries = queries.reading(&context, config, &storage, &remote);
        let views = ServerViews::new(&context, &here, &storage, &queries, cluster.as_ref(), live)?;
        // Not before the views: a peer may ask for late samples, which are theirs.
        if let Some(listener) = listener {
            cluster_side::serve_peers(listener, &queries, &storage, &views.recording)?;
        }
        let partition = cluster_side::target_partition(setup.as_ref());
        let options = scrape_options(&context, config, partition, &here);
        let scrape =
            ScrapeManager::new(storage.store.clone(), context.clock.clone(), &context.metrics, options);
        let scrape = Arc::new(scrape);
        remote.connect(&scrape);
        let rules = ServerRules::start(&context, config, &here, &storage, &queries, &views)?;
        let traces = TraceExporter::new(context.tracer.clone(), &context.metrics);
        let otlp = OtlpReceiver::new(storage.store.clone(), otlp_features(&context.flags), &context.metrics);
        Ok(Server {
            context,
            rules,
            views,
            queries,
            scrape,
            remote,
            traces,
            otlp: Arc::new(otlp),
            cluster,
            storage,
        })
    }

    /// Waits until the log is replayed, and logs the result.
    pub fn replayed(&self) -> Result<(), ServerError> {
        self.storage.replayed()
    }

    /// Puts a configuration in force.
    ///
    /// The configuration was validated before, so little can fail. After an error the steps before
    /// it remain applied.
    pub fn apply(&self, loaded: &LoadedConfig) -> Result<NamedChanges, ServerError> {
        self.apply_storage_settings(loaded)?;
        self.install_rules(loaded)?;
        self.start_ingestion(loaded)
    }

    /// Applies the settings of the storage and of the query log.
    pub fn apply_storage_settings(&self, loaded: &LoadedConfig) -> Result<(), ServerError> {
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        self.storage.apply(&self.context, loaded);
        self.otlp.configure(loaded.config.otlp.clone());
        if let Err(error) = self.traces.apply(loaded.config.tracing.as_ref()) {
            // Nobody waits for spans: a file that cannot be read now must not stop the server.
            tracing::error!(target: "tracing", "{error}; no spans are sent there: correct it and reload");
        }
        self.queries.apply(&loaded.config)
    }

    /// Restores the queries that users saved at run time.
    pub fn restore_saved_queries(&self) -> Result<(), ServerError> {
        Ok(self.views.saved.restore()?)
    }

    /// Installs the rules of the configuration; only process 0 of a cluster has rules.
    pub fn install_rules(&self, loaded: &LoadedConfig) -> Result<(), ServerError> {
        if self.cluster.as_ref().is_none_or(ServerCluster::is_coordinator) {
            self.rules.install(loaded)
        } else {
            // The external labels are needed without rules, too.
            self.rules.install_none(loaded)
        }
    }

    /// Starts scraping, sending alerts and sending samples according to the configuration. Returns
    /// which jobs are others than before.
    pub fn start_ingestion(&self, loaded: &LoadedConfig) -> Result<NamedChanges, ServerError> {
        // Before the first scrape: a queue that is new begins with what is appended after this.
        self.remote.apply(&loaded.config)?;
        let flags = &self.context.flags;
        let mut jobs = loaded.config.jobs.clone();
        let features = JobFeatures {
            native: flags.has(Feature::NativeHistograms),
            extra_metrics: flags.has(Feature::ExtraScrapeMetrics),
            starts: scraped_starts(flags).are_read(),
        };
        for job in &mut jobs {
            job.assume(features);
        }
        let changed = self.scrape.apply(jobs).map_err(|error| ServerError::Scrape(error.to_string()))?;
        if let Some(cluster) = &self.cluster {
            cluster.announce_config(flags);
        }
        self.rules.alertmanagers.apply(&loaded.config)?;
        Ok(changed)
    }

    /// Closes all sides: the sources of samples first, the store last. The replay must have ended.
    ///
    /// The installation of rules cannot be interrupted, and takes a while for a hundred thousand
    /// rules. The store does not wait for it: for the store that is the same as a killed process,
    /// which loses nothing that was acknowledged.
    pub fn close(self: &Arc<Self>, stopping: Instant) -> Result<(), ServerError> {
        match self.context.execution {
            Execution::Threads => self.close_before_store_in_time(stopping)?,
            Execution::Caller => self.close_before_store(stopping),
        }
        // After everything that appends, and before the log is closed, which is its source.
        self.remote.close();
        self.storage.store.close().map_err(ServerError::Store)?;
        self.cluster.as_ref().map_or(Ok(()), ServerCluster::check_ended)
    }

    fn close_before_store_in_time(self: &Arc<Self>, stopping: Instant) -> Result<(), ServerError> {
        // The processes of a cluster stop together, with a timeout of their own.
        let patience = self.cluster.is_none().then(|| CLOSE_VIEWS_WAIT.saturating_sub(stopping.elapsed()));
        let server = self.clone();
        let runtime = tokio::runtime::Handle::current();
        let close = move || {
            let _guard = runtime.enter();
            server.close_before_store(stopping);
        };
        let closing = std::thread::Builder::new().name("close".to_owned()).spawn(close);
        if !ends_within(closing.map_err(ServerError::Thread)?, patience) {
            // Nobody has to act: what they had not done is done after the next start.
            tracing::info!(
                "the server stops while rules or views are still being installed; the next start installs them"
            );
        }
        Ok(())
    }

    /// Closes everything above the store, in the order in which samples flow: what still runs finds
    /// what it depends on.
    fn close_before_store(&self, stopping: Instant) {
        self.scrape.shutdown();
        self.rules.manager.stop();
        self.views.recording.stop();
        self.rules.close_alerts(stopping);
        self.views.live.end_ticks();
        if let Some(cluster) = &self.cluster {
            // Before the workers of the live runtime stop: the others would take their silence for
            // a failure.
            cluster.heartbeat.announce_stop();
        }
        self.views.live.stop();
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

/// How start timestamps of scraped samples are handled, from the flags.
fn scraped_starts(flags: &Flags) -> StartRules {
    StartRules {
        keep: flags.has(Feature::StStorage),
        zeros: flags.has(Feature::CreatedTimestampZeroIngestion),
    }
}

fn otlp_features(flags: &Flags) -> OtlpFeatures {
    let starts = scraped_starts(flags);
    let deltas = if flags.has(Feature::OtlpDeltaToCumulative) {
        DeltaSums::Cumulative
    } else if flags.has(Feature::OtlpNativeDeltaIngestion) {
        DeltaSums::Native
    } else {
        DeltaSums::Refused
    };
    OtlpFeatures {
        deltas,
        type_and_unit: flags.has(Feature::TypeAndUnitLabels),
        starts: starts.are_read(),
        zeros: starts.zeros,
        lookback_ms: flags.query_lookback_delta.0,
    }
}

fn scrape_options(
    context: &ServerContext,
    config: &Config,
    share: TargetPartition,
    here: &Surroundings,
) -> ScrapeOptions {
    let flags = &context.flags;
    ScrapeOptions {
        seed: config.external_labels.hash64(),
        strict_content_type: *flags.scrape_strict_content_type,
        timestamp_tolerance: Some(flags.timestamp_tolerance()),
        starts: scraped_starts(flags),
        type_and_unit_labels: flags.has(Feature::TypeAndUnitLabels),
        tracer: context.tracer.clone(),
        hostname: crate::host_name(),
        share,
        max_memory: Some(flags.scrape_memory()),
        peers: here.peers.clone(),
        execution: here.execution,
    }
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
