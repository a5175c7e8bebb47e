//! Writes the rows of an answer as JSON, CSV, NDJSON or a stream of Arrow.
//!
//! JSON and CSV are not written by arrow, which writes NaN and infinities as `null` in JSON and as
//! `inf` in CSV. A failed answer never looks complete: NDJSON ends with a line that has the error;
//! the other formats break off before their end.

use super::error::{SqlError, SqlErrorKind};
use super::limits;
use super::session::{RowSink, SqlSummary};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, Field, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMillisecondType,
};
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use std::fmt::Write;
use std::sync::Arc;

/// A format of answers.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// One object, at most [`limits::JSON_BYTES`].
    Json,
    /// A line of names, then lines of values.
    Csv,
    /// An object a row, then one that says that it is complete.
    Ndjson,
    /// A stream of Arrow record batches.
    Arrow,
}

impl Format {
    /// The format with this name, or of this media type.
    pub fn named(name: &str) -> Option<Format> {
        // Without parameters: clients send `text/csv; charset=utf-8`.
        Some(match name.split(';').next().unwrap_or_default().trim() {
            "json" | "application/json" => Format::Json,
            "csv" | "text/csv" => Format::Csv,
            "ndjson" | "application/x-ndjson" => Format::Ndjson,
            "arrow" | "application/vnd.apache.arrow.stream" => Format::Arrow,
            _ => return None,
        })
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Csv => "text/csv; charset=utf-8; header=present",
            Format::Ndjson => "application/x-ndjson",
            Format::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

/// An answer of texts, which is complete.
pub fn write_texts(format: Format, names: &[&str], rows: &[Vec<String>]) -> Result<Vec<u8>, SqlError> {
    let fields: Vec<Field> = names.iter().map(|name| Field::new(*name, DataType::Utf8, false)).collect();
    let column = |i: usize| -> ArrayRef {
        let cells = rows.iter().map(|row| row.get(i).map_or("", String::as_str));
        Arc::new(StringArray::from_iter_values(cells))
    };
    let columns = (0..names.len()).map(column).collect();
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(schema.clone(), columns).map_err(internal)?;
    let mut out = Vec::new();
    let mut writer = AnswerWriter::new(format, |bytes: Vec<u8>| {
        out.extend(bytes);
        Ok(())
    });
    writer.schema(&schema)?;
    if !rows.is_empty() {
        writer.rows(&batch)?;
    }
    writer.finish(&SqlSummary { rows: rows.len(), warnings: Vec::new() })?;
    Ok(out)
}

/// Writes the rows of an answer as pieces of bytes, which `emit` takes.
pub struct AnswerWriter<F> {
    format: Format,
    emit: F,
    schema: Option<SchemaRef>,
    arrow: Option<StreamWriter<Vec<u8>>>,
    /// JSON so far.
    json: String,
    /// The names of CSV, until they are sent.
    head: String,
    rows: usize,
}

impl<F> std::fmt::Debug for AnswerWriter<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AnswerWriter")
            .field("format", &self.format)
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

impl<F: FnMut(Vec<u8>) -> Result<(), SqlError> + Send> AnswerWriter<F> {
    /// A writer of this format.
    pub fn new(format: Format, emit: F) -> AnswerWriter<F> {
        AnswerWriter {
            format,
            emit,
            schema: None,
            arrow: None,
            json: String::new(),
            head: String::new(),
            rows: 0,
        }
    }

    /// The end of a complete answer.
    pub fn finish(mut self, summary: &SqlSummary) -> Result<(), SqlError> {
        match self.format {
            Format::Json => {
                let warnings = serde_json::json!(summary.warnings);
                let _ = write!(self.json, "]}},\"warnings\":{warnings},\"infos\":[]}}");
                (self.emit)(self.json.into_bytes())
            }
            // The names went out with the first rows.
            Format::Csv if self.head.is_empty() => Ok(()),
            Format::Csv => (self.emit)(self.head.into_bytes()),
            Format::Ndjson => {
                let end =
                    serde_json::json!({ "end": { "rows": summary.rows, "warnings": summary.warnings } });
                (self.emit)(format!("{end}\n").into_bytes())
            }
            Format::Arrow => {
                if let Some(mut arrow) = self.arrow.take() {
                    arrow.finish().map_err(internal)?;
                    (self.emit)(std::mem::take(arrow.get_mut()))?;
                }
                Ok(())
            }
        }
    }

    /// The end of an answer that failed after its first rows; formats without a word for it end
    /// where they are.
    pub fn fail(mut self, error: &SqlError) -> Result<(), SqlError> {
        if self.format == Format::Ndjson {
            let end = serde_json::json!({ "error": error.to_string() });
            (self.emit)(format!("{end}\n").into_bytes())?;
        }
        Ok(())
    }

    fn csv(&mut self, columns: &[ArrayRef], rows: usize) -> Result<(), SqlError> {
        let cells = columns.iter().map(Cells::from_array).collect::<Result<Vec<_>, _>>()?;
        // The line of names goes out with the first rows; afterwards it is empty.
        let mut out = std::mem::take(&mut self.head);
        for row in 0..rows {
            for (i, column) in cells.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                column.csv(row, &mut out);
            }
            // RFC 4180 has CRLF, and spreadsheets take it everywhere.
            out.push_str("\r\n");
        }
        (self.emit)(out.into_bytes())
    }

    fn ndjson(&mut self, schema: &SchemaRef, columns: &[ArrayRef], rows: usize) -> Result<(), SqlError> {
        let cells = columns.iter().map(Cells::from_array).collect::<Result<Vec<_>, _>>()?;
        let names: Vec<String> =
            // Quoted once for the answer, not for every row.
            schema.fields().iter().map(|f| serde_json::Value::from(f.name().as_str()).to_string()).collect();
        let mut out = String::new();
        for row in 0..rows {
            out.push('{');
            for (i, (name, column)) in names.iter().zip(&cells).enumerate() {
                let _ = write!(out, "{}{name}:", if i > 0 { "," } else { "" });
                column.json(row, &mut out);
            }
            out.push_str("}\n");
        }
        (self.emit)(out.into_bytes())
    }

    fn json(&mut self, columns: &[ArrayRef], rows: usize) -> Result<(), SqlError> {
        let cells = columns.iter().map(Cells::from_array).collect::<Result<Vec<_>, _>>()?;
        for row in 0..rows {
            self.json.push_str(if self.rows + row > 0 { ",[" } else { "[" });
            for (i, column) in cells.iter().enumerate() {
                if i > 0 {
                    self.json.push(',');
                }
                column.json(row, &mut self.json);
            }
            self.json.push(']');
        }
        // JSON is one value that clients can only use when it is complete, so all of it is held
        // here; the other formats are sent as they are made.
        if self.json.len() > limits::JSON_BYTES {
            let error = format!("the answer has more than {} MiB as JSON", limits::JSON_BYTES / 1024 / 1024);
            return Err(
                SqlError::new(SqlErrorKind::LimitReached, error).hint("use format=arrow, csv or ndjson")
            );
        }
        Ok(())
    }
}

impl<F: FnMut(Vec<u8>) -> Result<(), SqlError> + Send> RowSink for AnswerWriter<F> {
    fn schema(&mut self, schema: &SchemaRef) -> Result<(), SqlError> {
        self.schema = Some(schema.clone());
        match self.format {
            Format::Json => {
                let column = |field: &datafusion::arrow::datatypes::FieldRef| serde_json::json!({ "name": field.name(), "type": type_name(field.data_type()) });
                let columns: Vec<serde_json::Value> = schema.fields().iter().map(column).collect();
                let columns = serde_json::Value::from(columns);
                let _ =
                    write!(self.json, "{{\"status\":\"success\",\"data\":{{\"columns\":{columns},\"rows\":[");
                Ok(())
            }
            Format::Csv => {
                // Sent with the first rows: until then an error can still be the whole answer.
                let names: Vec<String> = schema.fields().iter().map(|f| quoted(f.name())).collect();
                self.head = format!("{}\r\n", names.join(","));
                Ok(())
            }
            Format::Ndjson => Ok(()),
            Format::Arrow => {
                self.arrow = Some(StreamWriter::try_new(Vec::new(), schema).map_err(internal)?);
                Ok(())
            }
        }
    }

