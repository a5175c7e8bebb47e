//! `/api/v1/tables` and `/api/v1/tables/{name}`: upload, list, read and remove the tables that SQL
//! statements join with metrics ([`sql::tables`]).

use super::{media_type, response};
use crate::dispatch::ApiRequest;
use crate::response::{ApiError, ApiResult, ErrorType, success, success_as};
use crate::saved_queries::{allowed, off_runtime};
use crate::services::TableStore;
use ::sql::SqlSummary;
use ::sql::output::AnswerWriter;
use ::sql::tables::{Table, TableColumn, TableFormat};
use ::sql::{RowSink, limits};
use axum::body::Body;
use axum::http::{Method, StatusCode, header};
use engine::query::QueryError;
use serde::Serialize;
use std::sync::Arc;

/// A table, as it is listed.
#[derive(Serialize)]
struct TableJson {
    name: String,
    rows: usize,
    bytes: usize,
    columns: Vec<ColumnJson>,
}

#[derive(Serialize)]
struct ColumnJson {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
}

fn store(call: &ApiRequest) -> Result<Arc<dyn TableStore>, ApiError> {
    let none = || ApiError::new(ErrorType::Unavailable, "this server keeps no tables");
    call.state.sources.sql.tables.clone().ok_or_else(none)
}

fn described(name: &str, table: &Table) -> TableJson {
    let column = |column: TableColumn| ColumnJson { name: column.name, kind: column.kind };
    TableJson {
        name: name.to_owned(),
        rows: table.batch().num_rows(),
        bytes: table.bytes(),
        columns: table.columns().into_iter().map(column).collect(),
    }
}

/// `GET /api/v1/tables`
pub(crate) async fn list(call: ApiRequest) -> ApiResult {
    let store = store(&call)?;
    let table = |name: String| store.table(&name).map(|table| described(&name, &table));
    success(&store.names().into_iter().filter_map(table).collect::<Vec<_>>())
}

/// `/api/v1/tables/{name}`
pub(crate) async fn table(call: ApiRequest) -> ApiResult {
    if call.parts.method == Method::PUT {
        return put(call).await;
    }
    let store = store(&call)?;
    let name = call.parameter.clone();
    let missing = || ApiError::new(ErrorType::NotFound, format!("there is no table {name:?}"));
    if call.parts.method == Method::DELETE {
        allowed(&call.state)?;
        let gone = name.clone();
        off_runtime(call.state.settings.execution, move || store.remove(&gone)).await??;
        return success(&"removed");
    }
    let table = store.table(&name).ok_or_else(missing)?;
    let format = super::format(&call, &call.form)?;
    let mut out = Vec::new();
    let mut writer = AnswerWriter::new(format, |bytes: Vec<u8>| {
        out.extend(bytes);
        Ok(())
    });
    let rows = table.batch().num_rows();
    writer.schema(&table.schema()).map_err(QueryError::from)?;
    if rows > 0 {
        writer.rows(table.batch()).map_err(QueryError::from)?;
    }
    writer.finish(&SqlSummary { rows, warnings: Vec::new() }).map_err(QueryError::from)?;
    Ok(response(format, Body::from(out)))
}

async fn put(call: ApiRequest) -> ApiResult {
    allowed(&call.state)?;
    let store = store(&call)?;
    let name = call.parameter.clone();
    check_name(&name)?;
    let format = match media_type(&call, header::CONTENT_TYPE).as_str() {
        "text/csv" | "" | "application/x-www-form-urlencoded" => TableFormat::Csv,
        "application/json" => TableFormat::Json,
        "application/x-ndjson" | "application/ndjson" => TableFormat::Ndjson,
        other => {
            let error =
                format!("a table is no {other:?}: send text/csv, application/json or application/x-ndjson");
            return Err(ApiError::new(ErrorType::NotAcceptable, error));
        }
    };
    let body = call.body.clone();
    let put = move || -> Result<TableJson, ApiError> {
        let text =
            std::str::from_utf8(&body).map_err(|_| ApiError::bad_data("the table is no text in UTF-8"))?;
        let table = Table::read(text, format).map_err(QueryError::from)?;
        let described = described(&name, &table);
        store.put(&name, table)?;
        Ok(described)
    };
    let put = off_runtime(call.state.settings.execution, put).await??;
    success_as(StatusCode::OK, &put)
}

/// Names of tables and views: those that need no quotes, and that are no list of the server.
pub(super) fn check_name(name: &str) -> Result<(), ApiError> {
    let is_first = |c: char| c.is_ascii_lowercase() || c == '_';
    let is_word = name.chars().next().is_some_and(is_first)
        && name.chars().all(|c| is_first(c) || c.is_ascii_digit())
        && name.len() <= limits::TABLE_NAME_BYTES;
    if !is_word {
        let error = format!(
            "a table cannot be called {name:?}: lower-case letters, digits and _, not longer than 63"
        );
        return Err(ApiError::bad_data(error));
    }
    if ::sql::relations::META.iter().any(|table| table.name == name) || name == "metrics" {
        return Err(ApiError::bad_data(format!("{name:?} is a relation of the server")));
    }
    Ok(())
}
