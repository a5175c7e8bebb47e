//! Ungrouped samples: samples of one series that are in no column of a column set, because they
//! came by remote write, with their own timestamp, or late.
//!
//! In-order samples fill an open buffer that is sealed to a [`SeriesChunk`] with its own times.
//! Samples older than the newest go to a small sorted buffer (`late`), which is sealed to chunks
//! that may overlap others. Readers merge the runs ([`crate::store`]'s selection).

use super::column;
use super::snapshot::later;
use crate::encoding::varint::{put_varint, take_varint, unzigzag, zigzag};
use crate::limits::{CHUNK_GROWTH, CHUNK_SAMPLES, LATE_SAMPLES};
use crate::model::TimeMs;
use crate::model::value::is_absent;
use crate::vec_growth::boxed_exact;
use std::ops::Range;
use std::sync::Arc;

/// An immutable compressed chunk: times as delta-of-delta varints, then the values
/// ([`column::encode`]).
pub struct SeriesChunk {
    /// Time of the first sample, ms.
    min: TimeMs,
    /// Time of the last sample, ms.
    max: TimeMs,
    /// Number of samples.
    count: u32,
    /// Where in `bytes` the values begin.
    values_at: u32,
    /// The differences of the times, then the values.
    bytes: Box<[u8]>,
}

impl SeriesChunk {
    /// Compresses samples; at least one, ascending.
    fn from_samples(samples: &[(TimeMs, f64)]) -> SeriesChunk {
        let (ts, vs): (Vec<_>, Vec<_>) = samples.iter().copied().unzip();
        SeriesChunk::seal(&ts, &vs)
    }

    /// Compresses `ts` and `vs`: equally long, at least one, ascending.
    pub fn seal(ts: &[TimeMs], vs: &[f64]) -> SeriesChunk {
        let mut bytes = Vec::with_capacity(ts.len() * 4);
        let mut previous = ts[0];
        let mut delta = 0i64;
        for t in &ts[1..] {
            // Wraps, as reading does: times of a query language may be anywhere in 64 bits, and a
            // panic here would stop the shard.
            let step = t.wrapping_sub(previous);
            put_varint(&mut bytes, zigzag(step.wrapping_sub(delta)));
            previous = *t;
            delta = step;
        }
        let values_at = bytes.len() as u32;
        let values: Vec<u64> = vs.iter().map(|v| v.to_bits()).collect();
        column::encode(&values, true, &mut bytes);
        SeriesChunk {
            min: ts[0],
            max: ts[ts.len() - 1],
            count: ts.len() as u32,
            values_at,
            bytes: boxed_exact(&bytes),
        }
    }

    /// Whether it may hold samples in `from..=to`.
    pub fn overlaps(&self, from: TimeMs, to: TimeMs) -> bool {
        self.min <= to && self.max >= from
    }

    /// Appends the samples with `from ≤ t ≤ to`.
    pub fn read(&self, from: TimeMs, to: TimeMs, ts: &mut Vec<TimeMs>, vs: &mut Vec<f64>) {
        if !self.overlaps(from, to) {
            return;
        }
        let mut t = self.min;
        let mut delta = 0i64;
        let mut at = 0usize;
        column::decode(&self.bytes[self.values_at as usize..], self.count as usize, |i, bits| {
            if i > 0 {
                delta = delta.wrapping_add(unzigzag(take_varint(&self.bytes, &mut at)));
                t = t.wrapping_add(delta);
            }
            // Values depend on each other, so all before are decoded, too. There are at most a few
            // hundred.
            if t >= from && t <= to {
                ts.push(t);
                vs.push(f64::from_bits(bits));
            }
        });
    }

    /// The value at exactly `t`. Reads the times only up to `t`, and values only if the time is
    /// there.
    fn at(&self, t: TimeMs) -> Option<f64> {
        if !self.overlaps(t, t) {
            return None;
        }
        let mut time = self.min;
        let mut delta = 0i64;
        let mut position = 0;
        let mut index = 0;
        // Ends: the chunk reaches to `t` or further.
        while time < t {
            delta = delta.wrapping_add(unzigzag(take_varint(&self.bytes, &mut position)));
            time = time.wrapping_add(delta);
            index += 1;
        }
        let mut value = None;
        if time == t {
            column::decode(&self.bytes[self.values_at as usize..], self.count as usize, |i, bits| {
                if i == index {
                    value = Some(f64::from_bits(bits));
                }
            });
        }
        value
    }
}

