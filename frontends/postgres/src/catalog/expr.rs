//! Evaluates scalar expressions of catalog queries for a row: operators, casts, `CASE`, `LIKE`,
//! arrays, subqueries. [`super::functions`] has the functions, [`super::value`] the arithmetic of
//! values.

use super::names::{folded, last, parts, place_of};
use super::set_functions::{field_place, returns_set};
use super::value::{Value, cast};
use super::{Evaluator, Relation, Scope, functions, names, types};
use crate::limits;
use postgres_types::{Kind, Type};
use regex::{Regex, RegexBuilder};
use sql::SqlError;
use sqlparser::ast::{
    AccessExpr, BinaryOperator, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
    Query, Subscript, TrimWhereField, UnaryOperator, Value as Literal,
};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::rc::Rc;
use std::sync::Arc;

/// The column does not exist.
pub(crate) fn no_column(name: &[String]) -> SqlError {
    SqlError::bad(format!("column \"{}\" does not exist", name.join(".")))
}

fn unknown(what: &impl std::fmt::Display) -> SqlError {
    SqlError::bad(format!("{what} is not available for the catalogs"))
}

impl Evaluator<'_> {
    /// The value of an expression for a row.
    pub(crate) fn value(&self, expr: &Expr, scope: &Scope<'_>) -> Result<Value, SqlError> {
        self.step()?;
        match expr {
            Expr::Identifier(name) => self.column(&[folded(name)], scope),
            Expr::CompoundIdentifier(names) => {
                self.column(&names.iter().map(folded).collect::<Vec<String>>(), scope)
            }
            Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => self.value(inner, scope),
            Expr::Value(value) => self.literal(&value.value),
            Expr::TypedString(typed) => {
                let text = self.literal(&typed.value.value)?;
                self.cast_to(text, &typed.data_type, None)
            }
            Expr::Cast { expr, data_type, .. } => {
                // `oid::regclass::text` is a name and `oid::text` a number: the cast needs the type
                // that the value had in the query, which the value itself does not show.
                let source = self.kind_in(expr, scope)?;
                let value = self.value(expr, scope)?;
                self.cast_to(value, data_type, Some(&source))
            }
            Expr::UnaryOp { op, expr } => unary(op, self.value(expr, scope)?),
            Expr::BinaryOp { left, op, right } => self.binary(left, op, right, scope),
            Expr::IsNull(inner) => Ok(Value::Bool(self.value(inner, scope)?.is_null())),
            Expr::IsNotNull(inner) => Ok(Value::Bool(!self.value(inner, scope)?.is_null())),
            Expr::IsTrue(inner) => Ok(Value::Bool(self.value(inner, scope)?.is_true())),
            Expr::IsNotTrue(inner) => Ok(Value::Bool(!self.value(inner, scope)?.is_true())),
            Expr::IsFalse(inner) => Ok(Value::Bool(self.value(inner, scope)? == Value::Bool(false))),
            Expr::IsNotFalse(inner) => Ok(Value::Bool(self.value(inner, scope)? != Value::Bool(false))),
            Expr::IsDistinctFrom(a, b) => {
                // By keys, because two NULLs are not distinct.
                Ok(Value::Bool(self.value(a, scope)?.key() != self.value(b, scope)?.key()))
            }
            Expr::IsNotDistinctFrom(a, b) => {
                Ok(Value::Bool(self.value(a, scope)?.key() == self.value(b, scope)?.key()))
            }
            Expr::Between { expr, negated, low, high } => {
                let value = self.value(expr, scope)?;
                let above = compared(&value, &BinaryOperator::GtEq, &self.value(low, scope)?);
                let below = compared(&value, &BinaryOperator::LtEq, &self.value(high, scope)?);
                Ok(negate(and(above, below), *negated))
            }
            Expr::Case { operand, conditions, else_result, .. } => {
                let operand = operand.as_ref().map(|operand| self.value(operand, scope)).transpose()?;
                for branch in conditions {
                    let condition = self.value(&branch.condition, scope)?;
                    let is_met = match &operand {
                        Some(operand) => compared(operand, &BinaryOperator::Eq, &condition).is_true(),
                        None => condition.is_true(),
                    };
                    if is_met {
                        return self.value(&branch.result, scope);
                    }
                }
                else_result.as_ref().map_or(Ok(Value::Null), |otherwise| self.value(otherwise, scope))
            }
            Expr::Function(function) => self.function(expr, function, scope),
            Expr::Array(array) => {
                let values = array.elem.iter().map(|element| self.value(element, scope));
                Ok(Value::List(values.collect::<Result<Vec<_>, _>>()?.into()))
            }
            Expr::Tuple(list) => {
                let values = list.iter().map(|element| self.value(element, scope));
                Ok(Value::List(values.collect::<Result<Vec<_>, _>>()?.into()))
            }
            Expr::CompoundFieldAccess { root, access_chain } => self.access(root, access_chain, scope),
            _ => self.tested(expr, scope),
        }
    }

    /// Expressions that test membership or a pattern, and those that look like functions.
    fn tested(&self, expr: &Expr, scope: &Scope<'_>) -> Result<Value, SqlError> {
        match expr {
            Expr::InList { expr, list, negated } => {
                let value = self.value(expr, scope)?;
                let list: Vec<Value> =
                    list.iter().map(|item| self.value(item, scope)).collect::<Result<_, _>>()?;
                Ok(negate(any(&value, &BinaryOperator::Eq, &list), *negated))
            }
            Expr::InSubquery { expr, subquery, negated } => {
                let value = self.value(expr, scope)?;
                let list = first_column(&*self.inner(subquery, scope)?);
                Ok(negate(any(&value, &BinaryOperator::Eq, &list), *negated))
            }
            Expr::Exists { subquery, negated } => {
                Ok(Value::Bool(self.inner(subquery, scope)?.rows.is_empty() == *negated))
            }
            Expr::Subquery(query) => {
                let relation = self.inner(query, scope)?;
                match relation.rows.as_slice() {
                    [] => Ok(Value::Null),
                    [row] => Ok(row.first().cloned().unwrap_or(Value::Null)),
                    _ => Err(SqlError::bad("more than one row returned by a subquery used as an expression")),
                }
            }
            Expr::AnyOp { left, compare_op, right, .. } => {
                let value = self.value(left, scope)?;
                Ok(self.list(right, scope)?.map_or(Value::Null, |list| any(&value, compare_op, &list)))
            }
            Expr::AllOp { left, compare_op, right } => {
                let value = self.value(left, scope)?;
                let Some(list) = self.list(right, scope)? else { return Ok(Value::Null) };
                let all = list.iter().map(|item| compared(&value, compare_op, item));
                Ok(all.fold(Value::Bool(true), and))
            }
            Expr::Like { negated, expr, pattern, .. } => self.like(expr, pattern, false, *negated, scope),
            Expr::ILike { negated, expr, pattern, .. } => self.like(expr, pattern, true, *negated, scope),
            Expr::SimilarTo { negated, expr, pattern, .. } => {
                let pattern = self.value(pattern, scope)?;
                let pattern = format!("^(?:{})$", pattern.to_text().replace('%', ".*").replace('_', "."));
                Ok(negate(self.matches(&self.value(expr, scope)?, &pattern, false)?, *negated))
            }
            Expr::Trim { expr, trim_where, trim_what, .. } => {
                let what = trim_what.as_ref().map(|what| self.value(what, scope)).transpose()?;
                let name = match trim_where {
                    Some(TrimWhereField::Leading) => "ltrim",
                    Some(TrimWhereField::Trailing) => "rtrim",
                    _ => "btrim",
                };
                let args: Vec<Value> = [Some(self.value(expr, scope)?), what].into_iter().flatten().collect();
                self.call(name, &args)
            }
            Expr::Substring { expr, substring_from, substring_for, .. } => {
                let parts = [Some(expr), substring_from.as_ref(), substring_for.as_ref()];
                let args = parts.into_iter().flatten().map(|part| self.value(part, scope));
                self.call("substring", &args.collect::<Result<Vec<_>, _>>()?)
            }
            Expr::Position { expr, r#in } => {
                let args = [self.value(r#in, scope)?, self.value(expr, scope)?];
                self.call("strpos", &args)
            }
            other => Err(unknown(other)),
        }
    }

    /// The value of a column; of the query around it, if its own has none of that name.
    fn column(&self, name: &[String], scope: &Scope<'_>) -> Result<Value, SqlError> {
        let mut scope = Some(scope);
        // From the inside to the outside: an inner column hides one of the same name.
        while let Some(at) = scope {
            if let Some(place) = place_of(at.columns, name) {
                return Ok(at.row.get(place).cloned().unwrap_or(Value::Null));
            }
            scope = at.outer;
        }
        match name.last().map(String::as_str) {
            // Every row has them; here they say nothing.
            Some("ctid" | "xmin" | "xmax") => Ok(Value::Int(0)),
            Some("tableoid") => Ok(Value::Int(0)),
            _ => Err(no_column(name)),
        }
    }

    /// The value of a literal.
    fn literal(&self, literal: &Literal) -> Result<Value, SqlError> {
        Ok(match literal {
            Literal::Number(digits, _) => match digits.parse::<i64>() {
                Ok(n) => Value::Int(n),
                // Beyond 64 bits it is not an integer in PostgreSQL either.
                Err(_) => Value::Float(digits.parse().map_err(|_| unknown(literal))?),
            },
            Literal::SingleQuotedString(text)
            | Literal::EscapedStringLiteral(text)
            | Literal::UnicodeStringLiteral(text)
            | Literal::NationalStringLiteral(text) => Value::text(text),
            Literal::DollarQuotedString(text) => Value::text(&text.value),
            Literal::Boolean(b) => Value::Bool(*b),
            Literal::Null => Value::Null,
            Literal::Placeholder(name) => {
                let number = name.trim_start_matches('$').parse::<usize>().unwrap_or(0);
                // The numbers of parameters begin at 1.
                let given = number.checked_sub(1).and_then(|at| self.params.get(at));
                given.cloned().ok_or_else(|| SqlError::bad(format!("there is no parameter {name}")))?
            }
            other => return Err(unknown(other)),
        })
    }

    /// A value as another type.
    fn cast_to(&self, value: Value, kind: &DataType, source: Option<&Type>) -> Result<Value, SqlError> {
        let kind = type_of(kind);
        if value.is_null() {
            return Ok(value);
        }
        if functions::is_identifier_type(&kind) {
            return self.identifier(&value, &kind);
        }
        // An object identifier that is a name becomes a text as that name.
        if types::category(&kind) == "S"
            && let Some(source) = source.filter(|source| functions::is_identifier_type(source))
        {
            return self.identifier_name(&value, source);
        }
        cast(value, &kind)
    }

    /// The value of an operator between two expressions.
    fn binary(
        &self,
        left: &Expr,
        op: &BinaryOperator,
        right: &Expr,
        scope: &Scope<'_>,
    ) -> Result<Value, SqlError> {
        let a = self.value(left, scope)?;
        match op {
            // Not only for speed: the right side may fail for rows that the left side is there to
            // exclude.
            BinaryOperator::And if a == Value::Bool(false) => return Ok(a),
            BinaryOperator::Or if a.is_true() => return Ok(a),
            _ => {}
        }
        let b = self.value(right, scope)?;
        match op {
            BinaryOperator::And => Ok(and(a, b)),
            // De Morgan, so that NULL is handled in one place.
            BinaryOperator::Or => Ok(negate(and(negate(a, true), negate(b, true)), true)),
            BinaryOperator::PGCustomBinaryOperator(names) => {
                let operator = names.last().map_or("", String::as_str);
                self.operator(a, &custom(operator).ok_or_else(|| unknown(op))?, b)
            }
            op => self.operator(a, op, b),
        }
    }

    /// The value of an operator between two values.
    fn operator(&self, a: Value, op: &BinaryOperator, b: Value) -> Result<Value, SqlError> {
        // All operators here are strict; AND and OR were handled before.
        if a.is_null() || b.is_null() {
            return Ok(Value::Null);
        }
        let pattern = || b.to_text();
        match op {
            BinaryOperator::Eq
            | BinaryOperator::NotEq
            | BinaryOperator::Lt
            | BinaryOperator::LtEq
            | BinaryOperator::Gt
            | BinaryOperator::GtEq => Ok(compared(&a, op, &b)),
            BinaryOperator::PGRegexMatch => self.matches(&a, &pattern(), false),
            BinaryOperator::PGRegexIMatch => self.matches(&a, &pattern(), true),
            BinaryOperator::PGRegexNotMatch => Ok(negate(self.matches(&a, &pattern(), false)?, true)),
            BinaryOperator::PGRegexNotIMatch => Ok(negate(self.matches(&a, &pattern(), true)?, true)),
            BinaryOperator::PGLikeMatch => self.matches(&a, &like_pattern(&pattern()), false),
            BinaryOperator::PGNotLikeMatch => {
                Ok(negate(self.matches(&a, &like_pattern(&pattern()), false)?, true))
            }
            BinaryOperator::PGILikeMatch => self.matches(&a, &like_pattern(&pattern()), true),
            BinaryOperator::StringConcat => match (&a, &b) {
                (Value::List(x), Value::List(y)) => {
                    Ok(Value::List(x.iter().chain(y.iter()).cloned().collect()))
                }
                (Value::List(x), y) => Ok(Value::List(x.iter().chain([y]).cloned().collect())),
                (x, Value::List(y)) => Ok(Value::List([x].into_iter().chain(y.iter()).cloned().collect())),
                _ => Ok(Value::text(&format!("{}{}", a.to_text(), b.to_text()))),
            },
            BinaryOperator::PGBitwiseShiftLeft => {
                arithmetic(&a, &b, |a, b| a.checked_shl(u32::try_from(b).ok()?), None)
            }
            BinaryOperator::PGBitwiseShiftRight => {
                arithmetic(&a, &b, |a, b| a.checked_shr(u32::try_from(b).ok()?), None)
            }
            BinaryOperator::BitwiseAnd => arithmetic(&a, &b, |a, b| Some(a & b), None),
            BinaryOperator::BitwiseOr => arithmetic(&a, &b, |a, b| Some(a | b), None),
            BinaryOperator::Plus => arithmetic(&a, &b, i64::checked_add, Some(|a, b| a + b)),
            BinaryOperator::Minus => arithmetic(&a, &b, i64::checked_sub, Some(|a, b| a - b)),
            BinaryOperator::Multiply => arithmetic(&a, &b, i64::checked_mul, Some(|a, b| a * b)),
            BinaryOperator::Divide => arithmetic(&a, &b, i64::checked_div, Some(|a, b| a / b)),
            BinaryOperator::Modulo => arithmetic(&a, &b, i64::checked_rem, Some(|a, b| a % b)),
            other => Err(unknown(other)),
        }
    }

    /// The value of `LIKE` and `ILIKE`.
    fn like(
        &self,
        expr: &Expr,
        pattern: &Expr,
        any_case: bool,
        negated: bool,
        scope: &Scope<'_>,
    ) -> Result<Value, SqlError> {
        let value = self.value(expr, scope)?;
        let pattern = self.value(pattern, scope)?;
        if pattern.is_null() {
            return Ok(Value::Null);
        }
        Ok(negate(self.matches(&value, &like_pattern(&pattern.to_text()), any_case)?, negated))
    }

    /// Whether a text matches a regular expression.
    fn matches(&self, value: &Value, pattern: &str, any_case: bool) -> Result<Value, SqlError> {
        if value.is_null() {
            return Ok(Value::Null);
        }
        let key = format!("{any_case}{pattern}");
        if let Some(known) = self.patterns.borrow().get(&key) {
            return Ok(Value::Bool(known.is_match(&value.to_text())));
        }
        let pattern = self.pattern(pattern, any_case)?;
        let is_match = pattern.is_match(&value.to_text());
        let mut patterns = self.patterns.borrow_mut();
        if patterns.len() < limits::CATALOG_PATTERNS {
            patterns.insert(key, pattern);
        }
        Ok(Value::Bool(is_match))
    }

    /// A regular expression.
    pub(crate) fn pattern(&self, pattern: &str, any_case: bool) -> Result<Regex, SqlError> {
        let built = RegexBuilder::new(pattern)
            .case_insensitive(any_case)
            .size_limit(limits::CATALOG_PATTERN_BYTES)
            .build();
        built.map_err(|e| SqlError::bad(format!("invalid regular expression: {e}")))
    }

    /// The elements of a list, or of the first column of a query; `None`: NULL.
    fn list(&self, expr: &Expr, scope: &Scope<'_>) -> Result<Option<Rc<[Value]>>, SqlError> {
        match expr {
            Expr::Nested(inner) => self.list(inner, scope),
            Expr::Subquery(query) => Ok(Some(first_column(&*self.inner(query, scope)?).into())),
            other => {
                let value = self.value(other, scope)?;
                Ok(value.to_list().map(|list| list.iter().cloned().collect()))
            }
        }
    }

    /// The result of a query inside an expression. One that does not depend on the row is evaluated
    /// once.
    fn inner(&self, query: &Query, scope: &Scope<'_>) -> Result<Rc<Relation>, SqlError> {
        let address = std::ptr::from_ref(query) as usize;
        let known = self.results.borrow().get(&address).cloned();
        match known {
            Some(Some(relation)) => return Ok(relation),
            Some(None) => {}
            None => {
                // A query that needs the columns around it fails without them, and works with them.
                let alone =
                    if names::needs_row(query) { None } else { self.query(query, None).ok().map(Rc::new) };
                self.results.borrow_mut().insert(address, alone.clone());
                if let Some(relation) = alone {
                    return Ok(relation);
                }
            }
        }
        self.query(query, Some(scope)).map(Rc::new)
    }

    /// An element or a slice of a list.
    fn access(&self, root: &Expr, chain: &[AccessExpr], scope: &Scope<'_>) -> Result<Value, SqlError> {
        let (root, chain) = qualified(root, chain);
        // The vectors of the catalogs begin at 0.
        let is_vector = matches!(self.kind_in(&root, scope)?, Type::INT2_VECTOR | Type::OID_VECTOR);
        let first = if is_vector { 0 } else { 1 };
        let mut value = self.value(&root, scope)?;
        for access in chain {
            let subscript = match access {
                AccessExpr::Subscript(subscript) => subscript,
                AccessExpr::Dot(Expr::Identifier(field)) => {
                    let place = field_place(&folded(field)).ok_or_else(|| no_column(&[folded(field)]))?;
                    let part = |parts: Arc<[Value]>| parts.get(place).cloned();
                    value = value.to_list().and_then(part).unwrap_or(Value::Null);
                    continue;
                }
                AccessExpr::Dot(_) => return Err(unknown(&root)),
            };
            let Some(list) = value.to_list() else { return Ok(Value::Null) };
            value = match subscript {
                Subscript::Index { index } => {
                    let place =
                        self.value(index, scope)?.to_int().and_then(|at| usize::try_from(at - first).ok());
                    place.and_then(|at| list.get(at).cloned()).unwrap_or(Value::Null)
                }
                Subscript::Slice { lower_bound, upper_bound, .. } => {
                    let bound = |bound: &Option<Expr>| -> Result<Option<usize>, SqlError> {
                        let Some(bound) = bound else { return Ok(None) };
                        Ok(self.value(bound, scope)?.to_int().map(|at| usize::try_from(at).unwrap_or(0)))
                    };
                    let from = bound(lower_bound)?.unwrap_or(1).max(1) - 1;
                    let to = bound(upper_bound)?.unwrap_or(list.len()).min(list.len());
                    Value::List(list.get(from..to).unwrap_or_default().to_vec().into())
                }
            };
        }
        Ok(value)
    }

    /// The value of a call.
    fn function(&self, expr: &Expr, function: &Function, scope: &Scope<'_>) -> Result<Value, SqlError> {
        let name = last(&function.name);
        if function.over.is_some() || returns_set(&name) {
            let address = std::ptr::from_ref(expr) as usize;
            // Computed for all rows before the first is evaluated, since a window reads its
            // neighbours. Found by the address of the call: the same call may stand in a query
            // twice.
            let computed = scope.windows.and_then(|windows| windows.get(&address));
            return computed.cloned().ok_or_else(|| unknown(expr));
        }
        if functions::is_aggregate(&name) {
            return self.aggregate(&name, function, scope);
        }
        match &function.args {
            // ARRAY(SELECT …)
            FunctionArguments::Subquery(query) => {
                Ok(Value::List(first_column(&*self.inner(query, scope)?).into()))
            }
            FunctionArguments::None => self.call(&name, &[]),
            FunctionArguments::List(list) => {
                let mut values = Vec::new();
                for arg in &list.args {
                    let value = self.value(argument(arg)?, scope)?;
                    // COALESCE does not look further than it must.
                    if name == "coalesce" && !value.is_null() {
                        return Ok(value);
                    }
                    values.push(value);
                }
                self.call(&name, &values)
            }
        }
    }
}

/// The column and the accesses to it: `t.list[1]` is parsed as the field `list` of a column `t`.
pub(crate) fn qualified<'e>(root: &'e Expr, chain: &'e [AccessExpr]) -> (Cow<'e, Expr>, &'e [AccessExpr]) {
    match (root, chain) {
        (Expr::Identifier(relation), [AccessExpr::Dot(Expr::Identifier(column)), rest @ ..]) => {
            (Cow::Owned(Expr::CompoundIdentifier(vec![relation.clone(), column.clone()])), rest)
        }
        _ => (Cow::Borrowed(root), chain),
    }
}

