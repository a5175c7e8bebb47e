//! Runs one statement: from [`SqlRequest`] to rows in a [`RowSink`].
//!
//! It plans ([`super::planner`]), rewrites ([`super::rewrite`]) and executes, on a thread with a
//! large stack (plans are recursive) and with a runtime of its own, until the deadline. Also
//! `EXPLAIN` and the description of a statement's columns.

use super::SqlEngine;
use super::bind::{self, Grid, Refusal, Times};
use super::deadline::{StatementEnd, stoppable};
use super::error::{SqlError, SqlErrorKind};
use super::guard::Explain;
use super::limits;
use super::measure::{ForgetfulSink, MeasuredNode, measured};
use super::parameters;
use super::planner::{PlannedQuery, plan};
use super::relations::{Context, Kind, Relation};
use super::rewrite::{Report, absorb, break_ties, extract_leaves, only_answer, without_null_labels};
use super::{dataflow, standing};
use datafusion::arrow::array::{RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{Cast, Expr, LogicalPlan};
use datafusion::physical_plan::{displayable, execute_stream};
use engine::query::QueryOptions;
use futures::StreamExt;
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::model::TimeMs;

/// A statement to run.
#[derive(Clone, Debug, Default)]
pub struct SqlRequest {
    /// The statement.
    pub text: String,
    /// The time of `now()`, ms.
    pub time: TimeMs,
    /// The evaluation times; `None`: those that the statement names, or `time`.
    pub grid: Option<Grid>,
    /// The values of `$1`, `$2`, …. An array is a list, such as that of `= ANY ($1)`.
    pub params: Vec<Value>,
    /// DataFusion also runs what a plan could say: for comparison. Functions that only plans have
    /// are then errors.
    pub without_plans: bool,
    /// The statement stands. A metric that has no series is empty, and its columns are the labels
    /// that the statement names, so that both do not change with the data.
    pub standing: bool,
}

/// Takes the rows of an answer.
///
/// # Contract
///
/// 1. `schema` is called once, before the first `rows`. All batches have that schema.
/// 2. An error ends the statement, which returns it; nothing more is called.
/// 3. Both may block, for instance while a client reads slowly. The deadline of the statement is
///    checked only after they return, so the sink needs a timeout of its own.
pub trait RowSink: Send {
    /// The columns; called once, first.
    fn schema(&mut self, schema: &SchemaRef) -> Result<(), SqlError>;
    /// The next rows.
    fn rows(&mut self, batch: &RecordBatch) -> Result<(), SqlError>;
}

/// The summary of a complete answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SqlSummary {
    /// Rows of the answer.
    pub rows: usize,
    /// Warnings of the evaluation and about the statement.
    pub warnings: Vec<String>,
}

/// The description of an answer before the statement runs.
#[derive(Clone, Debug)]
pub struct SqlDescription {
    /// Its columns. A column whose type depends on a parameter has the type `Null`.
    pub columns: SchemaRef,
    /// The types of `$1`, `$2`, …; `None`: any.
    pub params: Vec<Option<DataType>>,
}

/// The interval at which a running statement checks its deadline.
const CHECK_EVERY: Duration = Duration::from_millis(20);

impl SqlEngine {
    /// Runs a statement; its rows go to `sink`. Blocks. `options` has its limits, its timeout and
    /// its cancellation. The thread inherits the priority of the caller's.
    pub fn run(
        &self,
        request: &SqlRequest,
        options: &QueryOptions,
        sink: &mut dyn RowSink,
    ) -> Result<SqlSummary, SqlError> {
        let deadline = Instant::now() + options.timeout;
        on_large_stack(|| self.run_here(request, options, deadline, sink))
    }

    fn run_here(
        &self,
        request: &SqlRequest,
        options: &QueryOptions,
        deadline: Instant,
        sink: &mut dyn RowSink,
    ) -> Result<SqlSummary, SqlError> {
        let context = self.context(request, options);
        let prepared = self.prepare(request, &context)?;
        // A runtime of its own, of this thread alone: a long evaluation must not hold up the
        // server's, and ends with the thread.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(|e| SqlError::new(SqlErrorKind::Internal, e.to_string()))?;
        let guard = Deadline { options, deadline };
        let mut summary = runtime.block_on(self.execute(request, prepared, &guard, sink))?;
        summary.warnings = context.warnings.lock().clone();
        Ok(summary)
    }

