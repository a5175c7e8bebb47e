//! The client's side of SOCKS 5 (RFC 1928, RFC 1929): asks a proxy for a connection to a host. The
//! proxy resolves names, as with Go for `socks5` and for `socks5h`. The texts of errors are Go's.

use std::fmt;
use std::io;
use std::net::IpAddr;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use url::Url;

const VERSION: u8 = 5;
const NO_LOGIN: u8 = 0;
const LOGIN: u8 = 2;
const NO_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// The port of a proxy whose URL has none.
const PORT: u16 = 1080;

/// Whether a URL is that of such a proxy.
pub(super) fn is_socks(url: &Url) -> bool {
    matches!(url.scheme(), "socks5" | "socks5h")
}

/// Why there is no connection through a proxy.
#[derive(Debug, thiserror::Error)]
#[error("socks connect tcp {proxy}->{target}: {reason}")]
pub(super) struct SocksError {
    proxy: String,
    target: Target,
    reason: SocksFault,
}

#[derive(Debug, thiserror::Error)]
enum SocksFault {
    /// The proxy cannot be reached, or the connection to it breaks.
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no acceptable authentication methods")]
    NoMethod,
    #[error("username/password authentication failed")]
    Login,
    #[error("invalid username/password")]
    LoginTooLong,
    #[error("FQDN too long")]
    NameTooLong,
    #[error("unexpected protocol version {0}")]
    Version(u8),
    #[error("unknown authentication method {0}")]
    Method(u8),
    #[error("unknown address type")]
    AddressType,
    #[error("unknown error {0}")]
    Refused(&'static str),
}

/// What a proxy should connect to.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// A name or an address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A name and a password for a proxy.
struct Credentials {
    user: Vec<u8>,
    password: Vec<u8>,
}

impl Credentials {
    /// Those of a URL; `None`: it has none.
    fn from_url(proxy: &Url) -> Option<Credentials> {
        if proxy.username().is_empty() && proxy.password().is_none() {
            return None;
        }
        let user = percent_decoded(proxy.username());
        Some(Credentials { user, password: percent_decoded(proxy.password().unwrap_or_default()) })
    }
}

/// The bytes that a part of a URL stands for.
fn percent_decoded(text: &str) -> Vec<u8> {
    // A value of a form is the same but for `+`, which stands for a space there.
    let escaped = text.replace('+', "%2B");
    let pair = format!("x={escaped}");
    let value = url::form_urlencoded::parse(pair.as_bytes()).next();
    value.map(|(_, value)| value.into_owned().into_bytes()).unwrap_or_default()
}

/// A connection to `target` through the proxy.
///
/// # Errors
/// The proxy cannot be reached, or refuses.
pub(super) async fn connect(proxy: &Url, target: Target) -> Result<TcpStream, SocksError> {
    let host = proxy.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let address = Target { host, port: proxy.port().unwrap_or(PORT) };
    let tunnel = async {
        let mut stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
        stream.set_nodelay(true)?;
        shake_hands(&mut stream, Credentials::from_url(proxy).as_ref(), &target).await?;
        Ok(stream)
    };
    tunnel.await.map_err(|reason| SocksError { proxy: address.to_string(), target, reason })
}

/// Asks the proxy at the other end of `stream` to connect it to `target`.
async fn shake_hands<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    credentials: Option<&Credentials>,
    target: &Target,
) -> Result<(), SocksFault> {
    let methods: &[u8] = if credentials.is_some() { &[NO_LOGIN, LOGIN] } else { &[NO_LOGIN] };
    let mut greeting = vec![VERSION, methods.len() as u8];
    greeting.extend_from_slice(methods);
    stream.write_all(&greeting).await?;
    let chosen: [u8; 2] = read(stream).await?;
    check_version(chosen[0])?;
    match (chosen[1], credentials) {
        (NO_LOGIN, _) => {}
        (LOGIN, Some(credentials)) => log_in(stream, credentials).await?,
        (NO_METHOD, _) => return Err(SocksFault::NoMethod),
        (other, _) => return Err(SocksFault::Method(other)),
    }
    stream.write_all(&request(target)?).await?;
    let answer: [u8; 4] = read(stream).await?;
    check_version(answer[0])?;
    if answer[1] != 0 {
        return Err(SocksFault::Refused(reply(answer[1])));
    }
    skip_address(stream, answer[3]).await
}

async fn read<S: AsyncRead + Unpin, const N: usize>(stream: &mut S) -> Result<[u8; N], SocksFault> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

fn check_version(version: u8) -> Result<(), SocksFault> {
    if version == VERSION { Ok(()) } else { Err(SocksFault::Version(version)) }
}

