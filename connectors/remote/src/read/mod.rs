//! Remote read, both ways.
//!
//! We answer: [`server`] answers the requests of other servers for samples of this store.
//!
//! We ask: [`RemoteRead`] asks the servers of `remote_read` for what a query reads, with a
//! [`client`] for each; [`answer`] decodes what they send, [`samples`] keeps it for the query.
//! [`request`] has the request of both.

mod answer;
mod client;
mod remote_read;
pub mod request;
mod samples;
pub mod server;

pub use client::ReadFailure;
pub use remote_read::{ReadAnswer, ReadSelection, RemoteRead, RemoteReadServices};

/// Why a remote read of another server has no answer.
#[derive(Debug, thiserror::Error)]
pub enum RemoteReadError {
    /// The request is malformed, or asks for what this server does not know.
    #[error("{0}")]
    BadRequest(String),
    /// A query of it has too many samples.
    #[error("exceeded sample limit ({0})")]
    SampleLimit(u64),
    /// A matcher of it is not valid.
    #[error("{0}")]
    Matcher(String),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] storage::store::StoreError),
    /// The answer takes too much memory.
    #[error("{0}")]
    Memory(String),
    /// The answer takes too long.
    #[error("the remote read took longer than --query.timeout: ask for less")]
    Timeout,
    /// Nobody waits for the answer any more.
    #[error("the client is gone")]
    Gone,
}

impl RemoteReadError {
    /// The HTTP status, as that of Prometheus.
    pub fn status(&self) -> u16 {
        match self {
            RemoteReadError::BadRequest(_) | RemoteReadError::SampleLimit(_) => 400,
            _ => 500,
        }
    }
}

/// The memory that the answers of other servers take, in bytes.
pub trait ReadMemory: Send + Sync {
    /// Counts so many bytes more, before they are taken.
    ///
    /// # Errors
    /// There is no room for them.
    fn grow(&self, bytes: usize) -> Result<(), MemoryRefused>;

    /// So many bytes are free again.
    fn shrink(&self, bytes: usize);
}

/// There is no room for an answer; the text says which limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MemoryRefused(pub String);
