//! Mode `live`: every query is installed as a view while the samples arrive, and its answer is read
//! at the times of the test.
//!
//! One pass over time serves all queries that see the same samples. At each time with new samples
//! or an evaluation, the new samples are appended, the runtime runs a tick, and the answers of the
//! views due at that time are recorded. Queries that read samples later than their evaluation time
//! get a pass of their own, in which all samples are appended first.

use super::answer::{TestAnswer, TestPoint, TestPoints, TestValue};
use super::check::TestOutcome;
use super::errors::{QueryFailure, TestRunError};
use super::runner::RunOptions;
use super::script::{EvalCommand, EvalTime};
use super::test_store::{SampleTimeline, TestStore};
use super::variants::reads_query_range;
use crate::{PromqlOptions, QueryRange, compile};
use engine::annotations::{Annotation, Severity};
use engine::functions::{Kernel, OperatorFunction};
use engine::live::{
    LabelledSample, LiveOptions, LiveRuntime, Sink, StartError, TapEvent, ViewError, ViewKind, ViewSpec,
};
use engine::plan::{AggregateOp, AtTime, Plan, PlanNode, PlanOp, ValueType, WindowExtension};
use engine::query::depends_on_first_step;
use engine::types::histogram_column::Sample;
use language::annotations::render_all;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use storage::metrics::Metrics;
use storage::model::{Labels, TimeMs};

/// The outcome of a query in this mode.
pub(super) enum LiveOutcome {
    Answered(TestOutcome),
    /// The query cannot be maintained as a view, for this reason.
    Refused(String),
}

/// The outcomes of `evals`, which all see `samples`.
pub(super) fn answers(
    samples: &SampleTimeline,
    evals: &[&EvalCommand],
    options: &RunOptions,
) -> Result<Vec<LiveOutcome>, TestRunError> {
    let language = options.language();
    let ahead: Vec<bool> = evals.iter().map(|eval| reads_future(eval, &language)).collect();
    let of = |ahead_or_not: bool| -> Vec<&EvalCommand> {
        let chosen = evals.iter().zip(&ahead).filter(|(_, ahead)| **ahead == ahead_or_not);
        chosen.map(|(eval, _)| *eval).collect()
    };
    let mut usual = pass(samples, &of(false), options, Arrivals::AtTheirTimes)?.into_iter();
    let mut later = pass(samples, &of(true), options, Arrivals::Before)?.into_iter();
    let in_order = ahead.iter().filter_map(|ahead| if *ahead { later.next() } else { usual.next() });
    Ok(in_order.collect())
}

/// When samples are appended.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Arrivals {
    AtTheirTimes,
    /// All of them before the first evaluation.
    Before,
}

fn pass(
    samples: &SampleTimeline,
    evals: &[&EvalCommand],
    options: &RunOptions,
    arrivals: Arrivals,
) -> Result<Vec<LiveOutcome>, TestRunError> {
    let mut stage = LiveRun::new(samples, evals, options)?;
    let mut times: BTreeSet<TimeMs> =
        stage.views.iter().flat_map(|view| view.times.iter().copied()).collect();
    let Some(last) = times.last().copied() else { return Ok(stage.finish()) };
    times.extend(samples.times().take_while(|t| *t <= last));
    let restart = options.restart.then(|| times.iter().nth(times.len() / 2).copied()).flatten();
    let mut arrived = 0;
    for t in times {
        if restart == Some(t) {
            stage.restart(samples)?;
        }
        let until = samples.until(if arrivals == Arrivals::Before { TimeMs::MAX } else { t });
        stage.scratch.append(samples, arrived..until)?;
        arrived = until;
        stage.live.tick(t);
        for view in &mut stage.views {
            view.record_outcome(t);
        }
    }
    Ok(stage.finish())
}

/// A store, the live runtime over it, and the installed views.
struct LiveRun {
    scratch: TestStore,
    live: LiveRuntime,
    options: RunOptions,
    views: Vec<TestView>,
    /// By query: the outcome of a query that was not installed.
    early: Vec<Option<LiveOutcome>>,
}

impl LiveRun {
    fn new(
        samples: &SampleTimeline,
        evals: &[&EvalCommand],
        options: &RunOptions,
    ) -> Result<LiveRun, TestRunError> {
        let scratch = TestStore::new(samples)?;
        let live = start(&scratch, options)?;
        let mut stage = LiveRun { scratch, live, options: *options, views: Vec::new(), early: Vec::new() };
        for (query, eval) in evals.iter().enumerate() {
            let early = match TestView::compile(query, eval, &options.language()) {
                Ok(view) => {
                    let refused = view.install(&stage.live).err();
                    let refused = refused.map(|error| LiveOutcome::Refused(error.to_string()));
                    if refused.is_none() {
                        stage.views.push(view);
                    }
                    refused
                }
                Err(early) => Some(early),
            };
            stage.early.push(early);
        }
        Ok(stage)
    }

