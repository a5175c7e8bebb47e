//! The check of a view is decided in a cluster as in one process: by what all shards of all
//! processes say of the samples that arrived in between.

use super::{START, Server, history};
use engine::live::ViewId;
use engine::live::check::EvaluationCause;
use engine::plan::Plan;
use engine::query::{Querier, QueryAnswer, QueryEngine, QueryError, QueryOptions};
use engine::types::histogram_column::Sample;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use std::time::Duration;
use storage::model::{Labels, TimeMs, shard_of};
use storage::store::{ColumnBatch, ColumnLayout, FloatRow, Store};
use views::check::{CheckOutcome, ViewCheck, check_view};

/// The view that is checked.
const EXPRESSION: &str = "c_gauge > scalar(avg(c_gauge))";
/// A target whose samples are in the second process.
const TARGET: usize = 1;
/// Large enough to be in the answer.
const LARGE: f64 = 1e6;

fn labels() -> Labels {
    let instance = format!("host{TARGET}");
    Labels::from_pairs([("__name__", "c_gauge"), ("job", "j"), ("instance", &instance), ("series", "s0")])
}

/// Stores a sample of which the live runtime hears nothing, like a defect of it.
fn append_unheard(store: &Store, t: TimeMs) {
    let slots = vec![store.get_or_create_series(&labels()).slot];
    let group = store.open_group("unheard", shard_of(&labels()));
    let layout = Arc::new(ColumnLayout { slots });
    store.recorder().record(&ColumnBatch { group, layout, t, values: vec![LARGE].into() }).unwrap();
}

/// Answers like a querier; before each answer a sample comes to the second process.
struct RacingQuerier<'a> {
    querier: &'a Querier,
    store: &'a Store,
    value: AtomicI64,
}

impl QueryEngine for RacingQuerier<'_> {
    fn instant(&self, plan: &Plan, t: TimeMs, options: &QueryOptions) -> Result<QueryAnswer, QueryError> {
        let series = self.store.get_or_create_series(&labels());
        let v = LARGE + self.value.fetch_add(1, SeqCst) as f64;
        self.store.append_rows(&[FloatRow { series, t, v }]).unwrap();
        self.querier.instant(plan, t, options)
    }

    fn range(
        &self,
        plan: &Plan,
        start: TimeMs,
        end: TimeMs,
        step: i64,
        options: &QueryOptions,
    ) -> Result<QueryAnswer, QueryError> {
        self.querier.range(plan, start, end, step, options)
    }
}

/// Runs `work` while process 0 ticks.
fn while_ticking<T>(server: &Server, now: &AtomicI64, work: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(SeqCst) {
                server.lives[0].tick(now.fetch_add(10, SeqCst) + 10);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let result = work();
        stop.store(true, SeqCst);
        result
    })
}

#[test]
fn a_difference_is_decided_in_a_cluster() {
    let mut cluster = Server::new(2, 2);
    for target in 0..4 {
        let values = [100 + target as u8, 110, 120 + target as u8, 130, 140, 150];
        cluster.scrape(target, &values, &[1.0; 6], START);
    }
    let now = AtomicI64::new(START);
    cluster.lives[0].tick(START);
    let id = cluster.views.iter().find(|(text, ..)| text == EXPRESSION).expect("installed").1;
    let queriers = history::queriers(&cluster);
    let check = |history: &dyn QueryEngine, id: ViewId| -> ViewCheck {
        let check = check_view(&cluster.lives[0], history, id, &QueryOptions::default());
        check.expect("checked").expect("a view")
    };
    while_ticking(&cluster, &now, || {
        assert_eq!(check(&*queriers[0], id).outcome, CheckOutcome::Same);

        // Samples that come in between are no difference: each attempt meets one.
        let racing =
            RacingQuerier { querier: &queriers[0], store: &cluster.stores[1], value: AtomicI64::new(0) };
        let unsettled = check(&racing, id);
        assert_eq!(unsettled.outcome, CheckOutcome::Unsettled, "{unsettled:?}");
        assert_eq!(unsettled.attempts, views::limits::CHECK_ATTEMPTS);
        assert_eq!(check(&*queriers[0], id).outcome, CheckOutcome::Same);

        append_unheard(&cluster.stores[1], now.load(SeqCst) + 1);
        let differs = check(&*queriers[0], id);
        assert_eq!(differs.outcome, CheckOutcome::Differs, "{differs:?}");
        let row = differs.difference.first.iter().find(|row| row.labels == labels()).expect("the row");
        assert_eq!(row.history, Some(Sample::Float(LARGE)));
        // The other process says why its series was evaluated.
        let [last, ..] = &row.evaluations[..] else { panic!("{differs:?}") };
        assert_eq!((&last.series, last.cause), (&labels(), EvaluationCause::Sample));
    });
    cluster.stop();
}
