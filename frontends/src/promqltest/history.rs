//! Mode `history`: queries over a store that has all samples.

use super::answer::{Answer, Cell, Cells, Value};
use super::expect::Expected;
use super::runner::{Mode, RunOptions};
use super::scratch::{Samples, Scratch};
use super::script::{Eval, Grid, When};
use super::variants::{Question, asks_for_the_query, questions};
use super::verdict::{Mismatch, Outcome, judge, judge_value};
use crate::promql::annotations::render_all;
use crate::promql::{Options, QueryRange, compile};
use engine::query::{self, Querier, QueryOptions};
use storage::model::{Labels, TimeMs};

/// Distance of the steps around an instant, ms.
const MINUTE: i64 = 60_000;
/// Samples a query may hold, as in upstream's runs.
const MAX_SAMPLES: usize = 10_000;

/// A store and who asks it.
pub(super) struct History {
    language: Options,
    /// Each query is asked as it is written, in no other way.
    plain: bool,
    querier: Querier,
    _scratch: Scratch,
}

impl History {
    /// A store with `samples`.
    pub(super) fn new(samples: &Samples, options: &RunOptions) -> Result<History, String> {
        let mut scratch = Scratch::new(samples)?;
        let middle = if options.restart { samples.len() / 2 } else { 0 };
        scratch.append(samples, 0..middle)?;
        if options.restart {
            scratch.restart(samples)?;
        }
        scratch.append(samples, middle..samples.len())?;
        Ok(History {
            language: options.language(),
            plain: options.mode == Mode::Plain,
            querier: Querier::new(scratch.store.clone(), options.workers),
            _scratch: scratch,
        })
    }

    /// Asks `eval` in every way; the first wrong answer, and how it was asked for.
    pub(super) fn judge(&self, eval: &Eval) -> Result<(), (Mismatch, String)> {
        let t = match eval.when {
            When::At(t) => t,
            When::Range(grid) => {
                let outcome = self.range(&eval.expr, grid);
                return judge(&eval.wanted, eval.when, &outcome).map_err(|wrong| (wrong, String::new()));
            }
        };
        if self.plain {
            let outcome = self.instant(&Question { expr: eval.expr.clone(), t });
            return judge(&eval.wanted, eval.when, &outcome).map_err(|wrong| (wrong, String::new()));
        }
        for (i, question) in questions(&eval.expr, t).iter().enumerate() {
            let asked = |how: &str| match i {
                0 => how.to_owned(),
                _ => format!("{} at {} ms{how}", question.expr, question.t),
            };
            let outcome = self.instant(question);
            judge(&eval.wanted, eval.when, &outcome).map_err(|wrong| (wrong, asked("")))?;
            let Ok(answer) = outcome else { continue };
            self.judge_range(eval, question, &answer)
                .map_err(|wrong| (wrong, asked(" as the middle of a range query")))?;
        }
        Ok(())
    }

    /// The answer of an instant query must also be the middle of a range query.
    fn judge_range(&self, eval: &Eval, question: &Question, answer: &Answer) -> Result<(), Mismatch> {
        let apart = eval.wanted.matrix.is_some() || matches!(eval.wanted.answer, Expected::Text(_));
        if apart || asks_for_the_query(&question.expr) {
            return Ok(());
        }
        let grid = Grid { start: question.t - MINUTE, end: question.t + MINUTE, step: MINUTE };
        let mut outcome = self.range(&question.expr, grid);
        if let Ok(around) = &mut outcome {
            let scalar = matches!(answer.value, Value::Scalar(_));
            let Some(middle) = around.value.at(question.t, scalar) else {
                return Err(Mismatch { expected: answer.value.print(), got: around.value.print() });
            };
            // A range query has an order of its own.
            if eval.wanted.ordered {
                return Ok(());
            }
            return judge_value(&eval.wanted, eval.when, &middle);
        }
        judge(&eval.wanted, eval.when, &outcome)
    }

    fn instant(&self, question: &Question) -> Outcome {
        let t = question.t;
        let plan = compile(&question.expr, &self.asked_for(t, t, 0)).map_err(|e| e.message())?;
        let answer = self.querier.instant(&plan, t, &self.settings()).map_err(|e| e.to_string())?;
        Ok(answer_of(&question.expr, answer))
    }

    fn range(&self, expr: &str, grid: Grid) -> Outcome {
        let Grid { start, end, step } = grid;
        let plan = compile(expr, &self.asked_for(start, end, step)).map_err(|e| e.message())?;
        let answer =
            self.querier.range(&plan, start, end, step, &self.settings()).map_err(|e| e.to_string())?;
        Ok(answer_of(expr, answer))
    }

    fn settings(&self) -> QueryOptions {
        let dialect = self.language.dialect();
        QueryOptions { max_samples: MAX_SAMPLES, dialect, ..QueryOptions::default() }
    }

    fn asked_for(&self, start: TimeMs, end: TimeMs, step: i64) -> Options {
        Options { range: Some(QueryRange { start, end, step }), ..self.language }
    }
}

fn answer_of(expr: &str, answer: query::Answer) -> Answer {
    let (warnings, infos) = render_all(expr, &answer.notes);
    let value = match answer.value {
        query::Value::Scalar(_, v) => Value::Scalar(v),
        query::Value::Text(_, text) => Value::Text(text),
        query::Value::Vector(rows) => {
            let row = |row: query::VectorSample| (row.labels, Cell::of(row.v, row.h));
            Value::Vector(rows.into_iter().map(row).collect())
        }
        query::Value::Matrix(series) => Value::Matrix(series.into_iter().map(cells).collect()),
    };
    Answer { value, warnings, infos }
}

/// A series' points of both kinds, in time order; of a float and a histogram at one time the float, for the test language has
/// place for one.
fn cells(series: query::Series) -> (Labels, Cells) {
    let floats = series.points.into_iter().map(|(t, v)| (t, Cell::Float(v)));
    let histograms = series.histograms.into_iter().map(|(t, h)| (t, Cell::Histogram(h)));
    let mut cells: Cells = floats.chain(histograms).collect();
    cells.sort_by_key(|(t, _)| *t);
    cells.dedup_by_key(|(t, _)| *t);
    (series.labels, cells)
}
