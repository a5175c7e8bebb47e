//! The invariant above all: for every view and tick, the live answer equals the from-scratch answer of the
//! query runtime over the samples that had arrived.
//!
//! Histories are generated: scrapes of several targets at phases of their own, gaps, counter resets, stale
//! markers, churn, late and duplicate samples, samples that come alone, views installed in the middle, the
//! server restarted in the middle (store closed and replayed from its log); one, two and four workers. Answers must be equal bit by bit; `rate`,
//! `increase` and `delta` may differ by 1e-13: between samples their value is constant in mathematics, but
//! Prometheus' formula rounds differently at each time, and the live runtime does not ask it again.

use engine::live::{Live, LiveOptions, Sink, TapEvent, ViewKind, ViewSpec};
use engine::query::{Querier, QueryOptions, Value};
use frontends::promql::{Options, compile};
use parking_lot::Mutex;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::model::value::{ABSENT, STALE};
use storage::model::{Labels, SeriesRef, shard_of};
use storage::store::{Columns, Layout, Row, Store, Tell};

/// Every function and operator of the first release, and compositions.
const EXPRESSIONS: &[&str] = &[
    "m_total",
    "m_total offset 20s",
    r#"m_total{series=~"s[0-2]"}"#,
    r#"{__name__=~"m_.*",series!="s1"}"#,
    "rate(m_total[1m])",
    "increase(m_total[45s])",
    "irate(m_total[1m])",
    "delta(m_gauge[1m])",
    "deriv(m_gauge[1m])",
    "predict_linear(m_gauge[1m], 600)",
    "avg_over_time(m_gauge[1m])",
    "min_over_time(m_gauge[1m])",
    "max_over_time(m_gauge[1m])",
    "sum_over_time(m_gauge[1m])",
    "count_over_time(m_gauge[1m])",
    "last_over_time(m_gauge[1m] offset 15s)",
    "quantile_over_time(0.5, m_gauge[1m])",
    "absent(m_gauge)",
    r#"absent(m_nothing{job="j"})"#,
    r#"absent_over_time(m_gauge{series="s3"}[30s])"#,
    "sum(m_gauge)",
    "sum by (instance) (m_gauge)",
    "avg without (series) (m_gauge)",
    "count by (series) (m_gauge)",
    "min(m_gauge)",
    "max by (series) (m_gauge)",
    "stddev(m_gauge)",
    "quantile(0.9, m_gauge)",
    "topk(2, m_gauge)",
    "bottomk by (instance) (1, m_gauge)",
    "count_values(\"v\", m_gauge > bool 0)",
    "sum by (instance) (rate(m_total[1m])) / sum by (instance) (rate(m_total[30s]))",
    "m_gauge + on (instance, series) m_total",
    "m_gauge * on (instance) group_left sum by (instance) (m_total)",
    "m_gauge > 0",
    "m_gauge > bool 0",
    "2 < m_gauge",
    "m_gauge and on (instance) m_total > 10",
    "m_gauge or m_total",
    "m_total unless on (instance, series) m_gauge",
    "histogram_quantile(0.9, sum by (le) (rate(m_bucket[1m])))",
    "histogram_quantile(0.5, m_bucket)",
    "histogram_fraction(0, 1.5, m_bucket)",
    "histogram_fraction(-1, scalar(count(m_gauge)), sum by (le) (m_bucket))",
    "abs(-m_gauge)",
    "clamp_max(m_gauge, time() / 1000)",
    "round(m_gauge, 0.5)",
    "timestamp(m_gauge)",
    "time() - timestamp(m_gauge)",
    "vector(time())",
    "scalar(sum(m_gauge)) * 2",
    "m_gauge > scalar(avg(m_gauge))",
    r#"label_replace(m_gauge, "host", "$1", "instance", "(.*):.*")"#,
    "sum(sum by (instance) (m_gauge))",
    "max_over_time(m_gauge[2m]) - min_over_time(m_gauge[2m]) > 1",
];

const START: i64 = 1_700_000_000_000;
const TARGETS: usize = 3;
const SERIES: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    /// A scrape of a target: value choices per series and metric.
    Scrape { target: usize, values: Vec<u8> },
    /// A sample that comes alone, this many ms late.
    Alone { target: usize, series: usize, late: i64, value: u8 },
    /// Time passes, and a tick happens.
    Tick { after: i64 },
    /// Everything is stopped, opened again from the data directory and started.
    Restart,
    /// The views are removed and installed again.
    Reinstall,
    /// The live state is built anew at the next tick, as after much churn.
    Rebuild,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..TARGETS, prop::collection::vec(any::<u8>(), SERIES * 3))
            .prop_map(|(target, values)| Step::Scrape { target, values }),
        2 => (0..TARGETS, 0..SERIES, 0..90_000i64, any::<u8>())
            .prop_map(|(target, series, late, value)| Step::Alone { target, series, late, value }),
        8 => (1..40_000i64).prop_map(|after| Step::Tick { after }),
        2 => (250_000..400_000i64).prop_map(|after| Step::Tick { after }),
        1 => Just(Step::Restart),
        1 => Just(Step::Reinstall),
        1 => Just(Step::Rebuild),
    ]
}

