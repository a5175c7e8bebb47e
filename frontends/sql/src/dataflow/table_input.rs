//! An uploaded table as an input of a dataflow: its rows at one version.
//!
//! [`super::input`] compares two versions and makes updates of the difference. [`crate::tables`]
//! has the tables.

use crate::error::{SqlError, SqlErrorKind};
use crate::output::type_name;
use crate::tables::{Table, TableList};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Field, SchemaRef};
use std::fmt;
use std::sync::Arc;

/// Some columns of an uploaded table.
pub(super) struct TableInput {
    tables: Arc<dyn TableList>,
    name: String,
    /// All columns that it had when the statement was planned.
    planned: SchemaRef,
    projection: Vec<usize>,
}

impl fmt::Debug for TableInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableInput").field("name", &self.name).finish_non_exhaustive()
    }
}

impl TableInput {
    /// These columns of the table `name`.
    pub(super) fn new(
        tables: Arc<dyn TableList>,
        name: &str,
        planned: SchemaRef,
        projection: Vec<usize>,
    ) -> TableInput {
        TableInput { tables, name: name.to_owned(), planned, projection }
    }

    /// The columns that are read.
    pub(super) fn columns(&self) -> impl Iterator<Item = &Arc<Field>> {
        self.projection.iter().filter_map(|at| self.planned.fields().get(*at))
    }

    /// The name of the input. It includes the types, because a table with the same name may later
    /// have other types.
    pub(super) fn input_name(&self) -> String {
        let column = |field: &Arc<Field>| format!("{} {}", field.name(), type_name(field.data_type()));
        format!("public.{}({})", self.name, self.columns().map(column).collect::<Vec<_>>().join(", "))
    }

    /// The latest version of the table.
    pub(super) fn newest(&self) -> Result<Arc<Table>, SqlError> {
        let Some(table) = self.tables.table(&self.name) else { return Err(no_table(&self.name)) };
        if table.schema() != self.planned {
            let error = format!("the table {} has other columns than before", self.name);
            return Err(SqlError::new(SqlErrorKind::Execution, error));
        }
        Ok(table)
    }

    /// The rows of a version.
    pub(super) fn rows(&self, table: &Table) -> Result<RecordBatch, SqlError> {
        table.batch().project(&self.projection).map_err(super::row::failed)
    }
}

/// The error of a standing statement whose table was removed.
pub(crate) fn no_table(name: &str) -> SqlError {
    SqlError::new(SqlErrorKind::Unavailable, format!("the table {name} is gone"))
        .hint("the statement goes on when it is put again")
}
