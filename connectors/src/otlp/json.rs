//! Converts an OTLP request in JSON to protobuf, in one pass and without a tree of the JSON.
//!
//! Tables say which key of which message is which field. As in OTLP's specification, keys are in
//! camel case, ids of traces and spans are hexadecimal, 64-bit integers are texts or numbers, and
//! unknown keys are ignored.

use crate::jwt::base64_digits;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// A message: its keys.
struct JsonMessage {
    fields: &'static [JsonField],
}

/// A key of a message.
struct JsonField {
    key: &'static str,
    number: u32,
    kind: JsonKind,
}

/// The encoding of a value in protobuf.
#[derive(Copy, Clone)]
enum JsonKind {
    Text,
    Flag,
    /// A varint.
    Number,
    /// A varint of a number that may be negative, zigzag.
    Zigzag,
    /// Eight bytes, an integer.
    Fixed,
    Double,
    /// Bytes in hexadecimal digits.
    Hex,
    /// Bytes in base 64.
    Base64,
    /// A varint, or its name: the names are those of 0, 1, ….
    Named(&'static [&'static str]),
    Message(&'static JsonMessage),
}

macro_rules! messages {
    ($($name:ident { $($key:literal $number:literal $kind:expr,)* })*) => {$(
        static $name: JsonMessage =
            JsonMessage { fields: &[$(JsonField { key: $key, number: $number, kind: $kind }),*] };
    )*};
}

use JsonKind::{Base64, Double, Fixed, Flag, Hex, Message, Named, Number, Text, Zigzag};

/// The values of `aggregationTemporality`.
const TEMPORALITIES: &[&str] = &[
    "AGGREGATION_TEMPORALITY_UNSPECIFIED",
    "AGGREGATION_TEMPORALITY_DELTA",
    "AGGREGATION_TEMPORALITY_CUMULATIVE",
];

