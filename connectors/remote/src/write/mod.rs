//! Remote write: sends all samples that the store appends to other servers.
//!
//! [`RemoteWrite`] has a queue for each entry of `remote_write`. A queue reads the write-ahead log
//! ([`storage::store::LogTail`]), and the log is kept from the queue's position on. So neither a
//! killed process nor an outage of the receiver loses samples, and waiting samples need no memory.
//!
//! [`queue`] reads the log, [`series`] has the labels, [`batch`] encodes requests, [`shard`] sends
//! them with [`client`], [`progress`] stores the position on disk. [`shard_count`] computes how
//! many requests run at a time, [`exemplars`] wait for their samples. Read [`queue`] next.

mod batch;
mod client;
mod exemplars;
mod metadata;
mod metrics;
mod progress;
mod queue;
mod series;
mod shard;
mod shard_count;
mod symbols;
mod wake;

use crate::config::{RemoteWriteConfig, short_name};
use crate::limits::{BATCH_ITEMS, METADATA_INTERVAL, SHARDS};
use client::WriteClient;
use connectors::config::error::BlockError;
use connectors::http_client::Peers;
use connectors::relabel::Relabeler;
use metadata::MetadataSender;
pub use metadata::{FamilyMetadata, MetadataSource, type_number};
use metrics::QueueMetrics;
use parking_lot::Mutex;
use progress::{QueueNote, QueueProgress};
use queue::{QueueParts, QueueReader, QueueSettings, StopMode, StopRequest};
use series::SeriesCache;
use shard::{SendRates, ShardContext};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use storage::clock::Clock;
use storage::disk::Disk;
use storage::durable_map::DurableMap;
use storage::metrics::{Counter, Metrics};
use storage::model::Labels;
use storage::shared_metrics::{self, SampleType};
use storage::store::{LogHold, LogPosition, Store, StoreError};
use tokio::runtime::Handle;
use wake::WakeFlag;

/// The file with the positions of the queues, in the data directory.
const FILE: &str = "remote_write.keep";

/// The parts of the server that remote write uses.
#[derive(Clone)]
pub struct RemoteWriteServices {
    /// The store whose samples are sent.
    pub store: Arc<Store>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// The self-metrics.
    pub metrics: Metrics,
    /// Runs the requests.
    pub runtime: Handle,
    /// What answers the requests.
    pub peers: Peers,
    /// How long the end of the server waits for samples to be sent.
    pub flush_deadline: Duration,
    /// The metadata of what is scraped.
    pub metadata: Arc<dyn MetadataSource>,
}

