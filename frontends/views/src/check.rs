//! The check of a live view: is its answer the same as that of a query over history?
//!
//! Both answers are for the time of one tick. The live runtime evaluates the view in a tick at `t`
//! and reports its answer; then the query runtime evaluates the same plan at `t` over the store.
//! Floats must have the same bits, except that a function of the plan may declare a tolerance
//! ([`engine::functions::Function::tolerance`]).
//!
//! Samples continue to arrive. Those that arrive between the tick and the query are in only one of
//! the answers. So a difference counts only if no such sample arrived ([`CheckReport::raced`]);
//! otherwise the check is repeated at the next tick. If samples arrive all the time, as for an
//! aggregation over thousands of targets, every attempt may have some: then the outcome is
//! `unsettled`.

use crate::limits::{CHECK_ATTEMPTS, CHECK_ROWS, CHECK_TIMEOUT, DESCRIBE_TIMEOUT};
use crate::registry::ViewRegistry;
use engine::functions::Tolerance;
use engine::live::check::{CheckReport, CheckRequest, LastEvaluation, may_contribute};
use engine::live::describe::DescribeError;
use engine::live::{ViewId, ViewKind, ViewSpec};
use engine::operators::EvalError;
use engine::plan::{Plan, PlanOp};
use engine::query::{QueryEngine, QueryError, QueryOptions, QueryValue};
use engine::types::histogram_column::Sample;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use storage::model::{Labels, TimeMs};

/// The outcome of a check.
#[derive(Copy, Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckOutcome {
    /// Both answers are the same.
    Same,
    /// They differ, and no sample explains it.
    Differs,
    /// They differ, but in each attempt samples arrived in between.
    Unsettled,
    /// The view has no answer yet: its history is still being read.
    Pending,
    /// The view is not live: it is evaluated from history each time, so there is nothing to
    /// compare.
    Scheduled,
}

