//! [`ApiClient`]: requests to web APIs, for discovery and cloud credentials: with timeout, size
//! limit, JSON parsing and pagination.
//!
//! Requests can fail in few ways, and the remedies differ: wait, change the configuration, raise a
//! limit, or report that an API has changed. [`ApiError`] has a kind for each.

use crate::config::secret::CredentialError;
use crate::http_client::{HttpClient, SendError, error_chain};
use crate::limits::{DISCOVERY_ANSWER_BYTES, DISCOVERY_PAGES, QUOTE_BYTES, TARGET_FILE_BYTES};
use crate::xml::XmlError;
use reqwest::header::{ACCEPT, HeaderMap};
use reqwest::{Method, Request, RequestBuilder, StatusCode};
use serde_json::Value;
use std::time::Duration;
use url::Url;

/// Why an API did not give what was asked of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The server cannot be reached, or does not answer in time. The same request may succeed
    /// later.
    #[error("{0}")]
    Unavailable(String),
    /// The server answered with a status that is not one of success.
    #[error("{text}")]
    Status {
        /// The status.
        status: StatusCode,
        /// The code of the error in the answer, such as `ExpiredToken`; empty if it has none.
        code: String,
        /// The status and the beginning of the answer, in the words of Prometheus' mechanism.
        text: String,
    },
    /// The API answered something else than it documents.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// The answer is larger than this server reads.
    #[error(transparent)]
    Limit(#[from] AnswerLimit),
    /// There are no credentials, or they cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// The request cannot be made from the configuration: a bad URL, header or password file.
    #[error("{0}")]
    Request(String),
    /// One of the above, and what was being done.
    #[error("{doing}: {error}")]
    Doing {
        /// What was being done.
        doing: String,
        /// Why it failed.
        error: Box<ApiError>,
    },
}

/// What is wrong with an answer: it is not what the API documents.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// It is not JSON, or not JSON of the expected form.
    #[error("the answer is not JSON: {0}")]
    Json(String),
    /// It is not XML.
    #[error(transparent)]
    Xml(#[from] XmlError),
    /// A part of it is not a list.
    #[error("{0} of the answer is not a list")]
    NotAList(String),
    /// A part of it is missing.
    #[error("{0}")]
    Missing(&'static str),
    /// It says something that cannot be used; the text names it.
    #[error("{0}")]
    Unexpected(String),
}

/// A limit that an answer reached.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerLimit {
    /// The bytes of one answer.
    #[error("an answer is larger than {} MiB", DISCOVERY_ANSWER_BYTES >> 20)]
    Bytes,
    /// The bytes of a list of targets.
    #[error("the list is larger than {} MiB", TARGET_FILE_BYTES >> 20)]
    ListBytes,
    /// The pages of one list.
    #[error("the list has more than {DISCOVERY_PAGES} pages")]
    Pages,
}

impl From<XmlError> for ApiError {
    fn from(error: XmlError) -> ApiError {
        AnswerError::from(error).into()
    }
}

/// What can be done about an [`ApiError`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ApiRemedy {
    /// The same request later.
    Wait,
    /// Somebody has to change a configuration, credentials, rights, or this program.
    Act,
}

impl ApiError {
    /// The same error, with what was being done before its text.
    #[must_use]
    pub fn doing(self, doing: impl Into<String>) -> ApiError {
        ApiError::Doing { doing: doing.into(), error: Box::new(self) }
    }

    /// An answer that says something unexpected.
    pub fn unexpected(text: impl Into<String>) -> ApiError {
        AnswerError::Unexpected(text.into()).into()
    }

    /// The error without what was being done.
    pub fn root(&self) -> &ApiError {
        match self {
            ApiError::Doing { error, .. } => error.root(),
            other => other,
        }
    }

    /// The code of an error that the server answered; empty if there is none.
    pub fn code(&self) -> &str {
        match self.root() {
            ApiError::Status { code, .. } => code,
            _ => "",
        }
    }

    /// What can be done.
    pub fn remedy(&self) -> ApiRemedy {
        match self.root() {
            ApiError::Unavailable(_) => ApiRemedy::Wait,
            // 429 and 5xx: the server has too much to do, or a fault that others mend.
            ApiError::Status { status, .. }
                if status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS =>
            {
                ApiRemedy::Wait
            }
            _ => ApiRemedy::Act,
        }
    }
}

/// Makes requests to an API, with a timeout and up to the limits of this crate.
#[derive(Clone)]
pub struct ApiClient {
    client: HttpClient,
    timeout: Duration,
}

