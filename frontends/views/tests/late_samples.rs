//! `late_samples: correct`: what is recorded if some samples arrive late equals what is recorded if
//! all arrive in time.

mod support;

use engine::plan::Plan;
use engine::query::QueryEngine;
use engine::query::{Querier, QueryAnswer, QueryError, QueryOptions};
use engine::types::histogram_column::Sample;
use parking_lot::Mutex;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use storage::model::value::STALE;
use storage::model::{Labels, Matcher};
use storage::store::FloatRow;
use support::{RecordingFixture, RuleCase, labels, spec};
use views::ViewRegistry;
use views::recording::{CorrectionEvent, CorrectionListener, RecordedRule};

const SECOND: i64 = 1_000;
const INTERVAL: i64 = 10 * SECOND;
const LATENESS: i64 = 120 * SECOND;
const START: i64 = 1_700_082_000_000;
const END: i64 = START + 15 * 60 * SECOND;

const RULES: [RuleCase; 10] = [
    ("r:rate", "sum by (job) (rate(c_total[1m]))", 0, 0),
    ("r:most", "max_over_time(g[25s]) > 10", 0, 0),
    ("r:late", "sum by (job) (g)", 7_000, 0),
    ("r:chain", "avg_over_time(r:rate[1m])", 0, 0),
    ("r:both", "r:rate * 2 + on (job) sum by (job) (g)", 0, 0),
    ("r:longer", "r:chain + on (job) count by (job) (r:most)", 0, 0),
    ("r:absent", "absent(g{job=\"a\"} > 20)", 0, 0),
    ("r:limited", "g > 5", 0, 2),
    ("r:before", "g offset 40s", 0, 0),
    // Infinite now and then.
    ("r:inverse", "1 / g", 0, 0),
];

/// Time of arrival, series, time, value.
type Arrival = (i64, usize, i64, f64);

/// One in ten arrives up to two minutes late.
fn arrivals() -> impl Strategy<Value = Vec<Arrival>> {
    let one = (1i64..200, 0u32..40, 0u8..40, 0u32..10, 1i64..LATENESS);
    proptest::collection::vec(proptest::collection::vec(one, 120), 6).prop_map(|all| {
        let mut arrivals = Vec::new();
        for (series, steps) in all.into_iter().enumerate() {
            let mut t = START - 60 * SECOND;
            let mut total = 0.0;
            for (gap, value, kind, late, by) in steps {
                t += gap * 100 + i64::from(value) * 7 + if kind == 1 { 6 * 60 * SECOND } else { 0 };
                total = if kind == 2 { 0.0 } else { total + f64::from(value) };
                let v = if series < 3 { total } else { f64::from(value) };
                let v = if kind == 3 && series >= 3 { STALE } else { v };
                arrivals.push((if late == 0 { t + by } else { t }, series, t, v));
            }
        }
        arrivals.retain(|(_, _, t, _)| *t < END);
        arrivals
    })
}

fn in_time(arrivals: &[Arrival]) -> Vec<Arrival> {
    arrivals.iter().map(|(_, series, t, v)| (*t, *series, *t, *v)).collect()
}

type QueryHook = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

/// Runs something at the next query.
struct HookedQuerier {
    querier: Querier,
    then: QueryHook,
}

impl HookedQuerier {
    fn question(&self) {
        let then = self.then.lock().take();
        for then in then.into_iter() {
            then();
        }
    }
}

impl QueryEngine for HookedQuerier {
    fn instant(&self, plan: &Plan, t: i64, options: &QueryOptions) -> Result<QueryAnswer, QueryError> {
        self.question();
        self.querier.instant(plan, t, options)
    }
    fn range(
        &self,
        plan: &Plan,
        start: i64,
        end: i64,
        step: i64,
        options: &QueryOptions,
    ) -> Result<QueryAnswer, QueryError> {
        self.question();
        self.querier.range(plan, start, end, step, options)
    }
}

struct Fixture {
    base: RecordingFixture,
    then: QueryHook,
    rules: Mutex<Vec<RecordedRule>>,
}

type RecordedSeries = BTreeMap<Labels, Vec<(i64, f64)>>;

impl Fixture {
    fn open(dir: &Path, rules: &[RuleCase], lateness: Option<i64>) -> Fixture {
        Fixture::with_window(dir, rules, lateness, 1_800_000)
    }

    fn with_window(dir: &Path, rules: &[RuleCase], lateness: Option<i64>, out_of_order_ms: i64) -> Fixture {
        let then = QueryHook::default();
        let run = then.clone();
        let engine = |querier| HookedQuerier { querier, then: run };
        let base = RecordingFixture::open(dir, START - 1, out_of_order_ms, engine);
        let fixture = Fixture { base, then, rules: Mutex::default() };
        fixture.install(rules, lateness);
        fixture
    }

