//! `perennial test promql FILE…`: runs files of Prometheus' test language for PromQL and prints what came of them.
//!
//! No server is started; see [`frontends::promqltest`] for the language.

use std::io::Write;
use std::process::ExitCode;

const USAGE: &str = "usage: perennial test promql FILE…\n";
/// Exit code of a command line that cannot be used.
const UNUSABLE: u8 = 2;

/// Runs `perennial test` with the arguments behind it: 0 if everything passed, 1 if not, 2 if nothing could run.
pub fn main(args: &[String]) -> ExitCode {
    match args {
        [kind, files @ ..] if kind == "promql" && !files.is_empty() => promql(files),
        _ => {
            say(&mut std::io::stderr(), USAGE);
            ExitCode::from(UNUSABLE)
        }
    }
}

fn promql(files: &[String]) -> ExitCode {
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for file in files {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) => {
                say(&mut std::io::stderr(), &format!("{file}: {error}\n"));
                return ExitCode::from(UNUSABLE);
            }
        };
        let report = frontends::promqltest::run(file, &text);
        say(&mut std::io::stdout(), &report.to_string());
        passed += report.passed;
        failed += report.failed.len();
        skipped += report.skipped.len();
    }
    let skips = if skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
    say(&mut std::io::stdout(), &format!("{passed} passed, {failed} failed{skips}\n"));
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn say(to: &mut dyn Write, text: &str) {
    // Nobody may be reading: the exit code says it too.
    let _ = to.write_all(text.as_bytes());
}
