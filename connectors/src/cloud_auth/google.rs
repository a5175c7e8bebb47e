//! Access tokens of Google Cloud for requests: from the key of a service account, from a user's
//! login, or from the metadata server of the machine. [`super`] adds them to requests.

use crate::api_client::{AnswerError, ApiClient, ApiError, form, with_query};
use crate::config::secret::{CredentialError, Secret, read_credential};
use crate::jwt::{RsaHash, RsaKey};
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

/// A token is replaced so long before its end.
const SPARE: Duration = Duration::from_secs(60);

/// Where tokens come from.
pub(crate) enum TokenSource {
    /// A service account's key.
    ServiceAccount { email: String, key_id: String, url: String, key: Box<RsaKey> },
    /// What a user's login left.
    User { url: String, fields: Vec<(&'static str, Secret)> },
    /// The machine's service account.
    Machine,
}

/// An access token and its end.
struct Token {
    text: Secret,
    until: SystemTime,
}

/// Gets tokens, and remembers one until its end.
pub(crate) struct GoogleTokens {
    api: ApiClient,
    /// What tokens allow.
    scope: &'static str,
    pub(crate) source: TokenSource,
    token: Option<Token>,
}

impl GoogleTokens {
    /// Tokens of the credentials of the process, as Google's libraries look for them. The server of
    /// metadata of the machine is asked with `direct`, which uses no proxy: a proxy has another
    /// machine's account, or none.
    pub(crate) fn from_environment(
        api: ApiClient,
        direct: ApiClient,
        scope: &'static str,
    ) -> Result<GoogleTokens, CredentialError> {
        let source = default_source()?;
        let is_machine = matches!(source, TokenSource::Machine);
        let api = if is_machine { direct } else { api };
        Ok(GoogleTokens { api, scope, source, token: None })
    }

    /// Tokens of the credentials in a file.
    pub(crate) fn from_file(
        path: &str,
        api: ApiClient,
        scope: &'static str,
    ) -> Result<GoogleTokens, CredentialError> {
        Ok(GoogleTokens { api, scope, source: source_of(&read_credential(path)?)?, token: None })
    }

    /// A token that is good for a while.
    pub(crate) async fn token(&mut self) -> Result<Secret, ApiError> {
        let now = SystemTime::now();
        if let Some(token) = self.token.as_ref().filter(|token| token.until > now + SPARE) {
            return Ok(token.text.clone());
        }
        let answer = self.answer(now).await?;
        let token = answer["access_token"].as_str().filter(|token| !token.is_empty());
        let token = Secret::new(token.ok_or(AnswerError::Missing("the answer has no access_token"))?);
        let until = now + Duration::from_secs(answer["expires_in"].as_u64().unwrap_or(0));
        self.token = Some(Token { text: token.clone(), until });
        Ok(token)
    }

    /// The answer to a request for a token.
    async fn answer(&self, now: SystemTime) -> Result<Value, ApiError> {
        match &self.source {
            TokenSource::ServiceAccount { email, key_id, url, key } => {
                let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
                // The longest life that Google grants.
                let end = seconds + 3_600;
                let claims =
                    json!({"iss": email, "scope": self.scope, "aud": url, "iat": seconds, "exp": end});
                let assertion = key.token(RsaHash::Sha256, key_id, &claims)?;
                let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
                self.grant(url, form([("grant_type", grant), ("assertion", &assertion)])).await
            }
            TokenSource::User { url, fields } => {
                let fields = fields.iter().map(|(name, value)| (*name, value.expose()));
                let fields = std::iter::once(("grant_type", "refresh_token")).chain(fields);
                self.grant(url, form(fields)).await
            }
            TokenSource::Machine => {
                let host = std::env::var("GCE_METADATA_HOST").ok().filter(|host| !host.is_empty());
                let host = host.unwrap_or_else(|| "metadata.google.internal".to_owned());
                let path = "computeMetadata/v1/instance/service-accounts/default/token";
                let url = with_query(&format!("http://{host}/{path}"), &[("scopes", self.scope)]);
                // The server of metadata refuses requests without it, which other programs could be
                // led to make.
                let request = self.api.request(Method::GET, &url)?.header("Metadata-Flavor", "Google");
                self.api.json(request).await
            }
        }
    }

    /// Sends a form to the server that grants tokens.
    async fn grant(&self, url: &str, body: String) -> Result<Value, ApiError> {
        let request = self.api.request(Method::POST, url)?;
        self.api.json(request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body)).await
    }
}

/// The credentials of the process, as Google's libraries look for them.
fn default_source() -> Result<TokenSource, CredentialError> {
    if let Ok(path) = std::env::var("GOOGLE_APPLICATION_CREDENTIALS")
        && !path.is_empty()
    {
        // A file that was named must be good: to fall back to the account of the machine would hide
        // the mistake and list another project.
        return source_of(&read_credential(&path)?);
    }
    let home = std::env::var("HOME").unwrap_or_default();
    let path = format!("{home}/.config/gcloud/application_default_credentials.json");
    match read_credential(&path) {
        Ok(text) => source_of(&text),
        // That there is no such file is the usual case on a machine of Google.
        Err(_) => Ok(TokenSource::Machine),
    }
}

/// The source that a file of credentials describes.
pub(crate) fn source_of(file: &str) -> Result<TokenSource, CredentialError> {
    let file: Value = serde_json::from_str(file).map_err(|_| CredentialError::Malformed {
        what: "the file of credentials".to_owned(),
        form: "JSON",
    })?;
    let text = |file: &Value, key: &str| file[key].as_str().unwrap_or_default().to_owned();
    let url = Some(text(&file, "token_uri")).filter(|url| !url.is_empty());
    let url = url.unwrap_or_else(|| "https://oauth2.googleapis.com/token".to_owned());
    match text(&file, "type").as_str() {
        "service_account" => Ok(TokenSource::ServiceAccount {
            email: text(&file, "client_email"),
            key_id: text(&file, "private_key_id"),
            url,
            key: Box::new(RsaKey::from_pem(&text(&file, "private_key"))?),
        }),
        "authorized_user" => {
            let fields = ["client_id", "client_secret", "refresh_token"];
            Ok(TokenSource::User {
                url,
                fields: fields.map(|name| (name, Secret::new(text(&file, name)))).to_vec(),
            })
        }
        other => Err(CredentialError::Unsupported(format!(
            "credentials of the type {other:?} are not supported by this build"
        ))),
    }
}
