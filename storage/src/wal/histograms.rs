//! Payloads of histogram records and of start timestamp records. Layouts in `docs/format/wal.md`.
//!
//! A histogram is written completely, not as a difference to the one before: it costs one to two
//! bytes per bucket, and a lost record costs nothing else. If all counts are integers, as nearly
//! always, they are written as differences between buckets, in LEB128.

use super::record::{RecordBuilder, RecordKind};
use super::samples::{PayloadReader, put_bits, take_values};
use crate::encoding::varint::{put_varint, unzigzag, zigzag};
use crate::limits::{HISTOGRAM_BUCKETS, WAL_HISTOGRAM_BYTES};
use crate::model::histogram::{BucketSpan, Buckets, ResetHint};
use crate::model::slot_samples::{SlotHistogram, SlotStart};
use crate::model::{NativeHistogram, TimeMs};
use std::sync::Arc;

// The bits of the first byte of a histogram.
/// The counter reset hint, an index of [`HINTS`].
const HINT: u8 = 0b11;
/// All counts are integers.
const WHOLE: u8 = 1 << 2;
/// A zero bucket follows.
const ZERO_BUCKET: u8 = 1 << 3;
/// Negative buckets follow.
const NEGATIVE: u8 = 1 << 4;
/// The bounds of custom buckets follow.
const BOUNDS: u8 = 1 << 5;
/// Integers up to here are exact as floats.
const EXACT: f64 = (1u64 << 53) as f64;

const HINTS: [ResetHint; 4] = [ResetHint::Unknown, ResetHint::Reset, ResetHint::NotReset, ResetHint::Gauge];

/// Adds records of the histograms of one shard, split so that no record exceeds the maximum length.
pub fn add_histograms(batch: &mut RecordBuilder, shard: u16, mut samples: &[SlotHistogram]) {
    while !samples.is_empty() {
        let mut bytes = 0;
        let fits = samples.iter().take_while(|(_, _, h)| {
            bytes += most_bytes(h);
            bytes <= WAL_HISTOGRAM_BYTES
        });
        // At least one: a single histogram is never larger than a record, because of the limit on
        // its buckets.
        let (part, rest) = samples.split_at(fits.count().max(1));
        batch.add(RecordKind::Histograms, |out| put_histograms(out, shard, part));
        samples = rest;
    }
}

/// An upper bound of the bytes of an encoded histogram.
fn most_bytes(h: &NativeHistogram) -> usize {
    let buckets = |b: &Buckets| b.spans.len() * 10 + b.counts.len() * 10;
    80 + buckets(&h.positive) + buckets(&h.negative) + h.bounds.len() * 9
}

fn put_histograms(out: &mut Vec<u8>, shard: u16, samples: &[SlotHistogram]) {
    out.extend_from_slice(&u32::from(shard).to_le_bytes());
    out.extend_from_slice(&(samples.len() as u32).to_le_bytes());
    let mut slot = 0i64;
    let mut time = 0i64;
    for (s, t, h) in samples {
        put_varint(out, zigzag(i64::from(*s) - slot));
        put_varint(out, zigzag(t.wrapping_sub(time)));
        put_histogram(out, h);
        slot = i64::from(*s);
        time = *t;
    }
}

/// Encodes one histogram. Its buckets must have as many counts as the spans say.
pub fn put_histogram(out: &mut Vec<u8>, h: &NativeHistogram) {
    let hint = HINTS.iter().position(|hint| *hint == h.hint).unwrap_or(0) as u8;
    let numbers = [h.count, h.zero_count];
    let mut numbers = numbers.iter().chain(&h.positive.counts).chain(&h.negative.counts);
    // Minus zero and fractions must come back bit by bit, so they are not written as integers.
    let whole = numbers.all(|n| *n >= 0.0 && *n <= EXACT && n.fract() == 0.0 && n.is_sign_positive());
    let zero = h.zero_threshold.to_bits() != 0 || h.zero_count.to_bits() != 0;
    let flag = |is: bool, bit: u8| if is { bit } else { 0 };
    out.push(
        hint | flag(whole, WHOLE)
            | flag(zero, ZERO_BUCKET)
            | flag(!h.negative.spans.is_empty(), NEGATIVE)
            | flag(!h.bounds.is_empty(), BOUNDS),
    );
    put_varint(out, zigzag(i64::from(h.schema)));
    let number = |out: &mut Vec<u8>, n: f64| {
        if whole { put_varint(out, n as u64) } else { put_bits(out, n.to_bits()) }
    };
    number(out, h.count);
    put_bits(out, h.sum.to_bits());
    if zero {
        put_bits(out, h.zero_threshold.to_bits());
        number(out, h.zero_count);
    }
    put_buckets(out, &h.positive, whole);
    if !h.negative.spans.is_empty() {
        put_buckets(out, &h.negative, whole);
    }
    if !h.bounds.is_empty() {
        put_varint(out, h.bounds.len() as u64);
        for bound in h.bounds.iter() {
            put_bits(out, bound.to_bits());
        }
    }
}

