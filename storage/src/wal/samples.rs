//! Payloads of sample records in the write-ahead log: layouts, scrapes, single samples. All numbers
//! are little-endian and hand-specified, so that the format does not depend on a crate;
//! `docs/format/wal.md` is the specification. [`super::record`] frames a payload as a record,
//! [`super::group_encoder`] decides what is written.
//!
//! - A *shard* is a fixed share of the series; a *slot* is the number of a series in its shard.
//! - A *group* is the series of one scrape target or rule in one shard. Its columns are these
//!   series.
//! - A *layout* says which series the columns of a group are: `group u32, first column u32, n u32`,
//!   then n slots of 4 bytes.
//! - A *scrape* is one time and a value per column of a group. It is whole (a *keyframe*) or a
//!   difference to an earlier scrape (a *delta*), which it names by the LSN (record number) of that
//!   one: `group u32, time u64 in ms, LSN of the base u64 (0: keyframe), columns n u32`, then one
//!   bit per column (its value differs from the base; lowest bit first), then for each such column
//!   the new bits XOR the base's bits as a *coded word*: a byte `leading zero bytes << 4 | k`, then
//!   k bytes, lowest first. So a scrape costs one bit per column, and for each changed value one
//!   byte plus the bytes that differ.
//! - *Single samples* are those of series without a group: `shard u32, n u32`, then for each the
//!   differences of slot and time to the sample before (zigzag LEB128) and the value as a coded
//!   word.

use crate::encoding::varint::{put_varint, unzigzag, zigzag};
use crate::limits::GROUP_COLUMNS;
use crate::model::TimeMs;
use crate::model::value::ABSENT_BITS;

/// Encodes a layout: the columns of a group from `from` on are `slots`.
pub(super) fn put_layout(out: &mut Vec<u8>, group: u32, from: u32, slots: &[u32]) {
    for v in [group, from, slots.len() as u32].iter().chain(slots) {
        out.extend_from_slice(&v.to_le_bytes());
    }
}

/// The earlier scrape of a group to which a delta is the difference.
#[derive(Copy, Clone)]
pub(super) struct BaseRow<'a> {
    /// Its values, by column.
    pub values: &'a [f64],
    /// The LSN of its record.
    pub lsn: u64,
}

/// Encodes a scrape: a delta if it has a base, else a keyframe.
pub(super) fn put_scrape(out: &mut Vec<u8>, group: u32, t: TimeMs, row: &[f64], base: Option<BaseRow>) {
    out.extend_from_slice(&group.to_le_bytes());
    out.extend_from_slice(&t.to_le_bytes());
    out.extend_from_slice(&base.map_or(0, |base| base.lsn).to_le_bytes());
    out.extend_from_slice(&(row.len() as u32).to_le_bytes());
    let bitmap = out.len();
    out.resize(bitmap + row.len().div_ceil(8), 0);
    out.reserve(row.len() * 3);
    let base_values = base.map_or(&[][..], |base| base.values);
    for (byte, values) in row.chunks(8).enumerate() {
        let mut changed = 0u8;
        for (bit, v) in values.iter().enumerate() {
            let old = base_values.get(byte * 8 + bit).map_or(ABSENT_BITS, |v| v.to_bits());
            if v.to_bits() != old {
                changed |= 1 << bit;
                put_bits(out, v.to_bits() ^ xor_operand(old));
            }
        }
        out[bitmap + byte] = changed;
    }
}

/// The bits with which a value is XORed: those of the value in the base, or zero if that has no
/// sample.
fn xor_operand(old: u64) -> u64 {
    if old == ABSENT_BITS { 0 } else { old }
}

/// Encodes a word: one byte `leading zero bytes << 4 | k`, then the `k` significant bytes, lowest
/// first.
#[inline]
pub(super) fn put_bits(out: &mut Vec<u8>, word: u64) {
    let leading_zero_bytes = word.leading_zeros() / 8;
    // Zero has 8 zero bytes at both ends; they count once.
    let trailing_zero_bytes = (word.trailing_zeros() / 8).min(8 - leading_zero_bytes);
    let significant_bytes = 8 - leading_zero_bytes - trailing_zero_bytes;
    let bytes = word.checked_shr(trailing_zero_bytes * 8).unwrap_or(0).to_le_bytes();
    out.push((leading_zero_bytes << 4 | significant_bytes) as u8);
    out.extend_from_slice(&bytes[..significant_bytes as usize]);
}

/// Reads a payload from front to back. Every read returns `None` past the end.
pub struct PayloadReader<'a> {
    bytes: &'a [u8],
}

impl<'a> PayloadReader<'a> {
    /// A reader at the beginning of `bytes`.
    pub fn new(bytes: &'a [u8]) -> PayloadReader<'a> {
        PayloadReader { bytes }
    }

    /// The next `n` bytes.
    pub fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.bytes.split_at_checked(n)?;
        self.bytes = tail;
        Some(head)
    }

    /// A little-endian u32.
    pub fn u32(&mut self) -> Option<u32> {
        self.take(4)?.first_chunk().map(|b| u32::from_le_bytes(*b))
    }

