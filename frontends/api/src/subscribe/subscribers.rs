//! `/api/v1/subscriptions`: the clients that subscribe. Each connection is listed with what it
//! hears, what it was sent and what it lost. An operator can close one.

use super::super::dispatch::ApiRequest;
use super::super::json_model::sample_time;
use super::super::limits::{SUBSCRIBED_STATE_BYTES, SUBSCRIBED_VIEWS, SUBSCRIBER_NAME_BYTES, SUBSCRIPTIONS};
use super::super::query::{client_of, running_queries};
use super::super::response::{ApiError, ApiResult, ErrorType, success};
use super::budget::Account;
use super::client_message::{Backpressure, Envelope};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use engine::live::ViewId;
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use storage::model::TimeMs;
use tokio::sync::watch;
use views::scheduled::format_view_id;

/// How the messages of a connection travel.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Messages of a websocket.
    Websocket,
    /// Server-sent events.
    Sse,
    /// Lines of JSON.
    Ndjson,
}

/// The connections of all subscribers, by their numbers.
#[derive(Default)]
pub struct SubscriberList {
    connections: Mutex<BTreeMap<u64, Weak<Subscriber>>>,
    next: AtomicU64,
}

/// One connection, listed until it is dropped.
pub struct Subscriber {
    list: Arc<SubscriberList>,
    number: u64,
    client: String,
    /// The page that opened it, as its browser says; "": a program.
    origin: String,
    /// What it calls itself.
    name: String,
    transport: Transport,
    since: TimeMs,
    subscriptions: Mutex<Vec<Weak<SubscriptionTally>>>,
    closed: watch::Sender<bool>,
}

impl SubscriberList {
    /// Lists the connection that `call` opens.
    pub fn enter(self: &Arc<Self>, call: &ApiRequest, transport: Transport) -> Arc<Subscriber> {
        let number = self.next.fetch_add(1, Relaxed);
        let mut name = call.form.get("name").to_owned();
        name.truncate(name.floor_char_boundary(SUBSCRIBER_NAME_BYTES));
        let subscriber = Arc::new(Subscriber {
            list: self.clone(),
            number,
            client: client_of(call).map(|client| client.to_string()).unwrap_or_default(),
            origin: call.header(header::ORIGIN).to_owned(),
            name,
            transport,
            since: call.state.sources.clock.now(),
            subscriptions: Mutex::default(),
            closed: watch::Sender::new(false),
        });
        // Weak, so that the list keeps no connection that has ended.
        self.connections.lock().insert(number, Arc::downgrade(&subscriber));
        subscriber
    }

    fn all(&self) -> Vec<Arc<Subscriber>> {
        // Collected first: dropping the last reference to a connection takes the lock again.
        let connections: Vec<Weak<Subscriber>> = self.connections.lock().values().cloned().collect();
        connections.iter().filter_map(Weak::upgrade).collect()
    }

    /// Closes a connection; `false`: there is none of this number.
    fn close(&self, number: u64) -> bool {
        let found = self.connections.lock().get(&number).and_then(Weak::upgrade);
        let is_there = found.is_some();
        if let Some(subscriber) = found {
            subscriber.closed.send_replace(true);
        }
        is_there
    }
}

impl Subscriber {
    /// Lists a subscription of this connection until it is dropped.
    pub fn hears(&self, tally: &Arc<SubscriptionTally>) {
        let mut subscriptions = self.subscriptions.lock();
        subscriptions.retain(|one| one.strong_count() > 0);
        subscriptions.push(Arc::downgrade(tally));
    }

