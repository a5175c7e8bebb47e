//! Recording rules as views: all rules see one consistent state, in dependency order, within one
//! tick.
//!
//! In Prometheus, the ratio of two rules that record one counter in different groups can differ
//! from 1 (prometheus#12275), and a rule that reads another group's series lags by an interval.
//! Neither can happen here.

use engine::live::{LiveOptions, LiveRuntime, Sink, TapEvent, ViewId, ViewKind, ViewSpec};
use engine::query::{Querier, QueryOptions, QueryValue};
use parking_lot::Mutex;
use promql::{PromqlOptions, compile};
use std::collections::BTreeMap;
use std::sync::Arc;
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::model::histogram::{BucketSpan, Buckets};
use storage::model::value::STALE;
use storage::model::{Labels, NativeHistogram};
use storage::store::{CorrectedValue, Correction, FloatRow, HistogramRow, Store};

const START: i64 = 1_700_000_000_000;

fn number((labels, sample): engine::live::LabelledSample) -> (Labels, f64) {
    (labels, sample.float())
}

fn options() -> PromqlOptions {
    PromqlOptions { experimental_functions: true, ..PromqlOptions::default() }
}

struct Rows(Arc<Mutex<BTreeMap<Labels, f64>>>);

impl Sink for Rows {
    fn push(&mut self, event: TapEvent) -> bool {
        let mut rows = self.0.lock();
        match event {
            TapEvent::Snapshot { rows: all, .. } => *rows = all.into_iter().map(number).collect(),
            TapEvent::Delta { upsert, remove, .. } => {
                for labels in remove.iter() {
                    rows.remove(labels);
                }
                rows.extend(upsert.into_iter().map(number));
            }
            TapEvent::Failed { error, .. } => panic!("{error}"),
            TapEvent::Progress { .. } | TapEvent::Annotations { .. } => {}
        }
        true
    }
}

struct Bench {
    store: Arc<Store>,
    live: LiveRuntime,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new(workers: usize) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let options = storage::store::StoreOptions {
            dir: dir.path().to_owned(),
            wal_sync_interval_ms: 100,
            block_range_ms: 7_200_000,
            out_of_order_ms: 1_800_000,
        };
        let (store, _) = Store::open(options, Arc::new(OsDisk), &Metrics::default()).unwrap();
        let options = LiveOptions { workers, ..LiveOptions::default() };
        let live = LiveRuntime::manual(store.clone(), &options, &Metrics::default()).unwrap();
        Bench { store, live, _dir: dir }
    }

    fn record(&self, name: &str, expr: &str, interval: i64, offset: i64) -> ViewId {
        let plan = compile(expr, &options()).unwrap();
        let kind = ViewKind::Recorded {
            record: name.to_owned(),
            labels: Vec::new(),
            interval,
            offset,
            query_offset: 0,
            limit: 0,
        };
        self.live.install(ViewSpec { name: name.to_owned(), plan, kind }).unwrap()
    }

    fn watch(&self, expr: &str) -> Arc<Mutex<BTreeMap<Labels, f64>>> {
        self.watch_before(expr, 0)
    }

    /// Watches `expr` as it was `query_offset` ms earlier.
    fn watch_before(&self, expr: &str, query_offset: i64) -> Arc<Mutex<BTreeMap<Labels, f64>>> {
        let plan = compile(expr, &PromqlOptions::default()).unwrap();
        let spec = ViewSpec { name: expr.to_owned(), plan, kind: ViewKind::Continuous { query_offset } };
        let rows = Arc::new(Mutex::new(BTreeMap::new()));
        self.live.tap(self.live.install(spec).unwrap(), Box::new(Rows(rows.clone())));
        rows
    }

    fn sample(&self, instance: &str, t: i64, v: f64) {
        let labels = Labels::from_pairs([("__name__", "c_total"), ("job", "j"), ("instance", instance)]);
        let series = self.store.get_or_create_series(&labels);
        self.store.append_rows(&[FloatRow { series, t, v }]).unwrap();
    }

    fn ask(&self, expr: &str, t: i64) -> BTreeMap<Labels, f64> {
        let plan = compile(expr, &options()).unwrap();
        let answer = Querier::new(self.store.clone(), 1).instant(&plan, t, &QueryOptions::default()).unwrap();
        match answer.value {
            QueryValue::Vector(rows) => rows.into_iter().map(|row| (row.labels, row.v)).collect(),
            QueryValue::Scalar(_, v) => BTreeMap::from([(Labels::default(), v)]),
            _ => panic!("{expr}: no rows"),
        }
    }
}

