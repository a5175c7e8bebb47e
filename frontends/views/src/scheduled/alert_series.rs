//! What is recorded of the states of alerts: `record: firing, expr: count(ALERTS{alertstate="firing"})`.
//!
//! The states of a slot are written right after the tick that looked at it. A
//! rule that stands would see them in its next slot only, where Prometheus shows them to the rules
//! behind the alert in the same evaluation. So such a rule is asked as soon as all groups have
//! written the states of its slot, or when they do not for too long. Alerts and subscriptions
//! stand: they are answered again when the states come.

use crate::alert_series::reads_alert_series;
use engine::live::{ViewKind, ViewSpec};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use storage::model::TimeMs;

/// Whether `view` records something that depends on the states of alerts.
pub fn records_alert_series(view: &ViewSpec) -> bool {
    matches!(view.kind, ViewKind::Recorded { .. }) && reads_alert_series(&view.plan)
}

/// How far the states of alerts are.
#[derive(Default)]
pub struct States {
    /// Those of all slots before it are written.
    before: AtomicI64,
    /// A view waits for more.
    awaited: AtomicBool,
}

impl States {
    /// Whether those of `slot` are written; if not, it is wanted.
    pub fn has(&self, slot: TimeMs) -> bool {
        let has = slot < self.before.load(SeqCst);
        if !has {
            self.awaited.store(true, SeqCst);
        }
        has
    }

    /// Those of all slots before `before` are written.
    pub fn written(&self, before: TimeMs) {
        self.before.store(before, SeqCst);
        self.awaited.store(false, SeqCst);
    }

    /// Whether a view waits for more.
    pub fn is_awaited(&self) -> bool {
        self.awaited.load(SeqCst)
    }
}
