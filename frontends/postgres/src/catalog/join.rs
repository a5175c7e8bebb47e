//! Joins two relations of a catalog query: a hash join if some columns must be equal, else row by
//! row. [`super::from`] decides about the order.

use super::conditions::{columns_of, is_over};
use super::infer::Names;
use super::value::Value;
use super::{Column, Evaluator, Relation, Scope};
use sql::SqlError;
use sqlparser::ast::{BinaryOperator, Expr, TableFactor};
use std::collections::HashMap;

/// Which rows without a partner a join keeps: those of neither side, of one, or of both.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(super) enum JoinKind {
    Inner,
    Left,
    Right,
    Full,
}

/// How a relation is joined with those before it.
pub(super) struct JoinSpec<'a> {
    pub(super) kind: JoinKind,
    /// The parts of the join's condition, all of which must be true.
    pub(super) on: &'a [&'a Expr],
    /// Parts of `WHERE` that may be used here already; only for inner joins.
    pub(super) early: &'a [&'a Expr],
    /// The row of the query around.
    pub(super) outer: Option<&'a Scope<'a>>,
}

impl Evaluator<'_> {
    /// Joins with what depends on the row before it: a function, or a query after `LATERAL`.
    pub(super) fn join_lateral(
        &self,
        left: Relation,
        factor: &TableFactor,
        spec: &JoinSpec<'_>,
    ) -> Result<Relation, SqlError> {
        let outer = spec.outer;
        let names = outer.map(Names::new);
        let around = Names { columns: &left.columns, outer: names.as_ref() };
        let added = self.factor_columns(factor, Some(&around))?;
        let mut joined = Relation {
            columns: left.columns.iter().cloned().chain(added.iter().cloned()).collect(),
            rows: Vec::new(),
        };
        for row in &left.rows {
            let scope = Scope::new(&left.columns, row, outer);
            let right = self.factor(factor, Some(&scope))?;
            let before = joined.rows.len();
            for added in &right.rows {
                let both: Vec<Value> = row.iter().chain(added).cloned().collect();
                if self.all_true(spec.on, &joined.columns, &both, outer)? {
                    joined.rows.push(both);
                }
            }
            if joined.rows.len() == before && spec.kind == JoinKind::Left {
                joined.rows.push(row.iter().cloned().chain(added.iter().map(|_| Value::Null)).collect());
            }
        }
        Ok(joined)
    }

    /// Joins two relations of which neither depends on the rows of the other.
    pub(super) fn join(
        &self,
        left: Relation,
        right: &Relation,
        spec: &JoinSpec<'_>,
    ) -> Result<Relation, SqlError> {
        let outer = spec.outer;
        let columns: Vec<Column> = left.columns.iter().chain(&right.columns).cloned().collect();
        let kept = self.early_rows(right, spec.early, outer)?;
        let mut conditions: Vec<&Expr> = spec.on.to_vec();
        // Those that need both sides.
        let is_new =
            |c: &&&Expr| is_over(c, &columns) && !is_over(c, &left.columns) && !is_over(c, &right.columns);
        conditions.extend(spec.early.iter().filter(is_new));
        let keys = JoinKeys::new(&conditions, &left.columns, &right.columns);
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
            if !is_matched && matches!(spec.kind, JoinKind::Left | JoinKind::Full) {
                let nulls = right.columns.iter().map(|_| Value::Null);
                rows.push(row.into_iter().chain(nulls).collect());
            }
        }
        if matches!(spec.kind, JoinKind::Right | JoinKind::Full) {
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

    /// The numbers of the rows with each key; empty without keys.
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
        let scope = Scope::new(columns, row, outer);
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
}

/// The keys of an equality join, on both sides.
struct JoinKeys<'e> {
    left: Vec<&'e Expr>,
    right: Vec<&'e Expr>,
}

impl<'e> JoinKeys<'e> {
    fn new(conditions: &[&'e Expr], left: &[Column], right: &[Column]) -> JoinKeys<'e> {
        let mut keys = JoinKeys { left: Vec::new(), right: Vec::new() };
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
