//! The clock as a parameter: the storage engine and the query engine never read the system time
//! themselves, so that a test or the simulation decides what time it is.

use crate::model::TimeMs;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

/// A source of time.
///
/// # Contract
/// 1. Milliseconds since the Unix epoch, as the wall clock of the machine says. It may jump in both
///    directions, so nobody may rely on two readings being in order: what has to be monotonic takes
///    the maximum itself.
/// 2. Cheap, and callable from any thread, also under a lock.
/// 3. Everything that belongs to one decision uses one reading: a rule group is evaluated *at* a
///    time, and its samples get this time.
///
/// *Checked:* that `storage` and `engine` read no other clock, by their `clippy.toml`; jumps in
/// both directions by the simulation (`tests/whole_server`). An implementation that breaks clause 1
/// makes samples that are refused as too far in the future, or as too old.
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