messages! {
    REQUEST { "resourceMetrics" 1 Message(&RESOURCE_METRICS), }
    RESOURCE_METRICS {
        "resource" 1 Message(&RESOURCE),
        "scopeMetrics" 2 Message(&SCOPE_METRICS),
        "schemaUrl" 3 Text,
    }
    RESOURCE { "attributes" 1 Message(&KEY_VALUE), }
    SCOPE_METRICS {
        "scope" 1 Message(&SCOPE),
        "metrics" 2 Message(&METRIC),
        "schemaUrl" 3 Text,
    }
    SCOPE {
        "name" 1 Text,
        "version" 2 Text,
        "attributes" 3 Message(&KEY_VALUE),
    }
    METRIC {
        "name" 1 Text,
        "description" 2 Text,
        "unit" 3 Text,
        "gauge" 5 Message(&GAUGE),
        "sum" 7 Message(&SUM),
        "histogram" 9 Message(&HISTOGRAM),
        "exponentialHistogram" 10 Message(&EXPONENTIAL_HISTOGRAM),
        "summary" 11 Message(&SUMMARY),
    }
    GAUGE { "dataPoints" 1 Message(&NUMBER_POINT), }
    SUM {
        "dataPoints" 1 Message(&NUMBER_POINT),
        "aggregationTemporality" 2 Named(TEMPORALITIES),
        "isMonotonic" 3 Flag,
    }
    HISTOGRAM {
        "dataPoints" 1 Message(&HISTOGRAM_POINT),
        "aggregationTemporality" 2 Named(TEMPORALITIES),
    }
    EXPONENTIAL_HISTOGRAM {
        "dataPoints" 1 Message(&EXPONENTIAL_POINT),
        "aggregationTemporality" 2 Named(TEMPORALITIES),
    }
    SUMMARY { "dataPoints" 1 Message(&SUMMARY_POINT), }
    NUMBER_POINT {
        "attributes" 7 Message(&KEY_VALUE),
        "startTimeUnixNano" 2 Fixed,
        "timeUnixNano" 3 Fixed,
        "asDouble" 4 Double,
        "asInt" 6 Fixed,
        "exemplars" 5 Message(&EXEMPLAR),
        "flags" 8 Number,
    }
    HISTOGRAM_POINT {
        "attributes" 9 Message(&KEY_VALUE),
        "startTimeUnixNano" 2 Fixed,
        "timeUnixNano" 3 Fixed,
        "count" 4 Fixed,
        "sum" 5 Double,
        "bucketCounts" 6 Fixed,
        "explicitBounds" 7 Double,
        "exemplars" 8 Message(&EXEMPLAR),
        "flags" 10 Number,
    }
    EXPONENTIAL_POINT {
        "attributes" 1 Message(&KEY_VALUE),
        "startTimeUnixNano" 2 Fixed,
        "timeUnixNano" 3 Fixed,
        "count" 4 Fixed,
        "sum" 5 Double,
        "scale" 6 Zigzag,
        "zeroCount" 7 Fixed,
        "positive" 8 Message(&BUCKETS),
        "negative" 9 Message(&BUCKETS),
        "flags" 10 Number,
        "exemplars" 11 Message(&EXEMPLAR),
        "zeroThreshold" 14 Double,
    }
    BUCKETS {
        "offset" 1 Zigzag,
        "bucketCounts" 2 Number,
    }
    SUMMARY_POINT {
        "attributes" 7 Message(&KEY_VALUE),
        "startTimeUnixNano" 2 Fixed,
        "timeUnixNano" 3 Fixed,
        "count" 4 Fixed,
        "sum" 5 Double,
        "quantileValues" 6 Message(&QUANTILE),
        "flags" 8 Number,
    }
    QUANTILE {
        "quantile" 1 Double,
        "value" 2 Double,
    }
    EXEMPLAR {
        "filteredAttributes" 7 Message(&KEY_VALUE),
        "timeUnixNano" 2 Fixed,
        "asDouble" 3 Double,
        "asInt" 6 Fixed,
        "spanId" 4 Hex,
        "traceId" 5 Hex,
    }
    KEY_VALUE {
        "key" 1 Text,
        "value" 2 Message(&ANY_VALUE),
    }
    ANY_VALUE {
        "stringValue" 1 Text,
        "boolValue" 2 Flag,
        "intValue" 3 Number,
        "doubleValue" 4 Double,
        "arrayValue" 5 Message(&ARRAY),
        "kvlistValue" 6 Message(&KEY_VALUE_LIST),
        "bytesValue" 7 Base64,
    }
    ARRAY { "values" 1 Message(&ANY_VALUE), }
    KEY_VALUE_LIST { "values" 1 Message(&KEY_VALUE), }
}

/// Bytes of the length of a message, which is written when its end is known. A varint may have
/// zeros at its end.
const LENGTH_BYTES: usize = 4;

/// The message of a request in JSON. An error if it is malformed, or longer than `limit` bytes,
/// which are less than `2^28`.
pub(super) fn to_protobuf(json: &[u8], limit: usize) -> Result<Vec<u8>, serde_json::Error> {
    let mut out = Output { bytes: Vec::new(), limit };
    let mut reader = serde_json::Deserializer::from_slice(json);
    reader.deserialize_any(ValueVisitor { kind: Message(&REQUEST), tag: None, out: &mut out })?;
    reader.end()?;
    Ok(out.bytes)
}

/// The protobuf so far.
struct Output {
    bytes: Vec<u8>,
    limit: usize,
}

impl Output {
    /// Appends a varint.
    fn varint(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.bytes.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.bytes.push(n as u8);
    }

    /// Appends the tag of a field.
    fn tag(&mut self, number: u32, wire: u8) {
        self.varint(u64::from(number) << 3 | u64::from(wire));
    }

