//! The timers of the alerts of a rule: when states change by themselves, and when alerts must be
//! sent. Each alert has at most one of each kind, and notes their times itself, so that a timer
//! that does not apply any more is found and removed.

use crate::alert::{Alert, AlertTiming};
use std::collections::BTreeSet;
use storage::model::{Labels, TimeMs};

/// Labels of alerts by time; the earliest is first.
type TimeQueue = BTreeSet<(TimeMs, Labels)>;

/// The timers of all alerts of one rule.
#[derive(Debug, Default)]
pub(super) struct AlertTimers {
    transitions: TimeQueue,
    sends: TimeQueue,
}

/// A change of state that is due.
pub(super) struct DueTransition {
    pub(super) t: TimeMs,
    pub(super) alert: Labels,
}

impl AlertTimers {
    /// Sets the timers of an alert that has changed.
    pub(super) fn set(&mut self, labels: &Labels, alert: &mut Alert, timing: &AlertTiming) {
        let due = alert.next_transition(timing);
        let send_due = alert.next_send(timing);
        let due_before = std::mem::replace(&mut alert.due, due);
        let send_due_before = std::mem::replace(&mut alert.send_due, send_due);
        move_entry(&mut self.transitions, labels, due_before, due);
        move_entry(&mut self.sends, labels, send_due_before, send_due);
    }

    /// Removes the timers of an alert that is forgotten or replaced.
    pub(super) fn remove(&mut self, labels: &Labels, alert: &Alert) {
        move_entry(&mut self.transitions, labels, alert.due, None);
        move_entry(&mut self.sends, labels, alert.send_due, None);
    }

    /// Removes the timers of all alerts.
    pub(super) fn clear(&mut self) {
        *self = AlertTimers::default();
    }

    /// The earliest change of a state.
    pub(super) fn next_transition(&self) -> Option<TimeMs> {
        self.transitions.first().map(|(t, _)| *t)
    }

    /// The earliest time at which an alert must be sent.
    pub(super) fn next_send(&self) -> Option<TimeMs> {
        self.sends.first().map(|(t, _)| *t)
    }

    /// Removes and returns the earliest change of a state that is due at `until` or earlier.
    pub(super) fn take_transition(&mut self, until: TimeMs) -> Option<DueTransition> {
        let (t, alert) = take_first(&mut self.transitions, until)?;
        Some(DueTransition { t, alert })
    }

    /// Removes and returns the alert that must be sent first, at `until` or earlier.
    pub(super) fn take_send(&mut self, until: TimeMs) -> Option<Labels> {
        take_first(&mut self.sends, until).map(|(_, alert)| alert)
    }
}

fn take_first(queue: &mut TimeQueue, until: TimeMs) -> Option<(TimeMs, Labels)> {
    if queue.first()?.0 > until {
        return None;
    }
    queue.pop_first()
}

fn move_entry(queue: &mut TimeQueue, labels: &Labels, old: Option<TimeMs>, new: Option<TimeMs>) {
    // The common case: another value of a row moves no time.
    if old == new {
        return;
    }
    if let Some(t) = old {
        queue.remove(&(t, labels.clone()));
    }
    if let Some(t) = new {
        queue.insert((t, labels.clone()));
    }
}
