//! Entries for the fuzz targets in `tests/fuzz`: the readers of pages take bytes from a file whose
//! checksum is right only if our writer wrote them, and are private to this crate otherwise.
//!
//! Each function takes any bytes, and panics where a reader breaks its contract.

use super::delta_binary_packed::{self, DeltaSkipIndex, PADDING};
use super::page_decoder::PageDecoder;
use super::page_header;
use crate::limits::BLOCK_PAGE_ROWS;

/// Most integers, levels or samples of a clock that a target admits.
const COUNT_MAX: usize = 4_096;

/// A little-endian number of two bytes at the front of `data`, and what follows.
fn number(data: &[u8]) -> Option<(usize, &[u8])> {
    let (bytes, rest) = data.split_first_chunk::<2>()?;
    Some((usize::from(u16::from_le_bytes(*bytes)), rest))
}

/// The integers in `data`, all of them and those of some ranges; both ways read the same.
pub fn delta_binary_packed(data: &[u8]) {
    let bytes = [data, &[0; PADDING]].concat();
    let mut all = Vec::new();
    let whole = delta_binary_packed::all(&bytes, COUNT_MAX, &mut all);
    assert!(all.len() <= COUNT_MAX, "more integers than are admitted");
    let Some(index) = DeltaSkipIndex::new(&bytes, COUNT_MAX) else {
        assert!(whole.is_none(), "all integers are read, but no index of them is made");
        return;
    };
    let total = index.total();
    for range in [0..total, total / 3..total, total / 2..total / 2 + 1, 1..total / 2] {
        let mut some = Vec::new();
        let read = index.read(&bytes, range.clone(), |few| some.extend_from_slice(few));
        if whole.is_some() && range.end <= total {
            assert!(read.is_some(), "{range:?} of {total} integers");
            assert_eq!(some, all.get(range).unwrap_or(&[]));
        }
    }
}

/// A page's header, and levels of one and of two bits.
pub fn page_header(data: &[u8]) {
    if let Some(header) = page_header::page_header(data) {
        assert!(header.length <= data.len(), "a header longer than its page");
    }
    let mut levels = Vec::new();
    for width in [1, 2] {
        for count in [1, 64, COUNT_MAX] {
            if let Some(read) = page_header::levels(data, width, count, &mut levels) {
                assert_eq!(levels.len(), count, "levels of {width} bits");
                assert!(read <= data.len(), "levels longer than their page");
            }
        }
    }
}

/// A page of samples. `data`: the number of rows (two bytes), the length of each one's clock (two
/// bytes), and of each of the four columns the number of levels (two bytes), the length (two
/// bytes), and the bytes without header and compression.
pub fn samples_page(data: &[u8]) {
    let _ = try_samples_page(data);
}

fn try_samples_page(data: &[u8]) -> Option<()> {
    let (rows, mut data) = number(data)?;
    let mut clock_lengths = Vec::new();
    for _ in 0..rows.min(BLOCK_PAGE_ROWS) {
        let (length, rest) = number(data)?;
        clock_lengths.push(length.min(COUNT_MAX));
        data = rest;
    }
    let mut columns = Vec::new();
    for _ in 0..4 {
        let (levels, rest) = number(data)?;
        let (length, rest) = number(rest)?;
        let (column, rest) = rest.split_at(length.min(rest.len()));
        columns.push((levels, column));
        data = rest;
    }
    let mut decoder = PageDecoder::new().ok()?;
    let page = decoder.assemble(&clock_lengths, |decoder, c, _| {
        let (levels, column) = columns[c];
        decoder.bytes.clear();
        decoder.bytes.extend_from_slice(column);
        decoder.bytes.resize(column.len() + PADDING, 0);
        Some(levels)
    })?;
    assert_eq!(page.rows.len(), clock_lengths.len(), "rows of a page");
    for (at, clock_length) in clock_lengths.into_iter().enumerate() {
        let row = page.row(at)?;
        let length = row.len();
        for range in [0..length, length / 2..length, 0..length / 3] {
            let mut values = Vec::new();
            if row.read(range.clone(), &mut values).is_some() {
                assert_eq!(values.len(), range.len(), "values of a row");
            }
        }
        assert!(row.gaps().len() + length <= clock_length, "gaps and samples of a row");
    }
    Some(())
}
