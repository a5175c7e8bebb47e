//! A page of `samples.parquet`, decoded: the values and gaps of its rows.
//!
//! Pages are what a query over blocks spends its time on, so those that lie as our writer lays them (all columns cut at
//! the same rows) are decoded here, straight into doubles, by [`Decoder`]. The `parquet` crate reads all others
//! ([`Page::of_batch`]); both give the same page.

use super::decimal;
use super::files::CheckedFile;
use super::packed::{self, PADDING};
use crate::limits::{BLOCK_GROUP_ROWS, BLOCK_PAGE_BYTES, BLOCK_PAGE_ROWS};
use crate::model::value::STALE;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{ArrowPrimitiveType, Float64Type, Int8Type, Int64Type, UInt32Type};
use parquet::basic::Type;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::ChunkReader;

/// The columns that a page is made of, in this order.
pub(super) const COLUMNS: [&str; 4] = ["exp", "gaps", "m", "raw"];
const DELTA_BINARY_PACKED: u64 = 5;
const PLAIN: u64 = 0;
/// The level of an element that is there, in a list that may be null of elements that may be null.
const ELEMENT: u8 = 3;
/// The level of an element that is null.
const NO_ELEMENT: u8 = 2;

/// The rows of one page.
#[derive(Default)]
pub(super) struct Page {
    /// Values of all rows, one after the other; stale markers included.
    values: Vec<f64>,
    /// Gaps of all rows.
    gaps: Vec<u32>,
    /// First value and first gap of each row, and the ends.
    starts: Vec<(u32, u32)>,
}

impl Page {
    /// Values and gaps of row `at` of the page.
    pub(super) fn row(&self, at: usize) -> Option<(&[f64], &[u32])> {
        let (from, to) = (self.starts.get(at)?, self.starts.get(at + 1)?);
        Some((
            self.values.get(from.0 as usize..to.0 as usize)?,
            self.gaps.get(from.1 as usize..to.1 as usize)?,
        ))
    }

    /// Bytes of memory, nearly.
    pub(super) fn size(&self) -> usize {
        self.values.len() * 8 + self.gaps.len() * 4 + self.starts.len() * 8
    }

    fn begin_row(&mut self) {
        self.starts.push((self.values.len() as u32, self.gaps.len() as u32));
    }

    /// Rows with the columns [`COLUMNS`]; an error says what they are not.
    pub(super) fn of_batch(batch: &RecordBatch) -> Result<Page, &'static str> {
        let exps = batch.column(0).as_primitive_opt::<Int8Type>().ok_or("exp is no int8")?;
        let mut page = Page::default();
        page.begin_row();
        for at in 0..batch.num_rows() {
            let gaps = element::<UInt32Type>(batch.column(1), at).ok_or("gaps are no list of u32")?;
            page.gaps.extend_from_slice(gaps.as_primitive::<UInt32Type>().values());
            match decimal::value(exps.value(at)) {
                Some(value) => element::<Int64Type>(batch.column(2), at)
                    .map(|list| push_values::<Int64Type>(&list, value, &mut page.values)),
                None => element::<Float64Type>(batch.column(3), at)
                    .map(|list| push_values::<Float64Type>(&list, |v| v, &mut page.values)),
            }
            .ok_or("values are no list of numbers")?;
            page.begin_row();
        }
        Ok(page)
    }
}

/// The list in row `at` of a list column, if it is one of these elements and not null.
pub(super) fn element<T: ArrowPrimitiveType>(column: &ArrayRef, at: usize) -> Option<ArrayRef> {
    let list = column.as_list_opt::<i32>()?;
    if at >= list.len() || list.is_null(at) {
        return None;
    }
    let element = list.value(at);
    element.as_primitive_opt::<T>().is_some().then_some(element)
}

fn push_values<T: ArrowPrimitiveType>(list: &ArrayRef, value: impl Fn(T::Native) -> f64, vs: &mut Vec<f64>) {
    let list = list.as_primitive::<T>();
    vs.extend((0..list.len()).map(|at| if list.is_null(at) { STALE } else { value(list.value(at)) }));
}

/// Where the columns of [`COLUMNS`] stand in a file; `None` if they are not of the types that [`Decoder`] knows.
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

