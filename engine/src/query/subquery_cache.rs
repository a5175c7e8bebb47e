//! Rows of subqueries that stay from one question to the next, for an expression that is asked
//! again and again.
//!
//! The steps of a subquery are multiples of its step, so those of one question are, but for the
//! newest, those of the question before. A [`SubqueryCache`] holds the answers of the subquery's
//! plan there ([`super::cached_subquery`]), and a mark of what the store had when they were asked
//! for. The next question asks the plan at the steps that are new, and from the first one on that
//! can see something that changed since ([`super::visibility`]).
//!
//! The answer is that of [`Querier::instant`]. What differs is how it is counted and remarked: of
//! what was not asked for again only the rows count, not the samples behind them; and remarks that
//! several steps got together stay until the last of these has left the window.
//!
//! Asked for whole each time: all in a cluster, whose other stores nobody watches; plans that
//! differ from question to question (`@ end()`); plans whose answer at a step hangs on the others
//! ([`super::step_independence`]); what does not fit into the [`SampleBudget`]. A subquery inside a
//! subquery is asked for whole, at the steps of the outer one that are asked for.

use super::cached_subquery::CachedSubquery;
use super::guard::{POINT_BYTES, QueryGuard};
use super::query_run::TimeGrid;
use super::subquery::fix_times;
use super::subquery_rows::{SubqueryRows, rows_of};
use super::{Querier, QueryAnswer, QueryError, QueryOptions, Series};
use crate::annotations::AnnotationSet;
use crate::limits::KEPT_SAMPLES;
use crate::plan::Plan;
use crate::plan::physical::Subquery;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use storage::model::TimeMs;
use storage::store::ChangedSince;

/// How many samples are kept, by all who share it.
#[derive(Debug, Default)]
pub struct SampleBudget(AtomicUsize);

/// What stays of the subqueries of one expression. Each question of it has to come with the same options.
#[derive(Debug, Default)]
pub struct SubqueryCache {
    budget: Arc<SampleBudget>,
    /// By the order in which a question comes to them.
    known: Vec<CachedSubquery>,
    /// The one that the question at work comes to next.
    next: usize,
    asked: u64,
    reused: u64,
}

/// What a [`SubqueryCache`] holds, and what it has been good for.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct SubqueryCacheReport {
    /// Steps of subqueries whose answers are there.
    pub steps: usize,
    /// Rows of these answers.
    pub rows: usize,
    /// Bytes of these rows. Not in it: labels, native histograms.
    pub bytes: usize,
    /// Steps that were asked for so far.
    pub asked: u64,
    /// Steps that were not, because their answers were there.
    pub reused: u64,
}

impl SubqueryCacheReport {
    /// Counts another one with this.
    pub fn add(&mut self, other: SubqueryCacheReport) {
        self.steps += other.steps;
        self.rows += other.rows;
        self.bytes += other.bytes;
        self.asked += other.asked;
        self.reused += other.reused;
    }
}

impl Querier {
    /// As [`Querier::instant`], with what is kept of an expression: of earlier questions of it, and
    /// for later ones.
    pub fn instant_keeping(
        &self,
        plan: &Plan,
        t: TimeMs,
        options: &QueryOptions,
        kept: &mut SubqueryCache,
    ) -> Result<QueryAnswer, QueryError> {
        kept.next = 0;
        let kept = self.others.is_none().then_some(kept);
        self.at_one_time(plan, t, options, kept)
    }

