//! The saved states of alerts, with which a restart continues where the process ended: every state
//! with its exact times, and when an Alertmanager last accepted it.
//!
//! A record is written before the alert is sent. It is small and replaces the previous one; an
//! alert that was forgotten has none. The bytes are described in `docs/format/keep.md`.

use super::alert::{Alert, AlertState};
use super::alert_history::AlertTransition;
use super::limits::ALERT_TRANSITIONS;
use super::rule_matching::RuleKey;
use super::state_change::{ChangeReason, StateChange};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use storage::codec;
use storage::durable_map::{DurableMap, MapChange, MapEntries};
use storage::model::{Labels, TimeMs};

/// Where records are saved: implemented by [`AlertStateFile`], and by a fake in tests.
///
/// # Contract
/// 1. Changes become durable in the order of the calls of [`AlertPersistence::save`], and those of
///    one call together: an alert and its history must not differ after a kill.
/// 2. `save` does not block: it is called on the rules thread.
/// 3. After [`AlertPersistence::wait`] has returned in time, a restart finds the changes. If it
///    returns because of `limit`, it may or may not: the manager then sends alerts all the same.
pub trait AlertPersistence: Send + Sync {
    /// What was saved before this process began. `None`: no file; an empty map: there were no
    /// alerts.
    fn load_saved(&self) -> Option<MapEntries>;
    /// Saves the changes, without waiting. Returns a number for [`AlertPersistence::wait`].
    fn save(&self, changes: Vec<MapChange>) -> u64;
    /// Waits until they are durable, at most `limit`.
    fn wait(&self, number: u64, limit: Duration);
}

/// Records in a file.
pub struct AlertStateFile {
    map: DurableMap,
    recalled: Option<MapEntries>,
}

impl AlertStateFile {
    /// Records in `map`, which had the entries `found`; `None`: there was no file.
    pub fn new(map: DurableMap, found: Option<MapEntries>) -> AlertStateFile {
        AlertStateFile { map, recalled: found }
    }

    /// Writes the queued changes, if the map has no thread.
    pub fn turn(&self) {
        self.map.turn();
    }

    /// Writes the queued changes and ends.
    pub fn close(&self) {
        self.map.close();
    }
}

impl AlertPersistence for AlertStateFile {
    fn load_saved(&self) -> Option<MapEntries> {
        self.recalled.clone()
    }
    fn save(&self, changes: Vec<MapChange>) -> u64 {
        self.map.put(changes)
    }
    fn wait(&self, number: u64, limit: Duration) {
        self.map.wait(number, limit);
    }
}

#[derive(Serialize, Deserialize)]
enum SavedAlertKey {
    /// A rule, by the hash of its key.
    Rule(u64),
    /// An alert of that rule.
    Alert(u64, Labels),
    /// A change of a state, by its position in the history.
    Transition(u64),
    /// Since when the history is kept.
    HistoryBegin,
}

/// A saved alert.
#[derive(Serialize, Deserialize)]
struct SavedAlert {
    at: TimeMs,
    row: Labels,
    state: u8,
    value: f64,
    active_at: TimeMs,
    fired_at: Option<TimeMs>,
    resolved_at: Option<TimeMs>,
    keep_firing_since: Option<TimeMs>,
    delivered_at: Option<TimeMs>,
}

const STATES: [AlertState; 3] = [AlertState::Inactive, AlertState::Pending, AlertState::Firing];

/// The alerts of one rule before a restart, by their labels.
pub struct SavedRuleAlerts {
    /// The rule that had them.
    pub rule: RuleKey,
    /// The labels and the state of each alert.
    pub alerts: Vec<(Labels, Alert)>,
}

impl SavedRuleAlerts {
    /// The ends, at `t`, of its alerts: the rule does not exist any more.
    pub fn ends(&self, t: TimeMs) -> Vec<StateChange> {
        let ends = self.alerts.iter();
        ends.filter_map(|(labels, alert)| StateChange::end(labels, alert, t, ChangeReason::Reload)).collect()
    }
}

fn bytes<T: Serialize>(value: &T) -> Option<Vec<u8>> {
    codec::encode(value).inspect_err(|error| tracing::error!(target: "rules", %error, "an alert is too large to be saved, a restart forgets it; shorten its labels or annotations")).ok()
}

/// Saves the rule.
pub fn rule(key: &RuleKey) -> Option<MapChange> {
    Some((bytes(&SavedAlertKey::Rule(key.hash64()))?, Some(bytes(key)?)))
}

/// Removes the rule; its alerts are removed one by one.
pub fn forget_rule(hash: u64) -> Option<MapChange> {
    Some((bytes(&SavedAlertKey::Rule(hash))?, None))
}

/// Saves an alert of a rule as of `now`; with `None`, removes it.
pub fn alert(rule: u64, labels: &Labels, alert: Option<&Alert>, now: TimeMs) -> Option<MapChange> {
    let key = bytes(&SavedAlertKey::Alert(rule, labels.clone()))?;
    let Some(alert) = alert else { return Some((key, None)) };
    let record = SavedAlert {
        // An alert whose row has not come since the last restart was last seen before that one.
        at: if alert.awaiting_row { alert.last_seen_at } else { now },
        row: alert.row.clone(),
        state: STATES.iter().position(|s| *s == alert.state).unwrap_or_default() as u8,
        value: alert.value,
        active_at: alert.active_at,
        fired_at: alert.fired_at,
        resolved_at: alert.resolved_at,
        keep_firing_since: alert.keep_firing_since,
        delivered_at: alert.delivered_at,
    };
    Some((key, Some(bytes(&record)?)))
}

