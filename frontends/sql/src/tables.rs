//! Tables that people bring: owners, prices, objectives. Statements join them with metrics.
//!
//! A table comes as CSV, JSON or NDJSON, as a whole, and is kept as one batch in memory. The types of
//! its columns are found from their values. Whoever keeps the tables on disk stores [`Table::rows`].

mod json;

use super::error::{SqlError, SqlErrorKind};
use super::limits;
use super::relations::timestamp;
use chrono::DateTime;
use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use std::sync::Arc;

/// The tables that there are.
pub trait TableList: Send + Sync {
    /// The table with this name.
    fn table(&self, name: &str) -> Option<Arc<Table>>;
    /// The names of all tables, in order.
    fn names(&self) -> Vec<String>;
}

/// No tables.
pub struct NoTables;

impl TableList for NoTables {
    fn table(&self, _: &str) -> Option<Arc<Table>> {
        None
    }

    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The form of the text of a table.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum TableFormat {
    /// Names in the first line; an empty field is NULL.
    Csv,
    /// A list of objects.
    Json,
    /// An object on each line.
    Ndjson,
}

/// A table.
#[derive(Clone, Debug)]
pub struct Table {
    batch: RecordBatch,
}

/// A column of a table, for lists of them.
pub struct TableColumn {
    /// Its name.
    pub name: String,
    /// The name that PostgreSQL has for its type.
    pub kind: &'static str,
}

/// Names, and a text or NULL for each column of each row.
#[derive(Debug, Default, PartialEq, Eq)]
struct Texts {
    names: Vec<String>,
    rows: Vec<Vec<Option<String>>>,
}

/// The error of a table that is too large.
fn over(limit: usize, what: &str) -> SqlError {
    SqlError::new(SqlErrorKind::LimitReached, format!("a table has at most {limit} {what}"))
}

impl Table {
    /// Reads a table.
    ///
    /// # Errors
    ///
    /// If the text is broken, with the number of its line, or beyond a limit.
    pub fn read(text: &str, format: TableFormat) -> Result<Table, SqlError> {
        let texts = match format {
            TableFormat::Csv => csv(text)?,
            TableFormat::Json => json::list(text)?,
            TableFormat::Ndjson => json::lines(text)?,
        };
        Table::of_texts(&texts)
    }

    /// A table of [`Table::rows`].
    ///
    /// # Errors
    ///
    /// If there are no names, or if it is beyond a limit.
    pub fn of_rows(rows: Vec<Vec<Option<String>>>) -> Result<Table, SqlError> {
        let mut rows = rows.into_iter();
        let names = rows.next().unwrap_or_default().into_iter().flatten().collect();
        Table::of_texts(&Texts { names, rows: rows.collect() })
    }

    fn of_texts(texts: &Texts) -> Result<Table, SqlError> {
        let Texts { names, rows } = texts;
        if names.is_empty() {
            return Err(SqlError::bad("a table needs columns").hint("the first line of CSV has their names"));
        }
        if names.len() > limits::TABLE_COLUMNS {
            return Err(over(limits::TABLE_COLUMNS, "columns"));
        }
        if rows.len() > limits::TABLE_ROWS {
            return Err(over(limits::TABLE_ROWS, "rows"));
        }
        for (at, name) in names.iter().enumerate() {
            if name.len() > limits::TABLE_NAME_BYTES {
                let error = format!("the name of column {} is longer than 63 bytes", at + 1);
                return Err(SqlError::bad(error));
            }
            if name.is_empty() || names[..at].contains(name) {
                return Err(SqlError::bad(format!("there are two columns {name:?}, or one without a name")));
            }
        }
        let columns: Vec<ArrayRef> = (0..names.len()).map(|at| column(rows, at)).collect();
        let fields: Vec<Field> = names
            .iter()
            .zip(&columns)
            .map(|(name, c)| Field::new(name, c.data_type().clone(), true))
            .collect();
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns);
        let batch = batch.map_err(|e| SqlError::new(SqlErrorKind::Internal, e.to_string()))?;
        Ok(Table { batch })
    }

    /// Its columns.
    pub fn schema(&self) -> SchemaRef {
        self.batch.schema()
    }

    /// Its columns, with the names of their types.
    pub fn columns(&self) -> Vec<TableColumn> {
        let column = |field: &Arc<Field>| TableColumn {
            name: field.name().clone(),
            kind: super::output::type_name(field.data_type()),
        };
        self.schema().fields().iter().map(column).collect()
    }

    /// Its rows, as one batch.
    pub fn batch(&self) -> &RecordBatch {
        &self.batch
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        self.batch.get_array_memory_size()
    }

