//! [`StatementAnswers`]: the query engine that the rest of the server uses, extended by plans that
//! are SQL statements.
//!
//! A plan of PromQL goes to the engine unchanged. A statement is evaluated from history for a
//! query; if it stands, its state is kept between evaluations ([`super::run_again`],
//! [`crate::dataflow`]).

use super::leaves::LiveLeaves;
use super::run_again::{RunsAgain, SharedState, run_anew};
use super::samples::Samples;
use crate::SqlEngine;
use crate::dataflow::{
    DataflowStats, DataflowWork, Dataflows, NoDataflow, StandingDataflow, flow_plan, no_table,
};
use crate::error::{SqlError, SqlErrorKind};
use crate::limits::{DataflowLimits, STANDING_AT_ONCE};
use crate::session::on_large_stack;
use engine::live::LiveRuntime;
use engine::plan::Plan;
use engine::plan::statement::{RowForm, statement_of};
use engine::query::{
    AnswerMemory, QueryAnswer, QueryEngine, QueryError, QueryOptions, QueryValue, SampleStats,
    StandingAnswer, StandingTimes, SubqueryCache, VectorSample,
};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use storage::model::TimeMs;

/// A query engine that evaluates SQL statements, and passes all other plans to the engine that it
/// wraps.
pub struct StatementAnswers {
    sql: Arc<SqlEngine>,
    history: Arc<dyn QueryEngine>,
    shared: SharedState,
    dataflows: Arc<Dataflows>,
}

impl StatementAnswers {
    /// `history` answers what is no statement.
    pub fn new(sql: Arc<SqlEngine>, history: Arc<dyn QueryEngine>) -> StatementAnswers {
        let shared = SharedState::new(STANDING_AT_ONCE);
        let dataflows = Arc::new(Dataflows::new(DataflowLimits::default(), shared.lists.clone()));
        StatementAnswers { sql, history, shared, dataflows }
    }

    /// Standing statements read the current rows of views of `live`.
    #[must_use]
    pub fn over(mut self, live: LiveRuntime) -> StatementAnswers {
        self.shared.leaves = Some(Arc::new(LiveLeaves::new(live)));
        self
    }

    /// Dataflows have these limits, not the usual ones.
    #[must_use]
    pub fn with_limits(mut self, limits: DataflowLimits) -> StatementAnswers {
        self.dataflows = Arc::new(Dataflows::new(limits, self.shared.lists.clone()));
        self
    }

    /// What all dataflows consist of; `None`: their thread has not answered for `patience`.
    pub fn dataflow_stats(&self, patience: Duration) -> Option<DataflowStats> {
        self.dataflows.stats(patience)
    }

    /// How much the thread of dataflows has done since it started.
    pub fn dataflow_work(&self) -> DataflowWork {
        self.dataflows.work()
    }

    fn run(
        &self,
        text: &str,
        form: RowForm,
        t: TimeMs,
        options: &QueryOptions,
    ) -> Result<QueryAnswer, SqlError> {
        let _turn = self.shared.turns.turn(options.timeout)?;
        run_anew(&self.sql, text, form, t, options).map(|samples| answer(samples, t))
    }
}

fn answer(samples: Samples, t: TimeMs) -> QueryAnswer {
    let rows = samples.into_iter().map(|(labels, v)| VectorSample { labels, t, v, h: None, drops: false });
    QueryAnswer {
        value: QueryValue::Vector(rows.collect()),
        annotations: Vec::new(),
        samples: SampleStats::default(),
        memory: AnswerMemory::default(),
    }
}

/// The state of a standing statement that is no plan.
enum StandingKind {
    Dataflow(Box<FlowStatement>),
    RunsAgain(Box<RunsAgain>),
}

/// A standing statement of the dataflow class, with its text: it is planned again if a table that
/// it reads gets other columns.
struct FlowStatement {
    sql: Arc<SqlEngine>,
    text: String,
    flow: StandingDataflow,
    /// After an error it is planned again, because its relations may have changed.
    has_failed: bool,
}

