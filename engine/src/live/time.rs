//! Logical time of the dataflow: the tick in milliseconds, and in the low bits the round inside the tick.
//!
//! Rules that read recorded series run one round after the rules that record them, in the same tick.

use crate::limits::TICK_ROUNDS;
use storage::model::TimeMs;

/// A time of the dataflow.
pub type LiveTime = u64;

/// Round `round` of the tick at `t`. Times before 1970 are not ticks.
pub fn at(t: TimeMs, round: u64) -> LiveTime {
    (t.max(0) as u64) * TICK_ROUNDS + round
}

/// The tick and the round of a time.
pub fn split(time: LiveTime) -> (TimeMs, u64) {
    ((time / TICK_ROUNDS) as TimeMs, time % TICK_ROUNDS)
}