    /// A little-endian u64.
    pub fn u64(&mut self) -> Option<u64> {
        self.take(8)?.first_chunk().map(|b| u64::from_le_bytes(*b))
    }

    /// One byte.
    pub fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    /// A word encoded by `put_bits`.
    pub fn bits(&mut self) -> Option<u64> {
        let control = self.byte()?;
        let lead = u32::from(control >> 4);
        let len = u32::from(control & 15);
        // No encoder writes this: the payload is damaged.
        if lead + len > 8 {
            return None;
        }
        let word = match self.bytes.first_chunk::<8>() {
            // Reads eight bytes at once and masks those that belong to what follows: faster than a
            // loop.
            Some(word) => u64::from_le_bytes(*word) & u64::MAX.checked_shr(64 - len * 8).unwrap_or(0),
            None => {
                let mut word = [0; 8];
                word.get_mut(..len as usize)?.copy_from_slice(self.bytes.get(..len as usize)?);
                u64::from_le_bytes(word)
            }
        };
        self.take(len as usize)?;
        Some(word.checked_shl((8 - lead - len) * 8).unwrap_or(0))
    }

    /// A LEB128 number.
    pub fn varint(&mut self) -> Option<u64> {
        let mut v = 0u64;
        let mut shift = 0;
        loop {
            let byte = self.byte()?;
            // `None` after ten bytes: a longer number is damage.
            v |= u64::from(byte & 0x7f).checked_shl(shift)?;
            shift += 7;
            if byte & 0x80 == 0 {
                return Some(v);
            }
        }
    }

    /// Whether everything is read.
    pub fn is_done(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// A decoded layout payload.
pub struct LayoutRecord {
    /// The id of the group: its index * 16 + shard.
    pub group: u32,
    /// The first column.
    pub from: u32,
    /// The slots of the columns from there on.
    pub slots: Vec<u32>,
}

/// Decodes a layout. The reader is then after it.
pub fn take_layout(cursor: &mut PayloadReader) -> Option<LayoutRecord> {
    let group = cursor.u32()?;
    let from = cursor.u32()?;
    let count = cursor.u32()? as usize;
    let slots = cursor.take(count.checked_mul(4)?)?;
    let slots =
        slots.chunks_exact(4).filter_map(|b| b.first_chunk().map(|b| u32::from_le_bytes(*b))).collect();
    Some(LayoutRecord { group, from, slots })
}

/// Bytes of the fixed part of a scrape payload.
pub const SCRAPE_HEAD: usize = 20;

/// The fixed part of a scrape payload.
pub struct ScrapeHeader {
    /// The id of the group.
    pub group: u32,
    /// The time of the scrape, ms.
    pub t: TimeMs,
    /// LSN of the row to which the scrape is a difference; 0 for a keyframe.
    pub base: u64,
}

/// Decodes the fixed part. The reader is then at the values.
pub fn take_scrape_head(cursor: &mut PayloadReader) -> Option<ScrapeHeader> {
    Some(ScrapeHeader { group: cursor.u32()?, t: cursor.u64()? as i64, base: cursor.u64()? })
}

/// The encoded values of a scrape: one bit per column, and an encoded word for each column that
/// changed.
#[derive(Copy, Clone)]
pub struct EncodedRow<'a> {
    /// Number of columns.
    pub columns: usize,
    /// The bits, followed by the words.
    pub bytes: &'a [u8],
}

/// Reads the encoded values of a scrape: the rest of the payload.
pub fn take_raw_row<'a>(cursor: &mut PayloadReader<'a>) -> Option<EncodedRow<'a>> {
    let columns = cursor.u32().map(|n| n as usize).filter(|n| *n <= GROUP_COLUMNS)?;
    let bytes = cursor.take(cursor.bytes.len())?;
    (bytes.len() >= columns.div_ceil(8)).then_some(EncodedRow { columns, bytes })
}

impl EncodedRow<'_> {
    /// Changes `row` from the base of this row (for a keyframe: all *absent*) to this row; it must
    /// have the same number of columns. Only changed columns are visited, because most values stay
    /// the same: calls `changed(column, bits before, bits now)` for each. `None` if the row is
    /// malformed; then `row` is invalid.
    #[inline]
    pub fn apply(&self, row: &mut [f64], mut changed: impl FnMut(usize, u64, u64)) -> Option<()> {
        let (bitmap, words) = self.bytes.split_at_checked(self.columns.div_ceil(8))?;
        let mut cursor = PayloadReader::new(words);
        for (byte, bits) in bitmap.iter().enumerate() {
            let mut bits = *bits;
            while bits != 0 {
                let column = byte * 8 + bits.trailing_zeros() as usize;
                // Bits after the last column are padding.
                let Some(value) = row.get_mut(column) else { break };
                let before = value.to_bits();
                let now = cursor.bits()? ^ xor_operand(before);
                *value = f64::from_bits(now);
                changed(column, before, now);
                bits &= bits - 1;
            }
        }
        cursor.is_done().then_some(())
    }
}

