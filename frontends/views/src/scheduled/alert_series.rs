//! Recorded views that read alert states: `record: firing, expr:
//! count(ALERTS{alertstate="firing"})`.
//!
//! The `ALERTS` samples of an evaluation time are written right after the tick that evaluates it. A
//! view of the live runtime would see them only at its next evaluation time, but Prometheus shows
//! them to the rules after the alert in the same evaluation. So such a view is evaluated as soon as
//! all groups have written the samples of its evaluation time, or after a timeout. Alerts and
//! subscriptions are views of the live runtime: they are evaluated again when the samples arrive.

use crate::alert_series::reads_alert_series;
use engine::live::{ViewKind, ViewSpec};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use storage::model::TimeMs;

/// Whether `view` records something that depends on alert states.
pub(super) fn records_alert_series(view: &ViewSpec) -> bool {
    matches!(view.kind, ViewKind::Recorded { .. }) && reads_alert_series(&view.plan)
}

/// How far `ALERTS` samples are written.
#[derive(Default)]
pub(super) struct AlertSeriesProgress {
    /// Those of all evaluation times before this are written.
    before: AtomicI64,
    /// A view waits for more.
    awaited: AtomicBool,
}

impl AlertSeriesProgress {
    /// Whether the samples of `evaluation_time` are written. If not, a view waits for them.
    pub(super) fn has(&self, evaluation_time: TimeMs) -> bool {
        let has = evaluation_time < self.before.load(SeqCst);
        if !has {
            self.awaited.store(true, SeqCst);
        }
        has
    }

    /// The samples of all evaluation times before `before` are written.
    pub(super) fn written(&self, before: TimeMs) {
        self.before.store(before, SeqCst);
        self.awaited.store(false, SeqCst);
    }

    /// Whether a view waits for more.
    pub(super) fn is_awaited(&self) -> bool {
        self.awaited.load(SeqCst)
    }
}
