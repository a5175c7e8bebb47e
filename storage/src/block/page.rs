//! [`SamplesPage`]: a page of `samples.parquet` in memory. A page is 64 rows; a row has the floats
//! of one series in two hours. The values stay compressed, and those of a row are decoded when they
//! are read.
//!
//! So a reader of one series does not pay for the other 63 of its page, and a page takes a tenth of
//! the memory of its values. [`super::page_decoder`] makes it from pages that our writer wrote.
//! Pages that the `parquet` crate must read ([`SamplesPage::from_batch`]) are stored as plain
//! values.

use super::delta_binary_packed::DeltaSkipIndex;
use crate::encoding::decimal;
use crate::model::value::STALE;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{ArrowPrimitiveType, Float64Type, Int8Type, Int64Type, UInt32Type};
use std::ops::Range;

/// The columns of a page, in this order: the decimal exponent of a row, the times of its clock (its
/// list of timestamps) at which it has no sample, its values as mantissas, or as floats.
pub(super) const COLUMNS: [&str; 4] = ["exp", "gaps", "m", "raw"];

/// How the values of a row are encoded.
#[derive(Copy, Clone)]
pub(super) enum RowEncoding {
    /// As mantissas with this exponent.
    Decimal(i8),
    /// As doubles.
    Raw,
}

/// The rows of one page.
#[derive(Default)]
pub(super) struct SamplesPage {
    pub(super) rows: Vec<RowSpan>,
    /// The compressed mantissas of all rows.
    pub(super) mantissas: Box<[u8]>,
    pub(super) marks: DeltaSkipIndex,
    /// The doubles of all rows.
    pub(super) raw: Vec<f64>,
    /// For all rows, the positions of stale markers within the row. They are stored only here.
    pub(super) stale: Vec<u32>,
    /// For all rows, the gaps: positions in the row's clock at which it has no sample.
    pub(super) gaps: Vec<u32>,
}

/// Where the data of a row are in its page.
#[derive(Clone)]
pub(super) struct RowSpan {
    pub(super) values: RowEncoding,
    /// Number of samples, stale markers included.
    pub(super) length: u32,
    /// Index of its first mantissa or double.
    pub(super) first: u32,
    pub(super) stale: Range<u32>,
    pub(super) gaps: Range<u32>,
}

/// A row of a page.
pub(super) struct PageRow<'a> {
    page: &'a SamplesPage,
    span: &'a RowSpan,
}

fn wide(range: &Range<u32>) -> Range<usize> {
    range.start as usize..range.end as usize
}

impl SamplesPage {
    /// Row `at` of the page.
    pub(super) fn row(&self, at: usize) -> Option<PageRow<'_>> {
        self.rows.get(at).map(|span| PageRow { page: self, span })
    }

    /// Approximate memory, bytes.
    pub(super) fn size(&self) -> usize {
        let lists = (self.gaps.capacity() + self.stale.capacity()) * 4 + self.raw.capacity() * 8;
        let rows = self.rows.capacity() * size_of::<RowSpan>();
        size_of::<SamplesPage>() + lists + rows + self.mantissas.len() + self.marks.size()
    }

    /// Makes a page from a record batch with the columns [`COLUMNS`]. The error says what does not
    /// fit.
    pub(super) fn from_batch(batch: &RecordBatch) -> Result<SamplesPage, &'static str> {
        let exps = batch.column(0).as_primitive_opt::<Int8Type>().ok_or("exp is no int8")?;
        let mut page = SamplesPage::default();
        for at in 0..batch.num_rows() {
            let gaps = element::<UInt32Type>(batch.column(1), at).ok_or("gaps are no list of u32")?;
            let first = page.raw.len() as u32;
            let gap = page.gaps.len() as u32;
            page.gaps.extend_from_slice(gaps.as_primitive::<UInt32Type>().values());
            match decimal::value(exps.value(at)) {
                Some(value) => element::<Int64Type>(batch.column(2), at)
                    .map(|list| push_values::<Int64Type>(&list, value, &mut page.raw)),
                None => element::<Float64Type>(batch.column(3), at)
                    .map(|list| push_values::<Float64Type>(&list, |v| v, &mut page.raw)),
            }
            .ok_or("values are no list of numbers")?;
            page.rows.push(RowSpan {
                values: RowEncoding::Raw,
                length: page.raw.len() as u32 - first,
                first,
                stale: 0..0,
                gaps: gap..page.gaps.len() as u32,
            });
        }
        Ok(page)
    }
}

impl PageRow<'_> {
    /// Number of samples, stale markers included.
    pub(super) fn len(&self) -> usize {
        self.span.length as usize
    }

    /// Positions of the clock at which the row has no sample.
    pub(super) fn gaps(&self) -> &[u32] {
        self.page.gaps.get(wide(&self.span.gaps)).unwrap_or(&[])
    }

    /// Appends the values of the samples in `range`. `None` if the row has fewer samples.
    pub(super) fn read(&self, range: Range<usize>, out: &mut Vec<f64>) -> Option<()> {
        if range.end > self.len() {
            return None;
        }
        out.reserve(range.len());
        let stale = self.page.stale.get(wide(&self.span.stale))?;
        let before = stale.partition_point(|at| (*at as usize) < range.start);
        // `at` is the next sample of the row; `passed` is the number of samples before it that are
        // not stale markers.
        let mut at = range.start;
        let mut passed = range.start - before;
        for marker in stale[before..].iter().map(|at| *at as usize).take_while(|at| *at < range.end) {
            self.numbers(passed..passed + (marker - at), out)?;
            out.push(STALE);
            passed += marker - at;
            at = marker + 1;
        }
        self.numbers(passed..passed + (range.end - at), out)
    }

    /// Appends values of the row; `range` does not count stale markers.
    fn numbers(&self, range: Range<usize>, out: &mut Vec<f64>) -> Option<()> {
        let first = self.span.first as usize;
        let range = first + range.start..first + range.end;
        let page = self.page;
        match self.span.values {
            RowEncoding::Raw => out.extend_from_slice(page.raw.get(range)?),
            // Integers need no division, which would cost more than everything else.
            RowEncoding::Decimal(0) => page.marks.read(&page.mantissas, range, |some| {
                out.extend(some.iter().map(|m| *m as f64));
            })?,
            RowEncoding::Decimal(exp) => {
                let value = decimal::value(exp)?;
                page.marks.read(&page.mantissas, range, |some| out.extend(some.iter().map(|m| value(*m))))?;
            }
        }
        Some(())
    }
}

/// The list in row `at` of a list column. `None` if it is null, or if its elements have another
/// type.
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
