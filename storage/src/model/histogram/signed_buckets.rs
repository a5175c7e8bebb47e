//! Buckets of one sign as spans over counts: iterating, compacting, lowering the resolution,
//! adding.
//!
//! The layout after an addition is that of Prometheus, because equality depends on it: a new bucket
//! extends the span before it, otherwise the span after it, otherwise it becomes a span of its own;
//! spans that become adjacent stay two. Offsets from outside can have any value, so sums of them
//! wrap instead of overflowing.

use super::bounds::{exponential, is_exponential};
use super::bucket_count::{BucketCount, CompensatedSum};
use super::{BucketSpan, Buckets};

/// Buckets of one sign: as [`Buckets`], with counts of any kind (cells).
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct SignedBuckets<C> {
    pub spans: Vec<BucketSpan>,
    pub cells: Vec<C>,
}

impl From<Buckets> for SignedBuckets<f64> {
    fn from(buckets: Buckets) -> SignedBuckets<f64> {
        SignedBuckets { spans: buckets.spans, cells: buckets.counts }
    }
}

impl From<SignedBuckets<f64>> for Buckets {
    fn from(side: SignedBuckets<f64>) -> Buckets {
        Buckets { spans: side.spans, counts: side.cells }
    }
}

impl<C: BucketCount> SignedBuckets<C> {
    /// The same buckets with counts of another kind.
    pub(super) fn from_buckets(buckets: &Buckets) -> SignedBuckets<C> {
        SignedBuckets {
            spans: buckets.spans.clone(),
            cells: buckets.counts.iter().map(|c| C::from_value(*c)).collect(),
        }
    }

    /// The index and count of every bucket.
    pub(super) fn iter(&self) -> BucketIter<'_, C> {
        BucketIter::new(&self.spans, &self.cells)
    }

    /// Appends a bucket; `index` must be greater than all others. `end` is the index after the last
    /// bucket, 0 if there is none.
    fn push(&mut self, end: i32, index: i32, cell: C) {
        self.cells.push(cell);
        match self.spans.last_mut() {
            Some(span) if index == end => span.length = span.length.saturating_add(1),
            _ => self.spans.push(BucketSpan { offset: index.wrapping_sub(end), length: 1 }),
        }
    }

    /// Removes empty buckets and merges adjacent spans.
    pub(super) fn compact(&mut self) {
        // Most histograms are compact already, and are then not copied. Adjacent spans (offset 0)
        // and empty spans are what an addition leaves behind.
        let tight =
            self.spans.iter().skip(1).all(|s| s.offset > 0) && self.spans.iter().all(|s| s.length > 0);
        if tight && !self.cells.iter().any(|c| c.is_empty()) {
            return;
        }
        let mut kept = SignedBuckets { spans: Vec::with_capacity(self.spans.len()), cells: Vec::new() };
        let mut end = 0;
        for (index, cell) in self.iter().filter(|(_, cell)| !cell.is_empty()) {
            kept.push(end, index, cell);
            end = index.wrapping_add(1);
        }
        *self = kept;
    }

    /// Converts to the wider buckets of a lower schema.
    pub(super) fn reduced(&self, from: i32, to: i32) -> SignedBuckets<C> {
        // Each step of the schema halves the number of buckets. More than 31 steps cannot be:
        // indices have 32 bits, and a shift by 32 would panic.
        let shift = from.saturating_sub(to).clamp(0, 31);
        let mut target: SignedBuckets<C> = SignedBuckets { spans: Vec::new(), cells: Vec::new() };
        let mut end = 0;
        for (index, cell) in self.iter() {
            // Bucket `i` ends at `base^i`, its upper bound included: so 1 and 2 become 1, 3 and 4
            // become 2.
            let index = (index.wrapping_sub(1) >> shift).wrapping_add(1);
            match target.cells.last_mut() {
                Some(last) if index.wrapping_add(1) == end => last.add(cell),
                _ => {
                    target.push(end, index, cell);
                    end = index.wrapping_add(1);
                }
            }
        }
        target
    }

    /// Adds buckets of the same schema, and creates those that are missing. Exponential buckets at
    /// the beginning that are within `threshold` of zero are skipped, because they belong to the
    /// zero bucket.
    pub(super) fn add(&mut self, schema: i32, threshold: f64, other: impl Iterator<Item = (i32, C)>) {
        let mut below = is_exponential(schema);
        let mut place = InsertPosition::first(&self.spans);
        for (index, cell) in other {
            // Bounds ascend: once a bucket is beyond the threshold, all later ones are, and no
            // bound is computed any more.
            below = below && exponential(index, schema) <= threshold;
            if !below {
                self.add_one(&mut place, index, cell);
            }
        }
    }

    /// Adds to the bucket `index`, which must not be before `place`.
    fn add_one(&mut self, place: &mut InsertPosition, index: i32, cell: C) {
        while let Some(span) = self.spans.get(place.span) {
            // In the gap before the span.
            if index < place.start {
                return self.insert_before(place, index, cell);
            }
            // Not negative, because of the check before; a huge one is beyond the span.
            let within = index.wrapping_sub(place.start) as u32;
            if within < span.length {
                if let Some(found) = self.cells.get_mut(place.cell + within as usize) {
                    found.add(cell);
                }
                return;
            }
            place.end = place.start.wrapping_add(span.length as i32);
            place.cell += span.length as usize;
            place.span += 1;
            place.start = place.end.wrapping_add(self.spans.get(place.span).map_or(0, |s| s.offset));
        }
        self.push(place.end, index, cell);
        place.span = self.spans.len();
        place.cell = self.cells.len();
        place.end = index.wrapping_add(1);
    }

    /// Inserts a bucket into the gap before the span of `place`.
    fn insert_before(&mut self, place: &mut InsertPosition, index: i32, cell: C) {
        // A damaged histogram can have fewer cells than its spans say.
        self.cells.insert(place.cell.min(self.cells.len()), cell);
        // The span before grows by it.
        if place.span > 0 && index == place.end {
            let before = &mut self.spans[place.span - 1];
            before.length = before.length.saturating_add(1);
            let next = &mut self.spans[place.span];
            next.offset = next.offset.wrapping_sub(1);
            place.end = place.end.wrapping_add(1);
            place.cell += 1;
        // The span after it begins with it.
        } else if index.wrapping_add(1) == place.start {
            let span = &mut self.spans[place.span];
            span.length = span.length.saturating_add(1);
            span.offset = span.offset.wrapping_sub(1);
            place.start = index;
        } else {
            // A span of its own. The offset of the next one is counted from it.
            let offset = index.wrapping_sub(place.end);
            let next = &mut self.spans[place.span];
            next.offset = next.offset.wrapping_sub(offset).wrapping_sub(1);
            self.spans.insert(place.span, BucketSpan { offset, length: 1 });
            place.start = index;
        }
    }
}

