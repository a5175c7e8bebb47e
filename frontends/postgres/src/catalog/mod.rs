//! Answers queries of PostgreSQL's system catalogs, `pg_catalog` and `information_schema`, which
//! psql, Grafana and drivers send to list tables and columns.
//!
//! These queries use SQL that DataFusion lacks: correlated subqueries, arrays, casts to object
//! identifiers, `pg_…` functions. The tables are small, so an interpreter of the syntax tree is
//! enough. [`tables`] declares tables and columns, [`rows`] fills them, [`scan`] reads what a query
//! needs, [`from`] and [`join`] join, [`select`] groups and sorts, [`recursive`] runs `WITH
//! RECURSIVE`, [`expr`] and [`functions`]
//! evaluate expressions. [`infer`] and [`parameters`] find the types of columns and parameters
//! without running the query.
//!
//! [`asks_catalogs`] decides whether a query comes here or goes to the SQL engine.
//! `tests/data/` has the recorded queries of clients, a file for each.

mod aggregates;
mod conditions;
mod expr;
mod from;
mod functions;
mod infer;
mod join;
mod keys;
mod names;
mod parameters;
mod recursive;
mod row_template;
pub(crate) mod rows;
mod scan;
mod select;
mod set_functions;
mod table_functions;
mod tables;
pub(crate) mod types;
pub(crate) mod value;

pub(crate) use names::asks_catalogs;

use postgres_types::Type;
use regex::Regex;
use rows::RowMaker;
use sql::catalog::{ListedColumn, ListedRelation, ListedTable};
use sql::{SqlError, SqlErrorKind};
use sqlparser::ast::{Expr, Query};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use value::Value;

/// What the server lists for the catalogs. All methods may block.
pub(crate) trait RelationList {
    /// All relations.
    fn relations(&self) -> Result<Vec<ListedRelation>, SqlError>;
    /// The tables of people, with their keys.
    fn tables(&self) -> Vec<ListedTable>;
    /// The columns of one.
    fn columns(&self, schema: &str, name: &str) -> Result<Vec<ListedColumn>, SqlError>;
    /// The names of the functions.
    fn functions(&self) -> Vec<String>;
}

/// What functions such as `current_user` and `current_setting` answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct SessionInfo {
    /// The user of the connection.
    pub(crate) user: String,
    /// All users who may connect.
    pub(crate) users: Vec<String>,
    /// The settings of the connection, by name.
    pub(crate) settings: Vec<(String, String)>,
    /// The number of the connection.
    pub(crate) process: i32,
}

impl SessionInfo {
    /// A setting of the connection.
    pub(crate) fn setting(&self, name: &str) -> Option<&str> {
        let found = self.settings.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The owner of everything, and the users.
    pub(crate) fn roles(&self) -> impl Iterator<Item = &str> {
        let others = self.users.iter().chain([&self.user]).map(String::as_str);
        let mut seen = std::collections::BTreeSet::from([rows::OWNER]);
        let others: Vec<&str> = others.filter(|name| seen.insert(name)).collect();
        [rows::OWNER].into_iter().chain(others)
    }
}

/// When a query of the catalogs has to end.
#[derive(Clone, Debug)]
pub(crate) struct CatalogDeadline {
    pub(crate) deadline: Instant,
    pub(crate) cancel: Arc<AtomicBool>,
}

/// A column of a relation of a query.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    /// The name before the dot.
    pub(crate) relation: Rc<str>,
    pub(crate) name: Rc<str>,
    pub(crate) kind: Type,
}

/// The columns and rows of a relation of a query.
#[derive(Clone, Debug, Default)]
pub(crate) struct Relation {
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Vec<Value>>,
}

/// A column of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AnswerColumn {
    pub(crate) name: String,
    pub(crate) kind: Type,
}

/// The answer of a query of the catalogs.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) columns: Vec<AnswerColumn>,
    pub(crate) rows: Vec<Vec<Value>>,
}