fn only(rows: &BTreeMap<Labels, f64>) -> f64 {
    assert_eq!(rows.len(), 1, "{rows:?}");
    *rows.values().next().unwrap()
}

/// Two groups record the same counter and a third rule divides them: the ratio is 1 at every tick,
/// although samples arrive in between.
#[test]
fn the_ratio_of_two_recordings_is_one() {
    for workers in [1, 2, 4] {
        let bench = Bench::new(workers);
        bench.record("a:c", "sum(c_total)", 1_000, 0);
        bench.record("b:c", "sum(c_total)", 1_000, 0);
        bench.record("ratio", "a:c / b:c", 1_000, 0);
        let watched = bench.watch("ratio");
        for tick in 1..40 {
            let t = START + tick * 1_000;
            for i in 0..8 {
                bench.sample(&format!("h{i}"), t - 500 + i, (tick * 100 + i) as f64);
            }
            bench.live.tick(t);
            assert_eq!(only(&watched.lock()), 1.0, "at {tick} with {workers} workers");
            assert_eq!(only(&bench.ask("ratio", t)), 1.0);
        }
        bench.live.stop();
    }
}

/// A chain of rules, installed in the wrong order, is current in the tick in which its sample
/// arrived.
#[test]
fn a_chain_of_rules_has_no_lag() {
    for workers in [1, 2, 4] {
        let bench = Bench::new(workers);
        bench.record("step3", "step2 + 1", 1_000, 0);
        bench.record("step2", "step1 + 1", 1_000, 0);
        bench.record("step1", "c_total + 1", 1_000, 0);
        let watched = bench.watch("step3");
        for tick in 1..10 {
            let t = START + tick * 1_000;
            bench.sample("h", t - 10, tick as f64 * 10.0);
            bench.live.tick(t);
            assert_eq!(only(&watched.lock()), tick as f64 * 10.0 + 3.0, "{workers} workers");
            assert_eq!(only(&bench.ask("step3", t)), tick as f64 * 10.0 + 3.0);
        }
        bench.live.stop();
    }
}

/// Rules that read each other: the first one sees the others as of the previous tick, as in a group
/// of Prometheus.
#[test]
fn a_cycle_is_cut_in_the_order_of_the_rules() {
    at_twenty_starts(|bench| {
        bench.record("first", "sum(c_total) + (third or vector(0))", 1_000, 0);
        bench.record("second", "first + 1", 1_000, 0);
        bench.record("third", "second * 2", 1_000, 0);
        let mut third = 0.0;
        for tick in 1..6 {
            let t = START + tick * 1_000;
            bench.sample("h", t - 10, tick as f64 * 10.0);
            bench.live.tick(t);
            let first = tick as f64 * 10.0 + third;
            third = (first + 1.0) * 2.0;
            let recorded = ["first", "second", "third"].map(|name| only(&bench.ask(name, t)));
            assert_eq!(recorded, [first, first + 1.0, third], "at {tick}");
        }
    });
}

