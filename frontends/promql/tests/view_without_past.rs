//! If the store cannot be read, a new view has no history; that is counted, and the view continues
//! from now.

use engine::live::{LiveOptions, LiveRuntime, ViewKind, ViewSpec};
use engine::query::{Querier, QueryOptions, QueryValue};
use promql::{PromqlOptions, compile};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::model::{Labels, Matcher, TimeMs};
use storage::store::{
    BlockBackend, FloatRow, LabelledSource, SeriesSamples, Store, StoreBuilder, StoreError,
};

/// A multiple of 15 s.
const START: TimeMs = 1_700_000_010_000;

/// Empty blocks that fail to read once the flag is set.
#[derive(Default)]
struct Unreadable(AtomicBool);

impl BlockBackend for Unreadable {
    fn write(
        &self,
        _: TimeMs,
        _: TimeMs,
        _: &mut dyn Iterator<Item = Result<SeriesSamples, StoreError>>,
    ) -> Result<(), StoreError> {
        Err(StoreError::Unavailable("no disk".into()))
    }
    fn version(&self) -> u64 {
        0
    }
    fn select(&self, _: u16, _: &[Matcher], _: TimeMs, _: TimeMs) -> Result<Vec<LabelledSource>, StoreError> {
        if self.0.load(SeqCst) { Err(StoreError::Unavailable("no disk".into())) } else { Ok(Vec::new()) }
    }
    fn label_names(&self, _: &[Vec<Matcher>], _: TimeMs, _: TimeMs) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }
    fn label_values(
        &self,
        _: &str,
        _: &[Vec<Matcher>],
        _: TimeMs,
        _: TimeMs,
    ) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }
}

struct Bench {
    store: Arc<Store>,
    live: LiveRuntime,
    blocks: Arc<Unreadable>,
    metrics: Metrics,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let options = storage::store::StoreOptions {
            dir: dir.path().to_owned(),
            wal_sync_interval_ms: 100,
            block_range_ms: 7_200_000,
            out_of_order_ms: 1_800_000,
        };
        let metrics = Metrics::default();
        let blocks = Arc::new(Unreadable::default());
        let (store, _) = StoreBuilder::new(options, Arc::new(OsDisk), &metrics)
            .block_backend(Some(blocks.clone()))
            .open()
            .unwrap();
        let options = LiveOptions { workers: 1, ..LiveOptions::default() };
        let live = LiveRuntime::manual(store.clone(), &options, &metrics).unwrap();
        Bench { store, live, blocks, metrics, _dir: dir }
    }

    fn install(&self, expr: &str, kind: ViewKind) {
        let plan = compile(expr, &PromqlOptions::default()).unwrap();
        self.live.install(ViewSpec { name: expr.to_owned(), plan, kind }).unwrap();
    }

    fn without_past(&self) -> u64 {
        self.metrics.counter("perennial_views_without_past_total", "", &[]).get()
    }
}

#[test]
fn a_view_without_its_past_is_counted() {
    let bench = Bench::new();
    bench.blocks.0.store(true, SeqCst);
    bench.install("sum(up) + sum(rate(c_total[5m]))", ViewKind::NOW);
    bench.live.tick(START);
    assert_eq!(bench.without_past(), 2);
    bench.live.stop();
}

/// A view keeps its window if another view wants a longer one that cannot be read.
#[test]
fn who_stands_keeps_what_it_has() {
    let bench = Bench::new();
    let record = "count_over_time(c_total[5m])";
    let kind = ViewKind::Recorded {
        record: "n".into(),
        labels: Vec::new(),
        interval: 15_000,
        offset: 0,
        query_offset: 0,
        limit: 0,
    };
    bench.install(record, kind);
    let series =
        bench.store.get_or_create_series(&Labels::from_pairs([("__name__", "c_total"), ("job", "j")]));
    let scrape = |k: i64| {
        let t = START + k * 15_000;
        bench.store.append_rows(&[FloatRow { series, t, v: k as f64 }]).unwrap();
        bench.live.tick(t);
    };
    for step in 0..25 {
        scrape(step);
    }
    bench.blocks.0.store(true, SeqCst);
    bench.install("sum_over_time(c_total[1h])", ViewKind::NOW);
    for step in 25..30 {
        scrape(step);
    }
    assert_eq!(bench.without_past(), 1);
    bench.blocks.0.store(false, SeqCst);
    let plan = compile("n[1m]", &PromqlOptions::default()).unwrap();
    let t = START + 29 * 15_000;
    let answer = Querier::new(bench.store.clone(), 1).instant(&plan, t, &QueryOptions::default()).unwrap();
    let QueryValue::Matrix(rows) = answer.value else { panic!("not a matrix") };
    assert_eq!(rows[0].points.iter().map(|(_, v)| *v).collect::<Vec<f64>>(), [20.0; 4]);
    bench.live.stop();
}
