//! `COPY … FROM STDIN` and `COPY … TO STDOUT`.
//!
//! Incoming rows are parsed as they arrive, in memory and up to a limit. The table changes when all
//! have arrived: as a whole, or not at all. [`sql::tables`] has the parser.

use crate::cells::{self, Cell, WireColumn};
use crate::connection::{Connection, EndReason};
use crate::failure::{Failure, state};
use crate::limits;
use crate::run::AnswerRows;
use bytes::Bytes;
use futures::StreamExt;
use pgwire::messages::copy::{CopyData, CopyDone, CopyInResponse, CopyOutResponse};
use pgwire::messages::response::CommandComplete;
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use sql::statement::{CopyForm, CopyFormat, CopyInStatement};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often a wait for rows looks whether it is canceled.
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl Connection {
    /// Takes rows into a table.
    pub(crate) async fn copy_in(&mut self, copy: &CopyInStatement) -> Result<(), EndReason> {
        let service = self.service();
        let Ok(_place) = self.server.copies.clone().try_acquire_owned() else {
            let error = format!("more than {} COPY FROM STDIN at one time", limits::WIRE_COPIES);
            return Err(Failure::new(state::LIMIT, error).hint("try again later").into());
        };
        let mut reader = service.copy_reader(copy).map_err(Failure::from)?;
        let cancel = self.options()?.cancel;
        let columns = i16::try_from(reader.columns()).unwrap_or(i16::MAX);
        let formats = vec![0; reader.columns()];
        self.feed(PgWireBackendMessage::CopyInResponse(CopyInResponse::new(0, columns, formats))).await?;
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
        let formats = vec![0; columns.len()];
        self.feed(PgWireBackendMessage::CopyOutResponse(CopyOutResponse::new(0, count, formats))).await?;
        if format.has_header {
            let names = header(&columns, format);
            self.feed(PgWireBackendMessage::CopyData(CopyData::new(names))).await?;
        }
        while self.next_row(&mut answer_rows).await? {
            let mut line = Vec::new();
            answer_rows.take_row(|at, cell| put_field(&mut line, at, cell, format));
            line.push(b'\n');
            self.feed(PgWireBackendMessage::CopyData(CopyData::new(Bytes::from(line)))).await?;
        }
        self.feed(PgWireBackendMessage::CopyDone(CopyDone::new())).await?;
        let rows = answer_rows.taken;
        answer_rows.tag = "COPY";
        self.complete(&mut answer_rows, rows).await
    }
}

fn gone() -> io::Error {
    io::Error::from(io::ErrorKind::ConnectionAborted)
}

/// The line of names.
fn header(columns: &[WireColumn], format: &CopyFormat) -> Bytes {
    let mut line = Vec::new();
    for (at, column) in columns.iter().enumerate() {
        put_field(&mut line, at, &Cell::Text(&column.name), format);
    }
    line.push(b'\n');
    Bytes::from(line)
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
        CopyForm::Text => put_text(line, &text, format),
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
            b'\\' => b'\\',
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
