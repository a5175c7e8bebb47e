//! Names in catalog queries: how identifiers are folded, to which relation a column belongs, and
//! whether a query is one for the catalogs at all ([`asks_catalogs`]).

use super::{Column, Relation, functions, tables};
use sqlparser::ast::{Expr, Ident, ObjectName, Query, TableAlias, TableFactor, Visit, Visitor};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::rc::Rc;

/// A name as it is looked up: in lower case, unless it has quotes.
pub(crate) fn folded(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_ascii_lowercase() }
}

/// The parts of a name, as they are looked up.
pub(crate) fn parts(name: &ObjectName) -> Vec<String> {
    name.0.iter().filter_map(|part| part.as_ident()).map(folded).collect()
}

/// The last part of a name.
pub(crate) fn last(name: &ObjectName) -> String {
    parts(name).pop().unwrap_or_default()
}

/// Whether a query is for the catalogs: it reads one of their tables, or reads no table and calls a
/// function that only they have.
pub(crate) fn asks_catalogs(query: &Query) -> bool {
    let mut reads = QueryReads::default();
    let _ = query.visit(&mut reads);
    // A query that also reads a relation of the server goes to its engine, even if it calls
    // `version()`: only that has the rows. One that reads a table of the catalogs stays here in any
    // case, because only this evaluator has those.
    reads.tables || (reads.functions && !reads.others)
}

/// What a query reads and calls, as far as it decides who answers it.
#[derive(Default)]
struct QueryReads {
    /// Tables of the catalogs.
    tables: bool,
    /// Functions of the catalogs.
    functions: bool,
    /// Other relations.
    others: bool,
    /// Names of `WITH`.
    named: BTreeSet<String>,
}

impl Visitor for QueryReads {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let named = query.with.iter().flat_map(|with| &with.cte_tables);
        self.named.extend(named.map(|named| folded(&named.alias.name)));
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table { name, args: None, .. } => {
                let name = parts(name);
                match name.as_slice() {
                    [.., schema, name] if tables::table(Some(schema), name).is_some() => self.tables = true,
                    [.., schema, _]
                        if schema == tables::PG_CATALOG || schema == tables::INFORMATION_SCHEMA =>
                    {
                        self.tables = true;
                    }
                    // A name of WITH hides the table of the same name, as in PostgreSQL.
                    [name] if self.named.contains(name) => {}
                    [name] if tables::table(None, name).is_some() => self.tables = true,
                    _ => self.others = true,
                }
            }
            TableFactor::Table { name, .. } | TableFactor::Function { name, .. } => {
                if functions::is_known(&last(name)) {
                    self.functions = true;
                } else {
                    self.others = true;
                }
            }
            TableFactor::UNNEST { .. } => self.functions = true,
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Function(function) => {
                let name = parts(&function.name);
                let is_qualified = name.len() > 1 && name[0] == tables::PG_CATALOG;
                let called = name.last().map_or("", String::as_str);
                // `pg_catalog.lower(…)` is written only by clients that ask catalogs; `lower(…)`
                // alone says nothing.
                self.functions |= is_qualified || functions::is_of_catalogs(called);
            }
            Expr::Cast { data_type, .. } => {
                let name = data_type.to_string().to_ascii_lowercase();
                // `'pg_class'::regclass`: these types look a name up in the catalogs.
                self.functions |= name.trim_start_matches("pg_catalog.").starts_with("reg");
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Whether a query names a relation that it does not read: one of the query around it.
pub(crate) fn needs_row(query: &Query) -> bool {
    #[derive(Default)]
    struct Relations {
        read: BTreeSet<String>,
        named: BTreeSet<String>,
    }
    impl Visitor for Relations {
        type Break = ();
        fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
            let (name, alias) = match factor {
                TableFactor::Table { name, alias, .. } | TableFactor::Function { name, alias, .. } => {
                    (Some(last(name)), alias)
                }
                TableFactor::Derived { alias, .. }
                | TableFactor::UNNEST { alias, .. }
                | TableFactor::NestedJoin { alias, .. } => (None, alias),
                _ => return ControlFlow::Continue(()),
            };
            self.read.extend(name);
            self.read.extend(alias.iter().map(|alias| folded(&alias.name)));
            ControlFlow::Continue(())
        }
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            if let Expr::CompoundIdentifier(names) = expr
                && let [.., relation, _] = names.as_slice()
            {
                self.named.insert(folded(relation));
            }
            ControlFlow::Continue(())
        }
    }
    let mut relations = Relations::default();
    let _ = query.visit(&mut relations);
    // A name without a relation may also belong to the query around. Then an inner column of the
    // name wins, and if there is none, the evaluation says so.
    !relations.named.is_subset(&relations.read)
}

/// The index of a column; if several have the name, of the first.
pub(crate) fn place_of(columns: &[Column], name: &[String]) -> Option<usize> {
    match name {
        [column] => columns.iter().position(|c| *c.name == **column),
        [.., relation, column] => {
            columns.iter().position(|c| *c.name == **column && *c.relation == **relation)
        }
        [] => None,
    }
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

/// The name of a column of an answer.
pub(crate) fn output_name(expr: &Expr) -> String {
    match expr {
        Expr::Identifier(name) => folded(name),
        Expr::CompoundIdentifier(names) => names.last().map(folded).unwrap_or_default(),
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => output_name(inner),
        Expr::CompoundFieldAccess { root, .. } => output_name(root),
        Expr::Cast { expr, data_type, .. } => match output_name(expr) {
            name if name == UNNAMED => data_type.to_string().to_ascii_lowercase(),
            name => name,
        },
        Expr::Function(function) => last(&function.name),
        // PostgreSQL's rule: CASE is called like its ELSE if that is a plain column.
        Expr::Case { else_result: Some(last), .. } if matches!(**last, Expr::Identifier(_)) => {
            output_name(last)
        }
        Expr::Case { .. } => "case".to_owned(),
        Expr::Exists { .. } => "exists".to_owned(),
        Expr::Substring { .. } => "substring".to_owned(),
        Expr::Trim { .. } => "btrim".to_owned(),
        Expr::Position { .. } => "position".to_owned(),
        Expr::Array(_) => "array".to_owned(),
        _ => UNNAMED.to_owned(),
    }
}

/// The name of a column that has none.
pub(crate) const UNNAMED: &str = "?column?";
