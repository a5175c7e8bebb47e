//! A sparse column of a series: items that only some samples have, in time order. The floats of the
//! series are elsewhere ([`super::columns`], [`super::ungrouped`]) and independent of these.
//!
//! Items are in chunks that are shared with readers and copied only if one is changed while a
//! reader holds it. The last two chunks are open. Older ones are packed, in the format of the log,
//! to a tenth of their size; a late item opens its chunk again.

use crate::encoding::varint::{put_varint, unzigzag, zigzag};
use crate::limits::SPARSE_CHUNK_ITEMS;
use crate::model::{NativeHistogram, TimeMs};
use crate::vec_growth::boxed_exact;
use crate::wal::{PayloadReader, put_histogram, take_histogram};
use std::sync::Arc;

/// An item of a sparse column.
pub trait SparseValue: Clone {
    /// Appends the item to `out`; `before` is the item before it.
    fn pack(&self, before: Option<&Self>, out: &mut Vec<u8>);

    /// Reads what [`SparseValue::pack`] wrote; `None` if it is malformed.
    fn unpack(cursor: &mut PayloadReader, before: Option<&Self>) -> Option<Self>;
}

impl SparseValue for Arc<NativeHistogram> {
    fn pack(&self, _before: Option<&Self>, out: &mut Vec<u8>) {
        put_histogram(out, self);
    }

    fn unpack(cursor: &mut PayloadReader, before: Option<&Self>) -> Option<Self> {
        let mut h = take_histogram(cursor)?;
        // The histograms of a series share one allocation of bounds.
        if let Some(before) = before.filter(|before| before.bounds == h.bounds) {
            h.bounds = before.bounds.clone();
        }
        Some(Arc::new(h))
    }
}

impl SparseValue for TimeMs {
    fn pack(&self, before: Option<&Self>, out: &mut Vec<u8>) {
        put_varint(out, zigzag(self.wrapping_sub(before.copied().unwrap_or(0))));
    }

    fn unpack(cursor: &mut PayloadReader, before: Option<&Self>) -> Option<Self> {
        Some(before.copied().unwrap_or(0).wrapping_add(unzigzag(cursor.varint()?)))
    }
}

/// The items of a packed chunk.
#[derive(Debug)]
struct PackedValues {
    times: Box<[TimeMs]>,
    values: Box<[u8]>,
}

/// A chunk: never empty, ascending.
#[derive(Clone, Debug)]
enum SparseChunk<T> {
    Open(Arc<Vec<(TimeMs, T)>>),
    Packed(Arc<PackedValues>),
}

impl<T: SparseValue> SparseChunk<T> {
    fn ends(&self) -> (TimeMs, TimeMs) {
        let ends = match self {
            SparseChunk::Open(items) => items.first().map(|i| i.0).zip(items.last().map(|i| i.0)),
            SparseChunk::Packed(packed) => packed.times.first().copied().zip(packed.times.last().copied()),
        };
        ends.unwrap_or((TimeMs::MAX, TimeMs::MIN))
    }

    /// Appends the items with `from ≤ t ≤ to`.
    fn read(&self, from: TimeMs, to: TimeMs, out: &mut Vec<(TimeMs, T)>) {
        match self {
            SparseChunk::Open(items) => {
                let range =
                    items.partition_point(|(t, _)| *t < from)..items.partition_point(|(t, _)| *t <= to);
                out.extend_from_slice(items.get(range).unwrap_or(&[]));
            }
            SparseChunk::Packed(packed) => {
                let mut cursor = PayloadReader::new(&packed.values);
                let mut before: Option<T> = None;
                // Items are packed as differences, so those before `from` are unpacked, too.
                for t in packed.times.iter().take_while(|t| **t <= to) {
                    // Cannot happen with what `pack` wrote. If it did, samples would be missing
                    // rather than wrong.
                    let Some(item) = T::unpack(&mut cursor, before.as_ref()) else { return };
                    if *t >= from {
                        out.push((*t, item.clone()));
                    }
                    before = Some(item);
                }
            }
        }
    }

    /// Calls `change` with the items; unpacks the chunk if needed.
    fn open(&mut self, change: impl FnOnce(&mut Vec<(TimeMs, T)>)) {
        match self {
            // Copies the items if a reader holds them: the reader must not see the change.
            SparseChunk::Open(items) => change(Arc::make_mut(items)),
            SparseChunk::Packed(_) => {
                let mut items = Vec::new();
                self.read(TimeMs::MIN, TimeMs::MAX, &mut items);
                change(&mut items);
                *self = SparseChunk::Open(Arc::new(items));
            }
        }
    }

    fn pack(&mut self) {
        let SparseChunk::Open(all) = self else { return };
        let mut items = Vec::new();
        let mut before = None;
        for (_, item) in all.iter() {
            item.pack(before, &mut items);
            before = Some(item);
        }
        let times = all.iter().map(|(t, _)| *t).collect();
        *self = SparseChunk::Packed(Arc::new(PackedValues { times, values: boxed_exact(&items) }));
    }
}

