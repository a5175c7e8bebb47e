//! `serverset_sd_configs` and `nerve_sd_configs`: targets that the nodes of a ZooKeeper tree
//! describe. The nodes are read once and then watched, in one session for all paths of an entry.

mod session;

use super::names::{host_port, label_name};
use super::{ADDRESS, DiscoveredTarget, Discoverer, DiscoveryContext, Mechanism, StartResult, TargetSender};
use crate::config::error::BlockError;
use crate::config::units::ConfigDuration;
use crate::config::url::ConfigUrl;
use crate::config_block;
use crate::limits::{DISCOVERY_PAUSE_MS, ZOOKEEPER_RETRY_SECONDS};
use futures::future::BoxFuture;
use serde_json::{Map, Value};
use session::{Reply, Session, SessionError};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;
use storage::metrics::{Counter, Gauge};
use tokio::time::Instant;

config_block! {
    /// One entry of `serverset_sd_configs`.
    pub struct ServersetSdConfig as "zookeeper.ServersetSDConfig" {
        /// Hosts and ports.
        servers: Vec<ConfigUrl> = Vec::new(),
        /// The roots of the trees.
        paths: Vec<String> = Vec::new(),
        /// Time after which a session without a sign of life ends.
        timeout: ConfigDuration = ConfigDuration(10_000),
    }
}

config_block! {
    /// One entry of `nerve_sd_configs`.
    pub struct NerveSdConfig as "zookeeper.NerveSDConfig" {
        /// Hosts and ports.
        servers: Vec<ConfigUrl> = Vec::new(),
        /// The roots of the trees.
        paths: Vec<String> = Vec::new(),
        /// Time after which a session without a sign of life ends.
        timeout: ConfigDuration = ConfigDuration(10_000),
    }
}

/// The mechanism `serverset_sd_configs`.
pub struct ServersetSd;

/// The mechanism `nerve_sd_configs`.
pub struct NerveSd;

/// What differs between the two: the form of the data of a node.
trait NodeFormat: Send + Sync + 'static {
    /// Prometheus' name.
    const NAME: &'static str;

    /// The target that the data of the node at `path` describe, if they do.
    fn target(path: &str, data: &Value) -> Option<DiscoveredTarget>;
}

/// Implements [`Mechanism`]; the two configurations are the same but for their names.
macro_rules! zookeeper_mechanism {
    ($mechanism:ident, $config:ident) => {
        impl Mechanism for $mechanism {
            type Config = $config;

            fn validate(config: &$config) -> Result<(), BlockError> {
                let name = $mechanism::NAME;
                if config.servers.is_empty() {
                    return Err(format!("{name} SD config must contain at least one Zookeeper server").into());
                }
                if config.paths.is_empty() {
                    return Err(format!("{name} SD config must contain at least one path").into());
                }
                if let Some(bad) = config.paths.iter().find(|path| !path.starts_with('/')) {
                    return Err(format!("{name} SD config paths must begin with '/': {bad}").into());
                }
                if config.timeout.0 <= 0 {
                    return Err(format!("{name}_sd_configs: timeout must be greater than 0").into());
                }
                Ok(())
            }

            fn start(config: &$config, context: &DiscoveryContext<'_>) -> StartResult {
                let help = "The total number of ZooKeeper failures.";
                let gauge = "The current number of watcher goroutines.";
                let metrics = context.metrics;
                Ok(Box::new(ZookeeperDiscoverer::<$mechanism> {
                    servers: config.servers.iter().map(|server| address(server.expose())).collect(),
                    paths: config.paths.clone(),
                    timeout: config.timeout.std(),
                    failures: metrics.counter("prometheus_treecache_zookeeper_failures_total", help, &[]),
                    watches: metrics.gauge("prometheus_treecache_watcher_goroutines", gauge, &[]),
                    format: PhantomData,
                }))
            }
        }
    };
}

zookeeper_mechanism!(ServersetSd, ServersetSdConfig);
zookeeper_mechanism!(NerveSd, NerveSdConfig);

