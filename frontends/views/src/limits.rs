//! Limits that several rooms of the front ends share: number, unit, reason. The rooms have their own besides.

use std::time::Duration;

/// Expressions that cannot stand and are asked from history again and again: each has a thread that
/// mostly sleeps.
pub const SCHEDULED_VIEWS: usize = 1_000;
/// How often such an expression is asked while somebody listens, ms: often enough to watch, and a
/// bound on its cost.
pub const CONTINUOUS_INTERVAL_MS: i64 = 1_000;
/// The longest sleep of its thread, ms: clocks are put forward and back.
pub const LONGEST_SLEEP_MS: i64 = 5_000;
/// A clock that goes back by more than this was put back, ms.
pub const CLOCK_BACK: i64 = 1_000;
/// How long after a slot a recorded one is asked, ms: what stands has recorded its own answers of
/// the slot by then.
pub const EVALUATION_DELAY_MS: i64 = 100;
/// How long one that reads the states of alerts waits at most for those of its slot, ms.
pub const ASK_STATES_PATIENCE: i64 = 2_000;
/// How long somebody who asks what views are made of waits for his turn, and again for the tick
/// that answers: some ticks of a server that is overloaded.
pub const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Standing queries that are put at run time: each costs work at every tick, and all are one file.
pub const STANDING_QUERIES: usize = 1_000;
/// Length of the name of one, bytes: it is part of a path.
pub const STANDING_NAME_BYTES: usize = 128;
/// Length of its query, bytes: as long as what an editor still shows.
pub const STANDING_QUERY_BYTES: usize = 64 << 10;
/// Labels that one sets on the series it records.
pub const STANDING_LABELS: usize = 64;
/// Length of such a name or value, bytes.
pub const STANDING_LABEL_BYTES: usize = 1 << 10;
/// How far apart samples of one may be recorded, ms: below, the samples are more than the question is worth.
pub const STANDING_INTERVAL: std::ops::RangeInclusive<i64> = 100..=365 * 86_400_000;
