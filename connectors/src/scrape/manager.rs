//! [`ScrapeManager`]: all scrape pools. It starts, changes and ends them when the configuration is
//! loaded, and lists the targets for the API. A [`ScrapePool`] is a task with the targets of one
//! job.

use crate::config::changes::NamedChanges;
use crate::config::error::BlockError;
use crate::config::units::ConfigDuration;
use crate::discovery::{DiscoveryUser, failed_configs};
use crate::http_client::Peers;
use crate::limits;
use crate::relabel::{RelabelStep, relabel_steps};
use crate::scrape::appender::StartRules;
use crate::scrape::config::ScrapeJob;
use crate::scrape::failure_log::ScrapeFailureLogs;
use crate::scrape::metadata::Metadata;
use crate::scrape::metrics::ScrapeMetrics;
use crate::scrape::pool::{JobWithClient, PoolStatus, ScrapePool};
use crate::scrape::target::{ScrapeUrl, TargetHealth, TargetKey};
use crate::threads::LowPriorityPool;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use storage::clock::Clock;
use storage::execution::Execution;
use storage::metrics::Metrics;
use storage::model::{Labels, TimeMs};
use storage::spans::Tracer;
use storage::store::Store;
use tokio::sync::{Semaphore, watch};

/// The options of a scrape manager.
#[derive(Clone, Debug, Default)]
pub struct ScrapeOptions {
    /// Makes the schedules of two servers differ (a hash of host name and external labels).
    pub seed: u64,
    /// Whether a response without a known `Content-Type` fails, whatever its body looks like (as in
    /// Prometheus 3).
    pub strict_content_type: bool,
    /// The largest difference between schedule and clock that the timestamp of a scrape hides, at
    /// most a hundredth of the interval; by default [`limits::TIMESTAMP_TOLERANCE_MS`].
    pub timestamp_tolerance: Option<ConfigDuration>,
    /// How start timestamps of scraped samples are handled.
    pub starts: StartRules,
    /// Whether series get the labels `__type__` and `__unit__`.
    pub type_and_unit_labels: bool,
    /// What spans of scrapes are started with.
    pub tracer: Tracer,
    /// The host name that replaces `localhost` in `globalUrl`.
    pub hostname: String,
    /// Which targets this process scrapes, if several processes share them.
    pub share: TargetPartition,
    /// The memory, in bytes, that all scrapes together may use while they are read; by default
    /// [`limits::SCRAPE_MEMORY_BYTES`].
    pub max_memory: Option<usize>,
    /// The peers that answer requests of the HTTP client.
    pub peers: Peers,
    /// Where parsing and appending run.
    pub execution: Execution,
}

impl ScrapeOptions {
    /// The value of [`ScrapeOptions::max_memory`] or its default.
    pub fn memory(&self) -> usize {
        self.max_memory.unwrap_or(limits::SCRAPE_MEMORY_BYTES)
    }

    /// The value of [`ScrapeOptions::timestamp_tolerance`] or its default, ms.
    pub fn tolerance_ms(&self) -> i64 {
        self.timestamp_tolerance.map_or(limits::TIMESTAMP_TOLERANCE_MS, |tolerance| tolerance.0)
    }
}

/// A share of all targets: every process discovers all targets and scrapes only its own.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct TargetPartition {
    /// The number of this process.
    pub process: usize,
    /// The number of processes.
    pub processes: usize,
}

impl Default for TargetPartition {
    fn default() -> Self {
        TargetPartition { process: 0, processes: 1 }
    }
}

impl TargetPartition {
    /// Whether this process scrapes the target. Depends only on labels and URL, so that all
    /// processes agree.
    pub fn has(self, (labels, url): &TargetKey) -> bool {
        // Not a number in a list: every process finds targets in its own order, and all must come
        // to the same share.
        let hash = xxhash_rust::xxh3::xxh3_64_with_seed(url.as_bytes(), labels.hash64());
        hash % self.processes as u64 == self.process as u64
    }
}

