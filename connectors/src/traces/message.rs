//! The messages of OTLP for traces: those fields that this server fills. [`super::exporter`] sends
//! them.

use crate::otlp_common::{AnyValue, KeyValue, Resource, Scope, Value};
use prost::Message;
use storage::spans::{FinishedSpan, SpanKind, SpanValue};

/// A request (`ExportTraceServiceRequest`).
#[derive(Clone, PartialEq, Message)]
pub(super) struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    pub resources: Vec<ResourceSpans>,
}

/// The spans of one resource.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub scopes: Vec<ScopeSpans>,
}

/// The spans of one instrumentation library.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    pub scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    pub spans: Vec<SpanMessage>,
}

/// A span. Times are nanoseconds since 1970.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SpanMessage {
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    pub name: String,
    #[prost(int32, tag = "6")]
    pub kind: i32,
    #[prost(fixed64, tag = "7")]
    pub start_time: u64,
    #[prost(fixed64, tag = "8")]
    pub end_time: u64,
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    pub status: Option<Status>,
}

/// How a span ended. It is only sent with spans that failed.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Status {
    #[prost(string, tag = "2")]
    pub message: String,
    #[prost(int32, tag = "3")]
    pub code: i32,
}

/// The code of a status that is an error.
const STATUS_ERROR: i32 = 2;

/// An attribute.
fn pair(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}

/// A request with these spans.
pub(super) fn request(spans: Vec<FinishedSpan>) -> ExportRequest {
    let text = |key: &str, value: &str| pair(key, Value::Text(value.to_owned()));
    let resource = Resource {
        attributes: vec![
            // As Prometheus calls itself: dashboards of traces look for it.
            text("service.name", "prometheus"),
            text("service.version", env!("CARGO_PKG_VERSION")),
            text("telemetry.sdk.language", "rust"),
            text("telemetry.sdk.name", "perennial"),
        ],
    };
    let scope = Scope {
        name: "perennial".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        attributes: Vec::new(),
    };
    let scopes =
        vec![ScopeSpans { scope: Some(scope), spans: spans.into_iter().map(SpanMessage::from).collect() }];
    ExportRequest { resources: vec![ResourceSpans { resource: Some(resource), scopes }] }
}

impl From<FinishedSpan> for SpanMessage {
    fn from(span: FinishedSpan) -> SpanMessage {
        let attribute = |attribute: storage::spans::SpanAttribute| {
            let value = match attribute.value {
                SpanValue::Text(text) => Value::Text(text),
                SpanValue::Integer(number) => Value::Integer(number),
                SpanValue::Float(number) => Value::Double(number),
            };
            pair(attribute.name, value)
        };
        SpanMessage {
            trace_id: span.context.trace.to_be_bytes().to_vec(),
            span_id: span.context.span.to_be_bytes().to_vec(),
            parent_span_id: span.parent.map(|id| id.to_be_bytes().to_vec()).unwrap_or_default(),
            name: span.name.into_owned(),
            kind: match span.kind {
                SpanKind::Internal => 1,
                SpanKind::Server => 2,
                SpanKind::Client => 3,
            },
            start_time: span.start_ns,
            end_time: span.end_ns,
            attributes: span.attributes.into_iter().map(attribute).collect(),
            status: span.error.map(|message| Status { message, code: STATUS_ERROR }),
        }
    }
}
