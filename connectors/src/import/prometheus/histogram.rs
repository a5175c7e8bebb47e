//! Decodes chunks of native histograms: a bucket layout shared by all samples, then a column per
//! bucket.
//!
//! Integer counts are encoded as deltas of deltas, float counts as XOR with the count before. A
//! stale marker has a count, a zero bucket and a stale sum, but no buckets.

use super::bits::{TsdbBitReader, TsdbXorDecoder};
use super::chunks::ChunkSamples;
use super::starts::StartBits;
use crate::limits::IMPORT_BUCKETS;
use crate::native_histogram::{RawBuckets, RawHistogram};
use storage::model::histogram::{BucketSpan, CUSTOM_BUCKETS, ResetHint};
use storage::model::value::is_stale;

/// The first two bits of a chunk of gauges.
const GAUGE: u8 = 0b11;

/// What all samples of a chunk have in common.
struct HistogramChunkLayout {
    schema: i32,
    zero_threshold: f64,
    positive: Vec<BucketSpan>,
    negative: Vec<BucketSpan>,
    bounds: Vec<f64>,
    flags: CounterResetFlags,
}

/// What a chunk says about counter resets: in a chunk of a counter, only the first sample may
/// follow a reset.
#[derive(Clone, Copy, PartialEq)]
enum CounterResetFlags {
    Counter,
    Gauge,
}

/// The encoding of a chunk.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// Whether counts are doubles.
    pub float: bool,
    /// Whether samples may have start timestamps (encodings 5 and 6, written by Prometheus with
    /// `histograms-st-encoding`).
    pub starts: bool,
}

/// Appends the samples of a chunk's data. `None` if it is too short for its content.
pub fn read(data: &[u8], form: Form, out: &mut ChunkSamples) -> Option<()> {
    let (head, data) = data.split_first_chunk::<3>()?;
    let count = u16::from_be_bytes([head[0], head[1]]);
    // With start timestamps, the third byte describes them, and the flags are the first bits of the
    // sample count.
    let (count, flags, starts) = if !form.starts {
        (count, head[2], StartBits::default())
    } else {
        (count & 0x3FFF, head[0], StartBits::new(head[2]))
    };
    let flags = if flags >> 6 == GAUGE { CounterResetFlags::Gauge } else { CounterResetFlags::Counter };
    let mut bits = TsdbBitReader::new(data);
    let layout = HistogramChunkLayout::read(&mut bits, flags)?;
    if !form.float {
        whole(&mut bits, &layout, count, starts, out)
    } else {
        floats(&mut bits, &layout, count, starts, out)
    }
}

impl HistogramChunkLayout {
    fn read(bits: &mut TsdbBitReader<'_>, flags: CounterResetFlags) -> Option<HistogramChunkLayout> {
        let zero_threshold = match bits.bits(8)? {
            0 => 0.0,
            // One byte for the usual thresholds, which are powers of two; anything else follows in
            // full.
            255 => bits.double()?,
            exponent => 0.5 * 2f64.powi(exponent as i32 - 243),
        };
        let schema = i32::try_from(bits.varbit()?).ok()?;
        let positive = spans(bits)?;
        let negative = spans(bits)?;
        let bounds = if schema == CUSTOM_BUCKETS { bounds(bits)? } else { Vec::new() };
        Some(HistogramChunkLayout { schema, zero_threshold, positive, negative, bounds, flags })
    }

    fn hint(&self, at: u16) -> ResetHint {
        match self.flags {
            CounterResetFlags::Gauge => ResetHint::Gauge,
            // For the first sample, the flags refer to the chunk before, which may be deleted or
            // another one by now.
            CounterResetFlags::Counter if at == 0 => ResetHint::Unknown,
            CounterResetFlags::Counter => ResetHint::NotReset,
        }
    }

    /// The histogram with the common fields, from which all samples are made.
    fn blank(&self, float: bool, at: u16) -> RawHistogram {
        let buckets = |spans: &[BucketSpan]| RawBuckets { spans: spans.to_vec(), ..RawBuckets::default() };
        RawHistogram {
            float,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            positive: buckets(&self.positive),
            negative: buckets(&self.negative),
            hint: self.hint(at),
            bounds: self.bounds.clone(),
            ..RawHistogram::default()
        }
    }
}

/// Spans that are being read. Spans without buckets only move the next one, and are merged into it:
/// each sample has at least one bit per bucket, so that a layout cannot cost more memory than its
/// samples justify.
#[derive(Debug, Default)]
pub(super) struct SpanList {
    spans: Vec<BucketSpan>,
    buckets: usize,
    moved: i32,
}

impl SpanList {
    /// Adds a span. `None` if it is impossible.
    pub(super) fn push(&mut self, offset: i32, length: u32) -> Option<()> {
        let offset = self.moved.checked_add(offset)?;
        // Before memory is taken: a length of a few bits can claim four billion buckets.
        self.buckets = self.buckets.checked_add(length as usize).filter(|n| *n <= IMPORT_BUCKETS)?;
        // Prometheus writes them to keep positions; they hold nothing.
        if length == 0 {
            self.moved = offset;
        } else {
            self.spans.push(BucketSpan { offset, length });
            self.moved = 0;
        }
        Some(())
    }

    pub(super) fn finish(self) -> Vec<BucketSpan> {
        self.spans
    }
}

fn spans(bits: &mut TsdbBitReader<'_>) -> Option<Vec<BucketSpan>> {
    let count = usize::try_from(bits.varbit_unsigned()?).ok()?;
    let mut spans = SpanList::default();
    for _ in 0..count {
        let length = u32::try_from(bits.varbit_unsigned()?).ok()?;
        spans.push(i32::try_from(bits.varbit()?).ok()?, length)?;
    }
    Some(spans.finish())
}

