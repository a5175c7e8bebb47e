//! `/api/v1/sql`: a statement in SQL over history.
//!
//! The statement comes as a form, as JSON with parameters, or as the body itself. It waits for a
//! turn and runs at low priority like a query in PromQL; large answers are a stream. An error
//! before the first row is a response as usual; after it, the connection breaks, or NDJSON says so.

mod changes;
mod definitions;
mod meta;
mod row_changes;
mod service;
pub(crate) mod standing;
pub(crate) mod tables;

pub use definitions::{TextRows, shown_names};
pub use row_changes::{RowChange, RowChanges};
pub use service::SqlService;

use super::AppState;
use super::confinement::ConfinedLists;
use super::dispatch::ApiRequest;
use super::params::Form;
use super::query::running_queries::{QueryKind, RunningQueries, RunningQuery, STOPPED};
use super::query::{CancelOnDrop, client_of};
use super::response::{ApiError, ApiResult, ErrorType};
use super::self_metrics::GaugeGuard;
use super::sending::streamed;
use super::subscribe::client_message::SubscribeRequest;
use super::{limits, params, subscribe};
use ::sql::output::{AnswerWriter, Format};
use ::sql::relations::MetaSource;
use ::sql::statement::SqlStatement;
use ::sql::{Grid, SqlEngine, SqlError, SqlErrorKind, SqlRequest, SqlSources};
use axum::body::Body;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use engine::query::{QueryError, QueryOptions};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};

/// The media type of a body that is the statement.
const STATEMENT: &str = "application/sql";

/// What statements need, made by the first of them.
#[derive(Default)]
pub(crate) struct SqlState {
    /// The engine, if the services have none.
    pub engine: OnceLock<Arc<SqlEngine>>,
    /// The lists of the server.
    pub lists: OnceLock<Arc<dyn MetaSource>>,
}

/// What the server knows about itself, as relations.
pub(crate) fn lists(services: &super::ApiServices, running: &Arc<RunningQueries>) -> Arc<dyn MetaSource> {
    Arc::new(meta::ServerLists::new(services.clone(), running.clone()))
}

/// The engine of SQL over the services of the API.
pub(crate) fn engine(services: &super::ApiServices, lists: Arc<dyn MetaSource>) -> SqlEngine {
    SqlEngine::new(SqlSources {
        engine: services.queries.answers.clone(),
        catalog: services.queries.catalog.clone(),
        language: services.queries.language.clone(),
        meta: lists,
        tables: Arc::new(::sql::tables::NoTables),
        memory: services.queries.memory.clone(),
    })
}

/// The engine over the services of a user who is confined to labels.
pub(crate) fn confined_engine(services: &super::ApiServices, lists: Arc<dyn MetaSource>) -> SqlEngine {
    engine(services, Arc::new(ConfinedLists(lists)))
}

/// A request, whatever its form.
struct StatementCall {
    request: SqlRequest,
    format: Format,
    options: QueryOptions,
}

/// `/api/v1/sql`
pub(crate) async fn statement(call: ApiRequest) -> ApiResult {
    let statement = asked(&call)?;
    let parsed = ::sql::statement::parse(&statement.request.text).map_err(QueryError::from)?;
    match parsed {
        SqlStatement::Query => answer(&call, statement).await,
        SqlStatement::Subscribe(text) => {
            subscribe::streaming::lines(call, SubscribeRequest::from_statement(text)).await
        }
        other => {
            call.state.for_everybody("what is defined here")?;
            definitions::run(&call, other, statement.request.params, statement.format).await
        }
    }
}

/// The answer, as JSON, of a standing statement, at the current time.
pub(crate) async fn standing_answer(call: &ApiRequest, text: String) -> ApiResult {
    let time = call.state.sources.clock.now();
    let request = SqlRequest { text, time, standing: true, ..SqlRequest::default() };
    let options = super::query::options(&call.state, &call.form)?;
    answer(call, StatementCall { request, format: Format::Json, options }).await
}

async fn answer(call: &ApiRequest, statement: StatementCall) -> ApiResult {
    let StatementCall { request, format, options } = statement;
    let client = client_of(call);
    let (pieces, received) = mpsc::channel(limits::SQL_PIECES);
    let cancel = CancelOnDrop(options.cancel.clone());
    let waiting = WaitingStatement { request, options, client };
    let work = move |engine: &SqlEngine, statement: &WaitingStatement| {
        run(engine, &statement.request, format, &statement.options, &pieces)
    };
    let ended = in_turn(&call.state, waiting, work).await?;
    respond(received, ended, format, cancel).await
}

