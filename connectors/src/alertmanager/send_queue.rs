//! [`SendQueue`]: a bounded queue of alerts for one Alertmanager, and the task that sends them.
//!
//! A batch is tried a few times with growing pauses, then given up and counted: the rules send
//! firing alerts again anyway. Meanwhile the queue fills; when it is full, the oldest alerts are
//! dropped.

use super::api_v2::{AlertmanagerAlert, DeliveryReport, QueuedAlert};
use super::notifier::QueueLimits;
use crate::http_client::{HttpClient, RequestError, error_chain};
use crate::limits;
use parking_lot::Mutex;
use reqwest::StatusCode;
use reqwest::header::CONTENT_TYPE;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;
use storage::metrics::{Counter, Gauge, MetricHistogram, Metrics};
use tokio::sync::Notify;
use url::Url;

/// The metrics of the queue of one Alertmanager.
pub struct QueueMetrics {
    /// Alerts that were sent, whether or not they were accepted.
    sent: Arc<Counter>,
    /// Alerts that were not accepted.
    errors: Arc<Counter>,
    /// Alerts that were not accepted or did not fit into the queue.
    dropped: Arc<Counter>,
    /// Alerts that wait.
    length: Arc<Gauge>,
    /// Time of one attempt to send a batch, seconds.
    latency: Arc<MetricHistogram>,
}

/// Why a batch of alerts was not accepted, or a question not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DeliveryError {
    /// The alerts cannot be written as JSON.
    #[error("{0}")]
    Content(String),
    /// A file with a password cannot be read; it is read again for the next attempt.
    #[error(transparent)]
    Credentials(#[from] RequestError),
    /// The Alertmanager cannot be reached, or does not answer in time.
    #[error("{0}")]
    Unavailable(String),
    /// It answered with a status that is not one of success.
    #[error("bad response status {status}: {answer}")]
    Status {
        /// The status.
        status: StatusCode,
        /// The beginning of the answer.
        answer: String,
    },
}

impl DeliveryError {
    /// Whether the same alerts may be accepted later.
    fn is_retryable(&self) -> bool {
        match self {
            DeliveryError::Content(_) => false,
            DeliveryError::Credentials(_) | DeliveryError::Unavailable(_) => true,
            // Any other status refuses these alerts, and would refuse them again.
            DeliveryError::Status { status, .. } => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
            }
        }
    }
}

/// The bucket bounds of the send latency, seconds.
const LATENCY_BOUNDS: [f64; 8] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 10.0];

impl QueueMetrics {
    fn new(registry: &Metrics, url: &str, capacity: usize) -> QueueMetrics {
        let labels = [("alertmanager", url)];
        let help = "Alerts that may wait for this Alertmanager.";
        registry.gauge("prometheus_notifications_queue_capacity", help, &labels).set(capacity as f64);
        QueueMetrics {
            sent: registry.counter("prometheus_notifications_sent_total", "Alerts sent.", &labels),
            errors: registry.counter(
                "prometheus_notifications_errors_total",
                "Alerts not delivered.",
                &labels,
            ),
            dropped: registry.counter(
                "prometheus_notifications_dropped_total",
                "Alerts dropped because of errors or a full queue.",
                &labels,
            ),
            length: registry.gauge("prometheus_notifications_queue_length", "Alerts waiting.", &labels),
            latency: registry.histogram(
                "prometheus_notifications_send_latency_seconds",
                "Time to deliver one batch.",
                &labels,
                &LATENCY_BOUNDS,
            ),
        }
    }
}

/// The queue of one Alertmanager.
pub struct SendQueue {
    /// Where alerts are posted: `…/api/v2/alerts`.
    url: Url,
    client: HttpClient,
    /// The timeout of one attempt.
    timeout: Duration,
    limits: QueueLimits,
    /// Oldest first.
    waiting: Mutex<VecDeque<QueuedAlert>>,
    /// Whether a batch is being sent.
    sending: AtomicBool,
    /// Notified when alerts are queued.
    queued_notify: Notify,
    metrics: QueueMetrics,
}

impl SendQueue {
    /// An empty queue. [`SendQueue::run`] must be spawned for it.
    pub fn new(
        url: Url,
        client: HttpClient,
        timeout: Duration,
        limits: QueueLimits,
        registry: &Metrics,
    ) -> SendQueue {
        let metrics = QueueMetrics::new(registry, url.as_str(), limits.capacity);
        SendQueue {
            url,
            client,
            timeout,
            limits,
            waiting: Mutex::default(),
            sending: AtomicBool::default(),
            queued_notify: Notify::default(),
            metrics,
        }
    }

    /// The URL to which it sends.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// How it is asked.
    pub(super) fn client(&self) -> &HttpClient {
        &self.client
    }

