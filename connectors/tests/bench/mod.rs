//! For the tests of scraping: a web server as target, a store and a scrape manager, in one process.
#![allow(dead_code, reason = "no test file needs all of it")]

pub mod protobuf;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use connectors::scrape::config::{GlobalConfig, jobs};
use connectors::scrape::manager::{ScrapeManager, ScrapeOptions, TargetInfo};
use connectors::scrape::target::TargetHealth;
use connectors::wall_clock::SystemClock;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use storage::metrics::Metrics;
use storage::model::{Matcher, SHARDS};
use storage::store::Store;

/// The next response of the target.
#[derive(Clone)]
pub struct TargetResponse {
    pub status: StatusCode,
    pub content_type: &'static str,
    pub body: Vec<u8>,
    pub gzip: bool,
    pub delay: Duration,
}

pub fn text(body: &str) -> TargetResponse {
    TargetResponse {
        status: StatusCode::OK,
        content_type: "text/plain; version=0.0.4",
        body: body.into(),
        gzip: false,
        delay: Duration::ZERO,
    }
}

#[derive(Clone)]
pub struct Site {
    pub answer: Arc<Mutex<TargetResponse>>,
    pub headers: Arc<Mutex<HeaderMap>>,
}

async fn metrics(State(site): State<Site>, headers: HeaderMap) -> Response {
    *site.headers.lock().unwrap() = headers;
    let answer = site.answer.lock().unwrap().clone();
    tokio::time::sleep(answer.delay).await;
    let mut response = (answer.status, answer.body).into_response();
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    if !answer.content_type.is_empty() {
        headers.insert(header::CONTENT_TYPE, answer.content_type.parse().unwrap());
    }
    if answer.gzip {
        headers.insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
    }
    response
}

/// A target, a store, and a manager that scrapes the target into the store.
pub struct Bench {
    pub site: Site,
    pub address: String,
    pub store: Arc<Store>,
    pub manager: ScrapeManager,
    pub registry: Metrics,
    _dir: tempfile::TempDir,
}

impl Bench {
    /// A bench whose target returns `body`.
    pub async fn new(body: &str, strict: bool) -> Bench {
        Bench::with(body, ScrapeOptions { strict_content_type: strict, ..ScrapeOptions::default() }).await
    }

    pub async fn with(body: &str, options: ScrapeOptions) -> Bench {
        let site = Site { answer: Arc::new(Mutex::new(text(body))), headers: Arc::default() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let app = Router::new().route("/metrics", get(metrics)).with_state(site.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        let dir = tempfile::tempdir().unwrap();
        let registry = Metrics::default();
        let store_options = storage::store::StoreOptions {
            dir: dir.path().into(),
            wal_sync_interval_ms: 100,
            block_range_ms: 7_200_000,
            out_of_order_ms: 1_800_000,
        };
        let (store, _) = Store::open(store_options, Arc::new(storage::disk::OsDisk), &registry).unwrap();
        let manager = ScrapeManager::new(store.clone(), Arc::new(SystemClock), &registry, options);
        Bench { site, address, store, manager, registry, _dir: dir }
    }

    /// Applies a job `j` with this target, an interval of 100 ms and `more` keys.
    pub fn apply(&self, more: &str) {
        self.apply_targets(&format!("['{}']", self.address), more);
    }

    pub fn apply_targets(&self, targets: &str, more: &str) {
        self.apply_job(targets, "scrape_interval: 100ms\n  scrape_timeout: 90ms", more);
    }

    /// As [`Bench::apply`], with a timeout that is long enough for large bodies on slow machines.
    pub fn apply_slowly(&self, more: &str) {
        let times = "scrape_interval: 6s\n  scrape_timeout: 6s";
        self.apply_job(&format!("['{}']", self.address), times, more);
    }

    fn apply_job(&self, targets: &str, times: &str, more: &str) {
        let yaml =
            format!("- job_name: j\n  {times}\n  static_configs: [{{targets: {targets}}}]\n  {more}\n");
        let configs = serde_saphyr::from_str(&yaml).unwrap();
        self.manager.apply(jobs(configs, &GlobalConfig::default()).unwrap()).unwrap();
    }

    pub fn answer(&self, answer: TargetResponse) {
        *self.site.answer.lock().unwrap() = answer;
    }

    /// The samples of all series named `name`: labels, times and values.
    pub fn samples(&self, name: &str) -> Vec<(String, Vec<i64>, Vec<f64>)> {
        let mut all = Vec::new();
        for shard in 0..SHARDS {
            let selection =
                self.store.select(shard, &[Matcher::equal("__name__", name)], 0, i64::MAX).unwrap();
            for (i, labels) in selection.labels.iter().enumerate() {
                let mut ts = Vec::new();
                let mut vs = Vec::new();
                selection.read(i, 0, i64::MAX, &mut ts, &mut vs).unwrap();
                all.push((labels.to_string(), ts, vs));
            }
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// The last value of the only series named `name`.
    pub fn last(&self, name: &str) -> Option<f64> {
        self.samples(name).first().and_then(|s| s.2.last().copied())
    }

    pub fn target(&self) -> Option<TargetInfo> {
        self.manager.targets().active.into_iter().next()
    }

    /// Waits until `done` returns true, at most half a minute.
    pub async fn until(&self, what: &str, mut done: impl FnMut(&Bench) -> bool) {
        for _ in 0..3000 {
            if done(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never: {what}; target: {:?}", self.target());
    }

    pub async fn until_error(&self, expected: &str) {
        self.until(expected, |b| {
            b.target().is_some_and(|t| t.health == TargetHealth::Down && t.last_error.contains(expected))
        })
        .await;
    }

    pub async fn until_up(&self) {
        self.until("up", |b| b.target().is_some_and(|t| t.health == TargetHealth::Up)).await;
    }
}
