//! Serves one HTTP connection: its socket, its requests, who may make them, and the timeouts that
//! close it.
//!
//! A connection has a slot (`slots.rs`), whose grant says what may be requested over it:
//! everything, or only health and metrics, because the ordinary slots are full. `Progress` tracks
//! what the connection waits for; [`overdue`] closes it when the client is too slow. `Socket` fails
//! a write that the client does not read.

use super::confinement::Confinement;
use super::limits;
use super::progress::{CloseReason, Exchange, Progress};
use super::response::{text, text_error};
use super::serve::{ClientAddress, Http};
use super::slots::{Grant, Slot};
use super::transport::{RawStream, Stream, handshake};
use axum::body::{Body, HttpBody};
use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderValue, StatusCode, Version, header};
use axum::response::Response;
use bytes::Bytes;
use futures::future::BoxFuture;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// Serves the requests of one connection until it ends, times out, gives up its slot or the server
/// stops.
pub(crate) async fn serve(
    http: Arc<Http>,
    raw: RawStream,
    peer: SocketAddr,
    slot: Slot,
    progress: Arc<Progress>,
) {
    let grant = slot.grant();
    let Some((stream, http2)) = begin(&http, raw, peer, &progress).await else { return };
    let builder = if http2 { builder(grant) } else { builder(grant).http1_only() };
    let service = service_fn(|request: Request<Incoming>| {
        let exchange = Exchange::begin(&progress);
        let http = http.clone();
        async move { Ok::<_, Infallible>(answer(&http, request, exchange, peer, grant).await) }
    });
    let socket =
        Socket { stream, progress: progress.clone(), http: http.clone(), blocked: None, _slot: slot };
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(socket), service));
    let mut overdue = pin!(overdue(progress.clone()));
    let mut stopped = pin!(http.gate.stopped());
    let mut stopping = false;
    loop {
        tokio::select! {
            // The connection first: a request that has just come is answered before a deadline that
            // has just passed closes the connection.
            biased;
            ended = connection.as_mut() => {
                // Errors that the client causes are answered to the client; the log needs no
                // warning.
                if let Err(e) = ended {
                    tracing::debug!(target: "web", "the connection from {peer} failed: {e}");
                }
                return;
            }
            why = &mut overdue => {
                http.slots.count(why);
                // Returning drops the connection, and with it running requests and the slot.
                return tracing::debug!(target: "web", "the connection from {peer} is closed: {}", why.as_str());
            }
            () = progress.displaced() => {
                http.slots.count(CloseReason::Displaced);
                return tracing::debug!(target: "web", "the connection from {peer} is closed: another one needs its slot");
            }
            () = &mut stopped, if !stopping => {
                stopping = true;
                // An idle connection has nothing to finish; hyper would wait for its next request.
                if !progress.is_busy() {
                    return;
                }
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Begins a connection: plain, or with TLS where the server asks for it. The second value is
/// whether HTTP/2 may be spoken. `None`: the connection is over.
async fn begin(
    http: &Http,
    raw: RawStream,
    peer: SocketAddr,
    progress: &Arc<Progress>,
) -> Option<(Stream, bool)> {
    let Some(settings) = http.protection.as_ref().map(|protection| protection.settings()) else {
        return Some((Stream::Plain(raw), true));
    };
    let Some(tls) = settings.tls.clone() else { return Some((Stream::Plain(raw), true)) };
    let why = tokio::select! {
        done = handshake(raw, tls) => match done {
            Ok(stream) => return Some((stream, settings.http2)),
            Err(e) => {
                tracing::debug!("TLS handshake with {peer}: {e}");
                return None;
            }
        },
        why = overdue(progress.clone()) => why,
        () = progress.displaced() => CloseReason::Displaced,
        () = http.gate.stopped() => return None,
    };
    http.slots.count(why);
    tracing::debug!("connection from {peer} is closed: {}", why.as_str());
    None
}

fn builder(grant: Grant) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        // Header timeouts come from `Progress`, which can tell an idle connection from one that is
        // sending headers.
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        // A connection of the reserve gets one answer.
        .keep_alive(grant == Grant::All)
        .max_headers(limits::HEADERS)
        // The buffer holds the headers, so its size is their limit.
        .max_buf_size(limits::HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(limits::HTTP2_HEADER_BYTES)
        .max_concurrent_streams(limits::HTTP2_STREAMS);
    builder
}

/// Resolves when the client is overdue. The deadline changes while the connection's task runs; that
/// is safe because a task polls all its futures each time it wakes, so this one sees the new
/// deadline.
async fn overdue(progress: Arc<Progress>) -> CloseReason {
    let mut timer = pin!(sleep(Duration::ZERO));
    std::future::poll_fn(|cx| {
        loop {
            let Some((at, why)) = progress.overdue() else { return Poll::Pending };
            if at <= Instant::now() {
                return Poll::Ready(why);
            }
            // A timer that fires too early only causes one more look at the deadline.
            if timer.is_elapsed() || timer.deadline() > at {
                timer.as_mut().reset(at);
            }
            ready!(timer.as_mut().poll(cx));
        }
    })
    .await
}

async fn answer(
    http: &Http,
    mut request: Request<Incoming>,
    exchange: Exchange,
    peer: SocketAddr,
    grant: Grant,
) -> Response<AnswerBody> {
    // Before the body is read: refusing must cost next to nothing, because it happens when
    // everything is full.
    let mut response = match admit(http, &request, peer, grant).await {
        Ok(confinement) => {
            if let Some(confinement) = confinement {
                request.extensions_mut().insert(confinement);
            }
            call_service(http, request, &exchange, peer).await
        }
        Err(response) => response,
    };
    if let Some(protection) = &http.protection {
        protection.add_headers(&mut response);
    }
    super::security::add_headers(&mut response);
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        // From here on the connection has no requests, and the timeouts of requests must not close
        // it.
        exchange.connection().upgraded();
    }
    response.map(|body| AnswerBody { body, exchange })
}

/// Whether a request may be answered on its connection, and what its user is confined to; the error
/// is the response to send instead.
async fn admit(
    http: &Http,
    request: &Request<Incoming>,
    peer: SocketAddr,
    grant: Grant,
) -> Result<Option<Arc<Confinement>>, Response> {
    if let Some(why) = http.refusal(grant, request.uri().path()) {
        return Err(refused(why));
    }
    match &http.protection {
        Some(protection) => protection.admit(request, peer.ip()).await,
        None => Ok(None),
    }
}

async fn call_service(
    http: &Http,
    request: Request<Incoming>,
    exchange: &Exchange,
    peer: SocketAddr,
) -> Response {
    let late = Arc::new(AtomicBool::new(false));
    let version = request.version();
    let progress = exchange.connection();
    let until = Instant::now() + progress.body_timeout();
    let mut request = request.map(|body| {
        // Most requests: no timer, and no state that says a body is awaited.
        if body.is_end_stream() {
            return Body::empty();
        }
        Body::new(RequestBody {
            body,
            progress: progress.clone(),
            timer: Box::pin(sleep_until(until)),
            late: late.clone(),
        })
    });
    request.extensions_mut().insert(ConnectInfo(ClientAddress(peer)));
    // Subscriptions ask it whether their client reads.
    request.extensions_mut().insert(progress.clone());
    let response = http.gate.answer(request).await;
    // A flag beside the body's error, because the handler may have turned that error into any
    // response.
    if !late.load(Relaxed) {
        return response;
    }
    let seconds = progress.body_timeout().as_secs_f64();
    let why = format!("the body of the request did not arrive within {seconds} s (--web.read-timeout)");
    let mut response = text_error(StatusCode::REQUEST_TIMEOUT, &why);
    if version < Version::HTTP_2 {
        // The rest of the body may still come and would be taken for the next request. HTTP/2 only
        // resets the stream.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The response of a reserve slot to a path that it does not serve.
fn refused(why: String) -> Response {
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, why);
    response.headers_mut().insert(header::RETRY_AFTER, limits::RETRY_AFTER_SECONDS.into());
    response
}

/// A request body with a deadline.
struct RequestBody {
    body: Incoming,
    progress: Arc<Progress>,
    timer: Pin<Box<Sleep>>,
    late: Arc<AtomicBool>,
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let next = Pin::new(&mut self.body).poll_frame(cx);
        self.progress.body_pending(next.is_pending());
        if let Poll::Ready(next) = next {
            return Poll::Ready(next.map(|frame| frame.map_err(axum::Error::new)));
        }
        // Only while nothing arrives: a body that keeps coming has as long as its size limit
        // allows.
        ready!(self.timer.as_mut().poll(cx));
        self.late.store(true, Relaxed);
        let late = io::Error::new(io::ErrorKind::TimedOut, "the body did not arrive in time");
        Poll::Ready(Some(Err(axum::Error::new(late))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.progress.body_pending(false);
    }
}

/// The body of a response; when it is dropped, the request is over.
struct AnswerBody {
    body: Body,
    exchange: Exchange,
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        // While this waits, the server is at work, and the client is not slow.
        self.exchange.gave(false);
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.exchange.gave(frame.is_some());
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A socket that fails when its client reads no byte for [`super::serve::Timeouts::stall`]. It
/// holds the connection's slot, also after an upgrade to a websocket.
struct Socket {
    stream: Stream,
    progress: Arc<Progress>,
    http: Arc<Http>,
    /// Resolves when the client has read nothing for too long, or when its slot is needed.
    blocked: Option<BoxFuture<'static, CloseReason>>,
    _slot: Slot,
}

impl Socket {
    fn written<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            // The timer measures one stretch without progress; every accepted byte ends it.
            if self.blocked.take().is_some() {
                self.progress.wrote();
            }
            return result;
        }
        let stall = self.http.timeouts.stall;
        let blocked = self.blocked.get_or_insert_with(|| {
            self.progress.blocked();
            let progress = self.progress.clone();
            Box::pin(async move {
                tokio::select! {
                    () = sleep(stall) => CloseReason::Stalled,
                    // Also here, because a blocked write keeps the connection's task from looking
                    // elsewhere.
                    () = progress.displaced() => CloseReason::Displaced,
                }
            })
        });
        let why = ready!(blocked.as_mut().poll(cx));
        self.http.slots.count(why);
        self.stream.drop_unread();
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes no byte of its answer")))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let received = &buf.filled()[before..];
        if !received.is_empty() {
            self.progress.received(received);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.written(cx, written)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.written(cx, written)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
