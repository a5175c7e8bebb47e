//! The query runtime: evaluates a plan over stored history, at one time or at the times of a range.
//!
//! It uses the same operators as the live runtime ([`crate::operators`]), step after step of the
//! range. The local stage of the plan (what each shard, a fixed share of the series, computes from
//! its own series) is divided into pieces, one shard by one *block of steps*, which are some
//! consecutive evaluation times ([`shard_evaluator`]). The pieces run on threads of low priority so
//! that ticks come first ([`pool`]). Every piece checks cancellation, deadline and limits
//! ([`guard`]). [`query_run`] gathers the pieces into the answer. In a cluster, other processes run
//! the pieces of their series ([`peers`]). [`Querier`] is the entry point.

mod block_aggregate;
mod cached_subquery;
mod float_windows;
mod fold_times;
pub mod guard;
pub mod leaf;
mod mixed_windows;
pub mod peers;
pub mod pool;
mod query_engine;
pub mod query_run;
mod range_selector;
mod remote_stores;
mod result;
mod scalar_params;
mod series_catalog;
pub mod shard_evaluator;
mod step_independence;
mod subquery;
mod subquery_cache;
mod subquery_rows;
#[cfg(test)]
mod tests;
mod value_block;
mod visibility;

pub use fold_times::{depends_on_first_step, depends_on_query_times};
pub use query_engine::{QueryEngine, StandingAnswer, StandingTimes};
pub use remote_stores::{RemoteAnswer, RemoteSelection, RemoteStores};
pub use series_catalog::{SeriesCatalog, count_labels, count_sample};
pub use subquery_cache::{SampleBudget, SubqueryCache, SubqueryCacheReport};
pub use visibility::{SelectorVisibility, visibilities};

use crate::annotations::{Annotation, AnnotationSet};
use crate::functions::QueryTimes;
use crate::limits::{QUERIES_BYTES, QUERY_BYTES, SERIES_BYTES, SUBQUERY_STEPS};
use crate::memory::{MemoryExhausted, MemoryPool, MemoryReservation};
use crate::plan::physical::{PhysicalPlan, StepId, Subquery};
use crate::plan::{Dialect, Plan, PlanOp, Selector, ValueType};
use guard::QueryGuard;
pub use guard::SampleStats;
use peers::client::PeerQuery;
use peers::{PeerTask, QueryPeers};
use pool::QueryPools;
use query_run::TimeGrid;
use remote_stores::HistorySource;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;
use storage::model::{Labels, NativeHistogram, SHARDS, TimeMs};
use storage::store::{ErrorClass, Store, StoreError};

/// Limits and settings of one query.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QueryOptions {
    /// How far back an instant selector looks, in ms.
    pub lookback: i64,
    /// Step of subqueries without a step, in ms.
    pub default_step: i64,
    /// The most samples that the query may hold in memory.
    pub max_samples: usize,
    /// The most bytes of values, labels and answer that the query may hold in memory.
    pub max_bytes: usize,
    /// The most time that the query may take.
    pub timeout: Duration,
    /// Which optional meanings of the query language are on.
    pub dialect: Dialect,
    /// Whether samples are also counted for each step.
    pub step_stats: bool,
    /// The plan is a part of a view's plan: with delayed names, the rows of the answer still have
    /// the names that they lose in the end.
    pub is_part: bool,
    /// Set when the client is gone: the query stops soon after.
    #[serde(skip)]
    pub cancel: Arc<AtomicBool>,
    /// Counts the samples that the query has read so far, for whoever watches it.
    #[serde(skip)]
    pub samples_read: Arc<AtomicUsize>,
}

impl Default for QueryOptions {
    fn default() -> Self {
        QueryOptions {
            lookback: 300_000,
            default_step: 60_000,
            max_samples: crate::limits::QUERY_SAMPLES,
            max_bytes: QUERY_BYTES,
            timeout: Duration::from_secs(120),
            dialect: Dialect::default(),
            step_stats: false,
            is_part: false,
            cancel: Arc::default(),
            samples_read: Arc::default(),
        }
    }
}

/// Why a query has no answer. The texts are those of Prometheus.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the variants are the errorTypes of the API")]
pub enum QueryError {
    #[error("{0}")]
    BadData(String),
    #[error("{0}")]
    Execution(String),
    #[error("{0}")]
    Timeout(String),
    #[error("{0}")]
    Canceled(String),
    #[error("{0}")]
    Internal(String),
    /// The query, or all that are at work, would hold too much in memory: a smaller one, or the
    /// same later, may be answered.
    #[error("{0}")]
    LimitReached(String),
    /// The store, or another process, does not answer now; the same query may be answered later.
    #[error("{0}")]
    Unavailable(String),
}

