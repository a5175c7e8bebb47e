//! Tests that a tick reads only the rows whose samples arrived or whose timers expired, and the
//! rows that share a group with them.

use super::{LiveOptions, LiveRuntime, Sink, TapEvent, ViewKind, ViewSpec};
use crate::functions::lookup;
use crate::plan::{
    Aggregate, AggregateOp, Binary, BinaryOp, BitFloat, FunctionRef, Grouping, Plan, PlanNode, PlanOp,
    Selector, Span, ValueType, VectorMatching,
};
use std::sync::Arc;
use storage::disk::OsDisk;
use storage::metrics::{Counter, Metrics};
use storage::model::value::ABSENT;
use storage::model::{Labels, Matcher, SeriesRef, TimeMs, shard_of};
use storage::store::{ColumnBatch, ColumnLayout, FeedDelivery, FloatRow, GroupId, Store, StoreOptions};

const START: TimeMs = 1_700_000_000_000;
const TARGETS: usize = 4;
const SERIES: usize = 10;
const SCRAPE_MS: i64 = 15_000;

fn plan(op: PlanOp) -> Plan {
    Arc::new(PlanNode { op, span: Span::default() })
}

fn selector() -> Selector {
    Selector { matchers: vec![Matcher::equal("__name__", "c_total")], offset: 0, at: None, extension: None }
}

fn window(function: &str, range: i64) -> Plan {
    let args = vec![plan(PlanOp::Range { selector: selector(), range })];
    plan(PlanOp::Call { function: FunctionRef(lookup(function).unwrap()), args })
}

struct IgnoringSink;

impl Sink for IgnoringSink {
    fn push(&mut self, _: TapEvent) -> bool {
        true
    }
}

struct Target {
    group: GroupId,
    layout: Arc<ColumnLayout>,
}

struct Bench {
    store: Arc<Store>,
    live: LiveRuntime,
    targets: Vec<Target>,
    touched: Arc<Counter>,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new(plans: Vec<Plan>) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            dir: dir.path().to_owned(),
            wal_sync_interval_ms: 100,
            block_range_ms: 7_200_000,
            out_of_order_ms: 0,
        };
        let metrics = Metrics::default();
        let (store, _) = Store::open(options, Arc::new(OsDisk), &metrics).unwrap();
        let live = LiveRuntime::manual(store.clone(), &LiveOptions::default(), &metrics).unwrap();
        for (i, plan) in plans.into_iter().enumerate() {
            let spec = ViewSpec { name: i.to_string(), plan, kind: ViewKind::NOW };
            let view = live.install(spec).unwrap();
            live.tap(view, Box::new(IgnoringSink));
        }
        let target = |number: usize| {
            let slots =
                (0..SERIES).map(|i| store.get_or_create_series(&Bench::labels(number, i)).slot).collect();
            let group = store.open_group(&format!("h{number}:90"), shard_of(&Bench::labels(number, 0)));
            Target { group, layout: Arc::new(ColumnLayout { slots }) }
        };
        let targets = (0..TARGETS).map(target).collect();
        let touched = metrics.counter("perennial_tick_rows_touched_total", "", &[]);
        Bench { store, live, targets, touched, _dir: dir }
    }

    /// Series `i` of a target.
    fn labels(target: usize, i: usize) -> Labels {
        let instance = format!("h{target}:90");
        let i = i.to_string();
        Labels::from_pairs([("__name__", "c_total"), ("instance", &instance), ("job", "j"), ("series", &i)])
    }

    /// A scrape of a target; series below `from` are not in it.
    fn scrape(&self, target: usize, t: TimeMs, from: usize) {
        let value = |i: usize| if i < from { ABSENT } else { 1e6 + ((t - START) / 1_000 * i as i64) as f64 };
        let Target { group, layout } = &self.targets[target];
        let values = (0..SERIES).map(value).collect();
        let batch = ColumnBatch { group: *group, layout: layout.clone(), t, values };
        self.store.append_columns(&batch, FeedDelivery::Feed).unwrap();
    }

    /// The rows that the tick at `t` reads.
    fn tick(&self, t: TimeMs) -> u64 {
        let before = self.touched.get();
        self.live.tick(t);
        self.touched.get() - before
    }
}

/// The target that is scraped in second `second`, if there is one: each target has its own phase.
fn scraped(second: i64) -> Option<usize> {
    (0..TARGETS).find(|target| second % (SCRAPE_MS / 1_000) == *target as i64 * 3)
}

