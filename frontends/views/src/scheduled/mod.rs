//! Views that the live runtime cannot keep current: alerts and subscriptions with subqueries, fixed
//! `@` times, negative offsets, or window parameters that depend on series; in a cluster also
//! recording rules with these; and recording rules that read alert states ([`alert_series`]). Other
//! recording rules with subqueries etc. are views of the live runtime, whose steps query the store
//! ([`engine::live`]).
//!
//! Such a view is evaluated over history, as Prometheus evaluates every rule: at the evaluation
//! times of its group if it is recorded, otherwise once a second while it has consumers. Of its
//! subqueries, only steps that are new or may have changed are evaluated ([`subquery_cache`]).
//! Changes are sent as the events of any view, and recorded samples are written in the same way
//! ([`engine::live::recorder`]). [`CompositeViews`] passes all other views to the live runtime.
//! [`view`] has one scheduled view.

mod alert_series;
mod answer_rows;
mod subquery_cache;
mod view;

use crate::limits::SCHEDULED_VIEWS;
use crate::recording::{BackfillStatus, CorrectionListener, RecordedRule, RecordingHistory};
use crate::registry::{ViewRegistry, check_live};
use alert_series::AlertSeriesProgress;
use engine::live::check::CheckRequest;
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

/// Ids from here on belong to scheduled views, smaller ones to the live runtime.
const FIRST: u64 = 1 << 63;
/// Prefix of the names of such ids.
const PREFIX: &str = "scheduled-";

/// The name of an id: `7` for a view of the live runtime, `scheduled-7` for a scheduled one.
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

/// The views of the live runtime and the scheduled ones.
pub struct CompositeViews {
    live: Arc<dyn ViewRegistry>,
    history: Arc<ScheduledViewServices>,
    subquery_budget: SharedSubqueryBudget,
    past: Option<Arc<RecordingHistory>>,
    /// Whether steps of recorded views may query the store in their tick.
    recorded_queries: StoreQueries,
    /// How far `ALERTS` samples are written.
    states: Arc<AlertSeriesProgress>,
    next: AtomicU64,
    views: Mutex<HashMap<ViewId, Arc<ScheduledView>>>,
    taps: Mutex<HashMap<TapId, Arc<ScheduledView>>>,
}

/// What scheduled views use.
pub struct ScheduledViewServices {
    /// Evaluates queries.
    pub answers: Arc<dyn QueryEngine>,
    /// The store for recorded samples.
    pub store: Arc<Store>,
    /// Says when an evaluation is due.
    pub clock: Arc<dyn Clock>,
    /// Limits and options of each query.
    pub options: QueryOptions,
    /// Whether threads do the work, or the caller in a simulation.
    pub execution: Execution,
}

impl CompositeViews {
    /// A registry that adds scheduled views to `live`.
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

    /// Uses `past` for backfill and corrections.
    pub fn with_history(mut self, past: Arc<RecordingHistory>) -> CompositeViews {
        self.past = Some(past);
        self
    }

    /// For a cluster, where steps of views cannot query the store: it has not all samples.
    #[must_use]
    pub fn in_cluster(mut self) -> CompositeViews {
        self.recorded_queries = StoreQueries::Refused;
        self
    }

    /// Evaluates what is due now, if there are no threads.
    pub fn turn(&self) {
        let mut views: Vec<(ViewId, Arc<ScheduledView>)> =
            self.views.lock().iter().map(|(id, view)| (*id, view.clone())).collect();
        // In the order of installation, so that a simulation with one seed always does the same.
        views.sort_unstable_by_key(|(id, _)| *id);
        for (_, view) in views.iter() {
            view.turn();
        }
    }

    /// Whether a view belongs to the live runtime.
    fn is_live(&self, view: &ViewSpec) -> bool {
        let dialect = self.history.options.dialect;
        // A view that records what it reads of `ALERTS` must wait for those samples, and no tick
        // may wait.
        check_live(view, dialect, self.recorded_queries).is_ok() && !alert_series::records_alert_series(view)
    }

