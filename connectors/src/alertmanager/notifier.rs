//! [`Notifier`]: takes alerts from the rules and distributes them to the Alertmanagers, without
//! ever waiting for one.
//!
//! An alert gets the external labels, goes through `alert_relabel_configs`, and then into a queue
//! for each Alertmanager, so that one that does not answer does not delay the others.

use super::api_v2::{AlertmanagerAlert, QueuedAlert};
use super::config::{AlertingConfig, AlertmanagerConfig};
use super::send_queue::SendQueue;
use super::silences::AlertmanagerSilences;
use crate::config::error::BlockError;
use crate::discovery::{DiscoveryContext, DiscoverySet, DiscoveryUser, failed_configs};
use crate::http_client::{HttpClient, Peers};
use crate::limits;
use crate::relabel::Relabeler;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use storage::metrics::{Gauge, Metrics};
use storage::model::Labels;
use tokio::task::JoinHandle;

/// Send queues by URL, each with the task that sends from it.
type SendQueues = BTreeMap<String, (Arc<SendQueue>, JoinHandle<()>)>;

/// The Alertmanagers of one configuration entry.
struct AlertmanagerSet {
    config: AlertmanagerConfig,
    relabel: Relabeler,
    queues: Mutex<SendQueues>,
    /// URLs that were discovered but dropped by the relabelling rules for Alertmanagers.
    dropped: Mutex<Vec<String>>,
}

struct RunningSet {
    set: Arc<AlertmanagerSet>,
    discovery: JoinHandle<()>,
    discovered: Arc<Gauge>,
}

#[derive(Default)]
struct NotifierState {
    external_labels: BTreeMap<String, String>,
    relabel: Relabeler,
    sets: Vec<RunningSet>,
}

/// The limits of send queues.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Maximum number of alerts in a queue.
    pub capacity: usize,
    /// Maximum number of alerts in one POST.
    pub batch: usize,
}

impl Default for QueueLimits {
    fn default() -> QueueLimits {
        QueueLimits { capacity: limits::ALERT_QUEUE, batch: limits::ALERT_BATCH }
    }
}

/// Sends alerts to Alertmanagers. Must be used on a tokio runtime.
pub struct Notifier {
    state: Mutex<NotifierState>,
    registry: Metrics,
    limits: QueueLimits,
    discovered: Arc<Gauge>,
    peers: Peers,
}

impl Notifier {
    /// A notifier without Alertmanagers. A limit of 0 means the default.
    pub fn new(registry: &Metrics, mut limits: QueueLimits) -> Notifier {
        let help = "Alertmanagers discovered and active.";
        let discovered = registry.gauge("prometheus_notifications_alertmanagers_discovered", help, &[]);
        failed_configs(registry, DiscoveryUser::Notify);
        let usual = QueueLimits::default();
        limits.capacity = if limits.capacity == 0 { usual.capacity } else { limits.capacity };
        limits.batch = if limits.batch == 0 { usual.batch } else { limits.batch };
        Notifier {
            state: Mutex::default(),
            registry: registry.clone(),
            limits,
            discovered,
            peers: Peers::default(),
        }
    }

    /// The same notifier with its requests answered by `peers`.
    #[must_use]
    pub fn with_peers(self, peers: Peers) -> Notifier {
        Notifier { peers, ..self }
    }

    /// Applies a configuration. Entries that have not changed keep their queues. The error says why
    /// the configuration cannot be used; then nothing is changed.
    pub fn apply(
        &self,
        config: &AlertingConfig,
        external_labels: &BTreeMap<String, String>,
    ) -> Result<(), BlockError> {
        config.validate()?;
        let clients: Vec<HttpClient> =
            // All clients first: an error must leave the running configuration as it is.
            config.alertmanagers.iter().map(|a| a.http.client()).collect::<Result<_, _>>()?;
        let relabel = Relabeler::new(&config.alert_relabel_configs)?;
        let mut state = self.state.lock();
        let mut old = std::mem::take(&mut state.sets);
        for (entry, client) in config.alertmanagers.iter().zip(clients) {
            // By content and not by place in the list: an entry that moved keeps the alerts that
            // wait in its queues.
            let running = match old.iter().position(|running| running.set.config == *entry) {
                Some(at) => old.swap_remove(at),
                None => {
                    let client = client.with_peers(&self.peers).with_cloud_auth(entry.cloud_auth());
                    self.start(entry.clone(), client)?
                }
            };
            state.sets.push(running);
        }
        state.external_labels = external_labels.clone();
        state.relabel = relabel;
        Ok(())
    }

