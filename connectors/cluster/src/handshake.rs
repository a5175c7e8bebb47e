//! The handshake of a connection between two processes of a cluster: the sender, the purpose of the
//! connection, and the facts that both must agree on.

use super::error::ConnectionError;
use crate::limits::HELLO_BYTES;
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::net::TcpStream;
use storage::codec;

/// The first bytes of every connection.
const MAGIC: [u8; 8] = *b"pcluster";

/// The purpose of a connection.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConnectionPurpose {
    /// Messages of the dataflow.
    Link,
    /// Heartbeats, and signals to process 0.
    Pulse,
    /// One query to the query runtime.
    Question,
    /// One request for series, names and values.
    Catalog,
    /// A request of process 0 for late samples.
    Late,
}

/// The first message of each side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Handshake {
    /// The number of the sending process.
    pub process: usize,
    /// The purpose of the connection.
    pub purpose: ConnectionPurpose,
    /// A number that differs for each start of a process.
    pub incarnation: u64,
    /// What must be the same in both processes: a name for error texts, and the value.
    pub facts: Vec<(String, String)>,
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
        if length > HELLO_BYTES {
            return Err(ConnectionError::HandshakeTooLong(length));
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        Ok(codec::decode(&body)?)
    }

    /// Describes the facts that differ.
    pub(crate) fn differences(&self, other: &Handshake) -> Vec<String> {
        let theirs =
            |name: &str| other.facts.iter().find(|(n, _)| n == name).map_or("unknown", |(_, v)| v.as_str());
        let differs = |(name, ours): &(String, String)| {
            let theirs = theirs(name);
            (ours != theirs).then(|| format!("{name} is {ours:?} here and {theirs:?} there"))
        };
        self.facts.iter().filter_map(differs).collect()
    }
}
