//! Tests of functions of classic and native histograms: quantiles and fractions, and what they warn
//! of.

use super::super::histogram_functions::HistogramQuery;
use super::*;
use crate::annotations::StepAnnotation;
use crate::annotations::{Occurrences, Severity};
use crate::plan::Dialect;
use crate::plan::details::HistogramFunction;

const DELAYED: Dialect =
    Dialect { delayed_names: true, start_timestamps: false, type_and_unit_labels: false };

fn ask(ask: HistogramFunction, dialect: Dialect, params: &[f64], of: &[(&str, Sample)]) -> StepOutput {
    let params: Vec<StepOutput> = params.iter().map(|v| scalar(*v)).collect();
    let vector = rows(of);
    let inputs: Vec<&StepOutput> = params.iter().chain([&vector]).collect();
    eval(&mut HistogramQuery::new(ask, dialect), &inputs)
}

fn answers(out: &StepOutput) -> Vec<String> {
    answer(out).into_iter().map(|(labels, value)| format!("{labels} {value}")).collect()
}

fn classic<'a>() -> Vec<(&'a str, Sample)> {
    vec![("b,j=1,le=1", f(10.0)), ("b,j=1,le=3", f(20.0)), ("b,j=1,le=+Inf", f(20.0))]
}

#[test]
fn classic_and_native_side_by_side() {
    let native = custom(&[1.0, 3.0], &[10.0, 10.0]);
    let mut of = classic();
    of.push(("h,j=2", (&native).into()));
    let out = ask(HistogramFunction::Quantile, Dialect::default(), &[0.75], &of);
    assert_eq!(answers(&out), ["{j=\"1\"} 2", "{j=\"2\"} 2"]);
    assert!(out.annotations.is_empty());
    let out = ask(HistogramFunction::Fraction, Dialect::default(), &[0.0, 2.0], &of);
    assert_eq!(answers(&out), ["{j=\"1\"} 0.75", "{j=\"2\"} 0.75"]);
    let quantiles = HistogramFunction::Quantiles("q".to_owned());
    let out = ask(quantiles, Dialect::default(), &[0.5, 1.0], &of[..3]);
    assert_eq!(answers(&out), ["{j=\"1\", q=\"0.5\"} 1", "{j=\"1\", q=\"1.0\"} 3"]);
}

#[test]
fn of_one_name_neither_is_answered() {
    let native = custom(&[1.0], &[10.0]);
    let mut of = classic();
    of.extend([("b,j=1", (&native).into()), ("b,j=2", (&native).into())]);
    // Annotations name the metric while rows have the name.
    for (dialect, of_name) in [(Dialect::default(), ""), (DELAYED, " for metric name \"b\"")] {
        let out = ask(HistogramFunction::Quantile, dialect, &[0.5], &of);
        assert!(answers(&out).len() == 1 && answers(&out)[0].ends_with(" 0.5"), "{:?}", answers(&out));
        let text = format!("vector contains a mix of classic and native histograms{of_name}");
        assert_eq!(remarks(&out), [text]);
    }
    // A native histogram with a label `le` is no bucket and not part of a classic one.
    let mut of = classic();
    of.push(("b,j=1,le=x", (&native).into()));
    let out = ask(HistogramFunction::Quantile, Dialect::default(), &[0.5], &of);
    assert_eq!(answers(&out), ["{j=\"1\", le=\"x\"} 0.5", "{j=\"1\"} 1"]);
    assert!(out.annotations.is_empty());
}

#[test]
fn buckets_without_a_bound_are_warned_of() {
    let mut of = classic();
    of.extend([("b,j=1", f(1.0)), ("b,j=1,le=x", f(2.0)), ("j=2,le=1e400", f(2.0))]);
    for (dialect, of_name) in [(Dialect::default(), ""), (DELAYED, " for metric name \"b\"")] {
        let out = ask(HistogramFunction::Fraction, dialect, &[0.0, 1.0], &of);
        assert!(answers(&out).len() == 1 && answers(&out)[0].ends_with(" 0.5"), "{:?}", answers(&out));
        let text = "bucket label \"le\" is missing or has a malformed value of";
        let want =
            [format!("{text} \"\"{of_name}"), format!("{text} \"1e400\""), format!("{text} \"x\"{of_name}")];
        assert_eq!(remarks(&out), want);
    }
}

