//! A life: one run of the simulated server, from start to crash or stop, with random events, and
//! the checks after it. [`super::world`] has what survives between lives.

use super::alerts::{self, ExpectedRules};
use super::ledger::Key;
use super::process::{Process, request};
use super::recorded;
use super::subscriber::{Subscriber, value};
use super::world::{End, World, written};
use axum::http::{Method, StatusCode};
use engine::query::{QueryOptions, QueryValue};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::clock::Clock;
use storage::model::TimeMs;

/// The most events in a life.
const EVENTS: u64 = 60;
/// The number of series that clients write.
const WRITTEN: u64 = 6;
/// The largest lateness of samples, ms: within the late sample window of the configuration, with a
/// margin for the clock.
const LATE: u64 = 580_000;
/// The number of maintained rules that do not handle late samples; each is a view.
const OTHER_RULES: usize = 4;
/// The bytes of the latest results, at most one row per job, of the two rules that query the store.
const LATEST_ANSWERS: usize = 512;
/// How long a view remains after its last subscriber is gone.
const LINGERED: Duration = Duration::from_secs(45);
/// A query that cannot be maintained incrementally: it is evaluated once per second.
const ASKED: &str = "max_over_time(sum(temperature)[1m:5s])";
/// The number of checks whether that query has been evaluated at the current time, and the ms
/// between two checks.
const LOOKS: usize = 30;
const LOOK_EVERY: u64 = 100;
/// The queries that clients subscribe to.
const FOLLOWED: [&str; 6] = [
    ASKED,
    "sum by (job) (temperature)",
    "job:temperature:sum",
    "max_over_time(temperature[1m])",
    "rate(steps_total[30s])",
    "temperature > 50",
];

/// Runs a life of a server to its end.
pub fn live(world: &mut World) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().expect("a runtime");
    world.clock.begin(runtime.handle());
    let (end, process) = runtime.block_on(events(world));
    world.journal.fail(0);
    if end == End::Close {
        let _inside = runtime.enter();
        process.stop_serving();
        process.server.close(Instant::now()).expect("it closes");
        world.ledger.lock().synced();
    }
    // From here on the disk ignores all writes, whatever drops do.
    world.journal.kill();
    process.server.views.live.stop();
    let store = Arc::downgrade(&process.server.storage.store);
    drop(process);
    drop(runtime);
    assert!(store.upgrade().is_none(), "a task or a thread outlives the server and has its store");
    assert_eq!(world.open_files(), Vec::<PathBuf>::new(), "files that stay open");
    world.clock.stop();
    world.peers.check_alerts().unwrap_or_else(|error| panic!("{error}"));
    world.crash(end);
}

async fn events(world: &mut World) -> (End, Process) {
    let ended = world.clock.now();
    let process = Process::open(world);
    process.work(world);
    if world.random.chance(50) {
        pause(world, 8_000).await;
    }
    process.start();
    if !world.damaged {
        let found = written(&process.server.storage.store);
        let checked = world.ledger.lock().check(&found, i64::MIN, i64::MAX);
        checked.unwrap_or_else(|error| panic!("{error}, after the start at {}", world.clock.now()));
        world.ledger.lock().take_over(&found);
    }
    let duty = ExpectedRules {
        started: world.clock.now(),
        hold: (world.hold as i64 * 1000, world.hold as i64 * 1000),
    };
    let mut life = Life { process, subscribers: Vec::new(), duty, ended, failed: false };
    if world.damaged {
        life.query(world, "1h", 3_599_999).await;
    }
    for _ in 0..EVENTS {
        pause(world, 6_000).await;
        if let Some(end) = life.event(world).await {
            life.check_alerts(world);
            return (end, life.process);
        }
    }
    life.compare(world).await;
    life.check_alerts(world);
    if !world.damaged {
        world.check_written(&life.process.server.storage.store);
    }
    life.subscribers.clear();
    tokio::time::sleep(LINGERED).await;
    check_resources(&life.process);
    (End::Close, life.process)
}

/// Checks that without queries and subscribers all their resources are released.
fn check_resources(process: &Process) {
    let gauge = |name| process.server.context.metrics.gauge(name, "", &[]).get();
    let now = [
        "perennial_subscriptions",
        "perennial_subscribed_views",
        "perennial_subscription_buffer_bytes",
        "prometheus_engine_queries",
    ]
    .map(gauge);
    assert_eq!(now, [0.0; 4], "subscriptions, their views, their bytes, queries");
    let rules = OTHER_RULES + recorded::RULES.len();
    assert_eq!(gauge("perennial_views"), rules as f64, "views");
    let held = process.server.queries.memory.reserved();
    assert!(held <= LATEST_ANSWERS, "{held} bytes of answers");
}