    /// Leaves room for a length, which [`Output::close`] writes.
    fn open(&mut self) -> usize {
        self.bytes.extend([0; LENGTH_BYTES]);
        self.bytes.len()
    }

    fn close(&mut self, from: usize) {
        let length = self.bytes.len() - from;
        let place = &mut self.bytes[from - LENGTH_BYTES..from];
        for (n, byte) in place.iter_mut().enumerate() {
            let more = if n + 1 < LENGTH_BYTES { 0x80 } else { 0 };
            *byte = (length >> (7 * n)) as u8 & 0x7f | more;
        }
    }

    fn text(&mut self, number: u32, bytes: &[u8]) {
        self.tag(number, 2);
        self.varint(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }

    fn check<E: Error>(&self) -> Result<(), E> {
        if self.bytes.len() > self.limit {
            let most = self.limit >> 20;
            return Err(E::custom(format_args!("the request is larger than {most} MiB")));
        }
        Ok(())
    }
}

/// Writes one value. `tag` is the number of its field; `None` is the request itself.
struct ValueVisitor<'a> {
    kind: JsonKind,
    tag: Option<u32>,
    out: &'a mut Output,
}

impl<'de> DeserializeSeed<'de> for ValueVisitor<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

impl ValueVisitor<'_> {
    /// Writes an integer in the encoding of the kind.
    fn integer<E: Error>(self, n: i128) -> Result<(), E> {
        let range = || E::custom(format_args!("the number {n} is out of range"));
        let number = self.tag.unwrap_or_default();
        match self.kind {
            Number | Fixed | Named(_) => {
                // Signed and unsigned ones have the same bytes.
                let bits =
                    u64::try_from(n).or_else(|_| i64::try_from(n).map(|n| n as u64)).map_err(|_| range())?;
                if matches!(self.kind, Fixed) {
                    self.out.tag(number, 1);
                    self.out.bytes.extend(bits.to_le_bytes());
                } else {
                    self.out.tag(number, 0);
                    self.out.varint(bits);
                }
            }
            Zigzag => {
                let n = i32::try_from(n).map_err(|_| range())?;
                self.out.tag(number, 0);
                self.out.varint(u64::from(((n << 1) ^ (n >> 31)) as u32));
            }
            Double => return self.double(n as f64),
            _ => return Err(E::invalid_type(serde::de::Unexpected::Signed(n as i64), &self)),
        }
        self.out.check()
    }

    fn double<E: Error>(self, v: f64) -> Result<(), E> {
        match self.kind {
            Double => {
                self.out.tag(self.tag.unwrap_or_default(), 1);
                self.out.bytes.extend(v.to_le_bytes());
                self.out.check()
            }
            // `1e3` is an integer, too.
            Number | Fixed | Zigzag | Named(_) if v.fract() == 0.0 && v.abs() < 1e18 => {
                self.integer(v as i128)
            }
            _ => Err(E::invalid_type(serde::de::Unexpected::Float(v), &self)),
        }
    }
}

