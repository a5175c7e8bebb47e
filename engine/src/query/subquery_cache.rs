//! Caches the rows of subqueries from one query to the next, for an expression that is evaluated
//! again and again.
//!
//! The steps of a subquery are multiples of its step, so a query needs the same steps as the
//! previous one, except for the newest. A [`SubqueryCache`] holds the answers of the subquery's
//! plan at these steps ([`super::cached_subquery`]), with the version of the store that they saw.
//! The next query evaluates only new steps, and those that can see a sample that changed since
//! ([`super::visibility`]).
//!
//! The answer is the same as that of [`Querier::instant`]. Two things differ: for cached steps only
//! the rows count as samples, not the samples they were computed from; and annotations that several
//! steps have in common stay until the last of these steps has left the window.
//!
//! Not cached: everything in a cluster, because changes of the other stores are not known; plans
//! that differ from query to query (`@ end()`); plans whose answer at a step depends on other steps
//! ([`super::step_independence`]); what does not fit into the [`SampleBudget`]. A subquery inside a
//! subquery is evaluated completely, at the steps of the outer one that are not cached.

use super::cached_subquery::CachedSubquery;
use super::guard::{POINT_BYTES, QueryGuard};
use super::query_run::TimeGrid;
use super::subquery::fix_times;
use super::subquery_rows::{SubqueryRows, rows_of};
use super::{Querier, QueryAnswer, QueryError, QueryOptions, Series};
use crate::annotations::AnnotationSet;
use crate::limits::SUBQUERY_CACHE_SAMPLES;
use crate::plan::Plan;
use crate::plan::physical::Subquery;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use storage::model::TimeMs;
use storage::store::ChangedSince;

/// The number of cached samples, of all caches that share it.
#[derive(Debug, Default)]
pub struct SampleBudget(AtomicUsize);

/// The cached rows of the subqueries of one expression. All queries that use it must have the same
/// options.
#[derive(Debug, Default)]
pub struct SubqueryCache {
    budget: Arc<SampleBudget>,
    /// In the order in which a query evaluates the subqueries.
    entries: Vec<CachedSubquery>,
    /// Index of the subquery that the current query evaluates next.
    next: usize,
    evaluated: u64,
    reused: u64,
}

/// What a [`SubqueryCache`] holds, and how often it was used.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct SubqueryCacheReport {
    /// Cached steps.
    pub steps: usize,
    /// Rows of the cached steps.
    pub rows: usize,
    /// Bytes of these rows, without labels and native histograms.
    pub bytes: usize,
    /// Steps that were evaluated so far.
    pub evaluated: u64,
    /// Steps that were found in the cache so far.
    pub reused: u64,
}

impl SubqueryCacheReport {
    /// Adds the numbers of another report.
    pub fn add(&mut self, other: SubqueryCacheReport) {
        self.steps += other.steps;
        self.rows += other.rows;
        self.bytes += other.bytes;
        self.evaluated += other.evaluated;
        self.reused += other.reused;
    }
}

impl Querier {
    /// Like [`Querier::instant`], with the cache of the expression.
    pub fn instant_cached(
        &self,
        plan: &Plan,
        t: TimeMs,
        options: &QueryOptions,
        cache: &mut SubqueryCache,
    ) -> Result<QueryAnswer, QueryError> {
        cache.next = 0;
        let cache = self.peers.is_none().then_some(cache);
        self.at_one_time(plan, t, options, cache)
    }

