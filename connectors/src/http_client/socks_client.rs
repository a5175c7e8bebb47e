//! Requests through SOCKS proxies: the HTTP library cannot send them, so they have a client of
//! hyper's, with connections of [`super::socks`]. Its answers have the library's type.

use super::proxy::ProxyRules;
use super::socks::{self, Target};
use super::{SendError, USER_AGENT, error_chain};
use crate::limits;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HeaderMap, HeaderValue, LOCATION,
    PROXY_AUTHORIZATION, USER_AGENT as AGENT,
};
use reqwest::{Method, ResponseBuilderExt, StatusCode};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tower::Service;
use url::Url;

/// Sends requests through the SOCKS proxies of some rules. Cheap to clone, connections are shared.
#[derive(Clone, Debug)]
pub(super) struct SocksClient {
    rules: Arc<ProxyRules>,
    client: Client<HttpsConnector<SocksConnector>, reqwest::Body>,
    follow_redirects: bool,
}

/// Connects to the hosts of URLs through the proxy that the rules name.
#[derive(Clone, Debug)]
struct SocksConnector {
    rules: Arc<ProxyRules>,
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum SocksSendError {
    /// There is no connection through the proxy, or it broke.
    #[error("{0}")]
    Connection(String),
    /// The time of the request is over.
    #[error("context deadline exceeded")]
    Timeout,
    /// The server leads to another place again and again.
    #[error("stopped after {0} redirects")]
    Redirects(usize),
    /// The URL cannot be asked.
    #[error("{0}")]
    Url(String),
}

impl SocksClient {
    /// The client for these rules.
    pub(super) fn new(
        rules: Arc<ProxyRules>,
        tls: rustls::ClientConfig,
        follow_redirects: bool,
    ) -> SocksClient {
        let connector = HttpsConnector::from((SocksConnector { rules: rules.clone() }, Arc::new(tls)));
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .pool_timer(hyper_util::rt::TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(limits::IDLE_CONNECTION_SECONDS))
            .pool_max_idle_per_host(limits::IDLE_CONNECTIONS);
        SocksClient { rules, client: builder.build(connector), follow_redirects }
    }

    /// Whether a request to `url` is to be sent by this client.
    pub(super) fn takes(&self, url: &Url) -> bool {
        self.rules.socks_proxy(url).is_some()
    }

    /// Sends a request, and those that its answer leads to.
    pub(super) async fn send(&self, request: reqwest::Request) -> Result<reqwest::Response, SendError> {
        let deadline = request.timeout().map(|timeout| Instant::now() + *timeout);
        let sent = self.follow(request, deadline);
        let answer = match deadline {
            Some(deadline) => {
                tokio::time::timeout_at(deadline, sent).await.map_err(|_| SocksSendError::Timeout)?
            }
            None => sent.await,
        };
        Ok(answer?)
    }

    async fn follow(
        &self,
        mut request: reqwest::Request,
        deadline: Option<Instant>,
    ) -> Result<reqwest::Response, SocksSendError> {
        for (name, value) in [(AGENT, USER_AGENT), (ACCEPT, "*/*")] {
            request.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
        }
        for _ in 0..=limits::REDIRECTS {
            let again = request.try_clone();
            let url = request.url().clone();
            let answer = self.once(request, deadline).await?;
            let next = again.filter(|_| self.follow_redirects).and_then(|again| redirected(again, &answer));
            match next {
                Some(next) => request = next,
                None => return Ok(with_url(answer, url)),
            }
        }
        Err(SocksSendError::Redirects(limits::REDIRECTS))
    }

    async fn once(
        &self,
        request: reqwest::Request,
        deadline: Option<Instant>,
    ) -> Result<Answer, SocksSendError> {
        let request = hyper::Request::try_from(request).map_err(|e| SocksSendError::Url(error_chain(&e)))?;
        let answer = self.client.request(request).await;
        let answer = answer.map_err(|e| SocksSendError::Connection(cause(&e)))?;
        let within =
            |body| TimedBody { body, timer: deadline.map(|at| Box::pin(tokio::time::sleep_until(at))) };
        Ok(answer.map(within))
    }
}

/// An answer whose body ends at the deadline of its request.
type Answer = hyper::Response<TimedBody>;

/// What is at the bottom of an error: the library says "client error (Connect)" above it.
fn cause(error: &dyn std::error::Error) -> String {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(socks) = inner.downcast_ref::<SocksSendError>() {
            return socks.to_string();
        }
        source = inner.source();
    }
    error.source().map_or_else(|| error.to_string(), error_chain)
}

/// The answer in the library's type.
fn with_url(answer: Answer, url: Url) -> reqwest::Response {
    let (parts, body) = answer.into_parts();
    let mut built = hyper::Response::builder().url(url);
    built = built.status(parts.status).version(parts.version);
    let mut whole = built.body(reqwest::Body::wrap(body)).unwrap_or_default();
    *whole.headers_mut() = parts.headers;
    whole.into()
}

/// The request that an answer leads to; `None`: it leads nowhere.
fn redirected(mut request: reqwest::Request, answer: &Answer) -> Option<reqwest::Request> {
    let keeps_method = match answer.status() {
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER => false,
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => true,
        _ => return None,
    };
    let place = answer.headers().get(LOCATION)?.to_str().ok()?;
    let next = request.url().join(place).ok()?;
    if !keeps_method && !matches!(*request.method(), Method::GET | Method::HEAD) {
        *request.method_mut() = Method::GET;
        *request.body_mut() = None;
        request.headers_mut().remove(CONTENT_LENGTH);
        request.headers_mut().remove(CONTENT_TYPE);
    }
    if !is_same_server(request.url(), &next) {
        remove_credentials(request.headers_mut());
    }
    *request.url_mut() = next;
    Some(request)
}

fn is_same_server(one: &Url, other: &Url) -> bool {
    one.host_str() == other.host_str() && one.port_or_known_default() == other.port_or_known_default()
}

fn remove_credentials(headers: &mut HeaderMap) {
    for name in [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION] {
        headers.remove(name);
    }
}

impl Service<hyper::Uri> for SocksConnector {
    type Response = TokioIo<TcpStream>;
    type Error = SocksSendError;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<TcpStream>, SocksSendError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), SocksSendError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, target: hyper::Uri) -> Self::Future {
        let rules = self.rules.clone();
        Box::pin(async move {
            let url = Url::parse(&target.to_string()).map_err(|e| SocksSendError::Url(e.to_string()))?;
            let missing =
                || SocksSendError::Url(format!("no proxy for {}", url.host_str().unwrap_or_default()));
            let proxy = rules.socks_proxy(&url).ok_or_else(missing)?;
            let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
            let target = Target { host, port: url.port_or_known_default().unwrap_or(80) };
            let connecting = socks::connect(&proxy, target);
            let patience = Duration::from_secs(limits::CONNECT_SECONDS);
            let connected = tokio::time::timeout(patience, connecting).await;
            let stream = connected.map_err(|_| SocksSendError::Timeout)?;
            Ok(TokioIo::new(stream.map_err(|e| SocksSendError::Connection(e.to_string()))?))
        })
    }
}

/// A body that must have come by a deadline, if there is one.
struct TimedBody {
    body: hyper::body::Incoming,
    timer: Option<Pin<Box<Sleep>>>,
}

impl HttpBody for TimedBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        match self.timer.as_mut().map(|timer| timer.as_mut().poll(cx)) {
            Some(Poll::Ready(())) => Poll::Ready(Some(Err(Box::new(SocksSendError::Timeout)))),
            _ => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