    /// Resolves when an operator closes the connection.
    pub async fn closed(&self) {
        // An error means that the connection is gone.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    fn json(&self) -> SubscriberJson {
        let subscriptions = self.subscriptions.lock().iter().filter_map(Weak::upgrade).collect::<Vec<_>>();
        SubscriberJson {
            id: format!("s{}", self.number),
            client: self.client.clone(),
            origin: self.origin.clone(),
            name: self.name.clone(),
            transport: self.transport,
            since: self.since,
            subscriptions: subscriptions.iter().map(|tally| tally.json()).collect(),
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.list.connections.lock().remove(&self.number);
    }
}

/// What a subscription is.
#[derive(Clone, Debug)]
pub struct SubscriptionFacts {
    /// The client's id.
    pub id: String,
    /// The expression, the statement or the name of the topic.
    pub query: String,
    /// The view that answers it; a topic has none.
    pub view: Option<ViewId>,
    /// Whether it is kept current; otherwise it is evaluated again and again.
    pub standing: bool,
    /// How changes are written; a topic has one form only.
    pub envelope: Option<Envelope>,
    /// What happens when the client is slow.
    pub backpressure: Option<Backpressure>,
}

/// What a subscription was sent and lost.
pub struct SubscriptionTally {
    facts: SubscriptionFacts,
    sent: AtomicU64,
    bytes: AtomicU64,
    lost: AtomicU64,
    /// The memory of what waits.
    account: Weak<Account>,
}

impl SubscriptionTally {
    /// A tally of nothing yet.
    pub fn new(mut facts: SubscriptionFacts, account: Weak<Account>) -> Arc<SubscriptionTally> {
        running_queries::cut(&mut facts.query);
        let (sent, bytes, lost) = Default::default();
        Arc::new(SubscriptionTally { facts, sent, bytes, lost, account })
    }

    /// Counts a message to the client.
    pub fn count_sent(&self, bytes: usize) {
        self.sent.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// Counts a stretch of changes that the client did not get.
    pub fn count_lost(&self) {
        self.lost.fetch_add(1, Relaxed);
    }

    fn json(&self) -> SubscriptionJson {
        let SubscriptionFacts { id, query, view, standing, envelope, backpressure } = self.facts.clone();
        let waiting = self.account.upgrade().map_or(0, |account| account.bytes());
        SubscriptionJson {
            id,
            query,
            view: view.map(format_view_id),
            standing,
            envelope,
            backpressure,
            waiting_bytes: waiting,
            sent: self.sent.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            lost: self.lost.load(Relaxed),
        }
    }
}

#[derive(Serialize)]
struct SubscribersJson {
    sockets: Vec<SubscriberJson>,
    limits: SubscriptionLimitsJson,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SubscriptionLimitsJson {
    subscriptions: usize,
    views: usize,
    state_bytes: usize,
}

#[derive(Serialize)]
struct SubscriberJson {
    id: String,
    client: String,
    origin: String,
    name: String,
    transport: Transport,
    #[serde(serialize_with = "sample_time")]
    since: TimeMs,
    subscriptions: Vec<SubscriptionJson>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SubscriptionJson {
    id: String,
    query: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    view: Option<String>,
    standing: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    envelope: Option<Envelope>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backpressure: Option<Backpressure>,
    waiting_bytes: u64,
    sent: u64,
    bytes: u64,
    lost: u64,
}

/// `/api/v1/subscriptions`
pub(crate) async fn list(call: ApiRequest) -> ApiResult {
    let sockets =
        call.state.subscriptions.subscribers.all().iter().map(|subscriber| subscriber.json()).collect();
    let limits = SubscriptionLimitsJson {
        subscriptions: SUBSCRIPTIONS,
        views: SUBSCRIBED_VIEWS,
        state_bytes: SUBSCRIBED_STATE_BYTES,
    };
    success(&SubscribersJson { sockets, limits })
}

/// `/api/v1/subscriptions/{id}`: closes a connection. Its client may come back.
pub(crate) async fn close(call: ApiRequest) -> ApiResult {
    if !call.state.settings.admin {
        let reason = "connections can be closed with --web.enable-admin-api only";
        return Err(ApiError::new(ErrorType::Unavailable, reason));
    }
    let number = call.parameter.strip_prefix('s').and_then(|digits| digits.parse().ok());
    if number.is_some_and(|number| call.state.subscriptions.subscribers.close(number)) {
        tracing::info!(target: "web", subscriber = %call.parameter, "a connection of a subscriber is closed by an operator");
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Err(ApiError::new(ErrorType::NotFound, format!("no connection {:?} subscribes", call.parameter)))
}

/// How many connections are listed.
#[cfg(test)]
pub(crate) fn count(state: &crate::AppState) -> usize {
    state.subscriptions.subscribers.all().len()
}
