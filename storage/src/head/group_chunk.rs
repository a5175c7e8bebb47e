//! A sealed window of a column set: one clock, each column compressed on its own. Immutable and shared.
//!
//! A column that is constant over the window (most are) is an offset to a value that all columns
//! with it share; a column without any sample costs only its offset. Bytes and offsets are in
//! pieces of one size: windows come and go in all sizes, and the allocator cannot use the place of
//! one for another ([`PIECE_BYTES`]). The open half is in [`super::open_rows`]; windows that are
//! next to each other become one ([`super::chunk_merge`]).

use super::column;
use crate::limits::{PIECE_BYTES, PIECE_OFFSETS};
use crate::model::TimeMs;
use crate::model::value::{ABSENT_BITS, is_absent};
use crate::vec_growth::boxed_exact;
use std::collections::HashMap;
use xxhash_rust::xxh3::Xxh3DefaultBuilder;

const NOTHING: u32 = u32::MAX;
const CONSTANT: u32 = 1 << 31;
/// An offset is the number of a piece and, in its lowest bits, where in that piece.
const PLACE_BITS: u32 = PIECE_BYTES.trailing_zeros();

/// Immutable compressed columns over one clock.
pub struct GroupChunk {
    clock: Box<[TimeMs]>,
    offsets: Box<[Box<[u32]>]>,
    columns: u32,
    pieces: Box<[Box<[u8]>]>,
    present: u32,
}

/// A window in the making: columns in order.
pub struct GroupChunkBuilder {
    offsets: Vec<u32>,
    pieces: Vec<Box<[u8]>>,
    /// The piece in the making.
    open: Vec<u8>,
    constants: HashMap<u64, u32, Xxh3DefaultBuilder>,
    /// The last constant, and its offset.
    before: Option<(u64, u32)>,
    present: u32,
    /// For windows that stay for long.
    thorough: bool,
}

impl GroupChunkBuilder {
    /// A window without columns yet; there will be `columns`.
    pub fn new(columns: usize, thorough: bool) -> GroupChunkBuilder {
        GroupChunkBuilder {
            offsets: Vec::with_capacity(columns),
            pieces: Vec::new(),
            open: Vec::with_capacity(2 * PIECE_BYTES),
            constants: HashMap::default(),
            before: None,
            present: 0,
            thorough,
        }
    }

    /// Columns so far.
    pub fn columns(&self) -> usize {
        self.offsets.len()
    }

    /// Adds the next column: a bit pattern per row, at least one.
    pub fn push(&mut self, column: &[u64]) {
        if column.iter().all(|bits| *bits == column[0]) {
            return self.push_constant(column[0]);
        }
        let start = self.open.len();
        column::encode(column, self.thorough, &mut self.open);
        let offset = self.placed(start);
        self.offsets.push(offset);
        self.present += 1;
    }

    /// The offset of what was written from `start` of the open piece on. If it does not fit,
    /// another piece begins with it.
    fn placed(&mut self, mut start: usize) -> u32 {
        if start > 0 && self.open.len() > PIECE_BYTES {
            self.pieces.push(boxed_exact(&self.open[..start]));
            self.open.drain(..start);
            start = 0;
        }
        (self.pieces.len() as u32) << PLACE_BITS | start as u32
    }

    /// Adds the next column, which has the same bit pattern in all rows.
    pub fn push_constant(&mut self, bits: u64) {
        if bits == ABSENT_BITS {
            return self.offsets.push(NOTHING);
        }
        // Neighbours are often equal.
        let offset = match self.before {
            Some((before, offset)) if before == bits => offset,
            _ => match self.constants.get(&bits) {
                Some(offset) => *offset,
                None => self.place_constant(bits),
            },
        };
        self.before = Some((bits, offset));
        self.offsets.push(offset);
        self.present += 1;
    }

    fn place_constant(&mut self, bits: u64) -> u32 {
        let start = self.open.len();
        self.open.extend_from_slice(&bits.to_le_bytes());
        let offset = self.placed(start) | CONSTANT;
        self.constants.insert(bits, offset);
        offset
    }

    /// The window.
    pub fn finish(mut self, clock: Box<[TimeMs]>) -> GroupChunk {
        self.pieces.push(boxed_exact(&self.open));
        let columns = self.offsets.len() as u32;
        let offsets = self.offsets.chunks(PIECE_OFFSETS).map(boxed_exact).collect();
        GroupChunk { clock, offsets, columns, pieces: self.pieces.into(), present: self.present }
    }
}

impl GroupChunk {
    /// Time of the first row.
    pub fn min(&self) -> TimeMs {
        self.clock[0]
    }

    /// Time of the last row.
    pub fn max(&self) -> TimeMs {
        self.clock[self.clock.len() - 1]
    }

    /// Times of all rows.
    pub fn clock(&self) -> &[TimeMs] {
        &self.clock
    }

    /// Number of columns, those without samples included.
    pub fn columns(&self) -> usize {
        self.columns as usize
    }

    /// Number of columns with at least one sample.
    pub fn present(&self) -> u32 {
        self.present
    }

    /// Whether column `c` has a sample.
    pub fn has(&self, c: u32) -> bool {
        self.offset(c).is_some()
    }

    /// Where column `c` is, if it has a sample.
    fn offset(&self, c: u32) -> Option<u32> {
        let piece = self.offsets.get(c as usize / PIECE_OFFSETS)?;
        piece.get(c as usize % PIECE_OFFSETS).copied().filter(|offset| *offset != NOTHING)
    }

    /// What begins at an offset.
    fn bytes_at(&self, offset: u32) -> &[u8] {
        let place = (offset & !CONSTANT) as usize;
        &self.pieces[place >> PLACE_BITS][place % PIECE_BYTES..]
    }

    /// The bit pattern that column `c` has in all rows, if it is known to have one.
    pub fn constant(&self, c: u32) -> Option<u64> {
        match self.offset(c) {
            None => Some(ABSENT_BITS),
            Some(offset) => (offset & CONSTANT != 0).then(|| self.pattern(offset)),
        }
    }

    /// The bit pattern of a constant column with this offset.
    fn pattern(&self, offset: u32) -> u64 {
        self.bytes_at(offset).first_chunk::<8>().map_or(ABSENT_BITS, |b| u64::from_le_bytes(*b))
    }

    /// Calls `take(row, bits)` for the first `rows` rows of column `c`, absent ones included;
    /// nothing if it has none.
    fn bits(&self, c: u32, rows: usize, mut take: impl FnMut(usize, u64)) {
        let Some(offset) = self.offset(c) else { return };
        if offset & CONSTANT == 0 {
            return column::decode(self.bytes_at(offset), rows, take);
        }
        let bits = self.pattern(offset);
        (0..rows).for_each(|row| take(row, bits));
    }

    /// Appends all rows of column `c`, absent ones included.
    pub fn append_bits(&self, c: u32, out: &mut Vec<u64>) {
        if self.has(c) {
            self.bits(c, self.clock.len(), |_, bits| out.push(bits));
        } else {
            out.resize(out.len() + self.clock.len(), ABSENT_BITS);
        }
    }

    /// Appends the samples of column `c` with `from ≤ t ≤ to`.
    pub fn read(&self, c: u32, from: TimeMs, to: TimeMs, ts: &mut Vec<TimeMs>, vs: &mut Vec<f64>) {
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
    pub fn latest(&self, c: u32, from: TimeMs, to: TimeMs) -> Option<(TimeMs, f64)> {
        let first = self.clock.partition_point(|t| *t < from);
        let end = self.clock.partition_point(|t| *t <= to);
        if first >= end {
            return None;
        }
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