/// A rule that names another rule sees its value of the same tick, even if the other rule names no
/// metric and might read the first.
#[test]
fn a_cycle_that_is_only_possible_makes_nobody_late() {
    at_twenty_starts(|bench| {
        // The label is never set, but the planner cannot know that.
        let names_it = "label_replace(selects * 10, \"instance\", \"h\", \"job\", \"never\")";
        bench.record("names_it", names_it, 1_000, 0);
        bench.record("selects", "sum by (job) ({job=~\"j|k\", instance=\"h\"})", 1_000, 0);
        bench.record("unrelated", "sum by (job) (c_total)", 1_000, 0);
        for tick in 1..6 {
            let t = START + tick * 1_000;
            bench.sample("h", t - 10, tick as f64);
            bench.live.tick(t);
            assert_eq!(only(&bench.ask("selects", t)), tick as f64);
            assert_eq!(only(&bench.ask("names_it", t)), tick as f64 * 10.0, "at {tick}");
        }
    });
}

/// A rule records the value of the expression at the sample's own time, whatever its selectors are.
#[test]
fn rules_are_recorded_as_they_are_at_their_time() {
    let rules = [
        ("reads_any_after", "reads_any + 1"),
        ("reads_any", "sum(max by (kind) ({kind=~\".+\", job=\"j\"}))"),
        ("chain_of_any", "reads_any_after * 2"),
        ("kind_a", "label_replace(sum by (job) (c_total), \"kind\", \"a\", \"\", \"\")"),
        ("kind_b", "label_replace(kind_a * 3, \"kind\", \"b\", \"\", \"\")"),
        ("informed", "sum by (version) (info(c_total, {version=~\".+\"}))"),
        ("informed_by_default", "count by (version) (info(c_total))"),
        ("informed_after", "informed + on (version) informed_by_default"),
        (
            "target_info",
            "label_replace(max by (job, instance) (c_total) > 3, \"version\", \"v1\", \"\", \"\")",
        ),
        ("of_patterns", "sum({__name__=~\"kind_.\"})"),
        ("without_any", "count without (instance) ({job=\"j\", __name__!~\"without_any|target_info\"})"),
    ];
    at_twenty_starts(|bench| {
        for (name, expr) in rules {
            bench.record(name, expr, 1_000, 0);
        }
        for tick in 1..6 {
            let t = START + tick * 1_000;
            bench.sample("h", t - 10, tick as f64);
            bench.sample("i", t - 5, tick as f64 * 2.0);
            bench.live.tick(t);
            for (name, expr) in rules {
                let fresh: Vec<f64> = bench.ask(expr, t).into_values().collect();
                let recorded: Vec<f64> = bench.ask(name, t).into_values().collect();
                assert_eq!(recorded, fresh, "{name} at {tick}");
            }
        }
        assert_eq!(bench.ask("informed_after", START + 5_000).len(), 1);
    });
}

/// Subqueries, fixed times, the future and parameters that are series are recorded in their tick,
/// and so are rules that read the result.
#[test]
fn what_asks_the_store_is_recorded_in_its_tick() {
    let fixed = format!("sum(rate(c_total[5s] @ {}))", START / 1_000);
    let rules = [
        ("reads_peak", "sum(peak) + on () sum(fixed or vector(0))"),
        ("peak", "max_over_time(sum by (job) (rate(c_total[5s]))[6s:1s])"),
        ("peak_of_recorded", "max_over_time(raw[5s:1s]) - on () group_left () sum(reads_peak)"),
        ("raw", "sum by (job) (c_total)"),
        ("fixed", fixed.as_str()),
        ("future", "sum(c_total offset -2s)"),
        ("by_series", "quantile_over_time(scalar(sum(c_total)) / 100, c_total[4s])"),
        ("nested", "sum_over_time(max_over_time(raw[3s:1s])[4s:2s] offset 1s)"),
        ("gone", "absent_over_time(nobody[5s:1s])"),
    ];
    for workers in [1, 2, 4] {
        let bench = Bench::new(workers);
        for (name, expr) in rules {
            bench.record(name, expr, 1_000, 0);
        }
        for tick in 1..12 {
            let t = START + tick * 1_000;
            bench.sample("h", t - 10, (tick * tick) as f64);
            bench.sample("i", t - 5, tick as f64 * 2.0);
            bench.live.tick(t);
            for (name, expr) in rules {
                let fresh: Vec<f64> = bench.ask(expr, t).into_values().collect();
                let recorded: Vec<f64> = bench.ask(name, t).into_values().collect();
                assert_eq!(recorded, fresh, "{name} at {tick} with {workers} workers");
            }
        }
        assert_eq!(bench.ask("reads_peak", START + 11_000).len(), 1);
        assert_eq!(bench.ask("nested", START + 11_000).len(), 1);
        bench.live.stop();
    }
}

