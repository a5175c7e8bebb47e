//! Executes SQL statements that change tables: `CREATE TABLE`, `INSERT`, `UPDATE`, `DELETE`,
//! `TRUNCATE`, `COPY`. [`super::definitions`] calls them; [`sql::statement`] has parsed them.

use super::definitions::StatementOutcome;
use super::{WaitingStatement, in_turn};
use crate::AppState;
use crate::params::Form;
use crate::query::{self, CancelOnDrop};
use crate::response::{ApiError, ErrorType};
use crate::services::TableStore;
use ::sql::statement::{
    CopyInStatement, CreateTableStatement, DeleteStatement, InsertSource, InsertStatement, InsertedValue,
    SqlStatement, UpdateStatement,
};
use ::sql::tables::copy::CopyReader;
use ::sql::tables::{ColumnType, EqualTo, InsertedRows, NewValue, Table, TableAppender, UpdatedTable};
use ::sql::{SqlEngine, SqlRequest};
use chrono::SecondsFormat;
use engine::query::QueryError;
use serde_json::Value;
use std::sync::Arc;
use storage::model::TimeMs;

/// Makes a table without rows. Blocks.
pub(super) fn create_table(
    tables: &dyn TableStore,
    statement: &CreateTableStatement,
) -> Result<StatementOutcome, ApiError> {
    let name = statement.name.as_str();
    super::tables::check_name(name)?;
    let table = Table::empty(&statement.columns, &statement.key).map_err(QueryError::from)?;
    match tables.create(name, table) {
        Err(e)
            if e.kind == ErrorType::Conflict && statement.if_not_exists && tables.table(name).is_some() =>
        {
            Ok(StatementOutcome::new(format!("table {name} was there already"), "CREATE TABLE"))
        }
        created => created.map(|()| StatementOutcome::new(format!("table {name} is made"), "CREATE TABLE")),
    }
}

/// The statement with the rows of its query written out, if it has one: it runs in its turn and
/// within the limits of a query, before the table is touched.
pub(super) async fn with_rows(
    state: &AppState,
    statement: SqlStatement,
    params: &[Value],
) -> Result<SqlStatement, ApiError> {
    let SqlStatement::Insert(InsertStatement { name, columns, source: InsertSource::Query { text, .. } }) =
        statement
    else {
        return Ok(statement);
    };
    let time = state.sources.clock.now();
    let request = SqlRequest { text, time, params: params.to_vec(), ..SqlRequest::default() };
    let options = query::options(state, &Form::default())?;
    let _canceled_with_this = CancelOnDrop(options.cancel.clone());
    let waiting = WaitingStatement { request, options, client: None };
    let collected = |engine: &SqlEngine, waiting: &WaitingStatement| {
        let mut rows = InsertedRows::default();
        engine.run(&waiting.request, &waiting.options, &mut rows)?;
        Ok(rows.into_rows())
    };
    let stopped = |_| ApiError::new(ErrorType::Internal, "the statement stopped unexpectedly");
    let rows = in_turn(state, waiting, collected).await?.await.map_err(stopped)?;
    let source = InsertSource::Values(rows?);
    Ok(SqlStatement::Insert(InsertStatement { name, columns, source }))
}

/// Adds rows that are written out. Blocks.
pub(super) fn insert(
    tables: &dyn TableStore,
    statement: &InsertStatement,
    params: &[Value],
    now: TimeMs,
) -> Result<StatementOutcome, ApiError> {
    let name = statement.name.as_str();
    let InsertSource::Values(rows) = &statement.source else {
        return Err(ApiError::new(ErrorType::Internal, "the query of the rows has not run"));
    };
    let mut count = 0;
    tables.change(name, &mut |table: &Table| {
        let mut appender = TableAppender::new(name, table, &statement.columns, "row")?;
        for (at, row) in rows.iter().enumerate() {
            let values = row.iter().map(|value| text_of(value, params, now));
            let values = values.collect::<Result<Vec<_>, _>>()?;
            appender.add(&values, at + 1)?;
        }
        count = appender.rows();
        appender.finish(table)
    })?;
    Ok(StatementOutcome::new(format!("{count} rows are added to {name}"), &format!("INSERT 0 {count}")))
}

/// The conditions of a statement; `None`: no row satisfies them, as nothing is equal to NULL.
fn equal_to(
    conditions: &[(String, InsertedValue)],
    params: &[Value],
    now: TimeMs,
) -> Result<Option<Vec<EqualTo>>, ApiError> {
    let mut found = Vec::new();
    for (column, value) in conditions {
        match text_of(value, params, now).map_err(QueryError::from)? {
            Some(value) => found.push(EqualTo { column: column.clone(), value }),
            None => return Ok(None),
        }
    }
    Ok(Some(found))
}

/// Replaces values. Blocks.
pub(super) fn update(
    tables: &dyn TableStore,
    statement: &UpdateStatement,
    params: &[Value],
    now: TimeMs,
) -> Result<StatementOutcome, ApiError> {
    let name = statement.name.as_str();
    let conditions = equal_to(&statement.conditions, params, now)?;
    let mut values = Vec::new();
    for (column, value) in &statement.assignments {
        let value = text_of(value, params, now).map_err(QueryError::from)?;
        values.push(NewValue { column: column.clone(), value });
    }
    let mut count = 0;
    tables.change(name, &mut |table: &Table| {
        let Some(conditions) = &conditions else { return Ok(table.clone()) };
        let UpdatedTable { table, rows } = table.with_values(name, &values, conditions)?;
        count = rows;
        Ok(table)
    })?;
    Ok(StatementOutcome::new(format!("{count} rows of {name} are changed"), &format!("UPDATE {count}")))
}

