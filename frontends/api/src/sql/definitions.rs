//! Executes SQL statements that are no queries: they define, remove or list alerts, views and
//! tables.
//!
//! Input: a [`SqlStatement`] of [`sql::statement`]. [`super::changes`] has those that change the
//! rows of tables.

use super::changes;
use crate::AppState;
use crate::dispatch::ApiRequest;
use crate::response::{ApiError, ApiResult, ErrorType};
use crate::saved_queries::{allowed, off_runtime, recording_rule, refused};
use crate::services::{AlertDefinitions, TableStore};
use ::sql::output::{Format, write_texts};
use ::sql::statement::{
    AlertStatement, DropKind, DropStatement, NamedViewStatement, SqlStatement, ViewStatement,
};
use axum::body::Body;
use engine::query::QueryError;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use storage::model::time::format_duration;
use views::saved::definition::{Language, RecordOptions, SavedQueryDefinition};
use views::saved::{PutOutcome, SavedQueries, SavedQueryError};

/// The answer of a statement that is no query: texts under the names of columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextRows {
    /// The names of the columns.
    pub names: Vec<&'static str>,
    /// A text for each column.
    pub rows: Vec<Vec<String>>,
    /// How PostgreSQL calls what was done, such as `INSERT 0 2`.
    pub tag: String,
}

/// What a statement has done.
pub(super) struct StatementOutcome {
    /// In words.
    pub(super) text: String,
    /// As PostgreSQL calls it.
    pub(super) tag: String,
}

impl StatementOutcome {
    pub(super) fn new(text: String, tag: &str) -> StatementOutcome {
        StatementOutcome { text, tag: tag.to_owned() }
    }
}

/// The columns of a statement that lists something; none if it does something else.
pub fn shown_names(statement: &SqlStatement) -> &'static [&'static str] {
    match statement {
        SqlStatement::ShowAlerts => &["name", "for", "keep_firing_for", "labels", "annotations", "query"],
        SqlStatement::ShowViews => &["name", "record", "interval", "query", "kind"],
        SqlStatement::ShowTables => &["name", "rows", "bytes", "columns"],
        SqlStatement::ShowCreateView(_) => &["name", "statement"],
        _ => &[],
    }
}

/// Runs a statement that is no query; `params` has the values of `$1`, `$2`, ….
pub(super) async fn run(
    call: &ApiRequest,
    statement: SqlStatement,
    params: Vec<Value>,
    format: Format,
) -> ApiResult {
    let TextRows { names, rows, .. } = answer(&call.state, statement, params).await?;
    let body = write_texts(format, &names, &rows).map_err(QueryError::from)?;
    Ok(super::response(format, Body::from(body)))
}

/// The answer of a statement that is no query.
pub(super) async fn answer(
    state: &AppState,
    statement: SqlStatement,
    params: Vec<Value>,
) -> Result<TextRows, ApiError> {
    let shown = |rows: Vec<Vec<String>>| {
        Ok(TextRows { names: shown_names(&statement).to_vec(), rows, tag: "SHOW".to_owned() })
    };
    match &statement {
        SqlStatement::ShowAlerts => return shown(alerts(state)?.all().iter().map(alert_row).collect()),
        SqlStatement::ShowViews => return shown(view_rows(state)),
        SqlStatement::ShowTables => return shown(table_rows(tables(state)?.as_ref())),
        SqlStatement::ShowCreateView(name) => return shown(vec![view_statement(state, name)?]),
        SqlStatement::CopyIn(_) | SqlStatement::CopyOut(_) | SqlStatement::Cursor(_) => {
            let error = "COPY and cursors need a connection: use the PostgreSQL wire (--sql.listen-address)";
            return Err(ApiError::bad_data(error));
        }
        _ => allowed(state)?,
    }
    let statement = changes::with_rows(state, statement, &params).await?;
    let worker = state.clone();
    let changing = move || change(&worker, &statement, &params);
    let done = off_runtime(state.settings.execution, changing).await??;
    Ok(TextRows { names: vec!["result"], rows: vec![vec![done.text]], tag: done.tag })
}