/// The key of a change in the history. A later change replaces the oldest, so the number of keys is
/// bounded.
fn history_key(number: u64) -> SavedAlertKey {
    SavedAlertKey::Transition(number % ALERT_TRANSITIONS as u64)
}

/// Saves a change of a state.
pub fn transition(transition: &AlertTransition) -> Option<MapChange> {
    Some((bytes(&history_key(transition.number))?, Some(bytes(transition)?)))
}

/// Removes a change of a state.
pub fn forget_transition(number: u64) -> Option<MapChange> {
    Some((bytes(&history_key(number))?, None))
}

/// Saves since when the history is kept.
pub fn history_begin(t: TimeMs) -> Option<MapChange> {
    Some((bytes(&SavedAlertKey::HistoryBegin)?, Some(bytes(&t)?)))
}

/// The saved history.
#[derive(Default)]
pub struct SavedHistory {
    /// The changes, by number.
    pub transitions: Vec<AlertTransition>,
    /// Since when it is kept; `None`: it was never kept.
    pub begin: Option<TimeMs>,
}

/// Whether an entry belongs to the history, and not to the present states.
pub fn is_history(key: &[u8]) -> bool {
    matches!(codec::decode(key), Ok(SavedAlertKey::Transition(_) | SavedAlertKey::HistoryBegin))
}

/// The history in `entries`. Records that cannot be read are skipped and logged.
pub fn read_history(entries: &MapEntries) -> SavedHistory {
    let mut saved = SavedHistory::default();
    for (key, value) in entries {
        let unread = match codec::decode(key) {
            Ok(SavedAlertKey::Transition(_)) => {
                codec::decode(value).map(|transition| saved.transitions.push(transition)).err()
            }
            Ok(SavedAlertKey::HistoryBegin) => codec::decode(value).map(|t| saved.begin = Some(t)).err(),
            _ => None,
        };
        if let Some(error) = unread {
            tracing::error!(target: "rules", %error, "an entry of the history of alerts cannot be read, so it is missing");
        }
    }
    // The map has no order of its own, and keys are reused.
    saved.transitions.sort_by_key(|transition| transition.number);
    saved
}

/// The alerts in `entries`, by rule. Records that cannot be read are skipped and logged.
pub fn read(entries: &MapEntries) -> Vec<SavedRuleAlerts> {
    let mut rules: BTreeMap<u64, SavedRuleAlerts> = BTreeMap::new();
    let mut alerts = Vec::new();
    for (key, value) in entries {
        match codec::decode(key) {
            Ok(SavedAlertKey::Rule(hash)) => match codec::decode(value) {
                Ok(rule) => drop(rules.insert(hash, SavedRuleAlerts { rule, alerts: Vec::new() })),
                Err(error) => {
                    tracing::error!(target: "rules", %error, "a saved rule cannot be read, so its alerts begin again")
                }
            },
            Ok(SavedAlertKey::Alert(hash, labels)) => match codec::decode::<SavedAlert>(value) {
                Ok(record) => alerts.push((hash, labels, restored(record))),
                Err(error) => {
                    tracing::error!(target: "rules", %error, "a saved alert cannot be read, so it begins again")
                }
            },
            Ok(SavedAlertKey::Transition(_) | SavedAlertKey::HistoryBegin) => {}
            Err(error) => {
                tracing::error!(target: "rules", %error, "an entry of the saved alerts cannot be read")
            }
        }
    }
    // In a second step, because an alert may come before its rule. An alert without one is of a
    // rule whose record is damaged.
    for (hash, labels, alert) in alerts {
        if let Some(past) = rules.get_mut(&hash) {
            past.alerts.push((labels, alert));
        }
    }
    rules.into_values().collect()
}

fn restored(record: SavedAlert) -> Alert {
    let state = STATES.get(usize::from(record.state)).copied().unwrap_or(AlertState::Inactive);
    Alert {
        state,
        value: record.value,
        fired_at: record.fired_at,
        resolved_at: record.resolved_at,
        keep_firing_since: record.keep_firing_since,
        // What was sent but not accepted counts as not sent, so it is sent again at once.
        last_sent_at: record.delivered_at,
        delivered_at: record.delivered_at,
        // An alert that was kept firing does not wait for a row, which was gone already.
        awaiting_row: state != AlertState::Inactive && record.keep_firing_since.is_none(),
        last_seen_at: record.at,
        ..Alert::pending_since(record.row, record.active_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(i: usize) -> RuleKey {
        let text = format!("rule{i}");
        RuleKey {
            file: "f".to_owned(),
            group: "g".to_owned(),
            name: text.clone(),
            labels: vec![],
            expr: text,
            duplicate_index: 0,
        }
    }

    fn entries(rules: usize, alerts: usize) -> MapEntries {
        let keys: Vec<RuleKey> = (0..rules).map(key).collect();
        let of_rules = keys.iter().filter_map(rule);
        let of_alerts = (0..alerts).filter_map(|i| {
            let labels = Labels::from_pairs([("instance", i.to_string())]);
            alert(keys[i % rules].hash64(), &labels, Some(&Alert::pending_since(labels.clone(), 1)), 2)
        });
        of_rules.chain(of_alerts).filter_map(|(key, value)| Some((key, value?))).collect()
    }

    #[test]
    fn twice_the_records_cost_at_most_a_little_more_than_twice() {
        let count = |entries: &MapEntries| read(entries).iter().map(|past| past.alerts.len()).sum::<usize>();
        assert_eq!(count(&entries(3, 10)), 10);
        testing::assert_proportional("alerts of one rule", 1_000, |n| entries(1, n), count);
        testing::assert_proportional("rules with an alert each", 1_000, |n| entries(n, n), count);
    }
}
