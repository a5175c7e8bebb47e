//! Views that cannot stand: alerts and subscriptions with subqueries, fixed `@` times, negative
//! offsets, or parameters of windows that are series; in a cluster, recording rules with these,
//! too; and what is recorded of the states of alerts ([`alert_series`]). Other recording rules with
//! these stand: their steps ask the store ([`engine::live`]).
//!
//! Such an expression is asked from history, as Prometheus asks every rule: at the slots of its
//! group if it is recorded, otherwise once a second while somebody listens. Of its subqueries only
//! what is new, or may have changed, is asked for ([`subquery_cache`]). What changed goes out with
//! the events of a standing view, and recorded samples go the same way
//! ([`engine::live::recorder`]). Whatever can stand does: it goes to the live runtime behind
//! [`CompositeViews`]. One view is in [`view`].

mod alert_series;
mod answer_rows;
mod subquery_cache;
mod view;

use crate::limits::SCHEDULED_VIEWS;
use crate::recording::{BackfillStatus, CorrectionListener, RecordedRule, RecordingHistory};
use crate::registry::{ViewRegistry, check_live};
use alert_series::States;
use engine::live::cost::EvaluationCost;
use engine::live::describe::{DescribeError, Description, ViewReport};
use engine::live::{Sink, TapId, ViewError, ViewId, ViewSpec};
use engine::plan::ValueType;
use engine::plan::physical::StoreQueries;
use engine::query::QueryEngine;
use engine::query::QueryOptions;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use storage::clock::Clock;
use storage::execution::Execution;
use storage::metrics::Metrics;
use storage::model::{Matcher, TimeMs};
use storage::store::Store;
use subquery_cache::SharedSubqueryBudget;
use view::ScheduledView;

/// Ids from here on are ours, not the live runtime's.
const FIRST: u64 = 1 << 63;
/// What the names of such ids begin with.
const PREFIX: &str = "scheduled-";

/// The name of an id for people: `7` stands, `scheduled-7` is asked.
pub fn format_view_id(id: ViewId) -> String {
    match id.0.checked_sub(FIRST) {
        Some(number) => format!("{PREFIX}{number}"),
        None => id.0.to_string(),
    }
}

/// The id of a name; `None`: no view can have it.
pub fn parse_view_id(name: &str) -> Option<ViewId> {
    let (digits, first) = name.strip_prefix(PREFIX).map_or((name, 0), |digits| (digits, FIRST));
    let number = digits.parse::<u64>().ok().filter(|number| *number < FIRST)?;
    (digits.bytes().all(|b| b.is_ascii_digit())).then_some(ViewId(first + number))
}

/// The live runtime's views, and those that are asked for.
pub struct CompositeViews {
    live: Arc<dyn ViewRegistry>,
    history: Arc<ScheduledViewServices>,
    subquery_budget: SharedSubqueryBudget,
    past: Option<Arc<RecordingHistory>>,
    /// Whether what is recorded may ask the store in its tick.
    recorded_queries: StoreQueries,
    /// How far the states of alerts are.
    states: Arc<States>,
    next: AtomicU64,
    views: Mutex<HashMap<ViewId, Arc<ScheduledView>>>,
    taps: Mutex<HashMap<TapId, Arc<ScheduledView>>>,
}

/// Whom asked views ask, and where they write.
pub struct ScheduledViewServices {
    /// Who answers.
    pub answers: Arc<dyn QueryEngine>,
    /// Where recorded samples go.
    pub store: Arc<Store>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Limits and settings of each question.
    pub options: QueryOptions,
    /// Who works.
    pub execution: Execution,
}

impl CompositeViews {
    /// In front of `live`.
    pub fn new(
        live: Arc<dyn ViewRegistry>,
        history: ScheduledViewServices,
        metrics: &Metrics,
    ) -> CompositeViews {
        CompositeViews {
            live,
            history: Arc::new(history),
            subquery_budget: SharedSubqueryBudget::new(metrics),
            past: None,
            recorded_queries: StoreQueries::Allowed,
            states: Arc::default(),
            next: AtomicU64::new(FIRST),
            views: Mutex::default(),
            taps: Mutex::default(),
        }
    }

    /// The same, and `recording` computes what rules would have recorded earlier.
    pub fn with_history(mut self, past: Arc<RecordingHistory>) -> CompositeViews {
        self.past = Some(past);
        self
    }

    /// The same in a cluster, where steps of views ask no store: it is not the only one.
    #[must_use]
    pub fn in_cluster(mut self) -> CompositeViews {
        self.recorded_queries = StoreQueries::Refused;
        self
    }

    /// Asks what is to be asked now, where there are no threads.
    pub fn turn(&self) {
        let mut views: Vec<(ViewId, Arc<ScheduledView>)> =
            self.views.lock().iter().map(|(id, view)| (*id, view.clone())).collect();
        views.sort_unstable_by_key(|(id, _)| *id);
        for (_, view) in views.iter() {
            view.turn();
        }
    }

    /// Whether it goes to the live runtime.
    fn is_live(&self, view: &ViewSpec) -> bool {
        let dialect = self.history.options.dialect;
        check_live(view, dialect, self.recorded_queries).is_ok() && !alert_series::records_alert_series(view)
    }

