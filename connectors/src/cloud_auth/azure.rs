//! Access tokens of Azure (Microsoft Entra ID) for requests: from an application's secret or
//! certificate, from a workload or managed identity, or from the environment. [`super`] adds them
//! to requests.

use crate::api_client::{AnswerError, ApiClient, ApiError, form, path_segment};
use crate::config::secret::{CredentialError, Secret, read_credential, read_file};
use crate::jwt::{RsaHash, RsaKey, base64_url, random_id};
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use ring::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

/// How long the metadata service of the machine may take to answer, where other ways to get a token
/// would be tried otherwise.
const MACHINE_WAIT: Duration = Duration::from_secs(10);

/// By which way a token is got.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum AzureLogin {
    /// By the secret of an application.
    ClientSecret { tenant: String, client: String, secret: Secret },
    /// By a certificate of an application, in PEM.
    Certificate(AzureCertificate),
    /// By the token of a workload, which Kubernetes puts into a file; what is empty is taken from
    /// the environment.
    Workload { tenant: String, client: String, token_file: String },
    /// By the managed identity of the machine: that of `client`, or the only one if that is empty.
    Managed { client: String },
    /// By the first of these ways that the environment offers. What is not empty here replaces what
    /// the environment says.
    Environment { tenant: String, client: String },
}

/// A certificate and its key, which show that a program is the application.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct AzureCertificate {
    pub(crate) tenant: String,
    pub(crate) client: String,
    /// A file with the certificate.
    pub(crate) certificate: String,
    /// A file with the key; empty: it is in the same file.
    pub(crate) key: String,
    /// Whether the chain of certificates is sent with the request.
    pub(crate) sends_chain: bool,
}

/// Gets tokens.
pub(crate) struct AzureTokens {
    pub(crate) api: ApiClient,
    /// The host of the cloud that logs in.
    pub(crate) host: &'static str,
    /// What tokens are for, with `/.default` at its end.
    pub(crate) scope: String,
}

/// The answer to a login.
pub(crate) struct AzureToken {
    pub(crate) text: Secret,
    /// How long it is valid.
    pub(crate) life: Duration,
}

impl AzureTokens {
    /// A new token.
    pub(crate) async fn token(&self, login: &AzureLogin) -> Result<AzureToken, ApiError> {
        let answer = match login {
            AzureLogin::ClientSecret { tenant, client, secret } => {
                let fields = [("client_id", client.as_str()), ("client_secret", secret.expose())];
                self.oauth(self.host, tenant, &fields).await?
            }
            AzureLogin::Certificate(certificate) => self.certificate(certificate).await?,
            AzureLogin::Workload { tenant, client, token_file } => {
                self.workload(tenant, client, token_file).await?
            }
            AzureLogin::Managed { client } => self.managed(client).await?,
            AzureLogin::Environment { tenant, client } => self.environment(tenant, client).await?,
        };
        let token = answer["access_token"].as_str().filter(|token| !token.is_empty());
        let text = Secret::new(token.ok_or(AnswerError::Missing("the answer has no access_token"))?);
        // A number here, a text there.
        let life = &answer["expires_in"];
        let life = life.as_u64().or_else(|| life.as_str()?.parse().ok()).unwrap_or(0);
        Ok(AzureToken { text, life: Duration::from_secs(life) })
    }

    /// The answer to a login with the credentials of a client.
    async fn oauth(&self, host: &str, tenant: &str, fields: &[(&str, &str)]) -> Result<Value, ApiError> {
        let request = self.api.request(Method::POST, &login_url(host, tenant))?;
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let fields = std::iter::once(("grant_type", "client_credentials")).chain(fields.iter().copied());
        self.api.json(request.body(form(fields.chain([("scope", self.scope.as_str())])))).await
    }

    /// The answer to a login with a signed token in the place of a secret.
    async fn asserted(
        &self,
        host: &str,
        tenant: &str,
        client: &str,
        assertion: &str,
    ) -> Result<Value, ApiError> {
        let fields = [
            ("client_id", client),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", assertion),
        ];
        self.oauth(host, tenant, &fields).await
    }

