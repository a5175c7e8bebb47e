//! The server: every room opened in order, wired to its neighbours, and closed in the reverse order.

use crate::admin::AdminOf;
use crate::config::Config;
use crate::data_lock::DataLock;
use crate::flags::Flags;
use crate::{alerts, language, sources, writes};
use connectors::scrape::manager::{Manager as ScrapeManager, Options as ScrapeOptions};
use connectors::wall_clock::SystemClock;
use engine::live::{Live, LiveOptions};
use engine::query::{Querier, QueryOptions};
use frontends::http::{self, AppState, Settings, Sources};
use frontends::promql::Options as PromqlOptions;
use frontends::rules::file::{self, Defaults, Group};
use frontends::rules::manager::{Manager as RuleManager, Options as RuleOptions, Ports};
use frontends::rules::yaml::Fault;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use storage::clock::Clock;
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::model::{Labels, TimeMs};
use storage::store::{Options as StoreOptions, Store};
use tokio::net::TcpListener;

/// The rooms at work.
pub struct Server {
    /// The command line.
    pub flags: Flags,
    /// Self-metrics.
    pub metrics: Metrics,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// When the process began.
    pub started: TimeMs,
    /// Samples.
    pub store: Arc<Store>,
    /// Standing plans.
    pub live: Live,
    /// Ad-hoc plans.
    pub querier: Arc<Querier>,
    /// Scraping.
    pub scrape: Arc<ScrapeManager>,
    /// Rules and alerts.
    pub rules: Arc<RuleManager>,
    /// Alertmanagers.
    pub alerts: Arc<alerts::Alerts>,
    /// PromQL, with the features that are on.
    pub language: PromqlOptions,
    /// Last, so that it goes when all others are gone; `None`: switched off.
    _lock: Option<DataLock>,
}

/// A configuration that was read and checked as a whole, rule files included.
pub struct Loaded {
    /// `prometheus.yml`.
    pub config: Config,
    /// The rule files' groups.
    pub groups: Vec<Group>,
    /// Not wrong, but probably not meant.
    pub warnings: Vec<Fault>,
}

impl Server {
    /// Opens all rooms. Nothing is scraped and no rule stands before [`Server::apply`].
    pub fn open(flags: Flags, config: &Config) -> Result<Server, String> {
        let metrics = Metrics::default();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let dir = flags.data_path(config.storage.path.as_ref());
        let lock = flags.lock_data().then(|| DataLock::take(&dir)).transpose()?;
        let store = open_store(&flags, config, dir, &metrics)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let live_options = LiveOptions {
            workers: flags.live_workers(cores),
            lookback: flags.lookback(),
            ..LiveOptions::default()
        };
        let live = Live::start(store.clone(), clock.clone(), live_options, &metrics)?;
        let querier = Arc::new(Querier::new(store.clone(), cores));
        let language = language::options(|name| flags.feature(name));
        let scrape_options = ScrapeOptions {
            seed: config.external_labels.hash64(),
            strict_content_type: flags.strict_content_type(),
            hostname: crate::host_name(),
        };
        let scrape = Arc::new(ScrapeManager::new(store.clone(), clock.clone(), &metrics, scrape_options));
        let alerts = Arc::new(alerts::Alerts::new(&flags, &metrics));
        let ports = Ports {
            views: Arc::new(live.clone()),
            store: store.clone(),
            notify: alerts.clone(),
            query: Arc::new(language::TemplateQueries {
                querier: querier.clone(),
                language,
                options: QueryOptions { lookback: flags.lookback(), ..QueryOptions::default() },
            }),
            clock: clock.clone(),
            metrics: metrics.clone(),
        };
        let rules = RuleManager::start(ports, rule_options(&flags, config)).map_err(|e| e.to_string())?;
        let started = clock.now();
        let rules = Arc::new(rules);
        Ok(Server {
            flags,
            metrics,
            clock,
            started,
            store,
            live,
            querier,
            scrape,
            rules,
            alerts,
            language,
            _lock: lock,
        })
    }

    /// Makes a configuration the one in force. All-or-nothing as far as a checked one can still fail.
    pub fn apply(&self, loaded: &Loaded) -> Result<(), String> {
        loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        self.rules.apply(loaded.groups.clone(), loaded.config.external_labels.clone())?;
        self.scrape.apply(loaded.config.jobs.clone())?;
        self.alerts.apply(&loaded.config)
    }

    /// Serves until `shutdown` resolves.
    pub async fn serve(
        self: &Arc<Server>,
        listeners: Vec<TcpListener>,
        control: AdminOf,
        default_step: i64,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), String> {
        let state =
            AppState::new(self.settings(default_step)?, self.sources(Arc::new(AdminOf(control.0.clone()))));
        let mut router = http::router(state.clone());
        if self.flags.config_file().is_none() {
            let page = || async { connectors::host::render() };
            router = router.route("/host/metrics", axum::routing::get(page));
        }
        let housekeeping = tokio::spawn(keep_house(self.store.clone(), self.clock.clone()));
        control.0.set_ready();
        let served = http::serve(listeners, router, state, shutdown, self.flags.max_connections()).await;
        housekeeping.abort();
        served.map_err(|e| e.to_string())
    }