/// Lets a random time pass, at most `most` ms.
async fn pause(world: &mut World, most: u64) {
    let ms = world.random.below(most);
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

struct Life {
    process: Process,
    subscribers: Vec<Subscriber>,
    duty: ExpectedRules,
    /// When the previous life ended.
    ended: TimeMs,
    /// Whether the disk has refused a write.
    failed: bool,
}

impl Life {
    /// Runs a random event; returns how the life ends, if it does.
    async fn event(&mut self, world: &mut World) -> Option<End> {
        match world.random.below(100) {
            0..30 => self.write(world).await,
            30..42 => self.query(world, "5m", 299_999).await,
            42..52 => self.compare(world).await,
            52..60 => self.subscribe(world).await,
            60..65 => drop_one(world, &mut self.subscribers),
            65..67 => self.disk_fails(world),
            67..76 => world.peers.change_mood(&mut world.random),
            76..88 => world.peers.change_temperature(&mut world.random),
            88..93 => self.reload(world).await,
            93..95 if world.jumps => jump(world),
            93..95 => {}
            95..98 => return Some(End::Kill),
            _ => return Some(End::PowerLoss),
        }
        None
    }

    /// Sends some samples by remote write.
    async fn write(&mut self, world: &mut World) {
        let now = world.clock.now();
        let mut samples: BTreeMap<Key, f64> = BTreeMap::new();
        for _ in 0..1 + world.random.below(4) {
            let back = if world.random.chance(75) { 0 } else { world.random.below(LATE) as i64 };
            let key = (world.random.below(WRITTEN).to_string(), now - back);
            let v = world.random.below(1 << 40) as f64;
            if !world.ledger.lock().knows(&key) && !samples.keys().any(|other| other.0 == key.0) {
                samples.insert(key, v);
            }
        }
        for (key, v) in samples.iter() {
            world.ledger.lock().sent(key.clone(), v.to_bits());
        }
        let keys: Vec<Key> = samples.keys().cloned().collect();
        let body = super::write::body(samples.iter().map(|((i, t), v)| (i.as_str(), *t, *v)));
        let status = self.process.write(body).await;
        world.trace.note(&format!("{} wrote {keys:?}: {status}", world.clock.now()));
        if status == StatusCode::NO_CONTENT {
            world.seen.insert("write acknowledged");
            let is_late = samples.keys().any(|(_, t)| *t < now - 120_000);
            if is_late {
                world.seen.insert("late sample");
            }
            world.ledger.lock().acknowledged(&keys, world.careful);
        }
    }

    /// Makes some writes and syncs of the disk fail.
    fn disk_fails(&mut self, world: &mut World) {
        let changes = 1 + world.random.below(4) as usize;
        world.journal.fail(changes);
        self.failed = true;
        world.trace.note(&format!("{} {changes} changes of the disk fail", world.clock.now()));
        world.seen.insert("disk failed");
    }

    /// Sends a query for recently written samples.
    async fn query(&mut self, world: &mut World, range: &str, ms: i64) {
        let now = world.clock.now();
        let path = format!("/api/v1/query?query=w%5B{range}%5D&time={}", now as f64 / 1000.0);
        let (status, body) = self.process.get(&path).await;
        let answer: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        let is_marked = status != StatusCode::OK || answer.get("warnings").is_some();
        assert!(world.damaged || !is_marked, "{answer}");
        if is_marked {
            // The response says that it is partial.
            world.seen.insert("partial answer marked");
            return;
        }
        let mut found = BTreeMap::new();
        for series in answer["data"]["result"].as_array().expect("a matrix") {
            let i = series["metric"]["i"].as_str().expect("a label");
            for pair in series["values"].as_array().expect("samples") {
                let t = (pair[0].as_f64().expect("a time") * 1000.0).round() as i64;
                found.insert((i.to_owned(), t), value(&pair[1]).to_bits());
            }
        }
        world.trace.note(&format!("{now} found {found:?}"));
        world.seen.insert("query answered");
        let checked = world.ledger.lock().check(&found, now - ms, now);
        checked.unwrap_or_else(|error| panic!("{error}: {answer} at {now}"));
    }

    async fn subscribe(&mut self, world: &mut World) {
        let query = FOLLOWED[world.random.below(FOLLOWED.len() as u64) as usize];
        world.trace.note(&format!("{} subscribes {query}", world.clock.now()));
        self.subscribers.extend(self.process.subscribe(query).await);
    }

    /// Checks that the rows of subscribers are the results of queries from scratch.
    async fn compare(&mut self, world: &mut World) {
        // Samples that arrive until then are part of the next tick.
        tokio::time::sleep(Duration::from_millis(25)).await;
        let current = self.process.tick();
        if current && !self.failed && !world.damaged && !world.jumps {
            recorded::check(&self.process, self.ended, self.duty.started, world.clock.now());
            world.seen.insert("recorded compared");
        }
        // Waiting for evaluated queries takes time, in which samples arrive, so these come last.
        let (asked, standing): (Vec<_>, Vec<_>) =
            self.subscribers.iter_mut().partition(|subscriber| subscriber.query == ASKED);
        for subscriber in standing {
            let read = subscriber.read().await;
            world.trace.note(&format!("{} read {read} of {}", world.clock.now(), subscriber.query));
            if current {
                compare_with_scratch(&self.process, world, subscriber);
            }
        }
        for subscriber in asked {
            if asked_now(&self.process, world, subscriber).await {
                compare_with_scratch(&self.process, world, subscriber);
                world.seen.insert("asked compared");
            }
        }
    }

    /// Checks the alerts of this life.
    fn check_alerts(&self, world: &mut World) {
        let told = world.peers.told().filter(|_| !self.failed && !world.damaged);
        let Some(told) = told else { return };
        let recorded = alerts::recorded(&self.process.server.storage.store);
        let checked = alerts::check(&recorded, &told, &self.duty);
        checked.unwrap_or_else(|error| panic!("{error}; started at {}", self.duty.started));
        if recorded.values().any(|states| states.iter().all(|times| !times.is_empty())) {
            world.seen.insert("alert pending and firing");
        }
    }

    /// Reloads the server with another configuration.
    async fn reload(&mut self, world: &mut World) {
        let targets = 2 + world.random.below(3) as usize;
        let hold = [0, 20, 40][world.random.below(3) as usize];
        world.hold = hold;
        world.configure(targets, hold);
        self.duty.hold = (self.duty.hold.0.min(hold as i64 * 1000), self.duty.hold.1.max(hold as i64 * 1000));
        let (status, body) = self.process.ask(request(Method::POST, "/-/reload", Vec::new())).await;
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
        world.trace.note(&format!("{} reloaded", world.clock.now()));
        world.seen.insert("reloaded");
    }
}

/// Checks that the rows of a subscriber are the result of a query from scratch at their time.
fn compare_with_scratch(process: &Process, world: &mut World, subscriber: &Subscriber) {
    let Some(rows) = subscriber.rows.as_ref().filter(|_| !world.damaged) else { return };
    let query = subscriber.query;
    let complete = subscriber.complete;
    let scratch = scratch(process, query, complete);
    assert!(
        same(rows, &scratch),
        "{query} at {complete}, now {}: live {rows:?}, from scratch {scratch:?}",
        world.clock.now()
    );
    world.trace.note(&format!("{rows:?}"));
    world.seen.insert("live compared");
}

/// Waits for a result of the current time; returns whether there was one.
async fn asked_now(process: &Process, world: &World, subscriber: &mut Subscriber) -> bool {
    for _ in 0..LOOKS {
        process.server.views.composite.turn();
        subscriber.read().await;
        if subscriber.complete == world.clock.now() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(LOOK_EVERY)).await;
    }
    false
}