    fn rows(&mut self, batch: &RecordBatch) -> Result<(), SqlError> {
        let rows = batch.num_rows();
        let schema = self.schema.clone().unwrap_or_else(|| batch.schema());
        match self.format {
            Format::Json => self.json(batch.columns(), rows)?,
            Format::Csv => self.csv(batch.columns(), rows)?,
            Format::Ndjson => self.ndjson(&schema, batch.columns(), rows)?,
            Format::Arrow => {
                let Some(arrow) = self.arrow.as_mut() else { return Ok(()) };
                // The columns of a batch may have other names than those that were announced; the
                // stream has one schema.
                let renamed = RecordBatch::try_new(schema, batch.columns().to_vec()).map_err(internal)?;
                arrow.write(&renamed).map_err(internal)?;
                let bytes = std::mem::take(arrow.get_mut());
                (self.emit)(bytes)?;
            }
        }
        self.rows += rows;
        Ok(())
    }
}

fn internal(e: impl std::fmt::Display) -> SqlError {
    SqlError::new(SqlErrorKind::Internal, e.to_string())
}

/// The name that PostgreSQL has for a type.
pub fn type_name(kind: &DataType) -> &'static str {
    match kind {
        DataType::Boolean => "bool",
        // Unsigned types have none in PostgreSQL: the next larger signed one holds all of their
        // values.
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => "int2",
        DataType::Int32 | DataType::UInt16 => "int4",
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => "int8",
        DataType::Float16 | DataType::Float32 => "float4",
        DataType::Float64 => "float8",
        DataType::Decimal128(..) | DataType::Decimal256(..) => "numeric",
        DataType::Timestamp(_, Some(_)) => "timestamptz",
        DataType::Timestamp(_, None) => "timestamp",
        DataType::Date32 | DataType::Date64 => "date",
        DataType::Time32(_) | DataType::Time64(_) => "time",
        DataType::Interval(_) | DataType::Duration(_) => "interval",
        _ => "text",
    }
}

