//! Operators with a state, and the one that has each row once. [`super::aggregate`] has groups,
//! [`super::top`] the first rows in an order.
//!
//! They take up rows in whatever pieces these come, and say how what they show has changed when all
//! rows of a refresh are there: what there was in between is seen by nobody.

use super::delta::Delta;
use super::program::Update;
use super::row::Row;
use crate::error::SqlError;
use datafusion::common::HashMap;

/// An operator with a state.
pub(super) trait Stateful {
    /// Takes up rows that came and went.
    fn take_up(&mut self, delta: &Delta) -> Result<(), SqlError>;

    /// How what it shows has changed since the call before.
    fn finish(&mut self) -> Result<Vec<Update>, SqlError>;

    /// What its state takes, in bytes.
    fn bytes(&self) -> usize;
}

/// Each row once, however often it is there.
#[derive(Default)]
pub(super) struct DistinctRows {
    rows: HashMap<Row, DistinctRow>,
    /// Those whose number has changed.
    touched: Vec<Row>,
    bytes: usize,
}

#[derive(Copy, Clone, Default)]
struct DistinctRow {
    count: isize,
    is_shown: bool,
    is_touched: bool,
}

impl Stateful for DistinctRows {
    fn take_up(&mut self, delta: &Delta) -> Result<(), SqlError> {
        for (row, times) in delta.updates()? {
            let size = row.size();
            let known = self.rows.entry(row.clone()).or_default();
            known.count += times;
            if !known.is_touched {
                if !known.is_shown {
                    self.bytes += size;
                }
                known.is_touched = true;
                self.touched.push(row);
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<Update>, SqlError> {
        let mut updates = Vec::new();
        for row in std::mem::take(&mut self.touched) {
            let Some(known) = self.rows.get_mut(&row) else { continue };
            known.is_touched = false;
            let is_there = known.count > 0;
            if known.is_shown != is_there {
                known.is_shown = is_there;
                updates.push((row.clone(), if is_there { 1 } else { -1 }));
            }
            if known.count == 0 {
                self.rows.remove(&row);
                self.bytes = self.bytes.saturating_sub(row.size());
            }
        }
        Ok(updates)
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}
