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
        let WindowBuilder { offsets, bytes, constants, .. } = self;
        let first = column[0];
        if column.iter().any(|bits| *bits != first) {
            offsets.push(bytes.len() as u32);
            column::encode(column, self.thorough, bytes);
        } else if first == ABSENT_BITS {
            return offsets.push(NOTHING);
        } else {
            offsets.push(*constants.entry(first).or_insert_with(|| {
                bytes.extend_from_slice(&first.to_le_bytes());
                (bytes.len() - 8) as u32 | CONSTANT
            }));
        }
        self.present += 1;
    }

    /// The window.
    pub fn finish(self, clock: Box<[TimeMs]>) -> Window {
        let (offsets, bytes) = (self.offsets.into(), exact(&self.bytes));
        Window { clock, offsets, bytes, present: self.present }
    }
}

impl Window {
    /// Compresses `rows` (at least one, ascending), which hold up to `columns` values each.
    pub fn seal(rows: &[Row], columns: usize) -> Window {
        let mut builder = WindowBuilder::new(columns, columns * 8, false);
        let mut column = Vec::with_capacity(rows.len());
        for c in 0..columns {
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

    /// Calls `take(row, bits)` for the first `rows` rows of column `c`, absent ones included; nothing if it has none.
    fn bits(&self, c: u32, rows: usize, mut take: impl FnMut(usize, u64)) {
        let Some(&offset) = self.offsets.get(c as usize).filter(|offset| **offset != NOTHING) else { return };
        if offset & CONSTANT == 0 {
            return column::decode(&self.bytes[offset as usize..], rows, take);
        }
        let at = (offset ^ CONSTANT) as usize;
        let bits = self.bytes[at..].first_chunk::<8>().map_or(ABSENT_BITS, |b| u64::from_le_bytes(*b));
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