impl<'de> Visitor<'de> for ValueVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Text => "a text",
            Flag => "true or false",
            Number | Zigzag | Fixed | Named(_) => "an integer",
            Double => "a number",
            Hex => "hexadecimal digits",
            Base64 => "bytes in base 64",
            Message(_) => "an object",
        })
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        // `null` is as if the key were not there.
        Ok(())
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<(), E> {
        if !matches!(self.kind, Flag) {
            return Err(E::invalid_type(serde::de::Unexpected::Bool(flag), &self));
        }
        self.out.tag(self.tag.unwrap_or_default(), 0);
        self.out.varint(u64::from(flag));
        Ok(())
    }

    fn visit_u64<E: Error>(self, n: u64) -> Result<(), E> {
        self.integer(n.into())
    }

    fn visit_i64<E: Error>(self, n: i64) -> Result<(), E> {
        self.integer(n.into())
    }

    fn visit_f64<E: Error>(self, v: f64) -> Result<(), E> {
        self.double(v)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        let number = self.tag.unwrap_or_default();
        let unexpected = || serde::de::Unexpected::Str(text);
        match self.kind {
            Text => self.out.text(number, text.as_bytes()),
            Hex => {
                let bytes = from_hex(text).ok_or_else(|| E::invalid_value(unexpected(), &self))?;
                self.out.text(number, &bytes);
            }
            Base64 => {
                // With or without `=` at the end, nowhere else.
                let bytes = base64_digits(text.trim_end_matches('=').bytes())
                    .ok_or_else(|| E::invalid_value(unexpected(), &self))?;
                self.out.text(number, &bytes);
            }
            Named(names) if names.contains(&text) => {
                let at = names.iter().position(|name| *name == text).unwrap_or_default();
                return self.integer(at as i128);
            }
            Number | Zigzag | Fixed => {
                let n: i128 = text.parse().map_err(|_| E::invalid_value(unexpected(), &self))?;
                return self.integer(n);
            }
            Double => {
                let v = match text {
                    "NaN" => f64::NAN,
                    "Infinity" => f64::INFINITY,
                    "-Infinity" => f64::NEG_INFINITY,
                    _ => text.parse().map_err(|_| E::invalid_value(unexpected(), &self))?,
                };
                return self.double(v);
            }
            _ => return Err(E::invalid_type(unexpected(), &self)),
        }
        self.out.check()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if self.tag.is_none() {
            return Err(A::Error::invalid_type(serde::de::Unexpected::Seq, &self));
        }
        let ValueVisitor { kind, tag, out } = self;
        // Whether a field is repeated is not checked: of several values the last counts then.
        while seq.next_element_seed(ValueVisitor { kind, tag, out: &mut *out })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Message(message) = self.kind else {
            return Err(A::Error::invalid_type(serde::de::Unexpected::Map, &self));
        };
        let ValueVisitor { tag, out, .. } = self;
        let from = tag.map(|number| {
            out.tag(number, 2);
            out.open()
        });
        out.check()?;
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            match message.fields.iter().find(|field| field.key == key) {
                Some(field) => {
                    let value = ValueVisitor { kind: field.kind, tag: Some(field.number), out: &mut *out };
                    map.next_value_seed(value)?;
                }
                // A later version of OTLP may have more keys.
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        if let Some(from) = from {
            out.close(from);
        }
        Ok(())
    }
}

