//! Makes the answer of a query from the rows that [`super::query_run`] gathered: sorts them, and
//! merges rows with equal labels. Operators keep a row for each series that ever had a value, and
//! in the order in which shards have them, so this is where an answer gets the order and the form
//! that clients see.

use super::guard::QueryGuard;
use super::query_run::TimeGrid;
use super::scalar_params::ScalarParam;
use super::{QueryAnswer, QueryError, QueryValue, Series, VectorSample};
use crate::annotations::AnnotationSet;
use crate::functions::vectors::natural_order;
use crate::limits::CHECK_ROWS;
use crate::operators::evaluation_guard::EvaluationGuard;
use crate::operators::grouping::group_key;
use crate::operators::{EvalError, same_labelset, sort_paced};
use crate::plan::AggregateOp;
use crate::plan::physical::StepOp;
use std::cmp::Ordering;
use std::sync::Arc;
use storage::model::value::HISTOGRAM;
use storage::model::{Labels, TimeMs};

/// Go sorts up to this many items by insertion.
const INSERTION_SORT_MAX: usize = 12;

/// The gathered rows of the root step.
pub(super) struct QueryResult {
    /// The rows, in the order of the shards.
    pub(super) rows: Vec<Series>,
    /// The sorting function at the root of the plan, if there is one.
    pub(super) order: Option<StepOp>,
    /// Whether the answer is a scalar.
    pub(super) scalar: bool,
    /// The annotations so far.
    pub(super) annotations: AnnotationSet,
    /// The limits of the query.
    pub(super) guard: Arc<QueryGuard>,
}

impl QueryResult {
    /// The answer of an instant query.
    pub(super) fn instant(mut self, t: TimeMs) -> Result<QueryAnswer, QueryError> {
        if self.scalar {
            let first = self.rows.first().and_then(|row| row.points.first());
            let value = first.map_or(f64::NAN, |point| point.1);
            return Ok(QueryAnswer::new(QueryValue::Scalar(t, value), self.annotations, &self.guard));
        }
        let order = self.order.clone();
        let annotations = self.take_annotations();
        let guard = self.guard.clone();
        let rows: Vec<VectorSample> = self.merged()?.into_iter().map(|s| only(s, t)).collect();
        let rows = guard.paced(|eval_guard| present(rows, order.as_ref(), eval_guard))?;
        Ok(QueryAnswer::new(QueryValue::Vector(rows), annotations, &guard))
    }

    /// The answer of a range query.
    pub(super) fn range(mut self) -> Result<QueryAnswer, QueryError> {
        let annotations = self.take_annotations();
        let guard = self.guard.clone();
        Ok(QueryAnswer::new(QueryValue::Matrix(self.merged()?), annotations, &guard))
    }

    /// One scalar for each time of `grid`.
    pub(super) fn scalars(self, grid: TimeGrid) -> ScalarParam {
        let mut values = vec![f64::NAN; grid.len()];
        for (t, v) in self.rows.first().into_iter().flat_map(|row| &row.points) {
            let at = usize::try_from((t - grid.start) / grid.step).ok();
            if let Some(value) = at.and_then(|at| values.get_mut(at)) {
                *value = *v;
            }
        }
        values.into()
    }

    /// Removes and returns the annotations.
    pub(super) fn take_annotations(&mut self) -> AnnotationSet {
        std::mem::take(&mut self.annotations)
    }

    /// The series in label order. Rows with equal labels are merged; it is an error if two of them
    /// have a float, or a histogram, at the same time.
    pub(super) fn merged(self) -> Result<Vec<Series>, QueryError> {
        merged(self.rows, &self.guard)
    }
}

/// See [`QueryResult::merged`].
pub(super) fn merged(mut rows: Vec<Series>, guard: &QueryGuard) -> Result<Vec<Series>, QueryError> {
    rows.retain(|row| !row.points.is_empty() || !row.histograms.is_empty());
    let rows = guard.paced(|eval_guard| sort_paced(rows, |a, b| a.labels.cmp(&b.labels), eval_guard))?;
    let mut series: Vec<Series> = Vec::with_capacity(rows.len());
    for (number, row) in rows.into_iter().enumerate() {
        if number % CHECK_ROWS == 0 {
            guard.check()?;
        }
        match series.last_mut() {
            Some(last) if last.labels == row.labels => join(last, row)?,
            _ => series.push(row),
        }
    }
    Ok(series)
}

