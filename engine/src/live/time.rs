//! The timestamps of the timely dataflow: the number of the tick and, in the low bits, the round
//! inside the tick. The wall-clock time of a tick comes on the control stream ([`super::message`]).
//!
//! Rules that read recorded series are evaluated one round after the rules that record them, in the
//! same tick.

use crate::limits::TICK_ROUNDS;

/// A timestamp of the dataflow.
pub type LiveTime = u64;

/// Round `round` of tick number `tick`. Tick numbers ascend even if the clock is set back.
pub fn timestamp(tick: u64, round: u64) -> LiveTime {
    // One integer instead of a pair: timely orders times completely then, and a frontier is a
    // single number.
    tick * TICK_ROUNDS + round
}

/// The tick number of a timestamp.
pub fn tick_of(time: LiveTime) -> u64 {
    time / TICK_ROUNDS
}
