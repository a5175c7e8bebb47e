//! Fields of a template's values, as Go evaluates them: a missing entry of a map of texts is "", a
//! missing field of a struct is an error.

use super::functions::{fail, text};
use super::times;
use gotmpl::{TemplateError, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The function that looks up fields; its arguments are the position, the value, and names.
pub(crate) const FIELD: &str = "__field";
/// The text of a missing entry in a map of anything.
pub(crate) const NO_VALUE: &str = "<no value>";
/// The type of the data of a template.
const ROOT: &str = "struct { Labels map[string]string; ExternalLabels map[string]string; ExternalURL string; Value interface {} }";

/// The kinds of values with fields.
enum Holder {
    /// The data of the template.
    Root,
    /// A row of a query's result.
    Sample,
    /// A time or a duration.
    Moment(&'static str),
    /// A map of labels.
    Texts,
    /// A map that `args` created.
    Anything,
}

fn holder(map: &BTreeMap<Arc<str>, Value>) -> Holder {
    let is = |names: &[&str]| map.len() == names.len() && names.iter().all(|name| map.contains_key(*name));
    if is(&["ExternalLabels", "ExternalURL", "Labels", "Value"]) {
        Holder::Root
    } else if is(&["Labels", "Value"]) {
        Holder::Sample
    } else if let Some(kind) = times::kind(map) {
        Holder::Moment(kind)
    } else if map.keys().next().is_some_and(|key| &**key == "arg0") {
        Holder::Anything
    } else {
        Holder::Texts
    }
}

/// Whether a map is the data of a template.
pub(crate) fn is_root(map: &BTreeMap<Arc<str>, Value>) -> bool {
    matches!(holder(map), Holder::Root)
}

/// The function [`FIELD`].
pub(crate) fn field(args: &[Value]) -> Result<Value, TemplateError> {
    let [Value::String(place), of, names @ ..] = args else { return Err(fail("wrong number of args")) };
    let mut value = of.clone();
    let mut is_interface = false;
    for name in names.iter().filter_map(Value::as_str) {
        let found = one(&value, name, is_interface);
        (value, is_interface) = found.map_err(|why| fail(format!("{place}: {why}")))?;
    }
    Ok(value)
}

/// A field, and whether its type is `interface {}`.
fn one(of: &Value, name: &str, is_interface: bool) -> Result<(Value, bool), String> {
    let missing = |kind: &str| Err(format!("can't evaluate field {name} in type {kind}"));
    let Value::Map(map) = of else {
        return match of {
            Value::Nil => Err(format!("nil data; no entry for key {name:?}")),
            _ if is_interface => missing("interface {}"),
            other => missing(super::printing::type_name(other)),
        };
    };
    let found = map.get(name).filter(|_| !name.starts_with("__")).cloned();
    match (holder(map), found) {
        (Holder::Root, None) => missing(ROOT),
        (Holder::Sample, None) => missing("*template.sample"),
        (Holder::Moment(kind), None) => missing(kind),
        (Holder::Texts, None) => Ok((text(""), false)),
        (Holder::Anything, None) => Ok((text(NO_VALUE), true)),
        (Holder::Root | Holder::Sample, Some(value)) => Ok((value, name == "Value")),
        (Holder::Anything, Some(value)) => Ok((value, true)),
        (_, Some(value)) => Ok((value, false)),
    }
}
