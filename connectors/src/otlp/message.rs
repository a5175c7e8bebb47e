//! The messages of OTLP for metrics, for [`super::points`].
//!
//! Messages that contain lists ([`Metric`]) are not decoded as a whole: their bytes are iterated.
//! Resources, scopes ([`crate::otlp_common`]) and single data points are decoded whole. Times are
//! nanoseconds since 1970; 0 means none.

use crate::limits;
use crate::otlp_common::KeyValue;
use crate::protobuf::{FieldReader, FieldValue};
use crate::remote::RemoteWriteError;
use prost::Message;

/// A data point of a gauge or sum. Times are nanoseconds since 1970, 0 is none.
#[derive(Clone, PartialEq, Message)]
pub(super) struct NumberPoint {
    #[prost(message, repeated, tag = "7")]
    pub attributes: Vec<KeyValue>,
    #[prost(fixed64, tag = "2")]
    pub start: u64,
    #[prost(fixed64, tag = "3")]
    pub time: u64,
    #[prost(double, optional, tag = "4")]
    pub double: Option<f64>,
    #[prost(sfixed64, optional, tag = "6")]
    pub integer: Option<i64>,
    #[prost(message, repeated, tag = "5")]
    pub exemplars: Vec<OtlpExemplar>,
    #[prost(uint32, tag = "8")]
    pub flags: u32,
}

/// A data point of a histogram with explicit bounds.
#[derive(Clone, PartialEq, Message)]
pub(super) struct HistogramPoint {
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
    #[prost(fixed64, tag = "2")]
    pub start: u64,
    #[prost(fixed64, tag = "3")]
    pub time: u64,
    #[prost(fixed64, tag = "4")]
    pub count: u64,
    #[prost(double, optional, tag = "5")]
    pub sum: Option<f64>,
    /// One more than bounds: the last is that of everything above them.
    #[prost(fixed64, repeated, tag = "6")]
    pub bucket_counts: Vec<u64>,
    #[prost(double, repeated, tag = "7")]
    pub bounds: Vec<f64>,
    #[prost(message, repeated, tag = "8")]
    pub exemplars: Vec<OtlpExemplar>,
    #[prost(uint32, tag = "10")]
    pub flags: u32,
}

/// A data point of an exponential histogram.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ExponentialPoint {
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
    #[prost(fixed64, tag = "2")]
    pub start: u64,
    #[prost(fixed64, tag = "3")]
    pub time: u64,
    #[prost(fixed64, tag = "4")]
    pub count: u64,
    #[prost(double, optional, tag = "5")]
    pub sum: Option<f64>,
    #[prost(sint32, tag = "6")]
    pub scale: i32,
    #[prost(fixed64, tag = "7")]
    pub zero_count: u64,
    #[prost(message, optional, tag = "8")]
    pub positive: Option<ExponentialBuckets>,
    #[prost(message, optional, tag = "9")]
    pub negative: Option<ExponentialBuckets>,
    #[prost(uint32, tag = "10")]
    pub flags: u32,
    #[prost(message, repeated, tag = "11")]
    pub exemplars: Vec<OtlpExemplar>,
    #[prost(double, tag = "14")]
    pub zero_threshold: f64,
}

/// The buckets of one sign: the first has the index `offset`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ExponentialBuckets {
    #[prost(sint32, tag = "1")]
    pub offset: i32,
    #[prost(uint64, repeated, tag = "2")]
    pub counts: Vec<u64>,
}

/// A data point of a summary.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SummaryPoint {
    #[prost(message, repeated, tag = "7")]
    pub attributes: Vec<KeyValue>,
    #[prost(fixed64, tag = "2")]
    pub start: u64,
    #[prost(fixed64, tag = "3")]
    pub time: u64,
    #[prost(fixed64, tag = "4")]
    pub count: u64,
    #[prost(double, tag = "5")]
    pub sum: f64,
    #[prost(message, repeated, tag = "6")]
    pub quantiles: Vec<QuantileValue>,
    #[prost(uint32, tag = "8")]
    pub flags: u32,
}

/// A quantile of a summary.
#[derive(Clone, PartialEq, Message)]
pub(super) struct QuantileValue {
    #[prost(double, tag = "1")]
    pub quantile: f64,
    #[prost(double, tag = "2")]
    pub value: f64,
}

/// An exemplar of a data point.
#[derive(Clone, PartialEq, Message)]
pub(super) struct OtlpExemplar {
    #[prost(message, repeated, tag = "7")]
    pub attributes: Vec<KeyValue>,
    #[prost(fixed64, tag = "2")]
    pub time: u64,
    #[prost(double, optional, tag = "3")]
    pub double: Option<f64>,
    #[prost(sfixed64, optional, tag = "6")]
    pub integer: Option<i64>,
    #[prost(bytes = "vec", tag = "4")]
    pub span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    pub trace_id: Vec<u8>,
}

