//! Several processes as one server: how they connect, and that they start and end together.
//!
//! [`mod@join`] makes the connections, with a [`handshake`] on each that checks whether the two
//! processes agree; [`heartbeat`] notices the loss of a process. The live runtime uses the
//! connections: [`engine::live::links`]. [`peer_client`] sends requests for history, and for
//! [`late_samples`], to [`peer_server`] in the other processes.

#![warn(unreachable_pub)]

mod catalog;
mod error;
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
pub use error::ClusterError;
pub use heartbeat::Heartbeat;
pub use late_samples::PeerLateSamples;
pub use peer_client::{ClusterQueryPeers, PeerClient};
pub use peer_server::{PeerListener, PeerServices};

use engine::live::links::PeerLinks;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// The configuration of this process in a cluster, from the flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// The number of this process.
    pub process: usize,
    /// The address on which each process listens for the others, by process number.
    pub addresses: Vec<String>,
    /// How long this process waits for the others at its start.
    pub patience: Duration,
    /// The checksum of the initial configuration.
    pub configuration: u64,
    /// What all processes must agree on: a name for error texts, and the value.
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

/// The interval at which waiting code checks whether the query is still wanted.
const CANCEL_POLL: Duration = Duration::from_millis(50);

/// The connections of a process to the others.
pub struct ClusterHandles {
    /// The heartbeat.
    pub heartbeat: Arc<Heartbeat>,
    /// The client for requests to the others.
    pub client: Arc<PeerClient>,
    /// The listener for requests of the others.
    pub listener: PeerListener,
}

/// Waits for the other processes; then the cluster is complete, and all processes end together.
pub fn join(setup: &ClusterConfig) -> Result<(PeerLinks, ClusterHandles), ClusterError> {
    let joined = join::join(setup)?;
    let heartbeat = Heartbeat::start(setup, joined.pulses)?;
    let peers = PeerLinks { process: setup.process, links: joined.links, others: heartbeat.clone() };
    let caller = PeerClient::new(setup.clone(), joined.incarnations.clone());
    let gate =
        PeerListener { setup: setup.clone(), listener: joined.listener, incarnations: joined.incarnations };
    Ok((peers, ClusterHandles { heartbeat, client: caller, listener: gate }))
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name).spawn(run).map(drop)
}

#[cfg(test)]
mod tests;
