//! Makes DataFusion's logical plan of a text: guard, parser, relations, functions.
//!
//! Input: the text and a [`Context`] with the services and times.
//! Output: a [`PlannedQuery`]. Errors have a position, and name similar relations and columns.
//! [`super::session`] runs the plan.

use super::SqlEngine;
use super::error::{SqlError, SqlErrorKind};
use super::functions;
use super::guard::{self, Explain, GuardedText};
use super::limits;
use super::lists;
use super::names::{StatementNames, did_you_mean, nearest};
use super::relations::{Context, Kind, META, Relation};
use super::values;
use super::views::Views;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::{DataFusionError, Result, TableReference};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner};
use datafusion::logical_expr::{
    AggregateUDF, Expr, HigherOrderUDF, LogicalPlan, ScalarUDF, TableSource, WindowUDF,
};
use datafusion::sql::planner::{ParserOptions, SqlToRel};
use datafusion::sql::sqlparser::ast::{self, SelectItem, SetExpr, Statement};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use engine::plan::ValueType;
use language::QueryRange;
use std::collections::BTreeSet;
use std::sync::Arc;
use storage::model::labels::METRIC_NAME;
use storage::model::{Matcher, TimeMs};

/// The plan of a statement.
pub(crate) struct PlannedQuery {
    pub(crate) plan: LogicalPlan,
    pub(crate) explain: Option<Explain>,
    /// The tokens of the statement, with those of the views that it reads.
    pub(crate) tokens: usize,
}

/// Plans the statement `text`.
pub(crate) fn plan(engine: &SqlEngine, context: &Arc<Context>, text: &str) -> Result<PlannedQuery, SqlError> {
    plan_within(engine, context, text, Vec::new())
}

/// Plans the query `text` of the innermost of the views `path`.
pub(crate) fn plan_within(
    engine: &SqlEngine,
    context: &Arc<Context>,
    text: &str,
    path: Vec<String>,
) -> Result<PlannedQuery, SqlError> {
    let GuardedText { tokens, explain } = guard::check_text(text)?;
    let words = tokens.clone();
    let parser = Parser::new(&PostgreSqlDialect {}).with_recursion_limit(limits::NESTING);
    let parsed = parser.with_tokens_with_locations(tokens).parse_statements();
    let mut parsed = parsed.map_err(|e| parse_error(text, &e.to_string()))?;
    let (Some(mut statement), true) = (parsed.pop(), parsed.is_empty()) else {
        return Err(SqlError::bad("a request has one statement"));
    };
    if !matches!(statement, Statement::Query(_)) {
        return Err(
            SqlError::bad("this is not a statement that is answered here").hint("only SELECT and EXPLAIN")
        );
    }
    lists::rewrite(&mut statement)?;
    let names = StatementNames::from_statement(&statement);
    check_functions(engine, &names, text)?;
    let finder = Finder::new(engine, context, names, path);
    finder.views.spend(words.len())?;
    let options = ParserOptions::new().with_collect_spans(true).with_map_string_types_to_utf8view(false);
    let planned = |statement| SqlToRel::new_with_options(&finder, options).sql_statement_to_plan(statement);
    let plan = match planned(statement.clone()) {
        Err(e) if e.to_string().contains(SAME_NAMES) => planned(with_names(statement)),
        plan => plan,
    };
    let plan = plan.map_err(|e| located(SqlError::from_datafusion(e, text), text, &words))?;
    guard::check_plan(&plan)?;
    let tokens = finder.views.tokens();
    Ok(PlannedQuery { plan, explain, tokens })
}

/// What DataFusion says of two columns that it would call the same.
const SAME_NAMES: &str = "Projections require unique expression names";

/// The statement with another name for each column that has none. [`output_names`] shows what
/// PostgreSQL would call it, which may be the same for several.
///
/// [`output_names`]: super::session::output_names
fn with_names(mut statement: Statement) -> Statement {
    let Statement::Query(query) = &mut statement else { return statement };
    let SetExpr::Select(select) = query.body.as_mut() else { return statement };
    for (at, item) in select.projection.iter_mut().enumerate() {
        let SelectItem::UnnamedExpr(expr) = item else { continue };
        let name = match &*expr {
            ast::Expr::Identifier(_) | ast::Expr::CompoundIdentifier(_) => continue,
            ast::Expr::Function(function) => format!("{}({at}", function.name),
            _ => format!("?column? ({at}"),
        };
        let alias = ast::Ident::with_quote('"', name);
        *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
    }
    statement
}

