//! Subscriptions to lists that are no queries, such as alerts, rules and targets ([`Topic`]). The
//! client gets a message when the list has another [version](super::super::versions), and requests
//! the list again.
//!
//! One task for all listeners looks at a list, and only while there are any. At most one message
//! waits for a listener: a newer version replaces it.

use super::super::limits::{TOPIC_PERIOD, TOPIC_SHARE, TOPIC_SPACING, VIEWS_PERIOD};
use super::super::response::{ApiError, ErrorType};
use super::super::self_metrics::GaugeGuard;
use super::super::versions::Version;
use super::super::{AppState, notifications, query, rules, status, targets, views};
use super::server_message::{self, ServerMessage};
use super::subscribers::{SubscriptionFacts, SubscriptionTally};
use super::subscription::admit;
use parking_lot::Mutex;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use storage::model::TimeMs;
use tokio::sync::Notify;

/// A list that can be listened to.
#[derive(Copy, Clone, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Topic {
    /// `/api/v1/rules?type=alert`
    Alerts,
    /// `/api/v1/targets?state=active`
    Targets,
    /// `/api/v1/rules?exclude_alerts=true`
    Rules,
    /// `/api/v1/views`: the first page.
    Views,
    /// `/api/v1/status/queries`
    Queries,
    /// `/api/v1/notifications`
    Notifications,
    /// `/api/v1/alerts/history`
    History,
    /// `/api/v1/status/runtimeinfo`: which configuration is in force.
    Status,
    /// `/api/v1/alertmanagers`
    Alertmanagers,
}

impl Topic {
    /// The name in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Topic::Alerts => "alerts",
            Topic::Targets => "targets",
            Topic::Rules => "rules",
            Topic::Views => "views",
            Topic::Queries => "queries",
            Topic::Notifications => "notifications",
            Topic::History => "history",
            Topic::Status => "status",
            Topic::Alertmanagers => "alertmanagers",
        }
    }

    /// The least time between two looks at the list.
    fn period(self) -> Duration {
        // Views are described inside a tick of the live runtime, by its workers.
        if self == Topic::Views { VIEWS_PERIOD } else { TOPIC_PERIOD }
    }

    /// The version of the list.
    async fn version(self, state: &AppState) -> Result<Version, ApiError> {
        match self {
            Topic::Alerts => rules::version(state, "type=alert").await,
            Topic::Rules => rules::version(state, "exclude_alerts=true").await,
            Topic::Targets => {
                let list = state.sources.targets.clone();
                let looked = state.blocking(move || targets::version_of_active(list.active()));
                looked.await.map_err(|e| ApiError::new(ErrorType::Internal, e.to_string()))
            }
            Topic::Views => views::version(state).await,
            Topic::Queries => Ok(query::running_queries::version(state)),
            Topic::Notifications => Ok(Version::new(&notifications::active(state))),
            Topic::History => Ok(Version::counted(state.sources.rules.history_version())),
            Topic::Status => Ok(status::runtime_version(state)),
            Topic::Alertmanagers => {
                let known = &state.sources.alertmanagers;
                Ok(Version::new(&(known.active(), known.dropped())))
            }
        }
    }
}

/// The lists that somebody listens to.
#[derive(Default)]
pub struct TopicBoard {
    watched: Mutex<BTreeMap<Topic, WatchedTopic>>,
}

/// A list that a task looks at.
#[derive(Default)]
struct WatchedTopic {
    listeners: Vec<Weak<TopicListener>>,
    /// The version that was seen last.
    seen: Option<SeenVersion>,
}

/// A version, and when it was found.
#[derive(Copy, Clone)]
struct SeenVersion {
    t: TimeMs,
    version: Version,
}

/// The messages of one subscription.
pub struct TopicListener {
    wakeup: Arc<Notify>,
    state: Mutex<ListenerState>,
}

#[derive(Default)]
struct ListenerState {
    /// What the client is told next.
    next: Option<SeenVersion>,
    /// The version that it was told last, and when.
    told: Option<(Version, Instant)>,
}

impl TopicListener {
    /// Hears that the list has this version now.
    fn hear(&self, seen: SeenVersion) {
        let mut state = self.state.lock();
        if let Some((version, at)) = state.told {
            if version == seen.version {
                // It went back before the client was told.
                state.next = None;
                return;
            }
            // A later look tells it.
            if at.elapsed() < TOPIC_SPACING {
                return;
            }
        }
        state.next = Some(seen);
        drop(state);
        self.wakeup.notify_one();
    }

    fn take(&self) -> Option<SeenVersion> {
        let mut state = self.state.lock();
        let next = state.next.take()?;
        state.told = Some((next.version, Instant::now()));
        Some(next)
    }
}

impl TopicBoard {
    /// How many lists are looked at.
    #[cfg(test)]
    pub fn watched_topics(&self) -> usize {
        self.watched.lock().len()
    }