    fn restart(&mut self, samples: &SampleTimeline) -> Result<(), TestRunError> {
        self.live.stop();
        self.scratch.restart(samples)?;
        self.live = start(&self.scratch, &self.options)?;
        for view in &self.views {
            view.install(&self.live)?;
        }
        Ok(())
    }

    fn finish(self) -> Vec<LiveOutcome> {
        self.live.stop();
        let mut found = self.early;
        for view in self.views {
            let query = view.query;
            found[query] = Some(LiveOutcome::Answered(view.outcome()));
        }
        found.into_iter().flatten().collect()
    }
}

fn start(scratch: &TestStore, options: &RunOptions) -> Result<LiveRuntime, StartError> {
    let dialect = options.language().dialect();
    let options = LiveOptions { workers: options.workers, dialect, ..LiveOptions::default() };
    LiveRuntime::manual(scratch.store.clone(), &options, &Metrics::default())
}

/// A query that is installed as a view.
struct TestView {
    query: usize,
    expr: String,
    plan: Plan,
    /// The times at which its answer is read, ascending.
    times: Vec<TimeMs>,
    range: bool,
    shown: Arc<Mutex<CollectedRows>>,
    /// The answers that were read, with their times.
    readings: Vec<(TimeMs, ViewReading)>,
}

/// An answer of a view: rows and annotations, or the failure.
type ViewReading = Result<(BTreeMap<Labels, TestPoint>, Vec<Annotation>), QueryFailure>;

impl TestView {
    /// The view of a query, not yet installed.
    fn compile(query: usize, eval: &EvalCommand, language: &PromqlOptions) -> Result<TestView, LiveOutcome> {
        let (times, range, asked) = match eval.when {
            EvalTime::At(t) => (vec![t], false, QueryRange { start: t, end: t, step: 0 }),
            EvalTime::Range(grid) => {
                let asked = QueryRange { start: grid.start, end: grid.end, step: grid.step };
                (grid.times().collect(), true, asked)
            }
        };
        if range && reads_query_range(&eval.expr) {
            let why =
                "start(), end(), range() and step() of a range query: a view is always asked for one time";
            return Err(LiveOutcome::Refused(why.to_owned()));
        }
        if range && in_durations(&eval.expr, asked, language) {
            let why = "step() and range() in durations of a range query: of a view both are 0";
            return Err(LiveOutcome::Refused(why.to_owned()));
        }
        let plan = compile(&eval.expr, language).map_err(|standing| {
            match compile(&eval.expr, &PromqlOptions { range: Some(asked), ..*language }) {
                // The query has an answer, but not as a view.
                Ok(_) => LiveOutcome::Refused(standing.text),
                Err(error) => LiveOutcome::Answered(Err(QueryFailure::Text(error))),
            }
        })?;
        if range && sorts(&plan) {
            let why = "sorting in a range query, which is warned of: a view has no order";
            return Err(LiveOutcome::Refused(why.to_owned()));
        }
        if range && reads_all_steps(&plan) {
            let why = "an aggregation that a range query gives the parameters of other steps";
            return Err(LiveOutcome::Refused(why.to_owned()));
        }
        let shown = Arc::default();
        Ok(TestView { query, expr: eval.expr.clone(), plan, times, range, shown, readings: Vec::new() })
    }

    fn install(&self, live: &LiveRuntime) -> Result<(), ViewError> {
        let spec = ViewSpec { name: self.expr.clone(), plan: self.plan.clone(), kind: ViewKind::NOW };
        let id = live.install(spec)?;
        *self.shown.lock() = CollectedRows::default();
        live.tap(id, Box::new(AnswerCollector(self.shown.clone())));
        Ok(())
    }

    /// Records the answer if `t` is one of its times.
    fn record_outcome(&mut self, t: TimeMs) {
        if self.times.binary_search(&t).is_err() {
            return;
        }
        let shown = self.shown.lock();
        let rows = match &shown.failed {
            Some(error) => Err(QueryFailure::View(error.clone())),
            None => Ok((shown.rows.clone(), shown.annotations.clone())),
        };
        self.readings.push((t, rows));
    }

