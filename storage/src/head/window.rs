//! A sealed window of a column set: one clock, each column compressed on its own. Immutable and shared.
//!
//! A column that is constant over the window (most are) is an offset to a value that all columns with it
//! share; a column without any sample costs only its offset. The open half is in [`super::columns`]; windows that are
//! next to each other become one ([`super::fold`]).

use super::column;
use crate::model::TimeMs;
use crate::model::value::{ABSENT_BITS, is_absent};
use crate::room::exact;
use std::collections::HashMap;
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3DefaultBuilder;

/// The values of one scrape, in the order of the set's columns; may be shorter than the set.
pub type Row = (TimeMs, Arc<[f64]>);

const NOTHING: u32 = u32::MAX;
const CONSTANT: u32 = 1 << 31;

/// Immutable compressed columns over one clock.
pub struct Window {
    clock: Box<[TimeMs]>,
    offsets: Box<[u32]>,
    bytes: Box<[u8]>,
    present: u32,
}

/// A window in the making: columns in order.
pub struct WindowBuilder {
    offsets: Vec<u32>,
    bytes: Vec<u8>,
    constants: HashMap<u64, u32, Xxh3DefaultBuilder>,
    /// The last constant, and its offset.
    before: Option<(u64, u32)>,
    present: u32,
    /// For windows that stay for long.
    thorough: bool,
}

impl WindowBuilder {
    /// A window without columns yet; there will be `columns`, in some `bytes`.
    pub fn new(columns: usize, bytes: usize, thorough: bool) -> WindowBuilder {
        WindowBuilder {
            offsets: Vec::with_capacity(columns),
            bytes: Vec::with_capacity(bytes),
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
        self.offsets.push(self.bytes.len() as u32);
        column::encode(column, self.thorough, &mut self.bytes);
        self.present += 1;
    }

    /// Adds the next column, which has the same bit pattern in all rows.
    pub fn push_constant(&mut self, bits: u64) {
        if bits == ABSENT_BITS {
            return self.offsets.push(NOTHING);
        }
        // Neighbours are often equal.
        let offset = match self.before {
            Some((before, offset)) if before == bits => offset,
            _ => *self.constants.entry(bits).or_insert_with(|| {
                self.bytes.extend_from_slice(&bits.to_le_bytes());
                (self.bytes.len() - 8) as u32 | CONSTANT
            }),
        };
        self.before = Some((bits, offset));
        self.offsets.push(offset);
        self.present += 1;
    }

    /// The window.
    pub fn finish(self, clock: Box<[TimeMs]>) -> Window {
        let (offsets, bytes) = (self.offsets.into(), exact(&self.bytes));
        Window { clock, offsets, bytes, present: self.present }
    }
}

/// Of each column its first bit pattern, and all bits in which others differ from that. Row by row: columns side by side
/// are what a processor compares at once.
fn outlines(rows: &[Row], columns: usize) -> (Vec<u64>, Vec<u64>) {
    let there = rows[0].1.iter().map(|v| v.to_bits()).chain(std::iter::repeat(ABSENT_BITS));
    let first: Vec<u64> = there.take(columns).collect();
    let mut moves = vec![0; columns];
    for (_, row) in &rows[1..] {
        let there = row.iter().map(|v| v.to_bits()).chain(std::iter::repeat(ABSENT_BITS));
        moves.iter_mut().zip(&first).zip(there).for_each(|((moves, first), bits)| *moves |= first ^ bits);
    }
    (first, moves)
}

impl Window {
    /// Compresses `rows` (at least one, ascending), which hold up to `columns` values each.
    pub fn seal(rows: &[Row], columns: usize) -> Window {
        let mut builder = WindowBuilder::new(columns, columns * 8, false);
        let mut column = Vec::with_capacity(rows.len());
        let (first, moves) = outlines(rows, columns);
        for (c, bits) in first.into_iter().enumerate() {
            if moves[c] == 0 {
                builder.push_constant(bits);
                continue;
            }
            column.clear();
            column.extend(rows.iter().map(|(_, row)| row.get(c).map_or(ABSENT_BITS, |v| v.to_bits())));
            builder.push(&column);
        }
        builder.finish(rows.iter().map(|(t, _)| *t).collect())
    }

    /// Time of the first row.
    pub fn min(&self) -> TimeMs {
        self.clock[0]
    }

    /// Time of the last row.
    pub fn max(&self) -> TimeMs {
        self.clock[self.clock.len() - 1]
    }

    /// Bytes of all columns.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Times of all rows.
    pub fn clock(&self) -> &[TimeMs] {
        &self.clock
    }

    /// Number of columns, those without samples included.
    pub fn columns(&self) -> usize {
        self.offsets.len()
    }

    /// Number of columns with at least one sample.
    pub fn present(&self) -> u32 {
        self.present
    }

    /// Whether column `c` has a sample.
    pub fn has(&self, c: u32) -> bool {
        self.offsets.get(c as usize).is_some_and(|offset| *offset != NOTHING)
    }

    /// The bit pattern that column `c` has in all rows, if it is known to have one.
    pub fn constant(&self, c: u32) -> Option<u64> {
        match self.offsets.get(c as usize) {
            Some(&NOTHING) | None => Some(ABSENT_BITS),
            Some(offset) => (offset & CONSTANT != 0).then(|| self.pattern(*offset)),
        }
    }

    /// The bit pattern of a constant column with this offset.
    fn pattern(&self, offset: u32) -> u64 {
        let at = (offset ^ CONSTANT) as usize;
        self.bytes[at..].first_chunk::<8>().map_or(ABSENT_BITS, |b| u64::from_le_bytes(*b))
    }

    /// Calls `take(row, bits)` for the first `rows` rows of column `c`, absent ones included; nothing if it has none.
    fn bits(&self, c: u32, rows: usize, mut take: impl FnMut(usize, u64)) {
        let Some(&offset) = self.offsets.get(c as usize).filter(|offset| **offset != NOTHING) else { return };
        if offset & CONSTANT == 0 {
            return column::decode(&self.bytes[offset as usize..], rows, take);
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
}
