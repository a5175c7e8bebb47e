//! Tests the check of a view: correct answers pass while samples arrive, and a wrong answer is
//! found.

use engine::live::check::EvaluationCause;
use engine::live::{LiveOptions, LiveRuntime, ViewId, ViewKind, ViewSpec};
use engine::query::{Querier, QueryOptions};
use engine::types::histogram_column::Sample;
use promql::{PromqlOptions, compile};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};
use storage::clock::Clock;
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::model::{Labels, SeriesRef, TimeMs};
use storage::store::{FloatRow, Store, StoreOptions};
use views::check::{CheckOutcome, ViewCheck, check_view};

/// The deliberate fault is global to the process, so the tests run one at a time.
static TURN: parking_lot::Mutex<()> = parking_lot::Mutex::new(());

struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> TimeMs {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis()
            as TimeMs
    }
}

struct Server {
    store: Arc<Store>,
    live: LiveRuntime,
    querier: Querier,
    _dir: tempfile::TempDir,
}

impl Server {
    fn start() -> Server {
        let dir = tempfile::tempdir().expect("a directory");
        let metrics = Metrics::default();
        let options = StoreOptions {
            dir: dir.path().to_owned(),
            wal_sync_interval_ms: 100,
            block_range_ms: 7_200_000,
            out_of_order_ms: 60_000,
        };
        let (store, _) = Store::open(options, Arc::new(OsDisk), &metrics).expect("a store");
        let live = LiveRuntime::start(store.clone(), Arc::new(SystemClock), LiveOptions::default(), &metrics);
        let querier = Querier::new(store.clone(), 2);
        Server { store, live: live.expect("a runtime"), querier, _dir: dir }
    }

    fn series(&self, job: &str, instance: usize) -> SeriesRef {
        let instance = instance.to_string();
        let labels = [("__name__", "x"), ("job", job), ("instance", &instance)];
        self.store.get_or_create_series(&Labels::from_pairs(labels))
    }

    fn append(&self, series: SeriesRef, t: TimeMs, v: f64) {
        self.store.append_rows(&[FloatRow { series, t, v }]).expect("stored");
    }

    fn install(&self, text: &str, kind: ViewKind) -> ViewId {
        let plan = compile(text, &PromqlOptions::default()).expect("an expression");
        self.live.install(ViewSpec { name: text.to_owned(), plan, kind }).expect("a live view")
    }

    fn check(&self, view: ViewId) -> ViewCheck {
        let options = QueryOptions::default();
        check_view(&self.live, &self.querier, view, &options).expect("checked").expect("a view")
    }

    /// Like [`Server::check`], after waiting until the view has an answer.
    fn check_begun(&self, view: ViewId) -> ViewCheck {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let check = self.check(view);
            if check.outcome != CheckOutcome::Pending || Instant::now() > deadline {
                return check;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn recorded(record: &str) -> ViewKind {
    ViewKind::Recorded {
        record: record.to_owned(),
        labels: Vec::new(),
        interval: 1_000,
        offset: 0,
        query_offset: 0,
        limit: 0,
    }
}

#[test]
fn right_answers_pass_while_samples_come() {
    let _turn = TURN.lock();
    let server = Server::start();
    let now = SystemClock.now();
    let series: Vec<SeriesRef> =
        (0..40).map(|i| server.series(if i % 2 == 0 { "a" } else { "b" }, i)).collect();
    for back in (1..60).rev() {
        for one in &series {
            server.append(*one, now - back * 1_000, (60 - back) as f64);
        }
    }
    let views = [
        server.install("x", ViewKind::NOW),
        server.install("sum by (job) (rate(x[30s]))", ViewKind::NOW),
        server.install("x > 20", ViewKind::Continuous { query_offset: 5_000 }),
        server.install("topk(3, x)", ViewKind::NOW),
        server.install("sum by (job) (x)", recorded("job:x:sum")),
        server.install("sum(job:x:sum)", recorded("x:sum")),
        server.install("max_over_time(quantile(0.5, x)[10s:1s])", recorded("x:max")),
        server.install("time()", ViewKind::NOW),
    ];
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 0;
            while !stop.load(SeqCst) {
                let one = series[round % series.len()];
                server.append(one, SystemClock.now() - (round as i64 % 7) * 3, 60.0 + round as f64);
                round += 1;
                std::thread::sleep(Duration::from_millis(3));
            }
        });
        let mut same = 0;
        for _ in 0..5 {
            for view in views {
                let check = server.check_begun(view);
                let fine = matches!(check.outcome, CheckOutcome::Same | CheckOutcome::Unsettled);
                if !fine {
                    stop.store(true, SeqCst);
                }
                assert!(fine, "{check:?}");
                same += usize::from(check.outcome == CheckOutcome::Same);
            }
        }
        stop.store(true, SeqCst);
        assert!(same >= 20, "only {same} of 40 checks met no sample");
    });
    for view in views {
        assert_eq!(server.check(view).outcome, CheckOutcome::Same);
    }
    server.live.stop();
}

#[test]
#[cfg(debug_assertions)]
fn a_wrong_value_is_found_and_explained() {
    use engine::live::fault::IGNORE_SAMPLES;
    let _turn = TURN.lock();
    let server = Server::start();
    let now = SystemClock.now();
    let a = server.series("a", 0);
    let b = server.series("b", 1);
    server.append(a, now - 5_000, 1.0);
    server.append(b, now - 5_000, 2.0);
    let view = server.install("sum by (job) (x)", ViewKind::NOW);
    let rule = server.install("sum by (job) (x)", recorded("job:x:sum"));
    assert_eq!(server.check_begun(view).outcome, CheckOutcome::Same);
    assert_eq!(server.check_begun(rule).outcome, CheckOutcome::Same);

    IGNORE_SAMPLES.store(true, SeqCst);
    server.append(a, SystemClock.now(), 7.0);
    for id in [view, rule] {
        let check = server.check(id);
        assert_eq!((check.outcome, check.difference.rows), (CheckOutcome::Differs, 1), "{check:?}");
        let row = &check.difference.first[0];
        assert_eq!(row.labels, Labels::from_pairs([("job", "a")]));
        assert_eq!((&row.live, &row.history), (&Some(Sample::Float(1.0)), &Some(Sample::Float(7.0))));
        let [last] = &row.evaluations[..] else { panic!("{check:?}") };
        assert_eq!((last.series.get("instance"), last.cause), (Some("0"), EvaluationCause::Load));
        assert_eq!(last.step, "newest value of {__name__=\"x\"}");
        assert!(last.t <= SystemClock.now());
    }

    // After the next sample the row is correct again, and the cause of its evaluation is another
    // one.
    IGNORE_SAMPLES.store(false, SeqCst);
    server.append(a, SystemClock.now(), 8.0);
    assert_eq!(server.check(view).outcome, CheckOutcome::Same);
    IGNORE_SAMPLES.store(true, SeqCst);
    server.append(a, SystemClock.now() + 1, 9.0);
    std::thread::sleep(Duration::from_millis(5));
    let check = server.check(view);
    IGNORE_SAMPLES.store(false, SeqCst);
    assert_eq!(check.outcome, CheckOutcome::Differs);
    assert_eq!(check.difference.first[0].evaluations[0].cause, EvaluationCause::Sample);
    server.live.stop();
}
