//! Logical time of the dataflow: the number of the tick, and in the low bits the round inside the tick. What time it is at
//! that tick comes with it on the control stream.
//!
//! Rules that read recorded series run one round after the rules that record them, in the same tick.

use crate::limits::TICK_ROUNDS;

/// A time of the dataflow.
pub type LiveTime = u64;

/// Round `round` of tick number `tick`. Numbers ascend whatever the clock does.
pub fn at(tick: u64, round: u64) -> LiveTime {
    tick * TICK_ROUNDS + round
}

/// The number of the tick of a time.
pub fn tick_of(time: LiveTime) -> u64 {
    time / TICK_ROUNDS
}
