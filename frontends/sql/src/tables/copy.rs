//! Parses the data of `COPY … FROM STDIN` as bytes arrive: CSV, or PostgreSQL's text or binary
//! form.
//!
//! [`CopyReader`] passes each record to a [`TableAppender`]. The PostgreSQL
//! wire and the HTTP API both use it.

use super::appender::TableAppender;
use super::binary::BinarySplitter;
use super::csv::{CsvSplitter, Record};
use crate::error::{SqlError, SqlErrorKind};
use crate::limits;
use crate::statement::{CopyForm, CopyFormat};
use std::fmt;

/// Reads the rows of a `COPY`.
pub struct CopyReader {
    appender: TableAppender,
    /// Whether the header line is still expected.
    awaits_header: bool,
    splitter: Splitter,
    bytes: usize,
}

enum Splitter {
    Csv(CsvSplitter),
    Text(TextSplitter),
    Binary(BinarySplitter),
}

impl fmt::Debug for CopyReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopyReader").field("appender", &self.appender).finish_non_exhaustive()
    }
}

impl CopyReader {
    /// Rows for `appender`, in this form.
    pub fn new(appender: TableAppender, format: &CopyFormat) -> CopyReader {
        let splitter = match format.form {
            CopyForm::Csv => Splitter::Csv(CsvSplitter::new(format.delimiter, format.null.clone(), true)),
            CopyForm::Text => Splitter::Text(TextSplitter::new(format.delimiter, format.null.clone())),
            CopyForm::Binary => Splitter::Binary(BinarySplitter::new(appender.kinds())),
        };
        CopyReader { appender, awaits_header: format.has_header, splitter, bytes: 0 }
    }

    /// Reads the next bytes.
    ///
    /// # Errors
    ///
    /// If the rows are broken, with the number of the line, or beyond a limit.
    pub fn read(&mut self, bytes: &[u8]) -> Result<(), SqlError> {
        self.bytes += bytes.len();
        if self.bytes > limits::COPY_BYTES {
            let most = limits::COPY_BYTES / 1024 / 1024;
            let unit = self.appender.unit();
            let place = self.appender.rows() + 1;
            let error = format!("{unit} {place}: COPY takes at most {most} MiB");
            return Err(SqlError::new(SqlErrorKind::LimitReached, error).hint("copy the rows in parts"));
        }
        let appender = &mut self.appender;
        let awaits_header = &mut self.awaits_header;
        let mut take = |record: Record| take(appender, awaits_header, &record);
        match &mut self.splitter {
            Splitter::Csv(csv) => csv.feed(bytes, &mut take),
            Splitter::Text(text) => text.feed(bytes, &mut take),
            Splitter::Binary(binary) => binary.feed(bytes, &mut take),
        }
    }

    /// The rows, when all bytes were read.
    ///
    /// # Errors
    ///
    /// If the last row is broken.
    pub fn finish(self) -> Result<TableAppender, SqlError> {
        let CopyReader { mut appender, mut awaits_header, splitter, .. } = self;
        let mut take = |record: Record| take(&mut appender, &mut awaits_header, &record);
        match splitter {
            Splitter::Csv(csv) => csv.finish(&mut take)?,
            Splitter::Text(text) => text.finish(&mut take)?,
            Splitter::Binary(binary) => binary.finish()?,
        }
        Ok(appender)
    }

    /// How many values a row has.
    pub fn columns(&self) -> usize {
        self.appender.columns().len()
    }
}

fn take(appender: &mut TableAppender, awaits_header: &mut bool, record: &Record) -> Result<(), SqlError> {
    if std::mem::take(awaits_header) {
        return check_header(&appender.columns(), &record.fields);
    }
    appender.add(&record.fields, record.line)
}

/// The line of names must be that of the columns: a file with its columns in another order would
/// otherwise go where it does not belong.
fn check_header(columns: &[&str], names: &[Option<String>]) -> Result<(), SqlError> {
    let is_same = columns.len() == names.len()
        && columns.iter().zip(names).all(|(column, name)| name.as_deref() == Some(*column));
    if is_same {
        return Ok(());
    }
    let found: Vec<&str> = names.iter().map(|name| name.as_deref().unwrap_or("")).collect();
    let error =
        format!("line 1: the names are {}, but the columns are {}", found.join(", "), columns.join(", "));
    Err(SqlError::bad(error)
        .hint("list the columns in the order of the file: COPY name (column, …) FROM STDIN"))
}

/// Splits PostgreSQL's text form: a line a record, fields between delimiters, backslashes before
/// what would otherwise end one.
struct TextSplitter {
    delimiter: u8,
    null: String,
    /// The bytes of the line so far.
    raw: Vec<u8>,
    /// Whether the last byte was a backslash, which escapes the next one.
    is_escaped: bool,
    line: usize,
    has_ended: bool,
}

impl TextSplitter {
    fn new(delimiter: u8, null: String) -> TextSplitter {
        TextSplitter { delimiter, null, raw: Vec::new(), is_escaped: false, line: 1, has_ended: false }
    }

    fn feed(
        &mut self,
        bytes: &[u8],
        take: &mut dyn FnMut(Record) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        for byte in bytes {
            if self.has_ended {
                return Ok(());
            }
            if *byte == b'\n' && !self.is_escaped {
                self.end_record(take)?;
                self.line += 1;
                continue;
            }
            self.is_escaped = *byte == b'\\' && !self.is_escaped;
            self.raw.push(*byte);
        }
        Ok(())
    }

    fn finish(mut self, take: &mut dyn FnMut(Record) -> Result<(), SqlError>) -> Result<(), SqlError> {
        if self.raw.is_empty() || self.has_ended { Ok(()) } else { self.end_record(take) }
    }

