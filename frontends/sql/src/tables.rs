//! Tables that users upload, such as owners of services or prices. Statements join them with
//! metrics.
//!
//! A table arrives as a whole, as CSV, JSON or NDJSON, and its column types are inferred from the
//! values. Or `CREATE TABLE` defines its types, and `INSERT` and `COPY` fill it ([`TableAppender`],
//! [`copy`]). It is one record batch in memory. `src/tables.rs` of the server stores it on disk,
//! from [`Table::rows`] and [`Table::columns`].

mod appender;
mod binary;
pub mod copy;
mod csv;
mod inserted;
mod json;
mod kind;

pub use appender::TableAppender;
pub use binary::{COPY_SIGNATURE, POSTGRES_EPOCH_MICROS};
pub use inserted::InsertedRows;
pub use kind::ColumnType;

use super::catalog::KeyColumn;
use super::error::{SqlError, SqlErrorKind};
use super::limits;
use super::relations::timestamp;
use chrono::DateTime;
use csv::{CsvSplitter, Record};
use datafusion::arrow::array::{
    Array, ArrayRef, BooleanArray, Datum, Float64Array, Int64Array, RecordBatch, Scalar, StringArray,
    TimestampMillisecondArray,
};
use datafusion::arrow::compute::kernels::cmp::eq;
use datafusion::arrow::compute::kernels::zip::zip;
use datafusion::arrow::compute::{and, filter_record_batch, not, prep_null_mask_filter};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use kind::ColumnBuilder;
use std::collections::HashSet;
use std::sync::Arc;

/// The uploaded tables and the named views, which share one name space.
///
/// # Contract
///
/// 1. A table does not change: a changed table is another `Arc`. Standing statements notice a
///    change by comparing pointers.
/// 2. No name is both a table and a view.
/// 3. The methods do not block: the planner calls them for each name in a statement.
pub trait TableList: Send + Sync {
    /// The table with this name.
    fn table(&self, name: &str) -> Option<Arc<Table>>;
    /// The names of all tables, in order.
    fn names(&self) -> Vec<String>;
    /// The query of the view with this name.
    fn view(&self, _name: &str) -> Option<Arc<str>> {
        None
    }
    /// The names of all views, in order.
    fn view_names(&self) -> Vec<String> {
        Vec::new()
    }
    /// Whether a table or view with this name was removed. A standing statement does not then read
    /// a metric with that name.
    fn is_gone(&self, _name: &str) -> bool {
        false
    }
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
    /// The columns of its primary key; none: rows may be equal.
    key: Vec<usize>,
}

/// A column of a table, for lists of them.
pub struct TableColumn {
    /// Its name.
    pub name: String,
    /// The name that PostgreSQL has for its type.
    pub kind: &'static str,
    /// Whether it is a part of the primary key, and so never NULL.
    pub is_key: bool,
}

/// A column in `CREATE TABLE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnDefinition {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: ColumnType,
}

/// A condition of `DELETE`: a column is equal to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EqualTo {
    /// The column.
    pub column: String,
    /// The value.
    pub value: String,
}

/// A value that `UPDATE` gives a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewValue {
    /// The column.
    pub column: String,
    /// The value; `None`: NULL.
    pub value: Option<String>,
}

/// A table after an `UPDATE`.
#[derive(Clone, Debug)]
pub struct UpdatedTable {
    /// The table.
    pub table: Table,
    /// The number of rows that got values.
    pub rows: usize,
}

/// Names, and a text or NULL for each column of each row.
#[derive(Debug, Default, PartialEq, Eq)]
struct Texts {
    names: Vec<String>,
    rows: Vec<Vec<Option<String>>>,
}

