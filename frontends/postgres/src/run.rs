//! Runs queries of clients and returns their rows as [`AnswerRows`].
//!
//! A query for the SQL engine waits for its turn and runs at low priority, as over HTTP. A catalog
//! query runs on a blocking thread. Rows arrive in batches, so that a slow client holds few of them
//! in memory.

use crate::catalog::types;
use crate::catalog::{
    Answer, AnswerColumn, CatalogDeadline, Evaluator, RelationList, SessionInfo, value::Value,
};
use crate::cells::{self, Cells, WireColumn};
use crate::extended::StatementShape;
use crate::failure::{Failure, state};
use crate::limits;
use api::query::CancelOnDrop;
use api::sql::{RowChange, RowChanges, SqlService, send_patiently};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bytes::{BufMut, BytesMut};
use engine::query::QueryOptions;
use pgwire::messages::data::DataRow;
use postgres_types::Type;
use serde_json::Value as Json;
use sql::catalog::{ListedColumn, ListedRelation, ListedTable};
use sql::standing::StandingColumn;
use sql::{RowSink, SqlEngine, SqlError, SqlRequest, SqlSummary};
use sqlparser::ast::Query;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;
use storage::model::TimeMs;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The rows of a statement on their way to the client.
pub(crate) struct AnswerRows {
    pub(crate) columns: Arc<[WireColumn]>,
    rows: Rows,
    /// Rows that were sent.
    pub(crate) taken: usize,
    /// The command tag of the answer: `SELECT`, `SHOW`.
    pub(crate) tag: &'static str,
    /// Warnings; complete when all rows were sent.
    pub(crate) warnings: Vec<String>,
}

enum Rows {
    Listed(VecDeque<Vec<Value>>),
    Running(RunningStatement),
    Changing(FollowedStatement),
}

/// A statement whose changes are followed.
struct FollowedStatement {
    changes: Box<RowChanges>,
    cancel: Arc<AtomicBool>,
    notices: Vec<String>,
    /// The change that is being sent. If several equal rows are inserted or deleted, it is sent
    /// that many times.
    current: Option<RowChange>,
}

/// A statement that runs in the engine.
struct RunningStatement {
    pieces: mpsc::Receiver<AnswerPart>,
    /// `None`: it has ended.
    task: Option<JoinHandle<Result<SqlSummary, Failure>>>,
    current: Option<Batch>,
    cancel: CancelOnDrop,
}

struct Batch {
    columns: Vec<Cells>,
    next: usize,
    rows: usize,
}

/// What a statement sends to its connection: first its columns, then batches of rows.
enum AnswerPart {
    Schema(SchemaRef),
    Rows(RecordBatch),
}

/// Sends batches to the connection.
struct BatchSink {
    pieces: mpsc::Sender<AnswerPart>,
    deadline: Instant,
}

impl RowSink for BatchSink {
    fn schema(&mut self, schema: &SchemaRef) -> Result<(), SqlError> {
        send_patiently(&self.pieces, AnswerPart::Schema(schema.clone()), self.deadline)
    }

    fn rows(&mut self, batch: &RecordBatch) -> Result<(), SqlError> {
        send_patiently(&self.pieces, AnswerPart::Rows(batch.clone()), self.deadline)
    }
}

/// The columns of an answer of the engine.
pub(crate) fn columns_of(schema: &SchemaRef) -> Arc<[WireColumn]> {
    let column = |field: &Arc<arrow::datatypes::Field>| WireColumn {
        name: field.name().clone(),
        kind: cells::kind_of(field.data_type()),
    };
    schema.fields().iter().map(column).collect()
}

