//! What the tests of backfill and of correction share: a store with the live runtime, the views and
//! the recording history over it, as a server has them, and rules and series for them.

use engine::live::{LiveOptions, LiveRuntime, ViewKind, ViewSpec};
use engine::query::{Querier, QueryEngine, QueryOptions};
use promql::{PromqlOptions, compile};
use std::path::Path;
use std::sync::Arc;
use storage::clock::ManualClock;
use storage::disk::OsDisk;
use storage::execution::Execution;
use storage::metrics::Metrics;
use storage::model::Labels;
use storage::store::{Store, StoreOptions};
use views::recording::{CorrectionRole, RecordingHistory, RecordingHistoryServices};
use views::scheduled::{CompositeViews, ScheduledViewServices};

/// A recording rule: name, expression, query offset, limit.
pub type RuleCase = (&'static str, &'static str, i64, usize);

/// The parts of a server that record series.
pub struct RecordingFixture {
    pub store: Arc<Store>,
    pub live: LiveRuntime,
    pub views: CompositeViews,
    pub past: Arc<RecordingHistory>,
    pub clock: Arc<ManualClock>,
}

impl RecordingFixture {
    /// Opens the data directory `dir` at the time `now`. `engine` makes what answers the queries of
    /// backfill and correction.
    pub fn open<E: QueryEngine + 'static>(
        dir: &Path,
        now: i64,
        out_of_order_ms: i64,
        engine: impl FnOnce(Querier) -> E,
    ) -> RecordingFixture {
        let options = StoreOptions {
            dir: dir.to_owned(),
            wal_sync_interval_ms: 100,
            block_range_ms: 7_200_000,
            out_of_order_ms,
        };
        let (store, replay) = Store::open(options, Arc::new(OsDisk), &Metrics::default()).unwrap();
        assert!(replay.damage.is_empty(), "{replay:?}");
        let clock = Arc::new(ManualClock::at(now));
        let live = LiveRuntime::manual(store.clone(), &LiveOptions::default(), &Metrics::default()).unwrap();
        let answers: Arc<dyn QueryEngine> = Arc::new(engine(Querier::new(store.clone(), 1)));
        let scheduled = ScheduledViewServices {
            answers: answers.clone(),
            store: store.clone(),
            clock: clock.clone(),
            options: QueryOptions::default(),
            execution: Execution::Threads,
        };
        let recording = RecordingHistoryServices {
            answers,
            store: store.clone(),
            clock: clock.clone(),
            options: QueryOptions::default(),
            disk: Arc::new(OsDisk),
            metrics: Metrics::default(),
            corrects: CorrectionRole::Alone,
            execution: Execution::Threads,
        };
        let past = RecordingHistory::start(recording, dir).unwrap();
        let views = CompositeViews::new(Arc::new(live.clone()), scheduled, &Metrics::default());
        RecordingFixture { store, live, views: views.with_history(past.clone()), past, clock }
    }

    pub fn close(self) {
        self.past.stop();
        self.live.stop();
        self.store.close().unwrap();
    }
}

/// The labels of a series: three counters, then three gauges.
pub fn labels(series: usize) -> Labels {
    let job = ["a", "a", "b"][series % 3];
    let instance = ["1", "2", "1"][series % 3];
    let name = if series < 3 { "c_total" } else { "g" };
    Labels::from_pairs([("__name__", name), ("job", job), ("instance", instance)])
}

/// The view of a rule. Its series have `team="x"`, by which tests find them.
pub fn spec(rule: &RuleCase, interval: i64) -> ViewSpec {
    let (record, expr, query_offset, limit) = *rule;
    let kind = ViewKind::Recorded {
        record: record.to_owned(),
        labels: vec![("team".to_owned(), "x".to_owned())],
        interval,
        offset: 0,
        query_offset,
        limit,
    };
    ViewSpec { name: record.to_owned(), plan: compile(expr, &PromqlOptions::default()).unwrap(), kind }
}