/// The cells of a column, in one of the forms that are written.
pub(crate) enum Cells<'a> {
    Float(ArrayRef),
    Integer(ArrayRef),
    Bool(&'a ArrayRef),
    Time(ArrayRef),
    Text(ArrayRef),
    /// A distance between two times, ms.
    Distance(ArrayRef),
    Null,
    Other(ArrayFormatter<'a>, &'a ArrayRef),
}

impl<'a> Cells<'a> {
    pub(crate) fn from_array(array: &'a ArrayRef) -> Result<Cells<'a>, SqlError> {
        let to = |kind: &DataType| cast(array, kind).map_err(internal);
        Ok(match array.data_type() {
            DataType::Float16 | DataType::Float32 | DataType::Float64 => {
                Cells::Float(to(&DataType::Float64)?)
            }
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
                Cells::Integer(to(&DataType::Int64)?)
            }
            // PostgreSQL has no unsigned integers; counts beyond 2^63 do not occur.
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
                Cells::Integer(to(&DataType::Int64)?)
            }
            DataType::Boolean => Cells::Bool(array),
            DataType::Null => Cells::Null,
            DataType::Duration(_) => {
                let ms = to(&DataType::Duration(TimeUnit::Millisecond))?;
                Cells::Distance(cast(&ms, &DataType::Int64).map_err(internal)?)
            }
            DataType::Timestamp(_, zone) => {
                Cells::Time(to(&DataType::Timestamp(TimeUnit::Millisecond, zone.clone()))?)
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(..) => {
                Cells::Text(to(&DataType::Utf8)?)
            }
            _ => {
                let options = const { FormatOptions::new().with_display_error(true) };
                Cells::Other(ArrayFormatter::try_new(array.as_ref(), &options).map_err(internal)?, array)
            }
        })
    }