/// What all pools share.
pub struct ScrapeContext {
    /// The store.
    pub store: Arc<Store>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// The options.
    pub options: ScrapeOptions,
    /// The logs of failed scrapes.
    pub failure_logs: Arc<ScrapeFailureLogs>,
    /// The counters of scraping.
    pub metrics: Arc<ScrapeMetrics>,
    /// The registry of the self-metrics.
    pub registry: Metrics,
    /// Permits for turns of scrapes on threads.
    pub turns: Arc<Semaphore>,
    /// Permits for turns of scrapes that have already had several; these run on
    /// [`ScrapeContext::late`].
    pub late_turns: Arc<Semaphore>,
    /// The low-priority threads for long scrapes.
    pub late: LowPriorityPool,
    /// The memory that scrapes may use while they are read, in KiB.
    pub memory: Arc<Semaphore>,
}

/// Manages all scrape pools. Must be used on a tokio runtime.
pub struct ScrapeManager {
    shared: Arc<ScrapeContext>,
    pools: Mutex<BTreeMap<String, RunningPool>>,
}

struct RunningPool {
    job: watch::Sender<Option<JobWithClient>>,
    view: Arc<Mutex<PoolStatus>>,
    task: tokio::task::JoinHandle<()>,
}

/// A target as `/api/v1/targets` shows it.
#[derive(Clone, Debug)]
pub struct TargetInfo {
    /// The labels before relabelling.
    pub discovered_labels: BTreeMap<String, String>,
    /// The labels of the target's series.
    pub labels: Labels,
    /// The job name.
    pub scrape_pool: String,
    /// The URL of the scrape.
    pub scrape_url: String,
    /// The URL as seen from other machines.
    pub global_url: String,
    /// Why the last scrape failed; empty if it succeeded.
    pub last_error: String,
    /// A warning about a scrape that succeeded.
    pub warning: Option<String>,
    /// The start of the last scrape, ms; 0: none yet.
    pub last_scrape: TimeMs,
    /// The duration of the last scrape, seconds.
    pub last_scrape_duration: f64,
    /// Whether the last scrape succeeded.
    pub health: TargetHealth,
    /// The scrape interval.
    pub scrape_interval: ConfigDuration,
    /// The scrape timeout.
    pub scrape_timeout: ConfigDuration,
}

/// A target that the relabelling rules dropped.
#[derive(Clone, Debug)]
pub struct DroppedTarget {
    /// The labels before relabelling.
    pub discovered_labels: BTreeMap<String, String>,
    /// The job name.
    pub scrape_pool: String,
}

/// The targets of all pools.
#[derive(Clone, Debug, Default)]
pub struct PoolTargets {
    /// The scraped targets, by pool and URL.
    pub active: Vec<TargetInfo>,
    /// The dropped targets; only the first ones of each pool.
    pub dropped: Vec<DroppedTarget>,
    /// The number of dropped targets, by pool.
    pub dropped_counts: BTreeMap<String, usize>,
}

/// The metadata of one metric family as one target exposes it.
#[derive(Clone, Debug)]
pub struct TargetMetadata {
    /// The labels of the target.
    pub target: Labels,
    /// The name of the family.
    pub metric: String,
    /// The type, help and unit.
    pub metadata: Metadata,
}

impl ScrapeManager {
    /// A manager without pools.
    pub fn new(
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        metrics: &Metrics,
        options: ScrapeOptions,
    ) -> ScrapeManager {
        let counters = Arc::new(ScrapeMetrics::new(metrics));
        failed_configs(metrics, DiscoveryUser::Scrape);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let memory = (options.memory() >> 10).min(Semaphore::MAX_PERMITS);
        let execution = options.execution;
        let shared = ScrapeContext {
            store,
            clock,
            options,
            failure_logs: Arc::default(),
            metrics: counters,
            registry: metrics.clone(),
            // Parsing is work for processors, so there are as many permits as processors.
            turns: Arc::new(Semaphore::new(cores)),
            late_turns: Arc::new(Semaphore::new(cores)),
            late: LowPriorityPool::new(execution, "scrape", limits::SCRAPE_LATE_NICENESS),
            memory: Arc::new(Semaphore::new(memory)),
        };
        ScrapeManager { shared: Arc::new(shared), pools: Mutex::default() }
    }