    /// The rows that the windows of a subquery can see in a query over `outer`.
    pub(super) fn rows(
        &self,
        asked: &Subquery,
        outer: TimeGrid,
        options: &QueryOptions,
        guard: &Arc<QueryGuard>,
        (notes, kept): (&mut AnnotationSet, Option<&mut SubqueryCache>),
    ) -> Result<SubqueryRows, QueryError> {
        let grid = asked.grid(outer, options.default_step);
        let input = fix_times(&asked.input, outer.start, outer.end);
        let Some((kept, at)) = kept.and_then(|kept| kept.find(input, grid, options).map(|at| (kept, at)))
        else {
            return self.subquery(asked, outer, options, guard, notes).map(|rows| Arc::new(rows_of(rows)));
        };
        // Before anything is selected, and before what changed is asked for: what comes in between
        // counts as changed.
        let mark = self.store.mark();
        let known = &mut kept.known[at];
        let changed =
            known.mark.as_ref().map_or(ChangedSince::Everything, |seen| self.store.changed_since(seen));
        known.forget_changed(changed);
        let missing = known.missing(grid);
        if !missing.is_empty() {
            let mut inner = self.guarded(&known.input, true, missing, options, guard, None)?;
            let said = inner.take_notes();
            known.learn(missing, inner.merged()?, said);
        }
        known.mark = Some(mark);
        known.say(grid, notes);
        let rows = known.rows.clone();
        kept.asked += missing.len() as u64;
        kept.reused += (grid.len() - missing.len()) as u64;
        let held = guard.hold(known.samples()).or_else(|_| guard.hold(known.samples_from(grid.start)));
        if held.is_err() {
            known.forget();
        }
        kept.settle(at);
        held.map(|()| rows)
    }

    /// The answers of a subquery's plan that its windows can see in a query over `outer`.
    pub(super) fn subquery(
        &self,
        asked: &Subquery,
        outer: TimeGrid,
        options: &QueryOptions,
        guard: &Arc<QueryGuard>,
        notes: &mut AnnotationSet,
    ) -> Result<Vec<Series>, QueryError> {
        let grid = asked.grid(outer, options.default_step);
        // What would be refused at a step is not, where there is none.
        if grid.is_empty() {
            return Ok(Vec::new());
        }
        let input = fix_times(&asked.input, outer.start, outer.end);
        let mut inner = self.guarded(&input, true, grid, options, guard, None)?;
        notes.extend(inner.take_notes());
        inner.merged()
    }
}

impl SubqueryCache {
    /// One that shares `budget` with others.
    pub fn new(budget: Arc<SampleBudget>) -> SubqueryCache {
        SubqueryCache { budget, known: Vec::new(), next: 0, asked: 0, reused: 0 }
    }

    /// What is there.
    pub fn report(&self) -> SubqueryCacheReport {
        let SubqueryCache { known, asked, reused, .. } = self;
        let rows = || known.iter().flat_map(|known| known.rows.iter());
        SubqueryCacheReport {
            steps: known.iter().map(CachedSubquery::steps).sum(),
            rows: rows().count(),
            bytes: rows().map(|row| row.bytes()).sum(),
            asked: *asked,
            reused: *reused,
        }
    }

    /// Steps that were asked for so far, and those that were not, because their answers were there.
    pub(crate) fn report_steps(&self) -> (u64, u64) {
        (self.asked, self.reused)
    }

    /// The subquery that a question comes to now; `None`: it is not kept.
    fn find(&mut self, input: Plan, grid: TimeGrid, options: &QueryOptions) -> Option<usize> {
        let at = self.next;
        self.next += 1;
        if self.known.len() <= at {
            self.known.push(CachedSubquery::new(input.clone(), grid.step, options));
        }
        let known = &mut self.known[at];
        if known.input != input || known.step != grid.step {
            // It differs from question to question.
            known.keeps = false;
            known.forget();
            self.settle(at);
        }
        (self.known[at].keeps && !grid.is_empty()).then_some(at)
    }

    /// Counts the samples of a subquery, and forgets them if all together are too many.
    fn settle(&mut self, at: usize) {
        let (known, SampleBudget(all)) = (&mut self.known[at], &*self.budget);
        all.fetch_sub(known.counted, Relaxed);
        known.counted = known.samples() + known.label_bytes() / POINT_BYTES;
        if all.fetch_add(known.counted, Relaxed) + known.counted > KEPT_SAMPLES {
            known.forget();
            all.fetch_sub(std::mem::take(&mut known.counted), Relaxed);
        }
    }
}

impl Drop for SubqueryCache {
    fn drop(&mut self) {
        let counted = self.known.iter().map(|known| known.counted).sum();
        self.budget.0.fetch_sub(counted, Relaxed);
    }
}