impl From<StoreError> for QueryError {
    fn from(error: StoreError) -> QueryError {
        let text = error.to_string();
        match error.class() {
            ErrorClass::Invalid => QueryError::BadData(text),
            ErrorClass::LimitReached => QueryError::LimitReached(text),
            ErrorClass::Unavailable | ErrorClass::Closed => QueryError::Unavailable(text),
            ErrorClass::Conflict | ErrorClass::Damaged | ErrorClass::Io => QueryError::Internal(text),
        }
    }
}

impl From<MemoryExhausted> for QueryError {
    fn from(error: MemoryExhausted) -> QueryError {
        QueryError::LimitReached(error.to_string())
    }
}

/// The answer of a query.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryAnswer {
    /// The rows, or the scalar or text.
    pub value: QueryValue,
    /// Warnings and notes for the user, as Prometheus words them.
    pub annotations: Vec<Annotation>,
    /// The samples that were read.
    pub samples: SampleStats,
    /// The memory that the answer takes from the pool of all queries.
    pub memory: AnswerMemory,
}

/// The memory that an answer takes. It counts until the answer and all copies of this are dropped.
#[derive(Clone, Debug, Default)]
pub struct AnswerMemory(Option<Arc<MemoryReservation>>);

impl AnswerMemory {
    /// The number of bytes, approximately.
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |memory| memory.size())
    }
}

/// All are equal, so that answers are compared without their memory.
impl PartialEq for AnswerMemory {
    fn eq(&self, _: &AnswerMemory) -> bool {
        true
    }
}

/// One sample of a vector.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorSample {
    /// The labels of the row.
    pub labels: Labels,
    /// The evaluation time.
    pub t: TimeMs,
    /// The value; [`storage::model::value::HISTOGRAM`] if `h` has it.
    pub v: f64,
    /// The native histogram, if the value is one.
    pub h: Option<Arc<NativeHistogram>>,
    /// The metric name, type and unit are dropped in the end; only in answers of parts
    /// ([`QueryOptions::is_part`]).
    pub drops: bool,
}

/// One series of a matrix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// The labels of the series.
    pub labels: Labels,
    /// The floats, in order of time.
    pub points: Vec<(TimeMs, f64)>,
    /// The native histograms, in order of time; never at the time of a float.
    pub histograms: Vec<(TimeMs, Arc<NativeHistogram>)>,
    /// As [`VectorSample::drops`], in parts and subqueries. Not sent between processes, which never
    /// need it.
    #[serde(skip)]
    pub drops: bool,
}

/// The result of a query.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the variants are the resultTypes of the API")]
pub enum QueryValue {
    Scalar(TimeMs, f64),
    Text(TimeMs, String),
    Vector(Vec<VectorSample>),
    Matrix(Vec<Series>),
}

/// Answers queries over the store. All methods block, so async code must call them on a blocking
/// thread.
///
/// ```
/// use engine::plan::{Plan, PlanNode, PlanOp, Selector, Span};
/// use engine::query::{Querier, QueryOptions, QueryValue};
/// use std::sync::Arc;
/// use storage::model::{Labels, Matcher};
/// use storage::store::{FloatRow, Store, StoreOptions};
///
/// let dir = tempfile::tempdir().unwrap();
/// let options = StoreOptions {
///     dir: dir.path().to_owned(),
///     wal_sync_interval_ms: 100,
///     block_range_ms: 7_200_000,
///     out_of_order_ms: 0,
/// };
/// let disk = Arc::new(storage::disk::OsDisk);
/// let (store, _) = Store::open(options, disk, &storage::metrics::Metrics::default()).unwrap();
/// let series = store.get_or_create_series(&Labels::from_pairs([("__name__", "up")]));
/// store.append_rows(&[FloatRow { series, t: 1_000, v: 1.0 }]).unwrap();
///
/// // `up`, as the front end of a query language would make it.
/// let matchers = vec![Matcher::equal("__name__", "up")];
/// let selector = Selector { matchers, offset: 0, at: None, extension: None };
/// let plan: Plan = Arc::new(PlanNode { op: PlanOp::Instant(selector), span: Span::default() });
///
/// let querier = Querier::new(store, 1);
/// let answer = querier.instant(&plan, 60_000, &QueryOptions::default()).unwrap();
/// let QueryValue::Vector(rows) = answer.value else { panic!("a selector has a vector") };
/// assert_eq!((rows.len(), rows[0].v), (1, 1.0));
/// ```
pub struct Querier {
    store: Arc<Store>,
    pools: Arc<QueryPools>,
    /// The other processes of the cluster.
    peers: Option<Arc<dyn QueryPeers>>,
    /// The stores of other servers.
    remote: Option<Arc<dyn RemoteStores>>,
    /// The memory pool of all queries together.
    memory: Arc<MemoryPool>,
}

