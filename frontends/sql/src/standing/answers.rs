//! A query engine that also answers statements which run again.

use super::samples::SampleSink;
use crate::SqlEngine;
use crate::error::{SqlError, SqlErrorKind};
use crate::limits::STANDING_AT_ONCE;
use crate::session::SqlRequest;
use engine::plan::Plan;
use engine::plan::statement::{RowForm, statement_of};
use engine::query::{
    AnswerMemory, QueryAnswer, QueryEngine, QueryError, QueryOptions, QueryValue, SampleStats, SubqueryCache,
    VectorSample,
};
use parking_lot::{Condvar, Mutex};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use storage::model::TimeMs;

/// Answers statements by SQL, and all other plans by the engine behind it.
pub struct StatementAnswers {
    sql: Arc<SqlEngine>,
    history: Arc<dyn QueryEngine>,
    /// How many more statements may run now.
    free: Mutex<usize>,
    /// A statement has ended.
    freed: Condvar,
}

/// The turn of a statement.
struct Turn<'a>(&'a StatementAnswers);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.free.lock() += 1;
        self.0.freed.notify_one();
    }
}

impl StatementAnswers {
    /// `history` answers what is no statement.
    pub fn new(sql: Arc<SqlEngine>, history: Arc<dyn QueryEngine>) -> StatementAnswers {
        StatementAnswers { sql, history, free: Mutex::new(STANDING_AT_ONCE), freed: Condvar::new() }
    }

    /// Waits until a statement may run.
    fn turn(&self, patience: Duration) -> Result<Turn<'_>, SqlError> {
        let mut free = self.free.lock();
        while *free == 0 {
            if self.freed.wait_for(&mut free, patience).timed_out() && *free == 0 {
                let error = "other statements that run again took the time of this one";
                return Err(SqlError::new(SqlErrorKind::Timeout, error));
            }
        }
        *free -= 1;
        Ok(Turn(self))
    }

    fn run(
        &self,
        text: &str,
        form: RowForm,
        t: TimeMs,
        options: &QueryOptions,
    ) -> Result<QueryAnswer, SqlError> {
        let request = SqlRequest { text: text.to_owned(), time: t, standing: true, ..SqlRequest::default() };
        let _turn = self.turn(options.timeout)?;
        let mut sink = SampleSink::new(form);
        self.sql.run(&request, options, &mut sink)?;
        let samples = sink.into_samples().into_iter();
        let rows = samples.map(|(labels, v)| VectorSample { labels, t, v, h: None, drops: false }).collect();
        Ok(QueryAnswer {
            value: QueryValue::Vector(rows),
            annotations: Vec::new(),
            samples: SampleStats::default(),
            memory: AnswerMemory::default(),
        })
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
}
