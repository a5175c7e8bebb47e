//! The cache of subquery answers of all scheduled views (those that are evaluated from history
//! again and again): one shared budget of samples, and its two counters.

use engine::query::{SampleBudget, SubqueryCacheReport};
use std::sync::Arc;
use storage::metrics::{Counter, Metrics};

/// Shared by all scheduled views.
#[derive(Clone)]
pub(super) struct SharedSubqueryBudget {
    /// The budget of cached samples.
    pub budget: Arc<SampleBudget>,
    evaluated: Arc<Counter>,
    cached: Arc<Counter>,
}

impl SharedSubqueryBudget {
    /// Nothing is cached yet.
    pub(super) fn new(metrics: &Metrics) -> SharedSubqueryBudget {
        let counter = |name, help| metrics.counter(name, help, &[]);
        SharedSubqueryBudget {
            budget: Arc::default(),
            evaluated: counter(
                "perennial_subquery_steps_evaluated_total",
                "Steps of subqueries of scheduled views that were evaluated.",
            ),
            cached: counter(
                "perennial_subquery_steps_cached_total",
                "Steps of subqueries of scheduled views whose answers were in the cache.",
            ),
        }
    }

    /// Counts an evaluation of one view, from the reports before and after it.
    pub(super) fn count(&self, before: SubqueryCacheReport, now: SubqueryCacheReport) {
        self.evaluated.add(now.evaluated - before.evaluated);
        self.cached.add(now.reused - before.reused);
    }
}
