//! [`TraceExporter`]: a bounded queue of finished spans, and the task that sends them.
//!
//! Spans are sent when 512 wait, or every five seconds. If the receiver is slow or away the queue
//! fills, and further spans are dropped and counted: nothing else waits for it.

use super::config::TracingConfig;
use super::message;
use crate::http_client::{HttpClient, HttpConfig, RequestError, TlsConfig, error_chain, http2_client};
use crate::limits::{
    SPAN_ATTEMPTS, SPAN_BATCH, SPAN_FLUSH_SECONDS, SPAN_INTERVAL_SECONDS, SPAN_QUEUE, SPAN_RETRY_SECONDS,
};
use http_body::Body as _;
use parking_lot::Mutex;
use prost::Message;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use std::hash::{BuildHasher, Hasher};
use std::io::Write;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use storage::metrics::{Counter, Metrics};
use storage::spans::{FinishedSpan, SpanSink, Tracer};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use url::Url;

/// Why spans cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The configuration makes no client.
    #[error("tracing: {0}")]
    Client(#[from] RequestError),
    /// The endpoint is no host and port.
    #[error("tracing: endpoint: {0}")]
    Endpoint(#[from] url::ParseError),
    /// A header has characters that none may have.
    #[error("tracing: header {0:?} cannot be sent")]
    Header(String),
    /// The receiver could not be reached.
    #[error("{0}")]
    Unreachable(String),
    /// The receiver refused them; `is_temporary` if it may take them later.
    #[error("the receiver of traces answered {status}")]
    Refused {
        /// What it answered.
        status: String,
        /// Whether it may take them later.
        is_temporary: bool,
    },
}

impl TraceError {
    /// Whether the same request may succeed later.
    fn is_temporary(&self) -> bool {
        match self {
            TraceError::Client(_) | TraceError::Endpoint(_) | TraceError::Header(_) => false,
            TraceError::Unreachable(_) => true,
            TraceError::Refused { is_temporary, .. } => *is_temporary,
        }
    }
}

/// Sends spans as the configuration says; it may be off.
pub struct TraceExporter {
    tracer: Tracer,
    counters: ExportCounters,
    running: Mutex<Option<RunningExport>>,
}

/// Counts spans.
#[derive(Clone)]
struct ExportCounters {
    sent: Arc<Counter>,
    dropped: Arc<Counter>,
}

/// A configuration in force.
struct RunningExport {
    config: TracingConfig,
    queue: Arc<SpanQueue>,
    task: JoinHandle<()>,
}

impl TraceExporter {
    /// An exporter for the spans of `tracer`, which is off.
    pub fn new(tracer: Tracer, metrics: &Metrics) -> TraceExporter {
        let counters = ExportCounters {
            sent: metrics.counter("perennial_tracing_spans_sent_total", "Spans that were sent.", &[]),
            dropped: metrics.counter(
                "perennial_tracing_spans_dropped_total",
                "Spans that were not sent: the queue was full, or the receiver did not take them.",
                &[],
            ),
        };
        TraceExporter { tracer, counters, running: Mutex::default() }
    }

    /// Puts a configuration in force; `None` is off. Needs a runtime. Spans that wait for the old
    /// receiver have five seconds.
    ///
    /// # Errors
    ///
    /// It makes no client, such as for a certificate that cannot be read. What was in force stays.
    pub fn apply(&self, config: Option<&TracingConfig>) -> Result<(), TraceError> {
        let mut running = self.running.lock();
        let known = running.as_ref().map(|running| &running.config);
        // With certificates always, because their files may have changed.
        if known == config && config.is_none_or(|config| config.tls_config.is_none()) {
            return Ok(());
        }
        let started = config.map(|config| self.start(config)).transpose()?;
        let old = std::mem::replace(&mut *running, started);
        if running.is_none() {
            self.tracer.stop();
        }
        if let Some(old) = old {
            old.queue.stop();
        }
        Ok(())
    }

    /// Starts a client for the block and the task that sends.
    fn start(&self, config: &TracingConfig) -> Result<RunningExport, TraceError> {
        let client = SpanClient::new(config)?;
        let queue = Arc::new(SpanQueue {
            spans: Mutex::default(),
            is_stopped: AtomicBool::new(false),
            filled: Notify::new(),
            dropped: self.counters.dropped.clone(),
        });
        let task = tokio::spawn(send_all(queue.clone(), client, self.counters.clone()));
        // The hasher of the standard library's maps is the random number that is there.
        let seed = std::collections::hash_map::RandomState::new().build_hasher().finish();
        self.tracer.route(queue.clone(), config.sampling_fraction, seed);
        Ok(RunningExport { config: config.clone(), queue, task })
    }

    /// Sends what waits, for at most five seconds, and ends.
    pub async fn close(&self) {
        self.tracer.stop();
        let running = self.running.lock().take();
        if let Some(RunningExport { queue, task, .. }) = running {
            queue.stop();
            // The task has the same limit; a panic of it has no effect on the end of the server.
            let _ = tokio::time::timeout(Duration::from_secs(SPAN_FLUSH_SECONDS + 1), task).await;
        }
    }
}

/// Spans that wait.
struct SpanQueue {
    spans: Mutex<Vec<FinishedSpan>>,
    is_stopped: AtomicBool,
    filled: Notify,
    dropped: Arc<Counter>,
}

impl SpanSink for SpanQueue {
    fn put(&self, span: FinishedSpan) {
        let mut spans = self.spans.lock();
        if spans.len() >= SPAN_QUEUE {
            self.dropped.inc();
            return;
        }
        spans.push(span);
        if spans.len() == SPAN_BATCH {
            self.filled.notify_one();
        }
    }

    fn now_ns(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl SpanQueue {
    /// Ends the task that sends, after what waits.
    fn stop(&self) {
        self.is_stopped.store(true, Relaxed);
        self.filled.notify_one();
    }

    /// Removes the oldest spans, as many as one request has.
    fn drain_batch(&self) -> Vec<FinishedSpan> {
        let mut spans = self.spans.lock();
        let batch = spans.len().min(SPAN_BATCH);
        spans.drain(..batch).collect()
    }
}

/// Sends spans until the queue is stopped.
async fn send_all(queue: Arc<SpanQueue>, client: SpanClient, counters: ExportCounters) {
    loop {
        let waited = Duration::from_secs(SPAN_INTERVAL_SECONDS);
        // A full batch, or the end of the wait, or the end of all.
        let _ = tokio::time::timeout(waited, queue.filled.notified()).await;
        if queue.is_stopped.load(Relaxed) {
            let rest = send_waiting(&queue, &client, &counters);
            let ended = tokio::time::timeout(Duration::from_secs(SPAN_FLUSH_SECONDS), rest).await;
            if ended.is_err() {
                counters.dropped.add(queue.spans.lock().len() as u64);
            }
            return;
        }
        send_waiting(&queue, &client, &counters).await;
    }
}

/// Sends what waits now.
async fn send_waiting(queue: &SpanQueue, client: &SpanClient, counters: &ExportCounters) {
    loop {
        let batch = queue.drain_batch();
        if batch.is_empty() {
            return;
        }
        let num_spans = batch.len();
        match client.send_patiently(message::request(batch).encode_to_vec()).await {
            Ok(()) => counters.sent.add(num_spans as u64),
            Err(error) => {
                counters.dropped.add(num_spans as u64);
                tracing::warn!(target: "tracing", num_spans, "spans were not sent: {error}");
            }
        }
    }
}

/// The client of one receiver.
struct SpanClient {
    sender: Sender,
    url: Url,
    headers: HeaderMap,
    is_gzip: bool,
    timeout: Duration,
}

/// How requests are sent.
enum Sender {
    Http(Box<HttpClient>),
    Grpc(reqwest::Client),
}

impl SpanClient {
    fn new(config: &TracingConfig) -> Result<SpanClient, TraceError> {
        let scheme = if config.insecure { "http" } else { "https" };
        let path = if config.is_grpc() {
            "opentelemetry.proto.collector.trace.v1.TraceService/Export"
        } else {
            "v1/traces"
        };
        let url = format!("{scheme}://{}/{path}", config.endpoint);
        let url = Url::parse(&url)?;
        let tls = config.tls_config.clone().filter(|_| !config.insecure).unwrap_or_default();
        let mut headers = HeaderMap::new();
        for (name, value) in &config.headers {
            let fault = || TraceError::Header(name.clone());
            let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| fault())?;
            let mut value = HeaderValue::from_str(value.expose()).map_err(|_| fault())?;
            value.set_sensitive(true);
            headers.insert(header, value);
        }
        Ok(SpanClient {
            sender: Sender::new(config.is_grpc(), tls)?,
            url,
            headers,
            is_gzip: config.is_gzip(),
            timeout: config.timeout.std(),
        })
    }

    /// Sends a message, again and again while the receiver may take it later.
    async fn send_patiently(&self, message: Vec<u8>) -> Result<(), TraceError> {
        let mut attempt = 1;
        loop {
            match self.send(&message).await {
                Err(error) if error.is_temporary() && attempt < SPAN_ATTEMPTS => {
                    tokio::time::sleep(Duration::from_secs(SPAN_RETRY_SECONDS * attempt)).await;
                    attempt += 1;
                }
                sent => return sent,
            }
        }
    }

    /// Sends a request once.
    async fn send(&self, message: &[u8]) -> Result<(), TraceError> {
        let sent = async {
            match &self.sender {
                Sender::Http(client) => self.send_http(client, message).await,
                Sender::Grpc(client) => self.send_grpc(client, message).await,
            }
        };
        let late = || TraceError::Unreachable("the receiver of traces did not answer in time".to_owned());
        tokio::time::timeout(self.timeout, sent).await.unwrap_or_else(|_| Err(late()))
    }

    /// Sends a request over HTTP.
    async fn send_http(&self, client: &HttpClient, message: &[u8]) -> Result<(), TraceError> {
        let mut request = client
            .request(reqwest::Method::POST, self.url.clone())
            .map_err(|error| TraceError::Unreachable(error.to_string()))?
            .headers(self.headers.clone())
            .header(CONTENT_TYPE, "application/x-protobuf");
        request = if self.is_gzip {
            request.header(CONTENT_ENCODING, "gzip").body(gzip(message))
        } else {
            request.body(message.to_vec())
        };
        let answer = client.send(request).await;
        let answer = answer.map_err(|error| TraceError::Unreachable(error_chain(&error.without_url())))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        // Those that OTLP says may be tried again.
        let is_temporary = matches!(status.as_u16(), 429 | 502 | 503 | 504);
        Err(TraceError::Refused { status: status.to_string(), is_temporary })
    }

    /// Sends a request over gRPC.
    async fn send_grpc(&self, client: &reqwest::Client, message: &[u8]) -> Result<(), TraceError> {
        let content = if self.is_gzip { gzip(message) } else { message.to_vec() };
        let mut body = Vec::with_capacity(content.len() + 5);
        body.push(u8::from(self.is_gzip));
        body.extend((content.len() as u32).to_be_bytes());
        body.extend(content);
        let mut request = client
            .post(self.url.clone())
            .headers(self.headers.clone())
            .header(CONTENT_TYPE, "application/grpc")
            .header("te", "trailers")
            .body(body);
        if self.is_gzip {
            request = request.header("grpc-encoding", "gzip");
        }
        let answer = request.send().await;
        let answer = answer.map_err(|error| TraceError::Unreachable(error_chain(&error.without_url())))?;
        if !answer.status().is_success() {
            let status = answer.status();
            let is_temporary = matches!(status.as_u16(), 429 | 502 | 503 | 504);
            return Err(TraceError::Refused { status: status.to_string(), is_temporary });
        }
        grpc_status(answer).await
    }
}

impl Sender {
    fn new(is_grpc: bool, tls_config: TlsConfig) -> Result<Sender, RequestError> {
        if is_grpc {
            return http2_client(&tls_config).map(Sender::Grpc);
        }
        Ok(Sender::Http(Box::new(HttpConfig { tls_config, ..HttpConfig::default() }.client()?)))
    }
}

/// The status of a call of gRPC, which comes after the answer, or in its place.
async fn grpc_status(answer: reqwest::Response) -> Result<(), TraceError> {
    let mut headers = answer.headers().clone();
    let mut body = reqwest::Body::from(answer);
    while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame.map_err(|error| TraceError::Unreachable(error_chain(&error)))?;
        if let Ok(trailers) = frame.into_trailers() {
            headers.extend(trailers);
        }
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    let code = text("grpc-status");
    if code == "0" {
        return Ok(());
    }
    // Those that OTLP says may be tried again: cancelled, deadline, resources, aborted, out of
    // range, unavailable, data loss.
    let is_temporary = matches!(code.as_str(), "1" | "4" | "8" | "10" | "11" | "14" | "15");
    let status = format!("gRPC status {code} {}", text("grpc-message"));
    Err(TraceError::Refused { status: status.trim_end().to_owned(), is_temporary })
}

/// The message, compressed.
fn gzip(message: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    // Writing to memory does not fail.
    let _ = encoder.write_all(message);
    encoder.finish().unwrap_or_default()
}

#[cfg(test)]
mod tests;
