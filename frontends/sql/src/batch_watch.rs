//! A physical operator of DataFusion that passes record batches on unchanged and calls a
//! [`BatchWatch`] for each.
//!
//! There are two watches: [`super::deadline`] stops the statement when its time is over, and
//! [`super::measure`] counts rows for `EXPLAIN ANALYZE`.

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use std::fmt;
use std::sync::Arc;

/// What is done beside the batches of a part.
///
/// # Contract
/// 1. The batches of [`BatchWatch::execute`] are those of `input`, in their order. An error may end
///    them early.
pub(crate) trait BatchWatch: Clone + fmt::Debug + Send + Sync + 'static {
    /// What the part is called.
    const NAME: &'static str;

    /// The batches of a partition of `input`.
    fn execute(
        &self,
        input: &Arc<dyn ExecutionPlan>,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream>;
}

/// The part that passes on the batches of `input`.
#[derive(Debug)]
pub(crate) struct WatchExec<W> {
    pub(crate) input: Arc<dyn ExecutionPlan>,
    pub(crate) watch: W,
}

impl<W: BatchWatch> DisplayAs for WatchExec<W> {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(W::NAME)
    }
}

impl<W: BatchWatch> ExecutionPlan for WatchExec<W> {
    fn name(&self) -> &str {
        W::NAME
    }

    fn schema(&self) -> SchemaRef {
        self.input.schema()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.pop().unwrap_or_else(|| self.input.clone());
        Ok(Arc::new(WatchExec { input, watch: self.watch.clone() }))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.watch.execute(&self.input, partition, context)
    }
}