/// A statement before its turn.
pub(crate) struct WaitingStatement {
    pub(crate) request: SqlRequest,
    pub(crate) options: QueryOptions,
    /// The client that asks.
    pub(crate) client: Option<SocketAddr>,
}

/// Waits until the samples of a statement can be read and for its turn; then runs `work` at low
/// priority. The time of waiting counts. The result comes when the work has ended.
pub(crate) async fn in_turn<T: Send + 'static>(
    state: &AppState,
    waiting: WaitingStatement,
    work: impl FnOnce(&SqlEngine, &WaitingStatement) -> Result<T, SqlError> + Send + 'static,
) -> Result<oneshot::Receiver<Result<T, SqlError>>, ApiError> {
    let WaitingStatement { request, options, client } = waiting;
    // Before a turn is taken: a statement that waits for the replay must not block those that can
    // run.
    state.wait_readable(request.time, options.timeout).await?;
    let counted = GaugeGuard::new(&state.telemetry.queries);
    let began = Instant::now();
    let turn = tokio::time::timeout(options.timeout, state.work.query_permits.turn(client.map(|c| c.ip())))
        .await
        .ok()
        .flatten();
    let Some(turn) = turn else {
        return Err(QueryError::Timeout("query timed out in query queue".to_owned()).into());
    };
    // The time in the queue counts, as for queries in PromQL.
    let options = QueryOptions { timeout: options.timeout.saturating_sub(began.elapsed()), ..options };
    let (told, ended) = oneshot::channel();
    let running = state.work.query_permits.running.begin(RunningQuery {
        kind: QueryKind::Sql,
        text: request.text.clone(),
        client: client.map(|client| client.to_string()).unwrap_or_default(),
        since: state.sources.clock.now(),
        handles: (&options).into(),
    });
    let asking = state.clone();
    let begun = move || {
        let written = asking.work.query_permits.write(&request.text, asking.sources.clock.now() / 1000);
        // Held until the statement has really stopped.
        let _held = (turn, counted, written);
        let engine = asking.sql_engine();
        let mut answered = work(&engine, &WaitingStatement { request, options, client });
        running.finish(answered.as_ref().err().map(ToString::to_string).as_deref());
        if running.is_stopped()
            && let Err(error) = &mut answered
            && error.kind == SqlErrorKind::Canceled
        {
            *error = SqlError::new(SqlErrorKind::Canceled, STOPPED);
        }
        // Sending fails only if the client is gone.
        drop(told.send(answered));
    };
    drop(state.work.low_priority.run(begun));
    Ok(ended)
}

/// Runs the statement; the pieces of its answer go to `pieces`.
fn run(
    engine: &SqlEngine,
    request: &SqlRequest,
    format: Format,
    options: &QueryOptions,
    pieces: &mpsc::Sender<Bytes>,
) -> Result<(), SqlError> {
    let deadline = Instant::now() + options.timeout;
    let sent = std::sync::atomic::AtomicBool::new(false);
    let mut writer = AnswerWriter::new(format, |bytes: Vec<u8>| {
        if bytes.is_empty() {
            return Ok(());
        }
        sent.store(true, std::sync::atomic::Ordering::Relaxed);
        send_patiently(pieces, bytes.into(), deadline)
    });
    match engine.run(request, options, &mut writer) {
        Ok(summary) => writer.finish(&summary),
        Err(e) => {
            // Nothing has been sent: the error is the whole response, with its status.
            if sent.load(std::sync::atomic::Ordering::Relaxed) {
                writer.fail(&e)?;
            }
            Err(e)
        }
    }
}

/// Sends a piece of an answer; waits until the client has read enough. The caller's thread belongs
/// to a runtime that must not block, so it asks again.
pub fn send_patiently<T>(pieces: &mpsc::Sender<T>, mut piece: T, deadline: Instant) -> Result<(), SqlError> {
    loop {
        piece = match pieces.try_send(piece) {
            Ok(()) => return Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => {
                return Err(SqlError::new(SqlErrorKind::Canceled, "the client is gone"));
            }
            Err(mpsc::error::TrySendError::Full(piece)) => piece,
        };
        if Instant::now() > deadline {
            return Err(SqlError::new(SqlErrorKind::Timeout, "the client did not read the answer in time"));
        }
        std::thread::sleep(limits::SQL_SEND_WAIT);
    }
}