/// The expression of an argument.
pub(crate) fn argument(arg: &FunctionArg) -> Result<&Expr, SqlError> {
    let (FunctionArg::Unnamed(arg) | FunctionArg::Named { arg, .. } | FunctionArg::ExprNamed { arg, .. }) =
        arg;
    match arg {
        FunctionArgExpr::Expr(expr) => Ok(expr),
        other => Err(unknown(other)),
    }
}

/// The type that a query writes.
pub(crate) fn type_of(kind: &DataType) -> Type {
    match kind {
        DataType::Regclass => Type::REGCLASS,
        DataType::Custom(name, _) => {
            types::written(&parts(name).pop().unwrap_or_default()).unwrap_or(Type::TEXT)
        }
        other => {
            let name = other.to_string();
            // Lengths, as of varchar(10), change nothing here.
            let plain = name.split('(').next().unwrap_or(&name).to_owned();
            let suffix = if name.ends_with("[]") && !plain.ends_with("[]") { "[]" } else { "" };
            types::written(&format!("{}{suffix}", plain.trim())).unwrap_or(Type::TEXT)
        }
    }
}

/// The values of the first column.
fn first_column(relation: &Relation) -> Vec<Value> {
    relation.rows.iter().map(|row| row.first().cloned().unwrap_or(Value::Null)).collect()
}

