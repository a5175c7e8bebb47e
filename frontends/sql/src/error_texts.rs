//! Errors of DataFusion and Arrow about types and values, in PostgreSQL's words. PostgreSQL's wire
//! finds the SQLSTATE by them ([`SqlError`] has none). Used by [`super::error`].

use super::error::SqlError;

const CAST_HINT: &str = "cast one side: value::text, labels::text, '1'::float8";

/// The error in PostgreSQL's words; others as they are.
pub(crate) fn in_postgres_words(error: SqlError) -> SqlError {
    match rewritten(&error.text) {
        Some(Rewritten { text, hint }) => {
            SqlError { text, hint: error.hint.or(hint.map(str::to_owned)), ..error }
        }
        None => error,
    }
}

/// Another text of an error.
struct Rewritten {
    text: String,
    hint: Option<&'static str>,
}

fn rewritten(text: &str) -> Option<Rewritten> {
    wrong_value(text).or_else(|| wrong_types(text))
}

/// A value that is none of its type, or does not fit into it.
fn wrong_value(text: &str) -> Option<Rewritten> {
    let invalid = |kind: &str, value: &str| Rewritten {
        text: format!("invalid input syntax for type {kind}: \"{value}\""),
        hint: None,
    };
    for begin in ["Cannot cast string '", "Cannot cast value '"] {
        if let Some((_, rest)) = text.split_once(begin) {
            let (value, kind) = rest.rsplit_once("' to value of ")?;
            let kind = kind.split(" type").next().unwrap_or(kind);
            return Some(invalid(type_in_error(kind), value));
        }
    }
    if let Some((_, rest)) = text.split_once("Error parsing timestamp from '") {
        let (value, _) = rest.rsplit_once("': ")?;
        return Some(invalid("timestamp", value));
    }
    if let Some((_, rest)) = text.split_once("Invalid input syntax for type ") {
        return Some(Rewritten { text: format!("invalid input syntax for type {rest}"), hint: None });
    }
    if let Some((_, rest)) = text.split_once("Can't cast value ") {
        let (value, kind) = rest.split_once(" to type ")?;
        let kind = type_in_error(kind.trim());
        return Some(Rewritten { text: format!("{value} is out of range for type {kind}"), hint: None });
    }
    None
}

/// Operators and functions over types that they do not take.
fn wrong_types(text: &str) -> Option<Rewritten> {
    if let Some((_, rest)) = text.split_once("No function matches the given name and argument types '") {
        let (call, _) = rest.split_once('\'')?;
        let (name, args) = call.split_once('(')?;
        let args = in_list(args.strip_suffix(')')?);
        return Some(Rewritten {
            text: format!("function {name}({args}) does not exist"),
            hint: Some("no function of this name takes arguments of these types; casts may help"),
        });
    }
    for begin in [
        "Cannot coerce arithmetic expression ",
        "Cannot infer common argument type for comparison operation ",
    ] {
        if let Some((_, rest)) = text.split_once(begin) {
            let rest = rest.split(" to valid types").next().unwrap_or(rest);
            let mut words = split_operands(rest)?;
            let right = type_in_error(words.pop()?);
            let operator = words.pop()?;
            let left = type_in_error(words.pop()?);
            return Some(Rewritten {
                text: format!("operator does not exist: {left} {operator} {right}"),
                hint: Some(CAST_HINT),
            });
        }
    }
    if let Some((_, rest)) = text.split_once("Cannot create filter with non-boolean predicate '") {
        let (_, kind) = rest.rsplit_once("' returning ")?;
        return Some(Rewritten {
            text: format!("argument of WHERE must be type boolean, not type {}", type_in_error(kind)),
            hint: None,
        });
    }
    None
}

/// `Utf8 + Timestamp(ms, "UTC")`: left, operator, right.
fn split_operands(text: &str) -> Option<Vec<&str>> {
    let mut depth = 0_i32;
    let mut parts = Vec::new();
    let mut begin = 0;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ' ' if depth == 0 => {
                parts.push(text.get(begin..at)?);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text.get(begin..)?);
    let is_complete = parts.len() == 3;
    is_complete.then_some(parts)
}

/// The types of a list of arguments.
fn in_list(args: &str) -> String {
    let mut names = Vec::new();
    let mut depth = 0_i32;
    let mut begin = 0;
    for (at, c) in args.char_indices().chain([(args.len(), ',')]) {
        match c {
            '(' | '<' => depth += 1,
            ')' | '>' => depth -= 1,
            ',' if depth == 0 => {
                let one = args.get(begin..at).unwrap_or_default().trim();
                if !one.is_empty() {
                    names.push(type_in_error(one));
                }
                begin = at + 1;
            }
            _ => {}
        }
    }
    names.join(", ")
}

/// PostgreSQL's name of a type that DataFusion prints.
fn type_in_error(printed: &str) -> &str {
    let name = printed.split(['(', '<']).next().unwrap_or(printed).trim();
    match name {
        "Utf8" | "LargeUtf8" | "Utf8View" | "Dictionary" | "String" => "text",
        "Int8" | "Int16" | "UInt8" => "smallint",
        "Int32" | "UInt16" => "integer",
        "Int64" | "UInt32" | "UInt64" => "bigint",
        "Float16" | "Float32" => "real",
        "Float64" => "double precision",
        "Decimal32" | "Decimal64" | "Decimal128" | "Decimal256" => "numeric",
        "Boolean" => "boolean",
        "Date32" | "Date64" => "date",
        "Time32" | "Time64" => "time",
        "Timestamp" if printed.contains(',') => "timestamp with time zone",
        "Timestamp" => "timestamp",
        "Interval" | "Duration" => "interval",
        "Null" => "unknown",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_values_are_named_as_in_postgresql() {
        for (text, want) in [
            (
                "Cast error: Cannot cast string 'it''s' to value of Int64 type",
                "invalid input syntax for type bigint: \"it''s\"",
            ),
            (
                "Cannot cast value 'x' to value of Boolean type",
                "invalid input syntax for type boolean: \"x\"",
            ),
            (
                "Parser error: Error parsing timestamp from 'x: y': error parsing date",
                "invalid input syntax for type timestamp: \"x: y\"",
            ),
            ("Can't cast value 300000 to type Int16", "300000 is out of range for type smallint"),
            (
                "Cannot coerce arithmetic expression Utf8 + Timestamp(ms, \"UTC\") to valid types",
                "operator does not exist: text + timestamp with time zone",
            ),
            (
                "Cannot infer common argument type for comparison operation Float64 = Timestamp(ns)",
                "operator does not exist: double precision = timestamp",
            ),
            (
                "Internal error: … No function matches the given name and argument types 'corr(Utf8, Timestamp(ms, \"UTC\"))'. You might",
                "function corr(text, timestamp with time zone) does not exist",
            ),
            (
                "No function matches the given name and argument types 'sum()'.",
                "function sum() does not exist",
            ),
            (
                "Cannot create filter with non-boolean predicate 'x.ts' returning Timestamp(ms, \"UTC\")",
                "argument of WHERE must be type boolean, not type timestamp with time zone",
            ),
        ] {
            assert_eq!(in_postgres_words(SqlError::bad(text)).text, want);
        }
        assert_eq!(in_postgres_words(SqlError::bad("something else")).text, "something else");
    }
}
