//! `ORDER BY … LIMIT` of a dataflow, maintained as rows are inserted and deleted.
//!
//! [`OrderedRows`] keeps all rows in a sorted tree. When one of the first rows is deleted, the next
//! one is found there. A change costs a walk over the first rows.

use super::delta::Delta;
use super::program::Update;
use super::rel::Top;
use super::row::{Row, RowCodec};
use super::stateful::Stateful;
use crate::error::SqlError;
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::DataType;
use std::collections::{BTreeMap, HashMap};

/// The rows in order, and those of them that are output.
pub(super) struct OrderedRows {
    top: Top,
    order: RowCodec,
    /// Sort key and row, with the number of equal rows.
    rows: BTreeMap<(Row, Row), isize>,
    /// The output rows, as they were sent last.
    shown: HashMap<Row, isize>,
    /// There are changes since the output was computed last.
    is_touched: bool,
    /// Memory of the rows, bytes.
    bytes: usize,
}

impl OrderedRows {
    /// No rows yet.
    pub(super) fn new(top: &Top, kinds: &[DataType]) -> Result<OrderedRows, SqlError> {
        let by: Vec<DataType> = top.order.iter().filter_map(|(at, _)| kinds.get(*at).cloned()).collect();
        let orders: Vec<_> = top.order.iter().map(|(_, order)| *order).collect();
        Ok(OrderedRows {
            top: top.clone(),
            order: RowCodec::sorted(&by, &orders)?,
            rows: BTreeMap::new(),
            shown: HashMap::new(),
            is_touched: false,
            bytes: 0,
        })
    }

    fn first(&self) -> HashMap<Row, isize> {
        let mut found = HashMap::new();
        let mut skip = self.top.skip as isize;
        let mut left = self.top.fetch as isize;
        for ((_, row), count) in &self.rows {
            let skipped = skip.min(*count);
            skip -= skipped;
            let taken = (count - skipped).min(left);
            left -= taken;
            if taken > 0 {
                *found.entry(row.clone()).or_insert(0) += taken;
            }
            if left == 0 {
                break;
            }
        }
        found
    }
}

impl Stateful for OrderedRows {
    fn apply(&mut self, delta: &Delta) -> Result<(), SqlError> {
        let batch = delta.columns()?;
        let by: Vec<ArrayRef> = self.top.order.iter().map(|(at, _)| batch.column(*at).clone()).collect();
        let places = self.order.encode(&by, delta.len())?;
        for (place, (row, times)) in places.into_iter().zip(delta.updates()?) {
            let size = place.size() + row.size();
            let key = (place, row);
            let known = self.rows.entry(key.clone()).or_insert(0);
            let was = *known;
            *known += times;
            if *known == 0 {
                self.rows.remove(&key);
                self.bytes = self.bytes.saturating_sub(size);
            } else if was == 0 {
                self.bytes += size;
            }
        }
        self.is_touched = true;
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<Update>, SqlError> {
        if !std::mem::take(&mut self.is_touched) {
            return Ok(Vec::new());
        }
        let now = self.first();
        let mut changes = Vec::new();
        for (row, count) in &now {
            let by = count - self.shown.remove(row).unwrap_or(0);
            changes.extend((by != 0).then(|| (row.clone(), by)));
        }
        changes.extend(self.shown.drain().map(|(row, count)| (row, -count)));
        self.shown = now;
        Ok(changes)
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{AsArray, Int64Array};
    use datafusion::arrow::compute::SortOptions;
    use datafusion::arrow::datatypes::Int64Type;
    use std::rc::Rc;
    use std::sync::Arc;

    /// The next ones are there when the first ones go, also those that came long before.
    #[test]
    fn the_next_ones_take_the_places_of_those_that_go() -> Result<(), SqlError> {
        let order = vec![(0, SortOptions { descending: true, nulls_first: false })];
        let codec = Rc::new(RowCodec::new(&[DataType::Int64])?);
        let mut ordered = OrderedRows::new(&Top { order, skip: 1, fetch: 2 }, &[DataType::Int64])?;
        let mut shown: HashMap<Row, isize> = HashMap::new();
        let mut first = |numbers: Vec<i64>, count: isize| -> Result<Vec<i64>, SqlError> {
            let column: ArrayRef = Arc::new(Int64Array::from(numbers));
            let rows = codec.encode(std::slice::from_ref(&column), column.len())?;
            let counts = vec![count; rows.len()];
            ordered.apply(&Delta::of_rows(codec.clone(), rows, counts))?;
            for (row, by) in ordered.finish()? {
                *shown.entry(row).or_insert(0) += by;
            }
            shown.retain(|_, count| *count != 0);
            let batch = codec.decode(shown.keys().collect::<Vec<_>>().into_iter())?;
            let mut numbers: Vec<i64> = batch.column(0).as_primitive::<Int64Type>().values().to_vec();
            numbers.sort_unstable();
            Ok(numbers)
        };
        assert_eq!(first((0..100).collect(), 1)?, [97, 98]);
        assert_eq!(first(vec![99, 97], -1)?, [95, 96]);
        assert_eq!(first((2..99).filter(|n| *n != 97).collect(), -1)?, [0]);
        assert_eq!(first(vec![5], 1)?, [0, 1]);
        Ok(())
    }
}
