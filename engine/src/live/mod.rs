//! The live runtime: plans that stand, kept current by one timely dataflow.
//!
//! **Rules are data, not dataflows.** The graph is fixed ([`dataflow`]): a [`local`] host per
//! worker computes the local stage of every view over the [`ring`]s of its shards, a [`gather`]
//! host finishes the views it owns, [`recorder`]s and [`taps`]s their answers. [`views`] is the
//! table that all workers agree on, [`tick_driver`] decides when it ticks, [`runtime`] is what the
//! rest of the house holds, [`describe`] what views say of themselves, [`cost`] what they cost.

mod circular_matrix;
pub mod column_extras;
mod control_queue;
pub mod cost;
pub mod dataflow;
pub mod describe;
pub mod gather;
pub mod leaf;
mod leaf_annotations;
pub mod links;
pub mod local;
pub mod message;
pub mod recorder;
pub mod ring;
#[cfg(test)]
mod rows_touched;
pub mod runtime;
pub mod sample_queue;
pub mod step_graph;
mod store_query;
pub mod taps;
pub mod tick_driver;
pub mod time;
pub mod topology;
pub mod views;

pub use runtime::LiveRuntime;

use crate::annotations::Annotation;
use crate::limits::QUERIES_BYTES;
use crate::limits::{SPILL_CHUNK_MS, SPILL_NEAR_MS};
use crate::memory::{MemoryPool, ViewMemory};
use crate::plan::physical::StoreQueries;
use crate::plan::{Dialect, Plan, ValueType};
use crate::query::QueryOptions;
use crate::types::histogram_column::Sample;
use std::sync::Arc;
use storage::execution::Execution;
use storage::model::{Labels, TimeMs};

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
    /// Variants of the language's meaning.
    pub dialect: Dialect,
    /// A tick at least this often, ms, even if nothing arrives.
    pub idle_tick: i64,
    /// Arrivals are gathered this long before they make a tick, ms.
    pub coalesce: i64,
    /// What long windows keep in memory.
    pub spill: SpillOptions,
    /// What views may hold of labels that they make.
    pub memory: ViewMemory,
    /// Limits and settings of the queries that steps of views ask the store; lookback and dialect
    /// are those of here.
    pub queries: QueryOptions,
    /// What these queries together may hold.
    pub query_memory: Arc<MemoryPool>,
    /// Who works. Callers have one worker, on the thread that started the runtime.
    pub hands: Execution,
}

/// Samples between the ends of a long window are given away, as the store has them.
#[derive(Copy, Clone, Debug)]
pub struct SpillOptions {
    /// Samples that are younger stay, ms: late ones still come among them.
    pub near: i64,
    /// They go, and come back, in stretches of time of this length, ms.
    pub chunk: i64,
}

impl Default for SpillOptions {
    fn default() -> Self {
        SpillOptions { near: SPILL_NEAR_MS, chunk: SPILL_CHUNK_MS }
    }
}

impl Default for LiveOptions {
    fn default() -> Self {
        LiveOptions {
            workers: 2,
            lookback: 300_000,
            dialect: Dialect::default(),
            idle_tick: 1_000,
            coalesce: 20,
            spill: SpillOptions::default(),
            memory: ViewMemory::default(),
            queries: QueryOptions::default(),
            query_memory: MemoryPool::of_queries(QUERIES_BYTES),
            hands: Execution::Threads,
        }
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

/// Whether a view can stand; the error says why not. [`LiveRuntime::install`] refuses the same.
pub fn check(view: &ViewSpec, dialect: Dialect, queries: StoreQueries) -> Result<(), String> {
    check_kind(view)?;
    views::physical_of(view, dialect, queries).map(drop).map_err(|e| e.0)
}

fn check_kind(view: &ViewSpec) -> Result<(), String> {
    match view.plan.kind() {
        ValueType::Scalar | ValueType::Vector => Ok(()),
        _ => Err("only an instant vector or a scalar can stand".to_owned()),
    }
}

/// When a view is answered and where its answer goes.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub enum ViewKind {
    /// At every tick at which it may have changed; the answer goes to its taps (alerts, subscriptions).
    Continuous {
        /// It is evaluated this much in the past, ms.
        query_offset: i64,
    },
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

impl ViewKind {
    /// Continuous, and about now.
    pub const NOW: ViewKind = ViewKind::Continuous { query_offset: 0 };
}

/// One row of an answer.
pub type LabelledSample = (Labels, Sample);

/// What a tap is told. Per key and time: in order, once, no gap; one event per tick.
#[derive(Clone, Debug, PartialEq)]
pub enum TapEvent {
    /// The whole answer at `t`: always first, and again where the runtime had to start anew.
    Snapshot {
        /// The tick.
        t: TimeMs,
        /// All rows.
        rows: Vec<LabelledSample>,
    },
    /// What changed at `t`.
    Delta {
        /// The tick.
        t: TimeMs,
        /// Rows that are new or have another value.
        upsert: Vec<LabelledSample>,
        /// Rows that are gone.
        remove: Vec<Labels>,
    },
    /// The answer is complete as of `t`: sent with every change, and while nothing changes about
    /// once a second.
    Progress {
        /// The tick.
        t: TimeMs,
    },
    /// From now on the answer should be read with these; none: with nothing.
    Notes {
        /// The tick.
        t: TimeMs,
        /// Warnings first.
        notes: Vec<Annotation>,
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

    /// Whether [`TapEvent::Notes`] is of use to it: where nobody wants them, they are not worked out.
    fn wants_notes(&self) -> bool {
        true
    }
}
