//! `FROM`: tables, joins and conditions that decide early which rows are needed.

use super::names::{folded, parts, place_of};
use super::tables::{self, CatalogTable};
use super::value::Value;
use super::{Column, Evaluator, Relation, Scope};
use sql::SqlError;
use sqlparser::ast::{
    BinaryOperator, Expr, JoinConstraint, JoinOperator, TableAlias, TableFactor, TableWithJoins, Visit,
    Visitor,
};
use std::collections::{HashMap, HashSet};
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
fn columns_of(expr: &Expr) -> Option<Vec<Vec<String>>> {
    #[derive(Default)]
    struct Names {
        found: Vec<Vec<String>>,
    }
    impl Visitor for Names {
        type Break = ();
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
    let mut names = Names::default();
    match expr.visit(&mut names) {
        ControlFlow::Continue(()) => Some(names.found),
        ControlFlow::Break(()) => None,
    }
}

/// Whether an expression can be evaluated over these columns alone.
fn is_over(expr: &Expr, columns: &[Column]) -> bool {
    columns_of(expr).is_some_and(|names| names.iter().all(|name| place_of(columns, name).is_some()))
}

/// How two relations are joined.
#[derive(Copy, Clone, PartialEq, Eq)]
enum How {
    Inner,
    Left,
    Right,
    Full,
}

impl Evaluator<'_> {
    /// The rows of `FROM`. Conditions of `WHERE` that speak of one table, or join two, are used early.
    pub(crate) fn from(
        &self,
        from: &[TableWithJoins],
        conditions: &[&Expr],
        outer: Option<&Scope<'_>>,
    ) -> Result<Relation, SqlError> {
        // Without FROM there is one row without columns.
        let mut all = Relation { columns: Vec::new(), rows: vec![Vec::new()] };
        for item in from {
            // A condition on the side that an outer join fills with NULLs must not go before it.
            let is_inner = item
                .joins
                .iter()
                .all(|join| matches!(how(&join.join_operator), Some((How::Inner | How::Left, _))));
            let early: &[&Expr] = if is_inner { conditions } else { &[] };
            let mut joins = item.joins.as_slice();
            match joins
                .split_first()
                .filter(|(second, _)| is_inner && self.goes_first(&second.relation, &item.relation))
            {
                Some((second, rest)) => {
                    all = self.join_swapped(all, &item.relation, second, early, outer)?;
                    joins = rest;
                }
                None => all = self.join_factor(all, &item.relation, How::Inner, &[], early, outer)?,
            }
            for join in joins {
                let (how, constraint) = how(&join.join_operator)
                    .ok_or_else(|| SqlError::bad("this kind of join is not available for the catalogs"))?;
                let on = self.constraint(constraint, &all, &join.relation, outer)?;
                let on: Vec<&Expr> = on.iter().flat_map(|condition| conjuncts(condition)).collect();
                let early: &[&Expr] = if is_inner && how == How::Inner { conditions } else { &[] };
                all = self.join_factor(all, &join.relation, how, &on, early, outer)?;
            }
        }
        Ok(all)
    }

    /// Whether `second` is better read before `first`: that one lists columns, and of few relations
    /// once it is known which.
    fn goes_first(&self, second: &TableFactor, first: &TableFactor) -> bool {
        let lists_columns = |factor| catalog_table(factor).is_some_and(|(_, table)| lists_columns(table));
        lists_columns(first) && !lists_columns(second) && !self.depends_on_row(second)
    }

    /// An inner join whose second side is read first.
    fn join_swapped(
        &self,
        before: Relation,
        first: &TableFactor,
        join: &sqlparser::ast::Join,
        early: &[&Expr],
        outer: Option<&Scope<'_>>,
    ) -> Result<Relation, SqlError> {
        let begin = before.columns.len();
        let (how, constraint) = match how(&join.join_operator) {
            Some((How::Inner, constraint)) => (How::Inner, constraint),
            _ => {
                let all = self.join_factor(before, first, How::Inner, &[], early, outer)?;
                let (how, constraint) = how(&join.join_operator)
                    .ok_or_else(|| SqlError::bad("this kind of join is not available for the catalogs"))?;
                let on = self.constraint(constraint, &all, &join.relation, outer)?;
                let on: Vec<&Expr> = on.iter().flat_map(|condition| conjuncts(condition)).collect();
                return self.join_factor(all, &join.relation, how, &on, &[], outer);
            }
        };
        let second = self.join_factor(before, &join.relation, How::Inner, &[], early, outer)?;
        let middle = second.columns.len();
        let on = self.constraint(constraint, &second, first, outer)?;
        let on: Vec<&Expr> = on.iter().flat_map(|condition| conjuncts(condition)).collect();
        let mut all = self.join_factor(second, first, how, &on, early, outer)?;
        // The columns in the order of the text.
        all.columns[begin..].rotate_left(middle - begin);
        for row in &mut all.rows {
            row[begin..].rotate_left(middle - begin);
        }
        Ok(all)
    }

    /// The condition of a join, also of `USING`.
    fn constraint(
        &self,
        constraint: &JoinConstraint,
        left: &Relation,
        right: &TableFactor,
        outer: Option<&Scope<'_>>,
    ) -> Result<Vec<Rc<Expr>>, SqlError> {
        match constraint {
            JoinConstraint::On(condition) => Ok(vec![self.keep(condition.clone())]),
            JoinConstraint::None => Ok(Vec::new()),
            JoinConstraint::Natural => Err(SqlError::bad("NATURAL JOIN is not available for the catalogs")),
            JoinConstraint::Using(names) => {
                let right = self.factor_columns(right, outer.map(super::infer::Names::of).as_ref())?;
                let mut conditions = Vec::new();
                for name in names {
                    let name = parts(name);
                    let find = |columns: &[Column]| {
                        let found = place_of(columns, &name).map(|at| &columns[at]);
                        found.map(|c| {
                            let ident = |text: &str| sqlparser::ast::Ident::with_quote('"', text);
                            Expr::CompoundIdentifier(vec![ident(&c.relation), ident(&c.name)])
                        })
                    };
                    let (Some(a), Some(b)) = (find(&left.columns), find(&right)) else {
                        return Err(super::expr::no_column(&name));
                    };
                    let op = BinaryOperator::Eq;
                    let equal = Expr::BinaryOp { left: Box::new(a), op, right: Box::new(b) };
                    conditions.push(self.keep(equal));
                }
                Ok(conditions)
            }
        }
    }

    /// Joins `left` with a table, a query or a function.
    fn join_factor(
        &self,
        left: Relation,
        factor: &TableFactor,
        how: How,
        on: &[&Expr],
        early: &[&Expr],
        outer: Option<&Scope<'_>>,
    ) -> Result<Relation, SqlError> {
        if self.depends_on_row(factor) {
            return self.join_lateral(left, factor, how, on, outer);
        }
        let right = match catalog_table(factor).filter(|(name, _)| self.is_no_result(name)) {
            Some((_, table)) => self.scan(&left, factor, table, how, on, early, outer)?,
            None => self.factor(factor, outer)?,
        };
        self.join(left, &right, how, on, early, outer)
    }

    /// Whether `name` is not the name of a `WITH`.
    fn is_no_result(&self, name: &[String]) -> bool {
        name.len() > 1 || !self.named.borrow().iter().any(|(known, _)| Some(known) == name.first())
    }

    fn depends_on_row(&self, factor: &TableFactor) -> bool {
        match factor {
            TableFactor::Function { .. } | TableFactor::UNNEST { .. } | TableFactor::TableFunction { .. } => {
                true
            }
            TableFactor::Table { args, .. } => args.is_some(),
            TableFactor::Derived { lateral, .. } => *lateral,
            _ => false,
        }
    }

    fn join_lateral(
        &self,
        left: Relation,
        factor: &TableFactor,
        how: How,
        on: &[&Expr],
        outer: Option<&Scope<'_>>,
    ) -> Result<Relation, SqlError> {
        let names = outer.map(super::infer::Names::of);
        let around = super::infer::Names { columns: &left.columns, outer: names.as_ref() };
        let added = self.factor_columns(factor, Some(&around))?;
        let mut joined = Relation {
            columns: left.columns.iter().cloned().chain(added.iter().cloned()).collect(),
            rows: Vec::new(),
        };
        for row in &left.rows {
            let scope = Scope { columns: &left.columns, row, group: None, windows: None, outer };
            let right = self.factor(factor, Some(&scope))?;
            let before = joined.rows.len();
            for added in &right.rows {
                let both: Vec<Value> = row.iter().chain(added).cloned().collect();
                if self.all_true(on, &joined.columns, &both, outer)? {
                    joined.rows.push(both);
                }
            }
            if joined.rows.len() == before && how == How::Left {
                joined.rows.push(row.iter().cloned().chain(added.iter().map(|_| Value::Null)).collect());
            }
        }
        Ok(joined)
    }

    /// The rows of a table of the catalogs that the join can need.
    #[expect(clippy::too_many_arguments, reason = "the parts of a join, all of which decide")]
    fn scan(
        &self,
        left: &Relation,
        factor: &TableFactor,
        table: &CatalogTable,
        how: How,
        on: &[&Expr],
        early: &[&Expr],
        outer: Option<&Scope<'_>>,
    ) -> Result<Relation, SqlError> {
        let columns = table_columns(table, alias_of(factor));
        // The lists of columns are long: only those of relations that can matter are made.
        if !lists_columns(table) {
            let key = format!("{}.{}", table.schema, table.name);
            if let Some(known) = self.scans.borrow().get(&key) {
                return Ok(Relation { columns, rows: known.rows.clone() });
            }
            let rows = self.maker.rows(table, &|_| Ok(true))?;
            let relation = Rc::new(Relation { columns: columns.clone(), rows: rows.clone() });
            self.scans.borrow_mut().insert(key, relation);
            return Ok(Relation { columns, rows });
        }
        let of_relation: Vec<Column> = columns.iter().filter(|c| is_of_relation(&c.name)).cloned().collect();
        let conditions: Vec<&Expr> = match how {
            How::Inner => early.iter().chain(on).copied().collect(),
            How::Left => on.to_vec(),
            How::Right | How::Full => Vec::new(),
        };
        let simplified = conditions.iter().map(|c| self.simplified(c, outer));
        let simplified: Vec<Rc<Expr>> = simplified.collect::<Result<_, _>>()?;
        let decisive: Vec<&Expr> = simplified
            .iter()
            .flat_map(|c| conjuncts(c))
            .filter(|c| is_decisive(c, &of_relation, &columns, outer))
            .collect();
        let keys = self.left_keys(left, &conditions, &of_relation, outer)?;
        let wanted = |row: &[Value]| {
            for (place, known) in &keys {
                if !known.contains(&row[*place].key()) {
                    return Ok(false);
                }
            }
            self.all_true(&decisive, &columns, row, outer)
        };
        let rows = self.maker.rows(table, &wanted)?;
        Ok(Relation { columns, rows })
    }

    /// A condition whose `CASE` is decided by constants is that branch.
    fn simplified(&self, condition: &Expr, outer: Option<&Scope<'_>>) -> Result<Rc<Expr>, SqlError> {
        let Expr::Case { operand: None, conditions, else_result, .. } = condition else {
            return Ok(self.keep(condition.clone()));
        };
        let nothing = Scope { columns: &[], row: &[], group: None, windows: None, outer };
        for branch in conditions {
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
            None => Ok(self.keep(condition.clone())),
        }
    }

    /// Keeps an expression as long as the evaluation lasts: results of queries inside of it are known
    /// by their addresses.
    fn keep(&self, expr: Expr) -> Rc<Expr> {
        let kept = Rc::new(expr);
        self.kept.borrow_mut().push(kept.clone());
        kept
    }

    /// For conditions `left column = column of the relation`: the place of the latter in a row, and
    /// the values of the former.
    fn left_keys(
        &self,
        left: &Relation,
        conditions: &[&Expr],
        of_relation: &[Column],
        outer: Option<&Scope<'_>>,
    ) -> Result<Vec<(usize, HashSet<String>)>, SqlError> {
        let mut keys = Vec::new();
        for condition in conditions {
            let Expr::BinaryOp { left: a, op: BinaryOperator::Eq, right: b } = condition else { continue };
            for (mine, theirs) in [(a, b), (b, a)] {
                let place = column_name(mine).filter(|name| name.len() > 1);
                let place = place.and_then(|name| place_of(of_relation, &name));
                let is_key =
                    place.is_some() && column_name(theirs).is_some() && is_over(theirs, &left.columns);
                let (Some(place), true) = (place, is_key) else { continue };
                let mut values = HashSet::new();
                for row in &left.rows {
                    let scope = Scope { columns: &left.columns, row, group: None, windows: None, outer };
                    values.insert(self.value(theirs, &scope)?.key());
                }
                // The columns of the relation come first in its rows.
                keys.push((place, values));
            }
        }
        Ok(keys)
    }

    fn join(
        &self,
        left: Relation,
        right: &Relation,
        how: How,
        on: &[&Expr],
        early: &[&Expr],
        outer: Option<&Scope<'_>>,
    ) -> Result<Relation, SqlError> {
        let columns: Vec<Column> = left.columns.iter().chain(&right.columns).cloned().collect();
        let kept = if how == How::Inner {
            self.early_rows(right, early, outer)?
        } else {
            right.rows.iter().collect()
        };
        let mut conditions: Vec<&Expr> = on.to_vec();
        if how == How::Inner {
            let is_new = |c: &&&Expr| {
                is_over(c, &columns) && !is_over(c, &left.columns) && !is_over(c, &right.columns)
            };
            conditions.extend(early.iter().filter(is_new));
        }
        let keys = Keys::of(&conditions, &left.columns, &right.columns);
        let index = self.index(&keys.right, &right.columns, &kept, outer)?;
        let mut matched = vec![false; kept.len()];
        let mut rows = Vec::new();
        let everything: Vec<usize> = (0..kept.len()).collect();
        for row in left.rows {
            let found: &[usize] = if keys.left.is_empty() {
                &everything
            } else {
                let key = self.key(&keys.left, &left.columns, &row, outer)?;
                key.and_then(|key| index.get(&key)).map_or(&[], Vec::as_slice)
            };
            let mut is_matched = false;
            for at in found {
                let both: Vec<Value> = row.iter().chain(kept[*at]).cloned().collect();
                if self.all_true(&conditions, &columns, &both, outer)? {
                    is_matched = true;
                    matched[*at] = true;
                    rows.push(both);
                }
            }
            if !is_matched && matches!(how, How::Left | How::Full) {
                let nulls = right.columns.iter().map(|_| Value::Null);
                rows.push(row.into_iter().chain(nulls).collect());
            }
        }
        if matches!(how, How::Right | How::Full) {
            for (row, _) in kept.iter().zip(&matched).filter(|(_, matched)| !**matched) {
                let nulls = left.columns.iter().map(|_| Value::Null);
                rows.push(nulls.chain(row.iter().cloned()).collect());
            }
        }
        Ok(Relation { columns, rows })
    }

    /// The rows of a relation that satisfy the conditions on it alone.
    fn early_rows<'r>(
        &self,
        relation: &'r Relation,
        conditions: &[&Expr],
        outer: Option<&Scope<'_>>,
    ) -> Result<Vec<&'r Vec<Value>>, SqlError> {
        let own: Vec<&Expr> = conditions.iter().filter(|c| is_over(c, &relation.columns)).copied().collect();
        let mut kept = Vec::new();
        for row in &relation.rows {
            if self.all_true(&own, &relation.columns, row, outer)? {
                kept.push(row);
            }
        }
        Ok(kept)
    }

    fn index(
        &self,
        keys: &[&Expr],
        columns: &[Column],
        rows: &[&Vec<Value>],
        outer: Option<&Scope<'_>>,
    ) -> Result<HashMap<String, Vec<usize>>, SqlError> {
        let mut index: HashMap<String, Vec<usize>> = HashMap::new();
        if keys.is_empty() {
            return Ok(index);
        }
        for (at, row) in rows.iter().enumerate() {
            if let Some(key) = self.key(keys, columns, row, outer)? {
                index.entry(key).or_default().push(at);
            }
        }
        Ok(index)
    }

    /// The key of a row; `None`: NULL, which is equal to nothing.
    fn key(
        &self,
        keys: &[&Expr],
        columns: &[Column],
        row: &[Value],
        outer: Option<&Scope<'_>>,
    ) -> Result<Option<String>, SqlError> {
        let scope = Scope { columns, row, group: None, windows: None, outer };
        let mut key = String::new();
        for expr in keys {
            let value = self.value(expr, &scope)?;
            if value.is_null() {
                return Ok(None);
            }
            key.push_str(&value.key());
            key.push('\u{1f}');
        }
        Ok(Some(key))
    }

    /// Whether all conditions are true for a row.
    pub(crate) fn all_true(
        &self,
        conditions: &[&Expr],
        columns: &[Column],
        row: &[Value],
        outer: Option<&Scope<'_>>,
    ) -> Result<bool, SqlError> {
        let scope = Scope { columns, row, group: None, windows: None, outer };
        for condition in conditions {
            if !self.value(condition, &scope)?.is_true() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A table, a query or a function of `FROM`.
    pub(crate) fn factor(
        &self,
        factor: &TableFactor,
        outer: Option<&Scope<'_>>,
    ) -> Result<Relation, SqlError> {
        match factor {
            TableFactor::Table { name, args: None, alias, .. } => {
                let name = parts(name);
                let named = self.named.borrow();
                let result = named.iter().rev().find(|(known, _)| name.len() == 1 && *known == name[0]);
                if let Some((known, relation)) = result {
                    return Ok(renamed(relation.as_ref().clone(), known, alias.as_ref()));
                }
                drop(named);
                let (_, table) = catalog_table(factor).ok_or_else(|| no_relation(&name))?;
                let none = Relation::default();
                self.scan(&none, factor, table, How::Inner, &[], &[], outer)
            }
            TableFactor::Derived { subquery, alias, .. } => {
                let relation = self.query(subquery, outer)?;
                Ok(renamed(relation, "", alias.as_ref()))
            }
            TableFactor::NestedJoin { table_with_joins, alias } => {
                let relation = self.from(std::slice::from_ref(table_with_joins.as_ref()), &[], outer)?;
                Ok(match alias {
                    Some(_) => renamed(relation, "", alias.as_ref()),
                    None => relation,
                })
            }
            other => self.table_function(other, outer),
        }
    }
}

/// The keys of an equality join, on both sides.
struct Keys<'e> {
    left: Vec<&'e Expr>,
    right: Vec<&'e Expr>,
}