/// Encodes single samples of one shard: (slot, time, value).
pub fn put_samples(out: &mut Vec<u8>, shard: u16, samples: &[(u32, TimeMs, f64)]) {
    out.extend_from_slice(&u32::from(shard).to_le_bytes());
    out.extend_from_slice(&(samples.len() as u32).to_le_bytes());
    let mut slot = 0i64;
    let mut time = 0i64;
    for (s, t, v) in samples {
        put_varint(out, zigzag(i64::from(*s) - slot));
        put_varint(out, zigzag(t.wrapping_sub(time)));
        put_bits(out, v.to_bits());
        slot = i64::from(*s);
        time = *t;
    }
}

/// Decodes single samples: calls `visit(shard, slot, time, value)` for each. `None` if the payload
/// is malformed.
pub fn take_samples(payload: &[u8], visit: impl FnMut(u32, u32, TimeMs, f64)) -> Option<()> {
    take_values(payload, |cursor| cursor.bits().map(f64::from_bits), visit)
}

/// Decodes a payload with one value for each of some slots and times, which `value` reads: calls
/// `visit(shard, slot, time, value)` for each. `None` if the payload is malformed; `visit` may have
/// been called before.
pub(super) fn take_values<T>(
    payload: &[u8],
    mut value: impl FnMut(&mut PayloadReader) -> Option<T>,
    mut visit: impl FnMut(u32, u32, TimeMs, T),
) -> Option<()> {
    let mut cursor = PayloadReader::new(payload);
    let shard = cursor.u32()?;
    let count = cursor.u32()?;
    let mut slot = 0i64;
    let mut time = 0i64;
    for _ in 0..count {
        slot = slot.wrapping_add(unzigzag(cursor.varint()?));
        time = time.wrapping_add(unzigzag(cursor.varint()?));
        visit(shard, u32::try_from(slot).ok()?, time, value(&mut cursor)?);
    }
    // Bytes after the last value: the record is not what its kind says.
    cursor.is_done().then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::value::{ABSENT, STALE};
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            Just(ABSENT),
            Just(STALE),
            Just(0.0),
            Just(-0.0),
            Just(f64::INFINITY),
            Just(1.0),
            (0i32..1000).prop_map(f64::from),
            any::<u64>().prop_map(f64::from_bits),
        ]
    }

    fn bits(row: &[f64]) -> Vec<u64> {
        row.iter().map(|v| v.to_bits()).collect()
    }

    proptest! {
        #[test]
        fn scrapes_round_trip(
            before in proptest::collection::vec(value(), 0..40),
            row in proptest::collection::vec(value(), 0..40),
            t in any::<i64>(),
        ) {
            let mut out = Vec::new();
            put_scrape(&mut out, 3, t, &row, Some(BaseRow { values: &before, lsn: 9 }));
            let mut cursor = PayloadReader::new(&out);
            let head = take_scrape_head(&mut cursor).unwrap();
            prop_assert_eq!((head.group, head.t, head.base), (3, t, 9));
            let mut back = before.clone();
            back.resize(row.len(), ABSENT);
            let mut seen = back.clone();
            let raw = take_raw_row(&mut cursor).unwrap();
            prop_assert_eq!(raw.columns, row.len());
            let change = |column: usize, before: u64, now: u64| {
                assert_eq!(before, seen[column].to_bits());
                seen[column] = f64::from_bits(now);
            };
            raw.apply(&mut back, change).unwrap();
            prop_assert_eq!(bits(&back), bits(&row));
            prop_assert_eq!(bits(&seen), bits(&row));
        }

        #[test]
        fn samples_round_trip(
            samples in proptest::collection::vec((any::<u32>(), any::<i64>(), value()), 0..40),
            flip in any::<(usize, u8)>(),
        ) {
            let mut out = Vec::new();
            put_samples(&mut out, 5, &samples);
            let mut back = Vec::new();
            take_samples(&out, |shard, slot, t, v| back.push((shard, slot, t, v.to_bits()))).unwrap();
            let wanted: Vec<_> = samples.iter().map(|(s, t, v)| (5, *s, *t, v.to_bits())).collect();
            prop_assert_eq!(back, wanted);
            let at = flip.0 % out.len();
            out[at] ^= flip.1;
            let _ = take_samples(&out, |_, _, _, _| ());
            let _ = take_layout(&mut PayloadReader::new(&out));
            let mut cursor = PayloadReader::new(&out);
            let raw = take_scrape_head(&mut cursor).and_then(|_| take_raw_row(&mut cursor));
            let _ = raw.and_then(|raw| raw.apply(&mut vec![ABSENT; raw.columns], |_, _, _| ()));
        }
    }

    #[test]
    fn a_still_scrape_costs_a_bit_per_column() {
        let row = vec![12.5; 800];
        let mut out = Vec::new();
        put_scrape(&mut out, 1, 1, &row, Some(BaseRow { values: &row, lsn: 1 }));
        assert_eq!(out.len(), 4 + 8 + 8 + 4 + 100);
    }
}
