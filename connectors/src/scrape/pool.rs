//! The targets of one job: follows the discovery, starts a loop per new target and ends those of
//! vanished targets.
//!
//! If the job changes, targets that remain hand their series over to the new loop, so that a reload
//! causes no stale markers. A target that returns before its stale markers are written continues as
//! before.

use crate::discovery::shared_target::SharedTarget;
use crate::discovery::{DiscoveryContext, DiscoverySet, DiscoveryUser, FoundTargets};
use crate::http_client::HttpClient;
use crate::scrape::appender::{HistogramPolicy, ScrapeAppender};
use crate::scrape::config::ScrapeJob;
use crate::scrape::manager::ScrapeContext;
use crate::scrape::scrape_loop::{LoopCommand, ScrapeLoop, report_names};
use crate::scrape::target::{Target, TargetKey, TargetState, build_target, discovered_labels};
use crate::scrape::work::{Context, ScrapeWork};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// A target and its loop.
pub struct ActiveTarget {
    /// The target.
    pub target: Target,
    /// The labels before relabelling.
    pub discovered: BTreeMap<String, String>,
    /// The result of the last scrape.
    pub state: Arc<Mutex<TargetState>>,
    commands: watch::Sender<LoopCommand>,
    context: Arc<Context>,
    task: JoinHandle<Option<Box<ScrapeAppender>>>,
}

impl ActiveTarget {
    /// Stops the loop at once.
    pub fn abort(&self) {
        self.context.stopped.store(true, Relaxed);
        self.task.abort();
    }
}

/// A job and its HTTP client.
#[derive(Clone)]
pub struct JobWithClient {
    /// The job.
    pub job: Arc<ScrapeJob>,
    /// Its client.
    pub client: HttpClient,
}

/// What the API shows of a pool.
#[derive(Default)]
pub struct PoolStatus {
    /// The scraped targets.
    pub active: BTreeMap<TargetKey, ActiveTarget>,
    /// The labels of targets that the relabelling rules dropped; only the first ones.
    pub dropped: Vec<BTreeMap<String, String>>,
    /// The number of dropped targets.
    pub dropped_count: usize,
    /// Whether an entry of the discovery could not be started, so that the next reload starts it
    /// again.
    pub has_failed_discovery: bool,
}

/// The targets of one job.
pub struct ScrapePool {
    shared: Arc<ScrapeContext>,
    view: Arc<Mutex<PoolStatus>>,
    /// Vanished targets whose loops wait for the tick at which they write stale markers.
    ending_targets: BTreeMap<TargetKey, ActiveTarget>,
    refused: Arc<arc_swap::ArcSwapOption<String>>,
}

impl ScrapePool {
    /// A pool that publishes its targets in `view`.
    pub fn new(shared: Arc<ScrapeContext>, view: Arc<Mutex<PoolStatus>>) -> ScrapePool {
        ScrapePool { shared, view, ending_targets: BTreeMap::new(), refused: Arc::default() }
    }

    /// Runs until there is no job.
    pub async fn run(mut self, mut jobs: watch::Receiver<Option<JobWithClient>>) {
        let mut before = None::<(JobWithClient, DiscoverySet)>;
        loop {
            let Some(current) = jobs.borrow_and_update().clone() else { break };
            let context = DiscoveryContext {
                peers: &self.shared.options.peers,
                metrics: &self.shared.registry,
                pool: current.job.name(),
                user: DiscoveryUser::Scrape,
            };
            // A discovery that a reload does not change goes on. One of which an entry could not be
            // started begins anew, as in Prometheus: the cause may be gone.
            let config = &current.job.config.discovery;
            let same =
                before.take().filter(|(job, set)| job.job.config.discovery == *config && !set.has_failed());
            let mut discovery = match same {
                Some((_, discovery)) => discovery,
                None => DiscoverySet::start(config, &context),
            };
            self.view.lock().has_failed_discovery = discovery.has_failed();
            // Targets of the job before stay until the whole new list is known.
            let nothing_to_lose = self.view.lock().active.is_empty();
            let mut renew = true;
            loop {
                let (found, complete) = discovery.found();
                // An incomplete list would end targets that the missing mechanism still has. With
                // nothing running, each target that is known is better than none.
                if complete || nothing_to_lose {
                    let began = Instant::now();
                    self.sync(&current, &found, std::mem::take(&mut renew)).await;
                    let took = began.elapsed().as_secs_f64();
                    self.shared.metrics.sync_length(current.job.name(), took, self.shared.clock.now());
                }
                tokio::select! {
                    biased;
                    // First (`biased`): a reload that came together with new targets must not
                    // scrape them with the old job once more.
                    changed = jobs.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                    _ = discovery.changed() => {}
                }
            }
            before = Some((current, discovery));
        }
        let all = std::mem::take(&mut self.view.lock().active);
        for active in all.into_values() {
            // The job is gone: its series end, each at the next tick of its target.
            active.commands.send_replace(LoopCommand::Vanish);
        }
    }

