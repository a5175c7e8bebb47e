//! Start timestamps: since when a counter counts, according to its samples. A start after the
//! previous sample means a reset, which the values may not show.

use super::Window;
use storage::model::TimeMs;

/// A sample's time and its start timestamp, 0 if that is not known.
#[derive(Copy, Clone, Debug)]
pub(super) struct StartedSample {
    /// Time of the sample.
    pub t: TimeMs,
    /// Start timestamp.
    pub start: TimeMs,
}

impl StartedSample {
    /// The sample of `w` at `t`.
    pub(super) fn at(w: &Window, t: TimeMs) -> StartedSample {
        StartedSample { t, start: if w.starts.is_empty() { 0 } else { w.start_of(t) } }
    }

    /// Whether the counter was reset since `before`. A start equal to the time of `before` is a
    /// reset if the start of `before` is known and valid: then the series has differences (delta
    /// temporality). A start at or after its own sample is ignored.
    pub(super) fn reset_since(self, before: StartedSample) -> bool {
        if self.start == 0 || self.start >= self.t || self.start < before.t {
            return false;
        }
        self.start > before.t || (before.start != 0 && before.start < before.t)
    }

    /// Whether it claims to count from before the previous sample, but not from the start of that
    /// one.
    pub(super) fn overlaps(self, before: StartedSample) -> bool {
        self.start != 0 && self.start < before.t && self.start != before.start
    }

    /// The start, if it is in the window and before the sample.
    pub(super) fn started_in(self, w: &Window) -> Option<TimeMs> {
        (self.start != 0 && self.start > w.start && self.start < self.t).then_some(self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_behind_the_sample_before_is_a_reset() {
        let at = |t, start| StartedSample { t, start };
        for (before, now, reset, overlap) in [
            (at(10, 5), at(20, 15), true, false),
            (at(10, 5), at(20, 5), false, false),
            (at(10, 5), at(20, 10), true, false),  // differences
            (at(10, 0), at(20, 10), false, false), // a counter of unknown start
            (at(10, 10), at(20, 10), false, false),
            (at(10, 11), at(20, 10), false, false), // nonsense before
            (at(10, 5), at(20, 20), false, false),
            (at(10, 5), at(20, 25), false, false),
            (at(10, 5), at(20, 0), false, false),
            (at(10, 5), at(20, 7), false, true),
        ] {
            assert_eq!(now.reset_since(before), reset, "{before:?} {now:?}");
            assert_eq!(now.overlaps(before), overlap, "{before:?} {now:?}");
        }
    }
}