async fn log_in<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    credentials: &Credentials,
) -> Result<(), SocksFault> {
    let Credentials { user, password } = credentials;
    let length = |bytes: &[u8]| u8::try_from(bytes.len()).map_err(|_| SocksFault::LoginTooLong);
    if user.is_empty() {
        return Err(SocksFault::LoginTooLong);
    }
    // The version of this part of the protocol is 1.
    let mut message = vec![1, length(user)?];
    message.extend_from_slice(user);
    message.push(length(password)?);
    message.extend_from_slice(password);
    stream.write_all(&message).await?;
    let [_, status] = read(stream).await?;
    if status == 0 { Ok(()) } else { Err(SocksFault::Login) }
}

/// The request for a connection.
fn request(target: &Target) -> Result<Vec<u8>, SocksFault> {
    let mut message = vec![VERSION, CONNECT, 0];
    match target.host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => {
            message.push(IPV4);
            message.extend_from_slice(&address.octets());
        }
        Ok(IpAddr::V6(address)) => {
            message.push(IPV6);
            message.extend_from_slice(&address.octets());
        }
        Err(_) => {
            let length = u8::try_from(target.host.len()).map_err(|_| SocksFault::NameTooLong)?;
            message.extend_from_slice(&[NAME, length]);
            message.extend_from_slice(target.host.as_bytes());
        }
    }
    message.extend_from_slice(&target.port.to_be_bytes());
    Ok(message)
}

/// Reads the address that the proxy has bound, which nobody needs.
async fn skip_address<S: AsyncRead + Unpin>(stream: &mut S, kind: u8) -> Result<(), SocksFault> {
    let length = match kind {
        IPV4 => 4,
        IPV6 => 16,
        NAME => {
            let [length] = read(stream).await?;
            usize::from(length)
        }
        _ => return Err(SocksFault::AddressType),
    };
    let mut rest = vec![0; length + 2];
    stream.read_exact(&mut rest).await?;
    Ok(())
}

fn reply(code: u8) -> &'static str {
    match code {
        1 => "general SOCKS server failure",
        2 => "connection not allowed by ruleset",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "TTL expired",
        7 => "command not supported",
        8 => "address type not supported",
        _ => "unknown code",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A handshake in which the proxy says `answers`; what the client said, and the text of the
    /// error if it failed.
    async fn handshake(proxy: &str, host: &str, answers: &[u8]) -> (Vec<u8>, Option<String>) {
        let (mut client, mut server) = tokio::io::duplex(4_096);
        server.write_all(answers).await.unwrap();
        let target = Target { host: host.to_owned(), port: 258 };
        let credentials = Credentials::from_url(&Url::parse(proxy).unwrap());
        let ended = shake_hands(&mut client, credentials.as_ref(), &target).await;
        drop(client);
        let mut said = Vec::new();
        server.read_to_end(&mut said).await.unwrap();
        (said, ended.err().map(|e| e.to_string()))
    }

    const DONE: [u8; 10] = [5, 0, 0, 1, 0, 0, 0, 0, 0, 0];

    #[tokio::test]
    async fn messages_are_those_of_the_standard() {
        let plain = [&[5, 0][..], &DONE].concat();
        let (said, ended) = handshake("socks5://p", "a.b", &plain).await;
        assert_eq!((said.as_slice(), ended), (&b"\x05\x01\x00\x05\x01\x00\x03\x03a.b\x01\x02"[..], None));
        let (said, ended) = handshake("socks5://p", "10.0.0.1", &plain).await;
        assert_eq!(
            (said.as_slice(), ended),
            (&b"\x05\x01\x00\x05\x01\x00\x01\x0a\x00\x00\x01\x01\x02"[..], None)
        );
        let login = [&[5, 2, 1, 0][..], &DONE].concat();
        let (said, ended) = handshake("socks5h://u:p%3a%2b+@p", "x", &login).await;
        let want = b"\x05\x02\x00\x02\x01\x01u\x04p:++\x05\x01\x00\x03\x01x\x01\x02";
        assert_eq!((said.as_slice(), ended), (&want[..], None));
        // A proxy that needs no login, though there is one.
        let (_, ended) = handshake("socks5://u:p@p", "x", &plain).await;
        assert_eq!(ended, None);
        let named = [&[5, 0, 5, 0, 0, 3, 2][..], b"ab\0\0"].concat();
        assert_eq!(handshake("socks5://p", "::1", &named).await.1, None);
    }

    #[tokio::test]
    async fn refusals_are_told_as_by_go() {
        let long = "x".repeat(256);
        for (host, answers, says) in [
            ("a", &[5, 0xff][..], "no acceptable authentication methods"),
            ("a", &[4, 0], "unexpected protocol version 4"),
            ("a", &[5, 9], "unknown authentication method 9"),
            ("a", &[5, 2, 1, 1], "username/password authentication failed"),
            ("a", &[5, 0, 5, 5, 0, 1], "unknown error connection refused"),
            ("a", &[5, 0, 5, 0, 0, 9], "unknown address type"),
            (long.as_str(), &[5, 0], "FQDN too long"),
        ] {
            assert_eq!(
                handshake("socks5://u:p@p", host, answers).await.1,
                Some(says.to_owned()),
                "{answers:?}"
            );
        }
    }
}
