//! Encodes and decodes the rows of `histograms.parquet` and `starts.parquet`
//! (`docs/format/block.md`): what only some samples of a block have. A row is one native histogram,
//! or the start timestamp of one sample. A block without any has no such file.
//!
//! [`super::sparse_file`] finds the rows of a series; floats are in `samples.parquet`
//! ([`super::sample_rows`]).

use super::paged_file::PageOptions;
use super::schema::{self, HISTOGRAMS, HISTOGRAMS_CHECKSUMS, STARTS, STARTS_CHECKSUMS, column, list_builder};
use crate::limits::BLOCK_SPARSE_PAGE_ROWS;
use crate::model::histogram::{BucketSpan, Buckets, ResetHint};
use crate::model::{NativeHistogram, TimeMs};
use arrow::array::{
    AsArray, Float64Builder, Int8Builder, Int64Builder, ListBuilder, PrimitiveArray, PrimitiveBuilder,
    RecordBatch, UInt32Builder,
};
use arrow::datatypes::{ArrowPrimitiveType, Float64Type, Int8Type, Int32Type, Int64Type, UInt32Type};
use arrow::error::ArrowError;
use std::sync::Arc;

/// How to read pages of `histograms.parquet`: all columns except the series.
pub(super) const HISTOGRAM_PAGES: PageOptions = PageOptions {
    file: HISTOGRAMS,
    checksums: HISTOGRAMS_CHECKSUMS,
    columns: &[
        "ts",
        "schema",
        "hint",
        "count",
        "sum",
        "zero_threshold",
        "zero_count",
        "positive_offsets",
        "positive_lengths",
        "positive_counts",
        "negative_offsets",
        "negative_lengths",
        "negative_counts",
        "bounds",
    ],
    page_rows: BLOCK_SPARSE_PAGE_ROWS,
};

/// How to read pages of `starts.parquet`.
pub(super) const START_PAGES: PageOptions = PageOptions {
    file: STARTS,
    checksums: STARTS_CHECKSUMS,
    columns: &["ts", "start"],
    page_rows: BLOCK_SPARSE_PAGE_ROWS,
};

const HINTS: [ResetHint; 4] = [ResetHint::Unknown, ResetHint::Reset, ResetHint::NotReset, ResetHint::Gauge];

type ListColumnBuilder<T> = ListBuilder<PrimitiveBuilder<T>>;

/// The columns of the positive or negative buckets.
struct BucketColumnBuilder {
    offsets: ListColumnBuilder<Int32Type>,
    lengths: ListColumnBuilder<UInt32Type>,
    counts: ListColumnBuilder<Float64Type>,
}

impl BucketColumnBuilder {
    fn new() -> BucketColumnBuilder {
        BucketColumnBuilder {
            offsets: list_builder(false),
            lengths: list_builder(false),
            counts: list_builder(false),
        }
    }

    fn push(&mut self, buckets: &Buckets) {
        for span in &buckets.spans {
            self.offsets.values().append_value(span.offset);
            self.lengths.values().append_value(span.length);
        }
        self.counts.values().append_slice(&buckets.counts);
        self.offsets.append(true);
        self.lengths.append(true);
        self.counts.append(true);
    }
}

/// Histograms that are not written yet.
pub(super) struct HistogramRows {
    series_id: UInt32Builder,
    ts: Int64Builder,
    schema: Int8Builder,
    hint: Int8Builder,
    /// Count, sum, zero threshold, zero count.
    numbers: [Float64Builder; 4],
    positive: BucketColumnBuilder,
    negative: BucketColumnBuilder,
    bounds: ListColumnBuilder<Float64Type>,
}

impl HistogramRows {
    pub(super) fn new() -> HistogramRows {
        HistogramRows {
            series_id: UInt32Builder::new(),
            ts: Int64Builder::new(),
            schema: Int8Builder::new(),
            hint: Int8Builder::new(),
            numbers: Default::default(),
            positive: BucketColumnBuilder::new(),
            negative: BucketColumnBuilder::new(),
            bounds: list_builder(false),
        }
    }

    /// Adds a sample. Its schema must fit into 8 bits.
    pub(super) fn push(&mut self, series: u32, t: TimeMs, h: &NativeHistogram) {
        self.series_id.append_value(series);
        self.ts.append_value(t);
        self.schema.append_value(h.schema as i8);
        self.hint.append_value(HINTS.iter().position(|hint| *hint == h.hint).unwrap_or(0) as i8);
        let numbers = [h.count, h.sum, h.zero_threshold, h.zero_count];
        for (column, n) in self.numbers.iter_mut().zip(numbers) {
            column.append_value(n);
        }
        self.positive.push(&h.positive);
        self.negative.push(&h.negative);
        self.bounds.values().append_slice(&h.bounds);
        self.bounds.append(true);
    }

