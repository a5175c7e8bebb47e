//! Cloud credentials for HTTP requests: `sigv4`, `azuread` and `google_iam` of the configuration,
//! used instead of `basic_auth` or `authorization`.
//!
//! [`CloudAuth`] is the configuration. [`RequestSigner`] adds a signature or a token to each
//! request. [`azure`] and [`google`] fetch tokens; AWS' keys come from [`crate::aws_credentials`].

pub(crate) mod azure;
mod config;
pub(crate) mod google;
#[cfg(test)]
mod tests;

pub use config::{AzureAdConfig, GoogleIamConfig, SigV4Config};

use crate::api_client::{ApiClient, ApiError};
use crate::aws_credentials::AwsSession;
use crate::aws_signature::{AwsScope, sign};
use crate::config::error::BlockError;
use crate::config::secret::{CredentialError, Secret};
use crate::http_client::{HttpConfig, Peers};
use crate::limits::CLOUD_LOGIN_SECONDS;
use azure::{AzureLogin, AzureTokens};
use futures::future::BoxFuture;
use google::GoogleTokens;
use reqwest::Request;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use std::fmt;
use std::time::{Duration, SystemTime};
use tokio::sync::Mutex;

/// Credentials of a cloud.
#[derive(Clone, Debug, PartialEq)]
pub enum CloudAuth {
    /// Signatures of AWS.
    SigV4(SigV4Config),
    /// Tokens of Azure.
    AzureAd(AzureAdConfig),
    /// Tokens of Google Cloud.
    GoogleIam(GoogleIamConfig),
}

/// What Google's tokens allow: to write metrics.
const GOOGLE_SCOPE: &str = "https://www.googleapis.com/auth/monitoring.write";

/// Adds the credentials to requests; they are got when the first request needs them.
pub struct RequestSigner {
    auth: CloudAuth,
    peers: Peers,
    /// Held while credentials are got, so that they are got once.
    state: Mutex<Option<SignerState>>,
}

enum SignerState {
    SigV4 { session: AwsSession, region: String, service: String },
    AzureAd { tokens: AzureTokens, login: AzureLogin, token: Option<RememberedToken> },
    GoogleIam(GoogleTokens),
}

/// A token, and until when it is used.
struct RememberedToken {
    text: Secret,
    until: SystemTime,
}

impl fmt::Debug for RequestSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RequestSigner").field(&self.auth).finish()
    }
}

impl CloudAuth {
    /// Checks what needs no file and no request. The error is the first problem, in Prometheus'
    /// words.
    pub fn validate(&self) -> Result<(), BlockError> {
        match self {
            CloudAuth::SigV4(config) => config.validate(),
            CloudAuth::AzureAd(config) => config.validate(),
            CloudAuth::GoogleIam(_) => Ok(()),
        }
    }
}

impl RequestSigner {
    /// A signer; `peers` answer its own requests.
    pub fn new(auth: CloudAuth, peers: Peers) -> RequestSigner {
        RequestSigner { auth, peers, state: Mutex::default() }
    }

    /// The same credentials with their own requests answered by `peers`.
    #[must_use]
    pub fn with_peers(&self, peers: &Peers) -> RequestSigner {
        RequestSigner::new(self.auth.clone(), peers.clone())
    }

    /// Adds the credentials to a request, whose body must be in memory.
    ///
    /// # Errors
    ///
    /// If there are no credentials, now or at all.
    pub fn prepare<'a>(&'a self, request: &'a mut Request) -> BoxFuture<'a, Result<(), ApiError>> {
        // Boxed, because it makes requests itself, and requests may be signed.
        Box::pin(self.sign(request))
    }

    async fn sign(&self, request: &mut Request) -> Result<(), ApiError> {
        let mut state = self.state.lock().await;
        if state.is_none() {
            *state = Some(self.open()?);
        }
        let token = match state.as_mut() {
            None => return Ok(()),
            Some(SignerState::SigV4 { session, region, service }) => {
                let keys = session.credentials().await;
                let keys = keys.map_err(|e| e.doing("could not get SigV4 credentials"))?;
                if region.is_empty() {
                    *region = session.region().await?;
                }
                let scope = AwsScope { region, service };
                return Ok(sign(request, scope, &keys, SystemTime::now())?);
            }
            Some(SignerState::AzureAd { tokens, login, token }) => {
                azure_token(tokens, login, token).await.map_err(|e| e.doing("Failed to get access token"))?
            }
            Some(SignerState::GoogleIam(tokens)) => tokens.token().await?,
        };
        let mut header = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
            .map_err(|_| CredentialError::NoHeader("bad access_token"))?;
        header.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, header);
        Ok(())
    }

    /// A client for the requests of the credentials themselves.
    fn api(&self, http: &HttpConfig) -> Result<ApiClient, ApiError> {
        let client = http.client().map_err(|e| ApiError::Request(e.to_string()))?;
        let client = client.with_peers(&self.peers);
        Ok(ApiClient::with_timeout(client, Duration::from_secs(CLOUD_LOGIN_SECONDS)))
    }

    fn open(&self) -> Result<SignerState, ApiError> {
        // As the libraries of the clouds do in Prometheus: no block says how these requests go.
        let api = self.api(&HttpConfig { proxy_from_environment: true, ..HttpConfig::default() })?;
        Ok(match &self.auth {
            CloudAuth::SigV4(config) => SignerState::SigV4 {
                session: AwsSession::new(config.settings(), api),
                region: config.region.clone(),
                service: config.service_name().to_owned(),
            },
            CloudAuth::AzureAd(config) => SignerState::AzureAd {
                tokens: AzureTokens { api, host: config.login_host(), scope: config.scope() },
                login: config.login()?,
                token: None,
            },
            CloudAuth::GoogleIam(config) => SignerState::GoogleIam(match config.credentials_file.as_str() {
                "" => {
                    let direct = self.api(&HttpConfig::default())?;
                    GoogleTokens::from_environment(api, direct, GOOGLE_SCOPE)?
                }
                path => GoogleTokens::from_file(path, api, GOOGLE_SCOPE)?,
            }),
        })
    }
}

/// A token of Azure, which is used for half of its life, as in Prometheus.
async fn azure_token(
    tokens: &AzureTokens,
    login: &AzureLogin,
    remembered: &mut Option<RememberedToken>,
) -> Result<Secret, ApiError> {
    let now = SystemTime::now();
    if let Some(token) = remembered.as_ref().filter(|token| token.until > now) {
        return Ok(token.text.clone());
    }
    let token = tokens.token(login).await?;
    *remembered = Some(RememberedToken { text: token.text.clone(), until: now + token.life / 2 });
    Ok(token.text)
}
