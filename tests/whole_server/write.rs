//! Encodes the bodies of remote write 1.0 requests for the simulation.

use prost::Message;

#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

/// A body with samples of the series `w`, which differ in their label `i`.
pub fn body<'a>(samples: impl Iterator<Item = (&'a str, i64, f64)>) -> Vec<u8> {
    let label = |name: &str, value: &str| Label { name: name.to_owned(), value: value.to_owned() };
    let series = |(i, timestamp, value)| TimeSeries {
        labels: vec![label("__name__", "w"), label("i", i)],
        samples: vec![Sample { value, timestamp }],
    };
    let request = WriteRequest { timeseries: samples.map(series).collect() };
    snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).expect("small enough")
}
