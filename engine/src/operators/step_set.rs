//! Sets of steps (the operations of a plan, by number) as bits. The intersection of the steps that
//! are due and those whose inputs changed is what a tick of the live runtime evaluates.

use crate::plan::physical::StepId;

/// A set of small numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepSet(Vec<u64>);

impl StepSet {
    /// Adds `id`.
    pub fn insert(&mut self, id: StepId) {
        if self.0.len() <= id / 64 {
            self.0.resize(id / 64 + 1, 0);
        }
        self.0[id / 64] |= 1 << (id % 64);
    }

    /// Removes `id`.
    pub fn remove(&mut self, id: StepId) {
        if let Some(word) = self.0.get_mut(id / 64) {
            *word &= !(1 << (id % 64));
        }
    }

    /// Whether the set has `id`.
    pub fn contains(&self, id: StepId) -> bool {
        self.0.get(id / 64).is_some_and(|word| word & (1 << (id % 64)) != 0)
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// The difference of the two sets.
    pub fn without(&self, other: &StepSet) -> StepSet {
        let mut rest = self.clone();
        for (word, less) in rest.0.iter_mut().zip(&other.0) {
            *word &= !less;
        }
        rest
    }

    /// The numbers in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = StepId> + '_ {
        let mut from = 0;
        std::iter::from_fn(move || {
            let id = self.next_common(self, from)?;
            from = id + 1;
            Some(id)
        })
    }

    /// Adds all numbers of `other`.
    pub fn extend(&mut self, other: &StepSet) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }

    /// The smallest number that is in both sets and at least `from`.
    pub fn next_common(&self, other: &StepSet, from: StepId) -> Option<StepId> {
        let words = self.0.len().min(other.0.len());
        for at in from / 64..words {
            let above = if at == from / 64 { !0 << (from % 64) } else { !0 };
            let common = self.0[at] & other.0[at] & above;
            if common != 0 {
                return Some(at * 64 + common.trailing_zeros() as usize);
            }
        }
        None
    }
}

impl FromIterator<StepId> for StepSet {
    fn from_iter<I: IntoIterator<Item = StepId>>(ids: I) -> StepSet {
        let mut bits = StepSet::default();
        for id in ids {
            bits.insert(id);
        }
        bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_intersection_is_walked_in_order() {
        let a: StepSet = [1, 63, 64, 200].into_iter().collect();
        let mut b: StepSet = [0, 63, 64, 199, 200, 500].into_iter().collect();
        let walk = |b: &StepSet| {
            let mut found = Vec::new();
            let mut from = 0;
            while let Some(id) = a.next_common(b, from) {
                found.push(id);
                from = id + 1;
            }
            found
        };
        assert_eq!(walk(&b), [63, 64, 200]);
        b.remove(64);
        assert_eq!(walk(&b), [63, 200]);
        assert!(b.contains(500) && !b.contains(64) && !b.contains(5_000));
        assert_eq!(a.without(&b).iter().collect::<Vec<_>>(), [1, 64]);
        assert!(!a.is_empty() && a.without(&a).is_empty());
    }
}
