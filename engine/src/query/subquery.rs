//! Subqueries: a plan's answers over a grid of their own, as the samples of window functions.
//!
//! Before a query runs, every subquery in it is asked as a query over history ([`super::Querier`]); its rows are
//! then kept by an operator of the gather stage, which slides a window over them ([`SlidingWindow`]).
//! Live, nothing keeps such rows: there subqueries are refused.

use super::Series;
use super::run::Grid;
use crate::functions::{Kernel, Window};
use crate::operators::scalar::scalar_of;
use crate::operators::{Changed, EvalError, Input, Operator, Output, Twins};
use crate::plan::physical::{Subquery, Windowed};
use crate::plan::{Aggregate, At, Binary, Node, Op, Plan, Selector};
use std::sync::Arc;
use storage::model::value::{ABSENT, is_stale};
use storage::model::{Labels, TimeMs};

impl Subquery {
    /// The right edge of the window of evaluation `t` in a query over `start..=end`.
    fn end(&self, t: TimeMs, start: TimeMs, end: TimeMs) -> TimeMs {
        pinned(self.at, start, end).unwrap_or(t) - self.offset
    }

    /// The multiples of its step that lie in any window of `outer`.
    pub(super) fn grid(&self, outer: Grid, default_step: i64) -> Grid {
        let step = self.step.unwrap_or(default_step).max(1);
        let edge = |t| self.end(t, outer.start, outer.end);
        let last = edge(outer.time(outer.len().saturating_sub(1)));
        // Windows are open to the left.
        let before = edge(outer.start).saturating_sub(self.range);
        let start = (before.div_euclid(step) + 1) * step;
        Grid { start, end: last, step }
    }
}

fn pinned(at: Option<At>, start: TimeMs, end: TimeMs) -> Option<TimeMs> {
    at.map(|at| match at {
        At::Time(t) => t,
        At::Start => start,
        At::End => end,
    })
}

/// `plan` with `@ start()` and `@ end()` replaced by the times of the outermost query.
pub(super) fn fix_times(plan: &Plan, start: TimeMs, end: TimeMs) -> Plan {
    let fix = |plan: &Plan| fix_times(plan, start, end);
    let at = |at: Option<At>| pinned(at, start, end).map(At::Time);
    let select = |s: &Selector| Selector { at: at(s.at), ..s.clone() };
    let op = match &plan.op {
        op @ (Op::Number(_) | Op::Text(_)) => op.clone(),
        Op::Instant(selector) => Op::Instant(select(selector)),
        Op::Range { selector, range } => Op::Range { selector: select(selector), range: *range },
        Op::Subquery { input, range, step, offset, at: pin } => {
            Op::Subquery { input: fix(input), range: *range, step: *step, offset: *offset, at: at(*pin) }
        }
        Op::Call { function, args } => Op::Call { function: *function, args: args.iter().map(fix).collect() },
        Op::Negate(input) => Op::Negate(fix(input)),
        Op::Binary(b) => Op::Binary(Box::new(Binary { lhs: fix(&b.lhs), rhs: fix(&b.rhs), ..(**b).clone() })),
        Op::Aggregate(a) => {
            let param = a.param.as_ref().map(fix);
            Op::Aggregate(Box::new(Aggregate { param, input: fix(&a.input), ..(**a).clone() }))
        }
    };
    Arc::new(Node { op, span: plan.span })
}

/// The rows of a subquery, and the function that sees them through a window.
pub(super) struct SlidingWindow {
    subquery: Subquery,
    windowed: Windowed,
    outer: Grid,
    series: Vec<(Labels, Vec<TimeMs>, Vec<f64>)>,
    twins: Twins,
}

impl SlidingWindow {
    /// An operator over these rows.
    pub(super) fn new(subquery: Subquery, windowed: Windowed, outer: Grid, rows: &[Series]) -> SlidingWindow {
        let series = rows.iter().map(|row| {
            let (ts, vs) = row.points.iter().copied().filter(|(_, v)| !is_stale(*v)).unzip();
            (row.labels.clone(), ts, vs)
        });
        SlidingWindow { series: series.collect(), subquery, windowed, outer, twins: Twins::default() }
    }

    fn value(&self, row: usize, t: TimeMs, args: &[f64]) -> f64 {
        let (_, ts, vs) = &self.series[row];
        let end = self.subquery.end(t, self.outer.start, self.outer.end);
        let start = end - self.subquery.range;
        let (lo, hi) = (ts.partition_point(|t| *t <= start), ts.partition_point(|t| *t <= end));
        match self.windowed {
            _ if lo == hi => ABSENT,
            Windowed::Present => 1.0,
            Windowed::Call(function) => {
                let Kernel::Window(kernel) = function.0.kernel else { return ABSENT };
                let (ts, vs) = (&ts[lo..hi], &vs[lo..hi]);
                (kernel.eval)(&Window { ts, vs, start, end, t, args, monotone: false })
            }
        }
    }
}

impl Operator for SlidingWindow {
    fn eval(&mut self, inputs: &[Input], t: TimeMs, out: &mut Output) -> Result<(), EvalError> {
        let keeps = matches!(self.windowed, Windowed::Call(function) if function.0.keeps_name);
        for (labels, ..) in &self.series[out.labels.len()..] {
            out.add_row(if keeps { labels.clone() } else { labels.of_computed() });
        }
        let args: Vec<f64> = inputs.iter().map(scalar_of).collect();
        if let (Windowed::Call(function), false) = (self.windowed, self.series.is_empty()) {
            function.0.check.map_or(Ok(()), |check| check(&args)).map_err(EvalError)?;
        }
        let mut touched = Vec::new();
        for row in 0..self.series.len() {
            out.set(row, self.value(row, t, &args), &mut touched);
        }
        out.changed = Changed::Rows(touched);
        self.twins.learn(out);
        self.twins.check(out)
    }
}
