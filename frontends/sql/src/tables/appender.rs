//! [`TableAppender`]: adds rows to a table, one by one, and checks types, NULLs and the key.
//!
//! Nothing is visible until [`TableAppender`] finishes: a statement adds all of its rows or none.
//! Used by `INSERT` and by [`super::copy`].

use super::kind::{ColumnBuilder, ColumnType};
use super::{Table, over};
use crate::error::SqlError;
use crate::limits;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::SchemaRef;
use std::fmt;

/// Rows that are collected and then added to a table together.
pub struct TableAppender {
    /// The name of the table, for errors.
    name: String,
    schema: SchemaRef,
    /// The column of each value of a row.
    targets: Vec<usize>,
    builders: Vec<ColumnBuilder>,
    /// The position of each row in the input, for errors.
    places: Vec<usize>,
    /// The unit of the positions: `line` or `row`.
    unit: &'static str,
    /// The number of rows that the table had at the start.
    before: usize,
}

impl fmt::Debug for TableAppender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableAppender").field("rows", &self.places.len()).finish_non_exhaustive()
    }
}

impl TableAppender {
    /// For rows of these columns; none named: of all. `unit` is what the places of rows count, for
    /// errors: `line` or `row`.
    ///
    /// # Errors
    ///
    /// If the table has no such column, or one is named twice.
    pub fn new(
        name: &str,
        table: &Table,
        columns: &[String],
        unit: &'static str,
    ) -> Result<TableAppender, SqlError> {
        let schema = table.schema();
        let mut targets = Vec::new();
        for column in columns {
            let at = schema.index_of(column).map_err(|_| {
                SqlError::bad(format!("column \"{column}\" of relation \"{name}\" does not exist"))
            })?;
            if targets.contains(&at) {
                return Err(SqlError::bad(format!("column \"{column}\" is named more than once")));
            }
            targets.push(at);
        }
        if columns.is_empty() {
            targets = (0..schema.fields().len()).collect();
        }
        let builders =
            schema.fields().iter().map(|field| ColumnBuilder::new(ColumnType::from_arrow(field.data_type())));
        Ok(TableAppender {
            name: name.to_owned(),
            builders: builders.collect(),
            targets,
            places: Vec::new(),
            unit,
            before: table.batch().num_rows(),
            schema,
        })
    }

    /// The names of the columns that a row has values for, in order.
    pub fn columns(&self) -> Vec<&str> {
        self.targets.iter().map(|at| self.schema.field(*at).name().as_str()).collect()
    }

    /// The types of these columns.
    pub fn kinds(&self) -> Vec<ColumnType> {
        self.targets.iter().map(|at| ColumnType::from_arrow(self.schema.field(*at).data_type())).collect()
    }

    /// What the places of rows count: `line` or `row`.
    pub fn unit(&self) -> &'static str {
        self.unit
    }

    /// Rows that were added.
    pub fn rows(&self) -> usize {
        self.places.len()
    }

    /// Adds a row that came from `place`.
    ///
    /// # Errors
    ///
    /// If it has another number of values, or one of another type, or is beyond a limit.
    pub fn add(&mut self, row: &[Option<String>], place: usize) -> Result<(), SqlError> {
        let unit = self.unit;
        let refused = |what: String| SqlError::bad(format!("{unit} {place}: {what}"));
        if row.len() != self.targets.len() {
            let wanted = self.targets.len();
            return Err(refused(format!("{} fields, but there are {wanted} columns", row.len())));
        }
        let rows = self.before + self.places.len() + 1;
        let most = limits::TABLE_ROWS.min(limits::TABLE_FIELDS / self.builders.len().max(1));
        if rows > most {
            let error = over(most, "rows");
            return Err(SqlError { text: format!("{unit} {place}: {}", error.text), ..error });
        }
        for (at, builder) in self.builders.iter_mut().enumerate() {
            let value = self.targets.iter().position(|target| *target == at).and_then(|i| row.get(i));
            let added = builder.add(value.and_then(|value| value.as_deref()));
            added.map_err(|e| refused(format!("column \"{}\": {}", self.schema.field(at).name(), e.text)))?;
        }
        self.places.push(place);
        Ok(())
    }

    /// The table `newest`, which may have changed since this began, with the rows.
    ///
    /// # Errors
    ///
    /// If its columns are others now, if a key is NULL or there twice, or beyond a limit.
    pub fn finish(&mut self, newest: &Table) -> Result<Table, SqlError> {
        if newest.schema() != self.schema {
            return Err(SqlError::bad(format!("the columns of {} have changed meanwhile", self.name)));
        }
        let columns = self.builders.iter_mut().map(ColumnBuilder::finish).collect();
        let options =
            datafusion::arrow::array::RecordBatchOptions::new().with_row_count(Some(self.places.len()));
        let added = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .map_err(|e| SqlError::internal(e.to_string()))?;
        let all = concat_batches(&self.schema, [newest.batch(), &added])
            .map_err(|e| SqlError::internal(e.to_string()))?;
        if all.num_rows() > limits::TABLE_ROWS {
            return Err(over(limits::TABLE_ROWS, "rows"));
        }
        let table = Table { batch: all, key: newest.key.clone() };
        let place = |row: usize| {
            let place = row.checked_sub(newest.batch().num_rows()).and_then(|row| self.places.get(row));
            place.map(|place| format!("{} {place}: ", self.unit)).unwrap_or_default()
        };
        table.check_key(&self.name, &place)?;
        Ok(table)
    }
}
