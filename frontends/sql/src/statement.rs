//! Parses statements other than queries: `CREATE ALERT`, `CREATE VIEW`, `CREATE TABLE`, `INSERT`,
//! `COPY`, `DROP`, `SHOW`, cursors.
//!
//! Input: a text. Output: a [`SqlStatement`] in which inner queries are texts, which the planner
//! checks later. sqlparser does not know these statements, so they are parsed from its tokens
//! ([`reader`]). `docs/sql.md` has the grammar. `frontends/api/src/sql/definitions.rs` executes
//! them.

mod cursors;
mod reader;
mod standing;
mod tables;

pub use cursors::{CursorRows, CursorStatement, DeclaredQuery, FetchStatement};
pub use tables::{
    CopyForm, CopyFormat, CopyInStatement, CopyOutStatement, CopySource, CreateTableStatement,
    DeleteStatement, InsertSource, InsertStatement, InsertedValue, UpdateStatement,
};

use crate::error::{SqlError, byte_of};
use crate::guard::is_word;
use crate::limits;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};
use reader::Reader;
use std::collections::BTreeMap;

/// A parsed statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SqlStatement {
    /// A query: `SELECT`, `EXPLAIN`, ….
    Query,
    /// `CREATE ALERT`
    CreateAlert(AlertStatement),
    /// `CREATE MATERIALIZED VIEW`
    CreateView(ViewStatement),
    /// `CREATE VIEW`
    CreateNamedView(NamedViewStatement),
    /// `CREATE TABLE`
    CreateTable(CreateTableStatement),
    /// `INSERT`
    Insert(InsertStatement),
    /// `UPDATE`
    Update(UpdateStatement),
    /// `DELETE`, `TRUNCATE`
    Delete(DeleteStatement),
    /// `DROP`
    Drop(DropStatement),
    /// `SHOW ALERTS`
    ShowAlerts,
    /// `SHOW VIEWS`
    ShowViews,
    /// `SHOW TABLES`
    ShowTables,
    /// `SHOW CREATE VIEW`; the view.
    ShowCreateView(String),
    /// `SUBSCRIBE`; the query.
    Subscribe(String),
    /// `COPY … FROM STDIN`
    CopyIn(CopyInStatement),
    /// `COPY … TO STDOUT`
    CopyOut(CopyOutStatement),
    /// `DECLARE`, `FETCH`, `MOVE`, `CLOSE`
    Cursor(CursorStatement),
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

/// `CREATE VIEW`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedViewStatement {
    /// Its name, in lower case unless it is quoted.
    pub name: String,
    /// `OR REPLACE`: one of that name may exist.
    pub replace: bool,
    /// The query.
    pub query: String,
}

/// The kind of object that `DROP` removes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum DropKind {
    /// An alert that a statement defined.
    Alert,
    /// A query with a name; if there is none, a saved query.
    View,
    /// A saved query.
    MaterializedView,
    /// A table.
    Table,
}

/// What is removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropStatement {
    /// Its kind.
    pub kind: DropKind,
    /// `IF EXISTS`: it need not be there.
    pub if_exists: bool,
    /// Its name.
    pub name: String,
}

/// Parses a statement. An inner query is not checked.
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
    let mut reader = Reader { text, tokens, at: 0 };
    let Some(Token::Word(first)) = reader.token() else { return Ok(SqlStatement::Query) };
    if first.quote_style.is_some() {
        return Ok(SqlStatement::Query);
    }
    let first = first.value.to_ascii_uppercase();
    let second = reader.tokens.get(1).map(|t| &t.token);
    let is_second = |words: &[&str]| second.is_some_and(|t| words.iter().any(|word| is_word(t, word)));
    // Other statements of these words are refused by the guard.
    let is_known = match first.as_str() {
        "CREATE" => is_second(&["ALERT", "MATERIALIZED", "OR", "VIEW", "TABLE"]),
        "DROP" => is_second(&["ALERT", "MATERIALIZED", "VIEW", "TABLE"]),
        "SHOW" => is_second(&["ALERT", "ALERTS", "VIEW", "VIEWS", "TABLE", "TABLES", "CREATE"]),
        "SUBSCRIBE" | "INSERT" | "UPDATE" | "DELETE" | "TRUNCATE" | "COPY" | "DECLARE" | "FETCH" | "MOVE"
        | "CLOSE" => true,
        _ => false,
    };
    if !is_known {
        return Ok(SqlStatement::Query);
    }
    reader.at = 1;
    match first.as_str() {
        "CREATE" => reader.create(),
        "DROP" => reader.drop(),
        "SHOW" => reader.show(),
        "INSERT" => reader.insert(),
        "UPDATE" => reader.update(),
        "DELETE" => reader.delete(),
        "TRUNCATE" => reader.truncate(),
        "COPY" => reader.copy(),
        "SUBSCRIBE" => reader.query().map(SqlStatement::Subscribe),
        _ => {
            reader.at = 0;
            reader.cursor()
        }
    }
}

