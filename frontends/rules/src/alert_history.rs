//! The history of alerts: every change of a state, with its cause and what became of its
//! notification.
//!
//! It is bounded in number and bytes, and saved with the states of alerts
//! ([`super::alert_persistence`]): a killed process has both or none of a change. The rules thread
//! writes it, anybody reads it.

use super::alert::AlertState;
use super::alert_persistence as saved;
use super::event_queue::DeliveredAlert;
use super::limits::{ALERT_HISTORY_BYTES, ALERT_TRANSITIONS, CHANGE_DELIVERIES};
use super::rule_matching::RuleKey;
use super::state_change::StateChange;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use storage::durable_map::{MapChange, MapEntries};
use storage::model::{Labels, TimeMs};

/// Which rule an alert is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleName {
    /// Path of its rule file.
    pub file: String,
    /// Name of its group.
    pub group: String,
    /// Name of the alert.
    pub name: String,
}

impl RuleName {
    pub(super) fn new(key: &RuleKey) -> RuleName {
        RuleName { file: key.file.clone(), group: key.group.clone(), name: key.name.clone() }
    }

    /// Whether this is the rule's name, or its `file;group;name`.
    fn is_called(&self, text: &str) -> bool {
        let RuleName { file, group, name } = self;
        text == name || text == format!("{file};{group};{name}")
    }
}

/// A series that got a sample when a state changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeriesMove {
    /// The labels of the series.
    pub labels: Labels,
    /// The value before; `None`: there was none.
    pub before: Option<f64>,
    /// The new value; `None`: the series ended.
    pub after: Option<f64>,
    /// The time of the new sample.
    pub t: TimeMs,
}

impl SeriesMove {
    /// Whether the value is another one.
    pub(super) fn has_moved(&self) -> bool {
        self.before != self.after
    }
}

/// Why the condition began or ceased to hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChangeCause {
    /// The series that got a sample at that tick, those with another value first. Empty: time
    /// alone.
    pub series: Vec<SeriesMove>,
    /// There were more.
    pub truncated: bool,
}

/// What an Alertmanager answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// URL of the Alertmanager.
    pub alertmanager: String,
    /// When it answered, or was given up.
    pub at: TimeMs,
    /// Why it did not accept; "": it did.
    pub error: String,
}

/// A change of the state of an alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlertTransition {
    /// Its number; later changes have greater ones.
    pub number: u64,
    /// The rule whose alert changed.
    pub rule: RuleName,
    /// What changed.
    pub change: StateChange,
    /// Why; `None`: not looked up, or not a matter of samples.
    pub cause: Option<ChangeCause>,
    /// What each Alertmanager answered.
    pub deliveries: Vec<Delivery>,
}

/// Which changes are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistorySelection {
    /// The name of the rule, or `file;group;name`; "": all.
    pub rule: String,
    /// The hash of the alert's labels; `None`: all.
    pub fingerprint: Option<u64>,
    /// The first time.
    pub start: TimeMs,
    /// The last time.
    pub end: TimeMs,
    /// The most changes.
    pub limit: usize,
}

/// Some changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistoryPage {
    /// The newest first.
    pub transitions: Vec<Arc<AlertTransition>>,
    /// Since when the history is complete.
    pub kept_from: TimeMs,
    /// There are more.
    pub truncated: bool,
}

/// A change that is kept, and its bytes on disk.
struct StoredTransition {
    transition: Arc<AlertTransition>,
    bytes: usize,
}

/// What [`AlertHistory`] has under its lock.
#[derive(Default)]
struct HistoryState {
    /// By number, without gaps except after damage.
    transitions: VecDeque<StoredTransition>,
    bytes: usize,
    next: u64,
    kept_from: TimeMs,
    /// The number of the change that a notification is of, by [`notification_key`].
    notified: HashMap<u64, u64>,
    /// Changes whose cause is not known yet.
    unexplained: VecDeque<u64>,
    /// Counts every change of this history.
    version: u64,
}

