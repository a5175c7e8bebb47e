//! Builds all HTTP clients: turns Prometheus' `<http_config>` into a `reqwest` client.
//!
//! Passwords and tokens are read for each request, so that a rotated file is used at once.
//! Redirects are followed up to a limit; `reqwest` removes `Authorization` if a redirect leads to
//! another host.

use crate::config::block::ConfigKeys;
use crate::config::path::ConfigPath;
use crate::config::schema::Refused;
use crate::config::secret::{Secret, read_credential};
use crate::config::unsupported::OAuth2;
use crate::config::url::ConfigUrl;
use crate::limits;
use crate::{config_block, config_keys};
use futures::future::BoxFuture;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

config_keys! {
    /// `<http_config>`, inlined into scrape, Alertmanager and discovery blocks.
    pub struct HttpConfig {
        /// User and password.
        basic_auth: Option<BasicAuth> = None,
        /// A token in the `Authorization` header.
        authorization: Option<Authorization> = None,
        /// A token that another server hands out.
        oauth2: Refused<OAuth2> = Refused::default(),
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
        /// Headers of requests to the proxy.
        proxy_connect_header: Refused<BTreeMap<String, Vec<Secret>>> = Refused::default(),
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
    /// `tls_config`.
    pub struct TlsConfig as "config.TLSConfig" {
        /// Certificate authority, PEM text.
        ca: Option<String> = None,
        /// Client certificate, PEM text.
        cert: Option<String> = None,
        /// Client key, PEM text.
        key: Option<Secret> = None,
        /// Certificate authority, PEM file.
        ca_file: Option<ConfigPath> = None,
        /// Client certificate, PEM file.
        cert_file: Option<ConfigPath> = None,
        /// Client key, PEM file.
        key_file: Option<ConfigPath> = None,
        /// Name to verify instead of the host's.
        server_name: Refused<String> = Refused::default(),
        /// Whether to skip the verification of the server's certificate.
        insecure_skip_verify: bool = false,
        /// Minimum TLS version: `TLS12` or `TLS13`.
        min_version: Option<String> = None,
        /// Maximum TLS version: `TLS12` or `TLS13`.
        max_version: Option<String> = None,
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

impl HttpConfig {
    /// Checks what can be checked without reading files. The error is the text of the first
    /// problem.
    pub fn validate(&self) -> Result<(), String> {
        let schemes = [self.basic_auth.is_some(), self.authorization.is_some(), self.has_bearer()];
        if schemes.iter().filter(|s| **s).count() > 1 {
            return Err(
                "at most one of basic_auth, oauth2, bearer_token & authorization must be configured".into()
            );
        }
        if let Some(key) = ConfigKeys::refused(self) {
            return Err(format!("{key} is not supported by this build"));
        }
        if self.bearer_token.is_some() && self.bearer_token_file.is_some() {
            return Err("at most one of bearer_token & bearer_token_file must be configured".into());
        }
        if self.basic_auth.as_ref().is_some_and(|b| b.password.is_some() && b.password_file.is_some()) {
            return Err("at most one of basic_auth password & password_file must be configured".into());
        }
        if let Some(auth) = &self.authorization {
            if auth.credentials.is_some() && auth.credentials_file.is_some() {
                return Err(
                    "at most one of authorization credentials & credentials_file must be configured".into()
                );
            }
            if auth.kind.eq_ignore_ascii_case("basic") {
                return Err(
                    "authorization type cannot be set to \"basic\", use \"basic_auth\" instead".into()
                );
            }
        }
        Ok(())
    }

    fn has_bearer(&self) -> bool {
        self.bearer_token.is_some() || self.bearer_token_file.is_some()
    }

    /// Makes a client for this configuration. Reads certificates now. The error is the text of the
    /// first problem.
    pub fn client(&self) -> Result<HttpClient, String> {
        self.client_of(self.builder()?)
    }

    /// The same for a server that listens at a socket of this machine; its URLs have any host.
    pub fn socket_client(&self, socket: &std::path::Path) -> Result<HttpClient, String> {
        self.client_of(self.builder()?.unix_socket(socket))
    }

    fn client_of(&self, builder: reqwest::ClientBuilder) -> Result<HttpClient, String> {
        let client = builder.build().map_err(|e| error_chain(&e))?;
        Ok(HttpClient { client, config: self.clone(), peers: Peers::default() })
    }

    fn builder(&self) -> Result<reqwest::ClientBuilder, String> {
        // The provider is installed once per process; a second installation fails without harm.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let redirects = if self.follow_redirects {
            reqwest::redirect::Policy::limited(limits::REDIRECTS)
        } else {
            reqwest::redirect::Policy::none()
        };
        let mut builder = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .redirect(redirects)
            .referer(false)
            .connect_timeout(Duration::from_secs(limits::CONNECT_SECONDS))
            .pool_idle_timeout(Duration::from_secs(limits::IDLE_CONNECTION_SECONDS))
            .pool_max_idle_per_host(limits::IDLE_CONNECTIONS)
            .tcp_nodelay(true);
        if !self.enable_http2 {
            builder = builder.http1_only();
        }
        builder = self.proxies(builder)?;
        self.tls_config.apply(builder)
    }

    fn proxies(&self, builder: reqwest::ClientBuilder) -> Result<reqwest::ClientBuilder, String> {
        let Some(url) = self.proxy_url.as_ref().map(ConfigUrl::expose).filter(|u| !u.is_empty()) else {
            return Ok(if self.proxy_from_environment { builder } else { builder.no_proxy() });
        };
        let proxy = reqwest::Proxy::all(url).map_err(|_| "proxy_url is not a URL")?;
        let except = self.no_proxy.as_deref().and_then(reqwest::NoProxy::from_string);
        Ok(builder.proxy(proxy.no_proxy(except)))
    }

    fn authorization(&self) -> Result<Option<HeaderValue>, String> {
        if let Some(basic) = &self.basic_auth {
            let user = file_or(&basic.username_file, || Ok(basic.username.clone()))?;
            let password = file_or(&basic.password_file, || Ok(expose_or_empty(&basic.password)))?;
            return secret_header(&format!("Basic {}", base64(format!("{user}:{password}").as_bytes())))
                .map(Some);
        }
        if let Some(auth) = &self.authorization {
            let token = file_or(&auth.credentials_file, || Ok(expose_or_empty(&auth.credentials)))?;
            return secret_header(&format!("{} {token}", auth.kind)).map(Some);
        }
        if self.has_bearer() {
            let token = file_or(&self.bearer_token_file, || Ok(expose_or_empty(&self.bearer_token)))?;
            return secret_header(&format!("Bearer {token}")).map(Some);
        }
        Ok(None)
    }

    fn headers(&self) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        for (name, given) in &self.http_headers {
            let name =
                HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("bad header name {name:?}"))?;
            for value in &given.values {
                let value =
                    HeaderValue::from_str(value).map_err(|_| format!("bad value of header {name}"))?;
                headers.append(name.clone(), value);
            }
            for secret in &given.secrets {
                headers.append(name.clone(), secret_header(secret.expose())?);
            }
            for file in &given.files {
                headers.append(name.clone(), secret_header(&read_credential(file)?)?);
            }
        }
        Ok(headers)
    }
}

