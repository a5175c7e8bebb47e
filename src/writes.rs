//! The remote write receiver: appends the samples of a request to the store, and answers once the
//! WAL has committed them.

use crate::limits::{WRITE_LARGE_BYTES, WRITE_LARGE_NICENESS, WRITE_WAIT, WRITES_PER_CORE};
use api::bodies::{BodyError, BodyShare};
use api::limits::BUSY_RETRY_SECONDS;
use api::services::{RemoteWriteHandler, RemoteWriteResponse, WriteCall};
use bytes::Bytes;
use connectors::blocking;
use connectors::remote::receiver::{check_headers, decoded_bytes};
use connectors::remote::{MessageVersion, RemoteWriteError, RemoteWriteReceiver, WriteOutcome};
use connectors::threads::Niced;
use futures::future::BoxFuture;
use std::sync::Arc;
use storage::clock::Clock;
use storage::execution::Execution;
use storage::store::{Store, StoreError};
use tokio::sync::{Semaphore, oneshot};

/// Receives remote writes for a store.
pub(crate) struct RemoteWriteAdapter {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    execution: Execution,
    writer: Arc<RemoteWriteReceiver>,
    turns: Arc<Semaphore>,
    /// The low-priority threads for large requests.
    large: Arc<Niced>,
}

/// Why a request was refused.
struct Refusal {
    status: u16,
    text: String,
    retry_after: Option<u64>,
}

impl From<RemoteWriteError> for Refusal {
    fn from(error: RemoteWriteError) -> Refusal {
        let retry_after = error.is_retryable().then_some(BUSY_RETRY_SECONDS);
        Refusal { status: error.status(), text: error.to_string(), retry_after }
    }
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Refusal {
        match error {
            BodyError::Full { .. } => Refusal::busy(error.to_string()),
            _ => Refusal { status: error.status().as_u16(), text: error.to_string(), retry_after: None },
        }
    }
}

impl Refusal {
    /// The refusal of a request because of too many others.
    fn busy(text: impl Into<String>) -> Refusal {
        Refusal { status: 503, text: text.into(), retry_after: Some(BUSY_RETRY_SECONDS) }
    }

    fn reply(self) -> RemoteWriteResponse {
        RemoteWriteResponse {
            status: self.status,
            text: self.text,
            written: None,
            retry_after: self.retry_after,
        }
    }
}

impl RemoteWriteAdapter {
    /// A receiver for `store`; with `zeros` it also appends a 0 at the start of each counter that
    /// begins.
    pub(crate) fn new(
        store: Arc<Store>,
        zeros: bool,
        clock: Arc<dyn Clock>,
        execution: Execution,
    ) -> RemoteWriteAdapter {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        RemoteWriteAdapter {
            writer: Arc::new(RemoteWriteReceiver::new(store.clone()).with_zeros(zeros)),
            store,
            clock,
            execution,
            turns: Arc::new(Semaphore::new(WRITES_PER_CORE * cores)),
            large: Arc::new(Niced::new(execution, "write", WRITE_LARGE_NICENESS)),
        }
    }
}

impl RemoteWriteHandler for RemoteWriteAdapter {
    fn write(&self, call: WriteCall) -> BoxFuture<'static, RemoteWriteResponse> {
        let proto = check_headers(Some(&call.content_type), Some(&call.encoding));
        let request = Request {
            writer: self.writer.clone(),
            turns: self.turns.clone(),
            large: self.large.clone(),
            clock: self.clock.clone(),
            execution: self.execution,
            body: call.body,
            share: call.share,
        };
        let store = self.store.clone();
        Box::pin(async move {
            // Only version 2 has headers that say how much was written.
            let tells = matches!(proto, Ok(MessageVersion::V2));
            let written = match proto {
                Ok(proto) => take(request, proto, &store).await,
                Err(refused) => Err(refused.into()),
            };
            let (mut reply, counts) = match written {
                Ok(written) => {
                    let counts = [written.samples, written.histograms, written.exemplars];
                    let (status, text) = written.refusal().map_or((204, String::new()), |text| (400, text));
                    (RemoteWriteResponse { status, text, written: None, retry_after: None }, counts)
                }
                Err(refused) => (refused.reply(), [0; 3]),
            };
            reply.written = tells.then_some(counts);
            reply
        })
    }
}

/// A request, and what is needed to store it.
struct Request {
    writer: Arc<RemoteWriteReceiver>,
    turns: Arc<Semaphore>,
    large: Arc<Niced>,
    clock: Arc<dyn Clock>,
    execution: Execution,
    body: Bytes,
    share: BodyShare,
}

/// Stores a request, and waits until its samples survive the process.
async fn take(request: Request, proto: MessageVersion, store: &Store) -> Result<WriteOutcome, Refusal> {
    let written = apply(request, proto).await?;
    committed(store, written.lsn).await.map_err(RemoteWriteError::from)?;
    Ok(written)
}

/// Appends a request on a thread, because that may wait for the disk. Releases the memory of the
/// request at the end.
async fn apply(request: Request, proto: MessageVersion) -> Result<WriteOutcome, Refusal> {
    let Request { writer, turns, large, clock, execution, body, mut share } = request;
    // From the header of the compression, before anything is decompressed: what it will take is
    // reserved first.
    let decoded = decoded_bytes(&body)?;
    let turn = tokio::time::timeout(WRITE_WAIT, turns.acquire_owned()).await;
    let turn = turn.map_err(|_| Refusal::busy("other requests wait to be stored: try again"))?;
    // After the permit: requests that wait for one must not hold memory for their content.
    share.grow_within(decoded, WRITE_WAIT).await?;
    let work = move || {
        let written = writer.apply(&body, proto, clock.now());
        // Held until the end of the work, even if the client no longer waits for the result.
        drop((body, share, turn));
        Ok(written?)
    };
    // A backfill of a million samples must not delay the small writes of agents.
    let is_large = decoded > WRITE_LARGE_BYTES;
    let done = if is_large { large.run(work) } else { blocking::run(execution, work) };
    done.await.unwrap_or_else(|e| Err(Refusal { status: 500, text: e.to_string(), retry_after: None }))
}

/// Resolves when all records up to `lsn` survive the process.
async fn committed(store: &Store, lsn: u64) -> Result<(), StoreError> {
    let (sender, receiver) = oneshot::channel();
    // A callback instead of a thread that waits: thousands of requests may wait for one write of
    // the log.
    store.wal().on_committed(lsn, Box::new(move |result| drop(sender.send(result))));
    receiver.await.unwrap_or(Err(StoreError::Closed("the server is stopping")))
}