    /// The recorded answers, as an instant or a range query would have returned them.
    fn outcome(self) -> TestOutcome {
        let mut series: BTreeMap<Labels, TestPoints> = BTreeMap::new();
        let mut remarks: BTreeMap<(Severity, Arc<str>), Annotation> = BTreeMap::new();
        for (t, reading) in self.readings {
            let (rows, annotations) = reading?;
            for (labels, cell) in rows {
                series.entry(labels).or_default().push((t, cell));
            }
            remarks.extend(
                annotations
                    .into_iter()
                    .map(|annotation| ((annotation.level, annotation.text.clone()), annotation)),
            );
        }
        let remarks: Vec<Annotation> = remarks.into_values().collect();
        let (warnings, infos) = render_all(&self.expr, &remarks);
        let matrix = TestValue::Matrix(series.into_iter().collect());
        let value = match (self.range, self.times.first()) {
            (false, Some(t)) => {
                let scalar = self.plan.kind() == ValueType::Scalar;
                matrix.at(*t, scalar).ok_or(QueryFailure::NoNumber)?
            }
            _ => matrix,
        };
        Ok(TestAnswer { value, warnings, infos })
    }
}

/// Whether ranges or offsets in a query depend on its time range or step.
fn in_durations(expr: &str, asked: QueryRange, language: &PromqlOptions) -> bool {
    let of_a_view = compile(expr, language);
    let of_the_query = compile(expr, &PromqlOptions { range: Some(asked), ..*language });
    of_a_view.ok().zip(of_the_query.ok()).is_some_and(|(view, query)| view != query)
}

/// Whether a part of the plan sorts its result.
fn sorts(node: &PlanNode) -> bool {
    use OperatorFunction::{Sort, SortByLabel, SortByLabelDesc, SortDesc};
    let here = match &node.op {
        PlanOp::Call { function, .. } => {
            let kernel = function.0.kernel;
            matches!(kernel, Kernel::Operator(Sort | SortDesc | SortByLabel | SortByLabelDesc))
        }
        _ => false,
    };
    here || node.inputs().into_iter().any(|input| sorts(input))
}

/// Whether a part of the plan is an aggregation whose parameter is evaluated, or warned about, for
/// all steps together.
fn reads_all_steps(node: &PlanNode) -> bool {
    use AggregateOp::{LimitRatio, Quantile};
    let here = match &node.op {
        PlanOp::Aggregate(a) if matches!(a.op, LimitRatio | Quantile) => {
            a.param.as_ref().is_some_and(|param| !matches!(param.op, PlanOp::Number(_)))
        }
        _ => false,
    };
    here || depends_on_first_step(node) || node.inputs().into_iter().any(|input| reads_all_steps(input))
}

/// Whether a query reads samples later than its evaluation time.
fn reads_future(eval: &EvalCommand, language: &PromqlOptions) -> bool {
    let first = match eval.when {
        EvalTime::At(t) => t,
        EvalTime::Range(grid) => grid.start,
    };
    compile(&eval.expr, language).is_ok_and(|plan| may_read_before(&plan, first))
}

/// Whether a part of the plan may read samples after `first`, the first evaluation time.
fn may_read_before(node: &PlanNode, first: TimeMs) -> bool {
    let later = |at: Option<AtTime>, offset: i64| {
        offset < 0 || matches!(at, Some(AtTime::Time(t)) if t.saturating_sub(offset) > first)
    };
    let here = match &node.op {
        PlanOp::Instant(selector) | PlanOp::Range { selector, .. } => {
            selector.extension == Some(WindowExtension::Smoothed) || later(selector.at, selector.offset)
        }
        PlanOp::Subquery { at, offset, .. } => later(*at, *offset),
        _ => false,
    };
    here || node.inputs().into_iter().any(|input| may_read_before(input, first))
}

/// What the tap of a view has received.
#[derive(Default)]
struct CollectedRows {
    rows: BTreeMap<Labels, TestPoint>,
    annotations: Vec<Annotation>,
    failed: Option<String>,
}

struct AnswerCollector(Arc<Mutex<CollectedRows>>);

impl Sink for AnswerCollector {
    fn push(&mut self, event: TapEvent) -> bool {
        let mut shown = self.0.lock();
        let cell = |sample: Sample| match sample {
            Sample::Float(v) => TestPoint::Float(v),
            Sample::Histogram(h) => TestPoint::Histogram(h),
        };
        let cells =
            |rows: Vec<LabelledSample>| rows.into_iter().map(move |(labels, sample)| (labels, cell(sample)));
        match event {
            TapEvent::Snapshot { rows, .. } => shown.rows = cells(rows).collect(),
            TapEvent::Delta { upsert, remove, .. } => {
                for labels in remove.iter() {
                    drop(shown.rows.remove(labels));
                }
                shown.rows.extend(cells(upsert));
            }
            TapEvent::Failed { error, .. } => shown.failed = Some(error),
            TapEvent::Progress { .. } => shown.failed = None,
            TapEvent::Annotations { annotations, .. } => shown.annotations = annotations,
        }
        true
    }
}
