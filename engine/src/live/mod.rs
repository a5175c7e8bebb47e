//! The live runtime: keeps the answers of *views* current. A view is a plan that is evaluated again
//! and again: a rule, an alert, a subscription. [`runtime`] is the handle for the rest of the
//! process; read it first, then [`dataflow`], [`local`] and [`gather`].
//!
//! The words of this folder:
//!
//! - A *tick* is one evaluation of all views that are due. It has *rounds*, so that rules which
//!   read recorded series come after the rules that record them. A *preparation* is work between
//!   ticks for views that are being installed. [`tick_driver`] decides when a tick is due.
//! - A *shard* is a fixed share of the series of a process (by a hash of their labels); each worker
//!   thread owns some shards. A *series slot* is the store's number of a series in its shard.
//! - A plan is a list of *steps* (operators) in two stages. The *local stage* runs where the
//!   samples are, once per shard; the *gather stage* merges its rows in one worker, the *owner* of
//!   the view. A *leaf* is a step that reads samples; a *port* is a local step whose rows go to the
//!   gather stage.
//! - A *ring* has the recent samples of one selector in one shard. All leaves over the selector
//!   read the same ring.
//! - A *row* is one series of a step's output. It keeps its number while the step exists.
//! - A *tap* is a consumer of a view's answers, a *sink* the code that receives them.
//! - An *install batch* is a set of views that begin in the same tick.
//!
//! All views are computed in one timely dataflow whose graph never changes ([`dataflow`]); **rules
//! are data, not dataflows**. In each worker a [`local`] executor computes the local stage of every
//! view over the [`ring`]s of its shards, a [`gather`] executor finishes the views that the worker
//! owns, and [`recorder`]s and [`taps`] pass the answers on. [`views`] is the table of views, equal
//! in all workers. [`describe`] reports what views consist of, [`cost`] what they cost.

pub mod check;
mod circular_matrix;
pub mod column_extras;
mod control;
mod control_queue;
pub mod cost;
pub mod dataflow;
pub mod describe;
mod error;
#[cfg(debug_assertions)]
#[doc(hidden)]
pub mod fault;
pub mod gather;
pub mod leaf;
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
mod sweep_clock;
pub mod taps;
pub mod tick_driver;
pub mod time;
pub mod topology;
pub mod views;

pub use error::{StartError, ViewError};
pub use runtime::LiveRuntime;

use crate::annotations::Annotation;
use crate::limits::QUERIES_BYTES;
use crate::limits::{SPILL_CHUNK_MS, SPILL_MIN_AGE_MS};
use crate::memory::{MemoryPool, ViewMemory};
use crate::plan::physical::StoreQueries;
use crate::plan::{Dialect, Plan, ValueType};
use crate::query::QueryOptions;
use crate::types::histogram_column::{HistogramColumn, Sample, SampleRef};
use std::sync::Arc;
use storage::execution::Execution;
use storage::model::value::ABSENT;
use storage::model::{Labels, TimeMs};

/// Identity of a view; unique for the life of the process.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct ViewId(pub u64);

/// Identity of a consumer of a view's answers.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct TapId(pub u64);

/// The settings of a live runtime.
#[derive(Clone, Debug)]
pub struct LiveOptions {
    /// Number of timely workers; each is a thread.
    pub workers: usize,
    /// How far back an instant selector looks, in ms.
    pub lookback_ms: i64,
    /// Which optional meanings of the query language are on.
    pub dialect: Dialect,
    /// The longest time between two ticks, in ms, even if no samples arrive.
    pub idle_tick_ms: i64,
    /// How long samples are collected before they cause a tick, in ms.
    pub coalesce_ms: i64,
    /// Which samples of long windows stay in memory.
    pub spill: SpillOptions,
    /// Limit of the memory of labels that views create.
    pub memory: ViewMemory,
    /// Limits and settings of the queries by which views read the store. Lookback and dialect are
    /// those above.
    pub queries: QueryOptions,
    /// The memory pool that all these queries share.
    pub query_memory: Arc<MemoryPool>,
    /// Who does the work: worker threads, or the caller, with one worker on the thread that started
    /// the runtime.
    pub execution: Execution,
}

