//! SQL for listeners of other protocols: the same turns, priorities, limits and statements as over
//! HTTP.

use super::{TextRows, WaitingStatement, definitions, in_turn};
use crate::AppState;
use crate::params::Form;
use crate::query;
use crate::response::ApiError;
use ::sql::statement::SqlStatement;
use ::sql::{SqlEngine, SqlError, SqlRequest};
use engine::query::QueryOptions;
use std::net::SocketAddr;
use std::sync::Arc;
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

    /// The engine.
    pub fn engine(&self) -> Arc<SqlEngine> {
        self.0.sql_engine()
    }

    /// The current time.
    pub fn now(&self) -> TimeMs {
        self.0.sources.clock.now()
    }

    /// The options of a statement, with a cancellation of its own. `timeout`: a shorter one than the
    /// server's.
    pub fn options(&self, timeout: Option<Duration>) -> Result<QueryOptions, ApiError> {
        let options = query::options(&self.0, &Form::default())?;
        let timeout = timeout.unwrap_or(options.timeout).min(options.timeout);
        Ok(QueryOptions { timeout, ..options })
    }

    /// Waits for a turn; then runs `work` at low priority, and returns its result when it has ended;
    /// `None`: it ended by a panic.
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

    /// The answer of a statement that defines, removes or lists something.
    pub async fn define(&self, statement: SqlStatement) -> Result<TextRows, ApiError> {
        definitions::answer(&self.0, statement).await
    }

    /// Resolves when the server stops.
    pub async fn stopped(&self) {
        self.0.until_stopped().await;
    }
}
