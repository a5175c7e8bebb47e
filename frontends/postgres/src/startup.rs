//! The start of a connection: TLS, the startup message, the login.
//!
//! Users are those of `--web.config.file`. A user with a bcrypt hash sends the password in clear
//! text, which is refused without TLS unless the client is on this machine. A user with a verifier
//! in `sql_users` logs in by SCRAM-SHA-256. Without any users, only clients on this machine may
//! connect.

use crate::failure::{Failure, state};
use crate::limits;
use crate::listener::{CancelKey, WireServer};
use crate::stream::{MessageStream, RawStream};
use api::protection::{Login, LoginUser, Protection, ScramVerifier};
use bytes::Buf;
use futures::{SinkExt, StreamExt};
use pgwire::api::auth::sasl::scram::{ScramSecret, ScramServerAuth};
use pgwire::api::auth::sasl::{SCRAM_SHA_256_METHOD, SCRAM_SHA_256_PLUS_METHOD};
use pgwire::api::{ClientInfo, DefaultClient, PgWireConnectionState};
use pgwire::error::PgWireError;
use pgwire::messages::startup::{Authentication, NegotiateProtocolVersion, PasswordMessageFamily};
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use pgwire::tokio::server::PgWireMessageServerCodec;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::codec::Framed;

/// A connection, message by message.
pub(crate) type Socket = Framed<MessageStream, PgWireMessageServerCodec<()>>;

/// The version of the protocol that is spoken.
const VERSION: i32 = 3 << 16;
const CANCEL_REQUEST: i32 = 80_877_102;
const SSL_REQUEST: i32 = 80_877_103;
const GSS_REQUEST: i32 = 80_877_104;

/// What the first message of a connection asks for.
pub(crate) enum Greeting {
    /// To talk.
    Guest(Box<AuthenticatedUser>),
    /// To cancel the statement of another connection.
    Cancel(CancelKey),
    /// The login has failed; the client knows.
    Refused,
}

/// A client who is known.
pub(crate) struct AuthenticatedUser {
    pub(crate) socket: Socket,
    pub(crate) user: String,
    /// The settings of the first message.
    pub(crate) given: BTreeMap<String, String>,
    pub(crate) peer: SocketAddr,
}

impl AuthenticatedUser {
    /// Tells the client why it is refused.
    pub(crate) async fn refuse(mut self, why: &Failure) {
        let _ = self.socket.send(why.message("", "")).await;
        let _ = self.socket.close().await;
    }
}

/// Reads the first message and finds out who it is.
pub(crate) async fn greet(stream: TcpStream, peer: SocketAddr, server: &WireServer) -> io::Result<Greeting> {
    let mut raw = RawStream::Plain(stream);
    let mut is_encrypted = false;
    loop {
        let length = raw.read_u32().await? as usize;
        let code = raw.read_i32().await?;
        // Checked before anything is read: this length comes from anybody.
        if !(8..=limits::WIRE_STARTUP_BYTES).contains(&length) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no message of PostgreSQL"));
        }
        match code {
            SSL_REQUEST => {
                let tls = server.protection.as_ref().and_then(|protection| protection.server_tls());
                match (raw, tls) {
                    (RawStream::Plain(mut stream), Some((config, _))) => {
                        stream.write_all(b"S").await?;
                        let mut config = config.as_ref().clone();
                        // That of the web server names HTTP; clients of PostgreSQL that negotiate
                        // directly ask for this name.
                        config.alpn_protocols = vec![b"postgresql".to_vec()];
                        let tls = TlsAcceptor::from(Arc::new(config)).accept(stream).await?;
                        raw = RawStream::Tls(Box::new(tls));
                        is_encrypted = true;
                    }
                    // No TLS here, or it is already in use: the client decides whether it goes on
                    // in plain text.
                    (mut same, _) => {
                        same.write_all(b"N").await?;
                        same.flush().await?;
                        raw = same;
                    }
                }
            }
            // Encryption by Kerberos is not spoken; the client then tries TLS or plain text.
            GSS_REQUEST => {
                raw.write_all(b"N").await?;
                raw.flush().await?;
            }
            CANCEL_REQUEST => {
                return Ok(Greeting::Cancel(CancelKey {
                    process: raw.read_i32().await?,
                    secret: raw.read_i32().await?,
                }));
            }
            version => {
                let mut body = vec![0; length - 8];
                raw.read_exact(&mut body).await?;
                return first_message(raw, peer, server, version, &body, is_encrypted).await;
            }
        }
    }
}

