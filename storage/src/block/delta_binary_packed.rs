//! Decodes Parquet's `DELTA_BINARY_PACKED` integers: all of them, or a range from the middle.
//!
//! Each integer is stored as a delta to the one before, so to read from the middle, all earlier
//! deltas must be added. [`DeltaSkipIndex::new`] does that once and remembers for each block its
//! position and the value before it. Only the subset of the format that our own writer produces is
//! supported; `None` means "not supported", and the caller then uses the `parquet` crate
//! ([`super::page_decoder`]). Any input is safe: nothing in it is trusted, and the caller bounds
//! the counts.

use super::page_header::ThriftReader;
use std::ops::Range;

/// The maximum number of integers per miniblock: what our writer uses.
const MOST_PER: usize = 64;

/// Bytes after the integers that may be read (as zeros): integers are decoded eight at a time from
/// whole words.
pub(super) const PADDING: usize = 72;

/// How the integers are divided: blocks of `parts` miniblocks, each of `per` integers.
#[derive(Copy, Clone, Default)]
struct DeltaHeader {
    /// Integers in a miniblock.
    per: usize,
    /// Miniblocks in a block.
    parts: usize,
    /// All integers.
    total: usize,
}

/// A position from which decoding can start.
#[derive(Copy, Clone)]
struct SkipEntry {
    /// The index of the integer before the block, and its value.
    index: usize,
    value: i64,
    /// The offset of the block.
    at: usize,
}

/// The positions of the blocks in a run of integers.
#[derive(Default)]
pub(super) struct DeltaSkipIndex {
    layout: DeltaHeader,
    /// One entry per block, at least one.
    blocks: Vec<SkipEntry>,
}

/// Decodes the header: how the integers are divided, and where the first block begins.
fn open(bytes: &[u8], most: usize) -> Option<(DeltaHeader, SkipEntry)> {
    let mut from = ThriftReader { bytes, at: 0 };
    let block = from.varint()?;
    let parts = from.varint()?;
    let total = from.varint()?;
    let value = from.signed()?;
    let per = usize::try_from(block.checked_div(parts)?).ok()?;
    let parts = usize::try_from(parts).ok()?;
    let total = usize::try_from(total).ok()?;
    // Multiples of 32 are what the format asks for; unpacking relies on multiples of eight.
    let fits = (1..=MOST_PER).contains(&per) && per.is_multiple_of(32) && total <= most;
    fits.then_some((DeltaHeader { per, parts, total }, SkipEntry { index: 0, value, at: from.at }))
}

/// A miniblock: the minimum delta, the bit width, and the packed remainders.
struct Miniblock<'a> {
    least: i64,
    width: usize,
    bits: &'a [u8],
    count: usize,
}

/// Unpacks integers of `W` bits, eight from every `W` bytes. The width is a compile-time constant,
/// so that all shifts are, too.
fn unpack<const W: usize>(bits: &[u8], out: &mut [[u64; 8]]) -> Option<()> {
    let mask = if W == 64 { u64::MAX } else { (1 << W) - 1 };
    for (at, eight) in out.iter_mut().enumerate() {
        // Eight bytes more than the numbers take, because whole words are read: the caller has
        // padded the input.
        let bits = bits.get(at * W..)?.get(..W + 8)?;
        for (i, number) in eight.iter_mut().enumerate() {
            let byte = i * W / 8;
            let bit = i * W % 8;
            let mut word = u64::from_le_bytes(*bits[byte..].first_chunk::<8>()?) >> bit;
            // The number begins in the eighth byte of the word and ends in the ninth. Decided at
            // compile time.
            if W + bit > 64 {
                word |= u64::from(bits[byte + 8]) << (64 - bit);
            }
            *number = word & mask;
        }
    }
    Some(())
}

type UnpackFn = fn(&[u8], &mut [[u64; 8]]) -> Option<()>;

macro_rules! unpackers {
    ($($width:literal)*) => { [$(unpack::<$width>),*] };
}

/// The `unpack` functions, by width.
static UNPACK: [UnpackFn; 65] = unpackers!(
    0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32
    33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64
);

/// Buffer for the integers of a miniblock.
type UnpackBuffer = [[u64; 8]; MOST_PER / 8];

impl Miniblock<'_> {
    /// The first `count` packed remainders.
    fn numbers<'a>(&self, count: usize, room: &'a mut UnpackBuffer) -> Option<&'a [u64]> {
        let eights = room.get_mut(..count.div_ceil(8))?;
        UNPACK.get(self.width)?(self.bits, eights)?;
        eights.as_flattened().get(..count)
    }

    /// The sum of the first `count` deltas.
    fn sum(&self, count: usize) -> Option<i64> {
        // The remainders are added to this below. Wraps as the format says: a sum may leave 64 bits
        // and come back.
        let all = self.least.wrapping_mul(count as i64);
        if self.width == 0 || count == 0 {
            return Some(all);
        }
        let mut room = [[0; 8]; MOST_PER / 8];
        let numbers = self.numbers(count, &mut room)?;
        Some(numbers.iter().fold(all, |sum, number| sum.wrapping_add(*number as i64)))
    }

    /// Calls `take` with the integers in `range`; `value` is the integer before them. Returns the
    /// last integer.
    fn read(&self, range: Range<usize>, mut value: i64, take: &mut impl FnMut(&[i64])) -> Option<i64> {
        let mut integers = [0; MOST_PER];
        let integers = integers.get_mut(..range.len())?;
        if self.width == 0 {
            // Width 0: constant, or growing evenly. Most series of a page are like this.
            for integer in &mut *integers {
                value = value.wrapping_add(self.least);
                *integer = value;
            }
        } else {
            let mut room = [[0; 8]; MOST_PER / 8];
            let numbers = self.numbers(range.end, &mut room)?.get(range)?;
            for (integer, number) in integers.iter_mut().zip(numbers) {
                value = value.wrapping_add(self.least).wrapping_add(*number as i64);
                *integer = value;
            }
        }
        take(integers);
        Some(value)
    }
}

