//! The grid of a group, and which of its slots is due.

use storage::model::TimeMs;

/// The grid of a group: `k * interval + offset`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct EvaluationGrid {
    pub interval: i64,
    pub offset: i64,
    pub next: TimeMs,
}

impl EvaluationGrid {
    /// The grid of a group, from the first slot after `now`. All groups of one interval share it, so that all
    /// their rules see one cut. (Prometheus shifts each group by a hash to spread the work; here the work
    /// follows the samples, and a grid per group would cost a tick per group.)
    pub fn new(interval: i64, now: TimeMs) -> EvaluationGrid {
        let interval = interval.max(1);
        let mut slots = EvaluationGrid { interval, offset: 0, next: 0 };
        slots.next = slots.last(now) + interval;
        slots
    }

    /// The last slot at or before `t`.
    fn last(&self, t: TimeMs) -> TimeMs {
        t - (t - self.offset).rem_euclid(self.interval)
    }

    /// The slot that is due at `t`, and how many were skipped before it.
    pub fn take(&mut self, t: TimeMs) -> Option<(TimeMs, u64)> {
        if t < self.next {
            return None;
        }
        let slot = self.last(t);
        let missed = (slot - self.next) / self.interval;
        self.next = slot + self.interval;
        Some((slot, missed as u64))
    }
}
