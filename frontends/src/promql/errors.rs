//! Parse errors, with the position that Prometheus prints in front of them.
//!
//! Inside the room errors are [`SpannedError`]s (a span and a text); at its door they learn line
//! and column of the query and become [`QueryTextError`]s. Only the first error of a query is
//! reported, as upstream does.

use engine::plan::Span;

/// Why a text is not a query: what [`QueryTextError::message`] prints is Prometheus' text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryTextError {
    /// The bytes that are to blame.
    pub span: Span,
    /// What is wrong, without the position.
    pub text: String,
    position: String,
}

impl QueryTextError {
    /// Position and text, such as `1:5: parse error: unexpected identifier "x"`.
    pub fn message(&self) -> String {
        format!("{}: parse error: {}", self.position, self.text)
    }
}

impl std::fmt::Display for QueryTextError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message())
    }
}

impl std::error::Error for QueryTextError {}

/// An error that does not know its query yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SpannedError {
    pub(crate) span: Span,
    pub(crate) text: String,
}

impl SpannedError {
    /// An error over `span`.
    pub(crate) fn new(span: Span, text: impl Into<String>) -> SpannedError {
        SpannedError { span, text: text.into() }
    }

    /// With line and column in `query`.
    pub(crate) fn locate(self, query: &str) -> QueryTextError {
        let position = position(query, self.span.start as usize);
        QueryTextError { span: self.span, text: self.text, position }
    }
}

/// `line:column` of byte `at` of `query`, both from 1; the column counts bytes. Annotations show it too.
pub fn position(query: &str, at: usize) -> String {
    if query.is_empty() {
        return "unknown position".to_owned();
    }
    if at > query.len() {
        return "invalid position".to_owned();
    }
    let before = &query.as_bytes()[..at];
    let line = 1 + before.iter().filter(|b| **b == b'\n').count();
    let column = at - before.iter().rposition(|b| *b == b'\n').map_or(0, |newline| newline + 1) + 1;
    format!("{line}:{column}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_bytes_from_one_in_each_line() {
        assert_eq!(position("abc", 2), "1:3");
        assert_eq!(position("a\nüb", 4), "2:3");
        assert_eq!(position("a\n", 2), "2:1");
        assert_eq!(position("", 0), "unknown position");
    }
}
