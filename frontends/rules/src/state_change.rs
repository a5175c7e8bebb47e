//! A change of the state of an alert (pending, firing, resolved), as the state machine
//! ([`super::alert_states`]) reports it. [`super::alert_history`] keeps them.

use super::alert::{Alert, AlertState};
use serde::{Deserialize, Serialize};
use storage::model::{Labels, TimeMs};

/// Why the state of an alert changed.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangeReason {
    /// The condition began to hold.
    Row,
    /// The condition does not hold any more.
    RowGone,
    /// `for` has passed.
    For,
    /// `keep_firing_for` has passed.
    KeepFiringFor,
    /// The rule has more alerts than its limit: it has none then.
    Error,
    /// The rule was changed or removed.
    Reload,
    /// The server was started again: the row did not come back, or the outage was too long.
    Restart,
}

impl ChangeReason {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            ChangeReason::Row => "row",
            ChangeReason::RowGone => "row_gone",
            ChangeReason::For => "for",
            ChangeReason::KeepFiringFor => "keep_firing",
            ChangeReason::Error => "error",
            ChangeReason::Reload => "reload",
            ChangeReason::Restart => "restart",
        }
    }

    /// Whether samples that came at that time are the cause.
    pub fn has_cause(self) -> bool {
        matches!(self, ChangeReason::Row | ChangeReason::RowGone)
    }
}

/// A change of the state of one alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StateChange {
    /// When it changed.
    pub at: TimeMs,
    /// The labels of the alert.
    pub labels: Labels,
    /// The row of the condition.
    pub row: Labels,
    /// The state before.
    pub from: AlertState,
    /// The state since.
    pub to: AlertState,
    /// Why.
    pub reason: ChangeReason,
    /// The latest value of the row.
    pub value: f64,
}

impl StateChange {
    /// The end of an alert at `at`; `None`: it had ended before.
    pub fn end(labels: &Labels, alert: &Alert, at: TimeMs, reason: ChangeReason) -> Option<StateChange> {
        (alert.state != AlertState::Inactive).then(|| StateChange {
            at,
            labels: labels.clone(),
            row: alert.row.clone(),
            from: alert.state,
            to: AlertState::Inactive,
            reason,
            value: alert.value,
        })
    }
}
