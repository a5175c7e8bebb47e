//! Statements that define, remove and list alerts and views.

use crate::AppState;
use crate::dispatch::ApiRequest;
use crate::response::{ApiError, ApiResult, ErrorType};
use crate::saved_queries::{allowed, off_runtime, recording_rule, refused};
use crate::services::{AlertDefinitions, TableStore};
use ::sql::output::{Format, write_texts};
use ::sql::statement::{AlertStatement, DropStatement, SqlStatement, ViewStatement};
use axum::body::Body;
use engine::query::QueryError;
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
}

/// The columns of a statement that lists something; none if it does something else.
pub fn shown_names(statement: &SqlStatement) -> &'static [&'static str] {
    match statement {
        SqlStatement::ShowAlerts => &["name", "for", "keep_firing_for", "labels", "annotations", "query"],
        SqlStatement::ShowViews => &["name", "record", "interval", "query"],
        SqlStatement::ShowTables => &["name", "rows", "bytes", "columns"],
        _ => &[],
    }
}

/// Runs a statement that is no query.
pub(super) async fn run(call: &ApiRequest, statement: SqlStatement, format: Format) -> ApiResult {
    let TextRows { names, rows } = answer(&call.state, statement).await?;
    let body = write_texts(format, &names, &rows).map_err(QueryError::from)?;
    Ok(super::response(format, Body::from(body)))
}

/// The answer of a statement that is no query.
pub(super) async fn answer(state: &AppState, statement: SqlStatement) -> Result<TextRows, ApiError> {
    match statement {
        SqlStatement::ShowAlerts => {
            let rows: Vec<Vec<String>> = alerts(state)?.all().iter().map(alert_row).collect();
            return Ok(TextRows { names: shown_names(&statement).to_vec(), rows });
        }
        SqlStatement::ShowViews => {
            let rows = view_rows(&state.sources.saved_queries);
            return Ok(TextRows { names: shown_names(&statement).to_vec(), rows });
        }
        SqlStatement::ShowTables => {
            let rows = table_rows(tables(state)?.as_ref());
            return Ok(TextRows { names: shown_names(&statement).to_vec(), rows });
        }
        _ => allowed(state)?,
    }
    let worker = state.clone();
    let changing = move || change(&worker, &statement);
    let done = off_runtime(state.settings.execution, changing).await??;
    Ok(TextRows { names: vec!["result"], rows: vec![vec![done]] })
}

/// Changes what is defined. Blocks.
fn change(state: &AppState, statement: &SqlStatement) -> Result<String, ApiError> {
    match statement {
        SqlStatement::CreateAlert(alert) => {
            alerts(state)?.create(alert)?;
            Ok(format!("alert {} is defined", alert.name))
        }
        SqlStatement::CreateView(view) => create_view(state, view),
        SqlStatement::Drop(gone) => remove(state, gone),
        SqlStatement::DropTable(gone) => match tables(state)?.remove(&gone.name) {
            Ok(()) => Ok(format!("{} is removed", gone.name)),
            Err(e) if e.kind == ErrorType::NotFound && gone.if_exists => {
                Ok(format!("{} was not there", gone.name))
            }
            Err(e) => Err(e),
        },
        SqlStatement::Query
        | SqlStatement::Subscribe(_)
        | SqlStatement::ShowTables
        | SqlStatement::ShowAlerts
        | SqlStatement::ShowViews => Err(ApiError::bad_data("this statement changes nothing")),
    }
}

fn alerts(state: &AppState) -> Result<Arc<dyn AlertDefinitions>, ApiError> {
    let none = || ApiError::new(ErrorType::Unavailable, "this server defines no alerts");
    state.sources.alert_definitions.clone().ok_or_else(none)
}

fn tables(state: &AppState) -> Result<Arc<dyn TableStore>, ApiError> {
    let none = || ApiError::new(ErrorType::Unavailable, "this server keeps no tables");
    state.sources.tables.clone().ok_or_else(none)
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

fn create_view(state: &AppState, view: &ViewStatement) -> Result<String, ApiError> {
    let engine = state.sql_engine();
    // The error of the statement itself has its place.
    let checked = match view.record {
        Some(_) => engine.standing_series(&view.query, true).map(|_| ()),
        None => engine.standing_rows(&view.query).map(|_| ()),
    };
    checked.map_err(QueryError::from)?;
    let queries = &state.sources.saved_queries;
    let default = state.sources.admin.evaluation_interval().unwrap_or(state.settings.default_step);
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
    Ok(match outcome.map_err(refused)? {
        PutOutcome::Created => format!("view {} is defined", view.name),
        PutOutcome::Replaced => format!("view {} is replaced", view.name),
        PutOutcome::Unchanged => format!("view {} was defined so already", view.name),
    })
}

fn remove(state: &AppState, gone: &DropStatement) -> Result<String, ApiError> {
    let removed = if gone.is_alert {
        alerts(state)?.remove(&gone.name)
    } else {
        state.sources.saved_queries.remove(&gone.name).map_err(|e| match e {
            SavedQueryError::Missing(name) => {
                ApiError::new(ErrorType::NotFound, format!("there is no view {name:?} that can be removed"))
            }
            other => refused(other),
        })
    };
    match removed {
        Ok(()) => Ok(format!("{} is removed", gone.name)),
        Err(e) if e.kind == ErrorType::NotFound && gone.if_exists => {
            Ok(format!("{} was not there", gone.name))
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

fn view_rows(queries: &SavedQueries) -> Vec<Vec<String>> {
    let row = |(name, definition): (String, SavedQueryDefinition)| {
        let recording = definition.recording.as_ref();
        vec![
            name,
            recording.map_or_else(String::new, |recording| recording.record.clone()),
            recording.map_or_else(String::new, |recording| format_duration(recording.interval)),
            definition.query,
        ]
    };
    let ids = queries.definitions().into_keys();
    let mut rows: Vec<Vec<String>> = ids.filter_map(|id| queries.definition(id)).map(row).collect();
    rows.sort();
    rows
}