/// Changes what is defined. Blocks.
fn change(
    state: &AppState,
    statement: &SqlStatement,
    params: &[Value],
) -> Result<StatementOutcome, ApiError> {
    match statement {
        SqlStatement::CreateAlert(alert) => {
            alerts(state)?.create(alert)?;
            Ok(StatementOutcome::new(format!("alert {} is defined", alert.name), "CREATE ALERT"))
        }
        SqlStatement::CreateView(view) => create_view(state, view),
        SqlStatement::CreateNamedView(view) => create_named_view(state, view),
        SqlStatement::CreateTable(table) => changes::create_table(tables(state)?.as_ref(), table),
        SqlStatement::Insert(insert) => {
            changes::insert(tables(state)?.as_ref(), insert, params, state.sources.clock.now())
        }
        SqlStatement::Update(update) => {
            changes::update(tables(state)?.as_ref(), update, params, state.sources.clock.now())
        }
        SqlStatement::Delete(delete) => {
            changes::delete(tables(state)?.as_ref(), delete, params, state.sources.clock.now())
        }
        SqlStatement::Drop(gone) => remove(state, gone),
        SqlStatement::Query
        | SqlStatement::Subscribe(_)
        | SqlStatement::ShowTables
        | SqlStatement::ShowAlerts
        | SqlStatement::ShowViews
        | SqlStatement::ShowCreateView(_)
        | SqlStatement::CopyIn(_)
        | SqlStatement::CopyOut(_)
        | SqlStatement::Cursor(_) => Err(ApiError::bad_data("this statement changes nothing")),
    }
}

fn alerts(state: &AppState) -> Result<Arc<dyn AlertDefinitions>, ApiError> {
    let none = || ApiError::new(ErrorType::Unavailable, "this server defines no alerts");
    state.sources.sql.alert_definitions.clone().ok_or_else(none)
}

pub(super) fn tables(state: &AppState) -> Result<Arc<dyn TableStore>, ApiError> {
    let none = || ApiError::new(ErrorType::Unavailable, "this server keeps no tables");
    state.sources.sql.tables.clone().ok_or_else(none)
}

fn table_rows(tables: &dyn TableStore) -> Vec<Vec<String>> {
    let row = |name: String| {
        let table = tables.table(&name)?;
        let columns = table.columns().into_iter().map(|column| format!("{} {}", column.name, column.kind));
        let columns = columns.collect::<Vec<_>>().join(", ");
        Some(vec![name, table.batch().num_rows().to_string(), table.bytes().to_string(), columns])
    };
    tables.names().into_iter().filter_map(row).collect()
}

fn create_view(state: &AppState, view: &ViewStatement) -> Result<StatementOutcome, ApiError> {
    let engine = state.sql_engine();
    // The error of the statement itself has its place.
    let checked = match view.record {
        Some(_) => engine.standing_series(&view.query, true).map(|_| ()),
        None => engine.standing_rows(&view.query).map(|_| ()),
    };
    checked.map_err(QueryError::from)?;
    let queries = &state.sources.saved_queries;
    let default = state.sources.admin.evaluation_interval().unwrap_or(state.settings.queries.default_step);
    let recording = view.record.clone().map(|record| RecordOptions {
        record,
        labels: BTreeMap::new(),
        interval: view.interval.unwrap_or(default),
    });
    if recording.is_none() && view.interval.is_some() {
        return Err(ApiError::bad_data("only a view with record has an interval"));
    }
    let definition = SavedQueryDefinition { query: view.query.clone(), lang: Language::Sql, recording };
    if queries.view(&view.name).is_some() && !view.replace {
        let error =
            format!("there is a view {:?}: CREATE OR REPLACE MATERIALIZED VIEW replaces it", view.name);
        return Err(ApiError::new(ErrorType::Conflict, error));
    }
    let outcome = queries.put(&view.name, definition, |recording| recording_rule(state, recording));
    let text = match outcome.map_err(refused)? {
        PutOutcome::Created => format!("view {} is defined", view.name),
        PutOutcome::Replaced => format!("view {} is replaced", view.name),
        PutOutcome::Unchanged => format!("view {} was defined so already", view.name),
    };
    Ok(StatementOutcome::new(text, "CREATE MATERIALIZED VIEW"))
}

