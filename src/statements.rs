//! SQL in the server: the engine that answers statements and runs those of views again, and rules
//! in SQL.

#[cfg(feature = "sql")]
use ::sql::relations::{LateLists, MetaSource};
#[cfg(feature = "sql")]
use ::sql::standing::{StandingClass, StatementAnswers};
#[cfg(feature = "sql")]
use ::sql::{SqlEngine, SqlError, SqlSources};
use engine::memory::MemoryPool;
#[cfg(feature = "sql")]
use engine::plan::Span;
use engine::query::{Querier, QueryEngine, SeriesCatalog};
use language::QueryTextError;
use promql::PromqlOptions;
#[cfg(feature = "sql")]
use rules::file::RuleUse;
use rules::file::{RuleCompiler, RuleExpression};
use std::sync::Arc;

/// The engine of SQL; nothing in a build without SQL.
#[derive(Clone)]
pub struct Statements {
    #[cfg(feature = "sql")]
    engine: Arc<SqlEngine>,
    #[cfg(feature = "sql")]
    lists: Arc<LateLists>,
}

/// Compiles the expressions of rules: PromQL, and SQL with `--rules.enable-sql`.
pub struct RuleLanguages {
    promql: promql::PromqlLanguage,
    #[cfg(feature = "sql")]
    sql: Option<SqlEngine>,
}

impl RuleLanguages {
    /// The languages for the rules of a server with these flags.
    pub fn new(language: PromqlOptions, enable_sql: bool) -> RuleLanguages {
        let promql = promql::PromqlLanguage(language);
        #[cfg(not(feature = "sql"))]
        let _ = enable_sql;
        RuleLanguages {
            #[cfg(feature = "sql")]
            sql: enable_sql.then(|| SqlEngine::for_planning(Arc::new(promql::PromqlLanguage(language)))),
            promql,
        }
    }
}

impl RuleCompiler for RuleLanguages {
    fn promql(&self, text: &str) -> Result<RuleExpression, QueryTextError> {
        rules::file::compiler(&self.promql)(text)
    }

    #[cfg(feature = "sql")]
    fn sql(&self, text: &str, purpose: RuleUse) -> Result<RuleExpression, QueryTextError> {
        let refused = |what: &str| QueryTextError::new(text, Span::default(), what.to_owned());
        let Some(engine) = &self.sql else {
            return Err(refused("rules in SQL need --rules.enable-sql"));
        };
        rule_expression(engine, text, purpose).map_err(|e| e.in_query(text))
    }
}

/// The expression of a rule in SQL.
#[cfg(feature = "sql")]
pub(crate) fn rule_expression(
    engine: &SqlEngine,
    text: &str,
    purpose: RuleUse,
) -> Result<RuleExpression, SqlError> {
    let text = text.trim().trim_end_matches(';').trim_end();
    let series = engine.standing_series(text, purpose == RuleUse::Record)?;
    let link = match series.class {
        StandingClass::Plan(promql) => promql,
        StandingClass::RunsAgain(_) => text.to_owned(),
    };
    Ok(RuleExpression { plan: series.plan, text: text.to_owned(), labels: series.labels, link })
}

/// What statements read.
pub(crate) struct StatementSources {
    /// Answers plans over history.
    pub querier: Arc<Querier>,
    /// Lists series and labels.
    pub catalog: Arc<dyn SeriesCatalog>,
    /// The language of `promql('…')`.
    pub language: PromqlOptions,
    /// The memory that lists of series count in.
    pub memory: Arc<MemoryPool>,
}

#[cfg(feature = "sql")]
impl Statements {
    pub(crate) fn new(sources: StatementSources) -> Statements {
        let lists = Arc::new(LateLists::default());
        let engine = SqlEngine::new(SqlSources {
            engine: sources.querier,
            catalog: sources.catalog,
            language: Arc::new(promql::PromqlLanguage(sources.language)),
            meta: lists.clone(),
            memory: sources.memory,
        });
        Statements { engine: Arc::new(engine), lists }
    }

    /// The engine that answers the plans of views from history: statements too.
    pub(crate) fn answers(&self, querier: Arc<Querier>) -> Arc<dyn QueryEngine> {
        Arc::new(StatementAnswers::new(self.engine.clone(), querier))
    }

    /// The engine.
    pub(crate) fn engine(&self) -> Arc<SqlEngine> {
        self.engine.clone()
    }

    /// The lists of the server are there from now on.
    pub(crate) fn connect(&self, lists: &Arc<dyn MetaSource>) {
        self.lists.connect(lists);
    }
}

#[cfg(not(feature = "sql"))]
impl Statements {
    pub(crate) fn new(_: StatementSources) -> Statements {
        Statements {}
    }

    pub(crate) fn answers(&self, querier: Arc<Querier>) -> Arc<dyn QueryEngine> {
        querier
    }
}
