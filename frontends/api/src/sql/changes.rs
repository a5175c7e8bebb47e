//! Executes SQL statements that change tables: `CREATE TABLE`, `INSERT`, `DELETE`, `TRUNCATE`,
//! `COPY`. [`super::definitions`] calls them; [`sql::statement`] has parsed them.

use super::definitions::StatementOutcome;
use crate::response::{ApiError, ErrorType};
use crate::services::TableStore;
use ::sql::statement::{
    CopyInStatement, CreateTableStatement, DeleteStatement, InsertStatement, InsertedValue, SqlStatement,
};
use ::sql::tables::copy::CopyReader;
use ::sql::tables::{ColumnType, EqualTo, Table, TableAppender};
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

/// Adds rows. Blocks.
pub(super) fn insert(
    tables: &dyn TableStore,
    statement: &InsertStatement,
    params: &[Value],
    now: TimeMs,
) -> Result<StatementOutcome, ApiError> {
    let name = statement.name.as_str();
    let mut count = 0;
    tables.change(name, &mut |table: &Table| {
        let mut appender = TableAppender::new(name, table, &statement.columns, "row")?;
        for (at, row) in statement.rows.iter().enumerate() {
            let values = row.iter().map(|value| text_of(value, params, now));
            let values = values.collect::<Result<Vec<_>, _>>()?;
            appender.add(&values, at + 1)?;
        }
        count = appender.rows();
        appender.finish(table)
    })?;
    Ok(StatementOutcome::new(format!("{count} rows are added to {name}"), &format!("INSERT 0 {count}")))
}

/// Removes rows. Blocks.
pub(super) fn delete(
    tables: &dyn TableStore,
    statement: &DeleteStatement,
    params: &[Value],
    now: TimeMs,
) -> Result<StatementOutcome, ApiError> {
    let name = statement.name.as_str();
    let mut conditions = Vec::new();
    let mut is_never = false;
    for (column, value) in &statement.conditions {
        match text_of(value, params, now).map_err(QueryError::from)? {
            Some(value) => conditions.push(EqualTo { column: column.clone(), value }),
            // Nothing is equal to NULL.
            None => is_never = true,
        }
    }
    let mut count = 0;
    tables.change(name, &mut |table: &Table| {
        if is_never {
            return Ok(table.clone());
        }
        let left = table.without(name, &conditions)?;
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
    let appender = TableAppender::new(name, &table, &statement.columns, "line").map_err(QueryError::from)?;
    Ok(CopyReader::new(appender, &statement.format))
}

/// Adds the rows of a `COPY`; returns how many. Blocks.
pub(super) fn copied(tables: &dyn TableStore, name: &str, reader: CopyReader) -> Result<usize, ApiError> {
    let mut appender = reader.finish().map_err(QueryError::from)?;
    let count = appender.rows();
    tables.change(name, &mut |table: &Table| appender.finish(table))?;
    Ok(count)
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
            for row in &insert.rows {
                for (at, value) in row.iter().enumerate() {
                    note(value, kinds.get(at).copied());
                }
            }
        }
        SqlStatement::Delete(delete) => {
            let table = table(&delete.name);
            for (column, value) in &delete.conditions {
                let columns = [column.clone()];
                let appender = table
                    .as_ref()
                    .and_then(|table| TableAppender::new(&delete.name, table, &columns, "row").ok());
                note(value, appender.and_then(|appender| appender.kinds().first().copied()));
            }
        }
        _ => {}
    }
    types
}
