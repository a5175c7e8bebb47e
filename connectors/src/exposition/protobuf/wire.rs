//! The small messages of the protobuf exposition: labels, exemplars, timestamps, and histograms
//! before validation.

use super::super::points::RawExemplar;
use super::super::quote;
use super::{Fallible, FamilyError};
use crate::limits::{HISTOGRAM_EXEMPLARS, SERIES_LABELS};
use crate::native_histogram::RawHistogram;
use crate::number::normalize_nan;
use crate::protobuf::{FieldReader, FieldValue, Wire, zigzag};
use storage::limits::HISTOGRAM_BUCKETS;
use storage::model::{LabelsBuilder, TimeMs};

const N: Wire = Wire::Number;
const D: Wire = Wire::Double;
const B: Wire = Wire::Bytes;

/// The wire type of each field of a message, from field number 1 on. A field with another wire type
/// is an error.
pub(super) const FAMILY: &[Wire] = &[B, B, N, B, B];
pub(super) const METRIC: &[Wire] = &[B, B, B, B, B, N, B];
pub(super) const VALUE: &[Wire] = &[D];
pub(super) const COUNTER: &[Wire] = &[D, B, B];
pub(super) const SUMMARY: &[Wire] = &[N, D, B, B];
const QUANTILE: &[Wire] = &[D, D];
const HISTOGRAM: &[Wire] =
    &[N, D, B, D, N, D, N, D, B, Wire::Numbers, Wire::Doubles, B, Wire::Numbers, Wire::Doubles, B, B];
const BUCKET: &[Wire] = &[N, D, B, D];
const LABEL: &[Wire] = &[B, B];
const EXEMPLAR: &[Wire] = &[B, D, B];
const TIMESTAMP: &[Wire] = &[N, N];

/// Checks that `bytes` are UTF-8; `what` names the field in the error.
pub(super) fn text<'a>(bytes: &'a [u8], what: &str) -> Fallible<&'a str> {
    std::str::from_utf8(bytes)
        .map_err(|_| FamilyError::Bad(format!("invalid UTF-8 in {what} {}", quote(bytes))))
}

/// A histogram as exposed: native and classic buckets in one message.
#[derive(Default)]
pub(super) struct WireHistogram {
    /// The native part; its `count` is the total count.
    pub(super) raw: RawHistogram,
    pub(super) count_float: f64,
    pub(super) zero_count_float: f64,
    pub(super) buckets: Vec<WireBucket>,
    pub(super) exemplars: Vec<RawExemplar>,
    pub(super) start: TimeMs,
}

#[derive(Default)]
pub(super) struct WireBucket {
    pub(super) bound: f64,
    pub(super) count: f64,
    pub(super) exemplar: Option<RawExemplar>,
}

impl WireHistogram {
    /// Whether the histogram is native. A native histogram without observations has a span of
    /// length 0, which marks it as native.
    pub(super) fn is_native(&self) -> bool {
        let raw = &self.raw;
        !raw.positive.spans.is_empty()
            || !raw.negative.spans.is_empty()
            || raw.zero_threshold > 0.0
            || raw.zero_count > 0.0
    }

    /// Checks that there are as many buckets as the spans say, before the buckets are decoded.
    pub(super) fn check(&self, name: &str) -> Fallible<()> {
        for (side, buckets) in [("positive", &self.raw.positive), ("negative", &self.raw.negative)] {
            let need: u64 = buckets.spans.iter().map(|span| u64::from(span.length)).sum();
            let have = if self.raw.float { buckets.counts.len() } else { buckets.deltas.len() };
            // Spans may claim billions of buckets in a few bytes. Comparing numbers costs nothing;
            // building what they claim would cost the memory.
            if need != have as u64 && !buckets.too_many {
                return Err(FamilyError::Bad(format!(
                    "histogram {name:?}: {side} side: spans require {need} buckets, have {have}"
                )));
            }
        }
        Ok(())
    }

    /// The exemplars of a native histogram: its own, or else those of its classic buckets.
    pub(super) fn seen(&self) -> Vec<RawExemplar> {
        if !self.exemplars.is_empty() {
            return self.exemplars.clone();
        }
        self.buckets.iter().filter_map(|bucket| bucket.exemplar.clone()).collect()
    }

    pub(super) fn count(&self) -> f64 {
        if self.count_float != 0.0 { self.count_float } else { self.raw.count }
    }
}

