//! [`LiveLeaves`]: live views of the metrics in standing statements, so that a run reads current
//! rows instead of history. Statements with the same metric and matchers share one view.
//!
//! The worker that owns a view puts its changes into a queue. An evaluation takes a [`Cut`]: the
//! rows of all its views at the latest tick that every worker has finished, so that they are of one
//! moment.

use super::leaf_rows::{LeafRows, NumberedLeafRows, RowChange};
use crate::limits::LEAF_EVENTS;
use engine::live::{LiveRuntime, NumberedRows, Sink, TapEvent, TapId, ViewId, ViewKind, ViewSpec};
use engine::plan::Plan;
use engine::plan::as_promql::as_promql;
use engine::plan::canonical::canonical;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Weak};
use storage::model::TimeMs;

/// The live views that standing statements read.
pub(crate) struct LiveLeaves {
    live: LiveRuntime,
    /// The views, by their PromQL.
    views: Mutex<HashMap<String, Weak<StatementLeaf>>>,
    /// Locked while events are taken, so that two statements do not each take a part of one tick.
    cut: Mutex<()>,
}

/// A live view, and its rows.
pub(crate) struct StatementLeaf {
    live: LiveRuntime,
    view: ViewId,
    queue: Arc<Mutex<EventQueue>>,
    tap: Mutex<TapId>,
    state: Mutex<LeafState>,
}

/// What a view has told, at the time of a tick.
enum LeafEvent {
    Rows(RowChange),
    Failed { t: TimeMs, error: String },
    Progress { t: TimeMs },
}

impl LeafEvent {
    fn time(&self) -> TimeMs {
        match self {
            LeafEvent::Rows(change) => change.t,
            LeafEvent::Failed { t, .. } | LeafEvent::Progress { t } => *t,
        }
    }
}

#[derive(Default)]
struct EventQueue {
    events: VecDeque<LeafEvent>,
    /// Whether the queue has overflowed. Then all rows are read again.
    is_full: bool,
}

#[derive(Default)]
struct LeafState {
    rows: NumberedLeafRows,
    /// Whether the view has its first result.
    is_ready: bool,
    error: Option<String>,
}

/// The rows of several views at the same moment.
pub(crate) struct Cut {
    /// The time of the newest finished tick.
    pub(crate) t: TimeMs,
    /// In the order of the views.
    pub(crate) rows: Vec<Arc<LeafRows>>,
}

/// Why there are no rows.
pub(crate) enum NoCut {
    /// A view has no answer yet.
    NotReady,
    /// The evaluation of a view failed.
    Failed(String),
}

impl fmt::Debug for LiveLeaves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LiveLeaves")
    }
}

impl fmt::Debug for StatementLeaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatementLeaf").field("view", &self.view).finish_non_exhaustive()
    }
}

/// What a plan is called.
pub(crate) fn leaf_name(plan: &Plan) -> String {
    as_promql(&canonical(plan))
}

impl LiveLeaves {
    pub(crate) fn new(live: LiveRuntime) -> LiveLeaves {
        LiveLeaves { live, views: Mutex::default(), cut: Mutex::default() }
    }

    /// The view of a plan; `None`: it cannot be a live view.
    pub(crate) fn leaf(&self, plan: &Plan) -> Option<Arc<StatementLeaf>> {
        let plan = canonical(plan);
        let name = as_promql(&plan);
        let mut views = self.views.lock();
        if let Some(leaf) = views.get(&name).and_then(Weak::upgrade) {
            return Some(leaf);
        }
        let spec = ViewSpec { name: format!("part of a statement: {name}"), plan, kind: ViewKind::NOW };
        let view = self.live.install(spec).ok()?;
        let queue: Arc<Mutex<EventQueue>> = Arc::default();
        let tap = Mutex::new(self.live.tap(view, Box::new(LeafSink { queue: queue.clone(), labelled: 0 })));
        let leaf = StatementLeaf { live: self.live.clone(), view, queue, tap, state: Mutex::default() };
        let leaf = Arc::new(leaf);
        views.retain(|_, leaf| leaf.strong_count() > 0);
        views.insert(name, Arc::downgrade(&leaf));
        Some(leaf)
    }

