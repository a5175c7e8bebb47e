//! The built-in functions of Go's templates that `gotmpl` implements differently, or without
//! counting their cost: all except `and` and `or`.

use super::budget;
use super::function_error::FunctionError;
use super::functions::{fail, string, text, zero};
use super::printing::{self, type_name};
use gotmpl::Value;
use std::cmp::Ordering;

type Outcome = Result<Value, FunctionError>;
type Function = fn(&[Value]) -> Outcome;

/// The functions by name.
pub(crate) fn table() -> Vec<(&'static str, Function)> {
    vec![
        ("print", |a| read(a).map(|()| text(printing::print(a)))),
        ("println", |a| read(a).map(|()| text(printing::println(a)))),
        ("printf", printf),
        ("html", |a| escaped(a, gotmpl::html_escape)),
        ("js", |a| escaped(a, gotmpl::js_escape)),
        ("urlquery", |a| escaped(a, gotmpl::url_encode)),
        ("eq", equal),
        ("ne", |a| compared("ne", a, |a, b| Ok(!same(a, b)?))),
        ("lt", |a| compared("lt", a, less)),
        ("le", |a| compared("le", a, less_or_equal)),
        ("gt", |a| compared("gt", a, |a, b| Ok(!less_or_equal(a, b)?))),
        ("ge", |a| compared("ge", a, |a, b| Ok(!less(a, b)?))),
        ("len", length),
        ("index", index),
        ("slice", slice),
        ("not", |a| match a {
            [value] => Ok(Value::Bool(!value.is_truthy())),
            _ => Err(wrong_number("not", "1", a.len())),
        }),
        // Templates of rules have no values that are functions, so every `call` is an error; it is
        // here for Go's text of that error.
        ("call", |a| match a {
            [] => Err(wrong_number("call", "at least 1", 0)),
            [Value::Nil, ..] => Err(fail("call of nil")),
            [of, ..] => Err(fail(format!("non-function {} of type {}", printing::text(of), type_name(of)))),
        }),
    ]
}

fn read(args: &[Value]) -> Result<(), FunctionError> {
    // Counted before the work: a text of the allowed size could otherwise be escaped many times
    // over.
    args.iter().try_for_each(budget::escaped)
}

fn wrong_number(name: &str, want: &str, got: usize) -> FunctionError {
    FunctionError::ArgumentCount(format!("wrong number of args for {name}: want {want} got {got}"))
}

fn printf(args: &[Value]) -> Outcome {
    let (format, rest) = args.split_first().ok_or_else(|| wrong_number("printf", "at least 1", 0))?;
    printing::printf(string(format)?, rest).map(text)
}

fn escaped(args: &[Value], escape: fn(&str) -> String) -> Outcome {
    read(args)?;
    Ok(text(escape(&printing::print(args))))
}

fn compared(name: &str, args: &[Value], holds: fn(&Value, &Value) -> Result<bool, FunctionError>) -> Outcome {
    let [a, b] = args else { return Err(wrong_number(name, "2", args.len())) };
    read(args)?;
    holds(a, b).map(Value::Bool)
}

