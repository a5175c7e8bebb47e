//! One scheduled view, which is a view that is evaluated from history again and again: a thread
//! that sleeps until the next evaluation time, evaluates the plan, records the answer and sends it
//! to the consumers. In simulations there is no thread, and the caller makes each turn. The rows of
//! its subqueries are cached in [`engine::query::SubqueryCache`].

use super::alert_series::{self, AlertSeriesProgress};
use super::answer_rows::AnswerRows;
use super::{ScheduledViewServices, SharedSubqueryBudget};
use crate::limits::{
    ALERT_SERIES_PATIENCE, CLOCK_BACK, CONTINUOUS_INTERVAL_MS, EVALUATION_DELAY_MS, LONGEST_SLEEP_MS,
};
use engine::annotations::Annotation;
use engine::live::cost::EvaluationCost;
use engine::live::describe::{AnswerContent, EvaluationHistory, ViewReport};
use engine::live::recorder::{RecordError, Recorder};
use engine::live::taps::Taps;
use engine::live::{LabelledSample, Sink, TapId, ViewError, ViewId, ViewKind, ViewSpec};
use engine::query::{
    AnswerMemory, QueryError, QueryValue, StandingAnswer, StandingTimes, SubqueryCache, SubqueryCacheReport,
    VectorSample,
};
use engine::types::histogram_column::Sample;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::execution::Execution;
use storage::model::{Labels, TimeMs};
use storage::store::FeedDelivery;

/// A scheduled view.
pub(super) struct ScheduledView {
    /// The plan, and how it is evaluated.
    spec: ViewSpec,
    /// The progress of `ALERTS` samples, if it records something that reads them.
    states: Option<Arc<AlertSeriesProgress>>,
    /// What scheduled views use.
    history: Arc<ScheduledViewServices>,
    /// Bounds the cached answers of subqueries.
    subquery_budget: SharedSubqueryBudget,
    /// The answer and its consumers.
    state: Mutex<ScheduledViewState>,
    /// The progress, if there is no thread.
    progress: Mutex<EvaluationProgress>,
    /// Wakes the thread.
    wakeup: Condvar,
}

/// The progress of evaluations.
struct EvaluationProgress {
    /// The latest time that was evaluated.
    last: TimeMs,
    subquery_cache: SubqueryCache,
    /// The answer, if the engine keeps it current.
    standing: Option<Box<dyn StandingAnswer>>,
}

/// What must be done now.
enum ScheduledWork {
    /// Evaluate at this time.
    Ask(TimeMs),
    /// Nothing for this many ms.
    Nothing(i64),
    /// The view has ended.
    Ended,
}

#[derive(Default)]
struct ScheduledViewState {
    taps: Taps,
    rows: AnswerRows,
    recorder: Option<Recorder>,
    past: EvaluationHistory,
    /// The annotations of the latest answer.
    annotations: Vec<Annotation>,
    /// The memory that the latest answer takes from the pool.
    memory: AnswerMemory,
    spent: Option<EvaluationCost>,
    cache_report: SubqueryCacheReport,
    /// A tap was added: it must get its snapshot now.
    snapshot_requested: bool,
    stopped: bool,
}

impl ScheduledView {
    /// Starts the thread of a view.
    pub(super) fn start(
        spec: ViewSpec,
        history: Arc<ScheduledViewServices>,
        subquery_budget: SharedSubqueryBudget,
        states: Arc<AlertSeriesProgress>,
    ) -> Result<Arc<ScheduledView>, ViewError> {
        let recorder = Recorder::new(&spec.name, &spec.kind, FeedDelivery::Feed);
        ScheduledView::spawn(
            spec,
            history,
            subquery_budget,
            states,
            ScheduledViewState { recorder, ..ScheduledViewState::default() },
        )
    }

