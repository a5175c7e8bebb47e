//! [`SqlService`]: runs SQL statements for other protocols than HTTP (the PostgreSQL wire), with
//! the same permits, priorities and limits as `/api/v1/sql`.

use super::row_changes::RowChanges;
use super::{TextRows, WaitingStatement, changes, definitions, in_turn};
use crate::AppState;
use crate::confinement::Confinement;
use crate::params::Form;
use crate::query;
use crate::response::ApiError;
use crate::saved_queries::{allowed, off_runtime};
use ::sql::statement::{CopyInStatement, SqlStatement};
use ::sql::tables::ColumnType;
use ::sql::tables::copy::CopyReader;
use ::sql::{SqlEngine, SqlError, SqlRequest};
use engine::query::QueryOptions;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use storage::model::TimeMs;

/// Runs statements for a listener. Cheap to clone.
#[derive(Clone)]
pub struct SqlService(AppState);

impl SqlService {
    /// The statements of this server.
    pub fn new(state: AppState) -> SqlService {
        SqlService(state)
    }

    /// The statements of a user who is confined to labels. `self` must be those of everybody.
    pub fn confined_to(&self, confinement: &Arc<Confinement>) -> SqlService {
        SqlService(self.0.confined_to(confinement))
    }

    /// The engine.
    pub fn engine(&self) -> Arc<SqlEngine> {
        self.0.sql_engine()
    }

    /// The current time.
    pub fn now(&self) -> TimeMs {
        self.0.sources.clock.now()
    }

    /// The options of a statement, with a cancellation of its own. `timeout`: a shorter one than
    /// the server's.
    pub fn options(&self, timeout: Option<Duration>) -> Result<QueryOptions, ApiError> {
        let options = query::options(&self.0, &Form::default())?;
        let timeout = timeout.unwrap_or(options.timeout).min(options.timeout);
        Ok(QueryOptions { timeout, ..options })
    }

    /// Waits for a turn; then runs `work` at low priority, and returns its result when it has
    /// ended; `None`: it ended by a panic.
    pub async fn run<T: Send + 'static>(
        &self,
        request: SqlRequest,
        options: QueryOptions,
        peer: SocketAddr,
        work: impl FnOnce(&SqlEngine, &SqlRequest, &QueryOptions) -> Result<T, SqlError> + Send + 'static,
    ) -> Result<Option<Result<T, SqlError>>, ApiError> {
        let waiting = WaitingStatement { request, options, client: Some(peer) };
        let begun = move |engine: &SqlEngine, statement: &WaitingStatement| {
            work(engine, &statement.request, &statement.options)
        };
        Ok(in_turn(&self.0, waiting, begun).await?.await.ok())
    }

    /// Runs `work`, which may block, off the async threads.
    pub async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        self.0.blocking(work).await.ok()
    }

    /// The answer of a statement that defines, removes, changes or lists something. `params` has
    /// the values of `$1`, `$2`, ….
    pub async fn define(&self, statement: SqlStatement, params: Vec<Value>) -> Result<TextRows, ApiError> {
        self.0.for_everybody("what is defined here")?;
        definitions::answer(&self.0, statement, params).await
    }

    /// What reads the rows of a `COPY` into a table.
    pub fn copy_reader(&self, statement: &CopyInStatement) -> Result<CopyReader, ApiError> {
        self.0.for_everybody("tables")?;
        allowed(&self.0)?;
        changes::copy_reader(definitions::tables(&self.0)?.as_ref(), statement)
    }

    /// Adds the rows of a `COPY` to a table; returns how many.
    pub async fn copied(&self, table: String, rows: CopyReader) -> Result<usize, ApiError> {
        let tables = definitions::tables(&self.0)?;
        off_runtime(self.0.settings.execution, move || changes::copied(tables.as_ref(), &table, rows)).await?
    }

    /// The rows of a statement, and then what changes in them, until `cancel` is set.
    pub async fn subscribe(&self, query: String, cancel: Arc<AtomicBool>) -> Result<RowChanges, ApiError> {
        RowChanges::open(&self.0, query, cancel).await
    }

    /// The types of the parameters of a statement that changes a table: those of the columns that
    /// they are for.
    pub fn parameter_types(&self, statement: &SqlStatement) -> Vec<Option<ColumnType>> {
        let table = |name: &str| definitions::tables(&self.0).ok().and_then(|tables| tables.table(name));
        changes::parameter_types(statement, &table)
    }

    /// Resolves when the server stops.
    pub async fn stopped(&self) {
        self.0.until_stopped().await;
    }
}