async fn first_message(
    raw: RawStream,
    peer: SocketAddr,
    server: &WireServer,
    version: i32,
    body: &[u8],
    is_encrypted: bool,
) -> io::Result<Greeting> {
    let mut client = DefaultClient::new(peer, is_encrypted);
    client.set_state(PgWireConnectionState::AuthenticationInProgress);
    let mut socket = Framed::new(MessageStream::new(raw), PgWireMessageServerCodec::new(client));
    let given = pairs(body);
    // Only another major version is refused. A newer minor one is told what is spoken here and goes
    // on.
    if version >> 16 != VERSION >> 16 {
        let error = format!("unsupported frontend protocol {}.{}", version >> 16, version & 0xffff);
        return refused(socket, &Failure::fatal("0A000", error)).await;
    }
    let unknown: Vec<String> = given.keys().filter(|name| name.starts_with("_pq_.")).cloned().collect();
    if version > VERSION || !unknown.is_empty() {
        let answer = NegotiateProtocolVersion::new(VERSION, unknown);
        feed(&mut socket, PgWireBackendMessage::NegotiateProtocolVersion(answer)).await?;
    }
    let user = given.get("user").cloned().unwrap_or_default();
    if user.is_empty() {
        let failure =
            Failure::fatal(state::INVALID_LOGIN, "no PostgreSQL user name specified in startup packet");
        return refused(socket, &failure).await;
    }
    let guest = AuthenticatedUser { socket, user, given, peer };
    match log_in(guest, server.protection.as_deref(), is_encrypted).await? {
        Ok(guest) => Ok(Greeting::Guest(Box::new(guest))),
        Err(greeting) => Ok(greeting),
    }
}

async fn refused(mut socket: Socket, why: &Failure) -> io::Result<Greeting> {
    feed(&mut socket, why.message("", "")).await?;
    socket.close().await?;
    Ok(Greeting::Refused)
}

async fn feed(socket: &mut Socket, message: PgWireBackendMessage) -> io::Result<()> {
    socket.send(message).await
}

/// Names and values, each with a zero behind it, and a zero at the end.
fn pairs(mut body: &[u8]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut next = || {
        let end = body.iter().position(|byte| *byte == 0)?;
        let text = String::from_utf8_lossy(&body[..end]).into_owned();
        body.advance(end + 1);
        Some(text)
    };
    while let Some(name) = next().filter(|name| !name.is_empty()) {
        let Some(value) = next() else { break };
        found.insert(name, value);
    }
    found
}

/// Lets the client prove who it is.
async fn log_in(
    mut guest: AuthenticatedUser,
    protection: Option<&Protection>,
    is_encrypted: bool,
) -> io::Result<Result<AuthenticatedUser, Greeting>> {
    // Canonical, because an IPv4 address arrives as `::ffff:127.0.0.1` at a socket for both.
    let is_local = guest.peer.ip().to_canonical().is_loopback();
    let user = guest.user.clone();
    let login = protection.map_or(LoginUser::Anybody, |protection| protection.login_of(&user));
    let verdict = match (login, protection) {
        (LoginUser::Password, Some(protection)) => match may_ask_password(is_encrypted, is_local) {
            Ok(()) => ask_password(&mut guest, protection).await?,
            Err(failure) => Err(failure),
        },
        (LoginUser::Scram(verifier), Some(protection)) => {
            scram(&mut guest, protection, verifier, is_encrypted).await?
        }
        // Without users, who is on this machine can read the data directory anyway.
        _ if is_local => Ok(()),
        _ => Err(Failure::fatal(
            state::INVALID_LOGIN,
            "this server has no users: only connections from this machine are accepted",
        )
        .hint("name users in --web.config.file")),
    };
    match verdict {
        Ok(()) => Ok(Ok(guest)),
        Err(failure) => Ok(Err(refused(guest.socket, &failure).await?)),
    }
}

/// Whether a password may be asked for: who asks for it gets it in clear text, so nobody on the way
/// may read it.
fn may_ask_password(is_encrypted: bool, is_local: bool) -> Result<(), Failure> {
    if is_encrypted || is_local {
        return Ok(());
    }
    let error = "the password would be sent in clear text: connect with TLS";
    Err(Failure::fatal(state::INVALID_LOGIN, error).hint("sslmode=verify-full"))
}

fn wrong(user: &str) -> Failure {
    Failure::fatal(state::INVALID_PASSWORD, format!("password authentication failed for user \"{user}\""))
}