/// Runs `test` twenty times with each number of workers: the levels once depended on the seeds of
/// hash maps.
fn at_twenty_starts(test: impl Fn(&Bench)) {
    for workers in [1, 2, 4] {
        for _ in 0..20 {
            let bench = Bench::new(workers);
            test(&bench);
            bench.live.stop();
        }
    }
}

/// Recorded samples exist at the evaluation times only. A row that disappears, and a rule that is
/// removed, leave a stale marker.
#[test]
fn recorded_series_end_with_a_stale_marker() {
    let bench = Bench::new(2);
    let rule = bench.record("kept", "c_total > 10", 10_000, 3_000);
    bench.sample("h", START + 1_000, 20.0);
    let slot = |k: i64| (START / 10_000 + k) * 10_000 + 3_000;
    bench.live.tick(START + 2_000);
    assert!(bench.ask("kept", START + 2_000).is_empty(), "no slot yet");
    bench.live.tick(slot(1));
    assert_eq!(only(&bench.ask("kept", slot(1))), 20.0);
    bench.sample("h", slot(1) + 1_000, 5.0);
    bench.live.tick(slot(1) + 2_000);
    assert_eq!(only(&bench.ask("kept", slot(1) + 2_000)), 20.0, "between slots nothing is recorded");
    bench.live.tick(slot(2));
    assert!(bench.ask("kept", slot(2)).is_empty(), "the condition ended");
    bench.sample("h", slot(2) + 1_000, 50.0);
    bench.live.tick(slot(3));
    assert_eq!(only(&bench.ask("kept", slot(3))), 50.0);
    bench.live.remove(rule);
    bench.live.tick(slot(3) + 1);
    assert!(bench.ask("kept", slot(3) + 1).is_empty(), "the rule ended");
    bench.live.stop();
}

/// Two rules record the same series. The store keeps the sample that came first, and so do views.
#[test]
fn what_the_store_refuses_no_view_sees() {
    for workers in [1, 2] {
        let bench = Bench::new(workers);
        bench.record("twice", "sum(c_total)", 1_000, 0);
        bench.record("twice", "sum(c_total) * 2", 1_000, 0);
        let now = bench.watch("twice");
        let mean = bench.watch("avg_over_time(twice[10s])");
        for tick in 1..20 {
            let t = START + tick * 1_000;
            bench.sample("h", t - 500, (tick * 10) as f64);
            bench.live.tick(t);
            assert_eq!(*now.lock(), bench.ask("twice", t), "at {tick} with {workers} workers");
            assert_eq!(only(&mean.lock()), only(&bench.ask("avg_over_time(twice[10s])", t)), "at {tick}");
        }
        // The clock goes back: evaluation times repeat, with other values.
        for tick in 15..20 {
            let t = START + tick * 1_000;
            bench.sample("h", t - 400, (tick * 1_000) as f64);
            bench.live.tick(t);
            assert_eq!(*now.lock(), bench.ask("twice", t), "again at {tick} with {workers} workers");
            assert_eq!(only(&mean.lock()), only(&bench.ask("avg_over_time(twice[10s])", t)), "at {tick}");
        }
        bench.live.stop();
    }
}

