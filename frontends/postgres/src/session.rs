//! Statements about the session itself: `BEGIN`, `COMMIT`, `SET`, `SHOW`, `DEALLOCATE` and others.
//!
//! There are no transactions: a change is done when it is answered. `BEGIN` and `COMMIT` are
//! accepted, because clients send them around everything. [`super::settings`] has the settings.

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Token, Tokenizer};

/// A statement about the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SessionStatement {
    Begin,
    Commit,
    Rollback,
    /// `ROLLBACK TO`: a failed transaction goes on.
    RollbackTo,
    Set {
        name: String,
        value: String,
    },
    /// `SET … TO DEFAULT`, `RESET`; `None`: all.
    Reset(Option<String>),
    Show(String),
    ShowAll,
    /// `DISCARD ALL`
    Discard,
    /// `None`: all.
    Deallocate(Option<String>),
    /// Something that changes nothing here; how it is answered.
    Nothing(&'static str),
}

impl SessionStatement {
    /// How it is answered.
    pub(crate) fn tag(&self) -> &'static str {
        match self {
            SessionStatement::Begin => "BEGIN",
            SessionStatement::Commit => "COMMIT",
            SessionStatement::Rollback | SessionStatement::RollbackTo => "ROLLBACK",
            SessionStatement::Set { .. } => "SET",
            SessionStatement::Reset(_) => "RESET",
            SessionStatement::Show(_) | SessionStatement::ShowAll => "SHOW",
            SessionStatement::Discard => "DISCARD ALL",
            SessionStatement::Deallocate(None) => "DEALLOCATE ALL",
            SessionStatement::Deallocate(Some(_)) => "DEALLOCATE",
            SessionStatement::Nothing(tag) => tag,
        }
    }

    /// Whether it may stand in a transaction that has failed.
    pub(crate) fn ends_failed_transaction(&self) -> bool {
        matches!(self, SessionStatement::Commit | SessionStatement::Rollback | SessionStatement::RollbackTo)
    }
}

/// The words of a statement: names as they are looked up, texts without quotes, signs.
pub(crate) fn words(text: &str) -> Vec<String> {
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, text).tokenize().unwrap_or_default();
    let word = |token: Token| match token {
        Token::Whitespace(_) | Token::EOF | Token::SemiColon => None,
        // Names in quotes keep their case, as everywhere in PostgreSQL.
        Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_ascii_lowercase()),
        Token::Word(word) => Some(word.value),
        Token::SingleQuotedString(text) => Some(text),
        other => Some(other.to_string()),
    };
    tokens.into_iter().filter_map(word).collect()
}

/// Whether a text has nothing but spaces, comments and semicolons. One that cannot be tokenised,
/// such as an open literal, has something.
pub(crate) fn is_empty(text: &str) -> bool {
    let is_nothing = |token: &Token| matches!(token, Token::Whitespace(_) | Token::EOF | Token::SemiColon);
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, text).tokenize();
    tokens.is_ok_and(|tokens| tokens.iter().all(is_nothing))
}

/// Reads a statement about the session; `None`: it is about something else.
pub(crate) fn parse(text: &str) -> Option<SessionStatement> {
    let first = text.trim_start().get(..10.min(text.trim_start().len())).unwrap_or("");
    // Most statements are queries: their words need not be looked at.
    if first.to_ascii_lowercase().starts_with("select") {
        return None;
    }
    let words = words(text);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    Some(match words.as_slice() {
        ["begin", ..] | ["start", "transaction", ..] => SessionStatement::Begin,
        ["commit" | "end", ..] => SessionStatement::Commit,
        ["rollback", "to", ..] | ["rollback", "transaction" | "work", "to", ..] => {
            SessionStatement::RollbackTo
        }
        ["rollback" | "abort", ..] => SessionStatement::Rollback,
        // Nothing can be rolled back to, but drivers set one before each statement and would stop
        // without it.
        ["savepoint", _] => SessionStatement::Nothing("SAVEPOINT"),
        ["release", ..] => SessionStatement::Nothing("RELEASE"),
        // Nobody notifies here. Clients listen to be told of changes in the schema, and go without.
        ["listen", _] => SessionStatement::Nothing("LISTEN"),
        ["unlisten", _] => SessionStatement::Nothing("UNLISTEN"),
        ["discard", ..] => SessionStatement::Discard,
        ["deallocate", "prepare", "all"] | ["deallocate", "all"] => SessionStatement::Deallocate(None),
        ["deallocate", "prepare", name] | ["deallocate", name] => {
            SessionStatement::Deallocate(Some((*name).to_owned()))
        }
        ["reset", "all"] => SessionStatement::Reset(None),
        ["reset", name @ ..] => SessionStatement::Reset(Some(joined(name))),
        ["set", rest @ ..] => set(rest)?,
        ["show", "all"] => SessionStatement::ShowAll,
        // Lists of the server.
        ["show", "alerts" | "views" | "tables"] => return None,
        // `SHOW CREATE …` prints a definition, which the engine knows.
        ["show", "create", ..] => return None,
        ["show", name @ ..] if !name.is_empty() => SessionStatement::Show(joined(name)),
        _ => return None,
    })
}

