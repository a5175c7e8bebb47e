//! `ORDER BY … LIMIT` of a dataflow, maintained as rows are inserted and deleted.
//!
//! [`OrderedRows`] keeps all rows in a sorted tree. When one of the first rows is deleted, the next
//! one is found there. A change costs a walk over the first rows.

use super::program::Update;
use super::rel::Top;
use super::row::{Row, RowCodec};
use crate::error::SqlError;
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::DataType;
use std::collections::{BTreeMap, HashMap};

/// Rows in order.
pub(super) struct OrderedRows {
    top: Top,
    input: RowCodec,
    order: RowCodec,
    /// Sort key and row, with the number of equal rows.
    rows: BTreeMap<(Row, Row), isize>,
    /// The output rows, as they were sent last.
    shown: HashMap<Row, isize>,
    /// Memory of the rows, bytes.
    pub(super) bytes: usize,
}

impl OrderedRows {
    /// No rows yet.
    pub(super) fn new(top: &Top, kinds: &[DataType]) -> Result<OrderedRows, SqlError> {
        let by: Vec<DataType> = top.order.iter().filter_map(|(at, _)| kinds.get(*at).cloned()).collect();
        let orders: Vec<_> = top.order.iter().map(|(_, order)| *order).collect();
        Ok(OrderedRows {
            top: top.clone(),
            input: RowCodec::new(kinds)?,
            order: RowCodec::sorted(&by, &orders)?,
            rows: BTreeMap::new(),
            shown: HashMap::new(),
            bytes: 0,
        })
    }

    /// Applies updates of input rows. Returns the updates of the first rows.
    pub(super) fn update(&mut self, updates: &[Update]) -> Result<Vec<Update>, SqlError> {
        let batch = self.input.decode(updates.iter().map(|update| &update.0))?;
        let by: Vec<ArrayRef> = self.top.order.iter().map(|(at, _)| batch.column(*at).clone()).collect();
        let places = self.order.encode(&by, batch.num_rows())?;
        for (place, (row, times)) in places.into_iter().zip(updates) {
            let size = place.size() + row.size();
            let key = (place, row.clone());
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
