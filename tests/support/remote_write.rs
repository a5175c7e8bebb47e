//! A remote-write 1.0 client: protobuf written field by field, compressed as one snappy block.

use super::http;

/// A series: labels sorted by name (with `__name__`) and samples as (ms, value).
#[derive(Clone, Debug)]
pub struct Series {
    pub labels: Vec<(String, String)>,
    pub samples: Vec<(i64, f64)>,
}

impl Series {
    /// A series from a name and further labels.
    pub fn new(name: &str, labels: &[(&str, &str)], samples: Vec<(i64, f64)>) -> Series {
        let mut all = vec![("__name__".to_string(), name.to_string())];
        all.extend(labels.iter().map(|(k, v)| (k.to_string(), v.to_string())));
        all.sort();
        Series { labels: all, samples }
    }

    /// The same series with only the samples of a time range.
    pub fn between(&self, window: &std::ops::Range<i64>) -> Series {
        let samples = self.samples.iter().copied().filter(|(t, _)| window.contains(t)).collect();
        Series { labels: self.labels.clone(), samples }
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
    out
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
