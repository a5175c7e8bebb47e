//! The row-by-row part of a dataflow: filters and projections.
//!
//! A [`Program`] has DataFusion's physical expressions; a [`Runner`] evaluates them over batches of
//! rows, so that an expression means the same as in a query that runs once.

use super::delta::Delta;
use super::row::{Row, RowCodec, failed};
use crate::error::{SqlError, SqlErrorKind};
use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch};
use datafusion::arrow::datatypes::DataType;
use datafusion::physical_expr::PhysicalExpr;
use std::rc::Rc;
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

/// Programs one after the other.
pub(super) struct Runner {
    programs: Vec<Arc<Program>>,
    output: Rc<RowCodec>,
}

/// An update: a row, and how many of it are inserted (negative: deleted).
pub(super) type Update = (Row, isize);

impl Runner {
    /// To rows of these types.
    pub(super) fn new(programs: Vec<Arc<Program>>, output: &[DataType]) -> Result<Runner, SqlError> {
        Ok(Runner { programs, output: Rc::new(RowCodec::new(output)?) })
    }

    /// What changes become. Rows that do not satisfy the conditions are left out.
    pub(super) fn run(&self, delta: &Delta) -> Result<Delta, SqlError> {
        let mut delta = delta.clone();
        for program in &self.programs {
            for condition in &program.conditions {
                if delta.is_empty() {
                    break;
                }
                let holds = condition.holds(delta.columns()?)?;
                delta = delta.filtered(&holds)?;
            }
            let Some(columns) = &program.columns else { continue };
            if delta.is_empty() {
                break;
            }
            let batch = delta.columns()?;
            let columns = columns.iter().map(|expr| evaluate(expr, batch));
            let batch = named(columns.collect::<Result<Vec<_>, _>>()?, batch.num_rows())?;
            // Of a result in between nobody asks for rows, so its types need no codec.
            delta = Delta::of_columns(self.output.clone(), batch, delta.counts().clone());
        }
        if delta.is_empty() { Ok(Delta::empty(self.output.clone())) } else { Ok(delta) }
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
