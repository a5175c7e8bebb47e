//! Many subscriptions over one websocket.
//!
//! One task per socket reads requests and sends messages, one of each subscription in turn. While a
//! send waits for the client, events collect in the queues, where the back-pressure policies apply.

use super::super::progress::Progress;
use super::super::response::ApiError;
use super::super::{AppState, limits};
use super::client_message::{ClientMessage, SubscribeRequest};
use super::outgoing::Outgoing;
use super::server_message::{self, ServerMessage};
use super::subscribers::Subscriber;
use super::subscription::Subscription;
use super::too_many;
use super::topics::{Topic, TopicSubscription};
use axum::extract::ws::{self, CloseFrame, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, interval_at, timeout};

/// Completes the handshake and serves the socket.
pub(super) fn accept(
    state: AppState,
    upgrade: WebSocketUpgrade,
    first: Option<SubscribeRequest>,
    connection: Option<Arc<Progress>>,
    subscriber: Arc<Subscriber>,
) -> Response {
    upgrade.max_message_size(limits::CLIENT_MESSAGE_BYTES).on_upgrade(move |socket| async move {
        let mut session = WebsocketSession {
            state,
            connection,
            socket,
            wakeup: Arc::default(),
            open: BTreeMap::new(),
            topics: BTreeMap::new(),
            subscriber,
        };
        if let Err(end) = session.run(first).await {
            session.goodbye(end).await;
        }
    })
}

/// Why a session ends.
enum SessionEnd {
    /// The client disconnected or cannot be reached.
    Disconnected,
    /// The server stops.
    Stopping,
    /// An operator closed the connection.
    Closed,
}

struct WebsocketSession {
    state: AppState,
    connection: Option<Arc<Progress>>,
    socket: WebSocket,
    wakeup: Arc<Notify>,
    /// The subscriptions to queries, by the client's id.
    open: BTreeMap<String, Subscription>,
    /// The subscriptions to topics, by the client's id.
    topics: BTreeMap<String, TopicSubscription>,
    /// Its place in the list of all connections.
    subscriber: Arc<Subscriber>,
}

