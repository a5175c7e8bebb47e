//! Parses the beginning of a Parquet page by hand: the Thrift header and the levels of lists. The
//! integers are decoded in [`super::delta_binary_packed`].
//!
//! Only what our own writer produces is supported; `None` means "not supported", and the caller
//! then uses the `parquet` crate ([`super::page_decoder`]). Any input is safe: nothing in it is
//! trusted, and the caller bounds the counts.

/// The content of a data page header (version 1).
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PageHeader {
    /// Bytes of the header itself.
    pub(super) length: usize,
    /// Bytes of the page before compression.
    pub(super) uncompressed: usize,
    /// Bytes of the page as stored.
    pub(super) compressed: usize,
    /// Number of levels in the page: values, nulls and empty lists.
    pub(super) levels: usize,
    /// Parquet's number of the encoding of the values.
    pub(super) encoding: u64,
}

/// Reads numbers from bytes.
pub(super) struct ThriftReader<'a> {
    /// What is read.
    pub(super) bytes: &'a [u8],
    /// The position in `bytes`.
    pub(super) at: usize,
}

impl ThriftReader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    pub(super) fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        let mut shift = 0;
        loop {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift)?;
            shift += 7;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
    }

    pub(super) fn signed(&mut self) -> Option<i64> {
        let v = self.varint()?;
        Some((v >> 1) as i64 ^ -((v & 1) as i64))
    }

    fn size(&mut self) -> Option<usize> {
        usize::try_from(self.signed()?).ok()
    }
}

/// How deeply nested a struct may be that is skipped.
const MOST_NESTED: usize = 4;

/// Parses a page header (Thrift, compact protocol). `None` if it is not one that our writer
/// produces.
pub(super) fn page_header(bytes: &[u8]) -> Option<PageHeader> {
    let mut from = ThriftReader { bytes, at: 0 };
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
        // Fields 6 to 8 belong to index, dictionary and version 2 pages.
        (6..=8, _) => None,
        _ => skip(from, kind, 0),
    })?;
    header.length = from.at;
    data_page.then_some(header)
}

/// Calls `take(reader, id, type)` for each field of a struct. `take` must read the value of the
/// field.
fn fields<'a>(
    from: &mut ThriftReader<'a>,
    mut take: impl FnMut(&mut ThriftReader<'a>, i64, u8) -> Option<()>,
) -> Option<()> {
    let mut id = 0;
    loop {
        let byte = from.byte()?;
        if byte == 0 {
            return Some(());
        }
        id = if byte >> 4 == 0 { from.signed()? } else { id.checked_add(i64::from(byte >> 4))? };
        take(from, id, byte & 15)?;
    }
}

fn skip(from: &mut ThriftReader, kind: u8, depth: usize) -> Option<()> {
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

/// Decodes the levels at the beginning of `bytes` (a length, then runs of numbers of `width` ≤ 8
/// bits) into `out`; there must be `count`. Returns the number of bytes read.
pub(super) fn levels(bytes: &[u8], width: usize, count: usize, out: &mut Vec<u8>) -> Option<usize> {
    let length = u32::from_le_bytes(*bytes.first_chunk::<4>()?) as usize;
    let mut from = ThriftReader { bytes: bytes.get(4..length.checked_add(4)?)?, at: 0 };
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_safe(bytes in prop::collection::vec(any::<u8>(), 0..300), count in 0usize..500) {
            let mut small = Vec::new();
            let _ = page_header(&bytes);
            let _ = levels(&bytes, 2, count, &mut small);
            prop_assert!(small.len() <= count);
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
