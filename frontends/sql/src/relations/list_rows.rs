//! [`ListRows`]: a list of the server as it was read once, with the columns that statements made of
//! it. All statements that stand share it ([`crate::standing`]), so that each column is made once.

use super::rows::{Batches, sliced};
use super::{MetaRow, Scan};
use crate::error::SqlError;
use datafusion::arrow::array::ArrayRef;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// The rows of a list of the server.
#[derive(Debug, Default)]
pub(crate) struct ListRows {
    pub(crate) rows: Vec<MetaRow>,
    /// The columns that were asked for, by their names.
    columns: Mutex<HashMap<String, ArrayRef>>,
}

impl ListRows {
    pub(crate) fn new(rows: Vec<MetaRow>) -> ListRows {
        ListRows { rows, columns: Mutex::default() }
    }
}

impl Scan {
    /// The rows of a list that is shared, as batches.
    pub(crate) fn of_shared_list(&self, list: &Arc<ListRows>) -> Result<Batches, SqlError> {
        let mut columns = Vec::new();
        for (i, field) in self.projection.iter().zip(self.schema.fields()) {
            let mut known = list.columns.lock();
            let column = match known.get(field.name()) {
                Some(column) => column.clone(),
                None => {
                    let Some(column) = self.list_column(&list.rows, *i) else { continue };
                    known.insert(field.name().clone(), column.clone());
                    column
                }
            };
            columns.push(column);
        }
        Ok(sliced(self.batch(columns, list.rows.len())?))
    }
}
