//! [`Delta`]: changes of a relation, which flow from one operator of a dataflow to the next.
//!
//! Operators that compute need columns, operators that store rows need rows. Each form is made when
//! it is first needed, and then shared by all dataflows that read the change.

use super::program::Update;
use super::row::{Row, RowCodec, failed};
use crate::error::SqlError;
use crate::limits::BATCH_ROWS;
use datafusion::arrow::array::{Array, BooleanArray, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use std::cell::OnceCell;
use std::rc::Rc;

/// Inserted and deleted rows. Cheap to clone.
#[derive(Clone)]
pub(super) struct Delta {
    codec: Rc<RowCodec>,
    /// For each row, how many were inserted; negative: deleted.
    counts: Rc<Vec<isize>>,
    rows: OnceCell<Rc<Vec<Row>>>,
    columns: OnceCell<RecordBatch>,
}

impl Delta {
    /// Changes as rows, which `codec` turns into columns.
    pub(super) fn of_updates(codec: Rc<RowCodec>, updates: impl IntoIterator<Item = Update>) -> Delta {
        let (rows, counts) = updates.into_iter().unzip();
        Delta::of_rows(codec, rows, counts)
    }

    /// The same, with the counts beside the rows.
    pub(super) fn of_rows(codec: Rc<RowCodec>, rows: Vec<Row>, counts: Vec<isize>) -> Delta {
        Delta {
            codec,
            counts: Rc::new(counts),
            rows: OnceCell::from(Rc::new(rows)),
            columns: OnceCell::new(),
        }
    }

    /// Changes as columns, which `codec` turns into rows.
    pub(super) fn of_columns(codec: Rc<RowCodec>, columns: RecordBatch, counts: Rc<Vec<isize>>) -> Delta {
        Delta { codec, counts, rows: OnceCell::new(), columns: OnceCell::from(columns) }
    }

    /// No changes.
    pub(super) fn empty(codec: Rc<RowCodec>) -> Delta {
        Delta::of_rows(codec, Vec::new(), Vec::new())
    }

    /// Number of changed rows.
    pub(super) fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether nothing has changed.
    pub(super) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// For each row, how many were inserted; negative: deleted.
    pub(super) fn counts(&self) -> &Rc<Vec<isize>> {
        &self.counts
    }

    /// The rows.
    pub(super) fn rows(&self) -> Result<&Rc<Vec<Row>>, SqlError> {
        if let Some(rows) = self.rows.get() {
            return Ok(rows);
        }
        let rows = match self.columns.get() {
            Some(batch) => self.codec.encode(batch.columns(), batch.num_rows())?,
            None => Vec::new(),
        };
        Ok(self.rows.get_or_init(|| Rc::new(rows)))
    }

    /// The columns.
    pub(super) fn columns(&self) -> Result<&RecordBatch, SqlError> {
        if let Some(columns) = self.columns.get() {
            return Ok(columns);
        }
        let columns = self.codec.decode(self.rows()?.iter())?;
        Ok(self.columns.get_or_init(|| columns))
    }

    /// Each row with its count.
    pub(super) fn updates(&self) -> Result<impl Iterator<Item = Update>, SqlError> {
        Ok(self.rows()?.iter().cloned().zip(self.counts.iter().copied()))
    }

    /// The rows for which the condition holds.
    pub(super) fn filtered(&self, holds: &BooleanArray) -> Result<Delta, SqlError> {
        let holds_at = |i: usize| holds.is_valid(i) && holds.value(i);
        let kept: Vec<usize> = (0..self.len()).filter(|i| holds_at(*i)).collect();
        if kept.len() == self.len() {
            return Ok(self.clone());
        }
        if kept.is_empty() {
            return Ok(Delta::empty(self.codec.clone()));
        }
        let counts = kept.iter().filter_map(|i| self.counts.get(*i).copied()).collect();
        let filtered = Delta {
            codec: self.codec.clone(),
            counts: Rc::new(counts),
            rows: OnceCell::new(),
            columns: OnceCell::new(),
        };
        if let Some(rows) = self.rows.get() {
            let rows = kept.iter().filter_map(|i| rows.get(*i).cloned()).collect();
            filtered.rows.get_or_init(|| Rc::new(rows));
        }
        if let Some(batch) = self.columns.get() {
            let batch = filter_record_batch(batch, holds).map_err(failed)?;
            filtered.columns.get_or_init(|| batch);
        }
        Ok(filtered)
    }
}

/// Changes in pieces of the size of a batch.
pub(super) fn in_pieces(
    codec: &Rc<RowCodec>,
    updates: impl IntoIterator<Item = Update>,
) -> impl Iterator<Item = Delta> {
    let mut updates = updates.into_iter();
    std::iter::from_fn(move || {
        let piece = Delta::of_updates(codec.clone(), updates.by_ref().take(BATCH_ROWS));
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array};
    use datafusion::arrow::datatypes::{DataType, Int64Type};
    use std::sync::Arc;

    fn numbers(delta: &Delta) -> Result<Vec<i64>, SqlError> {
        Ok(delta.columns()?.column(0).as_primitive::<Int64Type>().values().to_vec())
    }

    /// Whatever form a change had first, conditions leave the same of it.
    #[test]
    fn both_forms_are_filtered_alike() -> Result<(), SqlError> {
        let codec = Rc::new(RowCodec::new(&[DataType::Int64])?);
        let column: ArrayRef = Arc::new(Int64Array::from(vec![5, 6, 7]));
        let rows = codec.encode(std::slice::from_ref(&column), 3)?;
        let batch = codec.decode(rows.iter())?;
        let holds = BooleanArray::from(vec![Some(true), None, Some(true)]);
        let of_rows = Delta::of_rows(codec.clone(), rows.clone(), vec![1, 2, -3]).filtered(&holds)?;
        let of_columns = Delta::of_columns(codec, batch, Rc::new(vec![1, 2, -3])).filtered(&holds)?;
        for delta in [of_rows, of_columns] {
            assert_eq!(numbers(&delta)?, [5, 7]);
            let updates: Vec<Update> = delta.updates()?.collect();
            assert_eq!(updates, [(rows[0].clone(), 1), (rows[2].clone(), -3)]);
            assert!(delta.filtered(&BooleanArray::from(vec![false, false]))?.is_empty());
        }
        Ok(())
    }
}
