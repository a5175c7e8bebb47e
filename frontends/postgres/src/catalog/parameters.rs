//! Infers the types of the parameters (`$1`, `$2`, …) of a catalog query from the expressions
//! around them: `oid = $1`, `relname = ANY ($1)`, `$1::regclass`, `LIMIT $1`. Drivers encode the
//! values by these types.

use super::expr::{argument, type_of};
use super::infer::Names;
use super::names::{folded, last, rename};
use super::{Column, Evaluator, Relation, types};
use postgres_types::Type;
use sqlparser::ast::{
    Expr, Function, FunctionArguments, LimitClause, Query, TableFactor, Value as Literal, Visit, Visitor,
};
use std::ops::ControlFlow;
use std::rc::Rc;

impl Evaluator<'_> {
    /// The types of `$1`, `$2`, …; `None`: nothing says it.
    pub(crate) fn parameters(&self, query: &Query) -> Vec<Option<Type>> {
        let before = self.named.borrow().len();
        let mut columns = TableColumns { evaluator: self, columns: Vec::new() };
        let _ = query.visit(&mut columns);
        let mut uses = ParameterUses { evaluator: self, columns: columns.columns, types: Vec::new() };
        let _ = query.visit(&mut uses);
        self.named.borrow_mut().truncate(before);
        uses.types
    }
}

/// Collects the columns of all tables of a query and of the queries inside of it. That a name of
/// one query is found in another makes no difference: columns of one name have one type in the
/// catalogs.
struct TableColumns<'e, 'a> {
    evaluator: &'e Evaluator<'a>,
    columns: Vec<Column>,
}

impl Visitor for TableColumns<'_, '_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        for named in query.with.iter().flat_map(|with| &with.cte_tables) {
            // What is wrong with a query is said when it runs.
            if let Ok(mut columns) = self.evaluator.query_columns(&named.query, None) {
                let name = folded(&named.alias.name);
                rename(&mut columns, &name, Some(&named.alias));
                let relation = Rc::new(Relation { columns, rows: Vec::new() });
                self.evaluator.named.borrow_mut().push((name, relation));
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        if let Ok(columns) = self.evaluator.factor_columns(factor, None) {
            self.columns.extend(columns);
        }
        ControlFlow::Continue(())
    }
}

/// Finds the expressions around parameters. The first use of a parameter decides its type.
struct ParameterUses<'e, 'a> {
    evaluator: &'e Evaluator<'a>,
    columns: Vec<Column>,
    types: Vec<Option<Type>>,
}

impl Visitor for ParameterUses<'_, '_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if let Some(LimitClause::LimitOffset { limit, offset, .. }) = &query.limit_clause {
            for number in limit.iter().chain(offset.iter().map(|offset| &offset.value)) {
                self.add(number, Some(Type::INT8));
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Cast { expr, data_type, .. } => self.add(expr, Some(type_of(data_type))),
            Expr::BinaryOp { left, right, .. } => {
                let of_left = self.kind(left);
                let of_right = self.kind(right);
                self.add(left, of_right);
                self.add(right, of_left);
            }
            Expr::AnyOp { left, right, .. } | Expr::AllOp { left, right, .. } => {
                let list = self.kind(left).map(|kind| types::list_of(&kind));
                self.add(right, list);
                let element = self.kind(right).map(|kind| types::element_of(&kind));
                self.add(left, element);
            }
            Expr::InList { expr, list, .. } => {
                let kind = self.kind(expr);
                for item in list {
                    self.add(item, kind.clone());
                }
            }
            Expr::Between { expr, low, high, .. } => {
                let kind = self.kind(expr);
                self.add(low, kind.clone());
                self.add(high, kind);
            }
            Expr::Like { pattern, .. } | Expr::ILike { pattern, .. } => self.add(pattern, Some(Type::TEXT)),
            Expr::Function(function) => self.arguments(function),
            // One that nothing says a type of has its place, too.
            other => self.add(other, None),
        }
        ControlFlow::Continue(())
    }
}

impl ParameterUses<'_, '_> {
    /// The type of an operand; `None`: it is a parameter, or a literal without a type.
    fn kind(&self, expr: &Expr) -> Option<Type> {
        let names = Names { columns: &self.columns, outer: None };
        self.evaluator.kind(expr, &names).ok().filter(|kind| *kind != Type::UNKNOWN)
    }

    fn arguments(&mut self, function: &Function) {
        let FunctionArguments::List(list) = &function.args else { return };
        let name = last(&function.name);
        for (at, arg) in list.args.iter().enumerate() {
            if let Ok(expr) = argument(arg) {
                self.add(expr, argument_kind(&name, at));
            }
        }
    }

    /// Notes the type of `expr` if it is a parameter whose type is not known yet.
    fn add(&mut self, expr: &Expr, kind: Option<Type>) {
        match expr {
            Expr::Nested(inner) => self.add(inner, kind),
            Expr::Value(value) => {
                let Literal::Placeholder(name) = &value.value else { return };
                let number = name.strip_prefix('$').and_then(|number| number.parse::<usize>().ok());
                let Some(at) = number.and_then(|number| number.checked_sub(1)) else { return };
                if at >= sql::limits::PARAMETERS {
                    return;
                }
                if self.types.len() <= at {
                    self.types.resize(at + 1, None);
                }
                if self.types[at].is_none() {
                    self.types[at] = kind;
                }
            }
            _ => {}
        }
    }
}

/// The type of an argument of a function of the catalogs; `None`: a text.
fn argument_kind(name: &str, at: usize) -> Option<Type> {
    let takes_oid = name.starts_with("pg_get_")
        || name.ends_with("_is_visible")
        || name.ends_with("_description")
        || name == "format_type";
    match (name, at) {
        ("pg_get_serial_sequence", _) => None,
        ("pg_get_expr", 1) => Some(Type::OID),
        ("pg_get_expr", _) => None,
        (_, 0) if takes_oid => Some(Type::OID),
        ("format_type" | "col_description" | "pg_get_indexdef", 1) => Some(Type::INT4),
        ("pg_encoding_to_char", 0) => Some(Type::INT4),
        ("pg_relation_size" | "pg_total_relation_size" | "pg_table_size" | "pg_indexes_size", 0) => {
            Some(Type::REGCLASS)
        }
        _ => None,
    }
}
