//! Classifies a statement: for the SQL engine, for the catalogs, about the session, a copy, a
//! cursor, or one that defines something. [`super::simple`] and [`super::extended`] call it first.

use crate::catalog;
use crate::failure::{Failure, state};
use crate::session::{self, SessionStatement};
use sql::statement::{
    CopyFormat, CopyInStatement, CopySource, CursorStatement, DeclaredQuery, FetchStatement, SqlStatement,
};
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
    /// It defines, removes, changes or lists something.
    Define(SqlStatement),
    /// `SUBSCRIBE`; the query.
    Subscribe(String),
    /// `COPY … FROM STDIN`
    CopyIn(CopyInStatement),
    /// `COPY … TO STDOUT` of this statement.
    CopyOut(Box<Statement>, CopyFormat),
    /// `DECLARE`
    Declare(DeclaredCursor),
    /// `FETCH`, `MOVE`
    Fetch(FetchStatement),
    /// `CLOSE`; `None`: all.
    Close(Option<String>),
}

/// A cursor that is declared.
#[derive(Clone, Debug)]
pub(crate) struct DeclaredCursor {
    pub(crate) name: String,
    /// Its cells come in the binary form.
    pub(crate) is_binary: bool,
    pub(crate) query: Box<Statement>,
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
        // By the words and not by the syntax tree: statements that no parser reads whole may have
        // parameters, too.
        words.iter().filter_map(number).max().unwrap_or(0).min(sql::limits::PARAMETERS)
    }
}

/// The statement inside of another one, which must have rows.
fn rows_of(text: &str) -> Result<Statement, Failure> {
    let inner = Statement::read(text)?;
    match inner.kind {
        StatementKind::Query | StatementKind::Catalog(_) | StatementKind::Subscribe(_) => Ok(inner),
        _ => Err(Failure::new(state::SYNTAX, "a query is expected here").hint("SELECT or SUBSCRIBE")),
    }
}

fn kind_of(text: &str) -> Result<StatementKind, Failure> {
    // A longer text is not split into words; the guard refuses it below with its limit.
    if text.len() <= sql::limits::TEXT_BYTES {
        if let Some(about) = session::parse(text) {
            return Ok(StatementKind::Session(about));
        }
        if session::is_empty(text) {
            return Ok(StatementKind::Empty);
        }
    }
    match statement::parse(text)? {
        SqlStatement::Query => {}
        SqlStatement::Subscribe(query) => return Ok(StatementKind::Subscribe(query)),
        SqlStatement::CopyIn(copy) => return Ok(StatementKind::CopyIn(copy)),
        SqlStatement::CopyOut(copy) => {
            let inner = match copy.source {
                CopySource::Query(query) => rows_of(&query)?,
                CopySource::Changes(query) => {
                    Statement { text: query.clone(), kind: StatementKind::Subscribe(query) }
                }
            };
            return Ok(StatementKind::CopyOut(Box::new(inner), copy.format));
        }
        SqlStatement::Cursor(CursorStatement::Declare(declared)) => {
            let query = Box::new(rows_of(&declared.query)?);
            let DeclaredQuery { name, is_binary, .. } = declared;
            return Ok(StatementKind::Declare(DeclaredCursor { name, is_binary, query }));
        }
        SqlStatement::Cursor(CursorStatement::Fetch(fetch)) => return Ok(StatementKind::Fetch(fetch)),
        SqlStatement::Cursor(CursorStatement::Close(name)) => return Ok(StatementKind::Close(name)),
        other => return Ok(StatementKind::Define(other)),
    }
    // Before a parser sees it: a long chain would end the process.
    let guarded = guard::check_catalog_text(text)?;
    // Plans are those of the engine, also for catalogs: there is no plan of theirs to show.
    if guarded.explain.is_some() {
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
