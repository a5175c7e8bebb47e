//! A standing statement that is neither a live plan nor a dataflow: it is run again at an
//! evaluation time if something that it reads has changed since.
//!
//! [`RunsAgain`] keeps DataFusion's physical plan between runs. The metrics in it are read from
//! live views ([`super::leaves`]) where possible, and else from history. A statement with `now()`
//! is planned anew for each run.

use super::leaves::{Cut, LiveLeaves, NoCut, StatementLeaf};
use super::lists::SharedLists;
use super::samples::{SampleSink, Samples};
use super::turns::Turns;
use crate::SqlEngine;
use crate::bind::Times;
use crate::codes::{TextCodes, with_codes};
use crate::error::{SqlError, SqlErrorKind};
use crate::functions::is_of_column;
use crate::limits::SMALL_STATEMENT_BYTES;
use crate::output::type_name;
use crate::relations::series_list::begin_of_list;
use crate::relations::{Context, EvaluationInputs, ListRows, Reads};
use crate::session::{Deadline, ExecutablePlan, SqlRequest, on_large_stack, send_rows};
use datafusion::arrow::datatypes::Field;
use datafusion::common::DataFusionError;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::TaskContext;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::execution_plan::{
    ChildrenPropertiesMode, ReplaceChildrenOptions, reset_plan_states,
};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use engine::plan::statement::RowForm;
use engine::query::QueryOptions;
use std::collections::BTreeMap;
use std::sync::Arc;
use storage::model::TimeMs;
use storage::store::{SeriesChanges, SeriesMark};
use tokio::runtime::Runtime;

/// A standing statement of the run-again class, with its state.
pub(super) struct RunsAgain {
    pub(super) sql: Arc<SqlEngine>,
    pub(super) text: String,
    pub(super) form: RowForm,
    shared: SharedState,
    /// The names and types of the columns of the last result.
    columns: Option<Vec<(String, &'static str)>>,
    kept: Option<StatementPlan>,
    /// The versions that the latest result was computed from; `None`: the next evaluation must run.
    seen: Option<ReadVersions>,
}

/// What all statements share that run again.
#[derive(Clone)]
pub(super) struct SharedState {
    /// The live views for current rows; `None`: rows come from history.
    pub(super) leaves: Option<Arc<LiveLeaves>>,
    pub(super) lists: Arc<SharedLists>,
    pub(super) turns: Arc<Turns>,
}

impl SharedState {
    /// For statements that read history, so many of them at once.
    pub(super) fn new(at_once: usize) -> SharedState {
        SharedState { leaves: None, lists: Arc::default(), turns: Arc::new(Turns::new(at_once)) }
    }
}

/// State that is made once and used by all runs.
struct StatementPlan {
    context: Arc<Context>,
    plan: LogicalPlan,
    names: Vec<String>,
    /// The texts of the physical plan, which stand there as numbers.
    codes: Arc<TextCodes>,
    state: SessionState,
    /// DataFusion's task context. It is kept because making it takes longer than a small
    /// evaluation.
    task: Arc<TaskContext>,
    runtime: OwnRuntime,
    /// DataFusion's plan, unless it depends on the time.
    physical: Option<Arc<dyn ExecutionPlan>>,
    /// Whether operators of the plan keep rows, so that it must be made again for each run.
    keeps_state: bool,
    /// How often the physical plan has run.
    runs: u32,
    reads: Reads,
    /// The live views of all plans in the statement, in order; `None`: some plan cannot be a live
    /// view.
    views: Option<Vec<Arc<StatementLeaf>>>,
    /// Each evaluation may differ, whatever has changed.
    is_timed: bool,
}

/// A tokio runtime that may be dropped anywhere.
struct OwnRuntime(Option<Runtime>);

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        // The destructor of a runtime blocks, which async code must not do.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Lists of the server, by their names.
type ListVersions = BTreeMap<&'static str, Arc<ListRows>>;

/// The versions of what was read.
struct ReadVersions {
    rows: Vec<u64>,
    lists: ListVersions,
    series: Option<SeriesMark>,
    /// The begin of the list of series.
    list_begin: TimeMs,
    from_history: bool,
}

impl RunsAgain {
    pub(super) fn new(sql: Arc<SqlEngine>, text: &str, form: RowForm, shared: SharedState) -> RunsAgain {
        RunsAgain { sql, text: text.to_owned(), form, shared, columns: None, kept: None, seen: None }
    }

