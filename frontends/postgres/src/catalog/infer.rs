//! Infers the columns of a catalog query, with names and types, from the syntax tree alone. Clients
//! ask for the columns of a prepared statement before they run it. [`super::select`] uses the same
//! for its output.

use super::expr::type_of;
use super::names::{folded, last, parts, place_of, rename};
use super::scan::{alias_of, catalog_table, no_relation, table_columns};
use super::select::Output;
use super::{Column, Evaluator, Relation, Scope, functions, types};
use postgres_types::Type;
use sql::SqlError;
use sqlparser::ast::{
    BinaryOperator, Expr, FunctionArguments, Query, SetExpr, Subscript, TableFactor, TableWithJoins,
    Value as Literal,
};
use std::rc::Rc;

/// The columns that an expression may name, and those of the query around it.
pub(crate) struct Names<'s> {
    pub(crate) columns: &'s [Column],
    pub(crate) outer: Option<&'s Names<'s>>,
}

impl<'s> Names<'s> {
    /// The names of a scope; those around it only for one level, which is as deep as clients go.
    pub(crate) fn new(scope: &'s Scope<'s>) -> Names<'s> {
        Names { columns: scope.columns, outer: None }
    }

    /// The type of a column.
    fn kind(&self, name: &[String]) -> Option<Type> {
        let own = place_of(self.columns, name).map(|at| self.columns[at].kind.clone());
        own.or_else(|| self.outer?.kind(name))
    }
}

