//! Parse errors without line and column.
//!
//! Inside this crate an error is a span and a text ([`SpannedError`]). Only the functions of the
//! crate root know the query text; they convert it into a [`QueryTextError`] with line and column.
//! As in Prometheus, only the first error of a query is reported.

use engine::plan::Span;
use language::QueryTextError;

/// An error at a span of the query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SpannedError {
    pub(crate) span: Span,
    pub(crate) text: String,
}

impl SpannedError {
    /// An error at `span`.
    pub(crate) fn new(span: Span, text: impl Into<String>) -> SpannedError {
        SpannedError { span, text: text.into() }
    }

    /// Converts the span to line and column in `query`.
    pub(crate) fn locate(self, query: &str) -> QueryTextError {
        QueryTextError::new(query, self.span, self.text)
    }
}
