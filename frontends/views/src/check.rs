//! The check of a live view: is its answer the one that a query over history gives?
//!
//! Both answers are those of one tick: the live runtime evaluates the view in a tick at `t` and says
//! what it has; then the query runtime evaluates the same plan at `t` over the store. Floats must
//! have the same bits. Where a function of the plan declares a tolerance
//! ([`engine::functions::Function::tolerance`]), values may differ by that.
//!
//! Samples go on arriving. Those that arrive between the tick and the query are in one answer only.
//! So a difference counts only if no such sample came ([`CheckReport::raced`]); otherwise the check
//! is done again at the next tick. Where samples come all the time, as to an aggregate over
//! thousands of targets, no attempt may be free of them: then the outcome is `unsettled`.

use crate::limits::{CHECK_ATTEMPTS, CHECK_ROWS, CHECK_TIMEOUT, DESCRIBE_TIMEOUT};
use crate::registry::ViewRegistry;
use engine::functions::Tolerance;
use engine::live::check::{CheckReport, CheckRequest, LastEvaluation, may_contribute};
use engine::live::describe::DescribeError;
use engine::live::{ViewId, ViewKind, ViewSpec};
use engine::plan::{Plan, PlanOp};
use engine::query::{QueryEngine, QueryError, QueryOptions, QueryValue};
use engine::types::histogram_column::Sample;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use storage::model::{Labels, TimeMs};

/// What came of a check.
#[derive(Copy, Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckOutcome {
    /// Both answers are the same.
    Same,
    /// They differ, and no sample explains it.
    Differs,
    /// They differ, but in each attempt samples came meanwhile.
    Unsettled,
    /// The view has no answer yet: what it reads of the past is still being read.
    Pending,
    /// The view is not live: it is evaluated from history each time, so there is nothing to compare.
    Scheduled,
}