/// Settings for *spilling*: of a long window, the samples between its two ends leave memory,
/// because the store has them. See [`ring::spilled`].
#[derive(Copy, Clone, Debug)]
pub struct SpillOptions {
    /// Samples younger than this stay in memory, in ms: late samples may still be inserted among
    /// them.
    pub min_age_ms: i64,
    /// Samples are removed and read back in chunks of this length, in ms.
    pub chunk_ms: i64,
}

impl Default for SpillOptions {
    fn default() -> Self {
        SpillOptions { min_age_ms: SPILL_MIN_AGE_MS, chunk_ms: SPILL_CHUNK_MS }
    }
}

impl Default for LiveOptions {
    fn default() -> Self {
        LiveOptions {
            workers: 2,
            lookback_ms: 300_000,
            dialect: Dialect::default(),
            idle_tick_ms: 1_000,
            coalesce_ms: 20,
            spill: SpillOptions::default(),
            memory: ViewMemory::default(),
            queries: QueryOptions::default(),
            query_memory: MemoryPool::for_queries(QUERIES_BYTES),
            execution: Execution::Threads,
        }
    }
}

/// A plan to keep current, as callers install it.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct ViewSpec {
    /// A name for people: the rule's name or the query text.
    pub name: String,
    /// What is kept current.
    pub plan: Plan,
    /// When it is evaluated and where the answer goes.
    pub kind: ViewKind,
}

/// Whether a plan can be a view; the error says why not. [`LiveRuntime::install`] makes the same
/// checks.
pub fn check(view: &ViewSpec, dialect: Dialect, queries: StoreQueries) -> Result<(), ViewError> {
    // The kind first: physical plans of strings and range vectors do not exist, and their error
    // would say less.
    check_kind(view)?;
    views::physical_of(view, dialect, queries).map(drop).map_err(|e| ViewError::Unsupported(e.0))
}

fn check_kind(view: &ViewSpec) -> Result<(), ViewError> {
    match view.plan.kind() {
        ValueType::Scalar | ValueType::Vector => Ok(()),
        _ => Err(ViewError::Unsupported("only an instant vector or a scalar can stand".to_owned())),
    }
}

/// When a view is evaluated and where the answer goes.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub enum ViewKind {
    /// At every tick at which the answer may have changed; the answer goes to the view's taps
    /// (alerts, subscriptions).
    Continuous {
        /// The view is evaluated this much in the past, in ms.
        query_offset: i64,
    },
    /// At the evaluation times `k * interval + offset`; the answer is recorded as series, and goes
    /// to the view's taps.
    Recorded {
        /// The metric name of the recorded series.
        record: String,
        /// Labels that are set on the recorded series; an empty value removes a label.
        labels: Vec<(String, String)>,
        /// Time between evaluations, in ms.
        interval: i64,
        /// Offset of the evaluation times, in ms, `0..interval`.
        offset: i64,
        /// The rule is evaluated this much in the past, in ms.
        query_offset: i64,
        /// The most series that the answer may have; 0: no limit. With more, the evaluation fails.
        limit: usize,
    },
}

impl ViewKind {
    /// Continuous, evaluated at the current time.
    pub const NOW: ViewKind = ViewKind::Continuous { query_offset: 0 };
}

/// One row of an answer.
pub type LabelledSample = (Labels, Sample);

/// What a tap receives. For each label set the events are in order of time, exactly once, without
/// gaps; one event per tick.
#[derive(Clone, Debug, PartialEq)]
pub enum TapEvent {
    /// The whole answer at `t`: always the first event, and sent again when the runtime had to
    /// restart the view.
    Snapshot {
        /// Time of the tick.
        t: TimeMs,
        /// All rows.
        rows: Vec<LabelledSample>,
    },
    /// What changed at `t`.
    Delta {
        /// Time of the tick.
        t: TimeMs,
        /// From when on the change holds: the time of the earliest sample behind it, or when an
        /// answer expired. At most `t`. Answers that were sent for times from here on are not those
        /// of a query for these times.
        since: TimeMs,
        /// Rows that are new or have another value.
        upsert: Vec<LabelledSample>,
        /// Labels of the rows that no longer exist.
        remove: Vec<Labels>,
    },
    /// The answer is complete as of `t`. Sent with every change, and about once a second while
    /// nothing changes.
    Progress {
        /// Time of the tick.
        t: TimeMs,
    },
    /// The annotations of the answer from now on; an empty list removes the previous ones.
    Annotations {
        /// Time of the tick.
        t: TimeMs,
        /// Warnings first.
        annotations: Vec<Annotation>,
    },
    /// The evaluation at `t` failed; the answer has not changed.
    Failed {
        /// Time of the tick.
        t: TimeMs,
        /// The text that a query would fail with.
        error: String,
    },
}

