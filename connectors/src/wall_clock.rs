//! [`SystemClock`]: the wall clock. No other file of this crate reads it; simulations have their
//! own.

use std::time::{SystemTime, UNIX_EPOCH};
use storage::clock::Clock;
use storage::model::TimeMs;

/// The clock of the operating system.
#[derive(Copy, Clone, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> TimeMs {
        // A clock before 1970 is broken; the epoch is as good as any other value.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as TimeMs)
    }
}
