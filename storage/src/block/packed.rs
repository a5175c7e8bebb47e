//! What Parquet packs integers into, unpacked by hand: page headers, levels and `DELTA_BINARY_PACKED` integers.
//!
//! Only what our own writer writes is understood; `None` means "something else", and the caller falls back on the
//! `parquet` crate ([`super::page`]). Any bytes are safe: nothing is believed, and counts are bounded by the caller.

/// Bytes after a buffer's content that may be read (as zeros): numbers are taken out of whole words.
pub(super) const PADDING: usize = 16;

/// What the header of a data page (version 1) says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PageHeader {
    /// Bytes of the header itself.
    pub(super) length: usize,
    /// Bytes of the page before compression.
    pub(super) uncompressed: usize,
    /// Bytes of the page as it is stored.
    pub(super) compressed: usize,
    /// Levels in the page: values, nulls and empty lists.
    pub(super) levels: usize,
    /// Parquet's number of the values' encoding.
    pub(super) encoding: u64,
}

/// Reads numbers out of bytes.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn varint(&mut self) -> Option<u64> {
        let (mut value, mut shift) = (0u64, 0);
        loop {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift)?;
            shift += 7;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
    }

    fn signed(&mut self) -> Option<i64> {
        let v = self.varint()?;
        Some((v >> 1) as i64 ^ -((v & 1) as i64))
    }

    fn size(&mut self) -> Option<usize> {
        usize::try_from(self.signed()?).ok()
    }
}

/// Nesting of a header that is still skipped.
const MOST_NESTED: usize = 4;

/// The header of a page (Thrift, compact protocol), if it is one of ours.
pub(super) fn page_header(bytes: &[u8]) -> Option<PageHeader> {
    let mut from = Cursor { bytes, at: 0 };
    let mut header = PageHeader::default();
    let mut data_page = false;
    fields(&mut from, |from, id, kind| match (id, kind) {
        (1, 5) => (from.signed()? == 0).then_some(()),
        (2, 5) => from.size().map(|n| header.uncompressed = n),
        (3, 5) => from.size().map(|n| header.compressed = n),
        (5, 12) => {
            data_page = true;
            fields(from, |from, id, kind| match (id, kind) {
                (1, 5) => from.size().map(|n| header.levels = n),
                (2, 5) => from.signed().map(|n| header.encoding = n as u64),
                // Levels must be RLE.
                (3 | 4, 5) => (from.signed()? == 3).then_some(()),
                _ => skip(from, kind, 0),
            })
        }
        (6..=8, _) => None,
        _ => skip(from, kind, 0),
    })?;
    header.length = from.at;
    data_page.then_some(header)
}

/// Calls `take(cursor, id, type)` for each field of a struct; it must read the field's value.
fn fields<'a>(
    from: &mut Cursor<'a>,
    mut take: impl FnMut(&mut Cursor<'a>, i64, u8) -> Option<()>,
) -> Option<()> {
    let mut id = 0;
    loop {
        let byte = from.byte()?;
        if byte == 0 {
            return Some(());
        }
        id = if byte >> 4 == 0 { from.signed()? } else { id + i64::from(byte >> 4) };
        take(from, id, byte & 15)?;
    }
}

fn skip(from: &mut Cursor, kind: u8, depth: usize) -> Option<()> {
    match kind {
        1 | 2 => {}
        3 => drop(from.byte()?),
        4..=6 => drop(from.varint()?),
        7 => from.at = from.at.checked_add(8)?,
        8 => {
            let length = usize::try_from(from.varint()?).ok()?;
            from.at = from.at.checked_add(length)?;
        }
        12 if depth < MOST_NESTED => fields(from, |from, _, kind| skip(from, kind, depth + 1))?,
        _ => return None,
    }
    Some(())
}

