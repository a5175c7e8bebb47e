//! [`HttpClient`]: the HTTP client for all outgoing requests, built from Prometheus'
//! `<http_config>` (TLS, credentials, proxies, redirects).
//!
//! Passwords and tokens are read for each request, so that a rotated file is used at once.
//! Certificates are read again when their files change ([`transport`]). A missing file fails the
//! requests that need it, and not the configuration. Redirects are followed up to a limit;
//! `Authorization` is removed if one leads to another host.

mod error;
mod hyper_client;
mod oauth2;
mod proxy;
mod socks;
mod tls_config;
mod transport;

pub use error::{RequestError, SendError, TokenError};
pub use hyper_client::HyperSendError;
pub use oauth2::OAuth2;
pub use tls_config::TlsConfig;

use crate::cloud_auth::{CloudAuth, RequestSigner};
use crate::config::error::BlockError;
use crate::config::path::ConfigPath;
use crate::config::secret::{CredentialError, Secret, read_credential};
use crate::config::url::ConfigUrl;
use crate::{config_block, config_keys, limits};
use futures::future::BoxFuture;
use oauth2::TokenSource;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use std::collections::BTreeMap;
use std::sync::Arc;
use tls_config::is_given;
use transport::Transport;

config_keys! {
    /// `<http_config>`, inlined into scrape, Alertmanager and discovery blocks.
    pub struct HttpConfig {
        /// User and password.
        basic_auth: Option<BasicAuth> = None,
        /// A token in the `Authorization` header.
        authorization: Option<Authorization> = None,
        /// A token that another server hands out.
        oauth2: Option<OAuth2> = None,
        /// The old form of `authorization.credentials`.
        bearer_token: Option<Secret> = None,
        /// The old form of `authorization.credentials_file`.
        bearer_token_file: Option<ConfigPath> = None,
        /// Certificates.
        tls_config: TlsConfig = TlsConfig::default(),
        /// Whether to follow redirects.
        follow_redirects: bool = true => printed,
        /// Whether HTTP/2 may be negotiated.
        enable_http2: bool = true => printed,
        /// Proxy for all requests; its URL may contain a password.
        proxy_url: Option<ConfigUrl> = None,
        /// Hosts that the proxy is not for, separated by commas.
        no_proxy: Option<String> = None,
        /// Whether to use `HTTP_PROXY` and related variables.
        proxy_from_environment: bool = false,
        /// Headers of the requests that open tunnels through the proxy.
        proxy_connect_header: BTreeMap<String, Vec<Secret>> = BTreeMap::new(),
        /// Additional request headers.
        http_headers: BTreeMap<String, HeaderValues> = BTreeMap::new(),
    }
}

config_block! {
    /// `basic_auth`.
    pub struct BasicAuth as "config.BasicAuth" {
        /// The user name.
        username: String = String::new(),
        /// A file with the user name.
        username_file: Option<ConfigPath> = None,
        /// The password.
        password: Option<Secret> = None,
        /// A file with the password.
        password_file: Option<ConfigPath> = None,
    }
}

config_block! {
    /// `authorization`.
    pub struct Authorization as "config.Authorization" {
        /// The scheme; default `Bearer`.
        kind as "type": String = "Bearer".to_owned(),
        /// The token.
        credentials: Option<Secret> = None,
        /// A file with the token.
        credentials_file: Option<ConfigPath> = None,
    }
}

config_block! {
    /// Values of one additional header.
    pub struct HeaderValues as "config.Header" {
        /// Plain values.
        values: Vec<String> = Vec::new(),
        /// Secret values.
        secrets: Vec<Secret> = Vec::new(),
        /// Files with values.
        files: Vec<ConfigPath> = Vec::new(),
    }
}

/// Headers that no configuration may set, in lower case: the client sets them, or a signature does.
const RESERVED_HEADERS: &[&str] = &[
    "host",
    "content-encoding",
    "content-length",
    "content-type",
    "user-agent",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "www-authenticate",
    "accept-encoding",
    "x-prometheus-remote-write-version",
    "x-prometheus-remote-read-version",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
];

/// Further headers that `http_headers` must not set. Credentials have keys of their own.
const RESERVED_HTTP_HEADERS: &[&str] = &["authorization", "x-prometheus-scrape-timeout-seconds"];

/// Checks the names in the key `headers` of remote write, remote read and tracing.
///
/// # Errors
///
/// The first name that must not be there, in the words of Prometheus. `authorization` is what is
/// said of the header of that name.
pub fn check_header_names<'a>(
    names: impl Iterator<Item = &'a String>,
    authorization: &str,
) -> Result<(), BlockError> {
    for name in names {
        let lower = name.to_ascii_lowercase();
        if lower == "authorization" {
            return Err(authorization.into());
        }
        if RESERVED_HEADERS.contains(&lower.as_str()) {
            return Err(BlockError::new(format!("{name} is a reserved header. It must not be changed")));
        }
    }
    Ok(())
}

