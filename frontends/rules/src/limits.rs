//! Limits of the rules room: number, unit, reason.

use std::time::Duration;

/// Size of one rule or configuration file, bytes: a mistaken path must not fill the memory, and 100,000 alerts with their
/// texts are 50 MB.
pub const FILE_BYTES: u64 = 64 << 20;
/// Values and brackets that the aliases (`*name`) of one YAML file may stand for, all together: without a bound a file of
/// 1 kB can mean more than any memory holds. Ten labels for each of 100,000 rules are within it.
pub const YAML_ALIASED: usize = 3_000_000;
/// Values and brackets of one YAML file that are remembered for its aliases: 150 bytes each.
pub const YAML_ANCHORED: usize = 1_000_000;
/// Bytes of text that the aliases of one YAML file may stand for, all together.
pub const YAML_ALIASED_BYTES: usize = 64 << 20;
/// How deep lists and mappings of a YAML file may be nested: every level is a frame on the stack.
pub const YAML_DEPTH: usize = 64;
/// Iterations of all `range`s of one template: labels and query results are short.
pub const TEMPLATE_ITERATIONS: u64 = 100_000;
/// Length of one expanded label or annotation, bytes: Alertmanager refuses larger bodies anyway.
pub const TEMPLATE_BYTES: usize = 64 << 10;
/// Steps of one template: function calls, and nodes that are walked over, in loops and definitions each time. About
/// half a second; a report of all 10,000 rows that a query may give takes a fifth of them.
pub const TEMPLATE_STEPS: usize = 500_000;
/// Bytes of the texts that the functions of one template read and make, and of its query results, together: it lives in
/// memory until the text is done.
pub const TEMPLATE_WORK_BYTES: usize = 16 << 20;
/// Bytes of an expression that an error of a template prints before it stops: each level of a nested one has such a text.
pub const TEMPLATE_CONTEXT_BYTES: usize = 120;
/// How deep values may stand in each other (`args`): every level is a frame on the stack.
pub const TEMPLATE_NESTING: usize = 16;
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
/// Least time from a restart until alerts whose rows have not come are over, ms: targets must have been scraped again.
pub const RESTART_PATIENCE_MS: i64 = 30_000;
/// Longest wait for the disk before an alert is told that has not been kept yet, ms: an alert about a disk that stands
/// still must be told all the same.
pub const KEEP_WAIT_MS: u64 = 100;
/// Largest edit distance of a "did you mean": beyond it the guess is noise.
pub const HINT_DISTANCE: usize = 3;
/// How late samples may come to a group with `late_samples: correct` that says nothing else, ms.
pub const LATENESS_MS: i64 = 120_000;
