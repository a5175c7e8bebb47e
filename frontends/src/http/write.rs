//! `/api/v1/write`: the door of the remote write receiver. What is behind it lives in `connectors`.

use super::dispatch::Call;
use super::reply::text_error;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

/// `/api/v1/write`
pub async fn write(call: Call) -> Response {
    let Some(receiver) = &call.state.sources.remote_write else {
        let off = "remote write receiver needs to be enabled with --web.enable-remote-write-receiver";
        return text_error(StatusCode::NOT_FOUND, off);
    };
    let (content_type, encoding) = (call.header(header::CONTENT_TYPE), call.header(header::CONTENT_ENCODING));
    match receiver.write(content_type, encoding, call.body.clone()).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err((code, text)) => {
            let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            text_error(code, &text)
        }
    }
}