/// The comparison of a view with history.
#[derive(Clone, Debug)]
pub struct ViewCheck {
    /// What was installed.
    pub spec: ViewSpec,
    /// What came of it.
    pub outcome: CheckOutcome,
    /// The tick at which the answers were compared last.
    pub t: Option<TimeMs>,
    /// How often they were compared.
    pub attempts: usize,
    /// The difference, as far as there is one.
    pub difference: Difference,
    /// The largest relative tolerance of the functions in the plan, with the name of the function.
    pub tolerance: Option<(&'static str, f64)>,
}

/// How two answers differ.
#[derive(Clone, Debug, Default)]
pub struct Difference {
    /// How many rows differ.
    pub rows: usize,
    /// The first [`CHECK_ROWS`] of them.
    pub first: Vec<RowDifference>,
    /// The evaluation by the live runtime failed, and why.
    pub live_error: Option<String>,
    /// The query failed, and why.
    pub history_error: Option<String>,
}

/// A row of which the two answers say different things.
#[derive(Clone, Debug)]
pub struct RowDifference {
    /// Its labels.
    pub labels: Labels,
    /// Its value in the live runtime; `None`: there is no such row.
    pub live: Option<Sample>,
    /// Its value from scratch.
    pub history: Option<Sample>,
    /// When and why the series that it may be made of were last evaluated.
    pub evaluations: Vec<LastEvaluation>,
}

/// Why a view could not be checked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CheckError {
    /// The live runtime has not answered.
    #[error(transparent)]
    Live(#[from] DescribeError),
    /// The query over history was stopped by a limit.
    #[error("history cannot be queried for the check: {0}")]
    History(QueryError),
}

impl Difference {
    fn is_none(&self) -> bool {
        self.rows == 0 && self.live_error.is_none() && self.history_error.is_none()
    }
}

/// Checks a view. `options` are those of a query by a user. Takes [`CHECK_TIMEOUT`] at most, or the
/// timeout of the options if that is shorter. Blocks. `None`: there is no such view.
#[allow(clippy::disallowed_methods, reason = "a deadline; no answer depends on this reading")]
pub fn check_view(
    views: &dyn ViewRegistry,
    history: &dyn QueryEngine,
    id: ViewId,
    options: &QueryOptions,
) -> Result<Option<ViewCheck>, CheckError> {
    let deadline = Instant::now() + CHECK_TIMEOUT.min(options.timeout);
    let Some(report) = views.read_for_check(id, CheckRequest::default())? else { return Ok(None) };
    let inexact = inexact_parts(&report.spec.plan);
    let widest = inexact.iter().max_by(|a, b| a.tolerance.relative.total_cmp(&b.tolerance.relative));
    let mut check = ViewCheck {
        outcome: if report.work.is_some() { CheckOutcome::Pending } else { CheckOutcome::Scheduled },
        t: None,
        attempts: 0,
        difference: Difference::default(),
        tolerance: widest.map(|part| (part.function, part.tolerance.relative)),
        spec: report.spec,
    };
    let mut live = report.answer.check;
    while let Some(CheckReport { t, answer, .. }) = live.take() {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let options = QueryOptions { timeout: left, ..options.clone() };
        let comparison = Comparison { history, t: t - query_offset(&check.spec.kind), options: &options };
        check.attempts += 1;
        check.t = Some(t);
        check.difference = comparison.difference(&check.spec.plan, &inexact, answer)?;
        if check.difference.is_none() {
            check.outcome = CheckOutcome::Same;
            return Ok(Some(check));
        }
        // The next report says whether this comparison counts, and is the next to be compared.
        let rows = check.difference.first.iter().map(|row| row.labels.clone()).collect();
        let Some(next) = views.read_for_check(id, CheckRequest { rows })? else { return Ok(None) };
        let Some(next) = next.answer.check else {
            check.outcome = CheckOutcome::Pending;
            break;
        };
        check.explain(&next.evaluations);
        check.outcome = if next.raced { CheckOutcome::Unsettled } else { CheckOutcome::Differs };
        let is_over = check.attempts >= CHECK_ATTEMPTS || Instant::now() + DESCRIBE_TIMEOUT > deadline;
        if next.raced && !is_over {
            live = Some(next);
        }
    }
    Ok(Some(check))
}

impl ViewCheck {
    fn explain(&mut self, evaluations: &[LastEvaluation]) {
        for row in &mut self.difference.first {
            let of_row = evaluations.iter().filter(|e| may_contribute(&e.series, &row.labels));
            row.evaluations = of_row.cloned().collect();
        }
    }
}

/// How much earlier than its tick a view is evaluated, ms.
fn query_offset(kind: &ViewKind) -> i64 {
    match kind {
        ViewKind::Continuous { query_offset } | ViewKind::Recorded { query_offset, .. } => *query_offset,
    }
}

/// A part of a plan that may give other values live than from scratch.
struct InexactPart {
    plan: Plan,
    function: &'static str,
    tolerance: &'static Tolerance,
    /// It is the whole plan.
    is_whole: bool,
}

/// The calls of functions that declare a tolerance. The parser bounds a plan's depth, and with it
/// this recursion.
fn inexact_parts(plan: &Plan) -> Vec<InexactPart> {
    let mut parts = Vec::new();
    add_inexact_parts(plan, true, &mut parts);
    parts
}

fn add_inexact_parts(plan: &Plan, is_whole: bool, parts: &mut Vec<InexactPart>) {
    if let PlanOp::Call { function, .. } = &plan.op
        && let Some(tolerance) = &function.0.tolerance
    {
        parts.push(InexactPart { plan: plan.clone(), function: function.0.name, tolerance, is_whole });
    }
    for input in plan.inputs() {
        add_inexact_parts(input, false, parts);
    }
}

/// A comparison at one time.
struct Comparison<'a> {
    history: &'a dyn QueryEngine,
    /// The evaluation time.
    t: TimeMs,
    options: &'a QueryOptions,
}

