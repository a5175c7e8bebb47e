//! The processes of a cluster answer queries over history like one process. Each process is
//! queried; everything between them is sent as bytes.

use super::{EXPRESSIONS, START, Server, close};
use engine::query::guard::QueryGuard;
use engine::query::peers::{PeerChannel, PeerChannels, QueryPeers};
use engine::query::{Querier, QueryAnswer, QueryError, QueryOptions, QueryValue};
use language::annotations::render_all;
use parking_lot::Mutex;
use promql::{PromqlOptions, compile};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::time::Duration;
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::model::{Labels, NativeHistogram};
use storage::store::{FloatRow, Store, StoreBuilder};

/// Queries that only history answers, or answers differently; in addition to the views.
const ASKED: &[&str] = &[
    "max_over_time(sum(c_gauge)[1m:5s])",
    "rate(sum by (series) (c_total)[2m:10s])",
    "sum by (series) (max_over_time(rate(c_total[30s])[1m:5s]))",
    "avg_over_time(max_over_time(c_gauge[20s:5s])[1m:10s])",
    "max_over_time(sum(c_gauge)[1m:5s] offset 20s)",
    "count_over_time(absent(c_gauge{instance=\"host1\"})[1m:5s])",
    "sum(c_gauge @ start())",
    "c_total @ end() - c_total",
    "sum(c_gauge offset -30s)",
    "sum_over_time(c_gauge[40s:10s] @ end())",
    "quantile_over_time(scalar(count(c_total)) / 32, c_gauge[1m])",
    "predict_linear(c_gauge[1m], scalar(sum(c_total)))",
    "clamp_max(c_gauge, scalar(max(c_gauge)) - 20)",
    "scalar(sum(c_gauge)) + time()",
    "vector(scalar(c_gauge{instance=\"host1\",series=\"s0\"}))",
    "histogram_avg(rate(c_hist[1m]))",
    "sum_over_time(c_hist[1m])",
    "sum_over_time(sum(c_hist)[1m:10s])",
    "histogram_quantile(0.5, sum(rate(c_hist[40s])))[1m:10s]",
    "c_hist",
    "c_hist or c_gauge",
    "sum({__name__=~\"c_hist|c_gauge\"})",
    "rate(c_total[1m]) * on (instance) group_left rate(c_hist[1m])",
    "c_gauge + on (series) c_total",
    "sort_by_label(c_gauge, \"instance\")",
    "c_total[1m]",
    "{__name__=~\"c_.*\",instance=~\"host[1-4]\"}[45s] offset 5s",
    "c_hist[1m]",
    "sum(c_gauge)[1m:7s]",
    "timestamp(c_gauge)",
    "present_over_time(c_total[15s])",
    "label_join(c_gauge, \"__name__\", \"-\", \"series\")",
    "sum(c_nothing)",
    "c_gauge{series=\"s0\",instance=\"host1\"}",
    "1 + 1",
];

/// Queriers of the processes of a cluster that query each other.
pub fn queriers(server: &Server) -> Vec<Arc<Querier>> {
    queriers_unless(server, &Arc::default())
}

/// Such queriers; while `away` is set, they cannot reach each other.
pub fn queriers_unless(server: &Server, away: &Arc<AtomicBool>) -> Vec<Arc<Querier>> {
    let all: Arc<Mutex<Vec<Weak<Querier>>>> = Arc::default();
    let querier = |(process, store): (usize, &Arc<Store>)| {
        let querier = Querier::new(store.clone(), 1);
        let neighbours = Neighbours { process, all: all.clone(), away: away.clone() };
        Arc::new(querier.with_peers(Arc::new(neighbours)))
    };
    let queriers: Vec<_> = server.stores.iter().enumerate().map(querier).collect();
    *all.lock() = queriers.iter().map(Arc::downgrade).collect();
    queriers
}

struct Neighbours {
    process: usize,
    all: Arc<Mutex<Vec<Weak<Querier>>>>,
    away: Arc<AtomicBool>,
}

impl QueryPeers for Neighbours {
    fn process(&self) -> usize {
        self.process
    }

    fn channels(&self, _: &QueryGuard) -> Result<PeerChannels, QueryError> {
        if self.away.load(SeqCst) {
            return Err(QueryError::Internal("another process cannot be asked".to_owned()));
        }
        let all = self.all.lock();
        let others = all.iter().enumerate().filter(|(process, _)| *process != self.process);
        let line = |(process, querier): (usize, &Weak<Querier>)| {
            let (near, mut far) = pair();
            let querier = querier.upgrade().unwrap();
            std::thread::spawn(move || querier.answer(&mut far, Arc::new(AtomicBool::new(false))));
            (process, Box::new(near) as Box<dyn PeerChannel>)
        };
        Ok(others.map(line).collect())
    }
}