/// The operator in `OPERATOR(pg_catalog.…)`.
fn custom(name: &str) -> Option<BinaryOperator> {
    Some(match name {
        "=" => BinaryOperator::Eq,
        "<>" | "!=" => BinaryOperator::NotEq,
        "<" => BinaryOperator::Lt,
        "<=" => BinaryOperator::LtEq,
        ">" => BinaryOperator::Gt,
        ">=" => BinaryOperator::GtEq,
        "~" => BinaryOperator::PGRegexMatch,
        "~*" => BinaryOperator::PGRegexIMatch,
        "!~" => BinaryOperator::PGRegexNotMatch,
        "!~*" => BinaryOperator::PGRegexNotIMatch,
        "~~" => BinaryOperator::PGLikeMatch,
        "!~~" => BinaryOperator::PGNotLikeMatch,
        "~~*" => BinaryOperator::PGILikeMatch,
        "||" => BinaryOperator::StringConcat,
        "+" => BinaryOperator::Plus,
        "-" => BinaryOperator::Minus,
        _ => return None,
    })
}

/// A pattern of LIKE as a regular expression.
fn like_pattern(pattern: &str) -> String {
    let mut out = String::from("(?s)^");
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '%' => out.push_str(".*"),
            '_' => out.push('.'),
            // A backslash takes the special meaning from the next character.
            '\\' => out.push_str(&regex::escape(&chars.next().unwrap_or('\\').to_string())),
            other => out.push_str(&regex::escape(&other.to_string())),
        }
    }
    out.push('$');
    out
}

