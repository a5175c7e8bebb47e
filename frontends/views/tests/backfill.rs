//! Backfill computes what a rule would have recorded if it had existed earlier: compared with a
//! rule that did.
//!
//! One store has its rules from the first sample on. The other gets all samples first, then the
//! rules with `backfill`, and continues live; or it is killed in between, continues from what was
//! on disk, and must end with the same series.

mod support;

use engine::live::ViewId;
use engine::plan::Plan;
use engine::query::QueryEngine;
use engine::query::{Querier, QueryAnswer, QueryError, QueryOptions};
use parking_lot::Mutex;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};
use storage::model::value::STALE;
use storage::model::{Labels, Matcher};
use storage::store::FloatRow;
use support::{RecordingFixture, RuleCase, labels, spec};
use views::ViewRegistry;
use views::recording::{BackfillState, BackfillStatus, RecordedRule};

const MINUTE: i64 = 60_000;
const INTERVAL: i64 = 30 * MINUTE;
/// An evaluation time, some hours before the end of a day.
const START: i64 = 1_700_082_000_000;
/// When the rules with backfill are added, not at an evaluation time.
const INSTALLED: i64 = START + 3 * 86_400_000 + 7 * MINUTE;
const END: i64 = INSTALLED + 6 * 3_600_000;

const RULES: [RuleCase; 9] = [
    ("r:rate", "sum by (job) (rate(c_total[1h]))", 0, 0),
    ("r:most", "max_over_time(g[40m]) > 10", 90_000, 0),
    ("r:chain", "avg_over_time(r:rate[2h])", 0, 0),
    ("r:both", "r:rate * 2 + on (job) sum by (job) (g)", 0, 0),
    ("r:longer", "r:chain + on (job) count by (job) (r:most)", 0, 0),
    ("r:absent", "absent(g{job=\"a\"})", 0, 0),
    ("r:limited", "g", 0, 2),
    ("r:time", "time()", 30_000, 0),
    ("r:twins", "label_replace(g{job=\"a\"}, \"instance\", \"x\", \"\", \"\")", 0, 0),
];

/// Series, time, value.
type Arrival = (usize, i64, f64);

/// Counters with resets, and gauges with gaps and stale markers, all arriving in time.
fn arrivals() -> impl Strategy<Value = Vec<Arrival>> {
    let one = (1i64..25, 0u32..40, 0u8..40);
    proptest::collection::vec(proptest::collection::vec(one, 700), 6).prop_map(|all| {
        let mut arrivals = Vec::new();
        for (series, steps) in all.into_iter().enumerate() {
            let mut t = START - 3_600_000;
            let mut total = 0.0;
            for (gap, value, kind) in steps {
                t += gap * MINUTE / 2 + i64::from(value) * 7 + if kind == 1 { 3 * 3_600_000 } else { 0 };
                total = if kind == 2 { 0.0 } else { total + f64::from(value) };
                let v = if series < 3 { total } else { f64::from(value) };
                let v = if kind == 3 && series >= 3 { STALE } else { v };
                arrivals.push((series, t, v));
            }
        }
        arrivals.retain(|(_, t, _)| *t < END);
        arrivals.sort_by_key(|(_, t, _)| *t);
        arrivals
    })
}

/// The parts of a server, and a switch: some samples cannot be read while it is on.
struct Fixture {
    base: RecordingFixture,
    away: Arc<AtomicBool>,
}

/// Copies the data directory at query number `at`. Some samples cannot be read for a while.
struct CopyingEngine {
    away: Arc<AtomicBool>,
    querier: Querier,
    count: AtomicUsize,
    at: usize,
    copy: Mutex<Option<(PathBuf, PathBuf)>>,
}

impl CopyingEngine {
    fn question(&self, plan: &Plan) -> Result<(), QueryError> {
        if self.count.fetch_add(1, SeqCst) == self.at
            && let Some((from, to)) = self.copy.lock().take()
        {
            copy(&from, &to);
        }
        if self.away.load(SeqCst) && format!("{plan:?}").contains("c_total") {
            Err(QueryError::Internal("the object store does not answer".to_owned()))
        } else {
            Ok(())
        }
    }
}

impl QueryEngine for CopyingEngine {
    fn instant(&self, plan: &Plan, t: i64, options: &QueryOptions) -> Result<QueryAnswer, QueryError> {
        self.question(plan)?;
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
        self.question(plan)?;
        self.querier.range(plan, start, end, step, options)
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &name);
        } else {
            std::fs::copy(&path, name).unwrap();
        }
    }
}

