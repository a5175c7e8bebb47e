//! The state of an open HTTP connection: what it waits for from its client, and since when.
//!
//! The task that serves the connection ([`super::connection`]) closes it when the client is
//! overdue. [`super::slots`] closes the connection that has waited longest when another client
//! needs its slot, which is the right to be served.

use super::limits::RESERVE_LIFETIME;
use super::serve::Timeouts;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Why the server closes a connection.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The headers were not complete in time.
    Headers,
    /// No request came for too long.
    Idle,
    /// The client read no byte of its answer for too long.
    Stalled,
    /// The slot was needed by another client.
    Displaced,
    /// A reserve slot may be held only for a short time.
    Lifetime,
}

impl CloseReason {
    /// All reasons.
    pub const ALL: [CloseReason; 5] = [
        CloseReason::Headers,
        CloseReason::Idle,
        CloseReason::Stalled,
        CloseReason::Displaced,
        CloseReason::Lifetime,
    ];

    /// The name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            CloseReason::Headers => "headers",
            CloseReason::Idle => "idle",
            CloseReason::Stalled => "stalled",
            CloseReason::Displaced => "displaced",
            CloseReason::Lifetime => "lifetime",
        }
    }
}

/// The state of one connection, shared by the parts that serve it.
pub struct Progress {
    timeouts: Timeouts,
    state: Mutex<ConnectionState>,
    displaced: Notify,
}

struct ConnectionState {
    opened: Instant,
    /// When the last request was answered; at first, when the connection was opened.
    waiting_since: Instant,
    /// When the first byte of headers came that are still incomplete.
    headers_since: Option<Instant>,
    /// Since when the server waits for bytes of a request body.
    body_since: Option<Instant>,
    /// Since when the socket accepts no byte.
    write_since: Option<Instant>,
    /// The number of requests so far.
    requests: u64,
    /// The requests being answered, and since when a piece of each answer waits to be read.
    answering: BTreeMap<u64, Option<Instant>>,
    http2: bool,
    /// Whether the connection is a websocket now.
    upgraded: bool,
    /// Whether the connection holds a reserve slot.
    lent: bool,
}

impl Progress {
    /// The state of a new connection.
    pub fn new(timeouts: Timeouts) -> Arc<Progress> {
        let opened = Instant::now();
        let state = ConnectionState {
            opened,
            waiting_since: opened,
            headers_since: None,
            body_since: None,
            write_since: None,
            requests: 0,
            answering: BTreeMap::new(),
            http2: false,
            upgraded: false,
            lent: false,
        };
        Arc::new(Progress { timeouts, state: Mutex::new(state), displaced: Notify::new() })
    }

    /// Records that the connection holds a reserve slot.
    pub fn lend(&self) {
        self.state.lock().lent = true;
    }

    /// Records that these bytes were received.
    pub fn received(&self, bytes: &[u8]) {
        let mut state = self.state.lock();
        // Bytes that come while a request is answered are its body, or the next request of HTTP/1,
        // which waits anyway.
        if state.answering.is_empty() && state.headers_since.is_none() {
            // Every HTTP/2 client sends `PRI` first, and HTTP/1 has no such method.
            state.http2 |= state.requests == 0 && bytes.starts_with(b"PRI");
            state.headers_since = Some(Instant::now());
        }
    }

    /// Records that the socket accepts no byte.
    pub fn blocked(&self) {
        // The first time counts: it stays blocked until bytes are accepted.
        self.state.lock().write_since.get_or_insert_with(Instant::now);
    }

    /// Records that the socket accepted bytes.
    pub fn wrote(&self) {
        self.state.lock().write_since = None;
    }

    /// Records whether the server waits for bytes of a request body.
    pub fn body_pending(&self, pending: bool) {
        let mut state = self.state.lock();
        if pending {
            state.body_since.get_or_insert_with(Instant::now);
        } else {
            state.body_since = None;
        }
    }

    /// Records that the connection is a websocket now.
    pub fn upgraded(&self) {
        self.state.lock().upgraded = true;
    }

    /// Whether a request is being answered, or the connection is a websocket.
    pub fn is_busy(&self) -> bool {
        let state = self.state.lock();
        state.upgraded || !state.answering.is_empty()
    }

    /// Since when the connection waits for its client; `None`: it does not wait.
    pub fn waits_since(&self) -> Option<Instant> {
        let state = self.state.lock();
        // First: a client that does not read is the one to displace, whatever else it does.
        if let Some(blocked) = state.write_since {
            return Some(blocked);
        }
        if state.upgraded {
            return None;
        }
        if state.answering.is_empty() { Some(state.waiting_since) } else { state.body_since }
    }

