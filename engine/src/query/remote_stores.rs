//! [`RemoteStores`]: the stores of other servers (`remote_read`), whose samples are part of
//! answers, and [`HistorySource`]: what the leaves of a query read, the own store and what they
//! answered.
//!
//! A query asks them once for all of its leaves, before it selects its own series
//! ([`super::query_run`]). Subqueries are queries of their own. Only a querier that was given
//! remote stores asks them ([`super::Querier::with_remote_stores`]); live views never do.

use super::guard::QueryGuard;
use super::query_run::TimeGrid;
use super::{QueryError, QueryOptions, leaf};
use crate::annotations::AnnotationSet;
use crate::plan::physical::{Leaf, PhysicalPlan, StepId, StepOp};
use std::collections::HashMap;
use std::sync::Arc;
use storage::model::shard::shard_of;
use storage::model::{Matcher, SHARDS, TimeMs};
use storage::store::{LabelledSource, Selection, Store, StoreError};

/// The stores of other servers.
///
/// # Contract
/// 1. [`RemoteStores::read`] blocks, and looks at the guard while it waits. What it holds for the
///    answer counts in the memory of the query before it is held.
/// 2. The answer has a list of series for each selection, sorted by labels. A series may come
///    several times; of equal times the first one counts.
/// 3. A store that cannot be read is no error: nothing of it is in the answer, and a warning says
///    why. Errors are only those of the query: its time, its memory, its cancellation.
pub trait RemoteStores: Send + Sync {
    /// The series of these selections.
    fn read(&self, selections: &[RemoteSelection], guard: &QueryGuard) -> Result<RemoteAnswer, QueryError>;

    /// Warnings for a list of label names or values of these times: such lists are those of the own
    /// store.
    fn label_warnings(&self, from: TimeMs, to: TimeMs) -> Vec<String>;
}

/// What a leaf asks the stores of other servers for.
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteSelection {
    /// All of them must match.
    pub matchers: Vec<Matcher>,
    /// The first time.
    pub from: TimeMs,
    /// The last time.
    pub to: TimeMs,
    /// The time between evaluations, in ms; 0: there is one.
    pub step: i64,
    /// The function over the samples; empty: none.
    pub function: &'static str,
    /// The length of its windows, in ms; 0: none.
    pub range: i64,
}

/// What the stores of other servers have.
#[derive(Default)]
pub struct RemoteAnswer {
    /// The series of each selection.
    pub series: Vec<Vec<LabelledSource>>,
    /// Why something is missing.
    pub warnings: Vec<String>,
}

/// What the leaves of a query read.
#[derive(Clone)]
pub(super) struct HistorySource {
    store: Arc<Store>,
    /// What other stores answered, by leaf and shard.
    remote: Arc<HashMap<StepId, Vec<Vec<LabelledSource>>>>,
}

impl HistorySource {
    /// The own store alone.
    pub(super) fn from_store(store: Arc<Store>) -> HistorySource {
        HistorySource { store, remote: Arc::default() }
    }

    /// The own store.
    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// The series of a shard that leaf `id` reads.
    pub(super) fn select(
        &self,
        id: StepId,
        shard: u16,
        matchers: &[Matcher],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Selection, StoreError> {
        let own = self.store.select(shard, matchers, from, to)?;
        match self.remote.get(&id) {
            Some(shards) => Ok(own.with_sources(&shards[usize::from(shard)])),
            None => Ok(own),
        }
    }

    /// The same with the answers of other stores to `asked`, which has a selection for each leaf.
    pub(super) fn with_remote(
        self,
        remote: &dyn RemoteStores,
        asked: Vec<(StepId, RemoteSelection)>,
        guard: &QueryGuard,
        annotations: &mut AnnotationSet,
    ) -> Result<HistorySource, QueryError> {
        if asked.is_empty() {
            return Ok(self);
        }
        let mut ids = Vec::new();
        let mut selections = Vec::new();
        for (id, selection) in asked {
            ids.push(id);
            selections.push(selection);
        }
        let answer = remote.read(&selections, guard)?;
        for warning in &answer.warnings {
            annotations.add_storage_warning(warning);
        }
        let mut by_leaf = HashMap::new();
        for (id, series) in ids.into_iter().zip(answer.series) {
            let mut shards = vec![Vec::new(); usize::from(SHARDS)];
            for source in series {
                shards[usize::from(shard_of(&source.0))].push(source);
            }
            by_leaf.insert(id, shards);
        }
        Ok(HistorySource { remote: Arc::new(by_leaf), ..self })
    }
}

/// What the leaves of a plan ask other stores for.
pub(super) fn selections(
    physical: &PhysicalPlan,
    grid: TimeGrid,
    options: &QueryOptions,
) -> Vec<(StepId, RemoteSelection)> {
    let mut all = Vec::new();
    for (id, step) in physical.local.iter().enumerate() {
        let StepOp::Leaf(source, leaf) = &step.op else { continue };
        let (from, to) = leaf::reach(source, leaf, grid, options);
        let (function, range) = match leaf {
            Leaf::Window(function, range) => (function.0.name, *range),
            Leaf::Present(range) => ("", *range),
            Leaf::Value | Leaf::Timestamp(_) | Leaf::StartTimestamp | Leaf::Info => ("", 0),
        };
        let step = if grid.len() > 1 { grid.step } else { 0 };
        let matchers = source.matchers.clone();
        all.push((id, RemoteSelection { matchers, from, to, step, function, range }));
    }
    all
}
