//! Requests that the HTTP library cannot send: through SOCKS proxies, and over TLS with another
//! name in the greeting than the host of the URL (`server_name`). They have a client of hyper's,
//! with connections of [`super::socks`] or of its own. Its answers have the library's type.

use super::proxy::ProxyRules;
use super::socks::{self, Target};
use super::transport::random_address;
use super::{SendError, USER_AGENT, error_chain};
use crate::limits;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper_rustls::{DefaultServerNameResolver, FixedServerNameResolver, HttpsConnector, ResolveServerName};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HeaderMap, HeaderValue, LOCATION,
    PROXY_AUTHORIZATION, USER_AGENT as AGENT,
};
use reqwest::{Method, ResponseBuilderExt, StatusCode};
use rustls::pki_types::ServerName;
use std::future::Future;
use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tower::Service;
use url::Url;

/// How servers are reached.
#[derive(Clone, Debug)]
pub(super) struct Route {
    /// Which requests go through a proxy; `None`: none.
    pub(super) rules: Option<Arc<ProxyRules>>,
    /// Whether each connection goes to one of the addresses of a host at random.
    pub(super) at_random: bool,
    /// The name in the greeting of TLS; `None`: the host of the URL.
    pub(super) server_name: Option<ServerName<'static>>,
}

/// Sends requests over a route. Cheap to clone, connections are shared.
#[derive(Clone, Debug)]
pub(super) struct HyperClient {
    route: Arc<Route>,
    client: Client<HttpsConnector<HyperConnector>, reqwest::Body>,
    follow_redirects: bool,
}

/// Connects to the hosts of URLs.
#[derive(Clone, Debug)]
struct HyperConnector {
    route: Arc<Route>,
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum HyperSendError {
    /// There is no connection, or it broke.
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

impl HyperClient {
    /// The client for a route.
    pub(super) fn new(route: Route, tls: rustls::ClientConfig, follow_redirects: bool) -> HyperClient {
        let route = Arc::new(route);
        let names: Arc<dyn ResolveServerName + Send + Sync> = match &route.server_name {
            Some(name) => Arc::new(FixedServerNameResolver::new(name.clone())),
            None => Arc::new(DefaultServerNameResolver::default()),
        };
        let connector =
            HttpsConnector::new(HyperConnector { route: route.clone() }, Arc::new(tls), false, names);
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .pool_timer(hyper_util::rt::TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(limits::IDLE_CONNECTION_SECONDS))
            .pool_max_idle_per_host(limits::IDLE_CONNECTIONS);
        HyperClient { route, client: builder.build(connector), follow_redirects }
    }

    /// Whether a request to `url` is to be sent by this client.
    pub(super) fn takes(&self, url: &Url) -> bool {
        let rules = self.route.rules.as_ref();
        let is_named = self.route.server_name.is_some() && url.scheme() == "https";
        // What goes through a proxy of HTTP is sent by the library, which knows how to ask for
        // tunnels.
        rules.is_some_and(|rules| rules.socks_proxy(url).is_some())
            || is_named && !rules.is_some_and(|rules| rules.have_http(url))
    }

    /// Sends a request, and those that its answer leads to.
    pub(super) async fn send(&self, request: reqwest::Request) -> Result<reqwest::Response, SendError> {
        let deadline = request.timeout().map(|timeout| Instant::now() + *timeout);
        let sent = self.follow(request, deadline);
        let answer = match deadline {
            Some(deadline) => {
                tokio::time::timeout_at(deadline, sent).await.map_err(|_| HyperSendError::Timeout)?
            }
            None => sent.await,
        };
        Ok(answer?)
    }

    async fn follow(
        &self,
        mut request: reqwest::Request,
        deadline: Option<Instant>,
    ) -> Result<reqwest::Response, HyperSendError> {
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
        Err(HyperSendError::Redirects(limits::REDIRECTS))
    }

    async fn once(
        &self,
        request: reqwest::Request,
        deadline: Option<Instant>,
    ) -> Result<Answer, HyperSendError> {
        let request = hyper::Request::try_from(request).map_err(|e| HyperSendError::Url(error_chain(&e)))?;
        let answer = self.client.request(request).await;
        let answer = answer.map_err(|e| HyperSendError::Connection(cause(&e)))?;
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
        if let Some(known) = inner.downcast_ref::<HyperSendError>() {
            return known.to_string();
        }
        // As a scrape says it that the library has sent.
        if inner.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == ErrorKind::UnexpectedEof) {
            return "EOF".to_owned();
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

impl Service<hyper::Uri> for HyperConnector {
    type Response = TokioIo<TcpStream>;
    type Error = HyperSendError;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<TcpStream>, HyperSendError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), HyperSendError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, target: hyper::Uri) -> Self::Future {
        let route = self.route.clone();
        Box::pin(async move {
            let url = Url::parse(&target.to_string()).map_err(|e| HyperSendError::Url(e.to_string()))?;
            let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
            let target = Target { host, port: url.port_or_known_default().unwrap_or(80) };
            let patience = Duration::from_secs(limits::CONNECT_SECONDS);
            let connected = tokio::time::timeout(patience, route.connect(&url, target)).await;
            Ok(TokioIo::new(connected.map_err(|_| HyperSendError::Timeout)??))
        })
    }
}

impl Route {
    async fn connect(&self, url: &Url, target: Target) -> Result<TcpStream, HyperSendError> {
        let lost = |error: &dyn std::error::Error| HyperSendError::Connection(error.to_string());
        if let Some(proxy) = self.rules.as_ref().and_then(|rules| rules.socks_proxy(url)) {
            return socks::connect(&proxy, target).await.map_err(|error| lost(&error));
        }
        let connected = self.connect_directly(&target).await;
        let stream = connected.map_err(|error| match error.kind() {
            // The text of Go.
            ErrorKind::ConnectionRefused => {
                HyperSendError::Connection(format!("dial tcp {target}: connect: connection refused"))
            }
            _ => lost(&error),
        })?;
        stream.set_nodelay(true).map_err(|error| lost(&error))?;
        Ok(stream)
    }

    async fn connect_directly(&self, target: &Target) -> std::io::Result<TcpStream> {
        let place = (target.host.as_str(), target.port);
        if self.at_random
            && let Some(address) = random_address(tokio::net::lookup_host(place).await?.collect())
        {
            return TcpStream::connect(address).await;
        }
        TcpStream::connect(place).await
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
            Some(Poll::Ready(())) => Poll::Ready(Some(Err(Box::new(HyperSendError::Timeout)))),
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
