//! A sealed window of a column set: one clock, each column compressed on its own. Immutable and shared.
//!
//! A column that is constant over the window (most are) is an offset to a value that all columns with it
//! share; a column without any sample costs only its offset. The open half is in [`super::columns`].

use super::xor;
use crate::model::TimeMs;
use crate::model::value::{ABSENT_BITS, is_absent};
use std::collections::HashMap;
use std::sync::Arc;

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

impl Window {
    /// Compresses `rows` (at least one, ascending), which hold up to `columns` values each.
    pub fn seal(rows: &[Row], columns: usize) -> Window {
        let mut bytes = Vec::with_capacity(columns * 8);
        let mut offsets = Vec::with_capacity(columns);
        let mut constants: HashMap<u64, u32> = HashMap::new();
        let mut column = Vec::with_capacity(rows.len());
        let mut present = 0;
        for c in 0..columns {
            column.clear();
            column.extend(rows.iter().map(|(_, row)| row.get(c).map_or(ABSENT_BITS, |v| v.to_bits())));
            let first = column[0];
            if column.iter().any(|bits| *bits != first) {
                offsets.push(bytes.len() as u32);
                xor::encode(column.iter().copied(), &mut bytes);
                present += 1;
            } else if first == ABSENT_BITS {
                offsets.push(NOTHING);
            } else {
                offsets.push(*constants.entry(first).or_insert_with(|| {
                    bytes.extend_from_slice(&first.to_le_bytes());
                    (bytes.len() - 8) as u32 | CONSTANT
                }));
                present += 1;
            }
        }
        let clock = rows.iter().map(|(t, _)| *t).collect();
        Window { clock, offsets: offsets.into(), bytes: bytes.into(), present }
    }

    /// Time of the first row.
    pub fn min(&self) -> TimeMs {
        self.clock[0]
    }

    /// Time of the last row.
    pub fn max(&self) -> TimeMs {
        self.clock[self.clock.len() - 1]
    }

    /// Number of columns with at least one sample.
    pub fn present(&self) -> u32 {
        self.present
    }

    /// Whether column `c` has a sample.
    pub fn has(&self, c: u32) -> bool {
        self.offsets.get(c as usize).is_some_and(|offset| *offset != NOTHING)
    }

    /// Appends the samples of column `c` with `from ≤ t ≤ to`.
    pub fn read(&self, c: u32, from: TimeMs, to: TimeMs, ts: &mut Vec<TimeMs>, vs: &mut Vec<f64>) {
        let Some(&offset) = self.offsets.get(c as usize).filter(|offset| **offset != NOTHING) else { return };
        let first = self.clock.partition_point(|t| *t < from);
        let end = self.clock.partition_point(|t| *t <= to);
        if first >= end {
            return;
        }
        if offset & CONSTANT != 0 {
            let at = (offset ^ CONSTANT) as usize;
            let bits = self.bytes[at..].first_chunk::<8>().map_or(ABSENT_BITS, |b| u64::from_le_bytes(*b));
            ts.extend_from_slice(&self.clock[first..end]);
            vs.extend(std::iter::repeat_n(f64::from_bits(bits), end - first));
            return;
        }
        xor::decode(&self.bytes[offset as usize..], end, |i, bits| {
            let v = f64::from_bits(bits);
            if i >= first && !is_absent(v) {
                ts.push(self.clock[i]);
                vs.push(v);
            }
        });
    }
}