/// The single sample of a row of an instant query. If it has a float and a histogram, the
/// histogram.
fn only(row: Series, t: TimeMs) -> VectorSample {
    let h = row.histograms.into_iter().next().map(|(_, h)| h);
    let float = row.points.first().filter(|_| h.is_none());
    let v = float.map_or(HISTOGRAM, |point| point.1);
    VectorSample { labels: row.labels, t, v, h, drops: row.drops }
}

/// Adds the samples of a row with the same labels.
fn join(series: &mut Series, row: Series) -> Result<(), QueryError> {
    series.points.extend(row.points);
    series.points.sort_by_key(|p| p.0);
    series.histograms.extend(row.histograms);
    series.histograms.sort_by_key(|h| h.0);
    let floats = series.points.windows(2).any(|pair| pair[0].0 == pair[1].0);
    if floats || series.histograms.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        Err(QueryError::Execution(same_labelset().0))
    } else {
        Ok(())
    }
}

/// Sorts an instant vector as its outermost operator requires.
fn present(
    rows: Vec<VectorSample>,
    order: Option<&StepOp>,
    eval_guard: &mut EvaluationGuard,
) -> Result<Vec<VectorSample>, EvalError> {
    match order {
        Some(StepOp::Sort(descending)) => sort_paced(rows, by_value(*descending), eval_guard),
        Some(StepOp::SortByLabel(names, descending)) => {
            let order = |a: &Labels, b: &Labels| {
                let by_name =
                    |name: &String| natural_order(a.get(name).unwrap_or(""), b.get(name).unwrap_or(""));
                names.iter().map(by_name).find(|o| o.is_ne()).unwrap_or_else(|| a.cmp(b))
            };
            let directed = |a: &VectorSample, b: &VectorSample| {
                if *descending { order(&b.labels, &a.labels) } else { order(&a.labels, &b.labels) }
            };
            if rows.len() > INSERTION_SORT_MAX {
                return sort_paced(rows, directed, eval_guard);
            }
            eval_guard.rows(rows.len() * rows.len())?;
            let has = |row: &VectorSample, name: &str| row.labels.get(name).is_some();
            // A row with the label and a row without it cannot be compared: Prometheus' `less` is
            // false both ways.
            let lacks = |a: &VectorSample, b: &VectorSample| {
                let differs = |name: &&String| a.labels.get(name) != b.labels.get(name);
                names.iter().find(differs).is_some_and(|name| !has(a, name) || !has(b, name))
            };
            let before = |a: &VectorSample, b: &VectorSample| {
                if lacks(a, b) { *descending } else { directed(a, b).is_lt() }
            };
            Ok(inserted(rows, before))
        }
        Some(StepOp::WholeGroup(op @ (AggregateOp::Topk | AggregateOp::Bottomk), grouping, _)) => {
            let rows = sort_paced(rows, by_value(*op == AggregateOp::Topk), eval_guard)?;
            if !grouping.without && grouping.labels.is_empty() {
                return Ok(rows);
            }
            eval_guard.rows(rows.len())?;
            let keyed = rows.into_iter().map(|row| (group_key(grouping, &row.labels), row)).collect();
            let keyed: Vec<_> = sort_paced(keyed, |a: &(Labels, _), b| a.0.cmp(&b.0), eval_guard)?;
            Ok(keyed.into_iter().map(|(_, row)| row).collect())
        }
        _ => Ok(rows),
    }
}

/// Insertion sort, as Go uses for few items. Where the comparison is not a proper order, the
/// algorithm decides the result, so it must be the same.
fn inserted<T>(mut items: Vec<T>, before: impl Fn(&T, &T) -> bool) -> Vec<T> {
    for end in 1..items.len() {
        let mut at = end;
        while at > 0 && before(&items[at], &items[at - 1]) {
            items.swap(at, at - 1);
            at -= 1;
        }
    }
    items
}

/// The order of values; NaN is last.
fn by_value(descending: bool) -> impl Fn(&VectorSample, &VectorSample) -> Ordering {
    move |a, b| match (a.v.is_nan(), b.v.is_nan()) {
        (false, false) if descending => b.v.total_cmp(&a.v),
        (false, false) => a.v.total_cmp(&b.v),
        (x, y) => x.cmp(&y),
    }
}
