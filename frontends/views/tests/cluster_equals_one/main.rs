//! A cluster answers as one process: the same series divided among the stores of two or three
//! processes, the same views, the same ticks. The processes are runtimes in this test that talk
//! over loopback, so everything between processes is written and read as bytes. Queries over
//! history are in [`history`], late samples in [`late`], checks of views in [`checks`].
//!
//! Partial sums are added in another order than in one process, so values may differ by 1e-12; rows
//! and annotations may not. The values of samples are integers.

mod checks;
mod history;
mod late;

use engine::live::links::{ClusterMonitor, PeerLinks, PeerSignal};
use engine::live::{LiveOptions, LiveRuntime, Sink, TapEvent, ViewId, ViewKind, ViewSpec};
use engine::query::{Querier, QueryOptions, QueryValue};
use engine::types::histogram_column::Sample;
use parking_lot::Mutex;
use promql::{PromqlOptions, compile};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::model::histogram::{BucketSpan, Buckets};
use storage::model::value::STALE;
use storage::model::{Labels, NativeHistogram, shard_of};
use storage::store::{FloatRow, HistogramRow, Store};

const START: i64 = 1_700_000_000_000;
const TARGETS: usize = 8;

/// Rules over series of all processes: sums, matching, ranks, histograms, absence.
const EXPRESSIONS: &[&str] = &[
    "c_total",
    "sum(c_total)",
    "sum by (series) (rate(c_total[1m]))",
    "rate(c_total[45s])",
    "avg(c_gauge)",
    "stddev by (series) (c_gauge)",
    "quantile(0.9, c_gauge)",
    "topk(3, c_gauge)",
    "bottomk by (series) (1, c_gauge)",
    "count_values(\"v\", c_gauge > bool 3)",
    "min(c_gauge) - max(c_gauge)",
    "c_gauge + on (instance, series) c_total",
    "c_gauge / on (series) group_left avg by (series) (c_gauge)",
    "sum by (series) (c_gauge) / on (series) count by (series) (c_total)",
    "c_gauge > scalar(avg(c_gauge))",
    "c_gauge and on (instance) c_total > 10",
    "c_total unless on (instance, series) c_gauge",
    "histogram_quantile(0.9, sum by (le) (rate(c_bucket[1m])))",
    "sum(c_hist)",
    "histogram_quantile(0.5, sum(rate(c_hist[1m])))",
    "absent(c_gauge{series=\"s1\"})",
    "absent_over_time(c_total{instance=\"host3\"}[30s])",
    "max_over_time(c_gauge[1m] offset 10s)",
    "label_replace(c_gauge, \"host\", \"$1\", \"instance\", \"host(.*)\")",
    "sort_desc(c_gauge)",
    "rate(c_gauge[1m])",
];

/// A chain of recorded rules over series of all processes, the last one first.
const RECORDED: &[(&str, &str)] = &[
    ("r:ratio", "r:a / on (series) r:b"),
    ("r:a", "sum by (series) (c_total)"),
    ("r:b", "sum by (series) (c_total)"),
    ("r:share", "c_gauge / on (series) group_left r:a"),
];

#[derive(Clone, Debug)]
enum Step {
    /// The samples of a target's series.
    Scrape(usize, Vec<u8>),
    Tick(i64),
    Rebuild,
    Reinstall,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..TARGETS, prop::collection::vec(any::<u8>(), 6)).prop_map(|(t, v)| Step::Scrape(t, v)),
        6 => (1..20_000i64).prop_map(Step::Tick),
        1 => Just(Step::Rebuild),
        1 => Just(Step::Reinstall),
        1 => Just(Step::Restart),
    ]
}

/// What a consumer of a view has received.
#[derive(Clone, Debug, Default)]
struct ReceivedAnswer {
    rows: BTreeMap<Labels, Sample>,
    annotations: BTreeSet<String>,
    error: Option<String>,
}

struct AnswerConsumer(Arc<Mutex<ReceivedAnswer>>);