    /// The rows at `t`; `None`: those of the call before.
    pub(super) fn at(&mut self, t: TimeMs, options: &QueryOptions) -> Result<Option<Samples>, SqlError> {
        let result = self.answer(t, options);
        if result.is_err() {
            // The plan itself may have failed, because the columns of a relation changed.
            self.kept = None;
            self.seen = None;
        }
        result
    }

    fn answer(&mut self, t: TimeMs, options: &QueryOptions) -> Result<Option<Samples>, SqlError> {
        let tables = &self.sql.sources.tables;
        let is_stale = |kept: &StatementPlan| !kept.reads.are_current(tables.as_ref());
        if self.kept.as_ref().is_some_and(is_stale) {
            self.kept = None;
            self.seen = None;
        }
        if self.kept.is_none() {
            self.kept = self.prepare(t, options)?;
            self.check_columns()?;
        }
        let Some(kept) = &mut self.kept else {
            let _turn = self.shared.turns.turn(options.timeout)?;
            return run_anew(&self.sql, &self.text, self.form, t, options).map(Some);
        };
        let lists = kept.lists(t, &self.shared.lists)?;
        let cut = kept.cut(self.shared.leaves.as_deref())?;
        let time = cut.as_ref().map_or(t, |cut| cut.t);
        let (now, is_changed) = kept.look(time, cut.as_ref(), lists, self.seen.as_ref());
        if !is_changed {
            return Ok(None);
        }
        self.seen = None;
        let current = kept.current(cut, &now);
        kept.context.begin(time, current);
        let _turn = self.shared.turns.turn(options.timeout)?;
        let samples = kept.run(time, options, self.form, self.text.len());
        // The rows are not held until the next evaluation: they could not change in place then.
        kept.context.begin(time, EvaluationInputs::default());
        let samples = samples?;
        self.seen = Some(now);
        Ok(Some(samples))
    }

    /// Rows are sent as cells by position, so the columns must stay the same.
    fn check_columns(&mut self) -> Result<(), SqlError> {
        let Some(kept) = &self.kept else { return Ok(()) };
        // Whether a column may be NULL differs between queries, and no row shows it.
        let column = |field: &Arc<Field>| (field.name().clone(), type_name(field.data_type()));
        let columns: Vec<_> = kept.plan.schema().fields().iter().map(column).collect();
        let is_other = self.columns.as_ref().is_some_and(|before| *before != columns);
        if is_other && self.form == RowForm::Cells {
            let error = "the columns of the statement have changed with a table or view that it reads";
            return Err(SqlError::new(SqlErrorKind::Execution, error).hint("subscribe to it again"));
        }
        self.columns = Some(columns);
        Ok(())
    }

    /// `None`: the statement is planned anew at each time.
    fn prepare(&self, t: TimeMs, options: &QueryOptions) -> Result<Option<StatementPlan>, SqlError> {
        on_large_stack(|| {
            let request =
                SqlRequest { text: self.text.clone(), time: t, standing: true, ..SqlRequest::default() };
            let context = self.sql.context(&request, options);
            let ExecutablePlan { plan, names, .. } = self.sql.prepare(&request, &context)?;
            if context.times.get() != Some(&Times::Now) || context.reads.lock().is_planned_anew {
                return Ok(None);
            }
            let fail = |e| SqlError::from_datafusion(e, &self.text);
            let state = self.sql.state(t).map_err(fail)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            let runtime = runtime.map_err(|e| SqlError::new(SqlErrorKind::Internal, e.to_string()))?;
            let shows_now = depends_on_time(&plan);
            let codes: Arc<TextCodes> = Arc::default();
            let optimised = state.optimize(&plan).and_then(|plan| with_codes(plan, &codes)).map_err(fail)?;
            let physical = state.query_planner().create_physical_plan(&optimised, &state);
            let physical = runtime.block_on(physical).map_err(fail)?;
            let reads = context.reads.lock().clone();
            let views = self.shared.leaves.as_ref().and_then(|leaves| {
                reads.plans.values().map(|plan| leaves.leaf(plan)).collect::<Option<Vec<_>>>()
            });
            Ok(Some(StatementPlan {
                task: state.task_ctx(),
                keeps_state: keeps_state(&physical),
                runs: 0,
                is_timed: shows_now || reads.is_timed,
                physical: (!shows_now).then_some(physical),
                runtime: OwnRuntime(Some(runtime)),
                context,
                plan,
                names,
                codes,
                state,
                reads,
                views,
            }))
        })
    }
}

impl StatementPlan {
    /// The rows of the live views; `None`: history is read.
    fn cut(&self, leaves: Option<&LiveLeaves>) -> Result<Option<Cut>, SqlError> {
        let (Some(leaves), Some(views)) = (leaves, &self.views) else { return Ok(None) };
        if views.is_empty() {
            return Ok(None);
        }
        match leaves.cut(views) {
            Ok(cut) => Ok(Some(cut)),
            Err(NoCut::NotReady) => Ok(None),
            Err(NoCut::Failed(error)) => Err(SqlError::new(SqlErrorKind::Execution, error)),
        }
    }