/// The flag of a data point whose series has ended.
const NO_RECORDED_VALUE: u32 = 1;

/// Whether a data point says that there is no value any more.
pub(super) fn is_end(flags: u32) -> bool {
    flags & NO_RECORDED_VALUE != 0
}

/// What data points a metric has.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum MetricData {
    Gauge,
    Sum,
    Histogram,
    Exponential,
    Summary,
}

/// What the values of data points are counted from.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Temporality {
    /// Neither is said.
    Unspecified,
    /// From the data point before.
    Delta,
    /// From one start on.
    Cumulative,
}

/// A metric, with its data points as bytes.
#[derive(Copy, Clone, Debug)]
pub(super) struct Metric<'a> {
    pub name: &'a str,
    pub unit: &'a str,
    /// `None`: this is no kind of metric that is known.
    pub data: Option<MetricData>,
    pub temporality: Temporality,
    /// Of a sum: whether it only grows.
    pub is_monotonic: bool,
    /// The message with the data points.
    points: &'a [u8],
}

impl<'a> Metric<'a> {
    /// Reads everything of a metric except its data points.
    pub(super) fn read(message: &'a [u8]) -> Result<Metric<'a>, RemoteWriteError> {
        let mut metric = Metric {
            name: "",
            unit: "",
            data: None,
            temporality: Temporality::Unspecified,
            is_monotonic: false,
            points: &[],
        };
        let mut fields = FieldReader::new(message);
        while let Some(field) = fields.next_field()? {
            let (number, FieldValue::Bytes(bytes)) = field else { continue };
            metric.data = match number {
                1 => {
                    metric.name = utf8(bytes)?;
                    continue;
                }
                3 => {
                    metric.unit = utf8(bytes)?;
                    continue;
                }
                5 => Some(MetricData::Gauge),
                7 => Some(MetricData::Sum),
                9 => Some(MetricData::Histogram),
                10 => Some(MetricData::Exponential),
                11 => Some(MetricData::Summary),
                _ => continue,
            };
            metric.points = bytes;
        }
        let mut fields = FieldReader::new(metric.points);
        while let Some(field) = fields.next_field()? {
            match field {
                (2, FieldValue::Varint(1)) => metric.temporality = Temporality::Delta,
                (2, FieldValue::Varint(2)) => metric.temporality = Temporality::Cumulative,
                (3, FieldValue::Varint(flag)) => metric.is_monotonic = flag != 0,
                _ => {}
            }
        }
        Ok(metric)
    }

    /// The data points, each as bytes.
    pub(super) fn points(&self) -> RepeatedField<'a> {
        RepeatedField::new(self.points, 1)
    }
}

/// The time of any data point, ns.
pub(super) fn point_time(message: &[u8]) -> Result<u64, RemoteWriteError> {
    let mut time = 0;
    let mut fields = FieldReader::new(message);
    while let Some(field) = fields.next_field()? {
        if let (3, FieldValue::Fixed64(bits)) = field {
            time = bits;
        }
    }
    Ok(time)
}

/// The messages of one repeated field.
pub(super) struct RepeatedField<'a> {
    fields: FieldReader<'a>,
    number: u64,
}

impl<'a> RepeatedField<'a> {
    /// The messages of the field `number` of `message`.
    pub(super) fn new(message: &'a [u8], number: u64) -> RepeatedField<'a> {
        RepeatedField { fields: FieldReader::new(message), number }
    }

    /// The next message.
    pub(super) fn next_message(&mut self) -> Result<Option<&'a [u8]>, RemoteWriteError> {
        while let Some(field) = self.fields.next_field()? {
            if let (number, FieldValue::Bytes(bytes)) = field
                && number == self.number
            {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }
}

/// A field that is text.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str, RemoteWriteError> {
    std::str::from_utf8(bytes).map_err(|_| RemoteWriteError::BadRequest("a text is not UTF-8".to_owned()))
}

/// Decodes a message that is not too large to be decoded whole.
pub(super) fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, RemoteWriteError> {
    // Two bytes can become a hundred: what is decoded at a time is limited, the request is not.
    if bytes.len() > limits::OTLP_PART_BYTES {
        let most = limits::OTLP_PART_BYTES >> 20;
        return Err(RemoteWriteError::TooLarge(format!(
            "a resource, scope or data point of the request is larger than {most} MiB"
        )));
    }
    M::decode(bytes).map_err(|error| RemoteWriteError::BadRequest(error.to_string()))
}