    fn end_record(&mut self, take: &mut dyn FnMut(Record) -> Result<(), SqlError>) -> Result<(), SqlError> {
        let mut raw = std::mem::take(&mut self.raw);
        if raw.last() == Some(&b'\r') {
            raw.pop();
        }
        if raw == b"\\." {
            self.has_ended = true;
            return Ok(());
        }
        let mut fields = Vec::new();
        let mut begin = 0;
        let mut is_escaped = false;
        for (at, byte) in raw.iter().enumerate() {
            if *byte == self.delimiter && !is_escaped {
                fields.push(self.field(&raw[begin..at])?);
                begin = at + 1;
                if fields.len() == limits::TABLE_COLUMNS {
                    return Err(super::over(limits::TABLE_COLUMNS, "columns"));
                }
            }
            is_escaped = *byte == b'\\' && !is_escaped;
        }
        fields.push(self.field(&raw[begin..])?);
        take(Record { fields, line: self.line })
    }

    /// The value of a field.
    fn field(&self, raw: &[u8]) -> Result<Option<String>, SqlError> {
        if raw == self.null.as_bytes() {
            return Ok(None);
        }
        let mut out = Vec::with_capacity(raw.len());
        let mut bytes = raw.iter().copied().peekable();
        while let Some(byte) = bytes.next() {
            if byte != b'\\' {
                out.push(byte);
                continue;
            }
            match bytes.next() {
                Some(b'b') => out.push(8),
                Some(b'f') => out.push(12),
                Some(b'n') => out.push(b'\n'),
                Some(b'r') => out.push(b'\r'),
                Some(b't') => out.push(b'\t'),
                Some(b'v') => out.push(11),
                Some(other) => out.push(other),
                None => out.push(b'\\'),
            }
        }
        let text = String::from_utf8(out);
        let text = text.map_err(|_| SqlError::bad(format!("line {}: the text is not UTF-8", self.line)))?;
        Ok(Some(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::{ColumnDefinition, ColumnType, Table};

    fn table() -> Table {
        let column = |name: &str, kind| ColumnDefinition { name: name.to_owned(), kind };
        let columns = [column("job", ColumnType::Text), column("n", ColumnType::Integer)];
        Table::empty(&columns, &["job".to_owned()]).expect("a table")
    }

    fn copied(format: &CopyFormat, columns: &[String], pieces: &[&[u8]]) -> Result<Table, SqlError> {
        let table = table();
        let appender = TableAppender::new("owners", &table, columns, "line")?;
        let mut reader = CopyReader::new(appender, format);
        for piece in pieces {
            reader.read(piece)?;
        }
        reader.finish()?.finish(&table)
    }

    fn csv(has_header: bool) -> CopyFormat {
        CopyFormat { has_header, ..CopyFormat::csv() }
    }

    fn rows(table: &Table) -> Vec<Vec<Option<String>>> {
        table.rows().expect("rows")
    }

    fn row(job: &str, n: Option<&str>) -> Vec<Option<String>> {
        vec![Some(job.to_owned()), n.map(str::to_owned)]
    }

    #[test]
    fn pieces_may_end_anywhere() {
        let text = "job,n\r\n\"a, \"\"b\"\"\",1\r\nü,\n\"line\nfeed\",3";
        let want = vec![row("a, \"b\"", Some("1")), row("ü", None), row("line\nfeed", Some("3"))];
        for size in 1..text.len() {
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            let table = copied(&csv(true), &[], &pieces).expect("copied");
            assert_eq!(rows(&table), want, "pieces of {size}");
        }
        let text = "a\\tb\\\\\t1\n\\\\N\t\\N\nx\\\ny\t2\n\\.\nnot looked at";
        let want = vec![row("a\tb\\", Some("1")), row("\\N", None), row("x\ny", Some("2"))];
        for size in 1..text.len() {
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            let table = copied(&CopyFormat::text(), &[], &pieces).expect("copied");
            assert_eq!(rows(&table), want, "pieces of {size}");
        }
    }

    #[test]
    fn what_is_broken_is_told_with_its_line() {
        let columns = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        for (text, names, part) in [
            ("a,1\nb\n", columns(&[]), "line 2: 1 fields, but there are 2 columns"),
            (
                "a,1\nb,two\n",
                columns(&[]),
                "line 2: column \"n\": invalid input syntax for type bigint: \"two\"",
            ),
            (
                "a,1\n\"b\nc\",2\na,3\n",
                columns(&[]),
                "line 4: duplicate key value violates unique constraint \"owners_pkey\": (job)=(a) already exists",
            ),
            ("a,1\n,2\n", columns(&[]), "line 2: null value in column \"job\""),
            ("a,1\n\"b", columns(&[]), "line 2: the text ends inside of quotes"),
            ("1\n", columns(&["n"]), "line 1: null value in column \"job\""),
            ("1\n", columns(&["x"]), "column \"x\" of relation \"owners\" does not exist"),
        ] {
            let error = copied(&csv(false), &names, &[text.as_bytes()]).expect_err(text);
            assert!(error.text.contains(part), "{text}: {error}");
        }
        let error = copied(&csv(true), &[], &[b"n,job\n1,a\n"]).expect_err("another order");
        assert!(error.text.contains("the names are n, job, but the columns are job, n"), "{error}");
        let long: String = (0..=limits::TABLE_ROWS).map(|n| format!("{n},{n}\n")).collect();
        let error = copied(&csv(false), &[], &[long.as_bytes()]).expect_err("too many");
        assert_eq!(error.text, "line 200001: a table has at most 200000 rows");
        let error = copied(&csv(false), &[], &[&vec![b'x'; limits::COPY_BYTES + 1]]).expect_err("too long");
        assert_eq!(error.text, "line 1: COPY takes at most 16 MiB");
    }
}
