//! Conditions of catalog queries: splits `a AND b` into conjuncts, finds the columns that each
//! uses, and evaluates it for a row. [`super::from`] and [`super::join`] use it to join early.

use super::names::{folded, place_of};
use super::value::Value;
use super::{Column, Evaluator, Scope};
use sql::SqlError;
use sqlparser::ast::{BinaryOperator, Expr, Visit, Visitor};
use std::ops::ControlFlow;
use std::rc::Rc;

/// The parts of a condition that all have to be true.
pub(crate) fn conjuncts(condition: &Expr) -> Vec<&Expr> {
    match condition {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            let mut all = conjuncts(left);
            all.extend(conjuncts(right));
            all
        }
        Expr::Nested(inner) => conjuncts(inner),
        other => vec![other],
    }
}

/// The columns that an expression names; `None`: it has a query of its own, which may need others.
pub(super) fn columns_of(expr: &Expr) -> Option<Vec<Vec<String>>> {
    #[derive(Default)]
    struct NamedColumns {
        found: Vec<Vec<String>>,
    }
    impl Visitor for NamedColumns {
        type Break = ();
        // A query inside may name columns of the rows around it: what it needs cannot be told from
        // its text alone.
        fn pre_visit_query(&mut self, _: &sqlparser::ast::Query) -> ControlFlow<()> {
            ControlFlow::Break(())
        }
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                Expr::Identifier(name) => self.found.push(vec![folded(name)]),
                Expr::CompoundIdentifier(names) => self.found.push(names.iter().map(folded).collect()),
                _ => {}
            }
            ControlFlow::Continue(())
        }
    }
    let mut names = NamedColumns::default();
    match expr.visit(&mut names) {
        ControlFlow::Continue(()) => Some(names.found),
        ControlFlow::Break(()) => None,
    }
}

/// Whether an expression can be evaluated over these columns alone.
pub(super) fn is_over(expr: &Expr, columns: &[Column]) -> bool {
    columns_of(expr).is_some_and(|names| names.iter().all(|name| place_of(columns, name).is_some()))
}

/// The name of a column, if the expression is only that.
pub(super) fn column_name(expr: &Expr) -> Option<Vec<String>> {
    match expr {
        Expr::Identifier(name) => Some(vec![folded(name)]),
        Expr::CompoundIdentifier(names) => Some(names.iter().map(folded).collect()),
        Expr::Nested(inner) => column_name(inner),
        _ => None,
    }
}

impl Evaluator<'_> {
    /// Whether all conditions are true for a row.
    pub(crate) fn all_true(
        &self,
        conditions: &[&Expr],
        columns: &[Column],
        row: &[Value],
        outer: Option<&Scope<'_>>,
    ) -> Result<bool, SqlError> {
        let scope = Scope::new(columns, row, outer);
        for condition in conditions {
            if !self.value(condition, &scope)?.is_true() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A condition whose `CASE` is decided by constants is that branch.
    pub(super) fn simplified(
        &self,
        condition: &Expr,
        outer: Option<&Scope<'_>>,
    ) -> Result<Rc<Expr>, SqlError> {
        // As a whole a CASE names columns of several relations, and says nothing of any one. The
        // branch that counts can be used where a table is scanned.
        let Expr::Case { operand: None, conditions, else_result, .. } = condition else {
            return Ok(self.keep(condition.clone()));
        };
        let nothing = Scope::without_row(outer);
        for branch in conditions {
            // Only a condition without columns is the same for all rows.
            let is_constant = columns_of(&branch.condition).is_some_and(|names| names.is_empty());
            if !is_constant {
                return Ok(self.keep(condition.clone()));
            }
            if self.value(&branch.condition, &nothing)?.is_true() {
                return Ok(self.keep(branch.result.clone()));
            }
        }
        match else_result {
            Some(otherwise) => Ok(self.keep(otherwise.as_ref().clone())),
            // Without ELSE it is NULL, which the evaluation of the whole gives.
            None => Ok(self.keep(condition.clone())),
        }
    }

    /// Keeps an expression as long as the evaluation lasts: results of queries inside of it are
    /// known by their addresses.
    pub(super) fn keep(&self, expr: Expr) -> Rc<Expr> {
        let kept = Rc::new(expr);
        self.kept.borrow_mut().push(kept.clone());
        kept
    }
}
