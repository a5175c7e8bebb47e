//! For tests of discovery mechanisms: a server in this process with recorded answers, and checks of
//! the targets that a mechanism makes of them.

use super::lister::{Lister, ListerConfig};
use super::{DiscoveredTarget, DiscoveryContext, DiscoveryUser, Mechanism, StartError};
use crate::http_client::{Peer, Peers};
use axum::http;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use std::sync::Arc;
use storage::metrics::Metrics;

/// A recorded answer.
#[derive(Clone)]
pub(crate) struct Recording {
    /// `METHOD URL`, with the whole query; words after a space must stand in the headers or the
    /// body.
    request: String,
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

/// A recorded answer with status 200; without a request it is the answer to all of them.
pub(crate) fn answer(request: &str, body: impl Into<String>) -> Recording {
    Recording { request: request.to_owned(), status: 200, headers: Vec::new(), body: body.into() }
}

impl Recording {
    /// The same with another status.
    pub(crate) fn status(self, status: u16) -> Recording {
        Recording { status, ..self }
    }

    /// The same with one more header.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Recording {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn is_for(&self, line: &str, rest: &str) -> bool {
        // The answer to everything.
        if self.request.is_empty() {
            return true;
        }
        let mut words = self.request.splitn(3, ' ');
        let first = format!("{} {}", words.next().unwrap_or(""), words.next().unwrap_or(""));
        first == line && words.next().unwrap_or("").split(' ').all(|word| rest.contains(word))
    }
}

/// A server that answers every host from recordings, and remembers what it was sent.
pub(crate) struct RecordedServer {
    recordings: Mutex<Vec<Recording>>,
    seen: Mutex<Vec<String>>,
}

impl RecordedServer {
    /// A server with these recordings; the first that fits a request answers it.
    pub(crate) fn new(recordings: Vec<Recording>) -> Arc<RecordedServer> {
        Arc::new(RecordedServer { recordings: Mutex::new(recordings), seen: Mutex::default() })
    }

    /// The requests so far: `METHOD URL`, then headers as `name: value` and the body on lines of
    /// their own.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().clone()
    }

    /// Replaces the recordings.
    pub(crate) fn replace(&self, recordings: Vec<Recording>) {
        *self.recordings.lock() = recordings;
    }

    fn answer_to(&self, request: &reqwest::Request) -> reqwest::Response {
        let line = format!("{} {}", request.method(), request.url());
        let mut rest = String::new();
        for (name, value) in request.headers() {
            rest.push_str(&format!("\n{name}: {}", String::from_utf8_lossy(value.as_bytes())));
        }
        let body = request.body().and_then(reqwest::Body::as_bytes).unwrap_or_default();
        rest.push_str(&format!("\n{}", String::from_utf8_lossy(body)));
        self.seen.lock().push(format!("{line}{rest}"));
        let found = self.recordings.lock().iter().find(|r| r.is_for(&line, &rest)).cloned();
        let found = found.unwrap_or_else(|| answer("", format!("no recording of {line}{rest}")).status(404));
        let mut response = http::Response::builder().status(found.status);
        for (name, value) in &found.headers {
            response = response.header(name, value);
        }
        response.body(found.body).expect("a response").into()
    }
}

impl Peer for RecordedServer {
    fn answer(&self, request: reqwest::Request) -> BoxFuture<'static, reqwest::Result<reqwest::Response>> {
        let response = self.answer_to(&request);
        Box::pin(async { Ok(response) })
    }
}

/// The mechanism of a configuration, with a server in place of the network.
pub(crate) fn lister<L: Lister>(yaml: &str, server: &Arc<RecordedServer>) -> Result<L, StartError> {
    let config: L::Config = serde_saphyr::from_str(yaml).expect("a configuration");
    <L as Mechanism>::validate(&config)?;
    let peers = Peers::Given(server.clone());
    let context = DiscoveryContext {
        peers: &peers,
        metrics: &Metrics::default(),
        pool: "job",
        user: DiscoveryUser::Scrape,
    };
    L::create(&config, &context)
}

/// The targets that a configuration finds.
pub(crate) async fn listed<L: Lister>(
    yaml: &str,
    server: &Arc<RecordedServer>,
) -> Result<Vec<DiscoveredTarget>, String> {
    let mut lister = lister::<L>(yaml, server).map_err(|error| error.to_string())?;
    lister.list().await.map_err(|error| error.to_string())
}

/// Targets of a text: a JSON list of objects. Empty labels are left out.
pub(crate) fn targets(json: &str) -> Vec<DiscoveredTarget> {
    without_empty(serde_json::from_str(json).expect("targets"))
}

fn without_empty(mut targets: Vec<DiscoveredTarget>) -> Vec<DiscoveredTarget> {
    for target in &mut targets {
        target.retain(|_, value| !value.is_empty());
    }
    targets
}

