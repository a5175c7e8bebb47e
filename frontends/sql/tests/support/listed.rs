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
use std::collections::HashMap;
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

/// Other lists, empty at first.
#[derive(Default)]
pub struct OtherLists(Mutex<HashMap<String, Vec<MetaRow>>>);

impl OtherLists {
    /// The list has these objects from now on.
    pub fn set(&self, name: &str, rows: impl IntoIterator<Item = serde_json::Value>) {
        let object = |row: serde_json::Value| row.as_object().cloned().expect("an object");
        self.0.lock().insert(name.to_owned(), rows.into_iter().map(object).collect());
    }
}

impl MetaSource for OtherLists {
    fn rows(&self, name: &str) -> Result<Vec<MetaRow>, SqlError> {
        Ok(self.0.lock().get(name).cloned().unwrap_or_default())
    }
}

/// An engine over these series.
pub fn engine_over(querier: Arc<Querier>, catalog: Arc<dyn SeriesCatalog>) -> Arc<SqlEngine> {
    engine_with_lists(querier, catalog, Arc::default())
}

/// The same, with other lists.
pub fn engine_with_lists(
    querier: Arc<Querier>,
    catalog: Arc<dyn SeriesCatalog>,
    lists: Arc<OtherLists>,
) -> Arc<SqlEngine> {
    Arc::new(SqlEngine::new(SqlSources {
        engine: querier,
        catalog,
        language: Arc::new(PromqlLanguage(PromqlOptions::all())),
        meta: lists,
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
