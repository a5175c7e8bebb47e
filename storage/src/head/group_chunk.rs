//! A group chunk: a sealed run of rows (scrapes) of a column set. All columns share one list of
//! times (the clock); each column is compressed on its own ([`super::column`]). Immutable, and
//! shared with readers.
//!
//! A column that is constant over the chunk (most are) is an offset to a value that all columns
//! with this value share. A column without samples costs only its offset. Bytes and offsets are in
//! pages of one size ([`CHUNK_PAGE_BYTES`]): chunks of all sizes are made and freed, and the
//! allocator could not reuse the memory of one size for another. Rows that are not sealed yet are
//! in [`super::open_rows`]; adjacent chunks are merged by [`super::chunk_merge`].

use super::column;
use crate::limits::{CHUNK_PAGE_BYTES, CHUNK_PAGE_OFFSETS};
use crate::model::TimeMs;
use crate::model::value::{ABSENT_BITS, is_absent};
use crate::vec_growth::boxed_exact;
use std::collections::HashMap;
use xxhash_rust::xxh3::Xxh3DefaultBuilder;

/// The offset of a column without samples.
const NOTHING: u32 = u32::MAX;
/// Set in the offset of a column with one value for all rows.
const CONSTANT: u32 = 1 << 31;
/// An offset is the number of a page of the bytes; its lowest `PAGE_BITS` bits are the position
/// within the page.
const PAGE_BITS: u32 = CHUNK_PAGE_BYTES.trailing_zeros();

/// Immutable compressed columns with one clock.
pub(super) struct GroupChunk {
    /// The times of the rows, ms, ascending.
    clock: Box<[TimeMs]>,
    /// By column: where its values begin, [`CONSTANT`] and where its value is, or [`NOTHING`].
    offsets: Box<[Box<[u32]>]>,
    /// Number of columns.
    columns: u32,
    /// The compressed bytes.
    pages: Box<[Box<[u8]>]>,
    /// Number of columns with samples.
    present: u32,
}

/// A chunk that is being built, column by column.
pub(super) struct GroupChunkBuilder {
    offsets: Vec<u32>,
    pages: Vec<Box<[u8]>>,
    /// The page that is being filled.
    open: Vec<u8>,
    constants: HashMap<u64, u32, Xxh3DefaultBuilder>,
    /// The constant that was pushed last, and its offset.
    before: Option<(u64, u32)>,
    present: u32,
    /// Whether to compress slower and better, for chunks that are kept for long.
    thorough: bool,
}

impl GroupChunkBuilder {
    /// A builder without columns; `columns` is the number that is expected.
    pub(super) fn new(columns: usize, thorough: bool) -> GroupChunkBuilder {
        GroupChunkBuilder {
            offsets: Vec::with_capacity(columns),
            pages: Vec::new(),
            open: Vec::with_capacity(2 * CHUNK_PAGE_BYTES),
            constants: HashMap::default(),
            before: None,
            present: 0,
            thorough,
        }
    }

    /// Number of columns so far.
    pub(super) fn columns(&self) -> usize {
        self.offsets.len()
    }

    /// Adds the next column: one bit pattern per row, at least one row.
    pub(super) fn push(&mut self, column: &[u64]) {
        // By bits, not by value: minus zero, and the different NaNs of stale markers, must come
        // back as they were.
        if column.iter().all(|bits| *bits == column[0]) {
            return self.push_constant(column[0]);
        }
        let start = self.open.len();
        column::encode(column, self.thorough, &mut self.open);
        let offset = self.offset_from(start);
        self.offsets.push(offset);
        self.present += 1;
    }

    /// The offset of the bytes that were written to the open page from `start` on. If the page is
    /// too large with them, the bytes begin a new page.
    fn offset_from(&mut self, mut start: usize) -> u32 {
        // A column longer than a page begins a page of its own, which is then larger: columns are
        // never divided, so a read touches one page.
        if start > 0 && self.open.len() > CHUNK_PAGE_BYTES {
            self.pages.push(boxed_exact(&self.open[..start]));
            self.open.drain(..start);
            start = 0;
        }
        (self.pages.len() as u32) << PAGE_BITS | start as u32
    }

    /// Adds the next column, with the same bit pattern in all rows.
    pub(super) fn push_constant(&mut self, bits: u64) {
        // Series that ended, or have not begun: they take no bytes, and readers skip the chunk.
        if bits == ABSENT_BITS {
            return self.offsets.push(NOTHING);
        }
        // Neighbouring columns often have the same constant: no hash lookup then.
        let offset = match self.before {
            Some((before, offset)) if before == bits => offset,
            _ => match self.constants.get(&bits) {
                Some(offset) => *offset,
                None => self.push_new_constant(bits),
            },
        };
        self.before = Some((bits, offset));
        self.offsets.push(offset);
        self.present += 1;
    }

    fn push_new_constant(&mut self, bits: u64) -> u32 {
        let start = self.open.len();
        self.open.extend_from_slice(&bits.to_le_bytes());
        let offset = self.offset_from(start) | CONSTANT;
        self.constants.insert(bits, offset);
        offset
    }