/// The columns of the changes of a statement: the time, whether the row came (1) or went (-1), and
/// its own.
pub(crate) async fn change_columns(service: &SqlService, query: &str) -> Result<Arc<[WireColumn]>, Failure> {
    let engine = service.engine();
    let query = query.to_owned();
    let rows = service.blocking(move || engine.standing_rows(&query)).await;
    let stopped = || Failure::new(state::INTERNAL, "the statement stopped unexpectedly");
    let rows = rows.ok_or_else(stopped)??;
    let own = [("t", Type::TIMESTAMPTZ), ("diff", Type::INT8)];
    let own = own.map(|(name, kind)| WireColumn { name: name.to_owned(), kind });
    let column =
        |column: &StandingColumn| WireColumn { name: column.name.clone(), kind: types::named(column.kind) };
    Ok(own.into_iter().chain(rows.columns.iter().map(column)).collect())
}

/// What a query of the engine is asked with.
pub(crate) struct EngineCall {
    pub(crate) options: QueryOptions,
    /// The time of `now()`.
    pub(crate) time: TimeMs,
    pub(crate) peer: SocketAddr,
}

/// Starts a query of the engine; returns when its columns are known.
pub(crate) async fn query(
    service: &SqlService,
    text: &str,
    params: Vec<Json>,
    call: EngineCall,
) -> Result<AnswerRows, Failure> {
    let EngineCall { options, time, peer } = call;
    let (sender, mut pieces) = mpsc::channel(limits::WIRE_BATCHES);
    let cancel = CancelOnDrop(options.cancel.clone());
    let request = SqlRequest { text: text.to_owned(), time, params, ..SqlRequest::default() };
    let service = service.clone();
    let running = tokio::spawn(async move {
        let work = move |engine: &SqlEngine, request: &SqlRequest, options: &QueryOptions| {
            let deadline = Instant::now() + options.timeout;
            engine.run(request, options, &mut BatchSink { pieces: sender, deadline })
        };
        let stopped = || Failure::new(state::INTERNAL, "the statement stopped unexpectedly");
        let ran = service.run(request, options, peer, work).await?;
        ran.ok_or_else(stopped)?.map_err(Failure::from)
    });
    // The description of the columns goes before the rows, so nothing is answered before they are
    // known.
    let schema = match pieces.recv().await {
        Some(AnswerPart::Schema(schema)) => schema,
        // It has ended before its first part: by an error.
        _ => return Err(ended(running).await.err().unwrap_or_else(no_columns)),
    };
    let rows = Rows::Running(RunningStatement { pieces, task: Some(running), current: None, cancel });
    Ok(AnswerRows { columns: columns_of(&schema), rows, taken: 0, tag: "SELECT", warnings: Vec::new() })
}

fn no_columns() -> Failure {
    Failure::new(state::INTERNAL, "the statement has no columns")
}

async fn ended(running: JoinHandle<Result<SqlSummary, Failure>>) -> Result<SqlSummary, Failure> {
    running.await.unwrap_or_else(|e| Err(Failure::new(state::INTERNAL, e.to_string())))
}

/// What a query of the catalogs asks with.
pub(crate) struct CatalogCall {
    pub(crate) query: Box<Query>,
    pub(crate) params: Vec<Json>,
    pub(crate) facts: SessionInfo,
    pub(crate) patience: CatalogDeadline,
}

/// The relations of the engine at one time.
struct EngineRelations {
    engine: Arc<SqlEngine>,
    now: TimeMs,
}

impl RelationList for EngineRelations {
    fn relations(&self) -> Result<Vec<ListedRelation>, SqlError> {
        self.engine.listed_relations(self.now)
    }

    fn tables(&self) -> Vec<ListedTable> {
        self.engine.listed_tables()
    }

    fn columns(&self, schema: &str, name: &str) -> Result<Vec<ListedColumn>, SqlError> {
        self.engine.listed_columns(schema, name, self.now)
    }

    fn functions(&self) -> Vec<String> {
        self.engine.function_names()
    }
}