/// A server with its port; the usual one if it has none.
fn address(server: &str) -> String {
    let has_port = server.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if has_port { server.to_owned() } else { format!("{server}:2181") }
}

/// A member of an object; Go reads names of members in any case.
fn member<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// A member that is a text; a missing one is empty.
fn text(object: &Map<String, Value>, name: &str) -> Option<String> {
    match member(object, name) {
        None | Some(Value::Null) => Some(String::new()),
        Some(value) => value.as_str().map(str::to_owned),
    }
}

/// A member that is a whole number; a missing one is 0.
fn number(object: &Map<String, Value>, name: &str) -> Option<i64> {
    match member(object, name) {
        None | Some(Value::Null) => Some(0),
        Some(value) => value.as_i64(),
    }
}

/// Host and port of an endpoint; a missing one has neither.
fn endpoint(value: Option<&Value>) -> Option<(String, i64)> {
    match value {
        None | Some(Value::Null) => Some((String::new(), 0)),
        Some(value) => {
            let object = value.as_object()?;
            Some((text(object, "host")?, number(object, "port")?))
        }
    }
}

impl NodeFormat for ServersetSd {
    const NAME: &'static str = "serverset";

    fn target(path: &str, data: &Value) -> Option<DiscoveredTarget> {
        let data = data.as_object()?;
        // A serverset without endpoint is a target `:0`, as in Prometheus.
        let (host, port) = endpoint(member(data, "serviceEndpoint"))?;
        let mut labels = DiscoveredTarget::new();
        let mut set = |name: &str, value: String| labels.insert(format!("__meta_serverset_{name}"), value);
        set("path", path.to_owned());
        set("status", text(data, "status")?);
        set("shard", number(data, "shard")?.to_string());
        let others = member(data, "additionalEndpoints").filter(|others| !others.is_null());
        for (name, other) in others.map(|others| others.as_object()).unwrap_or(Some(&Map::new()))? {
            let (host, port) = endpoint(Some(other))?;
            let name = label_name(name);
            set(&format!("endpoint_host_{name}"), host);
            set(&format!("endpoint_port_{name}"), port.to_string());
        }
        set("endpoint_host", host.clone());
        set("endpoint_port", port.to_string());
        labels.insert(ADDRESS.to_owned(), host_port(&host, port));
        Some(labels)
    }
}

impl NodeFormat for NerveSd {
    const NAME: &'static str = "nerve";

    fn target(path: &str, data: &Value) -> Option<DiscoveredTarget> {
        let (host, port) = endpoint(Some(data))?;
        let mut labels = DiscoveredTarget::new();
        let mut set = |name: &str, value: String| labels.insert(format!("__meta_nerve_{name}"), value);
        set("path", path.to_owned());
        set("endpoint_name", text(data.as_object()?, "name")?);
        set("endpoint_host", host.clone());
        set("endpoint_port", port.to_string());
        labels.insert(ADDRESS.to_owned(), host_port(&host, port));
        Some(labels)
    }
}

struct ZookeeperDiscoverer<F> {
    servers: Vec<String>,
    paths: Vec<String>,
    timeout: Duration,
    failures: Arc<Counter>,
    watches: Arc<Gauge>,
    format: PhantomData<F>,
}

/// The nodes of the trees, with the targets that they describe.
type Nodes = BTreeMap<String, Option<DiscoveredTarget>>;

