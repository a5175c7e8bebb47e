//! The server of a life. What threads do in the program, tasks do here one after the other, on one
//! runtime, so that a run is reproducible.

use super::random::Random;
use super::subscriber::Subscriber;
use super::world::World;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use bytes::Bytes;
use connectors::http_client::Peers;
use engine::live::tick_driver::TickDriver;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use perennial::control::ServerController;
use perennial::descriptors::Reserve;
use perennial::environment::Surroundings;
use perennial::server::{LoadedConfig, Server};
use std::sync::Arc;
use std::time::Duration;
use storage::clock::Clock;
use storage::execution::Execution;
use storage::metrics::Metrics;
use tower::ServiceExt;

/// The number of turns between two syncs of the WAL.
const SYNC_EVERY: u64 = 5;

/// A server without threads.
pub struct Process {
    pub server: Arc<Server>,
    pub control: Arc<ServerController>,
    router: axum::Router,
    state: api::AppState,
    pub driver: Arc<Mutex<TickDriver>>,
    step: i64,
    loaded: Mutex<Option<LoadedConfig>>,
}

impl Process {
    /// Opens the data directory of this life. Scrapes begin; the log replay follows in
    /// [`Process::start`].
    pub fn open(world: &World) -> Process {
        let flags = perennial::flags::parse(world.arguments()).expect("flags");
        let loaded = perennial::load(&flags).expect("a configuration");
        let here = Surroundings {
            clock: world.clock.clone(),
            disk: world.disk(),
            reserve: Reserve::new(),
            peers: Peers::Given(world.peers.clone()),
            execution: Execution::Caller,
        };
        let server = Server::open(flags, &loaded.config, Metrics::default(), here).expect("it opens");
        let server = Arc::new(server);
        let control = Arc::new(ServerController::new(server.clone(), &loaded));
        server.apply_storage_settings(&loaded).expect("a configuration in force");
        server.start_ingestion(&loaded).expect("targets are scraped");
        let step = loaded.config.evaluation_interval();
        let driver = server.views.ticks.lock().take().expect("the caller ticks");
        let (router, state) = server.router(&control, step).expect("a router");
        let loaded = Mutex::new(Some(loaded));
        Process { server, control, router, state, driver: Arc::new(Mutex::new(driver)), step, loaded }
    }

    /// Replays the log and installs the rules: the server is ready.
    pub fn start(&self) {
        self.server.replayed().expect("a log that can be read");
        self.server.restore_saved_queries().expect("what stood");
        let loaded = self.loaded.lock().take().expect("it starts once");
        self.server.install_rules(&loaded).expect("rules stand");
        self.control.set_ready();
    }

    /// Starts the tasks that replace threads; the seed determines when each runs.
    pub fn work(&self, world: &World) {
        let random = |salt: u64| Random::new(world.salt() ^ salt);
        let (store, ledger, journal) =
            (self.server.storage.store.clone(), world.ledger.clone(), world.journal.clone());
        every(random(1), 10, 40, move |turn| {
            let failures = journal.failures();
            let sync = turn.is_multiple_of(SYNC_EVERY);
            store.wal().write_queued(sync);
            if sync && journal.failures() == failures {
                ledger.lock().synced();
            }
        });
        let driver = self.driver.clone();
        every(random(2), 20, 100, move |_| tick(&driver));
        let rules = self.server.rules.manager.clone();
        every(random(3), 20, 250, move |_| rules.turn());
        let memory = self.server.rules.alert_states.clone();
        every(random(4), 20, 250, move |_| memory.turn());
        let asked = self.server.views.composite.clone();
        every(random(7), 20, 250, move |_| asked.turn());
        let past = self.server.views.recording.clone();
        every(random(6), 500, 1_500, move |_| past.turn());
        let store = self.server.storage.store.clone();
        let clock = world.clock.clone();
        every(random(5), 60_000, 60_500, move |_| {
            // Failures are retried in the next turn.
            let _ = store.maintenance().run_housekeeping(clock.now());
            let _ = store.maintenance().compact();
        });
    }

    /// Sends a request; returns the status and body of the response.
    pub async fn ask(&self, request: Request<Body>) -> (StatusCode, Bytes) {
        let response = self.router.clone().oneshot(request).await.expect("an answer");
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a body");
        (status, body)
    }

    /// As [`Process::ask`], without a body.
    pub async fn get(&self, path: &str) -> (StatusCode, Bytes) {
        self.ask(request(Method::GET, path, Vec::new())).await
    }

    /// A remote write, as a future that does not borrow the process.
    pub fn write(&self, body: Vec<u8>) -> BoxFuture<'static, StatusCode> {
        let router = self.router.clone();
        let mut request = request(Method::POST, "/api/v1/write", body);
        let headers = request.headers_mut();
        headers.insert("content-type", "application/x-protobuf".parse().expect("a value"));
        headers.insert("content-encoding", "snappy".parse().expect("a value"));
        Box::pin(async move { router.oneshot(request).await.expect("an answer").status() })
    }

    /// Opens a subscription.
    pub async fn subscribe(&self, query: &'static str) -> Option<Subscriber> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let path = format!("/api/v1/subscribe?format=ndjson&query={encoded}");
        let request = request(Method::GET, &path, Vec::new());
        let response = self.router.clone().oneshot(request).await.expect("an answer");
        let ok = response.status() == StatusCode::OK;
        ok.then(|| Subscriber::new(query, response.into_body().into_data_stream()))
    }

    /// Runs all ticks that are due.
    pub fn tick(&self) -> bool {
        tick_all(&self.driver)
    }

    /// The step of a query without one.
    pub fn step(&self) -> i64 {
        self.step
    }

    /// Refuses further requests and ends subscriptions.
    pub fn stop_serving(&self) {
        self.state.stop();
    }
}

/// A request without special headers.
pub fn request(method: Method, path: &str, body: Vec<u8>) -> Request<Body> {
    Request::builder().method(method).uri(path).body(Body::from(body)).expect("a request")
}

fn tick(driver: &Mutex<TickDriver>) {
    tick_all(driver);
}

/// Runs all work that is due; returns whether no input remains.
fn tick_all(driver: &Mutex<TickDriver>) -> bool {
    let mut driver = driver.lock();
    for _ in 0..100 {
        if let Some(pause) = driver.turn() {
            return pause.is_idle;
        }
    }
    false
}

/// Runs `work` repeatedly, with pauses between `least` and `most` ms.
fn every(mut random: Random, least: u64, most: u64, mut work: impl FnMut(u64) + Send + 'static) {
    tokio::spawn(async move {
        let mut turn = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(least + random.below(most - least))).await;
            turn += 1;
            work(turn);
        }
    });
}