impl TlsConfig {
    fn apply(&self, mut builder: reqwest::ClientBuilder) -> Result<reqwest::ClientBuilder, String> {
        if let Some(pem) = pem(&self.ca, &self.ca_file)? {
            let certs = reqwest::Certificate::from_pem_bundle(pem.as_bytes())
                .map_err(|e| format!("tls_config ca: {}", error_chain(&e)))?;
            builder = builder.tls_certs_only(certs);
        }
        let key = self.key.as_ref().map(|k| k.expose().to_owned());
        match (pem(&self.cert, &self.cert_file)?, pem(&key, &self.key_file)?) {
            (Some(cert), Some(key)) => {
                let identity = reqwest::Identity::from_pem(format!("{cert}\n{key}").as_bytes())
                    .map_err(|e| format!("tls_config cert and key: {}", error_chain(&e)))?;
                builder = builder.identity(identity);
            }
            (None, None) => {}
            _ => return Err("tls_config: cert and key must be configured together".into()),
        }
        if let Some(version) = tls_version("min_version", &self.min_version)? {
            builder = builder.tls_version_min(version);
        }
        if let Some(version) = tls_version("max_version", &self.max_version)? {
            builder = builder.tls_version_max(version);
        }
        Ok(builder.tls_danger_accept_invalid_certs(self.insecure_skip_verify))
    }
}

fn tls_version(key: &str, given: &Option<String>) -> Result<Option<reqwest::tls::Version>, String> {
    match given.as_deref() {
        None | Some("") => Ok(None),
        Some("TLS12") => Ok(Some(reqwest::tls::Version::TLS_1_2)),
        Some("TLS13") => Ok(Some(reqwest::tls::Version::TLS_1_3)),
        Some(other) => Err(format!("tls_config {key}: unsupported TLS version {other:?}")),
    }
}

/// A client with its credentials; cheap to clone, connections are shared.
#[derive(Clone, Debug)]
pub struct HttpClient {
    client: reqwest::Client,
    config: HttpConfig,
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
        HttpClient { peers: peers.clone(), ..self }
    }

    /// Sends a request made by [`HttpClient::request`].
    pub async fn send(&self, request: reqwest::RequestBuilder) -> reqwest::Result<reqwest::Response> {
        match &self.peers {
            Peers::Network => request.send().await,
            Peers::Given(peer) => peer.answer(request.build()?).await,
        }
    }

    /// A request with credentials and the configured headers.
    pub fn request(&self, method: reqwest::Method, url: url::Url) -> Result<reqwest::RequestBuilder, String> {
        let mut request = self.client.request(method, url);
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
    text
}

fn expose_or_empty(secret: &Option<Secret>) -> String {
    secret.as_ref().map_or_else(String::new, |s| s.expose().to_owned())
}

fn secret_header(text: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(text).map_err(|_| "credentials hold characters no header may")?;
    value.set_sensitive(true);
    Ok(value)
}

fn file_or(
    file: &Option<ConfigPath>,
    other: impl FnOnce() -> Result<String, String>,
) -> Result<String, String> {
    file.as_deref().map_or_else(other, read_credential)
}

fn pem(text: &Option<String>, file: &Option<ConfigPath>) -> Result<Option<String>, String> {
    match (text, file) {
        (Some(text), _) if !text.is_empty() => Ok(Some(text.clone())),
        (_, Some(file)) if !file.is_empty() => read_credential(file).map(Some),
        _ => Ok(None),
    }
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
        assert!(config.validate().unwrap_err().starts_with("at most one of"));
    }
}
