//! Parses `CREATE TABLE`, `INSERT`, `DELETE`, `TRUNCATE` and `COPY`. [`crate::tables`] has the
//! tables that they change.

use super::SqlStatement;
use super::reader::Reader;
use crate::error::SqlError;
use crate::guard::is_word;
use crate::tables::{ColumnDefinition, ColumnType};
use datafusion::sql::sqlparser::tokenizer::Token;

/// `CREATE TABLE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateTableStatement {
    /// Its name.
    pub name: String,
    /// `IF NOT EXISTS`: one of that name stays as it is.
    pub if_not_exists: bool,
    /// Its columns.
    pub columns: Vec<ColumnDefinition>,
    /// The columns of its primary key.
    pub key: Vec<String>,
}

/// A value in `INSERT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InsertedValue {
    /// `NULL`, `DEFAULT`
    Null,
    /// A literal, as text.
    Text(String),
    /// `$1`: 1.
    Parameter(usize),
    /// `now()`
    Now,
}

/// `INSERT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InsertStatement {
    /// The table.
    pub name: String,
    /// The columns that the rows have values for; none: all.
    pub columns: Vec<String>,
    /// The rows.
    pub source: InsertSource,
}

/// Where rows that are added come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InsertSource {
    /// They are written out.
    Values(Vec<Vec<InsertedValue>>),
    /// They are the rows of a query.
    Query {
        /// The query, at its place in the statement.
        text: String,
        /// The highest number of its parameters.
        params: usize,
    },
}

/// Values of a table that are replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateStatement {
    /// The table.
    pub name: String,
    /// The columns that get these values.
    pub assignments: Vec<(String, InsertedValue)>,
    /// The columns that a row has these values in; none: all rows.
    pub conditions: Vec<(String, InsertedValue)>,
}

/// `DELETE` or `TRUNCATE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteStatement {
    /// The table.
    pub name: String,
    /// `TRUNCATE`, which is answered differently.
    pub is_truncate: bool,
    /// The columns that a row has these values in; none: all rows.
    pub conditions: Vec<(String, InsertedValue)>,
}

/// The form of the rows of `COPY`.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum CopyForm {
    /// PostgreSQL's text form: tabs, and backslashes before what would end a field.
    #[default]
    Text,
    /// CSV.
    Csv,
    /// PostgreSQL's binary form, as drivers write it.
    Binary,
}

/// How the rows of `COPY` are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyFormat {
    /// The form.
    pub form: CopyForm,
    /// Whether the first line has the names of the columns.
    pub has_header: bool,
    /// The delimiter between fields.
    pub delimiter: u8,
    /// How NULL is written.
    pub null: String,
}

/// `COPY … FROM STDIN`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyInStatement {
    /// The table.
    pub name: String,
    /// The columns that the rows have values for; none: all.
    pub columns: Vec<String>,
    /// How the rows are written.
    pub format: CopyFormat,
}

/// What `COPY … TO STDOUT` copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopySource {
    /// The rows of a query.
    Query(String),
    /// The changes of the rows of a query, for as long as the client reads.
    Changes(String),
}

/// `COPY … TO STDOUT`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyOutStatement {
    /// The table or query that is copied.
    pub source: CopySource,
    /// How the rows are written.
    pub format: CopyFormat,
}

impl CopyFormat {
    /// Text, as PostgreSQL has it without options.
    pub fn text() -> CopyFormat {
        CopyFormat { form: CopyForm::Text, has_header: false, delimiter: b'\t', null: "\\N".to_owned() }
    }

    /// CSV, as PostgreSQL has it without further options.
    pub fn csv() -> CopyFormat {
        CopyFormat { form: CopyForm::Csv, has_header: false, delimiter: b',', null: String::new() }
    }

    /// PostgreSQL's binary form, which has no options.
    pub fn binary() -> CopyFormat {
        CopyFormat { form: CopyForm::Binary, has_header: false, delimiter: 0, null: String::new() }
    }

    /// What the places of errors count: rows, where there are no lines.
    pub fn place_unit(&self) -> &'static str {
        match self.form {
            CopyForm::Text | CopyForm::Csv => "line",
            CopyForm::Binary => "row",
        }
    }
}

