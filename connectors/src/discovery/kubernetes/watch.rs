//! Follows the objects of one kind: lists them, then watches for changes (Kubernetes' API
//! concepts, "efficient detection of changes").
//!
//! The list is asked for as the beginning of a watch. A server that cannot do that is asked for
//! pages, which are read object by object. A watch that ends goes on from the last version; if the
//! server no longer has that version (410), the objects are listed again.

use super::cluster::RawResource;
use super::json_pieces::{JsonPieces, JsonSplitError};
use super::objects::{Metadata, Resource};
use crate::http_client::{HttpClient, error_chain};
use crate::limits::{
    KUBERNETES_BACKOFF_MS, KUBERNETES_OBJECT_BYTES, KUBERNETES_PAGE, KUBERNETES_SILENCE_SECONDS,
    KUBERNETES_WATCH_SECONDS,
};
use reqwest::header::{ACCEPT, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;
use storage::metrics::{Counter, Metrics};
use tokio::sync::mpsc;
use tokio::time::Instant;
use url::Url;

/// What is followed.
#[derive(Clone, Debug)]
pub(super) struct WatchSource {
    /// Its index among the sources of the discovery.
    pub(super) index: usize,
    pub(super) resource: Resource,
    /// `None`: all, or an object of the whole cluster.
    pub(super) namespace: Option<String>,
    /// Whether targets wait for its first list.
    pub(super) is_needed: bool,
    /// `labelSelector` and `fieldSelector`; empty: none.
    pub(super) label_selector: String,
    pub(super) field_selector: String,
}

/// What happened at a source.
#[derive(Debug)]
pub(super) enum SourceEvent {
    /// A whole list begins.
    Listing,
    /// An object is new or changed.
    Object(Box<RawResource>),
    /// The object with this key is gone.
    Gone(String),
    /// The list is whole: what it did not have is gone.
    Listed,
}

/// Follows one source.
pub(super) struct Watcher {
    pub(super) source: WatchSource,
    pub(super) client: HttpClient,
    pub(super) base: Url,
    /// Receives the index of the source, and the news.
    pub(super) sender: mpsc::Sender<(usize, SourceEvent)>,
    pub(super) failures: Arc<Counter>,
    pub(super) metrics: Metrics,
    /// The version from which to go on; `None`: the objects must be listed.
    pub(super) version: Option<String>,
}

/// Why a list or watch ended.
#[derive(Debug)]
enum WatchEnd {
    /// As the server does after some minutes.
    Ordinary,
    /// The version is too old.
    Expired,
    /// The server does not do this kind of request.
    Refused(String),
    /// The server cannot be reached, or has too much to do: the same again after this time, or the
    /// usual one.
    Busy(Option<Duration>, String),
    /// Anything else.
    Failed(String),
    /// Nobody receives the news any more.
    Stopped,
}

impl From<JsonSplitError> for WatchEnd {
    fn from(error: JsonSplitError) -> WatchEnd {
        WatchEnd::Failed(error.to_string())
    }
}

/// The parts of `Status`, of a bookmark and of a list that matter.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    code: u16,
    message: String,
}

