//! Signs requests to Oracle's cloud (version 1 of its signatures).

use crate::config::secret::{CredentialError, Secret};
use crate::http_client::base64;
use crate::jwt::{RsaHash, RsaKey};
use reqwest::Request;
use reqwest::header::{AUTHORIZATION, DATE, HeaderMap, HeaderValue};

/// What is signed of a request without a body.
pub(super) const OF_GET: &[&str] = &["date", "(request-target)", "host"];

/// What requests are signed with.
pub(super) struct RequestKey {
    /// Its name. A token may be part of it.
    pub(super) id: Secret,
    /// The key.
    pub(super) key: RsaKey,
}

impl RequestKey {
    /// Signs a request; `parts` are headers and what stands for its first line, in this order.
    ///
    /// # Errors
    ///
    /// If the key cannot sign, or its name has characters that no header may have.
    pub(super) fn sign(&self, request: &mut Request, parts: &[&str]) -> Result<(), CredentialError> {
        let date = chrono::Utc::now().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        request.headers_mut().insert(DATE, header(&date)?);
        let lines: Vec<String> =
            parts.iter().map(|part| format!("{part}: {}", value(request, part))).collect();
        let signature = base64(&self.key.sign(RsaHash::Sha256, lines.join("\n").as_bytes())?);
        let authorization = format!(
            "Signature version=\"1\",headers=\"{}\",keyId=\"{}\",algorithm=\"rsa-sha256\",\
             signature=\"{signature}\"",
            parts.join(" "),
            self.id.expose()
        );
        let mut authorization = header(&authorization)?;
        // So that no log of requests shows a token.
        authorization.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, authorization);
        Ok(())
    }
}

/// A value of a header.
pub(super) fn header(text: &str) -> Result<HeaderValue, CredentialError> {
    let bad = CredentialError::NoHeader("the keys of OCI hold characters no header may");
    HeaderValue::from_str(text).map_err(|_| bad)
}

/// The value of a part that is signed.
fn value(request: &Request, part: &str) -> String {
    let url = request.url();
    let host = url.host_str().unwrap_or_default();
    match part {
        "(request-target)" => {
            let method = request.method().as_str().to_lowercase();
            let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
            format!("{method} {}{query}", url.path())
        }
        "host" => url.port().map_or(host.to_owned(), |port| format!("{host}:{port}")),
        name => text(request.headers(), name),
    }
}

fn text(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}
