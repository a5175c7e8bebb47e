//! Limits of the binary, each with unit and reason; `docs/limits.md` lists them for users.

use std::time::Duration;

/// The number of stored exemplars if `storage.exemplars.max_exemplars` is not set: Prometheus'
/// default.
pub(crate) const EXEMPLARS: i64 = 100_000;
/// The longest wait for queued alerts at shutdown, counted from the signal: the whole shutdown
/// takes 2 s at most.
pub(crate) const ALERT_DRAIN: Duration = Duration::from_millis(800);
/// The longest wait for rules and views at shutdown, counted from the signal. Then the store is
/// closed, and the process ends.
pub(crate) const CLOSE_VIEWS_WAIT: Duration = Duration::from_millis(1_000);
/// How long the start waits for the first answer of the object store: long enough to refuse one
/// that belongs to another data directory.
pub(crate) const OBJECTS_FIRST_ANSWER: Duration = Duration::from_secs(1);
/// The interval between attempts to reach an object store that has not answered yet.
pub(crate) const OBJECTS_RETRY: Duration = Duration::from_secs(2);
/// The longest pause of a maintenance task that fails repeatedly, minutes.
pub(crate) const MAINTENANCE_PAUSE_MINUTES: u32 = 16;
/// The number of remote writes that are decoded at the same time, per core: more than 1 because
/// some wait for the disk.
pub(crate) const WRITES_PER_CORE: usize = 2;
/// Remote writes of more bytes, decompressed, run at low priority: agents send a quarter of that.
pub(crate) const WRITE_LARGE_BYTES: usize = 1 << 20;
/// The value added to the nice value of the process for such remote writes; the same as for
/// queries. Senders retry.
pub(crate) const WRITE_LARGE_NICENESS: i32 = 10;
/// How long a remote write waits for a permit: senders time out after 30 s.
pub(crate) const WRITE_WAIT: Duration = Duration::from_secs(10);
/// The file descriptors that are reserved for the WAL and for accepting connections.
pub(crate) const RESERVED_DESCRIPTORS: usize = 16;
/// Frames of a streamed remote read that wait for the client: the rest of the answer is not in
/// memory.
pub(crate) const READ_FRAMES: usize = 2;
