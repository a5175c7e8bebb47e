//! Tests of descriptions of views over one ring by 1, 2 and 4 workers: what is reported must not
//! depend on that number.

use super::*;
use crate::functions::lookup;
use crate::live::{LiveOptions, LiveRuntime, Sink, TapEvent, ViewKind};
use crate::plan::{FunctionRef, Plan, PlanNode, PlanOp, Selector, Span};
use std::sync::Arc;
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::model::{Labels, Matcher};
use storage::store::{FloatRow, Store, StoreOptions};

const START: TimeMs = 1_700_000_000_000;
const SOON: Duration = Duration::from_millis(20);

fn select(name: &str) -> Selector {
    Selector { matchers: vec![Matcher::equal("__name__", name)], offset: 0, at: None, extension: None }
}

fn plan(op: PlanOp) -> Plan {
    Arc::new(PlanNode { op, span: Span::default() })
}

fn rate(name: &str, range: i64) -> Plan {
    let function = FunctionRef(lookup("rate").unwrap());
    plan(PlanOp::Call { function, args: vec![plan(PlanOp::Range { selector: select(name), range })] })
}

struct IgnoringSink;

impl Sink for IgnoringSink {
    fn push(&mut self, _: TapEvent) -> bool {
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
        let options = StoreOptions {
            dir: dir.path().to_owned(),
            wal_sync_interval_ms: 100,
            block_range_ms: 7_200_000,
            out_of_order_ms: 0,
        };
        let (store, _) = Store::open(options, Arc::new(OsDisk), &Metrics::default()).unwrap();
        let options = LiveOptions { workers, ..LiveOptions::default() };
        let live = LiveRuntime::manual(store.clone(), &options, &Metrics::default()).unwrap();
        Bench { store, live, _dir: dir }
    }

    fn sample(&self, name: &str, instance: &str, t: TimeMs, v: f64) {
        let labels = Labels::from_pairs([("__name__", name), ("job", "j"), ("instance", instance)]);
        let series = self.store.get_or_create_series(&labels);
        self.store.append_rows(&[FloatRow { series, t, v }]).unwrap();
    }

    fn install(&self, name: &str, plan: Plan, kind: ViewKind) -> ViewId {
        self.live.install(ViewSpec { name: name.to_owned(), plan, kind }).unwrap()
    }

    /// Sends a request, and ticks once it is there.
    fn describe(&self, t: TimeMs, from: u64, limit: usize) -> Description {
        let ask = || self.live.describe(ViewId(from), limit, Duration::from_secs(20));
        self.during_a_tick(t, ask).unwrap()
    }

    fn during_a_tick<T: Send>(&self, t: TimeMs, ask: impl FnOnce() -> T + Send) -> T {
        let queued = self.live.queued();
        std::thread::scope(|scope| {
            let asked = scope.spawn(ask);
            while self.live.queued() == queued {
                std::thread::yield_now();
            }
            self.live.tick(t);
            asked.join().unwrap()
        })
    }
}

fn recorded(limit: usize) -> ViewKind {
    let record = "r".to_owned();
    ViewKind::Recorded { record, labels: Vec::new(), interval: 1_000, offset: 0, query_offset: 0, limit }
}

/// Views 1 and 3 have the same plan, view 2 has another window over the same ring, view 4 a ring of
/// its own.
fn four_views(workers: usize) -> Bench {
    let bench = Bench::new(workers);
    for i in 0..8 {
        for step in 0..5 {
            bench.sample("c_total", &format!("h{i}"), START - 60_000 + step * 10_000, step as f64);
        }
    }
    bench.sample("up", "h0", START - 1_000, 1.0);
    let five = bench.install("five", rate("c_total", 300_000), ViewKind::NOW);
    bench.install("one", rate("c_total", 60_000), ViewKind::NOW);
    bench.install("too many", rate("c_total", 300_000), recorded(1));
    bench.install("up", plan(PlanOp::Instant(select("up"))), ViewKind::NOW);
    bench.live.tap(five, Box::new(IgnoringSink));
    bench
}

