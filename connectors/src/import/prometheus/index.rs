//! Reads a block's `index`: its symbols, and its series with labels and chunks, sorted by labels.
//!
//! Postings and label indices are not read, because everything is imported.

use super::super::{ImportError, damaged, io_error};
use super::bytes::{TsdbByteReader, sealed};
use std::path::{Path, PathBuf};
use storage::model::Labels;

const MAGIC: u32 = 0xBAAA_D700;
/// Length of the table at the end of the file: six offsets and a checksum.
const TABLE: usize = 6 * 8 + 4;
/// Series begin at multiples of this offset.
const ALIGNMENT: usize = 16;

/// The content of an index.
pub struct TsdbIndex {
    path: PathBuf,
    content: Vec<u8>,
    symbols: Vec<(usize, usize)>,
    series: std::ops::Range<usize>,
}

/// A series of the index.
#[derive(Clone, Debug, PartialEq)]
pub struct IndexedSeries {
    /// The reference by which tombstones name it.
    pub reference: u64,
    /// The labels of the series.
    pub labels: Labels,
    /// References of its chunks, in time order.
    pub chunks: Vec<u64>,
}

impl TsdbIndex {
    /// Reads the file. Symbols are verified now, series when they are read.
    pub fn open(path: &Path) -> Result<TsdbIndex, ImportError> {
        let content = std::fs::read(path).map_err(io_error(path))?;
        let bad = |reason: String| damaged(path, reason);
        let mut head = TsdbByteReader::new(&content);
        let magic = head.u32();
        let version = head.u8();
        if magic != Some(MAGIC) || version != Some(2) {
            return Err(bad("offset 0: is no index, version 2".into()));
        }
        let at = content.len().saturating_sub(TABLE);
        let (table, crc) = content[at..].split_at_checked(TABLE - 4).unwrap_or_default();
        if !sealed(table, TsdbByteReader::new(crc).u32()) {
            return Err(bad(format!("offset {at}: the table of contents' checksum does not match")));
        }
        let mut table = TsdbByteReader::new(table);
        // No offset may point into or behind the table of contents, whatever the file claims.
        let mut next = || table.u64().and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= at);
        let sections = (next(), next(), next(), next(), next());
        let (Some(symbols), Some(first), Some(label_indices), Some(_), Some(postings)) = sections else {
            return Err(bad(format!("offset {at}: the table of contents points outside of the file")));
        };
        // The section after the series; some writers leave the label indices out.
        let end = [label_indices, postings].into_iter().filter(|n| *n > first).min().unwrap_or(at);
        let symbols =
            read_symbols(&content, symbols).ok_or_else(|| bad(format!("offset {symbols}: symbols")))?;
        Ok(TsdbIndex { path: path.to_owned(), series: first..end.max(first), symbols, content })
    }

    /// All series, sorted by labels.
    pub fn series(
        &self,
    ) -> Result<impl Iterator<Item = Result<IndexedSeries, ImportError>> + '_, ImportError> {
        let mut at = self.series.start;
        Ok(std::iter::from_fn(move || {
            // Series are aligned so that their reference, a multiple of sixteen, fits into four
            // bytes.
            at = at.next_multiple_of(ALIGNMENT);
            let here = at;
            let body = self.content.get(here..self.series.end).filter(|rest| !rest.is_empty())?;
            let mut cursor = TsdbByteReader::new(body);
            // Zeros fill the space between the last series and the next section.
            if body.len() < ALIGNMENT && body.iter().all(|byte| *byte == 0) {
                return None;
            }
            let read = (|| {
                let len = cursor.size().filter(|len| *len > 0)?;
                let entry = cursor.take(len)?;
                let whole = sealed(entry, cursor.u32());
                at = here + (body.len() - cursor.left());
                whole.then(|| self.entry((here / ALIGNMENT) as u64, entry))?
            })();
            // The length of a damaged entry cannot be trusted, so where the next one begins is not
            // known: the iteration ends with the error.
            if read.is_none() {
                at = self.series.end;
            }
            let bad = || damaged(&self.path, format!("offset {here}: a series, or its checksum, is wrong"));
            Some(read.ok_or_else(bad))
        }))
    }

    fn entry(&self, reference: u64, entry: &[u8]) -> Option<IndexedSeries> {
        let mut cursor = TsdbByteReader::new(entry);
        let pairs = cursor.size()?;
        // A count from the file reserves no memory beyond what is usual.
        let mut labels = Vec::with_capacity(pairs.min(64));
        for _ in 0..pairs {
            labels.push((self.symbol(cursor.size()?)?, self.symbol(cursor.size()?)?));
        }
        let count = cursor.size()?;
        let mut chunks = Vec::with_capacity(count.min(entry.len()));
        let mut previous = 0i64;
        for at in 0..count {
            // The time range, which is not needed: the chunk has the times.
            if at == 0 {
                cursor.varint().map(drop)?
            } else {
                cursor.uvarint().map(drop)?
            }
            cursor.uvarint()?;
            // The first chunk by its reference, the others by the difference to the one before.
            previous = match at {
                0 => cursor.uvarint()? as i64,
                _ => previous.wrapping_add(cursor.varint()?),
            };
            chunks.push(previous as u64);
        }
        Some(IndexedSeries { reference, labels: Labels::from_pairs(labels), chunks })
    }

    fn symbol(&self, number: usize) -> Option<&str> {
        let (from, to) = *self.symbols.get(number)?;
        std::str::from_utf8(&self.content[from..to]).ok()
    }
}

/// The position of each symbol.
fn read_symbols(content: &[u8], at: usize) -> Option<Vec<(usize, usize)>> {
    let mut head = TsdbByteReader::new(content.get(at..)?);
    let len = head.u32()? as usize;
    let body = head.take(len)?;
    if !sealed(body, head.u32()) {
        return None;
    }
    let mut cursor = TsdbByteReader::new(body);
    let count = cursor.u32()? as usize;
    let begin = at + 4;
    let mut symbols = Vec::with_capacity(count.min(len));
    for _ in 0..count {
        let text = cursor.text()?;
        let end = begin + len - cursor.left();
        symbols.push((end - text.len(), end));
    }
    Some(symbols)
}
