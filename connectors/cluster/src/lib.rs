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
pub mod limits;
mod peer_client;
mod peer_server;
mod semaphore;

pub use catalog::ClusterCatalog;
pub use heartbeat::Heartbeat;
pub use late_samples::PeerLateSamples;
pub use peer_client::{ClusterQueryPeers, PeerClient};
pub use peer_server::{PeerListener, PeerServices};

use engine::live::links::PeerLinks;
use std::sync::Arc;
use std::time::Duration;

/// This process' place in a cluster, as the flags say it.
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
    fn name(&self, process: usize) -> String {
        name(process, &self.addresses)
    }
}

fn name(process: usize, addresses: &[String]) -> String {
    format!("process {process} ({})", addresses.get(process).map_or("", String::as_str))
}

/// Time between two looks whether what is waited for is still wanted.
const CANCEL_POLL: Duration = Duration::from_millis(50);

/// What a process of a cluster has of the others.
pub struct ClusterHandles {
    /// What keeps them together.
    pub heartbeat: Arc<Heartbeat>,
    /// The way to ask them.
    pub client: Arc<PeerClient>,
    /// Where they ask.
    pub listener: PeerListener,
}

/// Waits for the other processes; then the cluster stands, and ends as one.
pub fn join(setup: &ClusterConfig) -> Result<(PeerLinks, ClusterHandles), String> {
    let joined = join::join(setup)?;
    let heartbeat = Heartbeat::start(setup, joined.pulses)?;
    let peers = PeerLinks { process: setup.process, links: joined.links, others: heartbeat.clone() };
    let caller = PeerClient::new(setup.clone(), joined.incarnations.clone());
    let gate =
        PeerListener { setup: setup.clone(), listener: joined.listener, incarnations: joined.incarnations };
    Ok((peers, ClusterHandles { heartbeat, client: caller, listener: gate }))
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> Result<(), String> {
    std::thread::Builder::new().name(name).spawn(run).map(drop).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests;
