//! SQL in the server: the SQL engine over all services, standing statements as views, rules in SQL,
//! and alerts that statements define.

#[cfg(feature = "sql")]
use crate::server::Server;
#[cfg(feature = "sql")]
use crate::tables::ServerTables;
#[cfg(feature = "sql")]
use ::sql::relations::{LateLists, MetaSource};
#[cfg(feature = "sql")]
use ::sql::standing::{StandingClass, StatementAnswers};
#[cfg(feature = "sql")]
use ::sql::statement::AlertStatement;
#[cfg(feature = "sql")]
use ::sql::{SqlEngine, SqlError, SqlSources};
#[cfg(feature = "sql")]
use api::response::{ApiError, ErrorType};
#[cfg(feature = "sql")]
use api::services::{AlertDefinitions, TableStore};
use engine::live::LiveRuntime;
use engine::memory::MemoryPool;
#[cfg(feature = "sql")]
use engine::plan::Span;
use engine::query::{Querier, QueryEngine, SeriesCatalog};
use language::QueryTextError;
use promql::PromqlOptions;
#[cfg(feature = "sql")]
use rules::file::RuleUse;
use rules::file::{RuleCompiler, RuleExpression};
#[cfg(feature = "sql")]
use rules::{
    defined_alerts::{AlertDefinition, AlertDefinitionError, Definitions},
    template,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use storage::disk::Disk;
#[cfg(feature = "sql")]
use storage::model::labels::METRIC_NAME;
use views::definition_file::DefinitionFileError;
use views::saved::SavedQueries;

/// The engine of SQL; nothing in a build without SQL.
#[derive(Clone)]
pub struct Statements {
    #[cfg(feature = "sql")]
    engine: Arc<SqlEngine>,
    #[cfg(feature = "sql")]
    lists: Arc<LateLists>,
    #[cfg(feature = "sql")]
    tables: Arc<ServerTables>,
}

/// Compiles the expressions of rules: PromQL, and SQL with `--rules.enable-sql`.
pub struct RuleLanguages {
    promql: promql::PromqlLanguage,
    #[cfg(feature = "sql")]
    sql: Option<SqlEngine>,
}

impl RuleLanguages {
    /// The languages for the rules of a server with these flags. Statements know no tables.
    pub fn new(language: PromqlOptions, enable_sql: bool) -> RuleLanguages {
        #[cfg(not(feature = "sql"))]
        let _ = enable_sql;
        RuleLanguages {
            #[cfg(feature = "sql")]
            sql: enable_sql.then(|| planning(language, Arc::new(::sql::tables::NoTables))),
            promql: promql::PromqlLanguage(language),
        }
    }

    /// The same; statements may read the tables and views of the server with these `statements`.
    pub(crate) fn with_tables(
        language: PromqlOptions,
        enable_sql: bool,
        statements: &Statements,
    ) -> RuleLanguages {
        #[cfg(not(feature = "sql"))]
        let _ = (enable_sql, statements);
        RuleLanguages {
            #[cfg(feature = "sql")]
            sql: enable_sql.then(|| planning(language, statements.tables.clone())),
            promql: promql::PromqlLanguage(language),
        }
    }

    /// The same; statements may read the tables and views in the data directory `data`, which are
    /// not taken into use.
    pub(crate) fn at_start(language: PromqlOptions, enable_sql: bool, data: &Path) -> RuleLanguages {
        #[cfg(not(feature = "sql"))]
        let _ = (enable_sql, data);
        RuleLanguages {
            #[cfg(feature = "sql")]
            sql: enable_sql.then(|| planning(language, Arc::new(ServerTables::peek(data)))),
            promql: promql::PromqlLanguage(language),
        }
    }
}

/// An engine that only plans, for rules.
#[cfg(feature = "sql")]
fn planning(language: PromqlOptions, tables: Arc<dyn ::sql::tables::TableList>) -> SqlEngine {
    SqlEngine::for_planning(Arc::new(promql::PromqlLanguage(language)), tables)
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
        StandingClass::Dataflow(_) | StandingClass::RunsAgain(_) => text.to_owned(),
    };
    Ok(RuleExpression { plan: series.plan, text: text.to_owned(), labels: series.labels, link, fault: None })
}

/// What statements read.
#[cfg_attr(not(feature = "sql"), allow(dead_code, reason = "without SQL there are no statements"))]
pub(crate) struct StatementSources {
    /// Answers plans over history.
    pub querier: Arc<Querier>,
    /// Lists series and labels.
    pub catalog: Arc<dyn SeriesCatalog>,
    /// The language of `promql('…')`.
    pub language: PromqlOptions,
    /// The memory that lists of series count in.
    pub memory: Arc<MemoryPool>,
    /// Where tables are kept.
    pub disk: Arc<dyn Disk>,
    /// The data directory.
    pub directory: PathBuf,
}

#[cfg(feature = "sql")]
impl Statements {
    pub(crate) fn new(sources: StatementSources) -> Result<Statements, DefinitionFileError> {
        let lists = Arc::new(LateLists::default());
        let tables = Arc::new(ServerTables::open(sources.disk, &sources.directory)?);
        let engine = SqlEngine::new(SqlSources {
            engine: sources.querier,
            catalog: sources.catalog,
            language: Arc::new(promql::PromqlLanguage(sources.language)),
            meta: lists.clone(),
            tables: tables.clone(),
            memory: sources.memory,
        });
        Ok(Statements { engine: Arc::new(engine), lists, tables })
    }

