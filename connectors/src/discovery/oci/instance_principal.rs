//! `auth: instance_principal`: an instance of Oracle's cloud asks as itself, without a key in the
//! configuration.
//!
//! Its metadata service has a certificate, with its key, that names the tenancy. A request that is
//! signed with that key, and has the public part of a new one, is answered with a token. The other
//! requests are signed with the new key and name the token, which is replaced before its end.

use super::OciPlace;
use super::regions::{host, region_name};
use super::signature::{RequestKey, header};
use crate::api_client::{AnswerError, ApiClient, ApiError};
use crate::config::secret::{CredentialError, Secret};
use crate::http_client::base64;
use crate::jwt::{RsaKey, from_base64};
use crate::limits::OCI_TOKEN_SPARE_SECONDS;
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The metadata service of a machine; `OCI_METADATA_BASE_URL` names another one.
const METADATA: &str = "http://169.254.169.254/opc/v2";
/// What is signed of the request for a token: not its host.
const OF_TOKEN_REQUEST: &[&str] =
    &["date", "(request-target)", "content-length", "content-type", "x-content-sha256"];

/// Gets tokens of the machine, and remembers one until shortly before its end.
pub(super) struct InstancePrincipal {
    api: ApiClient,
    place: Option<OciPlace>,
    session: Option<TokenSession>,
}

/// A key that a token is for.
struct TokenSession {
    key: Arc<RequestKey>,
    until: SystemTime,
}

/// What the metadata service knows of the machine.
struct MachineCertificates {
    /// DER of the machine's own.
    leaf: Vec<u8>,
    key: RsaKey,
    /// DER of the one that its own was signed with.
    intermediate: Vec<u8>,
}

impl InstancePrincipal {
    /// Asks with this client.
    pub(super) fn new(api: ApiClient) -> InstancePrincipal {
        InstancePrincipal { api, place: None, session: None }
    }

    /// The region and the tenancy of the machine. They are asked for once.
    pub(super) async fn place(&mut self) -> Result<OciPlace, ApiError> {
        if let Some(place) = &self.place {
            return Ok(place.clone());
        }
        let region = self.metadata("instance/region").await;
        let region = region.map_err(|e| e.doing("failed to get the region name"))?;
        let leaf = self.certificate("identity/cert.pem").await;
        let leaf = leaf.map_err(|e| e.doing("failed to refresh the leaf certificate"))?;
        let place = OciPlace { region: region_name(region.trim()), tenancy: tenancy(&leaf)? };
        self.place = Some(place.clone());
        Ok(place)
    }

    /// A key whose token is good for a while.
    pub(super) async fn key(&mut self) -> Result<Arc<RequestKey>, ApiError> {
        let spare = Duration::from_secs(OCI_TOKEN_SPARE_SECONDS);
        let now = SystemTime::now();
        if let Some(session) = self.session.as_ref().filter(|session| session.until > now + spare) {
            return Ok(session.key.clone());
        }
        let session = self.renewed().await.map_err(|e| e.doing("failed to renew security token"))?;
        let key = session.key.clone();
        self.session = Some(session);
        Ok(key)
    }

    async fn renewed(&mut self) -> Result<TokenSession, ApiError> {
        let place = self.place().await?;
        let certificates = self.certificates().await?;
        let tenancy = tenancy(&certificates.leaf)?;
        if tenancy != place.tenancy {
            let text = format!(
                "unexpected update of tenancy OCID in the leaf certificate. Previous tenancy: {}, Updated: {tenancy}",
                place.tenancy
            );
            return Err(ApiError::unexpected(text));
        }
        // It takes a second, in which other tasks go on.
        let made = tokio::task::spawn_blocking(RsaKey::generate).await;
        let key =
            made.map_err(|e| ApiError::unexpected(format!("failed to generate a new keypair: {e}")))??;
        let token = self.token(&place, certificates, &key).await?;
        let until = end(&token).ok_or(AnswerError::Missing("the security token does not say its end"))?;
        let id = Secret::new(format!("ST${token}"));
        Ok(TokenSession { key: Arc::new(RequestKey { id, key }), until })
    }

