//! Functions with several values in the columns of a `SELECT`, such as
//! `information_schema._pg_expandarray(i.indkey)`: a row becomes one for each value. Several of
//! them go on side by side; those that end early are NULL. [`super::table_functions`] has those in
//! `FROM`.

use super::expr::argument;
use super::names::last;
use super::value::Value;
use super::{Evaluator, Scope};
use sql::SqlError;
use sqlparser::ast::{Expr, FunctionArguments, Query, Select, SelectItem, Visit, Visitor};
use std::collections::HashMap;
use std::ops::ControlFlow;

/// Whether a function has several values.
pub(super) fn returns_set(name: &str) -> bool {
    matches!(
        name,
        "_pg_expandarray"
            | "unnest"
            | "generate_series"
            | "generate_subscripts"
            | "regexp_split_to_table"
            | "pg_get_keywords"
    )
}

/// The fields of a value of `_pg_expandarray`: an element, and its number.
const FIELDS: [&str; 2] = ["x", "n"];

/// The place of a field in a value of several parts.
pub(super) fn field_place(name: &str) -> Option<usize> {
    FIELDS.iter().position(|field| *field == name)
}

/// Values of functions, by the address of the call.
type CallValues = HashMap<usize, Value>;

impl Evaluator<'_> {
    /// The values of the functions with several values in the columns of `select`, for each row
    /// that the row of `scope` becomes. `computed` are the values of its window functions, which
    /// all of these rows have.
    pub(super) fn set_values(
        &self,
        select: &Select,
        scope: &Scope<'_>,
        computed: &CallValues,
    ) -> Result<Vec<CallValues>, SqlError> {
        let mut calls = SetCalls { evaluator: self, scope, depth: 0, lists: HashMap::new() };
        for item in &select.projection {
            let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else {
                continue;
            };
            if let ControlFlow::Break(error) = expr.visit(&mut calls) {
                return Err(error);
            }
        }
        let count = calls.lists.values().map(Vec::len).max().unwrap_or(0);
        let mut rows = Vec::new();
        for at in 0..count {
            self.step()?;
            let value = |list: &Vec<Value>| list.get(at).cloned().unwrap_or(Value::Null);
            let mut values = computed.clone();
            values.extend(calls.lists.iter().map(|(address, list)| (*address, value(list))));
            rows.push(values);
        }
        Ok(rows)
    }
}

/// Evaluates the calls of functions with several values outside of inner queries.
struct SetCalls<'c, 'a> {
    evaluator: &'c Evaluator<'a>,
    scope: &'c Scope<'c>,
    depth: usize,
    /// The values of each call, by its address.
    lists: HashMap<usize, Vec<Value>>,
}

impl SetCalls<'_, '_> {
    fn values(&self, expr: &Expr) -> Result<Option<Vec<Value>>, SqlError> {
        let Expr::Function(function) = expr else { return Ok(None) };
        let name = last(&function.name);
        if !returns_set(&name) {
            return Ok(None);
        }
        let mut args = Vec::new();
        if let FunctionArguments::List(list) = &function.args {
            for arg in &list.args {
                args.push(self.evaluator.value(argument(arg)?, self.scope)?);
            }
        }
        let rows = self.evaluator.function_rows(&name, &args)?;
        let value = |mut row: Vec<Value>| match row.len() {
            1 => row.swap_remove(0),
            _ => Value::List(row.into()),
        };
        Ok(Some(rows.into_iter().map(value).collect()))
    }
}

impl Visitor for SetCalls<'_, '_> {
    type Break = SqlError;

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<SqlError> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<SqlError> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<SqlError> {
        if self.depth > 0 {
            return ControlFlow::Continue(());
        }
        match self.values(expr) {
            Ok(Some(values)) => {
                self.lists.insert(std::ptr::from_ref(expr) as usize, values);
                ControlFlow::Continue(())
            }
            Ok(None) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }
}