    /// Ends `old`, and starts a view that takes over its consumers, and its series if they are the
    /// same.
    pub(super) fn replacing(
        old: &ScheduledView,
        spec: ViewSpec,
        states: Arc<AlertSeriesProgress>,
    ) -> Result<Arc<ScheduledView>, ViewError> {
        let mut state = old.state.lock();
        state.stopped = true;
        let mut taps = std::mem::take(&mut state.taps);
        let mut recorder = state.recorder.take();
        drop(state);
        old.wakeup.notify_all();
        taps.restart();
        // Other series: the old ones end with stale markers, as if the view had been removed.
        if !recorder.as_mut().is_some_and(|recorder| recorder.continue_as(&spec.kind)) {
            let next = Recorder::new(&spec.name, &spec.kind, FeedDelivery::Feed);
            let before = std::mem::replace(&mut recorder, next);
            before.map(|mut before| before.end(old.history.clock.now(), &old.history.store));
        }
        let state = ScheduledViewState { taps, recorder, ..ScheduledViewState::default() };
        ScheduledView::spawn(spec, old.history.clone(), old.subquery_budget.clone(), states, state)
    }

    fn spawn(
        spec: ViewSpec,
        history: Arc<ScheduledViewServices>,
        subquery_budget: SharedSubqueryBudget,
        states: Arc<AlertSeriesProgress>,
        state: ScheduledViewState,
    ) -> Result<Arc<ScheduledView>, ViewError> {
        // Only such views wait for `ALERTS`; the others would be delayed for nothing.
        let states = alert_series::records_alert_series(&spec).then_some(states);
        let times = match spec.kind {
            ViewKind::Continuous { query_offset: 0 } => StandingTimes::Present,
            ViewKind::Continuous { .. } | ViewKind::Recorded { .. } => StandingTimes::Evaluations,
        };
        let standing = history.answers.standing(&spec.plan, times).map_err(|e| match e {
            QueryError::LimitReached(why) => ViewError::LimitReached(why),
            other => ViewError::Unsupported(other.to_string()),
        })?;
        let progress = EvaluationProgress {
            last: history.clock.now(),
            subquery_cache: SubqueryCache::new(subquery_budget.budget.clone()),
            standing,
        };
        let state = Mutex::new(state);
        let progress = Mutex::new(progress);
        let view = Arc::new(ScheduledView {
            spec,
            states,
            history,
            subquery_budget,
            state,
            progress,
            wakeup: Condvar::new(),
        });
        // A thread each: an evaluation may take minutes, and must not delay those of other views.
        if view.history.execution == Execution::Threads {
            let view = view.clone();
            let thread =
                std::thread::Builder::new().name("scheduled-view".to_owned()).spawn(move || view.run());
            thread.map_err(|e| ViewError::Unavailable(e.to_string()))?;
        }
        Ok(view)
    }

    /// Ends the thread and the recorded series.
    pub(super) fn end(&self) {
        self.state.lock().stopped = true;
        self.wakeup.notify_all();
        if self.history.execution == Execution::Caller {
            self.end_recorded();
        }
    }

    /// Adds a consumer.
    pub(super) fn tap(&self, id: TapId, sink: Box<dyn Sink>) {
        let mut state = self.state.lock();
        state.taps.add(id, sink);
        state.snapshot_requested = true;
        self.wakeup.notify_all();
    }

    /// Removes a consumer.
    pub(super) fn untap(&self, id: TapId) {
        self.state.lock().taps.remove(id);
    }

    /// A report on the view, under the id `id`.
    pub(super) fn describe(&self, id: ViewId) -> ViewReport {
        let state = self.state.lock();
        let answer = state.past.report(state.taps.len(), state.rows.output().present().count());
        // Plans without subqueries have a cache that stays empty; it is not shown.
        let subquery_cache = Some(state.cache_report).filter(|cache| cache.steps > 0);
        ViewReport { id, spec: self.spec.clone(), answer, work: None, subquery_cache }
    }

    /// A report with the rows of its latest answer.
    pub(super) fn read(&self, id: ViewId) -> ViewReport {
        let mut report = self.describe(id);
        let state = self.state.lock();
        // Before the first answer there is no content, not an empty one.
        let content =
            || AnswerContent { rows: state.rows.output().rows(), annotations: state.annotations.clone() };
        report.answer.content = report.answer.changed.map(|_| content());
        report
    }

    /// The cost of its evaluations.
    pub(super) fn spent(&self) -> Option<EvaluationCost> {
        self.state.lock().spent
    }

    fn run(&self) {
        let mut progress = self.progress.lock();
        while let Some(t) = self.next_evaluation(&mut progress) {
            self.evaluate(t, &mut progress);
        }
        self.end_recorded();
    }