    fn start(&self, config: AlertmanagerConfig, client: HttpClient) -> Result<RunningSet, BlockError> {
        let relabel = Relabeler::new(&config.keys.alert_relabel_configs)?;
        let targets = Relabeler::new(&config.keys.relabel_configs)?;
        let context = DiscoveryContext {
            peers: &self.peers,
            metrics: &self.registry,
            pool: "alertmanagers",
            user: DiscoveryUser::Notify,
        };
        let mut discovery = DiscoverySet::start(&config.discovery, &context);
        let set = Arc::new(AlertmanagerSet {
            config,
            relabel,
            queues: Mutex::default(),
            dropped: Mutex::default(),
        });
        let follower = SetFollower {
            set: set.clone(),
            client,
            targets,
            limits: self.limits,
            registry: self.registry.clone(),
            discovered: self.discovered.clone(),
        };
        // Before the task runs: an alert that fires at once finds the queues of static targets.
        follower.sync(&mut discovery);
        let task = tokio::spawn(async move {
            loop {
                discovery.changed().await;
                follower.sync(&mut discovery);
            }
        });
        Ok(RunningSet { set, discovery: task, discovered: self.discovered.clone() })
    }

    /// Queues alerts for all Alertmanagers. Never waits.
    pub fn send(&self, alerts: Vec<QueuedAlert>) {
        let state = self.state.lock();
        let finished = |alert| finish(alert, &state.external_labels, &state.relabel);
        let alerts: Vec<QueuedAlert> = alerts.into_iter().filter_map(finished).collect();
        if alerts.is_empty() {
            return;
        }
        for running in &state.sets {
            let set = &running.set;
            let relabelled = |alert: &QueuedAlert| finish(alert.clone(), &BTreeMap::new(), &set.relabel);
            // Without rules of its own the set shares the alerts; each has them behind an `Arc`.
            let own: Vec<QueuedAlert> = if set.relabel.is_empty() {
                alerts.clone()
            } else {
                alerts.iter().filter_map(relabelled).collect()
            };
            for (queue, _) in set.queues.lock().values() {
                queue.push(own.iter().cloned());
            }
        }
    }

    /// The URLs of all active Alertmanagers, for `/api/v1/alertmanagers`.
    pub fn active(&self) -> Vec<String> {
        let state = self.state.lock();
        let mut urls: Vec<String> = state
            .sets
            .iter()
            .flat_map(|running| running.set.queues.lock().keys().cloned().collect::<Vec<_>>())
            .collect();
        urls.sort();
        urls.dedup();
        urls
    }

    /// The URLs of Alertmanagers that the relabelling rules dropped.
    pub fn dropped(&self) -> Vec<String> {
        let state = self.state.lock();
        let mut urls: Vec<String> =
            state.sets.iter().flat_map(|running| running.set.dropped.lock().clone()).collect();
        urls.sort();
        urls.dedup();
        urls
    }

    /// Asks all Alertmanagers at once for their silences; each answers within its timeout.
    pub fn silences(&self) -> impl Future<Output = Vec<AlertmanagerSilences>> + Send + use<> {
        let state = self.state.lock();
        let sets = state.sets.iter();
        let queues: Vec<Arc<SendQueue>> = sets
            .flat_map(|running| {
                running.set.queues.lock().values().map(|(queue, _)| queue.clone()).collect::<Vec<_>>()
            })
            .collect();
        futures::future::join_all(queues.into_iter().map(|queue| async move { queue.silences().await }))
    }