/// Items by time, at most one per time.
#[derive(Clone, Debug)]
pub struct SparseColumn<T> {
    /// Oldest first; chunks do not overlap.
    chunks: Vec<SparseChunk<T>>,
    /// The newest item, unpacked: each new item is compared with it.
    last: Option<(TimeMs, T)>,
}

impl<T> Default for SparseColumn<T> {
    fn default() -> SparseColumn<T> {
        SparseColumn { chunks: Vec::new(), last: None }
    }
}

impl<T: SparseValue> SparseColumn<T> {
    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Number of chunks.
    pub fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// The newest item.
    pub fn last(&self) -> Option<&(TimeMs, T)> {
        self.last.as_ref()
    }

    /// Time of the newest item.
    pub fn newest(&self) -> Option<TimeMs> {
        self.last.as_ref().map(|(t, _)| *t)
    }

    /// Time of the oldest item.
    pub fn oldest(&self) -> Option<TimeMs> {
        self.chunks.first().map(|chunk| chunk.ends().0)
    }

    /// Calls `each` with all times, ascending.
    pub fn times(&self, mut each: impl FnMut(TimeMs)) {
        for chunk in &self.chunks {
            match chunk {
                SparseChunk::Open(items) => {
                    for (t, _) in items.iter() {
                        each(*t);
                    }
                }
                SparseChunk::Packed(packed) => {
                    for t in &packed.times {
                        each(*t);
                    }
                }
            }
        }
    }

    /// The index of the chunk that contains `t`, or before which `t` would be.
    fn chunk_of(&self, t: TimeMs) -> usize {
        self.chunks.partition_point(|chunk| chunk.ends().1 < t)
    }

    /// The item at exactly `t`.
    pub fn at(&self, t: TimeMs) -> Option<T> {
        let mut found = Vec::new();
        self.chunks.get(self.chunk_of(t))?.read(t, t, &mut found);
        found.pop().map(|(_, item)| item)
    }

    /// Calls `change` with the first item after `t`.
    pub fn change_after(&mut self, t: TimeMs, change: impl FnOnce(&mut T)) {
        let at = self.chunks.partition_point(|chunk| chunk.ends().1 <= t);
        let Some(chunk) = self.chunks.get_mut(at) else { return };
        chunk.open(|items| {
            let i = items.partition_point(|(at, _)| *at <= t);
            if let Some((_, item)) = items.get_mut(i) {
                change(item);
            }
        });
        // The changed item may be the newest one.
        if let Some((newest, _)) = &self.last {
            self.last = self.at(*newest).map(|item| (*newest, item));
        }
    }

    /// Adds an item at a time that has none.
    pub fn add(&mut self, t: TimeMs, item: T) {
        if self.newest().is_some_and(|newest| t < newest) {
            return self.add_late(t, item);
        }
        self.last = Some((t, item.clone()));
        match self.chunks.last_mut() {
            Some(SparseChunk::Open(items)) if items.len() < SPARSE_CHUNK_ITEMS => {
                Arc::make_mut(items).push((t, item))
            }
            _ => {
                // A new chunk begins: only the one before it stays open, for slightly late items.
                let full = self.chunks.len().saturating_sub(1);
                for chunk in &mut self.chunks[..full] {
                    chunk.pack();
                }
                self.chunks.push(SparseChunk::Open(Arc::new(vec![(t, item)])));
            }
        }
    }

    fn add_late(&mut self, t: TimeMs, item: T) {
        let at = self.chunk_of(t);
        let Some(chunk) = self.chunks.get_mut(at) else { return };
        let mut behind = Vec::new();
        chunk.open(|items| {
            items.insert(items.partition_point(|(other, _)| *other < t), (t, item));
            // Late items make a chunk longer than others. It is split before a copy of it, or a
            // lookup in it, becomes expensive.
            if items.len() >= 2 * SPARSE_CHUNK_ITEMS {
                behind = items.split_off(SPARSE_CHUNK_ITEMS);
            }
        });
        if !behind.is_empty() {
            self.chunks.insert(at + 1, SparseChunk::Open(Arc::new(behind)));
        }
    }

    /// Removes the item at `t`.
    pub fn remove(&mut self, t: TimeMs) {
        let at = self.chunk_of(t);
        let Some(chunk) = self.chunks.get_mut(at) else { return };
        let mut empty = false;
        chunk.open(|items| {
            items.retain(|(other, _)| *other != t);
            empty = items.is_empty();
        });
        if empty {
            self.chunks.remove(at);
        }
        // The item before becomes the newest; the next one is compared with it.
        if self.newest() == Some(t) {
            let newest = self.chunks.last().map(|chunk| chunk.ends().1);
            self.last = newest.and_then(|newest| Some((newest, self.at(newest)?)));
        }
    }

