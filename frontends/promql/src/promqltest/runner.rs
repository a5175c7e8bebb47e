//! Executes a test file segment by segment, each over its own store.
//!
//! A segment is the samples loaded since the last `clear`, and the queries that see exactly these
//! samples.

use super::check::{Mismatch, judge};
use super::errors::TestRunError;
use super::expectation::TextPattern;
use super::history::HistoryRun;
use super::live::{self, LiveOutcome};
use super::load::LoadedSeries;
use super::report::{SkippedTest, TestFailure, TestReport};
use super::script::{CommandKind, EvalCommand, ScriptCommand, read};
use super::test_store::SampleTimeline;
use crate::PromqlOptions;

/// The runtime that answers.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The query runtime over all samples; each query runs in several variants.
    #[default]
    History,
    /// The query runtime; each query runs only as written.
    Plain,
    /// The live runtime: the queries are installed as views while the samples arrive.
    Live,
}

/// The options of a run.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct RunOptions {
    /// The runtime that answers.
    pub mode: Mode,
    /// Threads of the query runtime, or workers of the live runtime.
    pub workers: usize,
    /// Whether the store and runtime are closed and reopened after half of the samples.
    pub restart: bool,
    /// Uses the defaults of a server without feature flags: metric names are removed at once, and
    /// start timestamps are ignored. Prometheus' test files expect the opposite.
    pub default_dialect: bool,
}

impl Default for RunOptions {
    fn default() -> Self {
        RunOptions { mode: Mode::History, workers: 1, restart: false, default_dialect: false }
    }
}

impl RunOptions {
    /// The options of the language: all syntax is allowed, as in Prometheus' test runs.
    pub(super) fn language(&self) -> PromqlOptions {
        let suite = !self.default_dialect;
        PromqlOptions { delayed_names: suite, start_timestamps: suite, ..PromqlOptions::all() }
    }
}

/// Runs the test file with the contents `text`; `file` is its name in the report.
pub fn run(file: &str, text: &str, options: &RunOptions) -> TestReport {
    let mut report = TestReport { file: file.to_owned(), ..TestReport::default() };
    let mut scene = ScriptSegment::default();
    for command in read(text) {
        let line = command.line;
        match command.kind {
            CommandKind::Clear => {
                scene.play(options, &mut report);
                scene = ScriptSegment::default();
            }
            CommandKind::Load(load) => {
                scene.play(options, &mut report);
                scene.loads.push(load);
            }
            CommandKind::Eval(eval) => scene.evals.push((line, *eval)),
            CommandKind::Bad(expr, got) => {
                let expected = "a command that can be executed".to_owned();
                report.failed.push(TestFailure { line, expr, variant: String::new(), expected, got });
            }
        }
    }
    scene.play(options, &mut report);
    report.failed.sort_by_key(|failure| failure.line);
    report
}

/// The queries of a test file, in order.
pub fn queries(text: &str) -> Vec<String> {
    let query = |command: ScriptCommand| match command.kind {
        CommandKind::Eval(eval) => Some(eval.expr),
        _ => None,
    };
    read(text).into_iter().filter_map(query).collect()
}

/// A segment of a test file.
#[derive(Default)]
struct ScriptSegment {
    loads: Vec<LoadedSeries>,
    /// With their line numbers.
    evals: Vec<(usize, EvalCommand)>,
}

impl ScriptSegment {
    /// Runs the queries of the segment and clears them.
    fn play(&mut self, options: &RunOptions, report: &mut TestReport) {
        let evals = std::mem::take(&mut self.evals);
        if evals.is_empty() {
            return;
        }
        let samples = SampleTimeline::from_loads(&self.loads);
        let played = match options.mode {
            Mode::History | Mode::Plain => play_history(&samples, &evals, options, report),
            Mode::Live => play_live(&samples, &evals, options, report),
        };
        if let Err(error) = played {
            let expected = "a store with these samples".to_owned();
            report.fail(
                evals[0].0,
                &evals[0].1,
                Mismatch { expected, got: error.to_string() },
                String::new(),
            );
        }
    }
}

fn play_history(
    samples: &SampleTimeline,
    evals: &[(usize, EvalCommand)],
    options: &RunOptions,
    report: &mut TestReport,
) -> Result<(), TestRunError> {
    let history = HistoryRun::new(samples, options)?;
    for (line, eval) in evals {
        match history.judge(eval) {
            Ok(()) => report.passed += 1,
            Err((wrong, variant)) => report.fail(*line, eval, wrong, variant),
        }
    }
    Ok(())
}

fn play_live(
    samples: &SampleTimeline,
    evals: &[(usize, EvalCommand)],
    options: &RunOptions,
    report: &mut TestReport,
) -> Result<(), TestRunError> {
    let queries: Vec<&EvalCommand> = evals.iter().map(|(_, eval)| eval).collect();
    for ((line, eval), outcome) in evals.iter().zip(live::answers(samples, &queries, options)?) {
        match outcome {
            // A query that must fail with this text may already fail when it is installed.
            LiveOutcome::Refused(reason) if refusal_is_expected(eval, &reason) => report.passed += 1,
            LiveOutcome::Refused(reason) => report.skipped.push(SkippedTest { line: *line, reason }),
            LiveOutcome::Answered(outcome) => {
                // The rows of a view have no order.
                let mut wanted = eval.expectation.clone();
                wanted.ordered = false;
                match judge(&wanted, eval.when, &outcome) {
                    Ok(()) => report.passed += 1,
                    Err(wrong) => report.fail(*line, eval, wrong, String::new()),
                }
            }
        }
    }
    Ok(())
}

fn refusal_is_expected(eval: &EvalCommand, reason: &str) -> bool {
    eval.expectation.fail.as_ref().is_some_and(|text| !matches!(text, TextPattern::Any) && text.fits(reason))
}

impl TestReport {
    fn fail(&mut self, line: usize, eval: &EvalCommand, wrong: Mismatch, variant: String) {
        let Mismatch { expected, got } = wrong;
        self.failed.push(TestFailure { line, expr: eval.expr.clone(), variant, expected, got });
    }
}