    /// Makes the running pools match `jobs`. Pools whose job is unchanged are not touched, unless
    /// an entry of their discovery could not be started. Returns which jobs are others than before.
    ///
    /// # Errors
    ///
    /// If the HTTP client of a job cannot be built, or a log of failed scrapes cannot be opened.
    /// Then no pool changes.
    pub fn apply(&self, jobs: Vec<ScrapeJob>) -> Result<NamedChanges, BlockError> {
        let mut wanted = BTreeMap::new();
        // All clients before any pool is touched: a certificate that cannot be read must not leave
        // half of a configuration in force.
        for job in jobs {
            let name = job.name().to_owned();
            let client = job.config.http.client().map_err(|error| {
                self.count_failure(&name);
                error.within(format_args!("scrape config with job name {name:?}"))
            })?;
            let client = client.with_peers(&self.shared.options.peers);
            wanted.insert(name, JobWithClient { job: Arc::new(job), client });
        }
        let logs = wanted.values().map(|wanted| &*wanted.job.failure_log);
        self.shared.failure_logs.set(logs)?;
        let mut changes = NamedChanges::default();
        let mut pools = self.pools.lock();
        // Dropping the sender would stop the pool at once. Sending that there is no job lets the
        // pool end in order, with stale markers.
        pools.retain(|name, running| {
            wanted.contains_key(name) || {
                running.job.send_replace(None);
                changes.removed.push(name.clone());
                false
            }
        });
        for (name, next) in wanted {
            match pools.get(&name) {
                Some(running) => {
                    let has_failed = running.view.lock().has_failed_discovery;
                    let changed = running.job.send_if_modified(|current| {
                        let is_other = current.as_ref().is_none_or(|c| c.job != next.job);
                        if is_other {
                            changes.changed.push(name);
                        }
                        let changed = has_failed || is_other;
                        if changed {
                            *current = Some(next);
                        }
                        changed
                    });
                    self.shared.metrics.pool_reloads.add(u64::from(changed));
                }
                // A pool finds out by itself what it discovers.
                None => {
                    changes.added.push(name.clone());
                    pools.insert(name, self.start(next));
                }
            }
        }
        Ok(changes)
    }

    /// Counts a job that cannot be applied.
    fn count_failure(&self, job: &str) {
        let metrics = &self.shared.metrics;
        let is_running = self.pools.lock().contains_key(job);
        if is_running { metrics.failed_pool_reloads.inc() } else { metrics.failed_pools.inc() }
    }

    fn start(&self, job: JobWithClient) -> RunningPool {
        self.shared.metrics.pools.inc();
        let (sender, receiver) = watch::channel(Some(job));
        let view = Arc::new(Mutex::new(PoolStatus::default()));
        let pool = ScrapePool::new(self.shared.clone(), view.clone());
        RunningPool { job: sender, view, task: tokio::spawn(pool.run(receiver)) }
    }

    /// Stops all scraping at once, without stale markers: the server stops, the targets do not.
    pub fn shutdown(&self) {
        for running in std::mem::take(&mut *self.pools.lock()).into_values() {
            // Without stale markers: the targets live on, and after a restart their series go on. A
            // marker would make every graph and `for` begin anew.
            running.task.abort();
            let active = std::mem::take(&mut running.view.lock().active);
            for active in active.into_values() {
                active.abort();
            }
        }
    }

