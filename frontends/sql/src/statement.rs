//! Statements that define, remove, list and follow something; the queries inside of them are not
//! looked at here.
//!
//! The grammar is in `docs/sql.md`. It is read from the parser's tokens, because no parser of SQL
//! knows alerts; errors have the place of the token.

use crate::error::{SqlError, byte_of};
use crate::guard::is_word;
use crate::limits;
use crate::names::folded;
use crate::values::duration_text;
use datafusion::sql::sqlparser::ast::Ident;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};
use std::collections::BTreeMap;

/// What a statement does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SqlStatement {
    /// It reads: `SELECT`, `EXPLAIN`, ….
    Query,
    /// `CREATE ALERT`
    CreateAlert(AlertStatement),
    /// `CREATE MATERIALIZED VIEW`
    CreateView(ViewStatement),
    /// `DROP`
    Drop(DropStatement),
    /// `SHOW ALERTS`
    ShowAlerts,
    /// `DROP TABLE`
    DropTable(DropTableStatement),
    /// `SHOW VIEWS`
    ShowViews,
    /// `SHOW TABLES`
    ShowTables,
    /// `SUBSCRIBE`; the query.
    Subscribe(String),
}

/// An alert that is defined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertStatement {
    /// Its name, as it is written.
    pub name: String,
    /// `OR REPLACE`: one of that name may exist.
    pub replace: bool,
    /// `FOR`, ms.
    pub hold: i64,
    /// `KEEP FIRING FOR`, ms.
    pub keep_firing_for: i64,
    /// `LABELS`, templates.
    pub labels: BTreeMap<String, String>,
    /// `ANNOTATIONS`, templates.
    pub annotations: BTreeMap<String, String>,
    /// The condition.
    pub query: String,
}

/// A view that is defined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewStatement {
    /// Its name, in lower case unless it is quoted.
    pub name: String,
    /// `OR REPLACE`: one of that name may exist.
    pub replace: bool,
    /// `record = '…'`: the metric that its rows are recorded as.
    pub record: Option<String>,
    /// `interval = '…'`, ms.
    pub interval: Option<i64>,
    /// Its rows.
    pub query: String,
}

/// What is removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropStatement {
    /// An alert; otherwise a view.
    pub is_alert: bool,
    /// `IF EXISTS`: it need not be there.
    pub if_exists: bool,
    /// Its name.
    pub name: String,
}

/// A table that is removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropTableStatement {
    /// `IF EXISTS`: it need not be there.
    pub if_exists: bool,
    /// Its name.
    pub name: String,
}

/// Reads what a statement does. The query inside of it is not checked.
pub fn parse(text: &str) -> Result<SqlStatement, SqlError> {
    if text.len() > limits::TEXT_BYTES {
        // The guard says so.
        return Ok(SqlStatement::Query);
    }
    let Ok(tokens) = Tokenizer::new(&PostgreSqlDialect {}, text).tokenize_with_location() else {
        return Ok(SqlStatement::Query);
    };
    let is_space = |t: &TokenWithSpan| matches!(t.token, Token::Whitespace(_) | Token::EOF);
    let mut tokens: Vec<TokenWithSpan> = tokens.into_iter().filter(|t| !is_space(t)).collect();
    while tokens.last().is_some_and(|t| t.token == Token::SemiColon) {
        tokens.pop();
    }
    // Other statements of these words are refused by the guard.
    let is_create = tokens.first().is_some_and(|t| is_word(&t.token, "CREATE"));
    let is_known = |second: &TokenWithSpan| {
        let words = ["ALERT", "ALERTS", "MATERIALIZED", "OR", "VIEW", "VIEWS"];
        let is_table = ["TABLE", "TABLES"].iter().any(|word| is_word(&second.token, word));
        words.iter().any(|word| is_word(&second.token, word)) || (is_table && !is_create)
    };
    let is_subscribe = tokens.first().is_some_and(|t| is_word(&t.token, "SUBSCRIBE"));
    if !is_subscribe && !tokens.get(1).is_some_and(is_known) {
        return Ok(SqlStatement::Query);
    }
    let mut reader = Reader { text, tokens, at: 0 };
    if reader.accept("CREATE") {
        return reader.create();
    }
    if reader.accept("DROP") {
        return reader.drop();
    }
    if reader.accept("SHOW") {
        return reader.show();
    }
    if reader.accept("SUBSCRIBE") {
        return reader.query().map(SqlStatement::Subscribe);
    }
    Ok(SqlStatement::Query)
}

