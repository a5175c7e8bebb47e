//! `COPY … FROM STDIN` and `COPY … TO STDOUT`.
//!
//! Incoming rows are parsed as they arrive, in memory and up to a limit. The table changes when all
//! have arrived: as a whole, or not at all. [`sql::tables`] has the parser, [`CopyWriter`] writes
//! the other direction: text, CSV or the binary form.

use crate::cells::{self, Cell, CellFormat, WireColumn};
use crate::connection::{Connection, EndReason};
use crate::failure::{Failure, state};
use crate::limits;
use crate::run::AnswerRows;
use bytes::{BufMut, Bytes, BytesMut};
use futures::StreamExt;
use pgwire::messages::copy::{CopyData, CopyDone, CopyInResponse, CopyOutResponse};
use pgwire::messages::response::CommandComplete;
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use sql::statement::{CopyForm, CopyFormat, CopyInStatement};
use sql::tables::COPY_SIGNATURE;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often a wait for rows looks whether it is canceled.
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl Connection {
    /// Takes rows into a table.
    pub(crate) async fn copy_in(&mut self, copy: &CopyInStatement) -> Result<(), EndReason> {
        let service = self.service();
        // Rows that arrive are in memory until the last: so many copies at one time, each up to its
        // limit.
        let Ok(_place) = self.server.copies.clone().try_acquire_owned() else {
            let error = format!("more than {} COPY FROM STDIN at one time", limits::WIRE_COPIES);
            return Err(Failure::new(state::LIMIT, error).hint("try again later").into());
        };
        let mut reader = service.copy_reader(copy).map_err(Failure::from)?;
        let cancel = self.options()?.cancel;
        let columns = i16::try_from(reader.columns()).unwrap_or(i16::MAX);
        let code = format_of(&copy.format);
        let formats = vec![i16::from(code); reader.columns()];
        self.feed(PgWireBackendMessage::CopyInResponse(CopyInResponse::new(code, columns, formats))).await?;
        self.flush().await?;
        loop {
            match self.copied_message(&cancel).await? {
                PgWireFrontendMessage::CopyData(piece) => reader.read(&piece.data).map_err(Failure::from)?,
                PgWireFrontendMessage::CopyDone(_) => break,
                PgWireFrontendMessage::CopyFail(why) => {
                    let error = format!("COPY from stdin failed: {}", why.message);
                    return Err(Failure::new(state::CANCELED, error).into());
                }
                // Clients of the extended protocol send them before they know that rows are wanted.
                PgWireFrontendMessage::Flush(_) | PgWireFrontendMessage::Sync(_) => {}
                // Nothing was added: the table changes only at the end.
                PgWireFrontendMessage::Terminate(_) => return Err(gone().into()),
                _ => {
                    let error = "unexpected message type during COPY from stdin";
                    return Err(Failure::fatal(state::PROTOCOL_VIOLATION, error).into());
                }
            }
        }
        let table = copy.name.clone();
        let adding = async move { service.copied(table, reader).await.map_err(Failure::from) };
        let rows = self.watched(adding).await?;
        self.note_change();
        let tag = format!("COPY {rows}");
        self.feed(PgWireBackendMessage::CommandComplete(CommandComplete::new(tag))).await
    }

    /// The next message of the client during a COPY.
    async fn copied_message(&mut self, cancel: &AtomicBool) -> Result<PgWireFrontendMessage, EndReason> {
        if let Some(message) = self.ahead.pop_front() {
            return Ok(message);
        }
        let began = Instant::now();
        loop {
            if cancel.load(Ordering::Relaxed) {
                let error = "canceling statement due to user request";
                return Err(Failure::new(state::CANCELED, error).into());
            }
            // A client that has begun a copy holds a place; one that is silent gives it back.
            if began.elapsed() > limits::WIRE_STALL {
                let error = "the client sends no rows";
                return Err(Failure::fatal(state::CANCELED, error).into());
            }
            // Reading a message may be given up and begun again: what came of it is kept.
            match tokio::time::timeout(LOOK_EVERY, self.socket.next()).await {
                Ok(Some(Ok(message))) => return Ok(message),
                Ok(Some(Err(e))) => {
                    return Err(Failure::fatal(state::PROTOCOL_VIOLATION, e.to_string()).into());
                }
                Ok(None) => return Err(gone().into()),
                Err(_) => {}
            }
        }
    }

    /// Gives rows to the client.
    pub(crate) async fn copy_out(
        &mut self,
        mut answer_rows: AnswerRows,
        format: &CopyFormat,
    ) -> Result<(), EndReason> {
        let columns = answer_rows.columns.clone();
        let count = i16::try_from(columns.len()).unwrap_or(i16::MAX);
        let code = format_of(format);
        let formats = vec![i16::from(code); columns.len()];
        self.feed(PgWireBackendMessage::CopyOutResponse(CopyOutResponse::new(code, count, formats))).await?;
        let writer = CopyWriter { columns, format };
        // Clients expect the header of the binary form in the message of the first row.
        let mut header = writer.begin();
        // A line of names is a message of its own.
        if format.form != CopyForm::Binary {
            self.copied(header.take()).await?;
        }
        while self.next_row(&mut answer_rows).await? {
            let row = writer.row(&mut answer_rows);
            self.copied(Some(joined(header.take(), row))).await?;
        }
        let end = writer.end().map(|end| joined(header.take(), end));
        self.copied(end).await?;
        self.feed(PgWireBackendMessage::CopyDone(CopyDone::new())).await?;
        let rows = answer_rows.taken;
        answer_rows.tag = "COPY";
        self.complete(&mut answer_rows, rows).await
    }

    /// Sends bytes of a copy, if there are any.
    async fn copied(&mut self, bytes: Option<Bytes>) -> Result<(), EndReason> {
        match bytes {
            Some(bytes) => self.feed(PgWireBackendMessage::CopyData(CopyData::new(bytes))).await,
            None => Ok(()),
        }
    }
}

