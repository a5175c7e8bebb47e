//! What the HTTP clients of remote write and remote read share: the configured headers, and the
//! first bytes of an error answer, for messages.

use crate::limits::ANSWER_BYTES;
use connectors::config::error::BlockError;
use reqwest::Response;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use std::collections::BTreeMap;

/// The headers of a block `headers`.
pub(crate) fn header_map(configured: &BTreeMap<String, String>) -> Result<HeaderMap, BlockError> {
    let mut headers = HeaderMap::new();
    for (name, value) in configured {
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| BlockError::new(format!("bad header name {name:?}")))?;
        let value = HeaderValue::from_str(value)
            .map_err(|_| BlockError::new(format!("bad value of header {name}")))?;
        headers.insert(name, value);
    }
    Ok(headers)
}

/// The beginning of an answer; the rest is read and thrown away, so that the connection can be used
/// again.
pub(crate) async fn beginning(mut response: Response) -> String {
    let mut answer = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = ANSWER_BYTES - answer.len();
        answer.extend_from_slice(&chunk[..chunk.len().min(room)]);
        // A server that sends without end loses its connection.
        if room == 0 {
            break;
        }
    }
    String::from_utf8_lossy(&answer).trim_end().to_owned()
}
