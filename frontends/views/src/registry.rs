//! Standing plans, as rules and subscriptions use them: a trait, so that tests can put fakes behind it.
//!
//! The real thing is the live runtime, [`LiveRuntime`].

use crate::limits::DESCRIBE_TIMEOUT;
use crate::recording::{BackfillStatus, CorrectionListener, RecordedRule};
use engine::live::cost::EvaluationCost;
use engine::live::describe::{DescribeError, Description, ViewReport};
use engine::live::{LiveRuntime, Sink, TapId, ViewError, ViewId, ViewKind, ViewSpec, check};
use engine::plan::Dialect;
use engine::plan::physical::StoreQueries;
use storage::model::{Matcher, TimeMs};

/// Whether a view can stand; the error says why not. `queries`: whether what is recorded may ask
/// the store in its tick. What is answered at every tick may not: that would cost a query each
/// time.
pub fn check_live(view: &ViewSpec, dialect: Dialect, queries: StoreQueries) -> Result<(), ViewError> {
    let queries = match view.kind {
        ViewKind::Recorded { .. } => queries,
        ViewKind::Continuous { .. } => StoreQueries::Refused,
    };
    check(view, dialect, queries)
}

/// Who keeps plans standing.
pub trait ViewRegistry: Send + Sync {
    /// Installs a view.
    fn install(&self, view: ViewSpec) -> Result<ViewId, ViewError>;
    /// Whether a view that stands can be asked another question, so that it answers the one until
    /// it can answer the other.
    fn can_replace(&self, view: ViewId, to: &ViewSpec) -> bool {
        let _ = (view, to);
        false
    }
    /// Does so.
    fn replace(&self, view: ViewId, to: ViewSpec) -> Result<(), ViewError> {
        let _ = (view, to);
        Err(ViewError::Unsupported("this view cannot change".to_owned()))
    }
    /// Whether a view waits for the states of alerts in slots that are not written yet.
    fn awaits_alert_series(&self) -> bool {
        false
    }
    /// The states of alerts in all slots before `before` are written.
    fn alert_series_written(&self, before: TimeMs) {
        let _ = before;
    }
    /// What comes until [`ViewRegistry::end_install_batch`] belongs together: views that are
    /// installed begin together.
    fn begin_install_batch(&self) {}
    /// See [`ViewRegistry::begin_install_batch`].
    fn end_install_batch(&self) {}
    /// Removes a view and its taps.
    fn remove(&self, view: ViewId);
    /// Attaches a consumer: a snapshot first, then changes.
    fn tap(&self, view: ViewId, sink: Box<dyn Sink>) -> TapId;
    /// Detaches a consumer.
    fn untap(&self, tap: TapId);
    /// What up to `limit` views, from `from` on in the order of their ids, say of themselves.
    /// Blocks. Fakes that nobody asks have no view to show.
    fn describe(&self, from: ViewId, limit: usize) -> Result<Description, DescribeError> {
        let _ = (from, limit);
        Ok(Description::default())
    }
    /// These are the recorded views; some have a past to be computed, or samples to be corrected.
    fn set_recorded_rules(&self, rules: Vec<RecordedRule>) {
        drop(rules);
    }
    /// How far the past of a view is; `None`: it has none.
    fn past(&self, view: ViewId) -> Option<BackfillStatus> {
        let _ = view;
        None
    }
    /// From now on `listener` hears of recorded samples that are corrected, of series that satisfy
    /// all matchers.
    fn on_correction(&self, matchers: Vec<Matcher>, listener: Box<dyn CorrectionListener>) {
        drop((matchers, listener));
    }
    /// How far back any view looks, ms.
    fn longest_window(&self) -> i64 {
        0
    }
    /// What one view says of itself, with the rows of its answer; `None`: there is no such view. Blocks.
    fn read(&self, view: ViewId) -> Result<Option<ViewReport>, DescribeError> {
        let found = self.describe(view, 1)?.views.into_iter();
        Ok(found.filter(|report| report.id == view).last())
    }
    /// What the evaluations of a view took, and how many there were; `None`: that is not known.
    fn cost(&self, view: ViewId) -> Option<EvaluationCost> {
        let _ = view;
        None
    }
}

impl ViewRegistry for LiveRuntime {
    fn install(&self, view: ViewSpec) -> Result<ViewId, ViewError> {
        LiveRuntime::install(self, view)
    }
    fn can_replace(&self, _: ViewId, to: &ViewSpec) -> bool {
        LiveRuntime::check(self, to).is_ok()
    }
    fn replace(&self, view: ViewId, to: ViewSpec) -> Result<(), ViewError> {
        LiveRuntime::change(self, view, to)
    }
    fn begin_install_batch(&self) {
        LiveRuntime::hold(self);
    }
    fn end_install_batch(&self) {
        LiveRuntime::release(self);
    }
    fn remove(&self, view: ViewId) {
        LiveRuntime::remove(self, view);
    }
    fn tap(&self, view: ViewId, sink: Box<dyn Sink>) -> TapId {
        LiveRuntime::tap(self, view, sink)
    }
    fn untap(&self, tap: TapId) {
        LiveRuntime::untap(self, tap);
    }
    fn describe(&self, from: ViewId, limit: usize) -> Result<Description, DescribeError> {
        LiveRuntime::describe(self, from, limit, DESCRIBE_TIMEOUT)
    }
    fn longest_window(&self) -> i64 {
        LiveRuntime::reach(self)
    }
    fn read(&self, view: ViewId) -> Result<Option<ViewReport>, DescribeError> {
        LiveRuntime::read(self, view, DESCRIBE_TIMEOUT)
    }
    fn cost(&self, view: ViewId) -> Option<EvaluationCost> {
        LiveRuntime::spent(self, view)
    }
}