impl Sink for AnswerConsumer {
    fn push(&mut self, event: TapEvent) -> bool {
        let mut shown = self.0.lock();
        match event {
            TapEvent::Snapshot { rows, .. } => shown.rows = rows.into_iter().collect(),
            TapEvent::Delta { upsert, remove, .. } => {
                for labels in remove.iter() {
                    drop(shown.rows.remove(labels));
                }
                shown.rows.extend(upsert);
            }
            TapEvent::Annotations { annotations, .. } => {
                shown.annotations =
                    annotations.iter().map(|annotation| annotation.text.to_string()).collect();
            }
            TapEvent::Failed { error, .. } => shown.error = Some(error),
            TapEvent::Progress { .. } => shown.error = None,
        }
        true
    }
}

/// The signals of a process to process 0.
struct SignalToCoordinator(Mutex<Option<LiveRuntime>>);

impl ClusterMonitor for SignalToCoordinator {
    fn signal(&self, word: PeerSignal) {
        if let Some(live) = self.0.lock().as_ref() {
            live.on_peer_signal(word);
        }
    }
    fn lost(&self, _: usize, _: &str) {}
}

/// One server: of one process or of several.
struct Server {
    stores: Vec<Arc<Store>>,
    lives: Vec<LiveRuntime>,
    dirs: Vec<tempfile::TempDir>,
    workers: usize,
    views: Vec<(String, ViewId, Arc<Mutex<ReceivedAnswer>>)>,
}

fn options(dir: &tempfile::TempDir) -> storage::store::StoreOptions {
    storage::store::StoreOptions {
        dir: dir.path().to_owned(),
        wal_sync_interval_ms: 100,
        block_range_ms: 7_200_000,
        out_of_order_ms: 1_800_000,
    }
}

fn open(dir: &tempfile::TempDir) -> Arc<Store> {
    Store::open(options(dir), Arc::new(OsDisk), &Metrics::default()).unwrap().0
}

