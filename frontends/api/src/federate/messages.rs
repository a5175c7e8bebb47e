//! The protobuf form of `/federate`: writes samples as `io.prometheus.client.MetricFamily`
//! messages, each preceded by its length.
//!
//! A family that fits into a piece of the answer is one message. A longer family becomes several
//! messages, which scrapers join.

use super::{Kind, Page, cumulative};
use crate::limits::CHUNK_BYTES;
use crate::protobuf::{bytes, double, number, varint};
use bytes::Bytes;
use storage::model::NativeHistogram;
use storage::model::histogram::Buckets;
use storage::store::{NewestSample, NewestValue};

/// The samples of a page, in pieces of about [`CHUNK_BYTES`].
pub(super) struct Messages(pub Page);

impl Iterator for Messages {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let page = &mut self.0;
        let mut out = Vec::new();
        while out.len() < CHUNK_BYTES {
            let Some(first) = page.found.list.get(page.next) else { break };
            let name = first.labels.name();
            let kind = Kind::new(&first.value);
            let mut family = Vec::new();
            bytes(&mut family, 1, page.names.write_bare(name).as_bytes());
            number(&mut family, 3, kind.number());
            while let Some(sample) = page.found.list.get(page.next) {
                let goes_on = sample.labels.name() == name && Kind::new(&sample.value) == kind;
                // One message per piece at most, so that a metric with a million series needs no
                // million series in memory.
                if !goes_on || family.len() >= CHUNK_BYTES {
                    break;
                }
                bytes(&mut family, 4, &metric(page, sample));
                page.next += 1;
            }
            varint(&mut out, family.len() as u64);
            out.append(&mut family);
        }
        (!out.is_empty()).then(|| Bytes::from(out))
    }
}

impl Kind {
    fn number(self) -> u64 {
        match self {
            // The numbers of `io.prometheus.client.MetricType`. Federation knows no types, so
            // floats are untyped, as in Prometheus.
            Kind::Untyped => 3,
            Kind::Histogram => 4,
            Kind::GaugeHistogram => 5,
        }
    }
}

/// Labels (1), untyped (5), time (6), histogram (7).
fn metric(page: &Page, sample: &NewestSample) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in page.labels(&sample.labels) {
        let mut pair = Vec::new();
        bytes(&mut pair, 1, page.names.write_bare(name).as_bytes());
        bytes(&mut pair, 2, value.as_bytes());
        bytes(&mut out, 1, &pair);
    }
    let mut value = Vec::new();
    match &sample.value {
        NewestValue::Float(v) => {
            double(&mut value, 1, *v);
            bytes(&mut out, 5, &value);
        }
        NewestValue::Histogram(h) if h.is_custom() => {
            classic(&mut value, h);
            bytes(&mut out, 7, &value);
        }
        NewestValue::Histogram(h) => {
            native(&mut value, h);
            bytes(&mut out, 7, &value);
        }
    }
    // Negative times wrap to ten bytes, which is protobuf's encoding of a negative `int64`.
    number(&mut out, 6, sample.t as u64);
    out
}

/// Sum (2), buckets (3), count (4); the `+Inf` bucket is left out, because it equals the count.
fn classic(out: &mut Vec<u8>, h: &NativeHistogram) {
    double(out, 2, h.sum);
    for (bound, count) in cumulative(h) {
        let mut bucket = Vec::new();
        double(&mut bucket, 2, bound);
        // The float count (4), because counts of a custom histogram may have fractions after
        // arithmetic; Prometheus reads either.
        double(&mut bucket, 4, count);
        bytes(out, 3, &bucket);
    }
    double(out, 4, h.count);
}

/// Sum (2), count (4), schema (5), zero threshold (6), count of zeros (8), negative spans (9) and
/// counts (11), positive ones (12, 14).
fn native(out: &mut Vec<u8>, h: &NativeHistogram) {
    double(out, 2, h.sum);
    double(out, 4, h.count);
    number(out, 5, zigzag(h.schema));
    double(out, 6, h.zero_threshold);
    double(out, 8, h.zero_count);
    buckets(out, 9, 11, &h.negative);
    buckets(out, 12, 14, &h.positive);
}

