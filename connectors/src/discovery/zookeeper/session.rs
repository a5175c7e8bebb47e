//! [`Session`]: a session with a ZooKeeper server: as much of its protocol (jute, version 0) as
//! reading and watching nodes needs. [`super`] makes targets of the nodes.

use crate::limits::{ZOOKEEPER_FRAME_BYTES, ZOOKEEPER_REQUESTS};
use bytes::{Buf, BufMut, BytesMut};
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// The numbers of operations.
const GET_DATA: i32 = 4;
const GET_CHILDREN: i32 = 8;
const PING: i32 = 11;

/// The numbers of requests that are none: events and pings.
const EVENT_ID: i32 = -1;
const PING_ID: i32 = -2;

/// The error of a node that does not exist.
const NO_NODE: i32 = -101;

/// The types of events.
const DELETED: i32 = 2;
const DATA_CHANGED: i32 = 3;
const CHILDREN_CHANGED: i32 = 4;

/// Why a session ended or could not begin. Another server of the list may do better.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SessionError {
    /// The server cannot be reached, or the connection broke.
    #[error("{0}")]
    Connection(String),
    /// It was reached, and then said nothing for the timeout of the session.
    #[error("{0}")]
    Silent(&'static str),
    /// It closed the connection.
    #[error("the server ended the connection")]
    Closed,
    /// It does not begin a session.
    #[error("the server refuses the session")]
    Refused,
    /// It is no ZooKeeper server, or one of another version.
    #[error("the server sends what is not ZooKeeper's protocol")]
    Damaged,
    /// It refuses to show a node; the number is ZooKeeper's.
    #[error("{path}: error {code}")]
    Node {
        /// The node.
        path: String,
        /// The error.
        code: i32,
    },
    /// A path of the configuration does not exist.
    #[error("{0} does not exist")]
    NoSuchPath(String),
}

impl From<std::io::Error> for SessionError {
    fn from(error: std::io::Error) -> SessionError {
        SessionError::Connection(error.to_string())
    }
}

/// What the server says.
#[derive(Debug, PartialEq)]
pub(super) enum Reply {
    /// The data of a node.
    Data(String, Vec<u8>),
    /// The names of the nodes in a node.
    Children(String, Vec<String>),
    /// A node does not exist, or no longer.
    Gone(String),
    /// Nothing that is of interest.
    Nothing,
}

/// A question about a node; its answer sets a watch.
struct Question {
    operation: i32,
    path: String,
}

/// A session. Its methods can be cancelled without a loss.
pub(super) struct Session {
    stream: TcpStream,
    received: BytesMut,
    /// What is to be sent.
    unsent: BytesMut,
    waiting: VecDeque<Question>,
    asked: HashMap<i32, Question>,
    next_id: i32,
    timeout: Duration,
    heard: Instant,
    pinged: Instant,
}

impl Session {
    /// Connects; the session ends when nothing was heard for `timeout`, or what the server makes of
    /// it.
    pub(super) async fn connect(server: &str, timeout: Duration) -> Result<Session, SessionError> {
        let opening = Session::open(server, timeout);
        tokio::time::timeout(timeout, opening)
            .await
            .map_err(|_| SessionError::Silent("the server does not answer"))?
    }

