//! The change log of a shard: for each earlier append, the oldest time that was changed since then.
//!
//! Appends are numbered. An append is dropped from the list when a later one is at least as old, so
//! times and numbers ascend together, and a lookup is a binary search. The size is bounded: times
//! are rounded to seconds, and entries far in the past, where precision matters little, are merged
//! ([`ChangeLog::thin`]). All rounding is towards older times, so a caller may recompute too much
//! but never too little. [`super::changed_since`] uses it.

use crate::limits::CHANGE_LOG_ENTRIES;
use crate::model::TimeMs;

/// Resolution of the times, ms.
const GRAIN_MS: i64 = 1_000;
/// Two merged times differ by at most this part (1/16) of their age.
const PRECISION: i64 = 16;

/// The oldest changed times of a shard's appends.
#[derive(Debug, Default)]
pub(super) struct ChangeLog {
    /// Number of appends so far.
    made: u64,
    /// (Number of an append, oldest time in grains), both ascending. The time is the oldest of all
    /// appends after the entry before.
    oldest: Vec<(u64, i64)>,
}

impl ChangeLog {
    /// Notes a change at `t`, and possibly later times.
    pub(super) fn add(&mut self, t: TimeMs) {
        self.made += 1;
        let time = t.div_euclid(GRAIN_MS);
        // A reader that has not seen the earlier append has not seen this one either, and this one
        // is at least as old.
        while self.oldest.last().is_some_and(|last| last.1 >= time) {
            self.oldest.pop();
        }
        if self.oldest.len() >= CHANGE_LOG_ENTRIES {
            self.thin(time);
        }
        self.oldest.push((self.made, time));
    }

    /// Number of changes so far.
    pub(super) fn made(&self) -> u64 {
        self.made
    }

    /// A lower bound of the times of all changes after the first `seen`; `None` if there are none.
    pub(super) fn since(&self, seen: u64) -> Option<TimeMs> {
        let at = self.oldest.partition_point(|(number, _)| *number <= seen);
        self.oldest.get(at).map(|(_, time)| time.saturating_mul(GRAIN_MS))
    }

    /// Makes space: merges entries that are close to each other compared with their age.
    fn thin(&mut self, now: i64) {
        let mut kept: Vec<(u64, i64)> = Vec::with_capacity(CHANGE_LOG_ENTRIES);
        for (number, time) in self.oldest.drain(..) {
            let apart = |first: i64| time.saturating_sub(first).saturating_mul(PRECISION);
            match kept.last_mut().filter(|last| apart(last.1) <= now.saturating_sub(time)) {
                Some(last) => last.0 = number,
                None => kept.push((number, time)),
            }
        }
        if kept.len() > CHANGE_LOG_ENTRIES / 2 {
            // Times that jump back and forth do not merge well: make one entry of the older half.
            let first = kept[0].1;
            kept.drain(..kept.len() / 2);
            kept[0].1 = first;
        }
        self.oldest = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_oldest_since_is_told() {
        let mut arrivals = ChangeLog::default();
        assert_eq!(arrivals.since(0), None);
        for t in [10_000, 11_999, 5_500, 7_000, 12_000].into_iter() {
            arrivals.add(t);
        }
        let told: Vec<Option<i64>> = (0..=5).map(|seen| arrivals.since(seen)).collect();
        let expected = [Some(5_000), Some(5_000), Some(5_000), Some(7_000), Some(12_000), None];
        assert_eq!(told, expected, "in whole seconds, rounded down");
        arrivals.add(TimeMs::MIN);
        assert!(arrivals.since(5).is_some_and(|t| t < -1_000_000_000_000_000_000));
    }

    #[test]
    fn long_ago_is_told_less_precisely() {
        let mut arrivals = ChangeLog::default();
        for second in 0..100_000 {
            arrivals.add(second * 1_000);
        }
        assert!(arrivals.oldest.len() <= CHANGE_LOG_ENTRIES);
        for back in [1, 10, 100, 1_000, 10_000, 99_999_u64] {
            let exact = (100_000 - back as i64) * 1_000;
            let told = arrivals.since(100_000 - back);
            let told = told.expect("something came");
            assert!(told <= exact && told >= exact - back as i64 * 1_000 / 8, "{back} s ago: {told}");
        }
    }

    proptest! {
        #[test]
        fn nothing_older_came(times in proptest::collection::vec((0..40_000_000_i64, 0..6_u8), 1..4_000)) {
            let mut arrivals = ChangeLog::default();
            let mut all = Vec::new();
            let mut now = 0;
            for (far, kind) in times {
                // Mostly forward in seconds, sometimes in jumps, sometimes back.
                now += match kind { 0 => far, 1 => -far / 100, _ => far % 3_000 };
                arrivals.add(now);
                all.push(now);
                assert!(arrivals.oldest.len() <= CHANGE_LOG_ENTRIES);
            }
            let mut least = i64::MAX;
            for seen in (0..all.len()).rev() {
                least = least.min(all[seen]);
                let told = arrivals.since(seen as u64);
                prop_assert!(told.is_some_and(|told| told <= least), "{told:?} > {least}");
            }
            prop_assert_eq!(arrivals.since(all.len() as u64), None);
        }
    }
}
