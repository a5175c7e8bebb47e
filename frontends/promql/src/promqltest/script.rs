//! Splits a test file into commands.
//!
//! A command begins on a line; the following lines, up to an empty one or a comment, belong to it:
//!
//! ```text
//! load 1m
//!   up{job="a"} 1x5 _ 0
//!
//! eval range from 0 to 3m step 1m sum(up)
//!   expect no_warn
//!   {} 1 1 1 1
//!
//! clear
//! ```
//!
//! [`super::load`] parses the lines of `load`, [`super::expectation`] those of `eval`.

use super::errors::{ScriptError, ScriptErrorKind};
use super::expectation::Expectation;
use super::load::{self, LoadedSeries};
use storage::model::TimeMs;
use storage::model::time::parse_duration;

/// A command and its line number, from 1.
#[derive(Clone, Debug)]
pub(super) struct ScriptCommand {
    pub line: usize,
    pub kind: CommandKind,
}

#[derive(Clone, Debug)]
pub(super) enum CommandKind {
    /// Removes all samples.
    Clear,
    Load(LoadedSeries),
    Eval(Box<EvalCommand>),
    /// A command that cannot be parsed: its text, and the error.
    Bad(String, String),
}

/// A query and its expected outcome.
#[derive(Clone, Debug)]
pub(super) struct EvalCommand {
    pub expr: String,
    pub when: EvalTime,
    pub expectation: Expectation,
}

/// The evaluation times of a query.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum EvalTime {
    /// An instant query.
    At(TimeMs),
    /// A range query.
    Range(EvalRange),
}

/// The times `start, start + step, … ≤ end`, ms.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct EvalRange {
    pub start: TimeMs,
    pub end: TimeMs,
    pub step: i64,
}

impl EvalRange {
    /// The times of the range.
    pub(super) fn times(self) -> impl Iterator<Item = TimeMs> {
        let next = move |t: &TimeMs| t.checked_add(self.step.max(1));
        std::iter::successors(Some(self.start), next).take_while(move |t| *t <= self.end)
    }
}

/// The commands of `text`.
pub(super) fn read(text: &str) -> Vec<ScriptCommand> {
    let lines: Vec<&str> = text.lines().map(|l| l.trim()).collect();
    let mut commands = Vec::new();
    let mut at = 0;
    // The end of the lines that belong together. It is searched once, though they may hold many
    // commands.
    let mut end = 0;
    let silent = |line: &str| line.is_empty() || line.starts_with('#');
    while at < lines.len() {
        if silent(lines[at]) {
            at += 1;
            continue;
        }
        if end <= at {
            end = at + lines[at..].iter().take_while(|line| !silent(line)).count();
        }
        let mut body = &lines[at + 1..end];
        let kind = command(lines[at], &mut body, at + 1).map(|kind| (at + 1, kind));
        let (line, kind) = kind.unwrap_or_else(|ScriptError { line, kind }| {
            (line, CommandKind::Bad(lines.get(line - 1).unwrap_or(&"").to_string(), kind.to_string()))
        });
        commands.push(ScriptCommand { line, kind });
        at += 1 + body.len();
    }
    commands
}

/// Parses the command at `line`; `body` is cut to the lines that belong to it.
fn command(head: &str, body: &mut &[&str], line: usize) -> Result<CommandKind, ScriptError> {
    let fault = |kind: ScriptErrorKind| ScriptError { line, kind };
    let (word, rest) = head.split_once(char::is_whitespace).unwrap_or((head, ""));
    match word.to_ascii_lowercase().as_str() {
        "clear" => {
            *body = &[];
            Ok(CommandKind::Clear)
        }
        word @ ("load" | "load_with_nhcb") => {
            let step = duration(rest.trim()).map_err(fault)?;
            load::read(step, word != "load", body, line + 1).map(CommandKind::Load)
        }
        word @ ("eval" | "eval_fail" | "eval_warn" | "eval_info" | "eval_ordered") => {
            let mut wanted = Expectation::from_command(word);
            let (expr, mut when) = query(rest.trim()).map_err(fault)?;
            let taken = wanted.read(body, when, line + 1)?;
            *body = &body[..taken];
            // A range vector is evaluated at its end.
            if let (EvalTime::At(t), Some(grid)) = (&mut when, wanted.matrix) {
                *t = grid.end;
            }
            Ok(CommandKind::Eval(Box::new(EvalCommand { expr, when, expectation: wanted })))
        }
        _ => Err(fault(ScriptErrorKind::UnknownCommand(word.to_owned()))),
    }
}