impl FlowStatement {
    fn at(&mut self, t: TimeMs, options: &QueryOptions) -> Result<Option<Samples>, SqlError> {
        if self.has_failed && !self.flow.tables().is_empty() {
            self.plan_again()?;
        }
        let samples = self.flow.at(t, options);
        self.has_failed = samples.is_err();
        samples
    }

    fn plan_again(&mut self) -> Result<(), SqlError> {
        let error =
            |text: String| SqlError::new(SqlErrorKind::Execution, text).hint("put the statement again");
        let tables = &self.sql.sources.tables;
        // Without this check, the name of a missing table would be taken for a metric.
        if let Some(gone) = self.flow.tables().iter().find(|name| tables.table(name).is_none()) {
            return Err(no_table(gone));
        }
        let planned = on_large_stack(|| flow_plan(&self.sql, &self.text))?;
        let plan = planned.map_err(|NoDataflow(why)| {
            error(format!(
                "a table that the statement reads has changed, and it is no dataflow any more: {why}"
            ))
        })?;
        if !self.flow.replace(plan) {
            let text = "the statement has other columns now, because a table that it reads has";
            return Err(error(text.to_owned()));
        }
        Ok(())
    }
}

impl StandingAnswer for StandingKind {
    fn at(&mut self, t: TimeMs, options: &QueryOptions) -> Result<Option<QueryAnswer>, QueryError> {
        let samples = match self {
            StandingKind::Dataflow(flow) => flow.at(t, options)?,
            StandingKind::RunsAgain(again) => again.at(t, options)?,
        };
        Ok(samples.map(|samples| answer(samples, t)))
    }
}

impl fmt::Debug for StatementAnswers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StatementAnswers")
    }
}

impl QueryEngine for StatementAnswers {
    fn instant(&self, plan: &Plan, t: TimeMs, options: &QueryOptions) -> Result<QueryAnswer, QueryError> {
        match statement_of(plan) {
            Some((text, form)) => Ok(self.run(text, form, t, options)?),
            None => self.history.instant(plan, t, options),
        }
    }

    fn instant_cached(
        &self,
        plan: &Plan,
        t: TimeMs,
        options: &QueryOptions,
        cache: &mut SubqueryCache,
    ) -> Result<QueryAnswer, QueryError> {
        match statement_of(plan) {
            Some((text, form)) => Ok(self.run(text, form, t, options)?),
            None => self.history.instant_cached(plan, t, options, cache),
        }
    }

    fn range(
        &self,
        plan: &Plan,
        start: TimeMs,
        end: TimeMs,
        step: i64,
        options: &QueryOptions,
    ) -> Result<QueryAnswer, QueryError> {
        if statement_of(plan).is_some() {
            return Err(QueryError::BadData("a statement that stands has no range of times".to_owned()));
        }
        self.history.range(plan, start, end, step, options)
    }

    fn standing(
        &self,
        plan: &Plan,
        times: StandingTimes,
    ) -> Result<Option<Box<dyn StandingAnswer>>, QueryError> {
        let Some((text, form)) = statement_of(plan) else { return Ok(None) };
        // An error of now may be gone later, so the evaluation reports it.
        if let Ok(Ok(flow)) = flow_plan(&self.sql, text) {
            // Lists of the server have no past, so this is also what is recorded.
            let flow = self.dataflows.view(flow, form)?;
            let sql = self.sql.clone();
            let statement = FlowStatement { sql, text: text.to_owned(), flow, has_failed: false };
            return Ok(Some(Box::new(StandingKind::Dataflow(Box::new(statement)))));
        }
        // Live views have the rows of now, but a recording rule needs those of its evaluation time.
        if times == StandingTimes::Evaluations {
            return Ok(None);
        }
        let again = RunsAgain::new(self.sql.clone(), text, form, self.shared.clone());
        Ok(Some(Box::new(StandingKind::RunsAgain(Box::new(again)))))
    }
}