/// The comparison of a view with history.
#[derive(Clone, Debug)]
pub struct ViewCheck {
    /// The spec of the view.
    pub spec: ViewSpec,
    /// Equal, different, or why it could not be compared.
    pub outcome: CheckOutcome,
    /// The last tick at which the answers were compared.
    pub t: Option<TimeMs>,
    /// The number of comparisons.
    pub attempts: usize,
    /// The difference; empty if the answers are equal.
    pub difference: Difference,
    /// The largest relative tolerance of the functions in the plan, with the function's name.
    pub tolerance: Option<(&'static str, f64)>,
}

/// How two answers differ.
#[derive(Clone, Debug, Default)]
pub struct Difference {
    /// The number of rows that differ.
    pub rows: usize,
    /// The first [`CHECK_ROWS`] of them.
    pub first: Vec<RowDifference>,
    /// The error, if the evaluation by the live runtime failed.
    pub live_error: Option<String>,
    /// The error, if the query failed.
    pub history_error: Option<String>,
}

/// A row that differs between the two answers.
#[derive(Clone, Debug)]
pub struct RowDifference {
    /// The labels of the row.
    pub labels: Labels,
    /// The value in the live runtime; `None`: there is no such row.
    pub live: Option<Sample>,
    /// The value from scratch; `None`: there is no such row.
    pub history: Option<Sample>,
    /// The latest evaluations of the series that may contribute to the row.
    pub evaluations: Vec<LastEvaluation>,
}

/// Why a view could not be checked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CheckError {
    /// The live runtime did not answer.
    #[error(transparent)]
    Live(#[from] DescribeError),
    /// A limit stopped the query over history.
    #[error("history cannot be queried for the check: {0}")]
    History(QueryError),
}

impl Difference {
    fn is_none(&self) -> bool {
        self.rows == 0 && self.live_error.is_none() && self.history_error.is_none()
    }
}

/// Checks a view with the options of a user's query. Takes at most [`CHECK_TIMEOUT`], or the
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
    let inexact = inexact_calls(&report.spec.plan);
    let widest = inexact.iter().max_by(|a, b| a.tolerance.relative.total_cmp(&b.tolerance.relative));
    let mut check = ViewCheck {
        // The outcome if there is no report of a tick to compare with: the loop below replaces it.
        outcome: if report.work.is_some() { CheckOutcome::Pending } else { CheckOutcome::Scheduled },
        t: None,
        attempts: 0,
        difference: Difference::default(),
        tolerance: widest.map(|part| (part.function, part.tolerance.relative)),
        spec: report.spec,
    };
    let mut live = report.answer.check;
    while let Some(CheckReport { t, answer, .. }) = live.take() {
        // At least a moment: a timeout of zero would be an error of the query instead of a late
        // check.
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
        // The next report says whether this comparison counts, and has the answer for the next
        // comparison.
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

/// A part of a plan whose values may differ between live and from scratch.
struct InexactCall {
    plan: Plan,
    function: &'static str,
    tolerance: &'static Tolerance,
    /// Whether the part is the whole plan.
    is_whole: bool,
}

/// The calls of functions that declare a tolerance. The recursion is limited, because the parser
/// limits the depth of a plan.
fn inexact_calls(plan: &Plan) -> Vec<InexactCall> {
    let mut parts = Vec::new();
    add_inexact_calls(plan, true, &mut parts);
    parts
}

fn add_inexact_calls(plan: &Plan, is_whole: bool, parts: &mut Vec<InexactCall>) {
    if let PlanOp::Call { function, .. } = &plan.op
        && let Some(tolerance) = &function.0.tolerance
    {
        parts.push(InexactCall { plan: plan.clone(), function: function.0.name, tolerance, is_whole });
    }
    for input in plan.inputs() {
        add_inexact_calls(input, false, parts);
    }
}

/// A comparison at one time.
struct Comparison<'a> {
    history: &'a dyn QueryEngine,
    /// The evaluation time.
    t: TimeMs,
    options: &'a QueryOptions,
}

/// The evaluation from scratch failed; the text says why.
struct ScratchFailure(String);

impl Comparison<'_> {
    fn difference(
        &self,
        plan: &Plan,
        inexact: &[InexactCall],
        live: Result<Vec<(Labels, Sample)>, EvalError>,
    ) -> Result<Difference, CheckError> {
        let history = self.rows(plan)?;
        let (live, history) = match (live, history) {
            // Both failed. The error texts may name different series.
            (Err(_), Err(_)) => return Ok(Difference::default()),
            (Err(error), Ok(_)) => {
                return Ok(Difference { live_error: Some(error.to_string()), ..Difference::default() });
            }
            (Ok(_), Err(ScratchFailure(error))) => {
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

    /// The rows of a plan from scratch. The inner error is one of the evaluation: a live view must
    /// have one, too, so it is a result of the comparison and does not end it.
    fn rows(&self, plan: &Plan) -> Result<Result<Vec<(Labels, Sample)>, ScratchFailure>, CheckError> {
        let answer = match self.history.instant(plan, self.t, self.options) {
            Ok(answer) => answer,
            Err(QueryError::Execution(error)) => return Ok(Err(ScratchFailure(error))),
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

    /// The allowances of the inexact parts. Operators around a part add up, at most, the
    /// differences of all its values, and round their own result.
    fn allowances(&self, inexact: &[InexactCall]) -> Result<Vec<Allowance>, CheckError> {
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

/// How much a value may differ: `relative` times the sum of its size (at least `least`) and
/// `added`.
struct Allowance {
    relative: f64,
    least: f64,
    added: f64,
}

impl RowDifference {
    /// Whether the difference is at most the sum of the allowances.
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
        // Bits and not `==`: -0 and 0 are shown differently. The bits of NaN depend on the order of
        // operands.
        (Sample::Float(a), Sample::Float(b)) => a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()),
        (a, b) => a.same(b),
    }
}
