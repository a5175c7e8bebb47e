//! [`EvaluationGrid`]: the evaluation times of a rule group, which are the multiples of its
//! interval, and which of them is due.

use storage::model::TimeMs;

/// The evaluation times of a group: `k * interval + offset`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct EvaluationGrid {
    /// Time between evaluations, ms.
    pub interval: i64,
    /// Offset of the evaluation times, ms.
    pub offset: i64,
    /// The next evaluation time, ms.
    pub next: TimeMs,
}

impl EvaluationGrid {
    /// The evaluation times of a group, from the first one after `now`. All groups with one
    /// interval share them, so that all rules see the same data. (Prometheus shifts each group by a
    /// hash to spread the work. Here the work follows the samples, and separate times would cost a
    /// tick per group.)
    pub(crate) fn new(interval: i64, now: TimeMs) -> EvaluationGrid {
        let interval = interval.max(1);
        let mut evaluation_times = EvaluationGrid { interval, offset: 0, next: 0 };
        evaluation_times.next = evaluation_times.last(now) + interval;
        evaluation_times
    }

    /// The last evaluation time at or before `t`.
    fn last(&self, t: TimeMs) -> TimeMs {
        t - (t - self.offset).rem_euclid(self.interval)
    }

    /// The evaluation time that is due at `t`, and how many before it were missed.
    pub(crate) fn take_due(&mut self, t: TimeMs) -> Option<(TimeMs, u64)> {
        if t < self.next {
            return None;
        }
        let evaluation_time = self.last(t);
        // Counted and skipped: Prometheus does not evaluate the past either.
        let missed = (evaluation_time - self.next) / self.interval;
        self.next = evaluation_time + self.interval;
        Some((evaluation_time, missed as u64))
    }
}