/// The errors of configurations are Prometheus'.
pub(crate) fn assert_refused<L: Lister>(cases: &[(&str, &str)]) {
    for (yaml, error) in cases {
        let config: L::Config = serde_saphyr::from_str(yaml).expect("a configuration");
        assert_eq!(<L as Mechanism>::validate(&config).unwrap_err().to_string(), *error, "{yaml}");
    }
}

/// A file of cases: configurations, what the server answers, and the targets (or the error) that
/// follow.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    config: String,
    answers: Vec<CaseAnswer>,
    targets: Option<Vec<DiscoveredTarget>>,
    error: Option<String>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseAnswer {
    request: String,
    status: Option<u16>,
    #[serde(default)]
    headers: std::collections::BTreeMap<String, String>,
    body: serde_json::Value,
}

impl CaseAnswer {
    fn recording(self) -> Recording {
        let body = match self.body {
            serde_json::Value::String(text) => text,
            json => json.to_string(),
        };
        let headers = self.headers.into_iter().collect();
        Recording { request: self.request, status: self.status.unwrap_or(200), headers, body }
    }
}

/// The blocks of a file of cases that find targets, and what their servers answer.
pub(crate) fn cases_with_targets(json: &str) -> impl Iterator<Item = (String, Vec<Recording>)> {
    let cases: Vec<Case> = serde_json::from_str(json).expect("cases");
    let has_targets = |case: &Case| case.targets.as_ref().is_some_and(|targets| !targets.is_empty());
    let block = |case: Case| (case.config, case.answers.into_iter().map(CaseAnswer::recording).collect());
    cases.into_iter().filter(has_targets).map(block)
}

/// A block in braces with one more key.
fn with_key(config: &str, key: &str) -> String {
    let separator = if config == "{}" { "" } else { ", " };
    format!("{}{separator}{key}}}", config.strip_suffix('}').expect("a block in braces"))
}

/// The targets of every case of a file have the port that the block says.
pub(crate) async fn assert_port<L: Lister>(json: &str) {
    let cases: Vec<Case> = serde_json::from_str(json).expect("cases");
    let mut count = 0;
    for case in cases.into_iter().filter(|case| case.targets.is_some()) {
        let server = RecordedServer::new(case.answers.into_iter().map(CaseAnswer::recording).collect());
        let own = case.config.split("port: ").nth(1).and_then(|rest| rest.split([',', '}']).next());
        let config = if own.is_some() { case.config.clone() } else { with_key(&case.config, "port: 4242") };
        let end = format!(":{}", own.unwrap_or("4242"));
        let found = listed::<L>(&config, &server).await.expect("targets");
        for target in &found {
            assert!(target["__address__"].ends_with(&end), "{}: {target:?}", case.name);
        }
        count += found.len();
    }
    assert!(count > 0, "no target has a port");
}

/// In the cases of a file, the lists in labels have the separator that the block says in place of
/// commas.
pub(crate) async fn assert_tag_separator<L: Lister>(json: &str) {
    let cases: Vec<Case> = serde_json::from_str(json).expect("cases");
    let mut count = 0;
    for case in cases {
        let Some(expected) = case.targets else { continue };
        let server = RecordedServer::new(case.answers.into_iter().map(CaseAnswer::recording).collect());
        let config = with_key(&case.config, "tag_separator: ';'");
        let mut found = listed::<L>(&config, &server).await.expect("targets");
        let is_list = |value: &String| value.len() > 1 && value.starts_with(',') && value.ends_with(',');
        let mut expected = without_empty(expected);
        for value in expected.iter_mut().flat_map(|target| target.values_mut()).filter(|v| is_list(v)) {
            *value = value.replace(',', ";");
            count += 1;
        }
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{}", case.name);
    }
    assert!(count > 0, "no label is a list");
}

/// Every case of a file has the targets that it says, in any order, or the error; and its block may
/// say the `refresh_interval`.
pub(crate) async fn assert_cases<L: Lister>(json: &str) {
    let cases: Vec<Case> = serde_json::from_str(json).expect("cases");
    assert!(!cases.is_empty());
    for case in cases {
        let block = with_key(&case.config, "refresh_interval: 7m");
        let block: L::Config = serde_saphyr::from_str(&block).expect("a configuration");
        assert_eq!(block.interval().std(), std::time::Duration::from_secs(420), "{}", case.name);
        let server = RecordedServer::new(case.answers.into_iter().map(CaseAnswer::recording).collect());
        let found = listed::<L>(&case.config, &server).await.map(|mut targets| {
            targets.sort();
            targets
        });
        let expected = case.targets.map(|targets| {
            let mut targets = without_empty(targets);
            targets.sort();
            targets
        });
        let expected = expected.ok_or_else(|| case.error.expect("targets or an error"));
        assert_eq!(found, expected, "{}", case.name);
    }
}