    /// The names of its columns, then its rows, all as texts that [`Table::of_rows`] reads.
    pub fn rows(&self) -> Result<Vec<Vec<Option<String>>>, SqlError> {
        let cells: Vec<super::output::Cells<'_>> =
            self.batch.columns().iter().map(super::output::Cells::of).collect::<Result<_, _>>()?;
        let names = self.schema().fields().iter().map(|field| Some(field.name().clone())).collect();
        let row = |row| cells.iter().map(|column| column.text(row)).collect();
        Ok([names].into_iter().chain((0..self.batch.num_rows()).map(row)).collect())
    }
}

/// The column at `at`, with the narrowest type that all of its values have.
fn column(rows: &[Vec<Option<String>>], at: usize) -> ArrayRef {
    let values = || rows.iter().map(move |row| row.get(at).and_then(Option::as_deref));
    let all = |is: &dyn Fn(&str) -> bool| values().flatten().next().is_some() && values().flatten().all(is);
    let time = |text: &str| DateTime::parse_from_rfc3339(text).ok().map(|t| t.timestamp_millis());
    // A number with a zero before it is a name, such as a phone number.
    let is_padded = |text: &str| text.len() > 1 && text.starts_with('0') && !text.starts_with("0.");
    if all(&|text| text.parse::<i64>().is_ok() && !is_padded(text)) {
        return Arc::new(values().map(|v| v.and_then(|v| v.parse().ok())).collect::<Int64Array>());
    }
    if all(&|text| text.parse::<f64>().is_ok() && !is_padded(text)) {
        return Arc::new(values().map(|v| v.and_then(|v| v.parse().ok())).collect::<Float64Array>());
    }
    if all(&|text| text == "true" || text == "false") {
        return Arc::new(values().map(|v| v.map(|v| v == "true")).collect::<BooleanArray>());
    }
    if all(&|text| time(text).is_some()) {
        let times = values().map(|v| v.and_then(time)).collect::<TimestampMillisecondArray>();
        return match timestamp() {
            DataType::Timestamp(_, Some(zone)) => Arc::new(times.with_timezone(zone)),
            _ => Arc::new(times),
        };
    }
    Arc::new(values().collect::<StringArray>())
}

/// CSV of RFC 4180: quotes around what has commas, quotes or lines.
fn csv(text: &str) -> Result<Texts, SqlError> {
    let mut lines: Vec<Vec<Option<String>>> = Vec::new();
    let mut row: Vec<Option<String>> = Vec::new();
    let mut field = String::new();
    let mut is_quoted = false;
    let mut was_quoted = false;
    let mut number = 1;
    let mut chars = text.chars().peekable();
    let end_field = |field: &mut String, was_quoted: &mut bool, row: &mut Vec<Option<String>>| {
        // Before the line ends: a line may have millions of commas.
        if row.len() == limits::TABLE_COLUMNS {
            return Err(over(limits::TABLE_COLUMNS, "columns"));
        }
        let text = std::mem::take(field);
        row.push(if text.is_empty() && !*was_quoted { None } else { Some(text) });
        *was_quoted = false;
        Ok(())
    };
    while let Some(c) = chars.next() {
        match c {
            '"' if is_quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if is_quoted => is_quoted = false,
            '"' if field.is_empty() && !was_quoted => {
                is_quoted = true;
                was_quoted = true;
            }
            '"' => {
                return Err(SqlError::bad(format!(
                    "line {number}: a quote inside of a field without quotes"
                )));
            }
            ',' if !is_quoted => end_field(&mut field, &mut was_quoted, &mut row)?,
            '\r' if !is_quoted && chars.peek() == Some(&'\n') => {}
            '\n' if !is_quoted => {
                let is_empty = row.is_empty() && field.is_empty() && !was_quoted;
                if !is_empty {
                    end_field(&mut field, &mut was_quoted, &mut row)?;
                    end_row(&mut lines, std::mem::take(&mut row), number)?;
                }
                number += 1;
            }
            c => {
                number += usize::from(c == '\n');
                field.push(c);
            }
        }
    }
    if is_quoted {
        return Err(SqlError::bad(format!("line {number}: the text ends inside of quotes")));
    }
    if !(row.is_empty() && field.is_empty() && !was_quoted) {
        end_field(&mut field, &mut was_quoted, &mut row)?;
        end_row(&mut lines, row, number)?;
    }
    let mut lines = lines.into_iter();
    let names = lines.next().unwrap_or_default().into_iter().map(Option::unwrap_or_default).collect();
    Ok(Texts { names, rows: lines.collect() })
}

