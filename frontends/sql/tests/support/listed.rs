//! For the tests of dataflows: a list of series that can grow, standing statements over it, and the
//! resident memory of the process. There is no store.

#![allow(dead_code, reason = "each program uses a part of it")]

use engine::memory::{MemoryPool, MemoryReservation};
use engine::plan::statement::{RowForm, plan_of_statement};
use engine::query::{Querier, QueryEngine, QueryError, SeriesCatalog, StandingAnswer, StandingTimes};
use parking_lot::Mutex;
use promql::{PromqlLanguage, PromqlOptions};
use sql::relations::{MetaRow, MetaSource};
use sql::standing::StatementAnswers;
use sql::{SqlEngine, SqlError, SqlSources};
use std::sync::Arc;
use storage::exemplars::SeriesExemplars;
use storage::model::{Labels, Matcher, TimeMs};
use storage::store::{HeadStats, NewestSample, SeriesChanges, SeriesMark};

/// A list of series that grows.
#[derive(Default)]
pub struct ListedSeries {
    series: Mutex<Vec<Labels>>,
    added: Mutex<Vec<Labels>>,
}

impl ListedSeries {
    /// A list of these.
    pub fn new(series: impl IntoIterator<Item = Labels>) -> ListedSeries {
        ListedSeries { series: Mutex::new(series.into_iter().collect()), added: Mutex::default() }
    }

    /// One series more.
    pub fn add(&self, labels: Labels) {
        self.series.lock().push(labels.clone());
        self.added.lock().push(labels);
    }
}

impl SeriesCatalog for ListedSeries {
    fn series(
        &self,
        _: &[Vec<Matcher>],
        _: TimeMs,
        _: TimeMs,
        _: &MemoryReservation,
    ) -> Result<Vec<Labels>, QueryError> {
        Ok(self.series.lock().clone())
    }

    fn label_names(&self, _: &[Vec<Matcher>], _: TimeMs, _: TimeMs) -> Result<Vec<String>, QueryError> {
        Ok(Vec::new())
    }

    fn label_values(
        &self,
        _: &str,
        _: &[Vec<Matcher>],
        _: TimeMs,
        _: TimeMs,
    ) -> Result<Vec<String>, QueryError> {
        Ok(Vec::new())
    }

    fn newest(
        &self,
        _: &[Vec<Matcher>],
        _: TimeMs,
        _: TimeMs,
        _: &MemoryReservation,
    ) -> Result<Vec<NewestSample>, QueryError> {
        Ok(Vec::new())
    }

    fn exemplars(
        &self,
        _: &[Vec<Matcher>],
        _: TimeMs,
        _: TimeMs,
    ) -> Result<Vec<SeriesExemplars>, QueryError> {
        Ok(Vec::new())
    }

    fn stats(&self, _: usize) -> HeadStats {
        HeadStats::default()
    }

    fn series_since(&self, _: &mut SeriesMark) -> SeriesChanges {
        SeriesChanges::Added(std::mem::take(&mut self.added.lock()))
    }
}

/// No other lists.
struct NoLists;

impl MetaSource for NoLists {
    fn rows(&self, _: &str) -> Result<Vec<MetaRow>, SqlError> {
        Ok(Vec::new())
    }
}

/// An engine over these series.
pub fn engine_over(querier: Arc<Querier>, catalog: Arc<dyn SeriesCatalog>) -> Arc<SqlEngine> {
    Arc::new(SqlEngine::new(SqlSources {
        engine: querier,
        catalog,
        language: Arc::new(PromqlLanguage(PromqlOptions::all())),
        meta: Arc::new(NoLists),
        tables: Arc::new(sql::tables::NoTables),
        memory: MemoryPool::for_queries(1 << 32),
    }))
}

/// A statement that stands.
pub fn stand(answers: &StatementAnswers, text: &str) -> Result<Box<dyn StandingAnswer>, QueryError> {
    let plan = plan_of_statement(text, RowForm::Cells);
    answers.standing(&plan, StandingTimes::Present).map(|answer| answer.expect("it stands"))
}

/// Resident memory of this process that is no file, in MB.
pub fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("RssAnon")).expect("RssAnon");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).expect("kB") / 1024.0
}