/// Merges the samples of chunks that follow each other in time with `later` ones. At equal times
/// `later` wins, as for readers.
fn merged(chunks: &[Arc<SeriesChunk>], later: &[(TimeMs, f64)]) -> Vec<(TimeMs, f64)> {
    let mut ts = Vec::new();
    let mut vs = Vec::new();
    for chunk in chunks.iter() {
        chunk.read(TimeMs::MIN, TimeMs::MAX, &mut ts, &mut vs);
    }
    let mut all: Vec<(TimeMs, f64)> = Vec::with_capacity(ts.len() + later.len());
    let mut rest = later.iter().copied().peekable();
    for (t, v) in ts.into_iter().zip(vs) {
        while let Some(sample) = rest.next_if(|sample| sample.0 < t) {
            all.push(sample);
        }
        all.push(rest.next_if(|sample| sample.0 == t).unwrap_or((t, v)));
    }
    all.extend(rest);
    all
}

/// The ungrouped samples of one series.
#[derive(Clone, Default)]
pub struct UngroupedSamples {
    /// Sealed chunks, each ascending. Those of late samples overlap others.
    chunks: Vec<Arc<SeriesChunk>>,
    ts: Vec<TimeMs>,
    vs: Vec<f64>,
    late: Vec<(TimeMs, f64)>,
    newest: Option<TimeMs>,
    /// Whether some values may be *absent*: removed samples, of this series here or in columns.
    holes: bool,
}

impl UngroupedSamples {
    /// Time of the newest sample.
    pub fn newest(&self) -> Option<TimeMs> {
        self.newest
    }

    /// Whether samples were removed.
    pub fn has_holes(&self) -> bool {
        self.holes
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.ts.is_empty() && self.late.is_empty()
    }

    /// Number of chunks, the open buffers included.
    pub fn chunks(&self) -> usize {
        self.chunks.len() + usize::from(!self.ts.is_empty()) + usize::from(!self.late.is_empty())
    }

    /// Time of the oldest sample.
    pub fn oldest(&self) -> Option<TimeMs> {
        let sealed = self.chunks.iter().map(|c| c.min).min();
        [sealed, self.ts.first().copied(), self.late.first().map(|l| l.0)].into_iter().flatten().min()
    }

    /// Adds a sample at a time that has none. Chunks do not cross multiples of `range`.
    pub fn add(&mut self, t: TimeMs, v: f64, range: i64) {
        if self.newest.is_some_and(|newest| t <= newest) {
            if self.holes {
                // There may be a hole at this time: it must be replaced.
                return self.put(t, v, range);
            }
            self.add_late(t, v, range);
            return;
        }
        self.add_newest(t, v, range);
    }

    /// Makes `v` the value at `t`, whatever is there. *Absent* makes a hole.
    pub fn put(&mut self, t: TimeMs, v: f64, range: i64) {
        // In the open buffers the value is replaced. A sealed chunk is not unpacked for it: a late
        // value over it says the same.
        self.holes |= is_absent(v);
        if let Ok(i) = self.ts.binary_search(&t) {
            self.vs[i] = v;
        } else if let Ok(i) = self.late.binary_search_by_key(&t, |l| l.0) {
            self.late[i].1 = v;
        } else if self.newest.is_some_and(|newest| t <= newest) {
            // Late samples are read after the chunks, and sealed after them, so the later value
            // wins.
            self.add_late(t, v, range);
        } else {
            self.add_newest(t, v, range);
        }
    }

    fn add_late(&mut self, t: TimeMs, v: f64, range: i64) {
        let at = self.late.partition_point(|(other, _)| *other < t);
        self.late.insert(at, (t, v));
        // Until then an insertion moves at most this many samples, and a series with a few late
        // samples has no chunk for them.
        if self.late.len() >= LATE_SAMPLES {
            self.seal_late(range);
        }
    }

