//! The first message in each direction of a connection between two processes of a cluster: the
//! sender, the purpose of the connection, and the settings in which both must agree.
//! [`mod@super::join`] sends the first ones, [`super::peer_client`] those of later requests.

use super::error::ConnectionError;
use crate::limits::HANDSHAKE_BYTES;
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::net::TcpStream;
use storage::codec;

/// The first bytes of every connection.
const MAGIC: [u8; 8] = *b"pcluster";

/// The purpose of a connection.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConnectionPurpose {
    /// Messages of the live runtime's dataflow; kept as long as the process runs.
    Dataflow,
    /// Heartbeats, and signals to process 0; kept as long as the process runs.
    Heartbeat,
    /// One request to the query runtime; closed after the answer.
    Query,
    /// One request for series, label names or label values; closed after the answer.
    Catalog,
    /// One request of process 0 for late samples; closed after the answer.
    LateSamples,
}

/// The first message of each side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Handshake {
    /// The number of the sending process.
    pub process: usize,
    /// The purpose of the connection.
    pub purpose: ConnectionPurpose,
    /// The incarnation of the sender: a number that differs for each start of a process.
    pub incarnation: u64,
    /// See [`ClusterConfig::required_settings`](crate::ClusterConfig::required_settings).
    pub required_settings: Vec<(String, String)>,
}

impl Handshake {
    /// Sends the handshake.
    pub(crate) fn send(&self, stream: &mut TcpStream) -> Result<(), ConnectionError> {
        let body = codec::encode(self)?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend((body.len() as u32).to_le_bytes());
        bytes.extend(body);
        Ok(stream.write_all(&bytes)?)
    }

    /// Waits for a handshake.
    pub(crate) fn receive(stream: &mut TcpStream) -> Result<Handshake, ConnectionError> {
        let mut magic = [0; 8];
        let mut length = [0; 4];
        stream.read_exact(&mut magic)?;
        // Before a length is believed: a browser or a scanner that comes by sends anything.
        if magic != MAGIC {
            return Err(ConnectionError::WrongProtocol);
        }
        stream.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length) as usize;
        // A handshake is small; memory for it is taken before the other side is known.
        if length > HANDSHAKE_BYTES {
            return Err(ConnectionError::HandshakeTooLong(length));
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        Ok(codec::decode(&body)?)
    }

    /// Describes the required settings that differ, with both values.
    pub(crate) fn differences(&self, other: &Handshake) -> Vec<String> {
        let theirs = |name: &str| {
            other.required_settings.iter().find(|(n, _)| n == name).map_or("unknown", |(_, v)| v.as_str())
        };
        let differs = |(name, ours): &(String, String)| {
            let theirs = theirs(name);
            (ours != theirs).then(|| format!("{name} is {ours:?} here and {theirs:?} there"))
        };
        self.required_settings.iter().filter_map(differs).collect()
    }
}