    /// The rows of these views as of the newest finished tick.
    pub(crate) fn cut(&self, leaves: &[Arc<StatementLeaf>]) -> Result<Cut, NoCut> {
        let _one_at_a_time = self.cut.lock();
        let t = self.live.finished_tick().ok_or(NoCut::NotReady)?;
        let rows = leaves.iter().map(|leaf| leaf.advance(t)).collect::<Result<Vec<_>, NoCut>>()?;
        Ok(Cut { t, rows })
    }
}

impl Drop for StatementLeaf {
    fn drop(&mut self) {
        self.live.remove(self.view);
    }
}

impl StatementLeaf {
    /// Takes the events of the ticks up to `t`.
    fn advance(&self, t: TimeMs) -> Result<Arc<LeafRows>, NoCut> {
        let mut state = self.state.lock();
        let events = self.drain(t, &mut state);
        for event in events {
            match event {
                LeafEvent::Rows(change) => {
                    state.is_ready |= change.is_whole;
                    state.rows.apply(change);
                }
                LeafEvent::Failed { error, .. } => state.error = Some(error),
                LeafEvent::Progress { .. } => state.error = None,
            }
        }
        match (&state.error, state.is_ready) {
            (Some(error), _) => Err(NoCut::Failed(error.clone())),
            (None, true) => Ok(state.rows.rows()),
            (None, false) => Err(NoCut::NotReady),
        }
    }

    /// Removes the events of the ticks up to `t` from the queue.
    fn drain(&self, t: TimeMs, state: &mut LeafState) -> Vec<LeafEvent> {
        let mut queue = self.queue.lock();
        if queue.is_full {
            // The sink has ended; a new one gets all rows.
            *queue = EventQueue::default();
            drop(queue);
            state.is_ready = false;
            let sink = Box::new(LeafSink { queue: self.queue.clone(), labelled: 0 });
            self.live.untap(std::mem::replace(&mut *self.tap.lock(), self.live.tap(self.view, sink)));
            return Vec::new();
        }
        // Up to the last of these ticks. Times ascend, unless the clock was set back.
        let last = queue.events.iter().rposition(|event| event.time() <= t);
        last.map_or_else(Vec::new, |last| queue.events.drain(..=last).collect())
    }
}

/// The sink of a live view, which puts its events into the queue.
struct LeafSink {
    queue: Arc<Mutex<EventQueue>>,
    /// So many numbers of rows have their labels in the queue.
    labelled: usize,
}

impl LeafSink {
    fn put(&self, event: LeafEvent) -> bool {
        let mut queue = self.queue.lock();
        if queue.events.len() >= LEAF_EVENTS {
            // The queue is full: the statement is not being evaluated.
            queue.events.clear();
            queue.is_full = true;
            return false;
        }
        queue.events.push_back(event);
        true
    }
}

impl Sink for LeafSink {
    fn push(&mut self, event: TapEvent) -> bool {
        match event {
            TapEvent::Failed { t, error } => self.put(LeafEvent::Failed { t, error }),
            TapEvent::Progress { t } => self.put(LeafEvent::Progress { t }),
            // Rows come by their numbers.
            TapEvent::Snapshot { .. } | TapEvent::Delta { .. } | TapEvent::Annotations { .. } => true,
        }
    }

    fn wants_annotations(&self) -> bool {
        false
    }

    fn takes_numbers(&self) -> bool {
        true
    }

    fn push_rows(&mut self, rows: &NumberedRows<'_>) -> bool {
        if rows.is_whole {
            self.labelled = 0;
        }
        let change = RowChange::new(rows, self.labelled);
        self.labelled = rows.labels.len();
        self.put(LeafEvent::Rows(change))
    }
}