/// A client that speaks HTTP/2 only, also without TLS. It reads the files of certificates once.
///
/// # Errors
///
/// The first problem.
pub fn http2_client(tls: &TlsConfig) -> Result<reqwest::Client, RequestError> {
    let builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(std::time::Duration::from_secs(limits::CONNECT_SECONDS))
        .tls_backend_preconfigured(tls.rustls(true)?)
        .http2_prior_knowledge();
    builder.build().map_err(|e| RequestError::Library(error_chain(&e)))
}

impl HttpConfig {
    /// Checks what can be checked without reading files. The error is the first problem.
    pub fn validate(&self) -> Result<(), BlockError> {
        self.validate_credentials()?;
        if let Some(oauth2) = &self.oauth2 {
            oauth2.validate()?;
        }
        self.validate_proxies()?;
        for name in self.http_headers.keys() {
            let lower = name.to_ascii_lowercase();
            let mut reserved = RESERVED_HEADERS.iter().chain(RESERVED_HTTP_HEADERS);
            if reserved.any(|reserved| *reserved == lower) {
                return Err(format!("setting header {name:?} is not allowed").into());
            }
        }
        self.tls_config.validate()
    }

    fn validate_credentials(&self) -> Result<(), BlockError> {
        let fault = |text: &str| Err(BlockError::new(text));
        if self.bearer_token.is_some() && self.bearer_token_file.is_some() {
            return fault("at most one of bearer_token & bearer_token_file must be configured");
        }
        let oauth2 = self.oauth2.is_some();
        if (self.basic_auth.is_some() || oauth2) && self.has_bearer() {
            return fault(
                "at most one of basic_auth, oauth2, bearer_token & bearer_token_file must be configured",
            );
        }
        if let Some(basic) = &self.basic_auth {
            if !basic.username.is_empty() && basic.username_file.is_some() {
                return fault(
                    "at most one of basic_auth username, username_file & username_ref must be configured",
                );
            }
            if basic.password.is_some() && basic.password_file.is_some() {
                return fault(
                    "at most one of basic_auth password, password_file & password_ref must be configured",
                );
            }
        }
        let Some(auth) = &self.authorization else {
            if self.basic_auth.is_some() && oauth2 {
                return fault("at most one of basic_auth, oauth2 & authorization must be configured");
            }
            return Ok(());
        };
        if self.has_bearer() {
            return fault("authorization is not compatible with bearer_token & bearer_token_file");
        }
        if auth.credentials.is_some() && auth.credentials_file.is_some() {
            return fault("at most one of authorization credentials & credentials_file must be configured");
        }
        if auth.kind.trim().eq_ignore_ascii_case("basic") {
            return fault("authorization type cannot be set to \"basic\", use \"basic_auth\" instead");
        }
        if self.basic_auth.is_some() || oauth2 {
            return fault("at most one of basic_auth, oauth2 & authorization must be configured");
        }
        Ok(())
    }

    fn validate_proxies(&self) -> Result<(), BlockError> {
        let url = is_given(self.proxy_url.as_ref().map(ConfigUrl::expose));
        let no_proxy = is_given(self.no_proxy.as_deref());
        let fault = if !self.proxy_connect_header.is_empty() && !url && !self.proxy_from_environment {
            "if proxy_connect_header is configured, proxy_url or proxy_from_environment must also be configured"
        } else if self.proxy_from_environment && url {
            "if proxy_from_environment is configured, proxy_url must not be configured"
        } else if self.proxy_from_environment && no_proxy {
            "if proxy_from_environment is configured, no_proxy must not be configured"
        } else if no_proxy && !url {
            "if no_proxy is configured, proxy_url must also be configured"
        } else {
            return Ok(());
        };
        Err(fault.into())
    }