/// The statements of a text that has several, separated by semicolons; empty ones are left out.
pub fn split(text: &str) -> Vec<&str> {
    // A text that cannot be read is one statement: its error comes from the guard.
    let Ok(tokens) = Tokenizer::new(&PostgreSqlDialect {}, text).tokenize_with_location() else {
        return vec![text];
    };
    let mut parts = Vec::new();
    let mut from = 0;
    for token in tokens.iter().filter(|t| t.token == Token::SemiColon) {
        let place = token.span.start;
        let Some(at) = byte_of(text, place.line, place.column) else { continue };
        parts.push(&text[from..at]);
        from = at + 1;
    }
    parts.push(&text[from..]);
    parts.retain(|part| !part.trim().is_empty());
    parts
}

/// Reads tokens from left to right.
struct Reader<'a> {
    text: &'a str,
    tokens: Vec<TokenWithSpan>,
    at: usize,
}

impl Reader<'_> {
    fn token(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|t| &t.token)
    }

    /// Whether the next token is this word; then it is read.
    fn accept(&mut self, word: &str) -> bool {
        let is = self.token().is_some_and(|token| is_word(token, word));
        self.at += usize::from(is);
        is
    }

    fn accept_token(&mut self, wanted: &Token) -> bool {
        let is = self.token() == Some(wanted);
        self.at += usize::from(is);
        is
    }

    /// The error that something else is wanted here.
    fn wanted(&self, what: &str) -> SqlError {
        let found = self.token().map_or_else(|| "the end".to_owned(), ToString::to_string);
        let error = SqlError::bad(format!("{what} is expected, not {found}"));
        match self.tokens.get(self.at).or(self.tokens.last()) {
            Some(token) => error.at(self.text, token.span.start),
            None => error,
        }
    }

    fn expect(&mut self, word: &str) -> Result<(), SqlError> {
        if self.accept(word) { Ok(()) } else { Err(self.wanted(word)) }
    }

    fn expect_token(&mut self, token: &Token) -> Result<(), SqlError> {
        if self.accept_token(token) { Ok(()) } else { Err(self.wanted(&token.to_string())) }
    }

    fn end(&self) -> Result<(), SqlError> {
        if self.token().is_none() { Ok(()) } else { Err(self.wanted("the end")) }
    }

    /// A name; `folds`: in lower case unless it is quoted.
    fn name(&mut self, folds: bool) -> Result<String, SqlError> {
        let Some(Token::Word(word)) = self.token() else { return Err(self.wanted("a name")) };
        let ident = Ident {
            value: word.value.clone(),
            quote_style: word.quote_style,
            span: self.tokens[self.at].span,
        };
        let name = if folds { folded(&ident) } else { ident.value };
        self.at += 1;
        Ok(name)
    }

    fn string(&mut self) -> Result<String, SqlError> {
        let text = match self.token() {
            Some(Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text)) => text.clone(),
            Some(Token::DollarQuotedString(text)) => text.value.clone(),
            _ => return Err(self.wanted("a text in single quotes")),
        };
        self.at += 1;
        Ok(text)
    }

    /// A duration in quotes, ms; `INTERVAL` may stand before it.
    fn duration(&mut self) -> Result<i64, SqlError> {
        self.accept("INTERVAL");
        let wanted = self.wanted("a duration such as '5m'");
        let text = self.string().map_err(|_| wanted.clone())?;
        if text == "0" { Ok(0) } else { duration_text(&text).filter(|ms| *ms >= 0).ok_or(wanted) }
    }

    /// `(name = 'text', …)`
    fn pairs(&mut self) -> Result<BTreeMap<String, String>, SqlError> {
        let mut pairs = BTreeMap::new();
        self.expect_token(&Token::LParen)?;
        while !self.accept_token(&Token::RParen) {
            if !pairs.is_empty() {
                self.expect_token(&Token::Comma)?;
            }
            let twice = self.wanted("another name");
            let name = self.name(false)?;
            self.expect_token(&Token::Eq)?;
            if pairs.insert(name, self.string()?).is_some() {
                return Err(twice);
            }
        }
        Ok(pairs)
    }

    /// The rest of the text; parentheses around it may be left out.
    fn query(&self) -> Result<String, SqlError> {
        let Some(first) = self.tokens.get(self.at) else { return Err(self.wanted("a query")) };
        let rest = self.text.get(self.byte_of(first)..).unwrap_or_default();
        Ok(rest.trim().trim_end_matches(';').trim_end().to_owned())
    }

    fn byte_of(&self, token: &TokenWithSpan) -> usize {
        let place = token.span.start;
        crate::error::byte_of(self.text, place.line, place.column).unwrap_or(0)
    }

    fn create(&mut self) -> Result<SqlStatement, SqlError> {
        let replace = self.accept("OR");
        if replace {
            self.expect("REPLACE")?;
        }
        if self.accept("ALERT") {
            return self.create_alert(replace);
        }
        if self.accept("MATERIALIZED") {
            self.expect("VIEW")?;
            return self.create_view(replace);
        }
        Err(self.wanted("ALERT or MATERIALIZED VIEW").hint("nothing else can be created"))
    }

    fn create_alert(&mut self, replace: bool) -> Result<SqlStatement, SqlError> {
        let mut alert = AlertStatement {
            name: self.name(false)?,
            replace,
            hold: 0,
            keep_firing_for: 0,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            query: String::new(),
        };
        if self.accept("FOR") {
            alert.hold = self.duration()?;
        }
        if self.accept("KEEP") {
            self.expect("FIRING")?;
            self.expect("FOR")?;
            alert.keep_firing_for = self.duration()?;
        }
        if self.accept("LABELS") {
            alert.labels = self.pairs()?;
        }
        if self.accept("ANNOTATIONS") {
            alert.annotations = self.pairs()?;
        }
        self.expect("AS")?;
        alert.query = self.query()?;
        Ok(SqlStatement::CreateAlert(alert))
    }

    fn create_view(&mut self, replace: bool) -> Result<SqlStatement, SqlError> {
        let mut view = ViewStatement {
            name: self.name(true)?,
            replace,
            record: None,
            interval: None,
            query: String::new(),
        };
        if self.accept("WITH") {
            self.expect_token(&Token::LParen)?;
            loop {
                if self.accept("RECORD") {
                    self.expect_token(&Token::Eq)?;
                    view.record = Some(self.string()?);
                } else if self.accept("INTERVAL") {
                    self.expect_token(&Token::Eq)?;
                    view.interval = Some(self.duration()?);
                } else {
                    return Err(self.wanted("record or interval"));
                }
                if !self.accept_token(&Token::Comma) {
                    break;
                }
            }
            self.expect_token(&Token::RParen)?;
        }
        self.expect("AS")?;
        view.query = self.query()?;
        Ok(SqlStatement::CreateView(view))
    }

    fn drop(&mut self) -> Result<SqlStatement, SqlError> {
        if self.accept("TABLE") {
            let if_exists = self.accept("IF");
            if if_exists {
                self.expect("EXISTS")?;
            }
            let name = self.name(true)?;
            self.end()?;
            return Ok(SqlStatement::DropTable(DropTableStatement { if_exists, name }));
        }
        let is_alert = self.accept("ALERT");
        if !is_alert {
            self.accept("MATERIALIZED");
            self.expect("VIEW")?;
        }
        let if_exists = self.accept("IF");
        if if_exists {
            self.expect("EXISTS")?;
        }
        let name = self.name(!is_alert)?;
        self.end()?;
        Ok(SqlStatement::Drop(DropStatement { is_alert, if_exists, name }))
    }

    fn show(&mut self) -> Result<SqlStatement, SqlError> {
        let statement = if self.accept("ALERTS") {
            SqlStatement::ShowAlerts
        } else if self.accept("VIEWS") {
            SqlStatement::ShowViews
        } else if self.accept("TABLES") {
            SqlStatement::ShowTables
        } else {
            return Err(self.wanted("ALERTS, VIEWS or TABLES"));
        };
        self.end()?;
        Ok(statement)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn alerts_are_read() {
        let text = "CREATE OR REPLACE ALERT HostDown FOR '5m' KEEP FIRING FOR interval '10 minutes'\n\
            LABELS (severity = 'page') ANNOTATIONS (summary = '{{ $labels.job }} is gone', \"Run book\" = '')\n\
            AS SELECT job, 'ü' AS u FROM up WHERE value = 0;";
        let alert = AlertStatement {
            name: "HostDown".to_owned(),
            replace: true,
            hold: 300_000,
            keep_firing_for: 600_000,
            labels: pairs(&[("severity", "page")]),
            annotations: pairs(&[("summary", "{{ $labels.job }} is gone"), ("Run book", "")]),
            query: "SELECT job, 'ü' AS u FROM up WHERE value = 0".to_owned(),
        };
        assert_eq!(parse(text), Ok(SqlStatement::CreateAlert(alert)));
    }

    #[test]
    fn views_and_the_rest_are_read() {
        let view = ViewStatement {
            name: "jobs".to_owned(),
            replace: false,
            record: Some("job:up:sum".to_owned()),
            interval: Some(15_000),
            query: "SELECT 1".to_owned(),
        };
        let text = "create materialized view Jobs with (record = 'job:up:sum', interval = '15s') as SELECT 1";
        assert_eq!(parse(text), Ok(SqlStatement::CreateView(view)));
        let gone = |is_alert, if_exists, name: &str| {
            Ok(SqlStatement::Drop(DropStatement { is_alert, if_exists, name: name.to_owned() }))
        };
        assert_eq!(parse("DROP ALERT HostDown"), gone(true, false, "HostDown"));
        assert_eq!(parse("DROP MATERIALIZED VIEW IF EXISTS Jobs;"), gone(false, true, "jobs"));
        assert_eq!(parse("drop view jobs"), gone(false, false, "jobs"));
        assert_eq!(parse("SHOW ALERTS"), Ok(SqlStatement::ShowAlerts));
        assert_eq!(parse("SHOW views"), Ok(SqlStatement::ShowViews));
        assert_eq!(parse("SHOW TABLES;"), Ok(SqlStatement::ShowTables));
        let table = DropTableStatement { if_exists: true, name: "owners".to_owned() };
        assert_eq!(parse("DROP TABLE IF EXISTS Owners"), Ok(SqlStatement::DropTable(table)));
        assert_eq!(parse("SUBSCRIBE SELECT 1 ;"), Ok(SqlStatement::Subscribe("SELECT 1".to_owned())));
        for text in [
            "SELECT 1",
            "",
            "CREATE TABLE t (a int)",
            "SHOW ALL",
            "EXPLAIN SELECT 1",
            "SELECT 'open",
            "WITH a AS (SELECT 1) SELECT * FROM a",
        ] {
            assert_eq!(parse(text), Ok(SqlStatement::Query), "{text}");
        }
    }

    #[test]
    fn errors_have_the_place_and_what_is_expected() {
        for (text, place, what) in [
            ("CREATE OR REPLACE TABLE t", (1, 19), "ALERT or MATERIALIZED VIEW is expected, not TABLE"),
            ("CREATE VIEW v AS SELECT 1", (1, 8), "ALERT or MATERIALIZED VIEW is expected, not VIEW"),
            ("CREATE ALERT A FOR five AS SELECT 1", (1, 20), "a duration such as '5m' is expected, not five"),
            ("CREATE ALERT A FOR '-5m' AS SELECT 1", (1, 20), "a duration such as '5m'"),
            (
                "CREATE ALERT A LABELS (a = b) AS SELECT 1",
                (1, 28),
                "a text in single quotes is expected, not b",
            ),
            ("CREATE ALERT A\nLABELS (a = '1', a = '2') AS SELECT 1", (2, 18), "another name is expected"),
            ("CREATE ALERT A SELECT 1", (1, 16), "AS is expected, not SELECT"),
            ("CREATE ALERT A AS", (1, 16), "a query is expected, not the end"),
            ("DROP MATERIALIZED up", (1, 19), "VIEW is expected, not up"),
            ("DROP ALERT a b", (1, 14), "the end is expected, not b"),
            ("SHOW VIEW", (1, 6), "ALERTS, VIEWS or TABLES is expected, not VIEW"),
        ] {
            let error = parse(text).expect_err(text);
            assert_eq!(error.place, Some(place), "{text}: {error}");
            assert!(error.text.contains(what), "{text}: {error}");
        }
    }
}
