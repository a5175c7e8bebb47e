//! A chunk of native histograms, in Prometheus' format (`tsdb/docs/format/chunks.md` there): number
//! of samples, a byte with the reset hint, the layout of the buckets, which all samples share, then
//! the samples. Times and integer counts are deltas of deltas, sums and float counts XOR with the
//! value before.
//!
//! Prometheus extends the layout of a chunk when a bucket is added; here another chunk begins. Both
//! are read in the same way.

use super::ChunkEncoding;
use super::bits::{BitWriter, XorColumn};
use crate::protobuf::is_integer;
use storage::model::histogram::{BucketSpan, ResetHint};
use storage::model::{NativeHistogram, TimeMs};

/// The reset hint of the first sample: the first two bits of the third byte; 0 is unknown.
const RESET: u8 = 0b10 << 6;
const NOT_RESET: u8 = 0b01 << 6;
const GAUGE: u8 = 0b11 << 6;

/// The largest custom bound that is written as a number of thousandths; others are written as
/// doubles.
const LARGEST_THOUSANDTHS: f64 = 33_554.430;

/// A chunk that is being written.
pub(super) struct HistogramChunk {
    bits: BitWriter,
    first: NativeHistogram,
    /// Whether all counts are integers.
    is_integer_chunk: bool,
    samples: u16,
    time: DeltaColumn,
    count: CountColumn,
    zero_count: CountColumn,
    sum: XorColumn,
    /// Positive buckets, then negative ones.
    buckets: Vec<CountColumn>,
}

/// A column of integers, which are written as deltas of deltas.
#[derive(Copy, Clone, Default)]
struct DeltaColumn {
    value: i64,
    delta: i64,
}

impl DeltaColumn {
    fn append(&mut self, out: &mut BitWriter, value: i64) {
        let delta = value.wrapping_sub(self.value);
        out.varbit(delta.wrapping_sub(self.delta));
        *self = DeltaColumn { value, delta };
    }
}

/// A column of counts.
enum CountColumn {
    Integer(DeltaColumn),
    Float(XorColumn),
}

impl CountColumn {
    fn append(&mut self, out: &mut BitWriter, value: f64) {
        match self {
            CountColumn::Integer(column) => column.append(out, value as i64),
            CountColumn::Float(column) => column.append(out, value),
        }
    }
}

/// The values that the bucket columns have for a histogram: integer counts are differences from the
/// bucket before.
fn bucket_values(h: &NativeHistogram, is_integer_chunk: bool) -> impl Iterator<Item = f64> {
    let differences = move |counts: &[f64]| {
        let mut before = 0.0;
        let values: Vec<f64> = counts
            .iter()
            .map(|count| {
                let value = if is_integer_chunk { count - before } else { *count };
                before = *count;
                value
            })
            .collect();
        values
    };
    differences(&h.positive.counts).into_iter().chain(differences(&h.negative.counts))
}

impl HistogramChunk {
    /// A chunk with its first sample.
    pub(super) fn begin(t: TimeMs, h: &NativeHistogram) -> HistogramChunk {
        let is_integer_chunk = is_integer(h);
        let header = match h.hint {
            ResetHint::Unknown => 0,
            ResetHint::Reset => RESET,
            ResetHint::NotReset => NOT_RESET,
            ResetHint::Gauge => GAUGE,
        };
        let mut bits = BitWriter::after(&[0, 0, header]);
        put_layout(&mut bits, h);
        bits.varbit(t);
        if is_integer_chunk {
            bits.varbit_unsigned(h.count as u64);
            bits.varbit_unsigned(h.zero_count as u64);
        } else {
            bits.double(h.count);
            bits.double(h.zero_count);
        }
        bits.double(h.sum);
        let column = |value: f64| {
            if is_integer_chunk {
                CountColumn::Integer(DeltaColumn { value: value as i64, delta: 0 })
            } else {
                CountColumn::Float(XorColumn::begin(value))
            }
        };
        let mut buckets = Vec::new();
        for value in bucket_values(h, is_integer_chunk) {
            if is_integer_chunk {
                bits.varbit(value as i64);
            } else {
                bits.double(value);
            }
            buckets.push(column(value));
        }
        HistogramChunk {
            bits,
            is_integer_chunk,
            samples: 1,
            time: DeltaColumn { value: t, delta: 0 },
            count: column(h.count),
            zero_count: column(h.zero_count),
            sum: XorColumn::begin(h.sum),
            buckets,
            first: h.clone(),
        }
    }