    fn install(&self, rules: &[RuleCase], lateness: Option<i64>) {
        let install = |rule: &RuleCase| {
            let spec = spec(rule, INTERVAL);
            let view = self.base.views.install(spec.clone()).unwrap();
            RecordedRule { view, key: rule.0.to_owned(), spec, backfill: 0, lateness }
        };
        let rules: Vec<RecordedRule> = rules.iter().map(install).collect();
        self.rules.lock().clone_from(&rules);
        self.base.views.set_recorded_rules(rules);
    }

    /// Gives the only rule another expression.
    fn reload(&self, rule: &RuleCase, interval: i64) {
        let mut rules = self.rules.lock();
        rules[0].spec = spec(rule, interval);
        self.base.views.replace(rules[0].view, rules[0].spec.clone()).unwrap();
        self.base.views.set_recorded_rules(rules.clone());
    }

    /// The recorded samples of a series without further labels.
    fn values(&self, name: &str) -> Vec<(i64, f64)> {
        let all = self
            .base
            .store
            .recorder()
            .read_series(&[Matcher::equal("__name__", name)], START, i64::MAX)
            .unwrap();
        let points = all.into_values().flat_map(|series| series.ts.into_iter().zip(series.vs));
        points.map(|(t, v)| ((t - START) / SECOND, v)).collect()
    }

    /// Appends all samples and runs all evaluation times; corrects after some of them.
    fn run(&self, arrivals: &[Arrival], until: i64, corrects: impl Fn(i64) -> bool) {
        let mut arrivals = arrivals.to_vec();
        arrivals.sort_by_key(|(now, series, ..)| (*now, *series));
        let mut next = START;
        for (now, series, t, v) in arrivals {
            while next < now {
                self.slot(next, &corrects);
                next += INTERVAL;
            }
            self.base.clock.set(now.max(START - 1));
            let series = self.base.store.get_or_create_series(&labels(series));
            self.base.store.append_rows(&[FloatRow { series, t, v }]).unwrap();
        }
        while next <= until {
            self.slot(next, &corrects);
            next += INTERVAL;
        }
        self.base.past.correct_now();
    }

    fn slot(&self, t: i64, corrects: impl Fn(i64) -> bool) {
        self.base.clock.set(t);
        self.base.live.tick(t);
        if corrects((t - START) / INTERVAL) {
            self.base.past.correct_now();
        }
    }

    fn recorded(&self) -> RecordedSeries {
        let all = self
            .base
            .store
            .recorder()
            .read_series(&[Matcher::equal("team", "x")], START - 60_000, END - 10_000)
            .unwrap();
        let all = all.into_iter().map(|(labels, s)| (labels, s.ts.into_iter().zip(s.vs).collect::<Vec<_>>()));
        all.filter(|(_, points)| !points.is_empty()).collect()
    }

    fn close(self) {
        self.base.close();
    }
}

/// Equal, or within the tolerance of rates that were computed at other times.
fn same(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits()
        || a.is_finite() && b.is_finite() && (a - b).abs() <= 1e-10 * a.abs().max(b.abs())
}

