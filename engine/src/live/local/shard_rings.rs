//! The rings of a shard (the recent samples of the series that a selector matches), by number, and
//! by the metric name that their selectors require. The numbers come from [`super::rings`].
//!
//! Most selectors match no series in most shards, so a ring without rows is kept in a small form
//! ([`EmptyRing`]).

use crate::live::ring::{EmptyRing, SampleRing};
use std::collections::{BTreeMap, HashMap};
use storage::model::Labels;

/// The rings of a shard.
#[derive(Default)]
pub(super) struct ShardRings {
    /// Rings that have rows, or had some.
    filled: Vec<Option<Box<SampleRing>>>,
    /// Rings without rows.
    empty: BTreeMap<usize, EmptyRing>,
    by_name: HashMap<String, Vec<usize>>,
    /// Rings whose selectors require no metric name.
    unnamed: Vec<usize>,
}

impl ShardRings {
    /// Makes space for ring `number`, which is requested or exists.
    pub(super) fn make_space(&mut self, number: usize) {
        if self.filled.len() <= number {
            self.filled.resize_with(number + 1, || None);
        }
    }

    /// One more than the largest number of a ring.
    pub(super) fn len(&self) -> usize {
        self.filled.len()
    }

    /// A ring that has rows, or had some.
    pub(super) fn get(&self, number: usize) -> Option<&SampleRing> {
        self.filled.get(number)?.as_deref()
    }

    /// A ring that has rows, or had some.
    pub(super) fn get_mut(&mut self, number: usize) -> Option<&mut SampleRing> {
        self.filled.get_mut(number)?.as_deref_mut()
    }

    /// A ring without rows.
    pub(super) fn empty(&self, number: usize) -> Option<&EmptyRing> {
        self.empty.get(&number)
    }

    /// Whether a ring has rows.
    pub(super) fn has_rows(&self, number: usize) -> bool {
        self.get(number).is_some_and(|ring| !ring.labels.is_empty())
    }

    /// Puts a ring in place. If it replaces one, its rows get the numbers that they had in that
    /// one.
    pub(super) fn prepare(&mut self, number: usize, ring: &mut SampleRing) {
        // Its number is in the index by name already.
        let was_empty = self.empty.remove(&number).is_some();
        match self.filled[number].take() {
            // Leaves and ports have numbers of rows: with other numbers every value of theirs would
            // belong to another series.
            Some(old) => ring.renumber_like(&old),
            None if was_empty => {}
            None => match ring.name() {
                Some(name) => self.by_name.entry(name.to_owned()).or_default().push(number),
                None => self.unnamed.push(number),
            },
        }
    }

    /// Stores a ring for which [`ShardRings::prepare`] was called.
    pub(super) fn store(&mut self, number: usize, ring: SampleRing) {
        match ring.as_empty() {
            // Most rings of a shard have no rows, and the small form has a few dozen bytes.
            Some(empty) => drop(self.empty.insert(number, empty)),
            None => self.filled[number] = Some(Box::new(ring)),
        }
    }

    /// Drops a ring. Returns whether there was one.
    pub(super) fn remove(&mut self, number: usize) -> bool {
        let ring = self.filled.get_mut(number).and_then(Option::take);
        let empty = self.empty.remove(&number);
        if ring.is_none() && empty.is_none() {
            return false;
        }
        match ring.as_ref().map_or_else(|| empty.as_ref()?.name(), |ring| ring.name()) {
            Some(name) => {
                if let Some(rings) = self.by_name.get_mut(name) {
                    rings.retain(|ring| *ring != number);
                    if rings.is_empty() {
                        self.by_name.remove(name);
                    }
                }
            }
            None => self.unnamed.retain(|ring| *ring != number),
        }
        true
    }

    /// From now on a ring grows to `retention` ms. `false`: there is no such ring.
    pub(super) fn extend(&mut self, number: usize, retention: i64) -> bool {
        match (self.filled[number].as_mut(), self.empty.get_mut(&number)) {
            (Some(ring), _) => ring.extend_retention(retention),
            (None, Some(empty)) => empty.extend_retention(retention),
            (None, None) => return false,
        }
        true
    }

    /// How far back the longest ring reaches, in ms.
    pub(super) fn longest_retention(&self) -> i64 {
        let empty = self.empty.values().map(EmptyRing::retention);
        self.filled.iter().flatten().map(|ring| ring.retention()).chain(empty).max().unwrap_or(0)
    }

    /// The rings whose selectors may match a series of this metric name.
    pub(super) fn numbers_for_name(&self, name: &str) -> impl Iterator<Item = usize> + '_ {
        self.by_name.get(name).into_iter().flatten().copied()
    }

    /// The rings whose selectors require no metric name.
    pub(super) fn unnamed(&self) -> impl Iterator<Item = usize> + '_ {
        self.unnamed.iter().copied()
    }

    /// If the ring is empty and its selector matches these labels, it becomes one with rows.
    pub(super) fn fill_if_matching(&mut self, number: usize, labels: &Labels) {
        if self.empty.get(&number).is_some_and(|empty| empty.matches(labels)) {
            self.filled[number] = self.empty.remove(&number).map(|empty| Box::new(empty.ring()));
        }
    }

    /// Calls `add` with a ring, which an empty one becomes if `add` returns something. `None`:
    /// there is no such ring.
    pub(super) fn add_series<R>(
        &mut self,
        number: usize,
        add: impl FnOnce(&mut SampleRing) -> Option<R>,
    ) -> Option<Option<R>> {
        if let Some(ring) = self.filled[number].as_mut() {
            return Some(add(ring));
        }
        // Made for the attempt and dropped if nothing matches. Matching by name comes before, so
        // this is rare.
        let mut ring = self.empty.get(&number)?.ring();
        let added = add(&mut ring);
        if added.is_some() {
            self.empty.remove(&number);
            self.filled[number] = Some(Box::new(ring));
        }
        Some(added)
    }
}
