//! Evaluates whole catalog queries: `WITH`, `SELECT`, `UNION`, `GROUP BY`, `ORDER BY`, `LIMIT`. It
//! calls [`super::from`] for the rows and [`super::expr`] for the output columns.

use super::aggregates::compare_keys;
use super::conditions::conjuncts;
use super::infer::Names;
use super::names::{folded, last, output_name, renamed};
use super::set_functions::returns_set;
use super::value::Value;
use super::{Column, Evaluator, Relation, Scope, functions};
use sql::SqlError;
use sqlparser::ast::{
    Distinct, Expr, GroupByExpr, LimitClause, OrderBy, OrderByExpr, OrderByKind, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, SetOperator, SetQuantifier, Value as Literal, Visit, Visitor,
};
use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::rc::Rc;

/// A column of an answer: an expression, or a column of `FROM` that `*` stands for.
pub(crate) enum Output<'e> {
    Expr { name: String, expr: &'e Expr },
    Place(usize),
}

/// A row of an answer with what it is sorted by.
struct SortedRow {
    key: Vec<Value>,
    row: Vec<Value>,
}

impl Evaluator<'_> {
    /// The rows of a query.
    pub(crate) fn query(&self, query: &Query, outer: Option<&Scope<'_>>) -> Result<Relation, SqlError> {
        let before = self.named.borrow().len();
        let relation = self.query_with_names(query, outer);
        // Also after an error: the evaluator is used for the rest of the message.
        self.named.borrow_mut().truncate(before);
        relation
    }

    /// The rows of a query; the names of its `WITH` stay known.
    fn query_with_names(&self, query: &Query, outer: Option<&Scope<'_>>) -> Result<Relation, SqlError> {
        if let Some(with) = &query.with {
            for named in &with.cte_tables {
                let name = folded(&named.alias.name);
                let relation = if with.recursive {
                    self.recursive(named, &name, outer)?
                } else {
                    self.query(&named.query, outer)?
                };
                let relation = Rc::new(renamed(relation, &name, Some(&named.alias)));
                self.named.borrow_mut().push((name, relation));
            }
        }
        let order = order_of(query.order_by.as_ref())?;
        let mut relation = match query.body.as_ref() {
            SetExpr::Select(select) => self.select(select, order, outer)?,
            body => {
                let relation = self.set(body, outer)?;
                self.sorted(relation, order, outer)?
            }
        };
        self.limit(query, &mut relation, outer)?;
        Ok(relation)
    }

    /// The rows of a query without `WITH`, order and limits.
    pub(super) fn set(&self, body: &SetExpr, outer: Option<&Scope<'_>>) -> Result<Relation, SqlError> {
        match body {
            SetExpr::Select(select) => self.select(select, &[], outer),
            SetExpr::Query(query) => self.query(query, outer),
            SetExpr::Values(values) => {
                let nothing = Scope::without_row(outer);
                let columns = self.body_columns(body, outer.map(Names::new).as_ref())?;
                let row = |row: &Vec<Expr>| row.iter().map(|expr| self.value(expr, &nothing)).collect();
                let rows = values.rows.iter().map(|list| row(list)).collect::<Result<_, SqlError>>()?;
                Ok(Relation { columns, rows })
            }
            SetExpr::SetOperation { left, op, set_quantifier, right } => {
                let mut left = self.set(left, outer)?;
                let right = self.set(right, outer)?;
                if left.columns.len() != right.columns.len() {
                    return Err(SqlError::bad(
                        "each part of a set operation must have the same number of columns",
                    ));
                }
                // By text keys, because NULL equals NULL here, other than in `=`.
                let keys: HashSet<String> = right.rows.iter().map(|row| row_key(row)).collect();
                match op {
                    SetOperator::Union => left.rows.extend(right.rows),
                    SetOperator::Except | SetOperator::Minus => {
                        left.rows.retain(|row| !keys.contains(&row_key(row)))
                    }
                    SetOperator::Intersect => left.rows.retain(|row| keys.contains(&row_key(row))),
                }
                // Except and intersect with ALL would count duplicates; without clients that ask
                // for it, they keep the left rows.
                if !matches!(set_quantifier, SetQuantifier::All) {
                    distinct(&mut left.rows);
                }
                Ok(left)
            }
            other => Err(SqlError::bad(format!("{other} is not available for the catalogs"))),
        }
    }

    /// The rows of a set operation, in the order of its columns.
    fn sorted(
        &self,
        mut relation: Relation,
        order: &[OrderByExpr],
        outer: Option<&Scope<'_>>,
    ) -> Result<Relation, SqlError> {
        let mut sorted = Vec::new();
        for row in std::mem::take(&mut relation.rows) {
            let mut key = Vec::new();
            for by in order {
                let scope = Scope::new(&relation.columns, &row, outer);
                let place = position(&by.expr);
                key.push(match place.and_then(|at| row.get(at)) {
                    Some(value) => value.clone(),
                    None => self.value(&by.expr, &scope)?,
                });
            }
            sorted.push(SortedRow { key, row });
        }
        sorted.sort_by(|a, b| compare_keys(&a.key, &b.key, order));
        relation.rows = sorted.into_iter().map(|sorted| sorted.row).collect();
        Ok(relation)
    }

    /// Applies `OFFSET`, `LIMIT` and `FETCH`.
    fn limit(
        &self,
        query: &Query,
        relation: &mut Relation,
        outer: Option<&Scope<'_>>,
    ) -> Result<(), SqlError> {
        let nothing = Scope::without_row(outer);
        let number = |expr: &Expr| -> Result<Option<usize>, SqlError> {
            let value = self.value(expr, &nothing)?;
            // NULL is no limit, as in PostgreSQL.
            Ok(value.to_int().map(|n| usize::try_from(n).unwrap_or(0)))
        };
        let (limit, offset) = match &query.limit_clause {
            Some(LimitClause::LimitOffset { limit, offset, .. }) => {
                (limit.as_ref(), offset.as_ref().map(|offset| &offset.value))
            }
            Some(LimitClause::OffsetCommaLimit { offset, limit }) => (Some(limit), Some(offset)),
            None => (None, None),
        };
        // The offset first: the limit counts from it.
        if let Some(offset) = offset.map(number).transpose()?.flatten() {
            relation.rows.drain(..offset.min(relation.rows.len()));
        }
        let fetch = query.fetch.as_ref().and_then(|fetch| fetch.quantity.as_ref());
        if let Some(limit) = limit.or(fetch).map(number).transpose()?.flatten() {
            relation.rows.truncate(limit);
        }
        Ok(())
    }

    /// The rows of a `SELECT`.
    fn select(
        &self,
        select: &Select,
        order: &[OrderByExpr],
        outer: Option<&Scope<'_>>,
    ) -> Result<Relation, SqlError> {
        let conditions: Vec<&Expr> = select.selection.iter().flat_map(conjuncts).collect();
        let source = self.from(&select.from, &conditions, outer)?;
        let columns = source.columns;
        let mut rows = Vec::new();
        for row in source.rows {
            if self.all_true(&conditions, &columns, &row, outer)? {
                rows.push(row);
            }
        }
        let outputs = self.outputs(select, &columns)?;
        let names = outer.map(Names::new);
        let output_columns =
            self.output_columns(&outputs, &Names { columns: &columns, outer: names.as_ref() })?;
        // Whether it groups shows only in what it calls: `SELECT count(*)` has no GROUP BY.
        let called = calls(select, order);
        let keys = group_keys(select, &outputs)?;
        let is_grouped = !keys.is_empty() || called.has_aggregates || select.having.is_some();
        let mut sorted = if is_grouped {
            self.grouped(select, &keys, &outputs, order, &columns, &rows, outer)?
        } else {
            let windows = self.windows(&called.windows, &columns, &rows, outer)?;
            let mut sorted = Vec::new();
            for (row, windows) in rows.iter().zip(&windows) {
                let scope = Scope { columns: &columns, row, group: None, windows: Some(windows), outer };
                if !called.has_sets {
                    sorted.push(self.projected(&outputs, order, select, &scope)?);
                    continue;
                }
                for values in self.set_values(select, &scope, windows)? {
                    let scope = Scope { windows: Some(&values), ..scope };
                    sorted.push(self.projected(&outputs, order, select, &scope)?);
                }
            }
            sorted
        };
        if let Some(kept) = &select.distinct {
            sorted.sort_by(|a, b| compare_keys(&a.key, &b.key, order));
            let mut seen = HashSet::new();
            match kept {
                // Sorted before and after: DISTINCT ON keeps the first row of the order.
                Distinct::Distinct => sorted.retain(|sorted| seen.insert(row_key(&sorted.row))),
                // The keys of DISTINCT ON come after those of the order.
                Distinct::On(_) => sorted.retain(|sorted| seen.insert(row_key(&sorted.key[order.len()..]))),
                Distinct::All => {}
            }
        }
        sorted.sort_by(|a, b| compare_keys(&a.key, &b.key, order));
        Ok(Relation { columns: output_columns, rows: sorted.into_iter().map(|sorted| sorted.row).collect() })
    }

    /// The rows of a `SELECT` with groups, not sorted yet.
    #[expect(clippy::too_many_arguments, reason = "the parts of a SELECT")]
    fn grouped(
        &self,
        select: &Select,
        keys: &[&Expr],
        outputs: &[Output<'_>],
        order: &[OrderByExpr],
        columns: &[Column],
        rows: &[Vec<Value>],
        outer: Option<&Scope<'_>>,
    ) -> Result<Vec<SortedRow>, SqlError> {
        let mut groups: Vec<Vec<Vec<Value>>> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        // Without GROUP BY all rows are one group, also if there are none: `count(*)` of nothing is
        // a row.
        if keys.is_empty() {
            groups.push(rows.to_vec());
        } else {
            for row in rows {
                let scope = Scope::new(columns, row, outer);
                let key: Vec<Value> =
                    keys.iter().map(|key| self.value(key, &scope)).collect::<Result<_, _>>()?;
                let place = *places.entry(row_key(&key)).or_insert(groups.len());
                if place == groups.len() {
                    groups.push(Vec::new());
                }
                groups[place].push(row.clone());
            }
        }
        let nothing = vec![Value::Null; columns.len()];
        let mut sorted = Vec::new();
        for group in &groups {
            // Columns outside of aggregates are the same in all rows of a group, or PostgreSQL
            // would refuse the query.
            let row = group.first().unwrap_or(&nothing);
            let scope = Scope { columns, row, group: Some(group), windows: None, outer };
            let is_wanted = match &select.having {
                Some(having) => self.value(having, &scope)?.is_true(),
                None => true,
            };
            if is_wanted {
                sorted.push(self.projected(outputs, order, select, &scope)?);
            }
        }
        Ok(sorted)
    }

    /// A row of the answer, and what it is sorted by.
    fn projected(
        &self,
        outputs: &[Output<'_>],
        order: &[OrderByExpr],
        select: &Select,
        scope: &Scope<'_>,
    ) -> Result<SortedRow, SqlError> {
        let mut row = Vec::new();
        for output in outputs {
            row.push(match output {
                Output::Expr { expr, .. } => self.value(expr, scope)?,
                Output::Place(at) => scope.row.get(*at).cloned().unwrap_or(Value::Null),
            });
        }
        let mut key = Vec::new();
        for by in order {
            // ORDER BY looks for columns of the answer first, by name or by number; only then for
            // those of FROM.
            let alias = match &by.expr {
                Expr::Identifier(name) => {
                    let name = folded(name);
                    outputs.iter().position(
                        |output| matches!(output, Output::Expr { name: known, .. } if *known == name),
                    )
                }
                other => position(other),
            };
            key.push(match alias.and_then(|at| row.get(at)) {
                Some(value) => value.clone(),
                None => self.value(&by.expr, scope)?,
            });
        }
        if let Some(Distinct::On(on)) = &select.distinct {
            for expr in on {
                key.push(self.value(expr, scope)?);
            }
        }
        Ok(SortedRow { key, row })
    }

    /// The columns of the answer of a SELECT, with `*` written out.
    pub(crate) fn outputs<'e>(
        &self,
        select: &'e Select,
        columns: &[Column],
    ) -> Result<Vec<Output<'e>>, SqlError> {
        let mut outputs = Vec::new();
        for item in &select.projection {
            match item {
                SelectItem::UnnamedExpr(expr) => outputs.push(Output::Expr { name: output_name(expr), expr }),
                SelectItem::ExprWithAlias { expr, alias } => {
                    outputs.push(Output::Expr { name: folded(alias), expr });
                }
                SelectItem::Wildcard(_) => outputs.extend((0..columns.len()).map(Output::Place)),
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
                    let name = last(name);
                    let own = (0..columns.len()).filter(|at| *columns[*at].relation == *name);
                    outputs.extend(own.map(Output::Place));
                }
                other => return Err(SqlError::bad(format!("{other} is not available for the catalogs"))),
            }
        }
        Ok(outputs)
    }
}

