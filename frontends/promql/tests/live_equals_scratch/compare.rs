//! Compares the answers of views with those that the query runtime computes from scratch: bit by
//! bit, or within the tolerance that the table of functions declares.

use crate::entries::Inexact;
use crate::world::{START, View, World};
use engine::annotations::{Annotation, Severity};
use engine::live::LabelledSample;
use engine::plan::{Plan, Span};
use engine::query::{QueryOptions, QueryValue, VectorSample};
use engine::types::histogram_column::Sample;
use promql::PromqlOptions;
use std::collections::BTreeMap;
use storage::model::Labels;

/// Why the answer of a view is wrong; `None`: it is correct.
pub fn difference(world: &World, view: &View, options: &PromqlOptions) -> Option<String> {
    // A long run may be suspended for a while; the answer must not depend on the timeout.
    let timeout = std::time::Duration::from_secs(86_400);
    let asked = QueryOptions { dialect: options.dialect(), timeout, ..QueryOptions::default() };
    let shown = view.shown.lock();
    if shown.wrong.is_some() {
        return shown.wrong.clone();
    }
    let (rows, annotations) = match from_scratch(world, &view.drawn.plan, &asked) {
        Ok(answer) => answer,
        Err(_) if shown.failed => return None,
        Err(error) => return Some(format!("fails from scratch ({error}), not live")),
    };
    if shown.failed {
        return Some("fails live, not from scratch".to_owned());
    }
    let inexact = view.drawn.inexact.as_ref();
    let allowed = |a: f64, b: f64| inexact.map_or(0.0, |inexact| allowance(world, inexact, &asked, a, b));
    let expected: BTreeMap<Labels, Sample> = rows.into_iter().collect();
    let same_rows = shown.rows.len() == expected.len();
    if !same_rows || !shown.rows.iter().zip(&expected).all(|(a, b)| a.0 == b.0 && same(a.1, b.1, allowed)) {
        return Some(format!("\n live    {:?}\n scratch {expected:?}", shown.rows));
    }
    let live = said(&shown.annotations);
    let scratch = said(&annotations);
    (live != scratch).then(|| format!("\n live    remarks {live:?}\n scratch remarks {scratch:?}"))
}

/// Where a difference was found.
pub fn place(world: &World, view: &View) -> String {
    format!("{} (for {}) at {} ms", view.drawn.text, view.entry.name(), world.now - START)
}

fn from_scratch(
    world: &World,
    plan: &Plan,
    asked: &QueryOptions,
) -> Result<(Vec<LabelledSample>, Vec<Annotation>), String> {
    let answer = world.querier.instant(plan, world.now, asked).map_err(|e| e.to_string())?;
    match answer.value {
        QueryValue::Vector(rows) => Ok((rows.into_iter().map(row).collect(), answer.annotations)),
        QueryValue::Scalar(_, v) => Ok((vec![(Labels::default(), Sample::Float(v))], answer.annotations)),
        other => panic!("neither a vector nor a scalar: {other:?}"),
    }
}

fn row(row: VectorSample) -> LabelledSample {
    (row.labels, row.h.map_or(Sample::Float(row.v), Sample::Histogram))
}

/// The annotations without their times: an annotation of a view stays as long as its cause.
fn said(annotations: &[Annotation]) -> Vec<(Severity, &str, Span)> {
    annotations.iter().map(|annotation| (annotation.level, &*annotation.text, annotation.span)).collect()
}

fn same(a: &Sample, b: &Sample, allowed: impl Fn(f64, f64) -> f64) -> bool {
    match (a, b) {
        (Sample::Float(a), Sample::Float(b)) => {
            let a = *a;
            let b = *b;
            a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()) || (a - b).abs() <= allowed(a, b)
        }
        (a, b) => a.same(b),
    }
}

/// How much two answers may differ: the entry's declared tolerance of the value. Operators around
/// the entry add up, at most, the differences of all its values, and round their own result.
fn allowance(world: &World, inexact: &Inexact, asked: &QueryOptions, a: f64, b: f64) -> f64 {
    let value = a.abs().max(b.abs()).max(inexact.tolerance.least);
    if !inexact.composed {
        return inexact.tolerance.relative * value;
    }
    let inner = from_scratch(world, &inexact.plan, asked).map_or(Vec::new(), |(rows, _)| rows);
    let size = |(_, sample): &LabelledSample| match sample {
        Sample::Float(v) if v.is_finite() => v.abs().max(inexact.tolerance.least),
        _ => 0.0,
    };
    2.0 * inexact.tolerance.relative * (value + inner.iter().map(size).sum::<f64>())
}