fn put_buckets(out: &mut Vec<u8>, buckets: &Buckets, whole: bool) {
    put_varint(out, buckets.spans.len() as u64);
    for span in &buckets.spans {
        put_varint(out, zigzag(i64::from(span.offset)));
        put_varint(out, u64::from(span.length));
    }
    let mut before = 0;
    for count in &buckets.counts {
        if whole {
            // Adjacent buckets have similar counts: their difference mostly fits into a byte.
            let count = *count as i64;
            put_varint(out, zigzag(count - before));
            before = count;
        } else {
            put_bits(out, count.to_bits());
        }
    }
}

/// Decodes a histogram payload: calls `take(shard, slot, time, histogram)` for each. `None` if it
/// is malformed; `take` may have been called before.
pub fn take_histograms(
    payload: &[u8],
    take: impl FnMut(u32, u32, TimeMs, Arc<NativeHistogram>),
) -> Option<()> {
    take_values(payload, |cursor| take_histogram(cursor).map(Arc::new), take)
}

/// Decodes one histogram. `None` if it is malformed.
pub fn take_histogram(cursor: &mut PayloadReader) -> Option<NativeHistogram> {
    let flags = cursor.byte()?;
    // Written by a later version: what it means is not known, and half a histogram would be wrong.
    if flags & !(HINT | WHOLE | ZERO_BUCKET | NEGATIVE | BOUNDS) != 0 {
        return None;
    }
    let whole = flags & WHOLE != 0;
    let mut h = NativeHistogram { hint: HINTS[usize::from(flags & HINT)], ..NativeHistogram::default() };
    h.schema = i32::try_from(unzigzag(cursor.varint()?)).ok()?;
    h.count = take_number(cursor, whole)?;
    h.sum = f64::from_bits(cursor.bits()?);
    if flags & ZERO_BUCKET != 0 {
        h.zero_threshold = f64::from_bits(cursor.bits()?);
        h.zero_count = take_number(cursor, whole)?;
    }
    h.positive = take_buckets(cursor, whole)?;
    if flags & NEGATIVE != 0 {
        h.negative = take_buckets(cursor, whole)?;
    }
    if flags & BOUNDS != 0 {
        let n = take_length(cursor)?;
        h.bounds = (0..n).map(|_| cursor.bits().map(f64::from_bits)).collect::<Option<_>>()?;
    }
    Some(h)
}

fn take_number(cursor: &mut PayloadReader, whole: bool) -> Option<f64> {
    if whole { cursor.varint().map(|n| n as f64) } else { cursor.bits().map(f64::from_bits) }
}

fn take_length(cursor: &mut PayloadReader) -> Option<usize> {
    cursor.varint().and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= HISTOGRAM_BUCKETS)
}

fn take_buckets(cursor: &mut PayloadReader, whole: bool) -> Option<Buckets> {
    let n = take_length(cursor)?;
    let mut buckets = Buckets::default();
    let mut counts = 0usize;
    for _ in 0..n {
        let offset = i32::try_from(unzigzag(cursor.varint()?)).ok()?;
        let length = u32::try_from(cursor.varint()?).ok()?;
        // Checked before any count is read: the lengths of damaged spans must not decide how much
        // memory is taken.
        counts = counts.checked_add(length as usize).filter(|n| *n <= HISTOGRAM_BUCKETS)?;
        buckets.spans.push(BucketSpan { offset, length });
    }
    let mut before = 0i64;
    for _ in 0..counts {
        buckets.counts.push(if whole {
            before = before.wrapping_add(unzigzag(cursor.varint()?));
            before as f64
        } else {
            f64::from_bits(cursor.bits()?)
        });
    }
    Some(buckets)
}

/// Encodes start timestamps of one shard: (slot, time of the sample, start).
pub fn put_starts(out: &mut Vec<u8>, shard: u16, starts: &[SlotStart]) {
    out.extend_from_slice(&u32::from(shard).to_le_bytes());
    out.extend_from_slice(&(starts.len() as u32).to_le_bytes());
    let mut slot = 0i64;
    let mut time = 0i64;
    let mut begin = 0i64;
    for (s, t, start) in starts {
        put_varint(out, zigzag(i64::from(*s) - slot));
        put_varint(out, zigzag(t.wrapping_sub(time)));
        put_varint(out, zigzag(start.wrapping_sub(begin)));
        slot = i64::from(*s);
        time = *t;
        begin = *start;
    }
}

