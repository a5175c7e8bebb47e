//! [`Resolver`]: asks the DNS servers of `/etc/resolv.conf`, over UDP and then TCP, in the order in
//! which Prometheus asks them. [`super::message`] has the wire format.

use super::message::{self, Answer, NO_ERROR, NO_SUCH_NAME, Record, UDP_BYTES};
use crate::limits::DNS_STEP_SECONDS;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// Why a name could not be looked up. That there is no such name is an answer and no error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// The list of servers cannot be read.
    #[error("could not load resolv.conf: {0}")]
    ResolvConf(String),
    /// A label is too long or empty: no server can know it.
    #[error("{0:?} is not a domain name")]
    NotAName(String),
    /// A server could not be asked, or answered too late.
    #[error("{0}")]
    Io(String),
    /// An answer is larger than the protocol allows.
    #[error("got truncated message on TCP (64kiB limit exceeded?)")]
    Truncated,
    /// No server had an answer for this full name.
    #[error("could not resolve {0}: no servers returned a viable answer")]
    NoAnswer(String),
    /// No server had an answer for at least one of the full names to try.
    #[error("could not resolve {0:?}: all servers responded with errors to at least one search domain")]
    Unresolved(String),
}

impl From<io::Error> for LookupError {
    fn from(error: io::Error) -> LookupError {
        LookupError::Io(error.to_string())
    }
}

/// Where the servers are found.
pub(super) struct Resolver {
    /// The file that lists them.
    pub(super) resolv_conf: PathBuf,
    /// Their port.
    pub(super) port: u16,
}

/// What the file says.
#[derive(Debug, PartialEq)]
pub(super) struct ResolvConf {
    servers: Vec<String>,
    search: Vec<String>,
    ndots: usize,
}

impl ResolvConf {
    pub(super) fn parse(text: &str) -> ResolvConf {
        let mut conf = ResolvConf { servers: Vec::new(), search: Vec::new(), ndots: 1 };
        for line in text.lines().filter(|line| !line.starts_with([';', '#'])) {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => conf.servers.extend(words.next().map(str::to_owned)),
                // `domain` and `search` exclude each other: the last line counts.
                Some("domain") => conf.search = words.next().map(str::to_owned).into_iter().collect(),
                Some("search") => conf.search = words.map(str::to_owned).collect(),
                Some("options") => {
                    let dots = words.filter_map(|word| word.strip_prefix("ndots:")).next_back();
                    if let Some(dots) = dots {
                        conf.ndots = dots.parse::<i64>().unwrap_or(0).clamp(0, 15) as usize;
                    }
                }
                _ => {}
            }
        }
        conf
    }

    /// The full names to ask for, in this order.
    pub(super) fn candidates(&self, name: &str) -> Vec<String> {
        if name.ends_with('.') {
            return vec![name.to_owned()];
        }
        let itself = format!("{name}.");
        let searched = self.search.iter().map(|domain| format!("{itself}{}.", domain.trim_end_matches('.')));
        let mut names: Vec<String> = searched.collect();
        // With enough dots it is tried as it is first, and the search domains after it.
        let place = if name.split('.').count() > self.ndots { 0 } else { names.len() };
        names.insert(place, itself);
        names
    }
}

impl Resolver {
    /// The servers of this machine.
    pub(super) fn system() -> Resolver {
        Resolver { resolv_conf: PathBuf::from("/etc/resolv.conf"), port: 53 }
    }

