//! Parse errors before they know their place in the query.
//!
//! Inside this crate an error is a span and a text ([`SpannedError`]). Only the functions of the
//! crate root know the query and turn it into a [`QueryTextError`] with line and column. Only the
//! first error of a query is reported, as in Prometheus.

use engine::plan::Span;
use language::QueryTextError;

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
        QueryTextError::new(query, self.span, self.text)
    }
}