    /// The lists of the server that the statement reads; not those of series.
    fn lists(&self, t: TimeMs, shared: &SharedLists) -> Result<ListVersions, SqlError> {
        let source = self.context.sources.meta.as_ref();
        let names = self.reads.lists.iter().filter(|(_, table)| !table.lists_series).map(|(name, _)| *name);
        names.map(|name| Ok((name, shared.read(name, t, source)?.rows))).collect()
    }

    /// The current versions, and whether they differ from `seen`.
    fn look(
        &self,
        t: TimeMs,
        cut: Option<&Cut>,
        lists: ListVersions,
        seen: Option<&ReadVersions>,
    ) -> (ReadVersions, bool) {
        let from_history = cut.is_none() && !self.reads.plans.is_empty();
        let rows: Vec<u64> = cut.iter().flat_map(|cut| &cut.rows).map(|rows| rows.version).collect();
        let mut is_changed = self.is_timed || from_history;
        let mut series = None;
        for (name, _) in self.reads.lists.iter().filter(|(_, table)| table.lists_series) {
            is_changed |= self.series_changed(seen, &mut series) || *name == "exemplars";
        }
        for (name, list) in &lists {
            let known = seen.and_then(|seen| seen.lists.get(name));
            is_changed |= !known.is_some_and(|known| Arc::ptr_eq(known, list));
        }
        let list_begin = if series.is_some() { begin_of_list(t) } else { 0 };
        let is_same =
            |seen: &ReadVersions| !seen.from_history && seen.rows == rows && seen.list_begin == list_begin;
        is_changed |= !seen.is_some_and(is_same);
        (ReadVersions { rows, lists, series, list_begin, from_history }, is_changed)
    }

    /// Whether series were added or removed since `mark`, which is updated.
    fn series_changed(&self, seen: Option<&ReadVersions>, mark: &mut Option<SeriesMark>) -> bool {
        let catalog = &self.context.sources.catalog;
        let Some(known) = seen.and_then(|seen| seen.series.clone()) else {
            *mark = Some(catalog.series_mark());
            return true;
        };
        let now = mark.insert(known);
        match catalog.series_since(now) {
            SeriesChanges::Added(series) => !series.is_empty(),
            SeriesChanges::Unknown => {
                *now = catalog.series_mark();
                true
            }
        }
    }

    fn current(&self, cut: Option<Cut>, now: &ReadVersions) -> EvaluationInputs {
        let rows = cut.map(|cut| self.reads.plans.keys().cloned().zip(cut.rows).collect());
        EvaluationInputs { rows: rows.unwrap_or_default(), lists: now.lists.clone() }
    }

    fn run(
        &mut self,
        t: TimeMs,
        options: &QueryOptions,
        form: RowForm,
        text_bytes: usize,
    ) -> Result<Samples, SqlError> {
        // The stack of this thread has room for what a short text can say; a thread costs more than
        // most evaluations.
        if text_bytes <= SMALL_STATEMENT_BYTES {
            return self.run_here(t, options, form);
        }
        on_large_stack(|| self.run_here(t, options, form))
    }