/// Whether a node is another one or below it.
fn is_below(path: &str, root: &str) -> bool {
    path.strip_prefix(root.trim_end_matches('/')).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl<F: NodeFormat> ZookeeperDiscoverer<F> {
    /// Reads and watches the trees in one session, until it ends; why it does.
    async fn follow(&self, server: &str, report: &TargetSender) -> Result<(), SessionError> {
        let mut session = Session::connect(server, self.timeout).await?;
        // Each session reads all again: what happened without one is not known. The targets of the
        // last session stay until this one has read everything.
        let mut nodes = Nodes::new();
        for path in &self.paths {
            session.read(path);
            nodes.insert(path.clone(), None);
        }
        let mut is_changed = true;
        let mut rested = Instant::now();
        loop {
            // All at once when everything that was asked for has been answered.
            let is_due = is_changed && session.is_idle();
            tokio::select! {
                reply = session.next() => {
                    let reply = reply?;
                    is_changed |= self.apply(reply, &mut nodes, &mut session)?;
                    self.watches.set(nodes.len() as f64);
                }
                () = tokio::time::sleep_until(rested), if is_due => {
                    report.send(nodes.values().flatten().cloned().collect());
                    is_changed = false;
                    rested = Instant::now() + Duration::from_millis(DISCOVERY_PAUSE_MS);
                }
            }
        }
    }

    /// Applies a reply or event; whether it changes targets.
    fn apply(&self, reply: Reply, nodes: &mut Nodes, session: &mut Session) -> Result<bool, SessionError> {
        match reply {
            Reply::Data(path, data) => {
                // What is no JSON describes no target, as inner nodes do.
                let value = serde_json::from_slice::<Value>(&data).unwrap_or(Value::Null);
                // It was removed while the answer was under way.
                let Some(node) = nodes.get_mut(&path) else { return Ok(false) };
                let target = if value.is_null() { None } else { F::target(&path, &value) };
                // Only what looks like an endpoint: inner nodes have any data.
                if target.is_none() && !data.is_empty() && data[0] == b'{' {
                    tracing::warn!(
                        target: "discovery", path,
                        "the data of a ZooKeeper node describe no target; check what writes the node"
                    );
                }
                let is_changed = *node != target;
                *node = target;
                Ok(is_changed)
            }
            Reply::Children(path, children) => {
                let prefix = format!("{}/", path.trim_end_matches('/'));
                let all: Vec<String> = children.iter().map(|child| format!("{prefix}{child}")).collect();
                // With everything below it: an inner node that is gone has no children any more,
                // and their own events may come later.
                let is_gone = |node: &str| {
                    node != path && is_below(node, &path) && !all.iter().any(|child| is_below(node, child))
                };
                let before = nodes.len();
                nodes.retain(|node, _| !is_gone(node));
                let is_changed = nodes.len() < before;
                for child in all {
                    // Known ones have a watch; to read them again would set a second one.
                    if let Entry::Vacant(new) = nodes.entry(child) {
                        session.read(new.key());
                        new.insert(None);
                    }
                }
                Ok(is_changed)
            }
            // A root that is missing is most likely a mistake in the configuration, and nothing
            // would tell when it appears. Another attempt does.
            Reply::Gone(path) if self.paths.contains(&path) => Err(SessionError::NoSuchPath(path)),
            Reply::Gone(path) => {
                let before = nodes.len();
                nodes.retain(|node, _| !is_below(node, &path));
                Ok(nodes.len() < before)
            }
            Reply::Nothing => Ok(false),
        }
    }
}

impl<F: NodeFormat> Discoverer for ZookeeperDiscoverer<F> {
    fn run(self: Box<Self>, report: TargetSender) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            // A random first server, so that the clients of an ensemble spread.
            let mut at = RandomState::new().hash_one(F::NAME) as usize;
            let mut pause = Duration::from_secs(1);
            loop {
                // The next one after a failure: the same may be down for hours.
                at = (at + 1) % self.servers.len();
                let server = &self.servers[at];
                let started = Instant::now();
                if let Err(error) = self.follow(server, &report).await {
                    self.failures.inc();
                    tracing::error!(
                        target: "discovery", server, %error,
                        "a ZooKeeper session has ended, and its last targets are kept; check the server"
                    );
                }
                // The session lived, so this is no series of failures.
                if started.elapsed() > self.timeout {
                    pause = Duration::from_secs(1);
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(ZOOKEEPER_RETRY_SECONDS));
            }
        })
    }
}

#[cfg(test)]
mod tests;
