//! The series that a target exposes, by the bytes that name them in the exposition.
//!
//! A known series costs one comparison: the [`SeriesCache`] expects the series in the order of the
//! last scrape ([`SeriesCache::expected_series`]), and finds others by a hash of their bytes. An
//! entry leads to a [`SeriesTarget`]. Columns and batches are in [`super::scrape_batch`], the
//! admission of new series is in [`super::series_admission`].

use crate::exposition::ExposedSample;
use hashbrown::HashTable;
use storage::vec_growth::reserve_slack;
use xxhash_rust::xxh3::xxh3_64;

/// What the bytes of a series lead to.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum SeriesTarget {
    /// The relabelling rules drop the series.
    Dropped,
    /// The series is new in the current scrape; the number is its index among the new series.
    New(u32),
    /// A series in a part of the scrape batch.
    Series {
        /// The index of the part.
        part: u32,
        /// The slot in the shard of the part.
        slot: u32,
        /// The column in the part; [`NO_COLUMN`] while all samples of the series had timestamps.
        column: u32,
    },
}

/// No column, see [`SeriesTarget::Series`].
pub const NO_COLUMN: u32 = u32::MAX;

/// The index of a series in the cache.
pub type CachedSeriesId = u32;

const NOBODY: u32 = u32::MAX;
/// An order with more lines than twice the number of series plus this comes from a body that
/// repeats itself, and is not remembered.
const ORDER_SLACK: usize = 1 << 16;
/// Entries that are no longer exposed are evicted if there are this many more of them than of
/// others.
const SWEEP_SLACK: usize = 256;

#[derive(Copy, Clone, Debug)]
struct CachedSeries {
    start: u32,
    len: u32,
    place: SeriesTarget,
    /// The position in the order; only valid if the order has this series there.
    position: u32,
}

impl CachedSeries {
    fn bytes_in<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        &text[self.start as usize..][..self.len as usize]
    }
}

/// The series that a target exposes.
#[derive(Default)]
pub struct SeriesCache {
    text: Vec<u8>,
    known: Vec<CachedSeries>,
    /// Indexes by the hash of the bytes.
    ids: HashTable<CachedSeriesId>,
    /// The series of the last complete scrape, line by line.
    order: Vec<CachedSeriesId>,
    cursor: usize,
    /// The order of the current scrape, once it differs from the last.
    new_order: Option<Vec<u32>>,
    /// Whether the order of the current scrape is too long to be remembered.
    orderless: bool,
    /// Entries from this index on are new in the current scrape.
    first_new: usize,
}

impl SeriesCache {
    /// The bytes of the series that the next line probably has; empty if there is no expectation.
    #[inline]
    pub fn expected_series(&self) -> &[u8] {
        self.order.get(self.cursor).map_or(&[], |id| self.bytes(*id))
    }

    /// Finds the entry of a sample's series; `None` if the bytes are new: then add them with
    /// [`SeriesCache::admit`].
    #[inline]
    pub fn find(&mut self, sample: &ExposedSample<'_>) -> Option<CachedSeriesId> {
        // The parser has compared the bytes already.
        if sample.guessed {
            let id = self.order[self.cursor];
            self.cursor += 1;
            // The order differs from that of the last scrape, so the new one is being written down.
            if self.new_order.is_some() {
                self.remember(id);
            }
            return Some(id);
        }
        self.find_out_of_order(sample.series)
    }

    /// Records that the next line of this scrape has this series.
    fn remember(&mut self, id: CachedSeriesId) {
        let order = &self.order;
        let cursor = self.cursor;
        let new_order = self.new_order.get_or_insert_with(|| order[..cursor].to_vec());
        // A body may name the same series a million times. Its order is worth nothing, and would be
        // remembered for as long as the target lives.
        if new_order.len() > 2 * self.known.len() + ORDER_SLACK {
            self.orderless = true;
            *new_order = Vec::new();
        }
        if !self.orderless {
            new_order.push(id);
        }
    }