    fn add_newest(&mut self, t: TimeMs, v: f64, range: i64) {
        let crosses = self.ts.last().is_some_and(|last| last.div_euclid(range) != t.div_euclid(range));
        if crosses || self.ts.len() >= CHUNK_SAMPLES {
            self.seal();
        }
        // By small steps: doubling would leave half of the memory of a million series unused.
        if self.ts.len() == self.ts.capacity() {
            self.ts.reserve_exact(CHUNK_GROWTH);
            self.vs.reserve_exact(CHUNK_GROWTH);
        }
        self.ts.push(t);
        self.vs.push(v);
        self.newest = Some(t);
    }

    fn seal(&mut self) {
        if !self.ts.is_empty() {
            self.chunks.push(Arc::new(SeriesChunk::seal(&self.ts, &self.vs)));
            self.ts = Vec::new();
            self.vs = Vec::new();
        }
    }

    fn seal_late(&mut self, range: i64) {
        let late = std::mem::take(&mut self.late);
        // A chunk lies within one range, so that a flush drops whole chunks.
        for part in late.chunk_by(|a, b| a.0.div_euclid(range) == b.0.div_euclid(range)) {
            self.seal_part(part);
        }
    }

    /// Seals late samples of one range. A lookup of a late sample searches all chunks that may have
    /// its time, so overlapping chunks are merged: a run of chunks with fewer than twice the new
    /// samples is merged with them. With samples in random order, the number of chunks and the
    /// number of times a sample is rewritten grow with the logarithm of the number of samples.
    fn seal_part(&mut self, part: &[(TimeMs, f64)]) {
        let first = part[0].0;
        let last = part[part.len() - 1].0;
        let mut samples = part.to_vec();
        loop {
            let run = self.newest_run(first, last);
            let length: usize = run.iter().map(|number| self.chunks[*number].count as usize).sum();
            if run.is_empty() || length >= 2 * samples.len() {
                break;
            }
            // `run` is descending, so removing one chunk does not move the others. Reversed, the
            // chunks ascend in time.
            let mut chunks: Vec<Arc<SeriesChunk>> =
                run.into_iter().map(|number| self.chunks.remove(number)).collect();
            chunks.reverse();
            samples = merged(&chunks, &samples);
        }
        self.chunks
            .extend(samples.chunks(LATE_SAMPLES).map(|samples| Arc::new(SeriesChunk::from_samples(samples))));
    }

    /// The indexes of the newest chunks that overlap `first..=last` and follow each other in time,
    /// the last one first.
    fn newest_run(&self, first: TimeMs, last: TimeMs) -> Vec<usize> {
        let mut run: Vec<usize> = Vec::new();
        for (number, chunk) in self.chunks.iter().enumerate().rev() {
            if !chunk.overlaps(first, last) {
                continue;
            }
            // They overlap each other: which value wins depends on their order, so they are not
            // merged into one.
            if run.last().is_some_and(|later| self.chunks[*later].min <= chunk.max) {
                break;
            }
            run.push(number);
        }
        run
    }

    /// The value at exactly `t`; *absent* for a hole.
    pub fn at(&self, t: TimeMs) -> Option<f64> {
        // Most samples are in order: no chunk is searched for them.
        if self.newest.is_none_or(|newest| newest < t) {
            return None;
        }
        if let Ok(i) = self.ts.binary_search(&t) {
            return Some(self.vs[i]);
        }
        if let Ok(i) = self.late.binary_search_by_key(&t, |l| l.0) {
            return Some(self.late[i].1);
        }
        // From the newest: of two chunks with the same time the later sealed one wins, as for
        // readers.
        self.chunks.iter().rev().find_map(|chunk| chunk.at(t))
    }

    /// All samples, by reference.
    pub fn slices(&self) -> UngroupedSlices<'_> {
        UngroupedSlices {
            chunks: &self.chunks,
            ts: &self.ts,
            vs: &self.vs,
            late: &self.late,
            holes: self.holes,
        }
    }

    /// Drops all samples before `end`.
    pub fn drop_before(&mut self, end: TimeMs) {
        let old = std::mem::take(&mut self.chunks);
        for chunk in old.into_iter().filter(|c| c.max >= end) {
            // Only a chunk that crosses `end` is packed again.
            if chunk.min >= end {
                self.chunks.push(chunk);
                continue;
            }
            let mut ts = Vec::new();
            let mut vs = Vec::new();
            chunk.read(end, TimeMs::MAX, &mut ts, &mut vs);
            self.chunks.push(Arc::new(SeriesChunk::seal(&ts, &vs)));
        }
        let cut = self.ts.partition_point(|t| *t < end);
        self.ts.drain(..cut);
        self.vs.drain(..cut);
        self.late.retain(|(t, _)| *t >= end);
    }
}

