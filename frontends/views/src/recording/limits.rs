//! Limits of the past's room: number, unit, reason.

use std::time::Duration;

/// Time that one piece of backfill covers at most, ms: a range to which blocks of two hours are merged.
pub const PIECE_MS: i64 = 18 * 3_600_000;
/// Slots that one question asks for at most; where an answer is too large, fewer at a time.
pub const PIECE_SLOTS: usize = 1 << 14;
/// Slots that failed one after the other and are looked past to see which series had a value before them.
pub const PRESENT_SLOTS: i64 = 100;
/// Samples that one question may hold in memory, 16 bytes each, unless it is about a single slot.
pub const PIECE_SAMPLES: usize = 8_000_000;
/// Samples that wait for their block, 16 bytes each.
pub const BLOCK_SAMPLES: usize = 4_000_000;
/// How often it is noted down that rules are recorded live: what a restart has to look at again.
pub const ALIVE_EVERY: Duration = Duration::from_secs(60);
/// How long after a failure, of the disk for instance, the work is tried again.
pub const RETRY_AFTER: Duration = Duration::from_secs(10);
/// Time one question may take. It is in nobody's way, and is given up when the server stops.
pub const PATIENCE: Duration = Duration::from_secs(3_600);
/// Samples that a live window may still hold beyond its length, ms: those are told too.
pub const TELL_SLACK_MS: i64 = 60_000;
/// Batches of late samples that may wait; beyond it everything within the bounds is computed again.
pub const LATE_ITEMS: usize = 1 << 16;
/// How long after a late sample its slots are computed: others come with it.
pub const LATE_SETTLE: Duration = Duration::from_secs(1);
/// How long after a slot it counts as recorded, ms: a tick may be late.
pub const RECORDED_AFTER: i64 = 500;
/// Slots that are computed again at once.
pub const LATE_SLOTS: i64 = 4_096;
/// Series whose readers are remembered, and those that corrections gave samples to.
pub const KNOWN_SERIES: usize = 1 << 20;
/// Late samples that a process of a cluster tells process 0 at once, counted once per selector and
/// time; beyond it everything within the bounds is computed again.
pub const REPORT_ITEMS: usize = 1 << 17;
/// By how much the clocks of the processes of a cluster may differ, ms: what comes so shortly
/// before a slot may be late.
pub const CLOCKS_APART: i64 = 200;
/// Relative difference of two numbers that are one: live, rates are not computed anew where they
/// cannot have changed.
pub const TOLERANCE: f64 = 1e-12;
/// Time that correcting may take, ms: what came in time stays in time meanwhile.
pub const PASS_MS: i64 = 60_000;