fn end_row(
    lines: &mut Vec<Vec<Option<String>>>,
    row: Vec<Option<String>>,
    number: usize,
) -> Result<(), SqlError> {
    if let Some(names) = lines.first()
        && names.len() != row.len()
    {
        let error = format!("line {number}: {} fields, but there are {} columns", row.len(), names.len());
        return Err(SqlError::bad(error));
    }
    if lines.len() > limits::TABLE_ROWS {
        return Err(over(limits::TABLE_ROWS, "rows"));
    }
    if (lines.len() + 1) * row.len() > limits::TABLE_FIELDS {
        return Err(over(limits::TABLE_FIELDS, "fields"));
    }
    lines.push(row);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(table: &Table) -> Vec<(String, &'static str)> {
        let field = |field: &Arc<Field>| (field.name().clone(), crate::output::type_name(field.data_type()));
        table.schema().fields().iter().map(field).collect()
    }

    #[test]
    fn types_are_found_and_rows_come_back() {
        let text = "job,owner,n,price,on,since,phone\r\napi,\"a, \"\"b\"\"\",1,1.5,true,2026-01-01T00:00:00Z,0123\nweb,,2,2,false,,04\n";
        let table = Table::read(text, TableFormat::Csv).unwrap();
        let want = [
            ("job", "text"),
            ("owner", "text"),
            ("n", "int8"),
            ("price", "float8"),
            ("on", "bool"),
            ("since", "timestamptz"),
            ("phone", "text"),
        ];
        assert_eq!(kinds(&table), want.map(|(name, kind)| (name.to_owned(), kind)));
        let rows = table.rows().unwrap();
        assert_eq!(rows[1][1].as_deref(), Some("a, \"b\""));
        assert_eq!(rows[2][1], None);
        let again = Table::of_rows(rows).unwrap();
        assert_eq!(again.batch(), table.batch());
        let ndjson = "{\"a\": 1, \"b\": \"x\"}\n\n{\"c\": null, \"a\": 2}\n";
        let of_lines = Table::read(ndjson, TableFormat::Ndjson).unwrap();
        let of_list =
            Table::read("[{\"a\": 1, \"b\": \"x\"}, {\"c\": null, \"a\": 2}]", TableFormat::Json).unwrap();
        assert_eq!(of_lines.batch(), of_list.batch());
        assert_eq!(
            kinds(&of_list).iter().map(|(_, kind)| *kind).collect::<Vec<_>>(),
            ["int8", "text", "text"]
        );
    }

    #[test]
    fn broken_tables_are_refused_with_the_line() {
        for (text, format, part) in [
            ("", TableFormat::Csv, "a table needs columns"),
            ("a,b\n1\n", TableFormat::Csv, "line 2: 1 fields, but there are 2 columns"),
            ("a\n\"x", TableFormat::Csv, "line 2: the text ends inside of quotes"),
            ("a\nx\"y\n", TableFormat::Csv, "line 2: a quote inside"),
            ("a,a\n1,2\n", TableFormat::Csv, "there are two columns \"a\""),
            ("{\"a\": 1}\n{", TableFormat::Ndjson, "line 2: "),
            ("{}", TableFormat::Json, "no list of objects in JSON"),
        ] {
            let error = Table::read(text, format).expect_err(text);
            assert!(error.to_string().contains(part), "{text}: {error}");
        }
        let wide = format!("{{{}\"x\": 1}}", (0..100).map(|n| format!("\"c{n}\": 1,")).collect::<String>());
        let many = format!("[{}{{}}]", "{},".repeat(limits::TABLE_ROWS));
        let full = format!("{}\n", vec!["1"; 100].join(",")).repeat(limits::TABLE_FIELDS / 100 + 1);
        for (text, format, part) in [
            (wide.as_str(), TableFormat::Ndjson, "at most 100 columns"),
            (&",".repeat(1 << 20), TableFormat::Csv, "at most 100 columns"),
            (&many, TableFormat::Json, "at most 200000 rows"),
            (&"x".repeat(64), TableFormat::Csv, "the name of column 1 is longer than 63 bytes"),
            (&full, TableFormat::Csv, "at most 2000000 fields"),
            ("[{\"a\": [1]}]", TableFormat::Json, "expected text, a number, true, false or null"),
        ] {
            let error = Table::read(text, format).expect_err(part);
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
        let long = format!("a\n{}", "1\n".repeat(limits::TABLE_ROWS + 1));
        let error = Table::read(&long, TableFormat::Csv).unwrap_err();
        assert_eq!(
            (error.kind, error.text.as_str()),
            (SqlErrorKind::LimitReached, "a table has at most 200000 rows")
        );
    }
}
