//! The steps of this worker's views whose operators query the store
//! ([`crate::live::store_query`]): subqueries, fixed times, and parameters that are series.

use super::super::message::InstallBatchId;
use super::super::store_query::{StoreQuerier, StoreStep};
use crate::operators::Operator;
use crate::plan::physical::{StepId, StoreQuery};
use crate::query::SubqueryCacheReport;
use std::collections::HashMap;
use std::sync::Arc;
use storage::model::TimeMs;

/// The steps that query the store, and what runs their queries.
pub(super) struct StoreSteps {
    querier: Arc<StoreQuerier>,
    by_id: HashMap<StepId, Arc<StoreStep>>,
}

impl StoreSteps {
    /// Without steps.
    pub(super) fn new(querier: Arc<StoreQuerier>) -> StoreSteps {
        StoreSteps { querier, by_id: HashMap::new() }
    }

    /// Adds a step of an install batch, which may begin to read history as of `t`. Returns its
    /// operator.
    pub(super) fn add(
        &mut self,
        id: StepId,
        query: StoreQuery,
        batch: InstallBatchId,
        t: TimeMs,
    ) -> Box<dyn Operator> {
        let step = self.querier.step(query, batch, t);
        let operator = step.operator();
        self.by_id.insert(id, step);
        operator
    }

    /// Removes a step.
    pub(super) fn remove(&mut self, id: StepId) {
        self.by_id.remove(&id);
    }

    /// What the caches of a step hold; empty if the step does not query the store.
    pub(super) fn report(&self, id: StepId) -> SubqueryCacheReport {
        self.by_id.get(&id).map(|step| step.report()).unwrap_or_default()
    }
}