    /// The columns and parameters of a statement, without running it. Blocks.
    pub fn describe(&self, request: &SqlRequest, options: &QueryOptions) -> Result<SqlDescription, SqlError> {
        on_large_stack(|| {
            let context = self.context(request, options);
            let PlannedQuery { plan, explain, .. } = plan(self, &context, &request.text)?;
            let params = parameters::types(&plan)?;
            // EXPLAIN answers lines of text, whatever the query would answer.
            let columns = if explain.is_some() {
                Arc::new(Schema::new(vec![Field::new("plan", DataType::Utf8, false)]))
            } else {
                renamed(&Arc::new(plan.schema().as_arrow().clone()), &output_names(&plan))
            };
            Ok(SqlDescription { columns, params })
        })
    }

    pub(crate) fn context(&self, request: &SqlRequest, options: &QueryOptions) -> Arc<Context> {
        let sources = self.sources.clone();
        Arc::new(Context::new(sources, options.clone(), request.time, request.standing))
    }

    /// Plans a statement, and replaces the parts that the engine can compute.
    pub(crate) fn prepare(
        &self,
        request: &SqlRequest,
        context: &Arc<Context>,
    ) -> Result<ExecutablePlan, SqlError> {
        let text = request.text.as_str();
        let fail = |e| SqlError::from_datafusion(e, text);
        let PlannedQuery { plan, explain, .. } = plan(self, context, text)?;
        let plan = parameters::with_values(plan, &request.params)?;
        let times = match request.grid {
            Some(grid) => Times::Grid(grid),
            None => bind::find_times(&plan, request.time)?,
        };
        // Set once: each statement has a context of its own.
        let _ = context.times.set(times);
        let names = output_names(&plan);
        // The plan of a statement over a named view would stay that of the old query.
        let view = context.reads.lock().views.keys().next().cloned();
        let runs_again = match view {
            Some(view) => Some(format!("the view {view} may be replaced")),
            None => explain.and_then(|_| standing::plan_class(&plan, times).err()).map(|Refusal(why)| why),
        };
        let mut report = Report::default();
        let plan =
            // The switch is for tests that compare both ways.
            if request.without_plans { plan } else { absorb(plan, context, &mut report).map_err(fail)? };
        // After the absorption: what the engine took has its conditions as matchers.
        let plan = without_null_labels(plan).map_err(fail)?;
        let plan = break_ties(extract_leaves(plan).map_err(fail)?).map_err(fail)?;
        let stands = match runs_again {
            // Only EXPLAIN shows it, and to find it out costs a second planning.
            _ if explain.is_none() => Vec::new(),
            None => vec!["stands: as a live plan".to_owned()],
            Some(why) => self.how_it_stands(context, &plan, &names, &why),
        };
        Ok(ExecutablePlan { plan, names, explain, report, stands })
    }

    /// How a statement would stand that is no plan for the reason `why`, for `EXPLAIN`.
    fn how_it_stands(
        &self,
        context: &Arc<Context>,
        plan: &LogicalPlan,
        names: &[String],
        why: &str,
    ) -> Vec<String> {
        match dataflow::of_plan(self, context, plan, names.to_vec()) {
            Ok(flow) => {
                let kept = flow.arranged().into_iter().map(|line| format!("keeps: {line}"));
                ["stands: as a dataflow".to_owned()].into_iter().chain(kept).collect()
            }
            Err(dataflow::NoDataflow(no)) => {
                vec![format!("stands: runs again after changes: {why}"), format!("no dataflow: {no}")]
            }
        }
    }