impl Comparison<'_> {
    fn difference(
        &self,
        plan: &Plan,
        inexact: &[InexactPart],
        live: Result<Vec<(Labels, Sample)>, String>,
    ) -> Result<Difference, CheckError> {
        let history = self.rows(plan)?;
        let (live, history) = match (live, history) {
            // Their texts may name another series.
            (Err(_), Err(_)) => return Ok(Difference::default()),
            (Err(error), Ok(_)) => {
                return Ok(Difference { live_error: Some(error), ..Difference::default() });
            }
            (Ok(_), Err(error)) => {
                return Ok(Difference { history_error: Some(error), ..Difference::default() });
            }
            (Ok(live), Ok(history)) => (live, history),
        };
        let mut live: BTreeMap<Labels, Sample> = live.into_iter().collect();
        let mut different = Vec::new();
        for (labels, history) in history {
            let live = live.remove(&labels);
            if !live.as_ref().is_some_and(|live| same_bits(live, &history)) {
                different.push(RowDifference {
                    labels,
                    live,
                    history: Some(history),
                    evaluations: Vec::new(),
                });
            }
        }
        let only_live = live.into_iter().map(|(labels, live)| RowDifference {
            labels,
            live: Some(live),
            history: None,
            evaluations: Vec::new(),
        });
        different.extend(only_live);
        if !different.is_empty() && !inexact.is_empty() {
            let allowed = self.allowances(inexact)?;
            different.retain(|row| !row.is_within(&allowed));
        }
        let rows = different.len();
        different.truncate(CHECK_ROWS);
        Ok(Difference { rows, first: different, ..Difference::default() })
    }

    /// The rows of a plan from scratch; the inner error is one of the evaluation, as a live view has it.
    fn rows(&self, plan: &Plan) -> Result<Result<Vec<(Labels, Sample)>, String>, CheckError> {
        let answer = match self.history.instant(plan, self.t, self.options) {
            Ok(answer) => answer,
            Err(QueryError::Execution(error)) => return Ok(Err(error)),
            Err(error) => return Err(CheckError::History(error)),
        };
        Ok(Ok(match answer.value {
            QueryValue::Scalar(_, v) => vec![(Labels::default(), Sample::Float(v))],
            QueryValue::Vector(rows) => rows
                .into_iter()
                .map(|row| (row.labels, row.h.map_or(Sample::Float(row.v), Sample::Histogram)))
                .collect(),
            // A view is a scalar or a vector.
            QueryValue::Text(..) | QueryValue::Matrix(_) => Vec::new(),
        }))
    }

    /// What the inexact parts allow. Around a part, operators add up what all its values may differ
    /// by, and round themselves.
    fn allowances(&self, inexact: &[InexactPart]) -> Result<Vec<Allowance>, CheckError> {
        let mut allowances = Vec::new();
        for part in inexact {
            let Tolerance { relative, least, .. } = *part.tolerance;
            if part.is_whole {
                allowances.push(Allowance { relative, least, added: 0.0 });
                continue;
            }
            let rows = self.rows(&part.plan)?.unwrap_or_default();
            let size = |(_, sample): &(Labels, Sample)| match sample {
                Sample::Float(v) if v.is_finite() => v.abs().max(least),
                _ => 0.0,
            };
            let added = rows.iter().map(size).sum();
            allowances.push(Allowance { relative: 2.0 * relative, least, added });
        }
        Ok(allowances)
    }
}

/// By how much a value may differ: `relative` of its size, which is `least` at least, and `added`.
struct Allowance {
    relative: f64,
    least: f64,
    added: f64,
}

impl RowDifference {
    /// Whether it is one of rounding only.
    fn is_within(&self, allowed: &[Allowance]) -> bool {
        let (Some(Sample::Float(live)), Some(Sample::Float(history))) = (&self.live, &self.history) else {
            return false;
        };
        let size = live.abs().max(history.abs());
        let allowed: f64 = allowed.iter().map(|a| a.relative * (size.max(a.least) + a.added)).sum();
        (live - history).abs() <= allowed
    }
}

fn same_bits(a: &Sample, b: &Sample) -> bool {
    match (a, b) {
        (Sample::Float(a), Sample::Float(b)) => a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()),
        (a, b) => a.same(b),
    }
}