fn equal(args: &[Value]) -> Outcome {
    let (first, rest) = args.split_first().ok_or_else(|| wrong_number("eq", "at least 1", 0))?;
    read(args)?;
    if rest.is_empty() {
        return Err(fail("missing argument for comparison"));
    }
    // `eq a b c` is true if `a` equals any of the others, as in Go.
    for other in rest {
        if compared("eq", &[first.clone(), other.clone()], same)?.is_truthy() {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

fn incompatible(a: &Value, b: &Value) -> FunctionError {
    fail(format!("incompatible types for comparison: {} and {}", type_name(a), type_name(b)))
}

/// Whether two values are equal.
fn same(a: &Value, b: &Value) -> Result<bool, FunctionError> {
    match (a, b) {
        // Before the types: nil may be compared with everything, and equals only itself.
        (Value::Nil, _) | (_, Value::Nil) => Ok(matches!((a, b), (Value::Nil, Value::Nil))),
        (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
        (Value::Float(a), Value::Float(b)) => Ok(a == b),
        (Value::String(a), Value::String(b)) => Ok(a == b),
        (Value::List(_), Value::List(_)) | (Value::Map(_), Value::Map(_)) => {
            Err(fail(format!("non-comparable type {}: {}", printing::text(a), type_name(a))))
        }
        _ => integers(a, b).map(|order| order == Ordering::Equal).ok_or_else(|| incompatible(a, b)),
    }
}

fn integers(a: &Value, b: &Value) -> Option<Ordering> {
    // In 128 bits, because Go compares signed with unsigned numbers by their mathematical values.
    let wide = |value: &Value| match value {
        Value::Int(n) => Some(i128::from(*n)),
        Value::Uint(n) => Some(i128::from(*n)),
        _ => None,
    };
    Some(wide(a)?.cmp(&wide(b)?))
}

fn less(a: &Value, b: &Value) -> Result<bool, FunctionError> {
    let basic = |value: &Value| {
        matches!(value, Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Float(_) | Value::String(_))
    };
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => Ok(a < b),
        (Value::String(a), Value::String(b)) => Ok(a < b),
        // Booleans have no order in Go, although both are of one basic kind.
        (Value::Bool(_), Value::Bool(_)) => Err(fail("invalid type for comparison")),
        _ if !basic(a) || !basic(b) => Err(fail("invalid type for comparison")),
        _ => integers(a, b).map(|order| order == Ordering::Less).ok_or_else(|| incompatible(a, b)),
    }
}

fn less_or_equal(a: &Value, b: &Value) -> Result<bool, FunctionError> {
    Ok(less(a, b)? || same(a, b)?)
}

fn length(args: &[Value]) -> Outcome {
    let [of] = args else { return Err(wrong_number("len", "1", args.len())) };
    // A time is a map here and a struct in Go, which has no length.
    let n = of.len().filter(|_| super::times::shown(of).is_none());
    let n = n.ok_or_else(|| match of {
        Value::Nil => fail("len of nil pointer"),
        other => fail(format!("len of type {}", type_name(other))),
    })?;
    Ok(Value::Int(n as i64))
}

/// In maps of texts, a missing entry is "".
fn index(args: &[Value]) -> Outcome {
    let (of, keys) = args.split_first().ok_or_else(|| wrong_number("index", "at least 1", 0))?;
    keys.iter().try_fold(of.clone(), |value, key| match (&value, key) {
        (Value::Map(map), Value::String(key)) => Ok(zero(map.get(key).unwrap_or(&Value::Nil))),
        (Value::Map(_), key) => Err(fail(format!("value has type {}; should be string", type_name(key)))),
        (Value::Nil, _) => Err(fail("index of untyped nil")),
        (Value::List(_) | Value::String(_), Value::Int(n)) => {
            value.index(key).map_err(|_| fail(format!("index out of range: {n}")))
        }
        (Value::List(_) | Value::String(_), key) => {
            Err(fail(format!("cannot index slice/array with type {}", type_name(key))))
        }
        (other, _) => Err(fail(format!("can't index item of type {}", type_name(other)))),
    })
}

fn slice(args: &[Value]) -> Outcome {
    read(args)?;
    let (of, bounds) = args.split_first().ok_or_else(|| wrong_number("slice", "at least 1", 0))?;
    let bound = |at: usize| match bounds.get(at) {
        None => Ok(None),
        Some(Value::Int(n)) => Ok(Some(*n)),
        Some(other) => Err(fail(format!("cannot index slice/array with type {}", type_name(other)))),
    };
    if bounds.len() > 2 {
        return Err(fail("too many slice indexes"));
    }
    let from = bound(0)?;
    let to = bound(1)?;
    let length = of.len().unwrap_or(0) as i64;
    let beyond = [from, to].into_iter().flatten().find(|n| !(0..=length).contains(n));
    if let Some(n) = beyond.filter(|_| of.len().is_some()) {
        return Err(fail(format!("index out of range: {n}")));
    }
    Ok(of.slice(from, to)?)
}