/// What the taps of one view have been told.
#[derive(Default)]
struct Shown {
    rows: BTreeMap<Labels, f64>,
    failed: bool,
}

struct Collector(Arc<Mutex<Shown>>);

impl Sink for Collector {
    fn push(&mut self, event: TapEvent) -> bool {
        let mut shown = self.0.lock();
        match event {
            TapEvent::Snapshot { rows, .. } => shown.rows = rows.into_iter().collect(),
            TapEvent::Delta { upsert, remove, .. } => {
                remove
                    .iter()
                    .for_each(|labels| assert!(shown.rows.remove(labels).is_some(), "removed twice"));
                shown.rows.extend(upsert);
            }
            TapEvent::Failed { .. } => shown.failed = true,
            TapEvent::Progress { .. } => shown.failed = false,
        }
        true
    }
}

struct World {
    store: Arc<Store>,
    live: Live,
    querier: Querier,
    workers: usize,
    now: i64,
    layouts: HashMap<(usize, u16), (Vec<usize>, Arc<Layout>)>,
    series: Vec<Vec<(Labels, SeriesRef)>>,
    /// Newest scrape of each target and how its counters stand.
    last: Vec<i64>,
    counters: Vec<Vec<f64>>,
    present: Vec<Vec<bool>>,
    views: Vec<(String, engine::plan::Plan, engine::live::ViewId, Arc<Mutex<Shown>>)>,
    expressions: Vec<&'static str>,
    dir: tempfile::TempDir,
}

fn open(dir: &std::path::Path) -> Arc<Store> {
    let options = storage::store::Options {
        dir: dir.to_owned(),
        wal_sync_interval_ms: 100,
        block_range_ms: 7_200_000,
        out_of_order_ms: 1_800_000,
    };
    Store::open(options, Arc::new(OsDisk), &Metrics::default()).unwrap().0
}

/// Where the series of all targets live.
fn resolve(store: &Store) -> Vec<Vec<(Labels, SeriesRef)>> {
    let one = |labels: Labels| {
        let series = store.resolve(&labels);
        (labels, series)
    };
    (0..TARGETS).map(|t| (0..SERIES * 3).map(|i| one(labels(t, i))).collect()).collect()
}

fn labels(target: usize, i: usize) -> Labels {
    let (metric, series) = (["m_total", "m_gauge", "m_bucket"][i / SERIES], i % SERIES);
    let instance = format!("h{target}:90");
    let name = format!("s{series}");
    match metric {
        "m_bucket" => {
            let le = ["0.1", "1", "5", "+Inf"][series];
            Labels::from_pairs([("__name__", metric), ("instance", &instance), ("job", "j"), ("le", le)])
        }
        _ => Labels::from_pairs([
            ("__name__", metric),
            ("instance", &instance),
            ("job", "j"),
            ("series", &name),
        ]),
    }
}

impl World {
    fn new(workers: usize, expressions: Vec<&'static str>) -> World {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let live = start(&store, workers);
        let series = resolve(&store);
        let mut world = World {
            querier: Querier::new(store.clone(), 2),
            store,
            live,
            workers,
            now: START,
            layouts: HashMap::new(),
            series,
            last: vec![0; TARGETS],
            counters: vec![vec![0.0; SERIES * 3]; TARGETS],
            present: vec![vec![false; SERIES * 3]; TARGETS],
            views: Vec::new(),
            expressions,
            dir,
        };
        world.install();
        world
    }

    fn install(&mut self) {
        for text in &self.expressions {
            let plan = compile(text, &Options::default()).unwrap_or_else(|e| panic!("{text}: {e}"));
            let spec = ViewSpec { name: (*text).to_owned(), plan: plan.clone(), kind: ViewKind::Continuous };
            let id = self.live.install(spec).unwrap_or_else(|e| panic!("{text}: {e}"));
            let shown = Arc::new(Mutex::new(Shown::default()));
            self.live.tap(id, Box::new(Collector(shown.clone())));
            self.views.push(((*text).to_owned(), plan, id, shown));
        }
    }

    fn act(&mut self, step: &Step) {
        match step {
            Step::Scrape { target, values } => self.scrape(*target, values),
            Step::Alone { target, series, late, value } => {
                let series = self.series[*target][SERIES + series].1;
                let row = Row { series, t: self.now - late, v: f64::from(*value) };
                self.store.append_rows(&[row]).unwrap();
            }
            Step::Tick { after } => {
                self.now += after;
                self.live.tick(self.now);
                self.compare();
            }
            Step::Restart => {
                self.live.stop();
                self.views.clear();
                self.store.close().unwrap();
                self.store = open(self.dir.path());
                self.querier = Querier::new(self.store.clone(), 2);
                self.series = resolve(&self.store);
                self.layouts.clear();
                self.live = start(&self.store, self.workers);
                self.install();
            }
            Step::Rebuild => self.live.rebuild(),
            Step::Reinstall => {
                std::mem::take(&mut self.views).iter().for_each(|(_, _, id, _)| self.live.remove(*id));
                self.install();
            }
        }
    }

