//! A remote write 1.0 client: protobuf encoded field by field, compressed as one snappy block.

use super::http;
use std::collections::BTreeMap;

/// A series: labels sorted by name (with `__name__`) and samples as (ms, value).
#[derive(Clone, Debug)]
pub struct Series {
    pub labels: Vec<(String, String)>,
    pub samples: Vec<(i64, f64)>,
    pub histograms: Vec<(i64, Histogram)>,
}

/// A native histogram with integer counts by bucket index.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    pub schema: i32,
    pub zero_threshold: f64,
    pub zero: u64,
    pub sum: f64,
    pub positive: BTreeMap<i32, u64>,
    pub negative: BTreeMap<i32, u64>,
}

impl Series {
    /// A series with a name and further labels.
    pub fn new(name: &str, labels: &[(&str, &str)], samples: Vec<(i64, f64)>) -> Series {
        let mut all = vec![("__name__".to_string(), name.to_string())];
        all.extend(labels.iter().map(|(k, v)| (k.to_string(), v.to_string())));
        all.sort();
        Series { labels: all, samples, histograms: Vec::new() }
    }

    /// The series with only the samples of a time range.
    pub fn between(&self, window: &std::ops::Range<i64>) -> Series {
        let samples = self.samples.iter().copied().filter(|(t, _)| window.contains(t)).collect();
        let histograms = self.histograms.iter().filter(|(t, _)| window.contains(t)).cloned().collect();
        Series { labels: self.labels.clone(), samples, histograms }
    }
}

/// Posts the series to `/api/v1/write`; the status says whether they were acknowledged.
pub fn write(port: u16, series: &[Series]) -> std::io::Result<http::Answer> {
    let mut request = Vec::new();
    for one in series {
        put_bytes(&mut request, 1, &time_series(one));
    }
    let body = snap::raw::Encoder::new().compress_vec(&request).expect("small enough for a block");
    let head = [
        ("Content-Encoding", "snappy"),
        ("Content-Type", "application/x-protobuf"),
        ("X-Prometheus-Remote-Write-Version", "0.1.0"),
    ];
    http::send(port, "POST", "/api/v1/write", &head, &body)
}

fn time_series(series: &Series) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in &series.labels {
        let mut label = Vec::new();
        put_bytes(&mut label, 1, name.as_bytes());
        put_bytes(&mut label, 2, value.as_bytes());
        put_bytes(&mut out, 1, &label);
    }
    for (t, v) in &series.samples {
        let mut sample = vec![0x09];
        sample.extend(v.to_le_bytes());
        sample.push(0x10);
        put_varint(&mut sample, *t as u64);
        put_bytes(&mut out, 2, &sample);
    }
    for (t, histogram) in &series.histograms {
        put_bytes(&mut out, 4, &histogram_message(*t, histogram));
    }
    out
}

/// Encodes `prometheus.Histogram`: integer counts, spans and deltas.
fn histogram_message(t: i64, h: &Histogram) -> Vec<u8> {
    let mut out = Vec::new();
    let count = h.zero + h.positive.values().sum::<u64>() + h.negative.values().sum::<u64>();
    put_number(&mut out, 1, count);
    put_double(&mut out, 3, h.sum);
    put_number(&mut out, 4, zigzag(i64::from(h.schema)));
    put_double(&mut out, 5, h.zero_threshold);
    put_number(&mut out, 6, h.zero);
    put_side(&mut out, 8, &h.negative);
    put_side(&mut out, 11, &h.positive);
    put_number(&mut out, 15, t as u64);
    out
}

/// Encodes the buckets of one sign: spans in field `first`, deltas in the next field.
fn put_side(out: &mut Vec<u8>, first: u64, buckets: &BTreeMap<i32, u64>) {
    let mut spans: Vec<(i32, u64)> = Vec::new();
    let mut next = 0;
    let mut last = 0;
    let mut deltas = Vec::new();
    for (index, count) in buckets {
        match spans.last_mut() {
            Some(span) if *index == next => span.1 += 1,
            _ => spans.push((index - next, 1)),
        }
        next = index + 1;
        put_varint(&mut deltas, zigzag(*count as i64 - last));
        last = *count as i64;
    }
    for (offset, length) in spans {
        let mut span = Vec::new();
        put_number(&mut span, 1, zigzag(i64::from(offset)));
        put_number(&mut span, 2, length);
        put_bytes(out, first, &span);
    }
    put_bytes(out, first + 1, &deltas);
}

fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)) as u64
}

fn put_number(out: &mut Vec<u8>, field: u64, n: u64) {
    put_varint(out, field << 3);
    put_varint(out, n);
}

fn put_double(out: &mut Vec<u8>, field: u64, v: f64) {
    put_varint(out, field << 3 | 1);
    out.extend(v.to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_varint(out, field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend(bytes);
}

fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n > 127 {
        out.push(n as u8 & 127 | 128);
        n >>= 7;
    }
    out.push(n as u8);
}