    /// Whether the next sample of the chunk may be this one: it has the same layout, and no counter
    /// reset before it. (A chunk has one reset hint; readers take its later samples as without a
    /// reset, unless it is one of gauges.)
    pub(super) fn has_place_for(&self, h: &NativeHistogram) -> bool {
        let first = &self.first;
        let continues = match first.hint {
            ResetHint::Gauge => h.hint == ResetHint::Gauge,
            _ => h.hint == ResetHint::NotReset,
        };
        continues
            && is_integer(h) == self.is_integer_chunk
            && h.schema == first.schema
            && h.zero_threshold.to_bits() == first.zero_threshold.to_bits()
            && h.positive.spans == first.positive.spans
            && h.negative.spans == first.negative.spans
            && h.bounds == first.bounds
    }

    /// Appends a sample that [`HistogramChunk::has_place_for`].
    pub(super) fn append(&mut self, t: TimeMs, h: &NativeHistogram) {
        let HistogramChunk { bits, time, count, zero_count, sum, buckets, .. } = self;
        time.append(bits, t);
        count.append(bits, h.count);
        zero_count.append(bits, h.zero_count);
        sum.append(bits, h.sum);
        for (column, value) in buckets.iter_mut().zip(bucket_values(h, self.is_integer_chunk)) {
            column.append(bits, value);
        }
        self.samples += 1;
    }

    /// The encoding of the chunk.
    pub(super) fn encoding(&self) -> ChunkEncoding {
        if self.is_integer_chunk { ChunkEncoding::Histogram } else { ChunkEncoding::FloatHistogram }
    }

    /// The data of the chunk.
    pub(super) fn finish(self) -> Vec<u8> {
        let mut bytes = self.bits.into_bytes();
        bytes[..2].copy_from_slice(&self.samples.to_be_bytes());
        bytes
    }
}

/// Writes what all samples of a chunk have in common.
fn put_layout(bits: &mut BitWriter, h: &NativeHistogram) {
    put_zero_threshold(bits, h.zero_threshold);
    bits.varbit(i64::from(h.schema));
    put_spans(bits, &h.positive.spans);
    put_spans(bits, &h.negative.spans);
    if h.is_custom() {
        bits.varbit_unsigned(h.bounds.len() as u64);
        for bound in h.bounds.iter() {
            put_bound(bits, *bound);
        }
    }
}

/// Writes the zero threshold: a byte for zero and powers of two.
fn put_zero_threshold(bits: &mut BitWriter, threshold: f64) {
    if threshold == 0.0 {
        bits.bits(0, 8);
        return;
    }
    let raw = threshold.to_bits();
    let exponent = (raw >> 52 & 0x7ff) as i64 - 1023;
    let is_power = raw & ((1 << 52) - 1) == 0 && threshold > 0.0;
    // 2^(b - 244) for b from 1 to 254.
    if is_power && (1..=254).contains(&(exponent + 244)) {
        bits.bits((exponent + 244) as u64, 8);
    } else {
        bits.bits(255, 8);
        bits.double(threshold);
    }
}

/// Writes the spans of one sign: their number, then length and offset of each.
fn put_spans(bits: &mut BitWriter, spans: &[BucketSpan]) {
    bits.varbit_unsigned(spans.len() as u64);
    for span in spans {
        bits.varbit_unsigned(u64::from(span.length));
        bits.varbit(i64::from(span.offset));
    }
}

/// Writes a custom bound: as thousandths plus one, or a zero bit and the double.
fn put_bound(bits: &mut BitWriter, bound: f64) {
    let thousandths = (bound * 1000.0).round();
    let is_exact = (0.0..=LARGEST_THOUSANDTHS).contains(&bound) && thousandths / 1000.0 == bound;
    if is_exact {
        bits.varbit_unsigned(thousandths as u64 + 1);
    } else {
        bits.bit(false);
        bits.double(bound);
    }
}
