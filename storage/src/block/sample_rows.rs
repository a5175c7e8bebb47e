//! Builds the rows of `samples.parquet` and collects them into record batches. A row has the floats
//! of one series in one window of two hours: the number of the clock (timestamps that many series
//! share), the gaps in it, and the values as decimals or floats.

use super::schema::{self, column, list_builder};
use super::timestamp_table::TimestampTable;
use crate::encoding::decimal;
use crate::model::value::is_stale;
use arrow::array::{Float64Builder, Int8Builder, ListBuilder, PrimitiveBuilder, RecordBatch, UInt32Builder};
use arrow::datatypes::{Float64Type, Int64Type, UInt32Type};
use arrow::error::ArrowError;

/// Rows that are not written yet.
pub(super) struct SampleRowBuilder {
    /// Number of rows.
    count: usize,
    series_id: UInt32Builder,
    clock_id: UInt32Builder,
    /// The power of ten of the mantissas.
    exp: Int8Builder,
    /// Number of samples.
    n: UInt32Builder,
    /// The least value.
    vmin: Float64Builder,
    /// The greatest value.
    vmax: Float64Builder,
    /// Positions of the clock without a sample.
    gaps: ListBuilder<PrimitiveBuilder<UInt32Type>>,
    /// The mantissas of decimal values.
    m: ListBuilder<PrimitiveBuilder<Int64Type>>,
    /// The values that are no short decimals.
    raw: ListBuilder<PrimitiveBuilder<Float64Type>>,
}

impl SampleRowBuilder {
    pub(super) fn new() -> SampleRowBuilder {
        SampleRowBuilder {
            count: 0,
            series_id: UInt32Builder::new(),
            clock_id: UInt32Builder::new(),
            exp: Int8Builder::new(),
            n: UInt32Builder::new(),
            vmin: Float64Builder::new(),
            vmax: Float64Builder::new(),
            gaps: list_builder(false),
            m: list_builder(true),
            raw: list_builder(true),
        }
    }

    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Adds the samples of one series in one window.
    pub(super) fn push(
        &mut self,
        series: u32,
        target: u64,
        clocks: &mut TimestampTable,
        ts: &[i64],
        vs: &[f64],
    ) {
        let (clock, gaps) = clocks.find_or_insert(target, ts);
        self.count += 1;
        self.series_id.append_value(series);
        self.clock_id.append_value(clock);
        self.n.append_value(vs.len() as u32);
        self.gaps.values().append_slice(&gaps);
        self.gaps.append(true);
        // The range of values is for readers that skip rows: NaN is in no range.
        let numbers = || vs.iter().copied().filter(|v| !v.is_nan());
        self.vmin.append_option(numbers().min_by(f64::total_cmp));
        self.vmax.append_option(numbers().max_by(f64::total_cmp));
        self.push_values(vs);
    }

    fn push_values(&mut self, vs: &[f64]) {
        let exp = decimal::exponent(vs);
        // All values as decimals with one exponent, which is what most metrics are; otherwise as
        // floats.
        match exp {
            Some(exp) => {
                let elements = self.m.values();
                // Only stale markers have no mantissa: see `exponent`.
                for v in vs.iter() {
                    elements.append_option(decimal::mantissa(*v, exp));
                }
            }
            None => {
                let elements = self.raw.values();
                for v in vs.iter() {
                    elements.append_option((!is_stale(*v)).then_some(*v));
                }
            }
        }
        self.exp.append_value(exp.map_or(-1, |e| e as i8));
        self.m.append(exp.is_some());
        self.raw.append(exp.is_none());
    }

    /// Returns the rows as a record batch, and starts a new one.
    pub(super) fn take(&mut self) -> Result<RecordBatch, ArrowError> {
        self.count = 0;
        RecordBatch::try_new(
            schema::samples(),
            vec![
                column(self.series_id.finish()),
                column(self.clock_id.finish()),
                column(self.exp.finish()),
                column(self.n.finish()),
                column(self.vmin.finish()),
                column(self.vmax.finish()),
                column(self.gaps.finish()),
                column(self.m.finish()),
                column(self.raw.finish()),
            ],
        )
    }
}
