//! Tests the exporter of spans against an HTTP server that records, refuses or delays.

use super::super::message::ExportRequest;
use super::*;
use axum::http::{HeaderMap as Headers, StatusCode};
use storage::spans::{Span, SpanKind};

/// A receiver of traces that answers with these statuses in turn, and then with 200.
struct Receiver {
    port: u16,
    requests: Arc<Mutex<Vec<(Headers, ExportRequest)>>>,
}

async fn receiver(statuses: Vec<u16>) -> Receiver {
    let requests = Arc::new(Mutex::new(Vec::new()));
    let statuses = Arc::new(Mutex::new(statuses));
    let kept = requests.clone();
    let take = move |headers: Headers, body: bytes::Bytes| async move {
        if !statuses.lock().is_empty() {
            let status = statuses.lock().remove(0);
            return StatusCode::from_u16(status).unwrap();
        }
        let is_gzip = headers.get("content-encoding").is_some_and(|encoding| encoding == "gzip");
        let body = if is_gzip { crate::decompress::gunzip(&body, 1 << 20).unwrap() } else { body.to_vec() };
        kept.lock().push((headers, ExportRequest::decode(&*body).unwrap()));
        StatusCode::OK
    };
    let router = axum::Router::new().route("/v1/traces", axum::routing::post(take));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, router).await });
    Receiver { port, requests }
}

fn config(port: u16, more: &str) -> TracingConfig {
    let text = format!(
        "{{client_type: http, insecure: true, endpoint: '127.0.0.1:{port}', sampling_fraction: 1{more}}}"
    );
    serde_saphyr::from_str(&text).unwrap()
}

fn exporter() -> (Tracer, TraceExporter, Metrics) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let tracer = Tracer::default();
    let metrics = Metrics::default();
    let exporter = TraceExporter::new(tracer.clone(), &metrics);
    (tracer, exporter, metrics)
}

fn span(tracer: &Tracer, name: &'static str) -> Span {
    tracer.start(name, SpanKind::Internal, None)
}

#[tokio::test]
async fn spans_arrive_as_they_were() {
    let receiver = receiver(Vec::new()).await;
    let (tracer, exporter, _) = exporter();
    exporter.apply(Some(&config(receiver.port, ", compression: gzip, headers: {x-scope: tenant}"))).unwrap();
    let mut outer = span(&tracer, "outer");
    outer.set("query", "up");
    outer.set("result_series", 3usize);
    let mut inner = tracer.start("inner", SpanKind::Client, outer.context());
    inner.fail("refused");
    drop((inner, outer));
    exporter.close().await;
    let requests = receiver.requests.lock();
    let (headers, request) = &requests[0];
    assert_eq!(
        (headers["x-scope"].to_str().unwrap(), headers["content-type"].to_str().unwrap()),
        ("tenant", "application/x-protobuf")
    );
    let resource = request.resources[0].resource.as_ref().unwrap();
    assert_eq!(resource.attributes[0].key, "service.name");
    let spans = &request.resources[0].scopes[0].spans;
    let [inner, outer] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!((inner.name.as_str(), inner.kind, inner.status.as_ref().unwrap().code), ("inner", 3, 2));
    assert_eq!((&inner.parent_span_id, &inner.trace_id), (&outer.span_id, &outer.trace_id));
    assert!(outer.start_time <= inner.start_time && inner.end_time <= outer.end_time);
    assert_eq!((outer.attributes.len(), outer.trace_id.len(), outer.parent_span_id.len()), (2, 16, 0));
    assert!(!tracer.is_on());
}

#[tokio::test]
async fn what_has_no_place_is_dropped_and_counted() {
    // Nobody listens there.
    let (tracer, exporter, metrics) = exporter();
    exporter.apply(Some(&config(1, ""))).unwrap();
    for _ in 0..SPAN_QUEUE + 100 {
        drop(span(&tracer, "x"));
    }
    let dropped = metrics.counter("perennial_tracing_spans_dropped_total", "", &[]);
    assert_eq!(dropped.get(), 100);
    // The sampler of nothing.
    exporter.apply(Some(&config(1, ", timeout: 1s").clone())).unwrap();
    exporter.apply(None).unwrap();
    assert!(!tracer.is_on());
}

#[tokio::test]
async fn a_receiver_that_is_busy_is_asked_again() {
    let receiver = receiver(vec![503, 429]).await;
    let (tracer, exporter, metrics) = exporter();
    exporter.apply(Some(&config(receiver.port, ""))).unwrap();
    drop(span(&tracer, "x"));
    exporter.close().await;
    assert_eq!(receiver.requests.lock().len(), 1);
    assert_eq!(metrics.counter("perennial_tracing_spans_sent_total", "", &[]).get(), 1);
    let refusing = self::receiver(vec![400]).await;
    exporter.apply(Some(&config(refusing.port, ""))).unwrap();
    drop(span(&tracer, "x"));
    exporter.close().await;
    assert_eq!(refusing.requests.lock().len(), 0);
    assert_eq!(metrics.counter("perennial_tracing_spans_dropped_total", "", &[]).get(), 1);
}
