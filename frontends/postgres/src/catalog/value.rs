//! [`Value`]: a value in a catalog query, with the comparisons and casts of PostgreSQL.

use postgres_types::{Kind, Type};
use sql::SqlError;
use std::cmp::Ordering;
use std::sync::Arc;

/// A value. Its type is that of its expression ([`super::infer`]).
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Arc<str>),
    List(Arc<[Value]>),
}

impl Value {
    pub(crate) fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    /// A list of texts.
    pub(crate) fn texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> Value {
        Value::List(texts.into_iter().map(Value::text).collect())
    }

    pub(crate) fn is_null(&self) -> bool {
        *self == Value::Null
    }

    /// As a condition: NULL is not true.
    pub(crate) fn is_true(&self) -> bool {
        *self == Value::Bool(true)
    }

    /// As PostgreSQL prints it; `None`: NULL.
    pub(crate) fn shown(&self) -> Option<String> {
        Some(match self {
            Value::Null => return None,
            Value::Bool(b) => if *b { "t" } else { "f" }.to_owned(),
            Value::Int(n) => n.to_string(),
            Value::Float(v) => v.to_string(),
            Value::Text(text) => text.to_string(),
            Value::List(list) => shown_list(list),
        })
    }

    /// The text of what is not NULL.
    pub(crate) fn to_text(&self) -> String {
        self.shown().unwrap_or_default()
    }

    /// A whole number, if it is one.
    pub(crate) fn to_int(&self) -> Option<i64> {
        match self {
            Value::Int(n) => Some(*n),
            Value::Bool(b) => Some(i64::from(*b)),
            Value::Float(v) => Some(v.round() as i64),
            Value::Text(text) => text.trim().parse().ok(),
            Value::Null | Value::List(_) => None,
        }
    }

    /// A number, if it is one.
    pub(crate) fn to_float(&self) -> Option<f64> {
        match self {
            Value::Int(n) => Some(*n as f64),
            Value::Float(v) => Some(*v),
            Value::Text(text) => text.trim().parse().ok(),
            Value::Null | Value::Bool(_) | Value::List(_) => None,
        }
    }

    /// A truth value, if it is one.
    pub(crate) fn to_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(b) => Some(*b),
            Value::Int(n) => Some(*n != 0),
            Value::Text(text) => match text.trim().to_ascii_lowercase().as_str() {
                "t" | "true" | "on" | "yes" | "y" | "1" => Some(true),
                "f" | "false" | "off" | "no" | "n" | "0" => Some(false),
                _ => None,
            },
            Value::Null | Value::Float(_) | Value::List(_) => None,
        }
    }

    /// The elements of a list; a text such as `{a,b}` is one, too.
    pub(crate) fn to_list(&self) -> Option<Arc<[Value]>> {
        match self {
            Value::List(list) => Some(list.clone()),
            Value::Text(text) => {
                let element = |element: Option<String>| element.map_or(Value::Null, |e| Value::text(&e));
                Some(sql::lists::elements(text)?.into_iter().map(element).collect())
            }
            _ => None,
        }
    }

    /// The order of two values; `None` if one is NULL. A text is compared with a number as a
    /// number, as PostgreSQL does with a literal.
    pub(crate) fn compare(&self, other: &Value) -> Option<Ordering> {
        match (self, other) {
            (Value::Null, _) | (_, Value::Null) => None,
            (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
            (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
            (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
            (Value::Bool(a), b) => b.to_bool().map(|b| a.cmp(&b)),
            (a, Value::Bool(b)) => a.to_bool().map(|a| a.cmp(b)),
            (Value::List(_), _) | (_, Value::List(_)) => {
                let left = self.to_list()?;
                let right = other.to_list()?;
                for (a, b) in left.iter().zip(right.iter()) {
                    match a.compare(b)? {
                        Ordering::Equal => {}
                        order => return Some(order),
                    }
                }
                Some(left.len().cmp(&right.len()))
            }
            (a, b) => match (a.to_float(), b.to_float()) {
                (Some(a), Some(b)) => a.partial_cmp(&b),
                _ => Some(a.to_text().cmp(&b.to_text())),
            },
        }
    }

    /// The order in `ORDER BY`: NULL is last.
    pub(crate) fn sort_order(&self, other: &Value) -> Ordering {
        match (self.is_null(), other.is_null()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => self.compare(other).unwrap_or(Ordering::Equal),
        }
    }

    /// What two values must share to be equal: the key of joins, groups and `DISTINCT`.
    pub(crate) fn key(&self) -> String {
        match self {
            Value::Null => "n".to_owned(),
            // A number and its text are equal, as in comparisons.
            other => format!("v{}", other.to_text()),
        }
    }
}

fn shown_list(list: &[Value]) -> String {
    let element = |value: &Value| match value.shown() {
        None => "NULL".to_owned(),
        Some(text) => {
            let is_plain = !text.is_empty()
                && !text.eq_ignore_ascii_case("null")
                && !text.contains([',', '{', '}', '"', '\\', ' ']);
            if is_plain {
                return text;
            }
            format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
        }
    };
    format!("{{{}}}", list.iter().map(element).collect::<Vec<_>>().join(","))
}

/// The value as one of type `kind`.
pub(crate) fn cast(value: Value, kind: &Type) -> Result<Value, SqlError> {
    if value.is_null() {
        return Ok(value);
    }
    let refused = |value: &Value| {
        SqlError::bad(format!("invalid input syntax for type {}: \"{}\"", kind.name(), value.to_text()))
    };
    if let Kind::Array(element) = kind.kind() {
        let list = value.to_list().ok_or_else(|| refused(&value))?;
        let list: Result<Vec<Value>, SqlError> = list.iter().map(|v| cast(v.clone(), element)).collect();
        return Ok(Value::List(list?.into()));
    }
    match *kind {
        Type::BOOL => value.to_bool().map(Value::Bool).ok_or_else(|| refused(&value)),
        Type::INT2 | Type::INT4 | Type::INT8 | Type::OID => {
            value.to_int().map(Value::Int).ok_or_else(|| refused(&value))
        }
        Type::FLOAT4 | Type::FLOAT8 | Type::NUMERIC => {
            value.to_float().map(Value::Float).ok_or_else(|| refused(&value))
        }
        Type::CHAR => Ok(Value::text(value.to_text().get(..1).unwrap_or_default())),
        _ => match value {
            Value::Bool(b) => Ok(Value::text(if b { "true" } else { "false" })),
            Value::Text(_) => Ok(value),
            other => Ok(Value::text(&other.to_text())),
        },
    }
}
