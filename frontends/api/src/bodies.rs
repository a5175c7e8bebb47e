//! Reads request bodies: each within the limit of its endpoint, and all together within one memory
//! budget.
//!
//! [`BodyMemory`] is that budget (`--web.max-body-memory`); a request holds a [`BodyShare`] of it.
//! The share grows as bytes arrive, not by the length that a header announces, so a client cannot
//! reserve memory for bytes it never sends. The code that decompresses a body takes the
//! decompressed bytes from the same share.

use super::limits::{BODY_BELIEVED_BYTES, BODY_FREE_BYTES, BUSY_RETRY_SECONDS};
use super::response::{ApiError, ErrorType, text_error, with_retry};
use axum::body::{Body, BodyDataStream, HttpBody};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::StreamExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::Notify;

/// The memory budget of all request bodies.
#[derive(Debug)]
pub struct BodyMemory {
    /// Most bytes of all bodies.
    limit: usize,
    /// Bytes in use.
    held: AtomicUsize,
    /// Notified when bytes are released.
    freed: Notify,
}

impl BodyMemory {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Arc<BodyMemory> {
        Arc::new(BodyMemory { limit, held: AtomicUsize::new(0), freed: Notify::new() })
    }

    /// Bytes in use now.
    pub fn bytes_in_use(&self) -> usize {
        self.held.load(Relaxed)
    }

    /// A new, empty share of the budget.
    pub fn share(self: &Arc<BodyMemory>) -> BodyShare {
        BodyShare { memory: self.clone(), bytes: 0 }
    }
}

/// The bytes of [`BodyMemory`] that one request holds; dropping it releases them.
#[derive(Debug)]
pub struct BodyShare {
    memory: Arc<BodyMemory>,
    bytes: usize,
}

impl BodyShare {
    /// Takes `bytes` more; an error if the budget has no room.
    pub fn grow(&mut self, bytes: usize) -> Result<(), BodyError> {
        let limit = self.memory.limit;
        let more = |held: usize| held.checked_add(bytes).filter(|held| *held <= limit);
        self.memory.held.fetch_update(Relaxed, Relaxed, more).map_err(|_| BodyError::Full { limit })?;
        self.bytes += bytes;
        Ok(())
    }

    /// Like [`BodyShare::grow`], but waits up to `patience` for other requests to release memory.
    /// Only for a caller that holds a turn: if every request could wait for the others, none would
    /// end.
    pub async fn grow_within(&mut self, bytes: usize, patience: Duration) -> Result<(), BodyError> {
        let memory = self.memory.clone();
        let limit = memory.limit;
        if self.bytes.saturating_add(bytes) > limit {
            return Err(BodyError::TooLarge { limit });
        }
        let grown = async {
            loop {
                let freed = memory.freed.notified();
                if self.grow(bytes).is_ok() {
                    return;
                }
                freed.await;
            }
        };
        tokio::time::timeout(patience, grown).await.map_err(|_| BodyError::Full { limit })
    }
}

impl Drop for BodyShare {
    fn drop(&mut self) {
        self.memory.held.fetch_sub(self.bytes, Relaxed);
        self.memory.freed.notify_waiters();
    }
}

/// Why a body was not read.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The body is larger than the endpoint accepts.
    #[error("the body is larger than {limit} bytes: send less in a request")]
    TooLarge {
        /// The endpoint's limit, bytes.
        limit: usize,
    },
    /// The connection ended before the body did, or the body stalled.
    #[error("the body was cut off")]
    Cut,
    /// Other requests use the whole budget.
    #[error(
        "the bodies of the requests at work fill {} MiB: try again, or raise --web.max-body-memory",
        limit >> 20
    )]
    Full {
        /// The budget, bytes.
        limit: usize,
    },
}

