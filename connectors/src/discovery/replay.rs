//! For tests of the mechanisms that follow changes: plays what a real Kubernetes API server and a
//! real Consul sent. `tests/beside/discovery.py` recorded it, step by step.

use super::{ADDRESS, DiscoveredTarget, DiscoveryConfigs, DiscoveryContext, DiscoverySet, DiscoveryUser};
use crate::http_client::{Peer, Peers};
use axum::http;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use storage::metrics::Metrics;
use tokio::sync::watch;

/// Parts of a query that may differ from the recorded ones: how long a watch lasts, how large a
/// page is.
const FREE: [&str; 2] = ["timeoutSeconds", "limit"];

/// A request, and what the server answered to it.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exchange {
    /// The path, and the query sorted by name.
    request: String,
    /// 0: the connection was cut before an answer.
    status: u16,
    headers: BTreeMap<String, String>,
    frames: Vec<Frame>,
    /// The step in which the answer ended; `None`: it had not.
    ends: Option<u64>,
}

/// A part of an answer, and the step in which it came.
#[derive(Clone, Deserialize)]
struct Frame(u64, Value);

/// Plays recorded answers in the place of the network. Each is given once.
pub(crate) struct Replay {
    exchanges: Mutex<Vec<Exchange>>,
    step: watch::Sender<u64>,
    unknown: Mutex<Vec<String>>,
}

fn sorted(url: &url::Url) -> String {
    let mut query: Vec<_> = url.query_pairs().filter(|(name, _)| !FREE.contains(&name.as_ref())).collect();
    query.sort();
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    let mark = if query.is_empty() { "" } else { "?" };
    format!("{}{mark}{query}", url.path())
}

async fn wait_for(steps: &mut watch::Receiver<u64>, step: u64) {
    // The sender is the server, which a test keeps to its end.
    let _ = steps.wait_for(|now| *now >= step).await;
}

impl Replay {
    /// Plays the lines of a recording, from its first step on.
    pub(crate) fn new(recording: &str) -> Arc<Replay> {
        let exchanges = recording.lines().map(|line| serde_json::from_str(line).expect("an exchange"));
        Arc::new(Replay {
            exchanges: Mutex::new(exchanges.collect()),
            step: watch::channel(0).0,
            unknown: Mutex::default(),
        })
    }

    /// Goes on to a step.
    fn go_to(&self, step: u64) {
        self.step.send_replace(step);
    }

    fn take(&self, request: &str) -> Option<Exchange> {
        let mut exchanges = self.exchanges.lock();
        let at = exchanges.iter().position(|exchange| exchange.request == request)?;
        Some(exchanges.remove(at))
    }
}

/// The frames of an answer, each when its step has come, and then its end.
fn body(exchange: Exchange, steps: watch::Receiver<u64>) -> reqwest::Body {
    let Exchange { frames, ends, status, .. } = exchange;
    let at = steps.clone();
    let frames = stream::iter(frames).then(move |Frame(step, value)| {
        let mut at = at.clone();
        async move {
            wait_for(&mut at, step).await;
            Ok::<String, std::io::Error>(format!("{value}\n"))
        }
    });
    let end = stream::once(async move {
        let mut at = steps;
        match ends {
            Some(step) => wait_for(&mut at, step).await,
            None => std::future::pending().await,
        }
        // What is cut ends with an error, and not as an empty answer.
        if status == 0 { Err(std::io::ErrorKind::ConnectionReset.into()) } else { Ok(String::new()) }
    });
    reqwest::Body::wrap_stream(frames.chain(end))
}

impl Peer for Replay {
    fn answer(&self, request: reqwest::Request) -> BoxFuture<'static, reqwest::Result<reqwest::Response>> {
        let key = sorted(request.url());
        let found = self.take(&key);
        let mut steps = self.step.subscribe();
        if found.is_none() {
            self.unknown.lock().push(key);
        }
        Box::pin(async move {
            // Nobody knows what the server would say, so it says nothing.
            let Some(exchange) = found else { return std::future::pending().await };
            let first = exchange.frames.first().map(|frame| frame.0).or(exchange.ends).unwrap_or(0);
            wait_for(&mut steps, first).await;
            let status = if exchange.status == 0 { 200 } else { exchange.status };
            let mut response = http::Response::builder().status(status);
            for (name, value) in &exchange.headers {
                response = response.header(name, value);
            }
            Ok(response.body(body(exchange, steps)).expect("a response").into())
        })
    }
}

