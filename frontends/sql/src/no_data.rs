//! [`sources`] without data, for planning the statements of rule files before a store is open
//! (`perennial check rules`, and the load of the configuration).

use crate::SqlSources;
use crate::error::{SqlError, SqlErrorKind};
use crate::relations::MetaSource;
use crate::tables::TableList;
use engine::memory::{MemoryPool, MemoryReservation};
use engine::plan::Plan;
use engine::query::{QueryAnswer, QueryEngine, QueryError, QueryOptions, SeriesCatalog};
use language::QueryLanguage;
use serde_json::{Map, Value};
use std::sync::Arc;
use storage::exemplars::SeriesExemplars;
use storage::model::{Labels, Matcher, TimeMs};
use storage::store::{HeadStats, NewestSample};

/// Answers nothing.
struct NoData;

/// Sources for planning only.
pub(crate) fn sources(language: Arc<dyn QueryLanguage>, tables: Arc<dyn TableList>) -> SqlSources {
    let nothing = Arc::new(NoData);
    SqlSources {
        engine: nothing.clone(),
        catalog: nothing.clone(),
        language,
        meta: nothing,
        tables,
        memory: MemoryPool::for_queries(0),
    }
}

fn unavailable<T>() -> Result<T, QueryError> {
    Err(QueryError::Unavailable("there is no data yet".to_owned()))
}

impl QueryEngine for NoData {
    fn instant(&self, _: &Plan, _: TimeMs, _: &QueryOptions) -> Result<QueryAnswer, QueryError> {
        unavailable()
    }

    fn range(
        &self,
        _: &Plan,
        _: TimeMs,
        _: TimeMs,
        _: i64,
        _: &QueryOptions,
    ) -> Result<QueryAnswer, QueryError> {
        unavailable()
    }
}

impl SeriesCatalog for NoData {
    fn series(
        &self,
        _: &[Vec<Matcher>],
        _: TimeMs,
        _: TimeMs,
        _: &MemoryReservation,
    ) -> Result<Vec<Labels>, QueryError> {
        unavailable()
    }

    fn label_names(&self, _: &[Vec<Matcher>], _: TimeMs, _: TimeMs) -> Result<Vec<String>, QueryError> {
        unavailable()
    }

    fn label_values(
        &self,
        _: &str,
        _: &[Vec<Matcher>],
        _: TimeMs,
        _: TimeMs,
    ) -> Result<Vec<String>, QueryError> {
        unavailable()
    }

    fn newest(
        &self,
        _: &[Vec<Matcher>],
        _: TimeMs,
        _: TimeMs,
        _: &MemoryReservation,
    ) -> Result<Vec<NewestSample>, QueryError> {
        unavailable()
    }

    fn exemplars(
        &self,
        _: &[Vec<Matcher>],
        _: TimeMs,
        _: TimeMs,
    ) -> Result<Vec<SeriesExemplars>, QueryError> {
        unavailable()
    }

    fn stats(&self, _: usize) -> HeadStats {
        HeadStats::default()
    }
}

impl MetaSource for NoData {
    fn rows(&self, name: &str) -> Result<Vec<Map<String, Value>>, SqlError> {
        Err(SqlError::new(SqlErrorKind::Unavailable, format!("meta.{name} cannot be read yet")))
    }
}
