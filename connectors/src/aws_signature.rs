//! AWS Signature Version 4: signs a request with an access key, for one region and service. The
//! keys come from [`crate::aws_credentials`].

use crate::api_client::ApiError;
use crate::config::secret::{CredentialError, Secret};
use chrono::{DateTime, Utc};
use reqwest::Request;
use reqwest::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue};
use ring::{digest, hmac};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::SystemTime;
use url::Url;

/// An access key, perhaps of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AwsCredentials {
    /// The public part.
    pub access_key: String,
    /// The secret part.
    pub secret_key: Secret,
    /// The token of the session, if the key is that of one.
    pub session_token: Option<Secret>,
    /// When the key ends; `None`: it does not.
    pub expires: Option<SystemTime>,
}

/// Why a request cannot be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// Its body is a stream, of which the hash is not known: a fault of the caller.
    #[error("the body of a signed request must be in memory")]
    StreamedBody,
    /// The credentials cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
}

impl From<SignError> for ApiError {
    fn from(error: SignError) -> ApiError {
        match error {
            SignError::StreamedBody => ApiError::Request(error.to_string()),
            SignError::Credentials(error) => error.into(),
        }
    }
}

/// Where a signature is valid.
#[derive(Copy, Clone, Debug)]
pub struct AwsScope<'a> {
    /// The region: `eu-west-2`.
    pub region: &'a str,
    /// The signing name of the service: `ec2`, `aps`.
    pub service: &'a str,
}

const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
const CONTENT: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Adds the headers of the signature to a request whose body is in memory. Replaces those of an
/// earlier signature, so that a request can be signed again when it is repeated. Signed are the
/// host and all headers that the request has now, except those that proxies change.
///
/// Fails if the body is a stream or the token is no text for a header.
pub fn sign(
    request: &mut Request,
    scope: AwsScope<'_>,
    credentials: &AwsCredentials,
    now: SystemTime,
) -> Result<(), SignError> {
    let time = DateTime::<Utc>::from(now).format("%Y%m%dT%H%M%SZ").to_string();
    let body = match request.body() {
        None => &[][..],
        Some(body) => body.as_bytes().ok_or(SignError::StreamedBody)?,
    };
    let body_hash = hex(digest::digest(&digest::SHA256, body).as_ref());
    for old in [AUTHORIZATION, DATE, TOKEN, CONTENT] {
        request.headers_mut().remove(old);
    }
    request.headers_mut().insert(DATE, header(&time)?);
    if let Some(token) = &credentials.session_token {
        // The token is signed with the others, so it is inserted before they are read.
        let mut value = header(token.expose())?;
        value.set_sensitive(true);
        request.headers_mut().insert(TOKEN, value);
    }
    let signed = signed_headers(request);
    let names = signed.keys().map(String::as_str).collect::<Vec<_>>().join(";");
    let canonical = canonical_request(request, &signed, &names, &body_hash);
    let canonical_hash = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let AwsScope { region, service } = scope;
    let day = &time[..8];
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let text = format!("{ALGORITHM}\n{time}\n{scope}\n{canonical_hash}");
    let mut key = format!("AWS4{}", credentials.secret_key.expose()).into_bytes();
    // The key is good for one day, region and service only; that is the point of the chain.
    for part in [day, region, service, "aws4_request"] {
        key = mac(&key, part);
    }
    let signature = hex(&mac(&key, &text));
    let access_key = &credentials.access_key;
    let value =
        format!("{ALGORITHM} Credential={access_key}/{scope}, SignedHeaders={names}, Signature={signature}");
    let mut value = header(&value)?;
    value.set_sensitive(true);
    request.headers_mut().insert(AUTHORIZATION, value);
    Ok(())
}

/// The headers that are signed, by their names in small letters.
fn signed_headers(request: &Request) -> BTreeMap<String, String> {
    let mut signed: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in request.headers() {
        if is_signed(name.as_str()) {
            let text = String::from_utf8_lossy(value.as_bytes());
            // AWS joins runs of blanks before it compares, as a proxy may.
            let text = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
            let values = signed.entry(name.as_str().to_owned()).or_default();
            if !values.is_empty() {
                values.push(',');
            }
            values.push_str(&text);
        }
    }
    let host =
        request.headers().get(HOST).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    signed.insert("host".to_owned(), host.unwrap_or_else(|| host_of(request.url())));
    signed
}

