//! Alerts that continue after a restart or after a change of their rule. They *await their row*: if
//! the condition still holds, its first answers say so, and the alert goes on as it was; otherwise
//! it ends.
//!
//! After a restart alerts come from the file of their states, exactly as they were, or, without
//! that, from the series `ALERTS_FOR_STATE`, as in Prometheus.

use super::AlertStates;
use crate::alert::{Alert, AlertFromSeries, AlertState, ConditionRow};
use crate::limits::RESOLVED_RETENTION_MS;
use crate::state_change::ChangeReason;
use storage::model::{Labels, TimeMs};

impl AlertStates {
    /// Restores saved alerts exactly as they were. Active ones wait for their row until
    /// [`AlertStates::end_awaited`]; ended ones are sent for as long as any other.
    pub fn restore_exactly(&mut self, alerts: Vec<(Labels, Alert)>, now: TimeMs) {
        self.awaiting_since = ChangeReason::Restart;
        for (labels, alert) in alerts {
            if alert.resolved_at.is_some_and(|r| now > r + RESOLVED_RETENTION_MS) {
                continue;
            }
            self.insert(labels, alert);
        }
        self.set_timing(self.timing, now);
    }

    /// The rule has another expression: its alerts wait for their rows.
    pub fn await_all_rows(&mut self) {
        self.awaiting_since = ChangeReason::Reload;
        self.rows.clear();
        self.condition.is_invalid = false;
        let labels: Vec<Labels> = self.active.keys().cloned().collect();
        for labels in labels {
            if let Some(alert) = self.active.get_mut(&labels).filter(|a| a.state != AlertState::Inactive) {
                alert.awaiting_row = true;
                self.schedule(&labels);
            }
        }
    }

    /// Adds a row that an alert waited for, before the next evaluation time.
    pub fn add_awaited_row(&mut self, row: ConditionRow) {
        let Some(alert) = self.active.get_mut(&row.alert).filter(|alert| alert.awaiting_row) else { return };
        alert.awaiting_row = false;
        self.schedule(&row.alert);
        self.rows.insert(row);
    }

    /// Restores alerts from their series, as Prometheus does: those whose row comes before
    /// [`AlertStates::end_awaited`] continue, all others are dropped. `grace`: an alert that was
    /// about to fire waits at least this long (`--rules.alert.for-grace-period`), unless its `for`
    /// is shorter.
    pub fn restore_from_series(&mut self, alerts: Vec<AlertFromSeries>, now: TimeMs, grace: i64) {
        let hold = self.timing.for_duration;
        for old in alerts {
            // How long it still had to be pending when it was last seen.
            let remaining = hold - (old.seen_at - old.active_at);
            let active_at = if old.firing || remaining <= 0 {
                old.active_at
            } else if remaining < grace && hold >= grace {
                // Almost due: without the grace period it would fire before its row has come even
                // once.
                now + grace - hold
            } else {
                // The outage does not count towards `for`, as in Prometheus.
                old.active_at + (now - old.seen_at)
            };
            let state = if old.firing { AlertState::Firing } else { AlertState::Pending };
            let alert = Alert {
                state,
                fired_at: old.firing.then_some(active_at + hold),
                // The time of sending is not known, but it was probably sent.
                last_sent_at: old.firing.then_some(old.seen_at),
                ..Alert::pending_since(Labels::default(), active_at)
            };
            self.restored.insert(old.alert, alert);
        }
    }

    /// Alerts whose row has not come end at `t` (or are kept firing by `keep_firing_for`). Those
    /// known only from series are dropped: they may belong to another rule.
    pub fn end_awaited(&mut self, t: TimeMs) {
        // They never had a row, so nobody was told of them here.
        self.restored.clear();
        let awaited: Vec<Labels> =
            self.active.iter().filter(|(_, a)| a.awaiting_row).map(|(l, _)| l.clone()).collect();
        for labels in awaited {
            let Some(alert) = self.active.get_mut(&labels) else { continue };
            alert.awaiting_row = false;
            self.remove_row(&labels, t, self.awaiting_since);
        }
    }
}