    fn schedule(&self, spec: ViewSpec) -> Result<ViewId, ViewError> {
        if !matches!(spec.plan.kind(), ValueType::Scalar | ValueType::Vector) {
            let reason = "only an instant vector or a scalar can be asked again and again";
            return Err(ViewError::Unsupported(reason.to_owned()));
        }
        let mut views = self.views.lock();
        if views.len() >= SCHEDULED_VIEWS {
            let reason = format!("too many expressions that cannot stand (limit {SCHEDULED_VIEWS})");
            return Err(ViewError::LimitReached(reason));
        }
        let id = ViewId(self.next.fetch_add(1, Relaxed));
        views.insert(
            id,
            ScheduledView::start(
                spec,
                self.history.clone(),
                self.subquery_budget.clone(),
                self.states.clone(),
            )?,
        );
        Ok(id)
    }
}

impl ViewRegistry for CompositeViews {
    fn install(&self, view: ViewSpec) -> Result<ViewId, ViewError> {
        if self.is_live(&view) { self.live.install(view) } else { self.schedule(view) }
    }

    /// A view that stands cannot become one that is asked, nor the other way round.
    fn can_replace(&self, view: ViewId, to: &ViewSpec) -> bool {
        if self.views.lock().contains_key(&view) {
            !self.is_live(to)
        } else {
            self.is_live(to) && self.live.can_replace(view, to)
        }
    }

    fn replace(&self, view: ViewId, to: ViewSpec) -> Result<(), ViewError> {
        let mut views = self.views.lock();
        let Some(old) = views.get(&view).cloned() else {
            drop(views);
            return self.live.replace(view, to);
        };
        let new = ScheduledView::replacing(&old, to, self.states.clone())?;
        for asked in self.taps.lock().values_mut().filter(|asked| Arc::ptr_eq(asked, &old)) {
            *asked = new.clone();
        }
        views.insert(view, new);
        Ok(())
    }

    fn awaits_alert_series(&self) -> bool {
        self.states.is_awaited()
    }

    fn alert_series_written(&self, before: TimeMs) {
        self.states.written(before);
        self.views.lock().values().for_each(|view| view.on_alert_series());
    }

    fn begin_install_batch(&self) {
        self.live.begin_install_batch();
    }

    fn end_install_batch(&self) {
        self.live.end_install_batch();
    }

    fn remove(&self, view: ViewId) {
        match self.views.lock().remove(&view) {
            Some(asked) => {
                self.taps.lock().retain(|_, of| !Arc::ptr_eq(of, &asked));
                asked.end();
            }
            None => self.live.remove(view),
        }
    }

    fn tap(&self, view: ViewId, sink: Box<dyn Sink>) -> TapId {
        let Some(asked) = self.views.lock().get(&view).cloned() else { return self.live.tap(view, sink) };
        let id = TapId(self.next.fetch_add(1, Relaxed));
        asked.tap(id, sink);
        self.taps.lock().insert(id, asked);
        id
    }

    fn untap(&self, tap: TapId) {
        match self.taps.lock().remove(&tap) {
            Some(asked) => asked.untap(tap),
            None => self.live.untap(tap),
        }
    }

    /// Those that stand come first: their ids are smaller.
    fn describe(&self, from: ViewId, limit: usize) -> Result<Description, DescribeError> {
        let mut page = self.live.describe(from, limit)?;
        let asked = self.views.lock();
        page.total += asked.len();
        let mut asked: Vec<_> =
            asked.iter().filter(|(id, _)| **id >= from).map(|(id, view)| (*id, view.clone())).collect();
        asked.sort_unstable_by_key(|(id, _)| *id);
        asked.truncate(limit.saturating_sub(page.views.len()));
        page.views.extend(asked.into_iter().map(|(id, view)| view.describe(id)));
        Ok(page)
    }

    fn set_recorded_rules(&self, rules: Vec<RecordedRule>) {
        let Some(past) = &self.past else { return };
        for (view, sink) in past.set_rules(rules, self.longest_window()) {
            self.tap(view, sink);
        }
    }

    fn past(&self, view: ViewId) -> Option<BackfillStatus> {
        self.past.as_ref()?.backfill_status(view)
    }

    fn on_correction(&self, matchers: Vec<Matcher>, listener: Box<dyn CorrectionListener>) {
        if let Some(past) = &self.past {
            past.on_correction(matchers, listener);
        }
    }

    fn longest_window(&self) -> i64 {
        self.live.longest_window()
    }

    fn read(&self, view: ViewId) -> Result<Option<ViewReport>, DescribeError> {
        if view.0 < FIRST {
            return self.live.read(view);
        }
        let asked = self.views.lock().get(&view).cloned();
        Ok(asked.map(|asked| asked.read(view)))
    }

    fn cost(&self, view: ViewId) -> Option<EvaluationCost> {
        if view.0 < FIRST {
            return self.live.cost(view);
        }
        let asked = self.views.lock().get(&view).cloned();
        asked.and_then(|asked| asked.spent())
    }
}

impl Drop for CompositeViews {
    fn drop(&mut self) {
        self.views.lock().values().for_each(|asked| asked.end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_names() {
        for (id, name) in [(0, "0"), (12, "12"), (FIRST, "scheduled-0"), (FIRST + 12, "scheduled-12")] {
            assert_eq!((format_view_id(ViewId(id)).as_str(), parse_view_id(name)), (name, Some(ViewId(id))));
        }
        for name in [
            "",
            "x",
            "-1",
            "+1",
            "scheduled-",
            "scheduled-x",
            "scheduled-+1",
            "9223372036854775808",
            "scheduled-9223372036854775808",
        ] {
            assert_eq!(parse_view_id(name), None, "{name}");
        }
    }
}
