//! [`ViewRegistry`]: the trait through which rules and subscriptions use views (queries whose
//! results are kept up to date), so that tests can pass fakes. The implementation is the live
//! runtime, [`LiveRuntime`], with scheduled views beside it ([`crate::scheduled`]).

use crate::limits::DESCRIBE_TIMEOUT;
use crate::recording::{BackfillStatus, CorrectionListener, RecordedRule};
use engine::live::check::CheckRequest;
use engine::live::cost::EvaluationCost;
use engine::live::describe::{DescribeError, Description, ViewReport};
use engine::live::{LiveRuntime, Sink, TapId, ViewError, ViewId, ViewKind, ViewSpec, check};
use engine::plan::Dialect;
use engine::plan::physical::StoreQueries;
use storage::model::{Matcher, TimeMs};

/// Whether a plan can be a view of the live runtime; the error says why not. `queries`: whether
/// steps of recorded views may query the store in their tick. Those of continuous views may not,
/// because that would cost a query per tick.
pub fn check_live(view: &ViewSpec, dialect: Dialect, queries: StoreQueries) -> Result<(), ViewError> {
    let queries = match view.kind {
        ViewKind::Recorded { .. } => queries,
        ViewKind::Continuous { .. } => StoreQueries::Refused,
    };
    check(view, dialect, queries)
}

/// Installs views, and gives access to their answers.
///
/// # Contract
/// 1. After an error of `install` or `replace` nothing has changed.
/// 2. Ids of views and taps are never used again, so a late call for a removed one does nothing.
/// 3. A sink gets a snapshot of the whole answer first and then every change, in order. If it
///    refuses an event, it gets nothing more and must be attached again.
/// 4. `remove` and `untap` return before the sink has got its last event; it may still get some.
/// 5. Only methods that say so block; all others may be called from the rules thread.
pub trait ViewRegistry: Send + Sync {
    /// Installs a view.
    fn install(&self, view: ViewSpec) -> Result<ViewId, ViewError>;
    /// Installs a view that is evaluated from history again and again, whether or not it could be
    /// kept current.
    fn install_scheduled(&self, view: ViewSpec) -> Result<ViewId, ViewError> {
        self.install(view)
    }
    /// Whether the plan of a view can be replaced, so that the old plan is evaluated until the new
    /// one is ready.
    fn can_replace(&self, view: ViewId, to: &ViewSpec) -> bool {
        let _ = (view, to);
        false
    }
    /// Replaces the plan of a view.
    fn replace(&self, view: ViewId, to: ViewSpec) -> Result<(), ViewError> {
        let _ = (view, to);
        Err(ViewError::Unsupported("this view cannot change".to_owned()))
    }
    /// Whether a view waits for `ALERTS` samples of evaluation times that are not written yet.
    fn awaits_alert_series(&self) -> bool {
        false
    }
    /// The `ALERTS` samples of all evaluation times before `before` are written.
    fn alert_series_written(&self, before: TimeMs) {
        let _ = before;
    }
    /// What is installed until [`ViewRegistry::end_install_batch`] begins in the same tick.
    fn begin_install_batch(&self) {}
    /// Ends what [`ViewRegistry::begin_install_batch`] began.
    fn end_install_batch(&self) {}
    /// Removes a view and its taps.
    fn remove(&self, view: ViewId);
    /// Attaches a consumer: it gets a snapshot first, then changes.
    fn tap(&self, view: ViewId, sink: Box<dyn Sink>) -> TapId;
    /// Detaches a consumer.
    fn untap(&self, tap: TapId);
    /// Describes up to `limit` views, from `from` on in the order of their ids. Blocks. By default
    /// there are none.
    fn describe(&self, from: ViewId, limit: usize) -> Result<Description, DescribeError> {
        let _ = (from, limit);
        Ok(Description::default())
    }
    /// Sets the recorded views; some have a history to compute, or samples to correct.
    fn set_recorded_rules(&self, rules: Vec<RecordedRule>) {
        drop(rules);
    }
    /// The progress of a view's backfill; `None`: it has none.
    fn past(&self, view: ViewId) -> Option<BackfillStatus> {
        let _ = view;
        None
    }
    /// From now on `listener` receives corrected samples of recorded series that match all
    /// matchers.
    fn on_correction(&self, matchers: Vec<Matcher>, listener: Box<dyn CorrectionListener>) {
        drop((matchers, listener));
    }
    /// How far back any view reads, in ms.
    fn longest_window(&self) -> i64 {
        0
    }
    /// Describes one view, with the rows of its answer; `None`: it does not exist. Blocks.
    fn read(&self, view: ViewId) -> Result<Option<ViewReport>, DescribeError> {
        let found = self.describe(view, 1)?.views.into_iter();
        Ok(found.filter(|report| report.id == view).last())
    }
    /// As [`ViewRegistry::read`]; a live view is evaluated in the tick, and its answer has what a
    /// check of it wants.
    fn read_for_check(&self, view: ViewId, check: CheckRequest) -> Result<Option<ViewReport>, DescribeError> {
        drop(check);
        self.read(view)
    }
    /// The cost and number of the evaluations of a view; `None`: not known.
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
    fn read_for_check(&self, view: ViewId, check: CheckRequest) -> Result<Option<ViewReport>, DescribeError> {
        LiveRuntime::read_for_check(self, view, check, DESCRIBE_TIMEOUT)
    }
    fn cost(&self, view: ViewId) -> Option<EvaluationCost> {
        LiveRuntime::spent(self, view)
    }
}
