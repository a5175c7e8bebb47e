//! Steps of views that query the store: subqueries, fixed times (`@`), times in the future, window
//! parameters that depend on series ([`crate::plan::physical::StoreQuery`]).
//!
//! Such a step runs its query in the round of its view, on the thread of the view's owner: after
//! the recorded samples that the view reads, before the views that read its own. The answers of a
//! subquery's steps are cached ([`SubqueryCache`]), so an evaluation queries only steps that are
//! new or that late samples have changed. The history that a new view needs is read in the
//! background, before the view begins ([`HistoryReads`]).
//!
//! A query in a tick takes at most [`STORE_QUERY_TIMEOUT`]. After a timeout the views of the step
//! fail for [`STORE_QUERY_PAUSE_MS`], while the cache is filled in the background.

use super::message::InstallBatchId;
use crate::annotations::{Annotation, AnnotationTarget, StepAnnotation};
use crate::limits::{STORE_QUERY_PAUSE_MS, STORE_QUERY_TIMEOUT, STORE_READ_TIMEOUT};
use crate::memory::MemoryPool;
use crate::operators::evaluation_guard::EvaluationGuard;
use crate::operators::labelled_rows::LabelledRows;
use crate::operators::metric_names::FlaggedLabels;
use crate::operators::{EvalError, Operator, StepInput, StepOutput};
use crate::plan::Span;
use crate::plan::physical::StoreQuery;
use crate::query::pool::Pool;
use crate::query::{
    AnswerMemory, Querier, QueryAnswer, QueryError, QueryOptions, QueryValue, SampleBudget, SubqueryCache,
    SubqueryCacheReport, VectorSample,
};
use crate::types::histogram_column::Sample;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use storage::metrics::{Counter, Metrics};
use storage::model::{Labels, TimeMs};
use storage::store::Store;

/// Which install batches wait for history that their steps read.
#[derive(Default)]
pub struct HistoryReads {
    /// Ticks come by themselves, so steps read in the background; otherwise they read in the tick
    /// that evaluates them.
    in_background: AtomicBool,
    /// By install batch: how many steps are still reading.
    pending: Mutex<BTreeMap<InstallBatchId, usize>>,
}

impl HistoryReads {
    /// From now on history is read in the background.
    pub fn read_in_background(&self) {
        // Only where ticks come by themselves: a caller that makes each tick, as tests do, expects
        // the answer in the tick that it asked for.
        self.in_background.store(true, SeqCst);
    }

    /// Whether an install batch waits.
    pub fn is_pending(&self, batch: InstallBatchId) -> bool {
        self.pending.lock().contains_key(&batch)
    }

    fn begin(&self, batch: InstallBatchId) {
        *self.pending.lock().entry(batch).or_default() += 1;
    }

    fn end(&self, batch: InstallBatchId) {
        let mut pending = self.pending.lock();
        if let Some(steps) = pending.get_mut(&batch) {
            *steps -= 1;
            if *steps == 0 {
                pending.remove(&batch);
            }
        }
    }
}

/// Runs the queries of all such steps of one process.
pub struct StoreQuerier {
    querier: Querier,
    options: QueryOptions,
    budget: Arc<SampleBudget>,
    reads: Arc<HistoryReads>,
    /// The threads that read in the background.
    pool: Arc<Pool>,
    /// Called when something has been read.
    wake: Arc<dyn Fn() + Send + Sync>,
    evaluated: Arc<Counter>,
    reused: Arc<Counter>,
}

/// Settings of the queries, and what they share.
pub struct StoreQuerySettings {
    /// Limits and settings of each query.
    pub options: QueryOptions,
    /// The memory pool that all of them share.
    pub memory: Arc<MemoryPool>,
    /// Which install batches wait.
    pub reads: Arc<HistoryReads>,
    /// The threads that read in the background.
    pub pool: Arc<Pool>,
    /// Called when something has been read.
    pub wake: Arc<dyn Fn() + Send + Sync>,
}

impl StoreQuerier {
    /// Queries `store`.
    pub fn new(store: Arc<Store>, settings: StoreQuerySettings, metrics: &Metrics) -> Arc<StoreQuerier> {
        let StoreQuerySettings { options, memory, reads, pool, wake } = settings;
        let counter = |name, help| metrics.counter(name, help, &[]);
        Arc::new(StoreQuerier {
            querier: Querier::on_calling_thread(store, memory),
            options,
            budget: Arc::default(),
            reads,
            pool,
            wake,
            evaluated: counter(
                "perennial_view_subquery_steps_evaluated_total",
                "Steps of subqueries of live views that were evaluated from the store.",
            ),
            reused: counter(
                "perennial_view_subquery_steps_cached_total",
                "Steps of subqueries of live views whose answers were in the cache.",
            ),
        })
    }

    /// A step that is new in the views of `batch`, as of `now`. Its history is requested.
    pub fn step(self: &Arc<Self>, query: StoreQuery, batch: InstallBatchId, now: TimeMs) -> Arc<StoreStep> {
        let cache = Mutex::new(SubqueryCache::new(self.budget.clone()));
        let step =
            Arc::new(StoreStep { query, querier: self.clone(), cache, is_reading: AtomicBool::new(false) });
        // `now` is MIN before the first tick: then there is no time as of which to read.
        if self.reads.in_background.load(SeqCst) && now > TimeMs::MIN {
            self.reads.begin(batch);
            step.read_in_background(now, Some(batch));
        }
        step
    }
}

/// A query over the store that views evaluate again and again.
pub struct StoreStep {
    query: StoreQuery,
    querier: Arc<StoreQuerier>,
    cache: Mutex<SubqueryCache>,
    /// Its history is being read.
    is_reading: AtomicBool,
}