/// The relation with this name, without columns that only a statement would name.
pub(crate) fn relation_named(
    engine: &SqlEngine,
    context: &Arc<Context>,
    schema: &str,
    name: &str,
) -> Result<Relation, SqlError> {
    Finder::new(engine, context, StatementNames::default(), Vec::new()).find(Some(schema), name)
}

/// The parser's error; the position is parsed from the end of its text.
fn parse_error(text: &str, message: &str) -> SqlError {
    let message = message.trim_start_matches("sql parser error: ");
    let (what, place) = message.split_once(" at Line: ").unwrap_or((message, ""));
    let mut numbers = place.split(", Column: ").map(str::parse::<u64>);
    let error = SqlError::bad(what.to_owned());
    match (numbers.next(), numbers.next()) {
        (Some(Ok(line)), Some(Ok(column))) => error.at(text, (line, column).into()),
        _ if message.contains("recursion limit") => {
            SqlError::bad(format!("more than {} levels of nesting", limits::NESTING))
                .hint("name parts of the query with WITH")
        }
        // The end has no token of its own.
        _ if what.ends_with("found: EOF") => {
            let last = text.lines().next_back().unwrap_or_default();
            let line = text.lines().count().max(1) as u64;
            error.at(text, (line, last.trim_end().chars().count() as u64 + 1).into())
        }
        _ => error,
    }
}

/// Adds the position of the column that an error names.
fn located(
    error: SqlError,
    text: &str,
    words: &[datafusion::sql::sqlparser::tokenizer::TokenWithSpan],
) -> SqlError {
    if error.place.is_some() {
        return error;
    }
    let name = error
        .text
        .split(['"', '\'', '`'])
        .nth(1)
        .map(|name| name.rsplit('.').next().unwrap_or(name).to_owned());
    let named = error.text.split("No field named ").nth(1).and_then(|rest| {
        let name = rest.split(['.', ' ']).find(|word| !word.is_empty())?;
        Some(name.trim_matches('"').to_owned())
    });
    match named.or(name).and_then(|name| guard::place_of_word(words, &name)) {
        Some(place) => error.at(text, place),
        None => error,
    }
}

/// Refuses functions that are not on the lists.
fn check_functions(engine: &SqlEngine, names: &StatementNames, text: &str) -> Result<(), SqlError> {
    for called in &names.functions {
        if engine.functions.has(&called.name) || TABLE_FUNCTIONS.contains(&called.name.as_str()) {
            continue;
        }
        let near = nearest(&called.name, engine.functions.names());
        let hint = match UNBOUNDED.iter().find(|name| **name == called.name) {
            Some(_) => "its result has no bound; make the text or the list in the client".to_owned(),
            None => did_you_mean(&near).unwrap_or_else(|| "docs/sql.md lists the functions".to_owned()),
        };
        let error = SqlError::bad(format!("there is no function {}()", called.name));
        return Err(error.at(text, called.place).hint(hint));
    }
    Ok(())
}

const TABLE_FUNCTIONS: &[&str] = &["promql"];
/// Functions of other databases that are left out on purpose.
const UNBOUNDED: &[&str] = &[
    "repeat",
    "lpad",
    "rpad",
    "range",
    "generate_series",
    "array_repeat",
    "array_agg",
    "uuid",
    "random",
    "replace",
    "space",
];

/// Finds relations and functions for the planner.
struct Finder<'a> {
    engine: &'a SqlEngine,
    context: &'a Arc<Context>,
    names: StatementNames,
    options: ConfigOptions,
    views: Views,
}

impl<'a> Finder<'a> {
    fn new(
        engine: &'a SqlEngine,
        context: &'a Arc<Context>,
        names: StatementNames,
        path: Vec<String>,
    ) -> Finder<'a> {
        Finder { engine, context, names, options: functions::config(), views: Views::new(path) }
    }
}