    /// The records of `name`; none if there is no such name.
    pub(super) async fn look_up(&self, name: &str, record_type: u16) -> Result<Vec<Record>, LookupError> {
        let text = tokio::fs::read_to_string(&self.resolv_conf).await;
        let text = text.map_err(|error| LookupError::ResolvConf(error.to_string()))?;
        let conf = ResolvConf::parse(&text);
        let mut all_answered = true;
        for candidate in conf.candidates(name) {
            match self.ask_servers(&conf, &candidate, record_type).await {
                Ok(answer) if answer.code == NO_ERROR => return Ok(answer.records),
                Ok(_) => {}
                Err(error) => {
                    all_answered = false;
                    tracing::warn!(
                        target: "discovery", name = candidate, %error,
                        "no DNS server has answered; check those of /etc/resolv.conf"
                    );
                }
            }
        }
        // Each of them said that there is no such name: that is an answer, and ends the targets. If
        // one failed the name may exist, and the targets stay.
        if all_answered {
            return Ok(Vec::new());
        }
        Err(LookupError::Unresolved(name.to_owned()))
    }

    /// The first answer that says what records there are, or that there is no such name.
    async fn ask_servers(
        &self,
        conf: &ResolvConf,
        name: &str,
        record_type: u16,
    ) -> Result<Answer, LookupError> {
        // Once an answer did not fit into a datagram, the next server's would not, either.
        let mut over_tcp = false;
        for server in &conf.servers {
            match self.ask(server, name, record_type, &mut over_tcp).await {
                // Other codes (refused, failed) say something of the server and not of the name.
                Ok(answer) if [NO_ERROR, NO_SUCH_NAME].contains(&answer.code) => return Ok(answer),
                Ok(answer) => tracing::debug!(
                    target: "discovery", server, name, code = answer.code,
                    "a DNS server has no answer, so the next one is asked"
                ),
                Err(error) => tracing::warn!(
                    target: "discovery", server, name, %error,
                    "a DNS server does not answer, so the next one is asked"
                ),
            }
        }
        Err(LookupError::NoAnswer(name.to_owned()))
    }

    async fn ask(
        &self,
        server: &str,
        name: &str,
        record_type: u16,
        over_tcp: &mut bool,
    ) -> Result<Answer, LookupError> {
        // Hard to guess, so that nobody else can answer.
        let id = RandomState::new().hash_one(name) as u16;
        if !*over_tcp {
            let question = message::question(id, name, record_type, true)?;
            let answer = self.ask_udp(server, id, &question).await?;
            if !answer.truncated {
                return Ok(answer);
            }
            *over_tcp = true;
        }
        // Over TCP nothing needs to be said of sizes.
        let question = message::question(id, name, record_type, false)?;
        let answer = self.ask_tcp(server, id, &question).await?;
        if answer.truncated {
            return Err(LookupError::Truncated);
        }
        Ok(answer)
    }

    async fn ask_udp(&self, server: &str, id: u16, question: &[u8]) -> io::Result<Answer> {
        let any = if server.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
        let socket = UdpSocket::bind(any).await?;
        // Then the kernel drops datagrams of other senders.
        step(socket.connect((server, self.port))).await?;
        step(socket.send(question)).await?;
        let receive = async {
            let mut buffer = vec![0; usize::from(UDP_BYTES)];
            loop {
                let length = socket.recv(&mut buffer).await?;
                // What is no answer to this question may be a late one to another, or forged.
                if let Some(answer) = message::answer(id, &buffer[..length]) {
                    return Ok(answer);
                }
            }
        };
        step(receive).await
    }

    async fn ask_tcp(&self, server: &str, id: u16, question: &[u8]) -> io::Result<Answer> {
        let mut stream = step(TcpStream::connect((server, self.port))).await?;
        let mut message = (question.len() as u16).to_be_bytes().to_vec();
        message.extend_from_slice(question);
        step(stream.write_all(&message)).await?;
        let receive = async {
            let length = stream.read_u16().await?;
            let mut answer = vec![0; usize::from(length)];
            stream.read_exact(&mut answer).await?;
            Ok(answer)
        };
        let answer = step(receive).await?;
        message::answer(id, &answer)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a damaged answer"))
    }
}

/// A step of an exchange, with its time limit.
async fn step<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let limit = Duration::from_secs(DNS_STEP_SECONDS);
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
