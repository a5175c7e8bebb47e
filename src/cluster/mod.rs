//! Several processes as one server: how they find each other, and that they live and end together.
//!
//! [`mod@join`] makes the connections, after a [`handshake`] on each that says whether the two
//! processes fit together; [`heartbeat`] notices when one goes. What the processes then do together
//! is the live runtime's: [`engine::live::links`]. History is asked of all of them, by
//! [`peer_client`] of [`peer_server`], and so is what came [`late_samples`].

mod catalog;
mod framed;
mod handshake;
mod heartbeat;
mod join;
mod late_samples;
mod peer_client;
mod peer_server;
mod semaphore;

pub use catalog::ClusterCatalog;
pub use heartbeat::Heartbeat;
pub use late_samples::PeerLateSamples;
pub use peer_client::{ClusterQueryPeers, PeerClient};
pub use peer_server::{PeerListener, PeerServices};

use crate::config;
use crate::flags::Flags;
use engine::limits::PROCESSES;
use engine::live::links::PeerLinks;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// This process' place in a cluster, from the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// Its number.
    pub process: usize,
    /// Where each process listens for the others; its number is its place in the list.
    pub addresses: Vec<String>,
    /// How long it waits for the others when it starts.
    pub patience: Duration,
    /// Checksum of the configuration that it starts with.
    pub configuration: u64,
    /// What all processes must agree on: a name for people, and the value.
    pub facts: Vec<(String, String)>,
}

impl ClusterConfig {
    /// What the flags ask for; `None`: the process is alone.
    pub fn of(flags: &Flags, workers: usize) -> Result<Option<ClusterConfig>, String> {
        let addresses = flags.cluster_addresses();
        if addresses.is_empty() {
            return if flags.given("cluster.process") {
                Err("--cluster.process needs --cluster.addresses".to_owned())
            } else {
                Ok(None)
            };
        }
        let process = flags.cluster_process().ok_or("--cluster.addresses needs --cluster.process")?;
        let file = flags.config_file().ok_or("a cluster needs a configuration file (--config.file)")?;
        if addresses.len() < 2 || addresses.len() > PROCESSES {
            return Err(format!(
                "--cluster.addresses: {} addresses; a cluster has 2 to {PROCESSES} processes",
                addresses.len()
            ));
        }
        if process >= addresses.len() {
            return Err(format!(
                "--cluster.process={process}: --cluster.addresses has the processes 0 to {}",
                addresses.len() - 1
            ));
        }
        let mut features: Vec<&str> = flags.features().collect();
        features.sort_unstable();
        let configuration = checksum(&file);
        let facts = [
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("--cluster.addresses", addresses.join(",")),
            ("--live.workers", workers.to_string()),
            ("--query.lookback-delta", flags.lookback().to_string()),
            ("--enable-feature", features.join(",")),
            ("checksum of the configuration and its rule files", format!("{configuration:016x}")),
        ];
        let facts = facts.map(|(name, value)| (name.to_owned(), value)).to_vec();
        let patience = Duration::from_millis(flags.cluster_join_timeout().max(0).unsigned_abs());
        Ok(Some(ClusterConfig { process, addresses, patience, configuration, facts }))
    }

    fn name(&self, process: usize) -> String {
        name(process, &self.addresses)
    }
}

fn name(process: usize, addresses: &[String]) -> String {
    format!("process {process} ({})", addresses.get(process).map_or("", String::as_str))
}

/// A number that two processes share as long as their configuration and rule files say the same,
/// wherever they lie.
pub fn checksum(path: &Path) -> u64 {
    let mut hash = DefaultHasher::new();
    let mut files = vec![path.to_path_buf()];
    if let Ok((config, _)) = config::load(path) {
        files.extend(config.sources.into_iter().skip(1));
        files.extend(config.rule_files);
    }
    for file in files.iter() {
        std::fs::read(file).map_err(|e| e.kind()).hash(&mut hash);
    }
    hash.finish()
}

/// Time between two looks whether what is waited for is still wanted.
const CANCEL_POLL: Duration = Duration::from_millis(50);

/// What a process of a cluster has of the others.
pub struct ClusterHandles {
    /// What keeps them together.
    pub pulse: Arc<Heartbeat>,
    /// The way to ask them.
    pub caller: Arc<PeerClient>,
    /// Where they ask.
    pub door: PeerListener,
}

/// Waits for the other processes; then the cluster stands, and ends as one.
pub fn join(setup: &ClusterConfig) -> Result<(PeerLinks, ClusterHandles), String> {
    let joined = join::join(setup)?;
    let pulse = Heartbeat::start(setup, joined.pulses)?;
    let peers = PeerLinks { process: setup.process, links: joined.links, others: pulse.clone() };
    let caller = PeerClient::new(setup.clone(), joined.incarnations.clone());
    let door =
        PeerListener { setup: setup.clone(), listener: joined.listener, incarnations: joined.incarnations };
    Ok((peers, ClusterHandles { pulse, caller, door }))
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> Result<(), String> {
    std::thread::Builder::new().name(name).spawn(run).map(drop).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests;
