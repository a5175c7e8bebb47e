//! Limits of what the processes of a cluster say to each other: number, unit, reason.

use std::time::Duration;

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
