//! [`ReadClient`]: sends remote read requests to one server and receives the answers. It does not
//! decode them: the thread of the query does that ([`super::remote_read`]), so that large answers
//! do not hold up the network.

use super::MemoryRefused;
use crate::config::RemoteReadConfig;
use crate::http::{beginning, header_map};
use crate::limits::READ_FRAME_BYTES;
use bytes::Bytes;
use connectors::config::error::BlockError;
use connectors::http_client::{HttpClient, Peers, SendError, error_chain};
use connectors::protobuf::ProtobufError;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use reqwest::{Method, Response};
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::metrics::{Gauge, Metrics};
use storage::model::time::format_duration;
use tokio::sync::mpsc;
use url::Url;

/// The content type of one message with all samples.
const SAMPLES: &str = "application/x-protobuf";
/// The content type of a stream of frames.
const FRAMES: &str = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";
/// The bounds of the duration of a request, seconds.
const DURATION_BOUNDS: [f64; 13] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0];

/// Why a server has no answer. The texts are those of Prometheus where it has the same error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadFailure {
    /// The server cannot be reached, or there are no credentials for it.
    #[error("error sending request: {0}")]
    Send(String),
    /// It took longer than `remote_timeout`.
    #[error("request timed out after {0}")]
    Timeout(String),
    /// It refused.
    #[error("remote server {url} returned http status {status}: {text}")]
    Status {
        /// Where it was asked, without a password.
        url: String,
        /// The status.
        status: String,
        /// The beginning of its answer.
        text: String,
    },
    /// It answered in a form that was not asked for.
    #[error("unsupported content type: {0}")]
    ContentType(String),
    /// The answer broke off.
    #[error("error reading response: {0}")]
    Body(String),
    /// The answer is no message of remote read.
    #[error("unable to unmarshal response body: {0}")]
    Message(String),
    /// The answer is to another number of queries.
    #[error("responses: want 1, got {got}")]
    Results {
        /// To how many.
        got: usize,
    },
    /// The labels of a series are not valid.
    #[error("{0}")]
    Labels(String),
    /// A chunk cannot be decoded.
    #[error("{0}")]
    Chunk(String),
    /// A frame is too large.
    #[error("chunkedReader: message size exceeded the limit {most} bytes; got: {got} bytes")]
    FrameSize {
        /// The limit.
        most: usize,
        /// The size of the frame.
        got: usize,
    },
    /// A frame is damaged.
    #[error("chunkedReader: corrupted frame; checksum mismatch")]
    Checksum,
    /// The stream ended within a frame.
    #[error("unexpected EOF")]
    CutOff,
    /// The answer does not fit into the memory of the query.
    #[error(transparent)]
    Memory(#[from] MemoryRefused),
}

impl From<ProtobufError> for ReadFailure {
    fn from(error: ProtobufError) -> ReadFailure {
        ReadFailure::Message(error.to_string())
    }
}

/// The form of an answer.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum AnswerForm {
    /// One compressed message.
    Samples,
    /// A stream of frames.
    Frames,
}

impl AnswerForm {
    /// Its name in metrics.
    fn as_str(self) -> &'static str {
        match self {
            AnswerForm::Samples => "sampled",
            AnswerForm::Frames => "chunked",
        }
    }
}

/// A part of an answer, in order.
#[derive(Debug)]
pub(super) enum AnswerPart {
    /// It begins.
    Begin(AnswerForm),
    /// Bytes of its body.
    Bytes(Bytes),
    /// It is complete.
    End,
}

/// A part of the answer to a request, or why there is no more.
pub(super) struct ReadEvent {
    /// The number of the request.
    pub(super) read: usize,
    /// The part.
    pub(super) part: Result<AnswerPart, ReadFailure>,
}

/// Takes the parts of the answer to one request.
pub(super) struct PartSender {
    /// The number of the request.
    pub(super) read: usize,
    /// Where they go.
    pub(super) events: mpsc::Sender<ReadEvent>,
}

impl PartSender {
    /// Sends a part; returns whether anybody waits for more.
    async fn send(&self, part: AnswerPart) -> bool {
        self.event(Ok(part)).await
    }

    async fn event(&self, part: Result<AnswerPart, ReadFailure>) -> bool {
        self.events.send(ReadEvent { read: self.read, part }).await.is_ok()
    }
}

/// Asks one server.
pub(super) struct ReadClient {
    http: HttpClient,
    url: String,
    shown_url: String,
    timeout: Duration,
    headers: HeaderMap,
    /// The largest frame, bytes.
    pub(super) most_frame: usize,
    metrics: ReadMetrics,
}

/// The metrics of one server.
struct ReadMetrics {
    registry: Metrics,
    name: String,
    url: String,
    /// Requests at work.
    queries: Arc<Gauge>,
}

/// A request at work; counted until it is dropped.
struct CountedRequest<'a>(&'a Gauge);

impl Drop for CountedRequest<'_> {
    fn drop(&mut self) {
        self.0.add(-1.0);
    }
}

impl ReadClient {
    /// A client for an entry of the configuration, whose name in metrics is `name`.
    pub(super) fn new(
        config: &RemoteReadConfig,
        name: String,
        peers: &Peers,
        metrics: &Metrics,
    ) -> Result<ReadClient, BlockError> {
        let keys = &config.keys;
        let shown_url = keys.url.to_string();
        Ok(ReadClient {
            http: config.http.client()?.with_peers(peers),
            url: keys.url.expose().to_owned(),
            timeout: keys.remote_timeout.std(),
            headers: header_map(&keys.headers)?,
            most_frame: usize::try_from(keys.chunked_read_limit).unwrap_or(usize::MAX).min(READ_FRAME_BYTES),
            metrics: ReadMetrics::new(metrics, name, shown_url.clone()),
            shown_url,
        })
    }

