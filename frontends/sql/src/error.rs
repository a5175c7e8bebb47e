//! [`SqlError`]: why a statement has no result: kind, text, position in the statement, an excerpt
//! with a caret, and a hint.
//!
//! The kind decides about the HTTP status and the SQLSTATE. Errors of DataFusion and of the query
//! engine are converted here.

use super::error_texts::in_postgres_words;
use datafusion::common::{DataFusionError, SchemaError};
use datafusion::sql::sqlparser::tokenizer::Location;
use engine::plan::Span;
use engine::query::QueryError;
use language::QueryTextError;
use std::fmt;

/// Whose fault an error is; the API answers with the same codes as for PromQL.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum SqlErrorKind {
    /// The statement is wrong.
    BadData,
    /// The statement is right, but fails over this data.
    Execution,
    /// The time is over.
    Timeout,
    /// The client is gone.
    Canceled,
    /// A limit is reached.
    LimitReached,
    /// The store does not answer now.
    Unavailable,
    /// A bug of ours.
    Internal,
}

/// Why a statement has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlError {
    /// Whose fault it is.
    pub kind: SqlErrorKind,
    /// What is wrong.
    pub text: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Line and column, both from 1, in characters.
    pub place: Option<(u64, u64)>,
    /// The line of the statement with a caret below the place.
    pub excerpt: Option<String>,
}

impl SqlError {
    /// An error of this kind.
    pub fn new(kind: SqlErrorKind, text: impl Into<String>) -> SqlError {
        SqlError { kind, text: text.into(), hint: None, place: None, excerpt: None }
    }

    /// A wrong statement.
    pub fn bad(text: impl Into<String>) -> SqlError {
        SqlError::new(SqlErrorKind::BadData, text)
    }