impl BodyError {
    /// The HTTP status of the error.
    pub fn status(self) -> StatusCode {
        match self {
            BodyError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            BodyError::Cut => StatusCode::BAD_REQUEST,
            BodyError::Full { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The response of an endpoint that takes a raw body.
    pub fn into_text(self) -> Response {
        let is_busy = matches!(self, BodyError::Full { .. });
        let response = text_error(self.status(), &self.to_string());
        with_retry(response, is_busy.then_some(BUSY_RETRY_SECONDS))
    }

    /// The response of an endpoint that takes a form: an error in Prometheus' JSON envelope.
    pub fn into_envelope(self) -> Response {
        let error = match self {
            // Prometheus' text and status.
            BodyError::TooLarge { .. } => {
                ApiError::bad_data("error parsing form values: http: request body too large")
            }
            BodyError::Cut => ApiError::bad_data("error parsing form values: unexpected EOF"),
            BodyError::Full { .. } => ApiError::new(ErrorType::UnavailableNow, self.to_string()),
        };
        error.into_response()
    }
}

/// Reads a body of at most `limit` bytes and grows `share` with it. The first
/// [`BODY_FREE_BYTES`] are not counted: small forms, such as a dashboard's queries, are
/// accepted even if the budget is used up.
pub async fn read(body: Body, limit: usize, share: &mut BodyShare) -> Result<Bytes, BodyError> {
    let announced = body.size_hint();
    // A body without a length may be as large as the limit.
    let most = announced.exact().map_or(limit, |exact| exact as usize);
    let is_announced_too_large = announced.lower() > limit as u64;
    let mut stream = body.into_data_stream();
    if is_announced_too_large {
        discard(stream, limit).await;
        return Err(BodyError::TooLarge { limit });
    }
    let mut whole = Vec::new();
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|_| BodyError::Cut)?;
        let length = whole.len() + piece.len();
        if length > limit {
            drop(whole);
            discard(stream, limit).await;
            return Err(BodyError::TooLarge { limit });
        }
        share.grow(length.saturating_sub(BODY_FREE_BYTES).saturating_sub(share.bytes))?;
        if length > whole.capacity() && whole.len() >= BODY_BELIEVED_BYTES {
            // Reserve once instead of copying at every doubling. The system backs the memory only
            // as it is written.
            whole.reserve_exact(most.saturating_sub(whole.len()));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.into())
}

/// Reads and drops the rest of a rejected body, at most `limit` bytes, so that a client that is
/// still writing gets to read the error.
async fn discard(mut stream: BodyDataStream, limit: usize) {
    let mut left = limit;
    while let Some(Ok(piece)) = stream.next().await {
        let Some(rest) = left.checked_sub(piece.len()) else { return };
        left = rest;
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "these are bodies of requests")]
mod tests {
    use super::*;
    use axum::http::header;

    fn chunked(pieces: usize) -> Body {
        let piece = Bytes::from(vec![b'x'; 16 << 10]);
        let all = std::iter::repeat_with(move || Ok::<_, std::io::Error>(piece.clone())).take(pieces);
        Body::from_stream(futures::stream::iter(all))
    }

    #[tokio::test]
    async fn bodies_share_one_memory() {
        let memory = BodyMemory::new(1 << 20);
        let mut first = memory.share();
        let body = read(chunked(40), 1 << 20, &mut first).await.unwrap();
        assert_eq!((body.len(), memory.bytes_in_use()), (640 << 10, (640 << 10) - BODY_FREE_BYTES));
        let mut second = memory.share();
        let refused = read(chunked(40), 1 << 20, &mut second).await.unwrap_err();
        assert_eq!(refused, BodyError::Full { limit: 1 << 20 });
        let answer = refused.into_text();
        assert_eq!(
            (answer.status().as_u16(), answer.headers()[header::RETRY_AFTER].to_str().unwrap()),
            (503, "1")
        );
        assert_eq!(refused.into_envelope().status().as_u16(), 503);
        // A small body takes nothing from the budget, and a request's share is released when it
        // ends.
        assert_eq!(read(chunked(1), 1 << 20, &mut memory.share()).await.unwrap().len(), 16 << 10);
        drop((first, second));
        assert_eq!(memory.bytes_in_use(), 0);
        assert_eq!(read(chunked(64), 1 << 20, &mut memory.share()).await.unwrap().len(), 1 << 20);
        let mut decoded = memory.share();
        decoded.grow(1 << 20).unwrap();
        assert!(decoded.grow(1).is_err() && decoded.grow(usize::MAX).is_err());
        let mut waiting = memory.share();
        let patience = Duration::from_secs(60);
        let full = waiting.grow_within(1, Duration::from_millis(1)).await.unwrap_err();
        assert_eq!(full.status().as_u16(), 503);
        let free = async { drop(decoded) };
        assert_eq!(futures::join!(waiting.grow_within(1 << 20, patience), free).0, Ok(()));
        let never = waiting.grow_within(1, patience).await.unwrap_err();
        assert_eq!(never.status().as_u16(), 413, "it would never fit");
    }

    #[tokio::test]
    async fn a_body_ends_at_its_limit() {
        let memory = BodyMemory::new(1 << 20);
        let mut share = memory.share();
        let large = read(chunked(3), 40 << 10, &mut share).await.unwrap_err();
        assert_eq!(
            (large, large.into_text().status().as_u16()),
            (BodyError::TooLarge { limit: 40 << 10 }, 413)
        );
        let announced = Body::from(vec![0; 100]);
        assert_eq!(read(announced, 99, &mut share).await, Err(BodyError::TooLarge { limit: 99 }));
        let broken =
            futures::stream::iter([Ok(Bytes::from_static(b"x")), Err(std::io::Error::other("gone"))]);
        assert_eq!(read(Body::from_stream(broken), 99, &mut share).await, Err(BodyError::Cut));
    }
}