fn of_arrow(error: ArrowError) -> SqlError {
    SqlError::internal(error.to_string())
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

    /// A table without rows. `key` has the columns of its primary key.
    ///
    /// # Errors
    ///
    /// If there are no columns, two of one name or too many, or the key is none of them.
    pub fn empty(columns: &[ColumnDefinition], key: &[String]) -> Result<Table, SqlError> {
        let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
        check_names(&names)?;
        let at = |name: &String| {
            let missing = || SqlError::bad(format!("column \"{name}\" named in key does not exist"));
            names.iter().position(|other| other == name).ok_or_else(missing)
        };
        let key: Vec<usize> = key.iter().map(at).collect::<Result<_, _>>()?;
        let field = |column: &ColumnDefinition| Field::new(&column.name, column.kind.data_type(), true);
        let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
        Ok(Table { batch: RecordBatch::new_empty(schema), key })
    }

    /// The table of its columns, its key, and the rows of [`Table::rows`].
    ///
    /// # Errors
    ///
    /// If they do not fit, or if it is beyond a limit.
    pub fn restored(
        columns: &[ColumnDefinition],
        key: &[String],
        rows: &[Vec<Option<String>>],
    ) -> Result<Table, SqlError> {
        let empty = Table::empty(columns, key)?;
        let mut appender = TableAppender::new("", &empty, &[], "row")?;
        for (at, row) in rows.iter().enumerate() {
            appender.add(row, at + 1)?;
        }
        appender.finish(&empty)
    }

    fn of_texts(texts: &Texts) -> Result<Table, SqlError> {
        let Texts { names, rows } = texts;
        check_names(names)?;
        if rows.len() > limits::TABLE_ROWS {
            return Err(over(limits::TABLE_ROWS, "rows"));
        }
        let columns: Vec<ArrayRef> = (0..names.len()).map(|at| column(rows, at)).collect();
        let fields: Vec<Field> = names
            .iter()
            .zip(&columns)
            .map(|(name, c)| Field::new(name, c.data_type().clone(), true))
            .collect();
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns);
        let batch = batch.map_err(|e| SqlError::internal(e.to_string()))?;
        Ok(Table { batch, key: Vec::new() })
    }

    /// Its columns.
    pub fn schema(&self) -> SchemaRef {
        self.batch.schema()
    }

    /// Its columns, with the names of their types.
    pub fn columns(&self) -> Vec<TableColumn> {
        let column = |(at, field): (usize, &Arc<Field>)| TableColumn {
            name: field.name().clone(),
            kind: super::output::type_name(field.data_type()),
            is_key: self.key.contains(&at),
        };
        self.schema().fields().iter().enumerate().map(column).collect()
    }

    /// The columns of its primary key, in the order of the key; none: it has no key.
    pub fn key(&self) -> Vec<KeyColumn> {
        let schema = self.schema();
        let column =
            |at: &usize| KeyColumn { name: schema.field(*at).name().clone(), number: *at as i64 + 1 };
        self.key.iter().map(column).collect()
    }

    /// Its rows, as one batch.
    pub fn batch(&self) -> &RecordBatch {
        &self.batch
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        self.batch.get_array_memory_size()
    }

    /// Its rows as texts, which [`Table::restored`] reads.
    pub fn rows(&self) -> Result<Vec<Vec<Option<String>>>, SqlError> {
        let cells: Vec<super::output::Cells<'_>> =
            self.batch.columns().iter().map(super::output::Cells::from_array).collect::<Result<_, _>>()?;
        let row = |row| cells.iter().map(|column| column.text(row)).collect();
        Ok((0..self.batch.num_rows()).map(row).collect())
    }

    /// The table without the rows that satisfy all conditions; none: without all rows.
    ///
    /// # Errors
    ///
    /// If there is no such column, or a value is none of its type.
    pub fn without(&self, name: &str, conditions: &[EqualTo]) -> Result<Table, SqlError> {
        let left = not(&self.satisfying(name, conditions)?).map_err(of_arrow)?;
        let batch = filter_record_batch(&self.batch, &left).map_err(of_arrow)?;
        Ok(Table { batch, key: self.key.clone() })
    }

    /// The table with other values in the rows that satisfy all conditions (none: in all rows), and
    /// how many rows these are.
    ///
    /// # Errors
    ///
    /// If there is no such column, a value is none of its type, or a key is there twice then.
    pub fn with_values(
        &self,
        name: &str,
        values: &[NewValue],
        conditions: &[EqualTo],
    ) -> Result<UpdatedTable, SqlError> {
        let rows = self.satisfying(name, conditions)?;
        let mut columns = self.batch.columns().to_vec();
        for NewValue { column, value } in values {
            let at = self.place_of(name, column)?;
            let value = Scalar::new(self.single(at, value.as_deref()).map_err(|e| {
                let text = format!("column \"{column}\": {}", e.text);
                SqlError { text, ..e }
            })?);
            columns[at] = zip(&rows, &value, &columns[at]).map_err(of_arrow)?;
        }
        let batch = RecordBatch::try_new(self.schema(), columns).map_err(of_arrow)?;
        let table = Table { batch, key: self.key.clone() };
        // The whole table once more: an UPDATE may give a row the key of one that it does not
        // change.
        table.check_key(name, &|_| String::new())?;
        Ok(UpdatedTable { table, rows: rows.true_count() })
    }

    /// Which rows satisfy all conditions.
    fn satisfying(&self, name: &str, conditions: &[EqualTo]) -> Result<BooleanArray, SqlError> {
        let mut all = BooleanArray::from(vec![true; self.batch.num_rows()]);
        for EqualTo { column, value } in conditions {
            let at = self.place_of(name, column)?;
            let wanted = Scalar::new(self.single(at, Some(value))?);
            let equal = eq(self.batch.column(at) as &dyn Datum, &wanted).map_err(of_arrow)?;
            // NULL is equal to nothing.
            let equal = if equal.null_count() > 0 { prep_null_mask_filter(&equal) } else { equal };
            all = and(&all, &equal).map_err(of_arrow)?;
        }
        Ok(all)
    }

    fn place_of(&self, name: &str, column: &str) -> Result<usize, SqlError> {
        self.schema()
            .index_of(column)
            .map_err(|_| SqlError::bad(format!("column \"{column}\" of relation \"{name}\" does not exist")))
    }

    /// A value of the type of the column at `at`.
    fn single(&self, at: usize, value: Option<&str>) -> Result<ArrayRef, SqlError> {
        let mut single = ColumnBuilder::new(ColumnType::from_arrow(self.batch.column(at).data_type()));
        single.add(value)?;
        Ok(single.finish())
    }

    /// Whether no key is NULL and no two are equal; `place` names a row for errors.
    fn check_key(&self, name: &str, place: &dyn Fn(usize) -> String) -> Result<(), SqlError> {
        if self.key.is_empty() {
            return Ok(());
        }
        let cells = self.key.iter().map(|at| super::output::Cells::from_array(self.batch.column(*at)));
        let cells: Vec<super::output::Cells<'_>> = cells.collect::<Result<_, _>>()?;
        let schema = self.schema();
        let names: Vec<&str> = self.key.iter().map(|at| schema.field(*at).name().as_str()).collect();
        let mut seen = HashSet::new();
        for row in 0..self.batch.num_rows() {
            let mut key = Vec::new();
            for (cell, column) in cells.iter().zip(&names) {
                let null = || {
                    let at = place(row);
                    SqlError::bad(format!(
                        "{at}null value in column \"{column}\" of relation \"{name}\" violates not-null constraint"
                    ))
                };
                key.push(cell.text(row).ok_or_else(null)?);
            }
            let shown = key.join(", ");
            if !seen.insert(key) {
                let at = place(row);
                let columns = names.join(", ");
                return Err(SqlError::bad(format!(
                    "{at}duplicate key value violates unique constraint \"{name}_pkey\": ({columns})=({shown}) already exists"
                )));
            }
        }
        Ok(())
    }
}

