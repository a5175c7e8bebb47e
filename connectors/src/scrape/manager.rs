//! All scrape pools: starts, changes and ends them as the configuration says, and tells the API
//! about targets.

use crate::http_client::Peers;
use crate::limits;
use crate::scrape::appender::StartRules;
use crate::scrape::config::ScrapeJob;
use crate::scrape::metadata::Metadata;
use crate::scrape::metrics::ScrapeMetrics;
use crate::scrape::pool::{JobWithClient, PoolStatus, ScrapePool};
use crate::scrape::target::{ScrapeUrl, TargetHealth, TargetKey};
use crate::threads::Niced;
use crate::units::ConfigDuration;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use storage::clock::Clock;
use storage::execution::Execution;
use storage::metrics::Metrics;
use storage::model::{Labels, TimeMs};
use storage::store::Store;
use tokio::sync::{Semaphore, watch};

/// How a manager is set up.
#[derive(Clone, Debug, Default)]
pub struct ScrapeOptions {
    /// Makes the schedules of two servers differ (hash of host name and external labels).
    pub seed: u64,
    /// Prometheus 3's behaviour: an answer without a known `Content-Type` fails, however it looks.
    pub strict_content_type: bool,
    /// What is done with start timestamps of scraped samples.
    pub starts: StartRules,
    /// Whether series get the labels `__type__` and `__unit__`.
    pub type_and_unit_labels: bool,
    /// What `localhost` is called from outside, for `globalUrl`.
    pub hostname: String,
    /// Which targets are ours, if several processes divide them.
    pub share: TargetPartition,
    /// Bytes of memory that all scrapes together may take while they are read; by default
    /// [`limits::SCRAPE_MEMORY_BYTES`].
    pub max_memory: Option<usize>,
    /// Who answers.
    pub peers: Peers,
    /// Who parses and appends.
    pub execution: Execution,
}

impl ScrapeOptions {
    /// See [`ScrapeOptions::max_memory`].
    pub fn memory(&self) -> usize {
        self.max_memory.unwrap_or(limits::SCRAPE_MEMORY_BYTES)
    }
}

/// A share of all targets: every process finds all of them and scrapes its own.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct TargetPartition {
    /// Our number.
    pub process: usize,
    /// How many processes there are.
    pub processes: usize,
}

impl Default for TargetPartition {
    fn default() -> Self {
        TargetPartition { process: 0, processes: 1 }
    }
}

impl TargetPartition {
    /// Whether the target is ours: by its labels and its URL, so that all processes come to the same verdict.
    pub fn has(self, (labels, url): &TargetKey) -> bool {
        let hash = xxhash_rust::xxh3::xxh3_64_with_seed(url.as_bytes(), labels.hash64());
        hash % self.processes as u64 == self.process as u64
    }
}

/// What all pools work with.
pub struct ScrapeContext {
    /// The store.
    pub store: Arc<Store>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// The options.
    pub options: ScrapeOptions,
    /// Self-metrics: the counters of scraping …
    pub metrics: Arc<ScrapeMetrics>,
    /// … and the registry they are in.
    pub registry: Metrics,
    /// Turns on threads that work at scrapes …
    pub turns: Arc<Semaphore>,
    /// … and those of scrapes that have had several, on threads of their own.
    pub late_turns: Arc<Semaphore>,
    /// Those threads.
    pub late: Niced,
    /// Memory that scrapes may take while they are read, in KiB.
    pub memory: Arc<Semaphore>,
}

/// See the module. Must be used on a tokio runtime.
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
    /// Labels before relabelling.
    pub discovered_labels: BTreeMap<String, String>,
    /// Labels of its series.
    pub labels: Labels,
    /// The job.
    pub scrape_pool: String,
    /// Where it is scraped.
    pub scrape_url: String,
    /// The same, as seen from other machines.
    pub global_url: String,
    /// Why it is down; empty if it is not.
    pub last_error: String,
    /// What is odd although it is up.
    pub warning: Option<String>,
    /// Start of the last scrape, ms; 0: none yet.
    pub last_scrape: TimeMs,
    /// Its duration, seconds.
    pub last_scrape_duration: f64,
    /// Whether it answers.
    pub health: TargetHealth,
    /// Time between scrapes.
    pub scrape_interval: ConfigDuration,
    /// Longest scrape.
    pub scrape_timeout: ConfigDuration,
}

