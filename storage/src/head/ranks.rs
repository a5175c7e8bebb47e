//! The order of series by their labels, as a rank (a number) per slot (the number of a series in
//! its shard): readers sort numbers instead of labels.
//!
//! The labels of a slot never change, so the order of two ranked slots stays right. New series get
//! no rank when they are created, but when a reader first needs it. Only a limited number is ranked
//! at a time, because this runs under the lock of the shard.

use super::paged_vec::PagedVec;
use super::series::HeadSeries;
use crate::limits::{RANKED_AT_ONCE, RANKED_SHARE};

/// The ranks, by slot.
#[derive(Default)]
pub(super) struct Ranks {
    /// The rank of each slot, plus 1; 0: the slot has no rank yet. So a page of slots without ranks
    /// is not allocated.
    of: PagedVec<u32>,
    /// How many slots have a rank.
    ranked: usize,
}

impl Ranks {
    /// Sorts slots by their labels. The slots must have labels and be distinct. Returns false, and
    /// leaves the order, if not all slots have a rank. Unranked slots then get ranks, up to
    /// [`RANKED_AT_ONCE`] per call, unless `slots` is so small a share of the ranked ones that
    /// sorting labels is cheaper.
    pub(super) fn sort(&mut self, slots: &mut [u32], series: &PagedVec<HeadSeries>) -> bool {
        let unranked: Vec<u32> = slots.iter().copied().filter(|slot| self.rank(*slot).is_none()).collect();
        if !unranked.is_empty() {
            if slots.len() < self.ranked / RANKED_SHARE {
                return false;
            }
            let now = unranked.len().min(RANKED_AT_ONCE);
            self.add(unranked[..now].to_vec(), series);
            if now < unranked.len() {
                return false;
            }
        }
        // Rank and slot in one number: sorting numbers needs no look at the ranks.
        let key = |slot: &u32| u64::from(self.rank(*slot).unwrap_or(0)) << 32 | u64::from(*slot);
        let mut keys: Vec<u64> = slots.iter().map(key).collect();
        keys.sort_unstable();
        for (slot, key) in slots.iter_mut().zip(keys) {
            *slot = key as u32;
        }
        true
    }

    fn rank(&self, slot: u32) -> Option<u32> {
        self.of.get(slot as usize)?.checked_sub(1)
    }

    /// Ranks slots that have no rank. Slots whose series are inactive lose theirs.
    fn add(&mut self, mut fresh: Vec<u32>, series: &PagedVec<HeadSeries>) {
        let labels = |slot: u32| &series[slot as usize].labels;
        let order = self.order(series);
        fresh.sort_unstable_by(|a, b| labels(*a).cmp(labels(*b)));
        self.of = PagedVec::default();
        self.of.extend_to(series.len());
        self.ranked = 0;
        let mut rest = &order[..];
        for slot in fresh {
            let before = rest.partition_point(|known| labels(*known) < labels(slot));
            for known in &rest[..before] {
                self.push(*known);
            }
            self.push(slot);
            rest = &rest[before..];
        }
        for known in rest {
            self.push(*known);
        }
    }

    /// Gives the slot the next rank.
    fn push(&mut self, slot: u32) {
        self.ranked += 1;
        self.of[slot as usize] = self.ranked as u32;
    }

    /// The slots that have a rank and labels, in the order of their ranks.
    fn order(&self, series: &PagedVec<HeadSeries>) -> Vec<u32> {
        let mut order = vec![0; self.ranked];
        for (slot, rank) in self.of.iter().filter(|(_, rank)| **rank != 0) {
            order[*rank as usize - 1] = slot;
        }
        order.retain(|slot| !series[*slot as usize].labels.is_empty());
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Labels;
    use proptest::prelude::*;

    fn labels(number: u32) -> Labels {
        Labels::from_pairs([("a", (number % 7).to_string()), ("b", number.to_string())])
    }

    fn head_series(labels: Labels) -> HeadSeries {
        let mut series = HeadSeries::default();
        series.labels = labels;
        series
    }

    proptest! {
        #[test]
        fn ranks_are_the_order_of_labels(
            numbers in Just((0..400_u32).collect::<Vec<u32>>()).prop_shuffle(),
            steps in proptest::collection::vec((1..400_usize, any::<bool>(), 1..60_usize), 1..20),
        ) {
            let mut series: PagedVec<HeadSeries> = PagedVec::default();
            for n in &numbers {
                series.push(head_series(labels(*n)));
            }
            let mut ranks = Ranks::default();
            for (slots, end, stride) in steps {
                let mut found: Vec<u32> = (0..slots as u32).step_by(stride).collect();
                let mut expected = found.clone();
                expected.sort_by_key(|slot| labels(numbers[*slot as usize]));
                if ranks.sort(&mut found, &series) {
                    prop_assert_eq!(found, expected);
                } else {
                    prop_assert!(found.len() < ranks.ranked / RANKED_SHARE);
                }
                // Some series become inactive, and come back before the next query.
                let gone: Vec<usize> = (0..400).step_by(stride + 1).filter(|_| end).collect();
                for slot in &gone {
                    series[*slot].labels = Labels::default();
                }
                ranks.add(Vec::new(), &series);
                for slot in &gone {
                    series[*slot].labels = labels(numbers[*slot]);
                }
            }
        }
    }

    #[test]
    fn very_many_get_their_ranks_little_by_little() {
        let mut series: PagedVec<HeadSeries> = PagedVec::default();
        let n = 2 * RANKED_AT_ONCE as u32 + 5;
        for n in 0..n {
            series.push(head_series(labels(n)));
        }
        let mut ranks = Ranks::default();
        let all: Vec<u32> = (0..n).collect();
        let done: Vec<bool> = (0..4).map(|_| ranks.sort(&mut all.clone(), &series)).collect();
        assert_eq!(done, [false, false, true, true]);
    }
}
