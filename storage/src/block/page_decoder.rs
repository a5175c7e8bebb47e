//! [`PageDecoder`]: makes a [`SamplesPage`] from the bytes of `samples.parquet`.
//!
//! Queries over blocks spend most of their time here. Pages laid out as by our writer (all columns
//! cut at the same rows) are therefore decoded by hand: decompressed, levels and lengths verified,
//! mantissas scanned but left packed. All other pages are read by the `parquet` crate
//! ([`SamplesPage::from_batch`]), with the same result.

use super::delta_binary_packed::{self, DeltaSkipIndex, PADDING};
use super::files::CheckedFile;
use super::page::{COLUMNS, RowEncoding, RowSpan, SamplesPage};
use super::page_header;
use crate::encoding::decimal;
use crate::limits::{BLOCK_GROUP_ROWS, BLOCK_PAGE_BYTES, BLOCK_PAGE_ROWS};
use crate::vec_growth::boxed_exact;
use parquet::basic::Type;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::ChunkReader;

const DELTA_BINARY_PACKED: u64 = 5;
const PLAIN: u64 = 0;
/// The definition level of a present element, in a nullable list of nullable elements.
const ELEMENT: u8 = 3;
/// The definition level of a null element.
const NO_ELEMENT: u8 = 2;

/// The indexes of the columns [`COLUMNS`] in a file. `None` if they have other types than
/// [`PageDecoder`] supports.
pub(super) fn locate(footer: &ParquetMetaData) -> Option<[usize; 4]> {
    let schema = footer.file_metadata().schema_descr();
    let find = |name: &str, of: Type, def: i16, rep: i16| {
        let at = schema.columns().iter().position(|c| c.path().parts().first().is_some_and(|p| p == name))?;
        let column = schema.column(at);
        let known =
            (column.physical_type(), column.max_def_level(), column.max_rep_level()) == (of, def, rep);
        known.then_some(at)
    };
    let [exp, gaps, m, raw] = COLUMNS;
    Some([
        find(exp, Type::INT32, 0, 0)?,
        find(gaps, Type::INT32, 1, 1)?,
        find(m, Type::INT64, ELEMENT.into(), 1)?,
        find(raw, Type::DOUBLE, ELEMENT.into(), 1)?,
    ])
}

/// Where a page is, and what is known about it.
pub(super) struct PageLocation<'a> {
    pub(super) file: &'a CheckedFile,
    pub(super) footer: &'a ParquetMetaData,
    /// The result of [`locate`].
    pub(super) columns: [usize; 4],
    pub(super) number: usize,
    /// For each row, the number of timestamps of its clock.
    pub(super) clock_lengths: &'a [usize],
}

impl PageLocation<'_> {
    fn rows(&self) -> usize {
        self.clock_lengths.len()
    }

    /// The stored bytes of column `c`. `None` if the column is not cut at the same rows as the
    /// page.
    fn stored(&self, c: usize) -> Option<bytes::Bytes> {
        let group = self.number * BLOCK_PAGE_ROWS / BLOCK_GROUP_ROWS;
        let first = self.number * BLOCK_PAGE_ROWS % BLOCK_GROUP_ROWS;
        let pages = self.footer.offset_index()?.get(group)?.get(self.columns[c])?.page_locations();
        let at = first / BLOCK_PAGE_ROWS;
        let place = pages.get(at)?;
        let rows = self.footer.row_group(group).num_rows();
        let end = pages.get(at + 1).map_or(rows, |next| next.first_row_index);
        if place.first_row_index != first as i64 || end != (first + self.rows()) as i64 {
            return None;
        }
        let size = usize::try_from(place.compressed_page_size).ok()?;
        self.file.get_bytes(u64::try_from(place.offset).ok()?, size).ok()
    }
}

/// Decodes pages. Reuses its buffers.
pub(super) struct PageDecoder {
    zstd: zstd::bulk::Decompressor<'static>,
    /// The column that is decoded, without compression, and [`PADDING`].
    pub(super) bytes: Vec<u8>,
    levels: Vec<u8>,
    repeats: Vec<u8>,
    exps: Vec<i64>,
    gaps: Vec<i64>,
}

impl PageDecoder {
    pub(super) fn new() -> std::io::Result<PageDecoder> {
        Ok(PageDecoder {
            zstd: zstd::bulk::Decompressor::new()?,
            bytes: Vec::new(),
            levels: Vec::new(),
            repeats: Vec::new(),
            exps: Vec::new(),
            gaps: Vec::new(),
        })
    }

    /// Decodes a page. `None` if its layout is not supported or it is damaged; the `parquet` crate
    /// tells which.
    pub(super) fn decode(&mut self, place: &PageLocation) -> Option<SamplesPage> {
        self.assemble(place.clock_lengths, |decoder, c, encoding| decoder.open(place, c, encoding))
    }

