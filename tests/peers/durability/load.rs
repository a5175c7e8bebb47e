//! The load on a server that will be killed: writers, a scrape target, and a reader. Each records
//! what the server must have.
//!
//! Sample `i` of series `s` of a writer is an integer computed from both, so that sums of samples
//! are exact.

use crate::support::exporter::Exporter;
use crate::support::http::{self, encode};
use crate::support::remote_write::{Series, write};
use crate::support::server::Server;
use crate::support::{eventually, now_ms};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The number of concurrent writers.
const WRITERS: usize = 2;
/// The number of series of each writer, and of the target.
const SERIES: usize = 250;
/// The number of samples of each series in one request.
const SAMPLES: i64 = 20;
/// The interval between samples of a series, ms.
const STEP: i64 = 50;
/// The interval between requests of a writer: all writers together offer 62,500 samples per second.
const PERIOD: Duration = Duration::from_millis(160);

/// The offered samples per second.
pub const OFFERED: f64 = (WRITERS * SERIES) as f64 * SAMPLES as f64 / 0.16;

/// Samples by series: (time, value).
pub type Points = BTreeMap<String, Vec<(i64, f64)>>;

fn value(s: usize, i: i64) -> f64 {
    s as f64 * 1e7 + i as f64
}

/// All points of a range selector at `t`; `None` if the response was incomplete.
fn ask(port: u16, query: &str, t: i64) -> Option<Points> {
    let path = format!("/api/v1/query?query={}&time={}", encode(query), t as f64 / 1000.0);
    let answer = http::get(port, &path).ok().filter(|answer| answer.status == 200)?;
    let answer: Value = serde_json::from_slice(&answer.body).ok()?;
    let point = |p: &Value| Some(((p[0].as_f64()? * 1000.0).round() as i64, p[1].as_str()?.parse().ok()?));
    let series = |row: &Value| {
        let points: Option<Vec<(i64, f64)>> = row["values"].as_array()?.iter().map(point).collect();
        Some((row["metric"].to_string(), points?))
    };
    answer["data"]["result"].as_array()?.iter().map(series).collect()
}

/// All points of a range selector now.
pub fn points(server: &Server, query: &str) -> Points {
    ask(server.port, query, now_ms() + 1000).expect("an answer")
}

/// Writers that send one request after the other; after a kill, each begins with the request whose
/// outcome is unknown.
pub struct Writers {
    /// The time of the first sample.
    start: i64,
    /// The number of acknowledged requests, by writer.
    acknowledged: [i64; WRITERS],
    /// The number of these that were checked sample by sample.
    checked: [i64; WRITERS],
    /// The number of acknowledged requests of all writers, updated while they run.
    progress: Arc<AtomicU64>,
}

impl Writers {
    pub fn new(start: i64) -> Writers {
        let acknowledged = [0; WRITERS];
        let checked = [0; WRITERS];
        Writers { start: start / STEP * STEP, acknowledged, checked, progress: Arc::default() }
    }

    /// The number of acknowledged samples.
    pub fn samples(&self) -> i64 {
        self.acknowledged.iter().sum::<i64>() * SERIES as i64 * SAMPLES
    }

    /// Starts threads that write until the server is gone and return the number of acknowledged
    /// requests.
    pub fn run(&self, port: u16) -> Vec<JoinHandle<i64>> {
        let writer = |w: usize| {
            let start = self.start;
            let first = self.acknowledged[w];
            let progress = self.progress.clone();
            std::thread::spawn(move || {
                let began = Instant::now();
                for (request, due) in (first..).zip(0..) {
                    std::thread::sleep((PERIOD * due).saturating_sub(began.elapsed()));
                    match write(port, &body(start, w, request)) {
                        Ok(answer) => assert_eq!(answer.status / 100, 2, "refused: {}", answer.text()),
                        Err(_) => return request,
                    }
                    progress.fetch_add(1, SeqCst);
                }
                unreachable!("the server dies before")
            })
        };
        (0..WRITERS).map(writer).collect()
    }

    /// Waits, for slow machines, until more than `before` requests are acknowledged.
    pub fn wait(&self, before: u64) {
        eventually("something is written", 60, || {
            if self.progress() > before { Ok(()) } else { Err("nothing".to_owned()) }
        });
    }

    /// The number of requests acknowledged so far.
    pub fn progress(&self) -> u64 {
        self.progress.load(SeqCst)
    }

    /// Waits until the writers have noticed the end of the server.
    pub fn join(&mut self, running: Vec<JoinHandle<i64>>) {
        for (known, writer) in self.acknowledged.iter_mut().zip(running) {
            *known = writer.join().expect("a writer");
        }
    }

    /// Checks that every sample acknowledged since the last check is present, and that of the
    /// request in flight only sent samples are. For samples checked earlier, compares number and
    /// sum.
    pub fn check(&mut self, server: &Server) {
        for w in 0..WRITERS {
            self.check_sums(server, w);
            self.check_samples(server, w, self.checked[w]);
            self.checked[w] = self.acknowledged[w];
        }
    }

    /// As [`Writers::check`], for all samples one by one.
    pub fn check_all(&self, server: &Server) {
        for w in 0..WRITERS {
            self.check_samples(server, w, 0);
        }
    }

    /// A time before the first sample of a request.
    fn before(&self, request: i64) -> i64 {
        self.start + request * SAMPLES * STEP - 1
    }

