//! The first words on a connection between two processes of a cluster: who speaks, what the
//! connection is for, and what both must agree on.

use crate::limits::HELLO_BYTES;
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::net::TcpStream;
use storage::codec;

/// What every connection begins with; the digit is the version of what follows.
const MAGIC: [u8; 8] = *b"pcluster";

/// What a connection is for.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConnectionPurpose {
    /// The dataflow's messages.
    Link,
    /// Signs of life, and what process 0 must hear.
    Pulse,
    /// One question to the query runtime.
    Question,
    /// One question about series, names and values.
    Catalog,
    /// A question of process 0: what came late.
    Late,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handshake {
    /// The number of who speaks.
    pub process: usize,
    /// What the connection is for.
    pub purpose: ConnectionPurpose,
    /// Another one each time a process starts.
    pub incarnation: u64,
    /// What must be the same here and there: a name for people, and the value.
    pub facts: Vec<(String, String)>,
}

impl Handshake {
    /// Sends it.
    pub fn send(&self, stream: &mut TcpStream) -> Result<(), String> {
        let body = codec::encode(self).map_err(|e| e.to_string())?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend((body.len() as u32).to_le_bytes());
        bytes.extend(body);
        stream.write_all(&bytes).map_err(|e| e.to_string())
    }

    /// Waits for one.
    pub fn receive(stream: &mut TcpStream) -> Result<Handshake, String> {
        let mut magic = [0; 8];
        let mut length = [0; 4];
        let mut read = |bytes: &mut [u8]| stream.read_exact(bytes).map_err(|e| e.to_string());
        read(&mut magic)?;
        if magic != MAGIC {
            return Err("it is not a process of a cluster of this kind".to_owned());
        }
        read(&mut length)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > HELLO_BYTES {
            return Err(format!("its first words are too long ({length} bytes)"));
        }
        let mut body = vec![0; length];
        read(&mut body)?;
        codec::decode(&body).map_err(|e| e.to_string())
    }

    /// What is not the same there as here.
    pub fn differences(&self, other: &Handshake) -> Vec<String> {
        let theirs =
            |name: &str| other.facts.iter().find(|(n, _)| n == name).map_or("unknown", |(_, v)| v.as_str());
        let differs = |(name, ours): &(String, String)| {
            let theirs = theirs(name);
            (ours != theirs).then(|| format!("{name} is {ours:?} here and {theirs:?} there"))
        };
        self.facts.iter().filter_map(differs).collect()
    }
}