    /// Makes the running loops match `found`; with `renew` all of them are restarted.
    async fn sync(&mut self, current: &JobWithClient, found: &FoundTargets, renew: bool) {
        let wanted = self.wanted(&current.job, found);
        let mut old = std::mem::take(&mut self.view.lock().active);
        // Their markers are written.
        self.ending_targets.retain(|_, active| !active.task.is_finished());
        for (key, (target, discovered)) in wanted {
            let active = match old.remove(&key) {
                // Only labels that no series has have changed.
                Some(mut active) if !renew && active.target == target => {
                    active.discovered = discovered;
                    active
                }
                Some(active) => self.replace(current, target, discovered, Some(active)).await,
                None => {
                    // It vanished and is back before its tick, as flapping discoveries do: its loop
                    // is continued, and no marker is written.
                    let returning = self.ending_targets.remove(&key);
                    self.replace(current, target, discovered, returning).await
                }
            };
            self.view.lock().active.insert(key, active);
        }
        for (key, active) in old {
            active.commands.send_replace(LoopCommand::Vanish);
            self.ending_targets.insert(key, active);
        }
    }

    /// The targets that `found` results in, by key; refuses all of them if there are too many.
    fn wanted(
        &self,
        job: &ScrapeJob,
        found: &FoundTargets,
    ) -> BTreeMap<TargetKey, (Target, BTreeMap<String, String>)> {
        let mut wanted = BTreeMap::new();
        let discovered_count = found.iter().count();
        let mut dropped = Vec::new();
        let mut dropped_count = 0;
        let mut failed = 0;
        for discovered in found.iter().map(SharedTarget::labels) {
            let labels = discovered_labels(&discovered, job);
            // Targets are the same if labels and URL are: a second discovery of one is no second
            // scrape. As in Prometheus the first is scraped, and the labels of the last are shown.
            match build_target(&labels, job) {
                Ok(Some(target)) => match wanted.entry(target.key()) {
                    Entry::Vacant(new) => drop(new.insert((target, labels))),
                    Entry::Occupied(mut equal) => equal.get_mut().1 = labels,
                },
                Ok(None) => {
                    dropped_count += 1;
                    // A job that keeps ten of 50,000 discovered pods would hold the labels of all
                    // the others for a page that nobody reads.
                    if dropped.len() < job.dropped_kept {
                        dropped.push(labels);
                    }
                }
                Err(reason) => {
                    failed += 1;
                    tracing::error!(
                        target: "scrape", job = job.name(), %reason, labels = ?discovered,
                        "cannot make a target of discovered labels, so they are not scraped; correct the relabeling"
                    );
                }
            }
        }
        let all = wanted.len();
        let limit = job.target_limit;
        let refused = (all > limit)
            .then(|| Arc::new(format!("target_limit exceeded (number of targets: {all}, limit: {limit})")));
        // As in Prometheus all targets are refused, and not those beyond the limit: which ones
        // these are would be chance.
        if refused.is_some() {
            self.shared.metrics.exceeded_target_limit.inc();
        }
        self.refused.store(refused);
        // After the limit was checked, so that all processes refuse the job together.
        wanted.retain(|key, _| self.shared.options.share.has(key));
        let count = wanted.len();
        self.shared.metrics.synced(job.name(), discovered_count, count, limit, failed);
        let mut view = self.view.lock();
        view.dropped = dropped;
        view.dropped_count = dropped_count;
        wanted
    }

    /// Starts a loop, with the series of its predecessor if there is one.
    async fn replace(
        &self,
        current: &JobWithClient,
        target: Target,
        discovered: BTreeMap<String, String>,
        predecessor: Option<ActiveTarget>,
    ) -> ActiveTarget {
        let names = report_names(&current.job);
        let mut state: Arc<Mutex<TargetState>> = Arc::default();
        let mut inherited = None;
        if let Some(old) = predecessor {
            // The old loop ends before the new one begins, so two never write the same series at
            // once.
            old.commands.send_replace(LoopCommand::HandOver);
            inherited = old.task.await.ok().flatten();
            state = old.state;
        }
        let key = format!("scrape {} {} {}", current.job.name(), target.url, target.labels);
        let ingest = match inherited {
            Some(mut ingest) => {
                // What was decided under the old rules is forgotten; which series are alive is not,
                // so that those which the new rules drop get their markers.
                ingest.reset_rules(&target.labels, names);
                ingest
            }
            None => {
                Box::new(ScrapeAppender::new(self.shared.store.clone(), key.clone(), &target.labels, names))
            }
        };
        let options = &self.shared.options;
        let context = Arc::new(Context {
            job: current.job.clone(),
            state: state.clone(),
            strict_content_type: options.strict_content_type,
            native: HistogramPolicy { starts: options.starts, ..target.native },
            type_and_unit: options.type_and_unit_labels,
            metrics: self.shared.metrics.clone(),
            failure_logs: self.shared.failure_logs.clone(),
            most_memory: options.memory() / 2,
            stopped: Arc::default(),
            target: target.clone(),
        });
        // With connections of its own: those of the job lead to hosts.
        let client = if target.socket.is_empty() {
            current.client.clone()
        } else {
            current.client.through_socket(Path::new(&target.socket))
        };
        let (commands, receiver) = watch::channel(LoopCommand::Run);
        let scrape_loop = ScrapeLoop {
            shared: self.shared.clone(),
            client,
            refused: self.refused.clone(),
            key,
            work: Some(Box::new(ScrapeWork::new(context.clone(), ingest))),
            running: None,
            turns: 0,
            offset: target.offset(options.seed),
            last_begin: None,
            intervals: self.shared.metrics.interval_lengths(target.interval.0),
            context: context.clone(),
        };
        let task = tokio::spawn(scrape_loop.run(receiver));
        ActiveTarget { target, discovered, state, commands, context, task }
    }
}
