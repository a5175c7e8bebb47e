//! Lists as PostgreSQL's clients write them: the text `{a,"b c",NULL}`, and the conditions
//! `x = ANY (list)` and `x <> ALL (list)`, which become `x IN (…)` and `x NOT IN (…)`. Two smaller
//! forms besides: limits that are texts, and the clock in intervals.
//!
//! [`super::planner`] rewrites a parsed statement before it plans it, so that such a condition can
//! be a part of a plan. A parameter that is such a list gets the name `$1[]`; [`super::parameters`]
//! puts its values in.

use super::error::SqlError;
use super::parameters::LIST_MARK;
use super::values::interval_without_clock;
use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, BinaryOperator, CastKind, DataType, Expr, LimitClause, Query, Statement, Value,
    VisitMut, VisitorMut,
};
use std::ops::ControlFlow;

/// The elements of a list in PostgreSQL's text form; `None` is NULL. Returns `None` if `text` is no
/// list, or a list of lists.
pub fn elements(text: &str) -> Option<Vec<Option<String>>> {
    let inside = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    if inside.trim().is_empty() {
        return Some(Vec::new());
    }
    let mut reader = ElementReader { chars: inside.chars(), found: Vec::new() };
    while reader.element()? {}
    Some(reader.found)
}

/// Reads the text between the braces of a list.
struct ElementReader<'a> {
    chars: std::str::Chars<'a>,
    found: Vec<Option<String>>,
}

impl ElementReader<'_> {
    /// Reads an element and the comma after it. Returns whether there is a comma.
    fn element(&mut self) -> Option<bool> {
        let mut text = String::new();
        let mut is_quoted = false;
        let has_more = loop {
            match self.chars.next() {
                None => break false,
                Some(',') => break true,
                // A list of lists.
                Some('{' | '}') => return None,
                Some('"') => {
                    is_quoted = true;
                    self.quoted(&mut text)?;
                }
                Some('\\') => text.push(self.chars.next()?),
                // Spaces around an element with quotes are no part of it.
                Some(c) if is_quoted && c.is_whitespace() => {}
                Some(c) => text.push(c),
            }
        };
        if is_quoted {
            self.found.push(Some(text));
            return Some(has_more);
        }
        let text = text.trim();
        if text.is_empty() {
            return None;
        }
        let is_null = text.eq_ignore_ascii_case("null");
        self.found.push(if is_null { None } else { Some(text.to_owned()) });
        Some(has_more)
    }

    /// Reads up to the quote that ends an element.
    fn quoted(&mut self, text: &mut String) -> Option<()> {
        // Spaces before the quote.
        text.clear();
        loop {
            match self.chars.next()? {
                '"' => return Some(()),
                '\\' => text.push(self.chars.next()?),
                c => text.push(c),
            }
        }
    }
}

