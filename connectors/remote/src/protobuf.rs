//! Writes protocol buffers, field by field; `connectors::protobuf` reads them. Also the messages
//! that remote write and remote read share: series, samples and native histograms.

use storage::model::histogram::{Buckets, ResetHint};
use storage::model::value::STALE;
use storage::model::{Labels, NativeHistogram, TimeMs};

/// All integers up to here are exact as floats.
const EXACT: f64 = (1u64 << 53) as f64;

/// Appends a varint.
#[inline]
pub fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n > 127 {
        out.push(n as u8 & 127 | 128);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Number of bytes of a varint.
#[inline]
pub fn varint_len(n: u64) -> usize {
    (64 - (n | 1).leading_zeros() as usize).div_ceil(7)
}

/// Appends a field with a varint.
pub fn put_number(out: &mut Vec<u8>, field: u64, n: u64) {
    put_varint(out, field << 3);
    put_varint(out, n);
}

/// Appends a field with a zigzag number.
pub fn put_signed(out: &mut Vec<u8>, field: u64, n: i64) {
    put_number(out, field, zigzag(n));
}

/// The number as protocol buffers write signed ones: small absolute values become small.
fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)) as u64
}

/// Appends a field with a double.
#[inline]
pub fn put_double(out: &mut Vec<u8>, field: u64, v: f64) {
    put_varint(out, field << 3 | 1);
    out.extend_from_slice(&v.to_le_bytes());
}

/// Appends a field with bytes, a text or a message.
#[inline]
pub fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_varint(out, field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a field with a message that `write` writes.
pub fn put_message(out: &mut Vec<u8>, field: u64, write: impl FnOnce(&mut Vec<u8>)) {
    put_varint(out, field << 3 | 2);
    // The length comes before the message and is known only after it: most have one byte for it.
    let start = out.len();
    out.push(0);
    write(out);
    let len = out.len() - start - 1;
    let more = varint_len(len as u64) - 1;
    if more > 0 {
        out.resize(out.len() + more, 0);
        out.copy_within(start + 1..start + 1 + len, start + 1 + more);
    }
    let mut rest = len;
    for byte in &mut out[start..start + more] {
        *byte = rest as u8 & 127 | 128;
        rest >>= 7;
    }
    out[start + more] = rest as u8;
}

/// Appends the labels of a series as the repeated field 1 of `prometheus.TimeSeries`.
pub fn put_labels(out: &mut Vec<u8>, labels: &Labels) {
    for (name, value) in labels.iter() {
        let name_len = name.len();
        let value_len = value.len();
        let len = 2 + varint_len(name_len as u64) + name_len + varint_len(value_len as u64) + value_len;
        put_varint(out, 1 << 3 | 2);
        put_varint(out, len as u64);
        put_bytes(out, 1, name.as_bytes());
        put_bytes(out, 2, value.as_bytes());
    }
}

/// Bytes of the message that [`put_sample`] appends, without its tag and length.
#[inline]
pub fn sample_len(t: TimeMs) -> usize {
    10 + varint_len(t as u64)
}

/// Appends a `Sample` as field 2: value and time.
#[inline]
pub fn put_sample(out: &mut Vec<u8>, t: TimeMs, v: f64) {
    put_varint(out, 2 << 3 | 2);
    put_varint(out, sample_len(t) as u64);
    put_double(out, 1, v);
    put_number(out, 2, t as u64);
}

/// Appends the fields of a `Histogram`, which are the same in all messages.
pub fn put_histogram(out: &mut Vec<u8>, t: TimeMs, h: &NativeHistogram) {
    let is_whole = is_integer(h);
    if is_whole {
        put_number(out, 1, h.count as u64)
    } else {
        put_double(out, 2, h.count)
    }
    put_double(out, 3, h.sum);
    put_signed(out, 4, i64::from(h.schema));
    put_double(out, 5, h.zero_threshold);
    if is_whole {
        put_number(out, 6, h.zero_count as u64)
    } else {
        put_double(out, 7, h.zero_count)
    }
    put_buckets(out, 8, &h.negative, is_whole);
    put_buckets(out, 11, &h.positive, is_whole);
    let hint = match h.hint {
        ResetHint::Unknown => 0,
        ResetHint::Reset => 1,
        ResetHint::NotReset => 2,
        ResetHint::Gauge => 3,
    };
    put_number(out, 14, hint);
    put_number(out, 15, t as u64);
    if !h.bounds.is_empty() {
        put_message(out, 16, |out| out.extend(h.bounds.iter().flat_map(|bound| bound.to_le_bytes())));
    }
}

/// Appends a stale marker as the fields of a `Histogram`.
pub fn put_stale_histogram(out: &mut Vec<u8>, t: TimeMs) {
    put_double(out, 3, STALE);
    put_number(out, 15, t as u64);
}

/// Whether all counts are integers. The store keeps counts as floats; those of an integer histogram
/// are whole.
pub fn is_integer(h: &NativeHistogram) -> bool {
    let numbers = [h.count, h.zero_count];
    let mut numbers = numbers.iter().chain(&h.positive.counts).chain(&h.negative.counts);
    numbers.all(|n| *n >= 0.0 && *n <= EXACT && n.fract() == 0.0 && n.is_sign_positive())
}

/// Appends buckets: spans as field `first`, then deltas or counts as one of the next two.
fn put_buckets(out: &mut Vec<u8>, first: u64, buckets: &Buckets, is_whole: bool) {
    for span in &buckets.spans {
        put_message(out, first, |out| {
            put_signed(out, 1, i64::from(span.offset));
            put_number(out, 2, u64::from(span.length));
        });
    }
    if buckets.counts.is_empty() {
        return;
    }
    if is_whole {
        put_message(out, first + 1, |out| {
            let mut before = 0;
            for count in &buckets.counts {
                let count = *count as i64;
                put_varint(out, zigzag(count - before));
                before = count;
            }
        });
    } else {
        put_message(out, first + 2, |out| {
            out.extend(buckets.counts.iter().flat_map(|count| count.to_le_bytes()));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use connectors::protobuf::FieldReader;

    #[test]
    fn messages_are_read_as_they_are_written() {
        let mut out = Vec::new();
        for n in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            out.clear();
            put_varint(&mut out, n);
            assert_eq!(out.len(), varint_len(n), "{n}");
        }
        out.clear();
        put_labels(&mut out, &Labels::from_pairs([("__name__", "up"), ("job", "a")]));
        put_sample(&mut out, 1_700_000_000_000, 1.0);
        let expected = [
            &[0x0a, 14, 0x0a, 8][..],
            b"__name__",
            &[0x12, 2],
            b"up",
            &[0x0a, 8, 0x0a, 3],
            b"job",
            &[0x12, 1],
            b"a",
            &[0x12, 16, 9, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0x10, 0x80, 0xd0, 0x95, 0xff, 0xbc, 0x31],
        ]
        .concat();
        assert_eq!(out, expected);
        let mut fields = FieldReader::new(&out);
        while fields.next_field().expect("well formed").is_some() {}
    }

    #[test]
    fn a_long_message_has_its_length() {
        let mut out = Vec::new();
        put_message(&mut out, 3, |out| out.extend_from_slice(&[7; 300]));
        assert_eq!((&out[..3], out.len()), (&[0x1a, 0xac, 0x02][..], 303));
    }
}