    /// Returns the rows as a record batch, and starts a new one.
    pub(super) fn take(&mut self) -> Result<RecordBatch, ArrowError> {
        let mut columns = vec![
            column(self.series_id.finish()),
            column(self.ts.finish()),
            column(self.schema.finish()),
            column(self.hint.finish()),
        ];
        columns.extend(self.numbers.iter_mut().map(|numbers| column(numbers.finish())));
        for buckets in [&mut self.positive, &mut self.negative] {
            columns.push(column(buckets.offsets.finish()));
            columns.push(column(buckets.lengths.finish()));
            columns.push(column(buckets.counts.finish()));
        }
        columns.push(column(self.bounds.finish()));
        RecordBatch::try_new(schema::histograms(), columns)
    }
}

/// Decodes the histogram in row `row` of a page. `before` is the histogram of the row before: if
/// the bounds are equal, they share its allocation.
pub(super) fn decode(
    page: &RecordBatch,
    row: usize,
    before: Option<&NativeHistogram>,
) -> Option<NativeHistogram> {
    // `None` if a column has another type: the file was written by something else, and counts as
    // damaged.
    let byte = |column: usize| Some(page.column(column).as_primitive_opt::<Int8Type>()?.value(row));
    let number = |column: usize| Some(page.column(column).as_primitive_opt::<Float64Type>()?.value(row));
    let bounds = list::<Float64Type>(page, 13, row)?;
    // A series has the same bounds for months: one allocation instead of one for each sample.
    let shared = before.filter(|before| before.bounds[..] == bounds.values()[..]);
    Some(NativeHistogram {
        schema: i32::from(byte(1)?),
        hint: *HINTS.get(usize::try_from(byte(2)?).ok()?)?,
        count: number(3)?,
        sum: number(4)?,
        zero_threshold: number(5)?,
        zero_count: number(6)?,
        positive: buckets(page, 7, row)?,
        negative: buckets(page, 10, row)?,
        bounds: shared.map_or_else(|| Arc::from(&bounds.values()[..]), |before| before.bounds.clone()),
    })
}

fn buckets(page: &RecordBatch, column: usize, row: usize) -> Option<Buckets> {
    let offsets = list::<Int32Type>(page, column, row)?;
    let lengths = list::<UInt32Type>(page, column + 1, row)?;
    let counts = list::<Float64Type>(page, column + 2, row)?;
    let spans = offsets.values().iter().zip(lengths.values());
    let spans: Vec<BucketSpan> =
        spans.map(|(offset, length)| BucketSpan { offset: *offset, length: *length }).collect();
    let told: u64 = spans.iter().map(|span| u64::from(span.length)).sum();
    // A file that another program wrote may have a valid checksum and other lists.
    let fits = offsets.len() == lengths.len() && told == counts.len() as u64;
    fits.then(|| Buckets { spans, counts: counts.values().to_vec() })
}

fn list<T: ArrowPrimitiveType>(page: &RecordBatch, column: usize, row: usize) -> Option<PrimitiveArray<T>> {
    page.column(column).as_list_opt::<i32>()?.value(row).as_primitive_opt::<T>().cloned()
}

/// Start timestamps that are not written yet.
#[derive(Default)]
pub(super) struct StartRows {
    series_id: UInt32Builder,
    ts: Int64Builder,
    start: Int64Builder,
}

impl StartRows {
    /// Adds the start timestamp of a sample.
    pub(super) fn push(&mut self, series: u32, t: TimeMs, start: TimeMs) {
        self.series_id.append_value(series);
        self.ts.append_value(t);
        self.start.append_value(start);
    }

    /// Returns the rows as a record batch, and starts a new one.
    pub(super) fn take(&mut self) -> Result<RecordBatch, ArrowError> {
        let columns =
            [column(self.series_id.finish()), column(self.ts.finish()), column(self.start.finish())];
        RecordBatch::try_new(schema::starts(), columns.into())
    }
}

/// Decodes the start timestamp in row `row` of a page.
pub(super) fn decode_start(page: &RecordBatch, row: usize) -> Option<TimeMs> {
    Some(page.column(1).as_primitive_opt::<Int64Type>()?.value(row))
}
