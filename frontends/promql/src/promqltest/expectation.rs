//! The expected outcome of a query: the lines after `eval`. [`super::check`] compares an answer
//! with it.

use super::script::{EvalRange, EvalTime, ScriptError, grid};
use crate::series::{SeriesDescription, SeriesItem, parse_series};
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
    /// Checks the annotations `got`; the error says what is wrong.
    pub(super) fn judge(&self, level: &str, got: &[String]) -> Result<(), String> {
        if self.none && !got.is_empty() {
            return Err(format!("no {level}"));
        }
        if let Some(missing) = self.some.iter().find(|text| !got.iter().any(|got| text.fits(got))) {
            return Err(format!("{level}: {missing}"));
        }
        let told = |got: &String| self.some.is_empty() || self.some.iter().any(|text| text.fits(got));
        match got.iter().find(|got| !told(got)) {
            Some(other) => Err(format!("no other {level} such as: {other}")),
            None => Ok(()),
        }
    }

    fn consistent(&self) -> bool {
        !self.none || self.some.is_empty()
    }
}

impl Expectation {
    /// What the command itself expects, such as `eval_fail`.
    pub(super) fn of_command(word: &str) -> Expectation {
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
            let fault = |text: String| ScriptError { line: first + i, text };
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
                return Err(fault("this line contradicts or repeats one above".to_owned()));
            }
        }
        Ok(lines.len())
    }

    /// Parses the text after the word `expect`.
    fn directive(&mut self, text: &str) -> Result<(), String> {
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let rest = rest.trim();
        let alone = |what: &mut bool| {
            *what = true;
            if rest.is_empty() { Ok(()) } else { Err(format!("nothing may follow {word:?}, got {rest:?}")) }
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
                let times = rest.strip_prefix("vector").ok_or("expected \"range vector\"")?;
                let (grid, rest) = grid(times)?;
                if !rest.trim().is_empty() {
                    return Err(format!("unexpected {rest:?} behind the step"));
                }
                self.matrix = Some(grid);
            }
            _ => return Err(format!("unknown expectation {text:?}")),
        }
        Ok(())
    }

    fn series(&mut self, line: &str, when: EvalTime) -> Result<(), String> {
        let described = parse_series(line).map_err(|e| e.message())?;
        if matches!(when, EvalTime::At(_)) && self.matrix.is_none() && described.values.len() > 1 {
            return Err("an instant query answers one value for each series; a range vector needs \
                        \"expect range vector from … to … step …\" above"
                .to_owned());
        }
        let ExpectedResult::Series(series) = &mut self.answer else {
            return Err("a string or a number and series cannot both be expected".to_owned());
        };
        // If a series is described several times, the last description counts.
        series.retain(|other| other.labels != described.labels);
        if described.values.iter().any(|point| *point != SeriesItem::Gap) {
            series.push(described);
        }
        Ok(())
    }
}

/// `msg: …`, `regex: …` or nothing.
fn text_pattern(text: &str) -> Result<TextPattern, String> {
    match (text.strip_prefix("msg:"), text.strip_prefix("regex:")) {
        (Some(message), _) => Ok(TextPattern::Exactly(message.trim().to_owned())),
        (_, Some(regex)) => pattern(regex),
        _ if text.is_empty() => Ok(TextPattern::Any),
        _ => Err(format!("expected \"msg:\" or \"regex:\", got {text:?}")),
    }
}

fn pattern(text: &str) -> Result<TextPattern, String> {
    regex::Regex::new(text.trim()).map(TextPattern::Matching).map_err(|e| e.to_string())
}

/// Parses a string literal like PromQL.
fn string(text: &str) -> Result<String, String> {
    let plan = compile(text, &PromqlOptions::default()).map_err(|e| e.message())?;
    match &plan.op {
        PlanOp::Text(text) => Ok(text.clone()),
        _ => Err(format!("expected a string, got {text}")),
    }
}

/// A line that is a single number: an expected scalar.
fn number(line: &str) -> Option<f64> {
    if line.contains(char::is_whitespace) {
        return None;
    }
    let described = parse_series(&format!("x {line}")).ok()?;
    match described.values.as_slice() {
        [SeriesItem::Float(number)] => Some(*number),
        _ => None,
    }
}