    async fn execute(
        &self,
        request: &SqlRequest,
        prepared: ExecutablePlan,
        guard: &Deadline<'_>,
        sink: &mut dyn RowSink,
    ) -> Result<SqlSummary, SqlError> {
        let fail = |e| SqlError::from_datafusion(e, &request.text);
        let began = Instant::now();
        let (physical, task) = match only_answer(&prepared.plan).map_err(fail)? {
            // The whole statement is one plan of the engine: DataFusion's planner has nothing to
            // decide.
            Some(physical) => (physical, self.task().map_err(fail)?),
            None => {
                let state = self.state(request.time).map_err(fail)?;
                (state.create_physical_plan(&prepared.plan).await.map_err(fail)?, state.task_ctx())
            }
        };
        if prepared.explain == Some(Explain::Plan) {
            let optimised = displayable(physical.as_ref()).indent(false).to_string();
            let lines = optimised.lines().map(str::to_owned).collect();
            return explained(&prepared, lines, sink);
        }
        // Sorts and joins return only at their end; the wrapped operators look at the deadline
        // between batches.
        let physical = stoppable(physical, &guard.end()).map_err(fail)?;
        if prepared.explain == Some(Explain::Analyze) {
            let mut nodes = Vec::new();
            let physical = measured(physical, 0, &mut nodes).map_err(fail)?;
            let planned = began.elapsed().as_secs_f64() * 1e3;
            let began = Instant::now();
            let stream = execute_stream(physical, task).map_err(fail)?;
            // It runs to the end and its rows go nowhere: only what it took is asked.
            let rows = send_rows(stream, &prepared.names, guard, &mut ForgetfulSink).await?;
            let ran = began.elapsed().as_secs_f64() * 1e3;
            let mut lines: Vec<String> = nodes.iter().map(MeasuredNode::line).collect();
            lines.push(format!("{rows} rows in {ran:.3} ms, optimised in {planned:.3} ms"));
            return explained(&prepared, lines, sink);
        }
        let stream = execute_stream(physical, task).map_err(fail)?;
        let rows = send_rows(stream, &prepared.names, guard, sink).await?;
        Ok(SqlSummary { rows, warnings: Vec::new() })
    }

    /// The plan of a statement that is one; the reason if it is none. For tests and standing
    /// queries.
    pub fn compile(&self, text: &str, time: TimeMs) -> Result<(engine::plan::Plan, Option<Grid>), SqlError> {
        on_large_stack(|| self.compile_here(text, time))
    }

    fn compile_here(&self, text: &str, time: TimeMs) -> Result<(engine::plan::Plan, Option<Grid>), SqlError> {
        let request = SqlRequest { text: text.to_owned(), time, ..SqlRequest::default() };
        let context = self.context(&request, &QueryOptions::default());
        let PlannedQuery { plan, .. } = plan(self, &context, text)?;
        let times = bind::find_times(&plan, time)?;
        let grid = match times {
            Times::Grid(grid) => Some(grid),
            Times::Now | Times::At(_) => None,
        };
        let bound = bind::bind(&plan, times).map_err(|Refusal(why)| SqlError::bad(why))?;
        Ok((bound.plan, grid))
    }
}

/// Sends the rows of an answer to `sink`. Returns how many there are.
pub(crate) async fn send_rows(
    mut stream: SendableRecordBatchStream,
    names: &[String],
    guard: &Deadline<'_>,
    sink: &mut dyn RowSink,
) -> Result<usize, SqlError> {
    sink.schema(&renamed(&stream.schema(), names))?;
    let mut rows = 0;
    loop {
        guard.check()?;
        let next = tokio::time::timeout(CHECK_EVERY, stream.next()).await;
        // Nothing came in time: checks the deadline and waits again.
        let Ok(next) = next else { continue };
        let Some(batch) = next else { return Ok(rows) };
        let batch = batch.map_err(|e| SqlError::from_datafusion(e, ""))?;
        rows += batch.num_rows();
        sink.rows(&batch)?;
    }
}

/// Runs `work` on a thread whose stack has room for the trees of the longest statement.
pub fn on_large_stack<T: Send>(work: impl FnOnce() -> Result<T, SqlError> + Send) -> Result<T, SqlError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("sql".to_owned()).stack_size(limits::STACK_BYTES);
        match thread.spawn_scoped(scope, work).map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(result)) => result,
            // It panicked. The server goes on, and the statement has an error.
            Ok(Err(_)) => Err(SqlError::new(SqlErrorKind::Internal, "the statement stopped unexpectedly")),
            Err(e) => {
                Err(SqlError::new(SqlErrorKind::Unavailable, format!("no thread for the statement: {e}")))
            }
        }
    })
}

/// A statement that is ready to run.
pub(crate) struct ExecutablePlan {
    pub(crate) plan: LogicalPlan,
    pub(crate) names: Vec<String>,
    explain: Option<Explain>,
    report: Report,
    /// Its class as a standing statement, for `EXPLAIN`.
    stands: Vec<String>,
}

/// Until when a statement may run.
pub(crate) struct Deadline<'a> {
    options: &'a QueryOptions,
    deadline: Instant,
}

impl Deadline<'_> {
    /// From now on.
    pub(crate) fn start(options: &QueryOptions) -> Deadline<'_> {
        Deadline { options, deadline: Instant::now() + options.timeout }
    }

    /// The same, for the parts of a plan.
    fn end(&self) -> StatementEnd {
        let timeout = self.options.timeout;
        StatementEnd { at: self.deadline, timeout, cancel: self.options.cancel.clone() }
    }

    fn check(&self) -> Result<(), SqlError> {
        self.end().check()
    }
}