/// The latest changes of all alerts; the oldest are dropped beyond a limit.
#[derive(Default)]
pub struct AlertHistory(Mutex<HistoryState>);

/// Identifies the change that a notification is of: the labels of the alert, its new state, and
/// when it changed.
fn notification_key(labels: &Labels, to: AlertState, at: TimeMs) -> u64 {
    labels.hash64() ^ (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ to as u64
}

impl HistoryState {
    /// The index of a change in `kept`.
    fn index_of(&self, number: u64) -> Option<usize> {
        self.transitions.binary_search_by_key(&number, |kept| kept.transition.number).ok()
    }

    /// Adds a change that is already saved in `bytes` bytes.
    fn push(&mut self, transition: AlertTransition, bytes: usize) {
        let change = &transition.change;
        let key = notification_key(&change.labels, change.to, change.at);
        self.notified.insert(key, transition.number);
        if change.reason.has_cause() && transition.cause.is_none() {
            self.unexplained.push_back(transition.number);
        }
        self.next = transition.number + 1;
        self.bytes += bytes;
        self.transitions.push_back(StoredTransition { transition: Arc::new(transition), bytes });
    }

    /// Forgets the oldest changes until one of `bytes` bytes has room.
    fn drop_oldest(&mut self, bytes: usize, changes: &mut Vec<MapChange>) {
        while self.transitions.len() >= ALERT_TRANSITIONS
            || (self.bytes + bytes > ALERT_HISTORY_BYTES && !self.transitions.is_empty())
        {
            let Some(oldest) = self.transitions.pop_front() else { return };
            self.bytes -= oldest.bytes;
            let AlertTransition { number, change, .. } = &*oldest.transition;
            let key = notification_key(&change.labels, change.to, change.at);
            if self.notified.get(&key) == Some(number) {
                self.notified.remove(&key);
            }
            // What is older than the oldest that is left is not complete any more.
            self.kept_from = self.kept_from.max(change.at + 1);
            changes.extend(saved::forget_transition(*number));
        }
    }

    /// Replaces a change by what `with` makes of it, and returns what is to be saved.
    fn replace(&mut self, number: u64, with: impl FnOnce(&mut AlertTransition)) -> Option<MapChange> {
        let at = self.index_of(number)?;
        let kept = &mut self.transitions[at];
        let mut transition = AlertTransition::clone(&kept.transition);
        with(&mut transition);
        let saved = saved::transition(&transition)?;
        let bytes = length(&saved);
        self.bytes = self.bytes + bytes - kept.bytes;
        *kept = StoredTransition { transition: Arc::new(transition), bytes };
        self.version += 1;
        Some(saved)
    }
}

/// Bytes of a change on disk.
fn length(change: &MapChange) -> usize {
    let (key, value) = change;
    key.len() + value.as_ref().map_or(0, Vec::len)
}

impl AlertHistory {
    /// Fills the history from what was saved. Returns what is to be saved: since when the history
    /// is kept, if it begins now.
    pub(super) fn load(&self, entries: Option<&MapEntries>, now: TimeMs) -> Vec<MapChange> {
        let found = entries.map(saved::read_history).unwrap_or_default();
        let mut state = self.0.lock();
        let first = found.transitions.first().filter(|first| first.number > 0);
        // Numbers begin with 0, so there were changes before the first one that is left.
        let dropped = first.map_or(TimeMs::MIN, |first| first.change.at);
        state.kept_from = found.begin.unwrap_or(now).max(dropped);
        for transition in found.transitions {
            let bytes = saved::transition(&transition).as_ref().map_or(0, length);
            state.push(transition, bytes);
        }
        if found.begin.is_some() { Vec::new() } else { saved::history_begin(now).into_iter().collect() }
    }

    /// Adds changes of one rule, in order. Returns what is to be saved.
    pub(super) fn add(&self, rule: &RuleKey, changes: Vec<StateChange>) -> Vec<MapChange> {
        let mut saves = Vec::new();
        if changes.is_empty() {
            return saves;
        }
        let mut state = self.0.lock();
        state.version += 1;
        for change in changes {
            let transition = AlertTransition {
                number: state.next,
                rule: RuleName::new(rule),
                change,
                cause: None,
                deliveries: Vec::new(),
            };
            // One that is too large to be saved is not kept: after a restart it would be missing.
            let Some(save) = saved::transition(&transition) else { continue };
            let bytes = length(&save);
            state.drop_oldest(bytes, &mut saves);
            saves.push(save);
            state.push(transition, bytes);
        }
        saves
    }

    /// The next changes whose cause is to be looked up: those of one rule and time that follow each
    /// other.
    pub(super) fn take_unexplained(&self) -> Vec<Arc<AlertTransition>> {
        let mut state = self.0.lock();
        let mut found: Vec<Arc<AlertTransition>> = Vec::new();
        while let Some(number) = state.unexplained.front().copied() {
            if let Some(at) = state.index_of(number) {
                let next = state.transitions[at].transition.clone();
                let goes_on = |first: &Arc<AlertTransition>| {
                    first.rule == next.rule && first.change.at == next.change.at
                };
                if !found.first().is_none_or(goes_on) {
                    break;
                }
                found.push(next);
            }
            state.unexplained.pop_front();
        }
        found
    }

    /// Whether causes are still to be looked up.
    pub(super) fn has_unexplained(&self) -> bool {
        !self.0.lock().unexplained.is_empty()
    }

    /// Keeps the cause of a change. Returns what is to be saved.
    pub(super) fn explain(&self, number: u64, cause: ChangeCause) -> Option<MapChange> {
        self.0.lock().replace(number, |transition| transition.cause = Some(cause))
    }

    /// Keeps what became of a notification at `now`. Returns what is to be saved; `None`: that was
    /// known.
    pub(super) fn note_delivery(&self, alert: &DeliveredAlert, now: TimeMs) -> Option<MapChange> {
        let change = match (alert.resolved_at, alert.fired_at) {
            (Some(at), _) => notification_key(&alert.labels, AlertState::Inactive, at),
            (None, Some(at)) => notification_key(&alert.labels, AlertState::Firing, at),
            (None, None) => return None,
        };
        let mut state = self.0.lock();
        let number = *state.notified.get(&change)?;
        let known = &state.transitions[state.index_of(number)?].transition.deliveries;
        let outcome = &alert.outcome;
        let place = known.iter().position(|d| d.alertmanager == outcome.alertmanager);
        // Notifications are repeated; the first one that was accepted counts.
        if place.map_or(known.len() >= CHANGE_DELIVERIES, |at| known[at].error.is_empty()) {
            return None;
        }
        let alertmanager = outcome.alertmanager.clone();
        let delivery = Delivery { alertmanager, at: now, error: outcome.error.clone() };
        state.replace(number, |transition| match place {
            Some(at) => transition.deliveries[at] = delivery,
            None => transition.deliveries.push(delivery),
        })
    }

    /// The selected changes, the newest first.
    pub fn select(&self, selection: &HistorySelection) -> HistoryPage {
        let all: Vec<Arc<AlertTransition>> = {
            let state = self.0.lock();
            state.transitions.iter().map(|kept| kept.transition.clone()).collect()
        };
        let is_wanted = |transition: &Arc<AlertTransition>| {
            let change = &transition.change;
            (selection.start..=selection.end).contains(&change.at)
                && (selection.rule.is_empty() || transition.rule.is_called(&selection.rule))
                && selection.fingerprint.is_none_or(|hash| change.labels.hash64() == hash)
        };
        let mut found: Vec<Arc<AlertTransition>> = all.into_iter().filter(is_wanted).collect();
        // A timer that was noticed late is older than what was noticed before it.
        found.sort_by_key(|transition| std::cmp::Reverse((transition.change.at, transition.number)));
        let truncated = found.len() > selection.limit;
        found.truncate(selection.limit);
        HistoryPage { transitions: found, kept_from: self.0.lock().kept_from, truncated }
    }

    /// A number that grows with every change of this history.
    pub fn version(&self) -> u64 {
        self.0.lock().version
    }
}