    /// Closes all rooms: what brings samples in first, the store last.
    pub fn close(&self) -> Result<(), String> {
        self.scrape.shutdown();
        self.rules.stop();
        self.alerts.close();
        self.live.stop();
        self.store.close().map_err(|e| e.to_string())
    }

    fn settings(&self, default_step: i64) -> Result<Settings, String> {
        let flags = &self.flags;
        let external = flags.external_url(&crate::host_name());
        let path = external.split_once("://").map_or("", |(_, rest)| rest);
        let path = path.split_once('/').map_or(String::new(), |(_, path)| format!("/{path}"));
        let cors = http::cors_origin(flags.cors_origin()).map_err(|e| format!("--web.cors.origin: {e}"))?;
        Ok(Settings {
            route_prefix: flags.route_prefix(),
            external_path: path,
            page_title: flags.page_title().to_owned(),
            cors_origin: cors,
            lifecycle: flags.enable_lifecycle(),
            max_concurrency: flags.query_concurrency(),
            query_timeout: Duration::from_millis(flags.query_timeout() as u64),
            max_samples: flags.query_max_samples(),
            lookback: flags.lookback(),
            default_step,
        })
    }

    fn sources(&self, control: Arc<AdminOf>) -> Sources {
        let writes = writes::Writes::new(self.store.clone(), self.clock.clone());
        Sources {
            language: Arc::new(http::language::Promql(self.language)),
            answers: self.querier.clone(),
            catalog: self.store.clone(),
            views: Arc::new(self.live.clone()),
            targets: Arc::new(sources::Targets(self.scrape.clone())),
            rules: Arc::new(sources::Rules(self.rules.clone())),
            alertmanagers: self.alerts.clone(),
            admin: control,
            remote_write: self
                .flags
                .enable_remote_write_receiver()
                .then(|| Arc::new(writes) as Arc<dyn http::sources::RemoteWrite>),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
        }
    }
}

/// Reads the rule files that `config` names, and checks what else it names: after this nothing is left to refuse.
pub fn load_rules(
    config: Config,
    mut warnings: Vec<Fault>,
    language: &PromqlOptions,
) -> Result<Loaded, Fault> {
    config.check_clients()?;
    let defaults = defaults(&config);
    let loaded = file::load(&config.rule_files, defaults, &file::promql_compiler(*language))?;
    warnings.extend(loaded.warnings);
    Ok(Loaded { config, groups: loaded.groups, warnings })
}

/// What rule groups that say nothing get.
pub fn defaults(config: &Config) -> Defaults {
    Defaults { interval: config.evaluation_interval(), query_offset: config.global.keys.rule_query_offset.0 }
}

fn open_store(flags: &Flags, config: &Config, dir: PathBuf, metrics: &Metrics) -> Result<Arc<Store>, String> {
    let out_of_order = config.storage.out_of_order_ms.unwrap_or(storage::limits::OUT_OF_ORDER_WINDOW_MS);
    let options = StoreOptions {
        dir: dir.clone(),
        wal_sync_interval_ms: flags.wal_sync_interval(),
        block_range_ms: flags.block_range(config.storage.min_block),
        out_of_order_ms: out_of_order,
    };
    let opened = Store::open(options, Arc::new(OsDisk), metrics);
    let (store, replay) =
        opened.map_err(|e| format!("cannot open the data directory {}: {e}", dir.display()))?;
    replay.damage.iter().for_each(|line| tracing::warn!("damage in the data directory: {line}"));
    tracing::info!(dir = %dir.display(), records = replay.records, samples = replay.samples, "store open, log replayed");
    Ok(store)
}

fn rule_options(flags: &Flags, config: &Config) -> RuleOptions {
    RuleOptions {
        external_labels: Labels::clone(&config.external_labels),
        external_url: flags.external_url(&crate::host_name()),
        resend_delay: flags.resend_delay(),
        outage_tolerance: flags.for_outage_tolerance(),
        for_grace_period: flags.for_grace_period(),
    }
}

/// Once a minute: complete ranges become blocks, the log behind them goes.
async fn keep_house(store: Arc<Store>, clock: Arc<dyn Clock>) {
    let mut minute = tokio::time::interval(Duration::from_secs(60));
    loop {
        minute.tick().await;
        let (store, now) = (store.clone(), clock.now());
        match tokio::task::spawn_blocking(move || store.maintain(now)).await {
            Ok(Ok(0)) => {}
            Ok(Ok(blocks)) => tracing::info!(blocks, "blocks written"),
            Ok(Err(error)) => {
                tracing::error!(%error, "housekeeping failed; the data stays in the head and the log")
            }
            Err(error) => tracing::error!(%error, "housekeeping ended badly"),
        }
    }
}