fn create_named_view(state: &AppState, view: &NamedViewStatement) -> Result<StatementOutcome, ApiError> {
    super::tables::check_name(&view.name)?;
    let now = state.sources.clock.now();
    // The error of the query itself has its place.
    state.sql_engine().check_view(&view.name, &view.query, now).map_err(QueryError::from)?;
    tables(state)?.create_view(&view.name, &view.query, view.replace)?;
    Ok(StatementOutcome::new(format!("view {} is defined", view.name), "CREATE VIEW"))
}

fn remove(state: &AppState, gone: &DropStatement) -> Result<StatementOutcome, ApiError> {
    let name = gone.name.as_str();
    let saved = || {
        state.sources.saved_queries.remove(name).map_err(|e| match e {
            SavedQueryError::Missing(name) => {
                ApiError::new(ErrorType::NotFound, format!("there is no view {name:?} that can be removed"))
            }
            other => refused(other),
        })
    };
    let is_missing = |e: &ApiError| e.kind == ErrorType::NotFound;
    let (removed, tag) = match gone.kind {
        DropKind::Alert => (alerts(state)?.remove(name), "DROP ALERT"),
        DropKind::Table => (tables(state)?.remove(name), "DROP TABLE"),
        DropKind::MaterializedView => (saved(), "DROP MATERIALIZED VIEW"),
        DropKind::View => {
            let removed = match tables(state).and_then(|tables| tables.remove_view(name)) {
                Err(e) if is_missing(&e) || e.kind == ErrorType::Unavailable => saved(),
                other => other,
            };
            (removed, "DROP VIEW")
        }
    };
    match removed {
        Ok(()) => Ok(StatementOutcome::new(format!("{name} is removed"), tag)),
        Err(e) if is_missing(&e) && gone.if_exists => {
            Ok(StatementOutcome::new(format!("{name} was not there"), tag))
        }
        Err(e) => Err(e),
    }
}

fn alert_row(alert: &AlertStatement) -> Vec<String> {
    let object = |pairs: &BTreeMap<String, String>| serde_json::json!(pairs).to_string();
    vec![
        alert.name.clone(),
        format_duration(alert.hold),
        format_duration(alert.keep_firing_for),
        object(&alert.labels),
        object(&alert.annotations),
        alert.query.clone(),
    ]
}

/// The saved queries, and the queries with a name.
fn view_rows(state: &AppState) -> Vec<Vec<String>> {
    let mut rows = saved_rows(&state.sources.saved_queries);
    if let Ok(tables) = tables(state) {
        let row = |name: String| {
            let query = tables.view(&name)?.as_ref().to_owned();
            Some(vec![name, String::new(), String::new(), query, "view".to_owned()])
        };
        rows.extend(tables.view_names().into_iter().filter_map(row));
    }
    rows.sort();
    rows
}

fn saved_rows(queries: &SavedQueries) -> Vec<Vec<String>> {
    let row = |(name, definition): (String, SavedQueryDefinition)| {
        let recording = definition.recording.as_ref();
        vec![
            name,
            recording.map_or_else(String::new, |recording| recording.record.clone()),
            recording.map_or_else(String::new, |recording| format_duration(recording.interval)),
            definition.query,
            "materialized view".to_owned(),
        ]
    };
    let ids = queries.definitions().into_keys();
    ids.filter_map(|id| queries.definition(id)).map(row).collect()
}

/// The statement that makes a view.
fn view_statement(state: &AppState, name: &str) -> Result<Vec<String>, ApiError> {
    let named = tables(state).ok().and_then(|tables| tables.view(name));
    let statement = named.map(|query| format!("CREATE VIEW {name} AS {query}")).or_else(|| {
        let saved = saved_rows(&state.sources.saved_queries).into_iter().find(|row| row[0] == name)?;
        let [name, record, interval, query, _] = <[String; 5]>::try_from(saved).ok()?;
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        let with = if record.is_empty() {
            String::new()
        } else {
            format!(" WITH (record = '{record}', interval = '{interval}')")
        };
        Some(format!("CREATE MATERIALIZED VIEW {quoted}{with} AS {query}"))
    });
    let missing = || ApiError::new(ErrorType::NotFound, format!("there is no view {name:?}"));
    Ok(vec![name.to_owned(), statement.ok_or_else(missing)?])
}
