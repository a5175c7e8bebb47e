//! `oauth2`: a token that another server hands out, for a secret or for a signed statement (JWT).
//!
//! A token is fetched by the request that first needs it, kept until shortly before it ends, and
//! fetched anew when the file with the secret changes. All requests of a client share it.

use super::tls_config::is_given;
use super::{HttpClient, HttpConfig, Peers, RequestError, SendError, TlsConfig, TokenError};
use super::{base64, error_chain, secret_header};
use crate::config::document::{Node, NodeSeed};
use crate::config::error::BlockError;
use crate::config::path::ConfigPath;
use crate::config::schema::{ConfigValue, ValueKind};
use crate::config::secret::{Secret, read_credential};
use crate::config::url::ConfigUrl;
use crate::config_block;
use crate::jwt::{RsaHash, RsaKey};
use crate::limits::{TOKEN_ANSWER_BYTES, TOKEN_EARLY, TOKEN_FAILED_PAUSE, TOKEN_TIMEOUT};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use serde::de::{Deserialize, DeserializeSeed, Deserializer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Mutex;
use url::Url;

const JWT_GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

config_block! {
    /// `oauth2`.
    pub struct OAuth2 as "config.OAuth2" {
        /// The id of the client.
        client_id: String = String::new(),
        /// The secret.
        client_secret: Option<Secret> = None,
        /// A file with the secret.
        client_secret_file: Option<ConfigPath> = None,
        /// The name of the key of a JWT.
        client_certificate_key_id: String = String::new(),
        /// The RSA key of a JWT, PEM text.
        client_certificate_key: Option<Secret> = None,
        /// A file with that key, relative to the working directory.
        client_certificate_key_file: String = String::new(),
        /// `client_credentials`, or `urn:ietf:params:oauth:grant-type:jwt-bearer`.
        grant_type: String = String::new(),
        /// `RS256`, `RS384` or `RS512`.
        signature_algorithm: String = String::new(),
        /// The issuer of the JWT; by default `client_id`.
        iss: String = String::new(),
        /// Whom the JWT is for; by default `token_url`.
        audience: String = String::new(),
        /// Further claims of the JWT.
        claims: BTreeMap<String, Claim> = BTreeMap::new(),
        /// What the token is to allow.
        scopes: Vec<String> = Vec::new(),
        /// The URL that issues tokens.
        token_url: ConfigUrl = ConfigUrl::default(),
        /// Further parameters of the call.
        endpoint_params: BTreeMap<String, String> = BTreeMap::new(),
        /// Certificates of the call.
        tls_config: TlsConfig = TlsConfig::default(),
        /// Proxy of the call.
        proxy_url: Option<ConfigUrl> = None,
        /// Hosts that the proxy is not for, separated by commas.
        no_proxy: Option<String> = None,
        /// Whether to use `HTTP_PROXY` and related variables.
        proxy_from_environment: bool = false,
        /// Headers of the requests that open tunnels through the proxy.
        proxy_connect_header: BTreeMap<String, Vec<Secret>> = BTreeMap::new(),
    }
}

/// The value of a claim: anything that YAML can say.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim(Node);

impl<'de> Deserialize<'de> for Claim {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        NodeSeed(ValueKind::Any).deserialize(d).map(Claim)
    }
}

impl ConfigValue for Claim {
    const KIND: ValueKind = ValueKind::Any;

    fn node(&self) -> Node {
        self.0.clone()
    }
}

/// A value of YAML as JSON.
fn json(node: &Node) -> Value {
    match node {
        Node::Null | Node::Secret => Value::Null,
        Node::Literal(text) => serde_json::from_str(text).unwrap_or_else(|_| text.clone().into()),
        Node::Text(text) => text.clone().into(),
        Node::List(items) => items.iter().map(json).collect(),
        Node::Map(entries) => entries.iter().map(|(key, value)| (key.clone(), json(value))).collect(),
    }
}

impl OAuth2 {
    /// Checks what can be checked without reading files. The error is the first problem.
    pub(super) fn validate(&self) -> Result<(), BlockError> {
        if self.client_id.is_empty() {
            return Err("oauth2 client_id must be configured".into());
        }
        if self.token_url.expose().is_empty() {
            return Err("oauth2 token_url must be configured".into());
        }
        Url::parse(self.token_url.expose()).map_err(|e| format!("oauth2 token_url: {e}"))?;
        if self.is_jwt() {
            let inline = is_given(self.client_certificate_key.as_ref().map(Secret::expose));
            if inline && !self.client_certificate_key_file.is_empty() {
                return Err(format!(
                    "at most one of oauth2 client_certificate_key, client_certificate_key_file & client_certificate_key_ref must be configured using grant-type={JWT_GRANT}"
                )
                .into());
            }
            self.hash()?;
        } else if is_given(self.client_secret.as_ref().map(Secret::expose))
            && is_given(self.client_secret_file.as_deref())
        {
            return Err(
                "at most one of oauth2 client_secret, client_secret_file & client_secret_ref must be configured using grant-type=client_credentials".into()
            );
        }
        if let Some(name) = self.endpoint_params.keys().find(|name| RESERVED.contains(&name.as_str())) {
            return Err(format!("oauth2: cannot overwrite parameter {name:?}").into());
        }
        self.call().validate()
    }