impl Evaluator<'_> {
    /// The columns of a query.
    pub(crate) fn query_columns(
        &self,
        query: &Query,
        outer: Option<&Names<'_>>,
    ) -> Result<Vec<Column>, SqlError> {
        let before = self.named.borrow().len();
        let columns = self.columns_with_names(query, outer);
        // Also after an error: the names of `WITH` end with their query.
        self.named.borrow_mut().truncate(before);
        columns
    }

    /// The columns of a query, whose names of `WITH` stay known.
    fn columns_with_names(&self, query: &Query, outer: Option<&Names<'_>>) -> Result<Vec<Column>, SqlError> {
        for named in query.with.iter().flat_map(|with| &with.cte_tables) {
            let mut columns = self.query_columns(&named.query, outer)?;
            let name = folded(&named.alias.name);
            rename(&mut columns, &name, Some(&named.alias));
            self.named.borrow_mut().push((name, Rc::new(Relation { columns, rows: Vec::new() })));
        }
        self.body_columns(&query.body, outer)
    }

    /// The columns of a query without its `WITH`.
    pub(crate) fn body_columns(
        &self,
        body: &SetExpr,
        outer: Option<&Names<'_>>,
    ) -> Result<Vec<Column>, SqlError> {
        match body {
            SetExpr::Select(select) => {
                let columns = self.columns_of_from(&select.from, outer)?;
                let outputs = self.outputs(select, &columns)?;
                self.output_columns(&outputs, &Names { columns: &columns, outer })
            }
            SetExpr::Query(query) => self.query_columns(query, outer),
            // PostgreSQL looks for a common type; the parts of the unions that clients write have
            // the same.
            SetExpr::SetOperation { left, .. } => self.body_columns(left, outer),
            SetExpr::Values(values) => {
                let names = Names { columns: &[], outer };
                let first = values.rows.first().map_or(&[][..], |row| row.as_slice());
                let column = |(at, expr): (usize, &Expr)| -> Result<Column, SqlError> {
                    let name = format!("column{}", at + 1);
                    Ok(Column { relation: "".into(), name: name.into(), kind: self.kind(expr, &names)? })
                };
                first.iter().enumerate().map(column).collect()
            }
            other => Err(SqlError::bad(format!("{other} is not available for the catalogs"))),
        }
    }

    /// The columns of an answer.
    pub(crate) fn output_columns(
        &self,
        outputs: &[Output<'_>],
        names: &Names<'_>,
    ) -> Result<Vec<Column>, SqlError> {
        let column = |output: &Output<'_>| match output {
            Output::Place(at) => Ok(names.columns[*at].clone()),
            Output::Expr { name, expr } => Ok(Column {
                // A column that keeps its name is found under its relation, too.
                relation: "".into(),
                name: name.as_str().into(),
                kind: match self.kind(expr, names)? {
                    // A column of an answer must have a type, and PostgreSQL makes texts of unknown
                    // literals.
                    Type::UNKNOWN => Type::TEXT,
                    kind => kind,
                },
            }),
        };
        outputs.iter().map(column).collect()
    }

    /// The columns of `FROM`.
    fn columns_of_from(
        &self,
        from: &[TableWithJoins],
        outer: Option<&Names<'_>>,
    ) -> Result<Vec<Column>, SqlError> {
        let mut columns: Vec<Column> = Vec::new();
        for item in from {
            for factor in [&item.relation].into_iter().chain(item.joins.iter().map(|join| &join.relation)) {
                // A function or LATERAL query may name columns of what stands before it in FROM.
                let around = Names { columns: &columns, outer };
                let added = self.factor_columns(factor, Some(&around))?;
                columns.extend(added);
            }
        }
        Ok(columns)
    }

    /// The columns of a table, a query or a function of FROM.
    pub(crate) fn factor_columns(
        &self,
        factor: &TableFactor,
        outer: Option<&Names<'_>>,
    ) -> Result<Vec<Column>, SqlError> {
        match factor {
            TableFactor::Table { name, args: None, alias, .. } => {
                let name = parts(name);
                let known = |entry: &&(String, Rc<Relation>)| name.len() == 1 && entry.0 == name[0];
                // The newest first: an inner WITH hides an outer one.
                if let Some((known, relation)) = self.named.borrow().iter().rev().find(known) {
                    let mut columns = relation.columns.clone();
                    rename(&mut columns, known, alias.as_ref());
                    return Ok(columns);
                }
                let (_, table) = catalog_table(factor).ok_or_else(|| no_relation(&name))?;
                Ok(table_columns(table, alias_of(factor)))
            }
            TableFactor::Derived { subquery, alias, .. } => {
                let mut columns = self.query_columns(subquery, outer)?;
                rename(&mut columns, "", alias.as_ref());
                Ok(columns)
            }
            TableFactor::NestedJoin { table_with_joins, alias } => {
                let mut columns =
                    self.columns_of_from(std::slice::from_ref(table_with_joins.as_ref()), outer)?;
                // Without an alias the tables inside of the brackets keep their names.
                if alias.is_some() {
                    rename(&mut columns, "", alias.as_ref());
                }
                Ok(columns)
            }
            other => self.table_function_columns(other, outer),
        }
    }

    /// The type of an expression in a scope.
    pub(crate) fn kind_in(&self, expr: &Expr, scope: &Scope<'_>) -> Result<Type, SqlError> {
        // Only columns and casts have types that matter here: those of object identifiers.
        match expr {
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Cast { .. } | Expr::Nested(_) => {
                self.kind(expr, &Names::new(scope))
            }
            _ => Ok(Type::UNKNOWN),
        }
    }

    /// The type of an expression.
    pub(crate) fn kind(&self, expr: &Expr, names: &Names<'_>) -> Result<Type, SqlError> {
        Ok(match expr {
            Expr::Identifier(name) => names.kind(&[folded(name)]).unwrap_or(Type::UNKNOWN),
            Expr::CompoundIdentifier(list) => {
                let list: Vec<String> = list.iter().map(folded).collect();
                names.kind(&list).unwrap_or(Type::UNKNOWN)
            }
            Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => self.kind(inner, names)?,
            Expr::UnaryOp { op: sqlparser::ast::UnaryOperator::Not, .. } => Type::BOOL,
            Expr::UnaryOp { expr, .. } => self.kind(expr, names)?,
            Expr::Value(value) => match &value.value {
                Literal::Number(digits, _) if digits.parse::<i32>().is_ok() => Type::INT4,
                Literal::Number(digits, _) if digits.parse::<i64>().is_ok() => Type::INT8,
                Literal::Number(..) => Type::FLOAT8,
                Literal::Boolean(_) => Type::BOOL,
                _ => Type::UNKNOWN,
            },
            Expr::TypedString(typed) => type_of(&typed.data_type),
            Expr::Cast { data_type, .. } => type_of(data_type),
            Expr::BinaryOp { left, op, right } => self.operator_kind(left, op, right, names)?,
            Expr::Case { conditions, else_result, .. } => {
                let results = conditions.iter().map(|branch| &branch.result);
                self.first_known(results.chain(else_result.iter().map(AsRef::as_ref)), names)?
            }
            Expr::Function(function) => {
                let name = last(&function.name);
                match &function.args {
                    FunctionArguments::Subquery(query) => types::list_of(&self.subquery_kind(query, names)?),
                    FunctionArguments::None => function_kind(&name, &[]),
                    FunctionArguments::List(list) => {
                        let arg = |arg| super::expr::argument(arg).ok().map(|expr| self.kind(expr, names));
                        let kinds: Vec<Type> = list.args.iter().filter_map(arg).collect::<Result<_, _>>()?;
                        function_kind(&name, &kinds)
                    }
                }
            }
            Expr::Array(array) => types::list_of(&self.first_known(array.elem.iter(), names)?),
            Expr::Subquery(query) => self.subquery_kind(query, names)?,
            Expr::CompoundFieldAccess { root, access_chain } => {
                let (root, access_chain) = super::expr::qualified(root, access_chain);
                let kind = self.kind(&root, names)?;
                let is_slice = access_chain.iter().any(|access| {
                    matches!(access, sqlparser::ast::AccessExpr::Subscript(Subscript::Slice { .. }))
                });
                match access_chain.last() {
                    Some(sqlparser::ast::AccessExpr::Dot(Expr::Identifier(field))) => {
                        match folded(field).as_str() {
                            "n" => Type::INT4,
                            _ => types::element_of(&kind),
                        }
                    }
                    _ if is_slice => kind,
                    _ => types::element_of(&kind),
                }
            }
            Expr::Trim { .. } | Expr::Substring { .. } => Type::TEXT,
            // What follows tests something: IS NULL, IN, LIKE, EXISTS, BETWEEN.
            Expr::Position { .. } => Type::INT4,
            _ => Type::BOOL,
        })
    }

    /// The type of the one column of a query inside of an expression.
    fn subquery_kind(&self, query: &Query, names: &Names<'_>) -> Result<Type, SqlError> {
        let columns = self.query_columns(query, Some(names))?;
        Ok(columns.first().map_or(Type::UNKNOWN, |column| column.kind.clone()))
    }

    /// The first type that is known; text if none is.
    fn first_known<'e>(
        &self,
        exprs: impl Iterator<Item = &'e Expr>,
        names: &Names<'_>,
    ) -> Result<Type, SqlError> {
        for expr in exprs {
            let kind = self.kind(expr, names)?;
            if kind != Type::UNKNOWN {
                return Ok(kind);
            }
        }
        Ok(Type::TEXT)
    }

    /// The type of the value of an operator.
    fn operator_kind(
        &self,
        left: &Expr,
        op: &BinaryOperator,
        right: &Expr,
        names: &Names<'_>,
    ) -> Result<Type, SqlError> {
        Ok(match op {
            BinaryOperator::StringConcat => {
                let kind = self.kind(left, names)?;
                if super::expr::is_list(&kind) { kind } else { Type::TEXT }
            }
            BinaryOperator::Plus
            | BinaryOperator::Minus
            | BinaryOperator::Multiply
            | BinaryOperator::Divide
            | BinaryOperator::Modulo
            | BinaryOperator::BitwiseAnd
            | BinaryOperator::BitwiseOr
            | BinaryOperator::PGBitwiseShiftLeft
            | BinaryOperator::PGBitwiseShiftRight => {
                wider(&self.kind(left, names)?, &self.kind(right, names)?)
            }
            _ => Type::BOOL,
        })
    }
}