    /// A scrape at this moment. Each value's byte says what happens to its series: mostly it goes on.
    fn scrape(&mut self, target: usize, values: &[u8]) {
        if self.last[target] >= self.now {
            return;
        }
        self.last[target] = self.now;
        let mut parts: BTreeMap<u16, Vec<(usize, f64)>> = BTreeMap::new();
        for (i, byte) in values.iter().enumerate() {
            let present = &mut self.present[target][i];
            let counter = &mut self.counters[target][i];
            let gone = *byte < 12;
            let value = match (gone, *present) {
                (true, true) => STALE,
                (true, false) => ABSENT,
                (false, _) if i / SERIES == 1 => f64::from(*byte) / 7.0 - 15.0,
                (false, _) if *byte < 24 => 1.0,
                (false, _) => *counter + f64::from(byte % 32),
            };
            *present = !gone;
            if !gone {
                *counter = value;
            }
            parts.entry(shard_of(&self.series[target][i].0)).or_default().push((i, value));
        }
        for (shard, part) in parts {
            let which: Vec<usize> = part.iter().map(|(i, _)| *i).collect();
            let entry = self.layouts.entry((target, shard)).or_insert_with(|| {
                let slots = which.iter().map(|i| self.series[target][*i].1.slot).collect();
                (which.clone(), Arc::new(Layout { slots }))
            });
            assert_eq!(entry.0, which);
            let batch = Columns {
                group: self.store.open_group(&format!("target{target}"), shard),
                layout: entry.1.clone(),
                t: self.now,
                values: part.iter().map(|(_, v)| *v).collect(),
            };
            self.store.append_columns(&batch, Tell::Feed).unwrap();
        }
    }

    fn compare(&self) {
        for (text, plan, _, shown) in &self.views {
            let shown = shown.lock();
            let answer = self.querier.instant(plan, self.now, &QueryOptions::default());
            let expected: BTreeMap<Labels, f64> = match answer.map(|a| a.value) {
                Ok(Value::Vector(rows)) => rows.into_iter().map(|r| (r.labels, r.v)).collect(),
                Ok(Value::Scalar(_, v)) => BTreeMap::from([(Labels::default(), v)]),
                Ok(other) => panic!("{text}: {other:?}"),
                Err(_) => {
                    assert!(shown.failed, "{text} at {}: fails from scratch, not live", self.now - START);
                    continue;
                }
            };
            assert!(!shown.failed, "{text} at {}: fails live, not from scratch", self.now - START);
            let same = |a: f64, b: f64| a.to_bits() == b.to_bits() || close(text, a, b);
            let equal = shown.rows.len() == expected.len()
                && shown.rows.iter().zip(&expected).all(|(a, b)| a.0 == b.0 && same(*a.1, *b.1));
            assert!(
                equal,
                "{text} at {}:\n live    {:?}\n scratch {expected:?}",
                self.now - START,
                shown.rows
            );
        }
    }
}

/// See the module: only functions that extrapolate may differ, and only so much.
fn close(text: &str, a: f64, b: f64) -> bool {
    let extrapolates = ["rate(", "increase(", "delta("].iter().any(|f| text.contains(f));
    (a.is_nan() && b.is_nan()) || extrapolates && (a - b).abs() <= 1e-13 * a.abs().max(b.abs()).max(1e-300)
}

fn start(store: &Arc<Store>, workers: usize) -> Live {
    let options = LiveOptions { workers, ..LiveOptions::default() };
    Live::manual(store.clone(), &options, &Metrics::default()).unwrap()
}

fn check(workers: usize, expressions: &[&'static str], steps: &[Step]) {
    let mut world = World::new(workers, expressions.to_vec());
    steps.iter().for_each(|step| world.act(step));
    world.act(&Step::Tick { after: 1 });
    world.live.stop();
}

fn cases() -> u32 {
    std::env::var("LIVE_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(24)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    /// Every expression at once, so that they share what can be shared.
    #[test]
    fn live_equals_scratch(workers in prop::sample::select(vec![1usize, 2, 4]), steps in prop::collection::vec(step(), 10..60)) {
        check(workers, EXPRESSIONS, &steps);
    }

    /// Every expression alone: sharing must not hide a mistake.
    #[test]
    fn live_equals_scratch_alone(expression in prop::sample::select(EXPRESSIONS.to_vec()), workers in 1..3usize, steps in prop::collection::vec(step(), 10..60)) {
        check(workers, &[expression], &steps);
    }
}
