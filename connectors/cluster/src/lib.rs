//! Cluster mode: a fixed set of processes that serve one data set. Each stores and evaluates a
//! share of the series. A process starts serving when all have joined; when one stops or is lost,
//! all end, because a view needs the samples of every process.
//!
//! [`mod@join`] makes the connections: two for each pair of processes, one for the live runtime
//! ([`engine::live::links`]) and one for the [`heartbeat`], which notices the loss of a process.
//! Each begins with a [`handshake`], in which the two processes check that they agree.
//!
//! Later requests have a connection of their own: [`peer_client`] sends them, [`peer_server`]
//! answers them. They ask for the answer of a query, for the [`catalog`] of series and labels, or
//! for [`late_samples`]: samples that arrived after the rules that read them were evaluated, so
//! that process 0 corrects what those rules recorded.
//!
//! Read [`mod@join`] next.

#![warn(unreachable_pub)]

mod catalog;
mod error;
mod framed_connection;
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
    /// How long this process waits for the others at its start (`--cluster.join-timeout`).
    pub join_timeout: Duration,
    /// The checksum of the configuration and rule files at the start. Heartbeats carry it, and the
    /// receiver warns if its own differs for some time; [`Heartbeat::configure`] sets a later one.
    pub configuration_checksum: u64,
    /// Settings that must be equal in all processes: a name for error texts, and the value. The
    /// handshake fails if one differs.
    pub required_settings: Vec<(String, String)>,
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
    /// Tells and notices that processes live, stop or are lost.
    pub heartbeat: Arc<Heartbeat>,
    /// The client for requests to the others.
    pub client: Arc<PeerClient>,
    /// The listener for requests of the others.
    pub listener: PeerListener,
}

/// Waits for the other processes, at most [`ClusterConfig::join_timeout`]. From then on the loss of
/// one ends this process, too.
pub fn join(setup: &ClusterConfig) -> Result<(PeerLinks, ClusterHandles), ClusterError> {
    let joined = join::join(setup)?;
    let heartbeat = Heartbeat::start(setup, joined.heartbeats)?;
    let peers = PeerLinks { process: setup.process, links: joined.links, monitor: heartbeat.clone() };
    let client = PeerClient::new(setup.clone(), joined.incarnations.clone());
    let listener =
        PeerListener { setup: setup.clone(), listener: joined.listener, incarnations: joined.incarnations };
    Ok((peers, ClusterHandles { heartbeat, client, listener }))
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name).spawn(run).map(drop)
}

#[cfg(test)]
mod tests;
