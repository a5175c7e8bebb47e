//! Clocks: timestamp vectors that many series share, each stored once.
//!
//! All series of one scrape have the same timestamps. A series that lacks some of them (a target's metric that
//! came late, a failed parse) uses the clock of its target and names the gaps, if these are fewer than its samples.

use crate::limits::BLOCK_CLOCK_CANDIDATES;
use crate::model::Labels;
use std::collections::HashMap;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// The clocks of a block being written.
#[derive(Default)]
pub(super) struct ClockTable {
    clocks: Vec<Vec<i64>>,
    by_content: HashMap<u64, Vec<u32>>,
    /// Most recent first, by target.
    by_target: HashMap<u64, Vec<u32>>,
}

impl ClockTable {
    /// All clocks; the index is the id.
    pub(super) fn clocks(&self) -> &[Vec<i64>] {
        &self.clocks
    }

    /// The clock for these timestamps of a series of `target`, and the positions in it at which the series has no sample.
    pub(super) fn place(&mut self, target: u64, ts: &[i64]) -> (u32, Vec<u32>) {
        let hash = content(ts);
        let same = self.by_content.get(&hash).into_iter().flatten().copied();
        if let Some(id) = same.into_iter().find(|id| self.clocks[*id as usize] == ts) {
            self.note(target, id);
            return (id, Vec::new());
        }
        let candidates = self.by_target.get(&target).map_or(&[][..], Vec::as_slice);
        let subset = candidates.iter().find_map(|id| Some((*id, gaps(&self.clocks[*id as usize], ts)?)));
        if let Some(found) = subset {
            return found;
        }
        let id = self.clocks.len() as u32;
        self.clocks.push(ts.to_vec());
        self.by_content.entry(hash).or_default().push(id);
        self.note(target, id);
        (id, Vec::new())
    }

    fn note(&mut self, target: u64, id: u32) {
        let recent = self.by_target.entry(target).or_default();
        if recent.first() != Some(&id) {
            recent.retain(|other| *other != id);
            recent.insert(0, id);
            recent.truncate(BLOCK_CLOCK_CANDIDATES);
        }
    }
}

/// What series of one scrape have in common.
pub(super) fn target_of(labels: &Labels) -> u64 {
    let mut hasher = Xxh3::new();
    for name in ["job", "instance"] {
        hasher.update(labels.get(name).unwrap_or("").as_bytes());
        hasher.update(&[0xff]);
    }
    hasher.digest()
}

fn content(ts: &[i64]) -> u64 {
    let mut bytes = Vec::with_capacity(ts.len() * 8);
    ts.iter().for_each(|t| bytes.extend_from_slice(&t.to_le_bytes()));
    xxh3_64(&bytes)
}

/// Positions of `clock` that `ts` lacks; `None` if `ts` is no subset or lacks more than it has.
fn gaps(clock: &[i64], ts: &[i64]) -> Option<Vec<u32>> {
    if clock.len() < ts.len() || clock.len() - ts.len() > ts.len() {
        return None;
    }
    let (mut gaps, mut next) = (Vec::with_capacity(clock.len() - ts.len()), ts.iter().peekable());
    for (at, t) in clock.iter().enumerate() {
        if next.peek() == Some(&t) {
            next.next();
        } else {
            gaps.push(at as u32);
        }
    }
    next.next().is_none().then_some(gaps)
}