/// Why a configuration of remote write cannot be put in force.
#[derive(Debug, thiserror::Error)]
pub enum RemoteWriteError {
    /// A block of it is wrong.
    #[error(transparent)]
    Config(#[from] BlockError),
    /// The thread of a queue cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// Sends the samples of a store to the receivers of the configuration.
pub struct RemoteWrite {
    services: RemoteWriteServices,
    map: Arc<DurableMap>,
    state: Mutex<RemoteWriteState>,
    incoming: [Arc<Counter>; 2],
}

#[derive(Default)]
struct RemoteWriteState {
    external: Labels,
    queues: Vec<RunningQueue>,
    /// How far each queue had come when it stopped.
    notes: HashMap<String, QueueNote>,
    /// Keeps the log for queues of before the restart, until there is a configuration.
    holds: Vec<LogHold>,
}

/// A queue with its thread.
struct RunningQueue {
    key: String,
    config: RemoteWriteConfig,
    context: Arc<ShardContext>,
    stop: Arc<StopRequest>,
    thread: JoinHandle<()>,
    /// Sends metadata.
    sender: Option<tokio::task::JoinHandle<()>>,
}

/// A queue that is to be started.
struct PlannedQueue {
    key: String,
    config: RemoteWriteConfig,
    client: WriteClient,
    relabel: Relabeler,
}

impl RemoteWrite {
    /// Without queues; reads in `dir` how far those of before the restart had come.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn open(
        services: RemoteWriteServices,
        disk: Arc<dyn Disk>,
        dir: &Path,
    ) -> Result<RemoteWrite, StoreError> {
        let path = dir.join(FILE);
        let (map, found) = DurableMap::open_unsynced(disk, path.clone(), &services.metrics)?;
        if let Some(damage) = &found.damage {
            tracing::error!(
                target: "remote_write", path = %path.display(), damage,
                "the file with the positions of remote write is damaged; some samples are sent again or not at all"
            );
        }
        let wal = services.store.wal();
        let mut state = RemoteWriteState::default();
        for key in found.entries.keys() {
            let Ok(key) = std::str::from_utf8(key) else { continue };
            let Some(note) = QueueNote::load(&found.entries, key) else { continue };
            // A power loss may have taken records that were sent; their numbers belong to others
            // now.
            let note = note.within(wal.opened_at());
            // Until the configuration comes, which is later than the first flush may be.
            state.holds.push(wal.hold(note.first().lsn));
            state.notes.insert(key.to_owned(), note);
        }
        let incoming = [SampleType::Float, SampleType::Histogram]
            .map(|kind| shared_metrics::appended_samples(&services.metrics, kind));
        Ok(RemoteWrite { services, map: Arc::new(map), state: Mutex::new(state), incoming })
    }

    /// Puts a configuration in force. Queues that have not changed go on; a changed one goes on
    /// from its position with the new settings. A queue that is new begins with what is appended
    /// from now on. After an error nothing is changed.
    ///
    /// # Errors
    /// A client cannot be made, a rule is not valid, or a thread cannot be started.
    pub fn apply(&self, configs: &[RemoteWriteConfig], external: &Labels) -> Result<(), RemoteWriteError> {
        RemoteWriteConfig::check_all(configs)?;
        let mut state = self.state.lock();
        let mut old = std::mem::take(&mut state.queues);
        let mut kept = Vec::new();
        let mut planned = Vec::new();
        for (key, config) in keys(configs).into_iter().zip(configs) {
            let same = |queue: &RunningQueue| queue.key == key && queue.config == *config;
            // Other external labels change every series that is sent, so no queue can go on.
            match old.iter().position(same).filter(|_| state.external == *external) {
                Some(at) => kept.push(old.swap_remove(at)),
                None => match self.plan(key, config) {
                    Ok(plan) => planned.push(plan),
                    Err(error) => {
                        // All queues run on: planning has started and stopped nothing.
                        state.queues = old.into_iter().chain(kept).collect();
                        return Err(error.into());
                    }
                },
            }
        }
        // Stopped before new ones are started: a changed queue goes on from where the old one was.
        for queue in old {
            let key = queue.key.clone();
            state.notes.insert(key, queue.stop(StopMode::Now, &self.services.runtime));
        }
        state.external = external.clone();
        state.queues = kept;
        for plan in planned {
            let note = state.notes.remove(&plan.key);
            let queue = self.start(plan, note, external)?;
            state.queues.push(queue);
        }
        // What is left belongs to no queue of the configuration.
        let forgotten = std::mem::take(&mut state.notes);
        if !forgotten.is_empty() {
            self.map.put(forgotten.into_keys().map(|key| (key.into_bytes(), None)));
        }
        state.holds.clear();
        Ok(())
    }

    /// Makes what can fail of a queue before anything is changed.
    fn plan(&self, key: String, config: &RemoteWriteConfig) -> Result<PlannedQueue, BlockError> {
        let client = WriteClient::new(config, &self.services.peers)?;
        let relabel = Relabeler::new(&config.keys.write_relabel_configs)?;
        Ok(PlannedQueue { key, config: config.clone(), client, relabel })
    }

    /// Starts a queue, from its note or at the end of the log.
    fn start(
        &self,
        plan: PlannedQueue,
        note: Option<QueueNote>,
        external: &Labels,
    ) -> Result<RunningQueue, RemoteWriteError> {
        let PlannedQueue { key, config, client, relabel } = plan;
        let RemoteWriteServices { store, clock, metrics, runtime, .. } = &self.services;
        let settings = settings(&config, self.services.flush_deadline);
        let now = LogPosition::at(store.wal().last_lsn() + 1);
        let is_new = note.is_none();
        let note = note.unwrap_or_else(|| QueueNote::beginning(now, settings.min_shards));
        let name = short_name(&config.keys.name, &config);
        let url = config.keys.url.to_string();
        let queue_config = &config.queue.queue_config;
        let metrics = QueueMetrics::new(metrics, &name, &url);
        metrics.shards.capacity.set(queue_config.capacity as f64);
        metrics.requests.batch.set(settings.batch as f64);
        metrics.shards.least.set(settings.min_shards as f64);
        metrics.shards.most.set(settings.max_shards as f64);
        let is_v2 = client.is_v2();
        let metadata = self.services.metadata.clone();
        let series = SeriesCache::new(store.clone(), external.clone(), relabel, is_v2, metadata.clone());
        let context = Arc::new(ShardContext {
            client,
            metrics,
            progress: QueueProgress::new(key.clone(), self.map.clone(), store.wal(), note.clone()),
            clock: clock.clone(),
            wake: WakeFlag::default(),
            name,
            url,
            min_backoff: queue_config.min_backoff.std(),
            max_backoff: queue_config.max_backoff.std(),
            age_limit: queue_config.sample_age_limit.0,
            rates: SendRates::default(),
        });
        // Written at once, so that a kill before the first request does not lose the samples until
        // then.
        if is_new {
            context.progress.write_beginning();
        }
        let metadata_config = &config.queue.metadata_config;
        let sender = (metadata_config.send && !is_v2).then(|| MetadataSender {
            context: context.clone(),
            source: metadata,
            interval: metadata_config.send_interval.std().max(METADATA_INTERVAL),
            batch: usize::try_from(metadata_config.max_samples_per_send).unwrap_or(1).clamp(1, BATCH_ITEMS),
        });
        let sender = sender.map(|sender| runtime.spawn(sender.run()));
        let stop = Arc::new(StopRequest::default());
        let parts = QueueParts {
            context: context.clone(),
            store: store.clone(),
            series,
            settings,
            runtime: runtime.clone(),
            stop: stop.clone(),
            incoming: self.incoming.clone(),
        };
        let reader = QueueReader::new(parts, &note);
        let thread = std::thread::Builder::new().name("remote-write".to_owned());
        let thread = thread.spawn(move || reader.run()).map_err(RemoteWriteError::Thread)?;
        Ok(RunningQueue { key, config, context, stop, thread, sender })
    }

    /// Sends what was appended up to now, at most for the flush deadline, and stops. What is left
    /// is sent after the next start.
    pub fn close(&self) {
        let queues = std::mem::take(&mut self.state.lock().queues);
        if queues.is_empty() {
            return;
        }
        let deadline = self.services.flush_deadline;
        let until = Instant::now() + deadline;
        // Queues read only what is committed: the last appends must be, before they are drained.
        self.services.store.wal().wait_durable(deadline);
        for queue in &queues {
            queue.stop.set(StopMode::Drained(until));
            queue.context.wake.notify();
        }
        for queue in queues {
            queue.stop(StopMode::Drained(until), &self.services.runtime);
        }
    }
}

impl RunningQueue {
    /// Stops the queue; returns how far it has come.
    fn stop(self, stop: StopMode, runtime: &Handle) -> QueueNote {
        self.stop.set(stop);
        self.context.wake.notify();
        if let Some(sender) = self.sender {
            sender.abort();
            // Aborted: its outcome says nothing.
            let _ = runtime.block_on(sender);
        }
        if self.thread.join().is_err() {
            tracing::error!(target: "remote_write", queue = self.context.name, "the thread of the queue panicked");
        }
        self.context.progress.note()
    }
}

/// The settings of a queue, within limits.
fn settings(config: &RemoteWriteConfig, flush_deadline: Duration) -> QueueSettings {
    let queue = &config.queue.queue_config;
    let number = |n: i64, most: usize| usize::try_from(n).unwrap_or(most).clamp(1, most);
    let batch = number(queue.max_samples_per_send, BATCH_ITEMS);
    let max_shards = number(queue.max_shards, SHARDS);
    QueueSettings {
        batch: batch as u64,
        // `capacity` counts samples, the queue requests.
        waiting: (number(queue.capacity, usize::MAX) / batch).max(1),
        min_shards: number(queue.min_shards, max_shards),
        max_shards,
        deadline: queue.batch_send_deadline.std(),
        sends_histograms: config.keys.send_native_histograms,
        sends_exemplars: config.keys.send_exemplars,
        flush_deadline,
    }
}

/// The key of each entry under which its position is kept: its name, or its URL, so that other
/// settings may change.
fn keys(configs: &[RemoteWriteConfig]) -> Vec<String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut keys = Vec::new();
    for config in configs {
        let name = &config.keys.name;
        // By name or URL and not by a hash of all settings, as Prometheus does: a changed password
        // must not begin the queue anew.
        let base = if name.is_empty() { format!("url {}", config.keys.url) } else { format!("name {name}") };
        let before = seen.entry(base.clone()).or_default();
        keys.push(if *before == 0 { base } else { format!("{base} {before}") });
        *before += 1;
    }
    keys
}
