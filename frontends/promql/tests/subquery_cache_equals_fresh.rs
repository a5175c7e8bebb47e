//! The subquery cache: an expression that is evaluated again and again with the cache has the same
//! answer as from scratch, bit by bit, whatever series start, end or are written into the past in
//! between. And the cache evaluates no more than what changed.
//!
//! A case depends only on its seed and number:
//! `KEPT_SEED=1 KEPT_CASE=17 cargo test --workspace --test subquery_cache_equals_fresh`;
//! `KEPT_CASES=10000` for a long run.

#[path = "../../../tests/differential/random.rs"]
#[allow(dead_code, reason = "made for another generator, too")]
mod random;

use engine::plan::Plan;
use engine::query::{Querier, QueryAnswer, QueryError, QueryOptions, QueryValue, SubqueryCache};
use promql::{PromqlOptions, compile};
use random::Random;
use std::sync::Arc;
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::model::histogram::{BucketSpan, Buckets};
use storage::model::value::{ABSENT, STALE};
use storage::model::{Labels, Matcher, NativeHistogram, SeriesRef, shard_of};
use storage::store::{
    ColumnBatch, ColumnLayout, CorrectedValue, Correction, FeedDelivery, FloatRow, HistogramRow,
    SeriesSamples, StartRow, Store, StoreOptions,
};

const START: i64 = 1_700_000_000_000;
const CASES: u64 = 24;
const STEPS: usize = 160;
const METRICS: [&str; 3] = ["m_total", "m_gauge", "m_hist"];
const TARGETS: usize = 2;
const SERIES: usize = 4;
const BLOCK: i64 = 600_000;

/// The expressions, and whether the cache can hold a part of each.
const ASKED: &[(&str, bool)] = &[
    ("max_over_time(sum by (series) (rate(m_total[1m]))[5m:15s])", true),
    ("sum(avg_over_time(m_gauge[3m:10s]))", true),
    ("avg_over_time((m_gauge > 3)[4m:20s] offset 1m)", true),
    ("sum_over_time(m_gauge[3m:15s] offset -1m)", true),
    ("max_over_time(rate(m_total[1m] offset -30s)[3m:15s])", true),
    ("max_over_time((m_gauge offset 1m - m_gauge)[3m:15s])", true),
    ("count_over_time(m_gauge[2m:15s] @ 1700000200)", true),
    ("last_over_time((m_gauge - m_gauge @ 1700000200)[2m:15s])", true),
    ("last_over_time((m_gauge @ end())[2m:15s])", false),
    ("sum_over_time((m_gauge + end() - start())[2m:15s])", true),
    ("max_over_time(avg_over_time(rate(m_total[1m])[2m:20s])[4m:30s])", true),
    ("rate(m_total[6m:])", true),
    ("absent_over_time(m_gauge{series=\"s3\",instance=\"h1\"}[1m:15s])", true),
    ("m_gauge + on (instance, series) max_over_time(m_gauge[3m:15s])", true),
    ("quantile_over_time(scalar(max_over_time(sum(m_gauge)[2m:15s])) / 100, m_gauge[2m])", true),
    ("sum_over_time(m_hist[3m:15s])", true),
    ("histogram_quantile(0.9, sum(rate(m_hist[4m:15s])))", true),
    ("max_over_time(histogram_count(increase(m_hist[1m]))[3m:15s])", true),
    ("max_over_time({__name__=~\"m_gauge|m_total\"}[2m:15s])", true),
    ("max_over_time({__name__=~\"m_gauge|m_total\",series=~\"s.\",instance=\"h1\"}[30s:15s])", true),
    ("max_over_time(rate({__name__=~\"m_.*\"}[1m])[2m:15s])", false),
    ("min_over_time(timestamp(m_gauge)[3m:15s])", true),
    ("max_over_time((time() - m_gauge)[3m:15s])", true),
    ("sum(sum_over_time(topk(2, m_gauge)[3m:15s]))", true),
    ("max_over_time(limitk(2, m_gauge)[2m:15s])", true),
    ("changes(sort(m_gauge)[3m:15s])", true),
    ("stddev_over_time((m_gauge and on (series) m_total > 5)[4m:15s])", true),
    ("sum_over_time(info(m_total)[2m:15s])", false),
    ("max_over_time(rate(m_total[1m] smoothed)[3m:15s])", true),
    ("max_over_time(increase(m_total[1m] anchored)[3m:15s])", true),
    ("scalar(max_over_time(sum(m_gauge)[3m:15s]))", true),
    ("increase(m_total[2m:15s]) > 3 or absent_over_time(m_none[1m:10s])", true),
    ("last_over_time((m_gauge / on (series) m_total)[1m:15s])", true),
    ("sum_over_time(absent(m_gauge{series=\"s0\"})[2m:15s])", true),
    ("max_over_time(m_gauge[50s:1m])", true),
];