/// Writes the spans of `buckets` as field `spans`, and their counts as field `counts`.
fn buckets(out: &mut Vec<u8>, spans: u64, counts: u64, buckets: &Buckets) {
    for span in &buckets.spans {
        let mut message = Vec::new();
        number(&mut message, 1, zigzag(span.offset));
        number(&mut message, 2, u64::from(span.length));
        bytes(out, spans, &message);
    }
    for count in &buckets.counts {
        double(out, counts, *count);
    }
}

fn zigzag(n: i32) -> u64 {
    // Protobuf's `sint32`: small negative numbers stay short.
    u64::from(((n << 1) ^ (n >> 31)) as u32)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{float, histogram, page};
    use super::super::{AcceptedFormat, Form, NameEscaping};
    use super::*;
    use storage::model::Labels;
    use storage::model::histogram::ResetHint;

    fn written(samples: Vec<NewestSample>) -> Vec<Vec<u8>> {
        let external = Labels::from_pairs([("dc", "x")]);
        let pieces = Messages(page(samples, &external, NameEscaping::Quoted, Form::Protobuf));
        pieces.map(|piece| piece.to_vec()).collect()
    }

    #[test]
    fn families_are_messages() {
        let up = float((Labels::from_pairs([("__name__", "a.b"), ("instance", "i")]), 7, 1.5));
        let head = b"\x2e\x0a\x03a.b\x18\x03\x22\x25".as_slice();
        let labels = b"\x0a\x0d\x0a\x08instance\x12\x01i\x0a\x07\x0a\x02dc\x12\x01x".as_slice();
        let value = [b"\x2a\x09\x09".as_slice(), &1.5f64.to_le_bytes(), b"\x30\x07"].concat();
        assert_eq!(written(vec![up]).concat(), [head, labels, &value].concat());
    }

    #[test]
    fn types_that_change_begin_a_family() {
        let named = |hint| histogram("h", false, hint);
        let plain = |n: i64| float((Labels::from_pairs([("__name__", "h"), ("n", &n.to_string())]), 7, 1.0));
        let types = |samples| -> Vec<u8> {
            let page = written(samples).concat();
            let mut at = 0;
            let mut types = Vec::new();
            while at < page.len() {
                let (length, head) = match page[at] {
                    low if low < 0x80 => (usize::from(low), 1),
                    low => (usize::from(low & 0x7f) | usize::from(page[at + 1]) << 7, 2),
                };
                assert_eq!(page[at + head..at + head + 4], *b"\x0a\x01h\x18");
                types.push(page[at + head + 4]);
                at += head + length;
            }
            types
        };
        let samples = vec![named(ResetHint::Unknown), named(ResetHint::NotReset), plain(1), plain(2)];
        assert_eq!(types(samples), [4, 3]);
        assert_eq!(
            types(vec![plain(1), named(ResetHint::Gauge), histogram("h", true, ResetHint::Gauge)]),
            [3, 5]
        );
        let many = (0..2 * CHUNK_BYTES as i64 / 20).map(plain).collect();
        let pieces = written(many);
        assert!(pieces.len() > 1 && pieces.iter().all(|piece| piece.len() < 2 * CHUNK_BYTES));
    }

    #[test]
    fn scrapers_get_messages_when_they_ask_for_them_first() {
        let family =
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        let form = |accept: &str| AcceptedFormat::new(accept).form;
        assert_eq!(form(&format!("{family};q=0.6,text/plain;version=0.0.4;q=0.5")), Form::Protobuf);
        assert_eq!(form(&format!("{family};q=0.4,text/plain;version=0.0.4;q=0.5")), Form::Text);
        assert_eq!(form("application/vnd.google.protobuf;encoding=delimited"), Form::Text);
        let said = AcceptedFormat::new(&format!("{family};escaping=allow-utf-8")).content_type;
        let expected = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; \
                        encoding=delimited; escaping=allow-utf-8";
        assert_eq!(said, expected);
    }
}
