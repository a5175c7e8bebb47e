//! Limits of the PostgreSQL wire, each with unit and reason; `docs/limits.md` lists them for users.

use std::time::Duration;

/// Connections at one time. Each may hold a statement; queries take turns as those over HTTP.
pub const WIRE_CONNECTIONS: usize = 64;
/// How long a client may take to say who it is.
pub const WIRE_STARTUP: Duration = Duration::from_secs(15);
/// Bytes of the first message of a connection: names and settings. That of PostgreSQL.
pub const WIRE_STARTUP_BYTES: usize = 10_000;
/// Bytes of one message. A statement has at most 64 KiB, and rows of COPY come in small pieces.
pub const WIRE_MESSAGE_BYTES: usize = 1024 * 1024;
/// Prepared statements and portals of a connection.
pub const WIRE_PREPARED: usize = 256;
/// Bytes of the texts and parameters of prepared statements and portals of a connection.
pub const WIRE_PREPARED_BYTES: usize = 2 * 1024 * 1024;
/// Statements in one message of the simple protocol.
pub const WIRE_STATEMENTS: usize = 100;
/// Settings of a connection (`SET`).
pub const WIRE_SETTINGS: usize = 64;
/// Bytes of the value of a setting.
pub const WIRE_SETTING_BYTES: usize = 1_024;
/// Batches of rows that wait for a client: 8,192 rows each, so that a slow client holds little.
pub const WIRE_BATCHES: usize = 2;
/// How long a client that reads nothing keeps its connection.
pub const WIRE_STALL: Duration = Duration::from_secs(60);
/// Rows of one table of the catalogs.
pub const CATALOG_ROWS: usize = 500_000;
/// Cursors of a connection: each is a statement that has begun, and holds a turn until its last
/// row.
pub const WIRE_CURSORS: usize = 8;
/// `COPY … FROM STDIN` at one time, of all connections: each may hold the bytes of its rows.
pub const WIRE_COPIES: usize = 4;
/// Expressions that a query of the catalogs evaluates: some seconds of work.
pub const CATALOG_STEPS: u64 = 50_000_000;
/// Regular expressions that a query of the catalogs keeps compiled.
pub const CATALOG_PATTERNS: usize = 64;
/// Bytes of a compiled regular expression.
pub const CATALOG_PATTERN_BYTES: usize = 1024 * 1024;
