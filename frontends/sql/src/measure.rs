//! `EXPLAIN ANALYZE`: counts rows, bytes and time of each operator of the physical plan.
//!
//! [`measured`] wraps each operator; [`MeasuredNode`] then has one line of the output for each.
//! [`super::session`] calls it.

use super::batch_watch::{BatchWatch, WatchExec};
use super::deadline::StatementEnd;
use super::error::SqlError;
use super::session::RowSink;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, displayable};
use futures::{Stream, StreamExt};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Instant;

/// What one operator has given so far.
#[derive(Debug, Default)]
struct OperatorCounts {
    rows: AtomicU64,
    bytes: AtomicU64,
    /// Time that the operator took to make its rows, its inputs included.
    nanos: AtomicU64,
}

/// An operator of the plan, and its measurement.
pub(crate) struct MeasuredNode {
    depth: usize,
    text: String,
    measured: Arc<OperatorCounts>,
}

impl MeasuredNode {
    /// A line of the answer.
    pub(crate) fn line(&self) -> String {
        let indent = "  ".repeat(self.depth);
        let rows = self.measured.rows.load(Relaxed);
        let bytes = self.measured.bytes.load(Relaxed);
        let ms = self.measured.nanos.load(Relaxed) as f64 / 1e6;
        format!("{indent}{}: {rows} rows, {bytes} bytes, {ms:.3} ms", self.text.trim_end())
    }
}

/// The plan with a measurement around each operator; `nodes` gets the operators, those at the top
/// first.
pub(crate) fn measured(
    plan: Arc<dyn ExecutionPlan>,
    depth: usize,
    nodes: &mut Vec<MeasuredNode>,
) -> Result<Arc<dyn ExecutionPlan>> {
    // Operators that only look at the deadline are put in by this crate: nobody who asks for the
    // plan wants to see them.
    let is_own = plan.name() == StatementEnd::NAME;
    let measured_here = Arc::new(OperatorCounts::default());
    if !is_own {
        let text = displayable(plan.as_ref()).one_line().to_string();
        nodes.push(MeasuredNode { depth, text, measured: measured_here.clone() });
    }
    let below = depth + usize::from(!is_own);
    let mut children = Vec::new();
    for child in plan.children() {
        children.push(measured(child.clone(), below, nodes)?);
    }
    let plan = if children.is_empty() {
        plan
    } else {
        plan.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))?
    };
    if is_own {
        return Ok(plan);
    }
    Ok(Arc::new(WatchExec { input: plan, watch: Measure(measured_here) }))
}

/// A stream that counts the batches that pass it.
#[derive(Clone, Debug)]
struct Measure(Arc<OperatorCounts>);

impl BatchWatch for Measure {
    const NAME: &'static str = "MeasureExec";

    fn execute(
        &self,
        input: &Arc<dyn ExecutionPlan>,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let began = Instant::now();
        let batches = input.execute(partition, context)?;
        self.0.nanos.fetch_add(nanos_since(began), Relaxed);
        let schema = batches.schema();
        let counted = MeasuredStream { batches, measured: self.0.clone() };
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, counted)))
    }
}

fn nanos_since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// The batches of a part, counted.
struct MeasuredStream {
    batches: SendableRecordBatchStream,
    measured: Arc<OperatorCounts>,
}

impl Stream for MeasuredStream {
    type Item = Result<RecordBatch>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<RecordBatch>>> {
        let this = self.get_mut();
        let began = Instant::now();
        let polled = this.batches.poll_next_unpin(cx);
        this.measured.nanos.fetch_add(nanos_since(began), Relaxed);
        if let Poll::Ready(Some(Ok(batch))) = &polled {
            this.measured.rows.fetch_add(batch.num_rows() as u64, Relaxed);
            this.measured.bytes.fetch_add(batch.get_array_memory_size() as u64, Relaxed);
        }
        polled
    }
}

/// Takes rows and forgets them.
pub(crate) struct ForgetfulSink;

impl RowSink for ForgetfulSink {
    fn schema(&mut self, _: &SchemaRef) -> Result<(), SqlError> {
        Ok(())
    }

    fn rows(&mut self, _: &RecordBatch) -> Result<(), SqlError> {
        Ok(())
    }
}
