//! [`QueryEngine`]: the trait through which plans are evaluated over history, by the API, scheduled
//! views, backfill and templates.
//!
//! [`Querier`] implements it over the store of this process and, in a cluster, over those of its
//! peers. Tests put fakes in its place. All methods block until the answer is complete.

use super::{Querier, QueryAnswer, QueryError, QueryOptions, SubqueryCache};
use crate::plan::Plan;
use storage::model::TimeMs;

/// Answers plans over history.
///
/// # Contract
/// 1. All methods block, and may be called from several threads at once. Async code calls them on a
///    blocking thread; on any other it stops the runtime's other tasks.
/// 2. An answer is complete, or there is an error. What cannot be read now is
///    [`QueryError::Unavailable`], which callers may try again; an answer without it would make
///    alerts resolve.
/// 3. The limits of [`QueryOptions`] hold for the whole query, whatever it consists of. After
///    [`QueryOptions::cancel`] is set it ends soon after.
/// 4. [`QueryEngine::instant_cached`] gives the answer of [`QueryEngine::instant`]. A cache belongs
///    to one plan and one engine; it may be thrown away at any time. *Checked:*
///    `subquery_cache_equals_fresh`.
/// 5. [`QueryEngine::range`] has a point at a time exactly where the answer of
///    [`QueryEngine::instant`] has a value, unless the plan depends on the times of the query
///    ([`super::depends_on_query_times`]). A `step` below 1 counts as 1.
/// 6. The memory of an answer counts until it and its copies are dropped
///    ([`super::AnswerMemory`]); a fake need not count any.
pub trait QueryEngine: Send + Sync {
    /// The answer at time `t`.
    fn instant(&self, plan: &Plan, t: TimeMs, options: &QueryOptions) -> Result<QueryAnswer, QueryError>;
    /// The answer at time `t` of a plan that is evaluated repeatedly. `cache` holds the answers of
    /// its subqueries between the calls; an engine without such a cache ignores it.
    fn instant_cached(
        &self,
        plan: &Plan,
        t: TimeMs,
        options: &QueryOptions,
        _cache: &mut SubqueryCache,
    ) -> Result<QueryAnswer, QueryError> {
        self.instant(plan, t, options)
    }
    /// The answers at `start, start + step, … ≤ end`.
    fn range(
        &self,
        plan: &Plan,
        start: TimeMs,
        end: TimeMs,
        step: i64,
        options: &QueryOptions,
    ) -> Result<QueryAnswer, QueryError>;
    /// The answer of a plan that is asked again and again, if this engine knows a cheaper way than
    /// to compute each anew; by default it does not. Reads no data.
    fn standing(
        &self,
        _plan: &Plan,
        _times: StandingTimes,
    ) -> Result<Option<Box<dyn StandingAnswer>>, QueryError> {
        Ok(None)
    }
}

/// At which times a standing answer is asked for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum StandingTimes {
    /// Always for the present.
    Present,
    /// For the evaluation times of a rule, which may be in the past.
    Evaluations,
}

/// The answer of one plan at ascending times.
///
/// # Contract
/// 1. [`StandingAnswer::at`] gives the answer that [`QueryEngine::instant`] of the same engine
///    gives once what was stored until then has arrived, bit by bit. *Checked:*
///    `standing_equals_fresh`.
/// 2. `None` means: the answer is that of the call before, which was no error.
/// 3. What it holds is given back when it is dropped.
pub trait StandingAnswer: Send {
    /// The answer at `t`, if it may differ from that of the call before. Blocks.
    fn at(&mut self, t: TimeMs, options: &QueryOptions) -> Result<Option<QueryAnswer>, QueryError>;
}

impl QueryEngine for Querier {
    fn instant(&self, plan: &Plan, t: TimeMs, options: &QueryOptions) -> Result<QueryAnswer, QueryError> {
        Querier::instant(self, plan, t, options)
    }

    fn instant_cached(
        &self,
        plan: &Plan,
        t: TimeMs,
        options: &QueryOptions,
        cache: &mut SubqueryCache,
    ) -> Result<QueryAnswer, QueryError> {
        Querier::instant_cached(self, plan, t, options, cache)
    }

    fn range(
        &self,
        plan: &Plan,
        start: TimeMs,
        end: TimeMs,
        step: i64,
        options: &QueryOptions,
    ) -> Result<QueryAnswer, QueryError> {
        Querier::range(self, plan, start, end, step, options)
    }
}