impl Finder<'_> {
    /// The relation with this name in this schema.
    fn find(&self, schema: Option<&str>, name: &str) -> Result<Relation, SqlError> {
        match schema {
            Some("meta") => self.meta(name).ok_or_else(|| unknown_meta(name)),
            Some("samples") if name == "samples" => self.series(Kind::Samples(None), name, false),
            Some("samples") => self.series(Kind::Samples(Some(name.to_owned())), name, true),
            Some("metrics") if name == "metrics" => self.series(Kind::Metric(None), name, false),
            Some("metrics") => self.series(Kind::Metric(Some(name.to_owned())), name, false),
            // After a table is removed, its name must not become the name of a metric.
            Some("public") if self.context.standing => Err(SqlError::bad(format!(
                "there is no relation \"{name}\" in the schema public"
            ))
            .hint("CREATE TABLE or PUT /api/v1/tables/{name} makes one; metrics are in the schema metrics")),
            // Clients write the schema that comes first in the search path for what they find
            // without one.
            Some("public") => self.find(None, name),
            Some(other) => Err(SqlError::bad(format!("there is no schema {other}"))
                .hint("schemas are public, metrics, samples and meta")),
            None if name == "metrics" => self.series(Kind::Metric(None), name, false),
            None => match self.meta(name) {
                Some(relation) => Ok(relation),
                None => self.series(Kind::Metric(Some(name.to_owned())), name, true),
            },
        }
    }

    /// The table or view of people with this name, which is found first when a name has no schema.
    fn brought(&self, schema: Option<&str>, name: &str) -> Result<Option<Arc<dyn TableSource>>, SqlError> {
        if !matches!(schema, None | Some("public")) {
            return Ok(None);
        }
        let tables = &self.context.sources.tables;
        if let Some(table) = tables.table(name) {
            let rows = MemTable::try_new(table.schema(), vec![vec![table.batch().clone()]]);
            let rows = rows.map_err(|e| SqlError::from_datafusion(e, ""))?;
            self.context.reads.lock().tables.insert(name.to_owned(), table);
            return Ok(Some(provider_as_source(Arc::new(rows))));
        }
        let Some(query) = tables.view(name) else {
            if self.context.standing && tables.is_gone(name) {
                let error = format!("the table or view {name} is gone");
                let hint = "the statement goes on when it is back; a metric of that name is metrics.";
                let gone = SqlError::new(SqlErrorKind::Unavailable, error);
                return Err(gone.hint(format!("{hint}\"{name}\"")));
            }
            if self.context.standing && schema == Some("public") && self.engine.tables_may_come {
                let error = format!("there is no relation \"{name}\" in the schema public");
                return Err(SqlError::new(SqlErrorKind::Unavailable, error));
            }
            return Ok(None);
        };
        let view = self.views.planned(self.engine, self.context, name, &query)?;
        self.views.spend(view.tokens)?;
        self.context.reads.lock().views.insert(name.to_owned(), query);
        Ok(Some(view))
    }

    fn meta(&self, name: &str) -> Option<Relation> {
        let table = META.iter().find(|table| table.name == name)?;
        let columns =
            if table.is_open { self.names.columns_of(name, &BTreeSet::new()) } else { BTreeSet::new() };
        Some(Relation::of_meta(table, &columns, self.context.clone()))
    }

    /// A relation of series: its labels are those of the store, and those that the statement names.
    fn series(&self, kind: Kind, name: &str, must_exist: bool) -> Result<Relation, SqlError> {
        let context = self.context;
        let catalog = &context.sources.catalog;
        let metric = match &kind {
            Kind::Metric(metric) | Kind::Samples(metric) => metric.clone(),
            _ => None,
        };
        let from = if matches!(kind, Kind::Samples(_)) {
            TimeMs::MIN
        } else {
            context.now() - limits::COLUMNS_WINDOW_MS
        };
        let sets: Vec<Vec<Matcher>> =
            metric.iter().map(|name| vec![Matcher::equal(METRIC_NAME, name)]).collect();
        let must_exist = must_exist && !context.standing;
        let mut labels: BTreeSet<String> = match &metric {
            Some(_) if context.standing => BTreeSet::new(),
            Some(_) => catalog.label_names(&sets, from, TimeMs::MAX)?.into_iter().collect(),
            None => BTreeSet::new(),
        };
        if labels.is_empty() && must_exist {
            return Err(self.unknown(name)?);
        }
        labels.remove(METRIC_NAME);
        let known = labels.clone();
        for used in self.names.columns_of(name, &self.other_columns()) {
            let is_fixed = ["ts", "value", "histogram", "labels", "metric"].contains(&used.as_str());
            if is_fixed
                || known.contains(&used)
                || used.strip_prefix("label_").is_some_and(|l| known.contains(l))
            {
                continue;
            }
            // A name without quotes is in lower case; a label may not be.
            let same: Vec<&String> = known.iter().filter(|label| label.eq_ignore_ascii_case(&used)).collect();
            if same.is_empty() && must_exist {
                let near = nearest(&used, known.iter().map(String::as_str));
                let near = did_you_mean(&near).map(|hint| format!("; {hint}")).unwrap_or_default();
                context.warnings.lock().push(format!("no series of {name} has a label \"{used}\"{near}"));
            }
            labels.insert(used);
        }
        Ok(Relation::of_series(kind, &labels, context.clone()))
    }

    /// The columns of relations with a fixed schema: these names are no labels.
    fn other_columns(&self) -> BTreeSet<String> {
        let tables = META.iter().filter(|table| self.names.relations().any(|name| name == table.name));
        let mut columns: BTreeSet<String> =
            tables.flat_map(|table| table.columns.iter().map(|column| column.name.to_owned())).collect();
        // Those of uploaded tables that no label is joined with: a name that both have is of both.
        let brought = self.names.relations().filter_map(|name| self.context.sources.tables.table(name));
        columns.extend(brought.flat_map(|table| table.columns()).map(|column| column.name));
        for name in self.names.relations() {
            // An error in a view is reported by the statement that reads the view.
            if let Some(query) = self.context.sources.tables.view(name)
                && let Ok(view) = self.views.planned(self.engine, self.context, name, &query)
            {
                columns.extend(view.columns());
            }
        }
        columns
    }

    /// The error for a metric without series.
    fn unknown(&self, name: &str) -> Result<SqlError, SqlError> {
        let context = self.context;
        let from = context.now() - limits::COLUMNS_WINDOW_MS;
        let known = context.sources.catalog.label_values(METRIC_NAME, &[], from, TimeMs::MAX)?;
        let near = nearest(name, known.iter().map(String::as_str).chain(META.iter().map(|table| table.name)));
        let hint = did_you_mean(&near).unwrap_or_else(|| {
            format!("SELECT DISTINCT metric FROM series lists the metrics; metrics.\"{name}\" is empty instead of an error")
        });
        Ok(SqlError::bad(format!(
            "there is no metric \"{name}\", and no relation of the server with that name"
        ))
        .hint(hint))
    }
}

