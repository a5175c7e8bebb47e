//! What is recorded of the states of alerts: `record: firing, expr: count(ALERTS{alertstate="firing"})`.
//!
//! The states of a slot are written right after the tick that looked at it ([`crate::rules`]). A rule that stands would
//! see them in its next slot only, where Prometheus shows them to the rules behind the alert in the same evaluation. So
//! such a rule is asked, a moment after its slot. Alerts and subscriptions stand: they are answered again when the states come.

use crate::rules::state_selectors;
use engine::live::{ViewKind, ViewSpec};

/// Whether `view` records something that depends on the states of alerts.
pub fn recorded_of(view: &ViewSpec) -> bool {
    matches!(view.kind, ViewKind::Recorded { .. }) && state_selectors::reads(&view.plan)
}
