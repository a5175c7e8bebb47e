//! The subcommand `perennial test promql FILE…`: runs test files in Prometheus' test language for
//! PromQL and prints the results. No server is started; [`promql::promqltest`] has the language.
//!
//! `perennial test history` is in [`crate::test_history`].

use crate::test_history;
use crate::usage_error::UsageError;
use promql::promqltest::{Mode, RunOptions, run};
use std::io::Write;
use std::process::ExitCode;

const USAGE: &str = "usage: perennial test promql [--mode=history|live] [--workers=N] [--restart] [--default-dialect] FILE…\n";
const HELP: &str = "
`perennial test history` tries alerts on the past of a running server; see `perennial test history --help`.

Runs test files in Prometheus' language for PromQL and prints every wrong answer, with its line, what was expected
and what came instead. No server is started and nothing is kept.

A file loads samples, asks queries, and says what their answers must be:

    load 1m
      up{job=\"a\"} 1 1 0 1
      requests_total{job=\"a\"} 0+60x10

    eval instant at 3m up
      up{job=\"a\"} 1

    eval range from 1m to 3m step 1m rate(requests_total[2m]) > 0.5
      {job=\"a\"} 1 1 1

    eval instant at 1m vector(1) + on () group_left up
      expect fail regex: many-to-many

    clear

Flags:
  --mode=history  (default) The query runtime answers, over all samples. Instant queries are also asked with @ at
                  other times, and as the middle of a range query.
  --mode=live     Every query is a live view while the samples arrive; its answer is read at its times. A query that
                  cannot be one is skipped, with the reason.
  --workers=N     Threads of the query runtime, or workers of the live one: 1 to 64, 1 by default.
  --restart       Everything is closed and opened again in the middle of the samples.
  --default-dialect
                  Names of computed values go at once and start timestamps are not looked at, as in a server without
                  feature flags. Otherwise both features are on, as in the runs of Prometheus' own files.

All functions and syntax are allowed that Prometheus has behind feature flags. The last line says
`N passed, N failed`, and how many were skipped if any were.
Exit code: 0 if nothing failed, 1 if something did, 2 if the command line or a file cannot be read.
The language is described in docs/promql-tests.md.
";
/// The exit code for an invalid command line.
const UNUSABLE: u8 = 2;
/// The largest number of workers: a larger number is taken for a mistake.
const MOST_WORKERS: usize = 64;

/// Runs `perennial test` with the given arguments. The exit code is 0 if everything passed, 1 if
/// not, 2 if nothing could run.
pub(crate) fn main(args: &[String]) -> ExitCode {
    if let [kind, rest @ ..] = args
        && kind == "history"
    {
        return test_history::main(rest);
    }
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        say(&mut std::io::stdout(), &format!("{USAGE}{HELP}"));
        return ExitCode::SUCCESS;
    }
    let parsed = match args {
        [kind, rest @ ..] if kind == "promql" => arguments(rest),
        [kind, ..] => Err(UsageError::UnknownKind { word: kind.clone(), possible: "promql, history" }),
        [] => Err(UsageError::Missing("what to test is missing")),
    };
    match parsed {
        Ok((options, files)) => promql(&options, &files),
        Err(why) => {
            say(&mut std::io::stderr(), &format!("{why}\n{USAGE}See `perennial test promql --help`.\n"));
            ExitCode::from(UNUSABLE)
        }
    }
}

/// Parses the arguments into options and files.
fn arguments(args: &[String]) -> Result<(RunOptions, Vec<&str>), UsageError> {
    let mut options = RunOptions::default();
    let mut files = Vec::new();
    let mut args = args.iter().map(String::as_str);
    while let Some(arg) = args.next() {
        let Some(flag) = arg.strip_prefix("--") else {
            files.push(arg);
            continue;
        };
        let (name, value) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
        let mut value =
            || value.or_else(|| args.next()).ok_or_else(|| UsageError::NoValue(format!("--{name}")));
        match name {
            "mode" => options.mode = mode(value()?)?,
            "workers" => options.workers = workers(value()?)?,
            "restart" if flag == name => options.restart = true,
            "default-dialect" if flag == name => options.default_dialect = true,
            _ => return Err(UsageError::UnknownFlag(arg.to_owned())),
        }
    }
    if files.is_empty() { Err(UsageError::Missing("no file is named")) } else { Ok((options, files)) }
}

fn mode(text: &str) -> Result<Mode, UsageError> {
    match text {
        "history" => Ok(Mode::History),
        "live" => Ok(Mode::Live),
        _ => Err(UsageError::bad_value("--mode", text, "it must be history or live")),
    }
}

fn workers(text: &str) -> Result<usize, UsageError> {
    let known = text.parse().ok().filter(|n| (1..=MOST_WORKERS).contains(n));
    known.ok_or_else(|| UsageError::bad_value("--workers", text, format!("it must be 1 to {MOST_WORKERS}")))
}

fn promql(options: &RunOptions, files: &[&str]) -> ExitCode {
    let mut passed = 0;
    let mut failed = 0;
    let mut skipped = 0;
    for file in files {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) => {
                say(&mut std::io::stderr(), &format!("{file}: {error}\n"));
                return ExitCode::from(UNUSABLE);
            }
        };
        let report = run(file, &text, options);
        say(&mut std::io::stdout(), &report.to_string());
        passed += report.passed;
        failed += report.failed.len();
        skipped += report.skipped.len();
    }
    let skips = if skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
    say(&mut std::io::stdout(), &format!("{passed} passed, {failed} failed{skips}\n"));
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Writes a text for the user.
pub(crate) fn say(to: &mut dyn Write, text: &str) {
    // Nobody may be reading the output; the exit code has the same information.
    let _ = to.write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &str) -> Result<(RunOptions, Vec<String>), UsageError> {
        let args: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
        arguments(&args).map(|(options, files)| (options, files.into_iter().map(str::to_owned).collect()))
    }

    #[test]
    fn flags_may_stand_anywhere() {
        let (options, files) = read("a.test --mode live --workers=4 b.test --restart").unwrap();
        let wanted = RunOptions { mode: Mode::Live, workers: 4, restart: true, default_dialect: false };
        assert_eq!((options, files), (wanted, vec!["a.test".to_owned(), "b.test".to_owned()]));
        assert_eq!(read("a.test").unwrap().0, RunOptions::default());
    }

    #[test]
    fn what_is_no_command_line_is_refused() {
        for bad in [
            "",
            "--restart",
            "a --mode",
            "a --mode=dead",
            "a --workers=0",
            "a --workers=65",
            "a --workers",
            "a --restart=yes",
            "a --quiet",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
