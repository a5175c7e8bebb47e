//! Which selector has which ring (the recent samples of its series): rings have numbers, which are
//! the same in every shard and in every worker. [`super::shard_rings`] has the rings themselves.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use storage::model::Matcher;

/// The rings by selector, with their numbers of readers.
pub(super) struct RingTable {
    ids: HashMap<Arc<[Matcher]>, usize>,
    entries: Vec<Option<RingEntry>>,
    free: BTreeSet<usize>,
    /// Rings that do not reach back as far as their readers need.
    too_short: BTreeSet<usize>,
    /// Rings have lost their last reader since the last look.
    freed: bool,
    spill: SpillBounds,
}

/// Which rings may spill which rows.
#[derive(Copy, Clone)]
pub(super) struct SpillBounds {
    /// Rows must be older than this, in ms.
    pub min_age: i64,
    /// A ring must reach back further than this, in ms.
    pub min_retention: i64,
}

struct RingEntry {
    matchers: Arc<[Matcher]>,
    readers: u32,
    /// How far back it must reach, in ms.
    retention: i64,
}

impl RingTable {
    /// A table without rings.
    pub(super) fn new(spill: SpillBounds) -> RingTable {
        RingTable {
            ids: HashMap::new(),
            entries: Vec::new(),
            free: BTreeSet::new(),
            too_short: BTreeSet::new(),
            freed: false,
            spill,
        }
    }

    /// The ring for one more reader, which looks back `retention` ms.
    pub(super) fn acquire(&mut self, matchers: &[Matcher], retention: i64) -> usize {
        let ring = match self.ids.get(matchers) {
            Some(ring) => *ring,
            None => self.add(matchers),
        };
        if let Some(entry) = &mut self.entries[ring] {
            let SpillBounds { min_age, min_retention } = self.spill;
            entry.readers += 1;
            // A long ring may have spilled rows that the new reader needs for its first evaluation.
            let may_miss_rows = entry.retention > min_retention && retention > min_age;
            if entry.retention < retention || may_miss_rows {
                entry.retention = entry.retention.max(retention);
                self.too_short.insert(ring);
            }
        }
        ring
    }

    fn add(&mut self, matchers: &[Matcher]) -> usize {
        let ring = self.free.pop_first().unwrap_or(self.entries.len());
        if ring == self.entries.len() {
            self.entries.push(None);
        }
        let matchers: Arc<[Matcher]> = matchers.into();
        self.entries[ring] = Some(RingEntry { matchers: matchers.clone(), readers: 0, retention: 0 });
        self.ids.insert(matchers, ring);
        ring
    }

    /// Removes a reader. Returns the ring's number if it was the last.
    pub(super) fn release(&mut self, ring: usize) -> Option<usize> {
        let entry = self.entries[ring].as_mut()?;
        entry.readers -= 1;
        if entry.readers > 0 {
            return None;
        }
        if self.ids.get(&entry.matchers) == Some(&ring) {
            self.ids.remove(&entry.matchers);
        }
        self.entries[ring] = None;
        self.too_short.remove(&ring);
        self.free.insert(ring);
        self.freed = true;
        Some(ring)
    }

    /// Whether rings have lost their last reader since the last call.
    pub(super) fn take_freed(&mut self) -> bool {
        std::mem::take(&mut self.freed)
    }

    /// From now on new readers of a selector (`None`: of any) get a new ring.
    pub(super) fn retire(&mut self, selector: Option<&[Matcher]>) {
        match selector {
            Some(matchers) => drop(self.ids.remove(matchers)),
            None => self.ids.clear(),
        }
    }

    /// Has all rings read again that may have spilled rows.
    pub(super) fn mark_all_too_short(&mut self) {
        let long = |entry: &RingEntry| entry.retention > self.spill.min_retention;
        for (ring, entry) in self.entries.iter().enumerate() {
            if entry.as_ref().is_some_and(long) {
                self.too_short.insert(ring);
            }
        }
    }

    /// The rings that must reach further back than at the last call: number, selector, retention in
    /// ms.
    pub(super) fn take_too_short(&mut self) -> Vec<(usize, Arc<[Matcher]>, i64)> {
        let numbers = std::mem::take(&mut self.too_short);
        let of = |ring: usize| {
            let entry = self.entries[ring].as_ref()?;
            Some((ring, entry.matchers.clone(), entry.retention))
        };
        numbers.into_iter().filter_map(of).collect()
    }

    /// The rings that new readers get.
    pub(super) fn current(&self) -> impl Iterator<Item = (&[Matcher], usize)> {
        self.ids.iter().map(|(matchers, ring)| (&**matchers, *ring))
    }
}
