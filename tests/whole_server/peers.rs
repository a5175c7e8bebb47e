//! The simulated targets and Alertmanager. They respond, are slow, fail, are unreachable, or break
//! off.

use super::clock::WallClock;
use super::random::Random;
use super::trace::Trace;
use connectors::http_client::Peer;
use futures::StreamExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use storage::clock::Clock;

/// How a peer behaves.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum PeerBehavior {
    Good,
    /// It responds after any timeout.
    Slow,
    /// It responds with status 500.
    Failing,
    /// It is unreachable.
    Gone,
    /// Its response ends in the middle.
    Cut,
}

const MOODS: [PeerBehavior; 4] =
    [PeerBehavior::Slow, PeerBehavior::Failing, PeerBehavior::Gone, PeerBehavior::Cut];

/// The hosts that are scraped.
pub const TARGETS: [&str; 4] = ["t0", "t1", "t2", "t3"];
/// The host of the Alertmanager.
pub const ALERTMANAGER: &str = "am";

/// An alert that was sent to the Alertmanager, whether it accepted it or not.
#[derive(Clone, Debug)]
struct ReceivedAlert {
    at: i64,
    labels: String,
    instance: String,
    starts_at: i64,
    ends_at: i64,
}

impl ReceivedAlert {
    fn is_over(&self) -> bool {
        self.ends_at <= self.at
    }
}

/// A sample that a target has exposed.
#[derive(Clone, Debug)]
pub struct ScrapedSample {
    pub t: i64,
    pub instance: String,
    pub is_hot: bool,
    /// Whether the server could receive it.
    pub is_good: bool,
}

/// How long before the start of an alert its target was last hot, at most, ms: a scrape, a tick,
/// and late samples.
const HOT_BEFORE: i64 = 20_000;
/// A target is hot above this temperature.
const HOT: i64 = 50;

/// The number of scrapes before the start that a server may know: the latest scrape may be lost in
/// a power loss.
const KNOWN_BEFORE: usize = 2;

impl State {
    /// Whether the target was hot when this alert began, or at the scrape before, which a server
    /// may know after its start.
    fn was_hot(&self, heard: &ReceivedAlert) -> bool {
        let of_target = self.told.iter().rev().filter(|told| told.instance == heard.instance);
        let until = of_target.skip_while(|told| told.t > heard.starts_at);
        let mut before = 0;
        let first = heard.starts_at - HOT_BEFORE;
        let mut looked_at = until.take_while(|told| {
            before += usize::from(told.t < first);
            before <= KNOWN_BEFORE
        });
        looked_at.any(|told| told.is_hot)
    }
}

/// The targets and the Alertmanager.
pub struct Peers {
    clock: Arc<WallClock>,
    trace: Arc<Trace>,
    seed: u64,
    state: Mutex<State>,
}

struct State {
    moods: BTreeMap<String, PeerBehavior>,
    temperatures: BTreeMap<String, i64>,
    told: Vec<ScrapedSample>,
    heard: Vec<ReceivedAlert>,
    clock_jumped: bool,
    seen: BTreeSet<&'static str>,
}

impl Peers {
    pub fn new(clock: Arc<WallClock>, trace: Arc<Trace>, seed: u64) -> Arc<Peers> {
        let hosts = TARGETS.iter().chain([&ALERTMANAGER]).map(|host| (*host).to_owned());
        let temperatures = TARGETS.iter().map(|host| ((*host).to_owned(), 20)).collect();
        let state = State {
            moods: hosts.map(|host| (host, PeerBehavior::Good)).collect(),
            temperatures,
            told: Vec::new(),
            heard: Vec::new(),
            clock_jumped: false,
            seen: BTreeSet::new(),
        };
        Arc::new(Peers { clock, trace, seed, state: Mutex::new(state) })
    }

    /// Random numbers for a request: determined by the host and the time, independent of other
    /// requests.
    fn random(&self, host: &str) -> Random {
        Random::new(self.seed ^ xxhash_rust::xxh3::xxh3_64(host.as_bytes()) ^ self.clock.now() as u64)
    }

    /// Changes the behaviour of a peer; in most cases it then responds normally.
    pub fn change_mood(&self, random: &mut Random) {
        let mut state = self.state.lock();
        let at = random.below(state.moods.len() as u64) as usize;
        let mood = if random.chance(50) { PeerBehavior::Good } else { MOODS[random.below(4) as usize] };
        let (host, of_host) = state.moods.iter_mut().nth(at).expect("a peer");
        *of_host = mood;
        self.trace.note(&format!("{host} is {mood:?}"));
    }

    /// Makes a target hot or cold.
    pub fn change_temperature(&self, random: &mut Random) {
        let mut state = self.state.lock();
        let host = TARGETS[random.below(TARGETS.len() as u64) as usize];
        let degrees = if random.chance(50) { 80 } else { 20 } + random.below(10) as i64;
        state.temperatures.insert(host.to_owned(), degrees);
        self.trace.note(&format!("{host} has {degrees} degrees"));
    }

