//! `WITH RECURSIVE` in catalog queries: the first part of a `UNION` once, then the second part over
//! the rows of the round before, until it adds none.

use super::names::{parts, renamed};
use super::select::{distinct, row_key};
use super::{Evaluator, Relation, Scope};
use crate::limits;
use sql::{SqlError, SqlErrorKind};
use sqlparser::ast::{Cte, SetExpr, SetOperator, SetQuantifier, TableFactor, Visit, Visitor};
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::rc::Rc;

impl Evaluator<'_> {
    /// The rows of a query of `WITH RECURSIVE`, which may read itself as `name`.
    pub(super) fn recursive(
        &self,
        named: &Cte,
        name: &str,
        outer: Option<&Scope<'_>>,
    ) -> Result<Relation, SqlError> {
        let query = named.query.as_ref();
        if !reads(&query.body, name) {
            return self.query(query, outer);
        }
        let SetExpr::SetOperation { left, op: SetOperator::Union, set_quantifier, right } =
            query.body.as_ref()
        else {
            return Err(SqlError::bad(format!(
                "recursive query \"{name}\" does not have the form non-recursive-term UNION [ALL] recursive-term"
            )));
        };
        if reads(left, name) {
            let error = format!(
                "recursive reference to query \"{name}\" must not appear within its non-recursive term"
            );
            return Err(SqlError::bad(error));
        }
        if query.order_by.is_some() || query.limit_clause.is_some() || query.fetch.is_some() {
            return Err(SqlError::bad("ORDER BY and LIMIT in a recursive query are not implemented"));
        }
        let has_all = matches!(set_quantifier, SetQuantifier::All);
        let mut all = self.set(left, outer)?;
        if !has_all {
            distinct(&mut all.rows);
        }
        let mut seen: HashSet<String> = HashSet::new();
        if !has_all {
            seen.extend(all.rows.iter().map(|row| row_key(row)));
        }
        let mut newest = all.rows.clone();
        while !newest.is_empty() {
            let before = Relation { columns: all.columns.clone(), rows: newest };
            newest = self.round(right, named, name, before, outer)?;
            if !has_all {
                newest.retain(|row| seen.insert(row_key(row)));
            }
            all.rows.extend(newest.iter().cloned());
            if all.rows.len() > limits::CATALOG_ROWS {
                let error = format!("more than {} rows", limits::CATALOG_ROWS);
                return Err(SqlError::new(SqlErrorKind::LimitReached, error));
            }
        }
        Ok(all)
    }

    /// The rows of the second part over those of the round before.
    fn round(
        &self,
        part: &SetExpr,
        named: &Cte,
        name: &str,
        before: Relation,
        outer: Option<&Scope<'_>>,
    ) -> Result<Vec<Vec<super::Value>>, SqlError> {
        let columns = before.columns.len();
        let before = Rc::new(renamed(before, name, Some(&named.alias)));
        self.named.borrow_mut().push((name.to_owned(), before));
        // Queries inside expressions may read the rows of the round.
        self.results.borrow_mut().clear();
        let found = self.set(part, outer);
        self.named.borrow_mut().pop();
        self.results.borrow_mut().clear();
        let found = found?;
        if found.columns.len() != columns {
            return Err(SqlError::bad("each part of a set operation must have the same number of columns"));
        }
        // A round without a row that is looked at would not be counted.
        self.step()?;
        Ok(found.rows)
    }
}

/// Whether a part of a query reads the relation `name`.
fn reads(part: &SetExpr, name: &str) -> bool {
    struct Reads<'n>(&'n str);
    impl Visitor for Reads<'_> {
        type Break = ();
        fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
            match factor {
                TableFactor::Table { name, args: None, .. } if parts(name) == [self.0] => {
                    ControlFlow::Break(())
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    part.visit(&mut Reads(name)).is_break()
}
