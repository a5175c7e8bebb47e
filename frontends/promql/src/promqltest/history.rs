//! Runs the queries of a test file over stored history (mode `history` of `perennial test promql`):
//! all samples are appended first, then each query is evaluated by the query runtime.
//! [`super::live`] is the other mode.

use super::answer::{TestAnswer, TestPoint, TestPoints, TestValue};
use super::check::{Mismatch, TestOutcome, judge, judge_value};
use super::errors::{QueryFailure, TestRunError};
use super::expectation::ExpectedResult;
use super::runner::{Mode, RunOptions};
use super::script::{EvalCommand, EvalRange, EvalTime};
use super::test_store::{SampleTimeline, TestStore};
use super::variants::{QueryVariant, questions, reads_query_range};
use crate::{PromqlOptions, QueryRange, compile};
use engine::query::{self, Querier, QueryOptions};
use language::annotations::render_all;
use storage::model::{Labels, TimeMs};

/// The distance of the steps around an instant, ms.
const MINUTE: i64 = 60_000;
/// Samples that a query may hold, as in Prometheus' test runs.
const MAX_SAMPLES: usize = 10_000;

/// A store and the query runtime over it.
pub(super) struct HistoryRun {
    language: PromqlOptions,
    /// Runs each query only as written.
    plain: bool,
    querier: Querier,
    _scratch: TestStore,
}

impl HistoryRun {
    /// A run over a store with `samples`.
    pub(super) fn new(samples: &SampleTimeline, options: &RunOptions) -> Result<HistoryRun, TestRunError> {
        let mut scratch = TestStore::new(samples)?;
        let middle = if options.restart { samples.len() / 2 } else { 0 };
        scratch.append(samples, 0..middle)?;
        if options.restart {
            scratch.restart(samples)?;
        }
        scratch.append(samples, middle..samples.len())?;
        Ok(HistoryRun {
            language: options.language(),
            plain: options.mode == Mode::Plain,
            querier: Querier::new(scratch.store.clone(), options.workers),
            _scratch: scratch,
        })
    }

    /// Runs `eval` in all variants; the error is the first wrong answer and its variant.
    pub(super) fn judge(&self, eval: &EvalCommand) -> Result<(), (Mismatch, String)> {
        let t = match eval.when {
            EvalTime::At(t) => t,
            EvalTime::Range(grid) => {
                let outcome = self.range(&eval.expr, grid);
                return judge(&eval.expectation, eval.when, &outcome).map_err(|wrong| (wrong, String::new()));
            }
        };
        if self.plain {
            let outcome = self.instant(&QueryVariant { expr: eval.expr.clone(), t });
            return judge(&eval.expectation, eval.when, &outcome).map_err(|wrong| (wrong, String::new()));
        }
        for (i, question) in questions(&eval.expr, t).iter().enumerate() {
            let asked = |how: &str| match i {
                0 => how.to_owned(),
                _ => format!("{} at {} ms{how}", question.expr, question.t),
            };
            let outcome = self.instant(question);
            judge(&eval.expectation, eval.when, &outcome).map_err(|wrong| (wrong, asked("")))?;
            let Ok(answer) = outcome else { continue };
            self.judge_range(eval, question, &answer)
                .map_err(|wrong| (wrong, asked(" as the middle of a range query")))?;
        }
        Ok(())
    }

    /// The answer of an instant query must equal the middle step of a range query.
    fn judge_range(
        &self,
        eval: &EvalCommand,
        question: &QueryVariant,
        answer: &TestAnswer,
    ) -> Result<(), Mismatch> {
        let apart =
            eval.expectation.matrix.is_some() || matches!(eval.expectation.answer, ExpectedResult::Text(_));
        if apart || reads_query_range(&question.expr) {
            return Ok(());
        }
        let grid = EvalRange { start: question.t - MINUTE, end: question.t + MINUTE, step: MINUTE };
        let mut outcome = self.range(&question.expr, grid);
        if let Ok(around) = &mut outcome {
            let scalar = matches!(answer.value, TestValue::Scalar(_));
            let Some(middle) = around.value.at(question.t, scalar) else {
                return Err(Mismatch { expected: answer.value.print(), got: around.value.print() });
            };
            // A range query has its own order.
            if eval.expectation.ordered {
                return Ok(());
            }
            return judge_value(&eval.expectation, eval.when, &middle);
        }
        judge(&eval.expectation, eval.when, &outcome)
    }

    fn instant(&self, question: &QueryVariant) -> TestOutcome {
        let t = question.t;
        let plan = compile(&question.expr, &self.options_for(t, t, 0)).map_err(QueryFailure::Text)?;
        let answer = self.querier.instant(&plan, t, &self.settings()).map_err(QueryFailure::Query)?;
        Ok(answer_of(&question.expr, answer))
    }

    fn range(&self, expr: &str, grid: EvalRange) -> TestOutcome {
        let EvalRange { start, end, step } = grid;
        let plan = compile(expr, &self.options_for(start, end, step)).map_err(QueryFailure::Text)?;
        let answer = self.querier.range(&plan, start, end, step, &self.settings());
        let answer = answer.map_err(QueryFailure::Query)?;
        Ok(answer_of(expr, answer))
    }

    fn settings(&self) -> QueryOptions {
        let dialect = self.language.dialect();
        QueryOptions { max_samples: MAX_SAMPLES, dialect, ..QueryOptions::default() }
    }

    fn options_for(&self, start: TimeMs, end: TimeMs, step: i64) -> PromqlOptions {
        PromqlOptions { range: Some(QueryRange { start, end, step }), ..self.language }
    }
}

fn answer_of(expr: &str, answer: query::QueryAnswer) -> TestAnswer {
    let (warnings, infos) = render_all(expr, &answer.annotations);
    let value = match answer.value {
        query::QueryValue::Scalar(_, v) => TestValue::Scalar(v),
        query::QueryValue::Text(_, text) => TestValue::Text(text),
        query::QueryValue::Vector(rows) => {
            let row = |row: query::VectorSample| (row.labels, TestPoint::new(row.v, row.h));
            TestValue::Vector(rows.into_iter().map(row).collect())
        }
        query::QueryValue::Matrix(series) => TestValue::Matrix(series.into_iter().map(cells).collect()),
    };
    TestAnswer { value, warnings, infos }
}

/// The points of a series, floats and histograms, in time order. If both exist at one time, the
/// float: the test language has room for one only.
fn cells(series: query::Series) -> (Labels, TestPoints) {
    let floats = series.points.into_iter().map(|(t, v)| (t, TestPoint::Float(v)));
    let histograms = series.histograms.into_iter().map(|(t, h)| (t, TestPoint::Histogram(h)));
    let mut cells: TestPoints = floats.chain(histograms).collect();
    cells.sort_by_key(|(t, _)| *t);
    cells.dedup_by_key(|(t, _)| *t);
    (series.labels, cells)
}