/// `transaction isolation level`, `search_path`, `my.setting`.
fn joined(words: &[&str]) -> String {
    words.join(" ").replace(" . ", ".")
}

fn set(words: &[&str]) -> Option<SessionStatement> {
    let words = match words {
        // There are no roles to take.
        ["role", _] | ["session" | "local", "role", _] => return Some(SessionStatement::Nothing("SET")),
        ["session", "characteristics", ..] | ["transaction", ..] | ["constraints", ..] => {
            return Some(SessionStatement::Nothing("SET"));
        }
        ["session" | "local", rest @ ..] => rest,
        all => all,
    };
    let (name, value) = match words {
        ["time", "zone", value @ ..] => ("timezone".to_owned(), value),
        ["names", value @ ..] => ("client_encoding".to_owned(), value),
        _ => {
            // Without a sign it is no setting; the parser of statements then says what is wrong.
            let at = words.iter().position(|word| *word == "=" || *word == "to")?;
            (joined(&words[..at]), &words[at + 1..])
        }
    };
    if value == ["default"] {
        return Some(SessionStatement::Reset(Some(name)));
    }
    // The tokens of a list (`a, b`) and of a negative number are put together again as they were
    // written.
    let value = value.join(" ").replace(" , ", ", ").replace("- ", "-");
    Some(SessionStatement::Set { name, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_tokenised_is_not_empty() {
        for (text, want) in [
            ("", true),
            (" ; -- nothing\n/* and nothing */", true),
            ("SELECT 1", false),
            ("SELECT 'open", false),
            ("'", false),
            ("SELECT \"open", false),
            ("/* open", false),
        ] {
            assert_eq!(is_empty(text), want, "{text}");
        }
    }

    #[test]
    fn statements_about_the_session_are_read() {
        let set = |name: &str, value: &str| {
            Some(SessionStatement::Set { name: name.to_owned(), value: value.to_owned() })
        };
        for (text, want) in [
            ("BEGIN", Some(SessionStatement::Begin)),
            ("START TRANSACTION READ ONLY", Some(SessionStatement::Begin)),
            ("commit;", Some(SessionStatement::Commit)),
            ("ROLLBACK TO SAVEPOINT a", Some(SessionStatement::RollbackTo)),
            ("SET extra_float_digits = 3", set("extra_float_digits", "3")),
            ("SET SESSION search_path TO \"$user\", public", set("search_path", "$user, public")),
            ("SET TIME ZONE 'UTC'", set("timezone", "UTC")),
            ("set x.y = -1", set("x.y", "-1")),
            (
                "SET client_encoding TO DEFAULT",
                Some(SessionStatement::Reset(Some("client_encoding".to_owned()))),
            ),
            (
                "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED",
                Some(SessionStatement::Nothing("SET")),
            ),
            (
                "SHOW TRANSACTION ISOLATION LEVEL",
                Some(SessionStatement::Show("transaction isolation level".to_owned())),
            ),
            ("SHOW server_version_num", Some(SessionStatement::Show("server_version_num".to_owned()))),
            ("SET ROLE NONE", Some(SessionStatement::Nothing("SET"))),
            ("SET SESSION TIMEZONE TO 'UTC';", set("timezone", "UTC")),
            ("show timezone;", Some(SessionStatement::Show("timezone".to_owned()))),
            ("DISCARD ALL", Some(SessionStatement::Discard)),
            ("DEALLOCATE ALL", Some(SessionStatement::Deallocate(None))),
            ("SHOW VIEWS", None),
            ("SELECT 1", None),
            ("CREATE TABLE begin (a int)", None),
            ("", None),
        ] {
            assert_eq!(parse(text), want, "{text}");
        }
    }
}