    /// Evaluates the plan if it is due, if there is no thread.
    pub(super) fn turn(&self) {
        let mut progress = self.progress.lock();
        let due = self.due(&mut self.state.lock(), &mut progress);
        if let ScheduledWork::Ask(t) = due {
            self.evaluate(t, &mut progress);
        }
    }

    fn end_recorded(&self) {
        let mut state = self.state.lock();
        let now = self.history.clock.now();
        if let Some(recorder) = &mut state.recorder {
            recorder.end(now, &self.history.store);
        }
    }

    /// Sleeps until the next evaluation time; `None`: the view has ended.
    fn next_evaluation(&self, progress: &mut EvaluationProgress) -> Option<TimeMs> {
        let mut state = self.state.lock();
        loop {
            match self.due(&mut state, progress) {
                ScheduledWork::Ask(t) => return Some(t),
                ScheduledWork::Ended => return None,
                ScheduledWork::Nothing(ms) => {
                    // Not the whole time: the clock may be set, and a sleep does not notice it.
                    let sleep = ms.clamp(1, LONGEST_SLEEP_MS);
                    self.wakeup.wait_for(&mut state, Duration::from_millis(sleep as u64));
                }
            }
        }
    }

    fn due(&self, state: &mut ScheduledViewState, progress: &mut EvaluationProgress) -> ScheduledWork {
        if state.stopped {
            return ScheduledWork::Ended;
        }
        let now = self.history.clock.now();
        if now < progress.last - CLOCK_BACK {
            // The clock was set back: evaluations continue in the new time.
            progress.last = now;
        }
        let last = progress.last;
        match self.spec.kind {
            ViewKind::Recorded { interval, offset, .. } => {
                // The delay of the evaluation time that has just come; with it another one may be
                // the latest.
                let delay = self.delay(latest(now, interval, offset));
                let evaluation_time = latest(now - delay, interval, offset);
                if evaluation_time > last {
                    ScheduledWork::Ask(evaluation_time)
                } else {
                    ScheduledWork::Nothing(evaluation_time + interval.max(1) + delay - now)
                }
            }
            // Nobody would see the answer.
            ViewKind::Continuous { .. } if state.taps.is_empty() => {
                ScheduledWork::Nothing(CONTINUOUS_INTERVAL_MS)
            }
            ViewKind::Continuous { .. }
                if now >= last + CONTINUOUS_INTERVAL_MS || (state.snapshot_requested && now > last) =>
            {
                state.snapshot_requested = false;
                ScheduledWork::Ask(now)
            }
            ViewKind::Continuous { .. } => ScheduledWork::Nothing(last + CONTINUOUS_INTERVAL_MS - now),
        }
    }

    /// How long after `evaluation_time` the plan is evaluated, in ms: not before the live runtime
    /// has recorded its answers for that time, or the `ALERTS` samples are written.
    fn delay(&self, evaluation_time: TimeMs) -> i64 {
        match &self.states {
            Some(states) if states.has(evaluation_time) => 0,
            Some(_) => ALERT_SERIES_PATIENCE,
            None => EVALUATION_DELAY_MS,
        }
    }

    /// More `ALERTS` samples are written.
    pub(super) fn on_alert_series(&self) {
        if self.states.is_some() {
            // Under the lock, so that a thread that has checked but does not sleep yet is not
            // missed.
            drop(self.state.lock());
            self.wakeup.notify_all();
        }
    }

