//! Limits of backfill and corrections: number, unit, reason. `docs/limits.md` lists them for users.

use std::time::Duration;

/// The most time that one piece of backfill covers, in ms: a range up to which blocks of two hours
/// are merged.
pub(super) const BACKFILL_RANGE_MS: i64 = 18 * 3_600_000;
/// The most evaluation times of one query; fewer if an answer is too large.
pub(super) const BACKFILL_TIMES: usize = 1 << 14;
/// Failed evaluation times in a row that are skipped to find the series with a value before them.
pub(super) const PRESENT_TIMES: i64 = 100;
/// Samples that one query may hold in memory, 16 bytes each, unless it has a single time.
pub(super) const BACKFILL_SAMPLES: usize = 8_000_000;
/// Samples that wait for their block, 16 bytes each.
pub(super) const BLOCK_SAMPLES: usize = 4_000_000;
/// How often it is saved that rules are recorded live: after a restart, what came later is checked.
pub(super) const ALIVE_EVERY: Duration = Duration::from_secs(60);
/// How long after a failure, for example of the disk, work is tried again.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(10);
/// Timeout of one query. It delays nothing else, and is cancelled when the server stops.
pub(super) const PATIENCE: Duration = Duration::from_secs(3_600);
/// Samples that a live window may still have beyond its length, in ms: changes of those are sent to
/// it as well.
pub(super) const CORRECTION_SLACK_MS: i64 = 60_000;
/// Batches of late samples that may wait. With more, everything within the bounds is computed
/// again.
pub(super) const LATE_ITEMS: usize = 1 << 16;
/// How long after a late sample its evaluation times are computed, because others arrive with it.
pub(super) const LATE_SETTLE: Duration = Duration::from_secs(1);
/// How long after its time an evaluation counts as recorded, in ms: a tick may be late.
pub(super) const RECORDED_AFTER: i64 = 500;
/// Evaluation times that are computed again in one query.
pub(super) const LATE_TIMES: i64 = 4_096;
/// Series whose readers are remembered, and series to which corrections added samples.
pub(super) const KNOWN_SERIES: usize = 1 << 20;
/// Late samples in one report of a process to process 0, counted once per selector and time. With
/// more, everything within the bounds is computed again.
pub(super) const REPORT_ITEMS: usize = 1 << 17;
/// How much the clocks of the processes of a cluster may differ, in ms: a sample so shortly before
/// an evaluation time may be late.
pub(super) const CLOCKS_APART: i64 = 200;
/// Relative difference of numbers that count as equal: the live runtime does not compute rates
/// again while they cannot change.
pub(super) const TOLERANCE: f64 = 1e-12;
/// How long a correction may take, in ms: samples that were in time when it began stay in time.
pub(super) const PASS_MS: i64 = 60_000;
