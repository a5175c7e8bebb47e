//! A subscription over a plain GET request: server-sent events, or NDJSON with `format=ndjson`.
//! [`super::websocket`] is the other transport.

use super::super::dispatch::ApiRequest;
use super::super::response::{ApiError, ApiResult, ErrorType};
use super::super::sending::streamed;
use super::super::{AppState, limits};
use super::budget::Charge;
use super::client_message::SubscribeRequest;
use super::outgoing::Outgoing;
use super::subscribers::{Subscriber, Transport};
use super::subscription::Subscription;
use super::{EVENTS, NDJSON, full};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use bytes::Bytes;
use futures::Stream;
use futures::future::BoxFuture;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// The framing of messages.
#[derive(Copy, Clone, PartialEq, Eq)]
enum StreamFormat {
    Events,
    Lines,
}

/// Streams the subscription that the URL values describe.
pub async fn subscribe(call: ApiRequest) -> ApiResult {
    let format = match call.form.get("format") {
        "" if call.header(header::ACCEPT).starts_with(NDJSON) => StreamFormat::Lines,
        // The default is what a browser can read without a library.
        "" | "sse" => StreamFormat::Events,
        "ndjson" => StreamFormat::Lines,
        other => {
            return Err(ApiError::parameter(
                "format",
                format!("{other:?} is neither \"sse\" nor \"ndjson\""),
            ));
        }
    };
    let request = SubscribeRequest::from_form(&call.form)?;
    if request.topic.is_some() {
        return Err(ApiError::parameter("topic", "topics need a websocket"));
    }
    stream(call, request, format).await
}

/// Streams a subscription as newline-delimited JSON.
#[cfg(feature = "sql")]
pub(crate) async fn lines(call: ApiRequest, request: SubscribeRequest) -> ApiResult {
    stream(call, request, StreamFormat::Lines).await
}

async fn stream(call: ApiRequest, request: SubscribeRequest, format: StreamFormat) -> ApiResult {
    let subscription = match Subscription::from_call(&call, request).await {
        Ok(subscription) => subscription,
        // 503, because a browser's event source tries again then; other errors it takes for final.
        Err(e) if e.kind == ErrorType::Unavailable => return Ok(full(e)),
        Err(e) => return Err(e),
    };
    let transport = if format == StreamFormat::Events { Transport::Sse } else { Transport::Ndjson };
    let subscriber = call.state.subscriptions.subscribers.enter(&call, transport);
    subscriber.hears(subscription.tally());
    let headers = [
        (header::CONTENT_TYPE, if format == StreamFormat::Events { EVENTS } else { NDJSON }),
        (header::CACHE_CONTROL, "no-cache"),
        // nginx would collect small messages until its buffer is full.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    let body = streamed(messages(call.state, subscription, subscriber, format));
    Ok((StatusCode::OK, headers, body).into_response())
}

fn messages(
    state: AppState,
    subscription: Subscription,
    subscriber: Arc<Subscriber>,
    format: StreamFormat,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let stopped: BoxFuture<'static, ()> = Box::pin(async move {
        tokio::select! {
            () = state.until_stopped() => {}
            () = subscriber.closed() => {}
        }
    });
    futures::stream::unfold((subscription, stopped), move |(mut subscription, mut stopped)| async move {
        let piece = next(&mut subscription, &mut stopped, format).await?;
        Some((Ok(piece), (subscription, stopped)))
    })
}

/// The next piece of the body; `None` at the end.
async fn next(
    subscription: &mut Subscription,
    stopped: &mut BoxFuture<'static, ()>,
    format: StreamFormat,
) -> Option<Bytes> {
    let wakeup = subscription.wakeup();
    loop {
        if let Some(outgoing) = subscription.next().await {
            return Some(frame(outgoing, format));
        }
        if subscription.has_ended() {
            return None;
        }
        tokio::select! {
            () = &mut *stopped => return None,
            () = wakeup.notified() => {}
            () = tokio::time::sleep(heartbeat(format)) => return Some(Bytes::from_static(b": heartbeat\n\n")),
        }
    }
}

/// Newline-delimited JSON has no comments: its only heartbeat is `progress`.
fn heartbeat(format: StreamFormat) -> Duration {
    if format == StreamFormat::Events { limits::HEARTBEAT } else { Duration::MAX }
}

/// A piece of the body; its bytes are on the subscription's account until it is written.
struct StreamChunk {
    text: String,
    _charge: Charge,
}

impl AsRef<[u8]> for StreamChunk {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

fn frame(outgoing: Outgoing, format: StreamFormat) -> Bytes {
    let Outgoing { message, charge } = outgoing;
    let text = match format {
        StreamFormat::Events => format!("event: {}\ndata: {}\n\n", message.event, message.json),
        StreamFormat::Lines => format!("{}\n", message.json),
    };
    Bytes::from_owner(StreamChunk { text, _charge: charge })
}
