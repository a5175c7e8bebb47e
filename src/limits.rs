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