#[test]
fn names_are_told_while_results_have_them() {
    let fixed = "input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)";
    let falling = [("b,le=1", f(2.0)), ("b,le=2", f(1.0)), ("b,le=3", f(5.0)), ("b,le=+Inf", f(4.0))];
    for (dialect, of) in [(Dialect::default(), ""), (DELAYED, " for metric name \"b\"")] {
        let out = ask(HistogramFunction::Quantiles("q".to_owned()), dialect, &[0.5, 0.9], &falling);
        let annotations: Vec<&StepAnnotation> = out.annotations.iter().collect();
        assert_eq!(annotations.len(), 1, "once a histogram, however many quantiles");
        assert_eq!(
            (&*annotations[0].text, annotations[0].level),
            (format!("{fixed}{of}").as_str(), Severity::Info)
        );
        let extent = Occurrences::Buckets {
            low: 2.0,
            high: f64::INFINITY,
            difference: 1.0,
            samples: 1,
            from: 1_000,
            to: 1_000,
        };
        assert_eq!(annotations[0].extent, extent);
    }
}

#[test]
fn observations_that_are_no_number_are_annotated() {
    let mut nan = NativeHistogram::clone(&h(0, &[12.0]));
    nan.count = 15.0;
    nan.sum = f64::NAN;
    let of = [("h,i=1", Sample::Histogram(Arc::new(nan)))];
    let start = "input to histogram_quantile has NaN observations, result is";
    for (q, want) in [(0.9, format!("{start} NaN")), (0.4, format!("{start} skewed higher"))] {
        assert_eq!(remarks(&ask(HistogramFunction::Quantile, Dialect::default(), &[q], &of)), [want]);
    }
    let out = ask(HistogramFunction::Quantile, DELAYED, &[0.9], &of);
    assert_eq!(remarks(&out), [format!("{start} NaN for metric name \"h\"")]);
    let text = "input to histogram_fraction has NaN observations, which are excluded from all fractions";
    assert_eq!(remarks(&ask(HistogramFunction::Fraction, Dialect::default(), &[0.0, 9.0], &of)), [text]);
}

#[test]
fn quantiles_that_are_none_are_warned_of() {
    let out = ask(
        HistogramFunction::Quantiles("q".to_owned()),
        Dialect::default(),
        &[-1.0, 0.5, f64::NAN],
        &classic(),
    );
    let text = "quantile value should be between 0 and 1, got";
    assert_eq!(remarks(&out), [format!("{text} -1"), format!("{text} NaN")]);
    let want = ["{j=\"1\", q=\"-1.0\"} -inf", "{j=\"1\", q=\"0.5\"} 1", "{j=\"1\", q=\"NaN\"} NaN"];
    assert_eq!(answers(&out), want);
    assert_eq!(
        remarks(&ask(HistogramFunction::Quantile, Dialect::default(), &[2.0], &[])),
        [format!("{text} 2")]
    );
}

#[test]
fn answers_and_annotations_go_with_their_reason() {
    let mut operator = HistogramQuery::new(HistogramFunction::Quantile, Dialect::default());
    let q = scalar(0.5);
    let mut out = StepOutput::default();
    let bad = rows(&[("b,le=x", f(1.0)), ("b,le=1", f(1.0)), ("b,le=+Inf", f(2.0))]);
    eval_into(&mut operator, &[&q, &bad], &ChangedRows::All, &mut out).expect("an answer");
    assert_eq!((answers(&out).len(), remarks(&out).len()), (1, 1));
    let gone = rows(&[("b,le=x", absent()), ("b,le=1", absent()), ("b,le=+Inf", absent())]);
    eval_into(&mut operator, &[&q, &gone], &ChangedRows::All, &mut out).expect("an answer");
    assert_eq!((answers(&out).len(), out.annotations.is_empty()), (0, true));
}