/// The levels at the front of `bytes` (a length, then runs of numbers of `width` bits, at most 8), which must be
/// `count`; they replace `out`. Returns how many bytes they took.
pub(super) fn levels(bytes: &[u8], width: usize, count: usize, out: &mut Vec<u8>) -> Option<usize> {
    let length = u32::from_le_bytes(*bytes.first_chunk::<4>()?) as usize;
    let mut from = Cursor { bytes: bytes.get(4..length.checked_add(4)?)?, at: 0 };
    out.clear();
    while out.len() < count {
        let header = from.varint()?;
        let left = count - out.len();
        if header & 1 == 0 {
            let run = usize::try_from(header >> 1).ok().filter(|run| (1..=left).contains(run))?;
            let value = from.byte()?;
            out.resize(out.len() + run, value);
            continue;
        }
        let packed = usize::try_from(header >> 1).ok()?.checked_mul(width)?;
        let groups = from.bytes.get(from.at..from.at.checked_add(packed)?)?;
        from.at += packed;
        let value = |i: usize| {
            let low = u16::from(groups[i * width / 8]);
            let high = groups.get(i * width / 8 + 1).map_or(0, |b| u16::from(*b) << 8);
            ((low | high) >> (i * width % 8)) as u8 & ((1u16 << width) - 1) as u8
        };
        out.extend((0..left.min(packed * 8 / width)).map(value));
    }
    Some(4 + length)
}

/// The integers in `bytes`, which ends with [`PADDING`]; they replace `out`. `None` if there are more than `most`.
pub(super) fn deltas(bytes: &[u8], most: usize, out: &mut Vec<i64>) -> Option<()> {
    let mut from = Cursor { bytes, at: 0 };
    let (block, blocks, total) = (from.varint()?, from.varint()?, from.varint()?);
    let mut value = from.signed()?;
    let per = usize::try_from(block.checked_div(blocks)?).ok().filter(|per| *per > 0 && per % 32 == 0)?;
    let (blocks, total) = (usize::try_from(blocks).ok()?, usize::try_from(total).ok()?);
    if total > most {
        return None;
    }
    out.clear();
    out.reserve(total);
    if total > 0 {
        out.push(value);
    }
    while out.len() < total {
        let least = from.signed()?;
        let widths = from.bytes.get(from.at..from.at.checked_add(blocks)?)?;
        from.at += blocks;
        for width in widths.iter().map(|w| usize::from(*w)) {
            let count = per.min(total - out.len());
            if count == 0 {
                break;
            }
            let packed = from.bytes.get(from.at..)?;
            value = unpack(packed, width, count, value, least, out)?;
            // The last block may be cut after its last number.
            from.at += (per / 8 * width).min(packed.len());
        }
    }
    Some(())
}

/// Appends `count` numbers, each `least` and a delta of `width` bits more than the one before it; the last one.
fn unpack(
    packed: &[u8],
    width: usize,
    count: usize,
    mut value: i64,
    least: i64,
    out: &mut Vec<i64>,
) -> Option<i64> {
    let start = out.len();
    if width == 0 {
        // What stands still, and what goes on evenly: most series of a page.
        match least {
            0 => out.resize(start + count, value),
            _ => out.extend((1..=count as i64).map(|i| value.wrapping_add(least.wrapping_mul(i)))),
        }
        return out.last().copied();
    }
    let mask = match width {
        0..64 => (1u64 << width) - 1,
        64 => u64::MAX,
        _ => return None,
    };
    // All words that are read lie inside.
    let packed = packed.get(..(count * width).div_ceil(8) + 9)?;
    out.resize(start + count, 0);
    for (i, out) in out[start..].iter_mut().enumerate() {
        let bit = i * width;
        let word = u64::from_le_bytes(*packed.get(bit / 8..)?.first_chunk::<8>()?);
        let mut delta = word >> (bit % 8);
        if width > 56 && !bit.is_multiple_of(8) {
            delta |= u64::from(packed[bit / 8 + 8]) << (64 - bit % 8);
        }
        value = value.wrapping_add(least).wrapping_add((delta & mask) as i64);
        *out = value;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_safe(mut bytes in prop::collection::vec(any::<u8>(), 0..300), count in 0usize..500) {
            let (mut small, mut large) = (Vec::new(), Vec::new());
            let _ = page_header(&bytes);
            let _ = levels(&bytes, 2, count, &mut small);
            prop_assert!(small.len() <= count);
            bytes.extend([0; PADDING]);
            let _ = deltas(&bytes, count, &mut large);
            prop_assert!(large.len() <= count);
        }
    }

    #[test]
    fn runs_and_groups_of_levels() {
        // Five bytes: a run of ten threes, then a group of eight: 0 1 2 3 3 2 1 0.
        let bytes = [5, 0, 0, 0, 20, 3, 3, 0b11_10_01_00, 0b00_01_10_11, 99];
        let mut out = Vec::new();
        assert_eq!(levels(&bytes, 2, 17, &mut out), Some(9));
        assert_eq!(out, [3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 0, 1, 2, 3, 3, 2, 1]);
        assert_eq!(levels(&bytes, 2, 19, &mut out), None);
    }
}
