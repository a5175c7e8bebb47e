//! A store and a live runtime for tests of views: appends samples, installs rules and watched
//! expressions, and runs the same queries from scratch.

#![allow(dead_code, reason = "no test uses all of it")]

use engine::live::describe::ViewFootprint;
use engine::live::{LiveOptions, LiveRuntime, Sink, TapEvent, ViewId, ViewKind, ViewSpec};
use engine::query::{Querier, QueryOptions, QueryValue};
use parking_lot::Mutex;
use promql::{PromqlOptions, compile};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::clock::{Clock, ManualClock};
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::model::{Labels, shard_of};
use storage::store::{ColumnBatch, ColumnLayout, FeedDelivery, FloatRow, Store};

pub const START: i64 = 1_700_000_000_000;

/// The current answer of a watched expression.
#[derive(Clone, Default)]
pub struct WatchedRows(Arc<Mutex<(BTreeMap<Labels, f64>, i64)>>);

impl WatchedRows {
    pub fn rows(&self) -> BTreeMap<Labels, f64> {
        self.0.lock().0.clone()
    }

    /// The tick of the latest event; 0: no event yet.
    pub fn time(&self) -> i64 {
        self.0.lock().1
    }
}

impl Sink for WatchedRows {
    fn push(&mut self, event: TapEvent) -> bool {
        let mut seen = self.0.lock();
        let number = |(labels, sample): engine::live::LabelledSample| (labels, sample.float());
        match event {
            TapEvent::Snapshot { t, rows } => *seen = (rows.into_iter().map(number).collect(), t),
            TapEvent::Delta { t, upsert, remove, .. } => {
                seen.0.retain(|labels, _| !remove.contains(labels));
                seen.0.extend(upsert.into_iter().map(number));
                seen.1 = t;
            }
            TapEvent::Failed { error, .. } => panic!("{error}"),
            TapEvent::Progress { t } | TapEvent::Annotations { t, .. } => seen.1 = t,
        }
        true
    }
}

pub struct Bench {
    pub store: Arc<Store>,
    pub live: LiveRuntime,
    pub clock: Arc<ManualClock>,
    pub metrics: Metrics,
    querier: Querier,
    _dir: tempfile::TempDir,
}

impl Bench {
    /// A bench whose ticks the test runs.
    pub fn new(workers: usize) -> Bench {
        let options = LiveOptions { workers, ..LiveOptions::default() };
        Bench::start(Arc::new(ManualClock::at(START)), |store, metrics, _| {
            LiveRuntime::manual(store, &options, metrics).unwrap()
        })
    }

    /// A bench whose driver runs the ticks.
    pub fn driven(clock: Arc<ManualClock>, options: LiveOptions) -> Bench {
        Bench::start(clock, |store, metrics, clock| {
            LiveRuntime::start(store, clock, options, metrics).unwrap()
        })
    }