impl StoreStep {
    /// What its cache holds; nothing while it is in use.
    pub fn report(&self) -> SubqueryCacheReport {
        self.cache.try_lock().map(|cache| cache.report()).unwrap_or_default()
    }

    /// The operator that runs it.
    pub fn operator(self: &Arc<Self>) -> Box<dyn Operator> {
        let rows = LabelledRows::default();
        let memory = AnswerMemory::default();
        Box::new(StoreOperator { step: self.clone(), rows, memory, paused_until: TimeMs::MIN })
    }

    /// Fills the cache for an evaluation at `t`, on another thread.
    fn read_in_background(self: &Arc<Self>, t: TimeMs, batch: Option<InstallBatchId>) {
        // One read at a time: a second one would wait for the cache and then find everything in it.
        if self.is_reading.swap(true, SeqCst) {
            return;
        }
        // Weak, so that a job in the queue does not keep a removed step and its cache alive.
        let step = Arc::downgrade(self);
        let end = ReadEnd { querier: self.querier.clone(), batch };
        self.querier.pool.submit(Box::new(move || {
            // Moves it into the job: captured by reference it would be dropped outside, before the
            // read.
            let end = end;
            // The views of the step may have been removed in the meantime.
            if let Some(step) = step.upgrade() {
                if let Err(error) = step.query(t, STORE_READ_TIMEOUT, &mut step.cache.lock()) {
                    tracing::debug!(
                        target: "live::history",
                        %error,
                        "a view's query of the store has failed in the background: the next evaluation tries again"
                    );
                }
                step.is_reading.store(false, SeqCst);
            }
            drop(end);
        }));
    }

    fn query(
        &self,
        t: TimeMs,
        timeout: Duration,
        cache: &mut SubqueryCache,
    ) -> Result<QueryAnswer, QueryError> {
        let querier = &self.querier;
        let timeout = timeout.min(querier.options.timeout);
        let options = QueryOptions { timeout, is_part: true, ..querier.options.clone() };
        let before = cache.report_steps();
        // `is_part`: the rows keep their names, since steps above this one still need them.
        let answer = querier.querier.instant_cached(&self.query.plan, t - self.query.shift, &options, cache);
        let now = cache.report_steps();
        // Also after an error: the cache keeps what was evaluated before it.
        querier.evaluated.add(now.0 - before.0);
        querier.reused.add(now.1 - before.1);
        answer
    }
}

/// Reports the end of a read when it is dropped, so also after an error or a panic.
struct ReadEnd {
    querier: Arc<StoreQuerier>,
    batch: Option<InstallBatchId>,
}

impl Drop for ReadEnd {
    fn drop(&mut self) {
        if let Some(batch) = self.batch {
            self.querier.reads.end(batch);
        }
        (self.querier.wake)();
    }
}

/// The operator of such a step.
struct StoreOperator {
    step: Arc<StoreStep>,
    rows: LabelledRows,
    /// The memory that the latest answer takes from the pool.
    memory: AnswerMemory,
    /// The query is not run before this evaluation time.
    paused_until: TimeMs,
}

impl Operator for StoreOperator {
    fn eval(
        &mut self,
        _: &[StepInput],
        t: TimeMs,
        out: &mut StepOutput,
        _: &mut EvaluationGuard,
    ) -> Result<(), EvalError> {
        // The second condition: if the clock was set back, the pause would last for as long as it
        // was set back.
        let is_paused = t < self.paused_until && self.paused_until - t <= STORE_QUERY_PAUSE_MS;
        if is_paused || self.step.is_reading.load(SeqCst) {
            return Err(EvalError(format!(
                "the query took longer than {} s: what it needs of the past is being read",
                STORE_QUERY_TIMEOUT.as_secs()
            )));
        }
        let answer = self.step.query(t, STORE_QUERY_TIMEOUT, &mut self.step.cache.lock());
        let answer = answer.map_err(|error| {
            // Other errors do not get better by waiting, and cost no time.
            if matches!(error, QueryError::Timeout(_)) {
                self.paused_until = t + STORE_QUERY_PAUSE_MS;
                self.step.read_in_background(t, None);
            }
            EvalError(error.to_string())
        })?;
        let rows = match answer.value {
            QueryValue::Vector(rows) => rows.into_iter().map(row_of).collect(),
            QueryValue::Scalar(_, v) => vec![(FlaggedLabels::new(Labels::default(), false), v.into())],
            QueryValue::Text(..) | QueryValue::Matrix(_) => {
                return Err(EvalError("expected a vector".to_owned()));
            }
        };
        // Replaced only now, so that the memory of the previous answer counts while both exist.
        self.memory = answer.memory;
        self.rows.replace(out, rows);
        let parts = if answer.annotations.is_empty() {
            Vec::new()
        } else {
            crate::plan::expression_spans(&self.step.query.plan)
        };
        out.annotations.replace(
            answer.annotations.into_iter().map(|annotation| annotation_of(annotation, &parts)).collect(),
        );
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.rows.bytes() + self.step.report().bytes
    }
}

fn row_of(sample: VectorSample) -> (FlaggedLabels, Sample) {
    let labels = FlaggedLabels::new(sample.labels, sample.drops);
    (labels, sample.h.map_or(Sample::Float(sample.v), Sample::Histogram))
}

/// Views that share the step have its expression at different places of their texts. So the
/// annotation refers to one of the `parts` by number.
fn annotation_of(annotation: Annotation, parts: &[Span]) -> StepAnnotation {
    let Annotation { level, text, extent, span } = annotation;
    // A number after the last means that no position is known.
    let number = parts.iter().position(|part| *part == span).unwrap_or(parts.len());
    StepAnnotation { level, text, extent, target: AnnotationTarget::Inner(number as u32) }
}