fn compare(got: &RecordedSeries, wanted: &RecordedSeries) {
    assert_eq!(got.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    for (labels, wanted) in wanted {
        let got = &got[labels];
        let times = |points: &[(i64, f64)]| points.iter().map(|p| p.0 - START).collect::<Vec<_>>();
        let odd: Vec<_> = got.iter().filter(|g| !wanted.iter().any(|w| w.0 == g.0)).collect();
        assert_eq!(times(got), times(wanted), "{labels}, too many: {odd:?}");
        for (g, w) in got.iter().zip(wanted) {
            assert!(same(g.1, w.1), "{labels} at {}: {} instead of {}", g.0 - START, g.1, w.1);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    // Corrections made within a minute reach other rules.
    #[test]
    fn late_samples_count_as_if_they_came_in_time(arrivals in arrivals(), every in 1i64..6) {
        let dir = tempfile::tempdir().unwrap();
        let reference = Fixture::open(dir.path(), &RULES, None);
        reference.run(&in_time(&arrivals), END, |_| false);
        let wanted = reference.recorded();
        reference.close();

        let dir = tempfile::tempdir().unwrap();
        let fixture = Fixture::open(dir.path(), &RULES, Some(LATENESS));
        fixture.run(&arrivals, END + LATENESS, |slot| slot % every == 0);
        compare(&fixture.recorded(), &wanted);
        fixture.close();
        // The log has the corrections.
        let fixture = Fixture::open(dir.path(), &[], None);
        compare(&fixture.recorded(), &wanted);
        fixture.close();
    }
}

const SUM: [(&str, &str, i64, usize); 1] = [("sum", "sum(g)", 0, 0)];

/// One sample arrives in time, one a minute late, one later than the bound.
fn three() -> Vec<Arrival> {
    let at = |slot: i64| START + slot * INTERVAL - 1;
    vec![(at(1), 3, at(1), 1.0), (at(8), 4, at(2), 2.0), (at(20), 5, at(1), 4.0), (at(21), 3, at(21), 1.0)]
}

#[test]
fn what_comes_later_than_the_bound_stays_out() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(dir.path(), &SUM, Some(LATENESS));
    fixture.run(&three(), START + 22 * INTERVAL, |_| true);
    let sums: Vec<f64> = fixture.recorded().values().next().unwrap().iter().map(|(_, v)| *v).collect();
    // The third sample is also read by evaluations 1 to 19, which were done before it arrived.
    assert_eq!(sums, [[1.0].as_slice(), &[3.0; 18], &[7.0; 3]].concat());
    fixture.close();
}

#[test]
fn by_default_what_is_evaluated_stays() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(dir.path(), &SUM, None);
    fixture.run(&three(), START + 22 * INTERVAL, |_| true);
    let sums: Vec<f64> = fixture.recorded().values().next().unwrap().iter().map(|(_, v)| *v).collect();
    assert_eq!(sums, [[1.0; 7].as_slice(), &[3.0; 12], &[7.0; 3]].concat());
    fixture.close();
}

/// A sample that is as late as allowed is corrected, also if its range has just become that old.
#[test]
fn slots_stay_in_the_head_as_long_as_samples_may_be_late() {
    const HOURS: i64 = 7_200_000;
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::with_window(dir.path(), &SUM, Some(HOURS), HOURS);
    let boundary = (START / HOURS + 1) * HOURS;
    let late = boundary - 15 * SECOND;
    let in_time = (START..late + HOURS).step_by(60_000).map(|t| (t, 3, t, 1.0)).collect::<Vec<_>>();
    fixture.run(&in_time, late + HOURS - INTERVAL, |_| false);
    fixture.base.clock.set(late + HOURS);
    fixture
        .base
        .store
        .append_rows(&[FloatRow {
            series: fixture.base.store.get_or_create_series(&labels(4)),
            t: late,
            v: 2.0,
        }])
        .unwrap();
    let now = boundary + HOURS + 2 * SECOND;
    assert_eq!(
        fixture.base.store.maintenance().run_housekeeping(now).unwrap(),
        0,
        "samples may still come late for that range"
    );
    fixture.base.clock.set(now);
    fixture.base.past.correct_now();
    let all =
        fixture.base.store.recorder().read_series(&[Matcher::equal("team", "x")], late, boundary).unwrap();
    let sums: Vec<f64> = all.into_values().flat_map(|series| series.vs).collect();
    assert_eq!(sums, [3.0; 2], "the slots before and at the boundary");
    assert_eq!(
        fixture.base.store.maintenance().run_housekeeping(now + 5 * 60 * SECOND).unwrap(),
        1,
        "now it is a block"
    );
    fixture.close();
}

struct CorrectionLog(Arc<Mutex<Vec<CorrectionEvent>>>);

impl CorrectionListener for CorrectionLog {
    fn corrected(&self, rows: CorrectionEvent) {
        self.0.lock().push(rows);
    }
    fn is_open(&self) -> bool {
        true
    }
}

#[test]
fn listeners_hear_of_corrections() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(dir.path(), &SUM, Some(LATENESS));
    let heard: Arc<Mutex<Vec<CorrectionEvent>>> = Arc::default();
    fixture
        .base
        .past
        .on_correction(vec![Matcher::equal("__name__", "sum")], Box::new(CorrectionLog(heard.clone())));
    let other: Arc<Mutex<Vec<CorrectionEvent>>> = Arc::default();
    fixture
        .base
        .past
        .on_correction(vec![Matcher::equal("__name__", "other")], Box::new(CorrectionLog(other.clone())));
    fixture.run(&three()[..2], START + 8 * INTERVAL, |_| true);
    let heard = heard.lock();
    let times: Vec<i64> = heard.iter().map(|corrected| (corrected.t - START) / INTERVAL).collect();
    assert_eq!(times, [2, 3, 4, 5, 6, 7]);
    let labels = Labels::from_pairs([("__name__", "sum"), ("team", "x")]);
    assert!(heard.iter().all(|c| c.upsert == [(labels.clone(), Sample::Float(3.0))] && c.remove.is_empty()));
    assert!(other.lock().is_empty());
    drop(heard);
    fixture.close();
}