    /// The finished chunk; `clock` has the time of each row.
    pub(super) fn finish(mut self, clock: Box<[TimeMs]>) -> GroupChunk {
        // The last page, also if it is empty: an offset then still finds a page.
        self.pages.push(boxed_exact(&self.open));
        let columns = self.offsets.len() as u32;
        let offsets = self.offsets.chunks(CHUNK_PAGE_OFFSETS).map(boxed_exact).collect();
        GroupChunk { clock, offsets, columns, pages: self.pages.into(), present: self.present }
    }
}

impl GroupChunk {
    /// Time of the first row.
    pub(super) fn min(&self) -> TimeMs {
        self.clock[0]
    }

    /// Time of the last row.
    pub(super) fn max(&self) -> TimeMs {
        self.clock[self.clock.len() - 1]
    }

    /// The times of all rows.
    pub(super) fn clock(&self) -> &[TimeMs] {
        &self.clock
    }

    /// Number of columns, including those without samples.
    pub(super) fn columns(&self) -> usize {
        self.columns as usize
    }

    /// Number of columns with at least one sample.
    pub(super) fn present(&self) -> u32 {
        self.present
    }

    /// Whether column `c` has a sample.
    pub(super) fn has(&self, c: u32) -> bool {
        self.offset(c).is_some()
    }

    /// The offset of column `c`, if it has a sample.
    fn offset(&self, c: u32) -> Option<u32> {
        let page = self.offsets.get(c as usize / CHUNK_PAGE_OFFSETS)?;
        page.get(c as usize % CHUNK_PAGE_OFFSETS).copied().filter(|offset| *offset != NOTHING)
    }

    /// The bytes from an offset on.
    fn bytes_at(&self, offset: u32) -> &[u8] {
        let at = (offset & !CONSTANT) as usize;
        &self.pages[at >> PAGE_BITS][at % CHUNK_PAGE_BYTES..]
    }

    /// The bit pattern that column `c` has in all rows, if it is stored as a constant. A column
    /// without samples is constant *absent*.
    pub(super) fn constant(&self, c: u32) -> Option<u64> {
        match self.offset(c) {
            None => Some(ABSENT_BITS),
            Some(offset) => (offset & CONSTANT != 0).then(|| self.pattern(offset)),
        }
    }

    /// The bit pattern of a constant column with this offset.
    fn pattern(&self, offset: u32) -> u64 {
        self.bytes_at(offset).first_chunk::<8>().map_or(ABSENT_BITS, |b| u64::from_le_bytes(*b))
    }

    /// Calls `take(row, bits)` for the first `rows` rows of column `c`, including absent values.
    /// Calls nothing if the column has no sample.
    fn bits(&self, c: u32, rows: usize, mut take: impl FnMut(usize, u64)) {
        let Some(offset) = self.offset(c) else { return };
        if offset & CONSTANT == 0 {
            return column::decode(self.bytes_at(offset), rows, take);
        }
        let bits = self.pattern(offset);
        for row in 0..rows {
            take(row, bits);
        }
    }

    /// Appends all rows of column `c`, including absent values.
    pub(super) fn append_bits(&self, c: u32, out: &mut Vec<u64>) {
        if self.has(c) {
            self.bits(c, self.clock.len(), |_, bits| out.push(bits));
        } else {
            out.resize(out.len() + self.clock.len(), ABSENT_BITS);
        }
    }

    /// Appends the samples of column `c` with `from ≤ t ≤ to`.
    pub(super) fn read(&self, c: u32, from: TimeMs, to: TimeMs, ts: &mut Vec<TimeMs>, vs: &mut Vec<f64>) {
        let first = self.clock.partition_point(|t| *t < from);
        let end = self.clock.partition_point(|t| *t <= to);
        if first >= end {
            return;
        }
        self.bits(c, end, |i, bits| {
            let v = f64::from_bits(bits);
            if i >= first && !is_absent(v) {
                ts.push(self.clock[i]);
                vs.push(v);
            }
        });
    }

    /// The newest sample of column `c` with `from ≤ t ≤ to`.
    pub(super) fn latest(&self, c: u32, from: TimeMs, to: TimeMs) -> Option<(TimeMs, f64)> {
        let first = self.clock.partition_point(|t| *t < from);
        let end = self.clock.partition_point(|t| *t <= to);
        if first >= end {
            return None;
        }
        // Decoding runs forwards only, so the last value within the range is kept.
        let mut latest = None;
        match self.constant(c) {
            Some(bits) => latest = Some((end - 1, f64::from_bits(bits))),
            None => self.bits(c, end, |i, bits| {
                let v = f64::from_bits(bits);
                if i >= first && !is_absent(v) {
                    latest = Some((i, v));
                }
            }),
        }
        latest.filter(|(_, v)| !is_absent(*v)).map(|(i, v)| (self.clock[i], v))
    }
}