    async fn open(server: &str, timeout: Duration) -> Result<Session, SessionError> {
        let stream = TcpStream::connect(server).await?;
        let now = Instant::now();
        let mut session = Session {
            stream,
            received: BytesMut::new(),
            unsent: BytesMut::new(),
            waiting: VecDeque::new(),
            asked: HashMap::new(),
            next_id: 1,
            timeout,
            heard: now,
            pinged: now,
        };
        let mut hello = BytesMut::new();
        hello.put_i32(0);
        hello.put_i64(0);
        // The server may choose another timeout within its own bounds.
        hello.put_i32(i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX));
        // A new session: no number, and an empty password of the usual length.
        hello.put_i64(0);
        hello.put_i32(16);
        hello.put_bytes(0, 16);
        session.frame(&hello);
        let mut answer = session.frame_in().await?;
        let agreed =
            answer.try_get_i32().and_then(|_| answer.try_get_i32()).map_err(|_| SessionError::Damaged)?;
        if agreed <= 0 {
            return Err(SessionError::Refused);
        }
        session.timeout = Duration::from_millis(agreed as u64);
        Ok(session)
    }

    /// Asks for the data and the children of a node, and to be told when they change.
    pub(super) fn read(&mut self, path: &str) {
        // Two watches: one for the data, one for the children.
        for operation in [GET_DATA, GET_CHILDREN] {
            self.waiting.push_back(Question { operation, path: path.to_owned() });
        }
    }

    /// Whether everything that was asked for has been answered.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.asked.is_empty()
    }

    /// The next thing that the server says. Fails when the session has ended.
    pub(super) async fn next(&mut self) -> Result<Reply, SessionError> {
        // So many at once and not all: a tree of 100,000 nodes would fill the buffers of the
        // server.
        while self.asked.len() < ZOOKEEPER_REQUESTS
            && let Some(question) = self.waiting.pop_front()
        {
            self.ask(question);
        }
        let mut frame = self.frame_in().await?;
        self.reply(&mut frame).ok_or(SessionError::Damaged)?
    }

    fn ask(&mut self, question: Question) {
        let id = self.next_id;
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        let mut request = BytesMut::new();
        request.put_i32(id);
        request.put_i32(question.operation);
        request.put_i32(question.path.len() as i32);
        request.put_slice(question.path.as_bytes());
        // With a watch.
        request.put_u8(1);
        self.frame(&request);
        self.asked.insert(id, question);
    }

    fn frame(&mut self, content: &[u8]) {
        self.unsent.put_i32(content.len() as i32);
        self.unsent.put_slice(content);
    }

    /// Sends what is to be sent, and waits for a frame. Sends signs of life meanwhile.
    async fn frame_in(&mut self) -> Result<BytesMut, SessionError> {
        loop {
            if let Some(length) = self.received.get(..4) {
                let length = i32::from_be_bytes([length[0], length[1], length[2], length[3]]);
                let length = usize::try_from(length).ok().filter(|n| *n <= ZOOKEEPER_FRAME_BYTES);
                // Before memory is reserved: what is no ZooKeeper server says any length.
                let length = length.ok_or(SessionError::Damaged)?;
                if self.received.len() >= 4 + length {
                    self.received.advance(4);
                    return Ok(self.received.split_to(length));
                }
            }
            // As ZooKeeper's own client does: two of them may be lost.
            let ping_at = self.pinged + self.timeout / 3;
            let dead_at = self.heard + self.timeout;
            let has_unsent = !self.unsent.is_empty();
            // Both at once: a server that waits for us to read before it reads would block
            // otherwise.
            let (mut reader, mut writer) = self.stream.split();
            tokio::select! {
                read = reader.read_buf(&mut self.received) => match read {
                    Ok(0) => return Err(SessionError::Closed),
                    Ok(_) => self.heard = Instant::now(),
                    Err(error) => return Err(error.into()),
                },
                sent = writer.write_buf(&mut self.unsent), if has_unsent => {
                    sent?;
                }
                () = tokio::time::sleep_until(ping_at) => {
                    self.pinged = Instant::now();
                    let mut ping = BytesMut::new();
                    ping.put_i32(PING_ID);
                    ping.put_i32(PING);
                    self.frame(&ping);
                }
                () = tokio::time::sleep_until(dead_at) => return Err(SessionError::Silent("the server is silent")),
            }
        }
    }

    /// Reads a frame; `None`: it is damaged.
    fn reply(&mut self, frame: &mut BytesMut) -> Option<Result<Reply, SessionError>> {
        let id = frame.try_get_i32().ok()?;
        frame.try_get_i64().ok()?;
        let error = frame.try_get_i32().ok()?;
        if id == EVENT_ID {
            let kind = frame.try_get_i32().ok()?;
            frame.try_get_i32().ok()?;
            let path = text(frame)?;
            return Some(Ok(self.event(kind, path)));
        }
        // The answer to a ping.
        let Some(question) = self.asked.remove(&id) else { return Some(Ok(Reply::Nothing)) };
        Some(match (error, question.operation) {
            (0, GET_DATA) => Ok(Reply::Data(question.path, buffer(frame)?)),
            (0, _) => {
                let count = usize::try_from(frame.try_get_i32().ok()?.max(0)).ok()?;
                // Not reserved by the count, which may be any number in a damaged frame.
                let names = (0..count).map(|_| text(frame)).collect::<Option<Vec<String>>>()?;
                Ok(Reply::Children(question.path, names))
            }
            (NO_NODE, _) => Ok(Reply::Gone(question.path)),
            (code, _) => Err(SessionError::Node { path: question.path, code }),
        })
    }

    /// An event says only what has changed; the watch is gone, and set again with the next
    /// question.
    fn event(&mut self, kind: i32, path: String) -> Reply {
        let operation = match kind {
            DELETED => return Reply::Gone(path),
            DATA_CHANGED => GET_DATA,
            CHILDREN_CHANGED => GET_CHILDREN,
            _ => return Reply::Nothing,
        };
        // The question reads the new state and sets the watch again, in one step: no change is
        // missed.
        self.waiting.push_back(Question { operation, path });
        Reply::Nothing
    }
}

/// Bytes with their length before them; a negative length means none.
fn buffer(frame: &mut BytesMut) -> Option<Vec<u8>> {
    let length = usize::try_from(frame.try_get_i32().ok()?.max(0)).ok()?;
    (frame.len() >= length).then(|| frame.split_to(length).to_vec())
}

fn text(frame: &mut BytesMut) -> Option<String> {
    String::from_utf8(buffer(frame)?).ok()
}