/// Bytes of hexadecimal digits.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.as_bytes().chunks_exact(2).map(|pair| Some((digit(pair[0])? << 4 | digit(pair[1])?) as u8)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::message::{ExponentialPoint, NumberPoint, OtlpExemplar};
    use super::*;
    use crate::otlp_common::{KeyValue, Value};
    use prost::Message as _;

    fn encoded(kind: &'static JsonMessage, json: &str) -> Result<Vec<u8>, serde_json::Error> {
        let mut out = Output { bytes: Vec::new(), limit: 1 << 20 };
        let mut reader = serde_json::Deserializer::from_str(json);
        reader.deserialize_any(ValueVisitor { kind: Message(kind), tag: None, out: &mut out })?;
        reader.end()?;
        Ok(out.bytes)
    }

    #[test]
    fn points_in_json_are_points() {
        let json = r#"{"timeUnixNano": "1700000000000000000", "startTimeUnixNano": 5, "asInt": "-7", "flags": 1,
            "attributes": [{"key": "a", "value": {"stringValue": "x\n\u00fc"}}, {"key": "b", "value": {"intValue": "-3"}}],
            "exemplars": [{"asDouble": 1.5, "traceId": "0102FF", "spanId": "", "filteredAttributes": null}],
            "later": {"unknown": [1, {"a": null}]}}"#;
        let point = NumberPoint::decode(&*encoded(&NUMBER_POINT, json).unwrap()).unwrap();
        assert_eq!((point.time, point.start), (1_700_000_000_000_000_000, 5));
        assert_eq!((point.integer, point.double, point.flags), (Some(-7), None, 1));
        let exemplar =
            OtlpExemplar { double: Some(1.5), trace_id: vec![1, 2, 255], ..OtlpExemplar::default() };
        assert_eq!(point.exemplars, [exemplar]);
        let value = |pair: &KeyValue| pair.value.clone().unwrap().value.unwrap();
        assert_eq!(value(&point.attributes[0]), Value::Text("x\nü".to_owned()));
        assert_eq!(value(&point.attributes[1]), Value::Integer(-3));
        let json =
            r#"{"scale": -2, "positive": {"offset": -5, "bucketCounts": ["1", 2, 300]}, "sum": "-Infinity"}"#;
        let point = ExponentialPoint::decode(&*encoded(&EXPONENTIAL_POINT, json).unwrap()).unwrap();
        let positive = point.positive.unwrap();
        assert_eq!((point.scale, point.sum), (-2, Some(f64::NEG_INFINITY)));
        assert_eq!((positive.offset, positive.counts), (-5, vec![1, 2, 300]));
    }

    #[test]
    fn values_of_all_types_are_read() {
        let value = |json: &str| {
            let bytes = encoded(&KEY_VALUE, &format!(r#"{{"key": "k", "value": {json}}}"#)).unwrap();
            super::super::values::text(KeyValue::decode(&*bytes).unwrap().value.as_ref())
        };
        assert_eq!(value(r#"{"boolValue": true}"#), "true");
        assert_eq!(value(r#"{"doubleValue": 2}"#), "2");
        assert_eq!(value(r#"{"bytesValue": "aGVsbG8="}"#), "aGVsbG8=");
        assert_eq!(
            value(r#"{"arrayValue": {"values": [{"stringValue": "a"}, {"intValue": 1}]}}"#),
            r#"["a",1]"#
        );
        let map = r#"{"kvlistValue": {"values": [{"key": "x", "value": {"boolValue": false}}]}}"#;
        assert_eq!(value(map), r#"{"x":false}"#);
        assert_eq!(value("{}"), "");
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for json in [
            "",
            "[",
            "7",
            r#"[{}]"#,
            r#"{"resourceMetrics": 5}"#,
            r#"{"resourceMetrics": [{"resource": "x"}]}"#,
            r#"{} {}"#,
            r#"{"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": 5}]}]}]}"#,
            r#"{"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"gauge": {"dataPoints": [{"timeUnixNano": -1e30}]}}]}]}]}"#,
        ] {
            assert!(to_protobuf(json.as_bytes(), 1 << 20).is_err(), "{json}");
        }
        let deep = format!("{{\"resourceMetrics\":[{}", "[".repeat(100_000));
        assert!(to_protobuf(deep.as_bytes(), 1 << 20).is_err());
        let many = format!("{{\"resourceMetrics\": [{}{{}}]}}", "{},".repeat(1000));
        assert!(to_protobuf(many.as_bytes(), 6000).is_ok());
        assert!(to_protobuf(many.as_bytes(), 4000).unwrap_err().to_string().contains("larger than"));
    }

    #[test]
    fn twice_the_json_costs_at_most_a_little_more_than_twice() {
        let point = r#"{"timeUnixNano": "1700000000000000000", "asDouble": 1.5, "attributes": [{"key": "a", "value": {"stringValue": "x"}}]}"#;
        let points = |n: usize| {
            format!(
                "{{\"resourceMetrics\":[{{\"scopeMetrics\":[{{\"metrics\":[{{\"gauge\":{{\"dataPoints\":[{}{point}]}}}}]}}]}}]}}",
                format!("{point},").repeat(n)
            )
        };
        testing::assert_proportional("points", 1_000, points, |json| {
            to_protobuf(json.as_bytes(), 1 << 27).unwrap().len()
        });
    }
}
