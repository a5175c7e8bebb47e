//! [`QueryTextError`]: the error of a query text, with its position in Prometheus' notation (`1:5:
//! parse error: …`). The API, rule files and the editor of the page show it.

use engine::plan::Span;

/// Why a text is not a valid query; [`QueryTextError::message`] is the same text as Prometheus'.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryTextError {
    /// The bytes of the query that are wrong.
    pub span: Span,
    /// What is wrong, without the position.
    pub text: String,
    /// `line:column` in Prometheus' notation.
    position: String,
    /// Line and column, both from 1; `None`: the position is not inside the query.
    line_and_column: Option<(u64, u64)>,
}

impl QueryTextError {
    /// An error over `span` of `query`.
    pub fn new(query: &str, span: Span, text: String) -> QueryTextError {
        let at = span.start as usize;
        let line_and_column = line_and_column(query, at);
        QueryTextError { span, text, position: position(query, at), line_and_column }
    }

    /// Position and text, such as `1:5: parse error: unexpected identifier "x"`.
    pub fn message(&self) -> String {
        format!("{}: parse error: {}", self.position, self.text)
    }

    /// Line and column in the query, both from 1; the column counts bytes. `None` if the query is
    /// empty or the error is beyond its end.
    pub fn line_and_column(&self) -> Option<(u64, u64)> {
        self.line_and_column
    }
}

impl std::fmt::Display for QueryTextError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message())
    }
}

impl std::error::Error for QueryTextError {}

/// `line:column` of byte `at` of `query`, both from 1; the column counts bytes.
///
/// ```
/// assert_eq!(language::position("sum(up)\n/ x", 10), "2:3");
/// ```
pub fn position(query: &str, at: usize) -> String {
    // Both texts for a position that cannot be given are those of Prometheus.
    if query.is_empty() {
        return "unknown position".to_owned();
    }
    match line_and_column(query, at) {
        Some((line, column)) => format!("{line}:{column}"),
        None => "invalid position".to_owned(),
    }
}

fn line_and_column(query: &str, at: usize) -> Option<(u64, u64)> {
    // `at` may be the end of the query: that is where a text that breaks off is wrong.
    if query.is_empty() || at > query.len() {
        return None;
    }
    let before = &query.as_bytes()[..at];
    let line = 1 + before.iter().filter(|b| **b == b'\n').count();
    let column = at - before.iter().rposition(|b| *b == b'\n').map_or(0, |newline| newline + 1) + 1;
    Some((line as u64, column as u64))
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