/// What a block finds, step by step. Written by hand from the documentation of Prometheus.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplayCase {
    /// The block.
    config: String,
    /// The file of the recording.
    recording: String,
    /// What the labels of these targets begin with.
    prefix: String,
    /// Labels that every target has, and named sets of labels that several have.
    shared: BTreeMap<String, BTreeMap<String, String>>,
    steps: Vec<ReplayStep>,
    /// A line of the metrics after the last step.
    metric: String,
}

/// The targets after a step.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplayStep {
    step: u64,
    /// Labels of each target; `+` names the shared sets that it has.
    targets: Vec<BTreeMap<String, String>>,
}

impl ReplayCase {
    fn targets(&self, step: &ReplayStep) -> Vec<DiscoveredTarget> {
        let mut all = Vec::new();
        for own in &step.targets {
            let mut target = DiscoveredTarget::new();
            let sets = own.get("+").map_or("", String::as_str).split_whitespace();
            let sets = sets.map(|name| self.shared.get(name).unwrap_or_else(|| panic!("no set {name}")));
            for (name, value) in sets.flatten().chain(own).filter(|(name, _)| *name != "+") {
                let is_plain = [ADDRESS, "instance"].contains(&name.as_str());
                let prefix = if is_plain { "" } else { &self.prefix };
                target.insert(format!("{prefix}{name}"), value.clone());
            }
            // Empty labels are none.
            target.retain(|_, value| !value.is_empty());
            all.push(target);
        }
        all
    }
}

/// The identifier that the server gave a pod: the only label that nobody can know beforehand.
fn uid(value: &Value, pod: &str) -> Option<String> {
    let metadata = &value["metadata"];
    if metadata["name"] == pod && !value["spec"]["containers"].is_null() {
        return metadata["uid"].as_str().map(str::to_owned);
    }
    match value {
        Value::Array(parts) => parts.iter().find_map(|part| uid(part, pod)),
        Value::Object(parts) => parts.values().find_map(|part| uid(part, pod)),
        _ => None,
    }
}

/// Plays the recordings to the blocks of a file of cases, and compares the targets after each step.
/// `pause` is the time that a change, or what is done after a failure, takes until its report.
pub(crate) async fn assert_replayed(
    cases: &str,
    recording: impl Fn(&str) -> &'static str,
    block: impl Fn(&str) -> DiscoveryConfigs,
    pause: Duration,
) {
    let cases: Vec<ReplayCase> = serde_json::from_str(cases).expect("cases");
    assert!(!cases.is_empty());
    for case in cases {
        let recorded = recording(&case.recording);
        let frames: Value =
            recorded.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect();
        let server = Replay::new(recorded);
        let config = block(&case.config);
        config.validate().expect("a block");
        let peers = Peers::Given(server.clone());
        let metrics = Metrics::default();
        let context =
            DiscoveryContext { peers: &peers, metrics: &metrics, pool: "job", user: DiscoveryUser::Scrape };
        let mut discovery = DiscoverySet::start(&config, &context);
        for step in &case.steps {
            server.go_to(step.step);
            tokio::time::sleep(pause).await;
            let mut found = discovery.current().0;
            found.sort();
            let mut expected = case.targets(step);
            for target in &mut expected {
                if let Some(pod) = target.get("__meta_kubernetes_pod_name") {
                    let uid = uid(&frames, pod).expect("the pod is recorded");
                    target.insert("__meta_kubernetes_pod_uid".to_owned(), uid);
                }
            }
            expected.sort();
            let place = format!("{} of {} at step {}", case.config, case.recording, step.step);
            assert_eq!(found, expected, "{place}; not recorded: {:?}", server.unknown.lock());
        }
        assert!(server.unknown.lock().is_empty(), "{}: {:?}", case.config, server.unknown.lock());
        let rendered = metrics.render();
        assert!(rendered.contains(&format!("{}\n", case.metric)), "{}: {rendered}", case.config);
    }
}