/// Reads bounds. Multiples of 1/1000 are encoded as integers.
fn bounds(bits: &mut TsdbBitReader<'_>) -> Option<Vec<f64>> {
    let count = bits.varbit_unsigned()?;
    (0..count)
        .map(|_| match bits.varbit_unsigned()? {
            // A bound that is no multiple of 1/1000.
            0 => bits.double(),
            thousandths => Some((thousandths - 1) as f64 / 1000.0),
        })
        .collect()
}

fn buckets(spans: &[BucketSpan]) -> usize {
    spans.iter().map(|span| span.length as usize).sum()
}

/// An integer column encoded as deltas of deltas.
#[derive(Clone, Copy, Default)]
struct DeltaState {
    value: i64,
    delta: i64,
}

impl DeltaState {
    fn begin(&mut self, value: i64) -> i64 {
        *self = DeltaState { value, delta: 0 };
        value
    }

    /// The next value, from its delta.
    fn step(&mut self, delta: i64) -> i64 {
        self.delta = delta;
        self.value = self.value.wrapping_add(delta);
        self.value
    }

    /// The next value, from the delta of its delta.
    fn bend(&mut self, change: i64) -> i64 {
        self.step(self.delta.wrapping_add(change))
    }

    /// Decodes value number `at` of the column.
    fn next(&mut self, at: u16, bits: &mut TsdbBitReader<'_>) -> Option<i64> {
        let written = bits.varbit()?;
        Some(if at == 1 { self.step(written) } else { self.bend(written) })
    }
}

fn whole(
    bits: &mut TsdbBitReader<'_>,
    layout: &HistogramChunkLayout,
    count: u16,
    mut starts: StartBits,
    out: &mut ChunkSamples,
) -> Option<()> {
    let positive = buckets(&layout.positive);
    let negative = buckets(&layout.negative);
    let mut time = DeltaState::default();
    let mut total = DeltaState::default();
    let mut zero = DeltaState::default();
    let mut sum = TsdbXorDecoder::default();
    let mut columns = vec![DeltaState::default(); positive + negative];
    for at in 0..count {
        let previous = time.value;
        let t = if at == 0 {
            let t = time.begin(bits.varbit()?);
            total.begin(bits.varbit_unsigned()? as i64);
            zero.begin(bits.varbit_unsigned()? as i64);
            sum = TsdbXorDecoder::begin(bits.double()?);
            t
        } else {
            // Time does not go back: the first delta is unsigned.
            let t =
                if at == 1 { time.step(bits.varbit_unsigned()? as i64) } else { time.bend(bits.varbit()?) };
            total.next(at, bits)?;
            zero.next(at, bits)?;
            sum.next(bits)?;
            t
        };
        // A stale marker has only a few bits: it must not cost a whole layout.
        if at > 0 && is_stale(sum.value) {
            out.ends(t);
            out.start(t, starts.next(at, t, previous, bits)?);
            continue;
        }
        // Each sample gets the layout of its chunk; what repeats is shared again when the block is
        // written.
        let mut h = layout.blank(false, at);
        h.count = total.value as f64;
        h.zero_count = zero.value as f64;
        h.sum = sum.value;
        for column in &mut columns {
            match at {
                0 => drop(column.begin(bits.varbit()?)),
                _ => drop(column.next(at, bits)?),
            }
        }
        h.positive.deltas = columns[..positive].iter().map(|c| c.value).collect();
        h.negative.deltas = columns[positive..].iter().map(|c| c.value).collect();
        out.histogram(t, h)?;
        out.start(t, starts.next(at, t, previous, bits)?);
    }
    Some(())
}

fn floats(
    bits: &mut TsdbBitReader<'_>,
    layout: &HistogramChunkLayout,
    count: u16,
    mut starts: StartBits,
    out: &mut ChunkSamples,
) -> Option<()> {
    let positive = buckets(&layout.positive);
    // Count, zero bucket and sum come first, then the buckets.
    let mut columns = vec![TsdbXorDecoder::default(); 3 + positive + buckets(&layout.negative)];
    let mut time = DeltaState::default();
    for at in 0..count {
        let previous = time.value;
        let t = match at {
            0 => time.begin(bits.varbit()?),
            1 => time.step(bits.varbit_unsigned()? as i64),
            _ => time.bend(bits.varbit()?),
        };
        let mut read = |columns: &mut [TsdbXorDecoder]| {
            columns.iter_mut().try_for_each(|column| match at {
                0 => bits.double().map(|value| *column = TsdbXorDecoder::begin(value)),
                _ => column.next(bits).map(drop),
            })
        };
        let (fixed, buckets) = columns.split_at_mut(3);
        read(fixed)?;
        // As above: a marker has no buckets in the data, so none may be read.
        if at > 0 && is_stale(fixed[2].value) {
            out.ends(t);
            out.start(t, starts.next(at, t, previous, bits)?);
            continue;
        }
        let mut h = layout.blank(true, at);
        h.count = fixed[0].value;
        h.zero_count = fixed[1].value;
        h.sum = fixed[2].value;
        read(buckets)?;
        let (p, n) = buckets.split_at(positive);
        h.positive.counts = p.iter().map(|c| c.value).collect();
        h.negative.counts = n.iter().map(|c| c.value).collect();
        out.histogram(t, h)?;
        out.start(t, starts.next(at, t, previous, bits)?);
    }
    Some(())
}
