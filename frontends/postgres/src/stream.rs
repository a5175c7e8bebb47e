//! [`MessageStream`]: the bytes of a connection, plain or TLS, with a limit on the length of a
//! message.
//!
//! The codec of pgwire accepts messages of a gigabyte and buffers what has arrived. This reads the
//! length of each message as its bytes pass, and ends the connection if it is too long.

use crate::limits;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// A connection.
pub(crate) enum RawStream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

api::stream_enum!(RawStream: Plain, Tls);

/// A connection after its first message: each message has a type and a length.
pub(crate) struct MessageStream {
    raw: RawStream,
    /// Bytes of the current message that are still to come.
    left: usize,
    /// Type and length of the next message, as far as they have come.
    head: [u8; 5],
    have: usize,
}

impl MessageStream {
    pub(crate) fn new(raw: RawStream) -> MessageStream {
        MessageStream { raw, left: 0, head: [0; 5], have: 0 }
    }

    /// Follows the messages in `bytes`.
    fn follow(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let passed = self.left.min(bytes.len());
            self.left -= passed;
            bytes = &bytes[passed..];
            // The header may come in pieces, one byte at a time.
            let taken = (self.head.len() - self.have).min(bytes.len());
            if self.left > 0 || taken == 0 {
                continue;
            }
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == self.head.len() {
                let [_, a, b, c, d] = self.head;
                let length = u32::from_be_bytes([a, b, c, d]) as usize;
                // Ended and not skipped: who sends this is no client of PostgreSQL, or wants the
                // memory.
                if !(4..=limits::WIRE_MESSAGE_BYTES).contains(&length) {
                    let error =
                        format!("a message of {length} bytes, the limit is {}", limits::WIRE_MESSAGE_BYTES);
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                }
                // The length counts itself, but not the type before it.
                self.left = length - 4;
                self.have = 0;
            }
        }
        Ok(())
    }
}

impl AsyncRead for MessageStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        match Pin::new(&mut this.raw).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => Poll::Ready(this.follow(&buf.filled()[before..])),
            other => other,
        }
    }
}

impl AsyncWrite for MessageStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().raw).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().raw).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().raw).poll_shutdown(cx)
    }
}