/// Runs `work` with an evaluator of the catalogs, off the async threads.
async fn with_catalogs<T: Send + 'static>(
    service: &SqlService,
    call: CatalogCall,
    work: impl FnOnce(&Evaluator<'_>, &Query) -> Result<T, SqlError> + Send + 'static,
) -> Result<T, Failure> {
    let list = EngineRelations { engine: service.engine(), now: service.now() };
    let evaluate = move || {
        let params: Vec<Value> = call.params.iter().map(crate::params::value).collect();
        let evaluator = Evaluator::new(&list, &call.facts, &params, &call.patience);
        work(&evaluator, &call.query)
    };
    // The syntax tree is walked recursively.
    // Inner queries nest as deep as the guard permits, which an ordinary stack of a thread does not
    // hold.
    let on_stack = move || sql::on_large_stack(evaluate);
    let answer = service.blocking(on_stack).await;
    Ok(answer
        .ok_or_else(|| Failure::new(state::INTERNAL, "the query of the catalogs stopped unexpectedly"))??)
}

/// The answer of a query of the catalogs.
pub(crate) async fn catalog(service: &SqlService, call: CatalogCall) -> Result<AnswerRows, Failure> {
    let Answer { columns, rows } =
        with_catalogs(service, call, |evaluator, query| evaluator.answer(query)).await?;
    let columns =
        columns.into_iter().map(|column| WireColumn { name: column.name, kind: column.kind }).collect();
    Ok(AnswerRows { columns, rows: Rows::Listed(rows.into()), taken: 0, tag: "SELECT", warnings: Vec::new() })
}

/// The columns and the parameters of a query of the catalogs.
pub(crate) async fn catalog_shape(
    service: &SqlService,
    call: CatalogCall,
) -> Result<StatementShape, Failure> {
    with_catalogs(service, call, |evaluator, query| {
        let columns = evaluator.columns(query)?.into_iter();
        let column = |column: AnswerColumn| WireColumn { name: column.name, kind: column.kind };
        Ok(StatementShape {
            columns: Some(columns.map(column).collect()),
            params: evaluator.parameters(query),
        })
    })
    .await
}

impl AnswerRows {
    /// An answer of texts.
    pub(crate) fn texts(columns: Arc<[WireColumn]>, rows: Vec<Vec<String>>, tag: &'static str) -> AnswerRows {
        let row = |row: Vec<String>| row.iter().map(|text| Value::text(text)).collect();
        AnswerRows {
            columns,
            rows: Rows::Listed(rows.into_iter().map(row).collect()),
            taken: 0,
            tag,
            warnings: Vec::new(),
        }
    }

    /// The changes of the rows of a statement, until `cancel` is set.
    pub(crate) fn changes(
        columns: Arc<[WireColumn]>,
        changes: RowChanges,
        cancel: Arc<AtomicBool>,
    ) -> AnswerRows {
        let changing =
            FollowedStatement { changes: Box::new(changes), cancel, notices: Vec::new(), current: None };
        AnswerRows { columns, rows: Rows::Changing(changing), taken: 0, tag: "SELECT", warnings: Vec::new() }
    }

    /// What ends the statement when it is set.
    pub(crate) fn cancel(&self) -> Option<&Arc<AtomicBool>> {
        match &self.rows {
            Rows::Listed(_) => None,
            Rows::Running(running) => Some(&running.cancel.0),
            Rows::Changing(changing) => Some(&changing.cancel),
        }
    }

    /// Whether the next row is one that has not happened yet.
    pub(crate) fn is_waiting(&self) -> bool {
        match &self.rows {
            Rows::Changing(changing) => changing.current.is_none() && !changing.changes.is_ready(),
            Rows::Listed(_) | Rows::Running(_) => false,
        }
    }

    /// What the client is told before the next row.
    pub(crate) fn take_notices(&mut self) -> Vec<String> {
        match &mut self.rows {
            Rows::Changing(changing) => std::mem::take(&mut changing.notices),
            Rows::Listed(_) | Rows::Running(_) => Vec::new(),
        }
    }

