//! Limits of the binary: number, unit, reason. Those of its parts stand in the parts.

use std::time::Duration;

/// Exemplars that are kept if `storage.exemplars.max_exemplars` is not given: Prometheus' number.
pub const EXEMPLARS: i64 = 100_000;
/// Longest wait for queued alerts when the server stops, from the signal on: with all the rest it is gone after 2 s.
pub const ALERT_DRAIN: Duration = Duration::from_millis(800);
/// Longest wait for rules and views when the server stops, from the signal on. Then the store is closed, and the process ends.
pub const ROOMS_CLOSE: Duration = Duration::from_millis(1_000);
/// How long a start waits for the object store's first answer: long enough to refuse what belongs to somebody else.
pub const FAR_FIRST_ANSWER: Duration = Duration::from_secs(1);
/// Time between attempts to reach an object store that never answered.
pub const FAR_AGAIN: Duration = Duration::from_secs(2);
/// Longest pause of a task of housekeeping that fails again and again, minutes.
pub const HOUSEKEEPING_PAUSE_MINUTES: u32 = 16;
/// Remote writes that are decoded at a time, for each core: some wait for the disk.
pub const WRITES_PER_CORE: usize = 2;
/// A remote write of more bytes, decompressed, gives way to others: agents send a quarter of that.
pub const WRITE_LARGE_BYTES: usize = 1 << 20;
/// What is added to the nice value of the process for such a write: as for queries. Senders try again.
pub const WRITE_LARGE_NICENESS: i32 = 10;
/// How long a remote write waits for its turn: senders give up after 30 s.
pub const WRITE_WAIT: Duration = Duration::from_secs(10);
/// File descriptors that are kept back for the log and for accepting connections.
pub const RESERVED_DESCRIPTORS: usize = 16;
/// Longest hello of a process of a cluster, bytes: some addresses and numbers.
pub const HELLO_BYTES: usize = 1 << 16;
/// How long the first words of a connection between processes may take.
pub const HELLO_TIME: Duration = Duration::from_secs(2);
/// How long a connection to another process may take that nobody refuses.
pub const CALL_CONNECT: Duration = Duration::from_secs(2);
/// Messages of a process that asks that wait to be read. It says two or three.
pub const CALLER_MESSAGES: usize = 2;
/// Entries of a list in one message between processes: some MB of labels.
pub const LISTED_ENTRIES: usize = 10_000;
/// Time between two signs of life of a process of a cluster.
pub const SIGN_OF_LIFE: Duration = Duration::from_secs(1);
/// A process that is silent for so long is lost.
pub const SILENCE: Duration = Duration::from_secs(10);
/// How long a question about late samples may take. It is asked again if it fails.
pub const LATE_PATIENCE: Duration = Duration::from_secs(5);
/// What is said to another process but not sent yet goes out beyond this, bytes.
pub const SEND_BYTES: usize = 256 << 10;
/// What is read of another process at once, bytes.
pub const READ_BYTES: usize = 64 << 10;