pub(super) fn read_histogram(message: &[u8], exemplars: bool) -> Fallible<WireHistogram> {
    let mut h = WireHistogram::default();
    let mut fields = FieldReader::new(message);
    while let Some((number, value)) = fields.next_of(HISTOGRAM)? {
        let raw = &mut h.raw;
        match number {
            1 => raw.count = value.number() as f64,
            2 => raw.sum = value.double(),
            // Before it is decoded: a bucket takes two bytes in a message and a hundred here.
            3 if h.buckets.len() >= HISTOGRAM_BUCKETS => {
                return Err(FamilyError::Bad(format!(
                    "a histogram has more than {HISTOGRAM_BUCKETS} buckets"
                )));
            }
            3 => h.buckets.extend(bucket(value, exemplars)?),
            4 => h.count_float = value.double(),
            5 => raw.schema = zigzag(value.number()) as i32,
            6 => raw.zero_threshold = value.double(),
            7 => raw.zero_count = value.number() as f64,
            8 => h.zero_count_float = value.double(),
            9 => raw.negative.span(value)?,
            10 => raw.negative.deltas(value)?,
            11 => raw.negative.counts(value)?,
            12 => raw.positive.span(value)?,
            13 => raw.positive.deltas(value)?,
            14 => raw.positive.counts(value)?,
            15 => h.start = timestamp(value)?,
            16 if exemplars && h.exemplars.len() < HISTOGRAM_EXEMPLARS => {
                h.exemplars.extend(exemplar(value)?)
            }
            _ => {}
        }
    }
    // As in Prometheus: which of the two a histogram is, is only said by which fields are set.
    h.raw.float = h.count_float > 0.0 || h.zero_count_float > 0.0;
    Ok(h)
}

/// Reads cumulative count (1, or 4 as a float), upper bound (2) and exemplar (3).
pub(super) fn bucket(value: FieldValue<'_>, exemplars: bool) -> Fallible<Option<WireBucket>> {
    let FieldValue::Bytes(message) = value else { return Ok(None) };
    let mut bucket = WireBucket::default();
    let mut fields = FieldReader::new(message);
    while let Some((number, value)) = fields.next_of(BUCKET)? {
        match number {
            // A bucket has its count as an integer or as a float. Zero means not set, whichever
            // comes first.
            1 if bucket.count == 0.0 => bucket.count = value.number() as f64,
            4 if value.double() != 0.0 => bucket.count = value.double(),
            2 => bucket.bound = value.double(),
            3 if exemplars => bucket.exemplar = exemplar(value)?,
            _ => {}
        }
    }
    Ok(Some(bucket))
}

/// Reads a message of two doubles.
pub(super) fn pair(message: &[u8]) -> Fallible<(f64, f64)> {
    let mut pair = (0.0, 0.0);
    let mut fields = FieldReader::new(message);
    while let Some((number, value)) = fields.next_of(QUANTILE)? {
        match number {
            1 => pair.0 = value.double(),
            2 => pair.1 = value.double(),
            _ => {}
        }
    }
    Ok(pair)
}

pub(super) fn label(message: &[u8]) -> Fallible<(&str, &str)> {
    let mut name = "";
    let mut value = "";
    let mut fields = FieldReader::new(message);
    while let Some(field) = fields.next_of(LABEL)? {
        match field {
            (1, FieldValue::Bytes(bytes)) => name = text(bytes, "label name")?,
            (2, FieldValue::Bytes(bytes)) => value = text(bytes, "label value")?,
            _ => {}
        }
    }
    Ok((name, value))
}

/// Reads a label of a series, which must have a name.
pub(super) fn series_label(message: &[u8]) -> Fallible<(&str, &str)> {
    let (name, value) = label(message)?;
    if name.is_empty() {
        return Err(FamilyError::Bad("invalid label name: ".to_owned()));
    }
    Ok((name, value))
}

/// Reads labels (1), value (2) and timestamp (3).
pub(super) fn exemplar(value: FieldValue<'_>) -> Fallible<Option<RawExemplar>> {
    let FieldValue::Bytes(message) = value else { return Ok(None) };
    let mut labels = LabelsBuilder::default();
    let mut v = 0.0;
    let mut t = None;
    let mut fields = FieldReader::new(message);
    while let Some((number, value)) = fields.next_of(EXEMPLAR)? {
        match (number, value) {
            // More labels than any series has are dropped with the exemplar's sample kept: nobody
            // misses them, and the scrape goes on.
            (1, FieldValue::Bytes(pair)) if labels.pairs().len() < SERIES_LABELS => {
                let (name, value) = label(pair)?;
                labels.set(name, value);
            }
            (2, value) => v = value.double(),
            (3, time) => t = Some(timestamp(time)?),
            _ => {}
        }
    }
    Ok(Some(RawExemplar { labels: labels.build(), v: normalize_nan(v), t }))
}

/// Converts a `google.protobuf.Timestamp`, seconds (1) and nanoseconds (2), to ms.
pub(super) fn timestamp(value: FieldValue<'_>) -> Fallible<TimeMs> {
    let FieldValue::Bytes(message) = value else { return Ok(0) };
    let mut seconds = 0i64;
    let mut nanos = 0i64;
    let mut fields = FieldReader::new(message);
    while let Some((number, value)) = fields.next_of(TIMESTAMP)? {
        match number {
            1 => seconds = value.number() as i64,
            2 => nanos = i64::from(value.number() as i32),
            _ => {}
        }
    }
    // A time beyond what milliseconds can hold is the last time, not a time before 1970: it is
    // refused as too far in the future.
    Ok(seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000))
}