    /// Sends a request and passes the parts of the answer on, or why there is none.
    pub(super) async fn ask(&self, body: Vec<u8>, parts: &PartSender) {
        if let Err(failure) = self.receive(body, parts).await {
            // If nobody waits for it any more, nobody wants to know.
            parts.event(Err(failure)).await;
        }
    }

    async fn receive(&self, body: Vec<u8>, parts: &PartSender) -> Result<(), ReadFailure> {
        self.metrics.queries.add(1.0);
        let _counted = CountedRequest(&self.metrics.queries);
        let started = Instant::now();
        let mut response = self.send(body).await?;
        let status = response.status();
        if !status.is_success() {
            // Only the beginning: the body of an error may be a page of any length.
            let text = beginning(response).await.trim_matches('\n').to_owned();
            let url = self.shown_url.clone();
            return Err(ReadFailure::Status { url, status: status.to_string(), text });
        }
        let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_owned();
        // By the type of the answer and not by what was asked for: an older server answers samples
        // to everyone.
        let form = if content_type.starts_with(SAMPLES) {
            AnswerForm::Samples
        } else if content_type.starts_with(FRAMES) {
            AnswerForm::Frames
        } else {
            self.metrics.answered("unsupported", started);
            self.metrics.ended("unsupported", status.as_str());
            return Err(ReadFailure::ContentType(content_type));
        };
        self.metrics.answered(form.as_str(), started);
        // Nobody waits any more: the query has ended. Dropping the response ends the request, too.
        if !parts.send(AnswerPart::Begin(form)).await {
            return Ok(());
        }
        loop {
            match response.chunk().await {
                Ok(Some(bytes)) => {
                    if !parts.send(AnswerPart::Bytes(bytes)).await {
                        return Ok(());
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    // The status was one of success; only this code tells that the answer broke
                    // off.
                    self.metrics.ended(form.as_str(), "aborted_stream");
                    return Err(self.failure(SendError::Http(error), ReadFailure::Body));
                }
            }
        }
        self.metrics.ended(form.as_str(), status.as_str());
        parts.send(AnswerPart::End).await;
        Ok(())
    }

    async fn send(&self, body: Vec<u8>) -> Result<Response, ReadFailure> {
        let unsent = |error: &dyn std::error::Error| ReadFailure::Send(error_chain(error));
        // Found out at each request, as in Prometheus, where a URL that cannot be used does not
        // keep the server from starting.
        let url = Url::parse(&self.url).map_err(|error| unsent(&error))?;
        let request = self.http.request(Method::POST, url).map_err(|error| unsent(&error))?;
        let request = request
            .header(CONTENT_TYPE, "application/x-protobuf")
            .header(CONTENT_ENCODING, "snappy")
            .header(ACCEPT_ENCODING, "snappy")
            .header("X-Prometheus-Remote-Read-Version", "0.1.0")
            .timeout(self.timeout)
            .body(body)
            // The last ones: they replace others of the same name.
            .headers(self.headers.clone());
        self.http.send(request).await.map_err(|error| self.failure(error, ReadFailure::Send))
    }

    /// The failure of a request: its time is over, or what `or` says.
    fn failure(&self, error: SendError, or: impl FnOnce(String) -> ReadFailure) -> ReadFailure {
        if matches!(&error, SendError::Http(error) if error.is_timeout()) {
            let ms = i64::try_from(self.timeout.as_millis()).unwrap_or(i64::MAX);
            // With the time and not with the words of the HTTP client, so that the warning names
            // the setting.
            return ReadFailure::Timeout(format_duration(ms));
        }
        // The URL may have a password; the warning goes to whoever made the query.
        or(error_chain(&error.without_url()))
    }
}

impl ReadMetrics {
    fn new(registry: &Metrics, name: String, url: String) -> ReadMetrics {
        let labels = [("remote_name", name.as_str()), ("url", url.as_str())];
        let queries = registry.gauge(
            "prometheus_remote_read_client_queries",
            "The number of in-flight remote read queries.",
            &labels,
        );
        ReadMetrics { registry: registry.clone(), queries, name, url }
    }

    /// An answer began.
    fn answered(&self, form: &str, started: Instant) {
        let labels = [("remote_name", self.name.as_str()), ("response_type", form), ("url", &self.url)];
        let histogram = self.registry.histogram(
            "prometheus_remote_read_client_request_duration_seconds",
            "Histogram of the latency for remote read requests. Note that for streamed responses this is only the duration of the initial call and does not include the processing of the stream.",
            &labels,
            &DURATION_BOUNDS,
        );
        histogram.observe(started.elapsed().as_secs_f64());
    }

    /// An answer ended with this status.
    fn ended(&self, form: &str, code: &str) {
        let labels = [
            ("code", code),
            ("remote_name", self.name.as_str()),
            ("response_type", form),
            ("url", self.url.as_str()),
        ];
        let counter = self.registry.counter(
            "prometheus_remote_read_client_queries_total",
            "The total number of remote read queries.",
            &labels,
        );
        counter.inc();
    }
}
