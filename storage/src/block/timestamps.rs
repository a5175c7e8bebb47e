//! [`TimestampColumn`]: a clock in memory, which is a list of timestamps that many series of a
//! block share. Scrapes come at even intervals except for milliseconds, so one or two bytes per
//! timestamp are enough.
//!
//! The clocks of all local blocks are in memory. With eight bytes per timestamp, a thousand targets
//! scraped every 15 s would take 46 MB per day of retention. [`super::timestamp_table`] describes
//! the format in the file.

use crate::model::TimeMs;
use std::ops::Range;

/// Ascending timestamps.
pub(super) struct TimestampColumn {
    /// The first timestamp, ms.
    base: TimeMs,
    /// The even interval, ms.
    step: TimeMs,
    /// How much later than even each timestamp is.
    late: TimeOffsets,
}

/// How much later each timestamp is than `base` plus the steps up to it.
enum TimeOffsets {
    Byte(Box<[u8]>),
    Short(Box<[u16]>),
    /// The timestamps themselves; `base` and `step` are 0.
    Whole(Box<[TimeMs]>),
}

impl TimestampColumn {
    /// Compresses these timestamps.
    pub(super) fn new(ts: &[TimeMs]) -> TimestampColumn {
        packed(ts).unwrap_or_else(|| TimestampColumn {
            base: 0,
            step: 0,
            late: TimeOffsets::Whole(ts.into()),
        })
    }

    pub(super) fn len(&self) -> usize {
        match &self.late {
            TimeOffsets::Byte(late) => late.len(),
            TimeOffsets::Short(late) => late.len(),
            TimeOffsets::Whole(late) => late.len(),
        }
    }

    /// The timestamp at index `i`, which must be less than [`TimestampColumn::len`].
    pub(super) fn at(&self, i: usize) -> TimeMs {
        let late = match &self.late {
            TimeOffsets::Byte(late) => i64::from(late[i]),
            TimeOffsets::Short(late) => i64::from(late[i]),
            TimeOffsets::Whole(late) => late[i],
        };
        self.even(i) + late
    }

    /// All timestamps.
    pub(super) fn iter(&self) -> impl Iterator<Item = TimeMs> {
        (0..self.len()).map(|i| self.at(i))
    }

    /// First and last timestamp.
    pub(super) fn ends(&self) -> Option<(TimeMs, TimeMs)> {
        let last = self.len().checked_sub(1)?;
        Some((self.at(0), self.at(last)))
    }

    /// Number of timestamps before `t`.
    pub(super) fn before(&self, t: TimeMs) -> usize {
        let mut low = 0;
        let mut high = self.len();
        while low < high {
            let middle = low.midpoint(high);
            if self.at(middle) < t { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// Appends the timestamps in `range`.
    pub(super) fn push(&self, range: Range<usize>, ts: &mut Vec<TimeMs>) {
        let even = range.clone().map(|i| self.even(i));
        match &self.late {
            TimeOffsets::Byte(late) => {
                ts.extend(even.zip(&late[range]).map(|(t, late)| t + i64::from(*late)))
            }
            TimeOffsets::Short(late) => {
                ts.extend(even.zip(&late[range]).map(|(t, late)| t + i64::from(*late)))
            }
            TimeOffsets::Whole(late) => ts.extend_from_slice(&late[range]),
        }
    }

    fn even(&self, i: usize) -> TimeMs {
        self.base + self.step * i as i64
    }
}

/// Compresses timestamps. `None` if they are too uneven.
fn packed(ts: &[TimeMs]) -> Option<TimestampColumn> {
    let first = *ts.first()?;
    let last = *ts.last()?;
    let step = last.checked_sub(first)?.checked_div(ts.len() as i64 - 1).unwrap_or(0);
    let late = |(i, t): (usize, &TimeMs)| t.checked_sub(first)?.checked_sub(step.checked_mul(i as i64)?);
    let late: Vec<i64> = ts.iter().enumerate().map(late).collect::<Option<_>>()?;
    let least = *late.iter().min()?;
    let most = *late.iter().max()?;
    let base = first.checked_add(least)?;
    // No sum of base and steps may overflow: the sums are between the timestamps, or slightly
    // before the first.
    base.checked_add(step.checked_mul(ts.len() as i64)?)?;
    let beyond = late.iter().map(|late| late - least);
    let late = match most.checked_sub(least)? {
        0..=0xff => TimeOffsets::Byte(beyond.map(|late| late as u8).collect()),
        0x100..=0xffff => TimeOffsets::Short(beyond.map(|late| late as u16).collect()),
        _ => return None,
    };
    Some(TimestampColumn { base, step, late })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn times() -> impl Strategy<Value = Vec<TimeMs>> {
        let jitter = prop_oneof![Just(1i64), Just(20), Just(3_000), Just(90_000), Just(i64::MAX)];
        let even = (jitter, -1_000_000i64..1_000_000, 0i64..20_000, 0usize..60).prop_flat_map(
            |(jitter, first, step, len)| {
                prop::collection::vec(0..jitter, len).prop_map(move |late| {
                    let time = |(i, late): (usize, &i64)| late.saturating_add(first + step * i as i64);
                    late.iter().enumerate().map(time).collect::<Vec<_>>()
                })
            },
        );
        let odd = prop_oneof![Just(i64::MIN), Just(i64::MAX), Just(0), any::<i64>()];
        prop_oneof![4 => even, 1 => prop::collection::vec(odd, 0..6)].prop_map(|mut ts| {
            ts.sort_unstable();
            ts.dedup();
            ts
        })
    }

    proptest! {
        #[test]
        fn a_clock_is_its_times(ts in times(), t in any::<i64>()) {
            let clock = TimestampColumn::new(&ts);
            let all: Vec<i64> = clock.iter().collect();
            prop_assert_eq!(&all, &ts);
            prop_assert_eq!(clock.ends(), ts.first().copied().zip(ts.last().copied()));
            for t in ts.iter().copied().chain([t]) {
                prop_assert_eq!(clock.before(t), ts.partition_point(|one| *one < t));
            }
            for start in 0..=ts.len() {
                let mut out = vec![7];
                clock.push(start..ts.len(), &mut out);
                prop_assert_eq!(&out[1..], &ts[start..]);
            }
        }
    }

    #[test]
    fn scrapes_take_a_byte_each() {
        let ts: Vec<i64> = (0..480).map(|i| 1_795_000_000_000 + i * 15_000 + i % 7).collect();
        assert!(matches!(TimestampColumn::new(&ts).late, TimeOffsets::Byte(_)));
    }
}