/// Calls `each` for the miniblocks of the block at `at`; `left` integers follow `at`. Stops when
/// `each` returns false. Returns the offset of the end of the block.
fn block<'a>(
    bytes: &'a [u8],
    layout: DeltaHeader,
    at: usize,
    mut left: usize,
    mut each: impl FnMut(Miniblock<'a>) -> Option<bool>,
) -> Option<usize> {
    let mut from = ThriftReader { bytes, at };
    let least = from.signed()?;
    let widths = bytes.get(from.at..from.at.checked_add(layout.parts)?)?;
    from.at += layout.parts;
    for width in widths.iter().map(|w| usize::from(*w)) {
        let count = layout.per.min(left);
        if count == 0 {
            break;
        }
        let bits = bytes.get(from.at..).filter(|_| width <= 64)?;
        if !each(Miniblock { least, width, bits, count })? {
            break;
        }
        left -= count;
        // The last miniblock may be truncated after its last integer.
        from.at += (layout.per / 8 * width).min(bits.len());
    }
    Some(from.at)
}

impl DeltaSkipIndex {
    /// Scans the integers in `bytes`, which must end with [`PADDING`]. `None` if there are more
    /// than `most`, or if they are incomplete.
    pub(super) fn new(bytes: &[u8], most: usize) -> Option<DeltaSkipIndex> {
        let (layout, mut mark) = open(bytes, most)?;
        let mut blocks = vec![mark];
        // The first integer is in the header; each block has those after the one that is known.
        while mark.index + 1 < layout.total {
            let left = layout.total - 1 - mark.index;
            let at = mark.at;
            let mut value = mark.value;
            mark.at = block(bytes, layout, at, left, |part| {
                value = value.wrapping_add(part.sum(part.count)?);
                Some(true)
            })?;
            mark.index += left.min(layout.per * layout.parts);
            mark.value = value;
            blocks.push(mark);
        }
        Some(DeltaSkipIndex { layout, blocks })
    }

    /// Number of integers.
    pub(super) fn total(&self) -> usize {
        self.layout.total
    }

    /// Memory, bytes.
    pub(super) fn size(&self) -> usize {
        self.blocks.capacity() * size_of::<SkipEntry>()
    }

    /// Calls `take` with the integers in `range`, several at a time. `bytes` must be those of
    /// [`DeltaSkipIndex::new`].
    pub(super) fn read(&self, bytes: &[u8], range: Range<usize>, mut take: impl FnMut(&[i64])) -> Option<()> {
        if range.is_empty() {
            return Some(());
        }
        if range.end > self.layout.total {
            return None;
        }
        // The last block that begins at or before the first integer that is wanted.
        let at = self.blocks.partition_point(|mark| mark.index <= range.start).checked_sub(1)?;
        for mark in &self.blocks[at..] {
            if mark.index == range.start {
                take(&[mark.value]);
            }
            if mark.index + 1 >= range.end {
                break;
            }
            self.read_block(bytes, *mark, &range, &mut take)?;
        }
        Some(())
    }

    /// As [`DeltaSkipIndex::read`], for the block at `mark`.
    fn read_block(
        &self,
        bytes: &[u8],
        mark: SkipEntry,
        range: &Range<usize>,
        take: &mut impl FnMut(&[i64]),
    ) -> Option<()> {
        let mut before = mark.index;
        let mut value = mark.value;
        block(bytes, self.layout, mark.at, self.layout.total - 1 - mark.index, |part| {
            // The integers of this miniblock have the indexes before + 1 ..= before + count.
            let skipped = range.start.saturating_sub(before + 1).min(part.count);
            let end = (range.end - 1 - before).min(part.count);
            value = value.wrapping_add(part.sum(skipped)?);
            if skipped < end {
                value = part.read(skipped..end, value, take)?;
            }
            before += part.count;
            Some(before + 1 < range.end)
        })
        .map(|_| ())
    }
}

/// Decodes all integers in `bytes`, which must end with [`PADDING`], into `out`. `None` if there
/// are more than `most`.
pub(super) fn all(bytes: &[u8], most: usize, out: &mut Vec<i64>) -> Option<()> {
    out.clear();
    let (layout, mark) = open(bytes, most)?;
    out.extend((layout.total > 0).then_some(mark.value));
    let mut at = mark.at;
    let mut value = mark.value;
    while out.len() < layout.total {
        at = block(bytes, layout, at, layout.total - out.len(), |part| {
            value = part.read(0..part.count, value, &mut |some| out.extend_from_slice(some))?;
            Some(true)
        })?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_safe(mut bytes in prop::collection::vec(any::<u8>(), 0..300), count in 0usize..500) {
            bytes.extend([0; PADDING]);
            let mut whole = Vec::new();
            let _ = all(&bytes, count, &mut whole);
            prop_assert!(whole.len() <= count);
            if let Some(marks) = DeltaSkipIndex::new(&bytes, count) {
                let mut some = Vec::new();
                let _ = marks.read(&bytes, 0..marks.total(), |few| some.extend_from_slice(few));
                prop_assert_eq!(some, whole);
            }
        }
    }
}
