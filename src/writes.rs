//! [`RemoteWriteAdapter`] and [`OtlpAdapter`]: append received samples to the store, and answer
//! when the log has committed them. `connectors` decodes the requests.

use crate::limits::{WRITE_LARGE_BYTES, WRITE_LARGE_NICENESS, WRITE_WAIT, WRITES_PER_CORE};
use api::bodies::BodyError;
use api::limits::BUSY_RETRY_SECONDS;
use api::services::{RemoteWriteHandler, RemoteWriteResponse, WriteCall};
use connectors::blocking;
use connectors::otlp::{OtlpReceiver, receiver as otlp};
use connectors::remote::receiver::{check_headers, decoded_bytes};
use connectors::remote::{MessageVersion, RemoteWriteError, RemoteWriteReceiver, WriteOutcome};
use connectors::threads::LowPriorityPool;
use futures::future::BoxFuture;
use std::sync::Arc;
use storage::clock::Clock;
use storage::execution::Execution;
use storage::metrics::{Counter, Metrics};
use storage::model::TimeMs;
use storage::store::{Store, StoreError};
use tokio::sync::{Semaphore, oneshot};

/// How requests that bring samples are admitted: their number, their memory and their threads. All
/// endpoints share it.
pub(crate) struct WriteTurns {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    execution: Execution,
    turns: Arc<Semaphore>,
    /// The low-priority threads for large requests.
    large: LowPriorityPool,
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

impl WriteTurns {
    /// The turns of requests for `store`.
    pub(crate) fn new(store: Arc<Store>, clock: Arc<dyn Clock>, execution: Execution) -> Arc<WriteTurns> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Arc::new(WriteTurns {
            store,
            clock,
            execution,
            turns: Arc::new(Semaphore::new(WRITES_PER_CORE * cores)),
            large: LowPriorityPool::new(execution, "write", WRITE_LARGE_NICENESS),
        })
    }

    /// Stores a request, and waits until its samples survive the process. `decoded` is the memory
    /// for its content, bytes, which is reserved first.
    async fn take(
        &self,
        call: WriteCall,
        decoded: usize,
        store: impl FnOnce(&[u8], TimeMs) -> Result<WriteOutcome, RemoteWriteError> + Send + 'static,
    ) -> Result<WriteOutcome, Refusal> {
        let written = self.apply(call, decoded, store).await?;
        committed(&self.store, written.lsn).await.map_err(RemoteWriteError::from)?;
        Ok(written)
    }

    /// Appends a request on a thread, because that may wait for the disk. Releases the memory of
    /// the request at the end.
    async fn apply(
        &self,
        call: WriteCall,
        decoded: usize,
        store: impl FnOnce(&[u8], TimeMs) -> Result<WriteOutcome, RemoteWriteError> + Send + 'static,
    ) -> Result<WriteOutcome, Refusal> {
        let WriteCall { body, mut share, .. } = call;
        let turn = tokio::time::timeout(WRITE_WAIT, self.turns.clone().acquire_owned()).await;
        let turn = turn.map_err(|_| Refusal::busy("other requests wait to be stored: try again"))?;
        // After the permit: requests that wait for one must not hold memory for their content.
        share.grow_within(decoded, WRITE_WAIT).await?;
        let clock = self.clock.clone();
        // A backfill of a million samples must not delay the small writes of agents.
        let is_large = decoded.max(body.len()) > WRITE_LARGE_BYTES;
        let work = move || {
            let written = store(&body, clock.now());
            // Held until the end of the work, even if the client no longer waits for the result.
            drop((body, share, turn));
            Ok(written?)
        };
        let done = if is_large { self.large.run(work) } else { blocking::run(self.execution, work) };
        done.await.unwrap_or_else(|e| Err(Refusal { status: 500, text: e.to_string(), retry_after: None }))
    }
}

