//! What a text is: a query of the engine or of the catalogs, something about the session, or a
//! statement that defines something.

use crate::catalog;
use crate::failure::Failure;
use crate::session::{self, SessionStatement};
use sql::statement::SqlStatement;
use sql::{guard, statement};
use sqlparser::ast::{Query, Statement as Parsed};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

/// What a text is.
#[derive(Clone, Debug)]
pub(crate) enum StatementKind {
    /// Nothing.
    Empty,
    /// About the session.
    Session(SessionStatement),
    /// A query of the catalogs.
    Catalog(Box<Query>),
    /// A query of the engine.
    Query,
    /// It defines, removes or lists something.
    Define(SqlStatement),
}

/// A statement that was read.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    pub(crate) text: String,
    pub(crate) kind: StatementKind,
}

impl Statement {
    /// Reads a text. The guard has seen it when this returns.
    pub(crate) fn read(text: &str) -> Result<Statement, Failure> {
        Ok(Statement { text: text.to_owned(), kind: kind_of(text)? })
    }

    /// The number of the highest parameter (`$2`: 2).
    pub(crate) fn parameters(&self) -> usize {
        let words = session::words(&self.text);
        let number = |word: &String| word.strip_prefix('$')?.parse::<usize>().ok();
        words.iter().filter_map(number).max().unwrap_or(0).min(sql::limits::PARAMETERS)
    }
}

fn kind_of(text: &str) -> Result<StatementKind, Failure> {
    if text.len() <= sql::limits::TEXT_BYTES {
        if let Some(about) = session::parse(text) {
            return Ok(StatementKind::Session(about));
        }
        if session::words(text).is_empty() {
            return Ok(StatementKind::Empty);
        }
    }
    match statement::parse(text)? {
        SqlStatement::Query => {}
        other => return Ok(StatementKind::Define(other)),
    }
    // Before a parser sees it: a long chain would end the process.
    let guarded = guard::check_text(text)?;
    if guarded.explain {
        return Ok(StatementKind::Query);
    }
    let parser = Parser::new(&PostgreSqlDialect {}).with_recursion_limit(sql::limits::NESTING);
    let parsed = parser.try_with_sql(text).and_then(|mut parser| parser.parse_statements());
    // A text that cannot be parsed goes to the engine, whose error has place and hint.
    let Ok([Parsed::Query(query)]) = parsed.map(<[Parsed; 1]>::try_from).unwrap_or(Err(Vec::new())) else {
        return Ok(StatementKind::Query);
    };
    if catalog::asks_catalogs(&query) {
        return Ok(StatementKind::Catalog(query));
    }
    Ok(StatementKind::Query)
}