/// The code of a form in messages: 1 is the binary one.
fn format_of(format: &CopyFormat) -> i8 {
    i8::from(format.form == CopyForm::Binary)
}

/// The bytes behind those of a header, if there is one.
fn joined(header: Option<Bytes>, bytes: Bytes) -> Bytes {
    match header {
        Some(header) => Bytes::from([header, bytes].concat()),
        None => bytes,
    }
}

fn gone() -> io::Error {
    io::Error::from(io::ErrorKind::ConnectionAborted)
}

/// Writes rows that go to a client.
struct CopyWriter<'a> {
    columns: Arc<[WireColumn]>,
    format: &'a CopyFormat,
}

impl CopyWriter<'_> {
    /// What comes before the rows: a header of the binary form, or the line of names.
    fn begin(&self) -> Option<Bytes> {
        if self.format.form == CopyForm::Binary {
            let mut out = BytesMut::new();
            out.put_slice(COPY_SIGNATURE);
            // No flags, and nothing more in the header.
            out.put_i32(0);
            out.put_i32(0);
            return Some(out.freeze());
        }
        // The text form has a header only if it is asked for.
        if !self.format.has_header {
            return None;
        }
        let mut line = Vec::new();
        for (at, column) in self.columns.iter().enumerate() {
            put_field(&mut line, at, &Cell::Text(&column.name), self.format);
        }
        line.push(b'\n');
        Some(Bytes::from(line))
    }

    /// The next row, which is there.
    fn row(&self, answer_rows: &mut AnswerRows) -> Bytes {
        if self.format.form == CopyForm::Binary {
            let mut out = BytesMut::new();
            out.put_i16(i16::try_from(self.columns.len()).unwrap_or(i16::MAX));
            let row = answer_rows.row(&self.columns, &[CellFormat::Binary.code()]);
            out.put_slice(&row.data);
            return out.freeze();
        }
        let mut line = Vec::new();
        answer_rows.take_row(|at, cell| put_field(&mut line, at, cell, self.format));
        line.push(b'\n');
        Bytes::from(line)
    }

    /// The mark of the binary form after the last row.
    fn end(&self) -> Option<Bytes> {
        (self.format.form == CopyForm::Binary).then(|| Bytes::from_static(&[0xff, 0xff]))
    }
}

/// Writes a field of a line.
fn put_field(line: &mut Vec<u8>, at: usize, cell: &Cell<'_>, format: &CopyFormat) {
    if at > 0 {
        line.push(format.delimiter);
    }
    if *cell == Cell::Null {
        line.extend_from_slice(format.null.as_bytes());
        return;
    }
    let text = cells::text(cell);
    match format.form {
        CopyForm::Csv => put_csv(line, &text, format),
        // The binary form has no lines.
        CopyForm::Text | CopyForm::Binary => put_text(line, &text, format),
    }
}

fn put_csv(line: &mut Vec<u8>, text: &str, format: &CopyFormat) {
    let is_special = |byte: u8| byte == format.delimiter || matches!(byte, b'"' | b'\n' | b'\r');
    // What would read as NULL, or as the end of the rows, has quotes too.
    if text == format.null || text == "\\." || text.bytes().any(is_special) {
        line.push(b'"');
        line.extend_from_slice(text.replace('"', "\"\"").as_bytes());
        line.push(b'"');
        return;
    }
    line.extend_from_slice(text.as_bytes());
}

fn put_text(line: &mut Vec<u8>, text: &str, format: &CopyFormat) {
    for byte in text.bytes() {
        let escaped = match byte {
            8 => b'b',
            12 => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            11 => b'v',
            // The backslash itself begins an escape.
            b'\\' => b'\\',
            // A delimiter inside of a field would divide it.
            other if other == format.delimiter => other,
            other => {
                line.push(other);
                continue;
            }
        };
        line.extend_from_slice(&[b'\\', escaped]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(cells: &[Cell<'_>], format: &CopyFormat) -> String {
        let mut line = Vec::new();
        for (at, cell) in cells.iter().enumerate() {
            put_field(&mut line, at, cell, format);
        }
        String::from_utf8(line).expect("UTF-8")
    }

    #[test]
    fn fields_are_written_as_they_are_read() {
        let cells =
            [Cell::Text("a,\"b\""), Cell::Null, Cell::Text(""), Cell::Text("x\ty\\"), Cell::Bool(true)];
        assert_eq!(line(&cells, &CopyFormat::csv()), "\"a,\"\"b\"\"\",,\"\",x\ty\\,t");
        assert_eq!(line(&cells, &CopyFormat::text()), "a,\"b\"\t\\N\t\tx\\ty\\\\\tt");
    }
}
