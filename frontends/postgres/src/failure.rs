//! [`Failure`]: an error as PostgreSQL clients get it: SQLSTATE, text, position, hint. Converted
//! from [`sql::SqlError`] and from errors of the API.

use api::response::{ApiError, ErrorType};
use pgwire::error::ErrorInfo;
use pgwire::messages::PgWireBackendMessage;
use sql::{SqlError, SqlErrorKind};

/// SQLSTATEs that are needed in more than one place.
pub(crate) mod state {
    pub(crate) const PROTOCOL_VIOLATION: &str = "08P01";
    pub(crate) const NOT_SUPPORTED: &str = "0A000";
    pub(crate) const INVALID_TEXT: &str = "22P02";
    pub(crate) const IN_FAILED_TRANSACTION: &str = "25P02";
    pub(crate) const NO_STATEMENT: &str = "26000";
    pub(crate) const INVALID_LOGIN: &str = "28000";
    pub(crate) const INVALID_PASSWORD: &str = "28P01";
    pub(crate) const NO_CURSOR: &str = "34000";
    pub(crate) const SYNTAX: &str = "42601";
    pub(crate) const NO_COLUMN: &str = "42703";
    pub(crate) const NO_OBJECT: &str = "42704";
    pub(crate) const NO_FUNCTION: &str = "42883";
    pub(crate) const NO_TABLE: &str = "42P01";
    pub(crate) const DUPLICATE_STATEMENT: &str = "42P05";
    pub(crate) const DUPLICATE_CURSOR: &str = "42P03";
    pub(crate) const TOO_MANY_CONNECTIONS: &str = "53300";
    pub(crate) const LIMIT: &str = "54000";
    pub(crate) const CANCELED: &str = "57014";
    pub(crate) const SHUTDOWN: &str = "57P01";
    pub(crate) const NOT_NOW: &str = "57P03";
    pub(crate) const INTERNAL: &str = "XX000";
}

/// Why a message is answered with an error.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Failure {
    pub(crate) state: &'static str,
    pub(crate) text: String,
    pub(crate) hint: Option<String>,
    /// Line and column in the statement.
    pub(crate) place: Option<(u64, u64)>,
    /// The connection ends.
    pub(crate) is_fatal: bool,
}

impl Failure {
    pub(crate) fn new(state: &'static str, text: impl Into<String>) -> Failure {
        Failure { state, text: text.into(), hint: None, place: None, is_fatal: false }
    }