/// References to the ungrouped samples of one series.
#[derive(Copy, Clone)]
pub struct UngroupedSlices<'a> {
    chunks: &'a [Arc<SeriesChunk>],
    ts: &'a [TimeMs],
    vs: &'a [f64],
    late: &'a [(TimeMs, f64)],
    /// Whether some values may be *absent*, which hides a sample of this time elsewhere.
    pub holes: bool,
}

/// The index range of a sorted slice with `from ≤ t ≤ to`.
fn within<T>(items: &[T], from: TimeMs, to: TimeMs, time: impl Fn(&T) -> TimeMs) -> Range<usize> {
    let first = items.partition_point(|item| time(item) < from);
    first..items.partition_point(|item| time(item) <= to).max(first)
}

impl UngroupedSlices<'_> {
    /// Appends the samples with `from ≤ t ≤ to`, run by run. Calls `end` after each ascending run.
    pub fn read(
        &self,
        from: TimeMs,
        to: TimeMs,
        ts: &mut Vec<TimeMs>,
        vs: &mut Vec<f64>,
        mut end: impl FnMut(&[TimeMs]),
    ) {
        for chunk in self.chunks {
            chunk.read(from, to, ts, vs);
            end(ts);
        }
        let open = within(self.ts, from, to, |t| *t);
        ts.extend_from_slice(&self.ts[open.clone()]);
        vs.extend_from_slice(&self.vs[open]);
        end(ts);
        for (t, v) in &self.late[within(self.late, from, to, |l| l.0)] {
            ts.push(*t);
            vs.push(*v);
        }
        end(ts);
    }

    /// The newest sample with `from ≤ t ≤ to`, for a series without holes. At equal times, the one
    /// that [`UngroupedSlices::read`] reads last. Skips chunks that end before a sample already
    /// found.
    pub fn latest(&self, from: TimeMs, to: TimeMs) -> Option<(TimeMs, f64)> {
        let open = within(self.ts, from, to, |t| *t).last().map(|at| (self.ts[at], self.vs[at]));
        let late = self.late[within(self.late, from, to, |l| l.0)].last().copied();
        let loose = later(open, late);
        let from = loose.map_or(from, |(t, _)| t);
        let mut ts = Vec::new();
        let mut vs = Vec::new();
        let mut sealed = None;
        for chunk in self.chunks.iter().filter(|chunk| chunk.overlaps(from, to)) {
            ts.clear();
            vs.clear();
            chunk.read(from, to, &mut ts, &mut vs);
            sealed = later(sealed, ts.last().copied().zip(vs.last().copied()));
        }
        later(sealed, loose)
    }

    /// Calls `add(min, max)` for each chunk and each open sample.
    pub fn spans(&self, mut add: impl FnMut(TimeMs, TimeMs)) {
        for c in self.chunks.iter() {
            add(c.min, c.max);
        }
        for t in self.ts.iter().chain(self.late.iter().map(|l| &l.0)) {
            add(*t, *t);
        }
    }
}

/// The ungrouped samples of many series in a snapshot. Chunks are shared; open samples of all
/// series are copied into common vectors.
#[derive(Default)]
pub struct UngroupedSnapshot {
    chunks: Vec<Arc<SeriesChunk>>,
    ts: Vec<TimeMs>,
    vs: Vec<f64>,
    late: Vec<(TimeMs, f64)>,
}

/// Where the samples of one series are in [`UngroupedSnapshot`].
pub struct UngroupedRange {
    chunks: Range<u32>,
    open: Range<u32>,
    late: Range<u32>,
    holes: bool,
}

