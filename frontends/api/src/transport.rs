//! The transports of connections: TCP or a Unix socket, plain or with TLS. [`mod@super::serve`]
//! accepts connections with them.

use rustls::ServerConfig;
use rustls::server::Acceptor;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

/// Implements `AsyncRead` and `AsyncWrite` for an enum of streams: each call goes to the stream
/// that it holds. Also for the listeners of other protocols.
#[macro_export]
macro_rules! stream_enum {
    ($name:ident: $($variant:ident),+) => {
        impl ::tokio::io::AsyncRead for $name {
            fn poll_read(
                self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
                buf: &mut ::tokio::io::ReadBuf<'_>,
            ) -> ::std::task::Poll<::std::io::Result<()>> {
                match self.get_mut() {
                    $($name::$variant(stream) => ::std::pin::Pin::new(stream).poll_read(cx, buf),)+
                }
            }
        }

        impl ::tokio::io::AsyncWrite for $name {
            fn poll_write(
                self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
                buf: &[u8],
            ) -> ::std::task::Poll<::std::io::Result<usize>> {
                match self.get_mut() {
                    $($name::$variant(stream) => ::std::pin::Pin::new(stream).poll_write(cx, buf),)+
                }
            }

            fn poll_write_vectored(
                self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
                bufs: &[::std::io::IoSlice<'_>],
            ) -> ::std::task::Poll<::std::io::Result<usize>> {
                match self.get_mut() {
                    $($name::$variant(stream) => ::std::pin::Pin::new(stream).poll_write_vectored(cx, bufs),)+
                }
            }

            fn poll_flush(
                self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
            ) -> ::std::task::Poll<::std::io::Result<()>> {
                match self.get_mut() {
                    $($name::$variant(stream) => ::std::pin::Pin::new(stream).poll_flush(cx),)+
                }
            }

            fn poll_shutdown(
                self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
            ) -> ::std::task::Poll<::std::io::Result<()>> {
                match self.get_mut() {
                    $($name::$variant(stream) => ::std::pin::Pin::new(stream).poll_shutdown(cx),)+
                }
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    $($name::$variant(stream) => ::tokio::io::AsyncWrite::is_write_vectored(stream),)+
                }
            }
        }
    };
}

/// What the server listens on.
#[derive(Debug)]
pub enum Listener {
    /// An address and a port.
    Tcp(TcpListener),
    /// A socket of this machine.
    Unix(UnixListener),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Listener {
        Listener::Tcp(listener)
    }
}

impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Listener {
        Listener::Unix(listener)
    }
}

impl Listener {
    /// The next connection and the address of its client, which is the loopback address for a
    /// socket of this machine.
    pub(crate) async fn accept(&self) -> io::Result<(RawStream, SocketAddr)> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // Disable Nagle's algorithm: deltas are small and must not be delayed.
                if let Err(e) = stream.set_nodelay(true) {
                    tracing::debug!("cannot set TCP_NODELAY for {address}: {e}");
                }
                Ok((RawStream::Tcp(stream), address))
            }
            Listener::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let here = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
                Ok((RawStream::Unix(stream), here))
            }
        }
    }
}

/// A connection as the kernel has it.
#[derive(Debug)]
pub(crate) enum RawStream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

stream_enum!(RawStream: Tcp, Unix);

/// A connection as HTTP has it.
pub(crate) enum Stream {
    Plain(RawStream),
    Tls(Box<TlsStream<RawStream>>),
}

stream_enum!(Stream: Plain, Tls);

/// What is answered to a client that does not know of TLS (as in Go).
const NOT_TLS: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/// Does the server's part of a TLS handshake.
pub(crate) async fn handshake(raw: RawStream, config: Arc<ServerConfig>) -> io::Result<Stream> {
    let mut acceptor = pin!(LazyConfigAcceptor::new(Acceptor::default(), raw));
    match acceptor.as_mut().await {
        Ok(start) => start.into_stream(config).await.map(|stream| Stream::Tls(Box::new(stream))),
        Err(e) => {
            // The client has sent no TLS, and reads none.
            if let Some(mut raw) = acceptor.take_io() {
                let _ = raw.write_all(NOT_TLS).await;
                let _ = raw.shutdown().await;
            }
            Err(e)
        }
    }
}

impl Stream {
    /// Makes the kernel drop unread bytes when the connection is closed; else it would keep them
    /// for minutes.
    pub(crate) fn drop_unread(&self) {
        let raw = match self {
            Stream::Plain(raw) => raw,
            Stream::Tls(stream) => stream.get_ref().0,
        };
        if let RawStream::Tcp(stream) = raw {
            let _ = stream.set_zero_linger();
        }
    }
}