impl WebsocketSession {
    async fn run(&mut self, first: Option<SubscribeRequest>) -> Result<(), SessionEnd> {
        // The subscription of the URL, so that a client of one query needs no message of its own.
        if let Some(request) = first {
            self.subscribe(request).await?;
        }
        let state = self.state.clone();
        let wakeup = self.wakeup.clone();
        let stopped = state.until_stopped();
        tokio::pin!(stopped);
        let subscriber = self.subscriber.clone();
        let closed = subscriber.closed();
        tokio::pin!(closed);
        let mut beat = interval_at(Instant::now() + limits::HEARTBEAT, limits::HEARTBEAT);
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                () = &mut stopped => return Err(SessionEnd::Stopping),
                () = &mut closed => return Err(SessionEnd::Closed),
                received = self.socket.recv() => {
                    heard = Instant::now();
                    match received {
                        Some(Ok(message)) => self.receive(message).await?,
                        Some(Err(_)) | None => return Err(SessionEnd::Disconnected),
                    }
                }
                () = wakeup.notified() => self.drain().await?,
                _ = beat.tick() => {
                    // TCP would notice a client whose machine is gone only after many minutes.
                    if heard.elapsed() > limits::PONG_TIMEOUT {
                        return Err(SessionEnd::Disconnected);
                    }
                    self.write(ws::Message::Ping(bytes::Bytes::new())).await?;
                }
            }
        }
    }

    async fn receive(&mut self, message: ws::Message) -> Result<(), SessionEnd> {
        let text = match message {
            ws::Message::Text(text) => text,
            ws::Message::Close(_) => return Err(SessionEnd::Disconnected),
            ws::Message::Binary(_) => {
                // Told, not disconnected: the other subscriptions of the socket are fine.
                return self.refuse(None, &ApiError::bad_data("messages must be text")).await;
            }
            // The library answers pings itself.
            ws::Message::Ping(_) | ws::Message::Pong(_) => return Ok(()),
        };
        match serde_json::from_str(&text) {
            Ok(ClientMessage::Subscribe(request)) => self.subscribe(request).await,
            Ok(ClientMessage::Unsubscribe(id)) => self.unsubscribe(&id).await,
            Err(e) => self.refuse(None, &ApiError::bad_data(format!("cannot read the message: {e}"))).await,
        }
    }

    async fn subscribe(&mut self, request: SubscribeRequest) -> Result<(), SessionEnd> {
        let id = request.id.clone();
        match self.open(request).await {
            Ok(()) => {
                self.wakeup.notify_one();
                Ok(())
            }
            Err(e) => self.refuse(Some(&id), &e).await,
        }
    }

    async fn open(&mut self, request: SubscribeRequest) -> Result<(), ApiError> {
        // Checked before it counts towards any limit, so that the client learns its own mistake
        // first.
        let request = request.check()?;
        let id = request.id.clone();
        if self.open.contains_key(&id) || self.topics.contains_key(&id) {
            return Err(ApiError::parameter("id", format!("{id:?} is already subscribed")));
        }
        if self.open.len() + self.topics.len() >= limits::SUBSCRIPTIONS_PER_SOCKET {
            return Err(too_many("subscriptions on this socket", limits::SUBSCRIPTIONS_PER_SOCKET));
        }
        if let Some(topic) = request.topic {
            return self.open_topic(id, topic);
        }
        let opened = Subscription::open(&self.state, request, self.wakeup.clone(), self.connection.clone());
        let opened = opened.await?;
        self.subscriber.hears(opened.tally());
        self.open.insert(id, opened);
        Ok(())
    }

    fn open_topic(&mut self, id: String, topic: Topic) -> Result<(), ApiError> {
        self.state.for_everybody("topics")?;
        let opened = TopicSubscription::open(&self.state, id.clone(), topic, self.wakeup.clone())?;
        self.subscriber.hears(opened.tally());
        self.topics.insert(id, opened);
        Ok(())
    }

    async fn unsubscribe(&mut self, id: &str) -> Result<(), SessionEnd> {
        // Dropping the subscription detaches its tap; what is still queued of it is not sent.
        if self.open.remove(id).is_some() || self.topics.remove(id).is_some() {
            return self.send(server_message::unsubscribed(id, None)).await;
        }
        let error = ApiError::parameter("unsubscribe", format!("there is no subscription {id:?}"));
        self.refuse(Some(id), &error).await
    }

    /// Sends the queued messages, one of each subscription in turn.
    async fn drain(&mut self) -> Result<(), SessionEnd> {
        let mut sent = 0;
        loop {
            let mut round = Vec::new();
            // One message of each in turn, so that a subscription with many changes does not delay
            // the others.
            for subscription in self.open.values_mut() {
                round.extend(subscription.next().await);
            }
            self.open.retain(|_, subscription| !subscription.has_ended());
            let changed: Vec<ServerMessage> =
                self.topics.values().filter_map(TopicSubscription::next).collect();
            if round.is_empty() && changed.is_empty() {
                return Ok(());
            }
            sent += round.len() + changed.len();
            for message in changed {
                self.send(message).await?;
            }
            for Outgoing { message, charge } in round {
                self.send(message).await?;
                // Only now: until the socket has taken the message, its bytes are memory of this
                // client.
                drop(charge);
            }
            // Back to the loop, or the messages of a client whose queues never run dry would never
            // be read.
            if sent >= limits::SOCKET_BURST {
                self.wakeup.notify_one();
                return Ok(());
            }
        }
    }

    async fn refuse(&mut self, id: Option<&str>, error: &ApiError) -> Result<(), SessionEnd> {
        self.send(server_message::error(id, error, None)).await
    }

    async fn send(&mut self, message: ServerMessage) -> Result<(), SessionEnd> {
        self.write(ws::Message::Text(message.json.into())).await
    }

    async fn write(&mut self, message: ws::Message) -> Result<(), SessionEnd> {
        // If the client does not read, the socket fails.
        self.socket.send(message).await.map_err(|_| SessionEnd::Disconnected)
    }

    async fn goodbye(&mut self, end: SessionEnd) {
        let frame = match end {
            SessionEnd::Disconnected => return,
            SessionEnd::Stopping => {
                CloseFrame { code: ws::close_code::AWAY, reason: "the server stops".into() }
            }
            SessionEnd::Closed => {
                CloseFrame { code: ws::close_code::POLICY, reason: "closed by the operator".into() }
            }
        };
        // A client that does not read must not delay the end.
        let _ = timeout(Duration::from_secs(1), self.socket.send(ws::Message::Close(Some(frame)))).await;
    }
}