impl UngroupedSnapshot {
    /// Adds what a reader of `from..=to` needs of one series; `None` if there is nothing.
    pub fn take(&mut self, rows: &UngroupedSamples, from: TimeMs, to: TimeMs) -> Option<UngroupedRange> {
        let before = (self.chunks.len(), self.ts.len(), self.late.len());
        self.chunks.extend(rows.chunks.iter().filter(|c| c.overlaps(from, to)).cloned());
        let open = within(&rows.ts, from, to, |t| *t);
        self.ts.extend_from_slice(&rows.ts[open.clone()]);
        self.vs.extend_from_slice(&rows.vs[open]);
        self.late.extend_from_slice(&rows.late[within(&rows.late, from, to, |l| l.0)]);
        let after = (self.chunks.len(), self.ts.len(), self.late.len());
        (after != before).then_some(UngroupedRange {
            chunks: before.0 as u32..after.0 as u32,
            open: before.1 as u32..after.1 as u32,
            late: before.2 as u32..after.2 as u32,
            holes: rows.holes,
        })
    }

    /// The samples of one series.
    pub fn slices(&self, place: &UngroupedRange) -> UngroupedSlices<'_> {
        let range = |r: &Range<u32>| r.start as usize..r.end as usize;
        let chunks = range(&place.chunks);
        let open = range(&place.open);
        let late = range(&place.late);
        UngroupedSlices {
            chunks: &self.chunks[chunks],
            ts: &self.ts[open.clone()],
            vs: &self.vs[open],
            late: &self.late[late],
            holes: place.holes,
        }
    }

    /// As [`UngroupedSlices::spans`], for all series.
    pub fn spans(&self, add: impl FnMut(TimeMs, TimeMs)) {
        UngroupedSlices { chunks: &self.chunks, ts: &self.ts, vs: &self.vs, late: &self.late, holes: false }
            .spans(add);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// A body of 25 MB may hold a million samples of one series in any order.
    #[test]
    fn samples_in_random_order_are_looked_for_in_few_chunks() {
        let n = 40_000i64;
        let mut rows = UngroupedSamples::default();
        // Each time occurs once: 7,919 is coprime to their number.
        for i in 0..n {
            let t = i * 7_919 % n;
            assert_eq!(rows.at(t), None);
            rows.add(t, t as f64, 30_000);
        }
        for t in [0, 1, 29_999, 30_000, n - 1] {
            assert_eq!(rows.at(t), Some(t as f64));
            let over = rows.chunks.iter().filter(|chunk| chunk.overlaps(t, t)).count();
            // As many chunks as runs of 480, 960, 1,920, … samples, and one.
            assert!(over <= 8, "{over} chunks of {} at {t}", rows.chunks.len());
        }
        let mut ts = Vec::new();
        let mut vs = Vec::new();
        rows.slices().read(0, n, &mut ts, &mut vs, |_| ());
        let read: BTreeMap<i64, f64> = ts.into_iter().zip(vs).collect();
        assert_eq!(read, (0..n).map(|t| (t, t as f64)).collect());
    }

    proptest! {
        #[test]
        fn rows_are_a_sorted_map(
            samples in proptest::collection::vec((0i64..4_000, any::<f64>()), 0..900),
            cut in 0i64..4_000,
        ) {
            let mut rows = UngroupedSamples::default();
            let mut model = BTreeMap::new();
            for (t, v) in samples {
                prop_assert_eq!(rows.at(t).map(f64::to_bits), model.get(&t).copied());
                if model.insert(t, v.to_bits()).is_none() {
                    rows.add(t, v, 1_000);
                } else {
                    model.insert(t, rows.at(t).unwrap_or(0.0).to_bits());
                }
            }
            rows.drop_before(cut);
            model.retain(|t, _| *t >= cut);
            let mut ts = Vec::new();
            let mut vs = Vec::new();
            let mut taken = UngroupedSnapshot::default();
            let place = taken.take(&rows, 0, 4_000);
            prop_assert_eq!(place.is_none(), rows.is_empty());
            for place in place.iter() { taken.slices(place).read(0, 4_000, &mut ts, &mut vs, |_| ()); }
            let read: BTreeMap<i64, u64> = ts.iter().copied().zip(vs.iter().map(|v| v.to_bits())).collect();
            prop_assert_eq!(ts.len(), read.len(), "each time once");
            prop_assert_eq!(read, model);
        }
    }
}