    /// All targets, by pool and URL.
    pub fn targets(&self) -> PoolTargets {
        let mut targets = PoolTargets::default();
        for (name, running) in self.pools.lock().iter() {
            let view = running.view.lock();
            let from = targets.active.len();
            targets.active.extend(view.active.values().map(|active| self.info(name, active)));
            // Within a pool by URL: the order in which targets were discovered changes at every
            // refresh.
            targets.active[from..]
                .sort_by(|a, b| (&a.scrape_url, &a.labels).cmp(&(&b.scrape_url, &b.labels)));
            let dropped = |labels: &BTreeMap<String, String>| DroppedTarget {
                discovered_labels: labels.clone(),
                scrape_pool: name.clone(),
            };
            targets.dropped.extend(view.dropped.iter().map(dropped));
            targets.dropped_counts.insert(name.clone(), view.dropped_count);
        }
        targets
    }

    fn info(&self, pool: &str, active: &super::pool::ActiveTarget) -> TargetInfo {
        let state = active.state.lock();
        TargetInfo {
            discovered_labels: active.discovered.clone(),
            labels: active.target.labels.clone(),
            scrape_pool: pool.to_owned(),
            scrape_url: active.target.url.to_string(),
            global_url: global_url(&active.target.url, &self.shared.options.hostname),
            last_error: state.last_error.clone(),
            warning: state.warning.clone(),
            last_scrape: state.last_scrape,
            last_scrape_duration: state.last_duration,
            health: state.health,
            scrape_interval: active.target.interval,
            scrape_timeout: active.target.timeout,
        }
    }

    /// The metadata of all targets whose labels `keep` accepts.
    pub fn metadata(&self, keep: impl Fn(&Labels) -> bool) -> Vec<TargetMetadata> {
        let mut all = Vec::new();
        for running in self.pools.lock().values() {
            for active in running.view.lock().active.values() {
                let map = active.state.lock().metadata.clone();
                if keep(&active.target.labels) {
                    let target = &active.target.labels;
                    all.extend(map.iter().map(|(metric, metadata)| TargetMetadata {
                        target: target.clone(),
                        metric: metric.to_string(),
                        metadata: Metadata::clone(metadata),
                    }));
                }
            }
        }
        all
    }

    /// Sets the metrics of cached metadata.
    pub fn collect(&self) {
        for (name, running) in self.pools.lock().iter() {
            let mut entries = 0;
            let mut bytes = 0;
            for active in running.view.lock().active.values() {
                let map = active.state.lock().metadata.clone();
                entries += map.len();
                let length = |(name, data): (&Arc<str>, &Arc<Metadata>)| {
                    name.len() + data.help.len() + data.unit.len()
                };
                bytes += map.iter().map(length).sum::<usize>();
            }
            self.shared.metrics.metadata_cache(name, entries, bytes);
        }
    }

    /// What the relabelling rules of a pool make of `labels`, rule by rule, up to one that drops
    /// them; `None`: there is no such pool.
    pub fn relabel_steps(&self, pool: &str, labels: &BTreeMap<String, String>) -> Option<Vec<RelabelStep>> {
        let job = self.pools.lock().get(pool)?.job.borrow().as_ref()?.job.clone();
        Some(relabel_steps(&job.config.keys.relabel_configs, labels))
    }

    /// The names of the pools.
    pub fn pools(&self) -> Vec<String> {
        self.pools.lock().keys().cloned().collect()
    }
}

impl Drop for ScrapeManager {
    fn drop(&mut self) {
        self.shutdown();
    }
}

fn global_url(url: &ScrapeUrl, hostname: &str) -> String {
    let Ok(url) = url.get() else { return url.to_string() };
    let mut url = url.clone();
    let local = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    // Nobody can open `localhost` of another machine; Prometheus shows its own name instead.
    if local && !hostname.is_empty() {
        // If `hostname` is not a valid host, the URL remains unchanged.
        let _ = url.set_host(Some(hostname));
    }
    url.to_string()
}