    /// A token for a key, of the authentication service.
    async fn token(
        &self,
        place: &OciPlace,
        certificates: MachineCertificates,
        key: &RsaKey,
    ) -> Result<String, ApiError> {
        let MachineCertificates { leaf, key: leaf_key, intermediate } = certificates;
        let body = json!({
            "certificate": base64(&leaf),
            "publicKey": base64(&key.public_key()),
            "intermediateCertificates": [base64(&intermediate)],
            "fingerprintAlgorithm": "SHA256",
        });
        let body = body.to_string();
        let service = variable("OCI_SDK_AUTH_CLIENT_REGION_URL")
            .unwrap_or_else(|| format!("https://{}", host("auth", &place.region)));
        let length = header(&body.len().to_string())?;
        let hash = header(&base64(digest(&SHA256, body.as_bytes()).as_ref()))?;
        let request =
            self.api.request(Method::POST, &format!("{}/v1/x509", service.trim_end_matches('/')))?;
        let id = format!("{}/fed-x509-sha256/{}", place.tenancy, fingerprint(&leaf));
        let signer = RequestKey { id: Secret::new(id), key: leaf_key };
        let sign = |request: &mut reqwest::Request| {
            let headers = request.headers_mut();
            headers.insert(CONTENT_LENGTH, length);
            headers.insert(CONTENT_TYPE, header("application/json")?);
            headers.insert("x-content-sha256", hash);
            Ok(signer.sign(request, OF_TOKEN_REQUEST)?)
        };
        let answer = self.api.send_changed(request.body(body), sign).await.and_then(|a| a.success());
        let answer: Value = answer.map_err(|e| e.doing("failed to get security token"))?.json()?;
        let token = answer["token"].as_str().filter(|token| !token.is_empty());
        Ok(token.ok_or(AnswerError::Missing("the answer has no security token"))?.to_owned())
    }

    async fn certificates(&self) -> Result<MachineCertificates, ApiError> {
        let doing = "failed to refresh leaf certificate";
        let leaf = self.certificate("identity/cert.pem").await.map_err(|e| e.doing(doing))?;
        let key = self.metadata("identity/key.pem").await.map_err(|e| e.doing(doing))?;
        let key = RsaKey::from_pem(&key).map_err(|e| ApiError::from(e).doing(doing))?;
        let intermediate = self.certificate("identity/intermediate.pem").await;
        let intermediate = intermediate.map_err(|e| e.doing("failed to refresh intermediate certificate"))?;
        Ok(MachineCertificates { leaf, key, intermediate })
    }

    /// DER of a certificate of the metadata service.
    async fn certificate(&self, path: &str) -> Result<Vec<u8>, ApiError> {
        let text = self.metadata(path).await?;
        let found = tls::pem::certificates(text.as_bytes());
        let first = found.ok().and_then(|all| all.into_iter().next());
        let malformed = || CredentialError::Malformed { what: path.to_owned(), form: "a certificate" };
        Ok(first.ok_or_else(malformed)?.as_ref().to_vec())
    }

    /// A text of the metadata service.
    async fn metadata(&self, path: &str) -> Result<String, ApiError> {
        let base = variable("OCI_METADATA_BASE_URL").unwrap_or_else(|| METADATA.to_owned());
        let url = format!("{base}/{path}");
        let request = self.api.request(Method::GET, &url)?;
        // The service refuses requests without it, which other programs could be led to make. It
        // takes the place of the credentials of the block.
        let with_header = |request: &mut reqwest::Request| {
            request.headers_mut().insert(AUTHORIZATION, header("Bearer Oracle")?);
            Ok(())
        };
        let answer = self.api.send_changed(request, with_header).await.and_then(|answer| answer.success());
        Ok(answer.map_err(|e| e.doing(url))?.text())
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The tenancy that a certificate names in its subject.
fn tenancy(certificate: &[u8]) -> Result<String, AnswerError> {
    let values = tls::subject_values(&certificate.into());
    let found = values.iter().find_map(|value| value.strip_prefix("opc-tenant:"));
    Ok(found.ok_or(AnswerError::Missing("the certificate of the machine names no tenancy"))?.to_owned())
}

fn fingerprint(certificate: &[u8]) -> String {
    let hash = digest(&SHA256, certificate);
    let digits: Vec<String> = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    digits.join(":")
}

/// When a token ends.
fn end(token: &str) -> Option<SystemTime> {
    let claims: Value = serde_json::from_slice(&from_base64(token.split('.').nth(1)?)?).ok()?;
    let seconds = claims["exp"].as_f64().filter(|seconds| (0.0..1e11).contains(seconds))?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds))
}
