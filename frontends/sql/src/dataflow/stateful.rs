//! [`Stateful`]: the trait of a dataflow's operators that have a state, and `DISTINCT` as one of
//! them ([`DistinctRows`]). The others are `GROUP BY` ([`super::aggregate`]) and `ORDER BY … LIMIT`
//! ([`super::top`]).
//!
//! Within a refresh, which processes all changes since the last one, an operator gets its changes
//! in several pieces. It returns how its output changed once, at the end of the refresh, so that
//! intermediate results are never sent.

use super::delta::Delta;
use super::program::Update;
use super::row::Row;
use crate::error::SqlError;
use datafusion::common::HashMap;

/// An operator with a state.
pub(super) trait Stateful {
    /// Applies inserted and deleted rows.
    fn apply(&mut self, delta: &Delta) -> Result<(), SqlError>;

    /// Ends a refresh: returns the changes of the output since the last call.
    fn finish(&mut self) -> Result<Vec<Update>, SqlError>;

    /// Memory of the state, bytes.
    fn bytes(&self) -> usize;
}

/// `DISTINCT`: the output has each row once, however often the input has it.
#[derive(Default)]
pub(super) struct DistinctRows {
    rows: HashMap<Row, DistinctRow>,
    /// The rows whose count has changed in this refresh.
    touched: Vec<Row>,
    bytes: usize,
}

#[derive(Copy, Clone, Default)]
struct DistinctRow {
    /// How often the input has the row.
    count: isize,
    /// The row is in the output.
    is_shown: bool,
    /// The row is in the list of changed rows.
    is_touched: bool,
}

impl Stateful for DistinctRows {
    fn apply(&mut self, delta: &Delta) -> Result<(), SqlError> {
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
