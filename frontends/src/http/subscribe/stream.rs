//! One subscription over plain GET: server-sent events, or newline-delimited JSON with `format=ndjson`.

use super::super::dispatch::Call;
use super::super::reply::{ApiError, ErrorType, Reply};
use super::super::{AppState, limits};
use super::budget::Charge;
use super::subscription::{Outgoing, Subscription};
use super::{EVENTS, NDJSON, full};
use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use bytes::Bytes;
use futures::Stream;
use futures::future::BoxFuture;
use std::convert::Infallible;
use std::time::Duration;

/// How messages are framed.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Format {
    Events,
    Lines,
}

/// Streams the subscription named by the URL values.
pub async fn subscribe(call: Call) -> Reply {
    let format = match call.form.get("format") {
        "" if call.header(header::ACCEPT).starts_with(NDJSON) => Format::Lines,
        "" | "sse" => Format::Events,
        "ndjson" => Format::Lines,
        other => {
            return Err(ApiError::parameter(
                "format",
                format!("{other:?} is neither \"sse\" nor \"ndjson\""),
            ));
        }
    };
    let subscription = match Subscription::of_call(&call).await {
        Ok(subscription) => subscription,
        Err(e) if e.kind == ErrorType::Unavailable => return Ok(full(e)),
        Err(e) => return Err(e),
    };
    let headers = [
        (header::CONTENT_TYPE, if format == Format::Events { EVENTS } else { NDJSON }),
        (header::CACHE_CONTROL, "no-cache"),
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    let body = Body::from_stream(messages(call.state, subscription, format));
    Ok((StatusCode::OK, headers, body).into_response())
}

fn messages(
    state: AppState,
    subscription: Subscription,
    format: Format,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let stopped: BoxFuture<'static, ()> = Box::pin(async move { state.stopped().await });
    futures::stream::unfold((subscription, stopped), move |(mut subscription, mut stopped)| async move {
        let piece = next(&mut subscription, &mut stopped, format).await?;
        Some((Ok(piece), (subscription, stopped)))
    })
}

/// The next piece of the body; `None` at the end.
async fn next(
    subscription: &mut Subscription,
    stopped: &mut BoxFuture<'static, ()>,
    format: Format,
) -> Option<Bytes> {
    let bell = subscription.bell();
    loop {
        if let Some(outgoing) = subscription.next().await {
            return Some(frame(outgoing, format));
        }
        if subscription.has_ended() {
            return None;
        }
        tokio::select! {
            () = &mut *stopped => return None,
            () = bell.notified() => {}
            () = tokio::time::sleep(heartbeat(format)) => return Some(Bytes::from_static(b": heartbeat\n\n")),
        }
    }
}

/// Lines have no comments: their only heartbeat is `progress`.
fn heartbeat(format: Format) -> Duration {
    if format == Format::Events { limits::HEARTBEAT } else { Duration::MAX }
}

/// A piece of the body, which is on the subscription's account until it is written.
struct Piece {
    text: String,
    _charge: Charge,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

fn frame(outgoing: Outgoing, format: Format) -> Bytes {
    let Outgoing { message, charge } = outgoing;
    let text = match format {
        Format::Events => format!("event: {}\ndata: {}\n\n", message.event, message.json),
        Format::Lines => format!("{}\n", message.json),
    };
    Bytes::from_owner(Piece { text, _charge: charge })
}
