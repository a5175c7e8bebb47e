//! Collects the names in a statement: which columns it uses of which relation, and which functions
//! it calls.
//!
//! A metric has no fixed columns: each column that a statement names is a label, whether or not a
//! series has it now. DataFusion wants the schema before it plans, so the names are collected from
//! the syntax tree first. Used by [`super::planner`].

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, JoinConstraint, JoinOperator, ObjectName, Query, Select, SelectItem, SetExpr, Statement,
    TableFactor, Visit, Visitor, visit_expressions,
};
use datafusion::sql::sqlparser::tokenizer::Location;
use language::edit_distance;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

/// A function call with its position.
#[derive(Debug)]
pub(crate) struct CalledFunction {
    /// The folded name.
    pub(crate) name: String,
    /// The position in the text.
    pub(crate) place: Location,
}

/// The names of a statement.
#[derive(Debug, Default)]
pub(crate) struct StatementNames {
    /// Columns without a relation before them.
    unqualified: BTreeSet<String>,
    /// Columns in USING: both sides have them.
    joined: BTreeSet<String>,
    /// Columns by the name before them.
    qualified: BTreeMap<String, BTreeSet<String>>,
    /// Names that the statement gives to results; they are no labels.
    aliases: BTreeSet<String>,
    /// Names that the statement gives to results that are made of a column of the same name
    /// (`lower(job) AS job`).
    reused: BTreeSet<String>,
    /// For each relation: its aliases.
    relations: BTreeMap<String, BTreeSet<String>>,
    /// Functions that are called.
    pub(crate) functions: Vec<CalledFunction>,
}

impl StatementNames {
    /// The names of `statement`.
    pub(crate) fn from_statement(statement: &Statement) -> StatementNames {
        let mut names = StatementNames::default();
        let _ = statement.visit(&mut names);
        if let Statement::Query(query) = statement {
            names.add_owned(query);
        }
        names
    }

    /// Adds the columns of each `SELECT` that reads one relation and nothing else: they are of that
    /// relation, whatever others the statement reads elsewhere (`… UNION ALL …`). Subqueries of
    /// expressions are left out: their names may be of the query around them.
    fn add_owned(&mut self, query: &Query) {
        for named in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.add_owned(&named.query);
        }
        self.add_owned_of(&query.body);
    }

    fn add_owned_of(&mut self, body: &SetExpr) {
        match body {
            SetExpr::Query(query) => self.add_owned(query),
            SetExpr::SetOperation { left, right, .. } => {
                self.add_owned_of(left);
                self.add_owned_of(right);
            }
            SetExpr::Select(select) => {
                let factors = select.from.iter().flat_map(|from| {
                    std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation))
                });
                for factor in factors {
                    if let TableFactor::Derived { lateral: false, subquery, .. } = factor {
                        self.add_owned(subquery);
                    }
                }
                if let Some(relation) = only_relation(select) {
                    self.qualified.entry(relation).or_default().extend(own_columns(select));
                }
            }
            _ => {}
        }
    }

    /// The columns that the statement may use of relation `name`. `other` has the columns of
    /// relations with a fixed schema, which are left out.
    pub(crate) fn columns_of(&self, name: &str, other: &BTreeSet<String>) -> BTreeSet<String> {
        // Unqualified names may belong to any relation. An alias or a column of a closed relation
        // would otherwise become a label, and then be ambiguous for the planner.
        let is_result = |column: &String| self.aliases.contains(column) && !self.reused.contains(column);
        let own = |column: &&String| !is_result(column) && !other.contains(*column);
        let mut columns: BTreeSet<String> = self.unqualified.iter().filter(own).cloned().collect();
        columns.extend(self.joined.iter().cloned());
        let called = self.relations.get(name).into_iter().flatten();
        // Also under its own name: `FROM up, up AS b` has one relation under two names.
        for alias in called.chain([&name.to_owned()]) {
            columns.extend(self.qualified.get(alias).into_iter().flatten().cloned());
        }
        columns
    }

    /// The names of all relations, as they are looked up: their last part.
    pub(crate) fn relations(&self) -> impl Iterator<Item = &String> {
        self.relations.keys()
    }
}

/// The name as it is looked up: in lower case unless it is quoted.
pub(crate) fn folded(ident: &Ident) -> String {
    // PostgreSQL's rule; metrics with capital letters need quotes.
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_ascii_lowercase() }
}

/// Whether `expr` uses the column `name` without a relation before it.
fn has_column(expr: &Expr, name: &str) -> bool {
    let is_same = |inner: &Expr| matches!(inner, Expr::Identifier(ident) if folded(ident) == name);
    visit_expressions(
        expr,
        |inner| {
            if is_same(inner) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        },
    )
    .is_break()
}

/// The name by which a `SELECT` calls the one relation that it reads.
fn only_relation(select: &Select) -> Option<String> {
    let [from] = select.from.as_slice() else { return None };
    let TableFactor::Table { name, alias, .. } = &from.relation else { return None };
    if !from.joins.is_empty() {
        return None;
    }
    alias.as_ref().map(|alias| folded(&alias.name)).or_else(|| last(name).map(folded))
}

/// The columns without a relation before them that a `SELECT` uses itself; none if it has a
/// subquery.
fn own_columns(select: &Select) -> BTreeSet<String> {
    let mut columns = BTreeSet::new();
    let walked = visit_expressions(select, |expr| {
        match expr {
            Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => {
                return ControlFlow::Break(());
            }
            Expr::Identifier(ident) => drop(columns.insert(folded(ident))),
            _ => {}
        }
        ControlFlow::Continue(())
    });
    if walked.is_break() {
        return BTreeSet::new();
    }
    for item in &select.projection {
        // `GROUP BY` and `HAVING` may name results.
        if let SelectItem::ExprWithAlias { alias, expr } = item
            && !has_column(expr, &folded(alias))
        {
            columns.remove(&folded(alias));
        }
    }
    columns
}