    /// A bug of ours.
    pub(crate) fn internal(text: impl Into<String>) -> SqlError {
        SqlError::new(SqlErrorKind::Internal, text)
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> SqlError {
        self.hint = Some(hint.into());
        self
    }

    /// As an error of a query text; its position is that of this error in `text`, or the begin.
    pub fn in_query(&self, text: &str) -> QueryTextError {
        let at = self.place.and_then(|(line, column)| byte_of(text, line, column)).unwrap_or(0);
        let start = u32::try_from(at).unwrap_or(0);
        let hint = self.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
        QueryTextError::new(text, Span { start, end: start }, format!("{}{hint}", self.text))
    }

    /// Adds the place in the statement `text`.
    #[must_use]
    pub(crate) fn at(mut self, text: &str, place: Location) -> SqlError {
        if place.line == 0 || self.place.is_some() {
            return self;
        }
        let line = usize::try_from(place.line - 1).ok().and_then(|at| text.lines().nth(at)).unwrap_or("");
        let column = usize::try_from(place.column).unwrap_or(1).max(1);
        // A long line is cut around the place.
        let from = column.saturating_sub(60);
        let shown: String = line.chars().skip(from).take(100).collect();
        let caret = column - 1 - from.min(column - 1);
        self.place = Some((place.line, place.column));
        self.excerpt = Some(format!("{shown}\n{:caret$}^", ""));
        self
    }

    /// The error that DataFusion gave for the statement `text`.
    pub(crate) fn from_datafusion(error: DataFusionError, text: &str) -> SqlError {
        in_postgres_words(SqlError::of_cause(error, text))
    }

    /// The error that is inside of DataFusion's, in its own words.
    fn of_cause(error: DataFusionError, text: &str) -> SqlError {
        match error {
            DataFusionError::External(inner) => match inner.downcast::<SqlError>() {
                Ok(own) => *own,
                Err(other) => SqlError::new(SqlErrorKind::Execution, other.to_string()),
            },
            DataFusionError::Context(_, inner) => SqlError::from_datafusion(*inner, text),
            DataFusionError::ArrowError(inner, _) => match *inner {
                arrow::error::ArrowError::ExternalError(inner) => {
                    SqlError::from_datafusion(DataFusionError::External(inner), text)
                }
                other => SqlError::new(SqlErrorKind::Execution, other.to_string()),
            },
            DataFusionError::Shared(inner) => match inner.as_ref() {
                DataFusionError::External(own) if own.is::<SqlError>() => own
                    .downcast_ref::<SqlError>()
                    .cloned()
                    .unwrap_or_else(|| SqlError::bad(inner.to_string())),
                other => SqlError::new(SqlErrorKind::Execution, other.strip_backtrace()),
            },
            DataFusionError::Diagnostic(diagnostic, inner) => {
                let error = SqlError::from_datafusion(*inner, text);
                match diagnostic.span {
                    Some(span) => {
                        error.at(text, Location { line: span.start.line, column: span.start.column })
                    }
                    None => error,
                }
            }
            DataFusionError::Collection(mut errors) if !errors.is_empty() => {
                SqlError::from_datafusion(errors.swap_remove(0), text)
            }
            DataFusionError::SQL(parser, _) => {
                let message = parser.to_string();
                SqlError::bad(message.trim_start_matches("sql parser error: ").to_owned())
            }
            DataFusionError::Plan(message) | DataFusionError::NotImplemented(message) => {
                SqlError::bad(message)
            }
            error @ DataFusionError::SchemaError(..) => match missing_relation(&error) {
                Some(name) => SqlError::bad(format!("missing FROM-clause entry for table \"{name}\"")),
                None => SqlError::bad(schema_text(&error.strip_backtrace())),
            },
            DataFusionError::ResourcesExhausted(message) => {
                let limit = super::limits::OPERATOR_BYTES / 1024 / 1024;
                SqlError::new(
                    SqlErrorKind::LimitReached,
                    format!("the statement needs more than {limit} MiB: {message}"),
                )
                .hint("group or filter earlier, or ask for a shorter time")
            }
            other => SqlError::new(SqlErrorKind::Execution, other.strip_backtrace()),
        }
    }
}

/// The byte of `text` at a line and a column, both from 1; the column counts characters.
pub(crate) fn byte_of(text: &str, line: u64, column: u64) -> Option<usize> {
    let line = usize::try_from(line).ok()?.checked_sub(1)?;
    let column = usize::try_from(column).ok()?.checked_sub(1)?;
    let before: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let within = text.get(before..)?.char_indices().nth(column).map_or(0, |(at, _)| at);
    Some(before + within)
}

/// The name before the dot of a column that is not there, if no relation of the statement has it.
fn missing_relation(error: &DataFusionError) -> Option<String> {
    let DataFusionError::SchemaError(error, _) = error else { return None };
    let SchemaError::FieldNotFound { field, valid_fields } = error.as_ref() else { return None };
    let relation = field.relation.as_ref()?;
    let is_known = valid_fields.iter().any(|known| known.relation.as_ref() == Some(relation));
    (!is_known).then(|| relation.table().to_owned())
}

/// DataFusion's text without its prefix.
fn schema_text(message: &str) -> String {
    message.trim_start_matches("Schema error: ").to_owned()
}

impl From<QueryError> for SqlError {
    fn from(error: QueryError) -> SqlError {
        let (kind, text) = match error {
            QueryError::BadData(text) => (SqlErrorKind::BadData, text),
            QueryError::Execution(text) => (SqlErrorKind::Execution, text),
            QueryError::Timeout(text) => (SqlErrorKind::Timeout, text),
            QueryError::Canceled(text) => (SqlErrorKind::Canceled, text),
            QueryError::Internal(text) => (SqlErrorKind::Internal, text),
            QueryError::LimitReached(text) => (SqlErrorKind::LimitReached, text),
            QueryError::Unavailable(text) => (SqlErrorKind::Unavailable, text),
        };
        SqlError::new(kind, text)
    }
}

impl From<SqlError> for QueryError {
    fn from(error: SqlError) -> QueryError {
        let text = error.to_string();
        match error.kind {
            SqlErrorKind::BadData => QueryError::BadData(text),
            SqlErrorKind::Execution => QueryError::Execution(text),
            SqlErrorKind::Timeout => QueryError::Timeout(text),
            SqlErrorKind::Canceled => QueryError::Canceled(text),
            SqlErrorKind::LimitReached => QueryError::LimitReached(text),
            SqlErrorKind::Unavailable => QueryError::Unavailable(text),
            SqlErrorKind::Internal => QueryError::Internal(text),
        }
    }
}

impl From<SqlError> for DataFusionError {
    fn from(error: SqlError) -> DataFusionError {
        DataFusionError::External(Box::new(error))
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.place {
            write!(f, "line {line}, column {column}: ")?;
        }
        f.write_str(&self.text)?;
        if let Some(excerpt) = &self.excerpt {
            write!(f, "\n{excerpt}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SqlError {}