struct Bytes(Sender<Vec<u8>>, Receiver<Vec<u8>>);

fn pair() -> (Bytes, Bytes) {
    let ((a, from_a), (b, from_b)) = (channel(), channel());
    (Bytes(a, from_b), Bytes(b, from_a))
}

impl PeerChannel for Bytes {
    fn name(&self) -> String {
        "another process".to_owned()
    }
    fn send(&mut self, message: &[u8], _: &QueryGuard) -> Result<(), QueryError> {
        // A failed side has said so and reads no more.
        let _ = self.0.send(message.to_vec());
        Ok(())
    }
    fn flush(&mut self, _: &QueryGuard) -> Result<(), QueryError> {
        Ok(())
    }
    fn receive(&mut self, guard: &QueryGuard) -> Result<Vec<u8>, QueryError> {
        loop {
            guard.check()?;
            match self.1.recv_timeout(Duration::from_millis(20)) {
                Ok(message) => return Ok(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(QueryError::Internal("the line is dead".to_owned()));
                }
            }
        }
    }
}

/// A value for comparison.
type ComparedSeries = (Labels, Vec<(i64, f64)>, Vec<(i64, Arc<NativeHistogram>)>);

fn rows(value: QueryValue) -> Vec<ComparedSeries> {
    match value {
        QueryValue::Scalar(t, v) => vec![(Labels::default(), vec![(t, v)], Vec::new())],
        QueryValue::Text(..) => Vec::new(),
        QueryValue::Vector(rows) => rows
            .into_iter()
            .map(|row| match row.h {
                Some(h) => (row.labels, Vec::new(), vec![(row.t, h)]),
                None => (row.labels, vec![(row.t, row.v)], Vec::new()),
            })
            .collect(),
        QueryValue::Matrix(series) => {
            series.into_iter().map(|s| (s.labels, s.points, s.histograms)).collect()
        }
    }
}

fn same(a: &ComparedSeries, b: &ComparedSeries) -> bool {
    let points = a.1.len() == b.1.len() && a.1.iter().zip(&b.1).all(|(a, b)| a.0 == b.0 && close(a.1, b.1));
    let histogram = |a: &NativeHistogram, b: &NativeHistogram| {
        close(a.count, b.count) && close(a.sum, b.sum) && a.positive.spans == b.positive.spans
    };
    let histograms =
        a.2.len() == b.2.len() && a.2.iter().zip(&b.2).all(|(a, b)| a.0 == b.0 && histogram(&a.1, &b.1));
    a.0 == b.0 && points && histograms
}

/// Of several conflicting series, the first ones are named.
fn reason(error: &QueryError) -> String {
    let text = error.to_string();
    text.split(" for the match group").next().unwrap_or_default().to_owned()
}

fn compare(text: &str, one: Result<QueryAnswer, QueryError>, cluster: Result<QueryAnswer, QueryError>) {
    let (one, cluster) = match (one, cluster) {
        (Ok(one), Ok(cluster)) => (one, cluster),
        (Err(one), Err(cluster)) => return assert_eq!(reason(&one), reason(&cluster), "{text}"),
        (one, cluster) => panic!("{text}: {one:?} {cluster:?}"),
    };
    assert_eq!(render_all(text, &one.annotations), render_all(text, &cluster.annotations), "{text}");
    let counted =
        |answer: &QueryAnswer| (answer.samples.total, answer.samples.read, answer.samples.steps.clone());
    assert_eq!(counted(&one), counted(&cluster), "{text}");
    let mut one = rows(one.value);
    let mut cluster = rows(cluster.value);
    // Rows of equal values may change places.
    one.sort_by(|a, b| a.0.cmp(&b.0));
    cluster.sort_by(|a, b| a.0.cmp(&b.0));
    let equal = one.len() == cluster.len() && one.iter().zip(&cluster).all(|(a, b)| same(a, b));
    assert!(equal, "{text}:\n one     {one:?}\n cluster {cluster:?}");
}

/// Queries every process of `cluster` and compares with `one`.
pub fn check(one: &Server, cluster: &Server, now: i64) {
    let one = Querier::new(one.stores[0].clone(), 1);
    let processes = queriers(cluster);
    let options = QueryOptions { step_stats: true, default_step: 10_000, ..QueryOptions::default() };
    for text in EXPRESSIONS.iter().chain(ASKED) {
        let plan = compile(text, &PromqlOptions::all()).unwrap();
        for t in [now, now - 21_000] {
            let answer = one.instant(&plan, t, &options);
            for querier in &processes {
                compare(text, answer.clone(), querier.instant(&plan, t, &options));
            }
        }
        let answer = one.range(&plan, START - 5_000, now + 20_000, 7_000, &options);
        for querier in &processes {
            compare(text, answer.clone(), querier.range(&plan, START - 5_000, now + 20_000, 7_000, &options));
        }
    }
}

