//! Makes the rows of a catalog table (`pg_class`, `pg_attribute`, …) that a query can select.
//!
//! `pg_attribute` and `information_schema.columns` have a row for each column of each relation. A
//! server with thousands of metrics has thousands of relations, and most queries ask for one. So
//! the conditions of the query are evaluated first, and rows are made only for the relations that
//! satisfy them. [`super::join`] calls it for each table of `FROM`.

use super::conditions::{column_name, columns_of, conjuncts, is_over};
use super::join::{JoinKind, JoinSpec};
use super::names::{folded, parts, place_of};
use super::tables::{self, CatalogTable};
use super::value::Value;
use super::{Column, Evaluator, Relation, Scope};
use sql::SqlError;
use sqlparser::ast::{BinaryOperator, Expr, TableAlias, TableFactor};
use std::collections::HashSet;
use std::rc::Rc;

/// A column that the join requires to be equal to a column of its left side.
struct ColumnKeys {
    /// The index of the column in a row.
    index: usize,
    /// The keys ([`Value::key`]) of the values on the left side.
    known: HashSet<String>,
}

impl Evaluator<'_> {
    /// The rows of a catalog table that can be in the result of the join.
    pub(super) fn scan(
        &self,
        left: &Relation,
        factor: &TableFactor,
        table: &CatalogTable,
        spec: &JoinSpec<'_>,
    ) -> Result<Relation, SqlError> {
        let columns = table_columns(table, alias_of(factor));
        // Only the two lists of columns are long. All other tables are made whole, once per query.
        if !lists_columns(table) {
            let key = format!("{}.{}", table.schema, table.name);
            if let Some(known) = self.scans.borrow().get(&key) {
                // The same rows under the names of this place in FROM: a query joins `pg_class`
                // with itself.
                return Ok(Relation { columns, rows: known.rows.clone() });
            }
            let rows = self.maker.rows(table, &|_| Ok(true))?;
            let relation = Rc::new(Relation { columns: columns.clone(), rows: rows.clone() });
            self.scans.borrow_mut().insert(key, relation);
            return Ok(Relation { columns, rows });
        }
        let of_relation: Vec<Column> = columns.iter().filter(|c| is_of_relation(&c.name)).cloned().collect();
        let outer = spec.outer;
        let conditions: Vec<&Expr> = match spec.kind {
            JoinKind::Inner => spec.early.iter().chain(spec.on).copied().collect(),
            JoinKind::Left => spec.on.to_vec(),
            // Each row is in the result, whatever the conditions say.
            JoinKind::Right | JoinKind::Full => Vec::new(),
        };
        let simplified = conditions.iter().map(|c| self.simplified(c, outer));
        // The evaluator keeps them: results of queries inside are remembered by the address of the
        // expression.
        let simplified: Vec<Rc<Expr>> = simplified.collect::<Result<_, _>>()?;
        let decisive: Vec<&Expr> = simplified
            .iter()
            .flat_map(|c| conjuncts(c))
            .filter(|c| is_decisive(c, &of_relation, &columns, outer))
            .collect();
        let keys = self.left_keys(left, &conditions, &of_relation, outer)?;
        let wanted = |row: &[Value]| {
            // The keys first: a look into a set decides most relations without evaluating anything.
            if keys.iter().any(|column| !column.known.contains(&row[column.index].key())) {
                return Ok(false);
            }
            self.all_true(&decisive, &columns, row, outer)
        };
        let rows = self.maker.rows(table, &wanted)?;
        Ok(Relation { columns, rows })
    }

    /// The columns of `of_relation` that a condition sets equal to a column of `left`.
    fn left_keys(
        &self,
        left: &Relation,
        conditions: &[&Expr],
        of_relation: &[Column],
        outer: Option<&Scope<'_>>,
    ) -> Result<Vec<ColumnKeys>, SqlError> {
        let mut keys = Vec::new();
        for condition in conditions {
            let Expr::BinaryOp { left: a, op: BinaryOperator::Eq, right: b } = condition else { continue };
            for (mine, theirs) in [(a, b), (b, a)] {
                // Only a name with its relation: `oid` alone may belong to either side.
                let place = column_name(mine).filter(|name| name.len() > 1);
                let place = place.and_then(|name| place_of(of_relation, &name));
                let is_key =
                    place.is_some() && column_name(theirs).is_some() && is_over(theirs, &left.columns);
                let (Some(place), true) = (place, is_key) else { continue };
                let mut known = HashSet::new();
                for row in &left.rows {
                    let scope = Scope::new(&left.columns, row, outer);
                    known.insert(self.value(theirs, &scope)?.key());
                }
                // The columns of the relation come first in its rows.
                keys.push(ColumnKeys { index: place, known });
            }
        }
        Ok(keys)
    }
}

/// Whether a condition can be evaluated with the relation alone, before the rows of its columns are
/// made. A subquery in it may read anything but these columns.
fn is_decisive(condition: &Expr, of_relation: &[Column], all: &[Column], outer: Option<&Scope<'_>>) -> bool {
    match (columns_of(condition), condition) {
        (Some(names), _) => {
            let is_known = |name: &Vec<String>| {
                let is_of_row_around = || {
                    let around = outer.is_some_and(|scope| place_of(scope.columns, name).is_some());
                    // Constant for this scan, if it is surely that of the row around and not of a
                    // column that is made later.
                    around && name.len() > 1 && place_of(all, name).is_none()
                };
                place_of(of_relation, name).is_some() || is_of_row_around()
            };
            names.iter().any(|name| place_of(of_relation, name).is_some()) && names.iter().all(is_known)
        }
        // The list of the subquery is computed once; what is on its left decides whether it can be
        // asked now.
        (None, Expr::InSubquery { expr, .. }) => is_decisive(expr, of_relation, all, outer),
        (None, _) => false,
    }
}

/// Whether a table has a row for each column of each relation.
pub(super) fn lists_columns(table: &CatalogTable) -> bool {
    matches!(table.name, "pg_attribute" | "columns")
}

/// Whether this column of `pg_attribute` or `columns` names the relation (and not one of its
/// columns).
fn is_of_relation(name: &str) -> bool {
    matches!(name, "attrelid" | "table_catalog" | "table_schema" | "table_name")
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

/// The name that the query gives a table.
pub(crate) fn alias_of(factor: &TableFactor) -> Option<&TableAlias> {
    match factor {
        TableFactor::Table { alias, .. } => alias.as_ref(),
        _ => None,
    }
}

/// The columns of a table of the catalogs, under the names that the query gives them.
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

/// The error for a name that is no relation of the catalogs.
pub(crate) fn no_relation(name: &[String]) -> SqlError {
    SqlError::bad(format!("relation \"{}\" does not exist", name.join(".")))
        .hint("relations of the server and those of the catalogs cannot be joined")
}