    /// One that ends the connection.
    pub(crate) fn fatal(state: &'static str, text: impl Into<String>) -> Failure {
        Failure { is_fatal: true, ..Failure::new(state, text) }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Failure {
        Failure { hint: Some(hint.into()), ..self }
    }

    /// The message; places are counted in `query`, of which the statement is a part.
    pub(crate) fn message(&self, query: &str, statement: &str) -> PgWireBackendMessage {
        // Twice: the first may be translated, the second never, and drivers read the second.
        let severity = if self.is_fatal { "FATAL" } else { "ERROR" };
        let mut info = ErrorInfo::new(severity.to_owned(), self.state.to_owned(), self.text.clone());
        info.severity_nonlocalized = Some(severity.to_owned());
        info.hint.clone_from(&self.hint);
        info.position = self.position(query, statement).map(|at| at.to_string());
        PgWireBackendMessage::ErrorResponse(info.into())
    }

    /// The number of the character, from 1.
    fn position(&self, query: &str, statement: &str) -> Option<usize> {
        let (line, column) = self.place?;
        let line = usize::try_from(line).ok()?.checked_sub(1)?;
        let before: usize = statement.split_inclusive('\n').take(line).map(|line| line.chars().count()).sum();
        // The statement is a slice of the message, so the difference of the addresses is its
        // offset. Of another text there is no offset, and the position is that in the statement.
        let offset = (statement.as_ptr() as usize).checked_sub(query.as_ptr() as usize);
        let prefix = offset.and_then(|bytes| query.get(..bytes)).map_or(0, |prefix| prefix.chars().count());
        Some(prefix + before + usize::try_from(column).ok()?)
    }
}

impl From<SqlError> for Failure {
    fn from(error: SqlError) -> Failure {
        let state = state_of(&error);
        Failure { state, text: error.text, hint: error.hint, place: error.place, is_fatal: false }
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Failure {
        if let Some(error) = error.statement_error {
            return Failure::from(*error);
        }
        let state = match error.kind {
            ErrorType::BadData | ErrorType::NotAcceptable => state_of_text(&error.message),
            ErrorType::Execution => "22000",
            ErrorType::LimitReached => state::LIMIT,
            ErrorType::Timeout | ErrorType::Canceled => state::CANCELED,
            ErrorType::Conflict if error.message.starts_with("relation ") => "42P07",
            ErrorType::Conflict => "42710",
            ErrorType::NotFound if error.message.starts_with("there is no table") => state::NO_TABLE,
            ErrorType::NotFound => state::NO_OBJECT,
            // What is not enabled.
            ErrorType::Unavailable => "42501",
            ErrorType::UnavailableNow => state::NOT_NOW,
            ErrorType::Internal => state::INTERNAL,
        };
        Failure::new(state, error.message)
    }
}

/// PostgreSQL's code of an error of the engine.
fn state_of(error: &SqlError) -> &'static str {
    let says = |parts: &[&str]| parts.iter().all(|part| error.text.contains(part));
    match error.kind {
        SqlErrorKind::Timeout | SqlErrorKind::Canceled => state::CANCELED,
        SqlErrorKind::LimitReached => state::LIMIT,
        SqlErrorKind::Unavailable => state::NOT_NOW,
        SqlErrorKind::Internal => state::INTERNAL,
        // `Division` or `Divide`, as arrow and the engine write it.
        _ if says(&["ivi", "by zero"]) => "22012",
        SqlErrorKind::Execution => match state_of_text(&error.text) {
            // The general code of data exceptions: what went wrong in an execution is about values.
            state::SYNTAX => "22000",
            found => found,
        },
        SqlErrorKind::BadData => state_of_text(&error.text),
    }
}

/// The state of a wrong statement, by what is said about it.
// By the text and not by more kinds of errors: the codes matter only to clients of this wire, and
// most of the texts are those of PostgreSQL. The specific ones stand before the general.
fn state_of_text(text: &str) -> &'static str {
    let says = |parts: &[&str]| parts.iter().all(|part| text.contains(part));
    if says(&["there is no function"])
        || says(&["function ", "does not exist"])
        || says(&["operator does not exist"])
    {
        state::NO_FUNCTION
    } else if says(&["duplicate key value"]) {
        "23505"
    } else if says(&["violates not-null constraint"]) {
        "23502"
    } else if says(&["column ", "of relation ", "does not exist"]) {
        state::NO_COLUMN
    } else if says(&["there is no metric"])
        || says(&["there is no relation"])
        || says(&["there is no table"])
        || says(&["relation ", "does not exist"])
        || says(&["missing FROM-clause entry"])
    {
        state::NO_TABLE
    } else if says(&["No field named"]) || says(&["column ", "does not exist"]) {
        state::NO_COLUMN
    } else if says(&["there is no schema"]) {
        "3F000"
    } else if says(&["invalid input syntax for type interval"])
        || says(&["invalid input syntax for type timestamp"])
        || says(&["invalid input syntax for type date"])
    {
        "22007"
    } else if says(&["invalid input syntax"]) || says(&["malformed array literal"]) {
        state::INVALID_TEXT
    } else if says(&["is out of range for type"]) || says(&["verflow"]) {
        "22003"
    } else if says(&["must be type boolean"]) {
        "42804"
    } else if says(&["is not UTF-8"]) {
        "22021"
    } else if says(&["incorrect binary data format"]) {
        "22P03"
    } else if is_broken_copy(text) {
        "22P04"
    } else if says(&["unrecognized configuration parameter"]) || says(&["type ", "does not exist"]) {
        state::NO_OBJECT
    } else if says(&["not available"]) || says(&["is not a statement"]) {
        state::NOT_SUPPORTED
    } else {
        state::SYNTAX
    }
}

/// Whether the rows of a `COPY` are not in its form.
fn is_broken_copy(text: &str) -> bool {
    // The texts of PostgreSQL for COPY, and those of this server.
    let parts = [
        "fields, but there are",
        "the names are",
        "COPY file header",
        "COPY file signature",
        "COPY data",
        "row field count is",
        "invalid field size",
        "received copy data after EOF marker",
    ];
    parts.iter().any(|part| text.contains(part)) || (text.contains("line ") && text.contains("quote"))
}

/// A warning that goes before the end of an answer.
pub(crate) fn warning(text: String) -> PgWireBackendMessage {
    let mut info = ErrorInfo::new("WARNING".to_owned(), "01000".to_owned(), text);
    info.severity_nonlocalized = Some("WARNING".to_owned());
    PgWireBackendMessage::NoticeResponse(info.into())
}