    /// The time of one attempt.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Queues alerts, and drops the oldest if there are too many. Never waits.
    pub fn push(&self, alerts: impl IntoIterator<Item = QueuedAlert>) {
        let mut waiting = self.waiting.lock();
        waiting.extend(alerts);
        // The oldest go: a firing alert is sent again by its rule, and of two states of one alert
        // the later is true.
        let excess = waiting.len().saturating_sub(self.limits.capacity);
        waiting.drain(..excess);
        self.metrics.length.set(waiting.len() as f64);
        drop(waiting);
        if excess > 0 {
            self.metrics.dropped.add(excess as u64);
            tracing::error!(
                target: "alertmanager", alertmanager = %self.url, dropped = excess,
                "the alert queue is full: the oldest alerts are dropped; the Alertmanager is too slow or away"
            );
        }
        self.queued_notify.notify_one();
    }

    /// Whether everything was sent or given up.
    pub fn is_idle(&self) -> bool {
        self.waiting.lock().is_empty() && !self.sending.load(SeqCst)
    }

    /// Sends what is queued, for ever.
    pub async fn run(self: Arc<Self>) {
        loop {
            let batch = self.next_batch();
            if batch.is_empty() {
                self.sending.store(false, SeqCst);
                self.queued_notify.notified().await;
                continue;
            }
            match self.deliver(&batch).await {
                Ok(()) => self.report(&batch, None),
                Err(error) => {
                    self.report(&batch, Some(&error.to_string()));
                    self.metrics.errors.add(batch.len() as u64);
                    self.metrics.dropped.add(batch.len() as u64);
                    tracing::error!(
                        target: "alertmanager", alertmanager = %self.url, alerts = batch.len(), %error,
                        "alerts were not delivered and are dropped; firing ones are sent again by their rules"
                    );
                }
            }
            // Also when they were not delivered, as in Prometheus, where `sent` counts attempts and
            // `errors` those that failed.
            self.metrics.sent.add(batch.len() as u64);
        }
    }

    /// Tells who sent the alerts what became of them.
    fn report(&self, batch: &[QueuedAlert], error: Option<&str>) {
        let report = DeliveryReport { alertmanager: self.url.as_str(), error };
        for on_delivered in batch.iter().filter_map(|queued| queued.on_delivered.as_ref()) {
            on_delivered(report);
        }
    }

    /// Takes the next batch out of the queue; empty if nothing waits.
    fn next_batch(&self) -> Vec<QueuedAlert> {
        let mut waiting = self.waiting.lock();
        let count = waiting.len().min(self.limits.batch);
        let batch = waiting.drain(..count).collect();
        // Set under the lock, so that `is_idle` never sees an empty queue before sending begins.
        self.sending.store(true, SeqCst);
        self.metrics.length.set(waiting.len() as f64);
        batch
    }

    /// Sends a batch, with some attempts.
    async fn deliver(&self, batch: &[QueuedAlert]) -> Result<(), DeliveryError> {
        let alerts: Vec<&AlertmanagerAlert> = batch.iter().map(|queued| queued.alert.as_ref()).collect();
        let body = serde_json::to_vec(&alerts).map_err(|e| DeliveryError::Content(e.to_string()))?;
        let (mut pause_ms, longest_pause_ms) = limits::ALERT_BACKOFF_MS;
        let mut attempt = 1;
        loop {
            let start = tokio::time::Instant::now();
            let result = self.post(body.clone()).await;
            self.metrics.latency.observe(start.elapsed().as_secs_f64());
            match result {
                Ok(()) => return Ok(()),
                Err(error) if !error.is_retryable() || attempt == limits::ALERT_ATTEMPTS => {
                    return Err(error);
                }
                Err(error) => {
                    tracing::warn!(
                        target: "alertmanager", alertmanager = %self.url, %error, attempt,
                        "sending alerts failed; they are sent again after a pause"
                    );
                }
            }
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            // Four attempts in a few seconds: longer would hold alerts that are out of date when
            // they arrive.
            pause_ms = (pause_ms * 4).min(longest_pause_ms);
            attempt += 1;
        }
    }

    /// Sends one POST.
    async fn post(&self, body: Vec<u8>) -> Result<(), DeliveryError> {
        let request = self.client.request(reqwest::Method::POST, self.url.clone())?;
        let request = request.header(CONTENT_TYPE, "application/json").timeout(self.timeout).body(body);
        let mut response =
            self.client.send(request).await.map_err(|e| DeliveryError::Unavailable(error_chain(&e)))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let mut answer = Vec::new();
        // The answer says which alert is refused and why; its beginning is enough.
        while answer.len() < limits::ALERT_ANSWER_BYTES {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    answer.extend_from_slice(&chunk[..chunk.len().min(limits::ALERT_ANSWER_BYTES)])
                }
                Ok(None) | Err(_) => break,
            }
        }
        Err(DeliveryError::Status { status, answer: String::from_utf8_lossy(&answer).into_owned() })
    }
}