struct World {
    random: Random,
    store: Arc<Store>,
    querier: Querier,
    options: QueryOptions,
    now: i64,
    last: [i64; TARGETS],
    counters: [[f64; SERIES]; TARGETS],
    _dir: tempfile::TempDir,
}

fn labels(metric: usize, target: usize, series: usize) -> Labels {
    let instance = format!("h{target}");
    let series = format!("s{series}");
    Labels::from_pairs([
        ("__name__", METRICS[metric]),
        ("instance", &instance),
        ("job", "j"),
        ("series", &series),
    ])
}

fn open(dir: &std::path::Path) -> Arc<Store> {
    let options = StoreOptions {
        dir: dir.to_owned(),
        wal_sync_interval_ms: 100,
        block_range_ms: BLOCK,
        out_of_order_ms: 120_000,
    };
    Store::open(options, Arc::new(OsDisk), &Metrics::default()).expect("a store").0
}

impl World {
    fn new(random: Random, dialect: &PromqlOptions) -> World {
        let dir = tempfile::tempdir().expect("a directory");
        let store = open(dir.path());
        World {
            random,
            querier: Querier::new(store.clone(), 1),
            store,
            options: QueryOptions { dialect: dialect.dialect(), ..QueryOptions::default() },
            now: START,
            last: [0; TARGETS],
            counters: Default::default(),
            _dir: dir,
        }
    }

    fn one(&mut self) -> (usize, usize) {
        (self.random.below(TARGETS as u64) as usize, self.random.below(SERIES as u64) as usize)
    }

    fn series(&mut self, metric: usize) -> SeriesRef {
        let (target, series) = self.one();
        self.store.get_or_create_series(&labels(metric, target, series))
    }

    /// A number of tenths, so that sums are rounded.
    fn value(&mut self) -> f64 {
        if self.random.chance(6) { STALE } else { self.random.below(200) as f64 / 10.0 }
    }

    /// Mostly now, sometimes long ago.
    fn when(&mut self) -> i64 {
        let late = [0, 0, 20_000, 100_000][self.random.below(4) as usize];
        self.now - if late > 0 { self.random.below(late) as i64 } else { 0 }
    }

    /// One random event.
    fn step(&mut self) {
        match self.random.weighted([30, 10, 10, 4, 3, 2, 2, 2, 40, 1]) {
            0 => self.scrape(),
            1 => {
                let metric = self.random.below(2) as usize;
                let t = self.when();
                let v = self.value();
                let series = self.series(metric);
                self.store.append_rows(&[FloatRow { series, t, v }]).expect("appended");
            }
            2 => self.histogram(),
            3 => {
                let series = self.series(0);
                let before = self.random.below(90_000) as i64;
                let t = self.last[0].max(START);
                self.store.append_starts(&[StartRow { series, t, start: t - before }]).expect("appended");
            }
            4 => self.correct(),
            5 => {
                let metric = self.random.below(3) as usize;
                let back = self.random.below(300_000) as i64;
                let matchers = [Matcher::equal("__name__", METRICS[metric]), Matcher::equal("series", "s1")];
                let to = self.now - back + self.random.below(60_000) as i64;
                self.store.admin().delete(&matchers, self.now - back, to).expect("deleted");
            }
            6 => {
                self.store.maintenance().run_housekeeping(self.now).expect("maintained");
                if self.random.chance(50) {
                    self.store.maintenance().compact().expect("merged");
                    self.store.admin().clean_tombstones().expect("cleaned");
                }
            }
            7 => self.write_past(),
            8 => self.now += self.random.between(1, 25) * 1_000,
            _ => self.now += self.random.between(100, 400) * 1_000 + 17,
        }
    }

    fn scrape(&mut self) {
        let target = self.random.below(TARGETS as u64) as usize;
        if self.last[target] >= self.now {
            return;
        }
        self.last[target] = self.now;
        let tell = if self.random.chance(50) { FeedDelivery::Feed } else { FeedDelivery::Nobody };
        for metric in 0..2 {
            for series in 0..SERIES {
                let counter = &mut self.counters[target][series];
                let grown =
                    if self.random.chance(5) { 0.5 } else { *counter + self.random.below(70) as f64 / 10.0 };
                *counter = grown;
                let value = if metric == 0 { grown } else { self.value() };
                let labels = labels(metric, target, series);
                let at = self.store.get_or_create_series(&labels);
                let gone = self.random.chance(8);
                let batch = ColumnBatch {
                    group: self.store.open_group(&format!("{labels:?}"), shard_of(&labels)),
                    layout: Arc::new(ColumnLayout { slots: vec![at.slot] }),
                    t: self.now,
                    values: [if gone { ABSENT } else { value }].into(),
                };
                self.store.append_columns(&batch, tell).expect("appended");
            }
        }
    }