    /// The answer to a login with the token of a workload.
    async fn workload(&self, tenant: &str, client: &str, token_file: &str) -> Result<Value, ApiError> {
        let or_variable = |given: &str, name: &str| match given {
            "" => needed(name),
            given => Ok(given.to_owned()),
        };
        let file = or_variable(token_file, "AZURE_FEDERATED_TOKEN_FILE")?;
        let client = or_variable(client, "AZURE_CLIENT_ID")?;
        let tenant = or_variable(tenant, "AZURE_TENANT_ID")?;
        let host = variable("AZURE_AUTHORITY_HOST").unwrap_or_else(|| self.host.to_owned());
        // Read for each token: it is replaced every hour.
        self.asserted(&host, &tenant, &client, &read_credential(&file)?).await
    }

    /// The answer to a login with a certificate.
    async fn certificate(&self, given: &AzureCertificate) -> Result<Value, ApiError> {
        let AzureCertificate { tenant, client, .. } = given;
        let assertion = certificate_assertion(given, &login_url(self.host, tenant))?;
        self.asserted(self.host, tenant, client, &assertion).await
    }

    /// The answer of the machine's identity service.
    async fn managed(&self, client: &str) -> Result<Value, ApiError> {
        let resource = self.scope.strip_suffix("/.default").unwrap_or(&self.scope);
        let client = Some(("client_id", client)).filter(|(_, id)| !id.is_empty());
        if let (Some(url), Some(secret)) = (variable("IDENTITY_ENDPOINT"), variable("IDENTITY_HEADER")) {
            let query = [("api-version", "2019-08-01"), ("resource", resource)].into_iter().chain(client);
            let request = self.api.request(Method::GET, &format!("{url}?{}", form(query)))?;
            return self.api.json(request.header("X-IDENTITY-HEADER", secret)).await;
        }
        let query = [("api-version", "2018-02-01"), ("resource", resource)].into_iter().chain(client);
        let url = format!("http://169.254.169.254/metadata/identity/oauth2/token?{}", form(query));
        self.api.json(self.api.request(Method::GET, &url)?.header("Metadata", "true")).await
    }

    /// The answer to the first login that the environment offers.
    async fn environment(&self, tenant: &str, client: &str) -> Result<Value, ApiError> {
        let names = ["AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"].map(variable);
        if let [Some(tenant), Some(client), Some(secret)] = &names {
            let fields = [("client_id", client.as_str()), ("client_secret", secret)];
            return self.oauth(self.host, tenant, &fields).await;
        }
        if variable("AZURE_FEDERATED_TOKEN_FILE").is_some() {
            return self.workload(tenant, client, "").await;
        }
        tokio::time::timeout(MACHINE_WAIT, self.managed(client))
            .await
            .map_err(|_| ApiError::Unavailable("the machine's identity service does not answer".to_owned()))?
    }
}

/// The URL that tokens of a tenant are got from.
fn login_url(host: &str, tenant: &str) -> String {
    format!("{}/{}/oauth2/v2.0/token", host.trim_end_matches('/'), path_segment(tenant))
}

/// A token that is signed with the key of a certificate, and names it.
fn certificate_assertion(given: &AzureCertificate, audience: &str) -> Result<String, CredentialError> {
    let malformed = || CredentialError::Malformed { what: given.certificate.clone(), form: "in PEM" };
    let pem = read_file(&given.certificate)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.map_err(|_| malformed())?;
    let first = chain.first().ok_or_else(malformed)?;
    let key = match given.key.as_str() {
        "" => String::from_utf8(pem.clone()).map_err(|_| malformed())?,
        path => read_credential(path)?,
    };
    let key = RsaKey::from_pem(&key)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let claims = json!({
        "aud": audience, "iss": given.client, "sub": given.client,
        "jti": random_id()?, "nbf": now, "exp": now + 600,
    });
    let mut names = json!({"x5t#S256": base64_url(digest(&SHA256, first).as_ref())});
    if given.sends_chain {
        names["x5c"] = chain.iter().map(|one| crate::http_client::base64(one)).collect();
    }
    key.token_with(RsaHash::Sha256, names, &claims)
}

/// An environment variable that is not empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A variable without which there is no token.
fn needed(name: &str) -> Result<String, CredentialError> {
    variable(name).ok_or_else(|| CredentialError::Variable(name.to_owned()))
}