impl Querier {
    /// A querier over `store` with `threads` worker threads.
    pub fn new(store: Arc<Store>, threads: usize) -> Querier {
        let memory = MemoryPool::for_queries(QUERIES_BYTES);
        Querier { store, pools: Arc::new(QueryPools::new(threads)), peers: None, remote: None, memory }
    }

    /// A querier without threads: callers do the work on their own threads.
    pub fn on_calling_thread(store: Arc<Store>, memory: Arc<MemoryPool>) -> Querier {
        let pools = Arc::new(QueryPools::on_calling_thread());
        Querier { store, pools, peers: None, remote: None, memory }
    }

    /// Uses this memory pool for all queries together.
    #[must_use]
    pub fn with_memory(self, memory: Arc<MemoryPool>) -> Querier {
        Querier { memory, ..self }
    }

    /// Includes the series of other processes.
    #[must_use]
    pub fn with_peers(self, peers: Arc<dyn QueryPeers>) -> Querier {
        Querier { peers: Some(peers), ..self }
    }

    /// A querier with the same threads that also reads the stores of other servers. Not in a
    /// cluster: a series of theirs may be one of another process.
    #[must_use]
    pub fn with_remote_stores(&self, remote: Arc<dyn RemoteStores>) -> Querier {
        Querier {
            store: self.store.clone(),
            pools: self.pools.clone(),
            peers: self.peers.clone(),
            remote: Some(remote).filter(|_| self.peers.is_none()),
            memory: self.memory.clone(),
        }
    }

    /// The answer at time `t`.
    pub fn instant(&self, plan: &Plan, t: TimeMs, options: &QueryOptions) -> Result<QueryAnswer, QueryError> {
        let _span = tracing::debug_span!(target: "query", "instant", t).entered();
        self.at_one_time(plan, t, options, None)
    }

    /// The answer at time `t`, with the cache for its subqueries.
    fn at_one_time(
        &self,
        plan: &Plan,
        t: TimeMs,
        options: &QueryOptions,
        cache: Option<&mut SubqueryCache>,
    ) -> Result<QueryAnswer, QueryError> {
        // Before everything else, so that peers and subqueries, which have other grids, get these
        // times as numbers.
        let plan = &fold_times::fold_query_times(plan, QueryTimes::instant(t));
        match &plan.op {
            PlanOp::Text(text) => {
                // A string needs no plan of steps. Still it is checked whether the client is gone.
                let guard = QueryGuard::within(options, &self.memory);
                guard.check()?;
                Ok(QueryAnswer::new(QueryValue::Text(t, text.clone()), AnnotationSet::default(), &guard))
            }
            PlanOp::Range { selector, range } => {
                self.samples_of(selector, *range, t, options, &QueryGuard::within(options, &self.memory))
            }
            PlanOp::Subquery { input, range, step, offset, at } => {
                let subquery =
                    Subquery { input: input.clone(), range: *range, step: *step, offset: *offset, at: *at };
                let guard = Arc::new(QueryGuard::within(options, &self.memory));
                let mut annotations = AnnotationSet::default();
                let grid = TimeGrid { start: t, end: t, step: 1 };
                let mut rows = self.subquery(&subquery, grid, options, &guard, &mut annotations)?;
                // Outside of a query an operator drops the names. Here the subquery is the whole
                // query, and two of its rows may become one series.
                if rows.iter().any(|row| row.drops) {
                    for series in &mut rows {
                        series.drop_name();
                    }
                    rows = result::merged(rows, &guard)?;
                }
                Ok(QueryAnswer::new(QueryValue::Matrix(rows), annotations, &guard))
            }
            _ => self.run(plan, TimeGrid { start: t, end: t, step: 1 }, options, cache)?.instant(t),
        }
    }

