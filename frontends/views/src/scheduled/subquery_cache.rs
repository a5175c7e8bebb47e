//! What all asked views keep of their subqueries together: one budget, and what it spares.

use engine::query::{SampleBudget, SubqueryCacheReport};
use std::sync::Arc;
use storage::metrics::{Counter, Metrics};

/// Shared by all asked views.
#[derive(Clone)]
pub struct SharedSubqueryBudget {
    /// How much they may keep.
    pub budget: Arc<SampleBudget>,
    asked: Arc<Counter>,
    reused: Arc<Counter>,
}

impl SharedSubqueryBudget {
    /// Nothing is kept yet.
    pub fn new(metrics: &Metrics) -> SharedSubqueryBudget {
        let counter = |name, help| metrics.counter(name, help, &[]);
        SharedSubqueryBudget {
            budget: Arc::default(),
            asked: counter(
                "perennial_subquery_steps_asked_total",
                "Steps of subqueries, of expressions that cannot stand, that were asked from history.",
            ),
            reused: counter(
                "perennial_subquery_steps_kept_total",
                "Steps of such subqueries whose answers were kept from the evaluation before.",
            ),
        }
    }

    /// Counts an evaluation of one view: what was reported before it, and behind.
    pub fn count(&self, before: SubqueryCacheReport, now: SubqueryCacheReport) {
        self.asked.add(now.asked - before.asked);
        self.reused.add(now.reused - before.reused);
    }
}