    /// Adds a listener. The first one of a topic starts the task that looks at its list.
    fn listen(state: &AppState, topic: Topic, wakeup: Arc<Notify>) -> Arc<TopicListener> {
        let listener = Arc::new(TopicListener { wakeup, state: Mutex::default() });
        let mut watched = state.subscriptions.topics.watched.lock();
        let is_first = !watched.contains_key(&topic);
        let entry = watched.entry(topic).or_default();
        entry.listeners.push(Arc::downgrade(&listener));
        let seen = entry.seen;
        drop(watched);
        if let Some(seen) = seen {
            listener.hear(seen);
        }
        if is_first {
            drop(tokio::spawn(watch(state.clone(), topic)));
        }
        listener
    }

    /// Tells the listeners of a topic which version its list has.
    fn tell(&self, topic: Topic, seen: SeenVersion) {
        let mut watched = self.watched.lock();
        let Some(entry) = watched.get_mut(&topic) else { return };
        entry.seen = Some(seen);
        for listener in entry.listeners.iter().filter_map(Weak::upgrade) {
            listener.hear(seen);
        }
    }

    /// Forgets listeners that are gone; `false`: there is none left, and the topic is not watched
    /// any longer.
    fn is_watched(&self, topic: Topic) -> bool {
        let mut watched = self.watched.lock();
        let Some(entry) = watched.get_mut(&topic) else { return false };
        entry.listeners.retain(|listener| listener.strong_count() > 0);
        if entry.listeners.is_empty() {
            watched.remove(&topic);
            return false;
        }
        true
    }
}

/// Looks at a list again and again, until nobody listens.
async fn watch(state: AppState, topic: Topic) {
    while state.subscriptions.topics.is_watched(topic) {
        let began = Instant::now();
        match topic.version(&state).await {
            Ok(version) => {
                let t = state.sources.clock.now();
                state.subscriptions.topics.tell(topic, SeenVersion { t, version });
            }
            // The list itself has the error for whoever asks.
            Err(error) => tracing::debug!(target: "web", "a list is not looked at: {}", error.message),
        }
        // A list that takes long is looked at less often.
        let pause = topic.period().max(began.elapsed() * TOPIC_SHARE);
        tokio::select! {
            () = state.until_stopped() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// One open subscription to a topic.
pub struct TopicSubscription {
    /// The client's id of the subscription.
    id: String,
    topic: Topic,
    listener: Arc<TopicListener>,
    tally: Arc<SubscriptionTally>,
    _counted: GaugeGuard,
}

impl TopicSubscription {
    /// Opens a subscription; `wakeup` is notified when there is something to send.
    pub fn open(
        state: &AppState,
        id: String,
        topic: Topic,
        wakeup: Arc<Notify>,
    ) -> Result<TopicSubscription, ApiError> {
        admit(state)?;
        let counted = GaugeGuard::new(&state.telemetry.subscriptions);
        let listener = TopicBoard::listen(state, topic, wakeup);
        let facts = SubscriptionFacts {
            id: id.clone(),
            query: topic.as_str().to_owned(),
            view: None,
            standing: true,
            envelope: None,
            backpressure: None,
        };
        let tally = SubscriptionTally::new(facts, Weak::new());
        Ok(TopicSubscription { id, topic, listener, tally, _counted: counted })
    }

    /// The next message, if the list has another version than the client was told.
    pub fn next(&self) -> Option<ServerMessage> {
        let seen = self.listener.take()?;
        let message = server_message::changed(&self.id, self.topic.as_str(), seen.t, seen.version.number());
        self.tally.count_sent(message.json.len());
        Some(message)
    }

    /// What the client was sent.
    pub fn tally(&self) -> &Arc<SubscriptionTally> {
        &self.tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(list: &str) -> SeenVersion {
        SeenVersion { t: 1_000, version: Version::new(list) }
    }

    #[test]
    fn a_listener_has_one_message_at_most_and_hears_no_version_twice() {
        let listener = TopicListener { wakeup: Arc::default(), state: Mutex::default() };
        listener.hear(seen("a"));
        listener.hear(seen("b"));
        assert!(listener.take().is_some_and(|next| next.version == seen("b").version));
        assert!(listener.take().is_none());
        listener.hear(seen("b"));
        assert!(listener.take().is_none(), "it knows");
        listener.hear(seen("c"));
        assert!(listener.take().is_none(), "too soon after the last one");
        let long_ago = Instant::now().checked_sub(TOPIC_SPACING).unwrap();
        listener.state.lock().told = Some((seen("b").version, long_ago));
        listener.hear(seen("c"));
        listener.hear(seen("b"));
        assert!(listener.take().is_none(), "it is as the client was told again");
        listener.hear(seen("d"));
        assert!(listener.take().is_some());
    }
}
