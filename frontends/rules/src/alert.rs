//! One alert: its state (pending, firing, resolved), its times, and when it must be sent. The state
//! machine is in [`super::alert_states`].

use super::alert_annotations::ExpandedAnnotations;
use super::limits::RESOLVED_RETENTION_MS;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use storage::model::{Labels, TimeMs};

/// What all alerts of a rule share.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct AlertTiming {
    /// `for`, in ms.
    pub for_duration: i64,
    /// `keep_firing_for`, in ms.
    pub keep_firing_for: i64,
    /// A firing alert is sent again after this time, in ms.
    pub resend_delay: i64,
    /// The group's interval, in ms.
    pub interval: i64,
    /// Most active alerts; 0: no limit.
    pub limit: usize,
    /// States change at any time; `false`: only at evaluation times, as in Prometheus.
    pub continuous: bool,
}

impl AlertTiming {
    /// The first evaluation time of the group at or after `t`.
    pub(super) fn evaluation_from(&self, t: TimeMs) -> TimeMs {
        let interval = self.interval.max(1);
        // Rounded up; `rem_euclid`, because times before 1970 are negative.
        t + (-t).rem_euclid(interval)
    }

    /// When a transition that is due at `t` happens.
    pub(super) fn happens_at(&self, t: TimeMs) -> TimeMs {
        if self.continuous { t } else { self.evaluation_from(t) }
    }
}

/// The states of an alert.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AlertState {
    /// The condition does not hold (any more).
    Inactive,
    /// The condition holds, but not yet for long enough.
    Pending,
    /// The condition has held for long enough.
    Firing,
}

impl AlertState {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            AlertState::Inactive => "inactive",
            AlertState::Pending => "pending",
            AlertState::Firing => "firing",
        }
    }
}

/// One alert of a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// The row of the condition.
    pub row: Labels,
    /// Pending or firing; inactive: its row has ended.
    pub state: AlertState,
    /// The row's latest value.
    pub value: f64,
    /// When the condition began to hold.
    pub active_at: TimeMs,
    /// When the alert began to fire.
    pub fired_at: Option<TimeMs>,
    /// When the alert ended.
    pub resolved_at: Option<TimeMs>,
    /// Since when the alert has been kept firing although the condition does not hold.
    pub keep_firing_since: Option<TimeMs>,
    /// When the alert was last handed out for sending in its present state.
    pub last_sent_at: Option<TimeMs>,
    /// The value of `last_sent_at` of the latest notification that an Alertmanager accepted in this
    /// state.
    pub delivered_at: Option<TimeMs>,
    /// Known from before a restart or a change of the rule; its row has not been seen yet.
    pub awaiting_row: bool,
    /// When its row was last reported.
    pub last_seen_at: TimeMs,
    /// The annotations of the latest notification while the condition held, if they depend on more
    /// than the row.
    pub last_annotations: Option<Arc<ExpandedAnnotations>>,
    /// When the state changes without an event, and when the alert must be sent, as in the timers
    /// of its rule.
    pub(super) due: Option<TimeMs>,
    pub(super) send_due: Option<TimeMs>,
}

impl Alert {
    /// An alert whose condition began to hold at `t`.
    pub fn pending_since(row: Labels, t: TimeMs) -> Alert {
        Alert {
            row,
            state: AlertState::Pending,
            value: f64::NAN,
            active_at: t,
            fired_at: None,
            resolved_at: None,
            keep_firing_since: None,
            last_sent_at: None,
            delivered_at: None,
            awaiting_row: false,
            last_seen_at: t,
            last_annotations: None,
            due: None,
            send_due: None,
        }
    }

    /// Whether its row exists, as far as is known.
    pub(super) fn holds(&self) -> bool {
        self.state != AlertState::Inactive && self.keep_firing_since.is_none() && !self.awaiting_row
    }

    /// The condition has held for long enough.
    pub(super) fn fire(&mut self, t: TimeMs) {
        self.state = AlertState::Firing;
        self.fired_at = Some(t);
        self.last_sent_at = None;
        self.delivered_at = None;
    }

    /// The alert has ended.
    pub(super) fn resolve(&mut self, t: TimeMs) {
        self.state = AlertState::Inactive;
        self.awaiting_row = false;
        self.resolved_at = Some(t);
        self.keep_firing_since = None;
        // The end has not been sent yet.
        self.last_sent_at = None;
        self.delivered_at = None;
    }

    /// When the state changes without an event.
    pub(super) fn next_transition(&self, timing: &AlertTiming) -> Option<TimeMs> {
        match self.state {
            // Nothing is known of its condition, so it neither fires nor ends by a timer.
            AlertState::Pending | AlertState::Firing if self.awaiting_row => None,
            AlertState::Pending => Some(self.active_at + timing.for_duration),
            AlertState::Firing => self.keep_firing_since.map(|s| s + timing.keep_firing_for),
            // Kept after its end, so that Alertmanager hears of the end more than once, as in
            // Prometheus.
            AlertState::Inactive => self.resolved_at.map(|r| r + RESOLVED_RETENTION_MS + 1),
        }
    }

    /// When the alert must be sent. If it was never sent in its present state, immediately.
    /// Otherwise as in Prometheus: at the first evaluation time after the resend delay has passed,
    /// so that all alerts of a group are sent together.
    pub(super) fn next_send(&self, timing: &AlertTiming) -> Option<TimeMs> {
        let over = self.resolved_at.is_some();
        if self.awaiting_row || !(self.state == AlertState::Firing || over) {
            return None;
        }
        // Strictly later than the delay, as Prometheus compares it.
        let again = |sent: TimeMs| timing.evaluation_from(sent + timing.resend_delay + 1);
        Some(self.last_sent_at.map_or(TimeMs::MIN, again))
    }
}

/// A row of the condition, with the labels of its alert.
#[derive(Clone, Debug, PartialEq)]
pub struct ConditionRow {
    /// Labels of the row.
    pub row: Labels,
    /// Labels of the alert: those of the row without the name, those of the rule, and `alertname`.
    pub alert: Labels,
    /// Value of the row.
    pub value: f64,
}

/// An alert from before a restart, according to the series `ALERTS_FOR_STATE`.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertFromSeries {
    /// Labels of the alert.
    pub alert: Labels,
    /// When the condition began to hold.
    pub active_at: TimeMs,
    /// When it was last known to be active.
    pub seen_at: TimeMs,
    /// Whether it was firing then.
    pub firing: bool,
}

/// An alert that must be sent now.
#[derive(Clone, Debug, PartialEq)]
pub struct DueAlert {
    /// Labels of the alert.
    pub labels: Labels,
    /// Its state and times.
    pub alert: Alert,
    /// When Alertmanager may forget it, or when it ended.
    pub ends_at: TimeMs,
}