/// Parses `instant at T EXPR` or `range from T to T step D EXPR`.
fn query(text: &str) -> Result<(String, EvalTime), ScriptErrorKind> {
    let (kind, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let (when, expr) = match kind {
        "instant" => {
            let mut words = Words(rest);
            words.keyword("at")?;
            (EvalTime::At(words.duration()?), words.0)
        }
        "range" => {
            let (grid, rest) = grid(rest)?;
            (EvalTime::Range(grid), rest)
        }
        other => return Err(unexpected("\"instant\" or \"range\"", other)),
    };
    let expr = expr.trim();
    if expr.is_empty() {
        return Err(ScriptErrorKind::NoQuery);
    }
    Ok((expr.to_owned(), when))
}

/// Parses `from T to T step D`; returns the text after it too.
pub(super) fn grid(text: &str) -> Result<(EvalRange, &str), ScriptErrorKind> {
    let mut words = Words(text);
    words.keyword("from")?;
    let start = words.duration()?;
    words.keyword("to")?;
    let end = words.duration()?;
    words.keyword("step")?;
    let step = words.duration()?;
    if end < start {
        return Err(ScriptErrorKind::EndBeforeStart);
    }
    if step <= 0 {
        return Err(ScriptErrorKind::NoStep);
    }
    Ok((EvalRange { start, end, step }, words.0))
}

/// A text that is read word by word.
struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    fn word(&mut self) -> &'a str {
        let text = self.0.trim_start();
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        self.0 = rest;
        word
    }

    fn keyword(&mut self, wanted: &'static str) -> Result<(), ScriptErrorKind> {
        let word = self.word();
        if word == wanted { Ok(()) } else { Err(unexpected(wanted, word)) }
    }

    fn duration(&mut self) -> Result<i64, ScriptErrorKind> {
        duration(self.word())
    }
}

/// Parses a time or a length, ms: `1h30m`, `-5s`, `0`.
fn duration(text: &str) -> Result<i64, ScriptErrorKind> {
    let (sign, positive) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let ms = parse_duration(positive)
        .map_err(|error| ScriptErrorKind::Duration { text: text.to_owned(), reason: error.to_string() })?;
    Ok(sign * ms)
}

/// Another word than the expected one.
pub(super) fn unexpected(expected: &'static str, got: &str) -> ScriptErrorKind {
    ScriptErrorKind::Unexpected { expected, got: got.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testing::assert_proportional;

    #[test]
    fn twice_the_lines_cost_twice_as_much() {
        for (what, n, line) in [
            ("clears", 10_000, "clear\n"),
            ("comments", 20_000, "# nothing\n"),
            ("empty lines", 50_000, "\n"),
            ("unknown commands", 10_000, "what is this\n\n"),
            ("loads", 1_000, "load 1m\n  m{a=\"b\"} 1x5 _ 0\n\n"),
            ("answers", 1_000, "eval instant at 1m sum(m)\n  {} 1\n\n"),
            ("numbers", 1_000, "eval instant at 1m 1\n1\n"),
            ("failures", 1_000, "eval instant at 1m sum(m)\n  expect fail\n  expect fail\n\n"),
        ] {
            assert_proportional(what, n, |n| line.repeat(n), |text| read(text).len());
        }
        let body =
            |head: &'static str, line: &'static str| move |n: usize| format!("{head}\n{}", line.repeat(n));
        assert_proportional("a load", 1_000, body("load 1m", "  m{a=\"b\"} 1x5\n"), |text| read(text).len());
        let buckets = |n: usize| {
            let bucket = |i: usize| format!("  m_bucket{{le=\"{i}\"}} {i}x5\n");
            format!("load_with_nhcb 1m\n{}", (1..=n).map(bucket).collect::<String>())
        };
        assert_proportional("buckets", 500, buckets, |text| read(text).len());
        let answer = body("eval instant at 1m m", "  m{a=\"b\"} 1\n");
        assert_proportional("an answer", 1_000, answer, |text| read(text).len());
        let remarks = body("eval instant at 1m m", "  expect warn msg: this\n");
        assert_proportional("remarks", 1_000, remarks, |text| read(text).len());
    }
}
