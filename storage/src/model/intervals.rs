//! [`Intervals`]: the deleted times of a series, as closed intervals in milliseconds, sorted, not
//! adjacent.
//!
//! Readers call [`Intervals::retain`]; when a sample is stored again at a deleted time,
//! [`Intervals::remove`] makes the time visible.

use super::{NativeHistogram, TimeMs};
use std::sync::Arc;

/// A set of times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intervals(Vec<(TimeMs, TimeMs)>);

impl Intervals {
    /// Adds `from..=to`; does nothing if that is empty.
    pub fn add(&mut self, mut from: TimeMs, mut to: TimeMs) {
        if from > to {
            return;
        }
        // Intervals that overlap or are adjacent are merged.
        let first = self.0.partition_point(|(_, end)| end.saturating_add(1) < from);
        let behind = self.0.partition_point(|(start, _)| *start <= to.saturating_add(1));
        if first < behind {
            from = from.min(self.0[first].0);
            to = to.max(self.0[behind - 1].1);
        }
        self.0.splice(first..behind, [(from, to)]);
    }

    /// Whether `t` is in the set.
    pub fn covers(&self, t: TimeMs) -> bool {
        self.covers_all(t, t)
    }

    /// Whether all times of `from..=to` are in the set.
    pub fn covers_all(&self, from: TimeMs, to: TimeMs) -> bool {
        let at = self.0.partition_point(|(_, end)| *end < from);
        self.0.get(at).is_some_and(|(start, end)| *start <= from && to <= *end)
    }

    /// Removes `t`. Returns whether it was in the set.
    pub fn remove(&mut self, t: TimeMs) -> bool {
        let at = self.0.partition_point(|(_, end)| *end < t);
        let Some(&(start, end)) = self.0.get(at).filter(|(start, _)| *start <= t) else { return false };
        let before = (start < t).then(|| (start, t - 1));
        let after = (t < end).then(|| (t + 1, end));
        self.0.splice(at..=at, before.into_iter().chain(after));
        true
    }

    /// Removes all times before `end`. Returns whether the set is empty now.
    pub fn remove_before(&mut self, end: TimeMs) -> bool {
        self.0.retain(|(_, to)| *to >= end);
        if let Some((from, _)) = self.0.first_mut() {
            *from = (*from).max(end);
        }
        self.0.is_empty()
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Removes from `ts[base..]` and `vs[base..]` (parallel, in any order) the samples at times in
    /// the set.
    pub fn retain(&self, base: usize, ts: &mut Vec<TimeMs>, vs: &mut Vec<f64>) {
        let mut kept = base;
        for i in base..ts.len() {
            if !self.covers(ts[i]) {
                ts[kept] = ts[i];
                vs[kept] = vs[i];
                kept += 1;
            }
        }
        ts.truncate(kept);
        vs.truncate(kept);
    }

    /// As [`Intervals::retain_pairs`], for histograms in time order. Clears the hint *not reset* of
    /// a histogram after a removed one.
    pub fn retain_histograms(&self, base: usize, all: &mut Vec<(TimeMs, Arc<NativeHistogram>)>) {
        let mut gone = false;
        for (t, h) in &mut all[base..] {
            let behind = std::mem::replace(&mut gone, self.covers(*t));
            if behind && !gone {
                h.clear_reset_hint();
            }
        }
        self.retain_pairs(base, all);
    }

    /// As [`Intervals::retain`], for pairs.
    pub fn retain_pairs<T>(&self, base: usize, pairs: &mut Vec<(TimeMs, T)>) {
        let mut at = 0;
        pairs.retain(|(t, _)| {
            at += 1;
            at <= base || !self.covers(*t)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn the_same_as_a_set_of_times(
            steps in proptest::collection::vec((0u8..4, 0i64..40, 0i64..12), 0..20),
            asked in proptest::collection::vec((0i64..50, 0i64..6), 0..20),
        ) {
            let mut set = BTreeSet::new();
            let mut intervals = Intervals::default();
            for (what, t, len) in steps {
                match what {
                    0 | 1 => {
                        set.extend(t..=t + len);
                        intervals.add(t, t + len);
                    }
                    2 => prop_assert_eq!(intervals.remove(t), set.remove(&t)),
                    _ => {
                        set.retain(|at| *at >= t);
                        prop_assert_eq!(intervals.remove_before(t), set.is_empty());
                    }
                }
                prop_assert!(intervals.0.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
            }
            for (t, len) in asked {
                prop_assert_eq!(intervals.covers_all(t, t + len), (t..=t + len).all(|at| set.contains(&at)));
            }
            let (mut ts, mut vs): (Vec<i64>, Vec<f64>) = (0..60).map(|t| (t, t as f64)).unzip();
            let mut pairs: Vec<(i64, i64)> = (0..60).map(|t| (t, t)).collect();
            intervals.retain(2, &mut ts, &mut vs);
            intervals.retain_pairs(2, &mut pairs);
            let want: Vec<i64> = (0..60).filter(|t| *t < 2 || !set.contains(t)).collect();
            prop_assert_eq!(&ts, &want);
            prop_assert_eq!(vs, want.iter().map(|t| *t as f64).collect::<Vec<_>>());
            prop_assert_eq!(pairs, want.iter().map(|t| (*t, *t)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_ends_of_time() {
        let mut all = Intervals::default();
        all.add(TimeMs::MIN, TimeMs::MAX);
        all.add(3, 2);
        assert!(all.covers_all(TimeMs::MIN, TimeMs::MAX));
        assert!(all.remove(TimeMs::MAX) && all.remove(TimeMs::MIN) && !all.covers(TimeMs::MIN));
    }
}