impl TapEvent {
    /// Time of the tick.
    pub fn time(&self) -> TimeMs {
        match self {
            TapEvent::Snapshot { t, .. }
            | TapEvent::Delta { t, .. }
            | TapEvent::Progress { t }
            | TapEvent::Annotations { t, .. }
            | TapEvent::Failed { t, .. } => *t,
        }
    }
}

/// A consumer of a view.
///
/// # Contract
/// 1. [`Sink::push`] is called by the worker that owns the view, within a tick or a preparation. It
///    must put the event into a queue and return: while it does not, no view is updated. Calling
///    `tick`, `describe` or `read` of the runtime from it never returns.
/// 2. The first event is a `Snapshot`, or `Failed` if no evaluation has succeeded yet; then the
///    `Snapshot` follows later. A further `Snapshot` replaces everything that came before it: rows
///    were rebuilt, or the view was replaced.
/// 3. A tick sends at most one event of each kind, in the order `Snapshot` or `Delta`,
///    `Annotations`, `Failed`, `Progress`. No label set is both in `upsert` and in `remove` of a
///    `Delta`. *Checked:* `live_equals_scratch`, whose consumers apply the events in order.
/// 4. Times ascend, except when the clock was set back. `Failed` leaves the answer as it was.
///    `Progress` comes with every change, and at least every
///    [`PROGRESS_MS`](crate::limits::PROGRESS_MS) of ticks while evaluations succeed.
/// 5. If `push` returns `false`, the sink is dropped and gets nothing more.
/// 6. The result of [`Sink::wants_annotations`] never changes: it is read when the sink is
///    attached.
pub trait Sink: Send {
    /// Receives one event. `false`: the consumer has ended and wants no more events.
    fn push(&mut self, event: TapEvent) -> bool;

    /// Whether the consumer uses [`TapEvent::Annotations`]. If no consumer of a view does, the
    /// annotations are not computed.
    fn wants_annotations(&self) -> bool {
        true
    }

    /// Whether the consumer keeps rows by their numbers: then it gets [`Sink::push_rows`] in the
    /// place of `Snapshot` and `Delta`. The result never changes.
    fn takes_numbers(&self) -> bool {
        false
    }

    /// Receives the rows that [`TapEvent::Snapshot`] or [`TapEvent::Delta`] would have. The same
    /// contract holds.
    fn push_rows(&mut self, _rows: &NumberedRows<'_>) -> bool {
        true
    }
}

/// Rows of a view that came or changed in a tick, by their numbers. Labels are those of a number
/// until the next event with `is_whole`, so a change of many values copies no labels.
#[derive(Copy, Clone, Debug)]
pub struct NumberedRows<'a> {
    /// Time of the tick.
    pub t: TimeMs,
    /// Whether these are all rows. Their numbers are new, and those from before mean nothing.
    pub is_whole: bool,
    /// The labels of all numbers that were given so far, also of rows that are gone. Of two numbers
    /// with the same labels at most one has a sample.
    pub labels: &'a [Labels],
    /// The numbers of the rows that changed.
    pub changed: &'a [u32],
    values: &'a [f64],
    histograms: &'a HistogramColumn,
}

impl NumberedRows<'_> {
    /// The sample of a number; absent if the row is gone.
    #[inline]
    pub fn sample(&self, number: u32) -> SampleRef<'_> {
        let row = number as usize;
        self.histograms.cell(row, self.values.get(row).copied().unwrap_or(ABSENT))
    }
}