    /// The answers at `start, start + step, … ≤ end`, as a matrix.
    pub fn range(
        &self,
        plan: &Plan,
        start: TimeMs,
        end: TimeMs,
        step: i64,
        options: &QueryOptions,
    ) -> Result<QueryAnswer, QueryError> {
        // Prometheus rejects these before it evaluates anything, with this text.
        if let Some(kind) = match plan.kind() {
            ValueType::Matrix => Some("range vector"),
            ValueType::Text => Some("string"),
            ValueType::Scalar | ValueType::Vector => None,
        } {
            let text =
                format!("invalid expression type {kind:?} for range query, must be Scalar or instant Vector");
            return Err(QueryError::BadData(text));
        }
        let plan = fold_times::fold_query_times(plan, QueryTimes { start, end, step });
        self.run(&plan, TimeGrid { start, end, step: step.max(1) }, options, None)?.range()
    }

    fn run(
        &self,
        plan: &Plan,
        grid: TimeGrid,
        options: &QueryOptions,
        cache: Option<&mut SubqueryCache>,
    ) -> Result<result::QueryResult, QueryError> {
        self.guarded(plan, false, grid, options, &Arc::new(QueryGuard::within(options, &self.memory)), cache)
    }

    /// The samples of a selector in the `range` ms up to `t`.
    fn samples_of(
        &self,
        selector: &Selector,
        range: i64,
        t: TimeMs,
        options: &QueryOptions,
        guard: &QueryGuard,
    ) -> Result<QueryAnswer, QueryError> {
        guard.check()?;
        // Peers are asked first and answered last, so that they read while this process reads.
        let task = || PeerTask::Samples { selector: selector.clone(), range, t };
        let mut peers = self.ask_peers(task, options, guard)?;
        let selection = range_selector::RangeSelection::new(selector, range, t, options);
        let mut annotations = AnnotationSet::default();
        let history = self.history(|| selection.remote_selections(), guard, &mut annotations)?;
        let mut rows = Vec::new();
        for shard in 0..SHARDS {
            guard.check()?;
            // On the caller's thread: raw samples are limited by the size of the answer, not by
            // computing.
            rows.extend(selection.shard_samples(&history, shard, guard)?);
        }
        rows.extend(peers.series(guard)?);
        annotations.extend(peers.end(guard)?);
        Ok(QueryAnswer::new(QueryValue::Matrix(result::merged(rows, guard)?), annotations, guard))
    }

    /// What leaves read: the own store, and what the stores of other servers answer to `asked`.
    fn history(
        &self,
        asked: impl FnOnce() -> Vec<(StepId, RemoteSelection)>,
        guard: &QueryGuard,
        annotations: &mut AnnotationSet,
    ) -> Result<HistorySource, QueryError> {
        let history = HistorySource::from_store(self.store.clone());
        match &self.remote {
            None => Ok(history),
            Some(remote) => history.with_remote(&**remote, asked(), guard, annotations),
        }
    }

    /// Sends a task to the other processes.
    fn ask_peers(
        &self,
        task: impl FnOnce() -> PeerTask,
        options: &QueryOptions,
        guard: &QueryGuard,
    ) -> Result<PeerQuery, QueryError> {
        let peers = self.peers.as_deref();
        peers.map_or_else(|| Ok(PeerQuery::default()), |peers| PeerQuery::new(peers, task(), options, guard))
    }

