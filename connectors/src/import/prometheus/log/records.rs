//! Decodes the records of Prometheus' log: series, samples, native histograms, deletions. Other
//! records (exemplars, metadata, markers of chunks) are passed over.

use super::super::bytes::TsdbByteReader;
use super::super::histogram::SpanList;
use crate::limits::IMPORT_BUCKETS;
use crate::native_histogram::{RawBuckets, RawHistogram};
use storage::model::histogram::{CUSTOM_BUCKETS, ResetHint};
use storage::model::{Labels, TimeMs};

/// What a record says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum LogEntry {
    /// A series has this reference from here on.
    Series { reference: u64, labels: Labels },
    /// A sample; `start` is 0 if it has no start timestamp.
    Float { at: LogPosition, value: f64 },
    /// A native histogram.
    Histogram { at: LogPosition, histogram: Box<RawHistogram> },
    /// The samples of a series from `from` to `to`, ends included, are deleted.
    Deleted { reference: u64, from: TimeMs, to: TimeMs },
}

/// Of which series and time a sample is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LogPosition {
    pub(super) reference: u64,
    pub(super) t: TimeMs,
    /// The start timestamp; 0: none.
    pub(super) start: TimeMs,
}

/// Calls `each` for every entry of a record. `None` if the record does not hold what it says.
pub(super) fn read(record: &[u8], mut each: impl FnMut(LogEntry) -> Option<()>) -> Option<()> {
    let mut bytes = TsdbByteReader::new(record);
    match bytes.u8()? {
        1 => series(&mut bytes, &mut each),
        2 => samples(&mut bytes, Encoding::Distances, float, &mut each),
        3 => deletions(&mut bytes, &mut each),
        7 | 9 => samples(&mut bytes, Encoding::Distances, whole_histogram, &mut each),
        8 | 10 => samples(&mut bytes, Encoding::Distances, float_histogram, &mut each),
        11 => samples(&mut bytes, Encoding::WithStarts, float, &mut each),
        12 => samples(&mut bytes, Encoding::WithStarts, whole_histogram, &mut each),
        13 => samples(&mut bytes, Encoding::WithStarts, float_histogram, &mut each),
        _ => Some(()),
    }
}

fn series(bytes: &mut TsdbByteReader<'_>, each: &mut impl FnMut(LogEntry) -> Option<()>) -> Option<()> {
    while bytes.left() > 0 {
        let reference = bytes.u64()?;
        let count = bytes.size()?;
        let mut labels = Vec::with_capacity(count.min(64));
        for _ in 0..count {
            labels.push((bytes.text()?, bytes.text()?));
        }
        each(LogEntry::Series { reference, labels: Labels::from_pairs(labels) })?;
    }
    Some(())
}

fn deletions(bytes: &mut TsdbByteReader<'_>, each: &mut impl FnMut(LogEntry) -> Option<()>) -> Option<()> {
    while bytes.left() > 0 {
        let reference = bytes.u64()?;
        let from = bytes.varint()?;
        let to = bytes.varint()?;
        each(LogEntry::Deleted { reference, from, to })?;
    }
    Some(())
}

/// How series and times of samples are written.
#[derive(Clone, Copy)]
enum Encoding {
    /// As the distance from a first one, which stands at the begin.
    Distances,
    /// The series as the distance from the one before, and start timestamps.
    WithStarts,
}