/// Evaluates queries of the catalogs.
pub(crate) struct Evaluator<'a> {
    maker: RowMaker<'a>,
    facts: &'a SessionInfo,
    params: &'a [Value],
    patience: &'a CatalogDeadline,
    steps: Cell<u64>,
    patterns: RefCell<HashMap<String, Regex>>,
    /// Tables that were read as a whole.
    scans: RefCell<HashMap<String, Rc<Relation>>>,
    /// The results of `WITH`, innermost last.
    named: RefCell<Vec<(String, Rc<Relation>)>>,
    /// Expressions that were made on the way.
    kept: RefCell<Vec<Rc<Expr>>>,
    /// The results of queries inside expressions, by address; `None`: they depend on the row.
    results: RefCell<HashMap<usize, Option<Rc<Relation>>>>,
}

impl<'a> Evaluator<'a> {
    pub(crate) fn new(
        list: &'a dyn RelationList,
        facts: &'a SessionInfo,
        params: &'a [Value],
        patience: &'a CatalogDeadline,
    ) -> Evaluator<'a> {
        Evaluator {
            maker: RowMaker::new(list, facts),
            facts,
            params,
            patience,
            steps: Cell::new(0),
            patterns: RefCell::default(),
            scans: RefCell::default(),
            named: RefCell::default(),
            kept: RefCell::default(),
            results: RefCell::default(),
        }
    }

    /// The answer of a query.
    pub(crate) fn answer(&self, query: &Query) -> Result<Answer, SqlError> {
        let relation = self.query(query, None)?;
        let mut rows = relation.rows;
        let columns: Vec<AnswerColumn> = relation.columns.iter().map(answer_column).collect();
        for (at, column) in relation.columns.iter().enumerate() {
            if functions::is_identifier_type(&column.kind) {
                for row in &mut rows {
                    row[at] = self.identifier_name(&row[at], &column.kind)?;
                }
            }
        }
        Ok(Answer { columns, rows })
    }

    /// The columns that [`Evaluator::answer`] has.
    pub(crate) fn columns(&self, query: &Query) -> Result<Vec<AnswerColumn>, SqlError> {
        Ok(self.query_columns(query, None)?.iter().map(answer_column).collect())
    }

    /// Counts work; looks at the deadline from time to time.
    fn step(&self) -> Result<(), SqlError> {
        let steps = self.steps.get() + 1;
        self.steps.set(steps);
        if !steps.is_multiple_of(1_024) {
            return Ok(());
        }
        if self.patience.cancel.load(Ordering::Relaxed) {
            return Err(SqlError::new(SqlErrorKind::Canceled, "canceling statement due to user request"));
        }
        if Instant::now() > self.patience.deadline {
            return Err(SqlError::new(SqlErrorKind::Timeout, "canceling statement due to statement timeout"));
        }
        if steps > crate::limits::CATALOG_STEPS {
            let error = "the query of the catalogs takes too many steps";
            return Err(
                SqlError::new(SqlErrorKind::LimitReached, error).hint("name the tables that you mean")
            );
        }
        Ok(())
    }
}

/// As a client sees it: object identifiers are shown as names.
fn answer_column(column: &Column) -> AnswerColumn {
    let is_shown_as_name = functions::is_identifier_type(&column.kind);
    let kind = if is_shown_as_name { Type::TEXT } else { column.kind.clone() };
    AnswerColumn { name: column.name.to_string(), kind }
}

/// The columns of a row, or of the rows of a group, and those of the query around it.
#[derive(Copy, Clone)]
pub(crate) struct Scope<'s> {
    pub(crate) columns: &'s [Column],
    pub(crate) row: &'s [Value],
    /// The rows that aggregates go over; `None`: there is no group.
    pub(crate) group: Option<&'s [Vec<Value>]>,
    /// The results of window functions and of functions with several values for this row, by the
    /// address of the call.
    pub(crate) windows: Option<&'s HashMap<usize, Value>>,
    pub(crate) outer: Option<&'s Scope<'s>>,
}

impl<'s> Scope<'s> {
    /// The columns of one row, which is not part of a group.
    pub(crate) fn new(columns: &'s [Column], row: &'s [Value], outer: Option<&'s Scope<'s>>) -> Scope<'s> {
        Scope { columns, row, group: None, windows: None, outer }
    }

    /// No columns but those of the query around.
    pub(crate) fn without_row(outer: Option<&'s Scope<'s>>) -> Scope<'s> {
        Scope::new(&[], &[], outer)
    }
}

#[cfg(test)]
mod tests;