    /// The rows that the windows of a subquery need in a query over `outer`.
    pub(super) fn rows(
        &self,
        subquery: &Subquery,
        outer: TimeGrid,
        options: &QueryOptions,
        guard: &Arc<QueryGuard>,
        annotations: &mut AnnotationSet,
        cache: Option<&mut SubqueryCache>,
    ) -> Result<SubqueryRows, QueryError> {
        let grid = subquery.grid(outer, options.default_step);
        let input = fix_times(&subquery.input, outer.start, outer.end);
        let Some((cache, at)) =
            cache.and_then(|cache| cache.find(input, grid, options).map(|at| (cache, at)))
        else {
            return self
                .subquery(subquery, outer, options, guard, annotations)
                .map(|rows| Arc::new(rows_of(rows)));
        };
        // Taken before any read and before the changes are determined: what is appended in between
        // counts as changed next time.
        let version = self.store.changes().version();
        let cached = &mut cache.entries[at];
        let changed = cached
            .seen_version
            .as_ref()
            .map_or(ChangedSince::Everything, |seen| self.store.changes().samples_since(seen));
        cached.forget_changed(changed);
        let missing = cached.missing(grid);
        if !missing.is_empty() {
            let mut inner = self.guarded(&cached.input, true, missing, options, guard, None)?;
            let inner_annotations = inner.take_annotations();
            cached.add_answers(missing, inner.merged()?, inner_annotations);
        }
        cached.seen_version = Some(version);
        cached.add_annotations(grid, annotations);
        let rows = cached.rows.clone();
        cache.evaluated += missing.len() as u64;
        cache.reused += (grid.len() - missing.len()) as u64;
        let held = guard
            .check_answer_size(cached.samples())
            .or_else(|_| guard.check_answer_size(cached.samples_from(grid.start)));
        if held.is_err() {
            cached.forget();
        }
        cache.enforce_budget(at);
        held.map(|()| rows)
    }

    /// The answers of a subquery's plan that its windows need in a query over `outer`.
    pub(super) fn subquery(
        &self,
        subquery: &Subquery,
        outer: TimeGrid,
        options: &QueryOptions,
        guard: &Arc<QueryGuard>,
        annotations: &mut AnnotationSet,
    ) -> Result<Vec<Series>, QueryError> {
        let grid = subquery.grid(outer, options.default_step);
        // Without steps there must be no error either, even if the plan would be rejected.
        if grid.is_empty() {
            return Ok(Vec::new());
        }
        let input = fix_times(&subquery.input, outer.start, outer.end);
        let mut inner = self.guarded(&input, true, grid, options, guard, None)?;
        annotations.extend(inner.take_annotations());
        inner.merged()
    }
}

impl SubqueryCache {
    /// A cache that shares `budget` with others.
    pub fn new(budget: Arc<SampleBudget>) -> SubqueryCache {
        SubqueryCache { budget, entries: Vec::new(), next: 0, evaluated: 0, reused: 0 }
    }

    /// The current contents.
    pub fn report(&self) -> SubqueryCacheReport {
        let SubqueryCache { entries: cached, evaluated: asked, reused, .. } = self;
        let rows = || cached.iter().flat_map(|cached| cached.rows.iter());
        SubqueryCacheReport {
            steps: cached.iter().map(CachedSubquery::steps).sum(),
            rows: rows().count(),
            bytes: rows().map(|row| row.bytes()).sum(),
            evaluated: *asked,
            reused: *reused,
        }
    }

    /// Steps evaluated so far, and steps found in the cache so far.
    pub(crate) fn report_steps(&self) -> (u64, u64) {
        (self.evaluated, self.reused)
    }

    /// The index of the subquery that the query evaluates now; `None`: it is not cached.
    fn find(&mut self, input: Plan, grid: TimeGrid, options: &QueryOptions) -> Option<usize> {
        let at = self.next;
        self.next += 1;
        if self.entries.len() <= at {
            self.entries.push(CachedSubquery::new(input.clone(), grid.step, options));
        }
        let cached = &mut self.entries[at];
        if cached.input != input || cached.step != grid.step {
            // The plan differs from query to query.
            cached.keeps = false;
            cached.forget();
            self.enforce_budget(at);
        }
        (self.entries[at].keeps && !grid.is_empty()).then_some(at)
    }

    /// Counts the samples of a subquery in the budget, and drops them if all caches together have
    /// too many.
    fn enforce_budget(&mut self, at: usize) {
        let cached = &mut self.entries[at];
        let SampleBudget(all) = &*self.budget;
        all.fetch_sub(cached.counted, Relaxed);
        cached.counted = cached.samples() + cached.label_bytes() / POINT_BYTES;
        if all.fetch_add(cached.counted, Relaxed) + cached.counted > SUBQUERY_CACHE_SAMPLES {
            cached.forget();
            all.fetch_sub(std::mem::take(&mut cached.counted), Relaxed);
        }
    }
}

impl Drop for SubqueryCache {
    fn drop(&mut self) {
        let counted = self.entries.iter().map(|cached| cached.counted).sum();
        self.budget.0.fetch_sub(counted, Relaxed);
    }
}
