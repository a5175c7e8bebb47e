//! Fields of the values in a template of an alert (`.Labels.job`), as Go evaluates them: a missing
//! entry of a map of texts is "", a missing field of a struct is an error.

use super::function_error::FunctionError;
use super::functions::{fail, text};
use super::times;
use gotmpl::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The function that looks up fields; its arguments are the position, the value, and names.
pub(crate) const FIELD: &str = "__field";
/// The text of a missing entry in a map of anything.
pub(crate) const NO_VALUE: &str = "<no value>";
/// The type of the data of a template.
const ROOT: &str = "struct { Labels map[string]string; ExternalLabels map[string]string; ExternalURL string; Value interface {} }";

/// The Go type of a value with fields.
enum GoType {
    /// The data of the template.
    Root,
    /// A row of a query's result.
    Sample,
    /// A time or a duration.
    Moment(&'static str),
    /// `map[string]string`: labels.
    Texts,
    /// `map[string]interface {}`, which the function `args` creates.
    Interfaces,
}

fn go_type(map: &BTreeMap<Arc<str>, Value>) -> GoType {
    let is = |names: &[&str]| map.len() == names.len() && names.iter().all(|name| map.contains_key(*name));
    if is(&["ExternalLabels", "ExternalURL", "Labels", "Value"]) {
        GoType::Root
    } else if is(&["Labels", "Value"]) {
        GoType::Sample
    } else if let Some(kind) = times::kind(map) {
        GoType::Moment(kind)
    } else if map.keys().next().is_some_and(|key| &**key == "arg0") {
        GoType::Interfaces
    } else {
        GoType::Texts
    }
}

/// Whether a map is the data of a template.
pub(crate) fn is_root(map: &BTreeMap<Arc<str>, Value>) -> bool {
    matches!(go_type(map), GoType::Root)
}

/// The function [`FIELD`].
pub(crate) fn field(args: &[Value]) -> Result<Value, FunctionError> {
    let [Value::String(place), of, names @ ..] = args else { return Err(fail("wrong number of args")) };
    let mut found = FieldValue { value: of.clone(), is_interface: false };
    for name in names.iter().filter_map(Value::as_str) {
        found = field_of(&found, name).map_err(|error| fail(format!("{place}: {error}")))?;
    }
    Ok(found.value)
}

/// The value of a field.
struct FieldValue {
    value: Value,
    /// Whether its type is `interface {}`, which error texts show.
    is_interface: bool,
}

impl FieldValue {
    fn typed(value: Value) -> FieldValue {
        FieldValue { value, is_interface: false }
    }

    fn interface(value: Value) -> FieldValue {
        FieldValue { value, is_interface: true }
    }
}

/// Why a value has no such field, in Go's words.
#[derive(Debug, thiserror::Error)]
enum FieldError {
    /// The value's type has no such field.
    #[error("can't evaluate field {name} in type {kind}")]
    Missing { name: String, kind: String },
    /// The value is nil.
    #[error("nil data; no entry for key {0:?}")]
    NilData(String),
}

fn field_of(of: &FieldValue, name: &str) -> Result<FieldValue, FieldError> {
    let missing = |kind: &str| Err(FieldError::Missing { name: name.to_owned(), kind: kind.to_owned() });
    let Value::Map(map) = &of.value else {
        return match &of.value {
            Value::Nil => Err(FieldError::NilData(name.to_owned())),
            _ if of.is_interface => missing("interface {}"),
            other => missing(super::printing::type_name(other)),
        };
    };
    // Names with two underscores are keys of our own in these maps, which Go does not have.
    let found = map.get(name).filter(|_| !name.starts_with("__")).cloned();
    match (go_type(map), found) {
        (GoType::Root, None) => missing(ROOT),
        (GoType::Sample, None) => missing("*template.sample"),
        (GoType::Moment(kind), None) => missing(kind),
        // Go's zero value: of a text the empty one, of an interface nil, which prints as NO_VALUE.
        (GoType::Texts, None) => Ok(FieldValue::typed(text(""))),
        (GoType::Interfaces, None) => Ok(FieldValue::interface(text(NO_VALUE))),
        (GoType::Root | GoType::Sample, Some(value)) => {
            Ok(FieldValue { value, is_interface: name == "Value" })
        }
        (GoType::Interfaces, Some(value)) => Ok(FieldValue::interface(value)),
        (_, Some(value)) => Ok(FieldValue::typed(value)),
    }
}
