//! [`FunctionError`]: why a function of a template has no result.
//!
//! Go's error texts begin with the position of what is at fault: the call, or the argument that has
//! another type than the function takes. So the caller of a function needs to know which it is, and
//! asks the kind of the error; the text is for people only.

use gotmpl::{TemplateError, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A function of templates.
pub(crate) type TemplateFunction = Arc<dyn Fn(&[Value]) -> Result<Value, FunctionError> + Send + Sync>;

/// The functions of templates, by name.
pub(crate) type FunctionTable = BTreeMap<String, TemplateFunction>;

/// Why a function has no result; with Go's text.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FunctionError {
    /// It was called with too few or too many arguments.
    #[error("{0}")]
    ArgumentCount(String),
    /// An argument has another type than the function takes.
    #[error("{text}")]
    ArgumentType {
        /// The type that it takes.
        expected: ArgumentType,
        /// What is shown.
        text: String,
    },
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// A type that an argument must have.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum ArgumentType {
    /// A string.
    Text,
    /// A row of a query's result.
    Row,
    /// The result of a query.
    Rows,
}

impl ArgumentType {
    /// Whether `value` has the type.
    pub(crate) fn fits(self, value: &Value) -> bool {
        match self {
            // Go turns nil into "".
            ArgumentType::Text => matches!(value, Value::String(_) | Value::Nil),
            ArgumentType::Row => value.field("Labels").is_some(),
            ArgumentType::Rows => matches!(value, Value::List(_)),
        }
    }
}

/// The template engine takes only its own errors; it shows the text of this one as it is.
impl From<FunctionError> for TemplateError {
    fn from(error: FunctionError) -> TemplateError {
        TemplateError::Exec(error.to_string())
    }
}

/// What the engine's own operations on values report; `Exec` is its text without a preamble.
impl From<TemplateError> for FunctionError {
    fn from(error: TemplateError) -> FunctionError {
        match error {
            TemplateError::Exec(text) => FunctionError::Failed(text),
            other => FunctionError::Failed(other.to_string()),
        }
    }
}

/// The function as the template engine calls it.
pub(crate) fn for_engine(function: TemplateFunction) -> gotmpl::ValueFunc {
    Arc::new(move |args: &[Value]| Ok(function(args)?))
}