/// The type of a sum of these.
fn wider(a: &Type, b: &Type) -> Type {
    let rank = |kind: &Type| match *kind {
        Type::FLOAT8 | Type::FLOAT4 | Type::NUMERIC => 3,
        Type::INT8 | Type::OID => 2,
        _ => 1,
    };
    match rank(a).max(rank(b)) {
        3 => Type::FLOAT8,
        2 => Type::INT8,
        _ => Type::INT4,
    }
}

/// The type of the value of a function.
pub(crate) fn function_kind(name: &str, args: &[Type]) -> Type {
    let first = || {
        let known = args.iter().find(|kind| **kind != Type::UNKNOWN);
        known.cloned().unwrap_or(Type::TEXT)
    };
    match name {
        "count"
        | "row_number"
        | "pg_relation_size"
        | "pg_total_relation_size"
        | "pg_table_size"
        | "pg_indexes_size"
        | "pg_database_size"
        | "txid_current" => Type::INT8,
        // Sums of integers are wider than their parts, as in PostgreSQL.
        "sum" => wider(&first(), &Type::INT8),
        "min" | "max" | "coalesce" | "nullif" | "greatest" | "least" => first(),
        "array_agg" => types::list_of(&first()),
        // Of its two parts only the element has the type of the list.
        "_pg_expandarray" => first(),
        "unnest" => types::element_of(&first()),
        "generate_series" | "generate_subscripts" => Type::INT4,
        "format" => Type::TEXT,
        "array_append" | "array_remove" | "array_cat" => first(),
        "array_length"
        | "array_lower"
        | "array_upper"
        | "cardinality"
        | "array_position"
        | "length"
        | "char_length"
        | "strpos"
        | "position"
        | "pg_backend_pid"
        | "pg_char_to_encoding"
        | "array_ndims" => Type::INT4,
        "string_to_array" | "parse_ident" | "regexp_match" | "regexp_split_to_array" => Type::TEXT_ARRAY,
        "current_schemas" => Type::NAME_ARRAY,
        "current_schema"
        | "current_database"
        | "current_catalog"
        | "current_user"
        | "session_user"
        | "user"
        | "current_role"
        | "pg_get_userbyid"
        | "pg_encoding_to_char" => Type::NAME,
        "to_regclass" => Type::REGCLASS,
        "to_regtype" => Type::REGTYPE,
        "to_regnamespace" => Type::REGNAMESPACE,
        "bool_and" | "bool_or" | "every" => Type::BOOL,
        name if functions::is_test(name) => Type::BOOL,
        _ => Type::TEXT,
    }
}