/// The statements of a text that has several, separated by semicolons; empty ones are left out.
pub fn split(text: &str) -> Vec<&str> {
    // A text that cannot be tokenised counts as one statement. The guard reports its error.
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

impl Reader<'_> {
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
        if self.accept("VIEW") {
            let name = self.public_name()?;
            self.expect("AS")?;
            let query = self.query()?;
            return Ok(SqlStatement::CreateNamedView(NamedViewStatement { name, replace, query }));
        }
        if !replace && self.accept("TABLE") {
            return self.create_table();
        }
        Err(self.wanted("ALERT, VIEW or MATERIALIZED VIEW"))
    }

    fn drop(&mut self) -> Result<SqlStatement, SqlError> {
        let kind = if self.accept("TABLE") {
            DropKind::Table
        } else if self.accept("ALERT") {
            DropKind::Alert
        } else if self.accept("MATERIALIZED") {
            self.expect("VIEW")?;
            DropKind::MaterializedView
        } else {
            self.expect("VIEW")?;
            DropKind::View
        };
        let if_exists = self.if_exists()?;
        let name = match kind {
            DropKind::Alert => self.name(false)?,
            DropKind::MaterializedView => self.name(true)?,
            DropKind::View | DropKind::Table => self.public_name()?,
        };
        self.end()?;
        Ok(SqlStatement::Drop(DropStatement { kind, if_exists, name }))
    }

    fn show(&mut self) -> Result<SqlStatement, SqlError> {
        let statement = if self.accept("ALERTS") {
            SqlStatement::ShowAlerts
        } else if self.accept("VIEWS") {
            SqlStatement::ShowViews
        } else if self.accept("TABLES") {
            SqlStatement::ShowTables
        } else if self.accept("CREATE") {
            self.expect("VIEW")?;
            SqlStatement::ShowCreateView(self.public_name()?)
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
        let gone = |kind, if_exists, name: &str| {
            Ok(SqlStatement::Drop(DropStatement { kind, if_exists, name: name.to_owned() }))
        };
        assert_eq!(parse("DROP ALERT HostDown"), gone(DropKind::Alert, false, "HostDown"));
        assert_eq!(
            parse("DROP MATERIALIZED VIEW IF EXISTS Jobs;"),
            gone(DropKind::MaterializedView, true, "jobs")
        );
        assert_eq!(parse("drop view jobs"), gone(DropKind::View, false, "jobs"));
        let named = NamedViewStatement {
            name: "down".to_owned(),
            replace: true,
            query: "SELECT * FROM up WHERE value = 0".to_owned(),
        };
        let text = "CREATE OR REPLACE VIEW public.Down AS SELECT * FROM up WHERE value = 0;";
        assert_eq!(parse(text), Ok(SqlStatement::CreateNamedView(named)));
        assert_eq!(parse("SHOW CREATE VIEW Down"), Ok(SqlStatement::ShowCreateView("down".to_owned())));
        assert_eq!(parse("SHOW ALERTS"), Ok(SqlStatement::ShowAlerts));
        assert_eq!(parse("SHOW views"), Ok(SqlStatement::ShowViews));
        assert_eq!(parse("SHOW TABLES;"), Ok(SqlStatement::ShowTables));
        assert_eq!(parse("DROP TABLE IF EXISTS Owners"), gone(DropKind::Table, true, "owners"));
        assert_eq!(parse("SUBSCRIBE SELECT 1 ;"), Ok(SqlStatement::Subscribe("SELECT 1".to_owned())));
        for text in [
            "SELECT 1",
            "",
            "CREATE INDEX i ON t (a)",
            "\"COPY\" t",
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
            ("CREATE OR REPLACE TABLE t", (1, 19), "ALERT, VIEW or MATERIALIZED VIEW is expected, not TABLE"),
            ("CREATE VIEW v SELECT 1", (1, 15), "AS is expected, not SELECT"),
            ("CREATE VIEW metrics.v AS SELECT 1", (1, 13), "a name in the schema public is expected"),
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
