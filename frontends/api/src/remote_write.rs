//! `/api/v1/write` and `/api/v1/otlp/v1/metrics`: the endpoints that receive samples. They read the
//! body and pass it to the service [`RemoteWriteHandler`],
//! which is implemented with `connectors`.

use super::dispatch::ApiRequest;
use super::response::text_error;
use super::services::{RemoteWriteHandler, WriteCall};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

/// The headers for [`super::services::RemoteWriteResponse::written`], in its order.
const WRITTEN: [&str; 3] = [
    "x-prometheus-remote-write-samples-written",
    "x-prometheus-remote-write-histograms-written",
    "x-prometheus-remote-write-exemplars-written",
];

/// `/api/v1/write`
pub(crate) async fn write(call: ApiRequest) -> Response {
    let receiver = call.state.sources.receivers.remote_write.clone();
    let off = "remote write receiver needs to be enabled with --web.enable-remote-write-receiver";
    receive(call, receiver, off).await
}

/// `/api/v1/otlp/v1/metrics`
pub(crate) async fn otlp(call: ApiRequest) -> Response {
    let receiver = call.state.sources.receivers.otlp.clone();
    let off = "otlp write receiver needs to be enabled with --web.enable-otlp-receiver";
    receive(call, receiver, off).await
}

/// Passes a request to a receiver; `off` is said if there is none.
async fn receive(call: ApiRequest, receiver: Option<Arc<dyn RemoteWriteHandler>>, off: &str) -> Response {
    let Some(receiver) = receiver else {
        return text_error(StatusCode::NOT_FOUND, off);
    };
    let request = WriteCall {
        content_type: call.header(header::CONTENT_TYPE).to_owned(),
        encoding: call.header(header::CONTENT_ENCODING).to_owned(),
        body: call.body,
        share: call.share,
    };
    let reply = receiver.write(request).await;
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response =
        if status.is_success() { status.into_response() } else { text_error(status, &reply.text) };
    if let Some(seconds) = reply.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    if let Some(written) = reply.written {
        for (name, count) in WRITTEN.into_iter().zip(written) {
            response.headers_mut().insert(name, count.into());
        }
    }
    response
}
