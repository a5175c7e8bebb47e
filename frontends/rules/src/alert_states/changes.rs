//! What has changed in the alerts of a rule since somebody last took it: for the `ALERTS` series,
//! for the file of the states, for clients, and for the history of alerts.

use crate::alert::{Alert, AlertState};
use crate::state_change::{ChangeReason, StateChange};
use std::collections::BTreeSet;
use storage::model::{Labels, TimeMs};

/// The changes of the alerts of one rule.
#[derive(Debug, Default)]
pub struct AlertChanges {
    /// Alerts whose state or start changed: their `ALERTS` samples differ.
    pub(super) series: BTreeSet<Labels>,
    /// Alerts of which anything but the value changed.
    pub(super) alerts: BTreeSet<Labels>,
    /// Changes of states.
    transitions: Vec<StateChange>,
}

impl AlertChanges {
    /// The alerts whose `ALERTS` samples differ from those at the last call.
    pub fn take_series(&mut self) -> BTreeSet<Labels> {
        std::mem::take(&mut self.series)
    }

    /// The changes of states since the last call, in the order in which they happened.
    pub fn take_transitions(&mut self) -> Vec<StateChange> {
        std::mem::take(&mut self.transitions)
    }

    /// Notes that an alert is not known any more.
    pub(super) fn mark_forgotten(&mut self, labels: &Labels) {
        self.series.insert(labels.clone());
        self.alerts.insert(labels.clone());
    }

    /// Reports that the state of `alert` changed from `from` to the one that it has.
    pub(super) fn report(
        &mut self,
        labels: &Labels,
        alert: &Alert,
        from: AlertState,
        at: TimeMs,
        reason: ChangeReason,
    ) {
        self.transitions.push(StateChange {
            at,
            labels: labels.clone(),
            row: alert.row.clone(),
            from,
            to: alert.state,
            reason,
            value: alert.value,
        });
    }

    /// Reports that an alert is over that is not known any more.
    pub(crate) fn report_end(&mut self, labels: &Labels, alert: &Alert, at: TimeMs, reason: ChangeReason) {
        self.transitions.extend(StateChange::end(labels, alert, at, reason));
    }
}