fn last(name: &ObjectName) -> Option<&Ident> {
    name.0.last().and_then(|part| part.as_ident())
}

impl Visitor for StatementNames {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        for named in query.with.iter().flat_map(|with| &with.cte_tables) {
            // `WITH x (a, b) AS …` names columns of results, too.
            self.aliases.extend(named.alias.columns.iter().map(|column| folded(&column.name)));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        for item in &select.projection {
            if let SelectItem::ExprWithAlias { alias, expr } = item {
                let alias = folded(alias);
                if has_column(expr, &alias) {
                    self.reused.insert(alias.clone());
                }
                self.aliases.insert(alias);
            }
        }
        for join in select.from.iter().flat_map(|from| &from.joins) {
            let constraint = match &join.join_operator {
                JoinOperator::Join(c)
                | JoinOperator::Inner(c)
                | JoinOperator::Left(c)
                | JoinOperator::LeftOuter(c)
                | JoinOperator::Right(c)
                | JoinOperator::RightOuter(c)
                | JoinOperator::FullOuter(c) => c,
                _ => continue,
            };
            // The names in USING are no expressions, so `pre_visit_expr` never sees them.
            if let JoinConstraint::Using(columns) = constraint {
                self.joined.extend(columns.iter().filter_map(last).map(folded));
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, alias, .. } | TableFactor::Function { name, alias, .. } = factor
            && let Some(name) = last(name)
        {
            let name = folded(name);
            let called = alias.as_ref().map_or_else(|| name.clone(), |alias| folded(&alias.name));
            self.relations.entry(name).or_default().insert(called);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(ident) => {
                self.unqualified.insert(folded(ident));
            }
            Expr::CompoundIdentifier(parts) => {
                if let [.., relation, column] = parts.as_slice() {
                    self.qualified.entry(folded(relation)).or_default().insert(folded(column));
                }
            }
            Expr::Function(function) => {
                if let Some(name) = last(&function.name) {
                    self.functions.push(CalledFunction { name: folded(name), place: name.span.start });
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// The names that are nearest to `name`, at most [`super::limits::SUGGESTIONS`].
pub(crate) fn nearest<'a>(name: &str, all: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let wanted = name.to_ascii_lowercase();
    // A third of the letters: with more, short names would be near to everything.
    let most = (wanted.len() / 3).max(1);
    let mut found: Vec<(usize, &str)> = all
        .filter_map(|other| {
            let lower = other.to_ascii_lowercase();
            let is_part =
                wanted.len() > 2 && (lower.contains(&wanted) || wanted.contains(&lower)) && lower.len() > 2;
            // A part of a name is the commonest mistake (`requests_total` for
            // `http_requests_total`), and far away by Levenshtein.
            let distance = if is_part { 1 } else { edit_distance(&wanted, &lower) };
            (distance <= most || is_part).then_some((distance, other))
        })
        .collect();
    found.sort_unstable();
    found.into_iter().take(super::limits::SUGGESTIONS).map(|(_, name)| name).collect()
}

/// `did you mean "a" or "b"?`, if there is something near.
pub(crate) fn did_you_mean(near: &[&str]) -> Option<String> {
    if near.is_empty() {
        return None;
    }
    let quoted: Vec<String> = near.iter().map(|name| format!("\"{name}\"")).collect();
    Some(format!("did you mean {}?", quoted.join(" or ")))
}

#[cfg(test)]
mod tests {
    use super::StatementNames;
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::parser::Parser;
    use std::collections::BTreeSet;

    /// The columns of the metric `up` in `text`, beside a table with the columns `job` and `team`.
    fn columns_of_up(text: &str) -> Vec<String> {
        let statements = Parser::parse_sql(&PostgreSqlDialect {}, text).unwrap();
        let other: BTreeSet<String> = ["job", "team"].map(str::to_owned).into();
        StatementNames::from_statement(&statements[0]).columns_of("up", &other).into_iter().collect()
    }

    #[test]
    fn names_in_using_are_columns_of_both_sides() {
        assert_eq!(
            columns_of_up("SELECT u.instance, team FROM up u JOIN owners USING (job)"),
            ["instance", "job"]
        );
        assert_eq!(columns_of_up("SELECT team FROM up u JOIN owners o ON u.job = o.job"), ["job"]);
        assert!(columns_of_up("SELECT job, team FROM up CROSS JOIN owners").is_empty());
    }

    #[test]
    fn a_select_of_one_relation_has_its_own_names() {
        assert_eq!(columns_of_up("SELECT job FROM up UNION ALL SELECT job FROM owners"), ["job"]);
        assert_eq!(
            columns_of_up("WITH x AS (SELECT job AS j FROM up u) SELECT * FROM x JOIN owners ON j = job"),
            ["job"]
        );
        // `team` is a column of the query around it.
        let around = "SELECT job FROM owners WHERE EXISTS (SELECT 1 FROM up WHERE instance = team)";
        assert_eq!(columns_of_up(around), ["instance"]);
    }

    #[test]
    fn a_result_may_have_the_name_of_its_column() {
        assert_eq!(columns_of_up("SELECT lower(zone) AS zone FROM up"), ["zone"]);
        assert_eq!(
            columns_of_up("SELECT zone AS z, count(*) AS n FROM up GROUP BY zone ORDER BY n"),
            ["zone"]
        );
        assert_eq!(columns_of_up("SELECT max(value) AS n FROM up HAVING n > 1"), ["value"]);
    }
}