    fn evaluate(&self, t: TimeMs, progress: &mut EvaluationProgress) {
        progress.last = t;
        let query_offset = match self.spec.kind {
            ViewKind::Recorded { query_offset, .. } | ViewKind::Continuous { query_offset } => query_offset,
        };
        let began = Instant::now();
        let answered = self.answer(t - query_offset, progress);
        let took = began.elapsed().as_secs_f64();
        let cache = progress.subquery_cache.report();
        let mut state = self.state.lock();
        if state.stopped {
            // The view has ended, and another one may continue its series.
            return;
        }
        let state = &mut *state;
        self.subquery_budget.count(state.cache_report, cache);
        state.cache_report = cache;
        let before = state.spent.unwrap_or_default();
        let total = before.total + took;
        let mut spent =
            EvaluationCost { t, latest: took, total, evaluations: before.evaluations + 1, ..before };
        let mut annotations = Vec::new();
        // An answer that is that of before keeps its rows.
        if !matches!(answered, Ok(None)) && state.rows.has_many_dead_rows() {
            // Rows get new numbers; recorded series keep their columns, unless they have ended.
            state.rows = AnswerRows::default();
            if let Some(recorder) = &mut state.recorder {
                recorder.continue_as(&self.spec.kind);
            }
            state.taps.restart();
        }
        let mut outcome = answered.map(|answer| match answer {
            Some(answer) => {
                state.rows.replace(answer.rows);
                state.memory = answer.memory;
                annotations = answer.annotations;
            }
            None => annotations.clone_from(&state.annotations),
        });
        if let (Ok(()), Some(recorder)) = (&outcome, &mut state.recorder) {
            // The change feed receives the samples.
            let recorded = recorder.record(t, state.rows.output(), &self.history.store, &mut Vec::new());
            outcome = recorded.map_err(EvaluationError::from);
        }
        let error = outcome.err().map(|error| error.to_string());
        match &error {
            None => {
                spent.samples = state.recorder.as_ref().map_or(0, Recorder::samples);
                state.past.answered(t, state.rows.output().version);
            }
            Some(error) => {
                tracing::debug!(target: "views", view = self.spec.name, error, "the evaluation of a scheduled view failed");
                spent.samples = 0;
                spent.failures += 1;
                state.past.failed(t, error.clone());
            }
        }
        state.spent = Some(spent);
        state.annotations.clone_from(&annotations);
        state.taps.send(t, state.rows.output(), annotations, error.as_ref());
    }

    /// The answer at `t`; `None`: it is that of before.
    fn answer(
        &self,
        t: TimeMs,
        progress: &mut EvaluationProgress,
    ) -> Result<Option<Latest>, EvaluationError> {
        let history = &self.history;
        let answer = match &mut progress.standing {
            Some(standing) => standing.at(t, &history.options),
            None => {
                let cache = &mut progress.subquery_cache;
                history.answers.instant_cached(&self.spec.plan, t, &history.options, cache).map(Some)
            }
        };
        let Some(answer) = answer? else { return Ok(None) };
        let rows = match answer.value {
            QueryValue::Vector(rows) => rows.into_iter().map(row).collect(),
            QueryValue::Scalar(_, v) => vec![(Labels::default(), v.into())],
            QueryValue::Text(..) | QueryValue::Matrix(_) => {
                return Err(EvaluationError::WrongType);
            }
        };
        Ok(Some(Latest { rows, annotations: answer.annotations, memory: answer.memory }))
    }
}

/// Why one evaluation of a scheduled view has no answer, or did not record it. The next evaluation
/// may succeed.
#[derive(Debug, thiserror::Error)]
enum EvaluationError {
    /// The query failed.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The answer is of a type that no view can have. The text is that of Prometheus.
    #[error("must be Scalar or instant Vector")]
    WrongType,
    /// The answer could not be stored, or not completely.
    #[error(transparent)]
    Recording(#[from] RecordError),
}

/// An answer with its memory.
struct Latest {
    rows: Vec<LabelledSample>,
    annotations: Vec<Annotation>,
    memory: AnswerMemory,
}

fn row(sample: VectorSample) -> LabelledSample {
    (sample.labels, sample.h.map_or(Sample::Float(sample.v), Sample::Histogram))
}

/// The latest evaluation time `k * interval + offset` that is not after `t`.
fn latest(t: TimeMs, interval: i64, offset: i64) -> TimeMs {
    t - (t - offset).rem_euclid(interval.max(1))
}

#[cfg(test)]
mod tests {
    use super::latest;

    #[test]
    fn slots_are_multiples_of_the_interval() {
        assert_eq!((latest(61_999, 15_000, 0), latest(60_000, 15_000, 0)), (60_000, 60_000));
        assert_eq!((latest(61_999, 15_000, 2_000), latest(61_998, 15_000, 2_000)), (47_000, 47_000));
        assert_eq!(latest(62_000, 15_000, 2_000), 62_000);
    }
}
