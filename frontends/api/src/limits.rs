//! The limits of the HTTP front end: number, unit and reason. No other file of this crate defines
//! one.

use std::time::Duration;

/// The most bytes of a form POST, as in Go's `ParseForm`.
pub const FORM_BYTES: usize = 10 << 20;
/// The most bytes of a remote write request as sent (compressed); the receiver limits the
/// decompressed size.
pub const WRITE_BYTES: usize = 32 << 20;
/// The most bytes of a remote read request as sent (compressed).
pub const READ_BYTES: usize = 32 << 20;
/// Default of `--web.max-body-memory`: bytes of all running requests, as sent and decompressed. It
/// fits forty of the largest requests that Prometheus sends, or one of the largest that is
/// accepted.
pub const BODY_MEMORY_BYTES: usize = 64 << 20;
/// Bytes of each body that are not counted: enough for a dashboard's query, and every connection
/// may have one.
pub const BODY_FREE_BYTES: usize = 16 << 10;
/// Bytes that must arrive before the announced length is trusted and memory for the whole body is
/// reserved.
pub const BODY_BELIEVED_BYTES: usize = 1 << 20;
/// `Retry-After` when other requests fill the body memory, s: decoding a request takes less.
pub const BUSY_RETRY_SECONDS: u64 = 1;
/// The most values of one form and of one URL (as in Go): each takes 50 bytes besides its text.
pub const FORM_VALUES: usize = 10_000;
/// Bytes of all `match[]` of one request together: the limit of a query.
pub const SELECTOR_BYTES: usize = language::limits::QUERY_BYTES;
/// Regular expressions in all `match[]` of one request together: the limit of a query.
pub const SELECTOR_REGEXES: usize = language::limits::REGEXES as usize;
/// Confinements of users whose engines are kept: more than a web configuration file has.
pub const CONFINED_SCOPES: usize = 256;
/// How far back a metric has samples of which a confined user is shown the metadata, ms.
pub const CONFINED_METADATA_SPAN: i64 = 3_600_000;
/// The most bytes of the body that saves a query: the longest query, escaped, and some labels.
pub const STANDING_BODY_BYTES: usize = 512 << 10;
/// The most bytes of the body of a statement in SQL: the longest one, escaped, and its parameters.
pub const SQL_BODY_BYTES: usize = 512 << 10;
/// Pieces of an answer in SQL that wait for the client.
pub const SQL_PIECES: usize = 4;
/// How long an answer in SQL waits for a slow client before it asks again.
pub const SQL_SEND_WAIT: Duration = Duration::from_millis(2);
/// Points per series of one range query (as in Prometheus): a step of one minute still covers a
/// week.
pub const RANGE_POINTS: i64 = 11_000;
/// Warnings and infos of one answer, each; as in Prometheus, only the number of further ones is
/// reported.
pub const ANNOTATIONS: usize = 10;
/// One client address must leave one in this many query turns to others.
pub const QUERIES_OF_OTHERS: usize = 4;
/// Bytes per query in the file of active queries, as in Prometheus; a longer text is cut.
pub const ACTIVE_QUERY_BYTES: usize = 1_000;
/// Queries in that file at one time; further queries run without an entry.
pub const ACTIVE_QUERY_SLOTS: usize = 10_000;
/// Entries of an `Accept` header that are read.
pub const ACCEPT_ENTRIES: usize = 100;
/// Response bodies are sent in pieces of about this many bytes, so that a large answer is never one
/// string.
pub const CHUNK_BYTES: usize = 64 << 10;
/// Terms of one search (in Prometheus: 32): each is compared with every name.
pub const SEARCH_TERMS: usize = 32;
/// Characters of a name and of a term that a search compares one by one: the work grows with their
/// product. Names that people choose are shorter. A longer name that starts with the term or
/// contains it is still found.
pub const SEARCH_LETTERS: usize = 256;
/// The time range of a search that names no start, ms (as in Prometheus: one hour).
pub const SEARCH_WINDOW_MS: i64 = 3_600_000;
/// The most results of a search that our own page makes without `--enable-feature=search-api`.
pub const PAGE_SEARCH_RESULTS: usize = 1_000;
/// The most bytes of the rules of one call of `/api/v1/relabel`.
pub const RELABEL_RULES_BYTES: usize = 64 << 10;
/// The most labels of one call of `/api/v1/relabel` and `/api/v1/targets/relabel_steps`: real
/// targets have tens.
pub const RELABEL_LABELS: usize = 1_000;
/// The most entries of a list of `/api/v1/status/tsdb`.
pub const TSDB_STATUS_LIMIT: usize = 10_000;
/// `Retry-After` while the server starts, s: the replay of millions of samples takes a few.
pub const RETRY_AFTER_SECONDS: u64 = 2;
/// Time that running requests get when the server stops. After it they are cut off, so that the
/// process ends within two seconds whatever clients do.
pub const DRAIN: Duration = Duration::from_millis(600);
/// Time from the first byte of a request's headers to the last, and from a new connection to its
/// first request: clients send a request at once.
pub const HEADERS_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for the body of a request, and between two requests (Prometheus' `--web.read-timeout`).
pub const READ_TIMEOUT: Duration = Duration::from_secs(300);
/// The most headers of a request.
pub const HEADERS: usize = 100;
/// The most bytes of request line and headers: room for a long query in the URL and the cookies of
/// a proxy.
pub const HEADER_BYTES: usize = 256 << 10;
/// The most header bytes over HTTP/2.
pub const HTTP2_HEADER_BYTES: u32 = 256 << 10;
/// Concurrent requests of one HTTP/2 connection.
pub const HTTP2_STREAMS: u32 = 100;
/// Connections beyond `--web.max-connections`. They get only [`RESERVE_PATHS`] and otherwise 503;
/// they suffice for all monitoring systems to probe the server at once.
pub const RESERVE_CONNECTIONS: usize = 64;
/// The paths that answer even if all connections are in use: health checks must not fail because of
/// other clients.
pub const RESERVE_PATHS: [&str; 3] = ["/-/healthy", "/-/ready", "/metrics"];
/// The longest life of a reserve connection.
pub const RESERVE_LIFETIME: Duration = Duration::from_secs(10);
/// How long a connection must have waited for its client before a new client may take its slot.
pub const DISPLACE_AFTER: Duration = Duration::from_secs(1);
/// The same for a reserve connection, whose client is expected to send its request at once.
pub const DISPLACE_RESERVE_AFTER: Duration = Duration::from_millis(200);
/// The first pause after a connection could not be accepted, for example because too many files are
/// open; the pause doubles each time.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(5);
/// The longest such pause.
pub const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// A client of any transport that reads no byte for this long is disconnected, because unsent data
/// occupies memory.
pub const WRITE_STALL: Duration = Duration::from_secs(10);

/// How long an answer waits until the write-ahead log contains what the answer shows. A write takes
/// less than 1 ms and a sync tens of ms; a disk that takes longer than this is stalled.
pub const SETTLE: Duration = Duration::from_secs(2);

/// Clients that listen to notifications at one time (as in Prometheus): each is a connection.
pub const NOTIFICATION_STREAMS: usize = 16;
/// How often notifications are compared with what listeners were told.
pub const NOTIFICATION_PERIOD: Duration = Duration::from_millis(500);

/// Changes of states in one answer of `/api/v1/alerts/history` that names no limit.
pub const ALERT_HISTORY_DEFAULT: usize = 500;
/// The most changes in one answer of `/api/v1/alerts/history`: all that are kept.
pub const ALERT_HISTORY_MOST: usize = 10_000;

/// The most bytes of the texts in one answer of `/api/v1/rules/source`.
pub const RULE_SOURCES_BYTES: usize = 4 << 20;

/// The most bytes of the body of `/api/v1/rules/test`: a rule file and its options.
pub const RULE_TEST_BODY_BYTES: usize = 2 << 20;
/// Evaluations of one test of a rule: a month at a step of six seconds.
pub const RULE_TEST_STEPS: i64 = 500_000;
/// Evaluations of one piece of a test, which is a range query: a tenth of what those of a chart may
/// have in memory.
pub const RULE_TEST_PIECE_STEPS: i64 = 2_000;
/// The longest test of a rule; it has a turn of a query meanwhile.
pub const RULE_TEST_TIME: Duration = Duration::from_secs(600);
/// Lines about the progress of a test that wait for its client.
pub const RULE_TEST_PIECES: usize = 4;
/// Bytes of the text of a query, and of its error, that `/api/v1/status/queries` shows.
pub const QUERY_TEXT_BYTES: usize = 2_000;
/// Queries that have ended and of which the cost is known.
pub const RECENT_QUERIES: usize = 5_000;
/// Texts that `/api/v1/status/queries` lists if the request names no limit.
pub const RECENT_QUERIES_SHOWN: usize = 50;

/// Pages of consoles that are made at one time: each may make many queries.
pub const CONSOLES_AT_ONCE: usize = 4;
/// Largest file below `--web.user-assets`: it is read as a whole.
pub const USER_FILE_BYTES: u64 = 16 << 20;

/// The least time between two looks at a list that somebody listens to: what happens is told within
/// it.
pub const TOPIC_PERIOD: Duration = Duration::from_millis(250);
/// The same for the list of views, which the workers of the live runtime write inside a tick.
pub const VIEWS_PERIOD: Duration = Duration::from_secs(1);
/// How many times as long as a look took nobody looks again, so that long lists take a twentieth of
/// a thread.
pub const TOPIC_SHARE: u32 = 20;
/// How long an answer of the Alertmanagers about their silences is kept.
pub const SILENCES_KEPT: Duration = Duration::from_secs(10);
/// The bytes of the name by which a connection of subscriptions calls itself.
pub const SUBSCRIBER_NAME_BYTES: usize = 64;
/// The least time between two messages of a topic to one client.
pub const TOPIC_SPACING: Duration = Duration::from_secs(1);

/// Views on one page of `/api/v1/views`: a worker inspects each of them during a tick.
pub const VIEWS_PER_PAGE: usize = 1_000;

/// Subscriptions of one websocket: a dashboard has tens of panels.
pub const SUBSCRIPTIONS_PER_SOCKET: usize = 100;
/// Subscriptions of the whole server: each has a queue.
pub const SUBSCRIPTIONS: usize = 10_000;
/// Views that subscriptions maintain at one time: each costs work at every tick.
pub const SUBSCRIBED_VIEWS: usize = 1_000;
/// Bytes of samples and rows that one of these views may hold: it would be kept for one reader.
pub const SUBSCRIBED_VIEW_BYTES: usize = 64 << 20;
/// The same for all of them together.
pub const SUBSCRIBED_STATE_BYTES: usize = 256 << 20;
/// What a series takes in a view besides its samples, approximately, bytes.
pub const SUBSCRIBED_SERIES_BYTES: usize = 256;
/// How long it may take to tell how much a view would hold.
pub const STATE_ESTIMATE_TIME: Duration = Duration::from_secs(2);
/// How often it is measured what these views hold.
pub const STATE_MEASURED: Duration = Duration::from_secs(30);
/// For how long a plan that held too much is not kept current again.
pub const STATE_REFUSED: Duration = Duration::from_secs(600);
/// How long a view stays installed after its last subscriber left, so that a page reload finds it.
pub const VIEW_LINGER: Duration = Duration::from_secs(30);
/// The most bytes of a subscription id and of a query text in a websocket message.
pub const SUBSCRIPTION_ID_BYTES: usize = 256;
/// The most bytes of one message from a websocket client.
pub const CLIENT_MESSAGE_BYTES: usize = 1 << 20;
/// Messages that are sent to a websocket before the server reads from it again.
pub const SOCKET_BURST: usize = 256;
/// The queue length of `backpressure: buffer` and `close`, in events, if the client sets none.
pub const BUFFER_EVENTS: usize = 256;
/// The most that the client may set.
pub const BUFFER_EVENTS_MAX: usize = 10_000;
/// Rows in one subscription's queue: a client with more is lagging, whatever its policy.
pub const BUFFER_ROWS: usize = 1_000_000;
/// Default of `--web.max-subscription-buffers`: bytes queued for all subscribers together.
pub const SUBSCRIPTION_BUFFER_BYTES: usize = 256 << 20;
/// A new subscription starts only if at most this percentage of the budget is in use: its first
/// message needs some.
pub const SUBSCRIBE_UP_TO_PERCENT: i64 = 90;
/// A subscription that is ended to free its queue gets a last message, unless its socket has read
/// nothing for this long.
pub const BUDGET_BLOCKED_AFTER: Duration = Duration::from_secs(1);
/// Ticks that `backpressure: conflate` merges into one message before it sends a new snapshot
/// instead.
pub const CONFLATE_TICKS: usize = 64;
/// Time between heartbeats: less than the idle timeout of common proxies (60 s).
pub const HEARTBEAT: Duration = Duration::from_secs(15);
/// A websocket that answers no ping for this long is closed.
pub const PONG_TIMEOUT: Duration = Duration::from_secs(60);

/// How often the files of `--web.config.file` are looked at, at most: it takes microseconds.
pub const WEB_FILE_LOOK: Duration = Duration::from_millis(100);
/// The highest cost of a bcrypt hash: each step doubles the time, and 18 takes 15 s.
pub const PASSWORD_COST: u32 = 20;
/// Right passwords that are remembered (as in Prometheus); each is 32 bytes.
pub const PASSWORD_CACHE: usize = 100;
/// Requests that wait until their password is compared. Half of the cores compare.
pub const PASSWORD_WAITING: usize = 64;
/// Attempts with a wrong name or password that an address has at once: people mistype.
pub const PASSWORD_ATTEMPTS: u32 = 20;
/// The time after which an address gets one more attempt.
pub const PASSWORD_ATTEMPT_AGAIN: Duration = Duration::from_secs(1);
/// Addresses whose attempts are counted; each is some 50 bytes.
pub const PASSWORD_ADDRESSES: usize = 10_000;
/// Bytes of the body of a table that is put.
pub const TABLE_BODY_BYTES: usize = 16 * 1024 * 1024;