/// Decodes pages; keeps its memory between them.
pub(super) struct Decoder {
    zstd: zstd::bulk::Decompressor<'static>,
    bytes: Vec<u8>,
    levels: Vec<u8>,
    repeats: Vec<u8>,
    exps: Vec<i64>,
    gaps: Vec<i64>,
    mantissas: Vec<i64>,
    raw: Vec<f64>,
}

impl Decoder {
    pub(super) fn new() -> std::io::Result<Decoder> {
        Ok(Decoder {
            zstd: zstd::bulk::Decompressor::new()?,
            bytes: Vec::new(),
            levels: Vec::new(),
            repeats: Vec::new(),
            exps: Vec::new(),
            gaps: Vec::new(),
            mantissas: Vec::new(),
            raw: Vec::new(),
        })
    }

    /// Page `number` of the file, in which these are the columns; `clock_lengths` has the length of each row's
    /// clock. `None`: it does not lie as our writer lays pages, or is damaged; the `parquet` crate knows.
    pub(super) fn decode(
        &mut self,
        file: &CheckedFile,
        footer: &ParquetMetaData,
        columns: [usize; 4],
        number: usize,
        clock_lengths: &[usize],
    ) -> Option<Page> {
        let (rows, most) = (clock_lengths.len(), clock_lengths.iter().sum());
        self.open(file, footer, columns[0], number, rows, DELTA_BINARY_PACKED)?;
        packed::deltas(&self.bytes, rows, &mut self.exps)?;
        if self.exps.len() != rows {
            return None;
        }
        let mut page = Page { values: Vec::with_capacity(most), ..Page::default() };
        let gaps_of_row = self.gaps(file, footer, columns[1], number, rows, most, &mut page)?;
        let count = self.open(file, footer, columns[2], number, rows, DELTA_BINARY_PACKED)?;
        let from = self.list_levels(count, most + rows)?;
        packed::deltas(self.bytes.get(from..)?, most, &mut self.mantissas)?;
        let of_m = std::mem::take(&mut self.levels);
        self.raw(file, footer, columns[3], number, rows, most)?;
        let lengths =
            clock_lengths.iter().zip(&gaps_of_row).map(|(clock, gaps)| clock.checked_sub(*gaps as usize));
        let done = assemble(
            &mut page,
            lengths,
            &gaps_of_row,
            &self.exps,
            (&of_m, &self.mantissas),
            (&self.levels, &self.raw),
        );
        self.levels = of_m;
        done.map(|()| page)
    }

    /// Reads and decompresses a page of one column into `self.bytes`; how many levels it has.
    fn open(
        &mut self,
        file: &CheckedFile,
        footer: &ParquetMetaData,
        column: usize,
        number: usize,
        rows: usize,
        encoding: u64,
    ) -> Option<usize> {
        let (group, first) =
            (number * BLOCK_PAGE_ROWS / BLOCK_GROUP_ROWS, number * BLOCK_PAGE_ROWS % BLOCK_GROUP_ROWS);
        let pages = footer.offset_index()?.get(group)?.get(column)?.page_locations();
        let at = first / BLOCK_PAGE_ROWS;
        let place = pages.get(at)?;
        let end = pages.get(at + 1).map_or(footer.row_group(group).num_rows(), |next| next.first_row_index);
        if place.first_row_index != first as i64 || end != (first + rows) as i64 {
            return None;
        }
        let size = usize::try_from(place.compressed_page_size).ok()?;
        let stored = file.get_bytes(u64::try_from(place.offset).ok()?, size).ok()?;
        let header = packed::page_header(&stored)?;
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

    /// Puts the gaps of all rows into `page`; how many each row has.
    #[allow(clippy::too_many_arguments, reason = "where a page is takes five")]
    fn gaps(
        &mut self,
        file: &CheckedFile,
        footer: &ParquetMetaData,
        column: usize,
        number: usize,
        rows: usize,
        most: usize,
        page: &mut Page,
    ) -> Option<Vec<u32>> {
        let count = self.open(file, footer, column, number, rows, DELTA_BINARY_PACKED)?;
        if count > most + rows {
            return None;
        }
        let from = packed::levels(&self.bytes, 1, count, &mut self.repeats)?;
        let from = from + packed::levels(self.bytes.get(from..)?, 1, count, &mut self.levels)?;
        packed::deltas(self.bytes.get(from..)?, most, &mut self.gaps)?;
        page.gaps.extend(self.gaps.iter().map(|gap| *gap as u32));
        let mut of_row: Vec<u32> = Vec::with_capacity(rows);
        for (repeat, level) in self.repeats.iter().zip(&self.levels) {
            if *repeat == 0 {
                of_row.push(0);
            }
            *of_row.last_mut()? += u32::from(*level);
        }
        let all: u64 = of_row.iter().map(|n| u64::from(*n)).sum();
        (of_row.len() == rows && all == page.gaps.len() as u64).then_some(of_row)
    }

    /// Reads the levels of a list of values into `self.levels`; where its values begin. Rows are as long as
    /// their clocks say, so where one begins (the other levels) is known.
    fn list_levels(&mut self, count: usize, most: usize) -> Option<usize> {
        if count > most {
            return None;
        }
        let from = 4 + u32::from_le_bytes(*self.bytes.first_chunk::<4>()?) as usize;
        Some(from + packed::levels(self.bytes.get(from..)?, 2, count, &mut self.levels)?)
    }

    /// Reads the values that are no mantissas.
    fn raw(
        &mut self,
        file: &CheckedFile,
        footer: &ParquetMetaData,
        column: usize,
        number: usize,
        rows: usize,
        most: usize,
    ) -> Option<()> {
        let count = self.open(file, footer, column, number, rows, PLAIN)?;
        let from = self.list_levels(count, most + rows)?;
        let values = self.bytes.get(from..self.bytes.len().checked_sub(PADDING)?)?;
        self.raw.clear();
        self.raw.extend(values.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)));
        Some(())
    }
}

