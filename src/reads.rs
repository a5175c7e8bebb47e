//! [`RemoteReadAdapter`]: answers remote read requests of other servers from the store, within the
//! limits `--storage.remote.read-*` and the memory of queries. The protocol is in the crate
//! `remote_storage`.

use crate::flags::Flags;
use crate::limits::READ_FRAMES;
use api::services::{ReadAnswer, ReadCall, RemoteReadCut, RemoteReadHandler, ServerControl};
use bytes::Bytes;
use engine::memory::{MemoryPool, MemoryReservation};
use futures::future::BoxFuture;
use futures::{Stream, StreamExt, stream};
use remote_storage::read::RemoteReadError;
use remote_storage::read::request::{ReadRequest, ResponseType};
use remote_storage::read::server::ReadServer;
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::metrics::{Gauge, Metrics};
use storage::model::{Labels, Matcher};
use storage::store::Store;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Answers remote reads from a store.
#[derive(Clone)]
pub(crate) struct RemoteReadAdapter {
    store: Arc<Store>,
    control: Arc<dyn ServerControl>,
    memory: Arc<MemoryPool>,
    limits: ReadLimits,
    /// Requests that are answered at a time; `None`: any number.
    turns: Option<Arc<Semaphore>>,
    /// Requests that are answered or wait.
    queries: Arc<Gauge>,
}

/// The limits of the flags.
#[derive(Copy, Clone)]
struct ReadLimits {
    samples: u64,
    frame: usize,
    bytes: usize,
    timeout: Duration,
}

/// A request that is answered or waits; counted until it is dropped.
struct ReadTurn {
    queries: Arc<Gauge>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Drop for ReadTurn {
    fn drop(&mut self) {
        self.queries.add(-1.0);
    }
}

/// A message with the memory that is reserved for it.
struct ReservedMessage {
    message: Vec<u8>,
    _memory: MemoryReservation,
}

impl AsRef<[u8]> for ReservedMessage {
    fn as_ref(&self) -> &[u8] {
        &self.message
    }
}

impl RemoteReadAdapter {
    /// Answers from `store`; answers take at most `bytes` each of `memory`.
    pub(crate) fn new(
        store: Arc<Store>,
        control: Arc<dyn ServerControl>,
        flags: &Flags,
        memory: Arc<MemoryPool>,
        bytes: usize,
        metrics: &Metrics,
    ) -> RemoteReadAdapter {
        let turns = *flags.storage_remote_read_concurrent_limit;
        RemoteReadAdapter {
            store,
            control,
            memory,
            limits: ReadLimits {
                samples: *flags.storage_remote_read_sample_limit as u64,
                frame: *flags.storage_remote_read_max_bytes_in_frame,
                bytes,
                timeout: flags.query_timeout.std(),
            },
            turns: (turns > 0).then(|| Arc::new(Semaphore::new(turns))),
            queries: metrics.gauge(
                "prometheus_remote_read_handler_queries",
                "The current number of remote read queries that are either in execution or queued on the handler.",
                &[],
            ),
        }
    }

    async fn turn(&self) -> ReadTurn {
        self.queries.add(1.0);
        let mut turn = ReadTurn { queries: self.queries.clone(), _permit: None };
        if let Some(turns) = &self.turns {
            // Closed by nobody.
            turn._permit = turns.clone().acquire_owned().await.ok();
        }
        turn
    }

    async fn answer(self, call: ReadCall) -> ReadAnswer {
        let turn = self.turn().await;
        let request = match ReadRequest::decode(&call.body) {
            Ok(request) => request,
            Err(error) => return failed(&error),
        };
        let own = call.matchers.clone();
        drop(call);
        match request.response {
            ResponseType::Samples => {
                let message = tokio::task::spawn_blocking(move || {
                    let message = self.message(&request, &own);
                    drop(turn);
                    message
                });
                match message.await {
                    Ok(Ok(message)) => ReadAnswer::Message(message),
                    Ok(Err(error)) => failed(&error),
                    Err(error) => ReadAnswer::Failed { status: 500, text: error.to_string() },
                }
            }
            ResponseType::StreamedChunks => self.stream(request, own, turn).await,
        }
    }

    /// `own`: matchers of every query in addition to its own.
    fn message(&self, request: &ReadRequest, own: &[Matcher]) -> Result<Bytes, RemoteReadError> {
        let memory = self.memory.reservation(self.limits.bytes);
        let reserve =
            |bytes: usize| memory.grow(bytes).map_err(|error| RemoteReadError::Memory(error.to_string()));
        let external = self.control.external_labels();
        let server = self.server(&external, own);
        let message = server.samples(request, self.limits.samples, &reserve)?;
        Ok(Bytes::from_owner(ReservedMessage { message, _memory: memory }))
    }

    fn server<'a>(&'a self, external: &'a Labels, own: &'a [Matcher]) -> ReadServer<'a> {
        ReadServer { store: &self.store, external, own, deadline: Instant::now() + self.limits.timeout }
    }

    /// Begins a stream. An error before the first frame is the answer.
    async fn stream(self, request: ReadRequest, own: Vec<Matcher>, turn: ReadTurn) -> ReadAnswer {
        let (sender, mut receiver) = mpsc::channel::<Result<Bytes, RemoteReadCut>>(READ_FRAMES);
        let (failure, failed_early) = tokio::sync::oneshot::channel();
        tokio::task::spawn_blocking(move || {
            let external = self.control.external_labels();
            let mut has_sent = false;
            let sent = self.server(&external, &own).frames(&request, self.limits.frame, &mut |frame| {
                has_sent = true;
                sender.blocking_send(Ok(frame.into())).map_err(|_| RemoteReadError::Gone)
            });
            drop(turn);
            match sent {
                Ok(()) => drop(failure),
                // The status can still say it.
                Err(error) if !has_sent => drop(failure.send(error)),
                Err(error) => {
                    tracing::warn!(target: "web", %error, "a remote read is cut off");
                    // A reader that is gone needs no reason.
                    let _ = sender.blocking_send(Err(RemoteReadCut(error.to_string())));
                }
            }
        });
        let first = match receiver.recv().await {
            Some(first) => first,
            // No frame: the answer is empty, or there is an error.
            None => {
                return match failed_early.await {
                    Ok(error) => failed(&error),
                    Err(_) => ReadAnswer::Frames(stream::empty().boxed()),
                };
            }
        };
        ReadAnswer::Frames(stream::iter([first]).chain(frames(receiver)).boxed())
    }
}

/// The frames that come, as a stream.
fn frames(
    receiver: mpsc::Receiver<Result<Bytes, RemoteReadCut>>,
) -> impl Stream<Item = Result<Bytes, RemoteReadCut>> {
    stream::unfold(receiver, |mut receiver| async {
        let frame = receiver.recv().await?;
        Some((frame, receiver))
    })
}

fn failed(error: &RemoteReadError) -> ReadAnswer {
    ReadAnswer::Failed { status: error.status(), text: error.to_string() }
}

impl RemoteReadHandler for RemoteReadAdapter {
    fn read(&self, call: ReadCall) -> BoxFuture<'static, ReadAnswer> {
        Box::pin(self.clone().answer(call))
    }
}