    /// Records that the clock jumped: times can be checked less strictly from now on.
    pub fn clock_jumps(&self) {
        self.state.lock().clock_jumped = true;
    }

    /// Checks the alerts that the Alertmanager was sent; the error says what is wrong.
    pub fn check_alerts(&self) -> Result<(), String> {
        let state = self.state.lock();
        if state.clock_jumped {
            return Ok(());
        }
        for (at, heard) in state.heard.iter().enumerate() {
            let same =
                |other: &&ReceivedAlert| other.labels == heard.labels && other.starts_at == heard.starts_at;
            if heard.is_over() && !state.heard[..at].iter().filter(same).any(|other| !other.is_over()) {
                return Err(format!("it ends and nobody heard that it began: {heard:?}"));
            }
            if !state.was_hot(heard) {
                return Err(format!("it was not hot: {heard:?}"));
            }
        }
        Ok(())
    }

    /// The samples that targets have exposed; `None` if the clock jumped, so that their times are
    /// unreliable.
    pub fn told(&self) -> Option<Vec<ScrapedSample>> {
        let state = self.state.lock();
        (!state.clock_jumped).then(|| state.told.clone())
    }

    pub fn seen(&self) -> BTreeSet<&'static str> {
        self.state.lock().seen.clone()
    }

    fn exposition(&self, state: &mut State, host: &str, random: &mut Random) -> String {
        let degrees = state.temperatures[host];
        let is_good = state.moods[host] == PeerBehavior::Good;
        let t = self.clock.now();
        let instance = format!("{host}:80");
        state.told.push(ScrapedSample { t, instance, is_hot: degrees > HOT, is_good });
        let steps = self.clock.now() / 1000 % 100_000;
        format!("temperature {degrees}\nsteps_total {steps}\nnoise {}\n", random.below(1000))
    }

    fn hear(&self, state: &mut State, body: &[u8]) {
        let alerts: Vec<serde_json::Value> = serde_json::from_slice(body).expect("alerts");
        let time = |alert: &serde_json::Value, key: &str| {
            let text = alert[key].as_str().expect("a time");
            chrono::DateTime::parse_from_rfc3339(text).expect("a time").timestamp_millis()
        };
        for alert in &alerts {
            state.heard.push(ReceivedAlert {
                at: self.clock.now(),
                labels: alert["labels"].to_string(),
                instance: alert["labels"]["instance"].as_str().expect("a target").to_owned(),
                starts_at: time(alert, "startsAt"),
                ends_at: time(alert, "endsAt"),
            });
        }
    }
}

/// What a peer does with a request.
struct Plan {
    mood: PeerBehavior,
    delay: Duration,
    body: String,
}

impl Peer for Peers {
    fn answer(&self, request: reqwest::Request) -> BoxFuture<'static, reqwest::Result<reqwest::Response>> {
        let host = request.url().host_str().unwrap_or_default().to_owned();
        let mut state = self.state.lock();
        let mood = state.moods.get(&host).copied().unwrap_or(PeerBehavior::Gone);
        let mut random = self.random(&host);
        let delay = Duration::from_millis(1 + random.below(300));
        let alerts = request.body().and_then(reqwest::Body::as_bytes);
        let text = alerts.map(|body| String::from_utf8_lossy(body).into_owned()).unwrap_or_default();
        self.trace.note(&format!("{} {} asked, it is {mood:?} {text}", self.clock.now(), request.url()));
        let body = match alerts {
            None if TARGETS.contains(&host.as_str()) => self.exposition(&mut state, &host, &mut random),
            Some(body) => {
                self.hear(&mut state, body);
                if mood == PeerBehavior::Good {
                    state.seen.insert("alert delivered");
                }
                String::new()
            }
            None => String::new(),
        };
        let patience = request.timeout().copied().unwrap_or(Duration::from_secs(3600));
        let plan = Plan { mood, delay, body };
        Box::pin(async move {
            match tokio::time::timeout(patience, act(plan)).await {
                Ok(answer) => answer,
                Err(_) => Err(broken()),
            }
        })
    }
}

async fn act(plan: Plan) -> reqwest::Result<reqwest::Response> {
    tokio::time::sleep(plan.delay).await;
    let answer = |status: u16, body: reqwest::Body| {
        let response = axum::http::Response::builder().status(status).header("content-type", "text/plain");
        Ok(reqwest::Response::from(response.body(body).expect("a response")))
    };
    match plan.mood {
        PeerBehavior::Good => answer(200, plan.body.into()),
        PeerBehavior::Failing => answer(500, "no".into()),
        PeerBehavior::Gone => Err(broken()),
        PeerBehavior::Slow => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            answer(200, plan.body.into())
        }
        PeerBehavior::Cut => {
            let half = plan.body[..plan.body.len() / 2].to_owned();
            let pieces = [Ok(half), Err(std::io::Error::other("the connection was reset"))];
            answer(200, reqwest::Body::wrap_stream(futures::stream::iter(pieces).boxed()))
        }
    }
}

/// Any error of the HTTP client.
fn broken() -> reqwest::Error {
    static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(reqwest::Client::new);
    CLIENT.get("no address").build().expect_err("no address")
}