    /// The engine that answers plans from history: statements too.
    pub(crate) fn answers(&self, querier: Arc<Querier>) -> Arc<dyn QueryEngine> {
        Arc::new(StatementAnswers::new(self.engine.clone(), querier))
    }

    /// The same for views: standing statements read the current rows of `live`.
    pub(crate) fn standing_answers(&self, querier: Arc<Querier>, live: LiveRuntime) -> Arc<dyn QueryEngine> {
        Arc::new(StatementAnswers::new(self.engine.clone(), querier).over(live))
    }

    /// Saved queries may be statements.
    pub(crate) fn compile_saved(&self, queries: SavedQueries) -> SavedQueries {
        let engine = self.engine.clone();
        queries.with_statements(Box::new(move |definition| {
            let text = &definition.query;
            let plan = if definition.has_cells() {
                engine.standing_rows(text).map(|rows| rows.plan)
            } else {
                engine.standing_series(text, true).map(|series| series.plan)
            };
            plan.map_err(|e| e.in_query(text))
        }))
    }

    /// The uploaded tables.
    pub(crate) fn tables(&self) -> Arc<dyn TableStore> {
        self.tables.clone()
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
    pub(crate) fn new(_: StatementSources) -> Result<Statements, DefinitionFileError> {
        Ok(Statements {})
    }

    pub(crate) fn answers(&self, querier: Arc<Querier>) -> Arc<dyn QueryEngine> {
        querier
    }

    pub(crate) fn standing_answers(&self, querier: Arc<Querier>, _: LiveRuntime) -> Arc<dyn QueryEngine> {
        querier
    }

    pub(crate) fn compile_saved(&self, queries: SavedQueries) -> SavedQueries {
        queries
    }
}

/// The alerts that statements define.
#[cfg(feature = "sql")]
pub(crate) struct AlertDefinitionAdapter(pub Arc<Server>);

#[cfg(feature = "sql")]
impl AlertDefinitionAdapter {
    /// Changes the definitions and puts them in force.
    fn change(
        &self,
        change: impl FnOnce(&mut Definitions) -> Result<(), AlertDefinitionError>,
    ) -> Result<(), ApiError> {
        let rules = &self.0.rules;
        if !rules.defines_alerts() {
            let why = "alerts are defined where the rules run: at process 0 of a cluster, when it is ready";
            return Err(ApiError::new(ErrorType::Unavailable, why));
        }
        let apply = |alerts: &Definitions| {
            rules.define_alerts(alerts).map_err(|e| AlertDefinitionError::Refused(e.to_string()))
        };
        rules.defined_alerts.change(change, apply).map_err(|e| {
            let kind = match &e {
                AlertDefinitionError::Refused(_) => ErrorType::BadData,
                AlertDefinitionError::Exists(_) => ErrorType::Conflict,
                AlertDefinitionError::Missing(_) => ErrorType::NotFound,
                AlertDefinitionError::Full | AlertDefinitionError::Disk(_) => ErrorType::Unavailable,
            };
            ApiError::new(kind, e.to_string())
        })
    }
}

#[cfg(feature = "sql")]
impl AlertDefinitions for AlertDefinitionAdapter {
    fn create(&self, alert: &AlertStatement) -> Result<(), ApiError> {
        let series = self.0.queries.statements.engine.standing_series(&alert.query, false);
        series.map_err(engine::query::QueryError::from)?;
        let bad = |what: String| Err(ApiError::bad_data(what));
        for (name, text) in alert.labels.iter().chain(&alert.annotations) {
            if name.is_empty() || name == METRIC_NAME {
                return bad(format!("a label or annotation cannot be called {name:?}"));
            }
            if let Err(fault) = template::check(&alert.name, text) {
                return bad(format!("{name}: bad template: {}; {}", fault.what, fault.fix));
            }
        }
        let definition = AlertDefinition {
            query: alert.query.clone(),
            hold: alert.hold,
            keep_firing_for: alert.keep_firing_for,
            labels: alert.labels.clone(),
            annotations: alert.annotations.clone(),
        };
        self.change(|alerts| {
            let old = alerts.insert(alert.name.clone(), definition);
            if old.is_some() && !alert.replace {
                return Err(AlertDefinitionError::Exists(alert.name.clone()));
            }
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> Result<(), ApiError> {
        self.change(|alerts| match alerts.remove(name) {
            Some(_) => Ok(()),
            None => Err(AlertDefinitionError::Missing(name.to_owned())),
        })
    }

    fn all(&self) -> Vec<AlertStatement> {
        let alert = |(name, definition): (String, AlertDefinition)| AlertStatement {
            name,
            replace: false,
            hold: definition.hold,
            keep_firing_for: definition.keep_firing_for,
            labels: definition.labels,
            annotations: definition.annotations,
            query: definition.query,
        };
        self.0.rules.defined_alerts.all().into_iter().map(alert).collect()
    }
}
