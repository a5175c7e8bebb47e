//! The bodies of answers that are sent in pieces: [`streamed`] of any stream, and [`body`] of a
//! large answer, whose pieces are written as fast as the client reads them, until the request's
//! deadline.
//!
//! An answer holds memory while it is sent, and a slow client could hold it forever. So the answer
//! is dropped at the deadline, and the connection closes before its end. [`super::query_json`]
//! makes the pieces.

use axum::BoxError;
use axum::body::Body;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// The error of an answer that was not sent in time.
#[derive(Debug, thiserror::Error)]
#[error("the request timed out while its answer was being sent")]
struct SendTimeout;

/// The progress of sending an answer.
enum SendState {
    Pieces(Box<dyn Iterator<Item = Bytes> + Send>),
    Done,
    Late,
}

/// The stream of pieces, with the timer that drops them.
struct Pieces {
    sending: Arc<Mutex<SendState>>,
    timer: JoinHandle<()>,
}

/// A body of what a stream yields. All streams become bodies here: compression asks for the next
/// piece once more after the last one, and a stream such as `unfold` panics then.
pub(crate) fn streamed<S, E>(stream: S) -> Body
where
    S: Stream<Item = Result<Bytes, E>> + Send + 'static,
    E: Into<BoxError> + 'static,
{
    #[allow(clippy::disallowed_methods, reason = "the stream ends once and for all")]
    Body::from_stream(stream.fuse())
}

/// A body of these pieces that ends at `deadline`. A single piece needs no deadline: it is already
/// in memory.
pub(crate) fn body(mut pieces: impl Iterator<Item = Bytes> + Send + 'static, deadline: Instant) -> Body {
    let first = pieces.next().unwrap_or_default();
    let Some(second) = pieces.next() else { return Body::from(first) };
    let begin = futures::stream::iter([Ok(first), Ok(second)]);
    streamed(begin.chain(pieces_of(pieces, deadline)))
}

fn pieces_of(pieces: impl Iterator<Item = Bytes> + Send + 'static, deadline: Instant) -> Pieces {
    let sending = Arc::new(Mutex::new(SendState::Pieces(Box::new(pieces))));
    let ending = sending.clone();
    let timer = tokio::spawn(async move {
        sleep_until(deadline).await;
        let mut sending = ending.lock();
        if matches!(*sending, SendState::Pieces(_)) {
            *sending = SendState::Late;
        }
    });
    Pieces { sending, timer }
}

impl Stream for Pieces {
    type Item = Result<Bytes, SendTimeout>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut sending = self.sending.lock();
        Poll::Ready(match &mut *sending {
            SendState::Done => None,
            SendState::Late => Some(Err(SendTimeout)),
            SendState::Pieces(pieces) => {
                let piece = pieces.next();
                if piece.is_none() {
                    *sending = SendState::Done;
                }
                piece.map(Ok)
            }
        })
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        self.timer.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query_json::{AnnotationTexts, ResponseChunks, chunks};
    use engine::query::guard::SampleStats;
    use engine::query::{AnswerMemory, QueryAnswer, QueryValue, Series};
    use std::time::Duration;
    use storage::model::Labels;

    /// An answer of many pieces.
    fn answer() -> ResponseChunks {
        let series = |n: usize| Series {
            labels: Labels::from_pairs([("n", n.to_string())]),
            points: (0..5_000).map(|t| (t, t as f64)).collect(),
            histograms: vec![],
            drops: false,
        };
        let value = QueryValue::Matrix((0..12).map(series).collect());
        let samples = SampleStats::default();
        let memory = AnswerMemory::default();
        chunks(
            QueryAnswer { value, annotations: vec![], samples, memory },
            AnnotationTexts::default(),
            String::new(),
        )
    }

    #[tokio::test]
    async fn an_answer_is_sent_to_its_end_or_cut_at_its_deadline() {
        let whole: Vec<u8> = answer().flat_map(|piece| piece.to_vec()).collect();
        let mut pieces = body(answer(), Instant::now() + Duration::from_secs(600)).into_data_stream();
        let mut sent = Vec::new();
        while let Some(piece) = pieces.next().await {
            sent.extend(piece.unwrap());
        }
        assert_eq!(sent, whole);
        // A client that reads some pieces and then pauses.
        let mut pieces = body(answer(), Instant::now() + Duration::from_millis(50)).into_data_stream();
        for _ in 0..2 {
            assert!(pieces.next().await.is_some_and(|piece| piece.is_ok()));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        let cut = pieces.next().await.unwrap().unwrap_err();
        assert!(cut.to_string().contains("timed out"), "{cut}");
    }

    #[tokio::test]
    async fn the_memory_of_an_answer_goes_with_its_deadline_or_its_client() {
        for client_leaves in [false, true] {
            let patience = Duration::from_millis(if client_leaves { 600_000 } else { 50 });
            let pieces = pieces_of(answer(), Instant::now() + patience);
            let sending = Arc::downgrade(&pieces.sending);
            if client_leaves {
                drop(pieces);
                // The timer is aborted, but its task ends only when it is scheduled.
                tokio::time::sleep(Duration::from_millis(50)).await;
                assert!(sending.upgrade().is_none());
            } else {
                tokio::time::sleep(Duration::from_millis(200)).await;
                let sending = sending.upgrade().unwrap();
                assert!(matches!(*sending.lock(), SendState::Late), "nobody asked for a piece meanwhile");
            }
        }
    }
}
