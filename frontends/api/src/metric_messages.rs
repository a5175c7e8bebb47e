//! `/metrics` in protobuf: this server's own metrics as `io.prometheus.client.MetricFamily`
//! messages, each preceded by its length. None of them is a native histogram.

use super::protobuf::{bytes, double, number, varint};
use storage::metrics::{FamilyReading, HistogramReading, MetricReading, SummaryReading};

/// The page with these families.
pub(crate) fn page(families: Vec<FamilyReading>) -> Vec<u8> {
    let mut page = Vec::new();
    for family in families {
        let message = family_message(&family);
        varint(&mut page, message.len() as u64);
        page.extend(message);
    }
    page
}

/// Name (1), help (2), type (3), metrics (4).
fn family_message(family: &FamilyReading) -> Vec<u8> {
    let mut out = Vec::new();
    bytes(&mut out, 1, family.name.as_bytes());
    bytes(&mut out, 2, family.help.as_bytes());
    // The numbers of `io.prometheus.client.MetricType`.
    let kind = match family.kind {
        "counter" => 0,
        "gauge" => 1,
        "summary" => 2,
        _ => 4,
    };
    number(&mut out, 3, kind);
    for (labels, reading) in &family.series {
        let mut metric = Vec::new();
        for (name, value) in labels {
            let mut pair = Vec::new();
            bytes(&mut pair, 1, name.as_bytes());
            bytes(&mut pair, 2, value.as_bytes());
            bytes(&mut metric, 1, &pair);
        }
        value(&mut metric, reading);
        bytes(&mut out, 4, &metric);
    }
    out
}

/// Gauge (2), counter (3), summary (4), histogram (7).
fn value(metric: &mut Vec<u8>, reading: &MetricReading) {
    let mut message = Vec::new();
    let field = match reading {
        MetricReading::Gauge(v) => {
            double(&mut message, 1, *v);
            2
        }
        MetricReading::Counter(v) => {
            double(&mut message, 1, *v);
            3
        }
        MetricReading::Summary(SummaryReading { quantiles, sum, count }) => {
            number(&mut message, 1, *count);
            double(&mut message, 2, *sum);
            for (quantile, v) in quantiles {
                let mut pair = Vec::new();
                double(&mut pair, 1, *quantile);
                double(&mut pair, 2, *v);
                bytes(&mut message, 3, &pair);
            }
            4
        }
        MetricReading::Histogram(HistogramReading { buckets, sum, count }) => {
            number(&mut message, 1, *count);
            double(&mut message, 2, *sum);
            // The last bucket is the count.
            for bucket in buckets.iter().filter(|bucket| bucket.upper_bound.is_finite()) {
                let mut pair = Vec::new();
                number(&mut pair, 1, bucket.cumulative_count);
                double(&mut pair, 2, bucket.upper_bound);
                bytes(&mut message, 3, &pair);
            }
            7
        }
    };
    bytes(metric, field, &message);
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::metrics::Metrics;

    /// A double as it is written.
    fn le(v: f64) -> [u8; 8] {
        v.to_le_bytes()
    }

    #[test]
    fn families_are_messages() {
        let metrics = Metrics::default();
        metrics.counter("a", "A.", &[("x", "1")]).add(3);
        metrics.gauge("b", "B.", &[]).set(2.5);
        metrics.histogram("c", "C.", &[], &[0.5]).observe(0.25);
        let written = page(metrics.read(|_| true));
        let counter = [
            b"\x1e\x0a\x01a\x12\x02A.\x18\x00\x22\x13\x0a\x06\x0a\x01x\x12\x011\x1a\x09\x09".as_slice(),
            &le(3.0),
        ]
        .concat();
        let gauge = [b"\x16\x0a\x01b\x12\x02B.\x18\x01\x22\x0b\x12\x09\x09".as_slice(), &le(2.5)].concat();
        let histogram = [
            b"\x25\x0a\x01c\x12\x02C.\x18\x04\x22\x1a\x3a\x18\x08\x01\x11".as_slice(),
            &le(0.25),
            b"\x1a\x0b\x08\x01\x11",
            &le(0.5),
        ]
        .concat();
        assert_eq!(written, [counter, gauge, histogram].concat());
    }
}
