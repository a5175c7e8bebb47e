//! The row-by-row part of a dataflow: filters and projections.
//!
//! A [`Program`] has DataFusion's physical expressions; a [`Runner`] evaluates them over batches of
//! rows, so that an expression means the same as in a query that runs once. [`super::render`] calls
//! it in its map operators.

use super::row::{Row, RowCodec, failed};
use crate::error::{SqlError, SqlErrorKind};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::DataType;
use datafusion::physical_expr::PhysicalExpr;
use std::sync::Arc;
use storage::model::Matcher;

/// Filters rows by conditions, then computes the output columns.
#[derive(Clone, Debug, Default)]
pub(super) struct Program {
    pub(super) conditions: Vec<Condition>,
    /// `None`: the columns stay as they are.
    pub(super) columns: Option<Vec<Arc<dyn PhysicalExpr>>>,
}

/// A condition that a row must satisfy.
#[derive(Clone, Debug)]
pub(super) enum Condition {
    Expr(Arc<dyn PhysicalExpr>),
    /// Matchers on the label in this column.
    Matchers(usize, Vec<Matcher>),
}

impl Condition {
    pub(super) fn text(&self) -> String {
        match self {
            Condition::Expr(expr) => expr.to_string(),
            Condition::Matchers(_, matchers) => {
                matchers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            }
        }
    }

    fn holds(&self, batch: &RecordBatch) -> Result<BooleanArray, SqlError> {
        match self {
            Condition::Expr(expr) => {
                let array = evaluate(expr, batch)?;
                let result = array.as_boolean_opt();
                result.cloned().ok_or_else(|| SqlError::new(SqlErrorKind::Internal, "a condition is no bool"))
            }
            Condition::Matchers(column, matchers) => {
                let texts = batch.column(*column).as_string::<i32>();
                let matches = |text: Option<&str>| {
                    let text = text.unwrap_or("");
                    Some(matchers.iter().all(|matcher| matcher.matches(text)))
                };
                Ok(texts.iter().map(matches).collect())
            }
        }
    }
}

/// Evaluates an expression: one value for each row.
fn evaluate(expr: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Result<ArrayRef, SqlError> {
    let value = expr.evaluate(batch).and_then(|value| value.into_array(batch.num_rows()));
    value.map_err(|e| SqlError::from_datafusion(e, ""))
}

/// Programs one after the other, over rows.
pub(super) struct Runner {
    programs: Vec<Arc<Program>>,
    input: RowCodec,
    output: RowCodec,
}

/// An update: a row, and how many of it are inserted (negative: deleted).
pub(super) type Update = (Row, isize);

impl Runner {
    /// The input and the output types of the rows.
    pub(super) fn new(
        programs: Vec<Arc<Program>>,
        input: &[DataType],
        output: &[DataType],
    ) -> Result<Runner, SqlError> {
        Ok(Runner { programs, input: RowCodec::new(input)?, output: RowCodec::new(output)? })
    }

    /// Runs over some rows. The results are in the same order, without rows that do not satisfy the
    /// conditions. `marks` are filtered in the same way.
    pub(super) fn run<M: Copy>(&self, rows: &[Row], marks: Vec<M>) -> Result<(Vec<Row>, Vec<M>), SqlError> {
        if self.programs.is_empty() {
            return Ok((rows.to_vec(), marks));
        }
        let (batch, marks) = self.columns(rows.iter(), marks)?;
        let rows = self.output.encode(batch.columns(), batch.num_rows())?;
        Ok((rows, marks))
    }

    /// The same, with the results as columns.
    pub(super) fn columns<'a, M: Copy>(
        &self,
        rows: impl ExactSizeIterator<Item = &'a Row>,
        mut marks: Vec<M>,
    ) -> Result<(RecordBatch, Vec<M>), SqlError> {
        let mut batch = self.input.decode(rows)?;
        for program in &self.programs {
            for condition in &program.conditions {
                let holds = condition.holds(&batch)?;
                let holds_at = |i: usize| holds.is_valid(i) && holds.value(i);
                let mut at = 0..;
                marks.retain(|_| at.next().is_some_and(holds_at));
                batch = filter_record_batch(&batch, &holds).map_err(failed)?;
            }
            if let Some(columns) = &program.columns {
                let columns = columns.iter().map(|expr| evaluate(expr, &batch));
                batch = named(columns.collect::<Result<Vec<_>, _>>()?, batch.num_rows())?;
            }
        }
        Ok((batch, marks))
    }
}

/// A batch of columns that have no names.
fn named(columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, SqlError> {
    use datafusion::arrow::array::RecordBatchOptions;
    use datafusion::arrow::datatypes::{Field, Schema};
    let field =
        |(i, column): (usize, &ArrayRef)| Field::new(format!("c{i}"), column.data_type().clone(), true);
    let schema = Schema::new(columns.iter().enumerate().map(field).collect::<Vec<_>>());
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(schema), columns, &options).map_err(failed)
}