#[test]
fn a_tick_looks_at_rows_that_got_samples_and_at_no_others() {
    let functions =
        ["rate", "increase", "max_over_time", "sum_over_time", "count_over_time", "last_over_time"];
    let mut plans: Vec<Plan> = functions.iter().map(|f| window(f, 60_000)).collect();
    plans.push(plan(PlanOp::Instant(selector())));
    let leaves = plans.len() as u64;
    let bench = Bench::new(plans);
    for second in 0..200 {
        let t = START + second * 1_000;
        let scraped = scraped(second);
        for target in scraped.into_iter() {
            bench.scrape(target, t, 0);
        }
        let rows = bench.tick(t);
        // Before windows are full, the extrapolation of `rate` changes with time, in each series
        // from another time on.
        if second >= 90 {
            let expected = if scraped.is_some() { leaves * SERIES as u64 } else { 0 };
            assert_eq!(rows, expected, "second {second}");
        }
    }
    bench.live.stop();
}

#[test]
fn a_series_that_falls_silent_is_looked_at_alone_when_its_time_has_come() {
    let bench = Bench::new(vec![plan(PlanOp::Instant(selector()))]);
    let lookback = LiveOptions::default().lookback_ms / 1_000;
    for second in 0..lookback + 100 {
        let t = START + second * 1_000;
        let scraped = scraped(second);
        // Two series of the first target are only in its first scrapes, the last time in that of
        // second 30.
        let from = |target| if target == 0 && second > 40 { 2 } else { 0 };
        // Samples arrive with a delay, so that they age between scrapes.
        for target in scraped.into_iter() {
            bench.scrape(target, t - 2_500, from(target));
        }
        let rows = bench.tick(t);
        let expected = match scraped {
            Some(_) => SERIES as u64,
            None if second == 28 + lookback => 2,
            None => 0,
        };
        assert_eq!(rows, if second == 0 { rows } else { expected }, "second {second}");
    }
    bench.live.stop();
}

/// Labels by which the series of these tests form as many groups as there are series per target:
/// each group has one member per target.
const GROUPS: &str = "series";

fn by_series(op: AggregateOp, param: Option<f64>, input: Plan) -> Plan {
    let grouping = Grouping { without: false, labels: vec![GROUPS.to_owned()] };
    let param = param.map(|value| plan(PlanOp::Number(BitFloat(value))));
    plan(PlanOp::Aggregate(Box::new(Aggregate { op, grouping, param, input })))
}

fn binary(op: BinaryOp, lhs: Plan, rhs: Plan) -> Plan {
    let matching = VectorMatching::default();
    plan(PlanOp::Binary(Box::new(Binary {
        op,
        return_bool: false,
        matching,
        lhs,
        rhs,
        kind: ValueType::Vector,
    })))
}

/// A quantile of classic histograms: each series becomes the bucket of a histogram of its own.
fn quantile_of_buckets() -> Plan {
    let text = |text: &str| plan(PlanOp::Text(text.to_owned()));
    let relabel = FunctionRef(lookup("label_replace").unwrap());
    let args = vec![plan(PlanOp::Instant(selector())), text("le"), text("+Inf"), text("series"), text(".*")];
    let buckets = plan(PlanOp::Call { function: relabel, args });
    let quantile = FunctionRef(lookup("histogram_quantile").unwrap());
    plan(PlanOp::Call { function: quantile, args: vec![plan(PlanOp::Number(BitFloat(0.9))), buckets] })
}

/// One series of many changes. Operators on groups read the members of one group: two rows of a
/// match, the rows of all targets in one group of an aggregation.
#[test]
fn one_series_that_changes_is_one_group_that_is_looked_at() {
    let all = || plan(PlanOp::Instant(selector()));
    let cases = [
        ("match", binary(BinaryOp::Add, all(), all()), 2),
        ("and", binary(BinaryOp::And, all(), all()), 2),
        ("unless", binary(BinaryOp::Unless, all(), all()), 2),
        ("or", binary(BinaryOp::Or, all(), all()), 2),
        ("topk", by_series(AggregateOp::Topk, Some(1.0), all()), TARGETS),
        ("bottomk", by_series(AggregateOp::Bottomk, Some(1.0), all()), TARGETS),
        ("quantile", by_series(AggregateOp::Quantile, Some(0.5), all()), TARGETS),
        ("stddev", by_series(AggregateOp::Stddev, None, all()), TARGETS),
        ("histogram_quantile", quantile_of_buckets(), 1),
    ];
    for (name, plan, looked_at) in cases {
        let bench = Bench::new(vec![plan]);
        for target in 0..TARGETS {
            bench.scrape(target, START, 0);
        }
        assert!(bench.tick(START + 1) as usize >= TARGETS * SERIES, "{name}: all of them are new");
        assert_eq!(bench.tick(START + 2), 0, "{name}: nothing changes");
        let series =
            SeriesRef { shard: shard_of(&Bench::labels(1, 3)), slot: bench.targets[1].layout.slots[3] };
        bench.store.append_rows(&[FloatRow { series, t: START + 3, v: 7.0 }]).unwrap();
        let rows = bench.tick(START + 3) as usize;
        // The leaf reads the row, or the rows that share its times.
        assert!((looked_at + 1..=looked_at + SERIES).contains(&rows), "{name}: {rows} rows");
        bench.live.stop();
    }
}
