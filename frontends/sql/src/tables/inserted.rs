//! The rows of a query that are added to a table: `INSERT INTO … SELECT`.

use super::over;
use crate::error::{SqlError, SqlErrorKind};
use crate::limits;
use crate::output::Cells;
use crate::session::RowSink;
use crate::statement::InsertedValue;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;

/// Collects the rows of a query as values that are written out.
#[derive(Debug, Default)]
pub struct InsertedRows {
    rows: Vec<Vec<InsertedValue>>,
    bytes: usize,
}

impl InsertedRows {
    /// The rows.
    pub fn into_rows(self) -> Vec<Vec<InsertedValue>> {
        self.rows
    }
}

impl RowSink for InsertedRows {
    fn schema(&mut self, _: &SchemaRef) -> Result<(), SqlError> {
        Ok(())
    }

    fn rows(&mut self, batch: &RecordBatch) -> Result<(), SqlError> {
        // Before anything is kept: what no table takes is not collected.
        if self.rows.len() + batch.num_rows() > limits::TABLE_ROWS {
            return Err(over(limits::TABLE_ROWS, "rows"));
        }
        let cells: Vec<Cells<'_>> =
            batch.columns().iter().map(Cells::from_array).collect::<Result<_, _>>()?;
        for row in 0..batch.num_rows() {
            let mut values = Vec::with_capacity(cells.len());
            for column in &cells {
                let text = column.text(row);
                self.bytes += size_of::<InsertedValue>() + text.as_ref().map_or(0, String::len);
                values.push(text.map_or(InsertedValue::Null, InsertedValue::Text));
            }
            self.rows.push(values);
        }
        if self.bytes > limits::INSERTED_BYTES {
            let most = limits::INSERTED_BYTES / 1024 / 1024;
            let error = format!("the rows of the query take more than {most} MiB");
            return Err(SqlError::new(SqlErrorKind::LimitReached, error).hint("insert them in parts"));
        }
        Ok(())
    }
}