/// The place that a number in ORDER BY or GROUP BY means.
fn position(expr: &Expr) -> Option<usize> {
    let Expr::Value(value) = expr else { return None };
    let Literal::Number(digits, _) = &value.value else { return None };
    digits.parse::<usize>().ok()?.checked_sub(1)
}

/// The expressions of `ORDER BY`.
fn order_of(order: Option<&OrderBy>) -> Result<&[OrderByExpr], SqlError> {
    match order.map(|order| &order.kind) {
        None => Ok(&[]),
        Some(OrderByKind::Expressions(list)) => Ok(list),
        Some(OrderByKind::All(_)) => Err(SqlError::bad("ORDER BY ALL is not available for the catalogs")),
    }
}

/// The expressions of GROUP BY; a number or an alias means a column of the answer.
fn group_keys<'e>(select: &'e Select, outputs: &[Output<'e>]) -> Result<Vec<&'e Expr>, SqlError> {
    let GroupByExpr::Expressions(list, _) = &select.group_by else {
        return Err(SqlError::bad("GROUP BY ALL is not available for the catalogs"));
    };
    let key = |expr: &'e Expr| match position(expr).and_then(|at| outputs.get(at)) {
        Some(Output::Expr { expr, .. }) => *expr,
        _ => {
            let aliased = outputs.iter().find_map(|output| match (output, expr) {
                (Output::Expr { name, expr: meant }, Expr::Identifier(ident)) if *name == folded(ident) => {
                    Some(*meant)
                }
                _ => None,
            });
            aliased.unwrap_or(expr)
        }
    };
    Ok(list.iter().map(key).collect())
}