    fn schedule(&self, spec: ViewSpec) -> Result<ViewId, ViewError> {
        if !matches!(spec.plan.kind(), ValueType::Scalar | ValueType::Vector) {
            let reason = "only an instant vector or a scalar can be asked again and again";
            return Err(ViewError::Unsupported(reason.to_owned()));
        }
        let mut views = self.views.lock();
        // Under the lock, so that two installations at once cannot both take the last place.
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

    fn install_scheduled(&self, view: ViewSpec) -> Result<ViewId, ViewError> {
        self.schedule(view)
    }

    /// A view of the live runtime cannot become a scheduled one, nor the other way round.
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
        // The taps have moved to the new view; whoever removes one must reach it there.
        for scheduled in self.taps.lock().values_mut().filter(|scheduled| Arc::ptr_eq(scheduled, &old)) {
            *scheduled = new.clone();
        }
        views.insert(view, new);
        Ok(())
    }

    fn awaits_alert_series(&self) -> bool {
        self.states.is_awaited()
    }

    fn alert_series_written(&self, before: TimeMs) {
        self.states.written(before);
        for view in self.views.lock().values() {
            view.on_alert_series();
        }
    }

    fn begin_install_batch(&self) {
        self.live.begin_install_batch();
    }

    fn end_install_batch(&self) {
        self.live.end_install_batch();
    }

    fn remove(&self, view: ViewId) {
        match self.views.lock().remove(&view) {
            Some(scheduled) => {
                self.taps.lock().retain(|_, of| !Arc::ptr_eq(of, &scheduled));
                scheduled.end();
            }
            None => self.live.remove(view),
        }
    }

    fn tap(&self, view: ViewId, sink: Box<dyn Sink>) -> TapId {
        let Some(scheduled) = self.views.lock().get(&view).cloned() else { return self.live.tap(view, sink) };
        let id = TapId(self.next.fetch_add(1, Relaxed));
        scheduled.tap(id, sink);
        self.taps.lock().insert(id, scheduled);
        id
    }

    fn untap(&self, tap: TapId) {
        match self.taps.lock().remove(&tap) {
            Some(scheduled) => scheduled.untap(tap),
            None => self.live.untap(tap),
        }
    }

    /// Views of the live runtime come first, because their ids are smaller.
    fn describe(&self, from: ViewId, limit: usize) -> Result<Description, DescribeError> {
        let mut page = self.live.describe(from, limit)?;
        let scheduled = self.views.lock();
        page.total += scheduled.len();
        let mut scheduled: Vec<_> =
            scheduled.iter().filter(|(id, _)| **id >= from).map(|(id, view)| (*id, view.clone())).collect();
        scheduled.sort_unstable_by_key(|(id, _)| *id);
        // What is left of the page after the live views.
        scheduled.truncate(limit.saturating_sub(page.views.len()));
        page.views.extend(scheduled.into_iter().map(|(id, view)| view.describe(id)));
        Ok(page)
    }

    fn set_recorded_rules(&self, rules: Vec<RecordedRule>) {
        let Some(past) = &self.past else { return };
        // Through this registry, because the view may be a scheduled one.
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
        let scheduled = self.views.lock().get(&view).cloned();
        Ok(scheduled.map(|scheduled| scheduled.read(view)))
    }

    fn read_for_check(&self, view: ViewId, check: CheckRequest) -> Result<Option<ViewReport>, DescribeError> {
        if view.0 < FIRST { self.live.read_for_check(view, check) } else { self.read(view) }
    }

    fn cost(&self, view: ViewId) -> Option<EvaluationCost> {
        if view.0 < FIRST {
            return self.live.cost(view);
        }
        let scheduled = self.views.lock().get(&view).cloned();
        scheduled.and_then(|scheduled| scheduled.spent())
    }
}

impl Drop for CompositeViews {
    fn drop(&mut self) {
        for view in self.views.lock().values() {
            view.end();
        }
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