/// The position that an addition has reached.
struct InsertPosition {
    /// The current span.
    span: usize,
    /// Position of the first cell of the span.
    cell: usize,
    /// Index of the first bucket of the span.
    start: i32,
    /// Index after the span before; 0 if there is none.
    end: i32,
}

impl InsertPosition {
    fn first(spans: &[BucketSpan]) -> InsertPosition {
        InsertPosition { span: 0, cell: 0, start: spans.first().map_or(0, |s| s.offset), end: 0 }
    }
}

/// Buckets with custom bounds, put into the wider buckets that two lists of bounds have in common.
/// Where the cell lies is `bounds`' affair; the cells count up to `common.len()`, the last being
/// that of +Inf.
pub(super) fn map_custom<C: BucketCount>(
    target: &mut [CompensatedSum],
    source: impl Iterator<Item = (i32, C)>,
    bounds: &[f64],
    common: &[f64],
) {
    let mut at = 0;
    for (index, cell) in source {
        let bound = usize::try_from(index).ok().and_then(|i| bounds.get(i));
        // The first common bound that is not below: all observations of the bucket are at or below
        // it. Both lists ascend, so the search goes on where it was.
        let to = bound.map_or(common.len(), |bound| {
            at += common[at..].iter().take_while(|c| **c < *bound).count();
            at
        });
        let cell = cell.compensated();
        target[to].include(cell.sum);
        target[to].include(cell.lost);
    }
}

/// The buckets of a dense list that hold something.
pub(super) fn from_dense<C: BucketCount>(cells: &[CompensatedSum]) -> SignedBuckets<C> {
    let mut side = SignedBuckets { spans: Vec::new(), cells: Vec::new() };
    let mut end = 0;
    for (index, cell) in cells.iter().enumerate().filter(|(_, cell)| !cell.is_empty()) {
        side.push(end, index as i32, C::from_compensated(*cell));
        end = index as i32 + 1;
    }
    side
}

/// Buckets with their indices, from both ends.
#[derive(Clone, Debug)]
pub struct BucketIter<'a, C> {
    spans: &'a [BucketSpan],
    cells: &'a [C],
    /// Cells still to come.
    low: usize,
    high: usize,
    /// Span of the next cell, its place there, and its index.
    front: (usize, u32, i32),
    /// Span of the last cell, how many of the span's cells are left, and the index after it.
    back: (usize, u32, i32),
}

impl<'a, C: Copy> BucketIter<'a, C> {
    /// Walks `cells` along `spans`. Where their numbers differ, the rest of the longer is left out.
    pub(super) fn new(spans: &'a [BucketSpan], cells: &'a [C]) -> BucketIter<'a, C> {
        let mut end = 0i32;
        let mut room = 0usize;
        for span in spans {
            end = end.wrapping_add(span.offset).wrapping_add(span.length as i32);
            room = room.saturating_add(span.length as usize);
        }
        let last = spans.len().saturating_sub(1);
        BucketIter {
            spans,
            cells,
            low: 0,
            high: cells.len().min(room),
            front: (0, 0, spans.first().map_or(0, |s| s.offset)),
            back: (last, spans.last().map_or(0, |s| s.length), end),
        }
    }
}

impl<C: Copy> Iterator for BucketIter<'_, C> {
    type Item = (i32, C);

    fn next(&mut self) -> Option<(i32, C)> {
        if self.low >= self.high {
            return None;
        }
        let (span, within, index) = &mut self.front;
        // A loop, because spans may be empty.
        while *within >= self.spans.get(*span)?.length {
            *span += 1;
            *within = 0;
            *index = index.wrapping_add(self.spans.get(*span)?.offset);
        }
        let item = (*index, self.cells[self.low]);
        *within += 1;
        *index = index.wrapping_add(1);
        self.low += 1;
        Some(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.high - self.low, Some(self.high - self.low))
    }
}

impl<C: Copy> DoubleEndedIterator for BucketIter<'_, C> {
    fn next_back(&mut self) -> Option<(i32, C)> {
        if self.low >= self.high {
            return None;
        }
        let (span, left, index) = &mut self.back;
        // Backwards over empty spans, too. Before the first span there is nothing.
        while *left == 0 {
            *index = index.wrapping_sub(self.spans[*span].offset);
            *span = span.checked_sub(1)?;
            *left = self.spans[*span].length;
        }
        *index = index.wrapping_sub(1);
        *left -= 1;
        self.high -= 1;
        Some((*index, self.cells[self.high]))
    }
}
