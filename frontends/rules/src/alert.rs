//! An alert: its state, its times, and when it is due to be sent. What moves it is in
//! [`super::alert_states`].

use super::alert_annotations::ExpandedAnnotations;
use super::limits::RESOLVED_RETENTION_MS;
use std::sync::Arc;
use storage::model::{Labels, TimeMs};

/// What all alerts of a rule share.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct AlertTiming {
    /// `for`, ms.
    pub for_duration: i64,
    /// `keep_firing_for`, ms.
    pub keep_firing_for: i64,
    /// A firing alert is sent again after this time, ms.
    pub resend_delay: i64,
    /// The group's interval, ms.
    pub interval: i64,
    /// Most active alerts; 0: no limit.
    pub limit: usize,
    /// Time is continuous; `false`: things happen only when the condition is looked at, as in Prometheus.
    pub continuous: bool,
}

impl AlertTiming {
    /// The first slot of the group at or after `t`.
    pub(super) fn slot_from(&self, t: TimeMs) -> TimeMs {
        let interval = self.interval.max(1);
        t + (-t).rem_euclid(interval)
    }

    /// When something happens that falls due at `t`.
    pub(super) fn happens_at(&self, t: TimeMs) -> TimeMs {
        if self.continuous { t } else { self.slot_from(t) }
    }
}

/// The states of an alert.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlertState {
    /// The condition does not hold (or not any more).
    Inactive,
    /// It holds, but not yet for long enough.
    Pending,
    /// It held for long enough.
    Firing,
}

impl AlertState {
    /// As the API writes it.
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
    /// The row of the condition it stands for.
    pub row: Labels,
    /// Its state.
    pub state: AlertState,
    /// The row's newest value.
    pub value: f64,
    /// When the condition began to hold.
    pub active_at: TimeMs,
    /// When it began to fire.
    pub fired_at: Option<TimeMs>,
    /// When it ended.
    pub resolved_at: Option<TimeMs>,
    /// Since when it fires although the condition does not hold.
    pub keep_firing_since: Option<TimeMs>,
    /// When it was last handed out for sending, in the state it is in.
    pub last_sent_at: Option<TimeMs>,
    /// When that was which an Alertmanager took last, in the state it is in.
    pub delivered_at: Option<TimeMs>,
    /// Known from before a restart or a change of its rule; its row has not been seen yet.
    pub awaiting_row: bool,
    /// When its row was last told of.
    pub last_seen_at: TimeMs,
    /// The annotations it was last told with while its row held, if they depend on more than that.
    pub kept_annotations: Option<Arc<ExpandedAnnotations>>,
    /// When it changes by itself, and when it must be sent, as the timers of its rule have it.
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
            kept_annotations: None,
            due: None,
            send_due: None,
        }
    }

    /// Whether its row is there, as far as is known.
    pub(super) fn holds(&self) -> bool {
        self.state != AlertState::Inactive && self.keep_firing_since.is_none() && !self.awaiting_row
    }

    /// It has held for long enough.
    pub(super) fn fire(&mut self, t: TimeMs) {
        self.state = AlertState::Firing;
        self.fired_at = Some(t);
        (self.last_sent_at, self.delivered_at) = (None, None);
    }

    /// It is over.
    pub(super) fn resolve(&mut self, t: TimeMs) {
        self.state = AlertState::Inactive;
        self.awaiting_row = false;
        self.resolved_at = Some(t);
        self.keep_firing_since = None;
        // The end has not been told yet.
        (self.last_sent_at, self.delivered_at) = (None, None);
    }

    /// When it changes by itself.
    pub(super) fn next_transition(&self, timing: &AlertTiming) -> Option<TimeMs> {
        match self.state {
            AlertState::Pending | AlertState::Firing if self.awaiting_row => None,
            AlertState::Pending => Some(self.active_at + timing.for_duration),
            AlertState::Firing => self.keep_firing_since.map(|s| s + timing.keep_firing_for),
            AlertState::Inactive => self.resolved_at.map(|r| r + RESOLVED_RETENTION_MS + 1),
        }
    }

    /// When it must be sent; what has never been sent, or has ended since, at once. Again as in
    /// Prometheus: in the first slot after which more than the delay has passed, so that all alerts
    /// of a group go together.
    pub(super) fn next_send(&self, timing: &AlertTiming) -> Option<TimeMs> {
        let over = self.resolved_at.is_some();
        if self.awaiting_row || !(self.state == AlertState::Firing || over) {
            return None;
        }
        let again = |sent: TimeMs| timing.slot_from(sent + timing.resend_delay + 1);
        Some(self.last_sent_at.map_or(TimeMs::MIN, again))
    }
}

/// A row of the condition with the labels of its alert.
#[derive(Clone, Debug, PartialEq)]
pub struct ConditionRow {
    /// Labels of the row.
    pub row: Labels,
    /// Labels of the alert: the row's without name, the rule's, `alertname`.
    pub alert: Labels,
    /// Its value.
    pub value: f64,
}

/// An alert of before a restart, as far as the series `ALERTS_FOR_STATE` tell.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertFromSeries {
    /// Its labels.
    pub alert: Labels,
    /// When the condition began to hold.
    pub active_at: TimeMs,
    /// When it was last known to be active.
    pub seen_at: TimeMs,
    /// It was firing then.
    pub firing: bool,
}

/// An alert that must be sent now.
#[derive(Clone, Debug, PartialEq)]
pub struct DueAlert {
    /// Its labels.
    pub labels: Labels,
    /// Its state and times.
    pub alert: Alert,
    /// When Alertmanager may forget it, or when it ended.
    pub ends_at: TimeMs,
}
