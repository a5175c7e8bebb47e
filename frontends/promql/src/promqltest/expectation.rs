//! The expected outcome of a query: the lines after `eval`. [`super::check`] compares an answer
//! with it.

use super::errors::{ScriptError, ScriptErrorKind};
use super::script::{EvalRange, EvalTime, grid, unexpected};
use crate::series::{SequenceValue, SeriesDescription, parse_series};
use crate::{PromqlOptions, compile};
use engine::plan::PlanOp;

/// The expected outcome of a query.
#[derive(Clone, Debug, Default)]
pub(super) struct Expectation {
    /// The query must fail with this text.
    pub fail: Option<TextPattern>,
    pub warnings: ExpectedAnnotations,
    pub infos: ExpectedAnnotations,
    /// The order of the lines must be the order of the result.
    pub ordered: bool,
    /// The times of the expected range vector of an instant query.
    pub matrix: Option<EvalRange>,
    pub answer: ExpectedResult,
}

/// The expected value.
#[derive(Clone, Debug)]
pub(super) enum ExpectedResult {
    /// A vector or a range vector; empty if there are no series.
    Series(Vec<SeriesDescription>),
    Scalar(f64),
    Text(String),
}

impl Default for ExpectedResult {
    fn default() -> Self {
        ExpectedResult::Series(Vec::new())
    }
}

/// The expected annotations of one level.
#[derive(Clone, Debug, Default)]
pub(super) struct ExpectedAnnotations {
    /// Each pattern must match an annotation. If there are patterns, every annotation must match
    /// one.
    pub some: Vec<TextPattern>,
    /// There must be no annotation.
    pub none: bool,
}

/// A pattern of a text.
#[derive(Clone, Debug)]
pub(super) enum TextPattern {
    Any,
    Exactly(String),
    Matching(regex::Regex),
}

impl TextPattern {
    /// Whether `text` matches.
    pub(super) fn fits(&self, text: &str) -> bool {
        match self {
            TextPattern::Any => true,
            TextPattern::Exactly(wanted) => wanted == text,
            TextPattern::Matching(pattern) => pattern.is_match(text),
        }
    }
}

impl std::fmt::Display for TextPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TextPattern::Any => f.write_str("any"),
            TextPattern::Exactly(text) => f.write_str(text),
            TextPattern::Matching(pattern) => write!(f, "/{pattern}/"),
        }
    }
}

impl ExpectedAnnotations {
    /// What of the annotations `got` is not as expected, as the text of the expectation that they
    /// miss; `None`: all are.
    pub(super) fn missed(&self, level: &str, got: &[String]) -> Option<String> {
        if self.none && !got.is_empty() {
            return Some(format!("no {level}"));
        }
        if let Some(missing) = self.some.iter().find(|text| !got.iter().any(|got| text.fits(got))) {
            return Some(format!("{level}: {missing}"));
        }
        // As in Prometheus, a file that expects no annotation at all does not forbid them.
        let expected = |got: &String| self.some.is_empty() || self.some.iter().any(|text| text.fits(got));
        let other = got.iter().find(|got| !expected(got))?;
        Some(format!("no other {level} such as: {other}"))
    }

    fn consistent(&self) -> bool {
        !self.none || self.some.is_empty()
    }
}

impl Expectation {
    /// What the command itself expects, such as `eval_fail`.
    pub(super) fn from_command(word: &str) -> Expectation {
        let mut wanted = Expectation::default();
        match word.strip_prefix("eval_") {
            Some("fail") => wanted.fail = Some(TextPattern::Any),
            Some("warn") => wanted.warnings.some.push(TextPattern::Any),
            Some("info") => wanted.infos.some.push(TextPattern::Any),
            Some("ordered") => wanted.ordered = true,
            _ => {}
        }
        wanted
    }