/// Reads the value of a sample.
type ReadValue = fn(&mut TsdbByteReader<'_>, LogPosition) -> Option<LogEntry>;

fn samples(
    bytes: &mut TsdbByteReader<'_>,
    encoding: Encoding,
    value: ReadValue,
    each: &mut impl FnMut(LogEntry) -> Option<()>,
) -> Option<()> {
    if bytes.left() == 0 {
        return Some(());
    }
    match encoding {
        Encoding::Distances => {
            let first = LogPosition { reference: bytes.u64()?, t: bytes.u64()? as i64, start: 0 };
            while bytes.left() > 0 {
                let reference = first.reference.wrapping_add(bytes.varint()? as u64);
                let t = first.t.wrapping_add(bytes.varint()?);
                each(value(bytes, LogPosition { reference, t, start: 0 })?)?;
            }
        }
        Encoding::WithStarts => {
            let reference = bytes.varint()? as u64;
            let first = LogPosition { reference, t: bytes.varint()?, start: bytes.varint()? };
            let mut at = first;
            loop {
                each(value(bytes, at)?)?;
                if bytes.left() == 0 {
                    break;
                }
                at.reference = at.reference.wrapping_add(bytes.varint()? as u64);
                at.t = first.t.wrapping_add(bytes.varint()?);
                at.start = match bytes.u8()? {
                    0 => 0,
                    // That of the sample before.
                    1 => at.start,
                    _ => first.start.wrapping_add(bytes.varint()?),
                };
            }
        }
    }
    Some(())
}

fn double(bytes: &mut TsdbByteReader<'_>) -> Option<f64> {
    bytes.u64().map(f64::from_bits)
}

fn float(bytes: &mut TsdbByteReader<'_>, at: LogPosition) -> Option<LogEntry> {
    let value = double(bytes)?;
    Some(LogEntry::Float { at, value })
}

fn whole_histogram(bytes: &mut TsdbByteReader<'_>, at: LogPosition) -> Option<LogEntry> {
    let mut h = begun(bytes, false)?;
    h.zero_count = bytes.uvarint()? as f64;
    h.count = bytes.uvarint()? as f64;
    h.sum = double(bytes)?;
    h.positive.spans = spans(bytes)?;
    h.negative.spans = spans(bytes)?;
    h.positive.deltas = list(bytes, |bytes| bytes.varint())?;
    h.negative.deltas = list(bytes, |bytes| bytes.varint())?;
    ended(bytes, h, at)
}

fn float_histogram(bytes: &mut TsdbByteReader<'_>, at: LogPosition) -> Option<LogEntry> {
    let mut h = begun(bytes, true)?;
    h.zero_count = double(bytes)?;
    h.count = double(bytes)?;
    h.sum = double(bytes)?;
    h.positive.spans = spans(bytes)?;
    h.negative.spans = spans(bytes)?;
    h.positive.counts = list(bytes, double)?;
    h.negative.counts = list(bytes, double)?;
    ended(bytes, h, at)
}

/// What all histograms begin with.
fn begun(bytes: &mut TsdbByteReader<'_>, float: bool) -> Option<RawHistogram> {
    // Whether a counter was reset is computed again, as for blocks; a gauge stays one.
    let hint = if bytes.u8()? == 3 { ResetHint::Gauge } else { ResetHint::Unknown };
    let schema = i32::try_from(bytes.varint()?).ok()?;
    let zero_threshold = double(bytes)?;
    Some(RawHistogram { float, hint, schema, zero_threshold, ..RawHistogram::default() })
}

/// What those with custom buckets end with.
fn ended(bytes: &mut TsdbByteReader<'_>, mut h: RawHistogram, at: LogPosition) -> Option<LogEntry> {
    if h.schema == CUSTOM_BUCKETS {
        h.bounds = list(bytes, double)?;
    }
    let whole = |buckets: &RawBuckets| {
        let counts = if h.float { buckets.counts.len() } else { buckets.deltas.len() };
        counts == buckets.spans.iter().map(|span| span.length as usize).sum::<usize>()
    };
    (whole(&h.positive) && whole(&h.negative)).then_some(())?;
    Some(LogEntry::Histogram { at, histogram: Box::new(h) })
}

fn spans(bytes: &mut TsdbByteReader<'_>) -> Option<Vec<storage::model::histogram::BucketSpan>> {
    let mut spans = SpanList::default();
    for _ in 0..bytes.size()? {
        let offset = i32::try_from(bytes.varint()?).ok()?;
        spans.push(offset, u32::try_from(bytes.uvarint()?).ok()?)?;
    }
    Some(spans.finish())
}

fn list<T>(
    bytes: &mut TsdbByteReader<'_>,
    read: impl Fn(&mut TsdbByteReader<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    let count = bytes.size().filter(|n| *n <= IMPORT_BUCKETS)?;
    (0..count).map(|_| read(bytes)).collect()
}