    /// The chunks that hold items in `from..=to`; empty if no item is in this range.
    pub fn snapshot(&self, from: TimeMs, to: TimeMs) -> SparseColumn<T> {
        if !self.overlaps(from, to) {
            return SparseColumn::default();
        }
        let end = self.chunks.partition_point(|chunk| chunk.ends().0 <= to);
        let chunks = self.chunks.get(self.chunk_of(from)..end).unwrap_or(&[]).to_vec();
        SparseColumn { chunks, last: self.last.clone() }
    }

    /// Whether an item is in `from..=to`.
    fn overlaps(&self, from: TimeMs, to: TimeMs) -> bool {
        let next = match self.chunks.get(self.chunk_of(from)) {
            Some(SparseChunk::Open(items)) => {
                items.get(items.partition_point(|(t, _)| *t < from)).map(|i| i.0)
            }
            Some(SparseChunk::Packed(packed)) => {
                packed.times.get(packed.times.partition_point(|t| *t < from)).copied()
            }
            None => None,
        };
        next.is_some_and(|t| t <= to)
    }

    /// Appends the items with `from ≤ t ≤ to` in time order.
    pub fn read(&self, from: TimeMs, to: TimeMs, out: &mut Vec<(TimeMs, T)>) {
        for chunk in &self.chunks {
            let (first, last) = chunk.ends();
            if first <= to && last >= from {
                chunk.read(from, to, out);
            }
        }
    }

    /// Drops all items before `end`.
    pub fn drop_before(&mut self, end: TimeMs) {
        let whole = self.chunk_of(end);
        self.chunks.drain(..whole);
        if let Some(first) = self.chunks.first_mut().filter(|chunk| chunk.ends().0 < end) {
            first.open(|items| {
                let cut = items.partition_point(|(t, _)| *t < end);
                items.drain(..cut);
            });
        }
        if self.chunks.is_empty() {
            self.last = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn a_lane_is_a_sorted_map(
            times in proptest::collection::vec(0i64..1_500, 0..900),
            sorted in any::<bool>(),
            (from, to, cut) in (0i64..1_500, 0i64..1_500, 0i64..1_500),
        ) {
            let mut column = SparseColumn::default();
            let mut model = BTreeMap::new();
            let mut times = times;
            let half = if sorted { times.len() } else { times.len() / 2 };
            times[..half].sort_unstable();
            for (i, t) in times.into_iter().enumerate() {
                prop_assert_eq!(column.at(t), model.get(&t).copied());
                if let std::collections::btree_map::Entry::Vacant(vacant) = model.entry(t) {
                    vacant.insert(i as i64);
                    column.add(t, i as i64);
                }
            }
            let reader = column.snapshot(from, to);
            prop_assert_eq!(column.overlaps(from, to), from <= to && model.range(from..=to).next().is_some());
            let wanted: Vec<(i64, i64)> =
                model.iter().filter(|(t, _)| (from..=to).contains(*t)).map(|(t, i)| (*t, *i)).collect();
            if half % 2 == 0 {
                column.remove(to);
                model.remove(&to);
            }
            column.change_after(cut, |item| *item += 7);
            if let Some((_, item)) = model.range_mut(cut + 1..).next() {
                *item += 7;
            }
            prop_assert_eq!(column.last().copied(), model.last_key_value().map(|(t, i)| (*t, *i)));
            column.drop_before(cut);
            model.retain(|t, _| *t >= cut);
            let mut all = Vec::new();
            let mut seen = Vec::new();
            column.read(i64::MIN, i64::MAX, &mut all);
            column.times(|t| seen.push(t));
            prop_assert!(seen.iter().eq(model.keys()) && column.is_empty() == model.is_empty());
            prop_assert_eq!(all, model.iter().map(|(t, i)| (*t, *i)).collect::<Vec<_>>());
            prop_assert_eq!((column.oldest(), column.newest()), (seen.first().copied(), seen.last().copied()));
            let mut read = Vec::new();
            reader.read(from, to, &mut read);
            prop_assert_eq!(read, wanted, "a reader keeps what it took");
        }
    }

    #[test]
    fn old_chunks_are_packed() {
        let mut column = SparseColumn::default();
        for t in 0..6 * SPARSE_CHUNK_ITEMS as i64 {
            column.add(t * 15_000, 1_000_000);
        }
        let packed = |chunk: &&SparseChunk<i64>| matches!(chunk, SparseChunk::Packed(_));
        assert_eq!((column.chunks.len(), column.chunks.iter().filter(packed).count()), (6, 4));
        column.add_late(1, 7);
        assert_eq!(column.chunks.iter().filter(packed).count(), 3, "opened again");
    }
}
