//! Errors of the text formats: what is wrong with a body, and in which line. The texts are
//! Prometheus'.

/// What is wrong with a body, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct ExpositionError {
    /// Line number, from 1.
    pub line: usize,
    /// What is wrong with the line.
    pub reason: LineError,
}

/// What is wrong with a line. Texts quote what was exposed: escaped, and cut to a length.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// There is something else than the format has at this place.
    #[error("expected {what}, got {got}")]
    Expected {
        /// What the format has there.
        what: &'static str,
        /// What is there.
        got: String,
    },
    /// A label name is followed by something else than `=`.
    #[error("expected = after label name {name}, got {got}")]
    NoValue {
        /// The name.
        name: Box<str>,
        /// What follows.
        got: Box<str>,
    },
    /// A metadata line has no text.
    #[error("expected text in {0}")]
    NoText(String),
    /// `{` without `}`.
    #[error("labels are not closed: {0}")]
    OpenLabels(String),
    /// `"` without another one.
    #[error("string is not closed: {0}")]
    OpenString(String),
    /// A number is beyond the range of a double, or a NaN has a sign.
    #[error("value out of range or with a sign: {0}")]
    OutOfRange(String),
    /// A type that the format does not have.
    #[error("invalid metric type {0}")]
    MetricType(String),
    /// A unit that is not the last part of the name of its family.
    #[error("unit {unit} not a suffix of metric {metric}")]
    Unit {
        /// The unit.
        unit: Box<str>,
        /// The family.
        metric: Box<str>,
    },
    /// A help text is not UTF-8.
    #[error("help text {0} is not a valid utf8 string")]
    HelpUtf8(String),
    /// A value of an exemplar's label is not UTF-8.
    #[error("invalid UTF-8 label value: {0}")]
    LabelUtf8(String),
    /// Another text is not UTF-8.
    #[error("invalid UTF-8 in {0}")]
    Utf8(String),
    /// A series has no name.
    #[error("metric name not set while parsing: {0}")]
    NoName(String),
    /// A series has a name before its labels and another one among them.
    #[error("metric name is given twice: {0}")]
    TwoNames(String),
    /// The line is well-formed, and its series may not be stored.
    #[error("{0}")]
    Series(String),
    /// The body ends without its last line: it was cut, and its last samples may be wrong.
    #[error("data does not end with # EOF")]
    NoEof,
    /// There is more after the last line.
    #[error("unexpected data after # EOF")]
    AfterEof,
}

impl LineError {
    /// `got` is there instead of `what`.
    #[cold]
    pub(crate) fn expected(what: &'static str, got: &[u8]) -> LineError {
        LineError::Expected { what, got: super::quote(got) }
    }
}
