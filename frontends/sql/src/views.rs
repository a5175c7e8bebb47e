//! Named views (`CREATE VIEW`): a statement reads one like a table. The planner puts the plan of
//! the view's query in its place.
//!
//! The expanded statement must pass the same limits as one that was written out. A view that reads
//! itself, also through other views, is refused. `src/tables.rs` of the server stores the texts.

use super::SqlEngine;
use super::error::SqlError;
use super::limits;
use super::planner::{PlannedQuery, plan_within};
use super::relations::Context;
use super::session::{SqlRequest, on_large_stack, output_names};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{Column, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableSource, TableType};
use engine::query::QueryOptions;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use storage::model::TimeMs;

/// The named views that one statement reads, while it is planned.
pub(crate) struct Views {
    /// The views around the query, the outermost first.
    path: Vec<String>,
    planned: RefCell<BTreeMap<String, Arc<ViewSource>>>,
    /// Tokens of the query, and of the views in it.
    tokens: Cell<usize>,
}

/// A named view as a table of the planner.
#[derive(Debug)]
pub(crate) struct ViewSource {
    plan: LogicalPlan,
    schema: SchemaRef,
    /// The tokens of its query, and of the views in it.
    pub(crate) tokens: usize,
}

impl ViewSource {
    /// The names of its columns.
    pub(crate) fn columns(&self) -> impl Iterator<Item = String> {
        self.schema.fields().iter().map(|field| field.name().clone())
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }
}

impl TableSource for ViewSource {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        Some(Cow::Borrowed(&self.plan))
    }
}

impl Views {
    pub(crate) fn new(path: Vec<String>) -> Views {
        Views { path, planned: RefCell::default(), tokens: Cell::new(0) }
    }

    /// Tokens so far.
    pub(crate) fn tokens(&self) -> usize {
        self.tokens.get()
    }

    /// Counts the tokens of the statement with its views expanded.
    pub(crate) fn spend(&self, tokens: usize) -> Result<(), SqlError> {
        self.tokens.set(self.tokens.get() + tokens);
        if self.tokens.get() > limits::TOKENS {
            let error = format!("the statement has more than {} tokens with the views in it", limits::TOKENS);
            return Err(SqlError::bad(error).hint("read fewer views, or make one of them materialized"));
        }
        Ok(())
    }

    /// The plan of the view `name`, which is this query.
    pub(crate) fn planned(
        &self,
        engine: &SqlEngine,
        context: &Arc<Context>,
        name: &str,
        query: &str,
    ) -> Result<Arc<ViewSource>, SqlError> {
        if let Some(known) = self.planned.borrow().get(name) {
            return Ok(known.clone());
        }
        if self.path.iter().any(|outer| outer == name) {
            return Err(SqlError::bad(format!(
                "the view {name} reads itself: {}",
                self.path.join(" reads ")
            )));
        }
        if self.path.len() == limits::VIEW_DEPTH {
            let error = format!("more than {} views that read one another", limits::VIEW_DEPTH);
            return Err(SqlError::bad(error).hint("write one of them out"));
        }
        let path = self.path.iter().cloned().chain([name.to_owned()]).collect();
        let view = view_of(engine, context, query, path).map_err(|e| {
            // The position is in the text of the view and not of the statement, so it is dropped.
            let text = format!("view {name}: {}", e.text);
            SqlError { text, place: None, excerpt: None, ..e }
        })?;
        let view = Arc::new(view);
        self.planned.borrow_mut().insert(name.to_owned(), view.clone());
        Ok(view)
    }
}

fn view_of(
    engine: &SqlEngine,
    context: &Arc<Context>,
    query: &str,
    path: Vec<String>,
) -> Result<ViewSource, SqlError> {
    let PlannedQuery { plan, explain, tokens } = plan_within(engine, context, query, path)?;
    if explain.is_some() {
        return Err(SqlError::bad("EXPLAIN is no view").hint("leave EXPLAIN out"));
    }
    if !plan.get_parameter_names().is_ok_and(|names| names.is_empty()) {
        return Err(SqlError::bad("a view has no parameters").hint("write the values into it"));
    }
    let names = output_names(&plan);
    let mut seen = BTreeSet::new();
    if let Some(name) = names.iter().find(|name| *name == "?column?" || !seen.insert(name.as_str())) {
        let error = format!("column \"{name}\" specified more than once, or without a name");
        return Err(SqlError::bad(error).hint("name it with AS"));
    }
    let plan = named(plan, &names).map_err(|e| SqlError::from_datafusion(e, query))?;
    let schema: SchemaRef = Arc::new(plan.schema().as_arrow().clone());
    Ok(ViewSource { plan, schema, tokens })
}

/// The plan with these names of its columns: those that PostgreSQL gives.
fn named(plan: LogicalPlan, names: &[String]) -> Result<LogicalPlan> {
    let schema = plan.schema().clone();
    if schema.fields().iter().zip(names).all(|(field, name)| field.name() == name) {
        return Ok(plan);
    }
    let column =
        |(i, name): (usize, &String)| Expr::Column(Column::from(schema.qualified_field(i))).alias(name);
    let columns: Vec<Expr> = names.iter().enumerate().map(column).collect();
    LogicalPlanBuilder::from(plan).project(columns)?.build()
}

impl SqlEngine {
    /// Whether `query` can be the view `name` at `now`: it can be planned, has names for its
    /// columns, and does not read itself. Blocks.
    ///
    /// # Errors
    ///
    /// If it cannot; with the place in `query`.
    pub fn check_view(&self, name: &str, query: &str, now: TimeMs) -> Result<(), SqlError> {
        on_large_stack(|| {
            let request = SqlRequest { text: query.to_owned(), time: now, ..SqlRequest::default() };
            let context = self.context(&request, &QueryOptions::default());
            view_of(self, &context, query, vec![name.to_owned()]).map(|_| ())
        })
    }

    /// The columns of the view `name`; none if it cannot be read now.
    pub(crate) fn view_columns(&self, name: &str, context: &Arc<Context>) -> Option<SchemaRef> {
        let query = self.sources.tables.view(name)?;
        let view = on_large_stack(|| Views::new(Vec::new()).planned(self, context, name, &query));
        Some(view.ok()?.schema().clone())
    }
}