/// Puts the rows together out of levels and values of the mantissas and of the raw doubles.
fn assemble(
    page: &mut Page,
    lengths: impl Iterator<Item = Option<usize>>,
    gaps_of_row: &[u32],
    exps: &[i64],
    m: (&[u8], &[i64]),
    raw: (&[u8], &[f64]),
) -> Option<()> {
    let (mut m, mut raw) = (List::new(m.0, m.1), List::new(raw.0, raw.1));
    let mut gaps = 0;
    page.starts.push((0, 0));
    for ((length, gaps_here), exp) in lengths.zip(gaps_of_row).zip(exps) {
        // A row without samples does not exist, and an empty list would look otherwise.
        let length = length.filter(|length| *length > 0)?;
        match decimal::value(i8::try_from(*exp).ok()?) {
            Some(value) => {
                raw.skip_null()?;
                match *exp {
                    // Nothing to divide, and a division costs more than all the rest.
                    0 => m.take(length, |m| m as f64, &mut page.values)?,
                    _ => m.take(length, value, &mut page.values)?,
                }
            }
            None => {
                m.skip_null()?;
                raw.take(length, |v| v, &mut page.values)?;
            }
        }
        gaps += gaps_here;
        page.starts.push((page.values.len() as u32, gaps));
    }
    (m.is_done() && raw.is_done()).then_some(())
}

/// Lists on their way out of a column.
struct List<'a, T> {
    levels: &'a [u8],
    values: &'a [T],
}

impl<'a, T: Copy> List<'a, T> {
    fn new(levels: &'a [u8], values: &'a [T]) -> List<'a, T> {
        List { levels, values }
    }

    fn skip_null(&mut self) -> Option<()> {
        let (level, rest) = self.levels.split_first()?;
        self.levels = rest;
        (*level == 0).then_some(())
    }

    /// Appends a list of `length` elements; null is the stale marker.
    fn take(&mut self, length: usize, value: impl Fn(T) -> f64, out: &mut Vec<f64>) -> Option<()> {
        let (levels, rest) = self.levels.split_at_checked(length)?;
        self.levels = rest;
        let there = levels.iter().filter(|level| **level == ELEMENT).count();
        let (values, rest) = self.values.split_at_checked(there)?;
        self.values = rest;
        if there == length {
            out.extend(values.iter().map(|v| value(*v)));
            return Some(());
        }
        let mut values = values.iter();
        for level in levels {
            match *level {
                ELEMENT => out.push(value(*values.next()?)),
                NO_ELEMENT => out.push(STALE),
                _ => return None,
            }
        }
        Some(())
    }

    fn is_done(&self) -> bool {
        self.levels.is_empty() && self.values.is_empty()
    }
}
