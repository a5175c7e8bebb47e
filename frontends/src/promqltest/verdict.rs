//! Whether an outcome is the expected one, and if not, how to say it.

use super::answer::{Answer, Value, number, print_expected};
use super::compare;
use super::expect::{Expected, Wanted};
use super::script::When;

/// What came of a query; `Err`: it failed, with this text.
pub(super) type Outcome = Result<Answer, String>;

/// What was expected, and what came instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mismatch {
    pub expected: String,
    pub got: String,
}

/// Holds the outcome of a query at `when` against `wanted`.
pub(super) fn judge(wanted: &Wanted, when: When, outcome: &Outcome) -> Result<(), Mismatch> {
    let answer = match (&wanted.fail, outcome) {
        (Some(text), Err(error)) if text.fits(error) => return Ok(()),
        (Some(text), _) => return Err(Mismatch { expected: format!("error: {text}"), got: print(outcome) }),
        (None, Err(_)) => return Err(Mismatch { expected: expected(wanted), got: print(outcome) }),
        (None, Ok(answer)) => answer,
    };
    let notes = |expected: String| Mismatch { expected, got: print_notes(answer) };
    wanted.warnings.judge("warning", &answer.warnings).map_err(notes)?;
    wanted.infos.judge("info", &answer.infos).map_err(notes)?;
    judge_value(wanted, when, &answer.value)
}

/// Holds a value alone against `wanted`.
pub(super) fn judge_value(wanted: &Wanted, when: When, value: &Value) -> Result<(), Mismatch> {
    if !compare::is_sorted(value) {
        let expected = "series in the order of their labels".to_owned();
        return Err(Mismatch { expected, got: value.print() });
    }
    match compare::fits(wanted, when, value) {
        true => Ok(()),
        false => Err(Mismatch { expected: expected(wanted), got: value.print() }),
    }
}

fn expected(wanted: &Wanted) -> String {
    match &wanted.answer {
        Expected::Text(text) => format!("{text:?}"),
        Expected::Scalar(v) => number(*v),
        Expected::Series(series) => print_expected(series),
    }
}

fn print(outcome: &Outcome) -> String {
    match outcome {
        Ok(answer) => answer.value.print(),
        Err(error) => format!("error: {error}"),
    }
}

fn print_notes(answer: &Answer) -> String {
    let of = |level: &'static str, texts: &[String]| -> Vec<String> {
        texts.iter().map(|text| format!("{level}: {text}")).collect()
    };
    let notes = [of("warning", &answer.warnings), of("info", &answer.infos)].concat();
    if notes.is_empty() { "no warning, no info".to_owned() } else { notes.join("\n") }
}
