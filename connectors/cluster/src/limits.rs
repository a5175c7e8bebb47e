//! Limits of the communication between the processes of a cluster: number, unit, reason.
//! `docs/limits.md` lists them for users.

use std::time::Duration;

/// The largest handshake, bytes. A list of addresses and some numbers are a few KiB; memory for a
/// handshake is taken before the other side is known, so the limit is low.
pub const HANDSHAKE_BYTES: usize = 1 << 16;
/// The timeout of a handshake. It is one round trip; whoever connects and says nothing must not
/// hold a thread for long.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);
/// The timeout for connecting to another process. Within a network it takes milliseconds; longer
/// means that the process is gone, and the query had better fail.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The number of received messages of a request that are not read yet. A request has two or three,
/// each up to `MESSAGE_BYTES`; the sender waits meanwhile.
pub const REQUEST_QUEUE_MESSAGES: usize = 2;
/// The entries of a catalog's list in one message: some MB of labels, far below `MESSAGE_BYTES`.
pub const CATALOG_PAGE_ENTRIES: usize = 10_000;
/// The interval of heartbeats: often enough that ten fit into [`HEARTBEAT_TIMEOUT`].
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// A process without a heartbeat for this time is lost. Shorter, and a pause of the operating
/// system or of the network would end the cluster; longer, and all views would stand still.
pub const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(10);
/// The timeout of a request for late samples. It is retried, so it need not be long; a correction
/// waits for it.
pub const LATE_SAMPLES_TIMEOUT: Duration = Duration::from_secs(5);
/// Queued messages are sent once they exceed this size, bytes: few calls of the operating system,
/// and little memory for each connection.
pub const WRITE_BUFFER_BYTES: usize = 256 << 10;
/// The size of the read buffer of a connection, bytes. Most messages fit into it.
pub const READ_BUFFER_BYTES: usize = 64 << 10;