/// A selector with a pattern sees what is recorded in the same tick, also if its rule was installed
/// later.
#[test]
fn patterns_see_what_is_recorded_in_the_same_tick() {
    let bench = Bench::new(2);
    bench.record("job:c", "sum(c_total)", 1_000, 0);
    bench.sample("h", START + 500, 1.0);
    bench.live.tick(START + 1_000);
    let watched = bench.watch("{__name__=~\"job:.*\"}");
    for tick in 2..6 {
        let t = START + tick * 1_000;
        bench.sample("h", t - 500, tick as f64);
        bench.live.tick(t);
        assert_eq!(only(&watched.lock()), tick as f64);
    }
    bench.live.stop();
}

/// A histogram that is corrected or removed leaves windows too.
#[test]
fn corrected_histograms_leave_windows() {
    let bench = Bench::new(1);
    let labels = Labels::from_pairs([("__name__", "h"), ("job", "j")]);
    let series = bench.store.get_or_create_series(&labels);
    let histogram = |count: f64| {
        let buckets = Buckets { spans: vec![BucketSpan { offset: 0, length: 1 }], counts: vec![count] };
        Arc::new(NativeHistogram { count, sum: count, positive: buckets, ..NativeHistogram::default() })
    };
    let exprs = ["histogram_count(h)", "histogram_count(rate(h[1m]))", "count_over_time(h[1m])", "h * 2"];
    let watched: Vec<_> = exprs.iter().map(|expr| bench.watch(&format!("({expr}) or vector(-1)"))).collect();
    let check = |t: i64, what: &str| {
        bench.live.tick(t);
        for (expr, rows) in exprs.iter().zip(&watched) {
            let scratch = bench.ask(&format!("({expr}) or vector(-1)"), t);
            assert_eq!(format!("{:?}", rows.lock()), format!("{scratch:?}"), "{expr} {what}");
        }
    };
    let at = |k: i64| START + k * 15_000;
    for (k, count) in [(0, 5.0), (1, 10.0), (2, 20.0), (3, 30.0)] {
        bench.store.append_histograms(&[HistogramRow { series, t: at(k), h: histogram(count) }]).unwrap();
        check(at(k), "at first");
    }
    let correct =
        |k, to| bench.store.recorder().correct(&[Correction { series, t: at(k), value: to }]).unwrap();
    for (k, to, what) in [
        (1, CorrectedValue::Histogram(histogram(25.0)), "with more before a reset"),
        (2, CorrectedValue::Gone, "with one less"),
        (3, CorrectedValue::Float(7.0), "with a float at the end"),
        (3, CorrectedValue::Float(STALE), "at its end"),
        (3, CorrectedValue::Histogram(histogram(40.0)), "with one again"),
    ] {
        assert_eq!(correct(k, to), 0);
        check(at(3) + 1, what);
    }
    bench.live.stop();
}

/// Like the alerts of a group with a `query_offset`: at every tick the value of the query at that
/// earlier time.
#[test]
fn a_view_of_some_time_ago_is_what_it_was() {
    let bench = Bench::new(2);
    let expressions = ["sum(rate(c_total[20s]))", "absent(c_total)", "time() - 3", "c_total offset 5s"];
    let watched = expressions.map(|expr| bench.watch_before(expr, 30_000));
    for tick in 1..120 {
        let t = START + tick * 1_000;
        if tick % 15 == 0 {
            bench.sample("a", t - 100, tick as f64);
        }
        bench.live.tick(t);
        for (expr, rows) in expressions.iter().zip(&watched) {
            let expected = bench.ask(expr, t - 30_000);
            assert_eq!(*rows.lock(), expected, "{expr} at {tick}");
        }
    }
    bench.live.stop();
}

/// The results of a view's evaluations: each error, and each recovery.
#[derive(Clone, Default)]
struct Outcomes(Arc<Mutex<Vec<Result<(), String>>>>);

impl Sink for Outcomes {
    fn push(&mut self, event: TapEvent) -> bool {
        match event {
            TapEvent::Failed { error, .. } => self.0.lock().push(Err(error)),
            TapEvent::Progress { .. } => self.0.lock().push(Ok(())),
            _ => {}
        }
        true
    }
}

