//! Tests of single operators: rows in, rows and annotations out. Tests of whole queries are in
//! `tests/promql/`.

mod aggregates;
mod doubling;
mod histograms;
mod info;
mod limits;
mod maps;

use super::evaluation_guard::EvaluationGuard;
use super::{ChangedRows, EvalError, Operator, StepInput, StepOutput};
use crate::annotations::{AnnotationSet, StepOrigin};
use crate::types::histogram_column::Sample;
use std::collections::BTreeMap;
use std::sync::Arc;
use storage::model::histogram::{BucketSpan, Buckets, CUSTOM_BUCKETS, ResetHint};
use storage::model::value::ABSENT;
use storage::model::{Labels, NativeHistogram};

/// Labels from `a=1,b=2`; a first word without `=` is the metric name.
pub(super) fn labels(text: &str) -> Labels {
    let pairs = text.split(',').filter(|part| !part.is_empty());
    Labels::from_pairs(pairs.map(|part| part.split_once('=').unwrap_or(("__name__", part))))
}

/// A float.
pub(super) fn f(v: f64) -> Sample {
    Sample::Float(v)
}

/// An exponential histogram with these counts from bucket 0 on; its sum is that of the counts.
pub(super) fn h(schema: i32, counts: &[f64]) -> Arc<NativeHistogram> {
    let total = counts.iter().sum();
    Arc::new(NativeHistogram {
        schema,
        zero_threshold: 0.001,
        count: total,
        sum: total,
        positive: buckets(counts),
        ..NativeHistogram::default()
    })
}

/// A histogram with custom bounds.
pub(super) fn custom(bounds: &[f64], counts: &[f64]) -> Arc<NativeHistogram> {
    let total = counts.iter().sum();
    Arc::new(NativeHistogram {
        schema: CUSTOM_BUCKETS,
        count: total,
        sum: total,
        positive: buckets(counts),
        bounds: bounds.into(),
        ..NativeHistogram::default()
    })
}

/// The histogram with another hint.
pub(super) fn hinted(histogram: &NativeHistogram, hint: ResetHint) -> Sample {
    Sample::Histogram(Arc::new(NativeHistogram { hint, ..histogram.clone() }))
}

fn buckets(counts: &[f64]) -> Buckets {
    Buckets { spans: vec![BucketSpan { offset: 0, length: counts.len() as u32 }], counts: counts.to_vec() }
}

impl From<&Arc<NativeHistogram>> for Sample {
    fn from(histogram: &Arc<NativeHistogram>) -> Sample {
        Sample::Histogram(histogram.clone())
    }
}

/// Rows with samples.
pub(super) fn rows(rows: &[(&str, Sample)]) -> StepOutput {
    let mut out = StepOutput::default();
    for (text, sample) in rows {
        let row = out.add_row(labels(text));
        out.put(row, sample.clone(), &mut Vec::new());
    }
    out
}

/// A scalar.
pub(super) fn scalar(v: f64) -> StepOutput {
    rows(&[("", f(v))])
}

/// Evaluates from scratch.
pub(super) fn eval(operator: &mut dyn Operator, inputs: &[&StepOutput]) -> StepOutput {
    let mut out = StepOutput::default();
    eval_into(operator, inputs, &ChangedRows::All, &mut out).expect("an answer");
    out
}

/// Evaluates at 1 s, with this change in every input.
pub(super) fn eval_into(
    operator: &mut dyn Operator,
    inputs: &[&StepOutput],
    changed: &ChangedRows,
    out: &mut StepOutput,
) -> Result<(), EvalError> {
    let inputs: Vec<StepInput> = inputs.iter().map(|out| StepInput { out, delta: Some(changed) }).collect();
    operator.eval(&inputs, 1_000, out, &mut EvaluationGuard::free())
}

/// The result by labels, as text.
pub(super) fn answer(out: &StepOutput) -> BTreeMap<String, String> {
    let text = |row: usize| match out.cell(row).sample() {
        Some(Sample::Float(v)) => v.to_string(),
        Some(Sample::Histogram(h)) => h.test_expression(),
        None => String::new(),
    };
    out.present().map(|row| (out.labels[row].to_string(), text(row))).collect()
}

/// The texts of all annotations, sorted.
pub(super) fn remarks(out: &StepOutput) -> Vec<String> {
    let mut set = AnnotationSet::default();
    for annotation in out.annotations.iter() {
        set.add(annotation, &StepOrigin::default());
    }
    let mut texts: Vec<String> =
        set.into_list().into_iter().map(|annotation| annotation.text.to_string()).collect();
    texts.sort();
    texts
}

/// No sample.
pub(super) fn absent() -> Sample {
    Sample::Float(ABSENT)
}

/// A step may be evaluated more often than its reader. The reader must not miss the changes in
/// between.
#[test]
fn a_reader_hears_of_what_changed_while_it_was_not_due() {
    use super::stage::Stage;
    use crate::plan::Dialect;
    use crate::plan::physical::{Step, StepOp};
    let step = |op, inputs| Step { op, inputs };
    let steps = [step(StepOp::Port(0), vec![]), step(StepOp::Negate, vec![0]), step(StepOp::Negate, vec![1])];
    let mut stage = Stage::with_steps(&steps, Dialect::default());
    let row = stage.output_mut(0).add_row(labels("m"));
    let change = |stage: &mut Stage, value: f64| {
        let out = stage.output_mut(0);
        let mut touched = Vec::new();
        out.set(row, value, &mut touched);
        out.changed = ChangedRows::Rows(touched);
        out.version += 1;
    };
    change(&mut stage, 1.0);
    assert!((1..3).all(|id| stage.eval(id, 0)));
    for value in [2.0, 2.0] {
        change(&mut stage, value);
        stage.eval(1, 0);
    }
    stage.eval(2, 0);
    assert_eq!(answer(stage.output(2)), [("{}".to_owned(), "2".to_owned())].into());
}
