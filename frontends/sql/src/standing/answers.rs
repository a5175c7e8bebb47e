//! A query engine that also answers statements which run again.

use super::samples::SampleSink;
use crate::SqlEngine;
use crate::error::SqlError;
use crate::session::SqlRequest;
use engine::plan::Plan;
use engine::plan::statement::{RowForm, statement_of};
use engine::query::{
    AnswerMemory, QueryAnswer, QueryEngine, QueryError, QueryOptions, QueryValue, SampleStats, SubqueryCache,
    VectorSample,
};
use std::fmt;
use std::sync::Arc;
use storage::model::TimeMs;

/// Answers statements by SQL, and all other plans by the engine behind it.
#[derive(Clone)]
pub struct StatementAnswers {
    sql: Arc<SqlEngine>,
    history: Arc<dyn QueryEngine>,
}

impl StatementAnswers {
    /// `history` answers what is no statement.
    pub fn new(sql: Arc<SqlEngine>, history: Arc<dyn QueryEngine>) -> StatementAnswers {
        StatementAnswers { sql, history }
    }

    fn run(
        &self,
        text: &str,
        form: RowForm,
        t: TimeMs,
        options: &QueryOptions,
    ) -> Result<QueryAnswer, SqlError> {
        let request = SqlRequest { text: text.to_owned(), time: t, standing: true, ..SqlRequest::default() };
        let mut sink = SampleSink::new(form);
        self.sql.run(&request, options, &mut sink)?;
        let samples = sink.into_samples().into_iter();
        let rows = samples.map(|(labels, v)| VectorSample { labels, t, v, h: None, drops: false }).collect();
        Ok(QueryAnswer {
            value: QueryValue::Vector(rows),
            notes: Vec::new(),
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