/// A comparison: true, false, or NULL.
fn compared(a: &Value, op: &BinaryOperator, b: &Value) -> Value {
    // Values that have no order, such as a text and a list, compare as unknown and not as an error:
    // one odd row must not end a listing.
    let Some(order) = a.compare(b) else { return Value::Null };
    Value::Bool(match op {
        BinaryOperator::Eq => order == Ordering::Equal,
        BinaryOperator::NotEq => order != Ordering::Equal,
        BinaryOperator::Lt => order == Ordering::Less,
        BinaryOperator::LtEq => order != Ordering::Greater,
        BinaryOperator::Gt => order == Ordering::Greater,
        BinaryOperator::GtEq => order != Ordering::Less,
        _ => return Value::Null,
    })
}

/// Whether a comparison is true for one of a list.
fn any(value: &Value, op: &BinaryOperator, list: &[Value]) -> Value {
    // SQL's rule: true if one is equal, else unknown if one is NULL, else false. The fold over `not
    // equal` gives just that.
    let none_is =
        list.iter().map(|item| negate(compared(value, op, item), true)).fold(Value::Bool(true), and);
    negate(none_is, true)
}

/// AND of SQL, with NULL for what is not known.
fn and(a: Value, b: Value) -> Value {
    match (a, b) {
        (Value::Bool(false), _) | (_, Value::Bool(false)) => Value::Bool(false),
        (Value::Null, _) | (_, Value::Null) => Value::Null,
        (_, b) => b,
    }
}

