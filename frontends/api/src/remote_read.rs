//! `/api/v1/read`: the endpoint of remote read. It reads the body and passes it to the service
//! [`RemoteReadHandler`](super::services::RemoteReadHandler), which `connectors/remote` implements.

use super::dispatch::ApiRequest;
use super::response::text_error;
use super::sending::streamed;
use super::services::{ReadAnswer, ReadCall};
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;

/// `/api/v1/read`
pub(crate) async fn read(call: ApiRequest) -> Response {
    let Some(reader) = call.state.sources.receivers.remote_read.clone() else {
        return text_error(
            StatusCode::NOT_FOUND,
            "remote read is not available here: in a cluster, ask each server that the samples come from",
        );
    };
    let matchers = call.state.own_matchers();
    match reader.read(ReadCall { body: call.body, share: call.share, matchers }).await {
        ReadAnswer::Message(message) => {
            let mut response = Response::new(Body::from(message));
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("snappy"));
            response
        }
        ReadAnswer::Frames(frames) => {
            let mut response = Response::new(streamed(frames));
            let kind = HeaderValue::from_static(
                "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse",
            );
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        ReadAnswer::Failed { status, text } => {
            text_error(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &text)
        }
    }
}