    /// The cell as text; `None`: NULL.
    pub(crate) fn text(&self, row: usize) -> Option<String> {
        let array: &dyn Array = match self {
            Cells::Float(array)
            | Cells::Integer(array)
            | Cells::Time(array)
            | Cells::Text(array)
            | Cells::Distance(array) => array.as_ref(),
            Cells::Null => return None,
            Cells::Bool(array) | Cells::Other(_, array) => array.as_ref(),
        };
        if array.is_null(row) {
            return None;
        }
        Some(match self {
            Cells::Float(array) => float(array.as_primitive::<Float64Type>().value(row)),
            Cells::Integer(array) => array.as_primitive::<Int64Type>().value(row).to_string(),
            Cells::Bool(array) => array.as_boolean().value(row).to_string(),
            Cells::Time(array) => {
                let ms = array.as_primitive::<TimestampMillisecondType>().value(row);
                let time = chrono::DateTime::from_timestamp_millis(ms).unwrap_or_default();
                time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
            }
            Cells::Text(array) => array.as_string::<i32>().value(row).to_owned(),
            Cells::Distance(array) => distance(array.as_primitive::<Int64Type>().value(row)),
            Cells::Null => return None,
            Cells::Other(formatter, _) => formatter.value(row).to_string(),
        })
    }

    pub(crate) fn json(&self, row: usize, out: &mut String) {
        let Some(text) = self.text(row) else {
            out.push_str("null");
            return;
        };
        let is_number = match self {
            // JSON has no NaN and no infinities: they are texts, as in the HTTP API of Prometheus.
            Cells::Float(array) => array.as_primitive::<Float64Type>().value(row).is_finite(),
            // Beyond 2^53 a reader that has floats only would change it.
            Cells::Integer(array) => array.as_primitive::<Int64Type>().value(row).unsigned_abs() <= 1 << 53,
            Cells::Bool(_) => true,
            Cells::Time(_) | Cells::Text(_) | Cells::Distance(_) | Cells::Null | Cells::Other(..) => false,
        };
        if is_number {
            out.push_str(&text);
        } else {
            out.push_str(&serde_json::Value::from(text).to_string());
        }
    }

    fn csv(&self, row: usize, out: &mut String) {
        // NULL is an empty field. An empty text is one, too: CSV has no way to tell them apart that
        // all readers know.
        if let Some(text) = self.text(row) {
            out.push_str(&quoted(&text));
        }
    }
}

/// A float as a value of JSON: a number, or the text of what is none.
pub(crate) fn float_json(v: f64, out: &mut String) {
    if v.is_finite() {
        out.push_str(&float(v));
    } else {
        let _ = write!(out, "\"{}\"", float(v));
    }
}

/// A float in the fewest digits that give it back.
fn float(v: f64) -> String {
    if v.is_nan() {
        return "NaN".to_owned();
    }
    if v.is_infinite() {
        return if v > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    // `ryu` writes whole numbers with `.0`, which a reader of integers would refuse.
    if v.fract() == 0.0 && v.abs() < 1e15 {
        return format!("{v:.0}");
    }
    ryu::Buffer::new().format_finite(v).to_owned()
}

/// `HH:MM:SS`, as PostgreSQL has it.
fn distance(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    let all = ms.unsigned_abs();
    let seconds = all / 1_000;
    let days = seconds / 86_400;
    let day = if days > 0 { format!("{days} days ") } else { String::new() };
    let rest = match all % 1_000 {
        0 => String::new(),
        ms => format!(".{ms:03}"),
    };
    format!("{sign}{day}{:02}:{:02}:{:02}{rest}", seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60)
}

/// As RFC 4180 has it.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}