/// The value, or its opposite.
fn negate(value: Value, negated: bool) -> Value {
    match value.to_bool() {
        Some(b) => Value::Bool(b != negated),
        None => Value::Null,
    }
}

/// The value of an operator before one value.
fn unary(op: &UnaryOperator, value: Value) -> Result<Value, SqlError> {
    match (op, value) {
        (UnaryOperator::Not, value) => Ok(negate(value, true)),
        (UnaryOperator::Plus, value) => Ok(value),
        (UnaryOperator::Minus, Value::Int(n)) => Ok(n.checked_neg().map_or(Value::Null, Value::Int)),
        (UnaryOperator::Minus, value) => Ok(value.to_float().map_or(Value::Null, |v| Value::Float(-v))),
        (op, _) => Err(unknown(op)),
    }
}

/// Whole numbers stay whole; other numbers are floats.
fn arithmetic(
    a: &Value,
    b: &Value,
    whole: impl Fn(i64, i64) -> Option<i64>,
    float: Option<fn(f64, f64) -> f64>,
) -> Result<Value, SqlError> {
    // A text that reads as an integer counts as one: catalogs have numbers in texts.
    let is_whole = |v: &Value| !matches!(v, Value::Float(_)) && v.to_int().is_some();
    if is_whole(a) && is_whole(b) {
        let result = a.to_int().zip(b.to_int()).and_then(|(a, b)| whole(a, b));
        return result
            .map(Value::Int)
            .ok_or_else(|| SqlError::bad("division by zero, or a number out of range"));
    }
    match (float, a.to_float(), b.to_float()) {
        (Some(float), Some(a), Some(b)) => Ok(Value::Float(float(a, b))),
        // Also where only integers can be taken, as for `&`.
        _ => Err(SqlError::bad(format!("{} and {} are no numbers", a.to_text(), b.to_text()))),
    }
}

/// The kind of elements, for lists of a type.
pub(crate) fn is_list(kind: &Type) -> bool {
    matches!(kind.kind(), Kind::Array(_))
}