/// A rule is evaluated while a correction of what it reads is being made: that time must follow as
/// well.
#[test]
fn rules_follow_into_slots_that_pass_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let chain = [("low", "sum(g)", 0, 0), ("high", "max_over_time(low[15s])", 0, 0)];
    let fixture = Fixture::open(dir.path(), &chain, Some(LATENESS));
    let at = |slot: i64| START + slot * INTERVAL;
    fixture
        .base
        .store
        .append_rows(&[FloatRow {
            series: fixture.base.store.get_or_create_series(&labels(3)),
            t: at(1) - 1,
            v: 1.0,
        }])
        .unwrap();
    for slot in 0..=3 {
        fixture.slot(at(slot), |_| false);
    }
    fixture.base.clock.set(at(3) + 8 * SECOND);
    fixture
        .base
        .store
        .append_rows(&[FloatRow {
            series: fixture.base.store.get_or_create_series(&labels(4)),
            t: at(3) - 1,
            v: 2.0,
        }])
        .unwrap();
    let live = fixture.base.live.clone();
    let clock = fixture.base.clock.clone();
    *fixture.then.lock() = Some(Box::new(move || {
        clock.set(at(4));
        live.tick(at(4));
    }));
    fixture.base.past.correct_now();
    fixture.base.clock.set(at(4) + SECOND);
    fixture.base.past.correct_now();
    assert_eq!(fixture.values("low"), [(10, 1.0), (20, 1.0), (30, 3.0), (40, 3.0)]);
    assert_eq!(fixture.values("high"), [(10, 1.0), (20, 1.0), (30, 3.0), (40, 3.0)]);
    fixture.close();
}

/// A recorded series keeps the meaning that it had at each time.
#[test]
fn what_was_recorded_before_a_reload_stays() {
    for (rule, interval) in [(("r", "sum(g) * 8", 0, 0), INTERVAL), (("r", "sum(g)", 0, 0), 15 * SECOND)] {
        let dir = tempfile::tempdir().unwrap();
        let fixture = Fixture::open(dir.path(), &[("r", "sum(g)", 0, 0)], Some(LATENESS));
        fixture
            .base
            .store
            .append_rows(&[FloatRow {
                series: fixture.base.store.get_or_create_series(&labels(3)),
                t: START,
                v: 1.0,
            }])
            .unwrap();
        for slot in 1..=6 {
            fixture.slot(START + slot * INTERVAL, |_| false);
        }
        let late = FloatRow {
            series: fixture.base.store.get_or_create_series(&labels(4)),
            t: START + 25 * SECOND,
            v: 2.0,
        };
        // One that waits to be corrected, and one that arrives later.
        fixture.base.store.append_rows(&[late]).unwrap();
        fixture.reload(&rule, interval);
        fixture.base.store.append_rows(&[FloatRow { t: late.t + 1, ..late }]).unwrap();
        fixture.base.clock.set(START + 70 * SECOND);
        fixture.base.past.correct_now();
        let before: Vec<_> = fixture.values("r").into_iter().filter(|(t, _)| *t <= 60).collect();
        assert_eq!(before, (1..=6).map(|slot| (slot * 10, 1.0)).collect::<Vec<_>>());
        fixture.close();
    }
}

/// The rule reads its own last sample: that cannot be computed again.
#[test]
fn a_rule_that_reads_itself_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let fixture =
        Fixture::open(dir.path(), &[("r", "sum(g) + sum(r or on () vector(0))", 0, 0)], Some(LATENESS));
    fixture.run(&three()[..2], START + 8 * INTERVAL, |_| true);
    let before = fixture.values("r");
    fixture
        .base
        .store
        .append_rows(&[FloatRow {
            series: fixture.base.store.get_or_create_series(&labels(5)),
            t: START + 1,
            v: 9.0,
        }])
        .unwrap();
    fixture.base.clock.set(START + 8 * INTERVAL + 2 * SECOND);
    fixture.base.past.correct_now();
    assert!(before.last().is_some_and(|(_, v)| *v == 10.0), "{before:?}");
    assert_eq!(fixture.values("r"), before);
    fixture.close();
}

/// Another server records the same metric and writes it here.
#[test]
fn series_that_others_wrote_are_not_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(dir.path(), &[("r", "sum(g) > 2", 0, 0)], Some(LATENESS));
    let theirs = Labels::from_pairs([("__name__", "r"), ("region", "a"), ("team", "x")]);
    for slot in 1..=8 {
        let series = fixture.base.store.get_or_create_series(&theirs);
        fixture.base.store.append_rows(&[FloatRow { series, t: START + slot * INTERVAL, v: 5.0 }]).unwrap();
    }
    fixture.run(&three()[..2], START + 9 * INTERVAL, |_| true);
    let all = fixture.recorded();
    assert_eq!(all[&theirs].len(), 8, "{all:?}");
    assert_eq!(all.len(), 2);
    fixture.close();
}
