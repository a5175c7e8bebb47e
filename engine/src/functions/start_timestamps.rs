//! Start timestamps: since when a counter counts, as its samples say it. A start behind the sample
//! before tells of a reset that the values may hide.

use super::Window;
use storage::model::TimeMs;

/// A sample's time and its start timestamp, 0 if that is not known.
#[derive(Copy, Clone, Debug)]
pub(super) struct StartedSample {
    /// Time.
    pub t: TimeMs,
    /// Start timestamp.
    pub start: TimeMs,
}

impl StartedSample {
    /// The sample of `w` at `t`.
    pub fn of(w: &Window, t: TimeMs) -> StartedSample {
        StartedSample { t, start: if w.starts.is_empty() { 0 } else { w.start_of(t) } }
    }

    /// Whether the counter was reset since `before`. A start at the sample before is a reset where
    /// that one's own start is known and sensible: then the series holds differences. Starts at or
    /// behind their own sample say nothing.
    pub fn reset_since(self, before: StartedSample) -> bool {
        if self.start == 0 || self.start >= self.t || self.start < before.t {
            return false;
        }
        self.start > before.t || (before.start != 0 && before.start < before.t)
    }

    /// Whether it claims to count from before the sample before, and not from where that one does.
    pub fn overlaps(self, before: StartedSample) -> bool {
        self.start != 0 && self.start < before.t && self.start != before.start
    }

    /// Its start, if it lies in the window and before the sample.
    pub fn started_in(self, w: &Window) -> Option<TimeMs> {
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