/// As in Prometheus: the rule that comes first owns the series, whichever worker evaluates it.
#[test]
fn of_two_rules_that_record_one_series_the_first_stays() {
    at_twenty_starts(|bench| {
        bench.record("dup", "sum by (instance) (c_total)", 1_000, 0);
        let second =
            bench.record("dup", "sum by (instance) (c_total{instance=\"h\"}) * 2 or c_total * 0", 1_000, 0);
        let third = bench.record("dup", "sum by (instance) (c_total{instance=\"i\"})", 1_000, 0);
        let other = bench.record("dup", "max(c_total)", 1_000, 0);
        let views = [second, third, other];
        let outcomes = views.map(|view| {
            let outcomes = Outcomes::default();
            bench.live.tap(view, Box::new(outcomes.clone()));
            outcomes
        });
        for tick in 1..4 {
            let t = START + tick * 1_000;
            bench.sample("h", t - 10, tick as f64);
            bench.sample("i", t - 10, tick as f64 + 10.0);
            bench.live.tick(t);
            let recorded = bench.ask("sum by (instance) (dup{instance!=\"\",job=\"\"})", t);
            assert_eq!(recorded.into_values().collect::<Vec<_>>(), [tick as f64, tick as f64 + 10.0]);
            assert_eq!(only(&bench.ask("sum(dup{instance=\"\"})", t)), tick as f64 + 10.0);
        }
        bench.live.tick(START + 3_500);
        let [second, third, other] = outcomes.map(|outcomes| outcomes.0.lock().clone());
        let first_error = second.iter().find_map(|outcome| outcome.clone().err());
        let expected = format!(
            "duplicate sample for timestamp {}; overrides not allowed: existing 1, new value 2",
            START + 1_000
        );
        assert_eq!(first_error, Some(expected));
        assert!(
            third.iter().chain(&other).all(Result::is_ok),
            "the same value is no other: {third:?} {other:?}"
        );
    });
}

/// A rule whose row disappears does not end the series of another rule.
#[test]
fn a_duplicate_that_is_gone_ends_nothing() {
    let bench = Bench::new(2);
    bench.record("dup", "sum(c_total)", 1_000, 0);
    bench.record("dup", "sum(c_total > 1) * 2", 1_000, 0);
    for (tick, v) in [(1, 1.0), (2, 5.0), (3, 6.0), (4, 1.0), (5, 1.0)] {
        let t = START + tick * 1_000;
        bench.sample("h", t - 10, v);
        bench.live.tick(t);
        assert_eq!(only(&bench.ask("dup", t)), v, "at {tick}");
    }
}

/// A difference of histograms may not be stored as a histogram; the other rows of its rule are
/// stored.
#[test]
fn histograms_with_negative_counts_are_not_recorded() {
    let bench = Bench::new(2);
    let negated = bench.record("negated", "-h or c_total", 1_000, 0);
    bench.record("plain", "h * 2", 1_000, 0);
    let outcomes = Outcomes::default();
    bench.live.tap(negated, Box::new(outcomes.clone()));
    let series = bench.store.get_or_create_series(&Labels::from_pairs([("__name__", "h"), ("job", "j")]));
    for tick in 1..4 {
        let t = START + tick * 1_000;
        let h =
            Arc::new(NativeHistogram { count: 3.0, zero_count: 3.0, sum: 1.0, ..NativeHistogram::default() });
        bench.store.append_histograms(&[HistogramRow { series, t: t - 10, h }]).unwrap();
        bench.sample("h", t - 10, 7.0);
        bench.live.tick(t);
        assert_eq!(bench.ask("negated", t).into_values().collect::<Vec<_>>(), [7.0]);
        assert_eq!(only(&bench.ask("histogram_count(plain)", t)), 6.0);
    }
    let error =
        "zero bucket has observation count of -3: histogram has a bucket whose observation count is negative";
    assert!(outcomes.0.lock().contains(&Err(error.to_owned())), "{:?}", outcomes.0.lock());
}