impl ApiClient {
    /// Makes its requests with `client`; each may take `timeout`.
    pub fn with_timeout(client: HttpClient, timeout: Duration) -> ApiClient {
        ApiClient { client, timeout }
    }

    /// A request, with the credentials of the block.
    pub fn request(&self, method: Method, url: &str) -> Result<RequestBuilder, ApiError> {
        let url = Url::parse(url).map_err(|e| ApiError::Request(format!("parse URL of the API: {e}")))?;
        Ok(self
            .client
            .request(method, url)
            .map_err(|e| ApiError::Request(e.to_string()))?
            .timeout(self.timeout))
    }

    /// Sends a request; its answer may have any status.
    pub async fn send(&self, request: RequestBuilder) -> Result<ApiAnswer, ApiError> {
        // The URL may hold a password, so the error is shown without it.
        let failed = |e: SendError| ApiError::Unavailable(error_chain(&e.without_url()));
        let mut response = self.client.send(request).await.map_err(failed)?;
        let status = response.status();
        let headers = std::mem::take(response.headers_mut());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(SendError::from).map_err(failed)? {
            body.extend_from_slice(&chunk);
            if body.len() > DISCOVERY_ANSWER_BYTES {
                return Err(AnswerLimit::Bytes.into());
            }
        }
        Ok(ApiAnswer { status, headers, body })
    }

    /// Sends a request after `change` has been at it, such as a signature.
    pub async fn send_changed(
        &self,
        request: RequestBuilder,
        change: impl FnOnce(&mut Request) -> Result<(), ApiError>,
    ) -> Result<ApiAnswer, ApiError> {
        let (client, request) = request.build_split();
        let mut request = request.map_err(|e| ApiError::Request(error_chain(&e.without_url())))?;
        change(&mut request)?;
        self.send(RequestBuilder::from_parts(client, request)).await
    }

    /// The JSON that a `GET` answers with a status of success.
    pub async fn get(&self, url: &str) -> Result<Value, ApiError> {
        self.json(self.request(Method::GET, url)?.header(ACCEPT, "application/json")).await
    }

    /// The JSON that a request answers with a status of success.
    pub async fn json(&self, request: RequestBuilder) -> Result<Value, ApiError> {
        Ok(self.send(request).await?.success()?.json()?)
    }
}

/// The answer of an API.
pub struct ApiAnswer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
}

impl ApiAnswer {
    /// The answer, if its status is one of success.
    pub fn success(self) -> Result<ApiAnswer, ApiError> {
        if self.status.is_success() {
            return Ok(self);
        }
        Err(self.refused(format!("server returned HTTP status {}: {}", self.status, self.quote())))
    }

    /// The error of an answer whose status is not the expected one; `text` says which it is, in the
    /// words of Prometheus' mechanism.
    pub fn refused(&self, text: String) -> ApiError {
        ApiError::Status { status: self.status, code: String::new(), text }
    }

    /// The JSON of the body.
    pub fn json(&self) -> Result<Value, AnswerError> {
        serde_json::from_slice(&self.body).map_err(|e| AnswerError::Json(e.to_string()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header, if it is there and text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The beginning of the body, for errors.
    pub fn quote(&self) -> String {
        let start = &self.body[..self.body.len().min(QUOTE_BYTES)];
        String::from_utf8_lossy(start).split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// Counts the pages of a list, so that one that never ends does.
#[derive(Default)]
pub struct Pages(usize);

impl Pages {
    /// One more page; fails when there are too many.
    pub fn count(&mut self) -> Result<(), AnswerLimit> {
        self.0 += 1;
        if self.0 > DISCOVERY_PAGES {
            return Err(AnswerLimit::Pages);
        }
        Ok(())
    }
}

/// A body or query of names and values, encoded as forms are.
pub fn form<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// A URL with more parameters in its query; empty values are left out.
pub fn with_query(url: &str, pairs: &[(&str, &str)]) -> String {
    let pairs = pairs.iter().filter(|(_, value)| !value.is_empty()).copied();
    let query = form(pairs);
    match (query.is_empty(), url.contains('?')) {
        (true, _) => url.to_owned(),
        (false, true) => format!("{url}&{query}"),
        (false, false) => format!("{url}?{query}"),
    }
}

/// A text as one segment of a path.
pub fn path_segment(text: &str) -> String {
    let mut url = Url::parse("http://h").expect("a URL");
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.clear().push(text);
    }
    url.path().trim_start_matches('/').to_owned()
}
