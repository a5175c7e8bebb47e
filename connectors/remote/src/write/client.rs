//! [`WriteClient`]: sends one request of remote write, and says whether to send it again.

use crate::config::{MESSAGE_V2, RemoteWriteConfig};
use crate::http::{beginning, header_map};
use bytes::Bytes;
use connectors::config::error::BlockError;
use connectors::http_client::{HttpClient, Peers, error_chain};
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode};
use std::time::Duration;
use storage::model::TimeMs;
use url::Url;

/// The headers of an answer that say how much was stored: samples, histograms, exemplars.
const WRITTEN: [&str; 3] = [
    "x-prometheus-remote-write-samples-written",
    "x-prometheus-remote-write-histograms-written",
    "x-prometheus-remote-write-exemplars-written",
];

/// How much a receiver says that it stored of a request.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct WrittenCounts {
    pub samples: u64,
    pub histograms: u64,
    pub exemplars: u64,
    /// Whether it says so at all: receivers of 1.0 need not.
    pub is_reported: bool,
}

impl WrittenCounts {
    /// Adds those of a later attempt of the same request.
    pub(super) fn add(&mut self, later: WrittenCounts) {
        self.samples += later.samples;
        self.histograms += later.histograms;
        self.exemplars += later.exemplars;
        self.is_reported = later.is_reported;
    }
}

/// What an attempt has led to.
pub(super) struct WriteAnswer {
    /// What the receiver says that it stored: also of a request that it refuses it may have stored
    /// a part.
    pub written: WrittenCounts,
    pub outcome: Result<(), WriteError>,
}

/// Why a request was not stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum WriteError {
    /// The same request may be stored later.
    #[error("{reason}")]
    Later {
        reason: String,
        /// How long the receiver wants to be left alone.
        after: Option<Duration>,
    },
    /// The same request would be refused again.
    #[error("{0}")]
    Refused(String),
}

impl WriteError {
    fn later(reason: impl ToString) -> WriteError {
        WriteError::Later { reason: reason.to_string(), after: None }
    }
}

/// Sends requests to one URL.
pub(super) struct WriteClient {
    http: HttpClient,
    url: String,
    timeout: Duration,
    headers: HeaderMap,
    is_v2: bool,
    retries_429: bool,
}

impl WriteClient {
    /// A client for an entry of the configuration.
    pub(super) fn new(config: &RemoteWriteConfig, peers: &Peers) -> Result<WriteClient, BlockError> {
        let headers = header_map(&config.keys.headers)?;
        let http = config.http.client()?;
        let http = if config.keys.round_robin_dns { http.with_random_address() } else { http };
        let http = http.with_cloud_auth(config.cloud_auth());
        Ok(WriteClient {
            http: http.with_peers(peers),
            url: config.keys.url.expose().to_owned(),
            timeout: config.keys.remote_timeout.std(),
            headers,
            is_v2: config.keys.protobuf_message == MESSAGE_V2,
            retries_429: config.queue.queue_config.retry_on_http_429,
        })
    }

    /// Whether requests are those of remote write 2.0.
    pub(super) fn is_v2(&self) -> bool {
        self.is_v2
    }

    /// Sends a request, for the `attempt`th time after the first; `now` is the wall clock.
    pub(super) async fn send(&self, body: Bytes, attempt: u32, now: TimeMs) -> WriteAnswer {
        match self.answer(body, attempt).await {
            Ok(response) => {
                let written = written(response.headers());
                WriteAnswer { written, outcome: self.outcome(response, now).await }
            }
            Err(error) => WriteAnswer { written: WrittenCounts::default(), outcome: Err(error) },
        }
    }

    /// The answer to a request.
    async fn answer(&self, body: Bytes, attempt: u32) -> Result<Response, WriteError> {
        // Found out at each attempt, as in Prometheus, where a URL that cannot be used does not
        // keep the server from starting.
        let url = Url::parse(&self.url).map_err(WriteError::later)?;
        let (kind, version) = if self.is_v2 {
            ("application/x-protobuf;proto=io.prometheus.write.v2.Request", "2.0.0")
        } else {
            ("application/x-protobuf", "0.1.0")
        };
        let mut request = self
            .http
            .request(Method::POST, url)
            .map_err(WriteError::later)?
            .header(CONTENT_TYPE, kind)
            .header(CONTENT_ENCODING, "snappy")
            .header("X-Prometheus-Remote-Write-Version", version)
            .timeout(self.timeout)
            .body(body);
        if attempt > 0 {
            request = request.header("Retry-Attempt", attempt);
        }
        // The last ones: they replace others of the same name.
        request = request.headers(self.headers.clone());
        let response = self.http.send(request).await;
        response.map_err(|error| WriteError::later(error_chain(&error.without_url())))
    }

    /// What an answer says about the request.
    async fn outcome(&self, response: Response, now: TimeMs) -> Result<(), WriteError> {
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let after =
            response.headers().get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?, now));
        let answer = beginning(response).await;
        let reason = format!("server returned HTTP status {status}: {answer}");
        let is_busy = status == StatusCode::TOO_MANY_REQUESTS && self.retries_429;
        if status.is_server_error() || is_busy {
            return Err(WriteError::Later { reason, after });
        }
        Err(WriteError::Refused(reason))
    }
}

/// Reads [`WRITTEN`].
fn written(headers: &HeaderMap) -> WrittenCounts {
    let value = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let number = |name: &str| value(name).and_then(|text| text.parse().ok()).unwrap_or(0);
    let [samples, histograms, exemplars] = WRITTEN.map(number);
    WrittenCounts {
        samples,
        histograms,
        exemplars,
        is_reported: WRITTEN.iter().any(|name| value(name).is_some()),
    }
}

/// The pause of a `Retry-After`: seconds, or a date.
fn retry_after(text: &str, now: TimeMs) -> Option<Duration> {
    let seconds = match text.parse::<i64>() {
        Ok(seconds) => seconds,
        Err(_) => {
            let date = chrono::NaiveDateTime::parse_from_str(text, "%a, %d %b %Y %H:%M:%S GMT").ok()?;
            date.and_utc().timestamp() - now.div_euclid(1000)
        }
    };
    u64::try_from(seconds).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let cases = [
            ("7", Some(7)),
            ("0", None),
            ("-3", None),
            ("soon", None),
            ("Tue, 14 Nov 2023 22:13:30 GMT", Some(10)),
            ("Tue, 14 Nov 2023 22:13:00 GMT", None),
        ];
        for (text, expected) in cases {
            assert_eq!(retry_after(text, 1_700_000_000_000), expected.map(Duration::from_secs), "{text}");
        }
    }
}