/// The names of the columns as PostgreSQL gives them: `sum`, not `sum(up.value)`.
pub(crate) fn output_names(plan: &LogicalPlan) -> Vec<String> {
    let mut node = plan;
    while let LogicalPlan::Sort(_) | LogicalPlan::Limit(_) | LogicalPlan::Distinct(_) = node {
        match node.inputs().first() {
            Some(input) => node = input,
            None => break,
        }
    }
    let own = |name: &str| match name.split_once('(') {
        Some((function, _))
            if function.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !function.is_empty() =>
        {
            function.to_owned()
        }
        // An expression, which PostgreSQL gives this name.
        _ if name.contains([' ', '(']) => "?column?".to_owned(),
        _ => name.to_owned(),
    };
    let names =
        |schema: &datafusion::common::DFSchema| schema.fields().iter().map(|f| own(f.name())).collect();
    match node {
        LogicalPlan::Projection(projection) => projection
            .expr
            .iter()
            .zip(projection.schema.fields())
            .map(|(expr, field)| match expr {
                // `count(*)` is an alias of its own.
                Expr::Alias(alias) if alias.name.contains('(') => own(&alias.name),
                Expr::Alias(alias) => alias.name.clone(),
                Expr::Literal(..)
                | Expr::Placeholder(_)
                | Expr::BinaryExpr(_)
                | Expr::Negative(_)
                | Expr::InList(_)
                | Expr::IsNull(_)
                | Expr::IsNotNull(_)
                | Expr::Not(_) => "?column?".to_owned(),
                Expr::Case(_) => "case".to_owned(),
                Expr::Cast(cast) => cast_name(cast, own),
                _ => own(field.name()),
            })
            .collect(),
        other => names(other.schema()),
    }
}

/// The name of a cast: that of the column or function inside, else that of the type.
fn cast_name(cast: &Cast, own: impl Fn(&str) -> String) -> String {
    match cast.expr.as_ref() {
        Expr::Column(column) => column.name.clone(),
        Expr::Cast(inner) => cast_name(inner, own),
        Expr::Literal(..) | Expr::Placeholder(_) | Expr::BinaryExpr(_) | Expr::Negative(_) => {
            super::output::type_name(cast.field.data_type()).to_owned()
        }
        other => own(&other.schema_name().to_string()),
    }
}

fn renamed(schema: &SchemaRef, names: &[String]) -> SchemaRef {
    let field = |(i, field): (usize, &Arc<Field>)| match names.get(i) {
        Some(name) => Arc::new(field.as_ref().clone().with_name(name)),
        None => field.clone(),
    };
    Arc::new(Schema::new(schema.fields().iter().enumerate().map(field).collect::<Vec<_>>()))
}

/// The plans that the scans of metrics need, as PromQL.
fn leaf_plans(plan: &LogicalPlan) -> Vec<String> {
    let mut found = Vec::new();
    let _ = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Some(relation) = Relation::of_source(scan.source.as_ref())
            && matches!(relation.kind, Kind::Metric(_))
        {
            found.push(format!("{}: {}", scan.table_name, relation.as_text()));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    found
}

/// The answer of `EXPLAIN`: a line a row.
fn explained(
    prepared: &ExecutablePlan,
    physical: Vec<String>,
    sink: &mut dyn RowSink,
) -> Result<SqlSummary, SqlError> {
    let report = &prepared.report;
    let leaves = leaf_plans(&prepared.plan);
    let mut lines = Vec::new();
    for plan in &report.plans {
        lines.push(format!("plan: {plan}"));
    }
    lines.extend(leaves.iter().map(|leaf| format!("read: {leaf}")));
    lines.extend(report.refusals.iter().map(|why| format!("not a plan: {why}")));
    lines.extend(prepared.stands.iter().cloned());
    lines.extend(physical.into_iter().map(|line| format!("run: {line}")));
    let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("plan", DataType::Utf8, false)]));
    sink.schema(&schema)?;
    let rows = lines.len();
    let column = Arc::new(StringArray::from(lines));
    let batch = RecordBatch::try_new(schema, vec![column]);
    let batch = batch.map_err(|e| SqlError::new(SqlErrorKind::Internal, e.to_string()))?;
    sink.rows(&batch)?;
    Ok(SqlSummary { rows, warnings: Vec::new() })
}
