//! Writes chunks of floats: times as deltas of deltas, values as XOR with the value before
//! (Gorilla), as Prometheus does. [`super`] chooses the kind of chunk.

use super::bits::{BitWriter, XorColumn};
use storage::model::TimeMs;

/// The widths of a delta of a delta, by the number of leading ones; Gorilla's paper has others.
const WIDTHS: [u32; 3] = [14, 17, 20];

/// A chunk that is being written.
pub(super) struct XorChunk {
    bits: BitWriter,
    column: XorColumn,
    samples: u16,
    t: TimeMs,
    delta: i64,
}

impl XorChunk {
    /// A chunk with its first sample.
    pub(super) fn begin(t: TimeMs, v: f64) -> XorChunk {
        let mut bits = BitWriter::after(&[0; 2]);
        bits.varint(t);
        bits.double(v);
        XorChunk { bits, column: XorColumn::begin(v), samples: 1, t, delta: 0 }
    }

    /// Appends a sample, which is later than the one before.
    pub(super) fn append(&mut self, t: TimeMs, v: f64) {
        let delta = t - self.t;
        if self.samples == 1 {
            self.bits.uvarint(delta as u64);
        } else {
            self.put_delta_of_delta(delta - self.delta);
        }
        self.column.append(&mut self.bits, v);
        self.t = t;
        self.delta = delta;
        self.samples += 1;
    }

    /// Writes how much the distance to the sample before differs from the last one.
    fn put_delta_of_delta(&mut self, change: i64) {
        if change == 0 {
            self.bits.bit(false);
            return;
        }
        for (at, width) in WIDTHS.into_iter().enumerate() {
            let half = 1i64 << (width - 1);
            if (-(half - 1)..=half).contains(&change) {
                // `at + 1` ones and a zero.
                self.bits.bits((1 << (at + 2)) - 2, at as u32 + 2);
                self.bits.bits(change as u64, width);
                return;
            }
        }
        self.bits.bits(0b1111, 4);
        self.bits.bits(change as u64, 64);
    }

    /// The data of the chunk.
    pub(super) fn finish(self) -> Vec<u8> {
        let mut bytes = self.bits.into_bytes();
        bytes[..2].copy_from_slice(&self.samples.to_be_bytes());
        bytes
    }
}
