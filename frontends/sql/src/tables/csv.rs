//! A CSV parser (RFC 4180) for data that arrives in pieces: splits bytes into records of texts.
//!
//! [`CsvSplitter`] is a state machine over bytes. It also knows the small differences of `COPY …
//! CSV`. [`super::copy`] and the upload of tables use it.

use super::over;
use crate::error::SqlError;
use crate::limits;

/// A record of CSV.
pub(super) struct Record {
    /// A text or NULL for each field.
    pub(super) fields: Vec<Option<String>>,
    /// The number of the line on which it ends, from 1.
    pub(super) line: usize,
}

/// The state of the parser.
#[derive(Copy, Clone, PartialEq, Eq)]
enum FieldState {
    /// In a field without quotes, or at the start of a field.
    Plain,
    /// A text in quotes.
    Quoted,
    /// After a quote inside of quotes: the end of the text, or half of a quote.
    AfterQuote,
}

/// Splits bytes into records.
pub(super) struct CsvSplitter {
    delimiter: u8,
    /// How NULL is written, without quotes.
    null: String,
    /// As `COPY` has it: a line without anything is a record with one field, and `\.` ends the
    /// text.
    is_copy: bool,
    row: Vec<Option<String>>,
    field: Vec<u8>,
    was_quoted: bool,
    state: FieldState,
    /// Whether the last byte was a carriage return, which belongs to the end of the line or to the
    /// field.
    has_return: bool,
    line: usize,
    has_ended: bool,
}

impl CsvSplitter {
    /// `is_copy`: a line without anything is a record with one field, and `\.` ends the text.
    pub(super) fn new(delimiter: u8, null: String, is_copy: bool) -> CsvSplitter {
        CsvSplitter {
            delimiter,
            null,
            is_copy,
            row: Vec::new(),
            field: Vec::new(),
            was_quoted: false,
            state: FieldState::Plain,
            has_return: false,
            line: 1,
            has_ended: false,
        }
    }

    /// Reads the next bytes; each record that they complete goes to `take`.
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        take: &mut dyn FnMut(Record) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        for byte in bytes {
            if self.has_ended {
                return Ok(());
            }
            self.byte(*byte, take)?;
        }
        Ok(())
    }

    fn byte(
        &mut self,
        byte: u8,
        take: &mut dyn FnMut(Record) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        if std::mem::take(&mut self.has_return) && byte != b'\n' {
            self.field.push(b'\r');
        }
        if self.state == FieldState::AfterQuote {
            if byte == b'"' {
                self.field.push(b'"');
                self.state = FieldState::Quoted;
                return Ok(());
            }
            self.state = FieldState::Plain;
        }
        if self.state == FieldState::Quoted {
            match byte {
                b'"' => self.state = FieldState::AfterQuote,
                _ => {
                    self.line += usize::from(byte == b'\n');
                    self.field.push(byte);
                }
            }
            return Ok(());
        }
        match byte {
            b'"' if self.field.is_empty() && !self.was_quoted => {
                self.state = FieldState::Quoted;
                self.was_quoted = true;
            }
            b'"' => return Err(self.error("a quote inside of a field without quotes")),
            b'\r' => self.has_return = true,
            b'\n' => {
                self.end_record(take)?;
                self.line += 1;
            }
            _ if byte == self.delimiter => self.end_field()?,
            _ => self.field.push(byte),
        }
        Ok(())
    }

    /// The end of the text.
    pub(super) fn finish(
        mut self,
        take: &mut dyn FnMut(Record) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        if self.state == FieldState::Quoted {
            return Err(self.error("the text ends inside of quotes"));
        }
        if self.has_return {
            self.field.push(b'\r');
        }
        if self.has_ended || self.is_empty() {
            return Ok(());
        }
        self.end_record(take)
    }

    fn is_empty(&self) -> bool {
        self.row.is_empty() && self.field.is_empty() && !self.was_quoted
    }

    fn end_record(&mut self, take: &mut dyn FnMut(Record) -> Result<(), SqlError>) -> Result<(), SqlError> {
        if self.is_empty() && !self.is_copy {
            return Ok(());
        }
        // The line that ends a COPY in files (`\.`).
        if self.is_copy && self.row.is_empty() && self.field == b"\\." && !self.was_quoted {
            self.has_ended = true;
            return Ok(());
        }
        self.end_field()?;
        take(Record { fields: std::mem::take(&mut self.row), line: self.line })
    }

    fn end_field(&mut self) -> Result<(), SqlError> {
        // Before the line ends: a line may have millions of commas.
        if self.row.len() == limits::TABLE_COLUMNS {
            return Err(over(limits::TABLE_COLUMNS, "columns"));
        }
        let was_quoted = std::mem::take(&mut self.was_quoted);
        let text = String::from_utf8(std::mem::take(&mut self.field));
        let text = text.map_err(|_| self.error("the text is not UTF-8"))?;
        self.row.push(if text == self.null && !was_quoted { None } else { Some(text) });
        Ok(())
    }

    fn error(&self, what: &str) -> SqlError {
        SqlError::bad(format!("line {}: {what}", self.line))
    }
}
