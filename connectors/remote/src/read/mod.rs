//! Remote read: answers the requests of other servers for samples of this store ([`server`]).
//! [`request`] decodes a request.

pub mod request;
pub mod server;

/// Why a remote read has no answer.
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