    fn histogram(&mut self) {
        let series = self.series(2);
        let t = self.when();
        let counts: Vec<f64> = (0..3).map(|_| self.random.below(9) as f64).collect();
        let h = NativeHistogram {
            count: counts.iter().sum(),
            sum: 0.3,
            positive: Buckets { spans: vec![BucketSpan { offset: 1, length: 3 }], counts },
            ..NativeHistogram::default()
        };
        match self.random.below(8) {
            0 => drop(self.store.append_rows(&[FloatRow { series, t, v: STALE }])),
            1 => drop(self.store.append_rows(&[FloatRow { series, t, v: 1.5 }])),
            _ => drop(self.store.append_histograms(&[HistogramRow { series, t, h: Arc::new(h) }])),
        }
    }

    fn correct(&mut self) {
        let back = self.random.below(400_000) as i64;
        let to =
            if self.random.chance(30) { CorrectedValue::Gone } else { CorrectedValue::Float(self.value()) };
        let (target, series) = self.one();
        let series = self.store.get_or_create_series(&labels(1, target, series));
        self.store
            .recorder()
            .correct(&[Correction { series, t: self.now - back, value: to }])
            .expect("corrected");
    }

    fn write_past(&mut self) {
        let (target, series) = self.one();
        let from = (self.now - 2 * BLOCK).div_euclid(BLOCK) * BLOCK;
        let to = from + BLOCK * 2;
        let ts: Vec<i64> = (from..to.min(self.now)).step_by(7_300).collect();
        let vs = ts.iter().map(|_| self.random.below(99) as f64 / 10.0).collect();
        let one = SeriesSamples { labels: labels(1, target, series), ts, vs, ..SeriesSamples::default() };
        self.store.recorder().write_backfill(from, to, &[one], i64::MAX).expect("written");
    }

    /// The difference between the answer with the cache and the one from scratch.
    fn differs(&self, plan: &Plan, t: i64, kept: &mut SubqueryCache) -> Option<String> {
        let with = self.querier.instant_cached(plan, t, &self.options, kept);
        let scratch = self.querier.instant(plan, t, &self.options);
        let same = match (&with, &scratch) {
            (Ok(a), Ok(b)) => {
                let said = |a: &QueryAnswer| {
                    a.annotations.iter().map(|annotation| annotation.text.clone()).collect::<Vec<_>>()
                };
                let kept = said(a);
                let scratch = said(b);
                bits(&a.value) == bits(&b.value) && scratch.iter().all(|text| kept.contains(text))
            }
            (Err(a), Err(b)) => a == b,
            _ => false,
        };
        (!same).then(|| format!("\n kept    {with:?}\n scratch {scratch:?}"))
    }
}