    /// What of these options has another effect than in Prometheus, a line each.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::from_iter(self.tls_config.note());
        if !proxy::is_supported(self) {
            notes.push(proxy::UNSUPPORTED.to_owned());
        }
        notes
    }

    /// Why requests would fail now: a file of the certificates cannot be read or used. `None`: they
    /// would not. Reads the files.
    pub fn unusable(&self) -> Option<RequestError> {
        Transport::new(None).client(self).err()
    }

    fn has_bearer(&self) -> bool {
        self.bearer_token.is_some() || self.bearer_token_file.is_some()
    }

    /// Makes a client for this configuration. What its files say is found out by its requests.
    ///
    /// # Errors
    ///
    /// The first problem that no change of a file can mend.
    pub fn client(&self) -> Result<HttpClient, BlockError> {
        self.client_with(Transport::new(None))
    }

    /// The same for a server that listens at a socket of this machine; its URLs have any host.
    pub fn socket_client(&self, socket: &std::path::Path) -> Result<HttpClient, BlockError> {
        self.client_with(Transport::new(Some(socket)))
    }

    fn client_with(&self, transport: Transport) -> Result<HttpClient, BlockError> {
        self.tls_config.check_inline()?;
        proxy::check(self)?;
        for name in self.http_headers.keys() {
            header_name(name)?;
        }
        let tokens = self.oauth2.as_ref().map(TokenSource::new).transpose()?;
        Ok(HttpClient { transport, config: self.clone(), tokens, signer: None, peers: Peers::default() })
    }

    fn authorization(&self) -> Result<Option<HeaderValue>, RequestError> {
        if let Some(basic) = &self.basic_auth {
            let user = read_or("basic auth username", &basic.username_file, &basic.username)?;
            let password = read_or("basic auth password", &basic.password_file, expose(&basic.password))?;
            let coded = base64(format!("{user}:{password}").as_bytes());
            return Ok(Some(secret_header(&format!("Basic {coded}"))?));
        }
        if let Some(auth) = &self.authorization {
            let token =
                read_or("authorization credentials", &auth.credentials_file, expose(&auth.credentials))?;
            return Ok(Some(secret_header(&format!("{} {token}", auth.kind.trim()))?));
        }
        if self.has_bearer() {
            let token =
                read_or("authorization credentials", &self.bearer_token_file, expose(&self.bearer_token))?;
            return Ok(Some(secret_header(&format!("Bearer {token}"))?));
        }
        Ok(None)
    }

    fn headers(&self) -> Result<HeaderMap, RequestError> {
        let mut headers = HeaderMap::new();
        for (name, given) in &self.http_headers {
            let name = header_name(name)?;
            for value in &given.values {
                let value = HeaderValue::from_str(value)
                    .map_err(|_| BlockError::new(format!("bad value of header {name}")))?;
                headers.append(name.clone(), value);
            }
            for secret in &given.secrets {
                headers.append(name.clone(), secret_header(secret.expose())?);
            }
            for file in &given.files {
                let value = read_credential(file).map_err(|error| RequestError::Unreadable {
                    what: format!("headers file {file}"),
                    error,
                })?;
                headers.append(name.clone(), secret_header(&value)?);
            }
        }
        Ok(headers)
    }
}

/// A client with its credentials; cheap to clone, connections are shared.
#[derive(Clone, Debug)]
pub struct HttpClient {
    transport: Transport,
    config: HttpConfig,
    tokens: Option<TokenSource>,
    /// Credentials of a cloud, in the place of all others.
    signer: Option<Arc<RequestSigner>>,
    peers: Peers,
}

/// What answers the requests.
#[derive(Clone, Default)]
pub enum Peers {
    /// The server of the URL, over the network.
    #[default]
    Network,
    /// An object in this process, for every URL; nothing goes over the network.
    Given(Arc<dyn Peer>),
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Peers::Network => "Network",
            Peers::Given(_) => "Given",
        })
    }
}

/// An object in this process that answers requests; used by tests.
pub trait Peer: Send + Sync {
    /// Answers a request. The peer itself must respect the timeout of the request.
    fn answer(&self, request: reqwest::Request) -> BoxFuture<'static, reqwest::Result<reqwest::Response>>;
}

impl HttpClient {
    /// The same client with its requests answered by `peers`.
    #[must_use]
    pub fn with_peers(self, peers: &Peers) -> HttpClient {
        let tokens = self.tokens.map(|tokens| tokens.with_peers(peers));
        let signer = self.signer.map(|signer| Arc::new(signer.with_peers(peers)));
        HttpClient { peers: peers.clone(), tokens, signer, ..self }
    }

    /// The same client with all its connections to a socket of this machine; its URLs have any
    /// host.
    #[must_use]
    pub fn through_socket(&self, socket: &std::path::Path) -> HttpClient {
        HttpClient { transport: Transport::new(Some(socket)), ..self.clone() }
    }

    /// The same client with the credentials of a cloud, if there are some.
    #[must_use]
    pub fn with_cloud_auth(self, auth: Option<CloudAuth>) -> HttpClient {
        let signer = auth.map(|auth| Arc::new(RequestSigner::new(auth, self.peers.clone())));
        HttpClient { signer, ..self }
    }