    fn is_jwt(&self) -> bool {
        self.grant_type == JWT_GRANT
    }

    fn hash(&self) -> Result<RsaHash, BlockError> {
        match self.signature_algorithm.as_str() {
            "" | "RS256" => Ok(RsaHash::Sha256),
            "RS384" => Ok(RsaHash::Sha384),
            "RS512" => Ok(RsaHash::Sha512),
            _ => Err("valid signature algorithms are RS256, RS384 and RS512".into()),
        }
    }

    /// The options of the call for a token.
    pub(super) fn call(&self) -> HttpConfig {
        HttpConfig {
            tls_config: self.tls_config.clone(),
            proxy_url: self.proxy_url.clone(),
            no_proxy: self.no_proxy.clone(),
            proxy_from_environment: self.proxy_from_environment,
            proxy_connect_header: self.proxy_connect_header.clone(),
            ..HttpConfig::default()
        }
    }

    /// The secret, or the key of a JWT, as it is now.
    fn secret(&self) -> Result<Secret, RequestError> {
        if self.is_jwt() {
            let file = Some(self.client_certificate_key_file.as_str());
            return current_secret("client certificate key", file, &self.client_certificate_key);
        }
        current_secret("client secret", self.client_secret_file.as_deref(), &self.client_secret)
    }

    /// The parameters of the call, without those that say who asks.
    fn parameters(&self, secret: &Secret) -> Result<Vec<(String, String)>, RequestError> {
        let mut parameters: BTreeMap<String, String> = BTreeMap::new();
        let mut put = |name: &str, value: String| drop(parameters.insert(name.to_owned(), value));
        if self.is_jwt() {
            put("grant_type", JWT_GRANT.to_owned());
            put("assertion", self.assertion(secret)?);
        } else {
            put("grant_type", "client_credentials".to_owned());
        }
        if !self.scopes.is_empty() {
            put("scope", self.scopes.join(" "));
        }
        for (name, value) in &self.endpoint_params {
            put(name, value.clone());
        }
        Ok(parameters.into_iter().collect())
    }

    fn assertion(&self, key: &Secret) -> Result<String, RequestError> {
        let or = |text: &str, other: &str| if text.is_empty() { other.to_owned() } else { text.to_owned() };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut claims = serde_json::json!({
            "iss": or(&self.iss, &self.client_id),
            "sub": self.client_id,
            "jti": crate::jwt::random_id()?,
            "aud": or(&self.audience, self.token_url.expose()),
            "iat": now,
            "exp": now + 600,
        });
        if !self.scopes.is_empty() {
            claims["scope"] = self.scopes.join(" ").into();
        }
        for (name, value) in &self.claims {
            claims[name.as_str()] = json(&value.0);
        }
        Ok(RsaKey::from_pem(key.expose())?.token(self.hash()?, &self.client_certificate_key_id, &claims)?)
    }
}

/// What the file says now, or `text` if none is given.
fn current_secret(what: &str, file: Option<&str>, text: &Option<Secret>) -> Result<Secret, RequestError> {
    match file.filter(|path| !path.is_empty()) {
        None => Ok(text.clone().unwrap_or_default()),
        Some(path) => read_credential(path)
            .map(Secret::new)
            .map_err(|error| RequestError::Unreadable { what: format!("oauth2 {what}"), error }),
    }
}

/// Parameters that a configuration must not change.
const RESERVED: [&str; 5] = ["scope", "assertion", "client_id", "client_secret", "resource"];

/// The token of a client; all clones share it.
#[derive(Clone, Debug)]
pub(super) struct TokenSource {
    client: Box<HttpClient>,
    state: Arc<Mutex<TokenState>>,
}

#[derive(Debug, Default)]
struct TokenState {
    token: Option<Token>,
    /// The last call, if it got no token.
    failed: Option<FailedCall>,
    /// Whether the server wants name and secret in the form, not in a header.
    in_form: bool,
}

#[derive(Debug)]
struct FailedCall {
    when: Instant,
    error: TokenError,
}

/// What the server answered to a call.
struct Grant {
    header: HeaderValue,
    /// How long the token may be used; `None`: the server does not say.
    lifetime: Option<Duration>,
}

#[derive(Debug)]
struct Token {
    header: HeaderValue,
    /// With what it was asked for.
    secret: Secret,
    /// When it has to be renewed; `None`: never.
    renew: Option<Instant>,
}