/// The rows in their order, for a comparison bit by bit.
fn bits(value: &QueryValue) -> Vec<String> {
    match value {
        QueryValue::Vector(rows) => {
            rows.iter().map(|r| format!("{:?} {} {:x} {:?}", r.labels, r.t, r.v.to_bits(), r.h)).collect()
        }
        QueryValue::Scalar(t, v) => vec![format!("{t} {:x}", v.to_bits())],
        other => panic!("neither a vector nor a scalar: {other:?}"),
    }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs a case; returns by expression how many steps were evaluated and how many were reused.
fn run(case: u64) -> Vec<(u64, u64)> {
    let mut random = Random::new(&[variable("KEPT_SEED").unwrap_or(1), case]);
    let dialect = PromqlOptions {
        start_timestamps: random.chance(50),
        delayed_names: random.chance(50),
        type_and_unit_labels: random.chance(20),
        ..PromqlOptions::all()
    };
    let plan = |text: &str| compile(text, &dialect).unwrap_or_else(|e| panic!("{text}: {e}"));
    let mut asked: Vec<(Plan, SubqueryCache)> =
        ASKED.iter().map(|(text, _)| (plan(text), SubqueryCache::default())).collect();
    let mut world = World::new(random, &dialect);
    for _ in 0..STEPS {
        world.step();
        for ((text, _), (plan, kept)) in ASKED.iter().zip(&mut asked) {
            if !world.random.chance(25) {
                continue;
            }
            let back = if world.random.chance(5) { world.random.below(200_000) as i64 } else { 0 };
            if let Some(difference) = world.differs(plan, world.now - back, kept) {
                panic!("KEPT_CASE={case}: {text} at {} s: {difference}", (world.now - back - START) / 1_000);
            }
        }
    }
    asked.iter().map(|(_, kept)| (kept.report().evaluated, kept.report().reused)).collect()
}

#[test]
fn answers_are_those_from_scratch() {
    if let Some(case) = variable("KEPT_CASE") {
        return drop(run(case));
    }
    let mut all = vec![(0, 0); ASKED.len()];
    for case in 0..variable("KEPT_CASES").unwrap_or(CASES) {
        for (sum, one) in all.iter_mut().zip(run(case)) {
            *sum = (sum.0 + one.0, sum.1 + one.1);
        }
    }
    for ((text, keeps), (asked, reused)) in ASKED.iter().zip(all) {
        // A subquery whose grid differs at each evaluation is reused only if it is evaluated twice
        // at one time.
        let right = if *keeps { reused > 0 } else { reused * 10 <= asked };
        assert!(right, "{text}: asked {asked}, reused {reused}");
    }
}

/// A store with `series` gauges at each of `times`, and its querier.
fn gauges(series: usize, times: impl Iterator<Item = i64>) -> World {
    let world = World::new(Random::new(&[1]), &PromqlOptions::default());
    let refs: Vec<SeriesRef> =
        (0..series).map(|i| world.store.get_or_create_series(&labels(1, 0, i))).collect();
    for t in times {
        let rows: Vec<FloatRow> = refs.iter().map(|series| FloatRow { series: *series, t, v: 1.0 }).collect();
        world.store.append_rows(&rows).expect("appended");
    }
    world
}

fn asked_for(world: &World, plan: &Plan, t: i64, kept: &mut SubqueryCache) -> u64 {
    let before = kept.report().evaluated;
    world.querier.instant_cached(plan, t, &world.options, kept).expect("answered");
    kept.report().evaluated - before
}

#[test]
fn the_cost_follows_the_change() {
    let base = START / 60_000 * 60_000;
    let world = gauges(3, (0..=240).map(|i| base + i * 15_000));
    let plan = compile("max_over_time(m_gauge[30m:15s])", &PromqlOptions::default()).expect("a plan");
    let mut kept = SubqueryCache::default();
    let mut now = base + 3_600_000;
    let mut ask = |t: i64| asked_for(&world, &plan, t, &mut kept);
    let series = world.store.get_or_create_series(&labels(1, 0, 1));
    let append = |t: i64| world.store.append_rows(&[FloatRow { series, t, v: 2.0 }]).expect("appended");
    assert_eq!(ask(now), 120, "all, at first");
    assert_eq!(ask(now), 0, "nothing changed");
    assert_eq!((ask(now + 14_999), ask(now + 15_000)), (0, 1), "time went on");
    now += 15_000;
    append(now);
    assert_eq!(ask(now), 1, "the newest has changed");
    append(now - 59_000);
    assert_eq!(ask(now), 4, "what is late is seen by the steps behind it");
    append(now - 59_000);
    assert_eq!(ask(now), 0, "once more the same is no change");
    let gone = Correction { series, t: now - 30_000, value: CorrectedValue::Gone };
    world.store.recorder().correct(&[gone]).expect("corrected");
    assert_eq!(ask(now), 3, "what is taken back is seen by the steps from its time on");
    world.store.admin().delete(&[Matcher::equal("series", "s2")], now - 90_000, now).expect("deleted");
    assert_eq!(ask(now), 7, "as what is deleted");
    assert_eq!(ask(now + 3_600_000), 120, "after a gap, all");
    assert_eq!(ask(now), 120, "going back, all");
    assert!(world.store.maintenance().run_housekeeping(now).expect("maintained") > 0);
    assert_eq!(ask(now), 0, "a flush changes no sample");
    world.store.admin().delete(&[Matcher::equal("series", "s1")], base, base + 60_000).expect("deleted");
    assert_eq!(ask(now), 120, "something was deleted from blocks: all");
    let report = kept.report();
    assert_eq!((report.steps, report.rows), (120, 3));
    assert!(report.bytes >= 3 * 120 * 16 && report.bytes < 3 * 120 * 32, "{report:?}");
}

#[test]
fn rows_go_when_no_window_sees_them() {
    let base = START / 60_000 * 60_000;
    let world = gauges(3, (0..=20).map(|i| base + i * 15_000));
    let plan = compile("max_over_time(m_gauge[5m:15s])", &PromqlOptions::default()).expect("a plan");
    let mut kept = SubqueryCache::default();
    let last = base + 20 * 15_000;
    let mut now = last;
    // As long as an instant selector looks back, plus the window.
    while now < last + 585_000 {
        assert_eq!(world.differs(&plan, now, &mut kept), None);
        let report = kept.report();
        assert_eq!((report.steps, report.rows), (20, 3));
        assert!(report.bytes < 3 * (30 * 16 + 200), "{report:?}");
        now += 15_000;
    }
    assert_eq!(world.differs(&plan, now, &mut kept), None);
    assert_eq!(kept.report().rows, 0);
}

#[test]
fn an_offset_moves_what_is_asked_for() {
    let base = START / 60_000 * 60_000;
    let world = gauges(1, (0..=60).map(|i| base + i * 15_000));
    let now = base + 900_000;
    let series = world.store.get_or_create_series(&labels(1, 0, 0));
    for (text, expected) in [
        ("max_over_time((m_gauge offset 1m)[10m:15s])", 0),
        ("max_over_time((m_gauge offset -1m)[10m:15s])", 5),
        ("max_over_time(m_gauge[10m:15s] offset -1m)", 5),
        ("max_over_time(m_gauge[10m:15s] offset 1m)", 0),
        ("max_over_time(m_gauge[10m:15s] @ 1)", 0),
        ("max_over_time((m_gauge + m_gauge offset -15s)[10m:15s])", 2),
    ] {
        let (plan, mut kept) =
            (compile(text, &PromqlOptions::all()).expect("a plan"), SubqueryCache::default());
        assert_eq!(asked_for(&world, &plan, now, &mut kept), 40, "{text}");
        // The store has this time already, from another series: only what is new counts.
        world
            .store
            .recorder()
            .correct(&[Correction { series, t: now, value: CorrectedValue::Float(3.0) }])
            .expect("corrected");
        assert_eq!(asked_for(&world, &plan, now, &mut kept), expected, "{text}");
    }
}

#[test]
fn what_fails_keeps_nothing_wrong() {
    let base = START / 60_000 * 60_000;
    let world = gauges(3, (0..=40).map(|i| base + i * 15_000));
    let plan = compile("sum(max_over_time(m_gauge[5m:15s]))", &PromqlOptions::default()).expect("a plan");
    let mut kept = SubqueryCache::default();
    let now = base + 600_000;
    let few = QueryOptions { max_samples: 30, ..world.options.clone() };
    let scratch = world.querier.instant(&plan, now, &few);
    assert!(matches!(&scratch, Err(QueryError::LimitReached(text)) if text.contains("too many samples")));
    assert_eq!(world.querier.instant_cached(&plan, now, &few, &mut kept), scratch);
    assert_eq!(world.differs(&plan, now, &mut kept), None);
    let kept_now = world.querier.instant_cached(&plan, now, &few, &mut kept);
    assert_eq!(kept_now, scratch, "what is kept counts as what is asked for");
    assert_eq!(world.differs(&plan, now + 15_000, &mut kept), None);
}

/// The memory of a query's subqueries is limited, whatever there is to read.
#[test]
fn subqueries_hold_no_more_than_a_query_may() {
    let base = START / 60_000 * 60_000;
    let world = gauges(2, (0..=40).map(|i| base + i * 15_000));
    let ask = |text: &str, max_samples| {
        let options = QueryOptions { max_samples, ..world.options.clone() };
        world.querier.instant(
            &compile(text, &PromqlOptions::default()).expect("a plan"),
            base + 600_000,
            &options,
        )
    };
    // Steps that are only counted: 25 TB of them.
    let grid = "max_over_time(max_over_time(vector(1)[1m:1y])[100y:1ms])";
    let term = "sum(max_over_time(m_gauge[9m:15s]))";
    let one = |i: i32| format!("sum(max_over_time(m_gauge[9m:15s] offset {i}s))");
    let sum = (0..10).map(one).collect::<Vec<_>>().join(" + ");
    for (text, max_samples, fits) in
        [(grid, 50_000_000, false), (term, 100, true), (&sum, 100, false), (&sum, 1_000, true)]
    {
        match ask(text, max_samples) {
            Ok(_) => assert!(fits, "{text}"),
            Err(QueryError::LimitReached(why)) => {
                assert!(!fits && why.contains("too many samples"), "{text}: {why}")
            }
            Err(other) => panic!("{text}: {other}"),
        }
    }
    let nested = "sum(max_over_time(max_over_time(m_gauge[5m:15s])[5m:1m]))";
    assert!(ask(nested, 100).is_ok(), "what is inside is let go of");
}
