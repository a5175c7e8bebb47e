//! The live runtime: plans that stand, kept current by one timely dataflow.

use crate::plan::Plan;
use std::sync::Arc;
use storage::clock::Clock;
use storage::metrics::Metrics;
use storage::model::{Labels, TimeMs};
use storage::store::Store;

/// Identity of a standing plan.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct ViewId(pub u64);

/// Identity of a consumer of a view.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct TapId(pub u64);

/// How the live runtime is started.
#[derive(Clone, Debug)]
pub struct LiveOptions {
    /// Timely workers (threads).
    pub workers: usize,
    /// How far back an instant selector looks, ms.
    pub lookback: i64,
    /// A tick at least this often, ms, even if nothing arrives.
    pub idle_tick: i64,
    /// Arrivals are gathered this long before they make a tick, ms.
    pub coalesce: i64,
}

impl Default for LiveOptions {
    fn default() -> Self {
        LiveOptions { workers: 2, lookback: 300_000, idle_tick: 1_000, coalesce: 20 }
    }
}

/// A plan to be kept standing.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct ViewSpec {
    /// A name for people: the rule's name or the query text.
    pub name: String,
    /// The question.
    pub plan: Plan,
    /// When it is answered and where the answer goes.
    pub kind: ViewKind,
}

/// When a view is answered and where its answer goes.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub enum ViewKind {
    /// At every tick at which it may have changed; the answer goes to its taps (alerts, subscriptions).
    Continuous,
    /// At its slots `k * interval + offset`; the answer is recorded as series, and goes to its taps.
    Recorded {
        /// The metric name of the recorded series.
        record: String,
        /// Labels set on them (an empty value removes).
        labels: Vec<(String, String)>,
        /// Distance of slots, ms.
        interval: i64,
        /// Offset of slots, ms, `0..interval`.
        offset: i64,
        /// The rule is evaluated this much in the past, ms.
        query_offset: i64,
        /// Most series it may give; 0: no limit. Beyond it the evaluation fails.
        limit: usize,
    },
}

/// What a tap is told. Per key and time: in order, once, no gap; one event per tick.
#[derive(Clone, Debug, PartialEq)]
pub enum TapEvent {
    /// The whole answer at `t`; always first.
    Snapshot {
        /// The tick.
        t: TimeMs,
        /// All rows.
        rows: Vec<(Labels, f64)>,
    },
    /// What changed at `t`.
    Delta {
        /// The tick.
        t: TimeMs,
        /// Rows that are new or have another value.
        upsert: Vec<(Labels, f64)>,
        /// Rows that are gone.
        remove: Vec<Labels>,
    },
    /// The answer is complete as of `t` (sent for every tick the view took part in, after its delta if it has one).
    Progress {
        /// The tick.
        t: TimeMs,
    },
    /// The evaluation at `t` failed; the answer is what it was.
    Failed {
        /// The tick.
        t: TimeMs,
        /// Why.
        error: String,
    },
}

/// A consumer of a view. Called on a worker's thread: must queue and return.
pub trait Sink: Send {
    /// Takes one event; `false`: the consumer is gone and wants no more.
    fn push(&mut self, event: TapEvent) -> bool;
}

/// The handle of the running live runtime. Cheap to clone.
#[derive(Clone)]
pub struct Live {}

impl Live {
    /// Starts the workers and the tick driver, and makes the runtime the store's feed.
    pub fn start(
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        options: LiveOptions,
        metrics: &Metrics,
    ) -> Result<Live, String> {
        let _ = (store, clock, options, metrics);
        unimplemented!()
    }

    /// Installs a view; it is full and current from the next tick on.
    /// Fails if the plan cannot stand (a matrix, a string).
    pub fn install(&self, view: ViewSpec) -> Result<ViewId, String> {
        let _ = view;
        unimplemented!()
    }

    /// Removes a view and its taps. A recorded view's series end with stale markers.
    pub fn remove(&self, view: ViewId) {
        let _ = view;
        unimplemented!()
    }

    /// Attaches a consumer: a snapshot at the next tick, then changes.
    pub fn tap(&self, view: ViewId, sink: Box<dyn Sink>) -> TapId {
        let _ = (view, sink);
        unimplemented!()
    }

    /// Detaches a consumer.
    pub fn untap(&self, tap: TapId) {
        let _ = tap;
        unimplemented!()
    }

    /// Finishes the running tick and stops the workers.
    pub fn stop(&self) {
        unimplemented!()
    }
}