/// The options of `COPY` as they are written.
#[derive(Default)]
struct CopyOptions {
    form: CopyForm,
    has_header: bool,
    delimiter: Option<u8>,
    null: Option<String>,
}

impl CopyOptions {
    /// The binary form, which none of the other options fits.
    fn binary(&self) -> Result<CopyFormat, SqlError> {
        let given = [
            (self.has_header, "HEADER"),
            (self.delimiter.is_some(), "DELIMITER"),
            (self.null.is_some(), "NULL"),
        ];
        match given.iter().find(|(is_given, _)| *is_given) {
            Some((_, option)) => Err(SqlError::bad(format!("cannot specify {option} in BINARY mode"))),
            None => Ok(CopyFormat::binary()),
        }
    }
}

impl Reader<'_> {
    /// After `CREATE TABLE`.
    pub(super) fn create_table(&mut self) -> Result<SqlStatement, SqlError> {
        let if_not_exists = self.accept("IF");
        if if_not_exists {
            self.expect("NOT")?;
            self.expect("EXISTS")?;
        }
        let name = self.public_name()?;
        let mut table = CreateTableStatement { name, if_not_exists, columns: Vec::new(), key: Vec::new() };
        self.expect_token(&Token::LParen)?;
        loop {
            if self.accept("PRIMARY") {
                // Made before the words are taken, so that the error names their place.
                let twice = self.wanted("one primary key");
                self.expect("KEY")?;
                if !table.key.is_empty() {
                    return Err(twice);
                }
                table.key = self.names()?;
            } else {
                self.column(&mut table)?;
            }
            if !self.accept_token(&Token::Comma) {
                break;
            }
        }
        self.expect_token(&Token::RParen)?;
        self.end()?;
        Ok(SqlStatement::CreateTable(table))
    }

    /// `name type [PRIMARY KEY]`
    fn column(&mut self, table: &mut CreateTableStatement) -> Result<(), SqlError> {
        let name = self.name(true)?;
        let kind = self.column_type()?;
        loop {
            let place = self.at;
            if self.accept("PRIMARY") {
                self.expect("KEY")?;
                if !table.key.is_empty() {
                    self.at = place;
                    return Err(self
                        .wanted("one primary key")
                        .hint("PRIMARY KEY (a, b) is one of two columns"));
                }
                table.key.push(name.clone());
            // NULL is what every column may be anyway; drivers write it.
            } else if !self.accept("NULL") {
                break;
            }
        }
        if !matches!(self.token(), Some(Token::Comma | Token::RParen)) {
            return Err(self.wanted("PRIMARY KEY, a comma or )").hint("other constraints are not kept"));
        }
        table.columns.push(ColumnDefinition { name, kind });
        Ok(())
    }

    /// A type, such as `int` or `timestamp with time zone`. The length of a text is not kept.
    fn column_type(&mut self) -> Result<ColumnType, SqlError> {
        let place = self.at;
        let mut name = self.name(true)?;
        // Types of several words: only these words are taken, so that what follows a type is not.
        let follows: &[&[&str]] = match name.as_str() {
            "double" => &[&["PRECISION"]],
            "character" => &[&["VARYING"]],
            "timestamp" => &[&["WITH", "TIME", "ZONE"], &["WITHOUT", "TIME", "ZONE"]],
            _ => &[],
        };
        if let Some(words) = follows.iter().find(|words| self.next_is(words)) {
            self.at += words.len();
            name = format!("{name} {}", words.join(" ").to_ascii_lowercase());
        }
        let Some(kind) = ColumnType::named(&name) else {
            self.at = place;
            let error = self.wanted("a type").hint("text, int8, float8, bool or timestamptz");
            return Err(error);
        };
        if self.accept_token(&Token::LParen) {
            // Read and forgotten: a limit on the length of texts would have to be checked for each
            // row.
            while matches!(self.token(), Some(Token::Number(..) | Token::Comma)) {
                self.at += 1;
            }
            self.expect_token(&Token::RParen)?;
        }
        Ok(kind)
    }

    fn next_is(&self, words: &[&str]) -> bool {
        let tokens = self.tokens.get(self.at..self.at + words.len());
        tokens.is_some_and(|tokens| tokens.iter().zip(words).all(|(token, word)| is_word(&token.token, word)))
    }

    /// After `INSERT`.
    pub(super) fn insert(&mut self) -> Result<SqlStatement, SqlError> {
        self.expect("INTO")?;
        let name = self.public_name()?;
        let columns = match self.token() {
            Some(Token::LParen) => self.names()?,
            _ => Vec::new(),
        };
        if ["SELECT", "WITH"].iter().any(|word| self.next_is(&[word])) {
            let text = self.placed_query()?;
            // By the tokens: the query is planned later, and the client is told now how many values
            // it has to send.
            let params = self.tokens.iter().filter_map(|token| parameter(&token.token)).max().unwrap_or(0);
            let source = InsertSource::Query { text, params };
            return Ok(SqlStatement::Insert(InsertStatement { name, columns, source }));
        }
        self.expect("VALUES").map_err(|e| e.hint("INSERT INTO name VALUES (…), …, or a query"))?;
        let mut rows = Vec::new();
        loop {
            self.expect_token(&Token::LParen)?;
            let mut row = Vec::new();
            loop {
                row.push(self.value()?);
                if !self.accept_token(&Token::Comma) {
                    break;
                }
            }
            self.expect_token(&Token::RParen)?;
            rows.push(row);
            if !self.accept_token(&Token::Comma) {
                break;
            }
        }
        self.end()?;
        Ok(SqlStatement::Insert(InsertStatement { name, columns, source: InsertSource::Values(rows) }))
    }

    /// After `UPDATE`.
    pub(super) fn update(&mut self) -> Result<SqlStatement, SqlError> {
        let name = self.public_name()?;
        self.expect("SET")?;
        let mut assignments: Vec<(String, InsertedValue)> = Vec::new();
        loop {
            let twice = self.wanted("another column");
            let column = self.name(true)?;
            self.expect_token(&Token::Eq)?;
            if assignments.iter().any(|(known, _)| *known == column) {
                return Err(twice);
            }
            let value = self.value().map_err(|e| e.hint("values are written out: no expressions"))?;
            assignments.push((column, value));
            if !self.accept_token(&Token::Comma) {
                break;
            }
        }
        let conditions = self.conditions("UPDATE name SET column = value, …")?;
        Ok(SqlStatement::Update(UpdateStatement { name, assignments, conditions }))
    }

    /// After `DELETE`.
    pub(super) fn delete(&mut self) -> Result<SqlStatement, SqlError> {
        self.expect("FROM")?;
        let name = self.public_name()?;
        let conditions = self.conditions("DELETE FROM name")?;
        Ok(SqlStatement::Delete(DeleteStatement { name, is_truncate: false, conditions }))
    }

    /// `[WHERE column = value AND …]` at the end of a statement that begins with `begin`.
    fn conditions(&mut self, begin: &str) -> Result<Vec<(String, InsertedValue)>, SqlError> {
        let mut conditions = Vec::new();
        if self.accept("WHERE") {
            loop {
                let column = self.name(true)?;
                if !self.accept_token(&Token::Eq) {
                    let hint = format!("{begin} WHERE column = value AND … is all that there is");
                    return Err(self.wanted("=").hint(hint));
                }
                conditions.push((column, self.value()?));
                if !self.accept("AND") {
                    break;
                }
            }
        }
        self.end()?;
        Ok(conditions)
    }

    /// After `TRUNCATE`.
    pub(super) fn truncate(&mut self) -> Result<SqlStatement, SqlError> {
        self.accept("TABLE");
        let name = self.public_name()?;
        self.end()?;
        Ok(SqlStatement::Delete(DeleteStatement { name, is_truncate: true, conditions: Vec::new() }))
    }

    /// A value that is written out.
    fn value(&mut self) -> Result<InsertedValue, SqlError> {
        let wanted = self.wanted("a value");
        let value = self.plain_value().map_err(|()| wanted)?;
        // Clients name the types of values.
        while self.accept_token(&Token::DoubleColon) {
            self.column_type()?;
        }
        Ok(value)
    }

    fn plain_value(&mut self) -> Result<InsertedValue, ()> {
        let is_typed = ["TIMESTAMP", "TIMESTAMPTZ", "DATE"].iter().any(|word| self.accept(word));
        let token = self.token().cloned().ok_or(())?;
        self.at += 1;
        Ok(match token {
            Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => InsertedValue::Text(text),
            Token::DollarQuotedString(text) => InsertedValue::Text(text.value),
            // `TIMESTAMP` is followed by a literal and nothing else.
            _ if is_typed => return Err(()),
            Token::Number(digits, _) => InsertedValue::Text(digits),
            // The sign is a token of its own.
            Token::Minus | Token::Plus => {
                let Some(Token::Number(digits, _)) = self.token() else { return Err(()) };
                let sign = if token == Token::Minus { "-" } else { "" };
                let value = InsertedValue::Text(format!("{sign}{digits}"));
                self.at += 1;
                value
            }
            Token::Placeholder(_) => InsertedValue::Parameter(parameter(&token).ok_or(())?),
            Token::Word(word) if word.quote_style.is_none() => {
                match word.value.to_ascii_uppercase().as_str() {
                    // Columns have no other default.
                    "NULL" | "DEFAULT" => InsertedValue::Null,
                    "TRUE" => InsertedValue::Text("true".to_owned()),
                    "FALSE" => InsertedValue::Text("false".to_owned()),
                    "CURRENT_TIMESTAMP" => InsertedValue::Now,
                    "NOW" => {
                        let is_call = self.accept_token(&Token::LParen) && self.accept_token(&Token::RParen);
                        if !is_call {
                            return Err(());
                        }
                        InsertedValue::Now
                    }
                    _ => return Err(()),
                }
            }
            _ => return Err(()),
        })
    }

    /// After `COPY`.
    pub(super) fn copy(&mut self) -> Result<SqlStatement, SqlError> {
        if self.token() == Some(&Token::LParen) {
            let query = self.query_in_parentheses()?;
            self.expect("TO")?;
            self.expect("STDOUT").map_err(|e| e.hint("the server writes no files"))?;
            let source = match super::parse(&query)? {
                SqlStatement::Subscribe(query) => CopySource::Changes(query),
                _ => CopySource::Query(query),
            };
            return Ok(SqlStatement::CopyOut(CopyOutStatement { source, format: self.copy_format()? }));
        }
        let begin = self.at;
        let name = self.copied_relation()?;
        let end = self.at;
        let columns = match self.token() {
            Some(Token::LParen) => self.names()?,
            _ => Vec::new(),
        };
        if self.accept("TO") {
            self.expect("STDOUT").map_err(|e| e.hint("the server writes no files"))?;
            // Quoted, since the names were folded when they were read.
            let quoted = |name: &String| format!("\"{}\"", name.replace('"', "\"\""));
            let shown = if columns.is_empty() {
                "*".to_owned()
            } else {
                columns.iter().map(quoted).collect::<Vec<_>>().join(", ")
            };
            let relation: String = self.tokens[begin..end].iter().map(|t| t.token.to_string()).collect();
            let source = CopySource::Query(format!("SELECT {shown} FROM {relation}"));
            return Ok(SqlStatement::CopyOut(CopyOutStatement { source, format: self.copy_format()? }));
        }
        self.expect("FROM")?;
        let Some(name) = name else {
            self.at = begin;
            return Err(self.wanted("a table").hint("only tables of the schema public take rows"));
        };
        self.expect("STDIN").map_err(|e| e.hint("the server reads no files: psql has \\copy"))?;
        Ok(SqlStatement::CopyIn(CopyInStatement { name, columns, format: self.copy_format()? }))
    }

    /// The relation of `COPY`; `None`: one of another schema than `public`, which only gives rows.
    fn copied_relation(&mut self) -> Result<Option<String>, SqlError> {
        let first = self.name(true)?;
        if !self.accept_token(&Token::Period) {
            return Ok(Some(first));
        }
        let name = self.name(true)?;
        Ok((first == "public").then_some(name))
    }

    /// The options of `COPY`, up to the end.
    fn copy_format(&mut self) -> Result<CopyFormat, SqlError> {
        let mut options = CopyOptions::default();
        self.accept("WITH");
        if self.accept_token(&Token::LParen) {
            loop {
                self.copy_option(&mut options, true)?;
                if !self.accept_token(&Token::Comma) {
                    break;
                }
            }
            self.expect_token(&Token::RParen)?;
        }
        while self.token().is_some() {
            self.copy_option(&mut options, false)?;
        }
        let base = match options.form {
            CopyForm::Text => CopyFormat::text(),
            CopyForm::Csv => CopyFormat::csv(),
            CopyForm::Binary => return options.binary(),
        };
        Ok(CopyFormat {
            has_header: options.has_header,
            delimiter: options.delimiter.unwrap_or(base.delimiter),
            null: options.null.unwrap_or(base.null),
            form: base.form,
        })
    }

    /// An option; `is_listed`: in parentheses, where each has its value behind it.
    fn copy_option(&mut self, options: &mut CopyOptions, is_listed: bool) -> Result<(), SqlError> {
        let place = self.at;
        if is_listed && self.accept("FORMAT") {
            let form = self.word_or_text()?;
            match form.as_str() {
                "csv" => options.form = CopyForm::Csv,
                "text" => options.form = CopyForm::Text,
                "binary" => options.form = CopyForm::Binary,
                _ => {
                    self.at -= 1;
                    return Err(self.wanted("csv, text or binary"));
                }
            }
        } else if !is_listed && self.accept("CSV") {
            options.form = CopyForm::Csv;
        } else if !is_listed && self.accept("BINARY") {
            options.form = CopyForm::Binary;
        } else if self.accept("HEADER") {
            options.has_header = true;
            if is_listed && !matches!(self.token(), Some(Token::Comma | Token::RParen)) {
                let value = self.word_or_text()?;
                // Everything but these is true, as in PostgreSQL.
                options.has_header = !["false", "off", "0"].contains(&value.as_str());
            }
        } else if self.accept("DELIMITER") {
            self.accept("AS");
            let wanted = self.wanted("one character");
            let text = self.string()?;
            let [byte] = text.as_bytes() else { return Err(wanted) };
            // These end a line, or quote and escape a field.
            if matches!(byte, b'\n' | b'\r' | b'"' | b'\\') {
                return Err(wanted);
            }
            options.delimiter = Some(*byte);
        } else if self.accept("NULL") {
            self.accept("AS");
            options.null = Some(self.string()?);
        } else if self.accept("QUOTE") || self.accept("ESCAPE") {
            self.accept("AS");
            let wanted = self.wanted("'\"'");
            // The only one that the reader of CSV knows; to refuse others is better than to read
            // wrong fields.
            if self.string()? != "\"" {
                return Err(wanted);
            }
        } else if self.accept("ENCODING") {
            let wanted = self.wanted("'UTF8'");
            if !["utf8", "utf-8"].contains(&self.string()?.to_ascii_lowercase().as_str()) {
                return Err(wanted);
            }
        } else {
            self.at = place;
            let error = self.wanted("an option of COPY");
            return Err(error.hint("FORMAT csv, text or binary, HEADER, DELIMITER, NULL"));
        }
        Ok(())
    }

    /// A word in lower case, a number, or a text.
    fn word_or_text(&mut self) -> Result<String, SqlError> {
        let text = match self.token() {
            Some(Token::Word(word)) => word.value.to_ascii_lowercase(),
            Some(Token::Number(digits, _)) => digits.clone(),
            _ => return self.string().map(|text| text.to_ascii_lowercase()),
        };
        self.at += 1;
        Ok(text)
    }
}

/// The number of a parameter: 1 of `$1`.
fn parameter(token: &Token) -> Option<usize> {
    let Token::Placeholder(name) = token else { return None };
    let number = name.strip_prefix('$')?.parse().ok()?;
    (number > 0).then_some(number)
}

#[cfg(test)]
mod tests;