/// Decodes a start timestamp payload: calls `take(shard, slot, time, start)` for each. `None` if it
/// is malformed.
pub fn take_starts(payload: &[u8], take: impl FnMut(u32, u32, TimeMs, TimeMs)) -> Option<()> {
    // Start timestamps are differences to the one before, as slots and times are.
    let mut start = 0i64;
    let next_start = |cursor: &mut PayloadReader| {
        start = start.wrapping_add(unzigzag(cursor.varint()?));
        Some(start)
    };
    take_values(payload, next_start, take)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::histogram::CUSTOM_BUCKETS;
    use proptest::prelude::*;

    fn number() -> impl Strategy<Value = f64> {
        prop_oneof![8 => (0u32..1000).prop_map(f64::from), 1 => Just(EXACT), 1 => any::<f64>()]
    }

    fn buckets() -> impl Strategy<Value = Buckets> {
        let spans = proptest::collection::vec((-300i32..300, 0u32..6), 0..4);
        (spans, proptest::collection::vec(number(), 24)).prop_map(|(spans, mut counts)| {
            let spans: Vec<_> =
                spans.into_iter().map(|(offset, length)| BucketSpan { offset, length }).collect();
            counts.truncate(spans.iter().map(|span| span.length as usize).sum());
            Buckets { spans, counts }
        })
    }

    fn histogram() -> impl Strategy<Value = NativeHistogram> {
        let numbers = (number(), any::<f64>(), prop_oneof![Just(0.0), any::<f64>()], number());
        let bounds = proptest::collection::vec(any::<f64>(), 0..4);
        let schema = prop_oneof![-4i32..=8, Just(CUSTOM_BUCKETS)];
        (schema, numbers, 0usize..4, buckets(), buckets(), bounds).prop_map(
            |(schema, (count, sum, zero_threshold, zero_count), hint, positive, negative, bounds)| {
                let hint = HINTS[hint];
                let bounds = bounds.into();
                NativeHistogram {
                    schema,
                    zero_threshold,
                    zero_count,
                    count,
                    sum,
                    hint,
                    positive,
                    negative,
                    bounds,
                }
            },
        )
    }

    /// All fields, floats as bit patterns: all NaNs print alike.
    fn image(h: &NativeHistogram) -> String {
        let bits = |all: &[f64]| all.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let numbers = bits(&[h.count, h.sum, h.zero_threshold, h.zero_count]);
        let counts = (bits(&h.positive.counts), bits(&h.negative.counts), bits(&h.bounds));
        let spans = (&h.positive.spans, &h.negative.spans);
        format!("{} {:?} {numbers:?} {counts:?} {spans:?}", h.schema, h.hint)
    }

    proptest! {
        #[test]
        fn histograms_round_trip(
            samples in proptest::collection::vec((any::<u32>(), any::<i64>(), histogram()), 0..10),
            flip in any::<(usize, u8)>(),
        ) {
            let samples: Vec<SlotHistogram> =
                samples.into_iter().map(|(s, t, h)| (s, t, Arc::new(h))).collect();
            let mut out = Vec::new();
            put_histograms(&mut out, 5, &samples);
            let mut back = Vec::new();
            take_histograms(&out, |shard, slot, t, h| back.push((shard, slot, t, image(&h)))).unwrap();
            let wanted: Vec<_> = samples.iter().map(|(s, t, h)| (5, *s, *t, image(h))).collect();
            prop_assert_eq!(back, wanted);
            let at = flip.0 % out.len();
            out[at] ^= flip.1;
            let _ = take_histograms(&out, |_, _, _, _| ());
            let _ = take_starts(&out, |_, _, _, _| ());
        }

        #[test]
        fn starts_round_trip(
            starts in proptest::collection::vec((any::<u32>(), any::<i64>(), any::<i64>()), 0..20),
        ) {
            let mut out = Vec::new();
            put_starts(&mut out, 5, &starts);
            let mut back = Vec::new();
            take_starts(&out, |shard, slot, t, start| back.push((shard, slot, t, start))).unwrap();
            let wanted: Vec<_> = starts.iter().map(|(s, t, start)| (5, *s, *t, *start)).collect();
            prop_assert_eq!(back, wanted);
        }
    }

    #[test]
    fn a_whole_bucket_costs_about_a_byte() {
        let spans = vec![BucketSpan { offset: 3, length: 20 }];
        let counts = (0..20).map(|i| f64::from(100 + i * 3)).collect();
        let h = NativeHistogram {
            count: 2570.0,
            sum: 9.5,
            positive: Buckets { spans, counts },
            ..<_>::default()
        };
        let mut out = Vec::new();
        put_histogram(&mut out, &h);
        assert!(out.len() < 34, "{}", out.len());
    }

    #[test]
    fn many_large_histograms_become_several_records() {
        let spans = vec![BucketSpan { offset: 0, length: 50_000 }];
        let positive = Buckets { spans, counts: vec![0.5; 50_000] };
        let large = Arc::new(NativeHistogram { positive, ..NativeHistogram::default() });
        let samples: Vec<SlotHistogram> = (0..20).map(|t| (1, t, large.clone())).collect();
        let mut batch = RecordBuilder::default();
        add_histograms(&mut batch, 0, &samples);
        batch.seal(1);
        let mut at = 0;
        let mut found = Vec::new();
        while at < batch.len() {
            let record = super::super::record::read(batch.bytes(), at).unwrap();
            take_histograms(record.payload, |_, _, t, _| found.push(t)).unwrap();
            at = record.end;
        }
        assert_eq!(found, (0..20).collect::<Vec<_>>());
    }
}
