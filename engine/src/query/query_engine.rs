//! The trait through which plans are evaluated over history: by the API, scheduled views, backfill
//! and templates.
//!
//! [`Querier`] implements it over the store of this process and, in a cluster, over those of its
//! peers. Tests put fakes in its place. All methods block until the answer is complete.

use super::{Querier, QueryAnswer, QueryError, QueryOptions, SubqueryCache};
use crate::plan::Plan;
use storage::model::TimeMs;

/// Answers plans over history.
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