    fn find_out_of_order(&mut self, series: &[u8]) -> Option<CachedSeriesId> {
        let id = self.lookup(series)?;
        self.remember(id);
        let position = self.known[id as usize].position as usize;
        // The body goes on where this series was before: after a line that was inserted or removed,
        // all following guesses are right again.
        if self.order.get(position) == Some(&id) {
            self.cursor = position + 1;
        }
        Some(id)
    }

    /// Finds the entry with these bytes.
    pub fn lookup(&self, series: &[u8]) -> Option<CachedSeriesId> {
        self.ids.find(xxh3_64(series), |id| self.bytes(*id) == series).copied()
    }

    /// Adds new bytes, those of the next line. The entry remains only if the scrape succeeds.
    pub fn admit(&mut self, series: &[u8], place: SeriesTarget) -> CachedSeriesId {
        let id = self.insert(series, place);
        self.remember(id);
        id
    }

    fn insert(&mut self, series: &[u8], place: SeriesTarget) -> CachedSeriesId {
        let id = self.known.len() as CachedSeriesId;
        let start = self.text.len() as u32;
        // A vector that doubles would waste up to half of the memory of a cache that hardly grows
        // after the first scrape.
        reserve_slack(&mut self.text, series.len());
        reserve_slack(&mut self.known, 1);
        self.text.extend_from_slice(series);
        self.known.push(CachedSeries { start, len: series.len() as u32, place, position: NOBODY });
        let known = &self.known;
        let text = &self.text;
        self.ids.insert_unique(xxh3_64(series), id, |id| xxh3_64(known[*id as usize].bytes_in(text)));
        id
    }

    /// What an entry leads to.
    #[inline]
    pub fn place(&self, id: CachedSeriesId) -> SeriesTarget {
        self.known[id as usize].place
    }

    /// Changes what an entry leads to.
    pub fn set_target(&mut self, id: CachedSeriesId, place: SeriesTarget) {
        self.known[id as usize].place = place;
    }

    /// The bytes of memory of the series that are new in the current scrape.
    pub fn new_bytes(&self) -> usize {
        let text = self.known.get(self.first_new).map_or(0, |first| self.text.len() - first.start as usize);
        text + (self.known.len() - self.first_new) * (size_of::<CachedSeries>() + size_of::<CachedSeriesId>())
    }

    /// Ends a successful scrape: the next scrape is expected in its order.
    pub fn commit_order(&mut self) {
        match self.new_order.take() {
            Some(mut order) => {
                for (position, id) in order.iter().enumerate() {
                    self.known[*id as usize].position = position as u32;
                }
                order.shrink_to_fit();
                self.order = order;
            }
            // Every line was as expected; the body may have been shorter.
            None => self.order.truncate(self.cursor),
        }
        self.cursor = 0;
        self.orderless = false;
        self.first_new = self.known.len();
        // Only when more than half of the entries are of series that are gone: the sweep writes the
        // whole cache anew.
        if self.known.len() > 2 * self.order.len() + SWEEP_SLACK {
            self.evict_gone();
        }
    }

    /// Ends a failed scrape: removes its new entries and keeps the previous order.
    pub fn rollback(&mut self) {
        self.new_order = None;
        self.cursor = 0;
        self.orderless = false;
        // New entries are all at the end, because none is removed in between: cutting the end
        // undoes the scrape.
        let Some(first) = self.known.get(self.first_new).copied() else { return };
        for id in self.first_new as CachedSeriesId..self.known.len() as CachedSeriesId {
            let hash = xxh3_64(self.bytes(id));
            if let Ok(entry) = self.ids.find_entry(hash, |other| *other == id) {
                entry.remove();
            }
        }
        self.text.truncate(first.start as usize);
        self.text.shrink_to_fit();
        self.known.truncate(self.first_new);
        // A failed body can have been the largest ever; its memory is given back.
        self.known.shrink_to_fit();
        let known = &self.known;
        let text = &self.text;
        self.ids.shrink_to_fit(|id| xxh3_64(known[*id as usize].bytes_in(text)));
    }

    /// Changes column numbers: `moved[column]` is the new column, [`NO_COLUMN`] if it was removed.
    pub fn move_columns(&mut self, part_index: u32, moved: &[u32]) {
        for known in &mut self.known {
            if let SeriesTarget::Series { part, column, .. } = &mut known.place
                && *part == part_index
                && *column != NO_COLUMN
            {
                *column = moved[*column as usize];
            }
        }
    }