#[derive(Debug, Deserialize)]
struct EventKind {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Debug, Deserialize)]
struct Event<T> {
    object: T,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Bookmark {
    metadata: Metadata,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ListRest {
    metadata: ListMetadata,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ListMetadata {
    resource_version: String,
    r#continue: String,
}

/// The annotation of the bookmark at the end of the list that a watch begins with.
const INITIAL_END: &str = "k8s.io/initial-events-end";

impl Watcher {
    /// Runs until nobody receives the news.
    pub(super) async fn run(mut self) {
        let mut attempts = 0;
        loop {
            let started = Instant::now();
            let end = self.follow().await;
            // A server that ends each watch at once would otherwise be asked in a loop without a
            // pause.
            let was_short = started.elapsed() < Duration::from_secs(1);
            // It went well for as long as a watch lasts, so the next failure is a first one.
            if started.elapsed() > Duration::from_secs(KUBERNETES_WATCH_SECONDS.0) {
                attempts = 0;
            }
            let resource = self.source.resource.path().1;
            match end {
                WatchEnd::Stopped => return,
                // The usual case every few minutes; from the version on nothing is missed.
                WatchEnd::Ordinary if !was_short => continue,
                WatchEnd::Ordinary => {}
                WatchEnd::Expired => {
                    self.version = None;
                    // Once at once: targets are behind.
                    if attempts == 0 {
                        attempts = 1;
                        continue;
                    }
                }
                // The version stays: what was read is still true, and a list would cost the busy
                // server more.
                WatchEnd::Busy(wait, reason) => {
                    tracing::warn!(
                        target: "discovery", resource, reason,
                        "the Kubernetes API is busy and is asked again later"
                    );
                    if let Some(wait) = wait {
                        tokio::time::sleep(wait).await;
                        continue;
                    }
                }
                // Whether the events up to here were whole is not known, so the objects are listed
                // again. Until then targets stay as they were.
                WatchEnd::Refused(reason) | WatchEnd::Failed(reason) => {
                    self.failures.inc();
                    self.version = None;
                    tracing::error!(
                        target: "discovery", resource, reason,
                        "cannot follow the Kubernetes API and keep its last state; check its address and the role"
                    );
                }
            }
            tokio::time::sleep(backoff(attempts)).await;
            // Further doublings would only overflow; the pause has its own largest value.
            attempts = (attempts + 1).min(16);
        }
    }

    /// Lists if there is no version to go on from, then watches.
    async fn follow(&mut self) -> WatchEnd {
        if self.version.is_some() {
            return self.watch(false).await;
        }
        match self.watch(true).await {
            // API servers without the feature WatchList refuse it as an invalid request (422).
            WatchEnd::Refused(reason) => {
                tracing::debug!(
                    target: "discovery", reason,
                    "the Kubernetes API cannot begin a watch with a list, so it is asked for a list"
                );
                match self.list().await {
                    Err(end) => end,
                    Ok(()) => self.watch(false).await,
                }
            }
            end => end,
        }
    }

    /// Watches from the version on, or with `initial` from a list on.
    async fn watch(&mut self, initial: bool) -> WatchEnd {
        let (least, most) = KUBERNETES_WATCH_SECONDS;
        let seconds = (least + random(most - least)).to_string();
        let mut query =
            vec![("watch", "true"), ("allowWatchBookmarks", "true"), ("timeoutSeconds", &seconds)];
        let version = self.version.clone().unwrap_or_default();
        if initial {
            // One request for list and watch: the server sends from its cache, so a restart of many
            // watchers does not load its database.
            query.extend([("sendInitialEvents", "true"), ("resourceVersionMatch", "NotOlderThan")]);
        } else {
            // Events after this version, so nothing is lost between two watches.
            query.push(("resourceVersion", &version));
        }
        let response = match self.get(&query).await {
            Ok(response) => response,
            Err(end) => return end,
        };
        // Only after the server has answered: a list that never begins must not end the objects
        // known.
        if initial && let Err(end) = self.begin_list().await {
            return end;
        }
        self.read_events(response, initial).await
    }

    async fn read_events(&mut self, mut response: Response, initial: bool) -> WatchEnd {
        let mut listing = initial;
        // Events follow one another without a separator, in chunks that end anywhere.
        let mut pieces = JsonPieces::stream(KUBERNETES_OBJECT_BYTES);
        let silence = Duration::from_secs(KUBERNETES_SILENCE_SECONDS);
        loop {
            let chunk = match tokio::time::timeout(silence, response.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                // Half of a list must not count as a whole one: the other half would be gone.
                _ if listing => return WatchEnd::Failed("the list ended too early".into()),
                // Whether the server, the network or the silence ended it: the version is known.
                _ => return WatchEnd::Ordinary,
            };
            let mut bytes = &chunk[..];
            loop {
                let event = match pieces.next(&mut bytes) {
                    Ok(Some(event)) => event,
                    Ok(None) => break,
                    Err(error) => return error.into(),
                };
                match self.event(&event).await {
                    Ok(true) if listing => {
                        listing = false;
                        if !self.tell(SourceEvent::Listed).await {
                            return WatchEnd::Stopped;
                        }
                    }
                    Ok(_) => {}
                    Err(end) => return end,
                }
            }
        }
    }

    /// Reads an event; whether it ends the initial list.
    async fn event(&mut self, json: &[u8]) -> Result<bool, WatchEnd> {
        let bad = |error: serde_json::Error| WatchEnd::Failed(format!("an event of the watch: {error}"));
        let kind: EventKind = serde_json::from_slice(json).map_err(bad)?;
        match kind.kind.as_str() {
            "BOOKMARK" => {
                let bookmark: Event<Bookmark> = serde_json::from_slice(json).map_err(bad)?;
                let metadata = bookmark.object.metadata;
                self.version = Some(metadata.resource_version).filter(|version| !version.is_empty());
                Ok(metadata.annotations.is_some_and(|all| all.get(INITIAL_END).is_some_and(|v| v == "true")))
            }
            "ERROR" => {
                let status = serde_json::from_slice::<Event<Status>>(json).map_err(bad)?.object;
                let reason = format!("{} {}", status.code, status.message);
                Err(match status.code {
                    // In the stream a watch has status 200; the code stands in the event.
                    410 => WatchEnd::Expired,
                    429 => WatchEnd::Busy(None, reason),
                    _ => WatchEnd::Failed(reason),
                })
            }
            kind => {
                let object = RawResource::parse_event(self.source.resource, json).map_err(bad)?;
                let metadata = object.metadata();
                let version = metadata.resource_version.clone();
                // "ADDED" and "MODIFIED" mean the same to a store that replaces by key.
                let news = match kind {
                    "DELETED" => SourceEvent::Gone(metadata.key()),
                    _ => SourceEvent::Object(Box::new(object)),
                };
                if !self.tell(news).await {
                    return Err(WatchEnd::Stopped);
                }
                // While a list is being sent, its objects are in no order: only a bookmark says
                // from where to go on. Its version is set at its end.
                if self.version.is_some() {
                    self.version = Some(version);
                }
                Ok(false)
            }
        }
    }

    /// Lists all objects, page by page.
    async fn list(&mut self) -> Result<(), WatchEnd> {
        self.begin_list().await?;
        let mut paged = true;
        let mut token = String::new();
        let page_size = KUBERNETES_PAGE.to_string();
        loop {
            let mut query = Vec::new();
            if paged {
                // Without a version, pages come from the database of the server and are consistent
                // with each other.
                query.push(("limit", page_size.as_str()));
            }
            if !token.is_empty() {
                query.push(("continue", &token));
            }
            let metadata = match self.get(&query).await {
                Ok(response) => self.read_page(response).await?,
                // The rest of the pages is gone: all at once. It is a new list: what the pages had
                // and this one does not have is gone, too.
                Err(WatchEnd::Expired) if paged && !token.is_empty() => {
                    self.begin_list().await?;
                    paged = false;
                    token.clear();
                    continue;
                }
                // A list is what is left to try.
                Err(WatchEnd::Refused(reason)) => return Err(WatchEnd::Failed(reason)),
                Err(end) => return Err(end),
            };
            token = metadata.r#continue;
            if token.is_empty() {
                self.version = Some(metadata.resource_version);
                break;
            }
        }
        if self.tell(SourceEvent::Listed).await { Ok(()) } else { Err(WatchEnd::Stopped) }
    }

    async fn read_page(&mut self, mut response: Response) -> Result<ListMetadata, WatchEnd> {
        let mut pieces = JsonPieces::items(KUBERNETES_OBJECT_BYTES);
        let silence = Duration::from_secs(KUBERNETES_SILENCE_SECONDS);
        loop {
            let chunk = match tokio::time::timeout(silence, response.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => break,
                Ok(Err(error)) => return Err(WatchEnd::Failed(error_chain(&error.without_url()))),
                // A connection that is dead may look open for hours.
                Err(_) => return Err(WatchEnd::Failed("the list stopped".into())),
            };
            let mut bytes = &chunk[..];
            while let Some(item) = pieces.next(&mut bytes)? {
                let object = RawResource::parse(self.source.resource, &item)
                    .map_err(|error| WatchEnd::Failed(format!("an object of the list: {error}")))?;
                if !self.tell(SourceEvent::Object(Box::new(object))).await {
                    return Err(WatchEnd::Stopped);
                }
            }
        }
        let rest = pieces.rest()?;
        let rest: ListRest =
            serde_json::from_slice(rest).map_err(|error| WatchEnd::Failed(format!("the list: {error}")))?;
        Ok(rest.metadata)
    }

    /// Says that a whole list begins.
    async fn begin_list(&self) -> Result<(), WatchEnd> {
        if self.tell(SourceEvent::Listing).await { Ok(()) } else { Err(WatchEnd::Stopped) }
    }

    async fn tell(&self, news: SourceEvent) -> bool {
        self.sender.send((self.source.index, news)).await.is_ok()
    }

    fn url(&self, query: &[(&str, &str)]) -> Url {
        // The path of the configured URL stays in front: the API may be behind a proxy.
        let (group, name) = self.source.resource.path();
        let prefix = self.base.path().trim_end_matches('/');
        let path = match &self.source.namespace {
            Some(namespace) => format!("{prefix}{group}/namespaces/{namespace}/{name}"),
            None => format!("{prefix}{group}/{name}"),
        };
        let mut url = self.base.clone();
        url.set_path(&path);
        let selectors = [
            ("labelSelector", self.source.label_selector.as_str()),
            ("fieldSelector", self.source.field_selector.as_str()),
        ];
        let selectors = selectors.into_iter().filter(|(_, selector)| !selector.is_empty());
        url.query_pairs_mut().clear().extend_pairs(query.iter().copied().chain(selectors));
        url
    }

    async fn get(&self, query: &[(&str, &str)]) -> Result<Response, WatchEnd> {
        let url = self.url(query);
        let path = url.path().to_owned();
        let request = self.client.request(Method::GET, url).map_err(|e| WatchEnd::Failed(e.to_string()))?;
        let started = Instant::now();
        let answer = self.client.send(request.header(ACCEPT, "application/json")).await;
        let help = "Summary of latencies for HTTP requests to the Kubernetes API by endpoint.";
        let name = "prometheus_sd_kubernetes_http_request_duration_seconds";
        self.metrics.summary(name, help, &[("endpoint", &path)]).observe(started.elapsed().as_secs_f64());
        let status =
            answer.as_ref().map_or("<error>".to_owned(), |answer| answer.status().as_u16().to_string());
        let help = "Total number of HTTP requests to the Kubernetes API by status code.";
        let name = "prometheus_sd_kubernetes_http_request_total";
        self.metrics.counter(name, help, &[("status_code", &status)]).inc();
        let response = answer.map_err(|error| {
            let is_refused = error.is_connect();
            let reason = format!("{path}: {}", error_chain(&error.without_url()));
            // A server that cannot be reached is asked for the same again, but counts as a failure
            // while nothing is known of it.
            if is_refused && self.version.is_some() {
                WatchEnd::Busy(None, reason)
            } else {
                WatchEnd::Failed(reason)
            }
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(refusal(response, &path).await)
    }
}

/// What a status other than success means.
async fn refusal(response: Response, path: &str) -> WatchEnd {
    let status = response.status();
    let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let wait = header.and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
    // The answers say what is missing: "pods is forbidden: User … cannot list resource".
    let mut text = Vec::new();
    let mut response = response;
    while text.len() < KUBERNETES_OBJECT_BYTES
        && let Ok(Some(chunk)) = response.chunk().await
    {
        text.extend_from_slice(&chunk);
    }
    let message = serde_json::from_slice::<Status>(&text).unwrap_or_default().message;
    let reason = format!("{path}: HTTP status {status}: {message}");
    match status {
        StatusCode::GONE => WatchEnd::Expired,
        StatusCode::TOO_MANY_REQUESTS => WatchEnd::Busy(wait, reason),
        _ if status.is_server_error() && wait.is_some() => WatchEnd::Busy(wait, reason),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => WatchEnd::Failed(reason),
        _ if status.is_client_error() => WatchEnd::Refused(reason),
        _ => WatchEnd::Failed(reason),
    }
}

/// A number below `limit`, so that many servers do not ask at the same time.
fn random(limit: u64) -> u64 {
    RandomState::new().hash_one(limit) % limit.max(1)
}

/// The pause after a number of failures, with up to as much again at random.
fn backoff(attempts: u32) -> Duration {
    let (first, most) = KUBERNETES_BACKOFF_MS;
    let pause = first.saturating_mul(1 << attempts.min(16)).min(most);
    Duration::from_millis(pause + random(pause))
}