    /// Runs a plan, after its subqueries and the scalars that depend on series. The samples that a
    /// subquery reads are counted separately; the windows over its rows count here. `inner`: the
    /// plan is itself the input of a subquery.
    fn guarded(
        &self,
        plan: &Plan,
        inner: bool,
        grid: TimeGrid,
        options: &QueryOptions,
        guard: &Arc<QueryGuard>,
        mut cache: Option<&mut SubqueryCache>,
    ) -> Result<result::QueryResult, QueryError> {
        // Prometheus evaluates some parameters only at the first step of a range.
        let plan = &fold_times::pin_parameters(plan, grid.start);
        // Only the outermost plan of a part keeps names: within a subquery the names are dropped as
        // in any query.
        let physical = if options.is_part && !inner {
            PhysicalPlan::for_part(plan, options.dialect)
        } else {
            PhysicalPlan::for_history(plan, inner, options.dialect)
        };
        let physical = physical.map_err(|e| QueryError::Execution(e.0))?;
        tracing::debug!(
            target: "query",
            steps = grid.len(),
            local = physical.local.len(),
            gather = physical.gather.len(),
            subqueries = physical.subqueries.len(),
            "a plan is evaluated"
        );
        let mut annotations = AnnotationSet::default();
        if grid.start != grid.end {
            // `sort()` has no effect in a range query, since the answer is a matrix.
            fold_times::warn_of_sorting(plan, &mut annotations);
        }
        let windows = physical.subqueries.len() + physical.scalar_params.len();
        if windows > 0 && grid.len() > SUBQUERY_STEPS {
            // The end of the window of each step is kept in memory, even if there are no samples.
            return Err(guard::too_many());
        }
        let mut rows = Vec::new();
        for subquery in &physical.subqueries {
            // A guard of its own, since the samples of a subquery are not those that the outer
            // query reads. Deadline and memory are shared.
            let inner = Arc::new(guard.inner());
            let before = guard.subquery_samples();
            let size_before = guard.memory().size();
            let found = self.rows(subquery, grid, options, &inner, &mut annotations, cache.as_deref_mut())?;
            // In this order: first forget what the inner evaluation held, then count the rows that
            // remain. The other way round the limit would count both.
            guard.release_subquery_samples(before);
            guard.memory().shrink_to(size_before);
            guard.grow(found.iter().map(|row| row.bytes() + row.labels.encoded().len()).sum())?;
            guard.hold_subquery_samples(found.iter().map(|row| row.ts.len() + row.histograms.len()).sum())?;
            guard.merge_peak(&inner);
            rows.push(found);
            // Windows are counted before they are evaluated, so that a subquery with too many
            // samples fails at once.
            rows.last().map_or(Ok(()), |rows| subquery::count_windows(subquery, grid, rows, guard))?;
        }
        let mut scalar_params = Vec::new();
        for plan in &physical.scalar_params {
            let size_before = guard.memory().size();
            // A scalar that depends on series must be known before the local stage begins, in every
            // shard. So it is a query of its own.
            let mut inner = self.guarded(plan, inner, grid, options, guard, cache.as_deref_mut())?;
            annotations.extend(inner.take_annotations());
            scalar_params.push(inner.scalars(grid));
            guard.memory().shrink_to(size_before);
            guard.grow(grid.len() * size_of::<f64>())?;
        }
        let task =
            || PeerTask::Steps { plan: plan.clone(), inner, grid, scalar_params: scalar_params.clone() };
        let asked = || remote_stores::selections(&physical, grid, options);
        let history = self.history(asked, guard, &mut annotations)?;
        let run = query_run::QueryRun::new(history, physical, grid, options, rows, scalar_params.clone());
        // A query of constants needs no other process, and so works while one is away.
        let peers =
            if run.reads_series() { self.ask_peers(task, options, guard)? } else { PeerQuery::default() };
        run.execute(&self.pools, guard, peers, annotations)
    }
}

impl QueryAnswer {
    /// The answer of a complete query. From now on only the answer counts as memory.
    fn new(value: QueryValue, annotations: AnnotationSet, guard: &QueryGuard) -> QueryAnswer {
        // The reservation of the query is handed over to the answer: it counts until the answer has
        // been written out.
        guard.memory().shrink_to(value.bytes());
        let memory = AnswerMemory(Some(guard.memory().clone()));
        QueryAnswer { value, annotations: annotations.into_list(), samples: guard.samples(), memory }
    }
}

impl Series {
    /// A series of floats.
    pub fn from_floats(labels: Labels, points: Vec<(TimeMs, f64)>) -> Series {
        Series { labels, points, histograms: Vec::new(), drops: false }
    }

    /// Loses what describes the metric, if it is to.
    fn drop_name(&mut self) {
        if std::mem::take(&mut self.drops) {
            self.labels = self.labels.without_metric_labels();
        }
    }

    /// Bytes of memory, about.
    fn bytes(&self) -> usize {
        let histograms = self.histograms.iter().map(|(_, h)| guard::histogram_bytes(h)).sum::<usize>();
        SERIES_BYTES + self.labels.encoded().len() + self.points.len() * guard::POINT_BYTES + histograms
    }
}

impl QueryValue {
    /// Bytes of memory, about.
    fn bytes(&self) -> usize {
        let sample = |sample: &VectorSample| {
            let histogram = sample.h.as_deref().map_or(0, guard::histogram_bytes);
            SERIES_BYTES + sample.labels.encoded().len() + histogram
        };
        match self {
            QueryValue::Scalar(..) => 0,
            QueryValue::Text(_, text) => text.len(),
            QueryValue::Vector(samples) => samples.iter().map(sample).sum(),
            QueryValue::Matrix(series) => series.iter().map(Series::bytes).sum(),
        }
    }
}
