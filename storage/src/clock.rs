//! The clock as a parameter: the storage engine and the query engine never read the system time
//! themselves.

use crate::model::TimeMs;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

/// A source of time.
pub trait Clock: Send + Sync {
    /// Milliseconds since the Unix epoch.
    fn now(&self) -> TimeMs;
}

/// A clock that a test moves by hand.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that stands at `t`.
    pub fn at(t: TimeMs) -> ManualClock {
        ManualClock(AtomicI64::new(t))
    }
    /// Moves the clock to `t`.
    pub fn set(&self, t: TimeMs) {
        self.0.store(t, SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> TimeMs {
        self.0.load(SeqCst)
    }
}