/// Receives remote writes.
pub(crate) struct RemoteWriteAdapter {
    turns: Arc<WriteTurns>,
    receiver: Arc<RemoteWriteReceiver>,
    accepted: Vec<MessageVersion>,
    /// Counts samples of series with invalid labels.
    invalid: Arc<Counter>,
}

impl RemoteWriteAdapter {
    /// A receiver of the messages in `accepted`; with `zeros` it also appends a 0 at the start of
    /// each counter that begins.
    pub(crate) fn new(
        turns: Arc<WriteTurns>,
        zeros: bool,
        accepted: &[MessageVersion],
        metrics: &Metrics,
    ) -> RemoteWriteAdapter {
        let receiver = Arc::new(RemoteWriteReceiver::new(turns.store.clone()).with_zeros(zeros));
        let invalid = metrics.counter(
            "prometheus_api_remote_write_invalid_labels_samples_total",
            "The total number of received remote write samples and histogram samples which were rejected due to invalid labels.",
            &[],
        );
        RemoteWriteAdapter { turns, receiver, accepted: accepted.to_vec(), invalid }
    }
}

impl RemoteWriteHandler for RemoteWriteAdapter {
    fn write(&self, call: WriteCall) -> BoxFuture<'static, RemoteWriteResponse> {
        let proto = check_headers(Some(&call.content_type), Some(&call.encoding))
            .and_then(|proto| proto.check_accepted(&self.accepted).map(|()| proto));
        let turns = self.turns.clone();
        let receiver = self.receiver.clone();
        let invalid = self.invalid.clone();
        Box::pin(async move {
            // Only version 2 has headers that say how much was written.
            let tells = matches!(proto, Ok(MessageVersion::V2));
            // The memory from the header of the compression, before anything is decompressed.
            let checked = proto.and_then(|proto| Ok((proto, decoded_bytes(&call.body)?)));
            let written = match checked {
                Ok((proto, decoded)) => {
                    turns.take(call, decoded, move |body, now| receiver.apply(body, proto, now)).await
                }
                Err(refused) => Err(refused.into()),
            };
            let (mut reply, counts) = match written {
                Ok(written) => {
                    invalid.add((written.invalid + written.left_out) as u64);
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

/// Receives OTLP.
pub(crate) struct OtlpAdapter {
    turns: Arc<WriteTurns>,
    receiver: Arc<OtlpReceiver>,
}

impl OtlpAdapter {
    /// A receiver.
    pub(crate) fn new(turns: Arc<WriteTurns>, receiver: Arc<OtlpReceiver>) -> OtlpAdapter {
        OtlpAdapter { turns, receiver }
    }
}

impl RemoteWriteHandler for OtlpAdapter {
    fn write(&self, call: WriteCall) -> BoxFuture<'static, RemoteWriteResponse> {
        let encoding = otlp::check_headers(&call.content_type, &call.encoding);
        let turns = self.turns.clone();
        let receiver = self.receiver.clone();
        Box::pin(async move {
            let checked =
                encoding.and_then(|encoding| Ok((encoding, otlp::decoded_bytes(&call.body, encoding)?)));
            let written = match checked {
                Ok((encoding, decoded)) => {
                    turns.take(call, decoded, move |body, now| receiver.apply(body, encoding, now)).await
                }
                Err(refused) => Err(refused.into()),
            };
            match written {
                Ok(written) => {
                    let refused = written.refusal().map(|text| (otlp::refusal_status(&written), text));
                    let (status, text) = refused.unwrap_or((200, String::new()));
                    RemoteWriteResponse { status, text, written: None, retry_after: None }
                }
                Err(refused) => refused.reply(),
            }
        })
    }
}

/// Resolves when all records up to `lsn` survive the process.
async fn committed(store: &Store, lsn: u64) -> Result<(), StoreError> {
    let (sender, receiver) = oneshot::channel();
    // A callback instead of a thread that waits: thousands of requests may wait for one write of
    // the log.
    store.wal().on_committed(lsn, Box::new(move |result| drop(sender.send(result))));
    receiver.await.unwrap_or(Err(StoreError::Closed("the server is stopping")))
}
