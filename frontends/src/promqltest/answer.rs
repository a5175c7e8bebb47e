//! An answer, whichever runtime gave it: what [`super::verdict`] judges and prints.

use crate::promql::series::{Point, SeriesDescription};
use std::fmt::Write;
use std::sync::Arc;
use storage::model::histogram::NativeHistogram;
use storage::model::number::general;
use storage::model::value::is_stale;
use storage::model::{Labels, TimeMs};

/// An answer and its annotations.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub value: Value,
    /// Texts of the annotations, as the API shows them.
    pub warnings: Vec<String>,
    pub infos: Vec<String>,
}

/// The four types of answers.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Scalar(f64),
    Text(String),
    Vector(Vec<(Labels, Cell)>),
    Matrix(Vec<(Labels, Cells)>),
}

/// One series' values with their times, ascending.
pub(super) type Cells = Vec<(TimeMs, Cell)>;

/// A number or a native histogram.
#[derive(Clone, Debug)]
pub(super) enum Cell {
    Float(f64),
    Histogram(Arc<NativeHistogram>),
}

impl Value {
    /// What a range query answered at `t`, as an instant query would give it; `scalar`: as one number.
    pub(super) fn at(&self, t: TimeMs, scalar: bool) -> Option<Value> {
        let Value::Matrix(series) = self else { return None };
        let mut rows = series.iter().filter_map(|(labels, points)| {
            let point = points.iter().find(|point| point.0 == t)?;
            Some((labels.clone(), point.1.clone()))
        });
        if !scalar {
            return Some(Value::Vector(rows.collect()));
        }
        match rows.next()? {
            (_, Cell::Float(v)) => Some(Value::Scalar(v)),
            _ => None,
        }
    }

    /// In the notation of expectations, with times where there are several.
    pub(super) fn print(&self) -> String {
        let lines: Vec<String> = match self {
            Value::Scalar(v) => vec![number(*v)],
            Value::Text(text) => vec![format!("{text:?}")],
            Value::Vector(rows) => {
                rows.iter().map(|(l, cell)| format!("{} {}", names(l), cell.print())).collect()
            }
            Value::Matrix(series) => {
                let point = |(t, cell): &(TimeMs, Cell)| format!("{} @{t}", cell.print());
                let points =
                    |cells: &[(TimeMs, Cell)]| cells.iter().map(point).collect::<Vec<_>>().join("  ");
                series.iter().map(|(labels, cells)| format!("{} {}", names(labels), points(cells))).collect()
            }
        };
        if lines.is_empty() { "nothing".to_owned() } else { lines.join("\n") }
    }
}

impl Cell {
    /// A value and the histogram that it may stand for.
    pub(super) fn of(v: f64, histogram: Option<Arc<NativeHistogram>>) -> Cell {
        histogram.map_or(Cell::Float(v), Cell::Histogram)
    }

    fn print(&self) -> String {
        match self {
            Cell::Float(v) => number(*v),
            Cell::Histogram(h) => h.test_expression(),
        }
    }
}

/// Expected series in their notation.
pub(super) fn print_expected(series: &[SeriesDescription]) -> String {
    let point = |point: &Point| match point {
        Point::Gap => "_".to_owned(),
        Point::Float(v) => number(*v),
        Point::Histogram(literal) => literal.histogram.test_expression(),
    };
    let line = |s: &SeriesDescription| {
        let values: Vec<String> = s.values.iter().map(point).collect();
        format!("{} {}", names(&s.labels), values.join(" "))
    };
    let lines: Vec<String> = series.iter().map(line).collect();
    if lines.is_empty() { "nothing".to_owned() } else { lines.join("\n") }
}

/// A number as test files write it.
pub(super) fn number(v: f64) -> String {
    if is_stale(v) { "stale".to_owned() } else { general(v) }
}

fn names(labels: &Labels) -> String {
    let mut out = String::from("{");
    for (i, (name, value)) in labels.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = write!(out, "{}{name}={value:?}", if i > 0 { ", " } else { "" });
    }
    out + "}"
}