/// The response: an error, if there is one before the first piece, else the pieces.
async fn respond(
    mut received: mpsc::Receiver<Bytes>,
    ended: oneshot::Receiver<Result<(), SqlError>>,
    format: Format,
    cancel: CancelOnDrop,
) -> ApiResult {
    let stopped = || Err(SqlError::new(SqlErrorKind::Internal, "the statement stopped unexpectedly"));
    // The first piece decides the status: once a body has begun, only its end can tell of an error.
    let Some(first) = received.recv().await else {
        return match ended.await.unwrap_or_else(|_| stopped()) {
            Ok(()) => Ok(response(format, Body::empty())),
            Err(e) => Err(QueryError::from(e).into()),
        };
    };
    let rest = futures::stream::unfold(Some((received, ended, cancel)), move |waiting| async move {
        let (mut received, ended, cancel) = waiting?;
        if let Some(piece) = received.recv().await {
            return Some((Ok(piece), Some((received, ended, cancel))));
        }
        // An answer that failed ends without its end: the connection breaks. NDJSON has said it.
        match ended.await.unwrap_or_else(|_| stopped()) {
            Err(e) if format != Format::Ndjson => Some((Err(e), None)),
            _ => None,
        }
    });
    let begin = futures::stream::iter([Ok::<Bytes, SqlError>(first)]);
    let whole = futures::StreamExt::chain(begin, rest);
    Ok(response(format, streamed(whole)))
}

fn response(format: Format, body: Body) -> Response {
    (StatusCode::OK, [(header::CONTENT_TYPE, format.media_type())], body).into_response()
}

/// Reads the request.
fn asked(call: &ApiRequest) -> Result<StatementCall, ApiError> {
    let media = media_type(call, header::CONTENT_TYPE);
    let mut params = Vec::new();
    let mut text = String::new();
    let mut form = call.form.clone();
    match media.as_str() {
        "application/json" => {
            let body: Value = serde_json::from_slice(&call.body)
                .map_err(|e| ApiError::bad_data(format!("the body is no JSON: {e}")))?;
            let Value::Object(fields) = body else {
                return Err(ApiError::bad_data(
                    r#"the body must be an object: {"sql": "SELECT …", "params": []}"#,
                ));
            };
            let mut values = Vec::new();
            for (name, value) in fields {
                match (name.as_str(), value) {
                    ("params", Value::Array(list)) => params = list,
                    ("sql" | "query", Value::String(sql)) => text = sql,
                    ("time" | "start" | "end" | "step" | "timeout" | "format", value) => {
                        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                        values.push((name, value));
                    }
                    (other, _) => {
                        return Err(ApiError::bad_data(format!(
                            "unknown field {other:?}: there are sql, params, time, start, end, step, timeout, format"
                        )));
                    }
                }
            }
            form = form.with(values, None);
        }
        // What is not UTF-8 becomes a character that no statement has, and is reported at its
        // place.
        STATEMENT => text = String::from_utf8_lossy(&call.body).into_owned(),
        _ => {
            form = Form::parse(Some(&call.body), call.parts.uri.query())?;
        }
    }
    for name in ["sql", "query"] {
        if text.is_empty() {
            form.get(name).clone_into(&mut text);
        }
    }
    let time = form.time_or("time", call.state.sources.clock.now())?;
    let grid = grid(&form)?;
    let format = format(call, &form)?;
    let options = super::query::options(&call.state, &form)?;
    Ok(StatementCall {
        request: SqlRequest { text, time, grid, params, ..SqlRequest::default() },
        format,
        options,
    })
}

fn media_type(call: &ApiRequest, name: HeaderName) -> String {
    call.header(name).split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// `start`, `end` and `step`: the evaluation times of metrics.
fn grid(form: &Form) -> Result<Option<Grid>, ApiError> {
    if form.get("start").is_empty() && form.get("end").is_empty() && form.get("step").is_empty() {
        return Ok(None);
    }
    let start = form.time("start")?;
    let end = form.time("end")?;
    let step = params::parse_step(form.get("step")).map_err(|e| ApiError::parameter("step", e))?;
    if step <= 0 {
        return Err(ApiError::parameter("step", "it must be positive"));
    }
    // The limit of range queries: a grid is one.
    if end < start || (end - start) / step >= limits::RANGE_POINTS {
        return Err(ApiError::parameter("step", "the times must be in order, with at most 11,000 steps"));
    }
    Ok(Some(Grid { start, end, step }))
}

fn format(call: &ApiRequest, form: &Form) -> Result<Format, ApiError> {
    match form.get("format") {
        "" => {
            let accepted = call.header(header::ACCEPT).split(',').filter_map(Format::named).next();
            Ok(accepted.unwrap_or(Format::Json))
        }
        name => Format::named(name).ok_or_else(|| {
            ApiError::new(ErrorType::BadData, format!("no format {name:?}: json, csv, ndjson, arrow"))
        }),
    }
}
