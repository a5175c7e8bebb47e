//! [`Row`]: a row of a dataflow, as bytes in arrow's row format, whose order is that of the values.
//!
//! The bytes of a row are those of its columns, one after the other. So two rows are joined by
//! putting their bytes together. [`RowCodec`] encodes columns as rows and decodes them.

use crate::error::{SqlError, SqlErrorKind};
use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::row::{RowConverter, Rows, SortField};
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// A row. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Row(Arc<[u8]>);

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Row({} bytes)", self.0.len())
    }
}

/// Lets a map with rows as keys be searched by bytes.
impl Borrow<[u8]> for Row {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl Row {
    /// The row with these bytes.
    pub(super) fn new(bytes: &[u8]) -> Row {
        Row(bytes.into())
    }

    /// The columns of this row, then those of the other.
    pub(super) fn followed_by(&self, other: &[u8]) -> Row {
        Row([&self.0, other].concat().into())
    }

    /// Its bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Memory of the row in an arrangement, bytes, with its time, count and allocation.
    pub(super) fn size(&self) -> usize {
        const BESIDE: usize = 56;
        self.0.len() + BESIDE
    }
}

/// An error of arrow.
pub(super) fn failed(error: ArrowError) -> SqlError {
    SqlError::new(SqlErrorKind::Execution, error.to_string())
}

/// Several rows in one allocation, for lookups that need no [`Row`] for each.
pub(super) struct EncodedRows {
    /// `None`: the rows have no columns.
    rows: Option<Rows>,
}

impl EncodedRows {
    /// The bytes of row `i`.
    pub(super) fn bytes(&self, i: usize) -> &[u8] {
        self.rows.as_ref().map_or(&[], |rows| rows.row(i).data())
    }
}

/// Turns columns into rows and back.
pub(super) struct RowCodec {
    converter: RowConverter,
    schema: SchemaRef,
}

impl RowCodec {
    /// For columns of these types, in ascending order.
    pub(super) fn new(kinds: &[DataType]) -> Result<RowCodec, SqlError> {
        RowCodec::sorted(kinds, &[])
    }

    /// For columns of these types; the first ones are in these orders.
    pub(super) fn sorted(kinds: &[DataType], orders: &[SortOptions]) -> Result<RowCodec, SqlError> {
        let field = |(i, kind): (usize, &DataType)| {
            SortField::new_with_options(kind.clone(), orders.get(i).copied().unwrap_or_default())
        };
        let converter = RowConverter::new(kinds.iter().enumerate().map(field).collect()).map_err(failed)?;
        let column = |(i, kind): (usize, &DataType)| Field::new(format!("c{i}"), kind.clone(), true);
        let schema = Schema::new(kinds.iter().enumerate().map(column).collect::<Vec<_>>());
        Ok(RowCodec { converter, schema: Arc::new(schema) })
    }

    /// The row of NULLs.
    pub(super) fn null(&self) -> Result<Row, SqlError> {
        let column = |field: &Arc<Field>| new_null_array(field.data_type(), 1);
        let columns: Vec<ArrayRef> = self.schema.fields().iter().map(column).collect();
        Ok(self.encode(&columns, 1)?.pop().unwrap_or_else(|| Row::new(&[])))
    }

    /// The rows of some columns.
    pub(super) fn encode(&self, columns: &[ArrayRef], count: usize) -> Result<Vec<Row>, SqlError> {
        if columns.is_empty() {
            return Ok(vec![Row::new(&[]); count]);
        }
        let rows = self.converter.convert_columns(columns).map_err(failed)?;
        Ok(rows.iter().map(|row| Row::new(row.data())).collect())
    }

    /// Encodes columns as rows in one allocation.
    pub(super) fn encoded(&self, columns: &[ArrayRef]) -> Result<EncodedRows, SqlError> {
        if columns.is_empty() {
            return Ok(EncodedRows { rows: None });
        }
        let rows = self.converter.convert_columns(columns).map_err(failed)?;
        Ok(EncodedRows { rows: Some(rows) })
    }

    /// The columns of some rows.
    pub(super) fn decode<'a>(
        &self,
        rows: impl ExactSizeIterator<Item = &'a Row>,
    ) -> Result<RecordBatch, SqlError> {
        let count = rows.len();
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let columns = if self.schema.fields().is_empty() {
            Vec::new()
        } else {
            let parser = self.converter.parser();
            self.converter.convert_rows(rows.map(|row| parser.parse(&row.0))).map_err(failed)?
        };
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{Array, AsArray, Int64Array, StringArray};
    use datafusion::arrow::datatypes::Int64Type;

    /// Joins depend on this: the bytes of two rows, one after the other, are those of the joined
    /// row.
    #[test]
    fn the_bytes_of_a_row_are_those_of_its_columns() -> Result<(), SqlError> {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(-5)]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), Some(""), None]));
        let both = RowCodec::new(&[DataType::Int64, DataType::Utf8])?;
        let rows = both.encode(&[numbers.clone(), texts.clone()], 3)?;
        let first = RowCodec::new(&[DataType::Int64])?.encode(std::slice::from_ref(&numbers), 3)?;
        let second = RowCodec::new(&[DataType::Utf8])?.encode(&[texts], 3)?;
        for (row, (a, b)) in rows.iter().zip(first.iter().zip(&second)) {
            assert_eq!(*row, a.followed_by(b.bytes()));
        }
        let back = both.decode(rows.iter())?;
        assert_eq!(back.column(0).as_primitive::<Int64Type>(), numbers.as_primitive::<Int64Type>());
        assert!(back.column(1).is_null(2) && first[2] < first[0] && first[1] < first[2]);
        Ok(())
    }
}
