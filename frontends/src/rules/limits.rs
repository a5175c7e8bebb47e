//! Limits of the rules room: number, unit, reason.

use std::time::Duration;

/// Size of one rule or configuration file, bytes: a mistaken path must not fill the memory.
pub const FILE_BYTES: u64 = 16 << 20;
/// Iterations of all `range`s of one template: labels and query results are short.
pub const TEMPLATE_ITERATIONS: u64 = 100_000;
/// Length of one expanded label or annotation, bytes: Alertmanager refuses larger bodies anyway.
pub const TEMPLATE_BYTES: usize = 64 << 10;
/// Rows that a `query` in a template may see: a template is text for people.
pub const TEMPLATE_QUERY_ROWS: usize = 10_000;
/// Time that a `query` in a template may take: the thread that tells of alerts waits for it.
pub const TEMPLATE_QUERY_TIME: Duration = Duration::from_secs(10);
/// Events of the live runtime waiting for the rules thread; beyond it a rule starts afresh from a snapshot.
pub const INBOX_EVENTS: usize = 100_000;
/// How long the thread waits for events of the live runtime that are older than a timer, ms: a tick that
/// takes back the condition must be heard before the timer fires. Several times the coalescing of ticks.
pub const TIMER_SLACK_MS: i64 = 100;
/// The longest sleep of the rules thread, ms: clocks jump.
pub const MAX_SLEEP_MS: i64 = 1_000;
/// How long a resolved alert is kept and sent again, ms (Prometheus: 15 minutes).
pub const RESOLVED_RETENTION_MS: i64 = 15 * 60_000;
/// Least time after which an alert is sent again, ms: a resend delay of 0 must not make a storm.
pub const RESEND_FLOOR_MS: i64 = 1_000;
/// Least time from a restart until alerts whose rows have not come are over, ms: targets must have been scraped again.
pub const RESTART_PATIENCE_MS: i64 = 30_000;
/// Longest wait for the disk before an alert is told that has not been kept yet, ms: an alert about a disk that stands
/// still must be told all the same.
pub const KEEP_WAIT_MS: u64 = 100;
/// Largest edit distance of a "did you mean": beyond it the guess is noise.
pub const HINT_DISTANCE: usize = 3;
/// How late samples may come to a group with `late_samples: correct` that says nothing else, ms.
pub const LATENESS_MS: i64 = 120_000;
