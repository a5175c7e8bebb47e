//! Errors of a cluster: why a process cannot join it ([`ClusterError`], the server does not start),
//! and why a connection to another process is of no use ([`ConnectionError`]).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use storage::codec::CodecError;

/// Why a process cannot join its cluster. The server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The address of this process cannot be bound.
    #[error("cannot listen on {address} for the other processes of the cluster: {source}")]
    Listen {
        /// The address of the cluster's configuration.
        address: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// Some processes did not come in time.
    #[error("the cluster is not complete after {join_timeout:?} (--cluster.join-timeout): {}", missing.join("; "))]
    Incomplete {
        /// How long this process waited.
        join_timeout: Duration,
        /// Each missing process, with the reason of the last failed attempt.
        missing: Vec<String>,
    },
    /// A process claims a number that is not to be expected from there.
    #[error("a process at {from} says that it is process {process} of the cluster")]
    UnexpectedProcess {
        /// Where it called from.
        from: SocketAddr,
        /// The number that it claims.
        process: usize,
    },
    /// Another process than the expected one answers at an address.
    #[error("{peer} says that it is process {process}")]
    OtherProcess {
        /// The process that belongs to the address.
        peer: String,
        /// The number that it claims.
        process: usize,
    },
    /// A process has another configuration.
    #[error("{peer} does not fit: {}", differences.join("; "))]
    Mismatch {
        /// The other process.
        peer: String,
        /// Each required setting that differs, with both values.
        differences: Vec<String>,
    },
    /// A process ended while others still waited.
    #[error("{peer} went away before the cluster was complete: {source}")]
    PeerLost {
        /// The process that ended.
        peer: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// A socket or a thread of this process failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Why a connection to another process is of no use. The process goes on without it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    /// The other side speaks another protocol.
    #[error("it is not a process of a cluster of this kind")]
    WrongProtocol,
    /// The other side announces a handshake beyond the limit.
    #[error("its first words are too long ({0} bytes)")]
    HandshakeTooLong(usize),
    /// A handshake cannot be decoded.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// A request arrived before the cluster was complete.
    #[error("it asks a question of a cluster that is not complete yet")]
    NotComplete,
    /// The sender's incarnation is not the one that joined.
    #[error("process {0} has not joined this cluster")]
    NotJoined(usize),
    /// The host name of a process resolves to nothing.
    #[error("the name has no address")]
    NoAddress,
    /// A socket or a thread failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}