impl Fixture {
    fn open(dir: &Path, now: i64, kill: Option<(usize, PathBuf)>) -> Fixture {
        let (at, copy) = kill.map_or((0, None), |(at, to)| (at, Some((dir.to_owned(), to))));
        let away = Arc::new(AtomicBool::new(false));
        let count = AtomicUsize::new(0);
        let copy = Mutex::new(copy);
        let switch = away.clone();
        let engine = |querier| CopyingEngine { away: switch, querier, count, at, copy };
        Fixture { base: RecordingFixture::open(dir, now, 30 * MINUTE, engine), away }
    }

    fn append(&self, arrivals: &[Arrival], from: i64, to: i64) {
        for (series, t, v) in arrivals.iter().filter(|(_, t, _)| (from..to).contains(t)) {
            let series = self.base.store.get_or_create_series(&labels(*series));
            self.base.store.append_rows(&[FloatRow { series, t: *t, v: *v }]).unwrap();
        }
    }

    /// Installs all rules, with backfill of this length.
    fn install(&self, backfill: i64) -> Vec<ViewId> {
        let install = |rule: &RuleCase| {
            let spec = spec(rule, INTERVAL);
            let view = self.base.views.install(spec.clone()).unwrap();
            RecordedRule { view, key: rule.0.to_owned(), spec, backfill, lateness: None }
        };
        let rules: Vec<RecordedRule> = RULES.iter().map(install).collect();
        let ids = rules.iter().map(|rule| rule.view).collect();
        self.base.views.set_recorded_rules(rules);
        ids
    }

    /// Appends samples and runs evaluation times, from `from` to `to`.
    fn go_on(&self, arrivals: &[Arrival], mut from: i64, to: i64) {
        while from < to {
            let next = to.min((from.div_euclid(INTERVAL) + 1) * INTERVAL);
            // Samples with exactly the evaluation time arrive before it.
            self.append(arrivals, from + 1, next + 1);
            self.base.clock.set(next);
            self.base.live.tick(next);
            from = next;
        }
    }