fn too_many(wait: std::time::Duration) -> Failure {
    let seconds = wait.as_secs().max(1);
    let error = "too many attempts with a wrong name or password from your address";
    Failure::fatal(state::INVALID_LOGIN, error).hint(format!("try again in {seconds} s"))
}

/// The next message of a login.
async fn answer(socket: &mut Socket) -> io::Result<PasswordMessageFamily> {
    match socket.next().await {
        Some(Ok(PgWireFrontendMessage::PasswordMessageFamily(message))) => Ok(message),
        Some(Err(e)) => Err(e.into()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

async fn ask_password(
    guest: &mut AuthenticatedUser,
    protection: &Protection,
) -> io::Result<Result<(), Failure>> {
    feed(&mut guest.socket, PgWireBackendMessage::Authentication(Authentication::CleartextPassword)).await?;
    let message = answer(&mut guest.socket).await?.into_password().map_err(io::Error::from)?;
    let login = protection.check_password(&guest.user, message.password.as_bytes(), guest.peer.ip()).await;
    Ok(match login {
        Login::Known => Ok(()),
        Login::Wrong => Err(wrong(&guest.user)),
        Login::TooMany(wait) => Err(too_many(wait)),
    })
}

async fn scram(
    guest: &mut AuthenticatedUser,
    protection: &Protection,
    verifier: ScramVerifier,
    is_encrypted: bool,
) -> io::Result<Result<(), Failure>> {
    let peer = guest.peer.ip();
    // Before the exchange: an address with too many wrong attempts gets no further one.
    if let Err(wait) = protection.attempt(peer) {
        return Ok(Err(too_many(wait)));
    }
    let mut auth = ScramServerAuth::new();
    let certificate = protection.server_tls().filter(|_| is_encrypted).map(|(_, certificate)| certificate);
    let mut methods = vec![SCRAM_SHA_256_METHOD.to_owned()];
    // A certificate whose signature has no hash of its own cannot be bound to: only the plain
    // method then.
    if certificate.is_some_and(|certificate| auth.configure_certificate(&certificate).is_ok()) {
        methods.insert(0, SCRAM_SHA_256_PLUS_METHOD.to_owned());
    }
    feed(&mut guest.socket, PgWireBackendMessage::Authentication(Authentication::SASL(methods.clone())))
        .await?;
    let first = answer(&mut guest.socket).await?.into_sasl_initial_response().map_err(io::Error::from)?;
    if !methods.contains(&first.auth_method) {
        return Ok(Err(Failure::fatal(state::PROTOCOL_VIOLATION, "client selected an invalid SASL method")));
    }
    let secret = ScramSecret::Verifier {
        salt: verifier.salt,
        iterations: verifier.iterations,
        stored_key: verifier.stored_key,
        server_key: verifier.server_key,
    };
    let failed = |_: PgWireError, user: &str| Ok(Err(wrong(user)));
    let begun = auth.on_client_first_message_with_secret(&first.data.unwrap_or_default(), secret);
    let (text, waiting) = match begun {
        Ok(begun) => begun,
        Err(e) => return failed(e, &guest.user),
    };
    let challenge = Authentication::SASLContinue(text.into());
    feed(&mut guest.socket, PgWireBackendMessage::Authentication(challenge)).await?;
    let proof = answer(&mut guest.socket).await?.into_sasl_response().map_err(io::Error::from)?;
    match waiting.on_client_final_message(&proof.data) {
        Ok(text) => {
            protection.forgive(peer);
            let done = Authentication::SASLFinal(text.into());
            feed(&mut guest.socket, PgWireBackendMessage::Authentication(done)).await?;
            Ok(Ok(()))
        }
        Err(e) => failed(e, &guest.user),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_message_has_names_and_values() {
        let found = pairs(b"user\0ana\0application_name\0psql\0\0");
        let want = [("application_name", "psql"), ("user", "ana")];
        assert_eq!(found, want.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        assert_eq!(pairs(b"user\0an"), BTreeMap::new(), "what is cut is left out");
    }

    /// Tests reach the server from this machine only, so the rule is looked at by itself.
    #[test]
    fn a_password_goes_over_tls_or_stays_on_the_machine() {
        assert!(may_ask_password(true, false).is_ok() && may_ask_password(false, true).is_ok());
        let failure = may_ask_password(false, false).expect_err("others can read it");
        assert!(failure.is_fatal && failure.text.contains("in clear text: connect with TLS"));
        assert_eq!((failure.state, failure.hint.as_deref()), ("28000", Some("sslmode=verify-full")));
    }
}