    /// Parses the lines after the command, from line number `first` on; returns how many belong to
    /// it.
    pub(super) fn read(
        &mut self,
        lines: &[&str],
        when: EvalTime,
        first: usize,
    ) -> Result<usize, ScriptError> {
        let mut failures = 0;
        for (i, line) in lines.iter().enumerate() {
            let fault = |kind: ScriptErrorKind| ScriptError { line: first + i, kind };
            let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            match word {
                "expect" => {
                    failures += usize::from(rest.trim_start().starts_with("fail"));
                    self.directive(rest.trim()).map_err(fault)?;
                }
                "expected_fail_message" => self.fail = Some(TextPattern::Exactly(rest.trim().to_owned())),
                "expected_fail_regexp" => self.fail = Some(pattern(rest).map_err(fault)?),
                _ => {
                    if let Some(number) = number(line) {
                        // Nothing may follow a number.
                        self.answer = ExpectedResult::Scalar(number);
                        return Ok(i + 1);
                    }
                    self.series(line, when).map_err(fault)?;
                }
            }
            if failures > 1 || !self.warnings.consistent() || !self.infos.consistent() {
                return Err(fault(ScriptErrorKind::Contradiction));
            }
        }
        Ok(lines.len())
    }

    /// Parses the text after the word `expect`.
    fn directive(&mut self, text: &str) -> Result<(), ScriptErrorKind> {
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let rest = rest.trim();
        let alone = |what: &mut bool| {
            *what = true;
            if rest.is_empty() { Ok(()) } else { Err(trailing(word, rest)) }
        };
        match word {
            "fail" => self.fail = Some(text_pattern(rest)?),
            "warn" => self.warnings.some.push(text_pattern(rest)?),
            "info" => self.infos.some.push(text_pattern(rest)?),
            "no_warn" => alone(&mut self.warnings.none)?,
            "no_info" => alone(&mut self.infos.none)?,
            "ordered" => alone(&mut self.ordered)?,
            "string" => self.answer = ExpectedResult::Text(string(rest)?),
            "range" => {
                let times =
                    rest.strip_prefix("vector").ok_or_else(|| unexpected("\"range vector\"", text))?;
                let (grid, rest) = grid(times)?;
                if !rest.trim().is_empty() {
                    return Err(trailing("step", rest));
                }
                self.matrix = Some(grid);
            }
            _ => return Err(ScriptErrorKind::UnknownExpectation(text.to_owned())),
        }
        Ok(())
    }

    fn series(&mut self, line: &str, when: EvalTime) -> Result<(), ScriptErrorKind> {
        let described = parse_series(line).map_err(ScriptErrorKind::Notation)?;
        if matches!(when, EvalTime::At(_)) && self.matrix.is_none() && described.values.len() > 1 {
            return Err(ScriptErrorKind::SeveralValues);
        }
        let ExpectedResult::Series(series) = &mut self.answer else {
            return Err(ScriptErrorKind::SeriesBesideValue);
        };
        // If a series is described several times, the last description counts.
        series.retain(|other| other.labels != described.labels);
        if described.values.iter().any(|point| *point != SequenceValue::Gap) {
            series.push(described);
        }
        Ok(())
    }
}

/// `msg: …`, `regex: …` or nothing.
fn text_pattern(text: &str) -> Result<TextPattern, ScriptErrorKind> {
    match (text.strip_prefix("msg:"), text.strip_prefix("regex:")) {
        (Some(message), _) => Ok(TextPattern::Exactly(message.trim().to_owned())),
        (_, Some(regex)) => pattern(regex),
        _ if text.is_empty() => Ok(TextPattern::Any),
        _ => Err(unexpected("\"msg:\" or \"regex:\"", text)),
    }
}

fn pattern(text: &str) -> Result<TextPattern, ScriptErrorKind> {
    let regex = regex::Regex::new(text.trim()).map_err(|error| ScriptErrorKind::Regex(error.to_string()))?;
    Ok(TextPattern::Matching(regex))
}

/// Something follows where the line must end.
fn trailing(word: &str, rest: &str) -> ScriptErrorKind {
    ScriptErrorKind::Trailing { word: word.to_owned(), rest: rest.to_owned() }
}

/// Parses a string literal like PromQL.
fn string(text: &str) -> Result<String, ScriptErrorKind> {
    let plan = compile(text, &PromqlOptions::default()).map_err(ScriptErrorKind::Notation)?;
    match &plan.op {
        PlanOp::Text(text) => Ok(text.clone()),
        _ => Err(unexpected("a string", text)),
    }
}

/// A line that is a single number: an expected scalar.
fn number(line: &str) -> Option<f64> {
    if line.contains(char::is_whitespace) {
        return None;
    }
    let described = parse_series(&format!("x {line}")).ok()?;
    match described.values.as_slice() {
        [SequenceValue::Float(number)] => Some(*number),
        _ => None,
    }
}