impl<'e> Keys<'e> {
    fn of(conditions: &[&'e Expr], left: &[Column], right: &[Column]) -> Keys<'e> {
        let mut keys = Keys { left: Vec::new(), right: Vec::new() };
        for condition in conditions {
            let Expr::BinaryOp { left: a, op: BinaryOperator::Eq, right: b } = condition else { continue };
            // A constant is no key: it has no column.
            let is_key = |expr: &Expr| columns_of(expr).is_some_and(|names| !names.is_empty());
            if !is_key(a) || !is_key(b) {
                continue;
            }
            for (mine, theirs) in [(a, b), (b, a)] {
                let is_side = is_over(mine, left) && is_over(theirs, right) && !is_over(theirs, left);
                if is_side {
                    keys.left.push(mine.as_ref());
                    keys.right.push(theirs.as_ref());
                    break;
                }
            }
        }
        keys
    }
}

/// Whether a condition speaks only of the relation, not of its columns. Queries inside of it may be
/// about anything but these columns.
fn is_decisive(condition: &Expr, of_relation: &[Column], all: &[Column], outer: Option<&Scope<'_>>) -> bool {
    match (columns_of(condition), condition) {
        (Some(names), _) => {
            let is_known = |name: &Vec<String>| {
                let is_of_row_around = || {
                    let around = outer.is_some_and(|scope| place_of(scope.columns, name).is_some());
                    around && name.len() > 1 && place_of(all, name).is_none()
                };
                place_of(of_relation, name).is_some() || is_of_row_around()
            };
            names.iter().any(|name| place_of(of_relation, name).is_some()) && names.iter().all(is_known)
        }
        (None, Expr::InSubquery { expr, .. }) => is_decisive(expr, of_relation, all, outer),
        (None, _) => false,
    }
}

/// Whether a table has a row for each column of each relation.
fn lists_columns(table: &CatalogTable) -> bool {
    matches!(table.name, "pg_attribute" | "columns")
}

/// Columns that lists of columns have for the relation as a whole.
fn is_of_relation(name: &str) -> bool {
    matches!(name, "attrelid" | "table_catalog" | "table_schema" | "table_name")
}

fn column_name(expr: &Expr) -> Option<Vec<String>> {
    match expr {
        Expr::Identifier(name) => Some(vec![folded(name)]),
        Expr::CompoundIdentifier(names) => Some(names.iter().map(folded).collect()),
        Expr::Nested(inner) => column_name(inner),
        _ => None,
    }
}

fn how(operator: &JoinOperator) -> Option<(How, &JoinConstraint)> {
    Some(match operator {
        JoinOperator::Join(c) | JoinOperator::Inner(c) | JoinOperator::CrossJoin(c) => (How::Inner, c),
        JoinOperator::Left(c) | JoinOperator::LeftOuter(c) => (How::Left, c),
        JoinOperator::Right(c) | JoinOperator::RightOuter(c) => (How::Right, c),
        JoinOperator::FullOuter(c) => (How::Full, c),
        _ => return None,
    })
}

/// The table of the catalogs that `FROM` names.
pub(crate) fn catalog_table(factor: &TableFactor) -> Option<(Vec<String>, &'static CatalogTable)> {
    let TableFactor::Table { name, args: None, .. } = factor else { return None };
    let name = parts(name);
    let table = match name.as_slice() {
        [.., schema, table] => tables::table(Some(schema), table)?,
        [table] => tables::table(None, table)?,
        [] => return None,
    };
    Some((name, table))
}

pub(crate) fn alias_of(factor: &TableFactor) -> Option<&TableAlias> {
    match factor {
        TableFactor::Table { alias, .. } => alias.as_ref(),
        _ => None,
    }
}

pub(crate) fn table_columns(table: &CatalogTable, alias: Option<&TableAlias>) -> Vec<Column> {
    let relation: Rc<str> = alias.map_or_else(|| table.name.to_owned(), |alias| folded(&alias.name)).into();
    let names = alias.map_or(&[][..], |alias| alias.columns.as_slice());
    let column = |(at, column): (usize, &tables::CatalogColumn)| Column {
        relation: relation.clone(),
        name: names.get(at).map_or_else(|| column.name.to_owned(), |named| folded(&named.name)).into(),
        kind: column.kind.clone(),
    };
    table.columns.iter().enumerate().map(column).collect()
}

/// A relation under the name that the query gives it.
pub(crate) fn renamed(mut relation: Relation, name: &str, alias: Option<&TableAlias>) -> Relation {
    rename(&mut relation.columns, name, alias);
    relation
}

/// The columns of a relation under the name that the query gives it.
pub(crate) fn rename(columns: &mut [Column], name: &str, alias: Option<&TableAlias>) {
    let called: Rc<str> = alias.map_or_else(|| name.to_owned(), |alias| folded(&alias.name)).into();
    let names = alias.map_or(&[][..], |alias| alias.columns.as_slice());
    for (at, column) in columns.iter_mut().enumerate() {
        column.relation = called.clone();
        if let Some(named) = names.get(at) {
            column.name = folded(&named.name).into();
        }
    }
}

pub(crate) fn no_relation(name: &[String]) -> SqlError {
    SqlError::bad(format!("relation \"{}\" does not exist", name.join(".")))
        .hint("relations of the server and those of the catalogs cannot be joined")
}