/// Removes rows. Blocks.
pub(super) fn delete(
    tables: &dyn TableStore,
    statement: &DeleteStatement,
    params: &[Value],
    now: TimeMs,
) -> Result<StatementOutcome, ApiError> {
    let name = statement.name.as_str();
    let conditions = equal_to(&statement.conditions, params, now)?;
    let mut count = 0;
    tables.change(name, &mut |table: &Table| {
        let Some(conditions) = &conditions else { return Ok(table.clone()) };
        let left = table.without(name, conditions)?;
        count = table.batch().num_rows() - left.batch().num_rows();
        Ok(left)
    })?;
    let text = format!("{count} rows are removed from {name}");
    if statement.is_truncate {
        return Ok(StatementOutcome::new(text, "TRUNCATE TABLE"));
    }
    Ok(StatementOutcome::new(text, &format!("DELETE {count}")))
}

/// A value that is written out, as text; `None`: NULL.
fn text_of(value: &InsertedValue, params: &[Value], now: TimeMs) -> Result<Option<String>, ::sql::SqlError> {
    Ok(match value {
        InsertedValue::Null => None,
        InsertedValue::Text(text) => Some(text.clone()),
        InsertedValue::Now => {
            let time = chrono::DateTime::from_timestamp_millis(now).unwrap_or_default();
            Some(time.to_rfc3339_opts(SecondsFormat::Millis, true))
        }
        InsertedValue::Parameter(number) => match params.get(number - 1) {
            None => {
                let error =
                    format!("the statement has a parameter ${number} and the request no value for it");
                return Err(::sql::SqlError::bad(error));
            }
            Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(other) => Some(other.to_string()),
        },
    })
}

/// What reads the rows of a `COPY`.
pub(super) fn copy_reader(
    tables: &dyn TableStore,
    statement: &CopyInStatement,
) -> Result<CopyReader, ApiError> {
    let name = statement.name.as_str();
    let missing = || ApiError::new(ErrorType::NotFound, format!("there is no table {name:?}"));
    let table = tables.table(name).ok_or_else(missing)?;
    let unit = statement.format.place_unit();
    let appender = TableAppender::new(name, &table, &statement.columns, unit).map_err(QueryError::from)?;
    Ok(CopyReader::new(appender, &statement.format))
}

/// Adds the rows of a `COPY`; returns how many. Blocks.
pub(super) fn copied(tables: &dyn TableStore, name: &str, reader: CopyReader) -> Result<usize, ApiError> {
    let mut appender = reader.finish().map_err(QueryError::from)?;
    let count = appender.rows();
    tables.change(name, &mut |table: &Table| appender.finish(table))?;
    Ok(count)
}

/// The types of the columns of a table, by their names.
fn kind_of(table: Option<Arc<Table>>, name: &str) -> impl Fn(&str) -> Option<ColumnType> + use<'_> {
    move |column: &str| {
        let appender = TableAppender::new(name, table.as_ref()?, &[column.to_owned()], "row").ok()?;
        appender.kinds().first().copied()
    }
}

/// The types of the parameters of a statement that changes a table; `None`: unknown.
pub(super) fn parameter_types(
    statement: &SqlStatement,
    table: &dyn Fn(&str) -> Option<Arc<Table>>,
) -> Vec<Option<ColumnType>> {
    let mut types = Vec::new();
    let mut note = |value: &InsertedValue, kind: Option<ColumnType>| {
        let InsertedValue::Parameter(number) = value else { return };
        if *number > ::sql::limits::PARAMETERS {
            return;
        }
        if types.len() < *number {
            types.resize(*number, None);
        }
        types[number - 1] = types[number - 1].or(kind);
    };
    match statement {
        SqlStatement::Insert(insert) => {
            let table = table(&insert.name);
            let appender =
                table.and_then(|table| TableAppender::new(&insert.name, &table, &insert.columns, "row").ok());
            let kinds = appender.map(|appender| appender.kinds()).unwrap_or_default();
            match &insert.source {
                InsertSource::Values(rows) => {
                    for (at, value) in rows.iter().flat_map(|row| row.iter().enumerate()) {
                        note(value, kinds.get(at).copied());
                    }
                }
                InsertSource::Query { params, .. } => {
                    for number in 1..=*params {
                        note(&InsertedValue::Parameter(number), None);
                    }
                }
            }
        }
        SqlStatement::Update(update) => {
            let kind = kind_of(table(&update.name), &update.name);
            for (column, value) in update.assignments.iter().chain(&update.conditions) {
                note(value, kind(column));
            }
        }
        SqlStatement::Delete(delete) => {
            let kind = kind_of(table(&delete.name), &delete.name);
            for (column, value) in &delete.conditions {
                note(value, kind(column));
            }
        }
        _ => {}
    }
    types
}
