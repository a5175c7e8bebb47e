//! Limits of the communication between the processes of a cluster: number, unit, reason.

use std::time::Duration;

/// The largest handshake, bytes: some addresses and numbers.
pub const HELLO_BYTES: usize = 1 << 16;
/// The timeout of a handshake.
pub const HELLO_TIME: Duration = Duration::from_secs(2);
/// The timeout for connecting to another process.
pub const CALL_CONNECT: Duration = Duration::from_secs(2);
/// The number of unread messages of a requesting process: it sends two or three.
pub const CALLER_MESSAGES: usize = 2;
/// The entries of a list in one message: some MB of labels.
pub const LISTED_ENTRIES: usize = 10_000;
/// The interval of heartbeats.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// A process without a heartbeat for this time is lost.
pub const SILENCE: Duration = Duration::from_secs(10);
/// The timeout of a request for late samples, which is retried.
pub const LATE_PATIENCE: Duration = Duration::from_secs(5);
/// Queued messages are sent once they exceed this size, bytes.
pub const SEND_BYTES: usize = 256 << 10;
/// The size of the read buffer of a connection, bytes.
pub const READ_BYTES: usize = 64 << 10;