/// What a SELECT calls in its columns, its order and HAVING, not in queries inside of it.
struct Calls<'e> {
    has_aggregates: bool,
    /// Functions with several values.
    has_sets: bool,
    windows: Vec<&'e Expr>,
}

/// Finds what a `SELECT` calls.
fn calls<'e>(select: &'e Select, order: &'e [OrderByExpr]) -> Calls<'e> {
    let items = select.projection.iter().filter_map(|item| match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
        _ => None,
    });
    let mut calls = Calls { has_aggregates: false, has_sets: false, windows: Vec::new() };
    for expr in items.chain(order.iter().map(|by| &by.expr)).chain(&select.having) {
        let mut finder = CallFinder::default();
        let _ = expr.visit(&mut finder);
        calls.has_aggregates |= finder.has_aggregates;
        calls.has_sets |= finder.has_sets;
        if finder.has_windows {
            collect_windows(expr, &mut calls.windows);
        }
    }
    calls
}

/// Looks for aggregates and window functions outside of inner queries.
#[derive(Default)]
struct CallFinder {
    depth: usize,
    has_aggregates: bool,
    has_sets: bool,
    has_windows: bool,
}

impl Visitor for CallFinder {
    type Break = ();

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expr
            // Those of inner queries are theirs: they group there.
            && self.depth == 0
        {
            let is_window = function.over.is_some();
            self.has_windows |= is_window;
            let name = last(&function.name);
            self.has_aggregates |= !is_window && functions::is_aggregate(&name);
            self.has_sets |= returns_set(&name);
        }
        ControlFlow::Continue(())
    }
}

/// The window functions of an expression: where they stand is their identity. Those inside of other
/// functions are not looked for.
fn collect_windows<'e>(expr: &'e Expr, into: &mut Vec<&'e Expr>) {
    match expr {
        Expr::Function(function) if function.over.is_some() => into.push(expr),
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => collect_windows(inner, into),
        Expr::BinaryOp { left, right, .. } => {
            collect_windows(left, into);
            collect_windows(right, into);
        }
        _ => {}
    }
}

/// Equal for equal rows.
pub(super) fn row_key(row: &[Value]) -> String {
    row.iter().map(Value::key).collect::<Vec<_>>().join("\u{1f}")
}

/// Leaves each row once.
pub(super) fn distinct(rows: &mut Vec<Vec<Value>>) {
    let mut seen = HashSet::new();
    rows.retain(|row| seen.insert(row_key(row)));
}
