//! Subscriptions to what cannot stand yet: subqueries, a fixed `@` time, negative offsets.
//!
//! Such an expression is asked from history once a second and what changed is pushed, with the same events as a
//! standing view. It costs a query a second and a subscriber, so the client is told (`"standing":false`); whatever
//! can stand does, and goes to the live runtime behind [`AskedViews`].

use super::super::limits::ASK_EVERY;
use super::super::sources::Answers;
use crate::views::Views;
use engine::live::{Sink, TapEvent, TapId, ViewId, ViewSpec, check};
use engine::plan::Plan;
use engine::query::{QueryError, QueryOptions, Value};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use storage::clock::Clock;
use storage::model::{Labels, TimeMs};

/// Ids from here on are ours, not the live runtime's.
const FIRST: u64 = 1 << 63;

/// The live runtime's views, and those that are asked for.
pub struct AskedViews {
    live: Arc<dyn Views>,
    history: Arc<History>,
    next: AtomicU64,
    plans: Mutex<HashMap<ViewId, Plan>>,
    taps: Mutex<HashMap<TapId, Arc<AtomicBool>>>,
}

/// What a poller needs.
struct History {
    answers: Arc<dyn Answers>,
    clock: Arc<dyn Clock>,
    options: QueryOptions,
}

impl AskedViews {
    /// In front of `live`; the rest is asked of `answers` with these options.
    pub fn new(
        live: Arc<dyn Views>,
        answers: Arc<dyn Answers>,
        clock: Arc<dyn Clock>,
        options: QueryOptions,
    ) -> AskedViews {
        AskedViews {
            live,
            history: Arc::new(History { answers, clock, options }),
            next: AtomicU64::new(FIRST),
            plans: Mutex::default(),
            taps: Mutex::default(),
        }
    }
}

impl Views for AskedViews {
    fn install(&self, view: ViewSpec) -> Result<ViewId, String> {
        if check(&view).is_ok() {
            return self.live.install(view);
        }
        // One answer now tells whether it can be asked at all.
        self.history.rows(&view.plan, self.history.clock.now()).map_err(|e| e.to_string())?;
        let id = ViewId(self.next.fetch_add(1, Relaxed));
        self.plans.lock().insert(id, view.plan);
        Ok(id)
    }

    fn remove(&self, view: ViewId) {
        if self.plans.lock().remove(&view).is_none() {
            self.live.remove(view);
        }
    }

    fn tap(&self, view: ViewId, sink: Box<dyn Sink>) -> TapId {
        let Some(plan) = self.plans.lock().get(&view).cloned() else { return self.live.tap(view, sink) };
        let id = TapId(self.next.fetch_add(1, Relaxed));
        let ended = Arc::new(AtomicBool::new(false));
        self.taps.lock().insert(id, ended.clone());
        let poller = Poller { history: self.history.clone(), plan, sink, shown: None, ended };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(poll(poller))),
            Err(_) => tracing::debug!("a subscription outside of the runtime is not asked for"),
        }
        id
    }

    fn untap(&self, tap: TapId) {
        match self.taps.lock().remove(&tap) {
            Some(ended) => ended.store(true, Relaxed),
            None => self.live.untap(tap),
        }
    }
}

impl History {
    fn rows(&self, plan: &Plan, t: TimeMs) -> Result<BTreeMap<Labels, f64>, QueryError> {
        match self.answers.instant(plan, t, &self.options)?.value {
            Value::Vector(rows) => Ok(rows.into_iter().map(|row| (row.labels, row.v)).collect()),
            Value::Scalar(_, v) => Ok(BTreeMap::from([(Labels::default(), v)])),
            _ => Err(QueryError::BadData("must be Scalar or instant Vector".to_owned())),
        }
    }
}

/// One subscriber of one asked view.
struct Poller {
    history: Arc<History>,
    plan: Plan,
    sink: Box<dyn Sink>,
    /// What the subscriber has; `None` before the snapshot.
    shown: Option<BTreeMap<Labels, f64>>,
    ended: Arc<AtomicBool>,
}

async fn poll(mut poller: Poller) {
    let mut second = tokio::time::interval(ASK_EVERY);
    second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        second.tick().await;
        // Queries block; one that panics ends the subscription.
        let step = tokio::task::spawn_blocking(move || poller.step().then_some(poller));
        match step.await {
            Ok(Some(next)) => poller = next,
            _ => return,
        }
    }
}

impl Poller {
    /// Asks once and tells what changed; `false`: nobody listens any more.
    fn step(&mut self) -> bool {
        let t = self.history.clock.now();
        if self.ended.load(Relaxed) {
            return false;
        }
        let rows = match self.history.rows(&self.plan, t) {
            Ok(rows) => rows,
            Err(error) => return self.sink.push(TapEvent::Failed { t, error: error.to_string() }),
        };
        let news = match &self.shown {
            None => Some(TapEvent::Snapshot { t, rows: rows.iter().map(|(l, v)| (l.clone(), *v)).collect() }),
            Some(shown) => delta(t, shown, &rows),
        };
        self.shown = Some(rows);
        news.into_iter().chain([TapEvent::Progress { t }]).all(|event| self.sink.push(event))
    }
}

fn delta(t: TimeMs, shown: &BTreeMap<Labels, f64>, rows: &BTreeMap<Labels, f64>) -> Option<TapEvent> {
    let news =
        |(labels, v): &(&Labels, &f64)| shown.get(*labels).is_none_or(|old| old.to_bits() != v.to_bits());
    let upsert: Vec<(Labels, f64)> = rows.iter().filter(news).map(|(l, v)| (l.clone(), *v)).collect();
    let remove: Vec<Labels> = shown.keys().filter(|labels| !rows.contains_key(*labels)).cloned().collect();
    (!upsert.is_empty() || !remove.is_empty()).then_some(TapEvent::Delta { t, upsert, remove })
}
