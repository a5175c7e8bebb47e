//! [`SqlEngine`]: the state that all statements share, and [`SqlSources`]: the services that it
//! reads (PromQL's query engine, the series catalog, lists of the server, tables).
//!
//! [`super::session`] runs a statement with it, [`super::standing`] keeps one current.

use super::functions::{self, Functions};
use super::relations::MetaSource;
use super::tables::TableList;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::object_store::ObjectStore;
use datafusion::prelude::SessionConfig;
use engine::memory::MemoryPool;
use engine::query::{QueryEngine, SeriesCatalog};
use language::QueryLanguage;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// What statements ask.
#[derive(Clone)]
pub struct SqlSources {
    /// Answers plans over history.
    pub engine: Arc<dyn QueryEngine>,
    /// Lists series and labels.
    pub catalog: Arc<dyn SeriesCatalog>,
    /// Reads the text of `promql('…')`.
    pub language: Arc<dyn QueryLanguage>,
    /// The rows of `meta`.
    pub meta: Arc<dyn MetaSource>,
    /// Uploaded tables.
    pub tables: Arc<dyn TableList>,
    /// The memory that lists of series count in.
    pub memory: Arc<MemoryPool>,
}

impl fmt::Debug for SqlSources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SqlSources")
    }
}

/// Answers SQL.
#[derive(Debug)]
pub struct SqlEngine {
    pub(crate) sources: SqlSources,
    pub(crate) functions: Functions,
    /// Whether a table of the schema `public` that is not there may come later. If so, a standing
    /// statement that reads it is refused as unavailable, not as wrong: its rule is accepted, and
    /// fails until the table is there.
    pub(crate) tables_may_come: bool,
    state: SessionState,
}

impl SqlEngine {
    /// The engine over these sources.
    pub fn new(sources: SqlSources) -> SqlEngine {
        let config = SessionConfig::from(functions::config())
            .with_target_partitions(1)
            .with_batch_size(super::limits::BATCH_ROWS)
            .with_information_schema(false);
        let functions = Functions::new();
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_scalar_functions(functions.scalar.values().cloned().collect())
            .with_aggregate_functions(functions.aggregate.values().cloned().collect())
            .with_window_functions(functions.window.values().cloned().collect())
            .with_expr_planners(functions.planners.clone())
            .build();
        SqlEngine { sources, functions, tables_may_come: false, state }
    }

    /// An engine that plans the statements of rule files, before there is a store. They may read
    /// `tables`, also some that are not there yet: a file may be older than its tables, and a
    /// table that was dropped must not keep the server from starting.
    pub fn for_planning(language: Arc<dyn QueryLanguage>, tables: Arc<dyn TableList>) -> SqlEngine {
        let engine = SqlEngine::new(super::no_data::sources(language, tables));
        SqlEngine { tables_may_come: true, ..engine }
    }

    /// What operators need to run that were not planned by DataFusion.
    pub(crate) fn task(&self) -> Result<Arc<TaskContext>> {
        let config = self.state.config().clone();
        Ok(Arc::new(TaskContext::new(
            None,
            String::new(),
            config,
            HashMap::new(),
            HashMap::new(),
            HashMap::new(),
            HashMap::new(),
            runtime()?,
        )))
    }

    /// The state for one statement: its own memory, no disk, no object store; `now()` is `time`.
    pub(crate) fn state(&self, time: i64) -> Result<SessionState> {
        let mut state =
            SessionStateBuilder::new_from_existing(self.state.clone()).with_runtime_env(runtime()?).build();
        state.execution_props_mut().query_execution_start_time =
            chrono::DateTime::from_timestamp_millis(time);
        Ok(state)
    }
}

fn runtime() -> Result<Arc<RuntimeEnv>> {
    RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(GreedyMemoryPool::new(super::limits::OPERATOR_BYTES)))
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
        .with_object_store_registry(Arc::new(NoStores))
        .build_arc()
}

/// Knows no object store: a statement reads no file and no address.
#[derive(Debug)]
struct NoStores;

impl ObjectStoreRegistry for NoStores {
    fn register_store(&self, _: &url::Url, _: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        None
    }

    fn get_store(&self, url: &url::Url) -> Result<Arc<dyn ObjectStore>> {
        Err(DataFusionError::Plan(format!("{url}: SQL reads no files")))
    }
}
