//! Rules with subqueries are recorded at their evaluation times: as views of the live runtime, and
//! in a cluster as scheduled views.

use engine::live::{LiveOptions, LiveRuntime, Sink, TapEvent, ViewId, ViewKind, ViewSpec};
use engine::query::{Querier, QueryOptions};
use promql::{PromqlOptions, compile};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};
use storage::clock::Clock;
use storage::disk::OsDisk;
use storage::execution::Execution;
use storage::metrics::Metrics;
use storage::model::{Labels, Matcher, TimeMs};
use storage::store::{FloatRow, Store, StoreOptions};
use views::ViewRegistry;
use views::scheduled::{CompositeViews, ScheduledViewServices};

struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> TimeMs {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis()
            as TimeMs
    }
}

struct ProgressCounter(Arc<AtomicUsize>);

impl Sink for ProgressCounter {
    fn push(&mut self, event: TapEvent) -> bool {
        if matches!(event, TapEvent::Progress { .. }) {
            self.0.fetch_add(1, SeqCst);
        }
        true
    }
}

#[test]
fn a_rule_over_a_subquery_stands_and_is_recorded() {
    is_recorded(|views| views, true);
}

#[test]
fn in_a_cluster_it_is_asked_and_recorded() {
    is_recorded(CompositeViews::in_cluster, false);
}

fn is_recorded(placed: impl Fn(CompositeViews) -> CompositeViews, stands: bool) {
    let dir = tempfile::tempdir().expect("a directory");
    let metrics = Metrics::default();
    let options = StoreOptions {
        dir: dir.path().to_owned(),
        wal_sync_interval_ms: 100,
        block_range_ms: 7_200_000,
        out_of_order_ms: 60_000,
    };
    let (store, _) = Store::open(options, Arc::new(OsDisk), &metrics).expect("a store");
    let (clock, begun): (Arc<dyn Clock>, _) = (Arc::new(SystemClock), SystemClock.now());
    let series = store.get_or_create_series(&Labels::from_pairs([("__name__", "up"), ("job", "a")]));
    let rows: Vec<FloatRow> = (0..10).map(|i| FloatRow { series, t: begun - i * 1_000, v: 2.0 }).collect();
    store.append_rows(&rows).expect("appended");

    let live =
        LiveRuntime::start(store.clone(), clock.clone(), LiveOptions::default(), &metrics).expect("live");
    let answers = Arc::new(Querier::new(store.clone(), 1));
    let options = QueryOptions::default();
    let execution = Execution::Threads;
    let history = ScheduledViewServices { answers, store: store.clone(), clock, options, execution };
    let views = placed(CompositeViews::new(Arc::new(live), history, &metrics));
    let plan = compile("max_over_time(sum(up)[10s:1s])", &PromqlOptions::default()).expect("a plan");
    let kind = ViewKind::Recorded {
        record: "most".to_owned(),
        labels: vec![("rule".to_owned(), "asked".to_owned())],
        interval: 500,
        offset: 0,
        query_offset: 0,
        limit: 0,
    };
    let view = views.install(ViewSpec { name: "most".to_owned(), plan, kind }).expect("asked");
    let heard = Arc::new(AtomicUsize::new(0));
    views.tap(view, Box::new(ProgressCounter(heard.clone())));

    let until = Instant::now() + Duration::from_secs(20);
    while heard.load(SeqCst) < 2 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    let page = views.describe(ViewId(0), 10).expect("described");
    let [shown] = &page.views[..] else { panic!("{page:?}") };
    assert_eq!((shown.id, shown.answer.taps, shown.answer.rows, page.total), (view, 1, 1, 1));
    assert_eq!(shown.work.is_some(), stands);
    assert!(
        shown.subquery_cache.is_some_and(|cache| cache.steps > 0)
            && shown.answer.changed.is_some_and(|t| t % 500 == 0),
        "{shown:?}"
    );
    views.remove(view);
    assert_eq!(views.describe(ViewId(0), 10).expect("described").total, 0);
    let most = [Matcher::equal("__name__", "most")];
    let found = store.newest().floats(&most, begun, TimeMs::MAX).expect("read");
    assert_eq!(found.len(), 1, "after {} evaluations", heard.load(SeqCst));
    let (labels, t, _) = &found[0];
    assert_eq!(*labels, Labels::from_pairs([("__name__", "most"), ("rule", "asked")]));
    let selection = store.select(storage::model::shard_of(labels), &most, begun, TimeMs::MAX).expect("read");
    let mut ts = Vec::new();
    let mut vs = Vec::new();
    selection.read(0, begun, TimeMs::MAX, &mut ts, &mut vs).expect("read");
    assert_eq!((ts[0] % 500, vs[0]), (0, 2.0));
    assert!(ts.len() >= 2 && *t >= ts[1]);
}