    /// Waits for the next row; false: there is none. May be dropped and called again. Returns
    /// without a row when there are notices.
    pub(crate) async fn wait(&mut self) -> Result<bool, Failure> {
        let running = match &mut self.rows {
            Rows::Listed(rows) => return Ok(!rows.is_empty()),
            Rows::Running(running) => running,
            Rows::Changing(changing) => return changing.wait().await,
        };
        loop {
            if running.current.as_ref().is_some_and(|batch| batch.next < batch.rows) {
                return Ok(true);
            }
            match running.pieces.recv().await {
                Some(AnswerPart::Rows(batch)) => {
                    let columns =
                        batch.columns().iter().map(Cells::from_array).collect::<Result<Vec<_>, _>>();
                    let columns = columns.map_err(|e| Failure::new(state::INTERNAL, e.to_string()))?;
                    running.current = Some(Batch { columns, next: 0, rows: batch.num_rows() });
                }
                // Already taken when the statement began.
                Some(AnswerPart::Schema(_)) => {}
                None => {
                    // The channel is closed before the task returns, so its result, with errors and
                    // warnings, is waited for here. `task` stays in place until it has ended: this
                    // future may be dropped while it waits.
                    let Some(task) = running.task.as_mut() else { return Ok(false) };
                    let summary =
                        task.await.unwrap_or_else(|e| Err(Failure::new(state::INTERNAL, e.to_string())));
                    running.task = None;
                    self.warnings = summary?.warnings;
                    return Ok(false);
                }
            }
        }
    }

    /// Writes the row that [`AnswerRows::wait`] has found, as cells of `columns`.
    pub(crate) fn row(&mut self, columns: &[WireColumn], formats: &[i16]) -> DataRow {
        let mut out = BytesMut::new();
        let mut count = 0;
        self.take_row(|at, cell| {
            match columns.get(at).map(|column| &column.kind) {
                Some(kind) => cells::put(&mut out, cell, kind, cells::format_of(formats, at)),
                // -1 is NULL: a row with more cells than were described has none for them.
                None => out.put_i32(-1),
            }
            count += 1;
        });
        DataRow::new(out, count)
    }

    /// Takes the row that [`AnswerRows::wait`] has found; `visit` gets its cells, with their
    /// places.
    pub(crate) fn take_row(&mut self, mut visit: impl FnMut(usize, &cells::Cell<'_>)) {
        self.taken += 1;
        match &mut self.rows {
            Rows::Listed(rows) => {
                for (at, value) in rows.pop_front().unwrap_or_default().iter().enumerate() {
                    visit(at, &cells::of_value(value));
                }
            }
            Rows::Running(running) => {
                if let Some(batch) = &mut running.current {
                    for (at, column) in batch.columns.iter().enumerate() {
                        visit(at, &column.cell(batch.next));
                    }
                    batch.next += 1;
                }
            }
            Rows::Changing(changing) => changing.take_row(&self.columns, visit),
        }
    }
}

impl FollowedStatement {
    async fn wait(&mut self) -> Result<bool, Failure> {
        if self.current.is_some() {
            return Ok(true);
        }
        if !self.changes.wait().await? {
            return Ok(false);
        }
        self.notices = self.changes.take_warnings();
        // The notices go first: they say why rows may be missing that come now.
        if self.notices.is_empty() {
            self.current = self.changes.take();
        }
        Ok(self.current.is_some())
    }

    fn take_row(&mut self, columns: &[WireColumn], mut visit: impl FnMut(usize, &cells::Cell<'_>)) {
        let Some(change) = &mut self.current else { return };
        // One row on the wire for each of several equal ones, so that a client counts rows and need
        // not multiply.
        let step = change.diff.signum();
        visit(0, &cells::Cell::Time { micros: change.t * 1_000, has_zone: true });
        visit(1, &cells::Cell::Int(step));
        for (at, column) in columns.iter().enumerate().skip(2) {
            let value = change.row.get(&column.name).unwrap_or(&Json::Null);
            visit(at, &cells::of_json(value, &column.kind));
        }
        change.diff -= step;
        if change.diff == 0 {
            self.current = None;
        }
    }
}

/// The format code of a column in a description.
pub(crate) fn format_code(formats: &[i16], at: usize) -> i16 {
    cells::format_of(formats, at).code()
}
