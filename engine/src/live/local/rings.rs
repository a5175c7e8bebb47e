//! Which selector has which ring: the numbers are the same in every shard and on every worker.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use storage::model::Matcher;

/// The rings by selector, with their numbers of readers.
pub(super) struct RingTable {
    ids: HashMap<Arc<[Matcher]>, usize>,
    entries: Vec<Option<RingEntry>>,
    free: BTreeSet<usize>,
    /// Rings that do not reach back as far as their readers need.
    short: BTreeSet<usize>,
    /// (near, long) in ms: a ring that reaches back further than `long` may have spilled rows older
    /// than `near`.
    spill: (i64, i64),
}

struct RingEntry {
    matchers: Arc<[Matcher]>,
    readers: u32,
    /// How far back it must reach, in ms.
    retention: i64,
}

impl RingTable {
    /// A table without rings. Rings that reach back more than `long` ms may spill rows older than
    /// `near` ms.
    pub(super) fn new((near, long): (i64, i64)) -> RingTable {
        RingTable {
            ids: HashMap::new(),
            entries: Vec::new(),
            free: BTreeSet::new(),
            short: BTreeSet::new(),
            spill: (near, long),
        }
    }

    /// The ring for one more reader, which looks back `retention` ms.
    pub(super) fn acquire(&mut self, matchers: &[Matcher], retention: i64) -> usize {
        let ring = match self.ids.get(matchers) {
            Some(ring) => *ring,
            None => self.add(matchers),
        };
        if let Some(entry) = &mut self.entries[ring] {
            let (near, long) = self.spill;
            entry.readers += 1;
            if entry.retention < retention || entry.retention > long && retention > near {
                entry.retention = entry.retention.max(retention);
                self.short.insert(ring);
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
        self.short.remove(&ring);
        self.free.insert(ring);
        Some(ring)
    }

    /// From now on new readers of a selector (`None`: of any) get a new ring.
    pub(super) fn retire(&mut self, selector: Option<&[Matcher]>) {
        match selector {
            Some(matchers) => drop(self.ids.remove(matchers)),
            None => self.ids.clear(),
        }
    }

    /// Has all rings read again that may have spilled rows.
    pub(super) fn want_all(&mut self) {
        let long = |(ring, entry): (usize, &Option<RingEntry>)| {
            entry.as_ref().is_some_and(|entry| entry.retention > self.spill.1).then_some(ring)
        };
        self.short.extend(self.entries.iter().enumerate().filter_map(long));
    }

    /// The rings that must reach further back than at the last call: number, selector, retention in
    /// ms.
    pub(super) fn take_short(&mut self) -> Vec<(usize, Arc<[Matcher]>, i64)> {
        let short = std::mem::take(&mut self.short);
        let of = |ring: usize| {
            let entry = self.entries[ring].as_ref()?;
            Some((ring, entry.matchers.clone(), entry.retention))
        };
        short.into_iter().filter_map(of).collect()
    }

    /// The rings that new readers get.
    pub(super) fn current(&self) -> impl Iterator<Item = (&[Matcher], usize)> {
        self.ids.iter().map(|(matchers, ring)| (&**matchers, *ring))
    }
}