    /// As [`PageDecoder::decode`]. `open` gets the number of a column and its encoding. It replaces
    /// `bytes` by the column, without compression, and [`PADDING`], and returns the number of
    /// levels.
    pub(super) fn assemble(
        &mut self,
        clock_lengths: &[usize],
        mut open: impl FnMut(&mut PageDecoder, usize, u64) -> Option<usize>,
    ) -> Option<SamplesPage> {
        let rows = clock_lengths.len();
        // The number of samples and gaps of all rows together.
        let most = clock_lengths.iter().sum();
        // Columns in the order of `COLUMNS`: 0 `exp`, 1 `gaps`, 2 `m`, 3 `raw`.
        open(self, 0, DELTA_BINARY_PACKED)?;
        delta_binary_packed::all(&self.bytes, rows, &mut self.exps)?;
        if self.exps.len() != rows {
            return None;
        }
        let mut page = SamplesPage { rows: Vec::with_capacity(rows), ..SamplesPage::default() };
        let count = open(self, 1, DELTA_BINARY_PACKED)?;
        self.rows(clock_lengths, most, count, &mut page)?;
        let count = open(self, 2, DELTA_BINARY_PACKED)?;
        let from = self.list_levels(count, most + rows)?;
        let packed = self.bytes.get(from..)?;
        page.marks = DeltaSkipIndex::new(packed, most)?;
        page.mantissas = boxed_exact(packed);
        // Rows of decimals have their values in `m`, all others in `raw`. Each list must use up all
        // values of its column; otherwise the page is damaged.
        let mantissas = page.marks.total();
        self.lists(&mut page, |values| matches!(values, RowEncoding::Decimal(_)), mantissas)?;
        let count = open(self, 3, PLAIN)?;
        let from = self.list_levels(count, most + rows)?;
        let values = self.bytes.get(from..self.bytes.len().checked_sub(PADDING)?)?;
        page.raw.reserve_exact(values.len() / 8);
        page.raw.extend(values.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)));
        let doubles = page.raw.len();
        self.lists(&mut page, |values| matches!(values, RowEncoding::Raw), doubles)?;
        Some(page)
    }

    /// Reads and decompresses the page of column `c` into `self.bytes`. Returns the number of
    /// levels.
    fn open(&mut self, place: &PageLocation, c: usize, encoding: u64) -> Option<usize> {
        let stored = place.stored(c)?;
        let header = page_header::page_header(&stored)?;
        let packed = stored.get(header.length..header.length.checked_add(header.compressed)?)?;
        if header.encoding != encoding || header.uncompressed > BLOCK_PAGE_BYTES {
            return None;
        }
        self.bytes.clear();
        self.bytes.reserve(header.uncompressed + PADDING);
        self.zstd.decompress_to_buffer(packed, &mut self.bytes).ok().filter(|n| *n == header.uncompressed)?;
        self.bytes.resize(header.uncompressed + PADDING, 0);
        Some(header.levels)
    }

    /// Adds the rows to `page`, with their gaps, which are in `self.bytes`. The lengths of the rows
    /// follow from the gaps. `most`: the number of samples and gaps of all rows together; `count`:
    /// of levels of the gaps.
    fn rows(
        &mut self,
        clock_lengths: &[usize],
        most: usize,
        count: usize,
        page: &mut SamplesPage,
    ) -> Option<()> {
        if count > most + clock_lengths.len() {
            return None;
        }
        let from = page_header::levels(&self.bytes, 1, count, &mut self.repeats)?;
        let from = from + page_header::levels(self.bytes.get(from..)?, 1, count, &mut self.levels)?;
        delta_binary_packed::all(self.bytes.get(from..)?, most, &mut self.gaps)?;
        page.gaps = self.gaps.iter().map(|gap| *gap as u32).collect();
        let mut elements = self.repeats.iter().zip(&self.levels).peekable();
        let mut end = 0;
        for (clock, exp) in clock_lengths.iter().zip(&self.exps) {
            let begin = end;
            // Repetition level 0 marks the first element of a list; the others have level 1.
            end += u32::from(*elements.next().filter(|(repeat, _)| **repeat == 0)?.1);
            while let Some((_, level)) = elements.next_if(|(repeat, _)| **repeat != 0) {
                end += u32::from(*level);
            }
            // Rows without samples are not written, so a length of 0 means that the page is not as
            // expected.
            let length = clock.checked_sub((end - begin) as usize).filter(|length| *length > 0)?;
            let exp = i8::try_from(*exp).ok()?;
            let values =
                if decimal::value(exp).is_some() { RowEncoding::Decimal(exp) } else { RowEncoding::Raw };
            let length = u32::try_from(length).ok()?;
            page.rows.push(RowSpan { values, length, first: 0, stale: 0..0, gaps: begin..end });
        }
        (elements.next().is_none() && end as usize == page.gaps.len()).then_some(())
    }

    /// Reads the levels of a list column into `self.levels`. Returns where its values begin. The
    /// repetition levels are skipped: the lengths of the rows are known from their clocks.
    fn list_levels(&mut self, count: usize, most: usize) -> Option<usize> {
        if count > most {
            return None;
        }
        let from = 4 + u32::from_le_bytes(*self.bytes.first_chunk::<4>()?) as usize;
        Some(from + page_header::levels(self.bytes.get(from..)?, 2, count, &mut self.levels)?)
    }

    /// Finds in `self.levels` the values of the rows for which `here` is true; all other rows must
    /// be null. `there` is the number of values that are not null.
    fn lists(&self, page: &mut SamplesPage, here: impl Fn(RowEncoding) -> bool, there: usize) -> Option<()> {
        let mut levels = &self.levels[..];
        let mut first = 0;
        for row in &mut page.rows {
            if !here(row.values) {
                let (level, rest) = levels.split_first()?;
                levels = rest;
                // A null list: the values of this row are in the other column.
                (*level == 0).then_some(())?;
                continue;
            }
            let (elements, rest) = levels.split_at_checked(row.length as usize)?;
            levels = rest;
            let stale = page.stale.len() as u32;
            // A null element is a stale marker.
            if elements.iter().any(|level| *level != ELEMENT) {
                let known = elements.iter().all(|level| matches!(*level, ELEMENT | NO_ELEMENT));
                known.then_some(())?;
                let markers = elements.iter().enumerate().filter(|(_, level)| **level == NO_ELEMENT);
                page.stale.extend(markers.map(|(at, _)| at as u32));
            }
            row.first = first;
            row.stale = stale..page.stale.len() as u32;
            first += row.length - (page.stale.len() as u32 - stale);
        }
        (levels.is_empty() && first as usize == there).then_some(())
    }
}
