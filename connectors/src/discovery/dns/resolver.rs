//! Asks the name servers of `/etc/resolv.conf`, in the order in which Prometheus asks them.

use super::message::{self, Answer, NO_ERROR, NO_SUCH_NAME, Record, UDP_BYTES};
use crate::limits::DNS_STEP_SECONDS;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

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
    pub(super) async fn look_up(&self, name: &str, record_type: u16) -> Result<Vec<Record>, String> {
        let text = tokio::fs::read_to_string(&self.resolv_conf).await;
        let conf = ResolvConf::parse(&text.map_err(|e| format!("could not load resolv.conf: {e}"))?);
        let mut all_answered = true;
        for candidate in conf.candidates(name) {
            match self.ask_servers(&conf, &candidate, record_type).await {
                Ok(answer) if answer.code == NO_ERROR => return Ok(answer.records),
                Ok(_) => {}
                Err(error) => {
                    all_answered = false;
                    tracing::warn!(name = candidate, error, "no DNS server answered");
                }
            }
        }
        if all_answered {
            return Ok(Vec::new());
        }
        Err(format!(
            "could not resolve {name:?}: all servers responded with errors to at least one search domain"
        ))
    }

    /// The first answer that says what records there are, or that there is no such name.
    async fn ask_servers(&self, conf: &ResolvConf, name: &str, record_type: u16) -> Result<Answer, String> {
        // Once an answer did not fit into a datagram, the next server's would not, either.
        let mut over_tcp = false;
        for server in &conf.servers {
            match self.ask(server, name, record_type, &mut over_tcp).await {
                Ok(answer) if [NO_ERROR, NO_SUCH_NAME].contains(&answer.code) => return Ok(answer),
                Ok(answer) => tracing::debug!(server, name, code = answer.code, "a DNS server has no answer"),
                Err(error) => tracing::warn!(server, name, error, "a DNS server does not answer"),
            }
        }
        Err(format!("could not resolve {name}: no servers returned a viable answer"))
    }

    async fn ask(
        &self,
        server: &str,
        name: &str,
        record_type: u16,
        over_tcp: &mut bool,
    ) -> Result<Answer, String> {
        // Hard to guess, so that nobody else can answer.
        let id = RandomState::new().hash_one(name) as u16;
        if !*over_tcp {
            let question = message::question(id, name, record_type, true)?;
            let answer = self.ask_udp(server, id, &question).await.map_err(|e| e.to_string())?;
            if !answer.truncated {
                return Ok(answer);
            }
            *over_tcp = true;
        }
        let question = message::question(id, name, record_type, false)?;
        let answer = self.ask_tcp(server, id, &question).await.map_err(|e| e.to_string())?;
        if answer.truncated {
            return Err("got truncated message on TCP (64kiB limit exceeded?)".into());
        }
        Ok(answer)
    }

    async fn ask_udp(&self, server: &str, id: u16, question: &[u8]) -> io::Result<Answer> {
        let any = if server.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
        let socket = UdpSocket::bind(any).await?;
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
