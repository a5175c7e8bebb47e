//! The wall clock: the one place in this crate that reads it.

use std::time::{SystemTime, UNIX_EPOCH};
use storage::clock::Clock;
use storage::model::TimeMs;

/// The operating system's clock.
#[derive(Copy, Clone, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> TimeMs {
        // Before 1970 the clock is broken; the epoch is as good as any.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as TimeMs)
    }
}
