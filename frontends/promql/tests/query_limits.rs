//! Queries that once crashed the server, or ran for minutes after their timeout or after their
//! client had left: each must end at its limits. The times are bounds of an order of magnitude; the
//! engine's own tests check the counts.

use engine::live::{LiveOptions, LiveRuntime, Sink, TapEvent, ViewKind, ViewSpec};
use engine::memory::{MemoryPool, ViewMemory};
use engine::query::{Querier, QueryAnswer, QueryError, QueryOptions};
use parking_lot::Mutex;
use promql::{PromqlOptions, compile};
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::model::{Labels, TimeMs};
use storage::store::{FloatRow, Store};

const NOW: TimeMs = 1_700_000_000_000;
/// A query that checks its limits ends within this time, however busy the machine is.
const SOON: Duration = Duration::from_secs(20);

struct Bench {
    store: Arc<Store>,
    querier: Querier,
    memory: Arc<MemoryPool>,
    _dir: tempfile::TempDir,
}

impl Bench {
    /// The metric `many` has `series` series, `one` has one series with 20,000 labels.
    fn new(series: usize) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let options = storage::store::StoreOptions {
            dir: dir.path().to_owned(),
            wal_sync_interval_ms: 100,
            block_range_ms: 7_200_000,
            out_of_order_ms: 0,
        };
        let (store, _) = Store::open(options, Arc::new(OsDisk), &Metrics::default()).unwrap();
        let append = |labels: Labels| {
            let series = store.get_or_create_series(&labels);
            store.append_rows(&[FloatRow { series, t: NOW - 1_000, v: 1.0 }]).unwrap();
        };
        for n in 0..series {
            append(Labels::from_pairs([("__name__", "many".to_owned()), ("n", n.to_string())]));
        }
        let wide = (0..20_000).map(|n| (label(n), "v".to_owned()));
        append(Labels::from_pairs(wide.chain([("__name__".to_owned(), "one".to_owned())])));
        let memory = MemoryPool::for_queries(512 << 20);
        let querier = Querier::new(store.clone(), 2).with_memory(memory.clone());
        Bench { store, querier, memory, _dir: dir }
    }

    fn ask(&self, text: &str, timeout: Duration) -> Result<QueryAnswer, QueryError> {
        let plan = compile(text, &PromqlOptions::default()).map_err(|e| QueryError::BadData(e.message()))?;
        let options = QueryOptions { timeout, max_bytes: 256 << 20, ..QueryOptions::default() };
        self.querier.instant(&plan, NOW, &options)
    }

    fn refused(&self, text: &str) -> String {
        match self.ask(text, Duration::from_secs(120)) {
            // Memory is a limit of the query; the length of a label is one of the data.
            Err(QueryError::LimitReached(error) | QueryError::Execution(error)) => error,
            other => panic!("{} is answered: {:?}", &text[..text.len().min(80)], other.map(|_| ())),
        }
    }
}

fn label(n: usize) -> String {
    format!("label_{n:05}")
}

/// `times` nested calls of `name`, over `many`.
fn nested(name: &str, rest: &str, times: usize) -> String {
    format!("{}many{}", format!("{name}(").repeat(times), format!(", {rest})").repeat(times))
}