fn unknown_meta(name: &str) -> SqlError {
    let near = nearest(name, META.iter().map(|table| table.name));
    let all: Vec<&str> = META.iter().map(|table| table.name).collect();
    let hint = did_you_mean(&near).unwrap_or_else(|| format!("there are {}", all.join(", ")));
    SqlError::bad(format!("there is no relation meta.{name}")).hint(hint)
}

impl ContextProvider for Finder<'_> {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        if let Some(brought) = self.brought(name.schema(), name.table())? {
            return Ok(brought);
        }
        let relation = self.find(name.schema(), name.table())?;
        Ok(provider_as_source(Arc::new(relation)))
    }

    fn get_table_function_source(&self, name: &str, args: Vec<Expr>) -> Result<Arc<dyn TableSource>> {
        if !TABLE_FUNCTIONS.contains(&name) {
            let error = SqlError::bad(format!("there is no function {name}() that makes a relation"));
            return Err(error.hint("there is promql('…')").into());
        }
        let [text] = args.as_slice() else {
            return Err(SqlError::bad(format!("{name}() takes one text"))
                .hint("FROM promql('sum by (job) (up)')")
                .into());
        };
        let Some(text) = values::text(text) else {
            return Err(SqlError::bad(format!("{name}() takes a text that is written out")).into());
        };
        let compiled = |t: TimeMs| {
            let range = QueryRange { start: t, end: t, step: 0 };
            let plan = self.context.sources.language.compile(&text, Some(range));
            plan.map_err(|e| DataFusionError::from(SqlError::bad(format!("promql: {}", e.message()))))
        };
        let t = self.context.now();
        let plan = compiled(t)?;
        if self.context.standing && compiled(t + 1)? != plan {
            // `@ start()` makes the plan depend on the time.
            self.context.reads.lock().is_planned_anew = true;
        }
        if !matches!(plan.kind(), ValueType::Vector | ValueType::Scalar) {
            return Err(SqlError::bad("promql() answers vectors and scalars")
                .hint("wrap a range in a function, such as last_over_time")
                .into());
        }
        let columns = self.names.columns_of("promql", &self.other_columns());
        let labels =
            columns.into_iter().filter(|c| !["ts", "value", "histogram", "labels"].contains(&c.as_str()));
        let relation = Relation::of_series(Kind::Promql(plan), &labels.collect(), self.context.clone());
        Ok(provider_as_source(Arc::new(relation)))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.engine.functions.planners
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.engine.functions.scalar.get(name).cloned()
    }

    fn get_higher_order_meta(&self, _: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.engine.functions.aggregate.get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.engine.functions.window.get(name).cloned()
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        self.engine.functions.scalar.keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.engine.functions.aggregate.keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.engine.functions.window.keys().cloned().collect()
    }
}
