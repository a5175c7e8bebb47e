//! Parses `DECLARE`, `FETCH`, `MOVE` and `CLOSE`. Only connections of the PostgreSQL wire have
//! cursors (`frontends/postgres/src/cursor.rs`).

use super::SqlStatement;
use super::reader::Reader;
use crate::error::SqlError;
use crate::guard::is_word;
use datafusion::sql::sqlparser::tokenizer::Token;

/// A statement about cursors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CursorStatement {
    /// `DECLARE`
    Declare(DeclaredQuery),
    /// `FETCH` and `MOVE`
    Fetch(FetchStatement),
    /// `CLOSE`; `None`: all.
    Close(Option<String>),
}

/// A cursor that is declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredQuery {
    /// Its name.
    pub name: String,
    /// `BINARY`: its cells come in the binary form.
    pub is_binary: bool,
    /// Its query, or `SUBSCRIBE` and a query.
    pub query: String,
}

/// How many rows are fetched.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum CursorRows {
    /// At most so many.
    Some(usize),
    /// `ALL`
    All,
}

/// Rows of a cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchStatement {
    /// The cursor.
    pub name: String,
    /// How many.
    pub rows: CursorRows,
    /// `MOVE`: the rows are passed over.
    pub is_move: bool,
}

impl Reader<'_> {
    /// `DECLARE`, `FETCH`, `MOVE` or `CLOSE`, which begins here.
    pub(super) fn cursor(&mut self) -> Result<SqlStatement, SqlError> {
        let statement = if self.accept("DECLARE") {
            CursorStatement::Declare(self.declare()?)
        } else if self.accept("CLOSE") {
            let name = if self.accept("ALL") { None } else { Some(self.name(true)?) };
            self.end()?;
            CursorStatement::Close(name)
        } else {
            let is_move = self.accept("MOVE");
            if !is_move {
                self.expect("FETCH")?;
            }
            let rows = self.cursor_rows()?;
            let name = self.name(true)?;
            self.end()?;
            CursorStatement::Fetch(FetchStatement { name, rows, is_move })
        };
        Ok(SqlStatement::Cursor(statement))
    }

    fn declare(&mut self) -> Result<DeclaredQuery, SqlError> {
        let name = self.name(true)?;
        let is_binary = self.accept("BINARY");
        if !self.accept("INSENSITIVE") {
            self.accept("ASENSITIVE");
        }
        if self.accept("NO") {
            self.expect("SCROLL")?;
        } else if self.token().is_some_and(|token| is_word(token, "SCROLL")) {
            return Err(self.wanted("CURSOR").hint("cursors go forward only"));
        }
        self.expect("CURSOR")?;
        if self.accept("WITHOUT") {
            self.expect("HOLD")?;
        } else if self.token().is_some_and(|token| is_word(token, "WITH")) {
            return Err(self
                .wanted("FOR")
                .hint("a cursor ends with its transaction: WITH HOLD is not available"));
        }
        self.expect("FOR")?;
        Ok(DeclaredQuery { name, is_binary, query: self.placed_query()? })
    }

    /// `FORWARD 10 FROM`, `NEXT`, `ALL IN`, `10`, …: what stands before the name.
    fn cursor_rows(&mut self) -> Result<CursorRows, SqlError> {
        const BACKWARD: &[&str] = &["PRIOR", "FIRST", "LAST", "ABSOLUTE", "RELATIVE", "BACKWARD"];
        if self.token().is_some_and(|token| BACKWARD.iter().any(|word| is_word(token, word))) {
            let error = self.wanted("NEXT, FORWARD or a number");
            return Err(error.hint("cursors go forward only"));
        }
        let is_next = self.accept("NEXT");
        if !is_next {
            self.accept("FORWARD");
        }
        let rows = match self.token() {
            Some(Token::Number(digits, _)) if !is_next => {
                let count = digits.parse().map_err(|_| self.wanted("a number of rows"))?;
                self.at += 1;
                CursorRows::Some(count)
            }
            Some(token) if !is_next && is_word(token, "ALL") => {
                self.at += 1;
                CursorRows::All
            }
            _ => CursorRows::Some(1),
        };
        if !self.accept("FROM") {
            self.accept("IN");
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    #[test]
    fn cursors_are_read() {
        let fetch = |name: &str, rows, is_move| {
            Ok(SqlStatement::Cursor(CursorStatement::Fetch(FetchStatement {
                name: name.to_owned(),
                rows,
                is_move,
            })))
        };
        assert_eq!(parse("FETCH c"), fetch("c", CursorRows::Some(1), false));
        assert_eq!(parse("FETCH FORWARD 100 FROM \"C 1\";"), fetch("C 1", CursorRows::Some(100), false));
        assert_eq!(parse("fetch all in C"), fetch("c", CursorRows::All, false));
        assert_eq!(parse("FETCH FORWARD ALL FROM c"), fetch("c", CursorRows::All, false));
        assert_eq!(parse("MOVE 5 FROM c"), fetch("c", CursorRows::Some(5), true));
        let close =
            |name: Option<&str>| Ok(SqlStatement::Cursor(CursorStatement::Close(name.map(str::to_owned))));
        assert_eq!(parse("CLOSE c"), close(Some("c")));
        assert_eq!(parse("CLOSE ALL"), close(None));
        let text = "DECLARE \"x\" BINARY NO SCROLL CURSOR WITHOUT HOLD FOR\nSELECT 1;";
        let declared = DeclaredQuery {
            name: "x".to_owned(),
            is_binary: true,
            query: format!("{}\nSELECT 1", " ".repeat(52)),
        };
        assert_eq!(parse(text), Ok(SqlStatement::Cursor(CursorStatement::Declare(declared))));
        for (text, what) in [
            ("FETCH PRIOR FROM c", "cursors go forward only"),
            ("DECLARE c SCROLL CURSOR FOR SELECT 1", "cursors go forward only"),
            ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "WITH HOLD is not available"),
            ("FETCH 5", "a name is expected, not the end"),
        ] {
            assert!(parse(text).expect_err(text).to_string().contains(what), "{text}");
        }
    }
}
