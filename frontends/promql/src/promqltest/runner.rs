//! Executes a test file: scene by scene, each over a store of its own.
//!
//! A scene is what has been loaded since the last `clear` and the queries that see exactly these samples.

use super::check::{Mismatch, judge};
use super::expectation::TextPattern;
use super::history::HistoryRun;
use super::live::{self, LiveOutcome};
use super::load::LoadedSeries;
use super::report::{SkippedTest, TestFailure, TestReport};
use super::script::{CommandKind, EvalCommand, ScriptCommand, read};
use super::test_store::SampleTimeline;
use crate::PromqlOptions;

/// Who answers.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The query runtime, over all samples, which each query asks in several ways.
    #[default]
    History,
    /// The query runtime, which is asked each query as it is written.
    Plain,
    /// The live runtime: the queries stand while the samples arrive.
    Live,
}

/// How a file is run.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct RunOptions {
    /// Who answers.
    pub mode: Mode,
    /// Threads of the query runtime, or workers of the live one.
    pub workers: usize,
    /// Everything is closed and opened again in the middle of the samples.
    pub restart: bool,
    /// Names of computed values go at once and start timestamps are not looked at, as in a server
    /// without feature flags. Upstream's files want the contrary.
    pub default_dialect: bool,
}

impl Default for RunOptions {
    fn default() -> Self {
        RunOptions { mode: Mode::History, workers: 1, restart: false, default_dialect: false }
    }
}

impl RunOptions {
    /// What queries may say and mean: all syntax is allowed, as in upstream's runs.
    pub(super) fn language(&self) -> PromqlOptions {
        let suite = !self.default_dialect;
        PromqlOptions { delayed_names: suite, start_timestamps: suite, ..PromqlOptions::all() }
    }
}

/// Runs the test file `text`, which `file` names in the report.
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

/// The queries that a test file asks, in order.
pub fn queries(text: &str) -> Vec<String> {
    let query = |command: ScriptCommand| match command.kind {
        CommandKind::Eval(eval) => Some(eval.expr),
        _ => None,
    };
    read(text).into_iter().filter_map(query).collect()
}

/// See the module.
#[derive(Default)]
struct ScriptSegment {
    loads: Vec<LoadedSeries>,
    /// With their lines.
    evals: Vec<(usize, EvalCommand)>,
}

impl ScriptSegment {
    /// Asks the queries, and forgets them.
    fn play(&mut self, options: &RunOptions, report: &mut TestReport) {
        let evals = std::mem::take(&mut self.evals);
        if evals.is_empty() {
            return;
        }
        let samples = SampleTimeline::of(&self.loads);
        let played = match options.mode {
            Mode::History | Mode::Plain => play_history(&samples, &evals, options, report),
            Mode::Live => play_live(&samples, &evals, options, report),
        };
        if let Err(got) = played {
            let expected = "a store with these samples".to_owned();
            report.fail(&evals[0], Mismatch { expected, got }, String::new());
        }
    }
}

fn play_history(
    samples: &SampleTimeline,
    evals: &[(usize, EvalCommand)],
    options: &RunOptions,
    report: &mut TestReport,
) -> Result<(), String> {
    let history = HistoryRun::new(samples, options)?;
    for asked in evals {
        match history.judge(&asked.1) {
            Ok(()) => report.passed += 1,
            Err((wrong, how)) => report.fail(asked, wrong, how),
        }
    }
    Ok(())
}

fn play_live(
    samples: &SampleTimeline,
    evals: &[(usize, EvalCommand)],
    options: &RunOptions,
    report: &mut TestReport,
) -> Result<(), String> {
    let queries: Vec<&EvalCommand> = evals.iter().map(|(_, eval)| eval).collect();
    for (asked, standing) in evals.iter().zip(live::answers(samples, &queries, options)?) {
        let (line, eval) = asked;
        match standing {
            // A query that must fail with these words may fail before it stands.
            LiveOutcome::Refused(reason) if refusal_is_expected(eval, &reason) => report.passed += 1,
            LiveOutcome::Refused(reason) => report.skipped.push(SkippedTest { line: *line, reason }),
            LiveOutcome::Answered(outcome) => {
                // The rows of a view have no order.
                let mut wanted = eval.expectation.clone();
                wanted.ordered = false;
                match judge(&wanted, eval.when, &outcome) {
                    Ok(()) => report.passed += 1,
                    Err(wrong) => report.fail(asked, wrong, String::new()),
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
    fn fail(&mut self, (line, eval): &(usize, EvalCommand), wrong: Mismatch, asked: String) {
        let Mismatch { expected, got } = wrong;
        self.failed.push(TestFailure { line: *line, expr: eval.expr.clone(), variant: asked, expected, got });
    }
}