fn drop_one(world: &mut World, subscribers: &mut Vec<Subscriber>) {
    if !subscribers.is_empty() {
        let at = world.random.below(subscribers.len() as u64) as usize;
        subscribers.remove(at);
    }
}

fn jump(world: &mut World) {
    let by = match world.random.below(3) {
        0 => world.random.below(7_200_000) as i64,
        1 => -(world.random.below(500) as i64),
        _ => -(world.random.below(300_000) as i64),
    };
    world.trace.note(&format!("{} jumps {by}", world.clock.now()));
    world.clock.jump(by);
    world.peers.clock_jumps();
    world.seen.insert("clock jumped");
}

/// The result of a query of history.
pub fn scratch(process: &Process, query: &str, t: i64) -> BTreeMap<String, f64> {
    let plan = promql::compile(query, &process.server.queries.language).expect("a query");
    let options = QueryOptions { default_step: process.step(), ..QueryOptions::default() };
    let answer = process.server.queries.querier.instant(&plan, t, &options).expect("an answer");
    let QueryValue::Vector(rows) = answer.value else { panic!("a vector") };
    rows.into_iter().map(|row| (key(row.labels.iter()), row.v)).collect()
}

/// Labels as a subscriber writes them.
pub fn key<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let sorted: BTreeMap<String, serde_json::Value> =
        labels.map(|(name, value)| (name.to_owned(), value.into())).collect();
    format!("{sorted:?}")
}

/// Whether both have the same rows, with values that are equal except for rounding.
pub fn same(live: &BTreeMap<String, f64>, scratch: &BTreeMap<String, f64>) -> bool {
    let near = |a: f64, b: f64| a == b || (a - b).abs() <= 1e-9 * a.abs().max(b.abs());
    live.len() == scratch.len()
        && live.iter().all(|(key, v)| scratch.get(key).is_some_and(|other| near(*v, *other)))
}
