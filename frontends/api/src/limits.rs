//! Limits of the HTTP front end: number, unit, reason. Nowhere else does this room hold one.

use std::time::Duration;

/// Body of a form POST, bytes: what Go's `ParseForm` reads at most.
pub const FORM_BYTES: usize = 10 << 20;
/// Body of a remote write request as sent (compressed), bytes; the receiver bounds the decompressed size.
pub const WRITE_BYTES: usize = 32 << 20;
/// Bodies of all requests at work, as sent and decompressed, bytes, where `--web.max-body-memory` does not say else: forty of
/// the largest requests that Prometheus sends, or one of the largest that is taken.
pub const BODY_MEMORY_BYTES: usize = 64 << 20;
/// Bytes of each body that are not counted: those of a dashboard's query, of which every connection may have one.
pub const BODY_FREE_BYTES: usize = 16 << 10;
/// Bytes of a body that have to come before its length is believed, and memory for the rest asked for at once.
pub const BODY_BELIEVED_BYTES: usize = 1 << 20;
/// What `Retry-After` says when other requests fill the server, seconds: one takes less to be decoded.
pub const BUSY_RETRY_SECONDS: u64 = 1;
/// Values of one form and of one URL (Go: 10,000): each takes 50 bytes besides its text.
pub const FORM_VALUES: usize = 10_000;
/// Bytes of all `match[]` of one request, together: what a query may have.
pub const SELECTOR_BYTES: usize = language::limits::QUERY_BYTES;
/// Regular expressions in all `match[]` of one request, together: what a query may have.
pub const SELECTOR_REGEXES: usize = language::limits::REGEXES as usize;
/// Body of a `PUT` of a standing query, bytes: the longest query, escaped, and some labels.
pub const STANDING_BODY_BYTES: usize = 512 << 10;
/// Points per series of one range query (Prometheus: 11,000), so that a minute's step still covers a week.
pub const RANGE_POINTS: i64 = 11_000;
/// Warnings of one answer, and infos of one answer; of more only their number is said, as in Prometheus.
pub const ANNOTATIONS: usize = 10;
/// The share of the turns of queries that one address leaves to others: one in so many.
pub const QUERIES_OF_OTHERS: usize = 4;
/// Bytes of the file of active queries for each of them: what Prometheus gives a query; a longer text is cut.
pub const ACTIVE_QUERY_BYTES: usize = 1_000;
/// Queries that are written into that file at one time; more of them work unwritten.
pub const ACTIVE_QUERY_SLOTS: usize = 10_000;
/// Entries of an `Accept` header that are looked at.
pub const ACCEPT_ENTRIES: usize = 100;
/// A response body is cut into pieces of about this size, bytes: large answers are never one string.
pub const CHUNK_BYTES: usize = 64 << 10;
/// Terms of one search (Prometheus: 32): each is compared with every name.
pub const SEARCH_TERMS: usize = 32;
/// Letters of a name and of a term that a search compares one by one: what it takes grows with their product. Names that
/// people give are shorter; whether a longer one begins with a term, or has it in it, is found all the same.
pub const SEARCH_LETTERS: usize = 256;
/// How far back a search looks that names no start, ms (Prometheus: an hour).
pub const SEARCH_WINDOW_MS: i64 = 3_600_000;
/// Entries of a `/api/v1/status/tsdb` list, at most.
pub const TSDB_STATUS_LIMIT: usize = 10_000;
/// What `Retry-After` says while the server starts, seconds: a log of millions of samples is replayed in some.
pub const RETRY_AFTER_SECONDS: u64 = 2;
/// Time given to open requests when the server stops; after it they are cut, so that the process ends within two seconds
/// whatever clients do.
pub const DRAIN: Duration = Duration::from_millis(600);
/// Time from the first byte of a request's headers to the last, and from a connection to its first request: a client that
/// has something to ask sends it at once.
pub const HEADERS_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for the body of a request, and between two requests (Prometheus' `--web.read-timeout`).
pub const READ_TIMEOUT: Duration = Duration::from_secs(300);
/// Headers of a request.
pub const HEADERS: usize = 100;
/// Request line and headers, bytes: a long query in the URL and the cookies of a proxy.
pub const HEADER_BYTES: usize = 256 << 10;
/// The same over HTTP/2.
pub const HTTP2_HEADER_BYTES: u32 = 256 << 10;
/// Requests at one time over one HTTP/2 connection.
pub const HTTP2_STREAMS: u32 = 100;
/// Connections beyond `--web.max-connections` that are served [`RESERVE_PATHS`] and 503: enough for all that look after this
/// server to ask at the same time.
pub const RESERVE_CONNECTIONS: usize = 64;
/// What is answered although all connections are in use: whether the server lives must not depend on its clients.
pub const RESERVE_PATHS: [&str; 3] = ["/-/healthy", "/-/ready", "/metrics"];
/// The longest life of a connection of the reserve.
pub const RESERVE_LIFETIME: Duration = Duration::from_secs(10);
/// How long a connection must have waited for its client to give its slot to a new one.
pub const DISPLACE_AFTER: Duration = Duration::from_secs(1);
/// The same in the reserve, where a client is expected to ask at once.
pub const DISPLACE_RESERVE_AFTER: Duration = Duration::from_millis(200);
/// Pause after a connection could not be accepted, as when the process has too many open files; it doubles.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(5);
/// The longest such pause.
pub const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// A client of any transport that takes no byte of what it is sent for this long is closed: what waits for it is memory.
pub const WRITE_STALL: Duration = Duration::from_secs(10);

/// How long an answer waits for the log to have what it shows. A write takes less than a millisecond, a sync tens of
/// them; a disk that needs longer than this stands still.
pub const SETTLE: Duration = Duration::from_secs(2);

/// Views that one answer of `/api/v1/views` describes: a worker looks at each of them, in a tick.
pub const VIEWS_PER_PAGE: usize = 1_000;

/// Subscriptions of one websocket: a dashboard has tens of panels.
pub const SUBSCRIPTIONS_PER_SOCKET: usize = 100;
/// Subscriptions of the whole server: each costs a queue.
pub const SUBSCRIPTIONS: usize = 10_000;
/// Views that subscriptions keep standing at one time: each costs work at every tick.
pub const SUBSCRIBED_VIEWS: usize = 1_000;
/// How long a view stays after its last subscriber left: a page reload finds it warm.
pub const VIEW_LINGER: Duration = Duration::from_secs(30);
/// Length of a subscription's id and of a query text in a websocket message, bytes.
pub const SUBSCRIPTION_ID_BYTES: usize = 256;
/// One message of a websocket client, bytes.
pub const CLIENT_MESSAGE_BYTES: usize = 1 << 20;
/// Messages sent to a websocket before it is read again.
pub const SOCKET_BURST: usize = 256;
/// Events that `backpressure: buffer` (and `close`) queues if the client names no number.
pub const BUFFER_EVENTS: usize = 256;
/// The most it may name.
pub const BUFFER_EVENTS_MAX: usize = 10_000;
/// Rows that wait in one subscription's queue: beyond it the client counts as lagging, whatever its policy.
pub const BUFFER_ROWS: usize = 1_000_000;
/// Bytes that wait for all subscribers together, where the flags do not say else.
pub const SUBSCRIPTION_BUFFER_BYTES: usize = 256 << 20;
/// Part of these that may be in use when a new subscription begins, percent: its first message needs some.
pub const SUBSCRIBE_UP_TO_PERCENT: i64 = 90;
/// A subscription that is ended to free its buffers is told so, unless its socket has taken nothing for this long.
pub const BUDGET_BLOCKED_AFTER: Duration = Duration::from_secs(1);
/// Ticks that `backpressure: conflate` merges into one message before a fresh snapshot is the better answer.
pub const CONFLATE_TICKS: usize = 64;
/// Time between heartbeats: below the idle timeouts of common proxies (60 s).
pub const HEARTBEAT: Duration = Duration::from_secs(15);
/// A websocket that answers no ping for this long is closed.
pub const PONG_TIMEOUT: Duration = Duration::from_secs(60);