/// A connection between each two processes, by process.
fn connect(processes: usize) -> Vec<Vec<Option<TcpStream>>> {
    let mut links: Vec<Vec<Option<TcpStream>>> =
        (0..processes).map(|_| (0..processes).map(|_| None).collect()).collect();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for (a, b) in (0..processes).flat_map(|a| (0..a).map(move |b| (a, b))) {
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (other, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        other.set_nodelay(true).unwrap();
        links[a][b] = Some(stream);
        links[b][a] = Some(other);
    }
    links
}

impl Server {
    fn new(processes: usize, workers: usize) -> Server {
        let dirs: Vec<_> = (0..processes).map(|_| tempfile::tempdir().unwrap()).collect();
        let mut server = Server { stores: Vec::new(), lives: Vec::new(), dirs, workers, views: Vec::new() };
        server.start();
        server
    }

    fn start(&mut self) {
        self.stores = self.dirs.iter().map(open).collect();
        let options = LiveOptions { workers: self.workers, ..LiveOptions::default() };
        if let [store] = &self.stores[..] {
            self.lives = vec![LiveRuntime::manual(store.clone(), &options, &Metrics::default()).unwrap()];
        } else {
            let sender = Arc::new(SignalToCoordinator(Mutex::new(None)));
            let peers = connect(self.stores.len())
                .into_iter()
                .enumerate()
                .map(|(process, links)| PeerLinks { process, links, monitor: sender.clone() });
            let join = |(store, peers): (&Arc<Store>, PeerLinks)| {
                LiveRuntime::manual_joined(store.clone(), &options, &Metrics::default(), peers).unwrap()
            };
            self.lives = self.stores.iter().zip(peers).map(join).collect();
            *sender.0.lock() = Some(self.lives[0].clone());
        }
        self.install();
    }

    fn install(&mut self) {
        let live = &self.lives[0];
        for (record, text) in RECORDED {
            let kind = ViewKind::Recorded {
                record: (*record).to_owned(),
                labels: Vec::new(),
                interval: 1_000,
                offset: 0,
                query_offset: 0,
                limit: 0,
            };
            let plan = compile(text, &PromqlOptions::all()).unwrap();
            let id = live.install(ViewSpec { name: (*record).to_owned(), plan, kind }).unwrap();
            self.views.push(((*record).to_owned(), id, watch(live, id)));
        }
        for text in EXPRESSIONS {
            let plan = compile(text, &PromqlOptions::all()).unwrap();
            let spec = ViewSpec { name: (*text).to_owned(), plan, kind: ViewKind::NOW };
            let id = live.install(spec).unwrap();
            self.views.push(((*text).to_owned(), id, watch(live, id)));
        }
    }

    fn uninstall(&mut self) {
        for (_, id, _) in self.views.drain(..) {
            self.lives[0].remove(id);
        }
    }

    /// In order: a cluster's processes end together.
    fn stop(&mut self) {
        let stops: Vec<_> =
            self.lives.drain(..).map(|live| std::thread::spawn(move || live.stop())).collect();
        for stop in stops.into_iter() {
            stop.join().unwrap();
        }
        for store in self.stores.drain(..) {
            store.close().unwrap();
        }
        self.views.clear();
    }

    fn scrape(&self, target: usize, values: &[u8], counters: &[f64], t: i64) {
        let store = &self.stores[target % self.stores.len()];
        let mut rows = Vec::new();
        for (i, byte) in values.iter().enumerate() {
            let (name, series, le) = [
                ("c_total", "s0", None),
                ("c_total", "s1", None),
                ("c_gauge", "s0", None),
                ("c_gauge", "s1", None),
                ("c_bucket", "s0", Some("1")),
                ("c_bucket", "s0", Some("+Inf")),
            ][i];
            let instance = format!("host{target}");
            let mut labels =
                vec![("__name__", name), ("job", "j"), ("instance", &instance), ("series", series)];
            labels.extend(le.map(|le| ("le", le)));
            let series = store.get_or_create_series(&Labels::from_pairs(labels));
            let v = match byte {
                0..16 => STALE,
                _ if name == "c_gauge" => f64::from(*byte) - 100.0,
                _ => counters[i],
            };
            rows.push(FloatRow { series, t, v });
        }
        store.append_rows(&rows).unwrap();
        let labels = [("__name__", "c_hist"), ("job", "j"), ("instance", &format!("host{target}"))];
        let series = store.get_or_create_series(&Labels::from_pairs(labels));
        let h = Arc::new(histogram(counters[0]));
        store.append_histograms(&[HistogramRow { series, t, h }]).unwrap();
    }
}

fn watch(live: &LiveRuntime, id: ViewId) -> Arc<Mutex<ReceivedAnswer>> {
    let shown = Arc::new(Mutex::new(ReceivedAnswer::default()));
    live.tap(id, Box::new(AnswerConsumer(shown.clone())));
    shown
}

fn histogram(count: f64) -> NativeHistogram {
    NativeHistogram {
        count,
        sum: count * 2.0,
        positive: Buckets { spans: vec![BucketSpan { offset: 0, length: 1 }], counts: vec![count] },
        ..NativeHistogram::default()
    }
}

fn close(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits() || (a - b).abs() <= 1e-12 * a.abs().max(b.abs()).max(1e-300)
}

fn same(a: &Sample, b: &Sample) -> bool {
    match (a, b) {
        (Sample::Float(a), Sample::Float(b)) => close(*a, *b),
        (Sample::Histogram(a), Sample::Histogram(b)) => close(a.count, b.count) && close(a.sum, b.sum),
        _ => false,
    }
}

struct World {
    one: Server,
    cluster: Server,
    counters: Vec<Vec<f64>>,
    last: Vec<i64>,
    now: i64,
}

impl World {
    fn act(&mut self, step: &Step) {
        match step {
            Step::Scrape(target, values) => {
                // Within one target times ascend.
                self.now += i64::from(self.last[*target] >= self.now);
                self.last[*target] = self.now;
                let counters = &mut self.counters[*target];
                for (counter, byte) in counters.iter_mut().zip(values) {
                    *counter = if *byte > 250 { 1.0 } else { *counter + f64::from(byte % 32) };
                }
                for server in [&self.one, &self.cluster] {
                    server.scrape(*target, values, counters, self.now);
                }
            }
            Step::Tick(after) => self.tick(*after),
            Step::Rebuild => {
                for server in [&self.one, &self.cluster] {
                    server.lives[0].rebuild();
                }
            }
            Step::Reinstall => {
                for server in [&mut self.one, &mut self.cluster] {
                    server.uninstall();
                    server.install();
                }
            }
            Step::Restart => {
                for server in [&mut self.one, &mut self.cluster] {
                    server.stop();
                    server.start();
                }
            }
        }
    }

    fn tick(&mut self, after: i64) {
        // At evaluation times, so that recorded views are due.
        self.now += after;
        self.now += 1_000 - self.now % 1_000;
        for server in [&self.one, &self.cluster] {
            server.lives[0].tick(self.now);
        }
        for ((text, _, one), (_, _, cluster)) in self.one.views.iter().zip(&self.cluster.views) {
            let one = one.lock().clone();
            let cluster = cluster.lock().clone();
            let equal = one.rows.len() == cluster.rows.len()
                && one.rows.iter().zip(&cluster.rows).all(|(a, b)| a.0 == b.0 && same(a.1, b.1));
            let at = self.now - START;
            assert!(equal, "{text} at {at}:\n one     {:?}\n cluster {:?}", one.rows, cluster.rows);
            assert_eq!((one.annotations, one.error), (cluster.annotations, cluster.error), "{text} at {at}");
        }
    }

    /// The recorded samples are in the store of process 0, and the same.
    fn compare_recorded(&self) {
        for (record, _) in RECORDED {
            let plan = compile(&format!("{record}[1h]"), &PromqlOptions::all()).unwrap();
            let ask = |server: &Server| {
                let querier = Querier::new(server.stores[0].clone(), 1);
                match querier.instant(&plan, self.now, &QueryOptions::default()).unwrap().value {
                    QueryValue::Matrix(rows) => rows,
                    other => panic!("{other:?}"),
                }
            };
            let one = format!("{:?}", ask(&self.one));
            let cluster = format!("{:?}", ask(&self.cluster));
            assert_eq!(one, cluster, "{record}");
        }
    }
}

fn check(processes: usize, workers: usize, steps: &[Step]) {
    let mut world = World {
        one: Server::new(1, 1),
        cluster: Server::new(processes, workers),
        counters: vec![vec![0.0; 6]; TARGETS],
        last: vec![0; TARGETS],
        now: START,
    };
    for step in steps.iter() {
        world.act(step);
    }
    world.act(&Step::Tick(1));
    world.compare_recorded();
    history::check(&world.one, &world.cluster, world.now);
    world.one.stop();
    world.cluster.stop();
}

fn cases() -> u32 {
    std::env::var("LIVE_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(24)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_cluster_answers_as_one_process(
        (processes, workers) in prop::sample::select(vec![(2usize, 1usize), (2, 2), (3, 1)]),
        steps in prop::collection::vec(step(), 10..50),
    ) {
        check(processes, workers, &steps);
    }
}

/// The series of two processes must be distinguished although their shards have the same numbers.
#[test]
fn targets_of_different_processes_share_a_shard() {
    let shard = |target: usize| {
        let instance = format!("host{target}");
        shard_of(&Labels::from_pairs([("__name__", "c_total"), ("job", "j"), ("instance", &instance)]))
    };
    for processes in [2, 3] {
        let pairs = (0..TARGETS).flat_map(|a| (0..a).map(move |b| (a, b)));
        let mut shared = pairs.filter(|(a, b)| a % processes != b % processes && shard(*a) == shard(*b));
        assert!(shared.next().is_some(), "of {processes} processes");
    }
}

/// A process other than the first has no views, and says so.
#[test]
fn only_process_0_keeps_views() {
    let mut cluster = Server::new(2, 1);
    let plan = compile("up", &PromqlOptions::all()).unwrap();
    let spec = ViewSpec { name: "up".to_owned(), plan, kind: ViewKind::NOW };
    let refused = cluster.lives[1].install(spec).unwrap_err();
    assert!(refused.to_string().contains("process 0"), "{refused}");
    cluster.stop();
}
