//! Asks web APIs: requests with a timeout, answers up to a limit, JSON, numbered pages.

use crate::http_client::{HttpClient, SendError, error_chain};
use crate::limits::{DISCOVERY_ANSWER_BYTES, DISCOVERY_PAGES, QUOTE_BYTES};
use reqwest::header::{ACCEPT, HeaderMap};
use reqwest::{Method, Request, RequestBuilder, StatusCode};
use serde_json::Value;
use std::time::Duration;
use url::Url;

/// Makes requests to an API, with a timeout and up to the limits of this crate.
#[derive(Clone)]
pub struct ApiClient {
    client: HttpClient,
    timeout: Duration,
}

impl ApiClient {
    /// Makes its requests with `client`; each may take `timeout`.
    pub fn of(client: HttpClient, timeout: Duration) -> ApiClient {
        ApiClient { client, timeout }
    }

    /// A request, with the credentials of the block.
    pub fn request(&self, method: Method, url: &str) -> Result<RequestBuilder, String> {
        let url = Url::parse(url).map_err(|e| format!("parse URL of the API: {e}"))?;
        Ok(self.client.request(method, url)?.timeout(self.timeout))
    }

    /// Sends a request; its answer may have any status.
    pub async fn send(&self, request: RequestBuilder) -> Result<ApiAnswer, String> {
        let failed = |e: SendError| error_chain(&e.without_url());
        let mut response = self.client.send(request).await.map_err(failed)?;
        let status = response.status();
        let headers = std::mem::take(response.headers_mut());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(SendError::from).map_err(failed)? {
            body.extend_from_slice(&chunk);
            if body.len() > DISCOVERY_ANSWER_BYTES {
                return Err(format!("an answer is larger than {} MiB", DISCOVERY_ANSWER_BYTES >> 20));
            }
        }
        Ok(ApiAnswer { status, headers, body })
    }

    /// Sends a request after `change` has been at it, such as a signature.
    pub async fn send_changed(
        &self,
        request: RequestBuilder,
        change: impl FnOnce(&mut Request) -> Result<(), String>,
    ) -> Result<ApiAnswer, String> {
        let (client, request) = request.build_split();
        let mut request = request.map_err(|e| error_chain(&e.without_url()))?;
        change(&mut request)?;
        self.send(RequestBuilder::from_parts(client, request)).await
    }

    /// The JSON that a `GET` answers with a status of success.
    pub async fn get(&self, url: &str) -> Result<Value, String> {
        self.json(self.request(Method::GET, url)?.header(ACCEPT, "application/json")).await
    }

    /// The JSON that a request answers with a status of success.
    pub async fn json(&self, request: RequestBuilder) -> Result<Value, String> {
        self.send(request).await?.success()?.json()
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
    pub fn success(self) -> Result<ApiAnswer, String> {
        if self.status.is_success() {
            return Ok(self);
        }
        Err(format!("server returned HTTP status {}: {}", self.status, self.quote()))
    }

    /// The JSON of the body.
    pub fn json(&self) -> Result<Value, String> {
        serde_json::from_slice(&self.body).map_err(|e| format!("the answer is not JSON: {e}"))
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
    pub fn count(&mut self) -> Result<(), String> {
        self.0 += 1;
        if self.0 > DISCOVERY_PAGES {
            return Err(format!("the list has more than {DISCOVERY_PAGES} pages"));
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