    fn wait(&self, ids: &[ViewId], state: BackfillState) {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let reports: Vec<BackfillStatus> =
                ids.iter().map(|id| self.base.views.past(*id).unwrap()).collect();
            if reports.iter().all(|report| report.state == state) {
                return;
            }
            assert!(Instant::now() < deadline, "{reports:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn close(self) {
        self.base.close();
    }

    /// All recorded samples.
    fn recorded(&self) -> BTreeMap<Labels, Vec<(i64, f64)>> {
        let all = self
            .base
            .store
            .recorder()
            .read_series(&[Matcher::equal("team", "x")], START - 3_600_000, END)
            .unwrap();
        all.into_iter().map(|(labels, s)| (labels, s.ts.into_iter().zip(s.vs).collect())).collect()
    }
}

/// Equal bit by bit, or within the tolerance of rates that were computed at other times.
fn same(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits()
        || a.is_finite() && b.is_finite() && (a - b).abs() <= 1e-11 * a.abs().max(b.abs())
}

fn compare(got: &BTreeMap<Labels, Vec<(i64, f64)>>, wanted: &BTreeMap<Labels, Vec<(i64, f64)>>) {
    assert_eq!(got.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    for (labels, wanted) in wanted {
        let got = &got[labels];
        let times = |points: &[(i64, f64)]| points.iter().map(|p| (p.0 - START) / 1_000).collect::<Vec<_>>();
        assert_eq!(times(got), times(wanted), "{labels}");
        for (g, w) in got.iter().zip(wanted) {
            assert!(same(g.1, w.1), "{labels} at {}: {} instead of {}", g.0 - START, g.1, w.1);
        }
    }
}

/// What rules record that exist from the first evaluation time on.
fn reference(arrivals: &[Arrival]) -> BTreeMap<Labels, Vec<(i64, f64)>> {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(dir.path(), START, None);
    fixture.append(arrivals, i64::MIN, START);
    fixture.install(0);
    fixture.go_on(arrivals, START - 1, END);
    let recorded = fixture.recorded();
    fixture.close();
    recorded
}

/// What was recorded once stays, even if the expression gives another value today; gaps beside it
/// are filled.
#[test]
fn what_is_stored_stays() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(dir.path(), INSTALLED, None);
    let arrivals: Vec<Arrival> = (0..2_000).map(|i| (3, START + i * 2 * MINUTE, 30.0)).collect();
    let kept =
        Labels::from_pairs([("__name__", "r:limited"), ("instance", "1"), ("job", "a"), ("team", "x")]);
    let series = fixture.base.store.get_or_create_series(&kept);
    let odd = START + 10 * INTERVAL;
    fixture.append(&arrivals, i64::MIN, odd);
    assert_eq!(fixture.base.store.append_rows(&[FloatRow { series, t: odd, v: 7.0 }]).unwrap().stored, 1);
    fixture.append(&arrivals, odd, INSTALLED + 1);
    let ids = fixture.install(INSTALLED - START);
    fixture.wait(&ids, BackfillState::Waiting);
    let recorded = &fixture.recorded()[&kept];
    assert_eq!(recorded.iter().find(|(t, _)| *t == odd), Some(&(odd, 7.0)));
    assert_eq!(recorded.len(), 135, "each slot once, and its end");
    assert!(recorded[..134].iter().all(|(t, v)| *t == odd || *v == 30.0));
    fixture.close();
}

/// What cannot be read now is queried again; rules that do not need it continue in the meantime.
#[test]
fn an_outage_leaves_no_gap() {
    let samples = |series: usize| (0..2_000).map(move |i| (series, START + i * 2 * MINUTE, i as f64));
    let mut arrivals: Vec<Arrival> = samples(0).chain(samples(4)).collect();
    arrivals.sort_by_key(|(_, t, _)| *t);
    let wanted = reference(&arrivals);
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(dir.path(), INSTALLED, None);
    fixture.append(&arrivals, i64::MIN, INSTALLED + 1);
    fixture.away.store(true, SeqCst);
    let ids = fixture.install(INSTALLED - START);
    let (needs, free): (Vec<usize>, Vec<usize>) =
        (0..RULES.len()).partition(|i| ["r:rate", "r:chain", "r:both", "r:longer"].contains(&RULES[*i].0));
    fixture.wait(&free.iter().map(|i| ids[*i]).collect::<Vec<_>>(), BackfillState::Waiting);
    for i in needs {
        let report = fixture.base.views.past(ids[i]).unwrap();
        assert_eq!(
            (report.state, report.done_until),
            (BackfillState::Running, report.from),
            "{}",
            RULES[i].0
        );
    }
    let error = fixture.base.views.past(ids[0]).unwrap().error;
    assert!(error.contains("does not answer"), "{error}");
    fixture.away.store(false, SeqCst);
    fixture.wait(&ids, BackfillState::Waiting);
    assert_eq!(fixture.base.views.past(ids[0]).unwrap().error, "");
    fixture.go_on(&arrivals, INSTALLED, END);
    fixture.wait(&ids, BackfillState::Done);
    compare(&fixture.recorded(), &wanted);
    fixture.close();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, ..ProptestConfig::default() })]

    #[test]
    fn a_past_is_what_would_have_been_recorded(arrivals in arrivals(), flushed in any::<bool>()) {
        let wanted = reference(&arrivals);
        let dir = tempfile::tempdir().unwrap();
        let fixture = Fixture::open(dir.path(), INSTALLED, None);
        fixture.append(&arrivals, i64::MIN, INSTALLED + 1);
        if flushed {
            fixture.base.store.maintenance().run_housekeeping(INSTALLED).unwrap();
        }
        let ids = fixture.install(INSTALLED - START);
        // Live views read recorded series: evaluations before those exist read less.
        fixture.wait(&ids, BackfillState::Waiting);
        fixture.go_on(&arrivals, INSTALLED, END);
        fixture.wait(&ids, BackfillState::Done);
        let from = fixture.base.views.past(ids[0]).unwrap().from;
        prop_assert_eq!(from, START);
        compare(&fixture.recorded(), &wanted);
        fixture.close();
    }

    #[test]
    fn a_kill_leaves_no_gap_and_no_double(arrivals in arrivals(), at in 1usize..120, down in 1i64..150) {
        let wanted = reference(&arrivals);
        let dir = tempfile::tempdir().unwrap();
        let image = tempfile::tempdir().unwrap();
        let image = image.path().join("data");
        let fixture = Fixture::open(dir.path(), INSTALLED, Some((at, image.clone())));
        fixture.append(&arrivals, i64::MIN, INSTALLED + 1);
        let ids = fixture.install(INSTALLED - START);
        fixture.wait(&ids, BackfillState::Waiting);
        fixture.close();
        let data = if image.exists() { image.as_path() } else { dir.path() };
        let back = INSTALLED + down * MINUTE;
        let fixture = Fixture::open(data, back, None);
        fixture.append(&arrivals, INSTALLED + 1, back + 1);
        let ids = fixture.install(INSTALLED - START);
        fixture.wait(&ids, BackfillState::Waiting);
        fixture.go_on(&arrivals, back, END);
        fixture.wait(&ids, BackfillState::Done);
        compare(&fixture.recorded(), &wanted);
        fixture.close();
    }
}
