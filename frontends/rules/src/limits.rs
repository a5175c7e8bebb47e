//! Limits of rules, alerts and templates: number, unit, reason. `docs/limits.md` lists them for
//! users.

use std::time::Duration;

/// Largest rule or configuration file, in bytes: a wrong path must not fill the memory, and 100,000
/// alerts with their texts are 50 MB.
pub const FILE_BYTES: u64 = 64 << 20;
/// Values and brackets for which all aliases (`*name`) of one YAML file may stand together: without
/// a limit, a file of 1 kB could stand for more than any memory. Ten labels for each of 100,000
/// rules are within the limit.
pub const YAML_ALIASED: usize = 3_000_000;
/// Values and brackets of one YAML file that are stored for its aliases: 150 bytes each.
pub const YAML_ANCHORED: usize = 1_000_000;
/// Bytes of text for which all aliases of one YAML file may stand together.
pub const YAML_ALIASED_BYTES: usize = 64 << 20;
/// Largest nesting of lists and mappings of a YAML file: every level is a stack frame.
pub const YAML_DEPTH: usize = 64;
/// Iterations of all `range`s of one template: labels and query results are short.
pub const TEMPLATE_ITERATIONS: u64 = 100_000;
/// Largest expanded label or annotation, in bytes: Alertmanager rejects larger bodies anyway.
pub const TEMPLATE_BYTES: usize = 64 << 10;
/// Steps of one template: function calls, and executed nodes, counted each time in loops and
/// definitions. They take about half a second; a report of all 10,000 rows that a query may return
/// takes a fifth of them.
pub const TEMPLATE_STEPS: usize = 500_000;
/// Bytes of all texts that the functions of one template read and create, and of its query results,
/// which are in memory until the template is expanded.
pub const TEMPLATE_WORK_BYTES: usize = 16 << 20;
/// Bytes of an expression in the error of a template: each level of a nested expression has such a
/// text.
pub const TEMPLATE_CONTEXT_BYTES: usize = 120;
/// Largest nesting of values (`args`): every level is a stack frame.
pub const TEMPLATE_NESTING: usize = 16;
/// Rows that a `query` in a template may return: a template is text for people.
pub const TEMPLATE_QUERY_ROWS: usize = 10_000;
/// Timeout of a `query` in a template: the thread that sends alerts waits for it.
pub const TEMPLATE_QUERY_TIME: Duration = Duration::from_secs(10);
/// Events of the live runtime that may wait for the rules thread. With more, a rule begins again
/// from a snapshot.
pub const RULE_QUEUE_EVENTS: usize = 100_000;
/// How long the thread waits for events of the live runtime that are older than a timer, in ms: a
/// tick that ends the condition must be processed before the timer fires. Several times the
/// coalescing of ticks.
pub const TIMER_SLACK_MS: i64 = 100;
/// The longest sleep of the rules thread, in ms, because clocks may be set.
pub const MAX_SLEEP_MS: i64 = 1_000;
/// How long a resolved alert is kept and sent again, in ms (in Prometheus: 15 minutes).
pub const RESOLVED_RETENTION_MS: i64 = 15 * 60_000;
/// The least time from a restart until alerts without rows end, in ms: targets must have been
/// scraped again.
pub const RESTART_PATIENCE_MS: i64 = 30_000;
/// How long an alert waits for its state to be saved before it is sent, in ms. Limited, because an
/// alert about a disk that hangs must still be sent.
pub const KEEP_WAIT_MS: u64 = 100;
/// Alerts that are defined by statements: all of them are in one file.
pub const DEFINED_ALERTS: usize = 1_000;
/// Largest edit distance for "did you mean": larger ones are noise.
pub const HINT_DISTANCE: usize = 3;
/// The default of how late samples may be in a group with `late_samples: correct`, in ms.
pub const LATENESS_MS: i64 = 120_000;
/// Changes of the states of alerts that are kept: some days of a noisy server.
pub const ALERT_TRANSITIONS: usize = 10_000;
/// Bytes of these changes on disk: labels may be long.
pub const ALERT_HISTORY_BYTES: usize = 16 << 20;
/// Series that are shown as the cause of a change.
pub const CAUSE_SERIES: usize = 10;
/// Series of one selector that are looked at for the cause of the changes of a tick: the thread
/// that sends alerts does it.
pub const CAUSE_SERIES_READ: usize = 1_000;
/// How far back the sample before the newest one is looked for, in ms: twice the lookback.
pub const CAUSE_REACH_MS: i64 = 600_000;
/// Changes whose cause is looked for in one step of the rules thread; those of one rule and tick
/// count as one.
pub const CAUSES_PER_STEP: usize = 16;
/// Alertmanagers whose answer is kept with a change.
pub const CHANGE_DELIVERIES: usize = 8;
/// Alerts whose stretches a trial of a rule lists; the sums have all.
pub const TRIAL_ALERTS: usize = 1_000;
/// Stretches of all alerts that a trial lists.
pub const TRIAL_INTERVALS: usize = 10_000;
/// Lines of one rule that are shown of its file.
pub const RULE_SOURCE_LINES: usize = 200;
/// Largest page of a console, in bytes.
pub const CONSOLE_BYTES: usize = 8 << 20;
/// Queries of one page of a console.
pub const CONSOLE_QUERIES: usize = 500;
/// How long all queries of one page of a console may take.
pub const CONSOLE_TIME: Duration = Duration::from_secs(10);
/// Largest file of a console, and largest library, in bytes.
pub const CONSOLE_FILE_BYTES: u64 = 1 << 20;
/// Libraries of consoles.
pub const CONSOLE_LIBRARIES: usize = 100;
