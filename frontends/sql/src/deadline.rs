//! The deadline of a statement, checked also inside of a join.
//!
//! DataFusion's join reads batch after batch without yielding, so a statement could not be stopped
//! at that place. [`stoppable`] puts an operator below each join that checks the [`StatementEnd`]
//! with each batch.

use super::batch_watch::{BatchWatch, WatchExec};
use super::error::{SqlError, SqlErrorKind};
use datafusion::common::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// When a statement has to end.
#[derive(Clone, Debug)]
pub(crate) struct StatementEnd {
    pub(crate) at: Instant,
    /// The time that the statement has, for the error.
    pub(crate) timeout: Duration,
    pub(crate) cancel: Arc<AtomicBool>,
}

impl StatementEnd {
    /// The error, if the statement may not go on.
    pub(crate) fn check(&self) -> Result<(), SqlError> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(SqlError::new(SqlErrorKind::Canceled, "query was canceled in query execution"));
        }
        if Instant::now() >= self.at {
            let error = format!("the statement took more than {} s", self.timeout.as_secs_f64());
            return Err(SqlError::new(SqlErrorKind::Timeout, error).hint("ask for less, or raise timeout"));
        }
        Ok(())
    }
}

/// The plan whose joins look at the deadline with each batch that they read.
pub(crate) fn stoppable(
    plan: Arc<dyn ExecutionPlan>,
    deadline: &StatementEnd,
) -> Result<Arc<dyn ExecutionPlan>> {
    let children = plan.children();
    if children.is_empty() {
        return Ok(plan);
    }
    let is_join = plan.name().contains("Join");
    let mut replaced = Vec::new();
    for child in children {
        let child = stoppable(child.clone(), deadline)?;
        replaced.push(if is_join {
            let stop: Arc<dyn ExecutionPlan> = Arc::new(WatchExec { input: child, watch: deadline.clone() });
            stop
        } else {
            child
        });
    }
    let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
    plan.replace_children(replaced, options)
}

impl BatchWatch for StatementEnd {
    const NAME: &'static str = "StopExec";

    fn execute(
        &self,
        input: &Arc<dyn ExecutionPlan>,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let deadline = self.clone();
        let batches = input.execute(partition, context)?;
        let schema = batches.schema();
        let checked = batches.map(move |batch| {
            deadline.check()?;
            batch
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, checked)))
    }
}