#[test]
fn views_over_one_ring_say_so() {
    let mut bytes = Vec::new();
    for workers in [1, 2, 4] {
        let bench = four_views(workers);
        let got = bench.describe(START, 0, 10);
        assert_eq!((got.t, got.total, got.views.len()), (Some(START), 4, 4));
        let work: Vec<&ViewFootprint> = got.views.iter().map(|view| view.work.as_ref().unwrap()).collect();
        let [ring] = &work[0].rings[..] else { panic!("{:?}", work[0]) };
        assert_eq!((work[1].rings[..].first(), work[2].rings.first()), (Some(ring), Some(ring)));
        assert_eq!((ring.selector.as_str(), ring.retention), ("{__name__=\"c_total\"}", 330_000));
        assert_eq!((ring.series, ring.readers), (8, 3));
        bytes.push(ring.bytes);
        assert_eq!((work[3].rings[0].series, work[3].rings[0].readers), (1, 1));

        let shared = |total, shared| StepCount { total, shared };
        assert_eq!(
            [0, 1, 2, 3].map(|i| work[i].local),
            [(1, 1), (1, 0), (1, 1), (1, 0)].map(|(t, s)| shared(t, s))
        );
        // Views 1 and 3 have the same owner unless there are four workers.
        let gathered = usize::from(workers < 4);
        assert_eq!((work[0].gather, work[1].gather), (shared(1, gathered), shared(1, 0)));
        assert_eq!([0, 1, 2, 3].map(|i| work[i].owner), [1, 2, 3, 4].map(|id| id % workers));
        assert_eq!([0, 1, 3].map(|i| work[i].rows_touched), [8, 8, 1]);
        // View 2 shares only the ring, view 4 shares nothing.
        assert_eq!((work[1].state.shared, work[3].state.shared), (ring.bytes, 0));
        assert!(work[0].state.shared > ring.bytes && work[0].state.total > work[0].state.shared);
        assert!(work[3].state.total > work[3].rings[0].bytes);
        // With so few steps every tick is measured.
        let spent: Vec<EvaluationCost> = work.iter().map(|work| work.spent.unwrap()).collect();
        assert!(spent.iter().all(|spent| spent.t == START && spent.total > 0.0), "{spent:?}");
        assert!(spent[0].total < spent[0].latest, "its window is shared: {spent:?}");
        assert_eq!(spent[1].total, spent[1].latest, "nothing of it is");
    }
    assert!(bytes[0] >= 8 * 5 * 8, "{bytes:?}");
    assert!(bytes.iter().all(|b| *b == bytes[0]), "{bytes:?}");
}

#[test]
fn answers_failures_and_changes_are_told() {
    for workers in [1, 2, 4] {
        let bench = four_views(workers);
        let answers =
            |t| bench.describe(t, 0, 10).views.into_iter().map(|view| view.answer).collect::<Vec<_>>();
        let first = answers(START);
        let fine = |taps, rows| AnswerReport {
            taps,
            rows,
            changed: Some(START),
            frontier: Some(START),
            failure: None,
            content: None,
            check: None,
        };
        assert_eq!([&first[0], &first[1], &first[3]], [&fine(1, 8), &fine(0, 8), &fine(0, 1)]);
        let error = "exceeded limit of 1 with 8 series".to_owned();
        let failure = Some(EvaluationFailure { t: START, error, lasts: true });
        assert_eq!((first[2].changed, &first[2].failure), (None, &failure));

        bench.sample("up", "h0", START + 1, 0.0);
        bench.sample("up", "h1", START + 1, 0.0);
        let second = bench.describe(START + 2, 4, 10);
        let [up] = &second.views[..] else { panic!("{second:?}") };
        let at = Some(START + 2);
        let changed = AnswerReport { changed: at, frontier: at, ..fine(0, 2) };
        assert_eq!((up.id, &up.answer, second.total), (ViewId(4), &changed, 4));
        // Without new samples nothing is evaluated and nothing changes.
        let third = bench.describe(START + 3, 4, 10);
        let waited = AnswerReport { frontier: Some(START + 3), ..changed };
        assert_eq!(
            (&third.views[0].answer, third.views[0].work.as_ref().unwrap().rows_touched),
            (&waited, 0)
        );
    }
}

#[test]
fn an_answer_can_be_read() {
    for workers in [1, 2, 4] {
        let bench = four_views(workers);
        let read = |view, t| {
            bench.during_a_tick(t, || bench.live.read(ViewId(view), Duration::from_secs(20)).unwrap())
        };
        let up = read(4, START).unwrap().answer;
        let content = up.content.unwrap();
        assert_eq!((up.frontier, content.rows.len(), content.annotations.len()), (Some(START), 1, 0));
        assert_eq!(content.rows[0].1, crate::types::histogram_column::Sample::Float(1.0));
        assert_eq!(read(1, START + 1).unwrap().answer.content.unwrap().rows.len(), 8);
        // View 3 failed and has no answer; view 5 does not exist.
        assert_eq!(read(3, START + 2).unwrap().answer.content, None);
        assert!(read(5, START + 3).is_none());
        // A description without rows has no content.
        assert_eq!(bench.describe(START + 4, 4, 1).views[0].answer.content, None);
    }
}

#[test]
fn a_question_asks_for_a_page() {
    let bench = four_views(2);
    let ids = |from, limit, t| -> Vec<u64> {
        bench.describe(t, from, limit).views.iter().map(|v| v.id.0).collect()
    };
    assert_eq!(ids(2, 2, START), [2, 3]);
    bench.live.remove(ViewId(3));
    assert_eq!(ids(2, 2, START + 1), [2, 4]);
    assert!(ids(9, 2, START + 2).is_empty());
    assert_eq!(bench.describe(START + 3, 1, 0).total, 3);
}

#[test]
fn whoever_waits_in_vain_is_told_why() {
    let bench = four_views(2);
    let ask = |bench: &Bench| bench.live.describe(ViewId(0), 10, SOON).unwrap_err();
    assert_eq!(ask(&bench), DescribeError::Late(SOON));
    assert!(ask(&bench).to_string().starts_with("the live runtime has not answered within 20ms"));
    // Parts for a request that has ended are not taken for parts of another one.
    assert_eq!(bench.describe(START, 2, 1).views.len(), 1);
    bench.live.stop();
    assert_eq!(ask(&bench).to_string(), "the live runtime has stopped");
    let empty = Bench::new(1);
    assert_eq!(empty.live.describe(ViewId(0), 10, SOON).unwrap().total, 0);
}
