//! What a query has gathered ([`super::run`]), as the answer that was asked for: rows in their order, rows of equal
//! labels joined.

use super::given::Given;
use super::guard::SampleCounts;
use super::run::Grid;
use super::{Answer, QueryError, Series, Value, VectorSample};
use crate::functions::vectors::natural_order;
use crate::operators::same_labelset;
use crate::plan::AggregateOp;
use crate::plan::notes::Annotations;
use crate::plan::physical::StepOp;
use storage::model::value::HISTOGRAM;
use storage::model::{Labels, TimeMs};

/// The gathered rows of the root.
pub struct Gathered {
    pub(super) rows: Vec<Series>,
    pub(super) order: Option<StepOp>,
    pub(super) scalar: bool,
    pub(super) samples: SampleCounts,
    pub(super) notes: Annotations,
}

impl Gathered {
    /// As the answer of an instant query.
    pub fn instant(mut self, t: TimeMs) -> Result<Answer, QueryError> {
        if self.scalar {
            let first = self.rows.first().and_then(|row| row.points.first());
            let value = first.map_or(f64::NAN, |point| point.1);
            return Ok(Answer::of(Value::Scalar(t, value), self.notes, self.samples));
        }
        let (samples, order, notes) = (self.samples.clone(), self.order.clone(), self.take_notes());
        let mut rows: Vec<VectorSample> = self.merged()?.into_iter().map(|s| only(s, t)).collect();
        present(&mut rows, order.as_ref());
        Ok(Answer::of(Value::Vector(rows), notes, samples))
    }

    /// As the answer of a range query.
    pub fn range(mut self) -> Result<Answer, QueryError> {
        let (samples, notes) = (self.samples.clone(), self.take_notes());
        Ok(Answer::of(Value::Matrix(self.merged()?), notes, samples))
    }

    /// As a scalar for each time of `grid`.
    pub(super) fn scalars(self, grid: Grid) -> Given {
        let mut values = vec![f64::NAN; grid.len()];
        for (t, v) in self.rows.first().into_iter().flat_map(|row| &row.points) {
            let at = usize::try_from((t - grid.start) / grid.step).ok();
            if let Some(value) = at.and_then(|at| values.get_mut(at)) {
                *value = *v;
            }
        }
        values.into()
    }

    /// What it should be read with.
    pub fn take_notes(&mut self) -> Annotations {
        std::mem::take(&mut self.notes)
    }

    /// Series in label order; rows with equal labels are one series if they never meet.
    pub fn merged(self) -> Result<Vec<Series>, QueryError> {
        merged(self.rows)
    }
}

/// See [`Gathered::merged`].
pub(super) fn merged(mut rows: Vec<Series>) -> Result<Vec<Series>, QueryError> {
    rows.retain(|row| !row.points.is_empty() || !row.histograms.is_empty());
    rows.sort_by(|a, b| a.labels.cmp(&b.labels));
    let mut series: Vec<Series> = Vec::with_capacity(rows.len());
    for row in rows {
        match series.last_mut() {
            Some(last) if last.labels == row.labels => join(last, row)?,
            _ => series.push(row),
        }
    }
    Ok(series)
}

/// The only sample of a row of an instant query.
fn only(row: Series, t: TimeMs) -> VectorSample {
    let h = row.histograms.into_iter().next().map(|(_, h)| h);
    let v = row.points.first().map_or(HISTOGRAM, |point| point.1);
    VectorSample { labels: row.labels, t, v, h }
}

/// Adds the samples of a row with the same labels; they may never meet.
fn join(series: &mut Series, row: Series) -> Result<(), QueryError> {
    series.points.extend(row.points);
    series.points.sort_by_key(|p| p.0);
    series.histograms.extend(row.histograms);
    series.histograms.sort_by_key(|h| h.0);
    let mut times: Vec<TimeMs> = series.points.iter().map(|p| p.0).collect();
    times.extend(series.histograms.iter().map(|h| h.0));
    times.sort_unstable();
    match times.windows(2).any(|pair| pair[0] == pair[1]) {
        true => Err(QueryError::Execution(same_labelset().0)),
        false => Ok(()),
    }
}

/// Puts an instant vector into the order that its outermost operator promises.
fn present(rows: &mut [VectorSample], order: Option<&StepOp>) {
    let by_value = |rows: &mut [VectorSample], descending: bool| {
        rows.sort_by(|a, b| match (a.v.is_nan(), b.v.is_nan()) {
            (false, false) if descending => b.v.total_cmp(&a.v),
            (false, false) => a.v.total_cmp(&b.v),
            (x, y) => x.cmp(&y),
        });
    };
    match order {
        Some(StepOp::Sort(descending)) => by_value(rows, *descending),
        Some(StepOp::SortByLabel(names, descending)) => {
            let order = |a: &Labels, b: &Labels| {
                let value = |labels: &Labels, name: &str| labels.get(name).unwrap_or("").to_owned();
                let by_name = |name: &String| natural_order(&value(a, name), &value(b, name));
                names.iter().map(by_name).find(|o| o.is_ne()).unwrap_or_else(|| a.cmp(b))
            };
            rows.sort_by(
                |a, b| {
                    if *descending { order(&b.labels, &a.labels) } else { order(&a.labels, &b.labels) }
                },
            );
        }
        Some(StepOp::Group(op @ (AggregateOp::Topk | AggregateOp::Bottomk), grouping, _)) => {
            by_value(rows, *op == AggregateOp::Topk);
            if grouping.without || !grouping.labels.is_empty() {
                rows.sort_by_cached_key(|row| crate::operators::grouping::group_key(grouping, &row.labels));
            }
        }
        _ => {}
    }
}
