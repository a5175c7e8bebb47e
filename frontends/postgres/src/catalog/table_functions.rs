//! Functions in the `FROM` clause of catalog queries: `generate_series`, `unnest`, and functions
//! with one value, which give one row.

use super::expr::argument;
use super::infer::Names;
use super::names::{folded, last, rename};
use super::value::Value;
use super::{Column, Evaluator, Relation, Scope, types};
use crate::limits;
use postgres_types::Type;
use sql::{SqlError, SqlErrorKind};
use sqlparser::ast::{Expr, TableAlias, TableFactor};

/// The words that PostgreSQL 15 reserves.
const RESERVED_WORDS: &str = "all analyse analyze and any array as asc asymmetric both case cast check \
    collate column constraint create current_catalog current_date current_role current_time \
    current_timestamp current_user default deferrable desc distinct do else end except false fetch for \
    foreign from grant group having in initially intersect into lateral leading limit localtime \
    localtimestamp not null offset on only or order placing primary references returning select \
    session_user some symmetric table then to trailing true union unique user using variadic when where \
    window with";

/// A function in `FROM`.
struct FunctionCall<'e> {
    name: String,
    args: Vec<&'e Expr>,
    alias: Option<&'e TableAlias>,
    with_ordinality: bool,
}

/// The function in `FROM`, in any of the forms that the parser has for it.
fn function_call(factor: &TableFactor) -> Result<FunctionCall<'_>, SqlError> {
    match factor {
        TableFactor::Table { name, args: Some(args), alias, with_ordinality, .. } => Ok(FunctionCall {
            name: last(name),
            args: args.args.iter().map(argument).collect::<Result<_, _>>()?,
            alias: alias.as_ref(),
            with_ordinality: *with_ordinality,
        }),
        TableFactor::Function { name, args, alias, with_ordinality, .. } => Ok(FunctionCall {
            name: last(name),
            args: args.iter().map(argument).collect::<Result<_, _>>()?,
            alias: alias.as_ref(),
            with_ordinality: *with_ordinality,
        }),
        TableFactor::UNNEST { alias, array_exprs, with_ordinality, .. } => Ok(FunctionCall {
            name: "unnest".to_owned(),
            args: array_exprs.iter().collect(),
            alias: alias.as_ref(),
            with_ordinality: *with_ordinality,
        }),
        other => Err(SqlError::bad(format!("{other} is not available for the catalogs"))),
    }
}

impl Evaluator<'_> {
    /// The rows of a function in `FROM`.
    pub(crate) fn table_function(
        &self,
        factor: &TableFactor,
        outer: Option<&Scope<'_>>,
    ) -> Result<Relation, SqlError> {
        let call = function_call(factor)?;
        let nothing = Scope::without_row(outer);
        let values: Vec<Value> =
            call.args.iter().map(|arg| self.value(arg, &nothing)).collect::<Result<_, _>>()?;
        let names = outer.map(Names::new);
        let columns = self.table_function_columns(factor, names.as_ref())?;
        let rows = self.function_rows(&call.name, &values)?;
        let numbered = |(at, mut row): (usize, Vec<Value>)| {
            if call.with_ordinality {
                row.push(Value::Int(at as i64 + 1));
            }
            row
        };
        Ok(Relation { columns, rows: rows.into_iter().enumerate().map(numbered).collect() })
    }

    /// The rows of a function with these arguments.
    pub(super) fn function_rows(&self, name: &str, args: &[Value]) -> Result<Vec<Vec<Value>>, SqlError> {
        let whole = |at: usize| args.get(at).and_then(Value::to_int);
        match name {
            "generate_series" => {
                let (Some(from), Some(to)) = (whole(0), whole(1)) else { return Ok(Vec::new()) };
                let step = whole(2).unwrap_or(1);
                if step == 0 {
                    return Err(SqlError::bad("step size cannot equal zero"));
                }
                let count = (i128::from(to) - i128::from(from)) / i128::from(step);
                if count > limits::CATALOG_ROWS as i128 {
                    let error = format!("more than {} rows", limits::CATALOG_ROWS);
                    return Err(SqlError::new(SqlErrorKind::LimitReached, error));
                }
                let count = i64::try_from(count).unwrap_or(-1);
                let is_empty = (step > 0 && from > to) || (step < 0 && from < to);
                let last = if is_empty { -1 } else { count };
                Ok((0..=last).map(|n| vec![Value::Int(from + n * step)]).collect())
            }
            "generate_subscripts" => {
                let count = args.first().and_then(Value::to_list).map_or(0, |list| list.len());
                Ok((1..=count as i64).map(|n| vec![Value::Int(n)]).collect())
            }
            "unnest" => {
                let list = args.first().and_then(Value::to_list);
                Ok(list.iter().flat_map(|list| list.iter()).map(|value| vec![value.clone()]).collect())
            }
            "_pg_expandarray" => {
                let list = args.first().and_then(Value::to_list);
                let row = |(at, value): (usize, &Value)| vec![value.clone(), Value::Int(at as i64 + 1)];
                Ok(list.iter().flat_map(|list| list.iter()).enumerate().map(row).collect())
            }
            "regexp_split_to_table" => {
                let (Some(text), Some(pattern)) = (args.first(), args.get(1)) else { return Ok(Vec::new()) };
                let pattern = self.pattern(&pattern.to_text(), false)?;
                let text = text.to_text();
                Ok(pattern.split(&text).map(|part| vec![Value::text(part)]).collect())
            }
            "pg_get_keywords" => {
                let row = |word: &str| vec![Value::text(word), Value::text("R"), Value::text("reserved")];
                Ok(RESERVED_WORDS.split_whitespace().map(row).collect())
            }
            _ => Ok(vec![vec![self.call(name, args)?]]),
        }
    }

    /// The columns of a function in `FROM`.
    pub(crate) fn table_function_columns(
        &self,
        factor: &TableFactor,
        outer: Option<&Names<'_>>,
    ) -> Result<Vec<Column>, SqlError> {
        let call = function_call(factor)?;
        let names = Names { columns: &[], outer };
        let kinds: Vec<Type> =
            call.args.iter().map(|arg| self.kind(arg, &names)).collect::<Result<_, _>>()?;
        let of_first = || kinds.first().map_or(Type::TEXT, types::element_of);
        let mut listed = match call.name.as_str() {
            "generate_series" | "generate_subscripts" => vec![("", Type::INT4)],
            "unnest" => vec![("", of_first())],
            "_pg_expandarray" => vec![("x", of_first()), ("n", Type::INT4)],
            "pg_get_keywords" => {
                vec![("word", Type::TEXT), ("catcode", Type::CHAR), ("catdesc", Type::TEXT)]
            }
            name => vec![("", super::infer::function_kind(name, &kinds))],
        };
        if call.with_ordinality {
            listed.push(("ordinality", Type::INT8));
        }
        // The one column of a function is call as the function is.
        let own = call.alias.map_or_else(|| call.name.clone(), |alias| folded(&alias.name));
        let column = |(name, kind): (&str, Type)| Column {
            relation: own.as_str().into(),
            name: if name.is_empty() { own.as_str().into() } else { name.into() },
            kind,
        };
        let mut columns: Vec<Column> = listed.into_iter().map(column).collect();
        rename(&mut columns, &call.name, call.alias);
        Ok(columns)
    }
}