    fn check_samples(&self, server: &Server, w: usize, from: i64) {
        let to = self.acknowledged[w];
        let end = self.before(to + 2);
        let query = format!("written{{writer=\"{w}\"}}[{}ms]", end - self.before(from));
        let found = ask(server.port, &query, end).expect("an answer");
        // Some series of the request in flight may be present, none must be.
        assert_eq!(found.len(), if to > from { SERIES } else { found.len() }, "series of writer {w}");
        let all = from * SAMPLES..to * SAMPLES;
        for (labels, samples) in &found {
            let s = samples[0].1 as usize / 10_000_000;
            assert!(labels.contains(&format!("\"number\":\"{s}\"")), "{labels}: {samples:?}");
            let acknowledged = samples.iter().take(all.clone().count());
            let wanted = all.clone().map(|i| (self.start + i * STEP, value(s, i)));
            assert!(acknowledged.copied().eq(wanted.clone()), "{labels}: {:?}", lost(samples, wanted));
            let rest = &samples[all.clone().count()..];
            let in_flight = |i: i64| (all.end..all.end + SAMPLES).contains(&i);
            let index = |t: i64| (t - self.start) / STEP;
            assert!(rest.windows(2).all(|w| w[0].0 < w[1].0), "{labels}: twice in {rest:?}");
            let sent = |(t, v): &(i64, f64)| in_flight(index(*t)) && *v == value(s, index(*t));
            assert!(rest.iter().all(sent), "{labels}: never sent: {rest:?}");
        }
    }

    fn check_sums(&self, server: &Server, w: usize) {
        let n = self.checked[w] * SAMPLES;
        let ask = |what: &str| {
            let query = format!("sum({what}(written{{writer=\"{w}\"}}[2h]))");
            let answer = server.query_at(&query, self.before(self.checked[w]));
            answer["result"][0]["value"][1].as_str().map_or(0.0, |v| v.parse().expect("a number"))
        };
        let sum: f64 = (0..SERIES).map(|s| value(s, 0) * n as f64 + (n * (n - 1) / 2) as f64).sum();
        assert_eq!((ask("count_over_time"), ask("sum_over_time")), (SERIES as f64 * n as f64, sum));
    }
}

/// Describes the first sample that is not as expected.
fn lost(found: &[(i64, f64)], wanted: impl Iterator<Item = (i64, f64)>) -> String {
    let bad = wanted.enumerate().find(|(i, sample)| found.get(*i) != Some(sample));
    bad.map(|(i, sample)| format!("{sample:?} wanted, {:?} found", found.get(i))).unwrap_or_default()
}

/// Request number `request` of writer `w`.
fn body(start: i64, w: usize, request: i64) -> Vec<Series> {
    let samples = request * SAMPLES..(request + 1) * SAMPLES;
    let one = |s: usize| {
        let labels = [("number", s.to_string()), ("writer", w.to_string())];
        let labels = labels.each_ref().map(|(name, value)| (*name, value.as_str()));
        Series::new("written", &labels, samples.clone().map(|i| (start + i * STEP, value(s, i))).collect())
    };
    (0..SERIES).map(one).collect()
}

/// A scrape target whose series all expose one counter.
pub struct CountingTarget {
    exporter: Arc<Exporter>,
    count: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl CountingTarget {
    pub fn start() -> CountingTarget {
        let count = Arc::new(AtomicU64::new(1));
        let exporter = Arc::new(Exporter::start(&counted(1)));
        let stop = Arc::new(AtomicBool::new(false));
        let shared = exporter.clone();
        let counts = count.clone();
        let stopped = stop.clone();
        std::thread::spawn(move || {
            while !stopped.load(SeqCst) {
                shared.set(&counted(counts.fetch_add(1, SeqCst) + 1));
                std::thread::sleep(Duration::from_millis(30));
            }
        });
        CountingTarget { exporter, count, stop }
    }

    pub fn port(&self) -> u16 {
        self.exporter.port
    }

    /// The highest value that it can have exposed.
    pub fn last(&self) -> u64 {
        self.count.load(SeqCst)
    }
}

impl Drop for CountingTarget {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
    }
}

fn counted(count: u64) -> String {
    (0..SERIES).map(|n| format!("scraped{{n=\"{n}\"}} {count}\n")).collect()
}

/// The scraped samples that queries have returned: value by series and time.
#[derive(Default)]
pub struct Reader(BTreeMap<(String, i64), f64>);

impl Reader {
    /// Starts a thread that sends queries until the server is gone.
    pub fn run(&self, port: u16) -> JoinHandle<Vec<Points>> {
        std::thread::spawn(move || {
            let mut shown = Vec::new();
            while let Some(answer) = ask(port, "scraped[300ms]", now_ms()) {
                shown.push(answer);
            }
            shown
        })
    }

    /// Waits until the thread has noticed the end of the server.
    pub fn join(&mut self, running: JoinHandle<Vec<Points>>) {
        for (labels, samples) in running.join().expect("the reader").into_iter().flatten() {
            self.0.extend(samples.into_iter().map(|(t, v)| ((labels.clone(), t), v)));
        }
    }

    /// All samples that queries have returned.
    pub fn shown(&self) -> &BTreeMap<(String, i64), f64> {
        &self.0
    }
}