    /// Waits, at most `deadline`, until everything queued is sent or given up. Returns whether it
    /// is.
    pub async fn drain(&self, deadline: Duration) -> bool {
        let idle = async {
            while !self.is_idle() {
                // Polled, because it happens once in the life of a server and a notice from every
                // queue would cost each delivery.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(deadline, idle).await.is_ok()
    }

    fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.sets.iter().all(|running| running.set.queues.lock().values().all(|(queue, _)| queue.is_idle()))
    }
}

/// Keeps the queues of a set equal to what is discovered.
struct SetFollower {
    set: Arc<AlertmanagerSet>,
    client: HttpClient,
    /// `relabel_configs` of the entry.
    targets: Relabeler,
    limits: QueueLimits,
    registry: Metrics,
    discovered: Arc<Gauge>,
}

impl SetFollower {
    /// Applies the current list. The set begins empty, so that a part of the list is better than
    /// none of it.
    fn sync(&self, discovery: &mut DiscoverySet) {
        let (found, _) = discovery.current();
        let config = &self.set.config;
        let mut urls = Vec::new();
        let mut dropped = Vec::new();
        for target in &found {
            match config.url(target, &self.targets) {
                Some(url) => urls.push(url),
                // The page shows what the rules dropped, so its URL is made without them.
                None => dropped.extend(config.url(target, &Relabeler::default())),
            }
        }
        *self.set.dropped.lock() = dropped.into_iter().map(String::from).collect();
        let change = self.set.sync(urls, &self.client, self.limits, &self.registry);
        self.discovered.add(change as f64);
    }
}

impl AlertmanagerSet {
    /// Creates and removes queues so that there is one for each of `urls`. Returns the change in
    /// their number.
    fn sync(&self, urls: Vec<url::Url>, client: &HttpClient, limits: QueueLimits, registry: &Metrics) -> i64 {
        let mut queues = self.queues.lock();
        let mut old = std::mem::take(&mut *queues);
        let before = old.len() as i64;
        for url in urls {
            let key = url.to_string();
            // A queue belongs to a URL: an Alertmanager that is found again under the same one
            // keeps what waits for it.
            let entry = old.remove(&key).unwrap_or_else(|| {
                let queue = SendQueue::new(url, client.clone(), self.config.timeout(), limits, registry);
                let queue = Arc::new(queue);
                (queue.clone(), tokio::spawn(queue.run()))
            });
            queues.insert(key, entry);
        }
        for (_, task) in old.into_values() {
            task.abort();
        }
        queues.len() as i64 - before
    }
}

/// Dropped when its entry is removed from the configuration: ends its queues.
impl Drop for RunningSet {
    fn drop(&mut self) {
        self.discovery.abort();
        let queues = std::mem::take(&mut *self.set.queues.lock());
        self.discovered.add(-(queues.len() as f64));
        for (_, task) in queues.into_values() {
            task.abort();
        }
    }
}

/// Adds the external labels (the alert's own labels win) and applies the rules; `None` if the rules
/// drop the alert.
fn finish(
    outgoing: QueuedAlert,
    external: &BTreeMap<String, String>,
    relabel: &Relabeler,
) -> Option<QueuedAlert> {
    if external.is_empty() && relabel.is_empty() {
        return Some(outgoing);
    }
    let mut labels = outgoing.alert.labels.to_builder();
    for (name, value) in external {
        // As in Prometheus the alert's own labels win: a rule that sets `cluster` means another one
        // than the server's.
        if labels.get(name).is_empty() {
            labels.set(name, value);
        }
    }
    if !relabel.apply(&mut labels) {
        return None;
    }
    let labels: Labels = labels.build();
    let alert = Arc::new(AlertmanagerAlert { labels, ..AlertmanagerAlert::clone(&outgoing.alert) });
    // Alertmanager identifies an alert by its labels; without any it would refuse the whole batch.
    (!alert.labels.is_empty()).then_some(QueuedAlert { alert, ..outgoing })
}