/// Names of columns: some, different ones, and not too long.
fn check_names(names: &[String]) -> Result<(), SqlError> {
    if names.is_empty() {
        return Err(SqlError::bad("a table needs columns").hint("the first line of CSV has their names"));
    }
    if names.len() > limits::TABLE_COLUMNS {
        return Err(over(limits::TABLE_COLUMNS, "columns"));
    }
    for (at, name) in names.iter().enumerate() {
        // PostgreSQL cuts longer names; here two that differ only after the cut would become one.
        if name.len() > limits::TABLE_NAME_BYTES {
            let error = format!("the name of column {} is longer than 63 bytes", at + 1);
            return Err(SqlError::bad(error));
        }
        if name.is_empty() || names[..at].contains(name) {
            return Err(SqlError::bad(format!("there are two columns {name:?}, or one without a name")));
        }
    }
    Ok(())
}

/// The column at `at`, with the narrowest type that all of its values have.
fn column(rows: &[Vec<Option<String>>], at: usize) -> ArrayRef {
    let values = || rows.iter().map(move |row| row.get(at).and_then(Option::as_deref));
    // A column without values is of texts: any value that comes later fits.
    let all = |is: &dyn Fn(&str) -> bool| values().flatten().next().is_some() && values().flatten().all(is);
    let time = |text: &str| DateTime::parse_from_rfc3339(text).ok().map(|t| t.timestamp_millis());
    // A number with a zero before it is a name, such as a phone number.
    let is_padded = |text: &str| text.len() > 1 && text.starts_with('0') && !text.starts_with("0.");
    if all(&|text| text.parse::<i64>().is_ok() && !is_padded(text)) {
        return Arc::new(values().map(|v| v.and_then(|v| v.parse().ok())).collect::<Int64Array>());
    }
    // Integers first: every integer is a float, too, and would lose its last digits.
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

/// The table of a text in CSV.
fn csv(text: &str) -> Result<Texts, SqlError> {
    let mut lines: Vec<Vec<Option<String>>> = Vec::new();
    let mut take = |record: Record| end_row(&mut lines, record);
    let mut splitter = CsvSplitter::new(b',', String::new(), false);
    splitter.feed(text.as_bytes(), &mut take)?;
    splitter.finish(&mut take)?;
    let mut lines = lines.into_iter();
    let names = lines.next().unwrap_or_default().into_iter().map(Option::unwrap_or_default).collect();
    Ok(Texts { names, rows: lines.collect() })
}

fn end_row(lines: &mut Vec<Vec<Option<String>>>, record: Record) -> Result<(), SqlError> {
    let Record { fields: row, line } = record;
    if let Some(names) = lines.first()
        && names.len() != row.len()
    {
        let error = format!("line {line}: {} fields, but there are {} columns", row.len(), names.len());
        return Err(SqlError::bad(error));
    }
    if lines.len() > limits::TABLE_ROWS {
        return Err(over(limits::TABLE_ROWS, "rows"));
    }
    // Rows and columns within their limits can still be too many fields together.
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

    fn definitions(table: &Table) -> Vec<ColumnDefinition> {
        let definition = |column: TableColumn| ColumnDefinition {
            name: column.name,
            kind: ColumnType::named(column.kind).expect("a type"),
        };
        table.columns().into_iter().map(definition).collect()
    }

    #[test]
    fn rows_go_by_their_values() {
        let text = "job,n,on\na,1,true\nb,,true\nc,3,false\n";
        let table = Table::read(text, TableFormat::Csv).unwrap();
        let equal =
            |column: &str, value: &str| EqualTo { column: column.to_owned(), value: value.to_owned() };
        let left = |conditions: &[EqualTo]| -> Vec<String> {
            let rows = table.without("t", conditions).unwrap().rows().unwrap();
            rows.into_iter().map(|row| row[0].clone().unwrap()).collect()
        };
        assert_eq!(left(&[equal("job", "b")]), ["a", "c"]);
        assert_eq!(left(&[equal("n", "1")]), ["b", "c"], "NULL is not 1");
        assert_eq!(left(&[equal("on", "t"), equal("n", "01")]), ["b", "c"]);
        assert_eq!(left(&[equal("on", "f"), equal("n", "1")]), ["a", "b", "c"]);
        assert!(left(&[]).is_empty());
        let error = table.without("t", &[equal("n", "x")]).unwrap_err();
        assert_eq!(error.text, "invalid input syntax for type bigint: \"x\"");
        let error = table.without("t", &[equal("m", "x")]).unwrap_err();
        assert_eq!(error.text, "column \"m\" of relation \"t\" does not exist");
    }

    #[test]
    fn rows_get_other_values() {
        let definition = |name: &str, kind| ColumnDefinition { name: name.to_owned(), kind };
        let columns = [definition("k", ColumnType::Text), definition("n", ColumnType::Integer)];
        let row = |k: &str, n: Option<&str>| vec![Some(k.to_owned()), n.map(str::to_owned)];
        let rows = [row("a", Some("1")), row("b", None), row("c", Some("1"))];
        let table = Table::restored(&columns, &["k".to_owned()], &rows).unwrap();
        let value = |column: &str, value: Option<&str>| NewValue {
            column: column.to_owned(),
            value: value.map(str::to_owned),
        };
        let equal =
            |column: &str, value: &str| EqualTo { column: column.to_owned(), value: value.to_owned() };
        let updated = table.with_values("t", &[value("n", Some("7"))], &[equal("n", "1")]).unwrap();
        assert_eq!(updated.rows, 2, "NULL is not 1");
        let want = [row("a", Some("7")), row("b", None), row("c", Some("7"))];
        assert_eq!(updated.table.rows().unwrap(), want);
        let updated = table.with_values("t", &[value("n", None)], &[]).unwrap();
        assert_eq!((updated.rows, updated.table.batch().column(1).null_count()), (3, 3));
        let none = table.with_values("t", &[value("n", None)], &[equal("k", "z")]).unwrap();
        assert_eq!(none.rows, 0);
        for (values, conditions, part) in [
            (
                value("k", Some("x")),
                vec![],
                "duplicate key value violates unique constraint \"t_pkey\": (k)=(x)",
            ),
            (value("k", None), vec![equal("k", "a")], "null value in column \"k\""),
            (value("n", Some("x")), vec![], "column \"n\": invalid input syntax for type bigint: \"x\""),
            (value("m", None), vec![], "column \"m\" of relation \"t\" does not exist"),
        ] {
            let error = table.with_values("t", &[values], &conditions).expect_err(part);
            assert!(error.text.contains(part), "{part}: {error}");
        }
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
        assert_eq!(rows[0][1].as_deref(), Some("a, \"b\""));
        assert_eq!(rows[1][1], None);
        let again = Table::restored(&definitions(&table), &[], &rows).unwrap();
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