    /// The same client with connections of its own, each to one of the addresses of the host at
    /// random.
    #[must_use]
    pub fn with_random_address(self) -> HttpClient {
        HttpClient { transport: Transport::to_random_address(), ..self }
    }

    /// Sends a request made by [`HttpClient::request`].
    ///
    /// # Errors
    ///
    /// If the server cannot be reached, or if there is no token or key for it (`oauth2`,
    /// credentials of a cloud).
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, SendError> {
        if let Some(signer) = &self.signer {
            let (client, request) = request.build_split();
            let mut request = request?;
            signer.prepare(&mut request).await?;
            return self.send_plain(reqwest::RequestBuilder::from_parts(client, request)).await;
        }
        let (Some(tokens), Some(oauth2)) = (&self.tokens, &self.config.oauth2) else {
            return self.send_plain(request).await;
        };
        let (client, request) = request.build_split();
        let mut request = request?;
        if !request.headers().contains_key(reqwest::header::AUTHORIZATION) {
            let header = tokens.header(oauth2).await?;
            request.headers_mut().insert(reqwest::header::AUTHORIZATION, header);
        }
        self.send_plain(reqwest::RequestBuilder::from_parts(client, request)).await
    }

    /// Sends a request as it is.
    async fn send_plain(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, SendError> {
        let (client, request) = request.build_split();
        let request = request?;
        match &self.peers {
            Peers::Network => match self.transport.hyper(request.url()) {
                Some(hyper) => hyper.send(request).await,
                None => Ok(client.execute(request).await?),
            },
            Peers::Given(peer) => Ok(peer.answer(request).await?),
        }
    }

    /// A request with credentials and the configured headers.
    ///
    /// # Errors
    ///
    /// If a file that the configuration names cannot be read or used now.
    pub fn request(
        &self,
        method: reqwest::Method,
        url: url::Url,
    ) -> Result<reqwest::RequestBuilder, RequestError> {
        let mut request = self.transport.client(&self.config)?.request(method, url);
        if !self.config.http_headers.is_empty() {
            request = request.headers(self.config.headers()?);
        }
        if let Some(value) = self.config.authorization()? {
            request = request.header(reqwest::header::AUTHORIZATION, value);
        }
        Ok(request)
    }
}

/// What we call ourselves: exporters look for `Prometheus/`.
const USER_AGENT: &str = concat!("Prometheus/3.14.0 (Perennial ", env!("CARGO_PKG_VERSION"), ")");

/// What a server says that speaks nothing that is spoken here, as rustls writes it.
const NOTHING_IN_COMMON: [&str; 2] =
    ["received fatal alert: HandshakeFailure", "received fatal alert: ProtocolVersion"];
/// What is said then: Prometheus would speak with it.
const NOTHING_IN_COMMON_HINT: &str =
    " (perhaps it speaks nothing but TLS below 1.2, or cipher suites with CBC: neither is spoken here)";

/// An error with all its causes, on one line.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    if NOTHING_IN_COMMON.iter().any(|alert| text.ends_with(alert)) {
        text.push_str(NOTHING_IN_COMMON_HINT);
    }
    text
}

/// A secret's text; empty if there is none.
fn expose(secret: &Option<Secret>) -> &str {
    secret.as_ref().map_or("", Secret::expose)
}

/// The value of a header that no log may show.
fn secret_header(text: &str) -> Result<HeaderValue, CredentialError> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| CredentialError::NoHeader("credentials hold characters no header may"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// What the file says, or `text` if none is configured. `what` names it in errors.
fn read_or(what: &str, file: &Option<ConfigPath>, text: &str) -> Result<String, RequestError> {
    match file.as_deref() {
        Some(path) => {
            read_credential(path).map_err(|error| RequestError::Unreadable { what: what.to_owned(), error })
        }
        None => Ok(text.to_owned()),
    }
}

fn header_name(name: &str) -> Result<HeaderName, BlockError> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("bad header name {name:?}").into())
}

/// Base64 of RFC 4648.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |w, b| w << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= chunk.len() { digit as char } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_rfc_4648() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn credentials_become_one_sensitive_header() {
        let mut config = HttpConfig {
            basic_auth: Some(BasicAuth {
                username: "admin".into(),
                password: Some(Secret::new("secret")),
                ..BasicAuth::default()
            }),
            ..HttpConfig::default()
        };
        let header = config.authorization().unwrap().unwrap();
        assert_eq!(header.to_str().unwrap(), "Basic YWRtaW46c2VjcmV0");
        assert!(!format!("{config:?} {header:?}").contains("secret\""));
        config.bearer_token = Some(Secret::new("x"));
        assert!(config.validate().unwrap_err().to_string().starts_with("at most one of"));
    }
}