/// Whether a header is part of the signature; the others may change on the way.
fn is_signed(name: &str) -> bool {
    !matches!(name, "authorization" | "user-agent" | "accept-encoding" | "transfer-encoding" | "expect")
}

/// The host as the request names it: with the port, unless it is that of the scheme.
fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

fn canonical_request(
    request: &Request,
    signed: &BTreeMap<String, String>,
    names: &str,
    body_hash: &str,
) -> String {
    let url = request.url();
    let mut query: Vec<(String, String)> =
        url.query_pairs().map(|(name, value)| (encode(&name, ""), encode(&value, ""))).collect();
    // By name and then by value, both encoded: the order on the wire does not matter.
    query.sort();
    let query: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    // The path is encoded in the URL, and once more here: all services but S3 do so.
    let mut text = format!("{}\n{}\n{}\n", request.method(), encode(url.path(), "/"), query.join("&"));
    for (name, value) in signed {
        // Writing to a text cannot fail.
        let _ = writeln!(text, "{name}:{value}");
    }
    let _ = write!(text, "\n{names}\n{body_hash}");
    text
}

/// Percent encoding of RFC 3986; the bytes of `plain` stay as well.
fn encode(text: &str, plain: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        let c = byte as char;
        if c.is_ascii_alphanumeric() || "-_.~".contains(c) || plain.contains(c) {
            out.push(c);
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

/// Bytes as hexadecimal digits, as signatures and hashes are sent.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn header(text: &str) -> Result<HeaderValue, SignError> {
    let error = CredentialError::NoHeader("credentials hold characters no header may");
    HeaderValue::from_str(text).map_err(|_| SignError::Credentials(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::{Body, Method};
    use std::time::Duration;

    /// 2015-08-30 12:36:00, the time of AWS's test suite.
    const SECONDS: u64 = 1_440_938_160;

    fn signed(
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: &'static str,
        service: &str,
    ) -> Request {
        let mut request = Request::new(method, Url::parse(url).unwrap());
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            request.headers_mut().append(name, value.parse().unwrap());
        }
        if !body.is_empty() {
            *request.body_mut() = Some(Body::from(body));
        }
        let credentials = AwsCredentials {
            access_key: "AKIDEXAMPLE".into(),
            secret_key: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
            ..AwsCredentials::default()
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(SECONDS);
        let scope = AwsScope { region: "us-east-1", service };
        sign(&mut request, scope, &credentials, now).unwrap();
        request
    }

    fn signature(request: &Request) -> String {
        let value = request.headers()[AUTHORIZATION].to_str().unwrap();
        value.rsplit_once("Signature=").unwrap().1.to_owned()
    }

    /// Requests and signatures of AWS's own test suite and of its manual of IAM.
    #[test]
    fn signatures_are_those_of_the_test_suite() {
        let form = [("content-type", "application/x-www-form-urlencoded")];
        let form_utf8 = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
        let root = "https://example.amazonaws.com/";
        let sorted = "https://example.amazonaws.com/?Param2=value2&Param1=value1";
        let iam = "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08";
        for (method, url, headers, body, service, expected) in [
            (
                Method::GET,
                root,
                &[][..],
                "",
                "service",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                Method::GET,
                sorted,
                &[][..],
                "",
                "service",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                Method::POST,
                root,
                &form[..],
                "Param1=value1",
                "service",
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
            (
                Method::GET,
                iam,
                &form_utf8[..],
                "",
                "iam",
                "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
            ),
        ] {
            assert_eq!(signature(&signed(method, url, headers, body, service)), expected, "{url}");
        }
    }

    #[test]
    fn a_request_can_be_signed_again_and_shows_no_secret() {
        let mut request = signed(Method::GET, "https://example.amazonaws.com/", &[], "", "service");
        let first = signature(&request);
        let credentials = AwsCredentials {
            access_key: "AKIDEXAMPLE".into(),
            secret_key: Secret::new("other"),
            session_token: Some(Secret::new("CANARY")),
            expires: None,
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(SECONDS);
        let scope = AwsScope { region: "us-east-1", service: "service" };
        sign(&mut request, scope, &credentials, now).unwrap();
        assert_ne!(signature(&request), first);
        assert_eq!(request.headers()["x-amz-security-token"], "CANARY");
        let value = request.headers()[AUTHORIZATION].to_str().unwrap();
        assert!(value.contains("SignedHeaders=host;x-amz-date;x-amz-security-token,"), "{value}");
        assert!(!format!("{request:?} {credentials:?}").contains("CANARY"));
    }
}