/// Rewrites `= ANY (list)` and `<> ALL (list)` in a statement, texts as limits (`LIMIT '1'`), and
/// the clock in intervals (`interval '01:30:00'`).
///
/// # Errors
///
/// If the text of a list is broken.
pub(crate) fn rewrite(statement: &mut Statement) -> Result<(), SqlError> {
    match statement.visit(&mut ListRewriter) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

/// The error for a text that is no list.
pub(crate) fn malformed(text: &str) -> SqlError {
    SqlError::bad(format!("malformed array literal: \"{text}\""))
}

struct ListRewriter;

impl VisitorMut for ListRewriter {
    type Break = SqlError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<SqlError> {
        if let Some(LimitClause::LimitOffset { limit, offset, .. }) = &mut query.limit_clause {
            let offset = offset.as_mut().map(|offset| &mut offset.value);
            for number in limit.iter_mut().chain(offset) {
                whole_number(number);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        match expr {
            Expr::Cast { expr: inner, data_type: DataType::Interval { .. }, .. } => spell_clock(inner),
            Expr::Interval(interval) => spell_clock(&mut interval.value),
            _ => {}
        }
        match in_list(expr) {
            Ok(Some(listed)) => *expr = listed,
            Ok(None) => {}
            Err(error) => return ControlFlow::Break(error),
        }
        ControlFlow::Continue(())
    }
}

/// The text of an interval gets the form that Arrow reads.
fn spell_clock(expr: &mut Expr) {
    if let Expr::Value(value) = expr
        && let Value::SingleQuotedString(text) = &value.value
        && let Some(spelled) = interval_without_clock(text)
    {
        value.value = Value::SingleQuotedString(spelled);
    }
}

/// A text that is a whole number becomes that number.
fn whole_number(expr: &mut Expr) {
    if let Expr::Value(value) = expr
        && let Value::SingleQuotedString(text) = &value.value
        && text.trim().parse::<i64>().is_ok()
    {
        value.value = Value::Number(text.trim().to_owned(), false);
    }
}

/// The condition as one with `IN`; `None`: it is none of these, or its list is not written out.
fn in_list(expr: &Expr) -> Result<Option<Expr>, SqlError> {
    let (left, right, negated) = match expr {
        Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } => (left, right, false),
        Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } => (left, right, true),
        _ => return Ok(None),
    };
    let Some(list) = written_out(right)? else { return Ok(None) };
    if list.is_empty() {
        // Nothing is in an empty list, and `IN ()` cannot be written.
        return Ok(Some(Expr::Value(Value::Boolean(negated).into())));
    }
    Ok(Some(Expr::InList { expr: left.clone(), list, negated }))
}

/// The elements of a list that is written out; a parameter is one element that stands for all.
fn written_out(list: &Expr) -> Result<Option<Vec<Expr>>, SqlError> {
    Ok(match list {
        Expr::Nested(inner) => written_out(inner)?,
        Expr::Array(array) => Some(array.elem.clone()),
        Expr::Value(value) => match &value.value {
            Value::Placeholder(name) => {
                Some(vec![Expr::Value(Value::Placeholder(format!("{name}{LIST_MARK}")).into())])
            }
            Value::SingleQuotedString(text) => {
                Some(elements(text).ok_or_else(|| malformed(text))?.iter().map(literal).collect())
            }
            _ => None,
        },
        Expr::Cast { expr, data_type, .. } => {
            let Some(element) = element_type(data_type) else { return Ok(None) };
            let cast = |expr: Expr| Expr::Cast {
                kind: CastKind::DoubleColon,
                expr: Box::new(expr),
                data_type: element.clone(),
                array: false,
                format: None,
            };
            written_out(expr)?.map(|list| list.into_iter().map(cast).collect())
        }
        _ => None,
    })
}

fn literal(element: &Option<String>) -> Expr {
    let value = match element {
        Some(text) => Value::SingleQuotedString(text.clone()),
        None => Value::Null,
    };
    Expr::Value(value.into())
}

/// The type of the elements of a list of type `kind`.
fn element_type(kind: &DataType) -> Option<DataType> {
    match kind {
        DataType::Array(
            ArrayElemTypeDef::SquareBracket(element, _)
            | ArrayElemTypeDef::AngleBracket(element)
            | ArrayElemTypeDef::Parenthesis(element),
        ) => Some(element.as_ref().clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    #[test]
    fn lists_are_read_as_postgresql_reads_them() {
        let some = |texts: &[&str]| Some(texts.iter().map(|text| Some((*text).to_owned())).collect());
        for (text, want) in [
            ("{}", Some(Vec::new())),
            ("{ }", Some(Vec::new())),
            ("{a,b}", some(&["a", "b"])),
            (" { a , \"b c\" , \"\" } ", some(&["a", "b c", ""])),
            (r#"{"a\"b","c\\d",e\,f,"{}"}"#, some(&["a\"b", "c\\d", "e,f", "{}"])),
            ("{NULL,\"NULL\"}", Some(vec![None, Some("NULL".to_owned())])),
            ("{{a},{b}}", None),
            ("{a", None),
            ("{a,,b}", None),
            ("{\"a}", None),
            ("a,b", None),
        ] {
            assert_eq!(elements(text), want, "{text}");
        }
    }

    #[test]
    fn conditions_with_lists_become_in() {
        for (text, want) in [
            ("a = ANY(ARRAY['x', 'y'])", "a IN ('x', 'y')"),
            ("a = ANY('{x,NULL}')", "a IN ('x', NULL)"),
            ("a = ANY('{1,2}'::int8[])", "a IN ('1'::INT8, '2'::INT8)"),
            ("a = SOME(($1))", "a IN ($1[])"),
            ("a = ANY($1::text[])", "a IN ($1[]::TEXT)"),
            ("a <> ALL($2)", "a NOT IN ($2[])"),
            ("a = ANY('{}')", "false"),
            ("a <> ALL('{}')", "true"),
            ("NOT (a = ANY('{x}'))", "NOT (a IN ('x'))"),
            ("a < ANY($1)", "a < ANY($1)"),
            ("a = ANY(b)", "a = ANY(b)"),
            ("a = ANY(SELECT 1)", "a = ANY(SELECT 1)"),
        ] {
            let mut parsed = Parser::parse_sql(&PostgreSqlDialect {}, &format!("SELECT {text}")).expect(text);
            let statement = parsed.first_mut().expect("a statement");
            rewrite(statement).expect(text);
            assert_eq!(statement.to_string(), format!("SELECT {want}"), "{text}");
        }
        let mut parsed =
            Parser::parse_sql(&PostgreSqlDialect {}, "SELECT 1 LIMIT '3' OFFSET '1'").expect("a statement");
        rewrite(&mut parsed[0]).expect("rewritten");
        assert_eq!(parsed[0].to_string(), "SELECT 1 LIMIT 3 OFFSET 1");
    }
}
