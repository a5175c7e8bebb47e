//! Messages over a TCP connection between two processes of a cluster: a length in four bytes
//! (little-endian), then that many bytes. While a [`FramedConnection`] waits, it checks every
//! [`CANCEL_POLL`] whether the query has been cancelled or has timed out. [`super::peer_client`]
//! and [`super::peer_server`] use it.

use super::CANCEL_POLL;
use crate::limits::{READ_BUFFER_BYTES, WRITE_BUFFER_BYTES};
use engine::limits::MESSAGE_BYTES;
use engine::query::QueryError;
use engine::query::guard::QueryGuard;
use std::io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;
use storage::model::time::format_duration;

/// A connection with framed messages. Reads and writes time out after a short time and are retried.
pub(crate) struct FramedConnection {
    /// The name of the other process, for error texts.
    pub name: String,
    /// The connection, with received bytes that are not read yet.
    input: BufReader<TcpStream>,
    /// Messages that are not sent yet.
    output: Vec<u8>,
}

impl FramedConnection {
    /// A connection over `stream`, to a process with that name.
    pub(crate) fn new(stream: TcpStream, name: String) -> io::Result<FramedConnection> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(CANCEL_POLL))?;
        stream.set_write_timeout(Some(CANCEL_POLL))?;
        Ok(FramedConnection {
            name,
            input: BufReader::with_capacity(READ_BUFFER_BYTES, stream),
            output: Vec::new(),
        })
    }

    /// The underlying connection, for direct reads.
    pub(crate) fn stream(&self) -> &TcpStream {
        self.input.get_ref()
    }

    /// Closes the connection for both sides.
    pub(crate) fn end(&self) {
        // The connection may be closed already.
        let _ = self.stream().shutdown(Shutdown::Both);
    }

    /// Queues a message; sends the queue if it is large.
    pub(crate) fn send(&mut self, message: &[u8], guard: &QueryGuard) -> Result<(), QueryError> {
        self.output.extend((message.len() as u32).to_le_bytes());
        self.output.extend(message);
        if self.output.len() > WRITE_BUFFER_BYTES { self.flush(guard) } else { Ok(()) }
    }

    /// Sends the queued messages. After a timeout the unsent rest remains queued: the other side
    /// could not parse anything that follows a truncated message.
    pub(crate) fn flush(&mut self, guard: &QueryGuard) -> Result<(), QueryError> {
        let mut sent = 0;
        let mut send = || {
            while sent < self.output.len() {
                match self.input.get_ref().write(&self.output[sent..]) {
                    Ok(bytes) => sent += bytes,
                    Err(e) => self.wait(&e, guard)?,
                }
            }
            Ok(())
        };
        let result = send();
        self.output.drain(..sent);
        // One large answer must not keep its buffer for the life of the connection.
        self.output.shrink_to(WRITE_BUFFER_BYTES);
        result
    }

    /// Waits for the next message.
    pub(crate) fn receive(&mut self, guard: &QueryGuard) -> Result<Vec<u8>, QueryError> {
        let length = self.read(4, guard)?;
        let length = length.try_into().map_or(0, u32::from_le_bytes) as usize;
        // A length that no message has: the stream is out of step or not ours, and every byte after
        // it would be read wrongly.
        if length > MESSAGE_BYTES {
            return Err(self.connection_lost(&format!("a message of {length} bytes is too long")));
        }
        self.read(length, guard)
    }

    /// Reads this many bytes; allocates memory only as they arrive, because the length is not
    /// trusted.
    fn read(&mut self, bytes: usize, guard: &QueryGuard) -> Result<Vec<u8>, QueryError> {
        let mut received = Vec::new();
        while received.len() < bytes {
            let left = (bytes - received.len()) as u64;
            match self.input.by_ref().take(left).read_to_end(&mut received) {
                // `read_to_end` ends early only if the other side closed.
                Ok(_) if received.len() < bytes => {
                    return Err(self.connection_lost("it closed the connection"));
                }
                Ok(_) => {}
                Err(e) => self.wait(&e, guard)?,
            }
        }
        Ok(received)
    }

    /// Decides after an I/O error whether to retry.
    fn wait(&self, error: &std::io::Error, guard: &QueryGuard) -> Result<(), QueryError> {
        match error.kind() {
            Interrupted => Ok(()),
            // The short timeout of the socket is only the moment to check whether the query is
            // still wanted.
            WouldBlock | TimedOut => guard.check().map_err(|e| name_in_timeout(&self.name, e, guard)),
            _ => Err(self.connection_lost(&error.to_string())),
        }
    }

    fn connection_lost(&self, why: &str) -> QueryError {
        QueryError::Unavailable(format!("{} does not answer: {why}", self.name))
    }
}

/// Adds the name of the process that was waited for to the timeout error of a query.
pub(crate) fn name_in_timeout(name: &str, error: QueryError, guard: &QueryGuard) -> QueryError {
    match error {
        QueryError::Timeout(text) => {
            let (timeout, _) = guard.time_left();
            QueryError::Timeout(format!("{name} did not answer within {}: {text}", shown(timeout)))
        }
        other => other,
    }
}

/// Rounds a timeout for an error text: the time spent waiting for a permit was subtracted from it,
/// so it is not a round number.
fn shown(timeout: Duration) -> String {
    let ms = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
    format_duration(if ms < 1_000 { ms } else { (ms + 50) / 100 * 100 })
}
