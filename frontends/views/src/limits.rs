//! Limits of views: number, unit, reason. Backfill and corrections have their own
//! ([`crate::recording`]).

use std::time::Duration;

/// Scheduled views: each has a thread, which mostly sleeps.
pub const SCHEDULED_VIEWS: usize = 1_000;
/// How often a scheduled view that is not recorded is evaluated while it has consumers, in ms:
/// often enough to watch, and a bound on its cost.
pub const CONTINUOUS_INTERVAL_MS: i64 = 1_000;
/// The longest sleep of its thread, in ms, because clocks may be set.
pub const LONGEST_SLEEP_MS: i64 = 5_000;
/// A clock that goes back by more than this was set back, in ms.
pub const CLOCK_BACK: i64 = 1_000;
/// How long after its evaluation time a recorded scheduled view is evaluated, in ms: by then the
/// views of the live runtime have recorded their answers for that time.
pub const EVALUATION_DELAY_MS: i64 = 100;
/// How long a view that reads `ALERTS` waits at most for the samples of its evaluation time, in ms.
pub const ALERT_SERIES_PATIENCE: i64 = 2_000;
/// How long a description of views waits for its turn, and again for the tick that answers: some
/// ticks of an overloaded server.
pub const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time that the check of a view may take: some ticks, and a query for each.
pub const CHECK_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a check compares at most while samples come between its tick and its query.
pub const CHECK_ATTEMPTS: usize = 10;
/// Rows that a check shows of those that differ: the first tell what is wrong.
pub const CHECK_ROWS: usize = 20;
/// Saved queries: each costs work at every tick, and all of them are in one file.
pub const STANDING_QUERIES: usize = 1_000;
/// Longest name of a saved query, in bytes: it is part of a path.
pub const STANDING_NAME_BYTES: usize = 128;
/// Longest query of a saved query, in bytes: as long as an editor can still show.
pub const STANDING_QUERY_BYTES: usize = 64 << 10;
/// Labels that a saved query sets on the series it records.
pub const STANDING_LABELS: usize = 64;
/// Longest label name or value, in bytes.
pub const STANDING_LABEL_BYTES: usize = 1 << 10;
/// Time between recorded samples of a saved query, in ms: at a shorter interval the samples cost
/// more than the query.
pub const STANDING_INTERVAL: std::ops::RangeInclusive<i64> = 100..=365 * 86_400_000;