/// A target that the rules dropped.
#[derive(Clone, Debug)]
pub struct DroppedTarget {
    /// Labels before relabelling.
    pub discovered_labels: BTreeMap<String, String>,
    /// The job.
    pub scrape_pool: String,
}

/// All targets.
#[derive(Clone, Debug, Default)]
pub struct PoolTargets {
    /// Those being scraped, by pool and URL.
    pub active: Vec<TargetInfo>,
    /// Those dropped, the first of each pool.
    pub dropped: Vec<DroppedTarget>,
    /// How many were dropped, by pool.
    pub dropped_counts: BTreeMap<String, usize>,
}

/// What one target says about one metric family.
#[derive(Clone, Debug)]
pub struct TargetMetadata {
    /// Labels of the target.
    pub target: Labels,
    /// Name of the family.
    pub metric: String,
    /// Type, help and unit.
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
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let memory = (options.memory() >> 10).min(Semaphore::MAX_PERMITS);
        let execution = options.execution;
        let shared = ScrapeContext {
            store,
            clock,
            options,
            metrics: counters,
            registry: metrics.clone(),
            turns: Arc::new(Semaphore::new(cores)),
            late_turns: Arc::new(Semaphore::new(cores)),
            late: Niced::new(execution, "scrape", limits::SCRAPE_LATE_NICENESS),
            memory: Arc::new(Semaphore::new(memory)),
        };
        ScrapeManager { shared: Arc::new(shared), pools: Mutex::default() }
    }

    /// Makes the running pools those of `jobs`. Pools whose job is unchanged are not touched.
    /// Nothing happens if one of the jobs cannot run; the text says why.
    pub fn apply(&self, jobs: Vec<ScrapeJob>) -> Result<(), String> {
        let mut wanted = BTreeMap::new();
        for job in jobs {
            let name = job.name().to_owned();
            let client =
                job.config.http.client().map_err(|e| format!("scrape config with job name {name:?}: {e}"))?;
            let client = client.with_peers(&self.shared.options.peers);
            wanted.insert(name, JobWithClient { job: Arc::new(job), client });
        }
        let mut pools = self.pools.lock();
        // A pool whose sender goes away would stop in its tracks; told that there is no job, it
        // ends in order.
        pools.retain(|name, running| {
            wanted.contains_key(name) || {
                running.job.send_replace(None);
                false
            }
        });
        for (name, next) in wanted {
            match pools.get(&name) {
                Some(running) => {
                    let changed = running.job.send_if_modified(|current| {
                        let changed = current.as_ref().is_none_or(|c| c.job != next.job);
                        if changed {
                            *current = Some(next);
                        }
                        changed
                    });
                    self.shared.metrics.pool_reloads.add(u64::from(changed));
                }
                None => drop(pools.insert(name, self.start(next))),
            }
        }
        Ok(())
    }

    fn start(&self, job: JobWithClient) -> RunningPool {
        self.shared.metrics.pools.inc();
        let (sender, receiver) = watch::channel(Some(job));
        let view = Arc::new(Mutex::new(PoolStatus::default()));
        let pool = ScrapePool::new(self.shared.clone(), view.clone());
        RunningPool { job: sender, view, task: tokio::spawn(pool.run(receiver)) }
    }

    /// Stops all scraping at once, without stale markers: the server goes down, the targets do not.
    pub fn shutdown(&self) {
        for running in std::mem::take(&mut *self.pools.lock()).into_values() {
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

    /// What targets say about their metrics; `keep` chooses targets by their labels.
    pub fn metadata(&self, keep: impl Fn(&Labels) -> bool) -> Vec<TargetMetadata> {
        let mut all = Vec::new();
        for (name, running) in self.pools.lock().iter() {
            let mut entries = 0;
            for active in running.view.lock().active.values() {
                let map = active.state.lock().metadata.clone();
                entries += map.len();
                if keep(&active.target.labels) {
                    let target = &active.target.labels;
                    all.extend(map.iter().map(|(metric, metadata)| TargetMetadata {
                        target: target.clone(),
                        metric: metric.to_string(),
                        metadata: Metadata::clone(metadata),
                    }));
                }
            }
            self.shared.metrics.metadata_entries(name, entries);
        }
        all
    }

    /// Names of the pools.
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
    if local && !hostname.is_empty() {
        // A name that is no host leaves the URL as it is.
        let _ = url.set_host(Some(hostname));
    }
    url.to_string()
}
