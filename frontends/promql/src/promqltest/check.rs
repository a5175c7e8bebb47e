//! Compares the outcome of a query of a test file with the expected one ([`super::expectation`]),
//! and describes the difference. [`super::compare`] compares values.

use super::answer::{TestAnswer, TestValue, number, print_expected};
use super::compare;
use super::errors::QueryFailure;
use super::expectation::{Expectation, ExpectedResult};
use super::script::EvalTime;

/// The outcome of a query.
pub(super) type TestOutcome = Result<TestAnswer, QueryFailure>;

/// The expected outcome, and the actual one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mismatch {
    pub expected: String,
    pub got: String,
}

/// Compares the outcome of a query at `when` with `wanted`.
pub(super) fn judge(wanted: &Expectation, when: EvalTime, outcome: &TestOutcome) -> Result<(), Mismatch> {
    let answer = match (&wanted.fail, outcome) {
        (Some(text), Err(error)) if text.fits(&error.to_string()) => return Ok(()),
        (Some(text), _) => return Err(Mismatch { expected: format!("error: {text}"), got: print(outcome) }),
        (None, Err(_)) => return Err(Mismatch { expected: expected(wanted), got: print(outcome) }),
        (None, Ok(answer)) => answer,
    };
    let missed = wanted.warnings.missed("warning", &answer.warnings);
    if let Some(expected) = missed.or_else(|| wanted.infos.missed("info", &answer.infos)) {
        return Err(Mismatch { expected, got: print_annotations(answer) });
    }
    judge_value(wanted, when, &answer.value)
}

/// Compares only a value with `wanted`.
pub(super) fn judge_value(wanted: &Expectation, when: EvalTime, value: &TestValue) -> Result<(), Mismatch> {
    if !compare::is_sorted(value) {
        let expected = "series in the order of their labels".to_owned();
        return Err(Mismatch { expected, got: value.print() });
    }
    if compare::fits(wanted, when, value) {
        Ok(())
    } else {
        Err(Mismatch { expected: expected(wanted), got: value.print() })
    }
}

fn expected(wanted: &Expectation) -> String {
    match &wanted.answer {
        ExpectedResult::Text(text) => format!("{text:?}"),
        ExpectedResult::Scalar(v) => number(*v),
        ExpectedResult::Series(series) => print_expected(series),
    }
}

fn print(outcome: &TestOutcome) -> String {
    match outcome {
        Ok(answer) => answer.value.print(),
        Err(error) => format!("error: {error}"),
    }
}

fn print_annotations(answer: &TestAnswer) -> String {
    let of = |level: &'static str, texts: &[String]| -> Vec<String> {
        texts.iter().map(|text| format!("{level}: {text}")).collect()
    };
    let annotations = [of("warning", &answer.warnings), of("info", &answer.infos)].concat();
    if annotations.is_empty() { "no warning, no info".to_owned() } else { annotations.join("\n") }
}