    fn start(
        clock: Arc<ManualClock>,
        live: impl FnOnce(Arc<Store>, &Metrics, Arc<dyn Clock>) -> LiveRuntime,
    ) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let options = storage::store::StoreOptions {
            dir: dir.path().to_owned(),
            wal_sync_interval_ms: 100,
            block_range_ms: 7_200_000,
            out_of_order_ms: 1_800_000,
        };
        let metrics = Metrics::default();
        let (store, _) = Store::open(options, Arc::new(OsDisk), &metrics).unwrap();
        let live = live(store.clone(), &metrics, clock.clone());
        Bench { querier: Querier::new(store.clone(), 1), store, live, clock, metrics, _dir: dir }
    }

    fn spec(name: &str, expr: &str, interval: i64) -> ViewSpec {
        let plan = compile(expr, &PromqlOptions::default()).unwrap();
        let kind = ViewKind::Recorded {
            record: name.to_owned(),
            labels: Vec::new(),
            interval,
            offset: 0,
            query_offset: 0,
            limit: 0,
        };
        ViewSpec { name: name.to_owned(), plan, kind }
    }

    pub fn record(&self, name: &str, expr: &str, interval: i64) -> ViewId {
        self.live.install(Bench::spec(name, expr, interval)).unwrap()
    }

    pub fn change(&self, id: ViewId, name: &str, expr: &str, interval: i64) {
        self.live.change(id, Bench::spec(name, expr, interval)).unwrap();
    }

    pub fn watch(&self, expr: &str) -> WatchedRows {
        let plan = compile(expr, &PromqlOptions::default()).unwrap();
        let spec = ViewSpec { name: expr.to_owned(), plan, kind: ViewKind::NOW };
        let seen = WatchedRows::default();
        self.live.tap(self.live.install(spec).unwrap(), Box::new(seen.clone()));
        seen
    }

    pub fn sample(&self, instance: &str, t: i64, v: f64) {
        let labels = Labels::from_pairs([("__name__", "c_total"), ("job", "j"), ("instance", instance)]);
        let series = self.store.get_or_create_series(&labels);
        self.store.append_rows(&[FloatRow { series, t, v }]).unwrap();
    }

    /// The series of one target in one generation of its pods.
    pub fn target(&self, generation: usize, series: usize) -> ColumnBatch {
        let generation = generation.to_string();
        let pod = |i: usize| {
            let pod = format!("p{i}");
            let pairs =
                [("__name__", "c_total"), ("generation", &generation), ("instance", "h"), ("pod", &pod)];
            Labels::from_pairs(pairs)
        };
        let shard = shard_of(&pod(0));
        let slots = (0..series).map(|i| self.store.get_or_create_series(&pod(i)).slot).collect();
        let group = self.store.open_group(&generation, shard);
        ColumnBatch { group, layout: Arc::new(ColumnLayout { slots }), t: 0, values: Arc::new([]) }
    }

    /// Appends a scrape of such a target at `t`.
    pub fn scrape(&self, target: &ColumnBatch, t: i64, v: f64) {
        self.scrape_each(target, t, |i| v * (i % 10) as f64);
    }

    /// Appends a scrape of such a target at `t`, with a value for each series.
    pub fn scrape_each(&self, target: &ColumnBatch, t: i64, v: impl Fn(usize) -> f64) {
        let values = (0..target.layout.slots.len()).map(v).collect();
        self.store.append_columns(&ColumnBatch { t, values, ..target.clone() }, FeedDelivery::Feed).unwrap();
    }

    /// The answer of the query runtime.
    pub fn ask(&self, expr: &str, t: i64) -> BTreeMap<Labels, f64> {
        let plan = compile(expr, &PromqlOptions::default()).unwrap();
        let answer = self.querier.instant(&plan, t, &QueryOptions::default()).unwrap();
        let QueryValue::Vector(rows) = answer.value else { panic!("{expr}: not a vector") };
        rows.into_iter().map(|row| (row.labels, row.v)).collect()
    }

    /// The samples that `name` recorded exactly at `t`, with the labels of the answer.
    pub fn recorded(&self, name: &str, t: i64) -> BTreeMap<Labels, f64> {
        let rows = self.ask(&format!("last_over_time({name}[1ms])"), t);
        rows.into_iter().map(|(labels, v)| (labels.without_name(), v)).collect()
    }

    /// The most series in a ring of a view, at a tick at `t`.
    pub fn rows(&self, t: i64) -> usize {
        let work = self.work(t);
        work.iter().flat_map(|work| &work.rings).map(|ring| ring.series).max().unwrap_or(0)
    }

    /// The footprint of all views, at a tick at `t`.
    pub fn work(&self, t: i64) -> Vec<ViewFootprint> {
        let live = self.live.clone();
        let asked = std::thread::spawn(move || live.describe(ViewId(0), 100, Duration::from_secs(60)));
        while !asked.is_finished() {
            self.tick_as_is(t);
            std::thread::sleep(Duration::from_millis(5));
        }
        let views = asked.join().unwrap().unwrap().views;
        views.into_iter().filter_map(|view| view.work).collect()
    }

    /// Runs a tick at `t` that waits for nothing, after one share of the preparation.
    pub fn tick_as_is(&self, t: i64) {
        self.live.prepare(t);
        self.live.tick_as_is(t);
    }

    /// Lets the clock run until `done`.
    pub fn wait(&self, done: impl Fn() -> bool) {
        let began = Instant::now();
        while !done() {
            assert!(began.elapsed() < Duration::from_secs(60), "it never happened");
            self.clock.set(self.clock.now() + 10);
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

pub fn only(rows: &BTreeMap<Labels, f64>) -> f64 {
    assert_eq!(rows.len(), 1, "{rows:?}");
    *rows.values().next().unwrap()
}

/// Whether two answers are equal, except for the last digits of extrapolated values.
pub fn same(a: &BTreeMap<Labels, f64>, b: &BTreeMap<Labels, f64>) -> bool {
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-12 * a.abs().max(b.abs());
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && close(*a.1, *b.1))
}

/// Panics if two answers are not equal.
pub fn assert_same(a: &BTreeMap<Labels, f64>, b: &BTreeMap<Labels, f64>, what: &str) {
    assert!(same(a, b), "{what}:\n live    {a:?}\n scratch {b:?}");
}