    /// When the client will be overdue if it does nothing, and the reason.
    pub fn overdue(&self) -> Option<(Instant, CloseReason)> {
        let state = self.state.lock();
        let lifetime = state.lent.then(|| (state.opened + RESERVE_LIFETIME, CloseReason::Lifetime));
        // While an answer is made, the server is what is waited for.
        let silent = (state.answering.is_empty() && !state.upgraded && state.write_since.is_none())
            .then(|| self.silent(&state));
        // An HTTP/2 socket accepts bytes even if the answer to one request is not read, because
        // each request has a window of its own.
        let unread = state.answering.values().flatten().min().filter(|_| state.http2);
        let unread = unread.map(|since| (*since + self.timeouts.stall, CloseReason::Stalled));
        [lifetime, silent, unread].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// When a client that should send a request is overdue.
    fn silent(&self, state: &ConnectionState) -> (Instant, CloseReason) {
        let idle = (state.waiting_since + self.timeouts.read, CloseReason::Idle);
        let headers_since = match state.headers_since {
            // The bytes may be frames other than headers.
            Some(_) if state.http2 && state.requests > 0 => return idle,
            Some(since) if !state.http2 => since,
            // A client that connects and says nothing has the time of headers, not the longer one
            // between requests.
            _ if state.requests == 0 => state.opened,
            _ => return idle,
        };
        (headers_since + self.timeouts.headers, CloseReason::Headers)
    }

    /// Since when the socket accepts no byte.
    pub fn blocked_since(&self) -> Option<Instant> {
        self.state.lock().write_since
    }

    /// Asks the connection's task to close the connection.
    pub fn displace(&self) {
        self.displaced.notify_one();
    }

    /// Resolves when another client needs the slot.
    pub async fn displaced(&self) {
        self.displaced.notified().await;
    }

    /// Moves all times of the state back by `by`.
    #[cfg(test)]
    pub fn age(&self, by: Duration) {
        let mut state = self.state.lock();
        let ConnectionState {
            opened, waiting_since, headers_since, body_since, write_since, answering, ..
        } = &mut *state;
        let maybe = [headers_since, body_since, write_since].into_iter().chain(answering.values_mut());
        let instants = maybe.filter_map(Option::as_mut).chain([opened, waiting_since]);
        for instant in instants {
            *instant -= by;
        }
    }

    /// The time limit of a request body.
    pub fn body_timeout(&self) -> Duration {
        self.timeouts.read
    }
}

/// A request that is being answered, until its answer is sent or abandoned.
pub(crate) struct Exchange {
    progress: Arc<Progress>,
    number: u64,
}

impl Exchange {
    /// Records that the headers are complete.
    pub(crate) fn begin(progress: &Arc<Progress>) -> Exchange {
        let mut state = progress.state.lock();
        state.headers_since = None;
        state.requests += 1;
        let number = state.requests;
        state.answering.insert(number, None);
        drop(state);
        Exchange { progress: progress.clone(), number }
    }

    /// The connection of the request.
    pub(crate) fn connection(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Records that a piece of the answer was handed to the connection (`true`), or that the last
    /// one was sent.
    pub(crate) fn gave(&self, given: bool) {
        let since = given.then(Instant::now);
        self.progress.state.lock().answering.insert(self.number, since);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let mut state = self.progress.state.lock();
        state.answering.remove(&self.number);
        if state.answering.is_empty() {
            state.waiting_since = Instant::now();
            state.body_since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUTS: Timeouts = Timeouts {
        headers: Duration::from_secs(10),
        read: Duration::from_secs(300),
        stall: Duration::from_secs(20),
        drain: Duration::from_secs(1),
    };

    /// Seconds from the opening of the connection to the deadline, and the reason.
    fn due(progress: &Progress) -> Option<(u64, CloseReason)> {
        let opened = progress.state.lock().opened;
        progress.overdue().map(|(at, why)| (at.duration_since(opened).as_secs(), why))
    }

    fn after(progress: &Progress, seconds: u64) {
        progress.age(Duration::from_secs(seconds));
    }

    #[test]
    fn headers_have_less_time_than_idle_connections() {
        let progress = Progress::new(TIMEOUTS);
        assert_eq!(due(&progress), Some((10, CloseReason::Headers)), "a silent connection");
        after(&progress, 8);
        progress.received(b"GET /");
        after(&progress, 3);
        progress.received(b" HTTP/1.1\r\n");
        assert_eq!(due(&progress), Some((18, CloseReason::Headers)), "dripped bytes give no time");
        let exchange = Exchange::begin(&progress);
        assert_eq!((due(&progress), progress.waits_since()), (None, None), "the server's turn");
        progress.body_pending(true);
        assert!(progress.waits_since().is_some(), "the client's turn");
        progress.body_pending(false);
        drop(exchange);
        assert_eq!(due(&progress), Some((311, CloseReason::Idle)), "between two requests");
        after(&progress, 1);
        progress.received(b"G");
        assert_eq!(due(&progress), Some((22, CloseReason::Headers)));
    }

    #[test]
    fn an_unread_answer_of_http2_is_overdue() {
        let progress = Progress::new(TIMEOUTS);
        progress.received(b"PRI * HTTP/2.0\r\n");
        after(&progress, 1);
        assert_eq!(due(&progress), Some((10, CloseReason::Headers)));
        let exchanges = [Exchange::begin(&progress), Exchange::begin(&progress)];
        exchanges[1].gave(true);
        progress.received(b"a ping");
        assert_eq!(due(&progress), Some((21, CloseReason::Stalled)));
        exchanges[1].gave(false);
        assert_eq!(due(&progress), None);
        drop(exchanges);
        progress.received(b"a ping");
        assert_eq!(due(&progress), Some((301, CloseReason::Idle)));
    }

    #[test]
    fn websockets_are_bounded_by_their_own_heartbeat_and_lent_slots_by_time() {
        let progress = Progress::new(TIMEOUTS);
        let exchange = Exchange::begin(&progress);
        progress.upgraded();
        drop(exchange);
        assert_eq!((due(&progress), progress.waits_since()), (None, None));
        progress.lend();
        assert_eq!(due(&progress), Some((RESERVE_LIFETIME.as_secs(), CloseReason::Lifetime)));
    }
}