    /// Removes all entries.
    pub fn clear(&mut self) {
        *self = SeriesCache::default();
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Evicts the entries that the last scrape did not expose.
    fn evict_gone(&mut self) {
        let old = std::mem::take(self);
        self.text.reserve_exact(old.order.iter().map(|id| old.known[*id as usize].len as usize).sum());
        for id in &old.order {
            let bytes = old.bytes(*id);
            let new = self.lookup(bytes).unwrap_or_else(|| self.insert(bytes, old.place(*id)));
            self.known[new as usize].position = self.order.len() as u32;
            self.order.push(new);
        }
        self.first_new = self.known.len();
    }

    #[inline]
    fn bytes(&self, id: CachedSeriesId) -> &[u8] {
        self.known[id as usize].bytes_in(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs one scrape over `lines`; returns how many were expected.
    fn scrape(cache: &mut SeriesCache, lines: &[&str]) -> usize {
        let mut guessed = 0;
        for line in lines {
            let hit = cache.expected_series() == line.as_bytes();
            guessed += usize::from(hit);
            let sample = ExposedSample { series: line.as_bytes(), guessed: hit, value: 0.0, t: None };
            match cache.find(&sample) {
                Some(id) => assert_eq!(cache.bytes(id), line.as_bytes()),
                None => drop(cache.admit(line.as_bytes(), SeriesTarget::Dropped)),
            }
        }
        cache.commit_order();
        guessed
    }

    #[test]
    fn the_last_order_is_guessed_through_insertions_and_deletions() {
        let mut cache = SeriesCache::default();
        assert_eq!(scrape(&mut cache, &["a", "b", "c", "d"]), 0);
        assert_eq!(scrape(&mut cache, &["a", "b", "c", "d"]), 4);
        assert_eq!(scrape(&mut cache, &["a", "x", "b", "c", "d"]), 4);
        assert_eq!(scrape(&mut cache, &["a", "x", "c", "d"]), 3);
        assert_eq!(scrape(&mut cache, &["a", "x", "c", "d"]), 4);
        assert_eq!(scrape(&mut cache, &["a", "x"]), 2);
        assert_eq!(scrape(&mut cache, &["d", "c", "x", "a", "a"]), 0);
        assert_eq!(scrape(&mut cache, &["d", "c", "x", "a", "a"]), 5);
    }

    #[test]
    fn a_rejected_scrape_leaves_no_trace() {
        let mut cache = SeriesCache::default();
        scrape(&mut cache, &["a", "b"]);
        let sample = ExposedSample { series: b"zzz", guessed: false, value: 0.0, t: None };
        assert_eq!(cache.find(&sample), None);
        cache.admit(b"zzz", SeriesTarget::Dropped);
        assert!(cache.find(&sample).is_some() && cache.new_bytes() > 0);
        cache.rollback();
        assert_eq!((cache.lookup(b"zzz"), cache.len(), cache.new_bytes()), (None, 2, 0));
        assert_eq!(scrape(&mut cache, &["a", "b"]), 2);
    }

    #[test]
    fn what_is_said_again_and_again_is_remembered_once() {
        let mut cache = SeriesCache::default();
        let lines = vec!["a"; 4 * ORDER_SLACK];
        scrape(&mut cache, &lines);
        assert!(cache.order.len() <= ORDER_SLACK + 4, "{}", cache.order.len());
        scrape(&mut cache, &["a", "b"]);
        assert_eq!(scrape(&mut cache, &["a", "b"]), 2);
    }

    #[test]
    fn churn_does_not_pile_up() {
        let mut cache = SeriesCache::default();
        for i in 0..2000 {
            let name = format!("series_{i}");
            scrape(&mut cache, &["stays", &name]);
        }
        assert!(cache.len() <= 2 * 2 + SWEEP_SLACK + 1, "{}", cache.len());
        assert!(cache.text.len() < 64 * SWEEP_SLACK);
        assert_eq!(scrape(&mut cache, &["stays", "series_1999"]), 2);
    }
}