impl TokenSource {
    pub(super) fn new(config: &OAuth2) -> Result<TokenSource, BlockError> {
        Ok(TokenSource { client: Box::new(config.call().client()?), state: Arc::default() })
    }

    /// The same with its calls answered by `peers`.
    pub(super) fn with_peers(self, peers: &Peers) -> TokenSource {
        TokenSource { client: Box::new(self.client.with_peers(peers)), ..self }
    }

    /// The value of the `Authorization` header.
    pub(super) async fn header(&self, config: &OAuth2) -> Result<HeaderValue, TokenError> {
        let mut state = self.state.lock().await;
        let secret = config.secret()?;
        let now = Instant::now();
        if let Some(token) = &state.token
            && token.secret == secret
            && token.renew.is_none_or(|renew| now < renew)
        {
            return Ok(token.header.clone());
        }
        // Many requests may wait here: they do not all repeat what has just failed.
        if let Some(failed) = &state.failed
            && now.duration_since(failed.when) < TOKEN_FAILED_PAUSE
        {
            return Err(failed.error.clone());
        }
        match self.fetch(config, &secret, &mut state.in_form).await {
            Ok(Grant { header, lifetime }) => {
                let renew = lifetime.map(|lifetime| now + lifetime.saturating_sub(TOKEN_EARLY));
                state.failed = None;
                state.token = Some(Token { header: header.clone(), secret, renew });
                Ok(header)
            }
            Err(error) => {
                state.failed = Some(FailedCall { when: Instant::now(), error: error.clone() });
                Err(error)
            }
        }
    }

    /// Asks for a token, with name and secret where the server took them last; else in both ways.
    async fn fetch(&self, config: &OAuth2, secret: &Secret, in_form: &mut bool) -> Result<Grant, TokenError> {
        let first = self.ask(config, secret, *in_form).await;
        if first.is_ok() || config.is_jwt() {
            return first;
        }
        let second = self.ask(config, secret, !*in_form).await;
        if second.is_ok() {
            *in_form = !*in_form;
            return second;
        }
        first
    }

    /// The call for a token.
    fn call(
        &self,
        config: &OAuth2,
        secret: &Secret,
        in_form: bool,
    ) -> Result<reqwest::RequestBuilder, RequestError> {
        let url = Url::parse(config.token_url.expose())
            .map_err(|e| BlockError::new(format!("oauth2 token_url: {e}")))?;
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(config.parameters(secret)?);
        let mut request = self.client.request(reqwest::Method::POST, url)?.timeout(TOKEN_TIMEOUT);
        if in_form && !config.is_jwt() {
            form.append_pair("client_id", &config.client_id);
            if !secret.expose().is_empty() {
                form.append_pair("client_secret", secret.expose());
            }
        } else if !config.is_jwt() {
            let coded =
                |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let both = format!("{}:{}", coded(&config.client_id), coded(secret.expose()));
            let header = secret_header(&format!("Basic {}", base64(both.as_bytes())))?;
            request = request.header(AUTHORIZATION, header);
        }
        Ok(request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form.finish()))
    }

    async fn ask(&self, config: &OAuth2, secret: &Secret, in_form: bool) -> Result<Grant, TokenError> {
        let request = self.call(config, secret, in_form)?;
        let failed = |e: reqwest::Error| TokenError::Refused(error_chain(&e.without_url()));
        let unsent = |e: SendError| TokenError::Refused(error_chain(&e.without_url()));
        let mut response = self.client.send_plain(request).await.map_err(unsent)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            body.extend_from_slice(&chunk);
            if body.len() > TOKEN_ANSWER_BYTES {
                return Err(TokenError::Refused("the answer is too large".to_owned()));
            }
        }
        let status = response.status();
        if !status.is_success() {
            let quote =
                String::from_utf8_lossy(&body[..body.len().min(crate::limits::QUOTE_BYTES)]).into_owned();
            return Err(TokenError::Refused(format!("{status}\nResponse: {quote}")));
        }
        token(&body)
    }
}

/// What an answer grants.
fn token(body: &[u8]) -> Result<Grant, TokenError> {
    let answer: Value =
        serde_json::from_slice(body).map_err(|e| TokenError::Answer(format!("cannot parse json: {e}")))?;
    let text = |key: &str| answer[key].as_str().unwrap_or("");
    if text("access_token").is_empty() {
        return Err(TokenError::Answer("server response missing access_token".to_owned()));
    }
    let kind = match text("token_type") {
        "" => "Bearer",
        kind if kind.eq_ignore_ascii_case("bearer") => "Bearer",
        kind => kind,
    };
    let header = secret_header(&format!("{kind} {}", text("access_token"))).map_err(RequestError::from)?;
    // Some servers write the number as text.
    let seconds = answer["expires_in"].as_u64().or_else(|| text("expires_in").parse().ok());
    let lifetime = seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs);
    Ok(Grant { header, lifetime })
}