/// Series of eight targets, divided among the processes, with samples every second.
fn filled(processes: usize, seconds: i64) -> Server {
    let server = Server::new(processes, 1);
    for second in 0..seconds {
        for target in 0..8 {
            let bytes = [200, 200, (second * 7 % 90) as u8 + 100, target as u8 + 100, 20, 20];
            let counters = [second as f64; 6];
            server.scrape(target, &bytes, &counters, START + second * 1_000);
        }
    }
    server
}

/// So many series that two blocks have few steps.
const WIDE: usize = 512;

/// A server whose processes share these series.
fn wide(processes: usize) -> Server {
    let server = Server::new(processes, 1);
    for number in 0..WIDE {
        let store = &server.stores[number % processes];
        let instance = format!("host{number}");
        let half = ["a", "b"][number % 3 / 2];
        let labels = [("__name__", "c_wide"), ("job", "j"), ("instance", &instance), ("half", half)];
        let series = store.get_or_create_series(&Labels::from_pairs(labels));
        for i in 0..40 {
            let row = FloatRow { series, t: START + i * 1_000, v: (i * 3 + number as i64) as f64 };
            store.append_rows(&[row]).unwrap();
        }
    }
    server
}

/// So many steps that they need two blocks.
#[test]
fn answers_of_several_blocks_are_put_together() {
    let mut one = wide(1);
    let mut cluster = wide(2);
    let whole = Querier::new(one.stores[0].clone(), 1);
    let processes = queriers(&cluster);
    let options = QueryOptions { lookback: 1_500, ..QueryOptions::default() };
    // A block has 2^24 values.
    let start = START;
    let end = START + (1 << 24) / WIDE as i64 + 5_000;
    let text = "sum by (half) (c_wide)";
    let plan = compile(text, &PromqlOptions::all()).unwrap();
    let answer = whole.range(&plan, start, end, 1, &options);
    assert!(answer.as_ref().is_ok_and(|answer| answer.samples.total > 1_000_000));
    compare(text, answer, processes[1].range(&plan, start, end, 1, &options));
    one.stop();
    cluster.stop();
}

/// The limits apply to the whole query, whichever process reaches them.
#[test]
fn limits_hold_for_all_processes_together() {
    let mut cluster = filled(2, 30);
    let processes = queriers(&cluster);
    let plan = compile("c_gauge[1m]", &PromqlOptions::all()).unwrap();
    let now = START + 30_000;
    let samples = 16 * 30;
    let ask = |max_samples: usize| {
        processes[0].instant(&plan, now, &QueryOptions { max_samples, ..QueryOptions::default() })
    };
    assert!(ask(samples).is_ok());
    let error = ask(samples - 1).unwrap_err();
    assert!(matches!(&error, QueryError::LimitReached(text) if text.contains("too many samples")), "{error}");
    let options = QueryOptions { timeout: Duration::ZERO, ..QueryOptions::default() };
    let error = processes[0].instant(&plan, now, &options).unwrap_err();
    assert!(matches!(error, QueryError::Timeout(_)), "{error}");
    cluster.stop();
}

/// A query for what another process' log has waits until the log is replayed.
#[test]
fn a_replay_elsewhere_is_waited_for() {
    let mut cluster = filled(2, 10);
    cluster.stop();
    let (early, replaying) =
        StoreBuilder::new(super::options(&cluster.dirs[1]), Arc::new(OsDisk), &Metrics::default())
            .open_before_replay()
            .unwrap();
    cluster.stores = vec![super::open(&cluster.dirs[0]), early];
    let processes = queriers(&cluster);
    let plan = compile("count(c_gauge)", &PromqlOptions::all()).unwrap();
    let ask = |timeout: Duration| {
        processes[0].instant(&plan, START + 9_000, &QueryOptions { timeout, ..QueryOptions::default() })
    };
    let error = ask(Duration::from_millis(200)).unwrap_err();
    assert!(matches!(error, QueryError::Timeout(_)), "{error}");
    let replay = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        replaying.run().unwrap();
    });
    let rows = rows(ask(Duration::from_secs(60)).unwrap().value);
    assert_eq!(rows[0].1, [(START + 9_000, 16.0)]);
    replay.join().unwrap();
    cluster.stop();
}
