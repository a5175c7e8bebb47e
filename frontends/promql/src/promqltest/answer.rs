//! The answer to a test query, from stored history or from a live view, in the form that
//! [`super::check`] compares and prints.

use crate::series::{SequenceValue, SeriesDescription};
use std::fmt::Write;
use std::sync::Arc;
use storage::model::histogram::NativeHistogram;
use storage::model::number::general;
use storage::model::value::is_stale;
use storage::model::{Labels, TimeMs};

/// An answer and its annotations.
#[derive(Clone, Debug)]
pub(super) struct TestAnswer {
    pub value: TestValue,
    /// The texts of the annotations, as the API shows them.
    pub warnings: Vec<String>,
    pub infos: Vec<String>,
}

/// A value of one of the four types.
#[derive(Clone, Debug)]
pub(super) enum TestValue {
    Scalar(f64),
    Text(String),
    Vector(Vec<(Labels, TestPoint)>),
    Matrix(Vec<(Labels, TestPoints)>),
}

/// The values of one series with their times, ascending.
pub(super) type TestPoints = Vec<(TimeMs, TestPoint)>;

/// A number or a native histogram.
#[derive(Clone, Debug)]
pub(super) enum TestPoint {
    Float(f64),
    Histogram(Arc<NativeHistogram>),
}

impl TestValue {
    /// The result of a range query at `t` as an instant query would return it; as a single number
    /// if `scalar`.
    pub(super) fn at(&self, t: TimeMs, scalar: bool) -> Option<TestValue> {
        let TestValue::Matrix(series) = self else { return None };
        let mut rows = series.iter().filter_map(|(labels, points)| {
            let point = points.iter().find(|point| point.0 == t)?;
            Some((labels.clone(), point.1.clone()))
        });
        if !scalar {
            return Some(TestValue::Vector(rows.collect()));
        }
        match rows.next()? {
            (_, TestPoint::Float(v)) => Some(TestValue::Scalar(v)),
            _ => None,
        }
    }

    /// Prints the value in the notation of expectations, with times if there are several.
    pub(super) fn print(&self) -> String {
        let lines: Vec<String> = match self {
            TestValue::Scalar(v) => vec![number(*v)],
            TestValue::Text(text) => vec![format!("{text:?}")],
            TestValue::Vector(rows) => {
                rows.iter().map(|(l, cell)| format!("{} {}", names(l), cell.print())).collect()
            }
            TestValue::Matrix(series) => {
                let point = |(t, cell): &(TimeMs, TestPoint)| format!("{} @{t}", cell.print());
                let points =
                    |cells: &[(TimeMs, TestPoint)]| cells.iter().map(point).collect::<Vec<_>>().join("  ");
                series.iter().map(|(labels, cells)| format!("{} {}", names(labels), points(cells))).collect()
            }
        };
        if lines.is_empty() { "nothing".to_owned() } else { lines.join("\n") }
    }
}

impl TestPoint {
    /// A float, or the histogram if there is one.
    pub(super) fn new(v: f64, histogram: Option<Arc<NativeHistogram>>) -> TestPoint {
        histogram.map_or(TestPoint::Float(v), TestPoint::Histogram)
    }

    fn print(&self) -> String {
        match self {
            TestPoint::Float(v) => number(*v),
            TestPoint::Histogram(h) => h.test_expression(),
        }
    }
}

/// Prints expected series in their notation.
pub(super) fn print_expected(series: &[SeriesDescription]) -> String {
    let point = |point: &SequenceValue| match point {
        SequenceValue::Gap => "_".to_owned(),
        SequenceValue::Float(v) => number(*v),
        SequenceValue::Histogram(literal) => literal.histogram.test_expression(),
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