#[test]
fn labels_that_double_are_refused_at_the_length_of_stored_ones() {
    let bench = Bench::new(1_000);
    let tripled = |times: usize| nested("label_join", r#""n","","n","n","n""#, times);
    let query = tripled(12);
    assert!(query.len() < 500);
    let error = bench.refused(&query);
    assert!(error.contains("more than 256 MiB of values, labels and answer"), "{error}");
    let of_one = |query: String| query.replace("many", r#"many{n="999"}"#);
    let error = bench.refused(&of_one(query));
    assert!(error.contains(r#"the label "n" that label_join() sets would have"#), "{error}");
    assert!(error.contains("the limit is 1048576"), "{error}");
    let constant = "x".repeat(250_000);
    let error = bench.refused(&format!(r#"count_values("{constant}", many)"#));
    assert!(error.contains("count_values() sets has 250000 bytes"), "{error}");
    // Each of these labels is short enough, but all together are not: they would not fit into a
    // record of the write-ahead log.
    let copied = |query: String, name: &str| format!(r#"label_join({query}, "{name}", "", "n")"#);
    let wide = ["a", "b", "c", "d"].into_iter().fold(of_one(tripled(11)), copied);
    let error = bench.refused(&wide);
    assert!(error.contains("bytes of labels: the limit is 2097152"), "{error}");
}

#[test]
fn labels_of_the_longest_length_end_at_the_bytes_of_the_query() {
    let bench = Bench::new(6_000);
    let constant = "x".repeat(65_000);
    let error = bench.refused(&format!(r#"label_replace(many, "d", "{constant}", "n", ".*")"#));
    assert!(error.contains("more than 256 MiB of values, labels and answer"), "{error}");
    // A label name for each level: 12 of them over 1,000 series.
    let one =
        |n: usize, of: &str| format!(r#"label_replace({of}, "d{n}", "{}", "n", ".*")"#, "x".repeat(20_000));
    let nested = (0..12).fold("many".to_owned(), |of, n| one(n, &of));
    let error = bench.refused(&nested);
    assert!(error.contains("more than 256 MiB"), "{error}");
    assert_eq!(bench.memory.reserved(), 0);
}

#[test]
fn long_queries_end_with_their_time() {
    let bench = Bench::new(10_000);
    let replaced = nested("label_replace", r#""d", "$1", "n", "(.*)""#, 50);
    let sum = format!("many{}", " + many".repeat(390));
    let labels: Vec<String> = (0..20_000).map(label).collect();
    let labels = labels.join(",");
    let grouped = format!("many * on () group_left ({}) one", &labels);
    for query in [replaced, sum, grouped] {
        let began = Instant::now();
        let asked = bench.ask(&query, Duration::from_millis(200));
        let took = began.elapsed();
        let name = &query[..60];
        // A fast machine may finish, or reach the limit of bytes, earlier.
        match asked {
            Ok(_) | Err(QueryError::Timeout(_)) => {}
            Err(QueryError::LimitReached(error)) => assert!(error.contains("256 MiB"), "{name}: {error}"),
            Err(other) => panic!("{name}: {other}"),
        }
        assert!(took < SOON, "{name} takes {took:?}");
    }
}

/// Records the events that it receives.
#[derive(Clone, Default)]
struct RecordedEvents(Arc<Mutex<Vec<TapEvent>>>);

impl Sink for RecordedEvents {
    fn push(&mut self, event: TapEvent) -> bool {
        self.0.lock().push(event);
        true
    }
}

#[test]
fn a_view_that_makes_too_many_labels_fails_alone_and_leaves_nothing() {
    let bench = Bench::new(200);
    let pool = MemoryPool::for_views(64 << 20);
    let memory = ViewMemory { pool: pool.clone(), limit: 1 << 20 };
    let options = LiveOptions { workers: 1, memory, ..LiveOptions::default() };
    let live = LiveRuntime::manual(bench.store.clone(), &options, &Metrics::default()).unwrap();
    let install = |text: &str| {
        let plan = compile(text, &PromqlOptions::default()).unwrap();
        let heard = RecordedEvents::default();
        let view = live.install(ViewSpec { name: text[..20].to_owned(), plan, kind: ViewKind::NOW }).unwrap();
        live.tap(view, Box::new(heard.clone()));
        (view, heard)
    };
    let long = "x".repeat(20_000);
    let (greedy, failing) = install(&format!(r#"label_replace(many, "d", "{long}", "n", ".*")"#));
    let one = r#"many{n="7"}"#;
    let (_, doubling) = install(&nested("label_join", r#""n","","n","n","n""#, 13).replace("many", one));
    let (_, fine) = install(r#"label_replace(many, "d", "$1", "n", "(.*)")"#);
    for tick in 0..3 {
        live.tick(NOW + tick * 1_000);
    }
    let failure = |heard: &RecordedEvents| {
        let events = heard.0.lock();
        let failed = |event: &TapEvent| match event {
            TapEvent::Failed { error, .. } => Some(error.clone()),
            _ => None,
        };
        events.iter().find_map(failed)
    };
    let error = failure(&failing).expect("it is told that it fails");
    assert!(error.contains("more than 1 MiB of labels"), "{error}");
    let error = failure(&doubling).expect("it is told that it fails");
    assert!(error.contains("label_join() sets would have"), "{error}");
    assert_eq!(failure(&fine), None);
    let rows = |event: &TapEvent| matches!(event, TapEvent::Snapshot { rows, .. } if rows.len() == 200);
    assert!(fine.0.lock().iter().any(rows), "the others go on");
    let held = pool.reserved();
    assert!((100_000..2_200_000).contains(&held), "{held} bytes");
    live.remove(greedy);
    for tick in 3..6 {
        live.tick(NOW + tick * 1_000);
    }
    assert!(pool.reserved() < held, "{} of {held} bytes after it has gone", pool.reserved());
    live.stop();
}
