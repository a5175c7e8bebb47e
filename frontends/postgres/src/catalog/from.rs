//! The `FROM` clause of catalog queries: chooses the order of the joins, and which conditions each
//! join can use. [`super::join`] joins two relations, [`super::scan`] reads a table.

use super::conditions::conjuncts;
use super::infer::Names;
use super::join::{JoinKind, JoinSpec};
use super::names::{parts, place_of, renamed};
use super::scan::{catalog_table, lists_columns, no_relation};
use super::{Column, Evaluator, Relation, Scope};
use sql::SqlError;
use sqlparser::ast::{
    BinaryOperator, Expr, Ident, Join, JoinConstraint, JoinOperator, TableFactor, TableWithJoins,
};
use std::rc::Rc;

impl Evaluator<'_> {
    /// The rows of `FROM`. `conditions` are the parts of `WHERE`: those that speak of one table, or
    /// join two, are used as early as possible, so that few rows are made.
    pub(crate) fn from(
        &self,
        from: &[TableWithJoins],
        conditions: &[&Expr],
        outer: Option<&Scope<'_>>,
    ) -> Result<Relation, SqlError> {
        // Without FROM there is one row without columns.
        let mut all = Relation { columns: Vec::new(), rows: vec![Vec::new()] };
        for item in from {
            all = self.join_item(all, item, conditions, outer)?;
        }
        Ok(all)
    }

    /// Joins `before` with an item of `FROM`: a relation, and those that are joined to it in the
    /// text.
    fn join_item(
        &self,
        before: Relation,
        item: &TableWithJoins,
        conditions: &[&Expr],
        outer: Option<&Scope<'_>>,
    ) -> Result<Relation, SqlError> {
        // A condition on the side that an outer join fills with NULLs must not go before it.
        let keeps_first = |join: &Join| {
            join_parts(join).is_some_and(|(kind, _)| matches!(kind, JoinKind::Inner | JoinKind::Left))
        };
        let is_early = item.joins.iter().all(keeps_first);
        let early: &[&Expr] = if is_early { conditions } else { &[] };
        if let Some((second, rest)) = item.joins.split_first()
            && is_early
            && self.goes_first(second, &item.relation)
        {
            let all = self.join_swapped(before, &item.relation, second, early, outer)?;
            return self.join_others(all, rest, early, outer);
        }
        let spec = JoinSpec { kind: JoinKind::Inner, on: &[], early, outer };
        let all = self.join_factor(before, &item.relation, &spec)?;
        self.join_others(all, &item.joins, early, outer)
    }

    /// Joins `all` with further relations in the order of the text.
    fn join_others(
        &self,
        mut all: Relation,
        joins: &[Join],
        early: &[&Expr],
        outer: Option<&Scope<'_>>,
    ) -> Result<Relation, SqlError> {
        for join in joins {
            let (kind, constraint) = join_parts(join)
                .ok_or_else(|| SqlError::bad("this kind of join is not available for the catalogs"))?;
            let on = self.constraint(constraint, &all, &join.relation, outer)?;
            let on: Vec<&Expr> = on.iter().flat_map(|condition| conjuncts(condition)).collect();
            let early: &[&Expr] = if kind == JoinKind::Inner { early } else { &[] };
            all = self.join_factor(all, &join.relation, &JoinSpec { kind, on: &on, early, outer })?;
        }
        Ok(all)
    }

    /// Whether the relation of an inner join is better read before `first`: that one lists columns,
    /// and of few relations once it is known which.
    fn goes_first(&self, join: &Join, first: &TableFactor) -> bool {
        let is_inner = matches!(join_parts(join), Some((JoinKind::Inner, _)));
        let lists_columns = |factor| catalog_table(factor).is_some_and(|(_, table)| lists_columns(table));
        let second = &join.relation;
        is_inner && lists_columns(first) && !lists_columns(second) && !self.depends_on_row(second)
    }

    /// An inner join whose second side is read first.
    fn join_swapped(
        &self,
        before: Relation,
        first: &TableFactor,
        join: &Join,
        early: &[&Expr],
        outer: Option<&Scope<'_>>,
    ) -> Result<Relation, SqlError> {
        let constraint = join_parts(join).map_or(&JoinConstraint::None, |(_, constraint)| constraint);
        let begin = before.columns.len();
        let spec = JoinSpec { kind: JoinKind::Inner, on: &[], early, outer };
        let second = self.join_factor(before, &join.relation, &spec)?;
        let middle = second.columns.len();
        let on = self.constraint(constraint, &second, first, outer)?;
        let on: Vec<&Expr> = on.iter().flat_map(|condition| conjuncts(condition)).collect();
        let mut all = self.join_factor(second, first, &JoinSpec { on: &on, ..spec })?;
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
                let right = self.factor_columns(right, outer.map(Names::new).as_ref())?;
                let mut conditions = Vec::new();
                for name in names {
                    let name = parts(name);
                    let find = |columns: &[Column]| {
                        let found = place_of(columns, &name).map(|at| &columns[at]);
                        found.map(|c| {
                            let ident = |text: &str| Ident::with_quote('"', text);
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
        spec: &JoinSpec<'_>,
    ) -> Result<Relation, SqlError> {
        if self.depends_on_row(factor) {
            return self.join_lateral(left, factor, spec);
        }
        let right = match catalog_table(factor).filter(|(name, _)| !self.is_named(name)) {
            Some((_, table)) => self.scan(&left, factor, table, spec)?,
            None => self.factor(factor, spec.outer)?,
        };
        self.join(left, &right, spec)
    }

    /// Whether `name` is one of `WITH`.
    fn is_named(&self, name: &[String]) -> bool {
        name.len() == 1 && self.named.borrow().iter().any(|(known, _)| *known == name[0])
    }

    /// Whether the rows of a factor depend on the row before it.
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
                let spec = JoinSpec { kind: JoinKind::Inner, on: &[], early: &[], outer };
                self.scan(&none, factor, table, &spec)
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

/// The kind of a join and its condition; `None`: it is of none of these kinds.
fn join_parts(join: &Join) -> Option<(JoinKind, &JoinConstraint)> {
    Some(match &join.join_operator {
        JoinOperator::Join(c) | JoinOperator::Inner(c) | JoinOperator::CrossJoin(c) => (JoinKind::Inner, c),
        JoinOperator::Left(c) | JoinOperator::LeftOuter(c) => (JoinKind::Left, c),
        JoinOperator::Right(c) | JoinOperator::RightOuter(c) => (JoinKind::Right, c),
        JoinOperator::FullOuter(c) => (JoinKind::Full, c),
        _ => return None,
    })
}