    fn run_here(&mut self, t: TimeMs, options: &QueryOptions, form: RowForm) -> Result<Samples, SqlError> {
        let fail = |e| SqlError::from_datafusion(e, "");
        self.codes.tidy();
        let known = self.known_plan().map_err(fail)?;
        let Some(runtime) = &self.runtime.0 else {
            return Err(SqlError::new(SqlErrorKind::Internal, "the statement has ended"));
        };
        let guard = Deadline::start(options);
        let mut sink = SampleSink::new(form);
        runtime.block_on(async {
            let physical = match known {
                Some(physical) => physical,
                None => {
                    let mut state = self.state.clone();
                    state.execution_props_mut().query_execution_start_time =
                        chrono::DateTime::from_timestamp_millis(t);
                    state.create_physical_plan(&self.plan).await.map_err(fail)?
                }
            };
            let stream = execute_stream(physical, self.task.clone()).map_err(fail)?;
            send_rows(stream, &self.names, &guard, &mut sink).await
        })?;
        Ok(sink.into_samples())
    }

    /// The physical plan; `None`: it depends on the time and is made for each run.
    fn known_plan(&mut self) -> Result<Option<Arc<dyn ExecutionPlan>>, DataFusionError> {
        let Some(known) = &mut self.physical else { return Ok(None) };
        if self.runs == RUNS_OF_A_PLAN {
            *known = reset_plan_states(known.clone())?;
            self.runs = 0;
        } else if self.keeps_state {
            *known = without_state(known)?;
        }
        self.runs += 1;
        Ok(Some(known.clone()))
    }
}

/// The number of runs after which even a plan without a state is made again: its metrics grow with
/// each run.
const RUNS_OF_A_PLAN: u32 = 64;

/// The plan with new operators in the place of those that keep what they have read.
fn without_state(plan: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
    if !keeps_state(plan) {
        return Ok(plan.clone());
    }
    let children = plan.children().into_iter().map(without_state).collect::<Result<Vec<_>, _>>()?;
    // To find out anew how their rows are ordered and what is unique takes longer than a small
    // evaluation, and nothing of it has changed.
    let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Keep);
    let plan = plan.clone().replace_children(children, options)?;
    if has_state(&plan) { plan.reset_state() } else { Ok(plan) }
}

/// Whether an operator of the plan keeps what it has read.
fn keeps_state(plan: &Arc<dyn ExecutionPlan>) -> bool {
    has_state(plan) || plan.children().into_iter().any(keeps_state)
}

/// Whether the operator keeps what it has read, such as a side of a join, so that it has to be made
/// new before it runs again.
fn has_state(plan: &Arc<dyn ExecutionPlan>) -> bool {
    // These operators keep no rows. A grouped aggregate has no dynamic filter for its scan; only a
    // global one has.
    let is_stateless = match plan.name() {
        "StreamingTableExec"
        | "FilterExec"
        | "ProjectionExec"
        | "UnionExec"
        | "CooperativeExec"
        | "CoalesceBatchesExec"
        | "CoalescePartitionsExec"
        | "WindowAggExec"
        | "BoundedWindowAggExec" => true,
        "AggregateExec" => {
            let node = plan.downcast_ref::<AggregateExec>();
            node.is_some_and(|node| !node.group_expr().is_empty())
        }
        _ => false,
    };
    !is_stateless
}

/// Plans and runs a statement for one evaluation time.
pub(super) fn run_anew(
    sql: &SqlEngine,
    text: &str,
    form: RowForm,
    t: TimeMs,
    options: &QueryOptions,
) -> Result<Samples, SqlError> {
    let request = SqlRequest { text: text.to_owned(), time: t, standing: true, ..SqlRequest::default() };
    let mut sink = SampleSink::new(form);
    sql.run(&request, options, &mut sink)?;
    Ok(sink.into_samples())
}

/// Whether DataFusion's plan of it would depend on the time: `now()` and its like.
pub(crate) fn depends_on_time(plan: &LogicalPlan) -> bool {
    let mut found = false;
    let is_timed = |e: &Expr| {
        let Expr::ScalarFunction(call) = e else { return false };
        call.func.signature().volatility != Volatility::Immutable && !is_of_column(&call.func)
    };
    let _ = plan.apply_with_subqueries(|node| {
        found |= node.expressions().iter().any(|e| e.exists(|e| Ok(is_timed(e))).unwrap_or(true));
        Ok(TreeNodeRecursion::Continue)
    });
    found
}
