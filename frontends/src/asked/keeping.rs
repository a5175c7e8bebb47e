//! What all asked views keep of their subqueries together: one budget, and what it spares.

use engine::query::{Budget, KeptReport};
use std::sync::Arc;
use storage::metrics::{Counter, Metrics};

/// Shared by all asked views.
#[derive(Clone)]
pub struct Keeping {
    /// How much they may keep.
    pub budget: Arc<Budget>,
    asked: Arc<Counter>,
    reused: Arc<Counter>,
}

impl Keeping {
    /// Nothing is kept yet.
    pub fn new(metrics: &Metrics) -> Keeping {
        let counter = |name, help| metrics.counter(name, help, &[]);
        Keeping {
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
    pub fn count(&self, before: KeptReport, now: KeptReport) {
        self.asked.add(now.asked - before.asked);
        self.reused.add(now.reused - before.reused);
    }
}
