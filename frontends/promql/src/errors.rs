//! Parse errors without line and column.
//!
//! What can be wrong inside a token is a kind: [`LexError`], [`LiteralError`]. From the parser on
//! an error is a span and a text ([`SpannedError`]), because nobody decides by it: it is shown.
//! Only the functions of the crate root know the query text; they convert it into a
//! [`QueryTextError`] with line and column. As in Prometheus, only the first error of a query is
//! reported.

use super::quoting::{code_point, quote, quote_char};
use engine::plan::Span;
use language::QueryTextError;
use thiserror::Error;

/// Why the lexer finds no token. The texts are those of Prometheus' lexer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum LexError {
    #[error("unclosed left parenthesis")]
    UnclosedParenthesis,
    #[error("unexpected right parenthesis ')'")]
    RightParenthesis,
    #[error("unexpected right bracket ']'")]
    RightBracket,
    #[error("unexpected left brace '{{'")]
    LeftBrace,
    /// The text ends inside braces or brackets.
    #[error("unexpected end of input {0}")]
    End(LexMode),
    /// A character that begins no token; the mode is empty outside braces and brackets.
    #[error("unexpected character: {}", quote_char(*.0))]
    Character(char),
    #[error("unexpected character {mode}: {}", quote_char(*.character))]
    CharacterIn { mode: LexMode, character: char },
    /// A word in brackets that is no function of durations.
    #[error("unexpected character: {}, expected ':'", quote_char(*.0))]
    NoColon(char),
    #[error("unexpected character after '=': '~'")]
    RegexOperator,
    /// `None`: the end of the text.
    #[error("unexpected character after '!': {}", end_or(*.0))]
    AfterNot(Option<char>),
    #[error("unexpected character after '!' inside braces: {}", end_or(*.0))]
    AfterNotInBraces(Option<char>),
    #[error("unexpected colon before duration in duration expression")]
    EarlyColon,
    #[error("unexpected repeated colon in duration expression")]
    RepeatedColon,
    /// With the part of the text that looks like a number.
    #[error("bad number or duration syntax: {}", quote(.0))]
    Number(String),
    #[error("invalid UTF-8 rune")]
    InvalidUtf8,
    #[error("unterminated quoted string")]
    UnterminatedString,
    #[error("unterminated raw string")]
    UnterminatedRawString,
    #[error("escape sequence not terminated")]
    UnterminatedEscape,
    #[error("unknown escape sequence {}", code_point(*.0))]
    UnknownEscape(char),
    #[error("illegal character {} in escape sequence", code_point(*.0))]
    EscapeDigit(char),
    #[error("escape sequence is an invalid Unicode code point")]
    EscapeCodePoint,
}

/// Where the lexer is; with the words of Prometheus' error texts.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum LexMode {
    #[error("inside braces")]
    Braces,
    #[error("in duration expression")]
    Brackets,
}

/// A character as error texts show it; at the end of the text, Go shows its end-of-file rune -1.
fn end_or(c: Option<char>) -> String {
    c.map_or_else(|| quote_char(char::REPLACEMENT_CHARACTER), quote_char)
}

/// Why a token is no number or duration. The texts are those of Go's `strconv` and of Prometheus'
/// `model.ParseDuration`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum LiteralError {
    #[error("error parsing number: strconv.ParseFloat: parsing {}: invalid syntax", quote(.0))]
    Number(String),
    #[error("error parsing number: strconv.ParseFloat: parsing {}: value out of range", quote(.0))]
    NumberOutOfRange(String),
    #[error("not a valid duration string: {}", quote(.0))]
    Duration(String),
    #[error("unknown unit {} in duration {}", quote(.unit), quote(.duration))]
    UnknownUnit { unit: String, duration: String },
    #[error("duration out of range")]
    DurationOutOfRange,
}

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
